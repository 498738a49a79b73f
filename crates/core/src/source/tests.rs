//! The source machine on virtual time: what each answer brings. `crates/sim/tests/core` plays it against the broker's
//! machine, by seed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_messages::ErrorCode;
use milena_messages::fetch::{
    AbortedTransaction, FetchResponse, FetchableTopicResponse, NodeEndpoint, PartitionData,
};
use milena_messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use milena_wire::batch::ControlRecord;
use milena_wire::batch::{BatchBuilder, BatchMut, end_transaction};
use milena_wire::pool::Pool;
use milena_wire::{Lists, Str, Uuid};

use super::lane::{LONG, QUICK};
use super::session::Limits;
use super::{Amount, Epoch, Event, Fetch, LaneId, Lookup, Position, Settings, Slot, Source, Watermarks};
use crate::metadata::Snapshot;
use crate::metadata::tests::{response as metadata_response, set_topic_id, snapshot};
use crate::{Backoff, BrokerId, Failure, Instant, Rng};

mod feeding;
mod follower;
mod starving;
mod validation;
mod waiting;

fn settings() -> Settings {
    Settings {
        fetch_bytes_max: 1 << 20,
        partition_bytes_max: 10_000,
        fetch_bytes_min: 1,
        fetch_wait: Duration::from_millis(500),
        partition_watermarks: Watermarks::new(10_000, usize::MAX, 50),
        watermarks: Watermarks::NONE,
        reset: None,
        rack: Str::default(),
        read_committed: false,
        tells_ends: false,
        request_timeout: Duration::from_secs(3),
        backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) },
    }
}

fn of_bytes(bytes: usize) -> Amount {
    Amount { bytes, records: 0 }
}

/// A batch of `count` records from offset `base` on.
fn batch(base: i64, count: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(&Pool::unpooled());
    for offset in base..base + count {
        builder.append(offset, None, Some(&offset.to_be_bytes()), &[]).expect("fits");
    }
    placed(&builder.seal().into_bytes(), base)
}

fn placed(bytes: &[u8], base: i64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    BatchMut::new(&mut bytes).expect("a batch").set_base_offset(base);
    bytes
}

fn transactional(base: i64, count: i64, producer: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(&Pool::unpooled()).transactional(true);
    for _ in 0..count {
        builder.append(0, None, None, &[]).expect("fits");
    }
    let mut sealed = builder.seal();
    sealed.stamp(producer, 0, 0);
    placed(&sealed.into_bytes(), base)
}

fn marker(base: i64, producer: i64, is_abort: bool) -> Vec<u8> {
    let marker = if is_abort {
        ControlRecord::Abort { coordinator_epoch: 0 }
    } else {
        ControlRecord::Commit { coordinator_epoch: 0 }
    };
    placed(&end_transaction(&Pool::unpooled(), marker, 0, producer, 0).into_bytes(), base)
}

fn data(partition_index: i32, records: Vec<u8>) -> PartitionData {
    let records = Some(Bytes::from(records));
    PartitionData { partition_index, high_watermark: 1000, records, ..Default::default() }
}

fn refused(partition_index: i32, error_code: ErrorCode) -> PartitionData {
    PartitionData { partition_index, error_code, ..Default::default() }
}

fn response(session_id: i32, partitions: Vec<PartitionData>) -> FetchResponse {
    let topic = FetchableTopicResponse { topic: "t".into(), partitions, ..Default::default() };
    FetchResponse { session_id, responses: vec![topic], ..Default::default() }
}

/// What a fetch names: partition and offset; and the partitions it forgets.
fn named(fetch: &Fetch) -> (Vec<(i32, i64)>, Vec<i32>) {
    let partitions = fetch.request.topics.iter().flat_map(|topic| &topic.partitions);
    let forgotten = fetch.request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone());
    (partitions.map(|partition| (partition.partition, partition.fetch_offset)).collect(), forgotten.collect())
}

/// A source of two partitions led by broker 1.
struct Lab {
    source: Source,
    now: Instant,
}

const ROOM: usize = 1 << 20;
/// The time of day.
const UNIX_MS: i64 = 1_700_000_000_000;

impl Lab {
    fn new(settings: Settings, position: Position) -> Self {
        let mut source = Source::new(settings, Rng::seeded(1));
        source.assign(&Arc::from("t"), 0, Epoch(0), position);
        source.assign(&Arc::from("t"), 1, Epoch(0), position);
        source.handle_metadata(&snapshot("t", &[(1, 0), (1, 0)]), Instant::ORIGIN);
        Self { source, now: Instant::ORIGIN }
    }

    fn fetch(&mut self) -> Fetch {
        self.source.poll_fetch(self.now, ROOM).expect("a fetch")
    }

    fn answer(&mut self, fetch: &Fetch, response: FetchResponse) -> Vec<String> {
        self.source.handle_fetched(
            fetch.lane,
            fetch.number,
            Ok(response),
            self.now,
            Instant::ORIGIN,
            self.now,
        );
        self.events()
    }

    /// What the application gets: partition, offsets asked for and reached; or why it stops.
    fn events(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.source.poll_event() {
            events.push(match event {
                Event::Batch { slot, batch, from, .. } => {
                    let end = batch.header.base_offset + i64::from(batch.header.last_offset_delta) + 1;
                    format!("{}:{from}..{end}", slot.0)
                }
                Event::Passed { slot, offset, .. } => format!("{} passed to {offset}", slot.0),
                Event::Positioned { slot, offset, .. } => format!("{} at {offset}", slot.0),
                Event::AtEnd { slot, offset, .. } => format!("{} ends at {offset}", slot.0),
                Event::Truncated { slot, offset, position, leader_epoch, .. } => {
                    format!("{} cut at {offset}, read to {position} in epoch {leader_epoch}", slot.0)
                }
                Event::Stopped { slot, offset, failure, .. } => {
                    let why =
                        failure.code().map_or_else(|| failure.to_string(), |code| code.name().to_owned());
                    format!("{} stopped at {}: {why}", slot.0, offset.unwrap_or(-1))
                }
            });
        }
        events
    }

    fn wait(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
        self.source.handle_timeout(self.now);
    }
}

fn found(lookup: &Lookup, offset: impl Fn(i32, i64) -> i64) -> ListOffsetsResponse {
    let topics = lookup.request.topics.iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: offset(partition.partition_index, partition.timestamp),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    });
    ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
}

#[test]
fn limits_are_whole_numbers_of_the_batches_that_came() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    let limit = |fetch: &Fetch| fetch.request.topics[0].partitions[0].partition_max_bytes;
    assert_eq!(limit(&first), 10_000, "nothing is known of them");
    let alike = batch(0, 40);
    let bytes = alike.len() as i32;
    lab.answer(&first, response(7, vec![data(0, [alike, batch(40, 40)].concat())]));
    let second = lab.fetch();
    assert_eq!(limit(&second), 10_000 / bytes * bytes);
    lab.answer(&second, response(7, vec![data(0, [batch(80, 40), batch(120, 3)].concat())]));
    let third = lab.fetch();
    assert_eq!(limit(&third), 10_000, "they are not alike");

    // Only the beginning of a batch came: it must not be cut off again.
    let huge = batch(123, 400);
    let cut_off = huge[..huge.len() / 2].to_vec();
    lab.answer(&third, response(7, vec![data(0, cut_off)]));
    lab.wait(1000);
    let fourth = lab.fetch();
    assert_eq!(limit(&fourth), huge.len() as i32);

    // None of it came: it did not fit.
    lab.answer(&fourth, response(7, vec![data(0, vec![])]));
    assert_eq!(limit(&lab.fetch()), 10_000);
}

