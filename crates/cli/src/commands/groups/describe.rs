//! `milena groups describe`: members, and how far and how fast each partition is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use milena::{Admin, CommittedOffset, GroupDescription, MemberDescription, OffsetAt};
use milena_observe::lag::{CatchUp, Pace, Place};
use serde::Serialize;

use super::no_group;
use crate::cluster::{Cluster, seconds};
use crate::exit::{Failure, summary};

use crate::output::{to_json, write_out};
use crate::table::{Align, Table};
use crate::units::{Ranges, Span};

const EXAMPLES: &str = "\
Examples:
  milena groups describe billing                     members, lag, pace
  milena groups describe billing --watch             the same every 2 seconds, until Ctrl-C
  milena groups describe billing -J | jq .lag        the whole lag";

/// Show members with their partitions, and the lag and pace of each partition.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[arg(required = true)]
    groups: Vec<String>,

    /// Look twice, SECONDS apart, to see how fast a group with members reads; 0 looks once. A pace is seen only if the
    /// members commit in between
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = seconds_or_none)]
    interval: Duration,

    /// Show it again after each interval, until Ctrl-C
    #[arg(short, long)]
    watch: bool,

    /// One JSON object a line
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

fn seconds_or_none(text: &str) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { seconds(text) }
}

/// A partition by topic and index.
type Partition = (String, i32);

/// What was seen of a group at one time.
struct Seen {
    at: Instant,
    group: GroupDescription,
    committed: BTreeMap<Partition, CommittedOffset>,
    /// The partitions that the group has committed offsets of, or reads.
    places: BTreeMap<Partition, Place>,
}

type AllSeen = BTreeMap<String, Result<Seen, Failure>>;

pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    if args.watch && args.interval.is_zero() {
        return Err(Failure::usage("--watch needs an --interval of more than 0"));
    }
    let admin = args.cluster.connect().await?.admin();
    let mut now = look(&admin, &args.groups).await;
    let mut before = AllSeen::new();
    // Nobody reads for a group without members, so there is no pace to wait for.
    let has_members = now.values().flatten().any(|seen| !seen.group.members.is_empty());
    if has_members && !args.interval.is_zero() {
        before = now;
        tokio::time::sleep(args.interval).await;
        now = look(&admin, &args.groups).await;
    }
    loop {
        let mut results = Vec::new();
        for (group, seen) in &mut now {
            let shown = match seen {
                Ok(seen) => show(seen, before.get(group).and_then(|seen| seen.as_ref().ok()), args.json),
                // The group is looked at again by the next turn, if there is one.
                Err(_) => std::mem::replace(seen, Err(Failure::failed(""))).map(drop),
            };
            results.push((group.clone(), shown));
        }
        let shown = summary("described", results);
        if !args.watch || shown.is_err() {
            return shown;
        }
        tokio::time::sleep(args.interval).await;
        before = std::mem::replace(&mut now, look(&admin, &args.groups).await);
    }
}

async fn look(admin: &Admin, groups: &[String]) -> AllSeen {
    let mut all = AllSeen::new();
    for group in groups {
        all.insert(group.clone(), look_at(admin, group).await);
    }
    all
}

async fn look_at(admin: &Admin, name: &str) -> Result<Seen, Failure> {
    let described = admin.describe_groups([name]).await.into_iter().map(|(_, described)| described).next();
    let missing = || Failure::not_found(format!("group {name:?} does not exist"));
    let group = described.ok_or_else(missing)?.map_err(|error| no_group(name, error))?;
    // Ends are looked up after the committed offsets, so that no offset is beyond its end.
    let mut committed = BTreeMap::new();
    for (_, offsets) in admin.list_group_offsets([name]).await {
        committed.extend(offsets?);
    }
    let assigned = group.members.iter().flat_map(assigned);
    let partitions: BTreeSet<Partition> = committed.keys().cloned().chain(assigned).collect();
    let ends =
        admin.list_offsets(partitions.iter().map(|(topic, at)| (topic, *at)), OffsetAt::Latest).await?;
    let places = ends.into_iter().map(|(partition, end)| {
        let offset = committed.get(&partition).map(|committed: &CommittedOffset| committed.offset);
        // A topic may have been deleted, or have no leader at present: what is known is shown.
        let place = Place { committed: offset, end: end.ok().flatten() };
        (partition, place)
    });
    Ok(Seen { at: Instant::now(), places: places.collect(), group, committed })
}

