//! A pipeline in a process of its own, which is to be killed: `crash BOOTSTRAP GROUP TOPIC PROTOCOL LIFE SEED GATE`. It prints `b P O`
//! when the record at offset O of partition P is begun and `d P O` before its handler ends, and `l P` when it has lost a partition.
//!
//! The records at offset GATE wait until the word `open` is read, and those at the offset after it for ever; half of all others too,
//! the rest ends in any order. With the GATE `none` all of them end. With the word `stop` the pipeline stops.

use std::collections::HashSet;
use std::io::{BufRead as _, Write as _, stdin, stdout};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use milena::{Client, ConsumerHandle};
use milena_interop::crashes::{CONCURRENCY, Fate, Life, SESSION, WORKERS};
use milena_interop::rebalances::Way;
use milena_pipeline::{Order, Pipeline, Record};
use tokio::sync::watch;

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(run(&std::env::args().skip(1).collect::<Vec<_>>()))
}

async fn run(args: &[String]) -> anyhow::Result<()> {
    let [bootstrap, group, topic, protocol, life, seed, gate] = args else {
        bail!("seven arguments are needed")
    };
    let gate = if gate == "none" { None } else { Some(gate.parse()?) };
    let life = Life { number: life.parse()?, seed: seed.parse()?, gate };
    let words = words();
    let way = Way::of(protocol)?;
    let client = Client::connect(bootstrap.as_str()).await?;
    let consumer = way.applied_to(client.consumer(group.as_str()).subscribe([topic]));
    let consumer = match way {
        Way::Consumer => consumer,
        Way::Eager | Way::Cooperative => {
            consumer.session_timeout(SESSION).heartbeat_interval(Duration::from_millis(500))
        }
    };
    let consumer = consumer.on_lost(|partitions, _: ConsumerHandle| async move {
        partitions.iter().for_each(|(_, partition)| say(&format!("l {partition}")));
    });
    let opened = words.clone();
    let handler = move |record: Record| {
        let mut opened = opened.clone();
        async move {
            let (partition, offset) = (record.partition(), record.offset());
            say(&format!("b {partition} {offset}"));
            match life.fate(partition, offset) {
                Fate::EndsAfter(time) => tokio::time::sleep(time).await,
                Fate::EndsWhenOpened => {
                    let _ = opened.wait_for(|words| words.contains("open")).await;
                }
                Fate::NeverEnds => std::future::pending().await,
            }
            say(&format!("d {partition} {offset}"));
        }
    };
    let pipeline = Pipeline::new(consumer).order(Order::Key).concurrency(CONCURRENCY).workers(WORKERS);
    // Half of the records are in work for ever, and each is reported otherwise.
    let pipeline = pipeline.partition_bytes_max(64 << 20).report_after(Duration::from_secs(3600));
    let mut stopped = words;
    let shutdown = async move {
        let _ = stopped.wait_for(|words| words.contains("stop")).await;
    };
    let report = pipeline.run(handler, shutdown).await?;
    if !report.left.is_empty() {
        bail!("{} records are left", report.left.len());
    }
    Ok(())
}

/// One write, also if the process is killed right after it.
fn say(line: &str) {
    let mut out = stdout().lock();
    // The judge has ended if nothing can be written.
    if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// The words that were read. The process ends with its standard input, so that a judge that fails leaves none.
fn words() -> watch::Receiver<Arc<HashSet<String>>> {
    let (sender, receiver) = watch::channel(Arc::<HashSet<String>>::default());
    std::thread::spawn(move || {
        for line in stdin().lock().lines() {
            let Ok(line) = line.context("reading a word") else { break };
            sender.send_modify(|words| {
                Arc::make_mut(words).insert(line);
            });
        }
        if !sender.borrow().contains("stop") {
            std::process::exit(1);
        }
    });
    receiver
}
