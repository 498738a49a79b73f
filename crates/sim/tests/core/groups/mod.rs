//! The machines of several members of a group against the broker's coordinator: members join, leave and are killed, nodes
//! stop, all nodes are killed and go on with what is on disk, the coordinator moves, leaders move, partitions are added,
//! requests and answers are lost, applications are slow, seek, pause and commit. By seed, members are static, or subscribe to
//! a pattern.
//!
//! ```text
//!  member: Membership + Commits + Source ── letters ─▶ (late, lost) ─▶ the broker's machine
//!     ▲                                                                     │
//!     └──────────────────────── answers ◀─ (late, lost) ◀───────────────────┘
//!  judge: what was delivered, processed, committed; who reads what
//! ```
//!
//! The judge must find that no record is skipped, that each partition is delivered in order, that nothing is committed
//! which was not processed, and that no two members of the group, as the coordinator has it, read a partition at once. When
//! the faults end all of it is processed and committed, and when the members have left nothing is left of them.

mod judge;
mod member;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use milena_broker::{Broker, Builder, Parked, Peer};
use milena_core::group::{Goodbye, Protocol, Settings, assignors, offer};
use milena_core::{Backoff, Instant, Rng};
use milena_messages::ErrorCode;
use milena_messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use milena_messages::describe_groups::DescribeGroupsRequest;
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::batch::BatchBuilder;
use milena_wire::pool::Pool;

use self::judge::Judge;
pub(crate) use self::judge::Seen;
use self::member::Member;
use self::wire::{Answer, Call, Key, Letter, Taken, Waits, find_coordinator, go_on, hand_over};
use crate::brokers::{Brokers, TOPIC};

const GROUP: &str = "g";
const NODES: i32 = 3;
const PARTITIONS: usize = 5;
/// As many are there in the end, at most.
const PARTITIONS_MAX: usize = 8;
/// The records of each partition in the end, and those of one batch.
const END: i64 = 400;
const BATCH: i64 = 10;
const MEMBERS_MAX: usize = 4;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long faults happen.
const STORM: Duration = Duration::from_secs(240);
/// By then everything must be processed, and all members must have left.
const REST: Duration = Duration::from_secs(400);
const STEPS_MAX: usize = 400_000;

/// A letter or an answer on its way.
enum Post {
    Arrives(usize, Letter),
    Returns(usize, Key, Option<Answer>),
}

fn builder(seed: u64, disk: Option<&tempfile::TempDir>) -> Builder {
    let builder = Broker::builder()
        .nodes(NODES as u16)
        .default_replication(NODES as i16)
        .auto_create_topics(false)
        .group_consumer_heartbeat_interval(Duration::from_secs(1))
        .group_consumer_session_timeout(Duration::from_secs(15))
        .seed(seed);
    match disk {
        Some(disk) => builder.data_dir(disk.path()),
        None => builder,
    }
}

/// A request that its broker parked.
struct Held {
    member: usize,
    key: Key,
    waits: Waits,
    peer: Peer,
    parked: Parked,
}

struct World {
    seed: u64,
    brokers: Brokers,
    protocol: Protocol,
    /// Whether members have names, under which others come back.
    are_static: bool,
    /// The names that were used and that no member has now.
    free_names: Vec<usize>,
    names: BTreeMap<usize, usize>,
    pattern: Option<&'static str>,
    /// The disk of the brokers, if they have one.
    disk: Option<tempfile::TempDir>,
    rng: Rng,
    now: Instant,
    members: BTreeMap<usize, Member>,
    judge: Judge,
    posts: BTreeMap<(Instant, u64), Post>,
    held: Vec<Held>,
    next_post: u64,
    next_member: usize,
    written: Vec<i64>,
    /// The node that is down.
    down: Option<i32>,
    next_fault: Instant,
    has_faults: bool,
}

