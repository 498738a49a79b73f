//! The producer's machine.
//!
//! The outcome of each record is compared with the log. A written record is there once. A failed record is not there, and
//! one that may have been written is there once at most. The order of the log is the order of the appends. Each batch is
//! settled within the delivery timeout, and no request holds a partition twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use milena_core::producer::{Acks, Order, Outcome, Producer, RequestId, Settings, Slot, Ticket, Transmit};
use milena_core::{Backoff, Failure, Instant, Rng};
use milena_messages::ErrorCode;
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::produce::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};
use milena_sim::operator::Asked;

use crate::batch::{self, Batch};
use crate::brokers::{Brokers, TOPIC};

const PARTITIONS: usize = 6;
const BROKERS: u32 = 3;
const BATCHES: u32 = 150;
/// How far the number of a batch's first record is from that of the next batch. Records of a batch have numbers one after
/// the other.
const NUMBERS: u32 = 8;
/// The broker's limit in some rounds. Batches of several records may be larger, and a batch of one record never is.
const BATCH_BYTES_MAX: usize = 160;
/// The first version of ProduceRequest that names topics by id.
const PRODUCE_BY_ID: i16 = 13;

/// Something that happens at a time.
enum Event {
    /// A connection is made and begins with a request, unless the request was recalled or lost.
    Begin(Transmit),
    /// A request reaches its broker; with `is_heard` false the answer is lost.
    Arrive {
        transmit: Transmit,
        is_heard: bool,
    },
    /// An answer reaches the producer.
    Answer {
        id: RequestId,
        broker: u32,
        response: ProduceResponse,
    },
    /// The connection of this broker breaks.
    Break(u32),
    /// A request was given up for lack of an answer, and its connection with it.
    Overdue(u32, RequestId),
    /// A partition gets another leader; the producer is told some time later.
    Move(usize),
    /// The leader epochs of all partitions rise, under the leaders they have.
    Rise,
    /// A node goes down, or comes back.
    Stop(i32),
    Start(i32),
    /// The topic is deleted, and made again some time later.
    Remake,
    Create,
    Metadata,
    /// A batch that was too large was split.
    Split(Ticket, Batch),
    Append(usize),
    Identity(InitProducerIdRequest),
}

struct World {
    seed: u64,
    machine: Producer<Batch>,
    brokers: Brokers,
    rng: Rng,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    /// The logs of topics that were deleted, by partition.
    past: Vec<(usize, Vec<u32>)>,
    /// Requests that wait for a connection.
    waiting: BTreeSet<RequestId>,
    /// Requests on each broker's connection, or waiting for it.
    connections: Vec<Vec<RequestId>>,
    /// When the last request on each connection arrives. Later ones do not arrive before it.
    busy_until: Vec<Instant>,
    open: Vec<Vec<Batch>>,
    /// Numbers of the batches of each partition, in the order of the appends.
    appended: Vec<Vec<u32>>,
    opened_at: BTreeMap<u32, Instant>,
    /// By the number of each record.
    settled: BTreeMap<u32, (Outcome, Instant)>,
    next_batch: u32,
    settings: Settings,
    has_faults: bool,
    /// Producer ids given out.
    ids: u32,
    /// Batches that are appended at once.
    burst: u32,
    is_down: Option<i32>,
}

pub(crate) fn play(seed: u64) {
    World::new(seed).run();
}

