//! One step of a chain: processes that consume, transform and produce exactly once, that are killed and started again
//! (`src/bin/hop.rs`); and the judge of a topic at the end of it, which knows no client.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use milena::{Client, Isolation};
use tokio::time::timeout;
use xtask::kafka::process;

use crate::fates::Reading;
use crate::partner::Partner;

/// What the members of a group do.
#[derive(Debug, Clone)]
pub struct Step {
    /// The brokers' addresses.
    pub bootstrap: String,
    /// The group; the transactional ids begin with its name.
    pub group: String,
    /// The topic that is read.
    pub input: String,
    /// The topic that is written, with as many partitions; records stay in theirs.
    pub output: String,
    /// `classic`, or `consumer` for KIP-848.
    pub protocol: String,
    /// How long the group waits for a member that does not speak; with KIP-848 the broker knows.
    pub session: Duration,
    /// How often a member speaks; with KIP-848 the broker knows.
    pub heartbeat: Duration,
    /// How long a transaction may be open.
    pub timeout: Duration,
    /// What the step adds to each value.
    pub mark: String,
    /// The mean time until a batch fails, whose transaction is aborted. A member loses what it has in 100 ms then, and joins anew.
    pub lasting: Duration,
    /// The folder of what the members write to their standard error.
    pub logs: PathBuf,
}

/// A member: a process of its own.
#[derive(Debug)]
pub struct Hop {
    child: Child,
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Hop {
    /// Starts a member. One that is started again with the same number takes over what the last one has left open.
    ///
    /// # Errors
    /// Its program does not start.
    pub fn start(step: &Step, number: usize, seed: u64) -> anyhow::Result<Self> {
        let here = std::env::current_exe()?;
        let found = here.ancestors().map(|folder| folder.join("hop")).find(|program| program.is_file());
        let program = found.with_context(|| format!("no program hop beside {}", here.display()))?;
        let log = step.logs.join(format!("{}-{number}.log", step.group));
        let file = OpenOptions::new().create(true).append(true).open(&log)?;
        let millis = |time: Duration| time.as_millis().to_string();
        let mut command = Command::new(program);
        command.args([&step.bootstrap, &step.group, &step.input, &step.output, &step.protocol, &step.mark]);
        command.args([millis(step.session), millis(step.heartbeat), millis(step.timeout)]);
        command.args([number.to_string(), millis(step.lasting), seed.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(file);
        let mut child = command.spawn().context("a hop does not start")?;
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, log })
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// It had ended before; the error has its log.
    pub fn kill(mut self) -> anyhow::Result<()> {
        self.check()?;
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Tells it to leave, and waits until it has.
    ///
    /// # Errors
    /// It did not end well within two minutes; the error has its log.
    pub fn close(mut self) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let status = process::wait(&mut self.child, Duration::from_secs(120));
        let status = status.with_context(|| format!("a member does not leave\n{}", self.said()))?;
        ensure!(status.success(), "a member did not leave well: {status}\n{}", self.said());
        Ok(())
    }

    /// Fails if the process has ended by itself.
    ///
    /// # Errors
    /// It has; the error has its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "a member has ended by itself: {ended:?}\n{}", self.said());
        Ok(())
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        // A run that failed leaves no process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often each word begins a line in the logs of a folder.
///
/// # Errors
/// A log cannot be read.
pub fn count_words(logs: &Path, words: &[&str]) -> anyhow::Result<Vec<usize>> {
    let mut counts = vec![0; words.len()];
    for entry in std::fs::read_dir(logs)? {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut File::open(entry?.path())?, &mut text)?;
        for (count, word) in counts.iter_mut().zip(words) {
            *count += text.lines().filter(|line| line.starts_with(word)).count();
        }
    }
    Ok(counts)
}

/// Counts the committed records of a topic as they come. It only tells when a chain is through; the judge reads anew.
#[derive(Debug)]
pub struct Follower {
    stop: Arc<AtomicBool>,
    seen: Arc<AtomicU64>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl Follower {
    /// Begins to read.
    #[must_use]
    pub fn start(bootstrap: &str, topic: &str) -> Self {
        let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&seen));
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let client = Client::connect(&bootstrap).await?;
                let consumer =
                    client.consumer_direct().topic(topic.as_str()).isolation(Isolation::ReadCommitted);
                let mut consumer = consumer.build().await?;
                while !stopped.load(Ordering::Relaxed) {
                    if let Ok(batch) = timeout(Duration::from_millis(100), consumer.next()).await {
                        let batch = batch?.context("the consumer ended early")?;
                        counted.fetch_add(batch.iter().count() as u64, Ordering::Relaxed);
                    }
                }
                Ok(())
            })
        });
        Self { stop, seen, thread }
    }

    /// How many have come so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Stops it.
    ///
    /// # Errors
    /// It could not read.
    pub fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the follower panicked"))?
    }
}

