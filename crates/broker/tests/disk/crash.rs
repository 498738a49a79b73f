//! `kill -9` of a broker that is being written to: what was acknowledged is there, once and in order.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use milena_broker::Broker;
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_messages::{ErrorCode, Message, Request};
use milena_wire::batch::{BatchBuilder, BatchHeader, NO_TIMESTAMP};
use milena_wire::pool::Pool;
use milena_wire::{Reader, Writer};

const DIR: &str = "MILENA_CRASH_TEST_DIR";

/// Not a test: the broker that the test below kills, in a process of its own.
#[test]
fn broker_for_the_crash_test() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let cluster = runtime.block_on(Broker::builder().segment_bytes(200_000).data_dir(dir).start());
    println!("\nbootstrap={}", cluster.as_ref().expect("starts").bootstrap());
    // The process ends with its parent, if it was not killed before.
    let _ = std::io::stdin().read(&mut [0]);
}

/// A broker in a process of its own; killed when dropped.
pub(crate) struct Victim {
    pub(crate) process: Child,
    stream: TcpStream,
}

impl Victim {
    pub(crate) fn start(dir: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "crash::broker_for_the_crash_test", "--nocapture"])
            .env(DIR, dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("spawned");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let address = output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("bootstrap=").map(str::to_owned))
            .expect("an address");
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        Self { process, stream }
    }

    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> std::io::Result<()> {
        let mut writer = Writer::new();
        let mark = writer.begin_frame();
        let header = RequestHeader {
            request_api_key: R::KEY.as_i16(),
            request_api_version: version,
            ..Default::default()
        };
        header.encode(&mut writer, R::KEY.request_header_version(version)).expect("encodes");
        request.encode(&mut writer, version).expect("encodes");
        writer.end_frame(mark, R::NAME).expect("fits");
        self.stream.write_all(&writer.finish().to_vec())
    }

    pub(crate) fn receive<R: Request>(&mut self, version: i16) -> std::io::Result<R::Response> {
        let mut size = [0; 4];
        self.stream.read_exact(&mut size)?;
        let mut raw = vec![0; u32::from_be_bytes(size) as usize];
        self.stream.read_exact(&mut raw)?;
        let raw = Bytes::from(raw);
        let mut reader = Reader::new(&raw);
        ResponseHeader::decode(&mut reader, R::KEY.response_header_version(version)).expect("a header");
        Ok(R::Response::decode(&mut reader, version).expect("a response"))
    }

    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).expect("sent");
        self.receive::<R>(version).expect("answered")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // SIGKILL, on Unix.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Batch number `n`: producer 7, one record, which says `n` at its start and end; sizes vary, some are large.
pub(crate) fn numbered(n: i32) -> ProduceRequest {
    let mut value = vec![n as u8; 50 + (n as usize * 7919) % 60_000];
    let length = value.len();
    value[..4].copy_from_slice(&n.to_be_bytes());
    value[length - 4..].copy_from_slice(&n.to_be_bytes());
    let mut builder = BatchBuilder::new(&Pool::default());
    // It has no timestamp, so that it is never too old to be kept.
    builder.append(NO_TIMESTAMP, None, Some(&value), &[]).expect("fits");
    let mut sealed = builder.seal();
    sealed.stamp(7, 0, n);
    let data = PartitionProduceData { index: 0, records: Some(sealed.into_bytes()), ..Default::default() };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() }
}

#[test]
fn what_was_acknowledged_is_there_once_and_in_order_after_kill_9() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut acked = 0;
    for round in 0..6 {
        let mut victim = Victim::start(dir.path());
        let topics = Some(vec![MetadataRequestTopic { name: Some("t".into()), ..Default::default() }]);
        victim.ask(12, &MetadataRequest { topics, ..Default::default() });
        // Five batches are in flight, as with an idempotent producer. Those in flight at the crash are sent again.
        let until = acked + 60 + round * 17;
        let (mut sent, mut killed) = (acked, false);
        while acked < until || !killed {
            while !killed && sent < acked + 5 {
                victim.send(12, &numbered(sent)).expect("sent");
                sent += 1;
            }
            if !killed && acked >= until - 5 {
                victim.process.kill().expect("killed");
                killed = true;
            }
            let Ok(response) = victim.receive::<ProduceRequest>(12) else { break };
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (ErrorCode::NONE, i64::from(acked)));
            acked += 1;
        }
    }
    let mut victim = Victim::start(dir.path());
    assert!(acked > 300, "{acked}");
    read_all(&mut victim, acked);
    assert!(std::fs::read_dir(dir.path().join("t-0")).expect("listed").count() > 20, "many segments");
}

/// Reads the log from its start: batch `n` is at offset `n`, whole, at least up to `acked`.
fn read_all(victim: &mut Victim, acked: i32) {
    let mut expected = 0_i32;
    loop {
        let wanted = FetchPartition {
            fetch_offset: i64::from(expected),
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: "t".into(), partitions: vec![wanted], ..Default::default() };
        let request =
            FetchRequest { max_bytes: 1 << 20, session_epoch: -1, topics: vec![topic], ..Default::default() };
        let mut rest = victim.ask(12, &request).responses[0].partitions[0].records.clone().expect("records");
        if rest.is_empty() {
            break;
        }
        while !rest.is_empty() {
            let header = BatchHeader::parse(&rest).expect("a batch");
            let batch = rest.split_to(header.bytes);
            assert_eq!(crc32c::crc32c(&batch[21..]), header.crc, "batch {expected}");
            assert_eq!(header.base_offset, i64::from(expected));
            let value = &batch[batch.len() - 5..batch.len() - 1]; // the last byte counts the headers
            assert_eq!(value, expected.to_be_bytes());
            expected += 1;
        }
    }
    assert!((acked..=acked + 5).contains(&expected), "{expected} of {acked}");
}
