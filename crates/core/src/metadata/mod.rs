//! What we know of the cluster: brokers, topics, leaders, coordinators. A snapshot never changes. A newer one replaces
//! it.
//!
//! ```text
//!  MetadataResponse ─▶ merge ─▶ Snapshot (Arc) ─▶ routing, producers, consumers
//!  leader hints (KIP-951) ─┘         ▲
//!                       Refresh ─────┘ decides when to ask again, and for which topics
//! ```
//!
//! Everything is copied out of the response, so that a snapshot keeps no frame alive. It must not know who routes by
//! it.

mod refresh;
mod route;

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_messages::metadata::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Uuid;

pub use self::refresh::{AGE_MIN, Ask, FRESH, KEPT, Refresh, RefreshSettings};
pub use self::route::{Coordinated, Destination};
use crate::rights::Resource;
use crate::{BrokerId, Failure, Instant, LeaderEpoch};

/// The cluster as a broker described it last.
///
/// `merge` and the `with_…` methods make the next snapshot out of this one, with the next generation. Each takes time
/// by the topics and brokers that are known, since it copies the maps; topics are shared. Looking a topic up takes the
/// logarithm of their number, and a partition in it constant time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The cluster's id.
    pub cluster_id: Option<Arc<str>>,
    /// The broker that creates and deletes topics, and takes other changes of the cluster.
    pub controller: Option<BrokerId>,
    /// The brokers that are up.
    pub brokers: BTreeMap<BrokerId, Broker>,
    /// The topics that were asked for. Those that the broker could not describe have its error code.
    pub topics: BTreeMap<Arc<str>, Result<Arc<Topic>, ErrorCode>>,
    /// Topics that no broker knows, or that we may not see, and since when. They are among `topics`.
    pub missing_since: BTreeMap<Arc<str>, Instant>,
    /// When the request went out whose answer this is. None for the first one.
    pub asked_at: Option<Instant>,
    /// Why the last request for metadata failed, if it did.
    pub trouble: Option<Failure>,
    /// How many requests for metadata in a row failed because the peer broke the protocol.
    pub malformed: u32,
    /// The number of snapshots before this one.
    pub generation: u64,
}

/// A broker and where it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// The host it advertises.
    pub host: Arc<str>,
    /// The port it advertises.
    pub port: u16,
    /// Its rack.
    pub rack: Option<Arc<str>>,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its id, unless the broker is too old to have any (before 2.8). A topic that is deleted and made again has
    /// another one.
    pub id: Option<Uuid>,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// Its partitions, by index, ascending.
    pub partitions: Vec<Partition>,
}

/// A partition and the brokers that have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its index.
    pub index: i32,
    /// The broker that leads it, if any does.
    pub leader: Option<BrokerId>,
    /// The leader's epoch, if the broker is new enough to say (2.1).
    pub leader_epoch: Option<LeaderEpoch>,
    /// Brokers that have a replica.
    pub replicas: Vec<BrokerId>,
    /// Replicas that are in sync.
    pub isr: Vec<BrokerId>,
    /// Replicas that are offline.
    pub offline: Vec<BrokerId>,
    /// Why it has no leader, as the broker says it.
    pub error: Option<ErrorCode>,
    /// How often in a row a lower leader epoch was reported.
    stale_reports: u8,
}

/// Why a topic cannot be used at present.
#[derive(Debug, Clone)]
pub struct Unavailable {
    /// Why.
    pub failure: Failure,
    /// Whether asking again is in vain.
    pub is_final: bool,
    /// Whether no broker knows it, so that it may just have been created, or not exist.
    pub is_unknown: bool,
}

/// A leader that a response named beside its error (KIP-951).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Its leader.
    pub leader: BrokerId,
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// Where the leader listens.
    pub endpoint: Option<(Arc<str>, i32)>,
}

impl LeaderHint {
    /// The leader and its epoch as an answer names them; brokers that name none say −1.
    pub(crate) fn named(leader: i32, epoch: i32) -> Option<(BrokerId, LeaderEpoch)> {
        BrokerId::known(leader).zip(LeaderEpoch::known(epoch))
    }
}