#[test]
fn no_limit_is_below_what_the_broker_waits_for() {
    let mut lab = Lab::new(Settings { fetch_bytes_min: 9_990, ..settings() }, Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(0, batch(0, 40))]));
    assert_eq!(lab.fetch().request.topics[0].partitions[0].partition_max_bytes, 9_990);
}

#[test]
fn an_application_with_nothing_to_do_is_given_more_at_once() {
    let limits = Settings {
        fetch_bytes_max: 50 << 20,
        partition_bytes_max: 50 << 20,
        partition_watermarks: Watermarks::new(50 << 20, usize::MAX, 50),
        ..settings()
    };
    let alike = batch(0, 900);
    // How much is asked for in the end when the application has had nothing to do since the fetch, or at all.
    let asked = |since: fn(Instant) -> Instant, other: fn(&mut Lab)| {
        let mut lab = Lab::new(limits.clone(), Position::Offset(0));
        let first = lab.fetch();
        lab.answer(&first, response(7, vec![data(1, batch(0, 1))]));
        other(&mut lab);
        let (mut asked, mut next) = (0, 0);
        for _ in 0..60 {
            let fetch = lab.source.poll_fetch(lab.now, ROOM * 50).expect("a fetch");
            asked = fetch.request.max_bytes as usize;
            let idle_since = since(lab.now);
            lab.now += Duration::from_micros(60);
            let count = (asked / alike.len()) as i64;
            let batches = (0..count).map(|index| placed(&alike, next + index * 900));
            let answer = response(7, vec![data(0, batches.collect::<Vec<_>>().concat())]);
            next += count * 900;
            lab.source.handle_fetched(fetch.lane, fetch.number, Ok(answer), lab.now, idle_since, lab.now);
            lab.events();
            lab.source.handle_taken(Slot(0), Epoch::default(), of_bytes(asked));
            lab.now += Duration::from_micros(40);
        }
        asked
    };
    let take: fn(&mut Lab) = |lab| lab.source.handle_taken(Slot(1), Epoch::default(), of_bytes(1000));
    let pause: fn(&mut Lab) = |lab| lab.source.set_paused(Slot(1), true);
    let more = asked(|now| now, take);
    assert!((3 << 20..4 << 20).contains(&more), "{more}");
    assert_eq!(asked(|now| now, pause), more, "batches of a paused partition are nothing to do");
    assert!(asked(|_| Instant::NEVER, take) < 1 << 19, "it has something to do");
    assert!(asked(|now| now, |_| {}) < 1 << 19, "there is something that it has not taken");
}

#[test]
fn the_first_fetch_names_all_and_the_next_only_what_changed() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    assert_eq!(named(&first), (vec![(0, 0), (1, 0)], vec![]));
    assert_eq!((first.request.session_id, first.request.session_epoch), (0, 0));
    assert!(lab.source.poll_fetch(lab.now, ROOM).is_none(), "one is under way");
    assert_eq!(lab.answer(&first, response(7, vec![data(0, batch(0, 3))])), ["0:0..3"]);
    let second = lab.fetch();
    assert_eq!(named(&second), (vec![(0, 3)], vec![]));
    assert_eq!((second.request.session_id, second.request.session_epoch), (7, 1));
    lab.answer(&second, response(7, vec![]));
    let third = lab.fetch();
    assert_eq!(named(&third), (vec![], vec![]));
    assert_eq!(third.request.session_epoch, 2);
}

#[test]
fn a_session_that_is_lost_begins_anew_with_everything() {
    for is_answered in [true, false] {
        let mut lab = Lab::new(settings(), Position::Offset(0));
        let first = lab.fetch();
        lab.answer(&first, response(7, vec![data(0, batch(0, 3))]));
        let second = lab.fetch();
        if is_answered {
            let error_code = ErrorCode::FETCH_SESSION_ID_NOT_FOUND;
            lab.answer(&second, FetchResponse { error_code, ..Default::default() });
        } else {
            let failure = Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true };
            lab.source.handle_fetched(
                second.lane,
                second.number,
                Err(failure),
                lab.now,
                Instant::ORIGIN,
                lab.now,
            );
            assert!(lab.source.poll_fetch(lab.now, ROOM).is_none(), "not at once");
            lab.wait(200);
        }
        let third = lab.fetch();
        assert_eq!(named(&third), (vec![(0, 3), (1, 0)], vec![]));
        // The broker may still have a session whose answer was lost: it drops that one.
        let replaced = if is_answered { 0 } else { 7 };
        assert_eq!((third.request.session_id, third.request.session_epoch), (replaced, 0));
    }
}

#[test]
fn a_session_in_the_wrong_epoch_is_replaced() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(0, batch(0, 3))]));
    let second = lab.fetch();
    let error_code = ErrorCode::INVALID_FETCH_SESSION_EPOCH;
    lab.answer(&second, FetchResponse { error_code, ..Default::default() });
    let third = lab.fetch();
    assert_eq!((third.request.session_id, third.request.session_epoch), (7, 0));
}

#[test]
fn a_broker_without_room_for_sessions_is_told_everything_every_time() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    for _ in 0..3 {
        let fetch = lab.fetch();
        assert_eq!(named(&fetch).0.len(), 2);
        lab.answer(&fetch, response(0, vec![]));
    }
    assert!(lab.source.poll_session_close(lab.now).is_none(), "there is no session to end");
}

#[test]
fn the_sessions_of_all_brokers_are_ended_once() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    lab.source.handle_metadata(&snapshot("t", &[(1, 0), (2, 0)]), lab.now);
    for session in [7, 8] {
        let fetch = lab.fetch();
        lab.answer(&fetch, response(session, vec![]));
    }
    // One of them waits for records, and its answer is still to come.
    let in_flight = lab.fetch();
    let mut ended = Vec::new();
    while let Some(last) = lab.source.poll_session_close(lab.now) {
        assert_eq!(named(&last), (vec![], vec![]), "it names nothing, so that the broker answers at once");
        assert_eq!(last.request.session_epoch, -1);
        assert!(last.number != in_flight.number && last.deadline > lab.now);
        ended.push((last.lane.broker, last.request.session_id));
    }
    assert_eq!(ended, [(BrokerId(1), 7), (BrokerId(2), 8)]);
    assert!(!lab.source.is_opening_sessions());
}

