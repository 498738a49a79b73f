//! Neither producing nor consuming allocates per record.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

use std::io::Write as _;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use milena::metrics::{Registry, families};
use milena::trace::{Hooks, TraceContext};
use milena::{Client, Header, PartitionHandle, Position, Record};
use milena_broker::Broker;
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_messages::{ErrorCode, Message, Request};
use milena_wire::batch::{BatchBuilder, HEADER_BYTES};
use milena_wire::pool::Pool;
use milena_wire::{Reader, Writer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const RECORDS: usize = 20_000;
/// A batch may allocate, and so may waiting; a record must not.
const PER_RECORD_MAX: f64 = 0.02;

/// Everything runs on this thread, so broker, connections and driver are counted as well, between the two marks.
fn check(what: &str, allocations: u64) {
    let per_record = allocations as f64 / RECORDS as f64;
    assert!(per_record < PER_RECORD_MAX, "{what}: {allocations} allocations for {RECORDS} records");
}

/// Counts allocations on this thread while `future` is polled. Other tasks run between its polls.
async fn allocations<T>(future: impl Future<Output = T>) -> (T, u64) {
    let mut future = Box::pin(future);
    let mut count = 0;
    let output = std::future::poll_fn(|cx| {
        let mut poll = None;
        count += allocation_counter::measure(|| poll = Some(future.as_mut().poll(cx))).count_total;
        poll.expect("polled")
    })
    .await;
    (output, count)
}

#[tokio::test]
async fn records_cost_no_allocations() {
    check_records(None, None).await;
}

/// Hooks that give no context.
#[derive(Debug)]
struct Silent;

impl Hooks for Silent {}

#[tokio::test]
async fn records_cost_no_allocations_with_hooks_that_give_no_context() {
    check_records(None, Some(Arc::new(Silent))).await;
}

/// Hooks that give a context.
#[derive(Debug)]
struct Traced;

impl Hooks for Traced {
    fn created(&self, _: &Record<'_>) -> Option<TraceContext> {
        TraceContext::new([7; 16], [7; 8], 1)
    }
}

#[tokio::test]
async fn a_trace_context_in_a_records_headers_costs_no_allocation() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let builder = Client::builder().bootstrap(cluster.bootstrap()).trace(Arc::new(Traced));
    let client = builder.connect().await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    producer.send(Record::to("t").value("warm")).await.expect("written");
    let ((), count) = allocations(async {
        for _ in 0..RECORDS {
            producer.post(Record::to("t").value(&[b'v'; 100])).await.expect("taken");
        }
    })
    .await;
    producer.flush().await.expect("flushed");
    check("post within a span", count);
}

#[tokio::test]
async fn records_cost_no_allocations_with_metrics() {
    let registry = Registry::new();
    check_records(Some(&registry), None).await;
    let counted = registry.snapshot().value(&families::PRODUCER_RECORDS, &["t"]);
    assert_eq!(counted, Some((4 * RECORDS + 1) as f64));
}

async fn check_records(registry: Option<&Registry>, hooks: Option<Arc<dyn Hooks>>) {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 6).expect("created");
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    let builder = match registry {
        Some(registry) => builder.metrics(registry),
        None => builder,
    };
    let builder = match hooks {
        Some(hooks) => builder.trace(hooks),
        None => builder,
    };
    let client = builder.connect().await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    producer.send(Record::to("t").partition(0).value("warm")).await.expect("written");
    let value = [b'v'; 100];

    let ((), count) = allocations(async {
        for index in 0..RECORDS {
            let key = (index as u64).to_be_bytes();
            let record = Record::to("t").key(&key).value(&value);
            producer.post(record.clone().header("h", "1")).await.expect("taken");
            let headers = [Header::new("h", Some(b"1")), Header::new("i", None)];
            producer.post(record.headers(&headers)).await.expect("taken");
        }
    })
    .await;
    check("post, keyed, with headers", count);
    producer.flush().await.expect("flushed");

    let ((), count) = allocations(async {
        for _ in 0..RECORDS {
            drop(producer.enqueue(Record::to("t").value(&value)).await.expect("taken"));
        }
    })
    .await;
    check("enqueue, unkeyed", count);
    producer.flush().await.expect("flushed");

    let topic = producer.topic("t").await.expect("it exists");
    let ((), count) = allocations(async {
        for index in 0..RECORDS {
            topic.post(Record::new().key(&index.to_be_bytes()).value(&value)).await.expect("taken");
        }
    })
    .await;
    check("post through a topic's handle", count);
    producer.flush().await.expect("flushed");

    let assigned = (0..6).map(|partition| ("t", partition));
    let mut consumer =
        client.consumer_direct().assign(assigned, Position::Earliest).build().await.expect("built");
    let (mut bytes, mut seen, mut count) = (0, 0, 0);
    while seen < 2 * RECORDS {
        let (batch, of_next) = allocations(consumer.next()).await;
        let batch = batch.expect("read").expect("assigned");
        count += of_next;
        count += allocation_counter::measure(|| {
            for record in &batch {
                bytes += record.value().map_or(0, <[u8]>::len) + record.headers().count();
                seen += 1;
            }
        })
        .count_total;
    }
    assert!(bytes > 2 * RECORDS * 100);
    check("next and iterate", count / 2);
}

