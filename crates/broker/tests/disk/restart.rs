//! Stops and starts, driven as a machine.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Instant;

use bytes::{Buf, Bytes};
use milena_broker::{Answer, Broker, Builder, Error, Machine, Now};
use milena_messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use milena_messages::delete_topics::DeleteTopicsRequest;
use milena_messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_messages::{ErrorCode, Message, Request};
use milena_wire::batch::{BatchBuilder, BatchHeader};
use milena_wire::pool::Pool;
use milena_wire::{Reader, Writer};

/// One run of a broker on a directory.
pub(crate) struct Run(Machine);

impl Run {
    pub(crate) fn start(dir: &Path) -> Self {
        Self::try_start(dir).expect("starts")
    }

    fn try_start(dir: &Path) -> Result<Self, Error> {
        Self::with(Broker::builder(), dir)
    }

    pub(crate) fn with(builder: Builder, dir: &Path) -> Result<Self, Error> {
        builder.default_partitions(2).segment_bytes(2000).data_dir(dir).machine().map(Self)
    }

    /// Does the work that no request asks for and that is due now.
    pub(crate) fn handle_timeout(&self) {
        self.0.handle_timeout(Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 });
    }

    pub(crate) fn ask<R: Request>(&self, version: i16, request: &R) -> R::Response {
        let mut writer = Writer::new();
        let header = RequestHeader {
            request_api_key: R::KEY.as_i16(),
            request_api_version: version,
            ..Default::default()
        };
        header.encode(&mut writer, R::KEY.request_header_version(version)).expect("encodes");
        request.encode(&mut writer, version).expect("encodes");
        let now = Now { instant: Instant::now(), unix_ms: 1_700_000_000_000 };
        let mut peer =
            self.0.connect(1, SocketAddr::from(([127, 0, 0, 1], 40_000)), now).expect("node 1 is up");
        let answer = self.0.handle(&mut peer, &writer.finish().to_vec().into(), now, usize::MAX);
        let Answer::Now(frame) = answer.expect("understood") else { panic!("answered at once") };
        let mut raw = Bytes::from(frame.to_vec());
        raw.advance(4);
        let mut reader = Reader::new(&raw);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).expect("a header");
        R::Response::decode(&mut reader, version).expect("a response")
    }

    pub(crate) fn metadata(&self, name: &str) -> MetadataResponse {
        let topics = Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]);
        self.ask(12, &MetadataRequest { topics, ..Default::default() })
    }

    /// Produces one record as the idempotent producer 7.
    fn produce(&self, index: i32, sequence: i32) -> (ErrorCode, i64) {
        let mut builder = BatchBuilder::new(&Pool::default());
        builder.append(1_700_000_000_000, None, Some(&[7; 300]), &[]).expect("fits");
        let mut sealed = builder.seal();
        sealed.stamp(7, 0, sequence);
        let data = PartitionProduceData { index, records: Some(sealed.into_bytes()), ..Default::default() };
        let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
        let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
        let response = self.ask(12, &request);
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    fn fetch(&self, index: i32, offset: i64) -> PartitionData {
        let wanted = FetchPartition {
            partition: index,
            fetch_offset: offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: "t".into(), partitions: vec![wanted], ..Default::default() };
        let request =
            FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics: vec![topic], ..Default::default() };
        self.ask(12, &request).responses[0].partitions[0].clone()
    }

    fn producer_id(&self) -> i64 {
        self.ask(5, &InitProducerIdRequest { transactional_id: None, ..Default::default() }).producer_id
    }
}

fn leader_epoch(metadata: &MetadataResponse) -> i32 {
    metadata.topics[0].partitions[0].leader_epoch
}

