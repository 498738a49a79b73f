//! Asks the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use milena::{Admin, CommittedOffset, Error, GroupFilter, Isolation, OffsetAt};

use super::Plan;
use super::facts::{Facts, GroupFacts, GroupPartition, LogDirFacts, PartitionFacts};
use crate::lag::{GroupLag, Look, PartitionEnds, Rules};

type Partition = (Arc<str>, i32);

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Looker {
    ends: Ends,
    /// Empty unless there are groups whose lag ends at the last stable offset.
    stable_ends: Ends,
    /// The last stable offsets below the ends of their partitions, and since when.
    held: BTreeMap<Partition, (i64, i64)>,
    lags: BTreeMap<String, BTreeMap<Partition, GroupLag>>,
}

/// The ends of partitions, in the order of the topic's partitions.
#[derive(Debug, Default)]
struct Ends(BTreeMap<Arc<str>, Vec<(i32, PartitionEnds)>>);

/// Which end of a partition is meant.
type End = fn(&PartitionFacts) -> Option<i64>;

impl Looker {
    pub(super) async fn look(&mut self, admin: &Admin, plan: &Plan) -> Result<Facts, Error> {
        let cluster = admin.describe_cluster().await?;
        let mut facts = Facts { is_up: true, ..Facts::default() };
        facts.brokers = cluster
            .brokers
            .into_iter()
            .map(|broker| (broker.id, format!("{}:{}", broker.host, broker.port)))
            .collect();
        // Committed offsets are looked up before the ends, so that no offset is beyond its end.
        let committed = groups(admin, plan, &mut facts).await?;
        topics(admin, plan, &mut facts).await?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        facts.at_ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
        sizes(admin, &mut facts).await;
        self.see_held(&mut facts);
        self.ends.see(&facts, |of| of.end);
        if committed.keys().any(|group| plan.read_committed.has(group)) {
            self.stable_ends.see(&facts, |of| of.stable_end);
        }
        self.judge(committed, plan, &mut facts);
        Ok(facts)
    }

    /// Notes since when transactions hold records back. While transactions overlap the last stable offset goes on, and begins anew.
    fn see_held(&mut self, facts: &mut Facts) {
        let mut held = BTreeMap::new();
        for (topic, partitions) in &mut facts.topics {
            for of in partitions {
                let Some(stable_end) = of.stable_end.filter(|_| of.held_back() > Some(0)) else { continue };
                let partition = (Arc::clone(topic), of.index);
                let before = self.held.get(&partition).filter(|(offset, _)| *offset == stable_end);
                let since_ms = before.map_or(facts.at_ms, |(_, since_ms)| *since_ms);
                of.held_since_ms = Some(since_ms);
                held.insert(partition, (stable_end, since_ms));
            }
        }
        self.held = held;
    }

    /// What groups and partitions that are gone had is forgotten.
    fn judge(&mut self, committed: Committed, plan: &Plan, facts: &mut Facts) {
        let rules = Rules::default();
        let mut room = plan.pairs_max;
        let mut lags = BTreeMap::new();
        for (group, offsets) in committed {
            let (end, ends): (End, _) = match plan.read_committed.has(&group) {
                true => (|of| of.stable_end, &self.stable_ends),
                false => (|of| of.end, &self.ends),
            };
            let known = self.lags.remove(&group).unwrap_or_default();
            let mut known = known.into_iter().peekable();
            // A map that is made of a list has no empty places, and there may be a million of these.
            let (mut judged, mut of_group) = (Vec::new(), Vec::new());
            for (partition, committed) in offsets {
                if room == 0 {
                    facts.left_out += 1;
                    continue;
                }
                room -= 1;
                while known.next_if(|(before, _)| *before < partition).is_some() {}
                let lag = known.next_if(|(before, _)| *before == partition).map(|(_, lag)| lag);
                let seen = facts.topics.get_key_value(&partition.0).and_then(|(topic, of)| {
                    let place = place(of, partition.1)?;
                    Some((topic, look(facts.at_ms, of.get(place)?, end)?, ends.get(topic, place)?))
                });
                let Some((topic, look, ends)) = seen else {
                    judged.push((partition, GroupPartition { committed: committed.offset, report: None }));
                    continue;
                };
                let mut lag = lag.unwrap_or_default();
                lag.see(ends, &look.committed(&committed));
                let report = Some(lag.report(ends, &rules));
                // All have the name that the topic has, instead of one each.
                let partition = (Arc::clone(topic), partition.1);
                of_group.push((partition.clone(), lag));
                judged.push((partition, GroupPartition { committed: committed.offset, report }));
            }
            if let Some(found) = facts.groups.get_mut(&group) {
                found.partitions = judged.into_iter().collect();
            }
            lags.insert(group, of_group.into_iter().collect());
        }
        self.lags = lags;
    }
}

impl Ends {
    /// What topics and partitions that are gone had is forgotten.
    fn see(&mut self, facts: &Facts, end: End) {
        let mut ends = BTreeMap::new();
        for (topic, partitions) in &facts.topics {
            let known = self.0.remove(topic).unwrap_or_default();
            let mut known = known.into_iter().peekable();
            let mut of_topic = Vec::with_capacity(partitions.len());
            for of in partitions {
                while known.next_if(|(index, _)| *index < of.index).is_some() {}
                let mut seen = known.next_if(|(index, _)| *index == of.index).unwrap_or_default().1;
                if let Some(look) = look(facts.at_ms, of, end) {
                    seen.see(&look);
                }
                of_topic.push((of.index, seen));
            }
            ends.insert(Arc::clone(topic), of_topic);
        }
        self.0 = ends;
    }

    fn get(&self, topic: &str, place: usize) -> Option<&PartitionEnds> {
        Some(&self.0.get(topic)?.get(place)?.1)
    }
}

