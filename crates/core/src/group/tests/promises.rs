//! Both machines under random events by seed: what the contract of [`Membership`] promises holds, and when everything works
//! again the member is back in its group.

use std::collections::BTreeSet;

use milena_messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatResponse, ConsumerGroupHeartbeatResponseTopicPartitions,
};
use milena_messages::heartbeat::HeartbeatResponse;
use milena_messages::join_group::{JoinGroupResponse, JoinGroupResponseMember};
use milena_messages::leave_group::LeaveGroupResponse;
use milena_messages::sync_group::SyncGroupResponse;
use milena_wire::Uuid;

use super::super::testing::{seconds, settings, start, texts, topics};
use super::*;
use crate::metadata::tests::{set_topic_id, snapshot};

/// A driver that does what the contract asks of it, a coordinator that answers anything, and an application.
struct World {
    rng: Rng,
    member: Membership,
    now: Instant,
    out: Vec<Ask>,
    look_ups: u32,
    /// What the driver reads, revoked or not.
    held: BTreeSet<TopicPartition>,
    /// Revoke events to be answered, oldest first.
    barriers: Vec<(BTreeSet<TopicPartition>, Instant)>,
    generation: i32,
    failed: bool,
    is_waiting: bool,
    log: Vec<String>,
}

/// Enough to meet each planted fault that was tried, in about a second.
const SEEDS: u64 = 200;

const CODES: &[ErrorCode] = &[
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::REBALANCE_IN_PROGRESS,
    ErrorCode::ILLEGAL_GENERATION,
    ErrorCode::UNKNOWN_MEMBER_ID,
    ErrorCode::MEMBER_ID_REQUIRED,
    ErrorCode::FENCED_INSTANCE_ID,
    ErrorCode::FENCED_MEMBER_EPOCH,
    ErrorCode::STALE_MEMBER_EPOCH,
    ErrorCode::UNRELEASED_INSTANCE_ID,
    ErrorCode::UNKNOWN_SERVER_ERROR,
    ErrorCode::GROUP_AUTHORIZATION_FAILED,
];

impl World {
    fn new(seed: u64, protocol: Protocol) -> Self {
        let mut rng = Rng::seeded(seed);
        let instance_id = (rng.below(2) == 0).then(|| "static-1".into());
        let settings = Settings { protocol, instance_id, ..settings(rng.below(2) == 0) };
        let mut member = Membership::new(settings, Rng::seeded(seed));
        member.handle_subscription(topics(&["t"]), start());
        member.handle_metadata(&cluster(2), start());
        Self {
            rng,
            member,
            now: start(),
            out: Vec::new(),
            look_ups: 0,
            held: BTreeSet::new(),
            barriers: Vec::new(),
            generation: 0,
            failed: false,
            is_waiting: false,
            log: Vec::new(),
        }
    }

    /// Drains every poll, and checks what comes out.
    fn turn(&mut self) {
        self.member.handle_timeout(self.now);
        while let Some(event) = self.member.poll_event() {
            self.log.push(format!("{:?} {event:?}", self.now.since_origin()));
            self.check(event);
        }
        if self.member.poll_coordinator_wanted(self.now) {
            self.look_ups += 1;
            assert_eq!(self.look_ups, 1, "one look-up is on its way at most");
        }
        let before = self.out.len();
        while let Some(ask) = self.member.poll_request(self.now) {
            assert!(ask.deadline > self.now, "{ask:?}");
            self.log.push(format!("{:?} {:?} {}", self.now.since_origin(), ask.kind, ask.number));
            assert!(self.out.iter().all(|other| other.number != ask.number));
            self.out.push(ask);
        }
        assert!(self.out.len() - before <= 3, "no storm");
        while self.member.poll_metadata_wanted().is_some() {}
        while self.member.poll_notice().is_some() {}
        if let Some(at) = self.member.poll_timeout() {
            assert!(at > self.now, "it would spin: {at:?} at {:?}: {:?}", self.now, self.member);
        }
        if self.member.is_closed() {
            assert!(self.held.is_empty() && self.barriers.is_empty());
        }
    }

