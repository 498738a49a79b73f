//! What a pipeline allocates: next to nothing per record once it runs, and no more than its limits when records take long.

mod support {
    include!("support/records.rs");
}

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use milena::{Client, Record};
use milena_broker::{Broker, Cluster};
use milena_pipeline::dead_letters::DeadLetters;
use milena_pipeline::layers::{
    CircuitBreaker, Deduplicate, KeyOf, Measure, PerKey, RateLimit, Retrying, Timeout, Trace,
};
use milena_pipeline::{Failure, Order, Pipeline, PipelineWatch, Retry, Span as _};
use tokio::runtime::{Builder, Runtime};
use tower::{Layer, Service, service_fn};

/// Longer than anything here takes, so that a test which hangs ends.
const LIMIT: Duration = Duration::from_secs(120);

/// A broker with threads of its own, so that only client and pipeline allocate on the thread of the test.
struct World {
    cluster: Cluster,
    /// Of client and pipeline. It runs only while it is waited for.
    runtime: Runtime,
    _of_broker: Runtime,
}

impl World {
    fn new(partitions: i32) -> Self {
        let of_broker = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("built");
        let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
        let cluster = of_broker.block_on(builder.start()).expect("started");
        cluster.create_topic("t", partitions).expect("created");
        let runtime = Builder::new_current_thread().enable_all().build().expect("built");
        Self { cluster, runtime, _of_broker: of_broker }
    }

    /// Writes this many records with 50 000 keys, in batches of about this many bytes.
    fn fill(&self, count: usize, partitions: usize, batch_bytes: usize) {
        // On a runtime that ends, so that nothing of it is freed later.
        let runtime = Builder::new_current_thread().enable_all().build().expect("built");
        runtime.block_on(async {
            let client = self.client().await;
            let producer = client.producer().batch_bytes_max(batch_bytes).build().await.expect("built");
            for number in 0..count {
                let key = (number as u64 % 50_000).to_be_bytes();
                let partition = (number % partitions) as i32;
                let record = Record::to("t").partition(partition).key(&key).value(&[b'v'; 100]);
                producer.post(record).await.expect("taken");
            }
            producer.flush().await.expect("written");
        });
    }

    async fn client(&self) -> Client {
        Client::connect(self.cluster.bootstrap()).await.expect("connected")
    }

