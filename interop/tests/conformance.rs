//! Sends the same requests to real Kafka and to the embedded broker, which must give the same answers. It is the only check of
//! our broker that does not depend on our understanding of the protocol.

use bytes::Bytes;
use milena_broker::Broker;
use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::create_topics::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::describe_cluster::DescribeClusterRequest;
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::describe_topic_partitions::{DescribeTopicPartitionsRequest, TopicRequest};
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::Uuid;
use milena_wire::batch::{Attributes, BatchBuilder, BatchMut};
use milena_wire::pool::Pool;

/// A broker and its answers so far.
struct Witness {
    bootstrap: String,
    raw: Raw,
    said: Vec<String>,
}

const TOPIC: &str = "conformance";

/// Records are created in 2023, so that both brokers find them neither too old nor too new.
const CREATED: i64 = 1_700_000_000_000;

impl Witness {
    fn question(bootstrap: &str) -> Vec<String> {
        let mut raw = Raw::connect(bootstrap).expect("connects");
        // A cluster that outlives the test may have them from an earlier run.
        let topic_names = [TOPIC, "a.b"].map(Into::into).into();
        let request = DeleteTopicsRequest { topic_names, timeout_ms: 5000, ..Default::default() };
        raw.call(&request, 5).expect("answered");
        raw.create_topic(TOPIC, 2).expect("created");
        let mut witness = Self { bootstrap: bootstrap.to_owned(), raw, said: Vec::new() };
        witness.produce();
        witness.sequences();
        witness.offsets();
        witness.epochs();
        witness.fetch();
        witness.sessions();
        witness.topics();
        witness.cluster();
        witness.said
    }

    fn note(&mut self, question: &str, answer: &dyn std::fmt::Debug) {
        self.said.push(format!("{question}: {answer:?}"));
    }

