//! The producer against brokers that check sequences as Kafka does, on a network that loses, delays and repeats: by
//! seed, on virtual time.
//!
//! What is claimed of every batch is compared with the log: written means there, once; failed means not there unless
//! it says so; the order of the log is the order of the appends; everything is settled within its time; and a request
//! holds no partition twice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use milena_messages::ErrorCode;
use milena_messages::init_producer_id::InitProducerIdResponse;

use super::{Fake, Stamp, answer, partitions, settings};
use crate::metadata::tests::snapshot;
use crate::producer::{Order, Outcome, Producer, RequestId, Settings, Slot, Ticket, Transmit};
use crate::{Failure, Instant, Rng};

const PARTITIONS: usize = 6;
const BROKERS: u32 = 3;
const BATCHES: u32 = 200;
const FIRST_ID: i64 = 7;
/// Numbers of a batch: one for each of its records, so that its pieces have their own.
const NUMBERS: u32 = 8;

/// A partition's log and what it knows of producers.
#[derive(Default)]
struct Log {
    leader: u32,
    leader_epoch: i32,
    batches: Vec<u32>,
    producers: BTreeMap<i64, Known>,
}

/// A producer's epoch, and its last five batches: first and last sequence.
type Known = (i16, VecDeque<(i32, i32)>);

impl Log {
    /// As `ProducerStateManager` and `ProducerAppendInfo` of Apache Kafka do.
    fn append(&mut self, stamp: Stamp) -> ErrorCode {
        let last = (stamp.sequence + stamp.records - 1) & i32::MAX;
        // A producer nobody knows may begin anywhere.
        let known = self.producers.entry(stamp.id).or_insert((stamp.epoch, VecDeque::new()));
        let (epoch, recent) = known;
        if stamp.epoch < *epoch {
            return ErrorCode::INVALID_PRODUCER_EPOCH;
        }
        if stamp.epoch > *epoch {
            if stamp.sequence != 0 {
                return ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
            }
            *known = (stamp.epoch, VecDeque::new());
        } else if recent.contains(&(stamp.sequence, last)) {
            return ErrorCode::NONE;
        } else if recent.back().is_some_and(|(_, before)| stamp.sequence != (before + 1) & i32::MAX) {
            return ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
        }
        known.1.push_back((stamp.sequence, last));
        if known.1.len() > 5 {
            known.1.pop_front();
        }
        self.batches.push(stamp.number);
        ErrorCode::NONE
    }
}

/// What will happen.
enum Event {
    /// A connection is there and begins with a request, unless it was recalled or lost.
    Begin(Transmit),
    /// A request reaches its broker; with `answered` false nobody hears the answer.
    Arrive {
        transmit: Transmit,
        answered: bool,
    },
    /// An answer reaches the producer.
    Answer {
        transmit: Transmit,
        codes: BTreeMap<i32, ErrorCode>,
    },
    /// The connection of this broker breaks.
    Break(u32),
    /// A request was given up for lack of an answer, and its connection with it.
    Overdue(u32, RequestId),
    /// A partition gets another leader; the producer is told some time later.
    Move(usize),
    /// The leader epochs of all partitions rise, under the leaders they have.
    Rise,
    Metadata,
    /// A batch that was too large was split.
    Split(Ticket, Fake),
    Append(usize),
    Identity,
}

