//! Asks the cluster.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use milena::{Admin, CommittedOffset, Error, GroupFilter, OffsetAt};

use super::Plan;
use super::facts::{Facts, GroupFacts, GroupPartition, PartitionFacts};
use crate::lag::{Look, PartitionLag, Rules};

type Partition = (String, i32);

/// What is remembered from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Looker {
    lags: BTreeMap<String, BTreeMap<Partition, PartitionLag>>,
}

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
        self.judge(committed, &mut facts);
        Ok(facts)
    }

    /// What groups and partitions that are gone had is forgotten.
    fn judge(
        &mut self,
        committed: BTreeMap<String, BTreeMap<Partition, CommittedOffset>>,
        facts: &mut Facts,
    ) {
        let rules = Rules::default();
        let mut lags = BTreeMap::new();
        for (group, offsets) in committed {
            let mut known = self.lags.remove(&group).unwrap_or_default();
            let of_group: &mut BTreeMap<Partition, PartitionLag> = lags.entry(group.clone()).or_default();
            for (partition, committed) in offsets {
                let of_topic = facts.topics.get(&partition.0);
                let seen = of_topic.and_then(|of| of.get(place(of, partition.1)?));
                let report = seen.and_then(|seen| {
                    let look = Look { start: seen.start.unwrap_or(0), ..Look::at(facts.at_ms, seen.end?) };
                    let mut lag = known.remove(&partition).unwrap_or_default();
                    lag.see(&look.committed(&committed));
                    let report = lag.report(&rules);
                    of_group.insert(partition.clone(), lag);
                    Some(report)
                });
                if let Some(group) = facts.groups.get_mut(&group) {
                    group
                        .partitions
                        .insert(partition, GroupPartition { committed: committed.offset, report });
                }
            }
        }
        self.lags = lags;
    }
}

/// Where a partition is among those of its topic, which are in order.
fn place(partitions: &[PartitionFacts], index: i32) -> Option<usize> {
    partitions.binary_search_by_key(&index, |of| of.index).ok()
}

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
            start: None,
            end: None,
        };
        let mut partitions: Vec<_> = topic.partitions.into_iter().map(of).collect();
        partitions.sort_by_key(|partition| partition.index);
        facts.topics.insert(topic.name, partitions);
    }
    for at in [OffsetAt::Earliest, OffsetAt::Latest] {
        let named = facts
            .topics
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(move |of| (topic, of.index)));
        let named: Vec<_> = named.map(|(topic, index)| (topic.clone(), index)).collect();
        for ((topic, index), offset) in admin.list_offsets(named, at).await? {
            let found = facts.topics.get_mut(&topic);
            let found = found.and_then(|of| place(of, index).and_then(|place| of.get_mut(place)));
            let (Some(found), Ok(offset)) = (found, offset) else { continue };
            match at {
                OffsetAt::Earliest => found.start = offset,
                _ => found.end = offset,
            }
        }
    }
    Ok(())
}

/// The groups, and what each has committed.
async fn groups(
    admin: &Admin,
    plan: &Plan,
    facts: &mut Facts,
) -> Result<BTreeMap<String, BTreeMap<Partition, CommittedOffset>>, Error> {
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
    for (group, offsets) in admin.list_group_offsets(&names).await {
        if let Ok(mut offsets) = offsets {
            offsets.retain(|(topic, _), _| plan.topics.has(topic));
            committed.insert(group, offsets);
        }
    }
    Ok(committed)
}
