//! Several classic members and a coordinator that keeps Kafka's rules, by seed: no partition has two readers at once, and when
//! members no longer come and go every partition has one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use milena_messages::heartbeat::HeartbeatResponse;
use milena_messages::join_group::{JoinGroupResponse, JoinGroupResponseMember};
use milena_messages::leave_group::LeaveGroupResponse;
use milena_messages::sync_group::SyncGroupResponse;

use super::super::testing::{Greedy, partitions, seconds, settings, start, texts, topics};
use super::*;
use crate::metadata::tests::snapshot;

/// Deals partitions out in turn, beginning elsewhere in each generation, so that many move. As cooperative assignors have to, it
/// withholds a partition that another member still owns (KIP-429).
#[derive(Debug)]
struct Dealer {
    says: Greedy,
}

impl Assignor for Dealer {
    fn name(&self) -> &str {
        "dealer"
    }

    fn is_cooperative(&self) -> bool {
        self.says.is_cooperative
    }

    fn metadata(&self, claim: &Claim<'_>) -> Bytes {
        self.says.metadata(claim)
    }

    fn topics(&self, members: &[Member]) -> Result<BTreeSet<Arc<str>>, Failure> {
        self.says.topics(members)
    }

    fn assign(&self, members: &[Member], snapshot: &Snapshot) -> Result<Vec<(Arc<str>, Bytes)>, Failure> {
        let text = |member: &Member| String::from_utf8(member.metadata.to_vec()).expect("text");
        let claims = members.iter().map(|member| {
            let text = text(member);
            let mut parts = text.split('|');
            let owned = partitions(parts.nth(1).unwrap_or_default());
            let generation: i32 = parts.next().and_then(|text| text.parse().ok()).unwrap_or_default();
            (owned, generation)
        });
        let claims: Vec<_> = claims.collect();
        // As soon as nothing is withheld the members stay as they are, so that the group comes to rest.
        let turn = claims.iter().map(|(_, generation)| *generation).max().unwrap_or_default() as usize / 4;
        let count = snapshot.topics["t"].as_ref().expect("a topic").partitions.len();
        let mut dealt = vec![BTreeSet::new(); members.len()];
        for index in 0..count {
            let partition = TopicPartition::new(&"t".into(), index as i32);
            let to = (index + turn) % members.len();
            let owner = claims.iter().position(|(owned, _)| owned.contains(&partition));
            if owner.is_none_or(|owner| owner == to) {
                dealt[to].insert(partition);
            }
        }
        Ok(members
            .iter()
            .zip(&dealt)
            .map(|(member, dealt)| (Arc::clone(&member.id), texts(dealt).into()))
            .collect())
    }

    fn decode(&self, assignment: &Bytes) -> Result<BTreeSet<TopicPartition>, Failure> {
        self.says.decode(assignment)
    }
}

/// A member and its driver.
struct Peer {
    member: Membership,
    held: BTreeSet<TopicPartition>,
    barriers: Vec<BTreeSet<TopicPartition>>,
    /// Requests that did not reach the coordinator yet, and answers that did not reach the member yet.
    out: Vec<Ask>,
    back: Vec<(u64, Response)>,
}

/// The coordinator of one group.
#[derive(Default)]
struct Coordinator {
    generation: i32,
    is_preparing: bool,
    /// By id: which peer it is, and its metadata.
    members: BTreeMap<String, (usize, Bytes)>,
    /// Ids that were given out and have not joined (KIP-394).
    pending: BTreeSet<String>,
    joins: BTreeMap<String, u64>,
    syncs: BTreeMap<String, u64>,
    assignments: BTreeMap<String, Bytes>,
    ids: u32,
}

