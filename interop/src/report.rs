//! What is said at the end of a churn: how long records waited, and for each promise whether it was kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::ensure;

use crate::checker::{Findings, Promise, Wait};
use crate::churn::Plan;
use crate::member::Client;

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// What the checker found.
    pub findings: Findings,
    /// Whether each promise was kept.
    pub figures: Vec<Figure>,
    /// A description in lines, the figures included.
    pub text: String,
}

/// One promise.
#[derive(Debug)]
pub struct Figure {
    /// What was counted.
    pub text: String,
    /// Whether the promise was kept.
    pub holds: bool,
}

/// A member that joined, left or was killed.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// When, in microseconds since the epoch.
    pub from: u64,
    /// When the group had settled, or the next change came before.
    pub until: u64,
    /// Which.
    pub what: What,
}

/// What a member did, or what was done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words say it")]
pub enum What {
    Joined,
    Left,
    Killed,
}

/// A kept partition pauses no longer than this.
const PAUSE_MAX_MICROS: u64 = 50_000;
/// Members may have this many times the pauses of the control, in the same number of records: both are random, and rare.
const PAUSES_BESIDE_CONTROL_MAX: f64 = 1.5;

impl Report {
    /// Whether every promise was kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.figures.iter().all(|figure| figure.holds)
    }

    /// The report of a group in which members of `clients`, by their numbers from 1 on, came and went.
    ///
    /// # Errors
    /// No record waited: nothing was read.
    pub(crate) fn of_churn(
        plan: &Plan,
        findings: Findings,
        took: Duration,
        changes: &[Change],
        clients: &[Client],
    ) -> anyhow::Result<Self> {
        ensure!(!findings.waits.is_empty(), "no record waited");
        let mut text = summary(plan, &findings, took);
        let count = |what| changes.iter().filter(|change| change.what == what).count();
        writeln!(
            text,
            "{} joined, {} left, {} were killed",
            count(What::Joined),
            count(What::Left),
            count(What::Killed)
        )?;
        let waits = Waits { plan, findings: &findings, changes, clients };
        waits.show(&mut text)?;
        let mut figures = promises(&findings, &|member| waits.is_ours(member));
        figures.push(waits.stalls(&mut text)?);
        figures.extend(waits.pauses(&mut text)?);
        if !figures.iter().all(|figure| figure.holds) {
            let names: Vec<String> =
                (1..).zip(clients).map(|(number, client)| format!("{number} {client:?}")).collect();
            writeln!(text, "members: {}", names.join(", "))?;
        }
        Ok(Self::new(findings, figures, text))
    }

    /// The report of a group whose members were killed.
    pub(crate) fn of_crashes(plan: &Plan, findings: Findings, took: Duration) -> Self {
        let (text, figures) = (summary(plan, &findings, took), promises(&findings, &|_| true));
        Self::new(findings, figures, text)
    }

    fn new(findings: Findings, figures: Vec<Figure>, mut text: String) -> Self {
        for Figure { text: figure, holds } in &figures {
            text += &format!("{} {figure}\n", if *holds { "holds:" } else { "FAILS:" });
        }
        Self { findings, figures, text }
    }
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

/// The promises that the checker judges. A member of another client may lose partitions by its own fault: Java's does if it
/// leaves while the group rebalances.
fn promises(findings: &Findings, is_ours: &dyn Fn(usize) -> bool) -> Vec<Figure> {
    let broken = |of| findings.faults.iter().filter(|fault| fault.of == of).count() as u64;
    let figure = |text: String, count: u64| Figure { text, holds: count == 0 };
    let after_loss = |by_us: bool| -> u64 {
        let of = findings.again_after_loss.iter().filter(|(loser, _)| is_ours(**loser) == by_us);
        of.map(|(_, count)| count).sum()
    };
    let again = broken(Promise::OnceEach) + after_loss(true);
    let fetched = findings.fetched;
    vec![
        figure(format!("{} records skipped", broken(Promise::NoneSkipped)), broken(Promise::NoneSkipped)),
        figure(format!("{} records out of order", broken(Promise::InOrder)), broken(Promise::InOrder)),
        figure(
            format!(
                "{again} read again beyond what killed members had not committed, and {} that living members of other clients \
                 had lost",
                after_loss(false)
            ),
            again,
        ),
        figure(
            format!("{} read by another than the owner", broken(Promise::OneOwner)),
            broken(Promise::OneOwner),
        ),
        Figure {
            text: format!(
                "{} of {} bytes of record batches fetched again of kept partitions",
                fetched.bytes_again, fetched.bytes
            ),
            holds: fetched.bytes > 0 && fetched.bytes_again == 0,
        },
    ]
}

