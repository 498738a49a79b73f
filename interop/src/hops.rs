//! A chain of three groups whose members consume, transform and produce exactly once, all at the same time, while members join,
//! leave and are killed. The last topic must be the first one. `cargo xtask hops` runs it, and a short form is a test.
//!
//! ```text
//!  stream ─▶ topic 0 ─▶ group 1 ─▶ topic 1 ─▶ group 2 ─▶ topic 2 ─▶ group 3 ─▶ topic 3 ─▶ Java's consumer ─▶ hop::Whole
//! ```

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};

use crate::hop::{self, Follower, Hop, Step, Whole};
use crate::random::Random;
use crate::raw::{self, Raw};
use crate::stream::Stream;

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Records that are produced to the first topic, at least.
    pub records: u64,
    /// Records per second.
    pub rate: u64,
    /// Each topic's partitions.
    pub partitions: i32,
    /// `classic`, or `consumer` for KIP-848.
    pub protocol: String,
    /// How long a group waits for a member that does not speak.
    pub session: Duration,
    /// How often members speak.
    pub heartbeat: Duration,
    /// The mean time between two changes: a member joins, leaves or is killed.
    pub pause: Duration,
    /// What happens when follows from the seed.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What was done and what was found, as a text.
    pub text: String,
    /// What is wrong with the topics.
    pub faults: Vec<String>,
    /// Members that were killed.
    pub killed: usize,
}

/// The name of a protocol of groups.
///
/// # Errors
/// There is no such protocol.
pub fn protocol(name: &str) -> anyhow::Result<String> {
    ensure!(["classic", "consumer"].contains(&name), "there is no protocol {name:?}: classic or consumer");
    Ok(name.into())
}

/// Groups in the chain.
const STEPS: usize = 3;

/// Members of a group at most.
const MEMBERS: usize = 3;

/// The members that run, of each step.
struct Chain {
    steps: Vec<Step>,
    members: Vec<[Option<Hop>; MEMBERS]>,
    random: Random,
    joined: usize,
    left: usize,
    killed: usize,
}

/// Runs the chain until the last topic has as many records as the first one, and judges.
///
/// # Errors
/// A member ended by itself, the records do not come through, or a topic cannot be read. A topic that is wrong is no error.
pub fn run(bootstrap: &str, name: &str, plan: &Plan) -> anyhow::Result<Report> {
    let logs = tempfile::tempdir()?;
    let topic = |number: usize| format!("{name}-{number}");
    for number in 0..=STEPS {
        Raw::connect(bootstrap)?.create_topic(&topic(number), plan.partitions)?;
    }
    let step = |number: usize| Step {
        bootstrap: bootstrap.into(),
        group: format!("{name}-group-{number}"),
        input: topic(number - 1),
        output: topic(number),
        protocol: plan.protocol.clone(),
        session: plan.session,
        heartbeat: plan.heartbeat,
        timeout: Duration::from_secs(10),
        mark: format!(".{number}"),
        lasting: plan.pause * 10,
        logs: logs.path().into(),
    };
    let mut chain = Chain {
        steps: (1..=STEPS).map(step).collect(),
        members: (0..STEPS).map(|_| Default::default()).collect(),
        random: Random::new(plan.seed),
        joined: 0,
        left: 0,
        killed: 0,
    };
    for step in 0..STEPS {
        chain.join(step, 0)?;
    }
    let started = Instant::now();
    let mut stream = Some(Stream::start(bootstrap, &topic(0), plan.partitions, plan.rate));
    let follower = Follower::start(bootstrap, &topic(STEPS));
    let (mut ends, mut changes, mut seen_before, mut told_at) = (Vec::new(), 0, 0, Instant::now());
    let mut last = (0, Instant::now());
    loop {
        let millis = plan.pause.as_millis() as usize * 2;
        thread::sleep(Duration::from_millis(chain.random.below(millis) as u64));
        if let Some(full) = stream.take_if(|stream| stream.sent() >= plan.records) {
            ends = full.stop()?;
        }
        let seen = follower.seen();
        if stream.is_none() && seen >= ends.iter().sum::<i64>() as u64 {
            break;
        }
        if seen > last.0 {
            last = (seen, Instant::now());
        }
        ensure!(last.1.elapsed() < PATIENCE, "after {seen} records none came for {PATIENCE:?}");
        if told_at.elapsed() > Duration::from_secs(10) {
            eprintln!("{seen} records are through, {} members were killed", chain.killed);
            told_at = Instant::now();
        }
        // On a machine that is too slow for the pause, nothing would ever come through: each third change waits for it.
        if changes % 3 > 0 || seen > seen_before {
            chain.change()?;
            (changes, seen_before) = (changes + 1, seen);
        }
    }
    let took = started.elapsed();
    follower.stop()?;
    let Chain { members, joined, left, killed, .. } = chain;
    for member in members.into_iter().flatten().flatten() {
        member.close()?;
    }

    let total: i64 = ends.iter().sum();
    let mut text = String::new();
    let [chosen, errors] = hop::count_words(logs.path(), &["chosen", "error"])?[..] else {
        bail!("no counts")
    };
    writeln!(
        text,
        "{total} records came through {STEPS} steps in {:.0} s, groups of the {} protocol; {joined} members joined, {left} left, \
         {killed} were killed; {chosen} batches failed as the seed says, {errors} loops ended with an error",
        took.as_secs_f64(),
        plan.protocol
    )?;
    // Where the last topic is whole, all are. Where it is not, the first one that is not tells which step failed.
    let judge = |number: usize| {
        let marks: String = (1..=number).map(|step| format!(".{step}")).collect();
        Whole::new(&ends, &marks).judge(bootstrap, &topic(number))
    };
    let mut faults = judge(STEPS)?;
    writeln!(text, "the last topic as Java reads it under read_committed: {} faults", faults.len())?;
    if !faults.is_empty() {
        for number in (1..STEPS).rev() {
            let found = judge(number)?;
            faults.splice(0..0, found.into_iter().map(|fault| format!("topic {number}: {fault}")));
        }
    }
    let committed = raw::committed(bootstrap, &format!("{name}-group-1"), &topic(0), plan.partitions)?;
    if committed != (0..).zip(ends.iter().copied()).collect::<Vec<_>>() {
        faults.push(format!("the first group has committed {committed:?}, and {ends:?} was to be read"));
    }
    for fault in &faults {
        writeln!(text, "FAULT {fault}")?;
    }
    Ok(Report { text, faults, killed })
}

impl Chain {
    /// A member joins, leaves or is killed.
    fn change(&mut self) -> anyhow::Result<()> {
        for member in self.members.iter_mut().flatten().flatten() {
            member.check()?;
        }
        let (step, slot) = (self.random.below(STEPS), self.random.below(MEMBERS));
        let Some(member) = self.members[step][slot].take() else { return self.join(step, slot) };
        let is_last = self.members[step].iter().all(Option::is_none);
        if self.random.below(3) == 0 {
            member.close()?;
            self.left += 1;
        } else {
            member.kill()?;
            self.killed += 1;
        }
        // Half of those that are killed come back at once, and take over what they have left open.
        if is_last || self.random.below(2) == 0 { self.join(step, slot) } else { Ok(()) }
    }

    fn join(&mut self, step: usize, slot: usize) -> anyhow::Result<()> {
        let seed = self.random.draw();
        self.members[step][slot] = Some(Hop::start(&self.steps[step], slot, seed)?);
        self.joined += 1;
        Ok(())
    }
}

/// Far longer than sessions, transactions and rebalances of all groups together.
const PATIENCE: Duration = Duration::from_secs(180);
