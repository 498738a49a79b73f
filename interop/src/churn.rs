//! Churn: members of several clients join a group, leave it and are killed, again and again, while records come; and crashes:
//! one member is killed at random points while it finishes records in random order. `cargo xtask churn` runs it, and a short
//! form is a test.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::group::{Group, Setup};
use crate::journal::now;
use crate::member::{Client, Member};
use crate::random::Random;
use crate::report::{Change, Report, What};

/// How much of it.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The group.
    pub setup: Setup,
    /// How often a member joins, leaves or is killed.
    pub changes: usize,
    /// Records at the end, at least.
    pub records: u64,
    /// Which change comes when.
    pub seed: u64,
}

/// The members that come and go.
const SLOTS: [Client; 5] = [Client::Milena, Client::Milena, Client::Milena, Client::Java, Client::Librdkafka];

/// One member joins a group of its own and leaves. The first group of a broker that was just started waits for the broker, which
/// is no wait of the group's: on real Kafka it is 3 s instead of 1 s until the first member has its partitions.
///
/// # Errors
/// As [`run`].
pub fn warm_up(bootstrap: &str, name: &str, setup: &Setup) -> anyhow::Result<()> {
    let mut group = Group::start(bootstrap, name, &Setup { journal: None, ..setup.clone() })?;
    let member = group.join(Client::Milena, None)?;
    group.settle(1)?;
    group.finish(vec![member])?;
    Ok(())
}

/// Members join, leave and are killed. Most changes come when the group has settled after the last one, a quarter of them
/// shortly after it.
///
/// # Errors
/// A process failed, the group did not settle, or a record was not read. What the checker found is no error.
pub fn run(bootstrap: &str, name: &str, plan: &Plan) -> anyhow::Result<Report> {
    let mut group = Group::start(bootstrap, name, &plan.setup)?;
    group.watch()?;
    let mut random = Random::new(plan.seed);
    let mut slots: [Option<Member>; SLOTS.len()] = Default::default();
    let mut changes: Vec<Change> = Vec::new();
    let mut clients = Vec::new();
    let started = Instant::now();
    for number in 0..plan.changes {
        let live = slots.iter().flatten().count();
        let slot = random.below(SLOTS.len());
        let from = now();
        let what = match slots[slot].take() {
            None => {
                slots[slot] = Some(group.join(SLOTS[slot], None)?);
                clients.push(SLOTS[slot]);
                What::Joined
            }
            // The last member stays, and a new one joins it.
            Some(last) if live == 1 => {
                slots[slot] = Some(last);
                let free = (slot + 1 + random.below(SLOTS.len() - 1)) % SLOTS.len();
                slots[free] = Some(group.join(SLOTS[free], None)?);
                clients.push(SLOTS[free]);
                What::Joined
            }
            Some(member) if random.below(2) == 0 => {
                member.close()?;
                What::Left
            }
            Some(member) => {
                group.kill(member)?;
                What::Killed
            }
        };
        if random.below(4) == 0 {
            thread::sleep(Duration::from_millis(random.below(700) as u64));
        } else {
            let settled = group.settle(slots.iter().flatten().count());
            settled.with_context(|| format!("change {number} of seed {}: {clients:?}", plan.seed))?;
            thread::sleep(Duration::from_millis(random.below(300) as u64));
        }
        changes.push(Change { from, until: now(), what });
        // The records are spread over the changes.
        let due = plan.records * (number as u64 + 1) / plan.changes as u64;
        group.journal.wait(&format!("{due} records are read"), Duration::from_secs(600), |state| {
            (state.seen.values().sum::<i64>() as u64 >= due).then_some(())
        })?;
    }
    group.settle(slots.iter().flatten().count())?;
    let findings = group.finish(slots.into_iter().flatten().collect())?;
    Report::of_churn(plan, findings, started.elapsed(), &changes, &clients)
}

/// One of two members at a time is killed, at random points, and started again. Most are static members, so that they come
/// back at once. Members finish records in random order.
///
/// # Errors
/// As [`run`].
pub fn crash(bootstrap: &str, name: &str, plan: &Plan) -> anyhow::Result<Report> {
    let mut group = Group::start(bootstrap, name, &Setup { by_done: true, ..plan.setup.clone() })?;
    let mut random = Random::new(plan.seed);
    let started = Instant::now();
    let mut members = Vec::new();
    for (number, instance) in [Some("first"), Some("second"), None].into_iter().enumerate() {
        // The last one is dynamic, and is killed more rarely: each time its session must end.
        members.push((instance, Some(group.join(Client::Milena, instance)?)));
        group.settle(number + 1)?;
    }
    for number in 0..plan.changes {
        let slot = [0, 1, 0, 1, 0, 1, 0, 1, 0, 2][random.below(10)];
        let (instance, member) = &mut members[slot];
        let member = member.take().context("no member in the slot")?;
        let number_of_member = member.number;
        // A random point: between two of its records, or during its start.
        let point = random.below(400);
        let killed_at = Instant::now() + Duration::from_millis(random.below(400) as u64);
        let what = format!("crash {number} of seed {}: a point", plan.seed);
        group.journal.wait(&what, Duration::from_secs(60), |state| {
            let seen = state.records_of.get(&number_of_member).copied().unwrap_or_default();
            (seen >= point as u64 && Instant::now() >= killed_at).then_some(())
        })?;
        group.kill(member)?;
        members[slot] = (*instance, Some(group.join(Client::Milena, *instance)?));
    }
    group.settle(3)?;
    let findings = group.finish(members.into_iter().filter_map(|(_, member)| member).collect())?;
    Ok(Report::of_crashes(plan, findings, started.elapsed()))
}
