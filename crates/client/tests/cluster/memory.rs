//! Memory that is short, or held by a reader that does not release it: all other readers and writers go on.

use std::sync::Arc;

use milena::ErrorKind;
use milena_broker::Broker;
use milena_wire::pool::{BufferPool, SizeClasses};
use tokio::task::JoinSet;

use super::limits::Wire;
use super::*;

async fn fill(cluster: &Cluster, topic: &str, partitions: i32, each: usize, record_bytes: usize) {
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let producer = client.producer().batch_bytes_max(3 * record_bytes).build().await.expect("built");
    let value = vec![7; record_bytes];
    for partition in (0..each).flat_map(|_| 0..partitions) {
        producer.post(Record::to(topic).partition(partition).value(&value)).await.expect("taken");
    }
    producer.flush().await.expect("flushed");
}

async fn with_memory(cluster: &Cluster, bytes: usize) -> Client {
    let builder = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(bytes);
    builder.connect().await.expect("connected")
}

async fn next(consumer: &mut Consumer) -> milena::Batch {
    let next = timeout(PATIENCE, consumer.next()).await.expect("in time");
    next.expect("read").expect("something is assigned")
}

/// Records of each partition, until there were `count`.
async fn count(consumer: &mut Consumer, count: usize) -> [usize; 3] {
    let mut counts = [0; 3];
    while counts.iter().sum::<usize>() < count {
        let batch = next(consumer).await;
        counts[batch.partition() as usize] += batch.into_iter().count();
    }
    counts
}

