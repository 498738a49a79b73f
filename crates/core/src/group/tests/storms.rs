//! A coordinator that answers at once, the same way each time: whatever it says, the member asks it a few times a second at most,
//! and nothing panics.

use std::collections::BTreeSet;
use std::fmt::Debug;

use milena_messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatResponse, ConsumerGroupHeartbeatResponseTopicPartitions,
};
use milena_messages::heartbeat::HeartbeatResponse;
use milena_messages::join_group::JoinGroupResponse;
use milena_messages::leave_group::LeaveGroupResponse;
use milena_messages::sync_group::SyncGroupResponse;
use milena_wire::Uuid;

use super::super::testing::{settings, start, topics};
use super::*;
use crate::metadata::tests::{set_topic_id, snapshot};

const CODES: &[ErrorCode] = &[
    ErrorCode::NONE,
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::REBALANCE_IN_PROGRESS,
    ErrorCode::ILLEGAL_GENERATION,
    ErrorCode::UNKNOWN_MEMBER_ID,
    ErrorCode::MEMBER_ID_REQUIRED,
    ErrorCode::FENCED_MEMBER_EPOCH,
    ErrorCode::STALE_MEMBER_EPOCH,
    ErrorCode::UNRELEASED_INSTANCE_ID,
    ErrorCode::GROUP_ID_NOT_FOUND,
    ErrorCode::UNKNOWN_SERVER_ERROR,
    ErrorCode::GROUP_AUTHORIZATION_FAILED,
    // A code of a later version of Kafka.
    ErrorCode::from_i16(12_345),
];

/// How long the coordinator is asked.
const MINUTE: Duration = Duration::from_secs(60);
/// An answer takes this long.
const ROUND_TRIP: Duration = Duration::from_millis(1);
/// Heartbeats every 3 s, and retries of two kinds of requests each second, are 140 in a minute.
const REQUESTS_MAX: usize = 300;
/// The shortest interval that a coordinator can ask for is obeyed: it makes ten heartbeats a second.
const SHORT_MAX: usize = 700;

/// Counts the requests of a minute. What is revoked is released at once, and each assignment's commit or lookup is refused with
/// `refused`, if that is a code.
fn requests(
    protocol: Protocol,
    refused: ErrorCode,
    case: &impl Debug,
    mut answer: impl FnMut(&Ask) -> Response,
) -> usize {
    let mut member = Membership::new(Settings { protocol, ..settings(true) }, Rng::seeded(1));
    let mut now = start();
    member.handle_metadata(&cluster(), now);
    member.handle_waiting(true, now);
    member.handle_subscription(topics(&["t"]), now);
    let (mut count, mut held) = (0, BTreeSet::new());
    while now < start() + MINUTE {
        member.handle_timeout(now);
        let mut is_assigned = false;
        while let Some(event) = member.poll_event() {
            match event {
                Event::Assign { partitions } => {
                    assert!(held.is_disjoint(&partitions), "{case:?}: assigned twice: {partitions:?}");
                    held.extend(partitions);
                    is_assigned = true;
                }
                Event::Revoke { partitions, .. } => {
                    held.retain(|held| !partitions.contains(held));
                    member.handle_released(now);
                }
                Event::Lost { .. } => held.clear(),
                _ => {}
            }
        }
        let identity = member.identity();
        if let Some(identity) = identity.filter(|_| is_assigned && !refused.is_none()) {
            member.handle_commit_refused(refused, identity.generation_or_epoch, now);
            continue;
        }
        if member.poll_coordinator_wanted(now) {
            member.handle_coordinator(Ok(BrokerId(1)), now);
        }
        let mut asked = Vec::new();
        while let Some(ask) = member.poll_request(now) {
            asked.push(ask);
        }
        count += asked.len();
        if count > SHORT_MAX {
            break;
        }
        if asked.is_empty() {
            let Some(next) = member.poll_timeout() else { break };
            assert!(next > now, "{case:?}: it spins");
            now = next;
            continue;
        }
        now += ROUND_TRIP;
        for ask in asked {
            let response = answer(&ask);
            member.handle_response(ask.number, response, now);
        }
    }
    count
}

fn cluster() -> Arc<Snapshot> {
    let mut cluster = snapshot("t", &[(1, 1), (1, 1), (1, 1)]);
    set_topic_id(&mut cluster, "t", 1);
    Arc::new(cluster)
}

