//! The source against brokers that keep fetch sessions as Kafka does, on a network that loses and delays, under seeks,
//! pauses and moving leaders: by seed, on virtual time.
//!
//! What is delivered of a partition goes on exactly where it was last sought, without a gap or a repeat, and in the end
//! everything was delivered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchRequest, FetchResponse, PartitionData};

use super::{ROOM, batch, data, refused, response, settings};
use crate::metadata::tests::snapshot;
use crate::source::{Epoch, Event, Fetch, LaneId, Position, Slot, Source};
use crate::{Failure, Instant, Rng};

const PARTITIONS: usize = 4;
const BROKERS: u32 = 2;
const END: i64 = 300;

/// A session as the broker keeps it: its epoch, and the offset wanted of each partition.
struct Session {
    epoch: i32,
    wanted: BTreeMap<i32, i64>,
}

#[derive(Default)]
struct Broker {
    sessions: BTreeMap<i32, Session>,
    next_id: i32,
}

impl Broker {
    /// As `FetchSession.scala` does.
    fn session(&mut self, request: &FetchRequest) -> Result<(i32, BTreeMap<i32, i64>), ErrorCode> {
        let named = request.topics.iter().flat_map(|topic| &topic.partitions);
        let named: BTreeMap<_, _> =
            named.map(|partition| (partition.partition, partition.fetch_offset)).collect();
        if request.session_epoch == 0 {
            self.sessions.remove(&request.session_id);
            self.next_id += 1;
            self.sessions.insert(self.next_id, Session { epoch: 1, wanted: named.clone() });
            return Ok((self.next_id, named));
        }
        let session =
            self.sessions.get_mut(&request.session_id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        session.epoch += 1;
        for partition in request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
            session.wanted.remove(partition);
        }
        session.wanted.extend(named);
        Ok((request.session_id, session.wanted.clone()))
    }
}

type Answered = (LaneId, u64, Option<FetchResponse>);

struct World {
    source: Source,
    rng: Rng,
    now: Instant,
    brokers: Vec<Broker>,
    leaders: Vec<(i32, i32)>,
    /// Answers on their way; none inside: lost.
    answers: BTreeMap<(Instant, u64), Answered>,
    epochs: Vec<u64>,
    /// Where delivery must go on.
    expected: Vec<i64>,
    paused: Vec<bool>,
    /// Buffered bytes not yet taken.
    buffered: Vec<Vec<usize>>,
    faults: bool,
    fetches: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut source = Source::new(settings(), Rng::seeded(seed));
        for partition in 0..PARTITIONS {
            source.assign(&Arc::from("t"), partition as i32, Epoch(0), Position::Offset(0));
        }
        let leaders: Vec<_> =
            (0..PARTITIONS).map(|partition| (partition as i32 % BROKERS as i32, 0)).collect();
        source.handle_metadata(&snapshot("t", &leaders), Instant::ORIGIN);
        Self {
            source,
            rng: Rng::seeded(seed ^ 0xfeed),
            now: Instant::ORIGIN,
            brokers: (0..BROKERS).map(|_| Broker::default()).collect(),
            leaders,
            answers: BTreeMap::new(),
            epochs: vec![0; PARTITIONS],
            expected: vec![0; PARTITIONS],
            paused: vec![false; PARTITIONS],
            buffered: vec![Vec::new(); PARTITIONS],
            faults: true,
            fetches: 0,
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.faults && self.rng.below(100) < percent
    }

