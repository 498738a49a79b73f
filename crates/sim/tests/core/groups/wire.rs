//! The requests of a member, and how the broker's machine answers each.

use milena_broker::{Parked, Peer};
use milena_core::group::commits::Lookup;
use milena_core::group::{Request, Response};
use milena_core::source::LaneId;
use milena_core::{Failure, Instant};
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use milena_messages::fetch::{FetchRequest, FetchResponse};
use milena_messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use milena_messages::heartbeat::HeartbeatRequest;
use milena_messages::join_group::JoinGroupRequest;
use milena_messages::leave_group::LeaveGroupRequest;
use milena_messages::list_offsets::{ListOffsetsRequest, ListOffsetsResponse};
use milena_messages::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use milena_messages::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
use milena_messages::offset_for_leader_epoch::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use milena_messages::sync_group::SyncGroupRequest;
use milena_sim::operator::{Asked, resume};

use super::GROUP;
use crate::brokers::Brokers;

/// Names a request of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Fetch(LaneId, u64),
    LookUp(u64),
    Validate(u64),
    Group(u64),
    Commit(u64),
    Offsets(u64),
    Coordinator(u64),
}

/// A request, at the version in which it is sent if that is not always the same.
#[derive(Debug)]
pub(super) enum Call {
    Fetch(FetchRequest, i16),
    LookUp(ListOffsetsRequest),
    Validate(OffsetForLeaderEpochRequest),
    Group(Request),
    Commit(OffsetCommitRequest, i16),
    Offsets(Lookup, i16),
    Coordinator,
}

/// A request to send.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) key: Key,
    /// None: any node.
    pub(super) node: Option<i32>,
    pub(super) call: Call,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
pub(super) enum Answer {
    Fetch(FetchResponse),
    LookUp(ListOffsetsResponse),
    Validate(OffsetForLeaderEpochResponse),
    Group(Response),
    Commit(OffsetCommitResponse),
    Offsets(OffsetFetchResponse),
    Coordinator(FindCoordinatorResponse),
}

/// The requests that the broker may park.
#[derive(Debug, Clone, Copy)]
pub(super) enum Waits {
    Fetch(i16),
    Join,
    Sync,
}

pub(super) enum Taken {
    Answered(Answer),
    Parked(Parked, Waits),
}

/// The latest versions that this test speaks.
pub(super) const FETCH: i16 = 16;
pub(super) const COMMIT: i16 = 10;
const LIST_OFFSETS: i16 = 8;
const EPOCHS: i16 = 4;
const JOIN: i16 = 9;
const SYNC: i16 = 5;
const HEARTBEAT: i16 = 4;
const LEAVE: i16 = 5;
const CONSUMER_HEARTBEAT: i16 = 1;
const FIND_COORDINATOR: i16 = 3;

pub(super) fn lost() -> Failure {
    Failure::Lost { peer: "a broker".into(), reason: "the connection was cut".into(), sent: true }
}

pub(super) fn find_coordinator() -> FindCoordinatorRequest {
    FindCoordinatorRequest { key: GROUP.into(), ..Default::default() }
}

/// Hands a request to the broker.
pub(super) fn hand_over(brokers: &Brokers, peer: &mut Peer, now: Instant, call: &Call) -> Taken {
    let group = |response| Answer::Group(response);
    match call {
        Call::Fetch(request, version) => taken::<FetchRequest>(
            brokers.ask(peer, *version, request, now),
            Answer::Fetch,
            Some(Waits::Fetch(*version)),
        ),
        Call::LookUp(request) => {
            taken::<ListOffsetsRequest>(brokers.ask(peer, LIST_OFFSETS, request, now), Answer::LookUp, None)
        }
        Call::Validate(request) => taken::<OffsetForLeaderEpochRequest>(
            brokers.ask(peer, EPOCHS, request, now),
            Answer::Validate,
            None,
        ),
        Call::Group(Request::Join(request)) => taken::<JoinGroupRequest>(
            brokers.ask(peer, JOIN, request, now),
            |response| group(Response::Join(response)),
            Some(Waits::Join),
        ),
        Call::Group(Request::Sync(request)) => taken::<SyncGroupRequest>(
            brokers.ask(peer, SYNC, request, now),
            |response| group(Response::Sync(response)),
            Some(Waits::Sync),
        ),
        Call::Group(Request::Heartbeat(request)) => taken::<HeartbeatRequest>(
            brokers.ask(peer, HEARTBEAT, request, now),
            |response| group(Response::Heartbeat(response)),
            None,
        ),
        Call::Group(Request::Leave(request)) => taken::<LeaveGroupRequest>(
            brokers.ask(peer, LEAVE, request, now),
            |response| group(Response::Leave(response)),
            None,
        ),
        Call::Group(Request::Consumer(request)) => taken::<ConsumerGroupHeartbeatRequest>(
            brokers.ask(peer, CONSUMER_HEARTBEAT, request, now),
            |response| group(Response::Consumer(response)),
            None,
        ),
        Call::Commit(request, version) => {
            taken::<OffsetCommitRequest>(brokers.ask(peer, *version, request, now), Answer::Commit, None)
        }
        Call::Offsets(lookup, version) => taken::<OffsetFetchRequest>(
            brokers.ask(peer, *version, &lookup.request(*version), now),
            Answer::Offsets,
            None,
        ),
        Call::Coordinator => taken::<FindCoordinatorRequest>(
            brokers.ask(peer, FIND_COORDINATOR, &find_coordinator(), now),
            Answer::Coordinator,
            None,
        ),
    }
}

/// Goes on with a request that the broker had parked.
pub(super) fn go_on(brokers: &Brokers, peer: &mut Peer, now: Instant, waits: Waits, parked: Parked) -> Taken {
    let (machine, at) = (&brokers.machine, brokers.now(now));
    match waits {
        Waits::Fetch(version) => taken::<FetchRequest>(
            resume::<FetchRequest>(machine, peer, at, version, parked),
            Answer::Fetch,
            Some(waits),
        ),
        Waits::Join => taken::<JoinGroupRequest>(
            resume::<JoinGroupRequest>(machine, peer, at, JOIN, parked),
            |response| Answer::Group(Response::Join(response)),
            Some(waits),
        ),
        Waits::Sync => taken::<SyncGroupRequest>(
            resume::<SyncGroupRequest>(machine, peer, at, SYNC, parked),
            |response| Answer::Group(Response::Sync(response)),
            Some(waits),
        ),
    }
}

fn taken<R: milena_messages::Request>(
    asked: Asked<R::Response>,
    answer: impl FnOnce(R::Response) -> Answer,
    waits: Option<Waits>,
) -> Taken {
    match (asked, waits) {
        (Asked::Answered(response), _) => Taken::Answered(answer(response)),
        (Asked::Parked(parked), Some(waits)) => Taken::Parked(parked, waits),
        (Asked::Parked(_), None) | (Asked::Silent, _) => panic!("{} is answered at once", R::NAME),
    }
}