fn assigned(member: &MemberDescription) -> impl Iterator<Item = Partition> {
    let topics = member.assignment.iter().flatten();
    topics.flat_map(|(topic, partitions)| partitions.iter().map(|at| (topic.clone(), *at)))
}

fn show(seen: &Seen, before: Option<&Seen>, json: bool) -> Result<(), Failure> {
    let shown = Shown::new(seen, before);
    write_out(&if json { to_json(&shown)? + "\n" } else { shown.text() })
}

#[derive(Serialize)]
struct Shown<'a> {
    group: &'a str,
    #[serde(rename = "type")]
    group_type: String,
    state: String,
    protocol_type: &'a str,
    assignor: Option<&'a str>,
    coordinator: Coordinator<'a>,
    epoch: Option<i32>,
    assignment_epoch: Option<i32>,
    /// Of all partitions whose lag is known.
    lag: i64,
    members: Vec<Member<'a>>,
    partitions: Vec<Reading<'a>>,
    #[serde(skip)]
    at: Timestamp,
}

#[derive(Serialize)]
struct Coordinator<'a> {
    id: i32,
    host: &'a str,
    port: u16,
}

#[derive(Serialize)]
struct Member<'a> {
    member_id: &'a str,
    instance_id: Option<&'a str>,
    client_id: &'a str,
    host: &'a str,
    rack: Option<&'a str>,
    epoch: Option<i32>,
    topics: &'a [String],
    pattern: Option<&'a str>,
    assignment: Option<&'a BTreeMap<String, Vec<i32>>>,
    target: Option<&'a BTreeMap<String, Vec<i32>>>,
}

/// One partition. What is not known is null.
#[derive(Serialize)]
struct Reading<'a> {
    topic: &'a str,
    partition: i32,
    committed_offset: Option<i64>,
    leader_epoch: Option<i32>,
    metadata: Option<&'a str>,
    end_offset: Option<i64>,
    lag: Option<i64>,
    consumed_per_second: Option<f64>,
    produced_per_second: Option<f64>,
    /// At this pace. Null if it is not known, or the group does not come nearer.
    catch_up_seconds: Option<f64>,
    member_id: Option<&'a str>,
    #[serde(skip)]
    catch_up: CatchUp,
}

