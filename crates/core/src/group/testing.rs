//! What the tests of both machines share: an assignor whose bytes can be read, and shorthands.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::terms::{Assignor, Claim, Member, Protocol, Settings, Subscription, TopicPartition};
use crate::metadata::Snapshot;
use crate::{Backoff, Failure, Instant};

/// Its metadata reads `topics|owned|generation`, its assignments `t-0,t-1`. It gives all partitions to the first member.
#[derive(Debug)]
pub(super) struct Greedy {
    pub(super) is_cooperative: bool,
}

impl Assignor for Greedy {
    fn name(&self) -> &str {
        "greedy"
    }

    fn is_cooperative(&self) -> bool {
        self.is_cooperative
    }

    fn metadata(&self, claim: &Claim<'_>) -> Bytes {
        let topics: Vec<_> = claim.topics.iter().map(ToString::to_string).collect();
        let owned: Vec<_> = claim.owned.iter().map(ToString::to_string).collect();
        let generation = claim.generation.unwrap_or(-1);
        format!("{}|{}|{generation}", topics.join(","), owned.join(",")).into()
    }

    fn topics(&self, members: &[Member]) -> Result<BTreeSet<Arc<str>>, Failure> {
        let mut topics = BTreeSet::new();
        for member in members {
            let text = std::str::from_utf8(&member.metadata).map_err(|_| garbled())?;
            let names = text.split('|').next().unwrap_or_default();
            topics.extend(names.split(',').filter(|name| !name.is_empty()).map(Arc::<str>::from));
        }
        Ok(topics)
    }

    fn assign(&self, members: &[Member], snapshot: &Snapshot) -> Result<Vec<(Arc<str>, Bytes)>, Failure> {
        let mut all = Vec::new();
        for topic in self.topics(members)? {
            let Some(Ok(found)) = snapshot.topics.get(&topic) else { continue };
            all.extend(found.partitions.iter().map(|partition| format!("{topic}-{}", partition.index)));
        }
        let mut all = Some(all.join(","));
        Ok(members
            .iter()
            .map(|member| (Arc::clone(&member.id), all.take().unwrap_or_default().into()))
            .collect())
    }

    fn decode(&self, assignment: &Bytes) -> Result<BTreeSet<TopicPartition>, Failure> {
        let text = std::str::from_utf8(assignment).map_err(|_| garbled())?;
        Ok(partitions(text))
    }
}

fn garbled() -> Failure {
    Failure::Malformed { peer: "a member of the group".into(), reason: "garbled".into() }
}

/// The partitions of `t-0,t-1`.
pub(super) fn partitions(text: &str) -> BTreeSet<TopicPartition> {
    let one = |text: &str| {
        let (topic, partition) = text.split_once('-').expect("topic-partition");
        TopicPartition::new(&topic.into(), partition.parse().expect("a number"))
    };
    text.split(',').filter(|text| !text.is_empty()).map(one).collect()
}

pub(super) fn texts(partitions: &BTreeSet<TopicPartition>) -> String {
    let texts: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    texts.join(",")
}

pub(super) fn topics(names: &[&str]) -> Subscription {
    Subscription { topics: names.iter().map(|name| Arc::from(*name)).collect(), pattern: None }
}

pub(super) fn settings(is_cooperative: bool) -> Settings {
    Settings {
        group_id: "g".into(),
        instance_id: None,
        rack: None,
        protocol: Protocol::Automatic,
        session_timeout: Duration::from_secs(45),
        heartbeat_interval: Duration::from_secs(3),
        rebalance_timeout: Duration::from_secs(300),
        max_poll_interval: Duration::from_secs(300),
        request_timeout: Duration::from_secs(30),
        backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) },
        assignors: vec![Arc::new(Greedy { is_cooperative })],
        server_assignor: None,
    }
}

pub(super) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn start() -> Instant {
    Instant::ORIGIN + seconds(1000)
}
