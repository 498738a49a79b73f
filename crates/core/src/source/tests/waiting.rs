//! The source against brokers that hold fetches back while they have nothing, with readers that take at once, slowly,
//! in bursts or never, in little memory, under pauses, seeks and moving leaders: by seed, on virtual time.
//!
//! A partition that has records at its broker, room in the budget and a reader that will take them is always in a request
//! that is on its way, or waits for a request that its broker does not hold back. It never waits out another partition's
//! long poll, and its reader never waits for another reader.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchRequest, FetchResponse, PartitionData};
use milena_wire::batch::BatchBuilder;
use milena_wire::pool::Pool;

use super::{placed, refused, response, settings};
use crate::metadata::tests::snapshot;
use crate::source::partition::{Partition as Known, Reader as KnownReader};
use crate::source::{
    Amount, Epoch, Event, Fetch, LaneId, Position, ROOM_MIN, Settings, Slot, Source, Watermarks, amount_of,
};
use crate::{Instant, Rng};

const BROKERS: u32 = 2;
/// Records in a batch.
const COUNT: i64 = 10;
/// One way.
const TRAVEL: Duration = Duration::from_millis(1);
/// No broker holds a fetch that others may have to wait for longer.
const QUICK: Duration = Duration::from_millis(50);
/// A partition that may be served is served sooner than this: after a quick fetch, and after those whose turn comes
/// first.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Eager,
    /// One batch in this many milliseconds.
    Slow(u64),
    /// All there is, now and then.
    Bursts(u64),
    /// A batch, and no other.
    Stuck,
}

struct Partition {
    leader: (i32, i32),
    /// Where its log ends.
    end: i64,
    /// Where the source goes on.
    next: i64,
    epoch: u64,
    is_paused: bool,
    /// Fetched and not taken, in bytes.
    buffered: VecDeque<Amount>,
    /// Since when it might be served.
    due_since: Option<Instant>,
    taken: usize,
}

/// A reader that takes batches, and its partitions.
struct Taker {
    reader: Reader,
    partitions: Vec<usize>,
    next_at: Instant,
    /// It reads one partition on its own.
    is_own: bool,
    /// It has found nothing since it took the last batch.
    awaits: bool,
}

impl Taker {
    fn new(reader: Reader, partitions: Vec<usize>, is_own: bool) -> Self {
        Self { reader, partitions, next_at: Instant::ORIGIN, is_own, awaits: false }
    }
}

/// A partition, the offset wanted of it, and the limit in bytes.
type Wanted = (i32, i64, usize);

/// A session as the broker keeps it: its epoch, and what is wanted of each partition, in the order of turns.
#[derive(Default)]
struct Session {
    epoch: i32,
    wanted: Vec<Wanted>,
}

/// A fetch that was sent and not answered.
struct Flying {
    fetch: Fetch,
    /// What the broker has to look for, or why it refuses.
    wanted: Result<(i32, Vec<Wanted>), ErrorCode>,
    arrives: Instant,
    held_until: Instant,
    answer: Option<(Instant, FetchResponse)>,
}

