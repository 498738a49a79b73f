//! A member of a group that finishes half of a partition's records in random order, but never the first one, and commits. Then it
//! finishes some more, and waits to be killed: `keeper BOOTSTRAP GROUP TOPIC COUNT SEED`. It prints `committed <tab> offsets`, `later <tab> offsets` and
//! `waiting`.

use std::io::{Write as _, stdout};
use std::time::Duration;

use anyhow::bail;
use milena::{Client, Protocol, SharedRecord};
use milena_interop::random::Random;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&std::env::args().skip(1).collect::<Vec<_>>()))
}

async fn run(args: &[String]) -> anyhow::Result<()> {
    let [bootstrap, group, topic, count, seed] = args else { bail!("five arguments are needed") };
    let (count, mut random) = (count.parse::<usize>()?, Random::new(seed.parse()?));
    let client = Client::connect(bootstrap.as_str()).await?;
    let builder = client.consumer(group.as_str()).subscribe([topic]).keep_finished().manual_commits();
    // Kafka's shortest session, after which the partition is the next member's.
    let builder = builder.protocol(Protocol::Classic).session_timeout(Duration::from_secs(6));
    let mut consumer = builder.heartbeat_interval(Duration::from_millis(500)).build().await?;
    let mut open: Vec<SharedRecord> = Vec::new();
    while open.len() < count {
        let Some(batch) = consumer.next().await? else { bail!("the group is over") };
        open.extend(batch.share().records());
    }
    // The first one stays.
    open.remove(0);
    let mut finish = |how_many: usize| {
        let mut offsets = Vec::new();
        for _ in 0..how_many {
            let record = open.swap_remove(random.below(open.len()));
            consumer.done_record(&record.view());
            offsets.push(record.offset().to_string());
        }
        offsets.join(",")
    };
    let committed = finish(count / 2);
    consumer.commit().await?;
    let later = finish(count / 80);
    let mut out = stdout().lock();
    writeln!(out, "committed\t{committed}\nlater\t{later}\nwaiting")?;
    out.flush()?;
    drop(out);
    // Heartbeats go on until the process is killed.
    while consumer.next().await?.is_some() {}
    bail!("it was to be killed")
}