struct World {
    machine: Producer<Fake>,
    rng: Rng,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    next_event: u64,
    logs: Vec<Log>,
    /// Requests that wait for a connection.
    waiting: BTreeSet<RequestId>,
    /// Requests on each broker's connection, or waiting for it.
    connections: Vec<Vec<RequestId>>,
    /// Each connection is in order: nothing arrives before what was sent before it.
    busy_until: Vec<Instant>,
    open: Vec<Vec<Fake>>,
    appended: Vec<Vec<u32>>,
    opened_at: BTreeMap<u32, Instant>,
    settled: BTreeMap<u32, (Outcome, Instant)>,
    next_batch: u32,
    settings: Settings,
    faults: bool,
    next_id: i64,
    /// Batches that are appended at once.
    burst: u32,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut settings = settings();
        settings.delivery_timeout = Duration::from_secs(if seed.is_multiple_of(2) { 5 } else { 60 });
        settings.request_timeout = Duration::from_secs(2);
        if seed.is_multiple_of(3) {
            // Little goes out at a time, so that partitions wait for their turn.
            (settings.request_bytes_max, settings.in_flight_max) = (300, 2);
        }
        let mut machine = Producer::new(settings.clone(), Rng::seeded(seed));
        for index in 0..PARTITIONS {
            machine.register(Arc::from("t"), index as i32);
        }
        let logs = (0..PARTITIONS).map(|_| Log::default()).collect();
        let mut world = Self {
            machine,
            rng: Rng::seeded(seed ^ 0xdead_beef),
            now: Instant::ORIGIN,
            events: BTreeMap::new(),
            next_event: 0,
            logs,
            waiting: BTreeSet::new(),
            connections: (0..BROKERS).map(|_| Vec::new()).collect(),
            busy_until: vec![Instant::ORIGIN; BROKERS as usize],
            open: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            appended: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            opened_at: BTreeMap::new(),
            settled: BTreeMap::new(),
            next_batch: 0,
            settings,
            faults: true,
            next_id: FIRST_ID,
            burst: 0,
            seed,
        };
        world.schedule(Duration::ZERO, Event::Metadata);
        world.schedule(Duration::from_millis(1), Event::Append(0));
        for broker in 0..BROKERS {
            world.schedule(Duration::from_millis(300), Event::Break(broker));
        }
        world.schedule(Duration::from_millis(500), Event::Move(0));
        world.schedule(Duration::from_millis(100), Event::Rise);
        world
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.next_event += 1;
        self.events.insert((self.now + after, self.next_event), event);
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.faults && self.rng.below(100) < percent
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
                    self.arrive(transmit, true);
                }
            }
            Event::Arrive { transmit, answered } => self.arrive(transmit, answered),
            Event::Answer { transmit, codes } => {
                let connection = &mut self.connections[transmit.broker.0 as usize];
                if connection.contains(&transmit.id) {
                    connection.retain(|id| *id != transmit.id);
                    let (id, response) = answer(&transmit, |partition| codes[&partition]);
                    self.machine.handle_response(id, &response, self.now);
                }
            }
            Event::Overdue(broker, id) => {
                if self.connections[broker as usize].contains(&id) {
                    self.cut(broker);
                }
            }
            Event::Break(broker) => {
                if self.faults {
                    self.cut(broker);
                    let after = self.millis(1500);
                    self.schedule(after, Event::Break(broker));
                }
            }
            Event::Move(partition) => {
                if self.faults {
                    self.logs[partition].leader = self.rng.below(BROKERS);
                    self.logs[partition].leader_epoch += 1;
                    let (after, next) = (self.millis(200), self.millis(2000));
                    self.schedule(after, Event::Metadata);
                    let partition = self.rng.below(PARTITIONS as u32) as usize;
                    self.schedule(next, Event::Move(partition));
                }
            }
            Event::Rise => {
                if self.faults {
                    self.logs.iter_mut().for_each(|log| log.leader_epoch += 1);
                    let (after, next) = (self.millis(20), self.millis(300));
                    self.schedule(after, Event::Metadata);
                    self.schedule(next, Event::Rise);
                }
            }
            Event::Metadata => {
                let leaders: Vec<_> =
                    self.logs.iter().map(|log| (log.leader as i32, log.leader_epoch)).collect();
                self.machine.handle_metadata(&snapshot("t", &leaders), self.now);
            }
            Event::Identity => {
                let producer_id = self.next_id;
                self.next_id += 1;
                let answer = if self.chance(20) {
                    Err(Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true })
                } else {
                    // Close to the end of the epochs, so that they run out.
                    Ok(InitProducerIdResponse {
                        producer_id,
                        producer_epoch: i16::MAX - 3,
                        ..Default::default()
                    })
                };
                self.machine.handle_identity(answer, self.now);
            }
        }
    }

    fn cut(&mut self, broker: u32) {
        for id in std::mem::take(&mut self.connections[broker as usize]) {
            let failure = Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true };
            let was_waiting = self.waiting.remove(&id);
            self.machine.handle_lost(id, &failure, !was_waiting, self.now);
        }
        // The next connection does not wait for what is left of this one.
        self.busy_until[broker as usize] = self.now;
    }

    fn append(&mut self, partition: usize) {
        if self.next_batch >= BATCHES {
            // Faults end, so that everything can come to rest.
            self.faults = false;
            return;
        }
        let number = self.next_batch * NUMBERS;
        self.next_batch += 1;
        self.appended[partition].push(number);
        self.opened_at.insert(number, self.now);
        self.machine.handle_opened(Slot(partition as u32), self.now);
        let fake =
            Fake { number, records: 1 + self.rng.below(3) as i32, bytes: 50 + self.rng.below(100) as usize };
        self.open[partition].push(fake);
        if self.rng.below(2) == 0 {
            self.close(partition);
        }
        // In bursts, faster than brokers take them.
        let after = if self.burst > 0 { Duration::ZERO } else { self.millis(40) };
        self.burst = self.burst.checked_sub(1).unwrap_or_else(|| self.rng.below(20));
        let next = self.rng.below(PARTITIONS as u32) as usize;
        self.schedule(after, Event::Append(next));
    }

    fn close(&mut self, partition: usize) {
        let slot = Slot(partition as u32);
        for fake in std::mem::take(&mut self.open[partition]) {
            let ticket = self.machine.handle_closed(slot, self.now);
            self.machine.handle_sealed(ticket, fake, self.now);
        }
        self.machine.handle_emptied(slot);
    }

    fn arrive(&mut self, transmit: Transmit, answered: bool) {
        let mut codes = BTreeMap::new();
        let broker = transmit.broker.0 as u32;
        for topic in &transmit.request.topic_data {
            for partition in &topic.partition_data {
                let stamp = Stamp::from_bytes(partition.records.as_deref().expect("records"));
                let code = self.produce(broker, partition.index as usize, stamp);
                codes.insert(partition.index, code);
            }
        }
        if answered {
            let after = self.millis(5);
            self.schedule(after, Event::Answer { transmit, codes });
        }
    }

    fn produce(&mut self, broker: u32, partition: usize, stamp: Stamp) -> ErrorCode {
        if self.logs[partition].leader != broker {
            return ErrorCode::NOT_LEADER_OR_FOLLOWER;
        }
        if self.chance(3) {
            return ErrorCode::NOT_ENOUGH_REPLICAS;
        }
        if self.chance(1) {
            return ErrorCode::INVALID_RECORD;
        }
        // Some brokers take no batch of several records at times.
        if stamp.records > 1 && stamp.number.is_multiple_of(5 * NUMBERS) {
            return ErrorCode::MESSAGE_TOO_LARGE;
        }
        let code = self.logs[partition].append(stamp);
        if code == ErrorCode::NONE && self.chance(3) {
            return ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
        }
        // Leadership ends while the leader waits for its followers, which have the batch.
        if code == ErrorCode::NONE && self.chance(2) {
            return ErrorCode::NOT_LEADER_OR_FOLLOWER;
        }
        code
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
        if self.machine.poll_identity(self.now).is_some() {
            let after = self.millis(10);
            self.schedule(after, Event::Identity);
        }
        if self.machine.poll_metadata_wanted() {
            let after = self.millis(50);
            self.schedule(after, Event::Metadata);
        }
        while let Some(settled) = self.machine.poll_settled() {
            let before = self.settled.insert(settled.batch.number, (settled.outcome, self.now));
            assert!(before.is_none(), "batch {} was settled twice", settled.batch.number);
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
        let mut carried = partitions(&transmit);
        carried.sort_unstable();
        let is_once = carried.is_sorted_by(|one, next| one < next);
        assert!(is_once, "seed {}: a partition is twice in a request: {carried:?}", self.seed);
        self.connections[broker].push(transmit.id);
        let delay = self.millis(10);
        let at = (self.now + delay).max(self.busy_until[broker]);
        self.busy_until[broker] = at;
        self.schedule(self.settings.request_timeout, Event::Overdue(broker as u32, transmit.id));
        // Where there is no connection yet, it may take long to come.
        if self.chance(3) {
            self.waiting.insert(transmit.id);
            let after = self.millis(4000);
            return self.schedule(after, Event::Begin(transmit));
        }
        // Lost on the way; or arriving long after the connection that carried it was given up.
        if self.chance(3) {
            return;
        }
        let (late, answered) =
            if self.chance(3) { (self.millis(3000), false) } else { (Duration::ZERO, true) };
        let after = (at - self.now) + late;
        self.schedule(after, Event::Arrive { transmit, answered });
    }

    fn judge(&self) {
        let seed = self.seed;
        for (partition, appended) in self.appended.iter().enumerate() {
            let log = &self.logs[partition].batches;
            for number in appended {
                let count = log.iter().filter(|logged| *logged == number).count();
                let Some((outcome, at)) = self.settled.get(number) else {
                    panic!("seed {seed}: batch {number} was never settled");
                };
                let waited = *at - self.opened_at[number];
                assert!(
                    waited <= self.settings.delivery_timeout,
                    "seed {seed}: batch {number} took {waited:?}"
                );
                let allowed = match outcome {
                    Outcome::Written { .. } => 1..=1,
                    Outcome::Failed { maybe_written: false, .. } => 0..=0,
                    Outcome::Failed { maybe_written: true, .. } => 0..=1,
                };
                assert!(
                    allowed.contains(&count),
                    "seed {seed}: batch {number} is {count} times in the log: {outcome:?}"
                );
            }
            // When the epochs are used up, another id follows, and a copy that was given up may still arrive under the
            // old one. It was reported as such; everything acknowledged is in order all the same.
            let is_acknowledged = |number: &&u32| matches!(self.settled[*number].0, Outcome::Written { .. });
            let is_other_id = self.next_id > FIRST_ID + 1;
            let ordered: Vec<_> =
                log.iter().filter(|number| !is_other_id || is_acknowledged(number)).collect();
            assert!(ordered.is_sorted(), "seed {seed}: partition {partition} is out of order: {log:?}");
        }
        let written =
            self.settled.values().filter(|(outcome, _)| matches!(outcome, Outcome::Written { .. })).count();
        assert!(written > BATCHES as usize / 4, "seed {seed}: only {written} batches came through");
    }
}

/// More with `MILENA_SEEDS=100000` when it is compiled.
#[test]
fn whatever_the_network_does_acknowledged_means_written_once_in_order() {
    let seeds = option_env!("MILENA_SEEDS").and_then(|seeds| seeds.parse().ok()).unwrap_or(300);
    for seed in 0..seeds {
        World::new(seed).run();
    }
}