/// How long records waited.
struct Waits<'a> {
    plan: &'a Plan,
    findings: &'a Findings,
    changes: &'a [Change],
    clients: &'a [Client],
}

impl Waits<'_> {
    fn client(&self, member: usize) -> Option<Client> {
        self.clients.get(member.checked_sub(1)?).copied()
    }

    fn is_ours(&self, member: usize) -> bool {
        self.client(member) == Some(Client::Milena)
    }

    /// How many changes were under way while the record waited.
    fn changes_during(&self, wait: &Wait) -> u64 {
        let is_during = |change: &&Change| begin(wait) < change.until && change.from < wait.at;
        self.changes.iter().filter(is_during).count() as u64
    }

    fn show(&self, text: &mut String) -> anyhow::Result<()> {
        let of = |keep: &dyn Fn(&Wait) -> bool| -> Vec<u64> {
            self.findings.waits.iter().filter(|wait| keep(wait)).map(|wait| wait.micros).collect()
        };
        for client in [Client::Milena, Client::Java, Client::Librdkafka] {
            let moved = of(&|wait| !wait.kept && self.client(wait.member) == Some(client));
            line(text, &format!("moved to {client:?}"), moved)?;
        }
        for client in [Client::Java, Client::Librdkafka] {
            let kept = of(&|wait| wait.kept && self.client(wait.member) == Some(client));
            line(text, &format!("kept by {client:?}"), kept)?;
        }
        Ok(())
    }

    /// A record that came first after its partition moved may wait for two heartbeats and for what the protocol itself waits:
    /// the session of a killed member.
    fn stalls(&self, text: &mut String) -> anyhow::Result<Figure> {
        let setup = &self.plan.setup;
        let (session, heartbeat) = (setup.session.as_micros() as u64, setup.heartbeat.as_micros() as u64);
        let over = |wait: &Wait| {
            // Each kill counts for a session and the heartbeats after it: a second member may be killed when it has just got
            // the partitions of the first. Changes that overlap make the group begin again.
            let kills = self.changes.iter().filter(|change| {
                change.what == What::Killed
                    && change.from < wait.at
                    && begin(wait) < change.from + session + 2 * heartbeat
            });
            let during = self.changes_during(wait);
            wait.micros.saturating_sub(2 * heartbeat * during.max(1) + session * kills.count() as u64)
        };
        let mut late: Vec<(u64, &Wait)> = self.findings.waits.iter().map(|wait| (over(wait), wait)).collect();
        late.retain(|(over, _)| *over > 0);
        late.sort_by_key(|(over, _)| std::cmp::Reverse(*over));
        for (over, wait) in late.iter().take(20) {
            writeln!(text, "late by {} ms, {:?}: {wait:?}", over / 1000, self.client(wait.member))?;
        }
        let text = format!("{} waits above two heartbeats and the protocol's own wait", late.len());
        Ok(Figure { text, holds: late.is_empty() })
    }

    /// How long kept partitions paused, beside a reader that is in no group and reads the same records at the same time: on a
    /// busy machine both have pauses. A pause counts as a reader's own as far as the other reader was not waiting for the same
    /// partition at the same time.
    fn pauses(&self, text: &mut String) -> anyhow::Result<Option<Figure>> {
        let Some(control) = &self.findings.control else { return Ok(None) };
        let kept = |wait: &&Wait| wait.kept && self.is_ours(wait.member);
        let ours: Vec<&Wait> = self.findings.waits.iter().filter(kept).collect();
        let its: Vec<&Wait> = control.waits.iter().filter(|wait| wait.kept && self.is_kept(wait)).collect();
        for (when, is_change) in [("during a change", true), ("at rest", false)] {
            for (who, waits) in [("kept by Milena", &ours), ("the control, of these", &its)] {
                let waits = waits.iter().filter(|wait| (self.changes_during(wait) > 0) == is_change);
                line(text, &format!("{who}, {when}"), waits.map(|wait| wait.micros).collect())?;
            }
        }
        let own = |waits: &[&Wait], others: &[&Wait]| -> Vec<Wait> {
            let others = by_partition(others);
            let own = |wait: &&Wait| wait.micros - overlap(wait, others.get(&wait.partition));
            let mut own: Vec<Wait> = waits.iter().map(|wait| Wait { micros: own(wait), ..**wait }).collect();
            own.retain(|wait| wait.micros > PAUSE_MAX_MICROS);
            own.sort_by_key(|wait| std::cmp::Reverse(wait.micros));
            own
        };
        let (our_own, its_own) = (own(&ours, &its), own(&its, &ours));
        for wait in our_own.iter().take(10) {
            writeln!(text, "own pause: {wait:?}")?;
        }
        let longest = |own: &[Wait]| own.first().map_or(0, |wait| wait.micros / 1000);
        let records: i64 = (self.findings.kept.values().flatten())
            .filter(|kept| self.is_ours(kept.member))
            .map(|kept| kept.offsets.end - kept.offsets.start)
            .sum();
        let text = format!(
            "{} pauses above 50 ms in {records} records of kept partitions; {} of them while the control did not wait \
             (longest {} ms), and {} of the control while the member did not (longest {} ms)",
            ours.iter().filter(|wait| wait.micros > PAUSE_MAX_MICROS).count(),
            our_own.len(),
            longest(&our_own),
            its_own.len(),
            longest(&its_own),
        );
        let most = (its_own.len() as f64 * PAUSES_BESIDE_CONTROL_MAX) as usize;
        Ok(Some(Figure { text, holds: our_own.len() <= most }))
    }

    /// Whether a member of ours that kept the partition read this record too.
    fn is_kept(&self, wait: &Wait) -> bool {
        let all = self.findings.kept.get(&wait.partition).map_or(&[][..], Vec::as_slice);
        all.iter().any(|kept| kept.offsets.contains(&wait.offset) && self.is_ours(kept.member))
    }
}