/// Where the nodes listen that an answer names beside its leaders (KIP-951), by id. It is made once for an answer, so that
/// its hints share each host: a broker may name as many leaders as fit into an answer, each at a node with a long name.
#[derive(Debug, Default)]
pub(crate) struct Endpoints(BTreeMap<i32, (Arc<str>, i32)>);

impl Endpoints {
    /// Of nodes given by id, host and port. The first of several with the same id counts.
    pub(crate) fn of<'a>(nodes: impl Iterator<Item = (i32, &'a str, i32)>) -> Self {
        let mut endpoints = BTreeMap::new();
        for (id, host, port) in nodes {
            endpoints.entry(id).or_insert_with(|| (Arc::from(host), port));
        }
        Self(endpoints)
    }

    /// Where this leader listens, if the answer says so.
    pub(crate) fn at(&self, leader: BrokerId) -> Option<(Arc<str>, i32)> {
        self.0.get(&leader.0).cloned()
    }
}

/// Brokers before 2.4, which do not have this version of Metadata, may tell leader epochs that are not those of their
/// partitions (KAFKA-9840).
const EPOCHS_RELIABLE_FROM: i16 = 9;

/// Takes the leader epochs out of a response of `version` if they cannot be relied on. Positions are not validated by
/// such epochs, and requests do not name them.
pub fn drop_unreliable_epochs(response: &mut MetadataResponse, version: i16) {
    if version >= EPOCHS_RELIABLE_FROM {
        return;
    }
    for partition in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.leader_epoch = -1;
    }
}

/// A leader epoch that is lower than before is believed when this many answers in a row say it. As a rule the broker
/// that was asked has not heard of a change yet. After an unclean change of controller the lower epoch may be the truth
/// (franz-go 12eaa1e, librdkafka #4680).
const STALE_REPORTS_MAX: u8 = 5;

impl Snapshot {
    /// The snapshot after `response`. Topics that it says nothing of stay as they were.
    ///
    /// With `all_topics` the response describes the whole cluster, so other topics are gone.
    #[must_use]
    pub fn merge(&self, response: &MetadataResponse, all_topics: bool) -> Self {
        let mut topics = if all_topics { BTreeMap::new() } else { self.topics.clone() };
        for topic in &response.topics {
            let Some(name) = topic.name.as_deref() else { continue };
            let known = self.topics.get(name).and_then(|known| known.as_ref().ok());
            topics.insert(Arc::from(name), merge_topic(name, topic, known));
        }
        let brokers: BTreeMap<_, _> = response.brokers.iter().filter_map(broker).collect();
        // A broker that is starting knows no other yet. The brokers that we knew are a better guess.
        let brokers = if brokers.is_empty() { self.brokers.clone() } else { brokers };
        Self {
            cluster_id: response.cluster_id.as_deref().map(Arc::from).or_else(|| self.cluster_id.clone()),
            controller: BrokerId::known(response.controller_id),
            brokers,
            topics,
            missing_since: self.missing_since.clone(),
            asked_at: self.asked_at,
            trouble: None,
            malformed: 0,
            generation: self.generation + 1,
        }
    }

    /// The snapshot without `topics`, which nothing holds an interest in any more.
    #[must_use]
    pub fn without(&self, topics: &[Arc<str>]) -> Self {
        let mut next = Self { generation: self.generation + 1, ..self.clone() };
        for topic in topics {
            next.topics.remove(topic);
            next.missing_since.remove(topic);
        }
        next
    }

    /// The snapshot after a request for metadata failed.
    #[must_use]
    pub fn with_trouble(&self, failure: Failure) -> Self {
        let malformed = if failure.is_unusable() { self.malformed.saturating_add(1) } else { 0 };
        Self { trouble: Some(failure), malformed, generation: self.generation + 1, ..self.clone() }
    }

