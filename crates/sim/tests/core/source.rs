//! The source's machine, under seeks, pauses and moving leaders.
//!
//! The records of a partition are delivered from the offset that was last sought, without a gap or a repeat, and in the end
//! all of them were delivered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use milena_broker::{Parked, Peer};
use milena_core::source::{
    Amount, Epoch, Event, Fetch, LANES, LaneId, Position, Settings, Slot, Source, Validation, Watermarks,
    amount_of,
};
use milena_core::{Backoff, BrokerId, Failure, Instant, Rng};
use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchRequest, FetchResponse};
use milena_messages::offset_for_leader_epoch::OffsetForLeaderEpochResponse;
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_sim::operator::{Asked, resume};
use milena_wire::Str;
use milena_wire::batch::BatchBuilder;
use milena_wire::pool::Pool;

use crate::brokers::{Brokers, TOPIC};

const PARTITIONS: usize = 4;
const NODES: u16 = 2;
const END: i64 = 300;
/// Records of one batch.
const BATCH: i64 = 10;
/// Faults happen for this many steps.
const STORM_STEPS: usize = 400;
/// Delivery must reach the end within this many steps.
const STEPS_MAX: usize = 6000;
const ROOM: usize = 1 << 20;
/// The last version of FetchRequest that names topics by name.
const FETCH_BY_NAME: i16 = 12;
/// A version that names topics by id.
const FETCH_BY_ID: i16 = 16;
const PRODUCE_BY_NAME: i16 = 12;
const EPOCHS_VERSION: i16 = 4;

/// An answer; `None` stands for one that is lost.
enum Answered {
    Fetch(LaneId, u64, Option<FetchResponse>),
    Validation(u64, Option<OffsetForLeaderEpochResponse>),
}

/// A fetch that its broker parked.
struct Held {
    lane: LaneId,
    number: u64,
    version: i16,
    parked: Parked,
}

struct World {
    seed: u64,
    source: Source,
    brokers: Brokers,
    rng: Rng,
    now: Instant,
    /// The connection of each lane. The next fetch makes one where there is none.
    peers: BTreeMap<LaneId, Peer>,
    held: Vec<Held>,
    /// Answers on their way.
    answers: BTreeMap<(Instant, u64), Answered>,
    epochs: Vec<u64>,
    /// Where each log ends.
    written: Vec<i64>,
    /// The offset that must be delivered next.
    expected: Vec<i64>,
    paused: Vec<bool>,
    /// The bytes of batches that were delivered and not taken yet.
    buffered: Vec<Vec<Amount>>,
    has_faults: bool,
    fetches: usize,
    /// The last session of each broker.
    sessions: BTreeMap<BrokerId, i32>,
}

pub(crate) fn play(seed: u64) {
    World::new(seed).run();
}