#[test]
fn a_session_that_is_being_opened_is_ended_when_its_id_is_known() {
    for opened in [7, 0] {
        let mut lab = Lab::new(settings(), Position::Offset(0));
        let first = lab.fetch();
        assert!(lab.source.poll_session_close(lab.now).is_none() && lab.source.is_opening_sessions());
        let answer = response(opened, vec![data(0, batch(0, 3))]);
        lab.source.handle_fetched_at_end(first.lane, first.number, Ok(answer));
        let last = lab.source.poll_session_close(lab.now).map(|last| last.request.session_id);
        assert_eq!(last, (opened != 0).then_some(opened));
        assert!(!lab.source.is_opening_sessions() && lab.events().is_empty());
    }
    // It is not waited for without end.
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    let failure = Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true };
    lab.source.handle_fetched_at_end(first.lane, first.number, Err(failure));
    assert!(lab.source.poll_session_close(lab.now).is_none() && !lab.source.is_opening_sessions());
}

#[test]
fn a_paused_partition_is_forgotten_and_named_again() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![]));
    lab.source.set_paused(Slot(0), true);
    let second = lab.fetch();
    assert_eq!(named(&second), (vec![], vec![0]));
    lab.source.set_paused(Slot(0), false);
    // The broker holds the second fetch back; the other lane does not wait for it.
    let third = lab.fetch();
    assert_ne!(third.lane, second.lane);
    assert_eq!(named(&third), (vec![(0, 0)], vec![]));
    assert_eq!(lab.answer(&third, response(8, vec![data(0, batch(0, 3))])), ["0:0..3"]);
}

#[test]
fn a_full_buffer_stops_its_partition_until_half_of_it_was_taken() {
    let mut lab = Lab::new(
        Settings { partition_watermarks: Watermarks::new(200, usize::MAX, 50), ..settings() },
        Position::Offset(0),
    );
    let first = lab.fetch();
    let large = batch(0, 10);
    let bytes = large.len();
    assert!(bytes > 200);
    lab.answer(&first, response(7, vec![data(0, large)]));
    let second = lab.fetch();
    assert_eq!(named(&second), (vec![], vec![0]));
    lab.answer(&second, response(7, vec![]));
    lab.source.handle_taken(Slot(0), Epoch::default(), of_bytes(bytes - 101));
    assert_eq!(named(&lab.fetch()), (vec![], vec![]));
    lab.source.handle_taken(Slot(0), Epoch::default(), of_bytes(1));
    assert_eq!(named(&lab.fetch()), (vec![(0, 10)], vec![]));
}

#[test]
fn a_partition_at_its_end_is_told_also_by_an_answer_that_does_not_name_it() {
    let mut lab = Lab::new(Settings { tells_ends: true, ..settings() }, Position::Offset(0));
    let ending = |partition_index, high_watermark| PartitionData {
        partition_index,
        high_watermark,
        ..Default::default()
    };
    let first = lab.fetch();
    // The other one has records for which the answer had no room.
    assert_eq!(lab.answer(&first, response(7, vec![ending(0, 0), ending(1, 5)])), ["0 ends at 0"]);
    let second = lab.fetch();
    assert_eq!(lab.answer(&second, response(7, vec![])), ["0 ends at 0"]);
    lab.source.seek(Slot(1), Epoch(1), Position::Offset(5));
    let third = lab.fetch();
    assert_eq!(named(&third), (vec![(1, 5)], vec![]));
    assert_eq!(lab.answer(&third, response(7, vec![])), ["0 ends at 0", "1 ends at 5"]);
    let fourth = lab.fetch();
    let refused = refused(0, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(lab.answer(&fourth, response(7, vec![refused])), ["1 ends at 5"]);
    let fifth = lab.fetch();
    assert_eq!(lab.answer(&fifth, response(7, vec![data(1, batch(5, 3))])), ["1:5..8"]);
}

#[test]
fn an_answer_to_an_older_question_does_not_count() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    lab.source.seek(Slot(0), Epoch(1), Position::Offset(50));
    assert_eq!(lab.answer(&first, response(7, vec![data(0, batch(0, 3)), data(1, batch(0, 3))])), ["1:0..3"]);
    // The same offset again, by another way: the first answer counts.
    lab.source.seek(Slot(1), Epoch(1), Position::Offset(0));
    let fetches: Vec<_> = std::iter::from_fn(|| lab.source.poll_fetch(lab.now, ROOM)).collect();
    let all: Vec<_> = fetches.iter().flat_map(|fetch| named(fetch).0).collect();
    assert!(all.contains(&(0, 50)) && all.contains(&(1, 0)), "{all:?}");
}

#[test]
fn an_offset_that_was_looked_up_for_an_older_seek_does_not_count() {
    let mut lab = Lab::new(settings(), Position::Latest);
    let old = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
    for slot in [Slot(0), Slot(1)] {
        lab.source.seek(slot, Epoch(1), Position::Earliest);
    }
    let new = lab.source.poll_lookup(lab.now, UNIX_MS).expect("another question");
    lab.source.handle_lookup(old.number, Ok(found(&old, |_, _| 1000)), lab.now);
    assert!(lab.events().is_empty());
    lab.source.handle_lookup(new.number, Ok(found(&new, |_, _| 3)), lab.now);
    assert_eq!(lab.events(), ["0 at 3", "1 at 3"]);
}

#[test]
fn gaps_markers_empty_and_old_batches_move_the_position_and_show_nothing() {
    let check = |records: Vec<Vec<u8>>, expected: &[&str], next: i64| {
        let mut lab = Lab::new(settings(), Position::Offset(5));
        let first = lab.fetch();
        let events = lab.answer(&first, response(7, vec![data(0, records.concat())]));
        assert_eq!(events, expected);
        let (named, _) = named(&lab.fetch());
        assert_eq!(named, [(0, next)], "{expected:?}");
    };
    check(vec![batch(3, 5)], &["0:5..8"], 8);
    check(vec![batch(0, 3), batch(3, 5)], &["0:5..8"], 8);
    check(vec![batch(20, 2)], &["0:5..22"], 22);
    check(vec![marker(5, 1, true), batch(6, 1)], &["0:6..7"], 7);
    check(vec![marker(5, 1, false)], &["0 passed to 6"], 6);
    // Cut off: the rest comes with the next fetch.
    check(vec![batch(5, 2), batch(7, 9)[..80].to_vec()], &["0:5..7"], 7);
}

#[test]
fn a_batch_that_never_comes_whole_is_told_and_not_asked_for_in_a_loop() {
    let mut lab = Lab::new(Settings { partition_bytes_max: 100, ..settings() }, Position::Offset(5));
    let first = lab.fetch();
    let events = lab.answer(&first, response(7, vec![data(0, batch(5, 20)[..100].to_vec())]));
    assert_eq!(events.len(), 1);
    assert!(events[0].contains("raise fetch_partition_bytes_max"), "{events:?}");
    // Old batches only: no progress, so not at once.
    let second = lab.fetch();
    lab.answer(&second, response(7, vec![data(1, batch(0, 2))]));
    assert!(lab.source.poll_fetch(lab.now, ROOM).is_none());
    lab.wait(200);
    assert_eq!(named(&lab.fetch()), (vec![], vec![]), "the broker still remembers what is wanted");
}