impl<'a> Shown<'a> {
    fn new(seen: &'a Seen, before: Option<&Seen>) -> Self {
        let group = &seen.group;
        let mut owners = BTreeMap::new();
        for member in &group.members {
            owners.extend(assigned(member).map(|partition| (partition, member.member_id.as_str())));
        }
        let reading = |(partition, place): (&'a Partition, &Place)| {
            let pace = before.and_then(|before| {
                let earlier = *before.places.get(partition)?;
                place.pace(earlier, seen.at.duration_since(before.at))
            });
            Reading::new(
                partition,
                *place,
                pace,
                seen.committed.get(partition),
                owners.get(partition).copied(),
            )
        };
        let partitions: Vec<_> = seen.places.iter().map(reading).collect();
        let coordinator = &group.coordinator;
        Self {
            group: &group.group,
            group_type: group.group_type.to_string(),
            state: group.state.to_string(),
            protocol_type: &group.protocol_type,
            assignor: group.assignor.as_deref(),
            coordinator: Coordinator { id: coordinator.id, host: &coordinator.host, port: coordinator.port },
            epoch: group.epoch,
            assignment_epoch: group.assignment_epoch,
            lag: partitions.iter().filter_map(|reading| reading.lag).sum(),
            members: group.members.iter().map(Member::from).collect(),
            partitions,
            at: Timestamp::now(),
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{}\n  state {}, type {}", self.group, self.state, self.group_type);
        // Writing into a String cannot fail.
        if let Some(assignor) = self.assignor {
            let _ = write!(text, ", assignor {assignor}");
        }
        if let (Some(epoch), Some(of)) = (self.epoch, self.assignment_epoch) {
            let _ = write!(text, ", epoch {epoch}, assignment epoch {of}");
        }
        let Coordinator { id, host, port } = &self.coordinator;
        let _ = writeln!(text, "\n  coordinator {id} ({host}:{port}), lag {}, at {:.0}", self.lag, self.at);
        text + &self.members().text(2) + &self.readings().text(2)
    }

    fn members(&self) -> Table {
        let left = Align::Left;
        let columns =
            [("member", left), ("instance", left), ("client", left), ("host", left), ("partitions", left)];
        let mut table = Table::new(&columns);
        for member in &self.members {
            let assigned = member.assignment.map_or_else(|| "?".into(), ranges);
            let partitions = match member.target.filter(|target| Some(*target) != member.assignment) {
                Some(target) => format!("{assigned} (will be {})", ranges(target)),
                None => assigned,
            };
            let instance = member.instance_id.unwrap_or("-");
            table.row(
                [member.member_id, instance, member.client_id, member.host, &partitions].map(str::to_owned),
            );
        }
        table
    }

    fn readings(&self) -> Table {
        let right = Align::Right;
        let mut table = Table::new(&[
            ("topic", Align::Left),
            ("partition", right),
            ("committed", right),
            ("end", right),
            ("lag", right),
            ("read/s", right),
            ("written/s", right),
            ("caught up", right),
            ("member", Align::Left),
        ]);
        for of in &self.partitions {
            let number = |number: Option<i64>| number.map_or_else(|| "-".into(), |number| number.to_string());
            let rate = |rate: Option<f64>| rate.map_or_else(|| "-".into(), |rate| format!("{rate:.0}"));
            table.row([
                of.topic.to_owned(),
                of.partition.to_string(),
                number(of.committed_offset),
                number(of.end_offset),
                number(of.lag),
                rate(of.consumed_per_second),
                rate(of.produced_per_second),
                caught_up(of.catch_up),
                of.member_id.unwrap_or("-").to_owned(),
            ]);
        }
        table
    }
}

impl<'a> From<&'a MemberDescription> for Member<'a> {
    fn from(member: &'a MemberDescription) -> Self {
        Self {
            member_id: &member.member_id,
            instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            host: &member.host,
            rack: member.rack.as_deref(),
            epoch: member.epoch,
            topics: &member.topics,
            pattern: member.pattern.as_deref(),
            assignment: member.assignment.as_ref(),
            target: member.target.as_ref(),
        }
    }
}

impl<'a> Reading<'a> {
    fn new(
        (topic, partition): &'a Partition,
        place: Place,
        pace: Option<Pace>,
        committed: Option<&'a CommittedOffset>,
        member_id: Option<&'a str>,
    ) -> Self {
        let catch_up = CatchUp::of(place.lag(), pace);
        Self {
            topic,
            partition: *partition,
            committed_offset: place.committed,
            leader_epoch: committed.and_then(|committed| committed.leader_epoch),
            metadata: committed.and_then(|committed| committed.metadata.as_deref()),
            end_offset: place.end,
            lag: place.lag(),
            consumed_per_second: pace.map(|pace| pace.consumed),
            produced_per_second: pace.map(|pace| pace.produced),
            catch_up_seconds: match catch_up {
                CatchUp::Done => Some(0.0),
                CatchUp::After(time) => Some(time.as_secs_f64()),
                CatchUp::Never | CatchUp::Unknown => None,
            },
            member_id,
            catch_up,
        }
    }
}

fn caught_up(catch_up: CatchUp) -> String {
    match catch_up {
        CatchUp::Done => "now".into(),
        CatchUp::After(time) => format!("in {}", Span(time)),
        CatchUp::Never => "never".into(),
        CatchUp::Unknown => "?".into(),
    }
}

/// `orders: 0-2,5; payments: 1`.
fn ranges(partitions: &BTreeMap<String, Vec<i32>>) -> String {
    if partitions.is_empty() {
        return "none".into();
    }
    let of_topic = |(topic, partitions): (&String, &Vec<i32>)| format!("{topic}: {}", Ranges(partitions));
    partitions.iter().map(of_topic).collect::<Vec<_>>().join("; ")
}