impl Coordinator {
    fn handle(&mut self, peer: usize, ask: &Ask) -> Vec<(usize, u64, Response)> {
        match &ask.request {
            Request::Join(request) if request.member_id.is_empty() => {
                self.ids += 1;
                let id = format!("m{}", self.ids);
                let member_id = id.as_str().into();
                self.pending.insert(id);
                let error_code = ErrorCode::MEMBER_ID_REQUIRED;
                let response = JoinGroupResponse { error_code, member_id, ..Default::default() };
                vec![(peer, ask.number, Response::Join(response))]
            }
            Request::Join(request) => {
                let id = request.member_id.to_string();
                // LeaveGroup may overtake JoinGroup, which has a connection of its own.
                if !self.pending.remove(&id) && !self.members.contains_key(&id) {
                    let error_code = ErrorCode::UNKNOWN_MEMBER_ID;
                    let response = JoinGroupResponse { error_code, ..Default::default() };
                    return vec![(peer, ask.number, Response::Join(response))];
                }
                self.members.insert(id.clone(), (peer, request.protocols[0].metadata.clone()));
                self.joins.insert(id, ask.number);
                let mut answers = self.prepare();
                answers.extend(self.complete());
                answers
            }
            Request::Sync(request) => {
                let id = request.member_id.to_string();
                if let Err(error_code) = self.check(&id, request.generation_id, true) {
                    let response = SyncGroupResponse { error_code, ..Default::default() };
                    return vec![(peer, ask.number, Response::Sync(response))];
                }
                self.syncs.insert(id, ask.number);
                let given = request.assignments.iter();
                self.assignments.extend(given.map(|one| (one.member_id.to_string(), one.assignment.clone())));
                if self.assignments.is_empty() { Vec::new() } else { self.answer_syncs(ErrorCode::NONE) }
            }
            Request::Heartbeat(request) => {
                let checked = self.check(&request.member_id, request.generation_id, true);
                let error_code = checked.err().unwrap_or_default();
                let response = HeartbeatResponse { error_code, ..Default::default() };
                vec![(peer, ask.number, Response::Heartbeat(response))]
            }
            Request::Leave(request) => {
                let id = request.members[0].member_id.as_str();
                self.pending.remove(id);
                let was_in = self.members.remove(id).is_some();
                self.joins.remove(id);
                let mut answers = if was_in { self.prepare() } else { Vec::new() };
                answers.extend(self.complete());
                answers.push((peer, ask.number, Response::Leave(LeaveGroupResponse::default())));
                answers
            }
            Request::Consumer(_) => panic!("the members are classic"),
        }
    }

    fn check(&self, id: &str, generation: i32, is_strict: bool) -> Result<(), ErrorCode> {
        if !self.members.contains_key(id) {
            return Err(ErrorCode::UNKNOWN_MEMBER_ID);
        }
        if is_strict && generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if self.is_preparing { Err(ErrorCode::REBALANCE_IN_PROGRESS) } else { Ok(()) }
    }

    fn prepare(&mut self) -> Vec<(usize, u64, Response)> {
        self.is_preparing = true;
        self.assignments.clear();
        self.answer_syncs(ErrorCode::REBALANCE_IN_PROGRESS)
    }

    fn answer_syncs(&mut self, error_code: ErrorCode) -> Vec<(usize, u64, Response)> {
        let answer = |(id, number): (String, u64)| {
            let assignment = self.assignments.get(&id).cloned().unwrap_or_default();
            let (peer, _) = *self.members.get(&id).map(|(peer, bytes)| (*peer, bytes)).as_ref()?;
            Some((
                peer,
                number,
                Response::Sync(SyncGroupResponse { error_code, assignment, ..Default::default() }),
            ))
        };
        std::mem::take(&mut self.syncs).into_iter().filter_map(answer).collect()
    }

    /// Ends the rebalance when all members have joined.
    fn complete(&mut self) -> Vec<(usize, u64, Response)> {
        let is_complete = self.members.keys().all(|id| self.joins.contains_key(id));
        if !self.is_preparing || !is_complete {
            return Vec::new();
        }
        self.is_preparing = false;
        self.generation += 1;
        let Some(leader) = self.members.keys().next().cloned() else { return Vec::new() };
        let all = self.members.iter().map(|(id, (_, metadata))| JoinGroupResponseMember {
            member_id: id.as_str().into(),
            metadata: metadata.clone(),
            ..Default::default()
        });
        let all: Vec<_> = all.collect();
        let answer = |(id, number): (String, u64)| {
            let response = JoinGroupResponse {
                generation_id: self.generation,
                protocol_name: Some("dealer".into()),
                leader: leader.as_str().into(),
                members: if id == leader { all.clone() } else { Vec::new() },
                member_id: id.as_str().into(),
                ..Default::default()
            };
            Some((self.members.get(&id)?.0, number, Response::Join(response)))
        };
        std::mem::take(&mut self.joins).into_iter().filter_map(answer).collect()
    }
}

