//! Milena as a member of a group until it is told to leave: `src/member.rs` of the library says what it reads and prints. An
//! eighth argument is a seed: records are then finished one by one in random order, while later batches come, instead of
//! batch by batch. With `-` for the group it reads all partitions by position, as the control that a member is compared with.

use std::io::{Write as _, stdout};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use milena::assignors::{Assignor, CooperativeSticky, Range, RoundRobin, Sticky};
use milena::{Batch, Client, Consumer, Protocol};
use milena_interop::journal::now;
use milena_interop::member::told;
use milena_interop::random::Random;
use milena_interop::tap::{Fetched, Tap};
use tokio::sync::Notify;
use tokio::time::timeout;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&std::env::args().skip(1).collect::<Vec<_>>()))
}

async fn run(args: &[String]) -> anyhow::Result<()> {
    let [bootstrap, group, topic, protocol, session, heartbeat, instance, rest @ ..] = args else {
        bail!("eight arguments are needed");
    };
    let millis = |text: &String| anyhow::Ok(Duration::from_millis(text.parse()?));
    let told = told();
    let client = Client::builder().bootstrap(bootstrap).connector(Tap::new(say_fetched)).connect().await?;
    if group == "-" {
        let mut consumer = client.consumer_direct().topic(topic.as_str()).build().await?;
        say("started");
        say_partitions("assigned", &consumer.assignment());
        in_order(&mut consumer, &told).await;
        say("closed");
        return Ok(());
    }
    let mut builder = client.consumer(group.as_str()).subscribe([topic]);
    if instance != "-" {
        builder = builder.instance_id(instance.as_str());
    }
    builder = if protocol == "consumer" {
        builder.protocol(Protocol::Consumer)
    } else {
        let assignors = protocol.split(',').map(assignor).collect::<anyhow::Result<Vec<_>>>()?;
        let builder = builder.protocol(Protocol::Classic).assignors(assignors);
        builder.session_timeout(millis(session)?).heartbeat_interval(millis(heartbeat)?)
    };
    if !rest.is_empty() {
        // A member that is killed after half a second has committed several times.
        builder = builder.commit_interval(Duration::from_millis(50));
    }
    let mut consumer = builder
        .on_assigned(|partitions, _| async move { say_partitions("assigned", &partitions) })
        .on_revoked(|partitions, _| async move { say_partitions("revoked", &partitions) })
        .on_lost(|partitions, _| async move { say_partitions("lost", &partitions) })
        .build()
        .await?;
    say("started");
    match rest {
        [seed] => in_random_order(&mut consumer, &told, seed.parse()?).await,
        _ => in_order(&mut consumer, &told).await,
    }
    if let Err(error) = consumer.close().await {
        say(&format!("error\t{error}"));
    }
    say("closed");
    Ok(())
}

async fn in_order(consumer: &mut Consumer, told: &Notify) {
    let mut told = pin!(told.notified());
    loop {
        let next = tokio::select! {
            biased;
            () = &mut told => return,
            next = consumer.next() => next,
        };
        match next {
            Ok(Some(batch)) => {
                show(&batch);
                consumer.done(&batch);
            }
            Ok(None) => return,
            Err(error) => say(&format!("error\t{error}")),
        }
    }
}

/// Finishes records in random order, up to 300 of which are open. Before the end all are finished.
async fn in_random_order(consumer: &mut Consumer, told: &Notify, seed: u64) {
    let mut random = Random::new(seed);
    let mut told = pin!(told.notified());
    let mut open: Vec<(Arc<Batch>, usize)> = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            () = &mut told => break,
            next = timeout(Duration::from_millis(3), consumer.next()) => next,
        };
        match next {
            Ok(Ok(Some(batch))) => {
                let count = show(&batch);
                let batch = Arc::new(batch);
                open.extend((0..count).map(|index| (Arc::clone(&batch), index)));
            }
            Ok(Ok(None)) => break,
            Ok(Err(error)) => say(&format!("error\t{error}")),
            Err(_) => {}
        }
        let kept = random.below(300);
        finish(consumer, &mut random, &mut open, kept);
    }
    finish(consumer, &mut random, &mut open, 0);
}

fn finish(consumer: &Consumer, random: &mut Random, open: &mut Vec<(Arc<Batch>, usize)>, kept: usize) {
    while open.len() > kept {
        let (batch, index) = open.swap_remove(random.below(open.len()));
        if let Some(record) = batch.iter().nth(index) {
            say(&format!("done\t{}\t{}\t{}", batch.partition(), record.offset(), record.offset()));
            consumer.done_record(&record);
        }
    }
}

/// Prints the records, and returns how many there are.
fn show(batch: &Batch) -> usize {
    let (mut text, mut count) = (String::new(), 0);
    for record in batch {
        let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
        text += &format!("{}\trecord\t{}\t{}\t{value}\n", now(), batch.partition(), record.offset());
        count += 1;
    }
    print(&text);
    count
}

fn say_partitions(what: &str, partitions: &[(String, i32)]) {
    let mut numbers: Vec<i32> = partitions.iter().map(|partition| partition.1).collect();
    numbers.sort_unstable();
    let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
    say(&format!("{what}\t{}", numbers.join(",")));
}

fn say_fetched(fetched: Fetched) {
    let Fetched { partition, first, next, bytes, asked } = fetched;
    say(&format!("fetched\t{partition}\t{first}\t{next}\t{bytes}\t{asked}"));
}

fn say(words: &str) {
    print(&format!("{}\t{words}\n", now()));
}

/// Prints at once. Without a reader the member ends.
fn print(text: &str) {
    let mut out = stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

fn assignor(name: &str) -> anyhow::Result<Arc<dyn Assignor>> {
    let all: [Arc<dyn Assignor>; 4] =
        [Arc::new(Range), Arc::new(RoundRobin), Arc::new(Sticky), Arc::new(CooperativeSticky)];
    all.into_iter().find(|assignor| assignor.name() == name).with_context(|| format!("no assignor {name}"))
}
