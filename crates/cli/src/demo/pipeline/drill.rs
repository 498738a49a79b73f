//! The failure drills: what goes wrong on purpose, when, and what to look at.

use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::ValueEnum;
use milena::{ConfigChange, ConfigResource};

use super::report::Check;
use super::{Run, check, until};
use crate::exit::Failure;

/// Something that goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Drill {
    /// All faulty records are poison: they go to the dead letters at once, and are replayed when the bug is fixed
    Poison,
    /// The most frequent key hangs until all other records have ended
    StuckKey,
    /// One partition hangs until all records of the others have ended
    SlowPartition,
    /// A second member comes and goes
    Rebalance,
    /// One of two members is killed with records in work
    Crash,
    /// No dead letter can be written for a while
    DeadLettersDown,
}

impl Drill {
    /// What to look at, in a sentence.
    pub(super) fn look_at(self) -> &'static str {
        match self {
            Self::Poison => {
                "The faulty records are among the dead letters, the others do not wait, the alert opens, and the redrive empties it."
            }
            Self::StuckKey => {
                "The count of processed flights goes on, and \"slow\" names the record that the others of its key wait for."
            }
            Self::SlowPartition => {
                "The count of processed flights goes on while nothing of partition 0 ends."
            }
            Self::Rebalance => {
                "The second member processes flights between its lines, and no flight is processed twice."
            }
            Self::Crash => "The other member goes on, and processes again only what was not committed.",
            Self::DeadLettersDown => {
                "Nothing is processed while the dead letters cannot be written, and nothing is lost when they can be."
            }
        }
    }

    /// Members at the start.
    pub(super) fn members(self) -> usize {
        if self == Self::Crash { 2 } else { 1 }
    }
}

/// How often, and for how long, a member that joins is given a few flights to process.
const STEPS: u32 = 100;
const STEP: Duration = Duration::from_millis(100);
/// How long the dead letters cannot be written, at least.
const DOWN: Duration = Duration::from_secs(2);
/// What is in work when the dead letters cannot be written has ended after this time.
const SETTLED: Duration = Duration::from_millis(500);

/// What happens while the flights are written. Answers with what has to be so.
pub(super) async fn script(run: &Run) -> Result<Vec<Check>, Failure> {
    match run.drill {
        Some(Drill::Rebalance) => rebalance(run).await,
        Some(Drill::Crash) => crash(run).await,
        Some(Drill::DeadLettersDown) => dead_letters_down(run).await,
        Some(Drill::Poison | Drill::StuckKey | Drill::SlowPartition) | None => Ok(Vec::new()),
    }
}

/// Writes no more than a part of the flights for now.
fn hold(run: &Run, count: u32) {
    run.allowed.send_replace(count);
}

/// Waits until so many flights have ended.
async fn ended(run: &Run, count: u32) {
    until(|| run.work.ended.load(Ordering::Relaxed) >= u64::from(count)).await;
}

/// Writes more flights, few at a time, until this is so, but no more than `most` in all. A member gets its partitions when the group
/// has settled, and there must be flights for it then.
async fn write_until(run: &Run, from: u32, most: u32, is_so: impl Fn() -> bool) {
    for step in 1..=STEPS {
        if is_so() {
            break;
        }
        hold(run, from + (most - from) * step / STEPS);
        tokio::time::sleep(STEP).await;
    }
}

async fn rebalance(run: &Run) -> Result<Vec<Check>, Failure> {
    let third = run.record_count / 3;
    hold(run, third);
    ended(run, third).await;
    let (number, processed) = run.crew.start();
    run.events.say("a second member joins the group");
    write_until(run, third, third * 2, || processed.load(Ordering::Relaxed) > 0).await;
    hold(run, third * 2);
    ended(run, third * 2).await;
    let count = processed.load(Ordering::Relaxed);
    if let Some(member) = run.crew.take(number) {
        member.stop().await?;
    }
    run.events.say(format_args!("the second member has processed {count} flights, and leaves"));
    hold(run, u32::MAX);
    Ok(vec![Check::new("the second member has processed flights", count > 0)])
}

async fn crash(run: &Run) -> Result<Vec<Check>, Failure> {
    let third = run.record_count / 3;
    hold(run, third);
    let both_work = || run.crew.processed().iter().all(|count| *count > 0);
    ended(run, third).await;
    write_until(run, third, third * 2, both_work).await;
    let checks = vec![Check::new("both members have processed flights", both_work())];
    hold(run, u32::MAX);
    ended(run, run.record_count - third / 2).await;
    // What is committed after this look runs again less, not more.
    let committed = check::committed(&run.client, &run.names.group).await?;
    let Some(member) = run.crew.take(1) else { return Ok(checks) };
    let count = member.processed();
    member.kill().await;
    run.crashed_at.set(committed).map_err(|_| Failure::failed("the demo has crashed a member twice"))?;
    run.events.say(format_args!("a member is killed after {count} flights"));
    Ok(checks)
}

async fn dead_letters_down(run: &Run) -> Result<Vec<Check>, Failure> {
    until(|| run.crew.stats().is_held).await;
    run.events.say("a dead letter cannot be written: no record is started");
    tokio::time::sleep(SETTLED).await;
    let before = run.work.processed.load(Ordering::Relaxed);
    tokio::time::sleep(DOWN).await;
    let is_held = run.crew.stats().is_held && run.work.processed.load(Ordering::Relaxed) == before;
    let change = ConfigChange::set("max.message.bytes", BYTES_MAX.to_string());
    let topic = ConfigResource::Topic(run.names.dead.clone());
    run.client.admin().alter_configs(&topic, [change]).await?;
    run.events.say("the dead letters can be written again");
    Ok(vec![Check::new("nothing was processed while the dead letters could not be written", is_held)])
}

/// Kafka's default.
const BYTES_MAX: u32 = 1_048_588;
/// No record is small enough.
pub(super) const BYTES_DOWN: u32 = 10;
