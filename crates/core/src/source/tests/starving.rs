//! One partition with records without end beside thousands with a few: each of those is served soon.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::*;
use crate::source::amount_of;

const PARTITIONS: i32 = 10_000;
/// Of the partitions after the first.
const RECORDS: i64 = 2;

/// A broker with one session per lane. As Kafka does it, partitions are read in the order of their turns, and one that was
/// read has its next turn after all others.
#[derive(Default)]
struct Turns {
    lanes: BTreeMap<u8, VecDeque<i32>>,
    /// Offset and limit in bytes.
    asked: BTreeMap<i32, (i64, usize)>,
}

impl Turns {
    fn answer(&mut self, fetch: &Fetch, hot: &[u8], small: &[u8]) -> FetchResponse {
        let order = self.lanes.entry(fetch.lane.lane).or_default();
        for forgotten in fetch.request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions) {
            order.retain(|index| index != forgotten);
        }
        for named in fetch.request.topics.iter().flat_map(|topic| &topic.partitions) {
            let at = (named.fetch_offset, named.partition_max_bytes as usize);
            self.asked.insert(named.partition, at);
            if !order.contains(&named.partition) {
                order.push_back(named.partition);
            }
        }
        let (mut room, mut answers) = (fetch.request.max_bytes as usize, Vec::new());
        for _ in 0..order.len() {
            let Some(index) = order.pop_front() else { break };
            let (offset, limit) = self.asked[&index];
            let mut records = Vec::new();
            if index == 0 {
                let count = limit.min(room) / hot.len();
                for at in 0..count.max(usize::from(answers.is_empty())) as i64 {
                    records.extend(placed(hot, offset + at));
                }
            } else if offset < RECORDS && small.len() <= room {
                records = placed(small, 0);
            }
            if records.is_empty() {
                order.push_front(index);
                order.rotate_left(1);
                continue;
            }
            room = room.saturating_sub(records.len());
            answers.push(data(index, records));
            order.push_back(index);
            if room == 0 {
                break;
            }
        }
        response(7, answers)
    }
}

/// How many fetches it takes until each partition but the first was read, and how many batches of the first came meanwhile.
fn fetches(reader_of_its_own: bool) -> (usize, usize) {
    let mut source = Source::new(Settings { fetch_bytes_max: 100_000, ..settings() }, Rng::seeded(1));
    let topic = Arc::from("t");
    for index in 0..PARTITIONS {
        let slot = source.assign(&topic, index, Epoch(0), Position::Offset(0));
        source.set_own_reader(slot, reader_of_its_own);
    }
    source.handle_metadata(&snapshot("t", &[(1, 0); PARTITIONS as usize]), Instant::ORIGIN);
    let (now, hot, small) = (Instant::ORIGIN, batch(0, 1), batch(0, RECORDS));
    let (mut turns, mut read, mut fetches, mut hot_batches) = (Turns::default(), BTreeSet::new(), 0, 0);
    while read.len() < PARTITIONS as usize - 1 {
        let fetch = source.poll_fetch(now, ROOM).expect("there is room, and something is wanted");
        fetches += 1;
        assert!(fetches < 1000, "{} partitions were read", read.len());
        let answer = turns.answer(&fetch, &hot, &small);
        source.handle_fetched(fetch.lane, fetch.number, Ok(answer), now, now, now);
        while let Some(event) = source.poll_event() {
            let Event::Batch { slot, epoch, batch, .. } = event else { continue };
            match slot.0 {
                0 => hot_batches += 1,
                _ => drop(read.insert(slot)),
            }
            source.handle_taken(slot, epoch, amount_of(&batch));
        }
    }
    (fetches, hot_batches)
}

#[test]
fn a_hot_partition_has_its_share_of_each_fetch_and_no_more() {
    let (hot, small) = (batch(0, 1).len(), batch(0, RECORDS).len());
    let in_all = small * (PARTITIONS as usize - 1);
    for reader_of_its_own in [false, true] {
        let (fetches, hot_batches) = fetches(reader_of_its_own);
        // A fetch asks for 100 000 bytes at most, of which a partition has 10 000 at most.
        let least = in_all / 100_000;
        assert!(fetches <= least * 2 + 5, "{fetches} fetches for {in_all} bytes");
        assert!(hot_batches * hot <= fetches * 10_000, "{hot_batches} batches in {fetches} fetches");
        assert!(hot_batches > 0, "it is served, too");
    }
}