    /// The snapshot after hints. None if they say nothing new.
    #[must_use]
    pub fn with_hints(&self, hints: &[LeaderHint]) -> Option<Self> {
        let mut next = None;
        for hint in hints {
            let snapshot = next.as_ref().unwrap_or(self);
            let Some(Ok(topic)) = snapshot.topics.get(&hint.topic) else { continue };
            let Some(index) = topic.position(hint.partition) else { continue };
            // A hint may be older than the metadata, as answers of several brokers come in any order.
            if topic.partitions[index].leader_epoch >= Some(hint.epoch) {
                continue;
            }
            let reachable = snapshot.brokers.contains_key(&hint.leader) || hint.endpoint.is_some();
            // Requests cannot be sent to a leader whose address is not known. The next metadata has it.
            if !reachable {
                continue;
            }
            let snapshot =
                next.get_or_insert_with(|| Self { generation: self.generation + 1, ..self.clone() });
            if let Some(Ok(topic)) = snapshot.topics.get_mut(&hint.topic) {
                // Copied with its first hint only. A broker that goes down makes for a hint for each of its partitions,
                // and a topic may have thousands of them.
                let partition = &mut Arc::make_mut(topic).partitions[index];
                partition.leader = Some(hint.leader);
                partition.leader_epoch = Some(hint.epoch);
            }
            if let Some((host, port)) = &hint.endpoint
                && let Ok(port) = u16::try_from(*port)
            {
                let rack = snapshot.brokers.get(&hint.leader).and_then(|broker| broker.rack.clone());
                let broker = Broker { id: hint.leader, host: Arc::clone(host), port, rack };
                snapshot.brokers.insert(hint.leader, broker);
            }
        }
        next
    }

    /// A topic.
    ///
    /// # Errors
    /// When it is not known, or the broker could not describe it.
    pub fn topic(&self, name: &str) -> Result<&Arc<Topic>, Failure> {
        match self.topics.get(name) {
            Some(Ok(topic)) => Ok(topic),
            Some(Err(code)) => Err(refused(*code, name)),
            None => Err(self.undescribed(name).failure),
        }
    }

    /// A topic that has partitions, or what stands in the way.
    ///
    /// # Errors
    /// When it is not known, could not be described, or is about to be created.
    pub fn topic_state(&self, name: &str) -> Result<Arc<Topic>, Unavailable> {
        match self.topics.get(name) {
            Some(Ok(topic)) if !topic.partitions.is_empty() => Ok(Arc::clone(topic)),
            Some(Err(code)) => Err(Unavailable {
                failure: refused(*code, name),
                is_final: !code.is_retriable(),
                is_unknown: matches!(
                    *code,
                    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID
                ),
            }),
            Some(Ok(_)) | None => Err(self.undescribed(name)),
        }
    }

    fn undescribed(&self, name: &str) -> Unavailable {
        let unasked = || Failure::NoRoute(format!("no broker has described topic {name:?} yet").into());
        let failure = self.trouble.clone().unwrap_or_else(unasked);
        // Metadata is asked for again soon. A peer may break the protocol by accident once, as in `Retry::may_pass`.
        let is_final = failure.is_final() || self.malformed >= 2;
        Unavailable { is_final, is_unknown: false, failure }
    }

    /// A partition and its topic.
    ///
    /// # Errors
    /// When either is not known.
    pub fn partition(&self, topic: &str, index: i32) -> Result<(&Arc<Topic>, &Partition), Failure> {
        let topic = self.topic(topic)?;
        Ok((topic, topic.find(index)?))
    }

