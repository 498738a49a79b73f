//! Batches and records that the application holds: in tasks of its own, and for long.

use std::sync::{Arc, Mutex};

use milena::{Batch, ConsumerHandle, ConsumerMemory, PoolStats, SharedRecord, TopicMemory};
use milena_wire::pool::BufferPool;
use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber, span};

use super::*;

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Writes batches of `each` records of 100 bytes into partition 0 of "t".
async fn write(client: &Client, codec: Compression, batches: usize, each: usize) {
    let producer = client.producer().compression(codec).build().await.expect("built");
    for batch in 0..batches {
        for index in 0..each {
            let value = format!("{:0100}", batch * each + index);
            let record = Record::to("t").partition(0).key("k").value(&value).header("h", "v");
            drop(producer.enqueue(record).await.expect("taken"));
        }
        producer.flush().await.expect("flushed");
    }
}

async fn next(consumer: &mut Consumer) -> Batch {
    let next = timeout(PATIENCE, consumer.next()).await.expect("in time");
    next.expect("read").expect("something is assigned")
}

async fn wait_until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it comes to be so");
}

/// What the consumer's only topic takes.
fn topic(memory: &ConsumerMemory) -> &TopicMemory {
    assert_eq!(memory.topics.len(), 1, "{memory:?}");
    &memory.topics[0]
}

#[tokio::test]
async fn a_shared_record_is_the_one_of_its_batch_with_every_codec() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    for codec in CODECS {
        write(&client, codec, 1, 20).await;
    }
    let producer = producer(&client).await;
    producer.send(Record::to("t").partition(0)).await.expect("written");
    producer.send(Record::to("t").partition(0).key("").value("")).await.expect("written");
    let mut consumer = consumer(&client, "t", 1).await;
    let mut seen = 0;
    while seen < CODECS.len() * 20 + 2 {
        let batch = next(&mut consumer).await;
        let expected: Vec<_> = batch.iter().map(|record| record.to_owned()).collect();
        let batch = batch.share();
        let handles: Vec<SharedRecord> = batch.records().collect();
        let by_view: Vec<_> = batch.iter().filter_map(|record| batch.record(&record)).collect();
        drop(batch);
        // In another thread, and in any order.
        let copies = std::thread::spawn(move || {
            let copy = |record: SharedRecord| {
                assert_eq!(record.view().offset(), record.offset());
                assert_eq!(
                    record.header("h"),
                    record.key().filter(|key| !key.is_empty()).map(|_| Some(&b"v"[..]))
                );
                record.to_owned()
            };
            (
                handles.into_iter().map(copy).collect::<Vec<_>>(),
                by_view.into_iter().rev().map(copy).rev().collect::<Vec<_>>(),
            )
        });
        let (copies, by_view) = copies.join().expect("copied");
        assert_eq!(copies, expected);
        assert_eq!(by_view, expected);
        seen += expected.len();
    }
}

#[tokio::test]
async fn ranges_of_a_shared_batch_part_its_records() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    write(&client, Compression::Lz4, 1, 20).await;
    let mut consumer =
        client.consumer_direct().assign([("t", 0)], Position::Offset(3)).build().await.expect("built");
    let batch = next(&mut consumer).await.share();
    let offsets = |part: &milena::SharedBatch| part.iter().map(|record| record.offset()).collect::<Vec<_>>();
    let check = |part: &milena::SharedBatch, expect: std::ops::Range<i64>| {
        assert_eq!((part.first_offset(), part.next_offset()), (expect.start, expect.end));
        assert_eq!(offsets(part), expect.collect::<Vec<_>>());
    };
    check(&batch, 3..20);
    check(&batch.range(..10), 3..10);
    check(&batch.range(10..), 10..20);
    check(&batch.range(5..=7).range(6..100), 6..8);
    check(&batch.range(7..7), 7..7);
    check(&batch.range(100..), 20..20);
    check(&batch.range(..), 3..20);
    let other = next_of_other(&client).await;
    let foreign = other.iter().next().expect("a record");
    assert!(batch.record(&foreign).is_none(), "a record of another batch");
}

async fn next_of_other(client: &Client) -> Batch {
    next(&mut consumer(client, "t", 1).await).await
}