#[test]
fn bytes_that_are_no_batch_stop_the_partition_where_it_stands() {
    let mut lab = Lab::new(settings(), Position::Offset(5));
    let first = lab.fetch();
    let mut garbage = batch(7, 1);
    garbage[16] = 9;
    let events = lab.answer(&first, response(7, vec![data(0, [batch(5, 2), garbage].concat())]));
    assert_eq!(events[0], "0:5..7");
    assert!(events[1].starts_with("0 stopped at 7"), "{events:?}");
    lab.wait(5000);
    let asked: Vec<_> = std::iter::from_fn(|| lab.source.poll_fetch(lab.now, 1 << 20)).collect();
    let names = asked.iter().any(|fetch| named(fetch).0.iter().any(|(partition, _)| *partition == 0));
    assert!(!names, "it is not fetched in a loop");
}

#[test]
fn partitions_that_a_fetch_did_not_ask_for_are_ignored() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    let twice = vec![data(0, batch(0, 3)), data(0, batch(0, 3)), data(9, batch(0, 3)), data(-1, batch(0, 3))];
    assert_eq!(lab.answer(&first, response(7, twice)), ["0:0..3"]);
    let mut other = response(7, vec![data(0, batch(3, 1))]);
    other.responses[0].topic = "other".into();
    let second = lab.fetch();
    assert!(lab.answer(&second, other).is_empty());
}

#[test]
fn a_partition_assigned_again_is_never_named_and_forgotten_at_once() {
    // The broker would forget it, and it is never read again.
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(1, batch(0, 3))]));
    for turn in 0..3 {
        lab.source.unassign(Slot(0), Epoch(10 * turn + 1));
        let slot = lab.source.assign(&Arc::from("t"), 0, Epoch(10 * turn + 2), Position::Offset(5));
        assert_eq!(slot, Slot(0), "a broker may still believe that it is wanted");
        lab.source.handle_metadata(&snapshot("t", &[(1, 0), (1, 0)]), lab.now);
        let fetch = lab.fetch();
        let (named, forgotten) = named(&fetch);
        assert_eq!(forgotten, [] as [i32; 0]);
        assert!(named.iter().all(|(partition, _)| *partition == 1) || named.contains(&(0, 5)), "{named:?}");
        lab.answer(&fetch, response(7, vec![]));
    }
}

#[test]
fn an_assignment_that_changes_without_end_takes_no_more_slots() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![]));
    let mut last = Slot(1);
    for turn in 0..10_000 {
        let (topic, epoch) = (Arc::from(format!("topic-{turn}")), 10 * turn + 10);
        lab.source.unassign(last, Epoch(epoch));
        last = lab.source.assign(&topic, 0, Epoch(epoch + 1), Position::Offset(0));
        lab.source.handle_metadata(&snapshot(&topic, &[(1, 0)]), lab.now);
        for _ in 0..turn % 3 {
            let Some(fetch) = lab.source.poll_fetch(lab.now, ROOM) else { continue };
            lab.answer(&fetch, response(7, vec![]));
        }
    }
    assert!(lab.source.partitions.len() < 100, "{}", lab.source.partitions.len());
    assert_eq!(lab.source.slots.len(), lab.source.partitions.len());
}

#[test]
fn what_was_asked_for_one_partition_does_not_count_for_the_next_one_of_its_slot() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![]));
    // Orders of two threads may come the wrong way round.
    lab.source.seek(Slot(0), Epoch(9), Position::Offset(90));
    lab.source.seek(Slot(0), Epoch(8), Position::Offset(80));
    lab.source.unassign(Slot(0), Epoch(7));
    assert_eq!(named(&lab.fetch()), (vec![(0, 90)], vec![]));
}

#[test]
fn a_topic_made_anew_is_not_asked_for_by_its_old_id() {
    let reset = Some(Position::Earliest);
    let mut lab = Lab::new(Settings { reset, ..settings() }, Position::Offset(0));
    lab.source.handle_metadata(&remade(1, 2), lab.now);
    let first = lab.fetch();
    let answer = |partitions| {
        let topic_id = Uuid::from_bytes([1; 16]);
        let topic = FetchableTopicResponse { topic_id, partitions, ..Default::default() };
        FetchResponse { session_id: 7, responses: vec![topic], ..Default::default() }
    };
    lab.answer(&first, answer(vec![data(0, batch(0, 3))]));
    lab.source.handle_metadata(&remade(2, 2), lab.now);
    let lookup = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
    lab.source.handle_lookup(lookup.number, Ok(found(&lookup, |_, _| 0)), lab.now);
    // Both are named by the new id, in a session that never heard of the old one.
    let second = lab.fetch();
    assert_eq!((second.request.session_id, second.request.session_epoch), (7, 0), "the old session ends");
    assert!(second.request.topics.iter().all(|topic| topic.topic_id == Uuid::from_bytes([2; 16])));
    assert_eq!(named(&second).0.len(), 2);
    // A partition is forgotten later by the id that it was named by.
    lab.answer(&second, FetchResponse { session_id: 8, ..Default::default() });
    lab.source.set_paused(Slot(0), true);
    lab.source.handle_metadata(&remade(2, 2), lab.now);
    let third = lab.fetch();
    assert_eq!(third.request.forgotten_topics_data[0].topic_id, Uuid::from_bytes([2; 16]));
}

/// The topic as the brokers describe it after it was made again under this id, with this many partitions.
fn remade(id: u8, partitions: usize) -> Snapshot {
    let mut snapshot = snapshot("t", &vec![(1, 0); partitions]);
    set_topic_id(&mut snapshot, "t", id);
    snapshot
}

#[test]
fn the_offset_of_a_topic_that_is_gone_is_none_of_the_one_made_in_its_place() {
    let check = |reset, expected: &[&str]| {
        let mut lab = Lab::new(Settings { reset, ..settings() }, Position::Offset(0));
        lab.source.handle_metadata(&remade(1, 2), lab.now);
        let first = lab.fetch();
        let topic_id = Uuid::from_bytes([1; 16]);
        let partitions = vec![data(0, batch(0, 3))];
        let topic = FetchableTopicResponse { topic_id, partitions, ..Default::default() };
        let answer = FetchResponse { session_id: 7, responses: vec![topic], ..Default::default() };
        assert_eq!(lab.answer(&first, answer), ["0:0..3"]);
        let second = lab.fetch();
        lab.source.handle_metadata(&remade(2, 2), lab.now);
        assert_eq!(lab.events(), expected);
        // Whatever the old one had does not count.
        assert_eq!(lab.answer(&second, response(7, vec![data(0, batch(3, 3))])), [] as [&str; 0]);
        let Some(lookup) = lab.source.poll_lookup(lab.now, UNIX_MS) else { return reset.is_none() };
        lab.source.handle_lookup(lookup.number, Ok(found(&lookup, |_, _| 0)), lab.now);
        assert_eq!(lab.events(), ["0 at 0", "1 at 0"]);
        named(&lab.fetch()).0 == [(0, 0), (1, 0)]
    };
    let told = ["0 stopped at 3: OFFSET_OUT_OF_RANGE", "1 stopped at 0: OFFSET_OUT_OF_RANGE"];
    assert!(check(None, &told));
    assert!(check(Some(Position::Earliest), &[]));
}

