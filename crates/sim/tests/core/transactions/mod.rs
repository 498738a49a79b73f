//! The machines of transactional producers against the broker's coordinator: instances are fenced and killed, transactions are
//! committed, aborted, dropped and forgotten until they time out, requests and answers are lost or arrive when later
//! transactions are open, coordinators and leaders move, nodes stop, and the version of transactions changes.
//!
//! ```text
//!  instance: Transaction + Producer ── letters ─▶ connections (late, lost) ─▶ the broker's machine
//!     ▲                                                                            │
//!     └─────────────────────────── answers ◀─ (late, lost) ◀───────────────────────┘
//!  judge: what was told, and what is in the logs
//! ```
//!
//! The judge must find that each transaction which was reported as committed is there once, whole, in order and with its
//! offsets, and nothing of one that was not; one whose end is not known is there as a whole or not at all. A producer that is
//! told to abort can go on afterwards, and one that is told that it can do nothing more was fenced, or its transaction has timed
//! out. When the faults end everything ends: no transaction stays open.

mod instance;
mod judge;
mod logs;
mod network;

use std::collections::BTreeMap;
use std::time::Duration;

use milena_broker::{Broker, Peer};
use milena_core::metadata::Coordinated;
use milena_core::transaction::{Ask, Request, Response, Version};
use milena_core::{Instant, Rng};
use milena_messages::ErrorCode;
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use milena_sim::operator::Asked;

use self::instance::Instance;
use self::judge::Judge;
pub(crate) use self::judge::Seen;
use self::logs::Logs;
use self::network::{Address, Answer, Call, Event, Lane, Letter, Network};
use crate::brokers::Brokers;

const NODES: i32 = 3;
const PARTITIONS: usize = 3;
/// The topic whose offsets are committed. Each transaction has a partition of its own there, after the one that they share.
const READ: &str = "read";
const READ_PARTITIONS: i32 = 64;
const IDS: [&str; 2] = ["a", "b"];
/// `transaction.timeout.ms`.
const TIMEOUT: Duration = Duration::from_secs(6);
/// The faults end when this many transactions have begun, or after this time.
const SPANS: usize = 24;
const STORM: Duration = Duration::from_secs(120);
/// By then everything must have ended.
const REST: Duration = Duration::from_secs(120);
const STEPS_MAX: usize = 100_000;

const PRODUCE: i16 = 13;
const IDENTITY: i16 = 5;
const FIND_COORDINATOR: i16 = 3;
const OFFSET_FETCH: i16 = 9;

fn group(id: usize) -> &'static str {
    ["group-a", "group-b"][id]
}

struct World {
    seed: u64,
    brokers: Brokers,
    network: Network,
    judge: Judge,
    instances: Vec<Instance>,
    /// The instance of each id that started last.
    newest: Vec<usize>,
    /// The ids of which another instance is about to start.
    launching: Vec<usize>,
    version: i16,
    changes: Changes,
    down: Option<i32>,
    /// How many transactions each id still has to commit when the faults have ended.
    missing: Vec<usize>,
}

/// How the version of transactions changes during a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changes {
    No,
    /// It goes up, once.
    Up,
    /// It goes up and down. No instance takes over from another one then: when the new one ends a transaction by version one,
    /// Kafka takes an end by version two of the old one, whose epoch is one lower, for a repetition, and answers with the
    /// epoch of the new one.
    Both,
}

pub(crate) fn play(seed: u64) -> Seen {
    World::new(seed).run()
}

impl World {
    fn new(seed: u64) -> Self {
        let changes = match seed % 12 {
            11 => Changes::Both,
            2 | 5 | 8 => Changes::Up,
            _ => Changes::No,
        };
        let version = if seed % 3 == 1 { 2 } else { 1 };
        let mut builder = Broker::builder()
            .nodes(NODES as u16)
            .default_replication(NODES as i16)
            .auto_create_topics(false)
            .transaction_version(version)
            .seed(seed);
        if seed.is_multiple_of(4) {
            builder = builder
                .transaction_marker_delay(Duration::from_millis(15))
                .transaction_load_time(Duration::from_millis(150));
        }
        let brokers = Brokers::of(builder, PARTITIONS as i32).with_topic();
        brokers.operator(Instant::ORIGIN).create_topic(READ, READ_PARTITIONS, &[]);
        let mut world = Self {
            seed,
            brokers,
            network: Network::new(Rng::seeded(seed ^ 0x7c5)),
            judge: Judge::new(seed),
            instances: Vec::new(),
            newest: vec![usize::MAX; IDS.len()],
            launching: Vec::new(),
            version,
            changes,
            down: None,
            missing: vec![2; IDS.len()],
        };
        for id in 0..IDS.len() {
            world.launch(id);
        }
        world.network.after(Duration::from_millis(100), Event::Fault);
        world
    }