fn begin(wait: &Wait) -> u64 {
    wait.at - wait.micros
}

fn by_partition<'a>(waits: &[&'a Wait]) -> BTreeMap<i32, Vec<&'a Wait>> {
    let mut sorted: BTreeMap<i32, Vec<&Wait>> = BTreeMap::new();
    for wait in waits {
        sorted.entry(wait.partition).or_default().push(wait);
    }
    sorted
}

/// For how long one of `others`, which follow each other in time, waited while `wait` did.
fn overlap(wait: &Wait, others: Option<&Vec<&Wait>>) -> u64 {
    let Some(others) = others else { return 0 };
    let first = others.partition_point(|other| other.at <= begin(wait));
    let during = others[first..].iter().take_while(|other| begin(other) < wait.at);
    during.map(|other| other.at.min(wait.at) - begin(other).max(begin(wait))).sum()
}

fn line(text: &mut String, what: &str, mut micros: Vec<u64>) -> anyhow::Result<()> {
    micros.sort_unstable();
    let at = |share: f64| micros.get((micros.len() as f64 * share) as usize).copied().unwrap_or_default();
    let (half, most) = (at(0.5) / 1000, micros.last().copied().unwrap_or_default() / 1000);
    let long = micros.iter().filter(|micros| **micros > PAUSE_MAX_MICROS).count();
    let (count, p99) = (micros.len(), at(0.99) / 1000);
    writeln!(
        text,
        "{what}: {count} waits, median {half} ms, p99 {p99} ms, longest {most} ms, {long} above 50 ms"
    )?;
    Ok(())
}