/// Compares a topic with the records that a [`Stream`](crate::stream::Stream) has produced and steps have copied: the numbers 0,
/// 1, 2, … in each partition.
#[derive(Debug)]
pub struct Whole<'a> {
    /// How many records each partition must have.
    ends: &'a [i64],
    /// What the steps have added to each value.
    marks: String,
    next: Vec<i64>,
    faults: Vec<String>,
}

impl<'a> Whole<'a> {
    /// A judge of a topic after steps with these marks.
    #[must_use]
    pub fn new(ends: &'a [i64], marks: &str) -> Self {
        Self { ends, marks: marks.into(), next: vec![0; ends.len()], faults: Vec::new() }
    }

    /// The next record of a partition.
    pub fn see(&mut self, partition: usize, offset: i64, value: &str) {
        let number = value.split_once(':').and_then(|(number, _)| number.parse::<i64>().ok());
        let (Some(number), Some(next)) = (number, self.next.get_mut(partition)) else {
            return self.fault(format!("{partition}@{offset}: not a record of ours: {value:?}"));
        };
        let wanted = std::mem::replace(next, number + 1);
        if number != wanted {
            let what = if number < wanted { "is twice or out of order" } else { "skips records" };
            self.fault(format!("{partition}@{offset}: record {number} {what}, {wanted} is next"));
        }
        if !value.ends_with(&self.marks) {
            self.fault(format!("{partition}@{offset}: record {number} was not in every step: {value:?}"));
        }
    }

    /// The topic has no more records: what is wrong with it.
    #[must_use]
    pub fn finish(mut self) -> Vec<String> {
        for (partition, (next, end)) in self.next.clone().iter().zip(self.ends).enumerate() {
            if next != end {
                self.fault(format!("partition {partition} ends with {next} records of {end}"));
            }
        }
        self.faults
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(text);
        }
    }

    /// Reads the topic with Java's consumer under `read_committed`, and tells what is wrong with it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn judge(mut self, bootstrap: &str, topic: &str) -> anyhow::Result<Vec<String>> {
        Partner::Java.values(bootstrap, topic, Reading::Committed.name(), |partition, offset, value| {
            self.see(partition, offset, value);
            Ok(())
        })?;
        Ok(self.finish())
    }
}

const FAULTS_SHOWN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(log: &[&str]) -> Vec<String> {
        let mut whole = Whole::new(&[3], ".1.2");
        (0..).zip(log).for_each(|(offset, value)| whole.see(0, offset, value));
        whole.finish()
    }

    #[test]
    fn a_topic_is_whole_when_each_record_came_once_and_in_order() {
        assert_eq!(faults(&["0:5.1.2", "1:6.1.2", "2:7.1.2"]), [""; 0]);
        let check = |log: &[&str], fault: &str| {
            let faults = faults(log);
            assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
        };
        check(&["0:5.1.2", "0:5.1.2", "1:6.1.2", "2:7.1.2"], "is twice or out of order");
        check(&["0:5.1.2", "2:7.1.2"], "skips records");
        check(&["0:5.1.2", "1:6.1.2"], "ends with 2 records of 3");
        check(&["0:5.1.2", "1:6.2", "2:7.1.2"], "was not in every step");
    }
}