#[tokio::test]
async fn brokers_take_turns_when_memory_is_short() {
    let (cluster, _) = start(2, &[("t", 2)]).await;
    fill(&cluster, "t", 2, 400, 8000).await;
    let client = with_memory(&cluster, 1 << 20).await;
    let mut consumer = consumer(&client, "t", 2).await;
    let mut counts = [0; 2];
    while counts.iter().sum::<i32>() < 300 {
        let batch = next(&mut consumer).await;
        counts[batch.partition() as usize] += batch.into_iter().count() as i32;
        // Slower than what comes.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(counts[0].abs_diff(counts[1]) < 150, "{counts:?}");
}

#[tokio::test]
async fn what_is_paused_and_buffered_holds_nobody_up() {
    let (cluster, _) = start(1, &[("t", 2)]).await;
    fill(&cluster, "t", 2, 100, 8000).await;
    let client = with_memory(&cluster, 512 << 10).await;
    let mut consumer = consumer(&client, "t", 1).await;
    let batch = next(&mut consumer).await;
    // By now the rest of the memory is full.
    tokio::time::sleep(Duration::from_millis(100)).await;
    consumer.pause("t", 0).expect("assigned");
    consumer.assign([("t", 1)], Position::Earliest).await.expect("assigned");
    assert_eq!(next(&mut consumer).await.partition(), 1);
    drop(batch);
}

/// How many fetches it takes to read `count` batches of 20 kB of a topic that has more of them.
async fn fetches_of(wire: &Wire, consumer: &mut Consumer, topic: &str, count: usize) -> usize {
    let before = wire.fetches().len();
    for _ in 0..count {
        assert_eq!(next(consumer).await.topic(), topic);
    }
    wire.fetches().len() - before
}

#[tokio::test]
async fn small_batches_of_paused_partitions_leave_the_memory_to_other_partitions() {
    const PAUSED: i32 = 20;
    let (cluster, writer) = start(1, &[("t", 1 + PAUSED), ("u", 1), ("v", 1)]).await;
    fill(&cluster, "u", 1, 3000, 6600).await;
    fill(&cluster, "v", 1, 3000, 6600).await;
    let wire = Wire::default();
    // Half of it is for reading.
    let builder = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(8 << 20);
    let client = builder.connector(wire.clone()).connect().await.expect("connected");
    let builder = client.consumer_direct().topic("t").fetch_wait(Duration::from_millis(300));
    let change = |settings: &mut milena::ConsumerSettings| {
        (settings.fetch_bytes_min, settings.fetch_bytes_max) = (310_000, 480_000);
    };
    let mut consumer = builder.settings(change).build().await.expect("built");
    // The broker waits for 16 batches of partition 0, and then answers with all that there is.
    let round = async |consumer: &mut Consumer| {
        flow::fill(&writer, 1, 16, &[7; 20_000]).await;
        for _ in 0..16 {
            assert_eq!(next(consumer).await.partition(), 0);
        }
    };
    round(&mut consumer).await;
    let producer = producer(&writer).await;
    for partition in 1..=PAUSED {
        // The fetch on its way asks for the partition, and its answer still comes.
        consumer.pause("t", partition).expect("assigned");
        producer.send(Record::to("t").partition(partition).value("small")).await.expect("written");
        round(&mut consumer).await;
    }
    let memory = consumer.memory();
    assert_eq!(memory.topics[0].buffered_batches, PAUSED as usize, "{memory:?}");
    // Their responses took more than there is. The batches themselves take little.
    let freeing = async {
        while consumer.memory().budget_bytes_used > memory.budget_bytes_max / 4 * 3 {
            round(&mut consumer).await;
        }
    };
    timeout(PATIENCE, freeing).await.expect("small batches keep no large responses");
    consumer.assign([("u", 0)], Position::Earliest).await.expect("assigned");
    let beside = fetches_of(&wire, &mut consumer, "u", 950).await;
    let mut alone = client.consumer_direct().topic("v").settings(change).build().await.expect("built");
    let alone = fetches_of(&wire, &mut alone, "v", 950).await;
    assert!(beside * 9 <= alone * 10, "{beside} fetches, and {alone} without paused partitions");
    // What was copied is what was written.
    consumer.unassign([("u", 0)]).expect("by position");
    consumer.resume_all();
    for batch in read(&mut consumer, PAUSED as usize).await.into_values() {
        let values: Vec<_> = batch.iter().map(|record| record.value.as_deref()).collect();
        assert_eq!(values, [Some(&b"small"[..])]);
    }
}

#[tokio::test]
async fn while_memory_is_short_a_paused_partition_is_given_no_batch_more() {
    const PAUSED: i32 = 20;
    let (cluster, writer) = start(1, &[("t", 1 + PAUSED), ("u", 1)]).await;
    fill(&cluster, "u", 1, 20, 500_000).await;
    // Half of it is for reading.
    let client = with_memory(&cluster, 8 << 20).await;
    let mut consumer = client.consumer_direct().topic("t").build().await.expect("built");
    let mut holder = client.consumer_direct().topic("u").build().await.expect("built");
    let mut held = Vec::new();
    while consumer.memory().budget_bytes_used < consumer.memory().budget_bytes_max / 8 * 7 {
        held.push(next(&mut holder).await);
    }
    for partition in 1..=PAUSED {
        consumer.pause("t", partition).expect("assigned");
    }
    flow::fill(&writer, 1, 1, b"begin").await;
    assert_eq!(next(&mut consumer).await.partition(), 0);
    flow::fill(&writer, 1 + PAUSED, 1, &[7; 500_000]).await;
    for _ in 0..3 * PAUSED {
        flow::fill(&writer, 1, 1, b"small").await;
        assert_eq!(next(&mut consumer).await.partition(), 0);
    }
    // What fetches had asked for before still came.
    let memory = consumer.memory();
    let buffered =
        memory.topics.iter().find(|topic| &*topic.topic == "t").map_or(0, |topic| topic.buffered_batches);
    assert!(buffered <= 4, "{memory:?}");
    drop(held);
    consumer.resume_all();
    // One of partition 0 is left.
    assert_eq!(read(&mut consumer, 1 + PAUSED as usize).await.len(), 1 + PAUSED as usize);
}

#[tokio::test]
async fn a_consumer_that_waits_for_records_leaves_room_for_another() {
    let (cluster, client) = start(3, &[("a", 3), ("b", 3)]).await;
    fill(&cluster, "a", 3, 40, 50_000).await;
    fill(&cluster, "b", 3, 40, 50_000).await;
    let reader = with_memory(&cluster, 8 << 20).await;
    let mut one = consumer(&reader, "a", 3).await;
    assert_eq!(count(&mut one, 120).await, [40; 3]);
    // Its fetches are on their way again, and have nothing to bring.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut other = consumer(&reader, "b", 3).await;
    assert_eq!(count(&mut other, 120).await, [40; 3]);
    let producer = producer(&client).await;
    for partition in 0..3 {
        producer.send(Record::to("b").partition(partition).value("new")).await.expect("written");
        assert_eq!(next(&mut other).await.partition(), partition);
    }
}

#[tokio::test]
async fn readers_that_take_nothing_stop_nobody() {
    const PARTITIONS: i32 = 40;
    const RECORDS: usize = 200;
    let (cluster, _) = start(1, &[("t", PARTITIONS)]).await;
    fill(&cluster, "t", PARTITIONS, RECORDS / 4, 2000).await;
    fill(&cluster, "t", 1, RECORDS - RECORDS / 4, 2000).await;
    // Half of it is for reading: less than the partitions hold.
    let client = with_memory(&cluster, 2 << 20).await;
    let consumer = consumer(&client, "t", PARTITIONS).await;
    let mut readers = consumer.partitions();
    let mut held = Vec::new();
    for reader in &mut readers[1..] {
        let next = timeout(PATIENCE, reader.next()).await.expect("in time");
        held.push(next.expect("read").expect("assigned"));
    }
    let mut count = 0;
    while count < RECORDS {
        let next = timeout(PATIENCE, readers[0].next()).await;
        let next = next.unwrap_or_else(|_| panic!("the reader stands at {count} of {RECORDS}"));
        count += next.expect("read").expect("assigned").iter().count();
    }
    let bytes = client.pool_stats().bytes_out;
    assert!(bytes <= (1 << 20) + PARTITIONS as usize * (64 << 10), "{bytes}");
    // They still get their records.
    for reader in &mut readers[1..] {
        let mut count = held.remove(0).iter().count();
        while count < RECORDS / 4 {
            let next = timeout(PATIENCE, reader.next()).await.expect("in time");
            count += next.expect("read").expect("assigned").iter().count();
        }
    }
}

#[tokio::test]
async fn readers_that_take_one_batch_and_stop_hold_little_beyond_the_budget() {
    const PARTITIONS: i32 = 500;
    let (cluster, _) = start(1, &[("t", PARTITIONS)]).await;
    // Four batches of 16 KB in each partition.
    fill(&cluster, "t", PARTITIONS, 12, 5000).await;
    // Half of it is for reading: less than a 30th of what the partitions hold.
    let client = with_memory(&cluster, 2 << 20).await;
    let consumer = consumer(&client, "t", PARTITIONS).await;
    let mut taking = JoinSet::new();
    for mut reader in consumer.partitions() {
        taking.spawn(async move {
            let next = timeout(PATIENCE, reader.next()).await.expect("in time");
            assert!(next.expect("read").is_some());
            reader
        });
    }
    // Each reader stays, and takes nothing more.
    let readers = taking.join_all().await;
    let memory = consumer.memory();
    // Beyond the budget are two fetches of 64 KiB on their way, and pooled buffers that are larger than what they hold.
    let bytes_max = memory.budget_bytes_max + (512 << 10);
    assert!(memory.budget_bytes_used <= bytes_max, "{} of {bytes_max}", memory.budget_bytes_used);
    // They still get the rest.
    for mut reader in readers {
        let mut count = 3;
        while count < 12 {
            let next = timeout(PATIENCE, reader.next()).await.expect("in time");
            count += next.expect("read").expect("assigned").iter().count();
        }
    }
}

#[tokio::test]
async fn one_that_reads_in_turns_and_takes_nothing_stops_no_reader_of_its_own() {
    let (cluster, _) = start(1, &[("t", 3)]).await;
    fill(&cluster, "t", 3, 200, 8000).await;
    let client = with_memory(&cluster, 1 << 20).await;
    let consumer = consumer(&client, "t", 1).await;
    let mut alone = consumer.partitions().remove(0);
    consumer.assign([("t", 1), ("t", 2)], Position::Earliest).await.expect("assigned");
    // By now the memory is full of batches that no reader takes.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut count = 0;
    while count < 200 {
        let next = timeout(PATIENCE, alone.next()).await;
        let next = next.unwrap_or_else(|_| panic!("the reader stands at {count} of 200"));
        count += next.expect("read").expect("assigned").iter().count();
    }
}

#[tokio::test]
async fn a_record_longer_than_all_memory_is_read() {
    let (cluster, _) = start(1, &[("t", 1)]).await;
    fill(&cluster, "t", 1, 3, 300_000).await;
    let client = with_memory(&cluster, 256 << 10).await;
    assert_eq!(count(&mut consumer(&client, "t", 1).await, 3).await, [3, 0, 0]);
}

/// A consumer that never lets go of a batch before it has the next one.
struct Holder {
    consumer: Consumer,
    _held: Option<milena::Batch>,
    records: usize,
}

impl Holder {
    async fn read(&mut self) {
        let batch = next(&mut self.consumer).await;
        assert_eq!(batch.first_offset(), self.records as i64);
        self.records += batch.iter().count();
        self._held = Some(batch);
    }
}

#[tokio::test]
async fn many_consumers_of_little_memory_all_read_on_and_take_little_beyond_it() {
    const CONSUMERS: usize = 40;
    const RECORDS: usize = 200;
    const BUDGET: usize = 1 << 20;
    // A reader without a batch gets 64 KiB: a first answer, which it holds, and a second one.
    const BYTES_MAX: usize = BUDGET + CONSUMERS * 2 * (64 << 10);
    let (cluster, _) = start(1, &[("t", 1)]).await;
    fill(&cluster, "t", 1, RECORDS, 8000).await;
    // Half of a client's memory is for reading.
    let client = with_memory(&cluster, 2 * BUDGET).await;
    let check = |client: &Client| {
        let bytes = client.pool_stats().bytes_out;
        assert!(bytes <= BYTES_MAX, "{bytes} of {BYTES_MAX}");
    };
    let mut holders = Vec::new();
    for _ in 0..CONSUMERS {
        let consumer = consumer(&client, "t", 1).await;
        holders.push(Holder { consumer, _held: None, records: 0 });
    }
    for _ in 0..4 {
        for holder in &mut holders {
            holder.read().await;
        }
        // A batch that comes before it is wanted comes now.
        tokio::time::sleep(Duration::from_millis(50)).await;
        check(&client);
    }
    let mut reading = JoinSet::new();
    for mut holder in holders {
        let client = client.clone();
        reading.spawn(async move {
            while holder.records < RECORDS {
                holder.read().await;
                check(&client);
            }
        });
    }
    while let Some(read) = reading.join_next().await {
        read.expect("read to the end");
    }
}

/// Another task uses the only thread that could compress batches for a while.
#[test]
fn records_wait_within_their_memory_for_a_thread_that_compresses_them() {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().max_blocking_threads(1).build().expect("built").block_on(async {
        const BUDGET: usize = 3 << 20;
        let (cluster, _) = start(1, &[("t", 1)]).await;
        // Half of a client's memory is for writing.
        let client = with_memory(&cluster, 2 * BUDGET).await;
        let builder = client.producer().compression(Compression::Lz4).batch_bytes_max(64_000);
        let producer =
            builder.settings(|settings| settings.enqueue_timeout = Duration::from_secs(1)).build().await;
        let producer = producer.expect("built");
        producer.send(Record::to("t").value("first")).await.expect("written");

        let (release, released) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || released.recv());
        let value = [7; 9000];
        let filling = async {
            for posted in 0..2 * BUDGET / value.len() {
                if let Err(error) = producer.post(Record::to("t").value(&value)).await {
                    return (posted, error);
                }
            }
            panic!("more is taken than there is memory for");
        };
        let (posted, error) = timeout(PATIENCE, filling).await.expect("nobody waits for the thread alone");
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(!error.maybe_written(), "{error}");
        assert!(posted * value.len() > BUDGET * 3 / 4, "{posted}");
        let bytes = client.pool_stats().bytes_out;
        assert!(bytes <= BUDGET, "{bytes} of {BUDGET}");
        let ends = client.admin().list_offsets([("t", 0)], OffsetAt::Latest).await.expect("listed");
        assert!(matches!(ends[..], [(_, Ok(Some(1)))]), "nothing was compressed: {ends:?}");

        drop(release);
        busy.await.expect("ended").expect_err("nothing was sent");
        timeout(PATIENCE, producer.flush()).await.expect("in time").expect("flushed");
        let records = read(&mut consumer(&client, "t", 1).await, 1 + posted).await;
        let offsets: Vec<i64> = records[&0].iter().map(|record| record.offset).collect();
        assert_eq!(offsets, (0..=posted as i64).collect::<Vec<_>>());
    });
}