/// How much a consumer that marks each batch as done allocates to read all records, with its driver and the broker.
fn allocations_of_reading(
    runtime: &tokio::runtime::Runtime,
    build: impl AsyncFnOnce() -> milena::Consumer,
) -> u64 {
    let mut consumer = runtime.block_on(build());
    // Joining and the first fetch are not counted.
    let first = runtime.block_on(consumer.next()).expect("read").expect("assigned");
    let counted = allocation_counter::measure(|| {
        runtime.block_on(async {
            let mut seen = first.iter().count();
            while seen < RECORDS {
                let batch = consumer.next().await.expect("read").expect("assigned");
                seen += batch.iter().count();
                consumer.done(&batch);
            }
        });
    });
    counted.count_total
}

/// A broker on a thread of its own, so that only the client's allocations are counted, and a runtime for the client.
fn apart() -> (tokio::runtime::Runtime, milena_broker::Cluster, tokio::runtime::Runtime) {
    let elsewhere = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let elsewhere = elsewhere.expect("built");
    let cluster = elsewhere.block_on(async { Broker::builder().start().await.expect("started") });
    cluster.create_topic("t", 1).expect("created");
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("built");
    (elsewhere, cluster, here)
}

/// Before the count: lists and buffers have their sizes.
const WARM: usize = 200;
const REQUESTS: usize = 1000;
/// Queues get a block of memory for some dozens of requests now and then.
const NOW_AND_THEN: u64 = REQUESTS as u64 / 10;

/// Two clients, of which the second one counts and measures.
fn clients(runtime: &tokio::runtime::Runtime, bootstrap: &str) -> [Client; 2] {
    let builder = Client::builder().bootstrap(bootstrap);
    let builders = [builder.clone(), builder.metrics(&Registry::new())];
    builders.map(|builder| runtime.block_on(builder.connect()).expect("connected"))
}

#[test]
fn a_record_that_is_sent_alone_costs_two_allocations_with_its_request_and_answer() {
    let (_elsewhere, cluster, runtime) = apart();
    for client in clients(&runtime, cluster.bootstrap()) {
        let producer = runtime.block_on(client.producer().build()).expect("built");
        check_sends(&runtime, &producer);
    }
}

fn check_sends(runtime: &tokio::runtime::Runtime, producer: &milena::Producer) {
    let send = |count: usize| {
        runtime.block_on(async {
            for _ in 0..count {
                producer.send(Record::to("t").value(&[b'v'; 100])).await.expect("written");
            }
        });
    };
    send(WARM);
    let counted = allocation_counter::measure(|| send(REQUESTS)).count_total;
    // The state that its deliveries share, and the handle to the batch's memory.
    assert!(counted <= 2 * REQUESTS as u64 + NOW_AND_THEN, "{counted} allocations for {REQUESTS} requests");
}

#[test]
fn a_fetch_costs_two_allocations_with_its_answer() {
    let (_elsewhere, cluster, runtime) = apart();
    let clients = clients(&runtime, cluster.bootstrap());
    runtime.block_on(async {
        let producer = clients[0].producer().batch_bytes_max(0).build().await.expect("built");
        for _ in 0..WARM + REQUESTS {
            producer.post(Record::to("t").value(&[b'v'; 20_000])).await.expect("taken");
        }
        producer.flush().await.expect("written");
    });
    for client in clients {
        check_fetches(&runtime, &client);
    }
}

fn check_fetches(runtime: &tokio::runtime::Runtime, client: &Client) {
    let mut consumer = runtime.block_on(async {
        let builder = client.consumer_direct().assign([("t", 0)], Position::Earliest);
        // A fetch brings one batch.
        builder.settings(|settings| settings.fetch_partition_bytes_max = 1).build().await.expect("built")
    });
    let mut read = |count: usize| {
        runtime.block_on(async {
            for _ in 0..count {
                let batch = consumer.next().await.expect("read").expect("assigned");
                assert_eq!(batch.iter().count(), 1);
            }
        });
    };
    read(WARM);
    let counted = allocation_counter::measure(|| read(REQUESTS)).count_total;
    // The handle to the answer's memory, and its place in the budget.
    assert!(counted <= 2 * REQUESTS as u64 + NOW_AND_THEN, "{counted} allocations for {REQUESTS} fetches");
}