    fn send(&mut self, index: i32, records: Option<Bytes>, acks: i16, topic: &str, version: i16) -> String {
        let data = PartitionProduceData { index, records, ..Default::default() };
        let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks, timeout_ms: 5000, topic_data: vec![topic], ..Default::default() };
        match self.raw.call(&request, version) {
            Ok(response) => {
                let partition = &response.responses[0].partition_responses[0];
                let (code, offset) = (partition.error_code, partition.base_offset);
                format!(
                    "{code} at {offset}, {}, {}",
                    partition.log_append_time_ms, partition.log_start_offset
                )
            }
            Err(_) => {
                self.raw = Raw::connect(&self.bootstrap).expect("connects");
                "no answer".to_owned()
            }
        }
    }

    /// Every way a batch can be wrong.
    fn produce(&mut self) {
        let whole = batch(&["first", "second"], None);
        let flipped = |at: usize| {
            let mut raw = whole.to_vec();
            raw[at] ^= 1;
            Bytes::from(raw)
        };
        let table = [
            ("nothing", Some(Bytes::new())),
            ("two batches", Some([&whole[..], &whole[..]].concat().into())),
            ("a flipped bit in a record", Some(flipped(70))),
            ("a flipped bit in the timestamps", Some(flipped(30))),
            ("a control batch", Some(with_attributes(Attributes::default().with_control(true)))),
            ("no records", Some(changed(|raw| raw[57..61].fill(0)))),
            ("more records than offsets", Some(changed(|raw| raw[60] = 3))),
            ("more records than there are", Some(changed(|raw| (raw[26], raw[60]) = (2, 3)))),
            ("fewer records than there are", Some(changed(|raw| (raw[26], raw[60]) = (0, 1)))),
            ("a record longer than its batch", Some(changed(|raw| raw[61] = 0x7e))),
            ("far in the future", Some(batch_at(4_000_000_000_000, &["x"], None))),
            ("too large", Some(batch(&[&"x".repeat(2_000_000)], None))),
            ("sound", Some(whole.clone())),
        ];
        for (what, records) in table {
            let answer = self.send(0, records, -1, TOPIC, 12);
            self.note(&format!("produce {what}"), &answer);
        }
        let zstd = with_attributes(Attributes::from_bits(4));
        for (what, index, records, acks, topic, version) in [
            ("zstd at version 6", 0, zstd, -1, TOPIC, 6),
            ("acks 2", 0, whole.clone(), 2, TOPIC, 12),
            ("partition 2", 2, whole.clone(), -1, TOPIC, 12),
            ("partition -1", -1, whole.clone(), -1, TOPIC, 12),
            ("an unknown topic", 0, whole.clone(), -1, "nowhere", 12),
            ("the zero id", 0, whole, -1, TOPIC, 13),
        ] {
            let answer = self.send(index, Some(records), acks, topic, version);
            self.note(&format!("produce {what}"), &answer);
        }
    }

    /// Idempotence, in partition 1: new, known, out of order and fenced batches.
    fn sequences(&mut self) {
        let id = 4_000_000;
        for (epoch, sequence, count) in [
            (0, 5, 1), // unknown producers may start at any sequence
            (0, 6, 2),
            (0, 6, 2),
            (0, 6, 1),
            (0, 9, 1),
            (0, 8, 1),
            (0, 9, 1),
            (0, 10, 1),
            (0, 11, 1),
            (0, 12, 1),
            (0, 8, 1),
            (0, 6, 2),
            (0, 5, 1),
            (2, 1, 1),
            (2, 0, 1),
            (1, 0, 1),
            (0, 13, 1),
            (2, 1, 1),
            (2, 0, 1),
        ] {
            let values = vec!["v"; count];
            let answer = self.send(1, Some(batch(&values, Some((id, epoch, sequence)))), -1, TOPIC, 12);
            self.note(&format!("epoch {epoch}, sequence {sequence}, {count} records"), &answer);
        }
        let wrap = [(i32::MAX - 1, 4), (2, 1), (4, 1), (3, 1)];
        for (sequence, count) in wrap {
            let answer =
                self.send(1, Some(batch(&vec!["v"; count], Some((id + 1, 0, sequence)))), -1, TOPIC, 12);
            self.note(&format!("sequence {sequence}, {count} records"), &answer);
        }
    }

    fn offsets(&mut self) {
        for (version, timestamp) in [10, 11].into_iter().flat_map(|version| {
            let times = [-1, -2, -3, -4, -5, -6, -7, 0, CREATED, CREATED + 1, CREATED + 2, i64::MAX];
            times.map(|time| (version, time))
        }) {
            for (topic, partition_index, current_leader_epoch) in
                [(TOPIC, 0, -1), (TOPIC, 0, 0), (TOPIC, 0, 9), (TOPIC, 7, -1), ("nowhere", 0, -1)]
            {
                let partition = ListOffsetsPartition {
                    partition_index,
                    current_leader_epoch,
                    timestamp,
                    ..Default::default()
                };
                let topic = ListOffsetsTopic {
                    name: topic.into(),
                    partitions: vec![partition],
                    ..Default::default()
                };
                let request =
                    ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
                let response = self.raw.call(&request, version).expect("answered");
                let found = &response.topics[0].partitions[0];
                let answer = (found.error_code, found.timestamp, found.offset, found.leader_epoch);
                let question = format!(
                    "offset at {timestamp}, version {version}, {partition_index}, {current_leader_epoch}"
                );
                self.note(&question, &answer);
            }
        }
    }

    fn epochs(&mut self) {
        for (topic, current_leader_epoch, leader_epoch) in [
            (TOPIC, -1, 0),
            (TOPIC, 0, 0),
            (TOPIC, 5, 0),
            (TOPIC, -1, 3),
            (TOPIC, -1, -1),
            ("nowhere", -1, 0),
        ] {
            let partition =
                OffsetForLeaderPartition { current_leader_epoch, leader_epoch, ..Default::default() };
            let topic = OffsetForLeaderTopic {
                topic: topic.into(),
                partitions: vec![partition],
                ..Default::default()
            };
            let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
            let response = self.raw.call(&request, 4).expect("answered");
            let end = &response.topics[0].partitions[0];
            let answer = (end.error_code, end.leader_epoch, end.end_offset);
            self.note(&format!("end of epoch {leader_epoch}, current {current_leader_epoch}"), &answer);
        }
    }

    fn fetch(&mut self) {
        for (what, topic, partition, fetch_offset, epoch, last_epoch) in [
            ("the start", TOPIC, 0, 0, -1, -1),
            ("in a batch", TOPIC, 0, 1, -1, -1),
            ("the end", TOPIC, 0, 2, -1, -1),
            ("behind the end", TOPIC, 0, 3, -1, -1),
            ("before the start", TOPIC, 0, -1, -1, -1),
            ("its epoch", TOPIC, 0, 0, 0, -1),
            ("a newer epoch", TOPIC, 0, 0, 4, -1),
            ("after its epoch", TOPIC, 0, 2, -1, 0),
            ("after a newer epoch", TOPIC, 0, 2, -1, 4),
            ("no such partition", TOPIC, 9, 0, -1, -1),
            ("no such topic", "nowhere", 0, 0, -1, -1),
        ] {
            let wanted = FetchPartition {
                partition,
                fetch_offset,
                current_leader_epoch: epoch,
                last_fetched_epoch: last_epoch,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            };
            for isolation_level in [0, 1] {
                let topic = FetchTopic {
                    topic: topic.into(),
                    partitions: vec![wanted.clone()],
                    ..Default::default()
                };
                let topics = vec![topic];
                let request = FetchRequest { min_bytes: 1, isolation_level, topics, ..Default::default() };
                let mut response = self.raw.call(&request, 12).expect("answered");
                // Batches are the same to the byte: offsets, epochs, checksums.
                let answer = response.responses.remove(0).partitions.remove(0);
                self.note(&format!("fetch {what}"), &answer);
            }
        }
    }

    /// One fetch in a session: the error, whether there is a session, and the partitions in the answer.
    fn in_session(&mut self, what: &str, request: &FetchRequest, version: i16) -> i32 {
        let response = self.raw.call(request, version).expect("answered");
        let told: Vec<_> = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions)
            .map(|data| (data.partition_index, data.error_code, data.records.as_ref().map(Bytes::len)))
            .collect();
        self.note(&format!("session {what}"), &(response.error_code, response.session_id != 0, told));
        response.session_id
    }

    fn sessions(&mut self) {
        let request = |session_id, session_epoch, wanted: &[(i32, i64)]| {
            let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
                partition,
                fetch_offset,
                partition_max_bytes: 1 << 20,
                ..Default::default()
            };
            let partitions: Vec<_> = wanted.iter().map(partition).collect();
            let topic = FetchTopic { topic: TOPIC.into(), partitions, ..Default::default() };
            let topics = if wanted.is_empty() { Vec::new() } else { vec![topic] };
            FetchRequest { session_id, session_epoch, topics, ..Default::default() }
        };
        let id = self.in_session("opens", &request(0, 0, &[(0, 2), (1, 0), (5, 0)]), 12);
        self.in_session("moves on", &request(id, 1, &[(1, 1)]), 12);
        self.in_session("with an old epoch", &request(id, 1, &[]), 12);
        self.in_session("by topic id", &request(id, 2, &[]), 13);
        let mut forget = request(id, 2, &[]);
        let topic = ForgottenTopic { topic: TOPIC.into(), partitions: vec![1, 5], ..Default::default() };
        forget.forgotten_topics_data = vec![topic];
        self.in_session("forgets", &forget, 12);
        let answer = self.send(0, Some(batch(&["news"], None)), -1, TOPIC, 12);
        self.note("produce news", &answer);
        self.in_session("hears news", &request(id, 3, &[]), 12);
        self.in_session("hears it again", &request(id, 4, &[]), 12);
        self.in_session("is done with it", &request(id, 5, &[(0, 3)]), 12);
        self.in_session("is silent", &request(id, 6, &[]), 12);
        self.in_session("ends", &request(id, -1, &[]), 12);
        self.in_session("is gone", &request(id, 7, &[]), 12);
        self.in_session("opens with nothing", &request(0, 0, &[]), 12);
    }

    fn create(&mut self, what: &str, topics: Vec<CreatableTopic>, validate_only: bool) {
        let request = CreateTopicsRequest { topics, timeout_ms: 5000, validate_only, ..Default::default() };
        let response = self.raw.call(&request, 7).expect("answered");
        let answers: Vec<_> = response
            .topics
            .iter()
            .map(|topic| (topic.error_code, topic.num_partitions, topic.replication_factor))
            .collect();
        self.note(&format!("create {what}"), &answers);
    }

    fn topics(&mut self) {
        let plain = |name: &str, num_partitions, replication_factor| CreatableTopic {
            name: name.into(),
            num_partitions,
            replication_factor,
            ..Default::default()
        };
        let node =
            self.raw.call(&MetadataRequest { topics: None, ..Default::default() }, 12).expect("answered");
        let node = node.brokers[0].node_id;
        let assigned = |num_partitions, assignments: &[(i32, &[i32])]| CreatableTopic {
            assignments: assignments
                .iter()
                .map(|(index, nodes)| CreatableReplicaAssignment {
                    partition_index: *index,
                    broker_ids: nodes.to_vec(),
                    ..Default::default()
                })
                .collect(),
            ..plain("assigned", num_partitions, num_partitions as i16)
        };
        let configured = |name: &str, value: Option<&str>| CreatableTopic {
            configs: vec![CreatableTopicConfig {
                name: name.into(),
                value: value.map(Into::into),
                ..Default::default()
            }],
            ..plain("configured", 1, 1)
        };
        for (what, topic) in [
            ("without a name", plain("", 1, 1)),
            ("a dot", plain(".", 1, 1)),
            ("a slash", plain("a/b", 1, 1)),
            ("a long name", plain(&"x".repeat(250), 1, 1)),
            ("again", plain(TOPIC, 1, 1)),
            ("no partitions", plain("t", 0, 1)),
            ("fewer", plain("t", -2, 1)),
            ("no replicas", plain("t", 1, 0)),
            ("too many replicas", plain("t", 1, 2)),
            ("a gap", assigned(-1, &[(1, &[node])])),
            ("twice the same partition", assigned(-1, &[(0, &[node]), (0, &[node])])),
            ("no nodes", assigned(-1, &[(0, &[])])),
            ("a node twice", assigned(-1, &[(0, &[node, node])])),
            ("an unknown node", assigned(-1, &[(0, &[99])])),
            ("uneven", assigned(-1, &[(0, &[node]), (1, &[])])),
            ("assignment and count", assigned(1, &[(0, &[node])])),
            ("an unknown config", configured("no.such", Some("1"))),
            ("a config of null", configured("retention.ms", None)),
            ("a config of words", configured("retention.ms", Some("long"))),
            ("a config too low", configured("retention.ms", Some("-2"))),
            ("a policy", configured("cleanup.policy", Some("keep"))),
        ] {
            self.create(what, vec![topic], false);
        }
        self.create("twice", vec![plain("t", 1, 1), plain("t", 1, 1)], false);
        self.create("only in thought", vec![plain("t", 3, 1)], true);
        self.create("a.b", vec![plain("a.b", 1, 1)], false);
        self.create("a_b", vec![plain("a_b", 1, 1)], false);
        for (name, count) in [("nowhere", 3), (TOPIC, 2), (TOPIC, 1), (TOPIC, -1)] {
            let topic =
                CreatePartitionsTopic { name: name.into(), count, assignments: None, ..Default::default() };
            let request =
                CreatePartitionsRequest { topics: vec![topic], timeout_ms: 5000, ..Default::default() };
            let response = self.raw.call(&request, 3).expect("answered");
            self.note(&format!("{count} partitions for {name}"), &response.results[0].error_code);
        }
        let request = DeleteTopicsRequest {
            topic_names: vec!["nowhere".into()],
            timeout_ms: 5000,
            ..Default::default()
        };
        let response = self.raw.call(&request, 5).expect("answered");
        self.note("delete nowhere", &response.responses[0].error_code);
        self.describe();
    }

    fn describe(&mut self) {
        for (version, name, topic_id) in [
            (12, Some("nowhere"), Uuid::ZERO),
            (12, Some("a/b"), Uuid::ZERO),
            (12, Some(TOPIC), Uuid::ZERO),
            (12, None, Uuid::from_bytes([1; 16])),
            (1, Some("nowhere"), Uuid::ZERO),
        ] {
            let topic = MetadataRequestTopic { name: name.map(Into::into), topic_id, ..Default::default() };
            let request = MetadataRequest {
                topics: Some(vec![topic]),
                allow_auto_topic_creation: version < 4,
                include_topic_authorized_operations: version >= 8,
                ..Default::default()
            };
            if version < 4 {
                continue; // would create it
            }
            let response = self.raw.call(&request, version).expect("answered");
            let topic = &response.topics[0];
            let name = topic.name.as_ref().map(ToString::to_string);
            let answer = (topic.error_code, name, topic.topic_authorized_operations, topic.partitions.len());
            self.note("metadata", &answer);
        }
        for (resource_type, name) in [(2, "nowhere"), (2, "a/b"), (4, "77"), (4, "x"), (9, "x")] {
            let resource = DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
                ..Default::default()
            };
            let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
            let response = self.raw.call(&request, 4).expect("answered");
            let result = &response.results[0];
            self.note(
                &format!("configs of {resource_type} {name}"),
                &(result.error_code, result.configs.len()),
            );
        }
        for name in ["nowhere", "a/b", TOPIC] {
            let topics = vec![TopicRequest { name: name.into(), ..Default::default() }];
            let request = DescribeTopicPartitionsRequest { topics, cursor: None, ..Default::default() };
            let response = self.raw.call(&request, 0).expect("answered");
            let topic = &response.topics[0];
            let answer = (topic.error_code, topic.partitions.len(), topic.topic_authorized_operations);
            self.note(&format!("describe {name}"), &answer);
        }
    }

    fn cluster(&mut self) {
        for (key_type, key) in [(0, "group"), (1, "transaction"), (2, "share"), (9, "x")] {
            let request =
                FindCoordinatorRequest { key_type, coordinator_keys: vec![key.into()], ..Default::default() };
            // Kafka first creates the coordinator's topic; only then does it know the coordinator.
            let response = self.raw.call(&request, 6).expect("answered");
            let code = response.coordinators[0].error_code;
            self.note(&format!("coordinator of {key_type}"), &(code.is_none() || code.is_retriable()));
        }
        for (id, producer_id, epoch) in [(None, -1, -1), (None, 7, 3), (Some(""), -1, -1)] {
            let request = InitProducerIdRequest {
                transactional_id: id.map(Into::into),
                transaction_timeout_ms: 1000,
                producer_id,
                producer_epoch: epoch,
                ..Default::default()
            };
            let mut response = self.raw.call(&request, 5).expect("answered");
            while response.error_code.is_retriable() {
                response = self.raw.call(&request, 5).expect("answered");
            }
            let answer = (response.error_code, response.producer_id != producer_id, response.producer_epoch);
            self.note(&format!("producer id for {id:?}, {producer_id}"), &answer);
        }
        for endpoint_type in [1, 2, 9] {
            let request = DescribeClusterRequest {
                endpoint_type,
                include_cluster_authorized_operations: true,
                ..Default::default()
            };
            let response = self.raw.call(&request, 2).expect("answered");
            let answer =
                (response.error_code, response.brokers.len(), response.cluster_authorized_operations);
            self.note(&format!("describe endpoints {endpoint_type}"), &answer);
        }
        for (name, version) in [("milena", "0.1.0"), ("", "1"), ("-a", "1"), ("a b", "1"), ("a", "")] {
            let request = ApiVersionsRequest {
                client_software_name: name.into(),
                client_software_version: version.into(),
                ..Default::default()
            };
            let response = self.raw.call(&request, 4).expect("answered");
            self.note(&format!("api versions for {name:?} {version:?}"), &response.error_code);
        }
    }
}