#[tokio::test]
async fn many_topics_may_be_assigned_at_once() {
    let names: Vec<String> = (0..200).map(|index| format!("topic-{index}")).collect();
    let cluster = Broker::builder().start().await.expect("started");
    names.iter().for_each(|name| cluster.create_topic(name, 1).expect("created"));
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    // Enough for each of them, not for all.
    let client = builder.request_timeout(Duration::from_millis(400)).connect().await.expect("connected");
    let assigned = names.iter().map(|name| (name, 0));
    let consumer = client.consumer_direct().assign(assigned, Position::Earliest).build().await;
    assert_eq!(consumer.expect("built").assignment().len(), 200);
}

/// The default pool, where the test sees what is kept.
struct Seen(Arc<SizeClasses>);

impl BufferPool for Seen {
    fn take(&self, bytes_min: usize) -> Option<Vec<u8>> {
        self.0.take(bytes_min)
    }

    fn give(&self, buffer: Vec<u8>) {
        self.0.give(buffer);
    }

    fn trim(&self) {
        self.0.trim();
    }
}

#[tokio::test]
async fn an_idle_client_keeps_no_memory() {
    let (cluster, _) = start(1, &[("t", 1)]).await;
    fill(&cluster, "t", 1, 100, 8000).await;
    let classes = Arc::new(SizeClasses::default());
    let builder = Client::builder().bootstrap(cluster.bootstrap()).buffer_pool(Seen(Arc::clone(&classes)));
    let client = builder.connect().await.expect("connected");
    let mut consumer = consumer(&client, "t", 1).await;
    assert_eq!(count(&mut consumer, 100).await[0], 100);
    assert!(classes.kept_bytes() > 0);
    tokio::time::pause();
    for _ in 0..10_000 {
        tokio::time::advance(Duration::from_millis(10)).await;
        if classes.kept_bytes() == 0 {
            return;
        }
    }
    panic!("{} bytes are kept for ever", classes.kept_bytes());
}

#[tokio::test]
async fn a_batch_above_our_own_limit_is_told_by_the_name_of_the_setting() {
    let (cluster, client) = start(1, &[("t", 1)]).await;
    let producer = client.producer().compression(Compression::Lz4).build().await.expect("built");
    producer.send(Record::to("t").value(vec![7; 100_000])).await.expect("written");
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    let small = builder.settings(|settings| settings.decompressed_bytes_max = 10_000).connect().await;
    let building = small.expect("connected").consumer_direct().assign([("t", 0)], Position::Earliest).build();
    let mut consumer = building.await.expect("built");
    let error = timeout(PATIENCE, consumer.next()).await.expect("in time").expect_err("above the limit");
    assert_eq!((error.kind(), error.fault()), (ErrorKind::TooLarge, Fault::Caller), "{error}");
    assert!(error.to_string().contains("raise decompressed_bytes_max"), "{error}");
}
