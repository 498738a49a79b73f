//! The same seed and the same requests at the same times have the same answers, byte for byte. A simulation that fails
//! can be run again only as long as that holds.

use std::fmt::Debug;
use std::time::Duration;

use milena_broker::{Answer, Broker, Parked};
use milena_messages::Request;
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::consumer_group_describe::ConsumerGroupDescribeRequest;
use milena_messages::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use milena_messages::create_topics::{CreatableTopic, CreateTopicsRequest};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::describe_cluster::DescribeClusterRequest;
use milena_messages::describe_groups::DescribeGroupsRequest;
use milena_messages::describe_topic_partitions::DescribeTopicPartitionsRequest;
use milena_messages::fetch::FetchRequest;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::join_group::JoinGroupRequest;
use milena_messages::list_groups::ListGroupsRequest;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::offset_commit::OffsetCommitRequest;
use milena_wire::Str;

use crate::groups::{Member, join_request};
use crate::groups_consumer::Member as Consumer;
use crate::groups_offsets::commit_request;
use crate::rig::{FETCH, PRODUCE, Rig, batch, fetch, frame, is_due, produce};

const NODES: i32 = 3;

/// One run, and its answers line by line.
struct Run {
    rig: Rig,
    said: Vec<String>,
    parked: Vec<Parked>,
    session_ids: Vec<i32>,
}

impl Run {
    fn say(&mut self, what: &str, said: impl Debug) {
        self.said.push(format!("{what}: {said:?}"));
    }

    fn ask<R: Request>(&mut self, node: i32, version: i16, request: &R) {
        match self.rig.handle(node, &frame(version, request)) {
            Ok(Answer::Later(parked)) => {
                self.parked.push(parked);
                self.say(R::NAME, "waits");
            }
            Ok(Answer::Now(frame)) => self.say(R::NAME, frame.to_vec()),
            Ok(Answer::Nothing) => self.say(R::NAME, "nothing"),
            Err(refused) => self.say(R::NAME, refused.to_string()),
        }
    }

    /// Asks for a new fetch session.
    fn open_session(&mut self, request: &FetchRequest) {
        let answer = self.rig.handle(1, &frame(FETCH, request)).expect("understood");
        let response = Rig::outcome::<FetchRequest>(FETCH, answer).answered();
        self.session_ids.push(response.session_id);
        self.say("session", response);
    }

    /// Which of the parked fetches would be woken, and what all of them are answered.
    fn resume(&mut self) {
        for parked in std::mem::take(&mut self.parked) {
            self.say("due", is_due(&parked));
            let mut peer = self.rig.connect(1);
            match self.rig.machine.resume(&mut peer, parked, self.rig.now, usize::MAX) {
                Ok(Answer::Now(frame)) => self.say("resumed", frame.to_vec()),
                other => self.say("resumed", other.is_ok()),
            }
        }
    }
}

impl Run {
    /// Members of groups come, under names or without, and vanish; others commit, and administrators look.
    fn churn(&mut self, round: i32, node: i32) {
        for group in 0..5 {
            let group_id = Str::from(format!("group-{group}"));
            let member = Member { instance: (round % 2 == 0).then(|| "i".into()), ..Member::default() };
            for version in [5, 9] {
                let request = JoinGroupRequest { group_id: group_id.clone(), ..join_request(&member) };
                self.ask(node, version, &request);
            }
            let offset = OffsetCommitRequest {
                group_id: format!("simple-{group}").into(),
                ..commit_request("topic-199", group % 3, i64::from(round))
            };
            self.ask(node, 9, &offset);
        }
        self.churn_consumers(round);
        self.ask(node, 5, &ListGroupsRequest::default());
        let groups = (0..5).map(|group| Str::from(format!("group-{group}"))).collect();
        self.ask(node, 6, &DescribeGroupsRequest { groups, ..Default::default() });
    }
}