#[test]
fn an_answer_about_a_deleted_topic_sets_no_position_in_the_one_that_was_made_in_its_place() {
    let mut lab = Lab::new(settings(), Position::Latest);
    lab.source.handle_metadata(&remade(1, 2), lab.now);
    let old = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
    lab.source.handle_metadata(&remade(2, 2), lab.now);
    let new = lab.source.poll_lookup(lab.now, UNIX_MS).expect("the question again");
    lab.source.handle_lookup(old.number, Ok(found(&old, |_, _| 1000)), lab.now);
    assert!(lab.events().is_empty());
    lab.source.handle_lookup(new.number, Ok(found(&new, |_, _| 5)), lab.now);
    assert_eq!(lab.events(), ["0 at 5", "1 at 5"]);
}

#[test]
fn a_partition_that_stays_gone_is_told_and_one_that_comes_back_is_read_on() {
    let gone = || {
        let mut response = metadata_response("t", &[]);
        response.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        Snapshot::default().merge(&response, false)
    };
    let check = |after_a_while: Snapshot, then: Snapshot, expected: &[&str]| {
        let mut lab = Lab::new(settings(), Position::Offset(5));
        lab.source.handle_metadata(&after_a_while, lab.now);
        lab.wait(14_000);
        assert!(lab.events().is_empty(), "it may be on its way");
        lab.source.handle_metadata(&then, lab.now);
        let at = lab.source.poll_timeout(lab.now);
        assert_eq!(at.is_some(), !expected.is_empty());
        lab.wait(1_000);
        assert_eq!(lab.events(), expected);
    };
    let told = "stopped at 5: UNKNOWN_TOPIC_OR_PARTITION";
    check(gone(), gone(), &[&format!("0 {told}"), &format!("1 {told}")]);
    check(gone(), snapshot("t", &[(1, 0), (1, 0)]), &[]);
    check(gone(), snapshot("t", &[(1, 0)]), &[&format!("1 {told}")]);
    check(snapshot("t", &[(1, 0), (-1, 0)]), snapshot("t", &[(1, 0), (-1, 0)]), &[]);
}

/// A member of a group is given an added partition as soon as the coordinator knows it, which may be before the metadata is
/// asked for again because of its age.
#[test]
fn the_metadata_is_wanted_again_while_it_lacks_a_partition_of_a_topic_that_it_has() {
    let mut lab = Lab::new(settings(), Position::Offset(5));
    lab.source.poll_metadata_wanted();
    lab.source.handle_metadata(&snapshot("t", &[(1, 0)]), lab.now);
    let mut wanted = Vec::new();
    for ms in (0..10_000).step_by(10) {
        lab.wait(10);
        if lab.source.poll_metadata_wanted() {
            wanted.push(ms);
            lab.source.handle_metadata(&snapshot("t", &[(1, 0)]), lab.now);
        }
    }
    assert_eq!(wanted[0], 0);
    assert!((5..12).contains(&wanted.len()), "it is no storm: {wanted:?}");
    lab.source.handle_metadata(&snapshot("t", &[(1, 0), (1, 0)]), lab.now);
    lab.wait(10_000);
    assert!(lab.events().is_empty() && !lab.source.poll_metadata_wanted());
}

#[test]
fn the_metadata_decides_which_of_two_leader_epochs_is_the_truth() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    lab.source.handle_metadata(&snapshot("t", &[(1, 7), (1, 7)]), lab.now);
    // After an unclean change of controllers the lower one may be.
    lab.source.handle_metadata(&snapshot("t", &[(1, 4), (1, 7)]), lab.now);
    let fetch = lab.fetch();
    let epochs: Vec<_> =
        fetch.request.topics[0].partitions.iter().map(|asked| asked.current_leader_epoch).collect();
    assert_eq!(epochs, [4, 7]);
}

/// Each error: what the application hears, and where the partition stands later.
#[test]
fn what_each_error_does() {
    let check = |code: ErrorCode, reset, expected: &[&str], again: bool| {
        let mut lab = Lab::new(Settings { reset, ..settings() }, Position::Offset(5));
        let first = lab.fetch();
        assert_eq!(lab.answer(&first, response(7, vec![refused(0, code)])), expected, "{code}");
        let second = lab.fetch();
        assert_eq!(named(&second), (vec![], vec![0]), "{code}: not at once");
        lab.answer(&second, response(7, vec![]));
        lab.wait(500);
        let third = lab.fetch();
        assert_eq!(named(&third).0.contains(&(0, 5)), again, "{code}");
    };
    check(ErrorCode::NOT_LEADER_OR_FOLLOWER, None, &[], true);
    check(ErrorCode::FENCED_LEADER_EPOCH, None, &[], true);
    check(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None, &[], true);
    check(ErrorCode::UNKNOWN_SERVER_ERROR, None, &[], true);
    check(ErrorCode::OFFSET_OUT_OF_RANGE, None, &["0 stopped at 5: OFFSET_OUT_OF_RANGE"], false);
    check(ErrorCode::OFFSET_OUT_OF_RANGE, Some(Position::Earliest), &[], false);
    check(
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        None,
        &["0 stopped at 5: TOPIC_AUTHORIZATION_FAILED"],
        false,
    );
    check(ErrorCode::CORRUPT_MESSAGE, None, &["0 stopped at 5: CORRUPT_MESSAGE"], false);
}

#[test]
fn positions_are_looked_up_at_the_leader() {
    let check = |position, expected_timestamp, offset: i64, expected: &str| {
        let mut lab = Lab::new(settings(), position);
        assert!(lab.source.poll_fetch(lab.now, ROOM).is_none());
        let lookup = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
        assert!(lab.source.poll_lookup(lab.now, UNIX_MS).is_none(), "one question for both partitions");
        assert_eq!(lookup.request.topics[0].partitions[1].timestamp, expected_timestamp);
        let answer = found(&lookup, |_, _| offset);
        lab.source.handle_lookup(lookup.number, Ok(answer), lab.now);
        assert_eq!(lab.events().first().map(String::as_str), Some(expected));
    };
    check(Position::Earliest, -2, 3, "0 at 3");
    check(Position::Latest, -1, 30, "0 at 30");
    check(Position::BeforeEnd(10), -1, 30, "0 at 20");
    check(Position::BeforeEnd(100), -1, 30, "0 at 0");
    check(Position::TimestampMs(1234), 1234, 17, "0 at 17");
    check(Position::Ago(Duration::from_secs(3600)), UNIX_MS - 3_600_000, 17, "0 at 17");
    check(Position::Ago(Duration::MAX), 0, 17, "0 at 17");
}