    /// Whether `name` is described and all its partitions have a leader that is up.
    ///
    /// # Errors
    /// Why it cannot be used: it is not described, or a partition has no leader that is up.
    pub fn routable(&self, name: &str) -> Result<(), Failure> {
        let topic = self.topic_state(name).map_err(|state| state.failure)?;
        for partition in &topic.partitions {
            match partition.leader {
                None => return Err(partition.leaderless(name)),
                Some(leader) if !self.brokers.contains_key(&leader) => return Err(not_up(leader)),
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// The brokers' answer about a topic that they do not describe.
fn refused(code: ErrorCode, topic: &str) -> Failure {
    Failure::answer(code, None).of(ApiKey::Metadata).on(Resource::Topic, topic)
}

impl Partition {
    pub(crate) fn leaderless(&self, topic: &str) -> Failure {
        let code = self.error.map_or_else(String::new, |code| format!(" ({})", code.name()));
        let why = format!("partition {} of topic {topic:?} has no leader at present{code}", self.index);
        Failure::NoRoute(why.into())
    }
}

fn not_up(broker: BrokerId) -> Failure {
    Failure::NoRoute(format!("broker {broker} is not up").into())
}

impl Topic {
    /// The partition, if there is one of this index.
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        Some(&self.partitions[self.position(index)?])
    }

    /// The partition of this index.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, index: i32) -> Result<&Partition, Failure> {
        self.partition(index).ok_or_else(|| {
            let count = self.partitions.len();
            let why = format!("topic {:?} has {count} partitions and no partition {index}", self.name);
            Failure::NoRoute(why.into())
        })
    }

    /// The place of a partition in `partitions`. As a rule that is its index, which is tried first. A broker that
    /// leaves a partition out is no reason to panic.
    fn position(&self, index: i32) -> Option<usize> {
        let guess = usize::try_from(index).ok()?;
        if self.partitions.get(guess).is_some_and(|partition| partition.index == index) {
            return Some(guess);
        }
        self.partitions.binary_search_by_key(&index, |partition| partition.index).ok()
    }
}

fn broker(broker: &milena_messages::metadata::MetadataResponseBroker) -> Option<(BrokerId, Broker)> {
    let id = BrokerId::known(broker.node_id)?;
    let port = u16::try_from(broker.port).ok()?;
    let rack = broker.rack.as_deref().map(Arc::from);
    Some((id, Broker { id, host: Arc::from(&*broker.host), port, rack }))
}

fn merge_topic(
    name: &str,
    topic: &MetadataResponseTopic,
    known: Option<&Arc<Topic>>,
) -> Result<Arc<Topic>, ErrorCode> {
    if topic.error_code != ErrorCode::NONE && topic.partitions.is_empty() {
        return Err(topic.error_code);
    }
    let id = (topic.topic_id != Uuid::default()).then_some(topic.topic_id);
    // KIP-516: a topic that was deleted and made again begins with epoch 0, and the epochs of the old one mean nothing.
    let known = known.filter(|known| known.id == id || known.id.is_none() || id.is_none());
    let mut partitions: Vec<_> = topic
        .partitions
        .iter()
        .filter(|partition| partition.partition_index >= 0)
        .map(|partition| {
            merge_partition(
                partition,
                known.and_then(|known| {
                    known.position(partition.partition_index).map(|at| &known.partitions[at])
                }),
            )
        })
        .collect();
    partitions.sort_by_key(|partition| partition.index);
    partitions.dedup_by_key(|partition| partition.index);
    let name = known.map_or_else(|| Arc::from(name), |known| Arc::clone(&known.name));
    Ok(Arc::new(Topic { name, id, is_internal: topic.is_internal, partitions }))
}

fn merge_partition(partition: &MetadataResponsePartition, known: Option<&Partition>) -> Partition {
    let ids = |ids: &[i32]| ids.iter().copied().filter_map(BrokerId::known).collect::<Vec<_>>();
    let mut merged = Partition {
        index: partition.partition_index,
        leader: BrokerId::known(partition.leader_id),
        leader_epoch: LeaderEpoch::known(partition.leader_epoch),
        replicas: ids(&partition.replica_nodes),
        isr: ids(&partition.isr_nodes),
        offline: ids(&partition.offline_replicas),
        error: (partition.error_code != ErrorCode::NONE).then_some(partition.error_code),
        stale_reports: 0,
    };
    if let Some(known) = known
        && merged.leader_epoch.is_some()
        && merged.leader_epoch < known.leader_epoch
        && known.stale_reports + 1 < STALE_REPORTS_MAX
    {
        // The broker that was asked has probably not heard of the change yet.
        merged.leader = known.leader;
        merged.leader_epoch = known.leader_epoch;
        merged.stale_reports = known.stale_reports + 1;
    }
    merged
}

#[cfg(test)]
pub(crate) mod tests;
