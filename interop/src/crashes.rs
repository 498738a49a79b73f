//! A pipeline in a process of its own is killed (SIGKILL) and started again, and what it has printed is judged: no record is left
//! out, and what is run again is what was finished after the last commit. `cargo xtask crashes` runs it, and a short form is a test.
//!
//! Two kinds of kills: after a commit of all that is finished, when nothing may be run again; and in the middle of the work. The
//! offset of a commit is what tells that it has everything: the lowest record of each partition, the gate, is held back until all else
//! is finished that is to be finished, so a commit that passes it was made after that.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use milena::{Client, NewTopic, Record};
use xtask::kafka::process;

use crate::random::Random;

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How the pipeline joins its group: eager, classic or consumer, as [`Way::of`](crate::rebalances::Way::of) reads it.
    pub protocol: String,
    /// Records in each of the two partitions. Half of them are finished above the committed offset at the first kill.
    pub records: i64,
    /// Kills after a commit of everything, and then kills in the middle of the work.
    pub after_commits: u32,
    /// See above.
    pub in_the_middle: u32,
    /// Which records end, and when, follows from the seed.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What was done and what was found, as a text.
    pub text: String,
    /// What is wrong.
    pub faults: Vec<String>,
    /// Records that were run again after all.
    pub again: usize,
}

/// A pipeline's process.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// Which, from 0 on.
    pub number: u64,
    /// The run's seed.
    pub seed: u64,
    /// The offset of the gate in each partition. None: everything ends.
    pub gate: Option<i64>,
}

/// What becomes of a record in a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It takes this time.
    EndsAfter(Duration),
    /// It is the gate.
    EndsWhenOpened,
    /// It is in work when the process is killed.
    NeverEnds,
}

impl Life {
    /// What becomes of a record. Records with the same key have the same fate.
    #[must_use]
    pub fn fate(self, partition: i32, offset: i64) -> Fate {
        let key = key(offset);
        let mut random =
            Random::new(self.seed ^ self.number << 48 ^ u64::from(partition.unsigned_abs()) << 40 ^ key);
        // The first numbers of neighbouring seeds are alike.
        random.draw();
        match self.gate {
            None => Fate::EndsAfter(Duration::ZERO),
            Some(gate) if offset == gate => Fate::EndsWhenOpened,
            Some(gate) if offset == gate + 1 => Fate::NeverEnds,
            Some(_) if random.below(2) == 0 => Fate::NeverEnds,
            Some(_) => Fate::EndsAfter(Duration::from_millis(random.below(LONGEST_MS) as u64)),
        }
    }
}

/// Of ten pairs of records one has a common key.
fn key(offset: i64) -> u64 {
    let offset = offset.unsigned_abs();
    if offset >= FIRST_PAIR && (offset / 2).is_multiple_of(10) { offset / 2 * 2 } else { offset }
}

const PARTITIONS: i32 = 2;
/// One for each partition, so that the records of a partition end in the order in which they are printed.
pub const WORKERS: usize = 2;
/// Records that never end are in work for the life of a process.
pub const CONCURRENCY: usize = 200_000;
/// How long the coordinator waits for a process that was killed.
pub const SESSION: Duration = Duration::from_secs(10);
/// No record takes longer than this: some commits come in between.
const LONGEST_MS: usize = 4000;
/// Gates have offsets below it.
const FIRST_PAIR: u64 = 64;
/// Nothing takes longer than this.
const STALL: Duration = Duration::from_secs(300);

/// A record.
type At = (i32, i64);

/// What a process has printed.
#[derive(Debug, Default)]
struct Journal {
    /// In the order in which they were printed.
    begun: Vec<At>,
    done: Vec<At>,
    in_work: BTreeSet<At>,
    faults: Vec<String>,
}

/// A running process.
struct Process {
    child: Child,
    stdin: ChildStdin,
    journal: Arc<Mutex<Journal>>,
    reading: std::thread::JoinHandle<()>,
}