#[test]
fn a_member_of_a_group_allocates_nothing_per_record() {
    // One thread, so that all tasks are counted.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("built");
    let (_cluster, client) = runtime.block_on(async {
        let builder = Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO);
        let cluster = builder.start().await.expect("started");
        cluster.create_topic("t", 6).expect("created");
        let client = Client::connect(cluster.bootstrap()).await.expect("connected");
        let producer = client.producer().build().await.expect("built");
        for _ in 0..RECORDS {
            producer.post(Record::to("t").value(&[b'v'; 100])).await.expect("taken");
        }
        producer.flush().await.expect("flushed");
        (cluster, client)
    });
    let by_position = allocations_of_reading(&runtime, async || {
        client.consumer_direct().topic("t").build().await.expect("built")
    });
    let in_group = allocations_of_reading(&runtime, async || {
        client.consumer("g").subscribe(["t"]).build().await.expect("built")
    });
    let more = in_group.saturating_sub(by_position) as f64 / RECORDS as f64;
    assert!(more < 0.01, "{by_position} allocations by position, {in_group} in a group");
    let in_parts = allocations_of_reading(&runtime, async || {
        let builder = client.consumer("parts").subscribe(["t"]);
        builder.settings(|settings| settings.delivery_records_max = Some(10)).build().await.expect("built")
    });
    // Those of a batch, and none of its parts.
    let of_parts = in_parts.saturating_sub(in_group) as f64 / (RECORDS as f64 / 10.0);
    assert!(of_parts < 0.1, "{in_group} allocations, {in_parts} in parts");
}

#[tokio::test]
async fn handles_of_a_shared_batch_cost_one_allocation_together() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    for _ in 0..1000 {
        producer.post(Record::to("t").key("k").value("v").header("h", "1")).await.expect("taken");
    }
    producer.flush().await.expect("flushed");
    let mut consumer =
        client.consumer_direct().assign([("t", 0)], Position::Earliest).build().await.expect("built");
    let batch = consumer.next().await.expect("read").expect("assigned");
    let expected = batch.iter().count();
    let (mut count, mut keys) = (0, 0);
    let mut handles = Vec::with_capacity(expected);
    let allocations = allocation_counter::measure(|| {
        let batch = batch.share();
        handles.extend(batch.records());
        for record in &handles {
            let clone = record.clone();
            keys += clone.key().map_or(0, <[u8]>::len);
            count += record.headers().count();
        }
    });
    assert_eq!((count, keys), (expected, expected));
    assert_eq!(allocations.count_total, 1, "for {expected} records");
}

#[tokio::test]
async fn pausing_and_resuming_costs_no_allocation() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 1000).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let consumer = client.consumer_direct().topic("t").build().await.expect("built");
    let (handles, by_name) = (consumer.partition_handles(), consumer.handle());
    let counted = allocation_counter::measure(|| {
        for turn in 0..10_000 {
            let handle = &handles[turn % 1000];
            assert!(handle.pause() && handle.is_paused() && handle.resume());
            by_name.pause("t", turn as i32 % 1000).expect("assigned");
            by_name.resume("t", turn as i32 % 1000).expect("assigned");
        }
        PartitionHandle::pause_each(&handles);
        PartitionHandle::resume_each(&handles);
    });
    assert_eq!(counted.count_total, 0);
}