struct World {
    seed: u64,
    source: Source,
    rng: Rng,
    now: Instant,
    partitions: Vec<Partition>,
    takers: Vec<Taker>,
    sessions: BTreeMap<i32, Session>,
    next_session: i32,
    flying: Vec<Flying>,
    budget: usize,
    template: Vec<u8>,
    disturbs: bool,
    last_epoch: u64,
    fetches: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed ^ 0xabcd);
        let count = 2 + rng.below(8) as usize;
        let settings = Settings {
            partition_bytes_max: 1 << 20,
            partition_watermarks: {
                let bytes = if rng.below(2) == 0 { 40_000 } else { 400_000 };
                Watermarks::new(bytes, if rng.below(2) == 0 { 20 } else { usize::MAX }, 50)
            },
            watermarks: [Watermarks::NONE, Watermarks::new(100_000, 100, 50)][rng.below(2) as usize],
            fetch_wait: Duration::from_secs(3),
            ..settings()
        };
        let mut builder = BatchBuilder::new(&Pool::unpooled());
        let value = vec![7; [20, 1500][rng.below(2) as usize]];
        for _ in 0..COUNT {
            builder.append(0, None, Some(&value), &[]).expect("fits");
        }
        let template = builder.seal().into_bytes().to_vec();
        let mut source = Source::new(settings, Rng::seeded(seed));
        let mut partitions = Vec::new();
        let brokers = 1 + rng.below(BROKERS);
        for index in 0..count {
            let slot = source.assign(&Arc::from("t"), index as i32, Epoch(0), Position::Offset(0));
            assert_eq!(slot, Slot(index as u32));
            partitions.push(Partition {
                leader: (rng.below(brokers) as i32, 0),
                end: i64::from(rng.below(60)) * COUNT,
                next: 0,
                epoch: 0,
                is_paused: false,
                buffered: VecDeque::new(),
                due_since: None,
                taken: 0,
            });
        }
        let own = (0..count).filter(|_| rng.below(2) == 0).collect::<Vec<_>>();
        let mut reader = |alone: bool| match rng.below(if alone { 5 } else { 4 }) {
            0 | 1 => Reader::Eager,
            2 => Reader::Slow(1 + u64::from(rng.below(40))),
            3 => Reader::Bursts(20 + u64::from(rng.below(200))),
            _ => Reader::Stuck,
        };
        let mut takers = Vec::new();
        for index in &own {
            source.set_own_reader(Slot(*index as u32), true);
            takers.push(Taker::new(reader(true), vec![*index], true));
        }
        let rest: Vec<_> = (0..count).filter(|index| !own.contains(index)).collect();
        takers.push(Taker::new(reader(false), rest, false));
        let budget = [150_000, 400_000, 32 << 20][rng.below(3) as usize];
        let mut world = Self {
            seed,
            source,
            rng,
            now: Instant::ORIGIN,
            partitions,
            takers,
            sessions: BTreeMap::new(),
            next_session: 0,
            flying: Vec::new(),
            budget,
            template,
            disturbs: true,
            last_epoch: 0,
            fetches: 0,
        };
        world.handle_metadata();
        world
    }

    fn handle_metadata(&mut self) {
        let leaders: Vec<_> = self.partitions.iter().map(|partition| partition.leader).collect();
        self.source.handle_metadata(&snapshot("t", &leaders), self.now);
    }

    fn run(mut self) {
        let end = Instant::ORIGIN + Duration::from_secs(20);
        while self.now < end {
            self.disturbs = self.now < Instant::ORIGIN + Duration::from_secs(10);
            self.turn();
            self.step();
        }
        for taker in &self.takers {
            for index in &taker.partitions {
                let Partition { next, end, .. } = self.partitions[*index];
                // Others may need longer, or take nothing.
                let is_read = next == end || taker.reader != Reader::Eager;
                assert!(is_read, "seed {}: {index} stands at {next} of {end}", self.seed);
            }
        }
    }

    /// All that can be done at this instant.
    fn turn(&mut self) {
        self.source.handle_timeout(self.now);
        self.deliver();
        self.take();
        if self.source.poll_metadata_wanted() {
            self.handle_metadata();
        }
        while let Some(fetch) = self.source.poll_fetch(self.now, self.room()) {
            self.send(fetch);
        }
        self.check();
    }

    /// Goes on to the next thing that happens.
    fn step(&mut self) {
        let mut next = self.now + Duration::from_millis(1 + u64::from(self.rng.below(30)));
        let is_soon = next;
        for flying in &self.flying {
            let at = flying.answer.as_ref().map(|(at, _)| *at);
            let broker = if flying.arrives > self.now { flying.arrives } else { flying.held_until };
            next = next.min(at.unwrap_or(broker));
        }
        let takers = self.takers.iter().filter(|taker| taker.next_at > self.now);
        next = takers
            .map(|taker| taker.next_at)
            .chain(self.source.poll_timeout(self.now))
            .fold(next, Instant::min);
        self.now = next.max(self.now);
        if next == is_soon {
            self.disturb();
        }
        self.serve();
        let is_due = |flying: &Flying| flying.answer.as_ref().is_some_and(|(at, _)| *at <= self.now);
        if let Some(at) = self.flying.iter().position(is_due) {
            let Flying { fetch, answer, .. } = self.flying.swap_remove(at);
            let answer = answer.map(|(_, answer)| answer).expect("it is due");
            let (lane, number, now) = (fetch.lane, fetch.number, self.now);
            self.source.handle_fetched(lane, number, Ok(answer), now, Instant::ORIGIN, now);
        }
    }

    fn disturb(&mut self) {
        let index = self.rng.below(self.partitions.len() as u32) as usize;
        let slot = Slot(index as u32);
        let may = |world: &mut Self, percent| world.disturbs && world.rng.below(100) < percent;
        if may(self, 50) {
            self.partitions[index].end += i64::from(1 + self.rng.below(3)) * COUNT;
        }
        if may(self, 8) {
            self.last_epoch += 1;
            let end = (self.partitions[index].end / COUNT) as u32;
            let next = i64::from(self.rng.below(end + 1)) * COUNT;
            let partition = &mut self.partitions[index];
            (partition.epoch, partition.next, partition.due_since) = (self.last_epoch, next, None);
            partition.buffered.clear();
            self.source.seek(slot, Epoch(self.last_epoch), Position::Offset(next));
        }
        if may(self, 10) || (!self.disturbs && self.partitions[index].is_paused) {
            let is_paused = !self.partitions[index].is_paused;
            self.partitions[index].is_paused = is_paused;
            self.source.set_paused(slot, is_paused);
        }
        if may(self, 3) {
            let (leader, epoch) = self.partitions[index].leader;
            self.partitions[index].leader = ((leader + 1) % BROKERS as i32, epoch + 1);
            if may(self, 50) {
                self.handle_metadata();
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(event) = self.source.poll_event() {
            let Event::Batch { slot, epoch, batch, from, .. } = event else { panic!("{event:?}") };
            let partition = &mut self.partitions[slot.0 as usize];
            if epoch.0 != partition.epoch {
                continue;
            }
            assert_eq!(from, partition.next, "seed {}: partition {}", self.seed, slot.0);
            partition.next = batch.header.base_offset + COUNT;
            partition.due_since = None;
            partition.buffered.push_back(amount_of(&batch));
        }
    }

    fn take(&mut self) {
        for taker in &mut self.takers {
            let mut batches = match taker.reader {
                Reader::Eager | Reader::Bursts(_) => usize::MAX,
                Reader::Slow(_) => 1,
                Reader::Stuck => {
                    1 - taker
                        .partitions
                        .iter()
                        .map(|index| self.partitions[*index].taken)
                        .sum::<usize>()
                        .min(1)
                }
            };
            if taker.next_at > self.now {
                continue;
            }
            while batches > 0 {
                let has_some = |index: &&usize| {
                    let partition = &self.partitions[**index];
                    !partition.buffered.is_empty() && !partition.is_paused
                };
                let Some(index) = taker.partitions.iter().find(has_some).copied() else { break };
                // The others come first next time.
                taker.partitions.retain(|other| *other != index);
                taker.partitions.push(index);
                let partition = &mut self.partitions[index];
                let amount = partition.buffered.pop_front().expect("has some");
                partition.taken += 1;
                batches -= 1;
                self.source.handle_taken(Slot(index as u32), Epoch(partition.epoch), amount);
                taker.awaits = false;
                taker.next_at = match taker.reader {
                    Reader::Slow(ms) | Reader::Bursts(ms) => self.now + Duration::from_millis(ms),
                    _ => self.now,
                };
            }
            if batches > 0 && taker.is_own && !std::mem::replace(&mut taker.awaits, true) {
                self.source.handle_awaited(Slot(taker.partitions[0] as u32));
            }
        }
    }

    /// As the driver has it.
    fn room(&self) -> usize {
        let buffered = self.partitions.iter().flat_map(|partition| &partition.buffered);
        let buffered = buffered.map(|amount| amount.bytes).sum::<usize>();
        let expected = self.flying.iter().map(|flying| flying.fetch.bytes_expected).sum::<usize>();
        let share = self.budget / (BROKERS as usize + 1);
        share.max(ROOM_MIN).min(self.budget.saturating_sub(buffered + expected))
    }

    fn send(&mut self, fetch: Fetch) {
        self.fetches += 1;
        let is_busy = self.flying.iter().any(|flying| flying.fetch.lane == fetch.lane);
        assert!(!is_busy, "seed {}: two fetches on a lane", self.seed);
        let wanted = self.session(&fetch.request);
        let arrives = self.now + TRAVEL;
        let held_until = arrives + Duration::from_millis(fetch.request.max_wait_ms as u64);
        self.flying.push(Flying { fetch, wanted, arrives, held_until, answer: None });
    }

    /// As `FetchSession.scala` does: what is added and forgotten at once is forgotten.
    fn session(&mut self, request: &FetchRequest) -> Result<(i32, Vec<Wanted>), ErrorCode> {
        let named = request.topics.iter().flat_map(|topic| &topic.partitions);
        let named = named.map(|partition| {
            (partition.partition, partition.fetch_offset, partition.partition_max_bytes as usize)
        });
        if request.session_epoch <= 0 {
            self.sessions.remove(&request.session_id);
            let wanted: Vec<_> = named.collect();
            if request.session_epoch < 0 {
                return Ok((0, wanted));
            }
            self.next_session += 1;
            self.sessions.insert(self.next_session, Session { epoch: 1, wanted: wanted.clone() });
            return Ok((self.next_session, wanted));
        }
        let session =
            self.sessions.get_mut(&request.session_id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        session.epoch += 1;
        for named in named {
            match session.wanted.iter_mut().find(|(known, ..)| *known == named.0) {
                Some(known) => *known = named,
                None => session.wanted.push(named),
            }
        }
        let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.clone());
        forgotten.for_each(|index| session.wanted.retain(|(known, ..)| *known != index));
        Ok((request.session_id, session.wanted.clone()))
    }

    /// Brokers answer what they can.
    fn serve(&mut self) {
        for at in 0..self.flying.len() {
            let flying = &self.flying[at];
            if flying.answer.is_some() || flying.arrives > self.now {
                continue;
            }
            let answer = match &flying.wanted {
                Err(code) => FetchResponse { error_code: *code, ..Default::default() },
                Ok((session, wanted)) => {
                    let broker = flying.fetch.lane.broker.0;
                    let answers = self.read(broker, wanted, &flying.fetch.request);
                    if answers.is_empty() && flying.held_until > self.now {
                        continue;
                    }
                    let session = *session;
                    // A reader that was served is served last next time.
                    if let Some(session) = self.sessions.get_mut(&session) {
                        for data in &answers {
                            let place =
                                session.wanted.iter().position(|(known, ..)| *known == data.partition_index);
                            if let Some(place) = place {
                                let served = session.wanted.remove(place);
                                session.wanted.push(served);
                            }
                        }
                    }
                    response(session, answers)
                }
            };
            self.flying[at].answer = Some((self.now + TRAVEL, answer));
        }
    }

    fn read(&self, broker: i32, wanted: &[Wanted], request: &FetchRequest) -> Vec<PartitionData> {
        let mut left = request.max_bytes as usize;
        let mut answers = Vec::new();
        for (index, offset, bytes_max) in wanted {
            let partition = &self.partitions[*index as usize];
            if partition.leader.0 != broker {
                answers.push(refused(*index, ErrorCode::NOT_LEADER_OR_FOLLOWER));
                continue;
            }
            let mut records = Vec::new();
            let mut base = *offset;
            let fits =
                |records: &[u8]| self.template.len() <= left.min(*bytes_max).saturating_sub(records.len());
            // The first batch of all comes whole whatever its size.
            while base < partition.end && (fits(&records) || (answers.is_empty() && records.is_empty())) {
                records.extend(placed(&self.template, base));
                base += COUNT;
            }
            left = left.saturating_sub(records.len());
            if !records.is_empty() {
                let records = Some(records.into());
                let high_watermark = partition.end;
                answers.push(PartitionData {
                    partition_index: *index,
                    high_watermark,
                    records,
                    ..Default::default()
                });
            }
        }
        answers
    }

    /// What must be true whenever everything was done that can be.
    fn check(&mut self) {
        let room = self.room();
        let own = |is_listed: fn(&Known) -> bool| -> BTreeSet<Slot> {
            let partitions = self.source.partitions.iter().enumerate();
            let listed = partitions.filter(|(_, known)| known.reader == KnownReader::Own && is_listed(known));
            listed.map(|(index, _)| Slot(index as u32)).collect()
        };
        let is_waiting = |known: &Known| known.buffer.is_empty() && known.is_awaited;
        assert_eq!(self.source.own_awaited, own(is_waiting));
        assert_eq!(
            self.source.own_unawaited,
            own(|known| !(known.buffer.is_full() || known.buffer.is_empty() && known.is_awaited))
        );
        for index in 0..self.partitions.len() {
            let known = &self.source.partitions[index];
            let partition = &self.partitions[index];
            let is_led = known.leader.is_some_and(|leader| leader.0 == partition.leader.0);
            let is_wanted = !partition.is_paused && !known.buffer.is_full() && known.retry.is_ready(self.now);
            let may_be_served = is_led
                && is_wanted
                && partition.end > partition.next
                && ((room >= ROOM_MIN && !self.source.total.is_full()) || self.is_starving(index));
            if !may_be_served {
                self.partitions[index].due_since = None;
                continue;
            }
            let since = *self.partitions[index].due_since.get_or_insert(self.now);
            let partition = &self.partitions[index];
            let of_leader = |flying: &&Flying| flying.fetch.lane.broker.0 == partition.leader.0;
            let asks = |flying: &Flying| {
                let wanted = flying.wanted.as_ref().ok();
                wanted.is_some_and(|(_, wanted)| {
                    wanted
                        .iter()
                        .any(|(named, offset, _)| (*named, *offset) == (index as i32, partition.next))
                })
            };
            let is_quick = |flying: &Flying| {
                flying.answer.is_some()
                    || flying.held_until - flying.arrives <= QUICK
                    || flying.wanted.is_err()
            };
            let is_on_its_way = self.flying.iter().filter(of_leader).any(asks);
            let is_next = self.flying.iter().filter(of_leader).any(is_quick);
            let lanes: Vec<_> = self.flying.iter().map(|flying| flying.fetch.lane).collect::<Vec<LaneId>>();
            assert!(
                is_on_its_way || is_next,
                "seed {} at {:?}: partition {index} at {} of {} is asked for by no fetch: {lanes:?}",
                self.seed,
                self.now,
                partition.next,
                partition.end
            );
            assert!(
                self.now - since < PATIENCE,
                "seed {} at {:?}: partition {index} at {} of {} waits since {since:?}",
                self.seed,
                self.now,
                partition.next,
                partition.end
            );
        }
    }

    /// Whether the reader of a partition waits for it and has nothing else.
    fn is_starving(&self, index: usize) -> bool {
        let taker = self.takers.iter().find(|taker| taker.partitions.contains(&index)).expect("one");
        let has_nothing = taker.partitions.iter().all(|index| self.partitions[*index].buffered.is_empty());
        has_nothing && (taker.awaits || !taker.is_own)
    }
}

/// More with `MILENA_SEEDS=100000` when it is compiled.
#[test]
fn whoever_may_be_served_waits_for_no_other_partition_and_no_other_reader() {
    let seeds = option_env!("MILENA_SEEDS").and_then(|seeds| seeds.parse().ok()).unwrap_or(100);
    for seed in 0..seeds {
        World::new(seed).run();
    }
}