#[test]
fn a_reset_by_duration_counts_back_from_the_time_of_the_reset() {
    let hour = Position::Ago(Duration::from_secs(3600));
    let mut lab = Lab::new(Settings { reset: Some(hour), ..settings() }, Position::Offset(5));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![refused(0, ErrorCode::OFFSET_OUT_OF_RANGE)]));
    let later = UNIX_MS + 60_000;
    let lookup = lab.source.poll_lookup(lab.now, later).expect("a question");
    let asked = &lookup.request.topics[0].partitions;
    assert_eq!(
        asked.iter().map(|asked| asked.partition_index).collect::<Vec<_>>(),
        [0],
        "only that partition"
    );
    assert_eq!(asked[0].timestamp, later - 3_600_000);
    lab.source.handle_lookup(lookup.number, Ok(found(&lookup, |_, _| 17)), lab.now);
    assert_eq!(lab.events(), ["0 at 17"]);
}

#[test]
fn an_offset_out_of_range_from_before_a_seek_resets_nothing() {
    let mut lab = Lab::new(Settings { reset: Some(Position::Latest), ..settings() }, Position::Offset(5));
    let first = lab.fetch();
    lab.source.seek(Slot(0), Epoch(1), Position::Offset(2));
    lab.answer(&first, response(7, vec![refused(0, ErrorCode::OFFSET_OUT_OF_RANGE)]));
    assert!(lab.source.poll_lookup(lab.now, UNIX_MS).is_none(), "it is no reset");
    assert_eq!(named(&lab.fetch()).0, [(0, 2)]);
}

#[test]
fn a_time_after_the_last_record_is_the_end() {
    let mut lab = Lab::new(settings(), Position::TimestampMs(1234));
    for (offset, expected) in [(-1, &[][..]), (30, &["0 at 30", "1 at 30"][..])] {
        let lookup = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
        lab.source.handle_lookup(lookup.number, Ok(found(&lookup, |_, _| offset)), lab.now);
        assert_eq!(lab.events(), expected);
    }
}

#[test]
fn a_broker_that_tells_neither_end_nor_beginning_is_not_asked_as_fast_as_it_answers() {
    let mut lab = Lab::new(settings(), Position::Latest);
    let mut count = 0;
    for _ in 0..100 {
        while let Some(lookup) = lab.source.poll_lookup(lab.now, UNIX_MS) {
            count += 1;
            assert!(count <= 200, "asked in a circle at {:?}", lab.now);
            lab.source.handle_lookup(lookup.number, Ok(found(&lookup, |_, _| -1)), lab.now);
        }
        lab.wait(100);
    }
    assert!((10..100).contains(&count), "{count} questions in ten seconds");
}

#[test]
fn a_lookup_that_fails_is_repeated_later() {
    let mut lab = Lab::new(settings(), Position::Earliest);
    let lookup = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
    let failure = Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true };
    lab.source.handle_lookup(lookup.number, Err(failure), lab.now);
    assert!(lab.source.poll_metadata_wanted());
    assert!(lab.source.poll_lookup(lab.now, UNIX_MS).is_none());
    let at = lab.source.poll_timeout(lab.now).expect("a time to come back");
    assert!(
        lab.source.poll_lookup(at, UNIX_MS).is_some()
            || lab.source.poll_lookup(at + Duration::from_millis(50), UNIX_MS).is_some()
    );
}

#[test]
fn a_partition_that_moves_is_fetched_from_its_new_leader() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(0, batch(0, 3))]));
    lab.source.handle_metadata(&snapshot("t", &[(2, 1), (1, 0)]), lab.now);
    let fetches: Vec<_> = std::iter::from_fn(|| lab.source.poll_fetch(lab.now, ROOM)).collect();
    let of = |broker| fetches.iter().find(|fetch| fetch.lane.broker.0 == broker).map(named);
    assert_eq!(of(1), Some((vec![], vec![0])));
    assert_eq!(of(2), Some((vec![(0, 3)], vec![])));
}

#[test]
fn records_of_aborted_transactions_are_seen_only_by_those_who_want_them() {
    let records = || {
        [
            transactional(0, 2, 10), // aborted
            batch(2, 1),
            transactional(3, 1, 11), // committed
            marker(4, 10, true),
            transactional(5, 1, 10), // committed: another transaction of the same producer
            marker(6, 11, false),
            marker(7, 10, false),
            transactional(8, 1, 11), // aborted
            marker(9, 11, true),
        ]
        .concat()
    };
    // Not every broker sends them in order.
    let aborted = [(11, 8), (10, 0)].map(|(producer_id, first_offset)| AbortedTransaction {
        producer_id,
        first_offset,
        ..Default::default()
    });
    let check = |read_committed, expected: &[&str]| {
        let mut lab = Lab::new(Settings { read_committed, ..settings() }, Position::Offset(0));
        let first = lab.fetch();
        assert_eq!(first.request.isolation_level, i8::from(read_committed));
        let mut data = data(0, records());
        data.aborted_transactions = Some(aborted.to_vec());
        assert_eq!(lab.answer(&first, response(7, vec![data])), expected);
        assert_eq!(named(&lab.fetch()), (vec![(0, 10)], vec![]));
    };
    check(true, &["0:2..3", "0:3..4", "0:5..6", "0 passed to 10"]);
    check(false, &["0:0..2", "0:2..3", "0:3..4", "0:5..6", "0:8..9", "0 passed to 10"]);
}

#[test]
fn an_aborted_transaction_ends_with_its_own_abort_marker_and_with_no_other() {
    let records = [
        transactional(0, 1, 10), // aborted
        marker(1, 10, false),    // a commit marker of the producer: not the end of what is aborted
        transactional(2, 1, 10), // aborted
        marker(3, 11, true),     // another producer's
        transactional(4, 1, 10), // aborted
        marker(5, 10, true),
        marker(6, 10, true),     // once more
        transactional(7, 1, 10), // committed
        marker(8, 10, false),
    ];
    let transaction = AbortedTransaction { producer_id: 10, first_offset: 0, ..Default::default() };
    let mut lab = Lab::new(Settings { read_committed: true, ..settings() }, Position::Offset(0));
    let first = lab.fetch();
    let mut data = data(0, records.concat());
    // A broker may list it twice.
    data.aborted_transactions = Some(vec![transaction.clone(), transaction]);
    assert_eq!(lab.answer(&first, response(7, vec![data])), ["0:7..8", "0 passed to 9"]);
}

/// Answers all that is asked on the quick lane with nothing, as late as the broker may, until `end`: how often it was
/// asked, and the longest it might have held a fetch.
fn answer_in_vain(lab: &mut Lab, room: usize, end: Instant) -> (usize, i32) {
    let (mut asked, mut longest) = (0, 0);
    while lab.now < end {
        let fetch = lab.source.poll_fetch(lab.now, room).expect("a reader waits");
        assert_eq!(fetch.lane.lane, QUICK);
        (asked, longest) = (asked + 1, longest.max(fetch.request.max_wait_ms));
        lab.wait(fetch.request.max_wait_ms as u64);
        lab.answer(&fetch, response(8, vec![]));
    }
    (asked, longest)
}

