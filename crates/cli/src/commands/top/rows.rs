//! What is shown of a cluster, from one look or two. It is pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_observe::exporter::{Facts, GroupFacts};
use milena_observe::lag::{CatchUp, PartitionReport, hot};
use serde::Serialize;

/// Everything, each list by lag or rate.
#[derive(Debug, Serialize)]
pub(super) struct Sight {
    pub(super) brokers: usize,
    pub(super) partitions: usize,
    pub(super) groups: Vec<GroupRow>,
    pub(super) topics: Vec<TopicRow>,
    pub(super) hot: Vec<HotRow>,
}

/// A group. What is not known is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct GroupRow {
    pub(super) group: String,
    pub(super) state: String,
    /// Burrow's.
    pub(super) status: &'static str,
    pub(super) members: usize,
    pub(super) partitions: usize,
    pub(super) lag: u64,
    /// The age of the oldest record that it has not finished.
    pub(super) lag_seconds: Option<f64>,
    pub(super) consumed_per_second: Option<f64>,
    pub(super) produced_per_second: Option<f64>,
    /// When its slowest partition is read. None if that is not known, or never.
    pub(super) catch_up_seconds: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TopicRow {
    pub(super) topic: String,
    pub(super) partitions: usize,
    /// Offsets between the beginning and the end.
    pub(super) records: i64,
    pub(super) written_per_second: Option<f64>,
    pub(super) under_replicated: usize,
    pub(super) without_leader: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct HotRow {
    pub(super) group: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) lag: u64,
    /// Its part of the topic's lag, 0 to 1.
    pub(super) of_lag: f64,
    /// Its part of what is written to the topic, 0 to 1.
    pub(super) of_written: f64,
}

impl Sight {
    pub(super) fn new(now: &Facts, before: Option<&Facts>) -> Self {
        let mut groups: Vec<_> = now.groups.iter().map(|(name, of)| group(name, of)).collect();
        groups.sort_by_key(|row| std::cmp::Reverse(row.lag));
        let mut topics: Vec<_> = now.topics.keys().map(|name| topic(name, now, before)).collect();
        let rate = |row: &TopicRow| row.written_per_second.unwrap_or(0.0);
        topics.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
        let mut hot: Vec<_> = now.groups.iter().flat_map(|(name, of)| hot_of(name, of)).collect();
        hot.sort_by_key(|row| std::cmp::Reverse(row.lag));
        let partitions = now.topics.values().map(Vec::len).sum();
        Self { brokers: now.brokers.len(), partitions, groups, topics, hot }
    }
}

fn reports(of: &GroupFacts) -> impl Iterator<Item = (&(Arc<str>, i32), &PartitionReport)> {
    of.partitions.iter().filter_map(|(partition, of)| Some((partition, of.report.as_ref()?)))
}

fn group(name: &str, of: &GroupFacts) -> GroupRow {
    let all = || reports(of).map(|(_, report)| report);
    let most = |values: &mut dyn Iterator<Item = f64>| values.max_by(f64::total_cmp);
    let paces: Vec<_> = all().filter_map(|report| report.pace).collect();
    let sum =
        |of: fn(&milena_observe::lag::Pace) -> f64| (!paces.is_empty()).then(|| paces.iter().map(of).sum());
    let catch_up = |report: &PartitionReport| match report.catch_up {
        CatchUp::Done => Some(0.0),
        CatchUp::After(time) => Some(time.as_secs_f64()),
        CatchUp::Never | CatchUp::Unknown => None,
    };
    let is_known = all().all(|report| catch_up(report).is_some());
    GroupRow {
        group: name.to_owned(),
        state: of.state.clone(),
        status: of.status().name(),
        members: of.members,
        partitions: of.partitions.len(),
        lag: all().filter_map(|report| report.unprocessed).sum(),
        lag_seconds: most(&mut all().filter_map(|report| Some(report.time_lag?.time.as_secs_f64()))),
        consumed_per_second: sum(|pace| pace.consumed),
        produced_per_second: sum(|pace| pace.produced),
        catch_up_seconds: if is_known { most(&mut all().filter_map(catch_up)) } else { None },
    }
}

fn topic(name: &str, now: &Facts, before: Option<&Facts>) -> TopicRow {
    let partitions = &now.topics[name];
    let written = before.and_then(|before| {
        let seconds = now.at_ms.saturating_sub(before.at_ms) as f64 / 1000.0;
        let old = before.topics.get(name)?;
        let moved = partitions.iter().zip(old).filter_map(|(of, old)| of.end?.checked_sub(old.end?));
        // A topic that was made again begins anew.
        (seconds > 0.0).then(|| moved.map(|moved| moved.max(0) as f64).sum::<f64>() / seconds)
    });
    TopicRow {
        topic: name.to_owned(),
        partitions: partitions.len(),
        records: partitions.iter().filter_map(|of| of.end?.checked_sub(of.start?)).sum(),
        written_per_second: written,
        under_replicated: partitions.iter().filter(|of| of.in_sync < of.replicas.len()).count(),
        without_leader: partitions.iter().filter(|of| of.leader.is_none()).count(),
    }
}

fn hot_of<'a>(name: &'a str, of: &'a GroupFacts) -> Vec<HotRow> {
    let mut by_topic: BTreeMap<&str, (Vec<i32>, Vec<PartitionReport>)> = BTreeMap::new();
    for ((topic, partition), report) in reports(of) {
        let (partitions, reports) = by_topic.entry(topic).or_default();
        partitions.push(*partition);
        reports.push(*report);
    }
    let of_topic = |(topic, (partitions, reports)): (&str, (Vec<i32>, Vec<PartitionReport>))| {
        let row = |hot: milena_observe::lag::Hot| HotRow {
            group: name.to_owned(),
            topic: topic.to_owned(),
            partition: partitions[hot.index],
            lag: reports[hot.index].unprocessed.unwrap_or(0),
            of_lag: hot.of_lag,
            of_written: hot.of_written,
        };
        hot(&reports).into_iter().map(row).collect::<Vec<_>>()
    };
    by_topic.into_iter().flat_map(of_topic).collect()
}