    /// Runs client and pipeline until this holds, and tells what they have allocated meanwhile.
    fn until(&self, holds: impl Fn() -> bool) -> AllocationInfo {
        measure(|| {
            let waiting = async {
                while !holds() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            self.runtime.block_on(async { tokio::time::timeout(LIMIT, waiting).await.expect("in time") });
        })
    }

    /// Starts a pipeline whose handlers wait, each for another time.
    fn start(&self, order: Order, work: Option<Duration>) -> PipelineWatch {
        self.runtime.block_on(async {
            let group = format!("{order:?} {work:?}");
            // Less than there is to read, so that it is fetched while it is counted, and workers have as much as they may.
            let consumer = self.client().await.consumer(group).subscribe(["t"]).settings(|settings| {
                settings.memory_bytes_max = Some(4 << 20);
            });
            let pipeline = Pipeline::new(consumer).order(order).concurrency(2_000).workers(2);
            let pipeline = pipeline.partition_bytes_max(512 << 10);
            let watch = pipeline.watch();
            let handler = move |record: milena_pipeline::Record| async move {
                if let Some(work) = work {
                    tokio::time::sleep(work + Duration::from_millis(record.offset().unsigned_abs() % 7))
                        .await;
                }
            };
            tokio::spawn(pipeline.run(handler, std::future::pending()));
            watch
        })
    }
}

fn has_finished(watch: &PipelineWatch, count: u64) -> impl Fn() -> bool {
    move || watch.stats().finished >= count
}

#[test]
fn records_cost_next_to_no_allocations() {
    const WARM: u64 = 60_000;
    const COUNTED: u64 = 100_000;
    let world = World::new(4);
    world.fill(200_000, 4, 16 << 10);
    let works = [None, Some(10.ms())];
    let cases = [Order::None, Order::Key].into_iter().flat_map(|order| works.map(|work| (order, work)));
    for (order, work) in cases.chain([(Order::Partition, None)]) {
        let watch = world.start(order, work);
        world.until(has_finished(&watch, WARM));
        let counted = world.until(has_finished(&watch, WARM + COUNTED));
        let of = |count: u64| count as f64 / COUNTED as f64;
        let (allocations, bytes) = (of(counted.count_total), of(counted.bytes_total));
        println!("{order:?}, work {work:?}: {allocations:.3} allocations of {bytes:.1} bytes per record");
        // Batches, responses for which the pool has no memory, and runs of offsets that are finished above one that is not.
        assert!(allocations < 0.2 && bytes < 100.0, "{order:?}, work {work:?}: {allocations}, {bytes} bytes");
    }
}

#[test]
fn what_workers_have_of_a_partition_that_hangs_is_bounded_in_bytes_however_small_its_batches_are() {
    const LIMIT_BYTES: usize = 512 << 10;
    // The client, its connections and its buffer for the partition, and what pipelines have whatever they read.
    const FIXED_BYTES: usize = 1 << 20;
    let world = World::new(1);
    world.fill(3_000, 1, 1);
    let runs = world.runtime.handle().clone();
    let mut live = 0;
    live += measure(|| {
        world.runtime.block_on(async {
            let builder = Client::builder().bootstrap(world.cluster.bootstrap());
            let client = builder.connect().await.expect("connected");
            let consumer = client.consumer("g").subscribe(["t"]).settings(|settings| {
                settings.partition_buffer_bytes_max = Some(64 << 10);
                settings.fetch_partition_bytes_max = 64 << 10;
            });
            let pipeline = Pipeline::new(consumer).partition_bytes_max(LIMIT_BYTES).concurrency(8).workers(2);
            let hangs = |_: milena_pipeline::Record| std::future::pending::<()>();
            runs.spawn(pipeline.run(hangs, std::future::pending()));
        });
    })
    .bytes_current;
    // Until no more is taken for a while.
    let (mut most, mut same) = (0, 0);
    while same < 40 || most < LIMIT_BYTES as i64 / 2 {
        let step = || world.runtime.block_on(async { tokio::time::sleep(25.ms()).await });
        live += measure(step).bytes_current;
        same = if live > most + 4096 { 0 } else { same + 1 };
        most = most.max(live);
    }
    println!("{most} bytes are allocated, and {LIMIT_BYTES} are allowed");
    let most = usize::try_from(most).expect("more than before");
    assert!(most < LIMIT_BYTES + LIMIT_BYTES / 4 + FIXED_BYTES, "{most} bytes");
}

/// Records of partition 3 take long, so that it falls behind. Of the others some fail for good, some once, and some hang.
async fn faulty(record: milena_pipeline::Record) -> Result<(), Failure> {
    match (record.partition(), record.offset()) {
        (3, _) => tokio::time::sleep(500.ms()).await,
        (_, offset) if offset % 100 == 1 => return Err(Failure::poison("it fails for good")),
        (_, offset) if offset % 100 == 2 && record.attempt() == 1 => {
            return Err(Failure::retriable("not yet"));
        }
        (_, offset) if offset % 5_000 == 3 => std::future::pending().await,
        (_, offset) => tokio::time::sleep(Duration::from_millis(offset.unsigned_abs() % 3)).await,
    }
    Ok(())
}

#[test]
fn memory_does_not_grow_with_the_records_that_are_processed_while_some_fail_hang_and_take_long() {
    // What is fetched and not taken, and the pool, may be empty in one moment and full in the next.
    const NOISE_BYTES: i64 = 256 << 10;
    const TURN: u64 = 45_000;
    // Until then the pool fills with memory of each size it has, which its limits bound.
    const WARM: u64 = 5 * TURN;
    let world = World::new(4);
    world.fill(4 * 120_000, 4, 1 << 10);
    let mut watch = None;
    let mut live = measure(|| {
        watch = Some(world.runtime.block_on(async {
            let consumer = world.client().await.consumer("g").subscribe(["t"]).settings(|settings| {
                settings.fetch_partition_bytes_max = 32 << 10;
                settings.memory_bytes_max = Some(2 << 20);
            });
            let pipeline = Pipeline::new(consumer)
                .concurrency(200)
                .workers(2)
                .partition_bytes_max(64 << 10)
                .time_limit(1.s())
                .retry(Retry::fixed(10.ms()).attempts(2))
                .dead_letters(DeadLetters::to("t.dlq").create(true));
            let watch = pipeline.watch();
            tokio::spawn(pipeline.run(faulty, std::future::pending()));
            watch
        }));
    })
    .bytes_current;
    let watch = watch.expect("started");
    live += world.until(has_finished(&watch, WARM)).bytes_current;
    // The most that is allocated while one turn's records are processed, and the next turn's.
    let most = [0, 1].map(|turn| {
        let mut most = i64::MIN;
        for part in 1..=20 {
            let count = WARM + TURN * turn + TURN * part / 20;
            live += world.until(has_finished(&watch, count)).bytes_current;
            most = most.max(live);
        }
        most
    });
    println!("{most:?} bytes are allocated at most");
    let stats = watch.stats();
    assert!(stats.dead > 500 && stats.expired > 10 && stats.retries > 500, "there were no faults: {stats:?}");
    assert!(most[1] < most[0] + NOISE_BYTES, "memory grew: {most:?}");
}

/// The allocations of a call that ends at once, after some have made room for what is kept.
fn per_call<S>(records: &[milena_pipeline::Record], mut service: S) -> f64
where
    S: Service<milena_pipeline::Record, Response = (), Error = Failure>,
{
    let mut call = |record: &milena_pipeline::Record| {
        let mut context = Context::from_waker(Waker::noop());
        assert!(service.poll_ready(&mut context).is_ready(), "nothing else is in work");
        let call = pin!(service.call(record.clone()));
        assert!(matches!(call.poll(&mut context), Poll::Ready(Ok(()))), "it ends at once");
    };
    let (first, counted) = records.split_at(records.len() / 2);
    first.iter().for_each(&mut call);
    measure(|| counted.iter().for_each(&mut call)).count_total as f64 / counted.len() as f64
}

#[tokio::test]
async fn layers_cost_no_allocations_while_records_neither_wait_nor_fail() {
    let ids: Vec<String> = (0..2_000).map(|number| number.to_string()).collect();
    let headers: Vec<[(&str, &str); 1]> = ids.iter().map(|id| [("id", &**id)]).collect();
    let contents: Vec<support::Contents<'_>> =
        ids.iter().zip(&headers).map(|(key, headers)| (&**key, "x", &headers[..])).collect();
    let records = support::records(&contents);
    let handler = || service_fn(|_: milena_pipeline::Record| std::future::ready(Ok::<(), Failure>(())));
    let found = [
        ("none", per_call(&records, handler())),
        ("Timeout", per_call(&records, Timeout::new(1.s()).layer(handler()))),
        ("Retrying", per_call(&records, Retrying::new(Retry::fixed(1.s())).layer(handler()))),
        ("PerKey", per_call(&records, PerKey::new(KeyOf::record_key(), 1).layer(handler()))),
        ("RateLimit", per_call(&records, RateLimit::every(Duration::from_nanos(1)).layer(handler()))),
        ("Deduplicate", per_call(&records, Deduplicate::by(KeyOf::header("id")).layer(handler()))),
        ("CircuitBreaker", per_call(&records, CircuitBreaker::new().layer(handler()))),
        ("Trace", per_call(&records, Trace::new().layer(handler()))),
        ("Measure", per_call(&records, Measure::new().layer(handler()))),
    ];
    for (layer, allocations) in found {
        println!("{layer}: {allocations:.3} allocations per record");
        // The keys that are known grow, by doubling.
        assert!(allocations < 0.01, "{layer}: {allocations}");
    }
}
