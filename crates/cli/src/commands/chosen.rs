//! Partitions that a command line chooses, as in `orders:0,2,5-7`, and where they begin and end.

use std::collections::{BTreeMap, BTreeSet};

use milena::{Admin, OffsetAt};

use super::topics::{check_partitions, describe_topic};
use crate::cluster::Connected;
use crate::exit::Failure;
use crate::offsets::parse_partitions;

/// A topic, and which of its partitions if not all.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    topic: String,
    partitions: Option<Vec<i32>>,
}

/// A partition by topic and index.
pub(crate) type Partition = (String, i32);

/// Reads `TOPIC[:LIST]`.
pub(crate) fn chosen(text: &str) -> Result<Chosen, String> {
    Ok(match text.split_once(':') {
        Some((topic, list)) => Chosen { topic: topic.into(), partitions: Some(parse_partitions(list)?) },
        None => Chosen { topic: text.into(), partitions: None },
    })
}

impl Chosen {
    pub(crate) fn has(&self, (topic, partition): &Partition) -> bool {
        *topic == self.topic
            && self.partitions.as_ref().is_none_or(|partitions| partitions.contains(partition))
    }
}

/// The partitions that are chosen, which all exist.
pub(crate) async fn partitions(
    cluster: &Connected,
    chosen: &[Chosen],
) -> Result<BTreeSet<Partition>, Failure> {
    let mut partitions = BTreeSet::new();
    for Chosen { topic, partitions: some } in chosen {
        let described = describe_topic(cluster, topic).await?;
        let some = some.clone().unwrap_or_else(|| described.partitions.iter().map(|p| p.index).collect());
        check_partitions(&described, some.iter().copied())?;
        partitions.extend(some.into_iter().map(|partition| (topic.clone(), partition)));
    }
    Ok(partitions)
}

/// The offset of each partition that has one.
pub(crate) async fn look_up(
    admin: &Admin,
    partitions: &BTreeSet<Partition>,
    at: OffsetAt,
) -> Result<BTreeMap<Partition, i64>, Failure> {
    let mut offsets = BTreeMap::new();
    for (partition, offset) in
        admin.list_offsets(partitions.iter().map(|(topic, at)| (topic, *at)), at).await?
    {
        offsets.extend(offset?.map(|offset| (partition, offset)));
    }
    Ok(offsets)
}

/// As `orders-3`.
pub(crate) fn name((topic, partition): &Partition) -> String {
    format!("{topic}-{partition}")
}