#[test]
fn no_answers_of_a_classic_coordinator_make_a_storm() {
    let mut storms = Vec::new();
    for join in CODES {
        for sync in CODES {
            for beat in CODES {
                // Nothing is committed before the member has an assignment.
                let is_in = join.is_none() && sync.is_none();
                for refused in CODES.iter().take(if is_in { CODES.len() } else { 1 }) {
                    let case = (join.name(), sync.name(), beat.name(), refused.name());
                    let mut generation = 0;
                    let count = requests(Protocol::Classic, *refused, &case, |ask| {
                        generation += 1;
                        classic_answer(ask, *join, *sync, *beat, generation)
                    });
                    if count > REQUESTS_MAX {
                        storms.push(case);
                    }
                }
            }
        }
    }
    assert!(storms.is_empty(), "{} storms, such as {:?}", storms.len(), &storms[..storms.len().min(12)]);
}

fn classic_answer(
    ask: &Ask,
    join: ErrorCode,
    sync: ErrorCode,
    beat: ErrorCode,
    generation_id: i32,
) -> Response {
    match &ask.request {
        Request::Join(request) => {
            let member_id = if request.member_id.is_empty() { "m".into() } else { request.member_id.clone() };
            Response::Join(JoinGroupResponse {
                error_code: join,
                generation_id,
                member_id,
                leader: "another".into(),
                protocol_name: Some("greedy".into()),
                ..Default::default()
            })
        }
        Request::Sync(_) => Response::Sync(SyncGroupResponse {
            error_code: sync,
            assignment: "t-0,t-1".into(),
            ..Default::default()
        }),
        Request::Heartbeat(_) => {
            Response::Heartbeat(HeartbeatResponse { error_code: beat, ..Default::default() })
        }
        Request::Leave(_) => Response::Leave(LeaveGroupResponse::default()),
        Request::Consumer(_) => panic!("{ask:?}"),
    }
}

/// What a coordinator of the consumer protocol assigns in each answer.
#[derive(Debug, Clone, Copy)]
enum Assigns {
    Nothing,
    TheSame,
    SomethingElse,
    AnUnknownTopic,
}

#[test]
fn no_answers_of_a_consumer_coordinator_make_a_storm() {
    let mut storms = Vec::new();
    for join in CODES {
        for beat in CODES {
            for assigns in
                [Assigns::Nothing, Assigns::TheSame, Assigns::SomethingElse, Assigns::AnUnknownTopic]
            {
                // The epoch and the interval that answers have.
                for (epoch, interval) in
                    [(1, 3000), (1, 0), (1, i32::MIN), (1, i32::MAX), (0, 3000), (-1, 3000)]
                {
                    for refused in [ErrorCode::NONE, ErrorCode::FENCED_MEMBER_EPOCH] {
                        let case = (join.name(), beat.name(), assigns, epoch, interval, refused.name());
                        let mut number = 0;
                        let count = requests(Protocol::Consumer, refused, &case, |ask| {
                            let Request::Consumer(request) = &ask.request else { panic!("{ask:?}") };
                            number += 1;
                            Response::Consumer(ConsumerGroupHeartbeatResponse {
                                error_code: if request.member_epoch == 0 { *join } else { *beat },
                                member_epoch: epoch,
                                heartbeat_interval_ms: interval,
                                assignment: assignment(assigns, number),
                                ..Default::default()
                            })
                        });
                        if count > if interval <= 0 { SHORT_MAX } else { REQUESTS_MAX } {
                            storms.push(case);
                        }
                    }
                }
            }
        }
    }
    assert!(storms.is_empty(), "{} storms, such as {:?}", storms.len(), &storms[..storms.len().min(12)]);
}

fn assignment(assigns: Assigns, number: i32) -> Option<Assignment> {
    let topic = |id: u8, partitions: Vec<i32>| ConsumerGroupHeartbeatResponseTopicPartitions {
        topic_id: Uuid::from_bytes([id; 16]),
        partitions,
        ..Default::default()
    };
    let topic = match assigns {
        Assigns::Nothing => return None,
        Assigns::TheSame => topic(1, vec![0, 1]),
        Assigns::SomethingElse => topic(1, vec![number % 3]),
        Assigns::AnUnknownTopic => topic(9, vec![number]),
    };
    Some(Assignment { topic_partitions: vec![topic], ..Default::default() })
}