    fn run(mut self) -> Seen {
        for _ in 0..STEPS_MAX {
            let timers = self.instances.iter().filter_map(Instance::poll_timeout).min();
            let broker = self.brokers.machine.poll_timeout();
            let broker = broker.map(|at| Instant::after_origin(self.brokers.since_origin(at)));
            let next = [timers, broker, self.network.next_at()].into_iter().flatten().min();
            self.network.now = self.network.now.max(next.expect("the broker has timers"));
            let now = self.network.now;
            if broker.is_some_and(|at| at <= now) {
                self.brokers.machine.handle_timeout(self.brokers.now(now));
            }
            while let Some(event) = self.network.pop() {
                self.happen(event);
            }
            for producer in 0..self.instances.len() {
                if self.instances[producer].poll_timeout().is_some_and(|at| at <= now) {
                    self.turn(producer);
                }
            }
            let is_over = self.judge.spans() >= SPANS || now >= Instant::ORIGIN + STORM;
            if self.network.has_faults && is_over {
                self.calm();
            }
            let is_idle = |of: &usize| self.instances.get(*of).is_some_and(Instance::is_idle);
            if self.missing.iter().all(|missing| *missing == 0) && self.newest.iter().all(is_idle) {
                return self.part();
            }
            assert!(now < Instant::ORIGIN + STORM + REST, "{}", self.standing());
        }
        panic!("too many steps: {}", self.standing());
    }

    fn standing(&self) -> String {
        let newest = self.newest.iter().filter_map(|of| self.instances.get(*of));
        let instances: Vec<_> = newest.map(Instance::standing).collect();
        format!("seed {} at {:?}: {instances:?}, {:?} are missing", self.seed, self.network.now, self.missing)
    }

    /// The faults end.
    fn calm(&mut self) {
        self.network.has_faults = false;
        self.start();
        for instance in &mut self.instances {
            instance.is_calm = true;
        }
    }