/// What was seen of a partition, if its leader told where it ends.
fn look(at_ms: i64, of: &PartitionFacts, end: End) -> Option<Look> {
    Some(Look { start: of.start.unwrap_or(0), ..Look::at(at_ms, end(of)?) })
}

/// Where a partition is among those of its topic, which are in order.
fn place(partitions: &[PartitionFacts], index: i32) -> Option<usize> {
    partitions.binary_search_by_key(&index, |of| of.index).ok()
}

/// Notes an offset.
type Set = fn(&mut PartitionFacts, Option<i64>);

async fn topics(admin: &Admin, plan: &Plan, facts: &mut Facts) -> Result<(), Error> {
    for topic in admin.topics().await? {
        if (topic.is_internal && !plan.internal) || !plan.topics.has(&topic.name) {
            continue;
        }
        let of = |partition: milena::PartitionDescription| PartitionFacts {
            index: partition.index,
            leader: partition.leader,
            in_sync: partition.isr.len(),
            replicas: partition.replicas,
            ..PartitionFacts::default()
        };
        let mut partitions: Vec<_> = topic.partitions.into_iter().map(of).collect();
        partitions.sort_by_key(|partition| partition.index);
        facts.topics.insert(topic.name.into(), partitions);
    }
    let uncommitted = admin.clone().isolation(Isolation::ReadUncommitted);
    let committed = admin.clone().isolation(Isolation::ReadCommitted);
    // Last stable offsets come after the ends. The other way round, what is written meanwhile would look as if it were held back.
    let wanted: [(&Admin, OffsetAt, Set); 3] = [
        (&uncommitted, OffsetAt::Earliest, |of, offset| of.start = offset),
        (&uncommitted, OffsetAt::Latest, |of, offset| of.end = offset),
        (&committed, OffsetAt::Latest, |of, offset| of.stable_end = offset),
    ];
    for (admin, at, set) in wanted {
        // A list: the compiler does not see that a future which holds this iterator may go from thread to thread.
        let named: Vec<_> = facts
            .topics
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |of| (topic, of.index)))
            .collect();
        for ((topic, index), offset) in admin.list_offsets(named, at).await? {
            let found = facts.topics.get_mut(&*topic);
            let found = found.and_then(|of| place(of, index).and_then(|place| of.get_mut(place)));
            if let (Some(found), Ok(offset)) = (found, offset) {
                set(found, offset);
            }
        }
    }
    Ok(())
}

/// The sizes of partitions and directories. There are none if this principal may not see them, or if brokers do not tell.
async fn sizes(admin: &Admin, facts: &mut Facts) {
    let Ok(listing) = admin.describe_log_dirs().await else { return };
    for log_dir in listing.log_dirs {
        let mut replica_bytes = 0_u64;
        for replica in &log_dir.replicas {
            replica_bytes = replica_bytes.saturating_add(replica.bytes);
            let Some((topic, partitions)) = facts.topics.get_key_value(&*replica.topic) else { continue };
            let of_topic = facts.topic_bytes.entry(Arc::clone(topic)).or_default();
            *of_topic = of_topic.saturating_add(replica.bytes);
            let Some(place) = place(partitions, replica.partition) else { continue };
            let is_leaders = partitions[place].leader == Some(log_dir.broker) && !replica.is_future;
            if is_leaders && let Some(partitions) = facts.topics.get_mut(&*replica.topic) {
                partitions[place].bytes = Some(replica.bytes);
            }
        }
        facts.log_dirs.push(LogDirFacts {
            broker: log_dir.broker,
            path: log_dir.path,
            is_online: log_dir.error.is_none(),
            replica_bytes,
            total_bytes: log_dir.total_bytes,
            usable_bytes: log_dir.usable_bytes,
        });
    }
}

/// What groups have committed, in the order of their names and partitions.
type Committed = BTreeMap<String, Vec<(Partition, CommittedOffset)>>;

/// The offsets of this many groups are asked for at a time. What is kept of an offset is a third of what comes.
const GROUPS_AT_ONCE: usize = 32;

/// The groups, and what each has committed.
async fn groups(admin: &Admin, plan: &Plan, facts: &mut Facts) -> Result<Committed, Error> {
    let listed = admin.list_groups(&GroupFilter::all()).await?.groups;
    let names: Vec<_> =
        listed.into_iter().map(|group| group.group).filter(|group| plan.groups.has(group)).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    for (group, described) in admin.describe_groups(&names).await {
        // A group that was deleted meanwhile, or that this principal may not see.
        let Ok(described) = described else { continue };
        let of_group = GroupFacts {
            state: described.state.to_string(),
            protocol_type: described.protocol_type,
            assignor: described.assignor.unwrap_or_default(),
            coordinator: described.coordinator.id,
            members: described.members.len(),
            partitions: BTreeMap::new(),
        };
        facts.groups.insert(group, of_group);
    }
    let mut committed = BTreeMap::new();
    let mut topics: BTreeSet<Arc<str>> = BTreeSet::new();
    for names in names.chunks(GROUPS_AT_ONCE) {
        for (group, offsets) in admin.list_group_offsets(names).await {
            let Ok(offsets) = offsets else { continue };
            let offsets = offsets.into_iter().filter(|((topic, _), _)| plan.topics.has(topic));
            let mut of_group = Vec::new();
            for ((topic, partition), offset) in offsets {
                let known = topics.get(&*topic).cloned();
                let topic = known.unwrap_or_else(|| {
                    let topic: Arc<str> = topic.into();
                    topics.insert(Arc::clone(&topic));
                    topic
                });
                of_group.push(((topic, partition), offset));
            }
            committed.insert(group, of_group);
        }
    }
    Ok(committed)
}