impl World {
    fn new(seed: u64) -> Self {
        let settings = Settings {
            fetch_bytes_max: 1 << 20,
            partition_bytes_max: 10_000,
            fetch_bytes_min: 1,
            fetch_wait: Duration::from_millis(500),
            partition_watermarks: Watermarks::new(10_000, 200, 50),
            watermarks: Watermarks::new(30_000, usize::MAX, 50),
            reset: None,
            rack: Str::default(),
            read_committed: false,
            tells_ends: false,
            request_timeout: Duration::from_secs(3),
            backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) },
        };
        let mut source = Source::new(settings, Rng::seeded(seed));
        for partition in 0..PARTITIONS {
            source.assign(&Arc::from(TOPIC), partition as i32, Epoch(0), Position::Offset(0));
        }
        let brokers = Brokers::start(seed, NODES, PARTITIONS as i32, None);
        source.handle_metadata(&brokers.snapshot(Instant::ORIGIN), Instant::ORIGIN);
        let mut world = Self {
            seed,
            source,
            brokers,
            rng: Rng::seeded(seed ^ 0xfeed),
            now: Instant::ORIGIN,
            peers: BTreeMap::new(),
            held: Vec::new(),
            answers: BTreeMap::new(),
            epochs: vec![0; PARTITIONS],
            written: vec![0; PARTITIONS],
            expected: vec![0; PARTITIONS],
            paused: vec![false; PARTITIONS],
            buffered: vec![Vec::new(); PARTITIONS],
            has_faults: true,
            fetches: 0,
            sessions: BTreeMap::new(),
        };
        for partition in 0..PARTITIONS {
            for _ in 0..world.rng.below(20) {
                world.append(partition);
            }
        }
        world
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.has_faults && self.rng.below(100) < percent
    }

    fn run(mut self) {
        for step in 0..STEPS_MAX {
            self.has_faults = step < STORM_STEPS;
            if self.has_faults {
                self.disturb();
            } else if step == STORM_STEPS {
                for partition in 0..PARTITIONS {
                    self.pause(partition, false);
                    while self.written[partition] < END {
                        self.append(partition);
                    }
                }
            }
            self.turn();
            if !self.has_faults && self.expected.iter().all(|expected| *expected >= END) {
                assert!(self.fetches < STEPS_MAX, "seed {}: {} fetches", self.seed, self.fetches);
                return;
            }
            self.pass();
            match self.due() {
                Some(Answered::Fetch(lane, number, answer)) => self.hear(lane, number, answer),
                Some(Answered::Validation(number, answer)) => {
                    self.source.handle_validation(number, answer.ok_or_else(lost), self.now);
                }
                None => {}
            }
        }
        panic!("seed {}: delivery stands at {:?}", self.seed, self.expected);
    }

    /// Moves the time to the next answer or timer, by at most 20 ms during the storm.
    fn pass(&mut self) {
        let answer = self.answers.first_key_value().map(|((at, _), _)| *at);
        let held = self.held.iter().map(|held| held.parked.deadline());
        let held = held.map(|at| Instant::after_origin(self.brokers.since_origin(at))).min();
        let next = answer.into_iter().chain(held).chain(self.source.poll_timeout(self.now)).min();
        let next = next.unwrap_or(self.now + Duration::from_millis(10));
        let disturbed = self.now + Duration::from_millis(20);
        let next = if self.has_faults { next.min(disturbed) } else { next };
        self.now = next.max(self.now);
        self.release();
    }

    /// Resumes the fetches that need not wait any longer.
    fn release(&mut self) {
        let now = self.brokers.now(self.now);
        let mut cx = Context::from_waker(Waker::noop());
        for held in std::mem::take(&mut self.held) {
            if held.parked.poll(&mut cx).is_pending() && held.parked.deadline() > now.instant {
                self.held.push(held);
                continue;
            }
            let Held { lane, number, version, parked } = held;
            // The connection broke, so the answer has no way back.
            let Some(mut peer) = self.peers.remove(&lane) else { continue };
            let asked = resume::<FetchRequest>(&self.brokers.machine, &mut peer, now, version, parked);
            self.peers.insert(lane, peer);
            self.answer(lane, number, version, asked);
        }
    }

    fn due(&mut self) -> Option<Answered> {
        let ((at, _), _) = self.answers.first_key_value()?;
        if *at <= self.now { self.answers.pop_first().map(|(_, answered)| answered) } else { None }
    }

    fn hear(&mut self, lane: LaneId, number: u64, answer: Option<FetchResponse>) {
        if answer.is_none() {
            // An answer is lost with its connection.
            self.peers.remove(&lane);
            self.held.retain(|held| held.lane != lane);
        }
        let answer = answer.ok_or_else(lost);
        self.source.handle_fetched(lane, number, answer, self.now, Instant::ORIGIN, self.now);
    }

    fn disturb(&mut self) {
        let partition = self.rng.below(PARTITIONS as u32) as usize;
        if self.chance(10) {
            self.epochs[partition] += 1;
            let offset = i64::from(self.rng.below(self.written[partition] as u32 + 1));
            self.expected[partition] = offset;
            self.buffered[partition].clear();
            self.source.seek(Slot(partition as u32), Epoch(self.epochs[partition]), Position::Offset(offset));
        }
        if self.chance(10) {
            self.pause(partition, !self.paused[partition]);
        }
        if self.chance(5) {
            let node = 1 + self.rng.below(u32::from(NODES)) as i32;
            self.brokers.lead(partition as i32, node);
        }
        if self.chance(10) {
            self.source.handle_metadata(&self.brokers.snapshot(self.now), self.now);
        }
        if self.chance(10) {
            self.append(partition);
        }
        if self.chance(3) {
            self.forget_session();
        }
        if self.chance(3) {
            self.cut();
        }
    }

    /// Makes a broker forget a session, as brokers do when new sessions need the place.
    fn forget_session(&mut self) {
        let node = BrokerId(1 + self.rng.below(u32::from(NODES)) as i32);
        let Some(session_id) = self.sessions.remove(&node) else { return };
        let mut peer = self.brokers.connect(node.0, self.now).expect("all nodes are up");
        let request = FetchRequest { replica_id: -1, session_id, session_epoch: -1, ..Default::default() };
        let _: Asked<FetchResponse> = self.brokers.ask(&mut peer, FETCH_BY_NAME, &request, self.now);
    }

    /// Breaks a connection on which a fetch waits.
    fn cut(&mut self) {
        let broker = BrokerId(1 + self.rng.below(u32::from(NODES)) as i32);
        let lane = LaneId { broker, lane: self.rng.below(u32::from(LANES)) as u8 };
        let held = self.held.iter().find(|held| held.lane == lane).map(|held| held.number);
        if let Some(number) = held {
            self.hear(lane, number, None);
        }
    }

    fn pause(&mut self, partition: usize, is_paused: bool) {
        self.paused[partition] = is_paused;
        self.source.set_paused(Slot(partition as u32), is_paused);
    }

    /// Writes a batch, unless the log has [`END`] records.
    fn append(&mut self, partition: usize) {
        if self.written[partition] >= END {
            return;
        }
        let mut builder = BatchBuilder::new(&Pool::unpooled());
        for offset in self.written[partition]..self.written[partition] + BATCH {
            builder.append(offset, None, Some(&offset.to_be_bytes()), &[]).expect("fits");
        }
        let data = PartitionProduceData {
            index: partition as i32,
            records: Some(builder.seal().into_bytes()),
            ..Default::default()
        };
        let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() };
        let operator = self.brokers.operator(self.now);
        let leader = operator.leader(TOPIC, partition as i32).expect("all nodes are up");
        let answer = operator.ask(leader, PRODUCE_BY_NAME, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE, "written");
        self.written[partition] += BATCH;
    }

    fn turn(&mut self) {
        while let Some(event) = self.source.poll_event() {
            match event {
                Event::Batch { slot, epoch, batch, from, .. } => {
                    let partition = slot.0 as usize;
                    if epoch == Epoch(self.epochs[partition]) {
                        let (seed, expected) = (self.seed, self.expected[partition]);
                        assert_eq!(from, expected, "seed {seed}: partition {partition} goes on elsewhere");
                        let header = batch.header;
                        let next = header.base_offset + i64::from(header.last_offset_delta) + 1;
                        let is_there = header.base_offset <= from && next > from;
                        assert!(is_there, "seed {seed}: a batch {}..{next} at {from}", header.base_offset);
                        self.expected[partition] = next;
                        self.buffered[partition].push(amount_of(&batch));
                    }
                }
                Event::Stopped { failure, .. } => panic!("seed {}: {failure}", self.seed),
                Event::Truncated { .. } => panic!("seed {}: no log is cut off", self.seed),
                Event::Positioned { .. } | Event::Passed { .. } | Event::AtEnd { .. } => {}
            }
        }
        self.source.handle_timeout(self.now);
        for partition in 0..PARTITIONS {
            if self.rng.below(3) > 0 {
                let (slot, epoch) = (Slot(partition as u32), Epoch(self.epochs[partition]));
                for amount in std::mem::take(&mut self.buffered[partition]) {
                    self.source.handle_taken(slot, epoch, amount);
                }
            }
        }
        if self.source.poll_metadata_wanted() {
            self.source.handle_metadata(&self.brokers.snapshot(self.now), self.now);
        }
        assert!(self.source.poll_lookup(self.now, 0).is_none(), "seed {}: positions are known", self.seed);
        while let Some(validation) = self.source.poll_validation(self.now) {
            self.validate(&validation);
        }
        while let Some(fetch) = self.source.poll_fetch(self.now, ROOM) {
            self.serve(&fetch);
        }
    }

    fn validate(&mut self, validation: &Validation) {
        let Validation { broker, number, request, .. } = validation;
        let mut peer = self.brokers.connect(broker.0, self.now).expect("all nodes are up");
        let answer = match self.brokers.ask(&mut peer, EPOCHS_VERSION, request, self.now) {
            Asked::Answered(response) => Some(response).filter(|_| !self.chance(10)),
            Asked::Parked(_) | Asked::Silent => {
                panic!("seed {}: a validation is answered at once", self.seed)
            }
        };
        self.deliver(*number, Answered::Validation(*number, answer));
    }

    fn serve(&mut self, fetch: &Fetch) {
        self.fetches += 1;
        let Fetch { lane, number, request, version_max, .. } = fetch;
        for named in request.topics.iter().flat_map(|topic| &topic.partitions) {
            let partition = named.partition;
            assert!(!self.paused[partition as usize], "seed {}: partition {partition} is paused", self.seed);
        }
        if self.chance(3) {
            return self.deliver(*number, Answered::Fetch(*lane, *number, None));
        }
        let (brokers, now) = (&self.brokers, self.now);
        let peer = self.peers.entry(*lane);
        let peer = peer.or_insert_with(|| brokers.connect(lane.broker.0, now).expect("all nodes are up"));
        let version = FETCH_BY_ID.min(*version_max);
        let asked = brokers.ask(peer, version, request, now);
        self.answer(*lane, *number, version, asked);
    }

    fn answer(&mut self, lane: LaneId, number: u64, version: i16, asked: Asked<FetchResponse>) {
        match asked {
            Asked::Parked(parked) => self.held.push(Held { lane, number, version, parked }),
            Asked::Silent => panic!("seed {}: a fetch is answered", self.seed),
            Asked::Answered(response) => {
                if response.session_id != 0 {
                    self.sessions.insert(lane.broker, response.session_id);
                }
                let is_heard = !self.chance(3);
                self.deliver(number, Answered::Fetch(lane, number, is_heard.then_some(response)));
            }
        }
    }

    fn deliver(&mut self, number: u64, answer: Answered) {
        let delay = Duration::from_millis(u64::from(self.rng.below(20)));
        self.answers.insert((self.now + delay, number), answer);
    }
}

fn lost() -> Failure {
    Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true }
}