#[test]
fn a_broker_that_has_nothing_is_asked_less_and_less_often() {
    let check = |fetch_wait_ms: u64, asked_max: usize, wait_ms: i32| {
        let fetch_wait = Duration::from_millis(fetch_wait_ms);
        let mut lab = Lab::new(Settings { fetch_wait, ..settings() }, Position::Offset(0));
        lab.source.set_paused(Slot(1), true);
        lab.fetch();
        lab.source.set_paused(Slot(1), false);
        let (asked, longest) = answer_in_vain(&mut lab, ROOM, Instant::ORIGIN + fetch_wait);
        assert!((asked_max / 2..asked_max).contains(&asked), "{fetch_wait:?}: asked {asked} times");
        assert_eq!(longest, wait_ms, "{fetch_wait:?}");
        // What comes, and what becomes wanted, is not made to wait.
        let quick = lab.fetch();
        assert_eq!(lab.answer(&quick, response(8, vec![data(1, batch(0, 3))])), ["1:0..3"]);
        let end = lab.now + fetch_wait;
        let next = lab.fetch();
        assert_eq!(next.request.max_wait_ms, 1);
        lab.answer(&next, response(8, vec![]));
        answer_in_vain(&mut lab, ROOM, end);
        lab.source.seek(Slot(0), Epoch(1), Position::Offset(5));
        let next = lab.fetch();
        assert_eq!((named(&next).0, next.request.max_wait_ms), (vec![(0, 5)], 1));
    };
    check(30_000, 700, 50);
    check(500, 30, 50);
    check(200, 30, 20);
}

/// Partition 1 was resumed while the long lane's fetch was held back, and the quick lane has asked for it once, in vain.
fn resumed() -> (Lab, Fetch, Fetch) {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    lab.source.set_paused(Slot(1), true);
    let long = lab.fetch();
    lab.source.set_paused(Slot(1), false);
    let quick = lab.fetch();
    lab.answer(&quick, response(8, vec![]));
    let quick = lab.fetch();
    assert_eq!((long.lane.lane, quick.lane.lane), (LONG, QUICK));
    (lab, long, quick)
}

#[test]
fn a_partition_goes_back_to_the_long_lane_without_being_asked_for_by_both_at_once() {
    // The long lane is answered while a quick fetch asks for partition 1, which therefore stays where it is.
    let (mut lab, long, quick) = resumed();
    lab.answer(&long, response(7, vec![data(0, batch(0, 3))]));
    let long = lab.fetch();
    assert_eq!((named(&long), long.request.max_wait_ms), ((vec![(0, 3)], vec![]), 10));
    // The quick lane waits for that answer, and then the long one has the partition.
    lab.answer(&quick, response(8, vec![]));
    assert!(lab.source.poll_fetch(lab.now, ROOM).is_none(), "the quick lane waits");
    lab.answer(&long, response(7, vec![]));
    let long = lab.fetch();
    let wanted = (LONG, (vec![(1, 0)], vec![]), 500);
    assert_eq!((long.lane.lane, named(&long), long.request.max_wait_ms), wanted);
    assert!(lab.source.poll_fetch(lab.now, ROOM).is_none(), "all is asked for");
}

#[test]
fn a_partition_of_which_something_came_stays_on_the_quick_lane_for_the_time_being() {
    let (mut lab, long, quick) = resumed();
    lab.answer(&long, response(7, vec![data(0, batch(0, 3))]));
    let long = lab.fetch();
    assert_eq!(lab.answer(&quick, response(8, vec![data(1, batch(0, 3))])), ["1:0..3"]);
    let quick = lab.fetch();
    assert_eq!((quick.lane.lane, named(&quick).0), (QUICK, vec![(1, 3)]));
    lab.answer(&long, response(7, vec![]));
    let long = lab.fetch();
    assert_eq!((named(&long), long.request.max_wait_ms), ((vec![], vec![]), 500));
}

#[test]
fn what_becomes_wanted_does_not_wait_until_the_quick_lane_was_handed_over() {
    let (mut lab, long, quick) = resumed();
    lab.answer(&long, response(7, vec![data(0, batch(0, 3))]));
    lab.fetch();
    lab.answer(&quick, response(8, vec![]));
    assert!(lab.source.poll_fetch(lab.now, ROOM).is_none(), "the quick lane waits");
    lab.source.seek(Slot(0), Epoch(1), Position::Offset(50));
    let quick = lab.fetch();
    assert_eq!((quick.lane.lane, named(&quick).0), (QUICK, vec![(0, 50)]));
}

#[test]
fn a_reader_for_which_there_is_nothing_asks_less_and_less_often_while_memory_is_short() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    lab.source.set_own_reader(Slot(1), true);
    lab.source.handle_awaited(Slot(1));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(0, batch(0, 3))]));
    let end = lab.now + Duration::from_secs(10);
    let (asked, longest) = answer_in_vain(&mut lab, 0, end);
    assert!(asked < 250, "asked {asked} times");
    assert_eq!(longest, 50);
    // What comes is its own.
    let fetch = lab.source.poll_fetch(lab.now, 0).expect("a ration");
    assert_eq!(lab.answer(&fetch, response(0, vec![data(1, batch(0, 3))])), ["1:0..3"]);
    assert!(lab.source.poll_fetch(lab.now, 0).is_none(), "it has something");
}

#[test]
fn a_reader_that_does_not_wait_is_given_nothing_while_memory_is_short() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    (0..2).for_each(|slot| lab.source.set_own_reader(Slot(slot), true));
    assert!(lab.source.poll_fetch(lab.now, 0).is_none(), "no reader has asked yet");
    lab.source.handle_awaited(Slot(1));
    let fetch = lab.source.poll_fetch(lab.now, 0).expect("one asks");
    assert_eq!(named(&fetch).0, [(1, 0)]);
    let answer = response(7, vec![data(1, batch(0, 3))]);
    assert_eq!(lab.answer(&fetch, answer), ["1:0..3"]);
    lab.source.handle_taken(Slot(1), Epoch(0), of_bytes(usize::MAX));
    assert!(lab.source.poll_fetch(lab.now, 0).is_none(), "it works on what it took");
    // A seek by another task does not make a reader that waits one that does not.
    lab.source.handle_awaited(Slot(1));
    lab.source.seek(Slot(1), Epoch(1), Position::Offset(9));
    assert_eq!(named(&lab.source.poll_fetch(lab.now, 0).expect("it still waits")).0, [(1, 9)]);
    // With memory, both are read ahead, as far as they are not held back; and without its own reader, a partition is
    // not held back for it.
    lab.source.set_own_reader(Slot(0), false);
    assert_eq!(named(&lab.fetch()).0, [(0, 0)]);
}

#[test]
fn readers_that_are_all_asked_for_are_not_looked_at_again_while_memory_is_short() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    for slot in [Slot(0), Slot(1)] {
        lab.source.set_own_reader(slot, true);
        lab.source.handle_awaited(slot);
    }
    let first = lab.source.poll_fetch(lab.now, 0).expect("readers that have nothing are fed");
    assert!(lab.source.poll_fetch(lab.now, 0).is_none());
    // There is no partition to look at.
    let partitions = std::mem::take(&mut lab.source.partitions);
    assert!(lab.source.poll_fetch(lab.now, 0).is_none());
    lab.source.partitions = partitions;
    lab.source.seek(Slot(0), Epoch(1), Position::Offset(5));
    let quick = lab.source.poll_fetch(lab.now, 0).expect("another offset is wanted");
    assert_eq!(named(&quick).0, [(0, 5)]);
    assert!(lab.source.poll_fetch(lab.now, 0).is_none());
    lab.answer(&first, response(7, vec![]));
    let again = lab.source.poll_fetch(lab.now, 0).expect("the other one");
    assert_eq!(named(&again).0.len(), 0, "the session has it already");
}