struct Company {
    peers: Vec<Peer>,
    coordinator: Coordinator,
    rng: Rng,
    now: Instant,
    moves: u32,
}

impl Company {
    fn new(seed: u64, is_cooperative: bool) -> Self {
        let peer = |index: u64| {
            let dealer: Arc<dyn Assignor> = Arc::new(Dealer { says: Greedy { is_cooperative } });
            let settings =
                Settings { protocol: Protocol::Classic, assignors: vec![dealer], ..settings(is_cooperative) };
            let mut member = Membership::new(settings, Rng::seeded(seed ^ index));
            member.handle_metadata(&Arc::new(snapshot("t", &[(1, 1); 7])), start());
            member.handle_waiting(true, start());
            let (held, barriers) = (BTreeSet::new(), Vec::new());
            Peer { member, held, barriers, out: Vec::new(), back: Vec::new() }
        };
        let peers = (0..4).map(peer).collect();
        Self { peers, coordinator: Coordinator::default(), rng: Rng::seeded(seed), now: start(), moves: 0 }
    }

    fn turn(&mut self, index: usize) {
        let peer = &mut self.peers[index];
        peer.member.handle_timeout(self.now);
        while let Some(event) = peer.member.poll_event() {
            match event {
                Event::Assign { partitions } => {
                    peer.held.extend(partitions);
                    self.moves += 1;
                }
                Event::Revoke { partitions, .. } => peer.barriers.push(partitions),
                Event::Lost { failure, .. } => panic!("no member is silent for a session: {failure}"),
                Event::Left(failure) | Event::Failed(failure) => panic!("{failure}"),
                Event::Slow { .. } => {}
            }
        }
        if peer.member.poll_coordinator_wanted(self.now) {
            peer.member.handle_coordinator(Ok(BrokerId(1)), self.now);
        }
        while let Some(ask) = peer.member.poll_request(self.now) {
            peer.out.push(ask);
        }
        let all: usize = self.peers.iter().map(|peer| peer.held.len()).sum();
        let held: BTreeSet<_> = self.peers.iter().flat_map(|peer| &peer.held).collect();
        assert_eq!(held.len(), all, "a partition has two readers");
    }

    fn step(&mut self) {
        let index = self.rng.below(self.peers.len() as u32) as usize;
        let peer = &mut self.peers[index];
        match self.rng.below(6) {
            // Heartbeats have a connection of their own, so any order may come.
            0 | 1 if !peer.out.is_empty() => {
                let ask = peer.out.remove(self.rng.below(peer.out.len() as u32) as usize);
                for (peer, number, response) in self.coordinator.handle(index, &ask) {
                    self.peers[peer].back.push((number, response));
                }
            }
            2 | 3 if !peer.back.is_empty() => {
                let (number, response) = peer.back.remove(self.rng.below(peer.back.len() as u32) as usize);
                peer.member.handle_response(number, response, self.now);
            }
            4 if !peer.barriers.is_empty() => {
                for released in peer.barriers.remove(0) {
                    peer.held.remove(&released);
                }
                peer.member.handle_released(self.now);
            }
            5 => self.now += Duration::from_millis(100),
            _ => {}
        }
        self.turn(index);
    }
}

#[test]
fn no_partition_has_two_readers_and_in_the_end_each_has_one() {
    let mut moves = 0;
    for seed in 0..40 {
        let mut company = Company::new(seed, seed % 2 == 0);
        for _ in 0..8 {
            let index = company.rng.below(4) as usize;
            let wanted = if company.rng.below(3) == 0 { Subscription::default() } else { topics(&["t"]) };
            company.peers[index].member.handle_subscription(wanted, company.now);
            for _ in 0..company.rng.below(400) {
                company.step();
            }
        }
        company.peers[0].member.handle_subscription(topics(&["t"]), company.now);
        let until = company.now + seconds(600);
        while company.peers.iter().map(|peer| peer.held.len()).sum::<usize>() < 7 {
            company.step();
            assert!(company.now < until, "seed {seed}: the group does not come to rest");
        }
        moves += company.moves;
    }
    assert!(moves > 200, "{moves} assignments are too few to prove anything");
}