impl Run {
    /// Members of the consumer protocol, some with a pattern, and classic ones among them: they share topics of which one
    /// is deleted in each round.
    fn churn_consumers(&mut self, round: i32) {
        for node in 1..=NODES {
            for group in 0..5 {
                for kind in 0..3 {
                    let pattern = (kind == 1).then(|| "topic-1.".into());
                    let id = format!("member-{}", (round + kind) % 7);
                    let member =
                        Consumer { pattern, ..Consumer::of(&id, &["topic-7", "topic-8", "topic-39"]) };
                    let group_id = Str::from(format!("consumers-{group}"));
                    let request =
                        ConsumerGroupHeartbeatRequest { group_id: group_id.clone(), ..member.request() };
                    self.ask(node, 1, &request);
                    if round % 10 == 9 {
                        let classic = Member { id: "classic".into(), ..Member::default() };
                        self.ask(node, 9, &JoinGroupRequest { group_id, ..join_request(&classic) });
                    }
                }
            }
            let group_ids = (0..5).map(|group| Str::from(format!("consumers-{group}"))).collect();
            self.ask(node, 1, &ConsumerGroupDescribeRequest { group_ids, ..Default::default() });
        }
    }
}

/// The names of this many topics, not in order.
fn names(count: usize) -> Vec<Str> {
    (0..count).map(|index| Str::from(format!("topic-{}", index * 7919 % count))).collect()
}

/// Topics made and deleted, records, producers, waiting fetches, more fetch sessions than there may be, leaders that
/// move, and hours that pass.
fn run() -> Vec<String> {
    let builder = Broker::builder().nodes(NODES as u16).default_partitions(2);
    let mut run =
        Run { rig: Rig::with(builder), said: Vec::new(), parked: Vec::new(), session_ids: Vec::new() };
    run.ask(1, 3, &ApiVersionsRequest::default());
    let topics = names(200).into_iter().map(|name| CreatableTopic {
        name,
        num_partitions: 3,
        replication_factor: 2,
        ..Default::default()
    });
    run.ask(1, 7, &CreateTopicsRequest { topics: topics.collect(), ..Default::default() });
    for round in 0..40_i32 {
        let node = 1 + round % NODES;
        for name in names(20) {
            run.ask(node, PRODUCE, &produce(&name, round % 3, Some(batch(&["a", "b"], None)), -1));
            let stamp = Some((i64::from(round % 5), 0, round / 5));
            run.ask(node, PRODUCE, &produce(&name, 0, Some(batch(&["c"], stamp)), 1));
        }
        run.ask(node, 5, &InitProducerIdRequest { transactional_id: None, ..Default::default() });
        for name in names(30) {
            // A session each: they are given out, found by random ids, and evicted by age and size.
            let partitions = [(0, 0), (1, 2), (2, 0)];
            let wanted = &partitions[..1 + round as usize % 3];
            let session = fetch(&name, wanted);
            run.open_session(&FetchRequest { session_epoch: 0, ..session.clone() });
            let waits = FetchRequest { max_wait_ms: 1000, min_bytes: 1 << 20, session_epoch: -1, ..session };
            run.ask(1, FETCH, &waits);
        }
        let name = format!("topic-{round}");
        let _ = run.rig.machine.move_leader(&name, 0, 1 + (round + 1) % NODES);
        run.resume();
        run.ask(node, 6, &DeleteTopicsRequest { topic_names: vec![name.into()], ..Default::default() });
        run.churn(round, node);
        let missing =
            MetadataRequestTopic { name: Some(format!("new-{round}").into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![missing.clone(), missing]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        run.ask(node, 9, &request);
        run.rig.pass(Duration::from_secs(30));
        if let Some(due) = run.rig.machine.poll_timeout() {
            run.say("due in", due.saturating_duration_since(run.rig.now.instant));
            run.rig.machine.handle_timeout(run.rig.now);
        }
    }
    // There were more than there may be: a wrong epoch tells which ones are left.
    for session_id in std::mem::take(&mut run.session_ids) {
        run.ask(1, FETCH, &FetchRequest { session_id, session_epoch: 1000, ..Default::default() });
    }
    run.ask(1, 12, &MetadataRequest { topics: None, ..Default::default() });
    run.ask(1, 0, &DescribeTopicPartitionsRequest { response_partition_limit: 100, ..Default::default() });
    run.ask(1, 2, &DescribeClusterRequest::default());
    run.said
}

#[test]
fn the_same_requests_at_the_same_times_have_the_same_answers() {
    let (first, second) = (run(), run());
    assert!(first.len() > 4000, "{} answers", first.len());
    assert!(first.iter().any(|said| said == "due: true") && first.iter().any(|said| said == "due: false"));
    for (index, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_eq!(first, second, "answer {index}");
    }
    assert_eq!(first.len(), second.len());
}