#[test]
fn a_lane_on_which_nothing_is_wanted_is_not_looked_at_again() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(0, batch(0, 3))]));
    (0..2).for_each(|slot| lab.source.set_paused(Slot(slot), true));
    assert!(lab.source.poll_fetch(lab.now, ROOM).is_none());
    let id = LaneId { broker: BrokerId(1), lane: LONG };
    let lane = lab.source.lanes.get_mut(&id).expect("it has fetched");
    // There is no partition to look at.
    let limits = Limits { settings: &settings(), own_bytes: None };
    assert!(lane.session.request(id, &[], &limits, &mut Lists::default(), lab.now).is_none());
    lab.source.set_paused(Slot(0), false);
    assert_eq!(named(&lab.fetch()), (vec![(0, 3)], vec![1]));
}

#[test]
fn an_offset_that_was_sought_is_not_moved_because_an_earlier_one_was_counted_from_the_end() {
    let check = |again: fn(&mut Source)| {
        let mut lab = Lab::new(settings(), Position::BeforeEnd(10));
        let lookup = lab.source.poll_lookup(lab.now, UNIX_MS).expect("a question");
        lab.source.handle_lookup(lookup.number, Ok(found(&lookup, |_, _| 30)), lab.now);
        assert_eq!(lab.events(), ["0 at 20", "1 at 20"]);
        again(&mut lab.source);
        lab.source.handle_metadata(&snapshot("t", &[(1, 0), (1, 0)]), lab.now);
        let fetch = lab.fetch();
        let answer = response(7, vec![refused(0, ErrorCode::OFFSET_OUT_OF_RANGE)]);
        assert_eq!(lab.answer(&fetch, answer), ["0 stopped at 1000000000: OFFSET_OUT_OF_RANGE"]);
    };
    check(|source| source.seek(Slot(0), Epoch(1), Position::Offset(1_000_000_000)));
    check(|source| {
        source.unassign(Slot(0), Epoch(1));
        source.assign(&Arc::from("t"), 0, Epoch(2), Position::Offset(1_000_000_000));
    });
}

/// An answer may name a leader for each of its partitions, and a node with a long name. With a look through the nodes and a
/// copy of the name for each partition, an answer of some megabytes would take minutes and gigabytes.
#[test]
fn hints_of_one_answer_share_the_hosts_that_it_names() {
    let mut lab = Lab::new(settings(), Position::Offset(0));
    let fetch = lab.fetch();
    let moved = |partition| {
        let mut data = refused(partition, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        (data.current_leader.leader_id, data.current_leader.leader_epoch) = (9, 3);
        data
    };
    let mut answer = response(0, vec![moved(0), moved(1)]);
    let node = |host: &str, port| NodeEndpoint { node_id: 9, host: host.into(), port, ..Default::default() };
    // The first of two nodes with the same id counts.
    answer.node_endpoints = vec![node("far", 1), node("other", 2)];
    lab.answer(&fetch, answer);
    let hints = lab.source.poll_hints();
    let named: Vec<_> = hints.iter().map(|hint| (hint.partition, hint.leader.0, hint.epoch.0)).collect();
    assert_eq!(named, [(0, 9, 3), (1, 9, 3)]);
    let endpoints: Vec<_> = hints.iter().filter_map(|hint| hint.endpoint.as_ref()).collect();
    assert!(endpoints.iter().all(|(host, port)| (&**host, *port) == ("far", 1)), "{endpoints:?}");
    assert!(endpoints.len() == 2 && Arc::ptr_eq(&endpoints[0].0, &endpoints[1].0), "one name in memory");
}

#[test]
fn a_partition_with_many_records_stops_until_half_of_them_were_taken_and_that_is_counted() {
    let watermarks = Watermarks::new(usize::MAX, 20, 50);
    let mut lab = Lab::new(Settings { partition_watermarks: watermarks, ..settings() }, Position::Offset(0));
    let first = lab.fetch();
    lab.answer(&first, response(7, vec![data(0, [batch(0, 10), batch(10, 9)].concat())]));
    // 19 records are not 20.
    let second = lab.fetch();
    assert_eq!(named(&second), (vec![(0, 19)], vec![]));
    lab.answer(&second, response(7, vec![data(0, batch(19, 1))]));
    assert_eq!(named(&lab.fetch()), (vec![], vec![0]));
    lab.source.handle_timeout(lab.now);
    let flow = lab.source.flow();
    assert_eq!((flow.buffered.records, flow.partitions.now, flow.partitions.count), (20, 1, 1));
    lab.now += Duration::from_secs(3);
    assert_eq!(lab.source.flow().partitions.time(lab.now), Duration::from_secs(3));
    let take = |lab: &mut Lab, records| {
        lab.source.handle_taken(Slot(0), Epoch::default(), Amount { bytes: 0, records });
        lab.source.handle_timeout(lab.now);
        lab.source.flow().partitions.now
    };
    assert_eq!(take(&mut lab, 9), 1, "11 are left");
    assert_eq!(take(&mut lab, 1), 0, "10 are left");
    lab.now += Duration::from_secs(5);
    let stops = lab.source.flow().partitions;
    assert_eq!((stops.count, stops.time(lab.now)), (1, Duration::from_secs(3)), "it is stopped no more");
}

#[test]
fn the_watermark_of_all_partitions_does_not_count_those_that_are_paused() {
    let watermarks = Watermarks::new(usize::MAX, 25, 50);
    let mut lab = Lab::new(Settings { watermarks, ..settings() }, Position::Offset(0));
    let first = lab.fetch();
    assert_eq!(named(&first).0, [(0, 0), (1, 0)]);
    lab.answer(&first, response(7, vec![data(0, batch(0, 20)), data(1, batch(0, 10))]));
    lab.source.handle_timeout(lab.now);
    assert!(lab.source.poll_fetch(lab.now, 1 << 20).is_none(), "30 records are enough");
    assert_eq!((lab.source.flow().all.now, lab.source.flow().all.count), (1, 1));
    // The application does not want the 20 of partition 0 for now.
    lab.source.set_paused(Slot(0), true);
    lab.source.handle_timeout(lab.now);
    assert_eq!((lab.source.flow().buffered.records, lab.source.flow().all.now), (10, 0));
    assert_eq!(named(&lab.fetch()), (vec![(1, 10)], vec![0]));
    lab.source.set_paused(Slot(0), false);
    lab.source.handle_timeout(lab.now);
    assert_eq!(lab.source.flow().all.count, 2);
    lab.source.handle_taken(Slot(1), Epoch::default(), Amount { bytes: 0, records: 10 });
    lab.source.handle_timeout(lab.now);
    assert_eq!(lab.source.flow().all.now, 1, "20 are left, and 12 are wanted");
}