impl World {
    fn new(seed: u64) -> Self {
        let mut settings = Settings {
            acks: Acks::All,
            idempotent: true,
            transactional_id: None,
            linger: Duration::from_millis(5),
            delivery_timeout: Duration::from_secs(if seed.is_multiple_of(2) { 5 } else { 60 }),
            request_timeout: Duration::from_secs(2),
            request_bytes_max: 1 << 20,
            in_flight_max: 5,
            backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) },
        };
        if seed.is_multiple_of(3) {
            // Little goes out at a time, so that partitions wait for their turn.
            (settings.request_bytes_max, settings.in_flight_max) = (400, 2);
        }
        let mut machine = Producer::new(settings.clone(), Rng::seeded(seed));
        for index in 0..PARTITIONS {
            machine.register(Arc::from(TOPIC), index as i32);
        }
        let batch_bytes_max = seed.is_multiple_of(5).then_some(BATCH_BYTES_MAX);
        let mut world = Self {
            seed,
            machine,
            brokers: Brokers::start(seed, BROKERS as u16, PARTITIONS as i32, batch_bytes_max),
            rng: Rng::seeded(seed ^ 0xdead_beef),
            now: Instant::ORIGIN,
            events: BTreeMap::new(),
            next_event: 0,
            past: Vec::new(),
            waiting: BTreeSet::new(),
            connections: (0..=BROKERS).map(|_| Vec::new()).collect(),
            busy_until: vec![Instant::ORIGIN; BROKERS as usize + 1],
            open: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            appended: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            opened_at: BTreeMap::new(),
            settled: BTreeMap::new(),
            next_batch: 0,
            settings,
            has_faults: true,
            ids: 0,
            burst: 0,
            is_down: None,
        };
        world.schedule(Duration::ZERO, Event::Metadata);
        world.schedule(Duration::from_millis(1), Event::Append(0));
        for broker in 1..=BROKERS {
            world.schedule(Duration::from_millis(300), Event::Break(broker));
        }
        world.schedule(Duration::from_millis(500), Event::Move(0));
        world.schedule(Duration::from_millis(100), Event::Rise);
        world.schedule(Duration::from_millis(700), Event::Stop(1));
        if seed % 4 == 3 {
            world.schedule(Duration::from_millis(900), Event::Remake);
        }
        world
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + after, self.next_event), event);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.has_faults && self.rng.below(100) < percent
    }

    fn millis(&mut self, below: u32) -> Duration {
        Duration::from_micros(u64::from(self.rng.below(below * 1000)))
    }

    fn run(mut self) {
        let end = Instant::ORIGIN + Duration::from_secs(300);
        loop {
            let event_at = self.events.first_key_value().map(|((at, _), _)| *at);
            let timer = self.machine.poll_timeout();
            let Some(at) = event_at.into_iter().chain(timer).min() else { break };
            if at > end || (self.next_batch >= BATCHES && self.machine.outstanding() == 0) {
                break;
            }
            self.now = self.now.max(at);
            if timer.is_some_and(|timer| timer <= self.now) {
                self.machine.handle_timeout(self.now);
            } else if let Some((_, event)) = self.events.pop_first() {
                self.happen(event);
            }
            self.turn();
        }
        // Requests that the producer gave up may still arrive.
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = self.now.max(at);
            match event {
                Event::Arrive { transmit, .. } => self.arrive(&transmit, false),
                Event::Start(node) => self.brokers.machine.start_node(node).expect("a node starts"),
                Event::Create => self.brokers.create_topic(self.now),
                _ => {}
            }
        }
        self.judge();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Append(partition) => self.append(partition),
            Event::Split(ticket, whole) => {
                let opened_at = self.opened_at[&whole.number];
                let pieces = whole.halves();
                let partition = self.appended.iter().position(|all| all.contains(&pieces[0].number));
                self.appended[partition.expect("appended")].push(pieces[1].number);
                self.opened_at.insert(pieces[1].number, opened_at);
                self.machine.handle_split(ticket, pieces.into(), self.now);
            }
            Event::Begin(transmit) => {
                if self.waiting.remove(&transmit.id) {
                    self.arrive(&transmit, true);
                }
            }
            Event::Arrive { transmit, is_heard } => self.arrive(&transmit, is_heard),
            Event::Answer { id, broker, response } => {
                let connection = &mut self.connections[broker as usize];
                if connection.contains(&id) {
                    connection.retain(|other| *other != id);
                    self.machine.handle_response(id, &response, self.now);
                }
            }
            Event::Overdue(broker, id) => {
                if self.connections[broker as usize].contains(&id) {
                    self.cut(broker);
                }
            }
            Event::Start(node) => {
                self.brokers.machine.start_node(node).expect("a node starts");
                self.is_down = None;
                let (after, next) = (self.millis(100), self.millis(3000));
                self.schedule(after, Event::Metadata);
                let node = 1 + self.rng.below(BROKERS) as i32;
                self.schedule(next, Event::Stop(node));
            }
            Event::Identity(request) => self.identify(&request),
            Event::Metadata => {
                let snapshot = self.brokers.snapshot(self.now);
                self.machine.handle_metadata(&snapshot, self.now);
            }
            Event::Create => {
                self.brokers.create_topic(self.now);
                let (after, next) = (self.millis(200), self.millis(3000));
                self.schedule(after, Event::Metadata);
                self.schedule(next, Event::Remake);
            }
            _ if !self.has_faults => {}
            Event::Break(broker) => {
                self.cut(broker);
                let after = self.millis(1500);
                self.schedule(after, Event::Break(broker));
            }
            Event::Move(partition) => {
                let node = 1 + self.rng.below(BROKERS) as i32;
                self.brokers.lead(partition as i32, node);
                let (after, next) = (self.millis(200), self.millis(2000));
                self.schedule(after, Event::Metadata);
                let partition = self.rng.below(PARTITIONS as u32) as usize;
                self.schedule(next, Event::Move(partition));
            }
            Event::Rise => {
                let operator = self.brokers.operator(self.now);
                for partition in 0..PARTITIONS as i32 {
                    if let Some(leader) = operator.leader(TOPIC, partition) {
                        self.brokers.lead(partition, leader);
                    }
                }
                let (after, next) = (self.millis(20), self.millis(300));
                self.schedule(after, Event::Metadata);
                self.schedule(next, Event::Rise);
            }
            Event::Stop(node) => {
                self.brokers.machine.stop_node(node).expect("a node stops");
                self.is_down = Some(node);
                self.cut(node as u32);
                let (after, back) = (self.millis(100), self.millis(1000));
                self.schedule(after, Event::Metadata);
                self.schedule(back, Event::Start(node));
            }
            Event::Remake => {
                let logs = (0..PARTITIONS).map(|partition| (partition, self.log(partition)));
                let logs: Vec<_> = logs.collect();
                self.past.extend(logs);
                self.brokers.operator(self.now).delete_topic(TOPIC);
                let (after, back) = (self.millis(100), self.millis(200));
                self.schedule(after, Event::Metadata);
                self.schedule(back, Event::Create);
            }
        }
    }

    fn cut(&mut self, broker: u32) {
        for id in std::mem::take(&mut self.connections[broker as usize]) {
            let failure = Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true };
            let was_waiting = self.waiting.remove(&id);
            self.machine.handle_lost(id, &failure, !was_waiting, self.now);
        }
        // The next connection does not wait for requests that are on their way on this one.
        self.busy_until[broker as usize] = self.now;
    }

    fn append(&mut self, partition: usize) {
        if self.next_batch >= BATCHES {
            // Faults end now, so that all batches can be settled.
            self.has_faults = false;
            return;
        }
        let number = self.next_batch * NUMBERS;
        self.next_batch += 1;
        self.appended[partition].push(number);
        self.opened_at.insert(number, self.now);
        self.machine.handle_opened(Slot(partition as u32), self.now);
        let count = 1 + self.rng.below(3);
        let values = (number..number + count).map(|number| {
            let mut value = number.to_be_bytes().to_vec();
            value.resize(4 + self.rng.below(70) as usize, 0);
            value
        });
        let batch = Batch::new(number, values.collect(), false);
        self.open[partition].push(batch);
        if self.rng.below(2) == 0 {
            self.close(partition);
        }
        // Some batches come in bursts, faster than brokers take them.
        let after = if self.burst > 0 { Duration::ZERO } else { self.millis(40) };
        self.burst = self.burst.checked_sub(1).unwrap_or_else(|| self.rng.below(20));
        let next = self.rng.below(PARTITIONS as u32) as usize;
        self.schedule(after, Event::Append(next));
    }

    fn close(&mut self, partition: usize) {
        let slot = Slot(partition as u32);
        for batch in std::mem::take(&mut self.open[partition]) {
            let ticket = self.machine.handle_closed(slot, self.now);
            self.machine.handle_sealed(ticket, batch, self.now);
        }
        self.machine.handle_emptied(slot);
    }

    fn identify(&mut self, request: &InitProducerIdRequest) {
        let lost = || Err(Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true });
        if self.chance(20) {
            return self.machine.handle_identity(lost(), self.now);
        }
        let node = if self.is_down == Some(1) { 2 } else { 1 };
        let mut peer = self.brokers.connect(node, self.now).expect("one node is down at a time");
        let answer = match self.brokers.ask(&mut peer, 4, request, self.now) {
            // This epoch is close to the last one, so that the round needs another producer id. Partitions take any epoch of
            // a producer that they do not know.
            Asked::Answered(response) => {
                Ok(InitProducerIdResponse { producer_epoch: i16::MAX - 3, ..response })
            }
            Asked::Silent | Asked::Parked(_) => lost(),
        };
        self.ids += 1;
        self.machine.handle_identity(answer, self.now);
    }

    /// A request reaches its broker, which answers if it is up. For some partitions an error is made up: in place of the
    /// append, or after it.
    fn arrive(&mut self, transmit: &Transmit, is_heard: bool) {
        let broker = transmit.broker.0;
        let Some(mut peer) = self.brokers.connect(broker, self.now) else { return };
        let mut request = transmit.request.clone();
        let mut refused = Vec::new();
        for topic in &mut request.topic_data {
            let is_refused = topic.partition_data.iter().map(|_| match () {
                () if self.chance(3) => Some(ErrorCode::NOT_ENOUGH_REPLICAS),
                () if self.chance(1) => Some(ErrorCode::INVALID_RECORD),
                () => None,
            });
            let is_refused: Vec<_> = is_refused.collect();
            let mut codes = is_refused.iter();
            let mut kept = Vec::new();
            for partition in std::mem::take(&mut topic.partition_data) {
                match codes.next().copied().flatten() {
                    Some(error_code) => refused.push((
                        (topic.name.clone(), topic.topic_id),
                        PartitionProduceResponse {
                            index: partition.index,
                            error_code,
                            base_offset: -1,
                            ..Default::default()
                        },
                    )),
                    None => kept.push(partition),
                }
            }
            topic.partition_data = kept;
        }
        let version = transmit.version_max.min(PRODUCE_BY_ID);
        let Asked::Answered(mut response) = self.brokers.ask(&mut peer, version, &request, self.now) else {
            panic!("seed {}: a produce request is answered at once", self.seed);
        };
        for topic in &mut response.responses {
            for partition in &mut topic.partition_responses {
                if partition.error_code != ErrorCode::NONE {
                    continue;
                }
                // The batch is in the log, and the leader lost too many followers or its leadership before it answered.
                if self.chance(3) {
                    partition.error_code = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
                } else if self.chance(2) {
                    partition.error_code = ErrorCode::NOT_LEADER_OR_FOLLOWER;
                }
            }
        }
        for ((name, topic_id), partition) in refused {
            response.responses.push(TopicProduceResponse {
                name,
                topic_id,
                partition_responses: vec![partition],
                ..Default::default()
            });
        }
        if is_heard {
            let after = self.millis(5);
            self.schedule(after, Event::Answer { id: transmit.id, broker: broker as u32, response });
        }
    }

    fn turn(&mut self) {
        while let Some(order) = self.machine.poll_order(self.now) {
            match order {
                Order::Close(slot) => self.close(slot.0 as usize),
                Order::Split(ticket, whole) => {
                    let after = self.millis(30);
                    self.schedule(after, Event::Split(ticket, whole));
                }
                Order::Recall(id) => self.recall(id),
                Order::Transmit(transmit) => self.send(transmit),
            }
        }
        if let Some(request) = self.machine.poll_identity(self.now) {
            let after = self.millis(10);
            self.schedule(after, Event::Identity(request));
        }
        if self.machine.poll_metadata_wanted() {
            let after = self.millis(50);
            self.schedule(after, Event::Metadata);
        }
        while let Some(settled) = self.machine.poll_settled() {
            for number in settled.batch.numbers() {
                let before = self.settled.insert(number, (settled.outcome.clone(), self.now));
                assert!(before.is_none(), "seed {}: record {number} was settled twice", self.seed);
            }
        }
        while self.machine.poll_flushed().is_some() {}
    }

    fn recall(&mut self, id: RequestId) {
        if self.waiting.remove(&id) {
            for connection in &mut self.connections {
                connection.retain(|other| *other != id);
            }
            let failure = Failure::unreachable("b", "no connection");
            self.machine.handle_lost(id, &failure, false, self.now);
        } else {
            self.machine.handle_begun(id, self.now);
        }
    }

    fn send(&mut self, transmit: Transmit) {
        let broker = transmit.broker.0 as usize;
        let topics = transmit.request.topic_data.iter();
        let carried: Vec<i32> =
            topics.flat_map(|topic| &topic.partition_data).map(|data| data.index).collect();
        let once: BTreeSet<_> = carried.iter().collect();
        assert_eq!(once.len(), carried.len(), "seed {}: a partition is twice in a request", self.seed);
        self.connections[broker].push(transmit.id);
        let delay = self.millis(10);
        let at = (self.now + delay).max(self.busy_until[broker]);
        self.busy_until[broker] = at;
        self.schedule(self.settings.request_timeout, Event::Overdue(broker as u32, transmit.id));
        // Making a connection may take long.
        if self.chance(3) {
            self.waiting.insert(transmit.id);
            let after = self.millis(4000);
            return self.schedule(after, Event::Begin(transmit));
        }
        // A request may be lost, or arrive long after its connection was given up.
        if self.chance(3) {
            return;
        }
        let (late, is_heard) =
            if self.chance(3) { (self.millis(3000), false) } else { (Duration::ZERO, true) };
        let after = (at - self.now) + late;
        self.schedule(after, Event::Arrive { transmit, is_heard });
    }

    /// The numbers of the records in a partition's log.
    fn log(&self, partition: usize) -> Vec<u32> {
        let log = self.brokers.operator(self.now).log(TOPIC, partition as i32);
        log.iter().map(|logged| batch::number(logged.value.as_deref().expect("a value"))).collect()
    }

    fn judge(&self) {
        let seed = self.seed;
        let mut found: BTreeMap<u32, usize> = BTreeMap::new();
        let now = (0..PARTITIONS).map(|partition| (partition, self.log(partition)));
        let logs: Vec<_> = self.past.iter().cloned().chain(now).collect();
        for (partition, log) in &logs {
            // When the epochs are used up, another producer id follows, and a batch that was given up may still arrive
            // under the old id. It was reported as maybe written. Acknowledged records are in order all the same.
            let is_acknowledged =
                |number: &&u32| matches!(self.settled.get(*number), Some((Outcome::Written { .. }, _)));
            let ordered: Vec<_> =
                log.iter().filter(|number| self.ids < 2 || is_acknowledged(number)).collect();
            assert!(ordered.is_sorted(), "seed {seed}: partition {partition} is out of order: {log:?}");
            for number in log {
                *found.entry(*number).or_default() += 1;
            }
        }
        for (number, opened_at) in &self.opened_at {
            let Some((outcome, at)) = self.settled.get(number) else {
                panic!("seed {seed}: batch {number} was never settled");
            };
            let waited = *at - *opened_at;
            let limit = self.settings.delivery_timeout;
            assert!(waited <= limit, "seed {seed}: batch {number} took {waited:?} ({outcome:?})");
        }
        for (number, (outcome, _)) in &self.settled {
            let count = found.get(number).copied().unwrap_or(0);
            let allowed = match outcome {
                Outcome::Written { .. } => 1..=1,
                Outcome::Failed { maybe_written: false, .. } => 0..=0,
                Outcome::Failed { maybe_written: true, .. } => 0..=1,
            };
            let is_allowed = allowed.contains(&count);
            assert!(is_allowed, "seed {seed}: record {number} is {count} times in the log: {outcome:?}");
        }
        let is_written = |(outcome, _): &&(Outcome, Instant)| matches!(outcome, Outcome::Written { .. });
        let written = self.settled.values().filter(is_written).count();
        assert!(written > BATCHES as usize / 4, "seed {seed}: only {written} records came through");
    }
}