#[tokio::test]
async fn memory_is_counted_until_the_last_handle_is_dropped_and_no_longer() {
    for codec in CODECS {
        let (_cluster, client) = start(1, &[("t", 1)]).await;
        write(&client, codec, 1, 200).await;
        let mut consumer = client.consumer_direct().topic("t").until_end().build().await.expect("built");
        let batch = next(&mut consumer).await;
        let bytes = batch.memory_bytes();
        assert!(bytes >= batch.bytes(), "{codec}: {bytes}");
        let whole = batch.share();
        let (half, record) = (whole.range(10..), whole.records().nth(7).expect("a record"));
        for handle in [Box::new(whole) as Box<dyn Send>, Box::new(half), Box::new(record)] {
            let memory = consumer.memory();
            assert_eq!((topic(&memory).in_use_bytes, topic(&memory).in_use_batches), (bytes, 1), "{codec}");
            assert!(memory.budget_bytes_used >= bytes, "{codec}: {memory:?}");
            drop(handle);
        }
        let memory = consumer.memory();
        assert_eq!((topic(&memory).in_use_bytes, topic(&memory).oldest), (0, None), "{codec}");
        // Everything was read, so that no answer is expected.
        assert!(timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").is_none());
        wait_until(|| consumer.memory().budget_bytes_used == 0).await;
        assert_eq!(client.decompressed_pool_stats().bytes_out, 0, "{codec}");
    }
}

#[tokio::test]
async fn buffers_count_with_all_their_memory() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    write(&client, Compression::Zstd, 3, 1000).await;
    let mut consumer = consumer(&client, "t", 1).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(next(&mut consumer).await);
        let memory = consumer.memory();
        let of_pool = client.decompressed_pool_stats().bytes_out;
        assert_eq!(topic(&memory).in_use_bytes, of_pool);
        assert!(memory.budget_bytes_used >= of_pool, "{memory:?}, {of_pool} of the pool");
    }
}

/// A thousand tiny batches take more memory for their places in the queue than for their bytes.
#[tokio::test]
async fn the_places_of_small_batches_count_too() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    let producer = client.producer().batch_bytes_max(1).build().await.expect("built");
    for _ in 0..1000 {
        producer.post(Record::to("t").partition(0).value("x")).await.expect("taken");
    }
    producer.flush().await.expect("flushed");
    let consumer = consumer(&client, "t", 1).await;
    wait_until(|| topic(&consumer.memory()).buffered_batches == 1000).await;
    let memory = consumer.memory();
    let on_the_wire = 1000 * 70;
    assert!(topic(&memory).buffered_bytes > 2 * on_the_wire, "{memory:?}");
    assert!(memory.budget_bytes_used >= topic(&memory).buffered_bytes, "{memory:?}");
}

#[tokio::test]
async fn a_small_batch_that_is_kept_shows_the_whole_response_as_pinned() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    write(&client, Compression::None, 40, 50).await;
    let mut consumer = client.consumer_direct().topic("t").until_end().build().await.expect("built");
    let kept = next(&mut consumer).await;
    while timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").is_some() {}
    let memory = consumer.memory();
    assert_eq!(topic(&memory).in_use_bytes, kept.memory_bytes());
    assert_eq!(topic(&memory).pinned_bytes, 0, "it was just taken: {memory:?}");
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(11)).await;
    let memory = consumer.memory();
    let of = topic(&memory);
    assert_eq!((of.in_use_bytes, of.pinned_batches), (kept.memory_bytes(), 1));
    assert!(of.oldest >= Some(Duration::from_secs(11)), "{of:?}");
    assert!(of.pinned_bytes > 10 * kept.memory_bytes(), "{of:?}");
    tokio::time::resume();
    // Nothing else is in use, once the answers are there that were expected.
    wait_until(|| consumer.memory().budget_bytes_used == of.pinned_bytes).await;
    drop(kept);
    assert_eq!(topic(&consumer.memory()).pinned_bytes, 0);
}

#[tokio::test]
async fn a_batch_that_is_shrunk_takes_no_more_than_itself() {
    for codec in [Compression::None, Compression::Lz4] {
        let (_cluster, client) = start(1, &[("t", 1)]).await;
        write(&client, codec, 40, 50).await;
        let mut consumer = client.consumer_direct().topic("t").until_end().build().await.expect("built");
        let mut kept = next(&mut consumer).await;
        let copies = |batch: &Batch| batch.iter().map(|record| record.to_owned()).collect::<Vec<_>>();
        let (before, bytes) = (copies(&kept), kept.memory_bytes());
        let record = before[7].clone();
        kept.shrink_to_fit();
        assert_eq!((copies(&kept), kept.memory_bytes()), (before, bytes), "{codec}");
        kept.shrink_to_fit();
        let shared = kept.share().records().nth(7).expect("a record");
        assert_eq!(shared.to_owned(), record, "{codec}");
        while timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").is_some() {}
        wait_until(|| consumer.memory().budget_bytes_used == bytes).await;
        assert_eq!(topic(&consumer.memory()).in_use_bytes, bytes, "{codec}");
        drop(shared);
        assert_eq!(consumer.memory().budget_bytes_used, 0, "{codec}");
    }
}

