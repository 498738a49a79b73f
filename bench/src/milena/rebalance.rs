//! Measures how long a rebalance takes while a member has many bytes buffered that its application has not taken: from the
//! call that makes a second member of the group to that member's first record.

use std::sync::Arc;
use std::time::{Duration, Instant};

use milena::assignors::{Assignor, CooperativeSticky, Range};
use milena::{Client, Consumer, ConsumerSettings, Protocol};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::options::{Failure, Options};
use crate::outcome::{Allocations, Outcome};

const LOOK_INTERVAL: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(60);
/// Members hear of a rebalance in the answer to a heartbeat. The time until then has nothing to do with what is buffered. The
/// broker says the same to members of groups of the consumer protocol.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(20);

/// One rebalance.
struct Rebalance {
    /// Until the second member had its first record.
    to_record: Duration,
    /// Until the first member had given half of the partitions up, and its memory was freed.
    to_free: Duration,
    /// The CPU and the allocations of both members until the first record.
    cpu: Duration,
    allocations: u64,
}

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let mut all = Vec::new();
    for round in 0..options.tasks {
        all.push(rebalance(options, round).await?);
    }
    let median = |of: &dyn Fn(&Rebalance) -> f64| {
        let mut sorted: Vec<f64> = all.iter().map(of).collect();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let settings = json!({
        "protocol": options.protocol,
        "buffered_bytes": options.buffer_bytes,
        "to_record_ms": median(&|one| ms(one.to_record)),
        "to_free_ms": median(&|one| ms(one.to_free)),
        "cpu_ms": median(&|one| ms(one.cpu)),
        "rebalance_allocations": median(&|one| one.allocations as f64),
        "give_up_ms": ms(give_up(options).await?),
    });
    Ok(Outcome { records: all.len() as u64, settings, ..Default::default() })
}

async fn rebalance(options: &Options, round: usize) -> Result<Rebalance, Failure> {
    let group = format!("{}-{}-{round}", options.protocol, options.topic);
    let first = member(&client(options).await?, &group, options).await?;
    until_buffered(&first, |bytes| bytes >= options.buffer_bytes).await?;
    let other = client(options).await?;
    let (allocations, cpu, start) = (Allocations::start(), cpu()?, Instant::now());
    let mut second = member(&other, &group, options).await?;
    let next =
        timeout(PATIENCE, second.next()).await.map_err(|_| "no record for the second member".to_owned())?;
    next?.ok_or_else(|| "the second member is closed".to_owned())?;
    let to_record = start.elapsed();
    let (cpu, (allocations, _)) = (self::cpu()? - cpu, allocations.count());
    // The second member's fetches go on, and are not of interest.
    drop(second);
    let half = options.buffer_bytes * 6 / 10;
    until_buffered(&first, |bytes| bytes <= half).await?;
    Ok(Rebalance { to_record, to_free: start.elapsed(), cpu, allocations })
}

/// How long it takes to stop reading all partitions while this much of them is buffered, until the memory is free.
async fn give_up(options: &Options) -> Result<Duration, Failure> {
    let client = client(options).await?;
    let consumer = client.consumer_direct().topic(&options.topic).settings(buffer_all).build().await?;
    until_buffered(&consumer, |bytes| bytes >= options.buffer_bytes).await?;
    let assigned = consumer.assignment();
    let start = Instant::now();
    consumer.unassign(assigned.iter().map(|(topic, partition)| (topic, *partition)))?;
    Ok(start.elapsed())
}

/// A client with room for all that is to be buffered: half of its memory is for reading.
async fn client(options: &Options) -> Result<Client, Failure> {
    let memory = 4 * options.buffer_bytes + (64 << 20);
    Ok(Client::builder().bootstrap(&options.bootstrap).memory_bytes_max(memory).connect().await?)
}

/// No partition's share of what is buffered is limited.
fn buffer_all(settings: &mut ConsumerSettings) {
    settings.partition_buffer_bytes_max = Some(usize::MAX);
}

async fn member(client: &Client, group: &str, options: &Options) -> Result<Consumer, Failure> {
    let builder = client.consumer(group).subscribe([&*options.topic]).settings(buffer_all);
    let assignor: Arc<dyn Assignor> = match &*options.protocol {
        "eager" => Arc::new(Range),
        "cooperative" => Arc::new(CooperativeSticky),
        // The broker's setting says how often members send heartbeats.
        "consumer" => return Ok(builder.protocol(Protocol::Consumer).build().await?),
        other => return Err(Failure::Usage(format!("--protocol {other}: eager, cooperative or consumer"))),
    };
    let builder = builder.protocol(Protocol::Classic).assignors([assignor]);
    Ok(builder.heartbeat_interval(HEARTBEAT_INTERVAL).build().await?)
}

async fn until_buffered(consumer: &Consumer, is_enough: impl Fn(usize) -> bool) -> Result<(), Failure> {
    let looking = async {
        while !is_enough(consumer.memory().topics.iter().map(|topic| topic.buffered_bytes).sum()) {
            sleep(LOOK_INTERVAL).await;
        }
    };
    timeout(PATIENCE, looking).await.map_err(|_| {
        let memory = consumer.memory();
        Failure::Failed(format!("after {} s: {memory:?}", PATIENCE.as_secs()))
    })
}

/// The CPU that this process has used.
fn cpu() -> Result<Duration, Failure> {
    let used = getrusage(UsageWho::RUSAGE_SELF).map_err(|error| error.to_string())?;
    let micros = used.user_time().num_microseconds() + used.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}
