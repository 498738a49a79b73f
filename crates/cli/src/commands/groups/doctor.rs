//! `milena groups doctor`: why a group does not get on with its work, and which command helps.

use std::time::Duration;

use milena_observe::doctor::{Finding, Observation, Plan, Reader, diagnose, examine};
use serde::Serialize;

use super::no_group;
use crate::cluster::{Cluster, seconds};
use crate::exit::Failure;
use crate::output::{to_json, write_out};

const HELP: &str = "\
Examples:
  milena groups doctor billing                        ten seconds, then what is wrong
  milena groups doctor billing --interval 10          for members that commit seldom
  milena groups doctor billing -F billing.properties  with the settings of its consumers
  milena groups doctor billing -J | jq .findings

It finds: stuck-handler, poison-record, hot-partition, rebalance-loop, open-transaction,
offset-out-of-retention, acl-missing, slow-broker, zombie-member, max-poll-interval, quota-throttle
and skewed-keys, each with what was seen and a command that helps. It changes nothing, and reads
some of the last records of each topic to count their keys. Run it with the group's own login
(-F or -P), so that it sees the rights that the members have.

Exit code: 0 if nothing is wrong, 1 if something is.";

/// Find out why a group is slow, stuck or not stable.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    group: String,

    /// Look N times
    #[arg(short = 'n', long, value_name = "N", default_value = "6", value_parser = clap::value_parser!(u16).range(3..=1000))]
    samples: u16,

    /// Wait SECONDS between two looks. It should be longer than the time between two commits of a member
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,

    /// Look at this topic too, although the group has committed nothing of it; may be repeated
    #[arg(short, long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,

    /// Count the keys of N records of each topic; 0 reads no records
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(..=100_000))]
    records: u32,

    /// One JSON object
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let connected = args.cluster.connect().await?;
    let plan = Plan {
        samples: usize::from(args.samples),
        interval: args.interval,
        topics: args.topics.clone(),
        records: args.records as usize,
        reader: reader(&args.cluster)?,
    };
    let seen = examine(&connected.client, &args.group, &plan).await;
    let seen = seen.map_err(|error| no_group(&args.group, error))?;
    let findings = diagnose(&seen);
    write_out(&if args.json {
        to_json(&Shown::new(&seen, &findings))? + "\n"
    } else {
        text(&seen, &findings)
    })?;
    match findings.len() {
        0 => Ok(()),
        1 => Err(Failure::failed("1 fault was found")),
        count => Err(Failure::failed(format!("{count} faults were found"))),
    }
}

/// The consumers' settings, if what was given on the command line names one of them.
fn reader(cluster: &Cluster) -> Result<Option<Reader>, Failure> {
    let resolved = cluster.resolve(milena::Properties::new())?;
    let value = |name: &str| {
        let found = resolved.properties.iter().filter(|(of, _)| *of == name).last();
        found.and_then(|(_, value)| value.trim().parse::<u64>().ok())
    };
    let (interval, records) = (value("max.poll.interval.ms"), value("max.poll.records"));
    if interval.is_none() && records.is_none() {
        return Ok(None);
    }
    // Java's defaults.
    let max_poll_interval = Duration::from_millis(interval.unwrap_or(300_000));
    let max_poll_records = records.and_then(|records| u32::try_from(records).ok()).unwrap_or(500);
    Ok(Some(Reader { max_poll_interval, max_poll_records }))
}

#[derive(Serialize)]
struct Shown<'a> {
    group: &'a str,
    members: usize,
    samples: usize,
    lag: i64,
    findings: Vec<Found<'a>>,
}

#[derive(Serialize)]
struct Found<'a> {
    fault: &'static str,
    detail: &'a str,
    evidence: &'a [String],
    fix: &'a str,
    command: &'a str,
}

impl<'a> Shown<'a> {
    fn new(seen: &'a Observation, findings: &'a [Finding]) -> Self {
        let found = |finding: &'a Finding| Found {
            fault: finding.fault.name(),
            detail: &finding.detail,
            evidence: &finding.evidence,
            fix: &finding.fix,
            command: &finding.command,
        };
        Self {
            group: &seen.group,
            members: members(seen),
            samples: seen.samples.len(),
            lag: lag(seen),
            findings: findings.iter().map(found).collect(),
        }
    }
}

fn members(seen: &Observation) -> usize {
    seen.samples.last().map_or(0, |last| last.members.len())
}

fn lag(seen: &Observation) -> i64 {
    let looks = seen.samples.last().into_iter().flat_map(|last| last.looks.values());
    looks.filter_map(|look| Some((look.end - look.committed?).max(0))).sum()
}

fn text(seen: &Observation, findings: &[Finding]) -> String {
    let mut text = format!(
        "{}: {} members, lag {}, {} samples\n",
        seen.group,
        members(seen),
        lag(seen),
        seen.samples.len()
    );
    if findings.is_empty() {
        text += "nothing is wrong\n";
    }
    for Finding { fault, detail, evidence, fix, command } in findings {
        text += &format!("\n{fault}: {detail}\n");
        for line in evidence {
            text += &format!("  - {line}\n");
        }
        text += &format!("  -> {fix}\n     {command}\n");
    }
    text
}
