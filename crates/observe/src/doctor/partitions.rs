//! Faults of partitions, topics, brokers and rights.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::diagnose::{Fault, Finding};
use super::members::word;
use super::observation::{Denied, KeyCount, Observation, OpenAt, Partition, Quota, TopicSeen};
use crate::lag::{Hot, PartitionLag, PartitionReport, Retention, Rules, hot};

/// `orders:3`.
pub(super) fn name((topic, index): &Partition) -> String {
    format!("{topic}:{index}")
}

/// At most five partitions, and how many more there are.
pub(super) fn list<'a>(partitions: impl ExactSizeIterator<Item = &'a Partition>) -> String {
    const SHOWN: usize = 5;
    let more = partitions.len().saturating_sub(SHOWN);
    let shown: Vec<_> = partitions.take(SHOWN).map(name).collect();
    match (shown.is_empty(), more) {
        (true, _) => "no partition".into(),
        (_, 0) => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}

/// What the samples say of each partition.
fn reports(seen: &Observation) -> BTreeMap<&Partition, PartitionReport> {
    let Some(last) = seen.last() else { return BTreeMap::new() };
    let report = |partition| {
        let mut lag = PartitionLag::default();
        seen.looks(partition).for_each(|look| lag.see(look));
        lag.report(&Rules::default())
    };
    last.looks.keys().map(|partition| (partition, report(partition))).collect()
}

/// How fast the group reads, and how much there is.
pub(super) struct Paces {
    pub(super) consumed: f64,
    pub(super) lag: u64,
}

pub(super) fn paces(seen: &Observation) -> Paces {
    let reports = reports(seen);
    let consumed = reports.values().filter_map(|report| report.pace).map(|pace| pace.consumed).sum();
    Paces { consumed, lag: reports.values().filter_map(|report| report.unprocessed).sum() }
}

/// Whether a partition does not move for a reason that is none of its member's.
pub(super) fn is_explained(seen: &Observation, partition: &Partition) -> bool {
    waits(seen).any(|(of, _)| of == partition) || !seen.denied.is_empty() || !throttled(seen).is_empty()
}

pub(super) fn denied(seen: &Observation) -> Vec<Finding> {
    let group = word(&seen.group);
    let finding = |denied: &Denied| {
        let (what, needs, command) = match denied {
            Denied::Topic(topic) => (
                format!("topic {topic:?} may not be read"),
                format!("it needs Read on topic {topic:?}"),
                format!(
                    "milena acl create --allow User:NAME --operation read,describe --topic {}",
                    word(topic)
                ),
            ),
            Denied::Group => (
                format!("group {:?} may not be joined", seen.group),
                format!("it needs Read on group {:?}", seen.group),
                format!("milena acl create --allow User:NAME --operation read --group {group}"),
            ),
        };
        Finding {
            fault: Fault::AclMissing,
            detail: format!("{what} by the principal of this client"),
            evidence: vec!["the cluster refuses it for want of rights".into(), needs],
            fix: "an administrator grants it to the principal that the group's members log in as".into(),
            command,
        }
    };
    seen.denied.iter().map(finding).collect()
}

/// The middle one of some times.
fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// A broker is slow from this on, if the others are faster by `SLOW_TIMES`.
const SLOW: Duration = Duration::from_millis(100);
const SLOW_TIMES: u32 = 5;
/// Without others to compare it with.
const SLOW_ALONE: Duration = Duration::from_millis(500);

pub(super) fn slow_brokers(seen: &Observation) -> Vec<Finding> {
    let medians: BTreeMap<_, _> =
        seen.answers.iter().filter_map(|(id, times)| Some((*id, median(times)?))).collect();
    let finding = |(id, time): (&i32, &Duration)| {
        let others: Vec<_> =
            medians.iter().filter(|(other, _)| *other != id).map(|(_, time)| *time).collect();
        let is_slow = match median(&others) {
            Some(others) => *time >= SLOW && *time >= others * SLOW_TIMES,
            None => *time >= SLOW_ALONE,
        };
        is_slow.then(|| Finding {
            fault: Fault::SlowBroker,
            detail: format!("broker {id} takes {} ms for the smallest request", time.as_millis()),
            evidence: medians
                .iter()
                .map(|(id, time)| format!("broker {id}: {:.1} ms in the middle", time.as_secs_f64() * 1000.0))
                .collect(),
            fix: format!(
                "look at the load, the disks and the network of broker {id}; until it is well, move its leaders to other replicas"
            ),
            command: format!("milena doctor {}", word_of_topic(seen)),
        })
    };
    medians.iter().filter_map(finding).collect()
}

fn word_of_topic(seen: &Observation) -> String {
    let topic = seen.topics.keys().next();
    topic.map_or_else(String::new, |topic| format!("--topic {}", word(topic))).trim_end().to_owned()
}

/// The partitions where the group has read everything up to the first record of a transaction, which stays open.
fn waits(seen: &Observation) -> impl Iterator<Item = (&Partition, i64)> {
    let last = seen.last().into_iter().flat_map(|last| &last.stable);
    last.filter_map(|(partition, stable)| {
        let look = seen.last()?.looks.get(partition)?;
        let mut earlier = seen.samples.iter().map(|sample| sample.stable.get(partition));
        let stays = seen.samples.len() > 1 && earlier.all(|at| at == Some(stable));
        let was_open = seen.looks(partition).all(|look| look.end > *stable);
        (stays && was_open && look.committed.unwrap_or(0) >= *stable).then_some((partition, *stable))
    })
}

pub(super) fn open_transactions(seen: &Observation) -> Vec<Finding> {
    let finding = |(partition, stable): (&Partition, i64)| {
        let end = seen.last()?.looks.get(partition)?.end;
        let open: Option<&OpenAt> = seen.open.iter().find(|open| open.partition == *partition);
        let mut evidence = vec![
            format!("the last stable offset of {} stays at {stable}, and its end is {end}", name(partition)),
            "the group has read everything before it".to_owned(),
        ];
        let (topic, index) = partition;
        let (fix, command) = match open {
            Some(OpenAt { transactional_id: Some(id), producer_id, .. }) => {
                evidence.push(format!("producer {producer_id} with the transactional id {id:?} has it open"));
                (
                    "end or restart that producer: a new one of the same id aborts the transaction, and the coordinator does after \
                     transaction.timeout.ms"
                        .to_owned(),
                    format!("milena txn describe {}", word(id)),
                )
            }
            open => {
                if let Some(open) = open {
                    evidence.push(format!(
                        "producer {} has it open, and no coordinator knows of it: nothing ends it",
                        open.producer_id
                    ));
                }
                (
                    "abort the transaction at the partition".to_owned(),
                    format!("milena txn abort-hanging --topic {}:{index} --older-than 0", word(topic)),
                )
            }
        };
        Some(Finding {
            fault: Fault::OpenTransaction,
            detail: format!("{} waits for a transaction that does not end", name(partition)),
            evidence,
            fix,
            command,
        })
    };
    waits(seen).filter_map(finding).collect()
}

pub(super) fn out_of_retention(seen: &Observation) -> Vec<Finding> {
    let group = word(&seen.group);
    let finding = |(partition, report): (&Partition, PartitionReport)| {
        let look = seen.last()?.looks.get(partition)?;
        let committed = look.committed?;
        let (topic, index) = partition;
        let (detail, fix, command) = match report.retention {
            Retention::Far => return None,
            Retention::Passed(records) => (
                format!("{records} records of {} were removed before the group read them", name(partition)),
                "go on at the first record that is left, and keep records for longer: auto.offset.reset decides otherwise where \
                 members go on"
                    .to_owned(),
                format!("milena groups offsets reset {group} --topic {}:{index} --to-earliest", word(topic)),
            ),
            Retention::Near(time) => (
                format!(
                    "retention removes records of {} that the group has not read, in about {} s",
                    name(partition),
                    time.as_secs()
                ),
                "keep records for longer until the group has caught up".to_owned(),
                format!("milena topics config alter {} --set retention.ms=-1", word(topic)),
            ),
        };
        let mut evidence = vec![format!(
            "the committed offset is {committed}, and the first record that is there {}",
            look.start
        )];
        evidence.extend(look.retention_ms.map(|ms| format!("retention.ms of {topic:?} is {ms}")));
        Some(Finding { fault: Fault::OffsetOutOfRetention, detail, evidence, fix, command })
    };
    reports(seen).into_iter().filter_map(finding).collect()
}

/// The part of a quota from which on a group is taken to be slowed down by it.
const QUOTA_PART: f64 = 0.5;
/// A quota slows a group down, too, with which it would take longer than this to read what it has still to read.
const QUOTA_SECONDS: f64 = 60.0;

pub(super) fn throttled(seen: &Observation) -> Vec<Finding> {
    let reports = reports(seen);
    let clients = seen.last().into_iter().flat_map(|last| &last.members);
    let clients: BTreeSet<_> = clients.map(|member| &member.client_id).collect();
    // Records and bytes a second, of topics whose records were looked at.
    let (mut bytes_per_second, mut lag_bytes) = (0.0, 0.0);
    for ((topic, _), report) in &reports {
        let keys = seen.topics.get(topic).map(|topic| &topic.keys).filter(|keys| keys.records > 0);
        let Some(keys) = keys else { continue };
        let each = keys.bytes as f64 / keys.records as f64;
        bytes_per_second += report.pace.map_or(0.0, |pace| pace.consumed) * each;
        lag_bytes += report.unprocessed.unwrap_or(0) as f64 * each;
    }
    let lag: u64 = reports.values().filter_map(|report| report.unprocessed).sum();
    let brokers = seen.answers.len().max(1) as f64;
    let finding = |quota: &Quota| {
        let is_of_group = quota.client_id.as_ref().is_none_or(|id| clients.contains(id));
        let allowed = quota.bytes_per_second * brokers;
        let limits = bytes_per_second >= allowed * QUOTA_PART || lag_bytes >= allowed * QUOTA_SECONDS;
        if !is_of_group || lag == 0 || clients.is_empty() || !limits {
            return None;
        }
        let (whom, option) = match (&quota.client_id, &quota.user) {
            (Some(id), _) => (format!("client id {id:?}"), format!("--client-id {}", word(id))),
            (_, Some(user)) => (format!("user {user:?}"), format!("--user {}", word(user))),
            _ => ("all clients".to_owned(), "--default-client-id".to_owned()),
        };
        Some(Finding {
            fault: Fault::QuotaThrottle,
            detail: format!("a quota of {whom} slows the group down"),
            evidence: vec![
                format!("consumer_byte_rate is {} bytes a second, from each broker", quota.bytes_per_second),
                format!(
                    "the group reads about {bytes_per_second:.0} bytes a second, and has {lag_bytes:.0} bytes in {lag} records to read"
                ),
            ],
            fix: "raise the quota, or delete it".into(),
            command: format!(
                "milena quota set {option} consumer_byte_rate={:.0}",
                (quota.bytes_per_second * 10.0).max(1_048_576.0)
            ),
        })
    };
    seen.quotas.iter().filter_map(finding).collect()
}

/// Fewer records say little of keys.
const KEYS_MIN: usize = 100;
/// The part of the records that one key may have.
const KEY_PART: f64 = 0.3;

pub(super) fn skewed_keys(seen: &Observation) -> Vec<Finding> {
    let finding = |(topic, of): (&String, &TopicSeen)| {
        let most = of.keys.top.first()?;
        let part = most.records as f64 / of.keys.records.max(1) as f64;
        if of.keys.records < KEYS_MIN || part < KEY_PART {
            return None;
        }
        let line = |count: &KeyCount| {
            format!("key {:?} has {} of the last {} records", count.key, count.records, of.keys.records)
        };
        Some(Finding {
            fault: Fault::SkewedKeys,
            detail: format!(
                "{:.0} % of the last records of {topic:?} have the key {:?}",
                part * 100.0,
                most.key
            ),
            evidence: of.keys.top.iter().take(3).map(line).collect(),
            fix: "records of one key are in one partition, and are processed one at a time in their order: divide the key (a suffix per \
                  part), or leave it out where order does not matter; more members do not help"
                .into(),
            command: format!("milena consume {} --offset -{KEYS_MIN} --exit-at-end -f '%k\\n'", word(topic)),
        })
    };
    seen.topics.iter().filter_map(finding).collect()
}

pub(super) fn hot_partitions(seen: &Observation) -> Vec<Finding> {
    let mut by_topic: BTreeMap<&str, Vec<(&Partition, PartitionReport)>> = BTreeMap::new();
    for (partition, report) in reports(seen) {
        by_topic.entry(&partition.0).or_default().push((partition, report));
    }
    let of_topic = |of: Vec<(&Partition, PartitionReport)>| {
        let reports: Vec<_> = of.iter().map(|(_, report)| *report).collect();
        let finding = |hot: Hot| {
            let (partition, report) = of[hot.index];
            let (topic, index) = partition;
            let written = report.pace.map_or(0.0, |pace| pace.produced);
            Finding {
                fault: Fault::HotPartition,
                detail: format!("{} gets most of the records of its topic", name(partition)),
                evidence: vec![
                    format!("{:.0} % of what is written ({written:.0} records a second)", hot.of_written * 100.0),
                    format!("{:.0} % of the lag, which does not get smaller", hot.of_lag * 100.0),
                ],
                fix: "one member reads a partition, so that more members do not help: let producers spread records (no partition or \
                      key of their own choice), or process the partition with several workers (milena-pipeline)"
                    .into(),
                command: format!("milena consume {} -p {index} --offset -20 --exit-at-end -f '%k %p %o\\n'", word(topic)),
            }
        };
        hot(&reports).into_iter().map(finding).collect::<Vec<_>>()
    };
    by_topic.into_values().flat_map(of_topic).collect()
}