#[test]
fn everything_is_there_after_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    let before = run.metadata("t");
    for sequence in 0..20 {
        assert_eq!(run.produce(0, sequence), (ErrorCode::NONE, i64::from(sequence)));
    }
    let id = run.producer_id();
    drop(run); // without a flush: as a crash leaves it
    let run = Run::start(dir.path());
    let after = run.metadata("t");
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.topics[0].topic_id, before.topics[0].topic_id);
    assert_eq!(after.topics[0].partitions.len(), 2);
    assert_eq!(leader_epoch(&after), leader_epoch(&before) + 1, "a restart is a new leader epoch");
    assert!(run.producer_id() > id, "ids are given out once");
    assert_eq!(run.produce(0, 18), (ErrorCode::NONE, 18), "a retry from before the crash is a duplicate");
    assert_eq!(run.produce(0, 30).0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(run.produce(0, 20), (ErrorCode::NONE, 20));
    let mut offset = 0;
    while offset < 21 {
        let data = run.fetch(0, offset);
        assert_eq!(data.high_watermark, 21);
        let mut rest = data.records.expect("records");
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).expect("a batch");
            let epoch = if offset < 20 { 0 } else { 1 };
            assert_eq!((header.base_offset, header.partition_leader_epoch), (offset, Some(epoch)));
            assert_eq!(crc32c::crc32c(&rest[21..header.bytes]), header.crc);
            rest.advance(header.bytes);
            offset = header.next_offset();
        }
    }
    assert_eq!(run.fetch(1, 0).high_watermark, 0);
}

#[test]
fn directories_are_laid_out_as_kafkas_tools_expect_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    let id = run.metadata("t").topics[0].topic_id;
    for sequence in 0..20 {
        run.produce(0, sequence);
    }
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(read("t-0/partition.metadata"), format!("version: 0\ntopic_id: {id}"));
    assert_eq!(read("t-0/leader-epoch-checkpoint"), "0\n1\n0 0\n");
    for file in ["00000000000000000000.log", "00000000000000000000.index", "00000000000000000000.timeindex"] {
        assert!(dir.path().join("t-0").join(file).exists(), "{file}");
    }
    assert!(dir.path().join("t-1/00000000000000000000.log").exists());
}

#[test]
fn partitions_that_were_added_are_there_after_a_crash() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    let topics =
        vec![CreatePartitionsTopic { name: "t".into(), count: 5, assignments: None, ..Default::default() }];
    let request = CreatePartitionsRequest { topics, ..Default::default() };
    assert_eq!(run.ask(3, &request).results[0].error_code, ErrorCode::NONE);
    assert_eq!(run.produce(4, 0), (ErrorCode::NONE, 0));
    drop(run);
    let run = Run::start(dir.path());
    assert_eq!(run.metadata("t").topics[0].partitions.len(), 5);
    assert_eq!(run.fetch(4, 0).high_watermark, 1);
}

#[test]
fn a_deleted_topic_leaves_nothing_even_when_a_crash_comes_between() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    run.produce(0, 0);
    // As a crash between the catalogue and the files leaves it: the files are back.
    let stray = dir.path().join("stray");
    fs::rename(dir.path().join("t-0"), &stray).expect("moved");
    let request = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
    assert_eq!(run.ask(5, &request).responses[0].error_code, ErrorCode::NONE);
    assert!(!dir.path().join("t-1").exists());
    fs::rename(&stray, dir.path().join("t-0")).expect("moved");
    drop(run);
    let run = Run::start(dir.path());
    assert!(!dir.path().join("t-0").exists(), "removed at the start");
    run.metadata("t");
    assert_eq!(run.fetch(0, 0).high_watermark, 0, "a new topic, not the old one");
}

#[test]
fn a_directory_is_used_by_one_broker_at_a_time_and_never_with_kafka() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Run::start(dir.path());
    let error = Run::try_start(dir.path()).err().expect("refused");
    assert!(error.to_string().contains("another broker"), "{error}");
    drop(first);
    Run::start(dir.path());
    let kafka = tempfile::tempdir().expect("a directory");
    fs::write(kafka.path().join("meta.properties"), "version=1\n").expect("written");
    let error = Run::try_start(kafka.path()).err().expect("refused");
    assert!(error.to_string().contains("Apache Kafka"), "{error}");
}

#[test]
fn a_damaged_catalogue_is_told_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    Run::start(dir.path()).metadata("t");
    let path = dir.path().join("milena.catalog");
    let text = fs::read_to_string(&path).expect("read").replace("topic t", "topic");
    fs::write(&path, &text).expect("written");
    let error = Run::try_start(dir.path()).err().expect("refused");
    assert!(error.is_damaged(), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("read"), text);
    assert!(dir.path().join("t-0").exists());
}