    fn check(&mut self, event: Event) {
        match event {
            Event::Assign { partitions } => {
                assert!(self.held.is_disjoint(&partitions), "assigned twice: {}", texts(&partitions));
                self.held.extend(partitions);
            }
            Event::Revoke { partitions, deadline } => {
                assert!(partitions.is_subset(&self.held) && !partitions.is_empty());
                let mut others = self.barriers.iter();
                assert!(others.all(|(other, _)| other.is_disjoint(&partitions)), "revoked twice");
                assert!(deadline > self.now);
                self.barriers.push((partitions, deadline));
            }
            Event::Lost { partitions, .. } => {
                assert_eq!(partitions, self.held, "everything is lost");
                self.held.clear();
                self.barriers.clear();
                assert!(self.member.identity().is_none());
            }
            Event::Failed(_) => self.failed = true,
            Event::Slow { .. } | Event::Left(_) => {}
        }
    }

    fn release(&mut self) {
        if !self.barriers.is_empty() {
            for partition in self.barriers.remove(0).0 {
                self.held.remove(&partition);
            }
            self.member.handle_released(self.now);
        }
    }

    /// Answers the oldest request, or any of them.
    fn answer(&mut self, code: ErrorCode) {
        if self.out.is_empty() {
            return;
        }
        let index = if code == ErrorCode::NONE { 0 } else { self.rng.below(self.out.len() as u32) as usize };
        let ask = self.out.remove(index);
        let response = self.response(&ask, code);
        self.log.push(format!("{:?} answered {} {code}", self.now.since_origin(), ask.number));
        self.member.handle_response(ask.number, response, self.now);
    }

    fn response(&mut self, ask: &Ask, error_code: ErrorCode) -> Response {
        match &ask.request {
            Request::Join(request) => {
                self.generation += 1;
                let id = if request.member_id.is_empty() { "m".into() } else { request.member_id.clone() };
                let leads = self.rng.below(2) == 0;
                let member = JoinGroupResponseMember {
                    member_id: id.clone(),
                    metadata: request.protocols[0].metadata.clone(),
                    ..Default::default()
                };
                Response::Join(JoinGroupResponse {
                    error_code,
                    generation_id: self.generation,
                    protocol_name: Some("greedy".into()),
                    leader: if leads { id.clone() } else { "another".into() },
                    members: if leads { vec![member] } else { Vec::new() },
                    member_id: id,
                    skip_assignment: leads && self.rng.below(3) == 0,
                    ..Default::default()
                })
            }
            Request::Sync(_) => {
                let some: Vec<_> = (0..4).filter(|_| self.rng.below(2) == 0).collect();
                let topic = |index: &i32| format!("{}-{index}", if *index == 3 { "u" } else { "t" });
                let assignment = some.iter().map(topic).collect::<Vec<_>>().join(",").into();
                Response::Sync(SyncGroupResponse { error_code, assignment, ..Default::default() })
            }
            Request::Heartbeat(_) => {
                Response::Heartbeat(HeartbeatResponse { error_code, ..Default::default() })
            }
            Request::Leave(_) => Response::Leave(LeaveGroupResponse { error_code, ..Default::default() }),
            Request::Consumer(request) => {
                let is_join = request.member_epoch == 0;
                self.generation += i32::from(is_join);
                let changes = is_join || self.rng.below(4) == 0;
                let topic = |id: u8, partitions: Vec<i32>| ConsumerGroupHeartbeatResponseTopicPartitions {
                    topic_id: Uuid::from_bytes([id; 16]),
                    partitions,
                    ..Default::default()
                };
                let mut some = |count| (0..count).filter(|_| self.rng.below(2) == 0).collect::<Vec<_>>();
                let topic_partitions = vec![topic(1, some(3)), topic(2, some(1)), topic(9, some(1))];
                let assignment = Assignment { topic_partitions, ..Default::default() };
                Response::Consumer(ConsumerGroupHeartbeatResponse {
                    error_code,
                    member_epoch: if request.member_epoch < 0 {
                        request.member_epoch
                    } else {
                        self.generation
                    },
                    heartbeat_interval_ms: 5000,
                    assignment: changes.then_some(assignment),
                    ..Default::default()
                })
            }
        }
    }

    fn look_up(&mut self, answer: Result<BrokerId, Failure>) {
        if self.look_ups > 0 {
            self.look_ups -= 1;
            self.member.handle_coordinator(answer, self.now);
        }
    }

