//! Churn: members of several clients join a group, leave it and are killed, again and again, while records come; and crashes:
//! one member is killed at random points while it finishes records in random order. `cargo xtask churn` runs it, and a short
//! form is a test.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::checker::{Findings, Wait};
use crate::group::{Group, Setup};
use crate::journal::now;
use crate::member::{Client, Member};
use crate::random::Random;

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

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What the checker found.
    pub findings: Findings,
    /// A description in lines.
    pub text: String,
}

/// The members that come and go.
const SLOTS: [Client; 5] = [Client::Milena, Client::Milena, Client::Milena, Client::Java, Client::Librdkafka];

/// A member that joins, leaves or is killed.
#[derive(Debug, Clone, Copy)]
struct Change {
    from: u64,
    /// When the group had settled, or the next change came before.
    until: u64,
    is_kill: bool,
}

/// Members join, leave and are killed. Most changes come when the group has settled after the last one, a quarter of them
/// shortly after it.
///
/// # Errors
/// A process failed, the group did not settle, or a record was not read. What the checker found is no error.
pub fn run(bootstrap: &str, name: &str, plan: &Plan) -> anyhow::Result<Report> {
    let mut group = Group::start(bootstrap, name, &plan.setup)?;
    let mut random = Random::new(plan.seed);
    let mut slots: [Option<Member>; SLOTS.len()] = Default::default();
    let mut changes: Vec<Change> = Vec::new();
    let mut clients = Vec::new();
    let started = Instant::now();
    let mut counts = [0; 3];
    for number in 0..plan.changes {
        let live = slots.iter().flatten().count();
        let slot = random.below(SLOTS.len());
        let from = now();
        let mut is_kill = false;
        match slots[slot].take() {
            None => {
                slots[slot] = Some(group.join(SLOTS[slot], None)?);
                clients.push(SLOTS[slot]);
                counts[0] += 1;
            }
            // The last member stays, and a new one joins it.
            Some(last) if live == 1 => {
                slots[slot] = Some(last);
                let free = (slot + 1 + random.below(SLOTS.len() - 1)) % SLOTS.len();
                slots[free] = Some(group.join(SLOTS[free], None)?);
                clients.push(SLOTS[free]);
                counts[0] += 1;
            }
            Some(member) if random.below(2) == 0 => {
                member.close()?;
                counts[1] += 1;
            }
            Some(member) => {
                is_kill = true;
                group.kill(member)?;
                counts[2] += 1;
            }
        }
        if random.below(4) == 0 {
            thread::sleep(Duration::from_millis(random.below(700) as u64));
        } else {
            let settled = group.settle(slots.iter().flatten().count());
            settled.with_context(|| format!("change {number} of seed {}, {}", plan.seed, named(&clients)))?;
            thread::sleep(Duration::from_millis(random.below(300) as u64));
        }
        changes.push(Change { from, until: now(), is_kill });
        // The records are spread over the changes.
        let due = plan.records * (number as u64 + 1) / plan.changes as u64;
        group.journal.wait(&format!("{due} records are read"), Duration::from_secs(600), |state| {
            (state.seen.values().sum::<i64>() as u64 >= due).then_some(())
        })?;
    }
    group.settle(slots.iter().flatten().count())?;
    let findings = group.finish(slots.into_iter().flatten().collect())?;
    let mut text = summary(plan, &findings, started.elapsed());
    writeln!(text, "{} joined, {} left, {} were killed", counts[0], counts[1], counts[2])?;
    if !findings.faults.is_empty() {
        writeln!(text, "{}", named(&clients))?;
    }
    waits(&mut text, plan, &findings, &changes, &clients)?;
    Ok(Report { findings, text })
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
    let text = summary(plan, &findings, started.elapsed());
    Ok(Report { findings, text })
}

/// The numbers of the members and their clients.
fn named(clients: &[Client]) -> String {
    let names: Vec<String> =
        (1..).zip(clients).map(|(number, client)| format!("{number} {client:?}")).collect();
    format!("members: {}", names.join(", "))
}

fn summary(plan: &Plan, findings: &Findings, took: Duration) -> String {
    let Findings { faults, records, again, lost, assigned, errors, .. } = findings;
    let mut text = format!(
        "{} changes of seed {} in {} s, protocol {}: {records} records, {again} read again, {assigned} assignments, \
         {lost} partitions lost, {} errors reported, {} faults\n",
        plan.changes,
        plan.seed,
        took.as_secs(),
        plan.setup.protocol,
        errors.len(),
        faults.len(),
    );
    for fault in faults.iter().take(20) {
        text += &format!("fault: {fault}\n");
    }
    text
}

/// How long records waited. A record that came first after its partition moved may wait for two heartbeats and for what the
/// protocol itself waits: the session of a killed member.
fn waits(
    text: &mut String,
    plan: &Plan,
    findings: &Findings,
    changes: &[Change],
    clients: &[Client],
) -> anyhow::Result<()> {
    ensure!(!findings.waits.is_empty(), "no record waited");
    let begin = |wait: &Wait| wait.at - wait.micros;
    let during = |wait: &Wait| {
        changes.iter().filter(|change| begin(wait) < change.until && change.from < wait.at).count() as u64
    };
    let (session, heartbeat) =
        (plan.setup.session.as_micros() as u64, plan.setup.heartbeat.as_micros() as u64);
    let over = |wait: &Wait| {
        // A kill counts for a session and the heartbeat after it; changes that overlap make the group begin again.
        let killed = changes.iter().any(|change| {
            change.is_kill && change.from < wait.at && begin(wait) < change.from + session + 2 * heartbeat
        });
        let allowed = 2 * heartbeat * during(wait).max(1) + if killed { session } else { 0 };
        wait.micros.saturating_sub(allowed)
    };
    let show = |text: &mut String, what: &str, mut micros: Vec<u64>| -> anyhow::Result<()> {
        micros.sort_unstable();
        let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or_default();
        let (half, most) = (at(0.5) / 1000, micros.last().copied().unwrap_or_default() / 1000);
        let long = micros.iter().filter(|micros| **micros > 50_000).count();
        let (count, p99) = (micros.len(), at(0.99) / 1000);
        writeln!(
            text,
            "{what}: {count} waits, median {half} ms, p99 {p99} ms, longest {most} ms, {long} above 50 ms"
        )?;
        Ok(())
    };
    let of = |keep: &dyn Fn(&Wait) -> bool| -> Vec<u64> {
        findings.waits.iter().filter(|wait| keep(wait)).map(|wait| wait.micros).collect()
    };
    let is_ours = |wait: &Wait| wait.member > 0 && clients.get(wait.member - 1) == Some(&Client::Milena);
    show(text, "partitions that moved", of(&|wait| !wait.kept))?;
    show(
        text,
        "kept by Milena, during a change",
        of(&|wait| wait.kept && is_ours(wait) && during(wait) > 0),
    )?;
    show(text, "kept by Milena, at rest", of(&|wait| wait.kept && is_ours(wait) && during(wait) == 0))?;
    show(text, "kept by Java and librdkafka", of(&|wait| wait.kept && !is_ours(wait)))?;
    let mut late: Vec<(u64, &Wait)> = findings.waits.iter().map(|wait| (over(wait), wait)).collect();
    late.retain(|(over, _)| *over > 0);
    late.sort_by_key(|(over, _)| std::cmp::Reverse(*over));
    writeln!(text, "{} waits above two heartbeats and the protocol's own wait", late.len())?;
    for (over, wait) in late.iter().take(10) {
        writeln!(text, "late by {} ms: {wait:?}", over / 1000)?;
    }
    Ok(())
}
