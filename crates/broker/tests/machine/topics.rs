//! Creating, growing, describing and deleting topics.

use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
};
use milena_messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreatableTopicResult,
    CreateTopicsRequest,
};
use milena_messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use milena_messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsRequestCursor, TopicRequest,
};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponseTopic};

use crate::rig::{PRODUCE, Rig, batch, produce};

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    CreatableTopic { name: name.into(), num_partitions, replication_factor, ..Default::default() }
}

fn create(rig: &Rig, topics: Vec<CreatableTopic>, validate_only: bool) -> Vec<CreatableTopicResult> {
    rig.ask(1, 7, &CreateTopicsRequest { topics, validate_only, ..Default::default() }).topics
}

fn metadata(rig: &Rig, name: &str) -> MetadataResponseTopic {
    let topics = Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]);
    let request = MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() };
    rig.ask(1, 12, &request).topics.remove(0)
}

#[test]
fn what_cannot_be_created_is_refused_as_kafka_refuses_it() {
    let rig = Rig::new(3);
    create(&rig, vec![topic("taken", 1, 1), topic("a.b", 1, 1)], false);
    let assigned = |assignments: &[(i32, &[i32])]| CreatableTopic {
        assignments: assignments
            .iter()
            .map(|(index, nodes)| CreatableReplicaAssignment {
                partition_index: *index,
                broker_ids: nodes.to_vec(),
                ..Default::default()
            })
            .collect(),
        ..topic("t", -1, -1)
    };
    let configured = |name: &str, value: &str| CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: name.into(),
            value: Some(value.into()),
            ..Default::default()
        }],
        ..topic("t", 1, 1)
    };
    let with_count = CreatableTopic { num_partitions: 1, ..assigned(&[(0, &[1])]) };
    let table = [
        (topic("", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("a/b", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("a_b", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
        (topic("taken", 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS),
        (topic("t", 0, 1), ErrorCode::INVALID_PARTITIONS),
        (topic("t", -2, 1), ErrorCode::INVALID_PARTITIONS),
        (topic("t", i32::MAX, 1), ErrorCode::INVALID_PARTITIONS),
        (topic("t", 1, 0), ErrorCode::INVALID_REPLICATION_FACTOR),
        (topic("t", 1, 4), ErrorCode::INVALID_REPLICATION_FACTOR),
        (assigned(&[(1, &[1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[1]), (0, &[2])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[1, 1])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[9])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (assigned(&[(0, &[1]), (1, &[1, 2])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (with_count, ErrorCode::INVALID_REQUEST),
        (configured("no.such", "1"), ErrorCode::INVALID_CONFIG),
        (configured("segment.bytes", "many"), ErrorCode::INVALID_CONFIG),
    ];
    for (wanted, expected) in table {
        let result = create(&rig, vec![wanted.clone()], false).remove(0);
        assert_eq!(result.error_code, expected, "{wanted:?}");
        assert!(result.error_message.is_some());
    }
    let twice = create(&rig, vec![topic("t", 1, 1), topic("t", 1, 1)], false);
    assert_eq!((twice.len(), twice[0].error_code), (1, ErrorCode::INVALID_REQUEST));
    assert_eq!(metadata(&rig, "t").error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn a_created_topic_is_spread_over_the_nodes_and_described() {
    let rig = Rig::new(3);
    let result = create(&rig, vec![topic("t", 3, 2)], false).remove(0);
    assert_eq!((result.num_partitions, result.replication_factor), (3, 2));
    assert!(result.configs.expect("configs").iter().any(|config| config.name == "segment.bytes"));
    let found = metadata(&rig, "t");
    assert_eq!(found.topic_id, result.topic_id);
    let mut leaders: Vec<i32> = found.partitions.iter().map(|partition| partition.leader_id).collect();
    leaders.sort_unstable();
    assert_eq!(leaders, [1, 2, 3]);
    for partition in &found.partitions {
        assert_eq!((partition.replica_nodes.len(), &partition.isr_nodes), (2, &partition.replica_nodes));
    }
}

#[test]
fn an_assignment_is_followed_and_validation_creates_nothing() {
    let rig = Rig::new(3);
    let assignment = |partition_index, nodes: &[i32]| CreatableReplicaAssignment {
        partition_index,
        broker_ids: nodes.to_vec(),
        ..Default::default()
    };
    let wanted = CreatableTopic {
        assignments: vec![assignment(1, &[2, 3]), assignment(0, &[3, 1])],
        ..topic("t", -1, -1)
    };
    let result = create(&rig, vec![wanted.clone()], true).remove(0);
    assert_eq!((result.error_code, result.num_partitions), (ErrorCode::NONE, 2));
    assert!(result.topic_id.is_zero());
    assert_eq!(metadata(&rig, "t").error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    create(&rig, vec![wanted], false);
    let replicas: Vec<_> =
        metadata(&rig, "t").partitions.into_iter().map(|partition| partition.replica_nodes).collect();
    assert_eq!(replicas, [[3, 1], [2, 3]]);
}

#[test]
fn asking_for_metadata_creates_topics_when_both_sides_allow_it() {
    let ask = |rig: &Rig, name: &str, allow_auto_topic_creation| {
        let topics = Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]);
        let request = MetadataRequest { topics, allow_auto_topic_creation, ..Default::default() };
        let topic = rig.ask(1, 12, &request).topics.remove(0);
        (topic.error_code, topic.partitions.len())
    };
    let rig = Rig::with(Broker::builder().default_partitions(4));
    let unknown = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 0);
    assert_eq!(ask(&rig, "t", false), unknown);
    assert_eq!(ask(&rig, "t", true), (ErrorCode::NONE, 4));
    assert_eq!(ask(&rig, "t", false), (ErrorCode::NONE, 4));
    assert_eq!(ask(&rig, "a/b", true), (ErrorCode::INVALID_TOPIC_EXCEPTION, 0));
    let rig = Rig::with(Broker::builder().auto_create_topics(false));
    assert_eq!(ask(&rig, "t", true), unknown);
}

#[test]
fn a_topic_that_is_deleted_and_made_again_has_a_new_id_and_no_records() {
    let rig = Rig::new(1);
    rig.create("t", 1, &[]);
    rig.produce("t", 0, batch(&["a"], None));
    let old = metadata(&rig, "t").topic_id;
    let by_id = DeleteTopicState { name: None, topic_id: old, ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![by_id], ..Default::default() };
    let result = rig.ask(1, 6, &request).responses.remove(0);
    assert_eq!((result.error_code, result.name.as_deref()), (ErrorCode::NONE, Some("t")));
    assert_eq!(rig.ask(1, 6, &request).responses[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    rig.create("t", 1, &[]);
    assert_ne!(metadata(&rig, "t").topic_id, old);
    assert_eq!(rig.fetch("t", 0, 0).high_watermark, 0);
}

#[test]
fn partitions_are_added_behind_the_old_ones_which_keep_their_records() {
    let rig = Rig::new(1);
    rig.create("t", 2, &[]);
    rig.produce("t", 1, batch(&["a"], None));
    let grow = |count, validate_only| {
        let topic =
            CreatePartitionsTopic { name: "t".into(), count, assignments: None, ..Default::default() };
        let request = CreatePartitionsRequest { topics: vec![topic], validate_only, ..Default::default() };
        rig.ask(1, 3, &request).results.remove(0).error_code
    };
    assert_eq!(grow(2, false), ErrorCode::INVALID_PARTITIONS);
    assert_eq!(grow(5, true), ErrorCode::NONE);
    assert_eq!(metadata(&rig, "t").partitions.len(), 2);
    assert_eq!(grow(5, false), ErrorCode::NONE);
    assert_eq!(metadata(&rig, "t").partitions.len(), 5);
    assert_eq!(rig.fetch("t", 1, 0).high_watermark, 1);
    assert_eq!(rig.produce("t", 4, batch(&["b"], None)).error_code, ErrorCode::NONE);
}

#[test]
fn partitions_that_cannot_be_added_are_refused_as_kafka_refuses_them() {
    let rig = Rig::new(3);
    create(&rig, vec![topic("t", 2, 2)], false);
    let wanted = |count, of_each: Option<&[&[i32]]>| {
        let assignment =
            |nodes: &&[i32]| CreatePartitionsAssignment { broker_ids: nodes.to_vec(), ..Default::default() };
        let assignments = of_each.map(|of_each| of_each.iter().map(assignment).collect());
        CreatePartitionsTopic { name: "t".into(), count, assignments, ..Default::default() }
    };
    let ask = |topics: Vec<CreatePartitionsTopic>, validate_only| {
        let request = CreatePartitionsRequest { topics, validate_only, ..Default::default() };
        let results = rig.ask(1, 3, &request).results;
        results
            .into_iter()
            .map(|of| (of.error_code, of.error_message.map(|text| text.to_string()).unwrap_or_default()))
            .collect::<Vec<_>>()
    };
    let (count, replicas) = (ErrorCode::INVALID_PARTITIONS, ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    for (wanted, code, text) in [
        (wanted(2, None), count, "Topic already has 2 partition(s)."),
        (wanted(1, None), count, "The topic t currently has 2 partition(s); 1 would not be an increase."),
        (wanted(-22, None), count, "The topic t currently has 2 partition(s); -22 would not be an increase."),
        (
            wanted(4, Some(&[&[1, 2]])),
            replicas,
            "Attempted to add 2 additional partition(s), but only 1 assignment(s) were specified.",
        ),
        (
            wanted(3, Some(&[&[1, 2], &[2, 3]])),
            replicas,
            "Attempted to add 1 additional partition(s), but only 2 assignment(s) were specified.",
        ),
        (
            wanted(3, Some(&[&[1]])),
            replicas,
            "The manual partition assignment includes a partition with 1 replica(s), but this is not consistent with \
             previous partitions, which have 2 replica(s).",
        ),
        (
            wanted(3, Some(&[&[1, 7]])),
            replicas,
            "The manual partition assignment includes broker 7, but no such broker is registered.",
        ),
        (
            wanted(3, Some(&[&[1, 1]])),
            replicas,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            wanted(3, Some(&[&[]])),
            replicas,
            "The manual partition assignment includes an empty replica list.",
        ),
    ] {
        for validate_only in [true, false] {
            assert_eq!(ask(vec![wanted.clone()], validate_only), [(code, text.to_owned())]);
        }
    }
    let twice = vec![wanted(3, None), wanted(4, None)];
    assert_eq!(ask(twice, false), [(ErrorCode::INVALID_REQUEST, "Duplicate topic name.".to_owned())]);
    assert_eq!(metadata(&rig, "t").partitions.len(), 2, "nothing has changed");
    assert_eq!(ask(vec![wanted(4, Some(&[&[3, 1], &[2, 3]]))], false)[0].0, ErrorCode::NONE);
    let mut partitions = metadata(&rig, "t").partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    let replicas: Vec<_> =
        partitions[2..].iter().map(|of| (of.leader_id, of.replica_nodes.clone())).collect();
    assert_eq!(replicas, [(3, vec![3, 1]), (2, vec![2, 3])]);
}

#[test]
fn a_cluster_has_so_many_partitions_and_no_more() {
    let rig = Rig::new(1);
    let code = |name: &str, count| create(&rig, vec![topic(name, count, 1)], false).remove(0).error_code;
    assert_eq!(code("most", 99_998), ErrorCode::NONE);
    assert_eq!(code("three", 3), ErrorCode::INVALID_PARTITIONS);
    assert_eq!(code("two", 2), ErrorCode::NONE);
    assert_eq!(code("one", 1), ErrorCode::INVALID_PARTITIONS);
    let delete = DeleteTopicsRequest { topic_names: vec!["two".into()], ..Default::default() };
    assert_eq!(rig.ask(1, 5, &delete).responses[0].error_code, ErrorCode::NONE);
    assert_eq!(code("two", 2), ErrorCode::NONE);
}

#[test]
fn a_name_is_taken_until_its_topic_is_deleted() {
    let rig = Rig::new(1);
    let code = |name: &str| create(&rig, vec![topic(name, 1, 1)], false).remove(0).error_code;
    assert_eq!([code("a.b"), code("a_b")], [ErrorCode::NONE, ErrorCode::INVALID_TOPIC_EXCEPTION]);
    let delete = DeleteTopicsRequest { topic_names: vec!["a.b".into()], ..Default::default() };
    assert_eq!(rig.ask(1, 5, &delete).responses[0].error_code, ErrorCode::NONE);
    assert_eq!([code("a_b"), code("a.b")], [ErrorCode::NONE, ErrorCode::INVALID_TOPIC_EXCEPTION]);
}

#[test]
fn a_small_request_cannot_ask_for_much() {
    let rig = Rig::new(1);
    create(&rig, vec![topic("t", 1, 1)], false);
    let resource =
        || DescribeConfigsResource { resource_type: 2, resource_name: "t".into(), ..Default::default() };
    let describe = |count| {
        let resources = std::iter::repeat_with(resource).take(count).collect();
        rig.try_send(1, 4, &DescribeConfigsRequest { resources, ..Default::default() })
    };
    assert!(describe(1000).is_ok());
    let Err(refused) = describe(20_001) else { panic!("200 MB for 200 kB") };
    assert!(refused.to_string().contains("announces 20001, at most 20000 can be here"), "{refused}");
}

#[test]
fn a_request_creates_some_topics_by_naming_them_and_the_next_one_more() {
    let rig = Rig::new(1);
    let named = |n| MetadataRequestTopic { name: Some(format!("t{n}").into()), ..Default::default() };
    let request = MetadataRequest { topics: Some((0..250).map(named).collect()), ..Default::default() };
    let found = || {
        let topics = rig.ask(1, 12, &request).topics;
        topics.iter().filter(|topic| topic.error_code.is_none()).count()
    };
    assert_eq!([found(), found(), found(), found()], [100, 200, 250, 250]);
}

#[test]
fn configs_say_where_they_come_from() {
    let rig = Rig::with(Broker::builder().batch_bytes_max(5000));
    rig.create("t", 1, &[("min.insync.replicas", "3")]);
    let describe = |resource_type, name: &str, keys: &[&str]| {
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: Some(keys.iter().map(|&key| key.into()).collect()),
            ..Default::default()
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: true,
            ..Default::default()
        };
        rig.ask(1, 4, &request).results.remove(0)
    };
    let result = describe(2, "t", &["min.insync.replicas", "max.message.bytes", "segment.ms"]);
    let found: Vec<_> = result
        .configs
        .iter()
        .map(|config| (config.name.as_str(), config.value.as_deref(), config.config_source))
        .collect();
    assert_eq!(
        found,
        [
            ("max.message.bytes", Some("5000"), 4),
            ("min.insync.replicas", Some("3"), 1),
            ("segment.ms", Some("604800000"), 5),
        ]
    );
    assert_eq!(result.configs[1].synonyms.len(), 2);
    assert!(describe(2, "t", &[]).configs.len() > 30, "no keys ask for all");
    assert_eq!(describe(2, "gone", &[]).error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(describe(4, "1", &["broker.id"]).configs[0].value.as_deref(), Some("1"));
    assert_eq!(describe(4, "9", &[]).error_code, ErrorCode::INVALID_REQUEST);
}

#[test]
fn topics_are_described_page_by_page() {
    let rig = Rig::new(1);
    for name in ["a", "b", "c"] {
        rig.create(name, 3, &[]);
    }
    let mut cursor = None;
    let mut pages = Vec::new();
    loop {
        let request = DescribeTopicPartitionsRequest {
            topics: ["c", "a", "b", "gone"]
                .map(|name| TopicRequest { name: name.into(), ..Default::default() })
                .into(),
            response_partition_limit: 4,
            cursor,
            ..Default::default()
        };
        let response = rig.ask(1, 0, &request);
        pages.push(
            response
                .topics
                .iter()
                .map(|topic| (topic.name.clone().expect("a name").to_string(), topic.partitions.len()))
                .collect::<Vec<_>>(),
        );
        let Some(next) = response.next_cursor else { break };
        cursor = Some(DescribeTopicPartitionsRequestCursor {
            topic_name: next.topic_name,
            partition_index: next.partition_index,
            ..Default::default()
        });
    }
    let page = |topics: &[(&str, usize)]| -> Vec<(String, usize)> {
        topics.iter().map(|&(name, count)| (name.to_owned(), count)).collect()
    };
    assert_eq!(
        pages,
        [page(&[("a", 3), ("b", 1)]), page(&[("b", 2), ("c", 2)]), page(&[("c", 1), ("gone", 0)])]
    );
}

#[test]
fn sizes_are_those_of_the_logs_and_each_node_tells_of_its_replicas() {
    let rig = Rig::new(3);
    create(&rig, vec![topic("two", 2, 2), topic("one", 1, 1)], false);
    let sizes = |node: i32, topics: Option<Vec<DescribableLogDirTopic>>| {
        let mut answer = rig.ask(node, 4, &DescribeLogDirsRequest { topics, ..Default::default() });
        assert!(answer.error_code.is_none());
        let dir = answer.results.pop().expect("one");
        assert_eq!((dir.error_code, dir.log_dir.as_str(), dir.total_bytes), (ErrorCode::NONE, "memory", -1));
        let of = |topic: milena_messages::describe_log_dirs::DescribeLogDirsTopic| {
            let name = topic.name.to_string();
            topic.partitions.into_iter().map(move |of| (name.clone(), of.partition_index, of.partition_size))
        };
        dir.topics.into_iter().flat_map(of).collect::<Vec<_>>()
    };
    let leader = |name: &str| metadata(&rig, name).partitions[0].leader_id;
    let bytes = batch(&["a", "b"], None);
    for _ in 0..3 {
        let request = produce("two", 0, Some(bytes.clone()), -1);
        let answer = rig.ask(leader("two"), PRODUCE, &request);
        assert!(answer.responses[0].partition_responses[0].error_code.is_none());
    }
    let expected = 3 * bytes.len() as i64;
    let mut replicas = 0;
    for node in 1..=3 {
        let all = sizes(node, None);
        for (name, index, size) in &all {
            assert_eq!(*size, if (name.as_str(), *index) == ("two", 0) { expected } else { 0 });
        }
        replicas += all.len();
        // Named twice, or not there.
        let named = |topic: &str, partitions: &[i32]| DescribableLogDirTopic {
            topic: topic.into(),
            partitions: partitions.to_vec(),
            ..Default::default()
        };
        let asked = vec![named("two", &[0, 9, 0]), named("none", &[0]), named("two", &[0, -1])];
        let of_two: Vec<_> =
            all.iter().filter(|(name, index, _)| name == "two" && *index == 0).cloned().collect();
        assert_eq!(sizes(node, Some(asked)), of_two);
        assert_eq!(sizes(node, Some(Vec::new())), []);
    }
    assert_eq!(replicas, 2 * 2 + 1, "each replica once");
}