    fn lose_one(&mut self) {
        if !self.out.is_empty() {
            let index = self.rng.below(self.out.len() as u32) as usize;
            let ask = self.out.remove(index);
            self.member.handle_lost(ask.number, &lost(), self.now);
        }
    }

    /// Time passes to the next timer, the next deadline or a random time before them.
    fn wait(&mut self) {
        let deadline = self.out.iter().map(|ask| ask.deadline).min();
        let barrier = self.barriers.iter().map(|(_, deadline)| *deadline).min();
        let timers = [self.member.poll_timeout(), deadline, barrier];
        let until = timers.into_iter().flatten().min().unwrap_or(self.now + seconds(1));
        let part = self.rng.below(4).max(1);
        self.now += (until - self.now) / part;
        self.keep_deadlines();
    }

    fn keep_deadlines(&mut self) {
        while let Some(index) = self.out.iter().position(|ask| ask.deadline <= self.now) {
            let ask = self.out.remove(index);
            self.member.handle_lost(ask.number, &lost(), self.now);
        }
        while self.barriers.iter().any(|(_, deadline)| *deadline <= self.now) {
            self.release();
        }
    }

    fn anything(&mut self) {
        match self.rng.below(20) {
            0..=6 => self.answer(ErrorCode::NONE),
            7 => {
                let code = CODES[self.rng.below(CODES.len() as u32) as usize];
                self.answer(code);
            }
            8 => self.lose_one(),
            9 | 10 => {
                let broker = BrokerId(self.rng.below(2) as i32);
                self.look_up(Ok(broker));
            }
            11 => self.look_up(Err(lost())),
            12 | 13 => self.release(),
            14 => {
                let all: [&[&str]; 4] = [&["t"], &["t", "u"], &["u"], &[]];
                let some = all[self.rng.below(4) as usize];
                self.member.handle_subscription(topics(some), self.now);
            }
            15 => {
                let snapshot = cluster(1 + self.rng.below(3) as usize);
                self.member.handle_metadata(&snapshot, self.now);
            }
            16 => self.member.handle_progress(self.now),
            17 if self.rng.below(3) == 0 => {
                let code = CODES[self.rng.below(CODES.len() as u32) as usize];
                self.member.handle_commit_refused(code, self.generation, self.now);
            }
            17 => {
                self.is_waiting = !self.is_waiting;
                self.member.handle_waiting(self.is_waiting, self.now);
            }
            _ => self.wait(),
        }
    }

    /// Everything works, and the application takes what there is.
    fn work_well(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.look_up(Ok(BrokerId(1)));
            self.turn();
            if self.out.is_empty() && self.barriers.is_empty() {
                self.wait();
                self.member.handle_progress(self.now);
            }
            self.answer(ErrorCode::NONE);
            self.release();
            self.turn();
            if self.member.is_closed() {
                return;
            }
        }
    }
}

fn lost() -> Failure {
    Failure::Lost { peer: "b:1".into(), reason: "closed".into(), sent: true }
}

fn cluster(count: usize) -> Arc<Snapshot> {
    let mut cluster = snapshot("t", &vec![(1, 1); count]);
    set_topic_id(&mut cluster, "t", 1);
    let mut more = snapshot("u", &[(1, 1)]);
    set_topic_id(&mut more, "u", 2);
    cluster.topics.extend(more.topics);
    Arc::new(cluster)
}

fn run(seed: u64, protocol: Protocol) {
    let mut world = World::new(seed, protocol);
    let report = |world: &World, what: &str| {
        let log = world.log.join("\n");
        panic!("seed {seed}, {protocol:?}: {what}\n{log}\n{:?}", world.member);
    };
    for _ in 0..300 {
        world.turn();
        world.anything();
    }
    world.turn();
    world.failed = false;
    world.member.handle_subscription(topics(&["t", "u"]), world.now);
    world.work_well(seconds(600));
    if world.failed || world.member.identity().is_none() {
        report(&world, "it is not back in its group");
    }
    world.member.handle_close(Goodbye::Usual, world.now);
    world.work_well(seconds(600));
    if !world.member.is_closed() {
        report(&world, "it does not close");
    }
}

#[test]
fn the_promises_hold_whatever_happens() {
    for seed in 0..SEEDS {
        run(seed, Protocol::Classic);
        run(seed, Protocol::Consumer);
    }
}