    fn run(mut self, seed: u64) {
        for step in 0..4000 {
            self.faults = step < 400;
            if self.faults {
                self.disturb();
            } else if step == 400 {
                for partition in 0..PARTITIONS {
                    self.pause(partition, false);
                }
            }
            self.turn(seed);
            if !self.faults && self.expected.iter().all(|expected| *expected >= END) {
                assert!(self.fetches < 4000, "seed {seed}: {} fetches", self.fetches);
                return;
            }
            let next = self.answers.first_key_value().map(|((at, _), _)| *at);
            let next = next.into_iter().chain(self.source.poll_timeout(self.now)).min();
            self.now = next.unwrap_or(self.now + Duration::from_millis(10)).max(self.now);
            if let Some((lane, number, answer)) = self.due() {
                let lost = Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true };
                self.source.handle_fetched(
                    lane,
                    number,
                    answer.ok_or(lost),
                    self.now,
                    Instant::ORIGIN,
                    self.now,
                );
            }
        }
        panic!("seed {seed}: delivery stands at {:?}", self.expected);
    }

    fn due(&mut self) -> Option<Answered> {
        let ((at, _), _) = self.answers.first_key_value()?;
        if *at <= self.now { self.answers.pop_first().map(|(_, answered)| answered) } else { None }
    }

    fn disturb(&mut self) {
        let partition = self.rng.below(PARTITIONS as u32) as usize;
        if self.chance(10) {
            self.epochs[partition] += 1;
            let offset = i64::from(self.rng.below(END as u32));
            self.expected[partition] = offset;
            self.buffered[partition].clear();
            self.source.seek(Slot(partition as u32), Epoch(self.epochs[partition]), Position::Offset(offset));
        }
        if self.chance(10) {
            self.pause(partition, !self.paused[partition]);
        }
        if self.chance(5) {
            let (_, epoch) = self.leaders[partition];
            self.leaders[partition] = (self.rng.below(BROKERS) as i32, epoch + 1);
        }
        if self.chance(10) {
            self.source.handle_metadata(&snapshot("t", &self.leaders), self.now);
        }
        if self.chance(2) {
            // The broker forgets a session, as it may.
            let broker = self.rng.below(BROKERS) as usize;
            self.brokers[broker].sessions.pop_first();
        }
    }

    fn pause(&mut self, partition: usize, is_paused: bool) {
        self.paused[partition] = is_paused;
        self.source.set_paused(Slot(partition as u32), is_paused);
    }

    fn turn(&mut self, seed: u64) {
        while let Some(event) = self.source.poll_event() {
            match event {
                Event::Batch { slot, epoch, batch, from, .. } => {
                    let partition = slot.0 as usize;
                    let bytes = batch.bytes().len();
                    if epoch == Epoch(self.epochs[partition]) {
                        assert_eq!(from, self.expected[partition], "seed {seed}: partition {partition}");
                        let header = batch.header;
                        self.expected[partition] =
                            header.base_offset + i64::from(header.last_offset_delta) + 1;
                        self.buffered[partition].push(bytes);
                    }
                }
                Event::Stopped { failure, .. } => panic!("seed {seed}: {failure}"),
                Event::Positioned { .. } | Event::Passed { .. } | Event::AtEnd { .. } => {}
            }
        }
        self.source.handle_timeout(self.now);
        for partition in 0..PARTITIONS {
            if self.rng.below(3) > 0 {
                let (slot, epoch) = (Slot(partition as u32), Epoch(self.epochs[partition]));
                for bytes in std::mem::take(&mut self.buffered[partition]) {
                    self.source.handle_taken(slot, epoch, bytes);
                }
            }
        }
        if self.source.poll_metadata_wanted() {
            self.source.handle_metadata(&snapshot("t", &self.leaders), self.now);
        }
        while let Some(fetch) = self.source.poll_fetch(self.now, ROOM) {
            self.serve(&fetch);
        }
    }

    fn serve(&mut self, fetch: &Fetch) {
        self.fetches += 1;
        let broker = fetch.lane.broker.0;
        let is_heard = !self.chance(3);
        let answer = is_heard.then(|| self.answer(broker, &fetch.request)).filter(|_| !self.chance(3));
        // Empty answers are held back.
        let is_empty = answer.as_ref().is_none_or(|answer| answer.responses[0].partitions.is_empty());
        let delay = Duration::from_millis(if is_empty { 500 } else { u64::from(self.rng.below(20)) });
        self.answers.insert((self.now + delay, fetch.number), (fetch.lane, fetch.number, answer));
    }

    fn answer(&mut self, broker: i32, request: &FetchRequest) -> FetchResponse {
        let (session_id, wanted) = match self.brokers[broker as usize].session(request) {
            Ok(session) => session,
            Err(error_code) => {
                let mut answer = response(0, vec![]);
                answer.error_code = error_code;
                return answer;
            }
        };
        let partitions =
            wanted.into_iter().filter_map(|(partition, offset)| self.read(broker, partition, offset));
        response(session_id, partitions.collect())
    }

    /// A batch or two around `offset`.
    fn read(&mut self, broker: i32, partition: i32, offset: i64) -> Option<PartitionData> {
        if self.leaders[partition as usize].0 != broker {
            return Some(refused(partition, ErrorCode::NOT_LEADER_OR_FOLLOWER));
        }
        if offset >= END {
            return None;
        }
        // Batches of ten; the one that holds the offset comes whole.
        let base = offset / 10 * 10;
        let mut records = batch(base, 10);
        if self.rng.below(2) == 0 && base + 10 < END {
            records.extend(batch(base + 10, 10));
        }
        Some(data(partition, records))
    }
}

/// More with `MILENA_SEEDS=100000` when it is compiled.
#[test]
fn whatever_the_network_does_delivery_goes_on_where_it_was_and_reaches_the_end() {
    let seeds = option_env!("MILENA_SEEDS").and_then(|seeds| seeds.parse().ok()).unwrap_or(200);
    for seed in 0..seeds {
        World::new(seed).run(seed);
    }
}