/// A batch as franz-go writes it: lz4 in blocks of up to 4 MiB, without a content size.
fn batch_of_franz_go(records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(&Pool::unpooled());
    // The broker deletes what is old, after half a minute.
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later");
    for index in 0..records {
        let id = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let value = format!(r#"{{"id":"{id:050}","carrier":"UA","origin":"EWR","destination":"ORD"}}"#);
        let timestamp = since_1970.as_millis() as i64;
        builder.append(timestamp, None, Some(value.as_bytes()), &[]).expect("below a megabyte");
    }
    let sealed = builder.seal().into_bytes();
    let info = FrameInfo::new().block_size(BlockSize::Max4MB).content_checksum(true);
    let mut encoder = FrameEncoder::with_frame_info(info, sealed[..HEADER_BYTES].to_vec());
    encoder.write_all(&sealed[HEADER_BYTES..]).expect("into memory");
    let mut bytes = encoder.finish().expect("into memory");
    const LENGTH_FROM: usize = 12;
    const CRC: usize = 17;
    const LZ4: u8 = 3;
    let length = (bytes.len() - LENGTH_FROM) as u32;
    bytes[LENGTH_FROM - 4..LENGTH_FROM].copy_from_slice(&length.to_be_bytes());
    bytes[CRC + 5] |= LZ4;
    let crc = crc32c::crc32c(&bytes[CRC + 4..]);
    bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

/// Writes a batch, whoever made it.
async fn write(stream: &mut TcpStream, index: i32, records: Bytes) {
    const VERSION: i16 = 9;
    let data = PartitionProduceData { index, records: Some(records), ..Default::default() };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    let request =
        ProduceRequest { acks: 1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let key = ProduceRequest::KEY;
    let header = RequestHeader {
        request_api_key: key.as_i16(),
        request_api_version: VERSION,
        correlation_id: 1,
        ..Default::default()
    };
    let mut writer = Writer::new();
    let mark = writer.begin_frame();
    header.encode(&mut writer, key.request_header_version(VERSION)).expect("encoded");
    request.encode(&mut writer, VERSION).expect("encoded");
    writer.end_frame(mark, ProduceRequest::NAME).expect("small");
    let mut frame = writer.finish();
    while frame.has_remaining() {
        stream.write_all_buf(&mut frame).await.expect("written");
    }
    let bytes = stream.read_i32().await.expect("an answer");
    let mut body = vec![0; bytes as usize];
    stream.read_exact(&mut body).await.expect("an answer");
    let body = Bytes::from(body);
    let mut reader = Reader::new(&body);
    ResponseHeader::decode(&mut reader, key.response_header_version(VERSION)).expect("a header");
    let answer = <ProduceRequest as Request>::Response::decode(&mut reader, VERSION).expect("an answer");
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
}

#[tokio::test]
async fn memory_is_there_for_what_another_client_wrote() {
    const BATCHES: usize = 240;
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 6).expect("created");
    let mut stream = TcpStream::connect(cluster.bootstrap()).await.expect("connected");
    let mut written = 0;
    for index in 0..BATCHES {
        let records = 500 + index * 7919 % 5000;
        write(&mut stream, (index % 6) as i32, batch_of_franz_go(records)).await;
        written += records as u64;
    }

    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let assigned = (0..6).map(|partition| ("t", partition));
    // Reading in a debug build is slower than the broker is.
    let limits = |settings: &mut milena::ConsumerSettings| settings.buffer_bytes_max = Some(1 << 20);
    let builder = client.consumer_direct().assign(assigned, Position::Earliest).settings(limits);
    let mut consumer = builder.build().await.expect("built");
    let (mut seen, mut out_max, mut counted) = (0, 0, allocation_counter::AllocationInfo::default());
    while seen < written {
        let mut next = Box::pin(consumer.next());
        let batch = std::future::poll_fn(|cx| {
            let mut poll = None;
            counted += allocation_counter::measure(|| poll = Some(next.as_mut().poll(cx)));
            poll.expect("polled")
        })
        .await;
        let batch = batch.expect("read").expect("assigned");
        seen += batch.iter().count() as u64;
        out_max = out_max.max(client.pool_stats().bytes_out + client.decompressed_pool_stats().bytes_out);
    }
    let stats = [client.pool_stats(), client.decompressed_pool_stats()];
    let takes: u64 = stats.iter().map(|stats| stats.hits + stats.misses).sum();
    let misses: u64 = stats.iter().map(|stats| stats.misses).sum();
    assert!(takes > BATCHES as u64 && misses < takes / 10, "{stats:?}");
    let per_record = |count: u64| count as f64 / seen as f64;
    let (allocations, bytes) = (per_record(counted.count_total), per_record(counted.bytes_total));
    assert!(
        allocations < PER_RECORD_MAX && bytes < 10.0,
        "{allocations} allocations, {bytes} bytes per record"
    );
    // A megabyte that waits, and what two lanes bring beyond that and their batches, twice.
    assert!(out_max < 8 << 20, "{out_max} bytes were in use");
}

/// What it costs to give up six partitions of which this many records were fetched and not taken.
async fn allocations_of_giving_up(records: usize) -> u64 {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 6).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let producer = client.producer().batch_bytes_max(10_000).build().await.expect("built");
    let value = [b'v'; 1000];
    for index in 0..records {
        let record = Record::to("t").partition((index % 6) as i32).value(&value);
        producer.post(record).await.expect("taken");
    }
    producer.flush().await.expect("written");
    let consumer = client.consumer_direct().topic("t").build().await.expect("built");
    while consumer.memory().topics[0].buffered_bytes < records * value.len() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let counted = allocation_counter::measure(|| {
        consumer.unassign((0..6).map(|partition| ("t", partition))).expect("by position");
    });
    assert!(consumer.memory().topics.is_empty());
    counted.count_total
}

#[tokio::test]
async fn giving_partitions_up_costs_the_same_however_much_of_them_is_buffered() {
    let (few, many) = (allocations_of_giving_up(60).await, allocations_of_giving_up(5000).await);
    // The pool's lists may grow, as some large buffers return to it. There are 500 batches, and 5000 records.
    assert!(many <= few + 20, "{few} and {many} allocations");
}