#[test]
fn the_embedded_broker_answers_as_kafka_does() {
    let Some(kafka) = real::kafka() else { return };
    let expected = Witness::question(&kafka.bootstrap());
    let dir = tempfile::tempdir().expect("a directory");
    for (place, builder) in
        [("in memory", Broker::builder()), ("on disk", Broker::builder().data_dir(dir.path()))]
    {
        let embedded = Embedded::build(builder);
        compare(place, &expected, &Witness::question(embedded.bootstrap()));
    }
}

fn compare(place: &str, expected: &[String], answered: &[String]) {
    assert_eq!(expected.len(), answered.len());
    let pairs = expected.iter().zip(answered).filter(|(kafka, ours)| kafka != ours);
    let differences: Vec<String> =
        pairs.map(|(kafka, ours)| format!("Kafka: {kafka}\nours:  {ours}")).collect();
    let (count, all) = (differences.len(), expected.len());
    assert!(differences.is_empty(), "{place}, {count} of {all} answers\n{}", differences.join("\n"));
}

fn batch(values: &[&str], stamp: Option<(i64, i16, i32)>) -> Bytes {
    batch_at(CREATED, values, stamp)
}

fn batch_at(timestamp: i64, values: &[&str], stamp: Option<(i64, i16, i32)>) -> Bytes {
    let mut builder = BatchBuilder::new(&Pool::default()).bytes_max(8 << 20).record_bytes_max(8 << 20);
    for (delta, value) in values.iter().enumerate() {
        builder.append(timestamp + delta as i64, None, Some(value.as_bytes()), &[]).expect("fits");
    }
    let mut sealed = builder.seal();
    if let Some((id, epoch, sequence)) = stamp {
        sealed.stamp(id, epoch, sequence);
    }
    sealed.into_bytes()
}

/// A valid batch after `change`, its checksum made right again.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut raw = batch(&["first", "second"], None).to_vec();
    change(&mut raw);
    let crc = crc32c::crc32c(&raw[21..]);
    raw[17..21].copy_from_slice(&crc.to_be_bytes());
    raw.into()
}

fn with_attributes(attributes: Attributes) -> Bytes {
    let mut raw = batch(&["first", "second"], None).to_vec();
    BatchMut::new(&mut raw).expect("a batch").set_attributes(attributes);
    raw.into()
}