impl Process {
    fn start(bootstrap: &str, name: &str, plan: &Plan, life: Life) -> anyhow::Result<Self> {
        let gate = life.gate.map_or("none".to_owned(), |gate| gate.to_string());
        let mut command = Command::new(program()?);
        command.args([bootstrap, name, name, &plan.protocol]);
        command.args([life.number.to_string(), life.seed.to_string(), gate]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (stdin, stdout) =
            (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
        let journal = Arc::<Mutex<Journal>>::default();
        let into = Arc::clone(&journal);
        let reading = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { break };
                lock(&into).note(&line);
            }
        });
        Ok(Self { child, stdin, journal, reading })
    }

    fn say(&mut self, word: &str) -> anyhow::Result<()> {
        writeln!(self.stdin, "{word}")?;
        Ok(self.stdin.flush()?)
    }

    /// Waits until the journal is as wanted.
    async fn wait(&mut self, what: &str, mut is_so: impl FnMut(&Journal) -> bool) -> anyhow::Result<()> {
        let began = Instant::now();
        while !is_so(&lock(&self.journal)) {
            let ended = self.child.try_wait()?;
            ensure!(ended.is_none(), "the process has ended by itself: {ended:?}");
            if began.elapsed() > STALL {
                let journal = lock(&self.journal);
                bail!("{what}: begun {}, done {} after {STALL:?}", journal.begun.len(), journal.done.len());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Kills it, and answers with all that it has printed.
    fn kill(mut self) -> anyhow::Result<Journal> {
        // On Unix this is SIGKILL.
        self.child.kill()?;
        self.child.wait()?;
        Ok(read(self.reading, &self.journal))
    }

    /// Waits until it has ended well.
    fn end(mut self) -> anyhow::Result<Journal> {
        self.say("stop")?;
        let status = process::wait(&mut self.child, STALL)?;
        ensure!(status.success(), "the last process did not end well: {status}");
        Ok(read(self.reading, &self.journal))
    }
}

fn read(reading: std::thread::JoinHandle<()>, journal: &Mutex<Journal>) -> Journal {
    let _ = reading.join();
    std::mem::take(&mut *lock(journal))
}

fn lock(journal: &Mutex<Journal>) -> MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program is beside this one, or in a folder above it.
fn program() -> anyhow::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().map(|folder| folder.join("crash")).find(|program| program.is_file());
    found.with_context(|| format!("no program crash beside {}", here.display()))
}

impl Journal {
    fn note(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (kind, partition, offset) = (words.next(), words.next(), words.next());
        let at = || Some((partition?.parse().ok()?, offset?.parse().ok()?));
        match (kind, at()) {
            (Some("b"), Some(at)) => self.begin(at),
            (Some("d"), Some(at)) => {
                self.in_work.remove(&at);
                self.done.push(at);
            }
            _ => self.faults.push(format!("the process says {line:?}")),
        }
    }

    fn begin(&mut self, at: At) {
        let of_key = [(at.0, at.1), (at.0, at.1 ^ 1)].into_iter().filter(|other| key(other.1) == key(at.1));
        for other in of_key {
            if self.in_work.contains(&other) {
                self.faults.push(format!("{at:?} is begun while {other:?}, which has its key, is in work"));
            }
        }
        self.in_work.insert(at);
        self.begun.push(at);
    }

    fn judge_twice(&mut self) {
        let again = self.begun.len() - self.begun.iter().collect::<BTreeSet<_>>().len();
        if again > 0 {
            self.faults.push(format!("{again} records were begun more than once"));
        }
    }
}

/// Runs it against this cluster.
///
/// # Errors
/// The cluster does not answer, or a process does not go on. What is wrong with the records is no error.
pub async fn run(bootstrap: &str, name: &str, plan: &Plan) -> anyhow::Result<Report> {
    let client = Client::connect(bootstrap).await?;
    fill(&client, name, plan.records).await?;
    let all: BTreeSet<At> =
        (0..PARTITIONS).flat_map(|partition| (0..plan.records).map(move |at| (partition, at))).collect();
    let mut random = Random::new(plan.seed);
    let (mut finished, mut gate) = (BTreeSet::<At>::new(), 0);
    let mut lives: Vec<(Journal, bool)> = Vec::new();
    for number in 0..plan.after_commits + plan.in_the_middle {
        let life = Life { number: u64::from(number), seed: plan.seed, gate: Some(gate) };
        let ends = |at: &&At| matches!(life.fate(at.0, at.1), Fate::EndsAfter(_));
        let count = all.difference(&finished).filter(ends).count();
        let mut process = Process::start(bootstrap, name, plan, life)?;
        let is_after_commit = number < plan.after_commits;
        if is_after_commit {
            process.wait("the records that end", |journal| journal.done.len() >= count).await?;
            process.say("open")?;
            wait_for_offset(&client, name, gate + 1).await?;
            gate += 1;
        } else {
            let goal = count / 4 + random.below(count / 2 + 1);
            process.wait("some of the records that end", |journal| journal.done.len() >= goal).await?;
        }
        let mut journal = process.kill()?;
        journal.judge_twice();
        finished.extend(&journal.done);
        lives.push((journal, is_after_commit));
    }
    let life = Life { number: lives.len() as u64, seed: plan.seed, gate: None };
    let process = Process::start(bootstrap, name, plan, life)?;
    wait_for_offset(&client, name, plan.records).await?;
    let mut journal = process.end()?;
    journal.judge_twice();
    lives.push((journal, false));
    finished.extend(&lives[lives.len() - 1].0.done);
    let mut report = judge(&lives);
    if let Some(first) = all.difference(&finished).next() {
        let missing = all.difference(&finished).count();
        report.fault(format!(
            "{missing} records were never finished, and all is committed; the first is {first:?}"
        ));
    }
    Ok(report)
}

impl Report {
    fn fault(&mut self, fault: String) {
        let _ = writeln!(self.text, "FAULT: {fault}");
        self.faults.push(fault);
    }
}

/// In each life and partition, what a later life runs again is the last that the life has finished, and nothing if a commit of
/// everything came before its end.
fn judge(lives: &[(Journal, bool)]) -> Report {
    let mut report = Report { text: String::new(), faults: Vec::new(), again: 0 };
    for (number, (journal, is_after_commit)) in lives.iter().enumerate() {
        let later: BTreeSet<&At> =
            lives[number + 1..].iter().flat_map(|(journal, _)| &journal.begun).collect();
        let mut by_partition = BTreeMap::<i32, Vec<&At>>::new();
        for at in &journal.done {
            by_partition.entry(at.0).or_default().push(at);
        }
        let again: usize = journal.done.iter().filter(|at| later.contains(at)).count();
        let how = match (number + 1 == lives.len(), is_after_commit) {
            (true, _) => "ends",
            (false, true) => "is killed after a commit of all of them",
            (false, false) => "is killed in the middle",
        };
        let (begun, done) = (journal.begun.len(), journal.done.len());
        let _ = writeln!(
            report.text,
            "life {number}: begins {begun} records and finishes {done}, {how}; {again} of them are run again"
        );
        report.again += again;
        for fault in &journal.faults {
            report.fault(format!("life {number}: {fault}"));
        }
        if *is_after_commit && again > 0 {
            report
                .fault(format!("life {number}: {again} records are run again although they were committed"));
        }
        for (partition, done) in by_partition {
            let first = done.iter().position(|at| later.contains(at)).unwrap_or(done.len());
            let kept = done[first..].iter().filter(|at| !later.contains(*at)).count();
            if kept > 0 {
                report.fault(format!(
                    "life {number}, partition {partition}: {:?} is run again, and {kept} records are not that were finished after it",
                    done[first]
                ));
            }
        }
    }
    report
}

async fn fill(client: &Client, topic: &str, records: i64) -> anyhow::Result<()> {
    client.admin().create_topic(NewTopic::new(topic).partitions(PARTITIONS)).await?;
    let producer = client.producer().build().await?;
    for offset in 0..records {
        for partition in 0..PARTITIONS {
            let key = key(offset).to_string();
            producer.post(Record::to(topic).partition(partition).key(&key).value("to be charged")).await?;
        }
    }
    Ok(producer.flush().await?)
}

async fn stored(client: &Client, name: &str) -> anyhow::Result<Vec<Option<i64>>> {
    let partitions: Vec<_> = (0..PARTITIONS).map(|partition| (name, partition)).collect();
    let found = client.admin().list_group_offsets_of(name, partitions).await?;
    found.into_iter().map(|(_, offset)| Ok(offset?.map(|committed| committed.offset))).collect()
}

/// Waits until this is committed of each partition.
async fn wait_for_offset(client: &Client, name: &str, offset: i64) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let stored = stored(client, name).await?;
        if stored.iter().all(|of| *of >= Some(offset)) {
            return Ok(());
        }
        ensure!(began.elapsed() < STALL, "{stored:?} is committed, and not {offset}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(begun: &[i64], done: &[i64]) -> Journal {
        let all = |offsets: &[i64]| offsets.iter().map(|offset| (0, *offset)).collect();
        Journal { begun: all(begun), done: all(done), ..Journal::default() }
    }

    #[track_caller]
    fn check(lives: &[(Journal, bool)], again: usize, faults: &[&str]) {
        let report = judge(lives);
        assert_eq!(report.again, again, "{}", report.text);
        assert_eq!(report.faults.len(), faults.len(), "{}", report.text);
        for (fault, expect) in report.faults.iter().zip(faults) {
            assert!(fault.contains(expect), "{fault}");
        }
    }

    #[test]
    fn what_was_finished_last_may_be_run_again_and_nothing_else() {
        let rest = |begun: &[i64]| (journal(begun, begun), false);
        check(&[(journal(&[0, 1, 2, 3], &[3, 1, 2]), false), rest(&[0, 2])], 1, &[]);
        check(
            &[(journal(&[0, 1, 2, 3], &[3, 1, 2]), false), rest(&[0, 1])],
            1,
            &["(0, 1) is run again, and 1 records"],
        );
        check(&[(journal(&[0, 1, 2, 3], &[3, 1, 2]), true), rest(&[0])], 0, &[]);
        check(
            &[(journal(&[0, 1, 2, 3], &[3, 1, 2]), true), rest(&[0, 2])],
            1,
            &["although they were committed"],
        );
        // The second life does not come to what the third one runs again.
        let second = (journal(&[0], &[]), false);
        check(&[(journal(&[0, 1, 2], &[1, 2]), false), second, rest(&[0, 1, 2])], 2, &[]);
    }
}