#[tokio::test]
async fn after_a_clean_stop_damage_is_an_error_and_after_a_crash_it_is_cut_off() {
    let dir = tempfile::tempdir().expect("a directory");
    let builder = || Broker::builder().data_dir(dir.path());
    let run = Run(builder().machine().expect("starts"));
    run.metadata("t");
    for sequence in 0..5 {
        run.produce(0, sequence);
    }
    drop(run);
    let log = dir.path().join("t-0/00000000000000000000.log");
    let tear = || {
        let file = fs::OpenOptions::new().write(true).open(&log).expect("opened");
        let bytes = file.metadata().expect("there").len();
        file.set_len(bytes - 10).expect("torn");
    };
    tear();
    let cluster = builder().start().await.expect("the torn tail is cut off");
    cluster.shutdown().await.expect("flushed");
    let whole = fs::read(&log).expect("read");
    tear();
    for _ in 0..2 {
        let error = builder().machine().expect_err("refused, however often it is tried");
        assert!(error.is_damaged() && error.to_string().contains("00000000000000000000.log"), "{error}");
    }
    fs::write(&log, whole).expect("put back");
    let run = Run(builder().machine().expect("starts"));
    assert_eq!(run.fetch(0, 0).high_watermark, 4);
}

#[tokio::test]
async fn a_topic_made_again_after_a_clean_stop_owes_nothing_to_the_old_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let builder = || Broker::builder().data_dir(dir.path());
    let run = Run(builder().machine().expect("starts"));
    run.metadata("t");
    for sequence in 0..5 {
        run.produce(0, sequence);
    }
    drop(run);
    builder().start().await.expect("starts").shutdown().await.expect("flushed");
    let run = Run(builder().machine().expect("starts"));
    run.ask(5, &DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() });
    run.metadata("t");
    assert_eq!(run.produce(0, 0), (ErrorCode::NONE, 0));
    drop(run);
    let run = Run(builder().machine().expect("a shorter log is no damage"));
    assert_eq!(run.fetch(0, 0).high_watermark, 1);
}

#[test]
fn a_topic_that_was_made_compacted_wants_keys() {
    let dir = tempfile::tempdir().expect("a directory");
    let run = Run::start(dir.path());
    run.metadata("t");
    assert_eq!(run.produce(0, 0), (ErrorCode::NONE, 0));
    drop(run);
    // The broker took this config once, and refuses it now.
    let catalog = dir.path().join("milena.catalog");
    let text = fs::read_to_string(&catalog).expect("readable");
    let line = text.lines().find(|line| line.starts_with("topic t ")).expect("the topic");
    let text = text.replace(line, &format!("{line}\nconfig cleanup.policy compact,delete"));
    fs::write(&catalog, text).expect("writable");
    let run = Run::start(dir.path());
    assert_eq!(run.produce(0, 1), (ErrorCode::INVALID_RECORD, -1), "the record has no key");
}

#[test]
fn configs_that_were_altered_are_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let resource = |resource_type, name: &str, config: &str, value: &str| AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: vec![AlterableConfig {
            name: config.into(),
            value: Some(value.into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let described = |run: &Run, resource_type, name: &str, config: &str| {
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: Some(vec![config.into()]),
            ..Default::default()
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
        let config = run.ask(4, &request).results[0].configs[0].clone();
        (config.value.map(|value| value.to_string()), config.config_source)
    };
    let run = Run::start(dir.path());
    run.metadata("t");
    let resources = vec![
        resource(2, "t", "retention.ms", "5000"),
        resource(4, "", "log.roll.ms", "6000"),
        resource(4, "1", "num.partitions", "7"),
    ];
    let altered = run.ask(1, &IncrementalAlterConfigsRequest { resources, ..Default::default() });
    assert!(altered.responses.iter().all(|response| response.error_code.is_none()), "{altered:?}");
    drop(run);
    let run = Run::start(dir.path());
    let text = |value: &str| Some(value.to_owned());
    assert_eq!(described(&run, 2, "t", "retention.ms"), (text("5000"), 1));
    assert_eq!(described(&run, 2, "t", "segment.ms"), (text("6000"), 3));
    assert_eq!(described(&run, 4, "1", "num.partitions"), (text("7"), 2));
    assert_eq!(run.metadata("u").topics[0].partitions.len(), 7);
}