pub(crate) fn play(seed: u64) -> Seen {
    World::new(seed).run()
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = (seed % 10 == 3).then(|| tempfile::tempdir().expect("a directory"));
        let brokers = Brokers::of(builder(seed, disk.as_ref()), PARTITIONS as i32).with_topic();
        let mut rng = Rng::seeded(seed ^ 0x6a0d);
        let protocol = if rng.below(2) == 0 { Protocol::Classic } else { Protocol::Consumer };
        let mut world = Self {
            seed,
            brokers,
            protocol,
            are_static: rng.below(3) == 0,
            free_names: Vec::new(),
            names: BTreeMap::new(),
            pattern: (rng.below(3) == 0).then_some("[st]"),
            disk,
            rng,
            now: Instant::ORIGIN,
            members: BTreeMap::new(),
            judge: Judge::new(seed, PARTITIONS),
            posts: BTreeMap::new(),
            held: Vec::new(),
            next_post: 0,
            next_member: 0,
            written: vec![0; PARTITIONS],
            down: None,
            next_fault: Instant::ORIGIN,
            has_faults: true,
        };
        for partition in 0..PARTITIONS {
            for _ in 0..world.rng.below(10) {
                world.append(partition);
            }
        }
        world.join();
        world
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.has_faults && self.rng.below(100) < percent
    }

    fn run(mut self) -> Seen {
        for _ in 0..STEPS_MAX {
            self.step();
            if self.has_faults && self.now >= Instant::ORIGIN + STORM {
                self.calm();
            }
            let is_done = !self.has_faults && self.judge.is_finished(END) && self.judge.is_read();
            if is_done && self.down.is_none() {
                return self.part();
            }
            assert!(
                self.now < Instant::ORIGIN + STORM + REST,
                "seed {}: {}",
                self.seed,
                self.judge.standing()
            );
        }
        panic!("seed {}: too many steps, at {:?}: {}", self.seed, self.now, self.judge.standing());
    }

    /// No more faults.
    fn calm(&mut self) {
        self.has_faults = false;
        self.start_node();
        if self.members.values().all(|member| member.is_closing) {
            self.join();
        }
        for member in self.members.values_mut() {
            member.is_slow = false;
            member.stopped_until = None;
            member.resume_all();
        }
        for partition in 0..self.written.len() {
            while self.written[partition] < END {
                self.append(partition);
            }
        }
    }

    /// Everything is done: the members leave, and nothing is left.
    fn part(mut self) -> Seen {
        let seed = self.seed;
        for member in self.members.values_mut().filter(|member| !member.is_closing) {
            member.close(Goodbye::Leave, self.now);
        }
        for _ in 0..STEPS_MAX {
            let left = if self.members.is_empty() { self.listed() } else { Vec::new() };
            // A static member that nobody came back for stays until its session ends.
            assert!(left.is_empty() || self.are_static, "seed {seed}: {left:?} are left in the group");
            if self.members.is_empty() && left.is_empty() {
                assert!(self.judge.is_finished(END), "seed {seed}: {}", self.judge.standing());
                return self.judge.seen;
            }
            assert!(
                self.now < Instant::ORIGIN + STORM + REST,
                "seed {seed}: {:?} stay, {left:?}",
                self.members.keys()
            );
            self.step();
        }
        panic!("seed {seed}: {:?} do not leave", self.members.keys());
    }

    fn step(&mut self) {
        if self.has_faults && self.next_fault <= self.now {
            self.disturb();
            self.next_fault = self.now + Duration::from_millis(u64::from(self.rng.below(3000)));
        }
        for number in self.members.keys().copied().collect::<Vec<_>>() {
            self.turn(number);
        }
        self.check_readers();
        self.pass();
        self.brokers.machine.handle_timeout(self.brokers.now(self.now));
        self.release();
        while let Some(((_, _), post)) = self.take_due() {
            match post {
                Post::Arrives(member, letter) => self.arrive(member, letter),
                Post::Returns(number, key, answer) => match self.members.get_mut(&number) {
                    Some(Member { stopped_until: Some(until), .. }) if *until > self.now => {
                        // It reads its sockets when it goes on.
                        let delay = *until - self.now;
                        self.post(delay, Post::Returns(number, key, answer));
                    }
                    Some(member) => member.hear(key, answer, self.now),
                    None => {}
                },
            }
        }
    }

    fn take_due(&mut self) -> Option<((Instant, u64), Post)> {
        let first = self.posts.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove_entry())
    }

    fn turn(&mut self, number: usize) {
        let Some(member) = self.members.get_mut(&number) else { return };
        member.stopped_until = member.stopped_until.filter(|until| *until > self.now);
        if member.stopped_until.is_some() {
            return;
        }
        let (letters, wants_metadata) = member.turn(&mut self.judge, self.now);
        for letter in letters {
            self.send(number, letter);
        }
        let Some(member) = self.members.get_mut(&number) else { return };
        if wants_metadata {
            let snapshot = Arc::new(self.brokers.snapshot(self.now));
            member.handle_metadata(&snapshot, self.now);
        }
        if member.is_fenced {
            self.remove(number);
        } else if member.is_gone() {
            if let Some(left) = member.leftovers() {
                panic!("seed {}: member {number} has closed and has left {left}", self.seed);
            }
            self.remove(number);
        }
    }

    /// A member is gone: it has closed, or was killed. Its requests that are on their way still arrive.
    fn remove(&mut self, number: usize) {
        self.members.remove(&number);
        self.held.retain(|held| held.member != number);
        self.judge.gone(number);
        self.free_names.extend(self.names.remove(&number));
    }

    /// Puts a letter on its way, or loses it.
    fn send(&mut self, member: usize, letter: Letter) {
        if self.chance(2) {
            return self.lose(member, letter.key);
        }
        let delay = self.delay();
        self.post(delay, Post::Arrives(member, letter));
    }

    fn delay(&mut self) -> Duration {
        let most = if self.chance(3) { 2000 } else { 20 };
        Duration::from_millis(u64::from(self.rng.below(most)))
    }

    fn post(&mut self, delay: Duration, post: Post) {
        self.next_post += 1;
        self.posts.insert((self.now + delay, self.next_post), post);
    }

    /// The member hears that its connection was cut, or nothing.
    fn lose(&mut self, member: usize, key: Key) {
        if self.rng.below(3) > 0 {
            let delay = self.delay();
            self.post(delay, Post::Returns(member, key, None));
        }
    }

    fn arrive(&mut self, member: usize, letter: Letter) {
        let Letter { key, node, call, .. } = letter;
        let up = (1..=NODES).filter(|node| self.down != Some(*node)).collect::<Vec<_>>();
        let node = node.unwrap_or_else(|| up[self.rng.below(up.len() as u32) as usize]);
        let Some(mut peer) = self.brokers.connect(node, self.now) else { return self.lose(member, key) };
        let taken = hand_over(&self.brokers, &mut peer, self.now, &call);
        if let (Call::Commit(request, _), Taken::Answered(Answer::Commit(response))) = (&call, &taken) {
            self.judge.commit_answered(request, response);
        }
        self.give_back(member, key, peer, taken);
    }

    fn give_back(&mut self, member: usize, key: Key, peer: Peer, taken: Taken) {
        match taken {
            Taken::Parked(parked, waits) => self.held.push(Held { member, key, waits, peer, parked }),
            Taken::Answered(_) if self.chance(2) => self.lose(member, key),
            Taken::Answered(answer) => {
                let delay = self.delay();
                self.post(delay, Post::Returns(member, key, Some(answer)));
            }
        }
    }

    /// Goes on with the requests that need not wait any longer.
    fn release(&mut self) {
        let now = self.brokers.now(self.now);
        let mut cx = Context::from_waker(Waker::noop());
        for held in std::mem::take(&mut self.held) {
            if held.parked.poll(&mut cx).is_pending() && held.parked.deadline() > now.instant {
                self.held.push(held);
                continue;
            }
            let Held { member, key, waits, mut peer, parked } = held;
            let taken = go_on(&self.brokers, &mut peer, self.now, waits, parked);
            self.give_back(member, key, peer, taken);
        }
    }

    /// Moves the time to the next thing that happens.
    fn pass(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.held.iter().any(|held| held.parked.poll(&mut cx).is_ready()) {
            return;
        }
        let at = |instant| Instant::after_origin(self.brokers.since_origin(instant));
        let posts = self.posts.first_key_value().map(|((at, _), _)| *at);
        let members = self.members.values().filter_map(|member| member.poll_timeout(self.now));
        let held = self.held.iter().map(|held| at(held.parked.deadline()));
        let broker = self.brokers.machine.poll_timeout().map(at);
        let fault = Some(self.next_fault).filter(|_| self.has_faults);
        let next = posts.into_iter().chain(members).chain(held).chain(broker).chain(fault).min();
        let next = next.unwrap_or(self.now + Duration::from_secs(1));
        // What is due now is due after the turn that has just been: time moves on, or it would stand still for ever.
        self.now = next.max(self.now + Duration::from_millis(1));
    }

    fn disturb(&mut self) {
        let partition = self.rng.below(self.written.len() as u32) as usize;
        self.append(partition);
        match self.rng.below(16) {
            0 | 1 if self.members.len() < MEMBERS_MAX => self.join(),
            2 if self.members.len() > 1 => {
                let how = if self.rng.below(2) == 0 { Goodbye::Usual } else { Goodbye::Leave };
                self.with_any(|member, _, now| {
                    if !member.is_closing {
                        member.close(how, now);
                    }
                });
            }
            3 if self.members.len() > 1 => {
                if let Some(number) = self.any_member() {
                    self.remove(number);
                }
            }
            4 => self.with_any(|member, _, _| member.is_slow = !member.is_slow),
            5 | 6 => {
                let node = 1 + self.rng.below(NODES as u32) as i32;
                let _ = self.brokers.machine.move_coordinator(GROUP, node);
            }
            7 => match self.down {
                None => {
                    let node = 1 + self.rng.below(NODES as u32) as i32;
                    self.brokers.machine.stop_node(node).expect("it is up");
                    self.down = Some(node);
                }
                Some(_) => self.start_node(),
            },
            8 => {
                let node = 1 + self.rng.below(NODES as u32) as i32;
                self.brokers.lead(partition as i32, node);
            }
            9 if self.rng.below(4) == 0 => self.restart(),
            // A topic has no replica on a node that is down.
            10 if self.down.is_none() && self.written.len() < PARTITIONS_MAX => self.grow(),
            11 | 12 => {
                let back = i64::from(self.rng.below(60));
                self.with_any(|member, judge, now| member.seek(partition as i32, back, judge, now));
            }
            13 => self.with_any(|member, _, _| member.flip(partition as i32)),
            14 => self.with_any(Member::commit),
            _ => {
                let time = Duration::from_millis(u64::from(self.rng.below(25_000)));
                self.with_any(|member, _, now| member.stopped_until = Some(now + time));
            }
        }
    }

    fn with_any(&mut self, act: impl FnOnce(&mut Member, &mut Judge, Instant)) {
        if let Some(number) = self.any_member()
            && let Some(member) = self.members.get_mut(&number)
        {
            act(member, &mut self.judge, self.now);
        }
    }

    /// All nodes are killed at once, and come back with what is on disk.
    fn restart(&mut self) {
        let Some(disk) = &self.disk else { return };
        // What was parked is lost with its connection.
        for Held { member, key, parked, .. } in std::mem::take(&mut self.held) {
            drop(parked);
            let delay = Duration::from_millis(u64::from(self.rng.below(20)));
            self.next_post += 1;
            self.posts.insert((self.now + delay, self.next_post), Post::Returns(member, key, None));
        }
        self.brokers.restart(|| builder(self.seed, Some(disk)));
        self.down = None;
        self.judge.seen.restarts += 1;
    }

    fn grow(&mut self) {
        self.written.push(0);
        self.brokers.operator(self.now).grow_topic(TOPIC, self.written.len() as i32);
        self.judge.grow();
    }

    fn start_node(&mut self) {
        if let Some(node) = self.down.take() {
            self.brokers.machine.start_node(node).expect("it is down");
        }
    }

    fn any_member(&mut self) -> Option<usize> {
        let numbers: Vec<_> = self.members.keys().copied().collect();
        let at = self.rng.below(numbers.len().max(1) as u32) as usize;
        numbers.get(at).copied()
    }

    fn join(&mut self) {
        // All members of a group have an assignor in common.
        let assignors: Vec<Arc<dyn assignors::Assignor>> = match self.seed / 2 % 4 {
            0 => assignors::defaults(),
            1 => vec![Arc::new(assignors::CooperativeSticky)],
            2 => vec![Arc::new(assignors::Sticky)],
            _ => vec![Arc::new(assignors::RoundRobin), Arc::new(assignors::Range)],
        };
        let number = self.next_member;
        self.next_member += 1;
        if self.are_static {
            let back = self.free_names.pop();
            self.judge.seen.returns += usize::from(back.is_some());
            self.names.insert(number, back.unwrap_or(number));
        }
        let settings = Settings {
            group_id: GROUP.into(),
            instance_id: self.names.get(&number).map(|name| format!("name-{name}").into()),
            rack: None,
            protocol: self.protocol,
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(1),
            rebalance_timeout: Duration::from_secs(20),
            max_poll_interval: Duration::from_secs(30),
            request_timeout: REQUEST_TIMEOUT,
            backoff: Backoff { min: Duration::from_millis(50), max: Duration::from_millis(500) },
            assignors: offer(&assignors).expect("they go together"),
            server_assignor: None,
        };
        let snapshot = Arc::new(self.brokers.snapshot(self.now));
        let member = Member::new(
            number,
            settings,
            self.pattern,
            self.seed ^ ((number as u64 + 1) << 32),
            snapshot,
            self.now,
        );
        self.members.insert(number, member);
    }

    /// No two members that are in the group, as the coordinator has it, read a partition at once.
    fn check_readers(&self) {
        for (partition, readers) in self.judge.shared() {
            let listed = self.listed();
            let is_listed = |number: &&usize| {
                let id = self.members.get(number).and_then(Member::id);
                id.is_some_and(|id| listed.contains(&id))
            };
            let readers: Vec<_> = readers.iter().filter(is_listed).collect();
            assert!(
                readers.len() < 2,
                "seed {}: {readers:?} of {listed:?} read partition {partition} at {:?}",
                self.seed,
                self.now
            );
        }
    }

    /// The ids of the group's members.
    fn listed(&self) -> Vec<String> {
        let operator = self.brokers.operator(self.now);
        let node = (1..=NODES).find(|node| self.down != Some(*node)).expect("one is down at most");
        let coordinator = operator.ask(node, 3, &find_coordinator());
        if coordinator.error_code != ErrorCode::NONE {
            return Vec::new();
        }
        match self.protocol {
            Protocol::Classic => {
                let request = DescribeGroupsRequest { groups: vec![GROUP.into()], ..Default::default() };
                let answer = operator.ask(coordinator.node_id, 5, &request);
                answer.groups[0].members.iter().map(|member| member.member_id.to_string()).collect()
            }
            Protocol::Automatic | Protocol::Consumer => {
                let request =
                    ConsumerGroupDescribeRequest { group_ids: vec![GROUP.into()], ..Default::default() };
                let answer = operator.ask(coordinator.node_id, 1, &request);
                answer.groups[0].members.iter().map(|member| member.member_id.to_string()).collect()
            }
        }
    }

    /// Writes a batch, unless the log has [`END`] records.
    fn append(&mut self, partition: usize) {
        let operator = self.brokers.operator(self.now);
        let Some(leader) = operator.leader(TOPIC, partition as i32).filter(|_| self.written[partition] < END)
        else {
            return;
        };
        let mut builder = BatchBuilder::new(&Pool::unpooled());
        // Older records would be deleted (`retention.ms`).
        let timestamp = self.brokers.now(self.now).unix_ms;
        for offset in self.written[partition]..self.written[partition] + BATCH {
            builder.append(timestamp, None, Some(&offset.to_be_bytes()), &[]).expect("fits");
        }
        let records = Some(builder.seal().into_bytes());
        let data = PartitionProduceData { index: partition as i32, records, ..Default::default() };
        let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() };
        let answer = operator.ask(leader, 12, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE, "written");
        self.written[partition] += BATCH;
    }
}