    /// Everything is told. What is still under way arrives, and the transactions of instances that were killed time out.
    fn part(mut self) -> Seen {
        for instance in &mut self.instances {
            instance.kill(&mut self.judge);
        }
        let end = self.network.now + TIMEOUT * 2;
        loop {
            let broker = self.brokers.machine.poll_timeout();
            let broker = broker.map(|at| Instant::after_origin(self.brokers.since_origin(at)));
            let next = broker.into_iter().chain(self.network.next_at()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.network.now = self.network.now.max(next);
            self.brokers.machine.handle_timeout(self.brokers.now(self.network.now));
            while let Some(event) = self.network.pop() {
                if let Event::Arrives(letter) = event {
                    self.arrive(letter);
                }
            }
        }
        let operator = self.brokers.operator(self.network.now);
        let logs = Logs::read(self.seed, &operator);
        let offsets: Vec<_> = (0..IDS.len()).map(|id| self.offsets(id)).collect();
        self.judge.judge(&logs, &offsets)
    }

    /// The offsets that a group has committed.
    fn offsets(&self, id: usize) -> BTreeMap<i32, i64> {
        let operator = self.brokers.operator(self.network.now);
        let of = Coordinated::Group(group(id).into());
        let found = operator.ask(1, FIND_COORDINATOR, &of.request());
        let topic = OffsetFetchRequestTopics {
            name: READ.into(),
            partition_indexes: (0..READ_PARTITIONS).collect(),
            ..Default::default()
        };
        let group = OffsetFetchRequestGroup {
            group_id: group(id).into(),
            topics: Some(vec![topic]),
            ..Default::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() };
        let answer = operator.ask(found.node_id, OFFSET_FETCH, &request);
        let mut offsets = BTreeMap::new();
        for found in &answer.groups[0].topics[0].partitions {
            assert_eq!(found.error_code, ErrorCode::NONE, "seed {}: offsets are pending", self.seed);
            if found.committed_offset >= 0 {
                offsets.insert(found.partition_index, found.committed_offset);
            }
        }
        offsets
    }

    fn up(&self) -> Vec<i32> {
        (1..=NODES).filter(|node| self.down != Some(*node)).collect()
    }

    fn launch(&mut self, id: usize) {
        let number = self.instances.len();
        self.judge.launched(id, self.network.now);
        let mut instance = Instance::new(self.seed, number, id, client_version(self.version));
        instance.is_calm = !self.network.has_faults;
        self.instances.push(instance);
        self.newest[id] = number;
        self.network.after(Duration::ZERO, Event::Metadata(number));
        self.network.after(Duration::from_millis(1), Event::Live(number));
    }

    fn launch_later(&mut self, id: usize) {
        if !self.launching.contains(&id) {
            self.launching.push(id);
            let delay = self.network.millis(300);
            self.network.after(delay, Event::Launch(id));
        }
    }

    fn turn(&mut self, producer: usize) {
        let up = self.up();
        let instance = &mut self.instances[producer];
        let was_gone = instance.is_gone();
        let committed = self.judge.seen.committed;
        let is_live = instance.turn(&mut self.judge, &mut self.network, &up);
        let id = instance.id;
        if !self.network.has_faults && self.judge.seen.committed > committed {
            self.missing[id] = self.missing[id].saturating_sub(1);
        }
        if !was_gone && instance.is_gone() && self.newest[id] == producer {
            self.launch_later(id);
        }
        let instance = &self.instances[producer];
        let is_wanted = self.network.has_faults || self.missing[id] > 0 || !instance.is_idle();
        if is_live && is_wanted {
            let most = if self.network.below(2) == 0 { 1 } else { 60 };
            let delay = self.network.millis(most);
            self.network.after(delay, Event::Live(producer));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Connected(address, number) => {
                if !self.network.is_connecting(address, number) {
                    return;
                }
                if self.down == Some(address.broker) || self.network.chance(3) {
                    return self.cut(address);
                }
                // The handshake tells the version that the cluster has.
                self.instances[address.producer].version = client_version(self.version);
                self.network.establish(address);
            }
            Event::Arrives(letter) => self.arrive(letter),
            Event::Answered(address, number, answer) => {
                if let Some(key) = self.network.hear(address, number) {
                    self.instances[address.producer].handle_answer(key, answer, self.network.now);
                    self.turn(address.producer);
                }
            }
            Event::Breaks(address, number) => {
                if self.network.is_there(address, number) {
                    self.cut(address);
                }
            }
            Event::Overdue(address, number) => {
                if self.network.is_under_way(address, number) {
                    self.cut(address);
                }
            }
            Event::Metadata(producer) => {
                let snapshot = self.brokers.snapshot(self.network.now);
                self.instances[producer].handle_metadata(&snapshot, self.network.now);
                self.turn(producer);
            }
            Event::Live(producer) => {
                let next = self.instances[producer].live(&mut self.judge, &mut self.network);
                if let Some(delay) = next {
                    self.network.after(delay, Event::Live(producer));
                }
                self.turn(producer);
            }
            Event::Launch(id) => {
                self.launching.retain(|of| *of != id);
                self.launch(id);
            }
            Event::Start => self.start(),
            Event::Fault => self.disturb(),
        }
    }

    fn start(&mut self) {
        if let Some(node) = self.down.take() {
            self.brokers.machine.start_node(node).expect("it is down");
            self.refresh();
        }
    }

    /// Everybody's metadata is refreshed some time later.
    fn refresh(&mut self) {
        for producer in self.newest.clone() {
            let delay = self.network.millis(150);
            self.network.after(delay, Event::Metadata(producer));
        }
    }

    fn cut(&mut self, address: Address) {
        let now = self.network.now;
        let lost = self.network.cut(address);
        for (key, has_begun) in lost {
            self.instances[address.producer].handle_lost(key, has_begun, now);
        }
        self.turn(address.producer);
    }

    fn cut_all(&mut self, is_wanted: impl Fn(&Address) -> bool) {
        for address in self.network.addresses(is_wanted) {
            self.cut(address);
        }
    }

    fn disturb(&mut self) {
        if !self.network.has_faults {
            return;
        }
        let delay = self.network.millis(400);
        self.network.after(delay, Event::Fault);
        let node = 1 + self.network.below(NODES as u32) as i32;
        let id = self.network.below(IDS.len() as u32) as usize;
        match self.network.below(20) {
            0..=3 => {
                // The only refusal there can be is that the node is down.
                let _ = self.brokers.machine.move_transaction_coordinator(IDS[id], node);
            }
            4 | 5 => {
                let _ = self.brokers.machine.move_coordinator(group(id), node);
            }
            6..=8 => {
                let partition = self.network.below(PARTITIONS as u32) as i32;
                self.brokers.lead(partition, node);
                self.refresh();
            }
            9..=11 => {
                let number = self.newest[id];
                self.cut_all(|of| {
                    of.producer == number && (of.broker == node || of.lane == Lane::Transaction)
                });
            }
            12 if self.down.is_none() => {
                self.brokers.machine.stop_node(node).expect("it is up");
                self.down = Some(node);
                self.cut_all(|of| of.broker == node);
                self.refresh();
                let delay = self.network.millis(1500);
                self.network.after(delay, Event::Start);
            }
            // Another instance starts beside the one that is there.
            13 if self.changes != Changes::Both && self.network.below(2) == 0 => self.launch_later(id),
            14 if self.changes != Changes::Both && self.network.below(2) == 0 => {
                let number = self.newest[id];
                self.instances[number].kill(&mut self.judge);
                for address in self.network.addresses(|of| of.producer == number) {
                    drop(self.network.cut(address));
                }
                self.launch_later(id);
            }
            15 | 16
                if self.changes == Changes::Both || (self.changes == Changes::Up && self.version == 1) =>
            {
                self.version = 3 - self.version;
                self.brokers.machine.set_transaction_version(self.version).expect("there is such a version");
            }
            _ => {}
        }
    }

    /// A request reaches its broker.
    fn arrive(&mut self, letter: Letter) {
        let Letter { number, address, call, sent_at } = letter;
        let Some(mut peer) = self.brokers.connect(address.broker, self.network.now) else { return };
        if self.judge.has_begun_since(address.producer, sent_at) {
            self.judge.seen.late += 1;
        }
        let answer = match call {
            Call::LookUp(of) => self.look_up(&mut peer, &of),
            Call::Records(transmit) => {
                let version = transmit.version_max.min(PRODUCE);
                let asked = self.brokers.ask(&mut peer, version, &transmit.request, self.network.now);
                let mut response = self.answered(asked);
                for topic in &mut response.responses {
                    for partition in &mut topic.partition_responses {
                        // The batch is in the log, and the leader lost its followers or its leadership before it answered.
                        if partition.error_code == ErrorCode::NONE && self.network.chance(2) {
                            partition.error_code = match self.network.below(2) {
                                0 => ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
                                _ => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                            };
                        }
                    }
                }
                Answer::Records(response)
            }
            Call::Ask(ask) => {
                let mut is_takeover = false;
                if let Request::Identity(request) = &ask.request {
                    is_takeover = request.producer_id < 0;
                    self.judge.identified(address.producer, self.network.now);
                }
                if !self.network.is_under_way(address, number) {
                    self.judge.arrived_late(address.producer, is_takeover, self.network.now);
                }
                Answer::Ask(self.coordinate(&mut peer, &ask))
            }
        };
        self.network.answer(address, number, answer);
    }

    fn look_up(&mut self, peer: &mut Peer, of: &Coordinated) -> Answer {
        let request: FindCoordinatorRequest = of.request();
        let asked = self.brokers.ask(peer, FIND_COORDINATOR, &request, self.network.now);
        let response = self.answered(asked);
        Answer::LookUp(Coordinated::coordinator(&response).map(|broker| broker.id))
    }

    /// A coordinator does what it is asked for. Sometimes it loses its followers or moves before it answers, so that it says that
    /// it is not available although it may have written what it was asked for.
    fn coordinate(&mut self, peer: &mut Peer, ask: &Ask) -> Response {
        let now = self.network.now;
        let denies = if self.network.chance(2) {
            let codes = [
                ErrorCode::COORDINATOR_NOT_AVAILABLE,
                ErrorCode::NOT_COORDINATOR,
                ErrorCode::REQUEST_TIMED_OUT,
            ];
            Some(codes[self.network.below(3) as usize])
        } else {
            None
        };
        match &ask.request {
            Request::Identity(request) => {
                let asked = self.brokers.ask(peer, ask.version_max.min(IDENTITY), request, now);
                let mut response = self.answered(asked);
                response.error_code = denies.unwrap_or(response.error_code);
                Response::Identity(response)
            }
            Request::Partitions(request) => {
                let asked = self.brokers.ask(peer, ask.version_max.min(3), request, now);
                let mut response = self.answered(asked);
                for topic in &mut response.results_by_topic_v3_and_below {
                    for of in &mut topic.results_by_partition {
                        of.partition_error_code = denies.unwrap_or(of.partition_error_code);
                    }
                }
                Response::Partitions(response)
            }
            Request::Group(request) => {
                let asked = self.brokers.ask(peer, ask.version_max.min(4), request, now);
                let mut response = self.answered(asked);
                response.error_code = denies.unwrap_or(response.error_code);
                Response::Group(response)
            }
            Request::Offsets(request) => {
                let asked = self.brokers.ask(peer, ask.version_max.min(5), request, now);
                let mut response = self.answered(asked);
                for topic in &mut response.topics {
                    for of in &mut topic.partitions {
                        of.error_code = denies.unwrap_or(of.error_code);
                    }
                }
                Response::Offsets(response)
            }
            Request::End(request) => {
                let asked = self.brokers.ask(peer, ask.version_max.min(5), request, now);
                let mut response = self.answered(asked);
                response.error_code = denies.unwrap_or(response.error_code);
                Response::End(response)
            }
        }
    }

    fn answered<T>(&self, asked: Asked<T>) -> T {
        match asked {
            Asked::Answered(response) => response,
            Asked::Silent | Asked::Parked(_) => panic!("seed {}: it is answered at once", self.seed),
        }
    }
}

fn client_version(version: i16) -> Version {
    Version::of_feature(Some(version))
}