#[tokio::test]
async fn a_batch_of_a_partition_that_was_given_up_is_still_shown() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    write(&client, Compression::None, 1, 50).await;
    let mut consumer = consumer(&client, "t", 1).await;
    let kept = next(&mut consumer).await;
    consumer.unassign([("t", 0)]).expect("by position");
    assert_eq!(topic(&consumer.memory()).in_use_bytes, kept.memory_bytes());
    drop(kept);
    assert_eq!(consumer.memory().topics, []);
}

/// Keeps the warnings that contain `part`.
pub(crate) struct Warnings {
    pub(crate) part: &'static str,
    pub(crate) seen: Arc<Mutex<Vec<String>>>,
}

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{value:?}"));
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        if text.contains(self.part) {
            self.seen.lock().expect("not poisoned").push(text);
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn a_batch_that_is_held_for_a_minute_is_warned_of_once() {
    let seen = Arc::<Mutex<Vec<String>>>::default();
    let warnings = Warnings { part: "the application holds", seen: Arc::clone(&seen) };
    let _log = tracing::subscriber::set_default(warnings);
    let texts = || seen.lock().expect("not poisoned").clone();
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    write(&client, Compression::Lz4, 2, 50).await;
    let mut consumer = consumer(&client, "t", 1).await;
    let kept = next(&mut consumer).await;
    let pass = async |seconds| {
        for _ in 0..seconds {
            tokio::time::advance(Duration::from_secs(1)).await;
            // The driver takes its turn.
            tokio::task::yield_now().await;
        }
    };
    tokio::time::pause();
    pass(59).await;
    assert_eq!(texts(), [""; 0], "not yet");
    pass(300).await;
    let once = texts();
    assert_eq!(once.len(), 1, "{once:?}");
    let of_it = format!("{} bytes of the budget", kept.memory_bytes());
    for part in ["1 batches", "partition 0 of topic \"t\"", "to_owned", &of_it] {
        assert!(once[0].contains(part), "{once:?}");
    }
    drop(kept);
    pass(100).await;
    assert_eq!(texts().len(), 1, "nothing is held");
    tokio::time::resume();
    let _again = next(&mut consumer).await;
    tokio::time::pause();
    pass(100).await;
    assert_eq!(texts().len(), 2, "another one is kept");
}

/// A pool that fails in every way.
struct Faulty;

impl BufferPool for Faulty {
    fn take(&self, bytes_min: usize) -> Option<Vec<u8>> {
        assert!(bytes_min.is_multiple_of(2), "a pool that panics");
        Some(Vec::new())
    }

    fn give(&self, buffer: Vec<u8>) {
        assert!(buffer.is_empty(), "a pool that panics");
    }

    fn trim(&self) {
        panic!("a pool that panics");
    }
}

#[tokio::test]
async fn pools_that_panic_or_return_too_little_break_nothing() {
    let (cluster, _) = start(1, &[("t", 1)]).await;
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    let client = builder.buffer_pool(Faulty).decompressed_pool(Faulty).connect().await.expect("connected");
    for codec in CODECS {
        write(&client, codec, 2, 500).await;
    }
    let mut reader = consumer(&client, "t", 1).await;
    assert_eq!(read(&mut reader, CODECS.len() * 1000).await[&0].len(), CODECS.len() * 1000);
    // The task that trims the pools goes on after a panic.
    tokio::time::pause();
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    tokio::time::resume();
    write(&client, Compression::Lz4, 1, 10).await;
    read(&mut reader, 10).await;
    for PoolStats { hits, misses, faults, .. } in [client.pool_stats(), client.decompressed_pool_stats()] {
        assert!(hits == 0 && misses > 0 && faults > misses, "{hits} {misses} {faults}");
    }
}

/// The two pools are told apart, and each counts what is out and what is idle.
#[tokio::test]
async fn each_pool_counts_its_own_buffers() {
    let (_cluster, client) = start(1, &[("t", 1)]).await;
    write(&client, Compression::Lz4, 4, 1000).await;
    let before = client.pool_stats();
    assert_eq!(client.decompressed_pool_stats().misses, 0, "nothing was decompressed");
    let mut consumer = client.consumer_direct().topic("t").until_end().build().await.expect("built");
    let held = next(&mut consumer).await;
    let (frames, decompressed) = (client.pool_stats(), client.decompressed_pool_stats());
    assert!(frames.hits + frames.misses > before.hits + before.misses, "{frames:?}");
    assert_eq!((decompressed.misses, decompressed.bytes_out), (1, held.memory_bytes()));
    drop(held);
    while timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").is_some() {}
    let decompressed = client.decompressed_pool_stats();
    assert_eq!((decompressed.hits, decompressed.bytes_out), (3, 0), "{decompressed:?}");
    assert!(decompressed.bytes_idle >= 100_000, "{decompressed:?}");
}

/// A pool that returns buffers of a megabyte, whatever is asked for, and keeps what it is given for ever.
#[derive(Clone, Default)]
struct Wasteful(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool for Wasteful {
    fn take(&self, bytes_min: usize) -> Option<Vec<u8>> {
        Some(Vec::with_capacity(bytes_min.max(1 << 20)))
    }

    fn give(&self, buffer: Vec<u8>) {
        self.0.lock().expect("not poisoned").push(buffer);
    }
}

#[tokio::test]
async fn pools_that_return_too_much_and_free_nothing_are_counted_as_they_are() {
    const BATCHES: usize = 20;
    let (cluster, writer) = start(1, &[("t", 1)]).await;
    write(&writer, Compression::Lz4, BATCHES, 50).await;
    // Half of it is for reading.
    let builder = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(4 << 20);
    let pool = Wasteful::default();
    let builder = builder.buffer_pool(pool.clone()).decompressed_pool(pool.clone());
    let client = builder.connect().await.expect("connected");
    let mut consumer = client.consumer_direct().topic("t").until_end().build().await.expect("built");
    let mut held = Vec::new();
    while let Some(batch) = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read") {
        assert_eq!(batch.memory_bytes(), 1 << 20);
        held.push(batch);
        assert!(consumer.memory().budget_bytes_used >= held.len() << 20);
    }
    assert_eq!(held.len(), BATCHES);
    drop(held);
    wait_until(|| consumer.memory().budget_bytes_used == 0).await;
    assert_eq!(client.decompressed_pool_stats().bytes_out, 0);
    assert!(pool.0.lock().expect("not poisoned").len() >= BATCHES);
}

/// A pool whose users meet in it: it lets none of them go before the last one has come.
#[derive(Clone)]
struct Meeting {
    inside: Arc<(Mutex<usize>, std::sync::Condvar)>,
    /// The last one to come looks at the consumer, under every lock that there is.
    handle: Arc<std::sync::OnceLock<ConsumerHandle>>,
}

impl BufferPool for Meeting {
    fn take(&self, _: usize) -> Option<Vec<u8>> {
        let (inside, changed) = &*self.inside;
        let mut inside = inside.lock().expect("not poisoned");
        *inside += 1;
        if *inside == READERS {
            let handle = self.handle.get().expect("set before anything is read");
            for partition in 0..READERS as i32 {
                assert!(handle.position("t", partition).is_some());
                handle.pause("t", partition).expect("assigned");
                handle.resume("t", partition).expect("assigned");
                handle.seek("t", partition, Position::Offset(0)).expect("assigned");
            }
            let memory = handle.memory().expect("the consumer lives");
            assert_eq!(memory.topics[0].in_use_batches, READERS);
        }
        changed.notify_all();
        let (inside, waited) =
            changed.wait_timeout_while(inside, PATIENCE, |inside| *inside < READERS).expect("not poisoned");
        drop(inside);
        assert!(!waited.timed_out(), "a reader waits until another one has decompressed");
        None
    }

    fn give(&self, _: Vec<u8>) {}
}

const READERS: usize = 6;

/// The threads that meet must not be those that the connections need.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn readers_of_all_partitions_decompress_at_the_same_time_and_under_no_lock() {
    let (cluster, writer) = start(1, &[("t", READERS as i32)]).await;
    let producer = writer.producer().compression(Compression::Zstd).build().await.expect("built");
    for partition in 0..READERS as i32 {
        let value = vec![7; 10_000];
        producer.send(Record::to("t").partition(partition).value(&value)).await.expect("written");
    }
    let meeting = Meeting { inside: Arc::default(), handle: Arc::default() };
    let builder = Client::builder().bootstrap(cluster.bootstrap()).decompressed_pool(meeting.clone());
    let client = builder.connect().await.expect("connected");
    let consumer = consumer(&client, "t", READERS as i32).await;
    assert!(meeting.handle.set(consumer.handle()).is_ok());
    let readers = consumer.partitions();
    let reading = readers.into_iter().map(|mut reader| {
        tokio::spawn(async move { reader.next().await.expect("read").expect("assigned").iter().count() })
    });
    for reading in reading.collect::<Vec<_>>() {
        assert_eq!(timeout(PATIENCE, reading).await.expect("in time").expect("read"), 1);
    }
    assert_eq!(*meeting.inside.0.lock().expect("not poisoned"), READERS);
    assert_eq!(client.decompressed_pool_stats().faults, 0, "no one waited in vain");
}
