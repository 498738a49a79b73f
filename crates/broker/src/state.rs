//! The state of the cluster: its nodes, its topics, the leaders of their partitions, the ids that were given out.
//!
//! ```text
//!  State ─▶ nodes, topics by name and id ─▶ Arc<Topic> ─▶ Arc<Partition> (locked one by one)
//!    └─ storage saves every change before it is answered
//! ```
//!
//! One read-write lock protects it: most requests read, commands write. It must not know requests.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use milena_messages::ApiKey;
use milena_wire::{Str, Uuid};

use crate::configs::{BrokerConfigs, Overrides, TopicRules};
use crate::error::Error;
use crate::groups::Topics;
use crate::offer::Offer;
use crate::partition::{Partition, Placement};
use crate::parts::MachineSettings;
use crate::random::Random;
use crate::storage::Storage;
use crate::topic::Topic;

/// The cluster, as all its nodes see it at once.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) cluster_id: Str,
    pub(crate) nodes: BTreeMap<i32, Node>,
    topics: BTreeMap<Str, Arc<Topic>>,
    by_id: BTreeMap<Uuid, Arc<Topic>>,
    /// Topic names by their metric name, which two topics must not share.
    by_metric: BTreeMap<String, Str>,
    /// The coordinators of groups that were moved by command, and those of transactional ids.
    coordinators: BTreeMap<Str, i32>,
    transaction_coordinators: BTreeMap<Str, i32>,
    partitions: usize,
    /// The next producer id to give out, and the first one that is not reserved on disk yet.
    next_producer_id: i64,
    reserved_producer_id: i64,
    random: Random,
    next_assignment: usize,
    configs: BrokerConfigs,
    /// What [`configs`](Self::configs) come to.
    settings: Arc<MachineSettings>,
    storage: Option<Storage>,
    /// The number of changes of topics since the start, and how many of them came before the last creation.
    topics_version: u64,
    topics_created: u64,
}

/// A node of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) id: i32,
    /// The addresses that clients are told, one for each listener.
    pub(crate) endpoints: Vec<Endpoint>,
    /// `broker.rack`.
    pub(crate) rack: Option<Str>,
    pub(crate) is_up: bool,
    /// What connections made from now on are offered.
    pub(crate) offer: Arc<Offer>,
}

/// An address of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: Str,
    pub(crate) port: u16,
}

impl Node {
    /// The address for clients that came by a listener: they reach the other nodes by the same one, as in Kafka.
    pub(crate) fn endpoint(&self, listener: usize) -> &Endpoint {
        &self.endpoints[listener]
    }
}

/// The most partitions that all topics may have together. Each costs memory, and on disk a file handle, and a request
/// of fifty bytes can ask for any number of them.
pub(crate) const PARTITIONS_MAX: usize = 100_000;

/// Producer ids are reserved on disk in blocks of this many. After a crash the rest of the block is skipped, so that no
/// id is given out twice.
const PRODUCER_ID_BLOCK: i64 = 1000;

impl State {
    /// The state that was saved in `storage`, or a new one.
    pub(crate) fn open(
        nodes: Vec<Node>,
        settings: MachineSettings,
        storage: Option<Storage>,
    ) -> Result<Self, Error> {
        let mut random = Random::new(settings.seed);
        let cluster_id = Str::from(random.uuid().to_string());
        let mut state = Self {
            cluster_id,
            nodes: nodes.into_iter().map(|node| (node.id, node)).collect(),
            topics: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_metric: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            transaction_coordinators: BTreeMap::new(),
            partitions: 0,
            next_producer_id: 0,
            reserved_producer_id: 0,
            random,
            next_assignment: 0,
            settings: Arc::new(settings.clone()),
            configs: BrokerConfigs::new(settings),
            storage,
            topics_version: 0,
            topics_created: 0,
        };
        state.load()?;
        state.settle_leaders();
        state.save()?;
        Ok(state)
    }

    fn load(&mut self) -> Result<(), Error> {
        // Loading changes the state while it reads the storage, so the storage is taken out meanwhile.
        let Some(storage) = self.storage.take() else { return Ok(()) };
        let loaded = self.load_from(&storage);
        self.storage = Some(storage);
        loaded
    }

    fn load_from(&mut self, storage: &Storage) -> Result<(), Error> {
        let Some(catalog) = storage.load()? else { return Ok(()) };
        self.cluster_id = catalog.cluster_id;
        self.next_producer_id = catalog.next_producer_id;
        self.reserved_producer_id = catalog.next_producer_id;
        (self.configs.all, self.configs.one) = (catalog.all_brokers, catalog.one_broker);
        self.settings = Arc::new(self.configs.settings());
        let recovery = storage.recovery_points();
        for stored in catalog.topics {
            for (name, value) in crate::configs::without_effect(&stored.overrides) {
                tracing::warn!(topic = %stored.name, "{name}={value} has no effect, though it was accepted once");
            }
            let rules = self.rules(&stored.overrides);
            let mut partitions = Vec::with_capacity(stored.placements.len());
            for (index, placement) in stored.placements.into_iter().enumerate() {
                let index = index as i32;
                let dir = storage.partition_dir(&stored.name, index);
                let point = recovery.get(&(stored.name.to_string(), index)).copied().unwrap_or(0);
                let partition = Partition::open(index, placement, &dir, point);
                partitions.push(Arc::new(partition.map_err(|error| Error::open(&dir, error))?));
            }
            let overrides = stored.overrides;
            self.insert(Arc::new(Topic { name: stored.name, id: stored.id, overrides, rules, partitions }));
        }
        storage.clear_recovery_points()?;
        storage.remove_strays(|name, id| self.topics.get(name).is_some_and(|topic| topic.id == id))
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// The name of the topic that has the same metric name in Kafka as `name` would have. It may be `name` itself.
    pub(crate) fn collision(&self, name: &str) -> Option<&Str> {
        self.by_metric.get(&crate::topic::metric_name(name))
    }

    /// All topics, in the order of their names.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The topics from `name` on, in the order of their names.
    pub(crate) fn topics_from(&self, name: &str) -> impl Iterator<Item = &Arc<Topic>> {
        let range = (std::ops::Bound::Included(name), std::ops::Bound::Unbounded);
        self.topics.range::<str, _>(range).map(|(_, topic)| topic)
    }

    /// A number that grows with every change of a topic or its partitions.
    pub(crate) fn topics_version(&self) -> u64 {
        self.topics_version
    }

    /// The topics as the groups know them.
    pub(crate) fn group_topics(&self) -> Topics {
        let topic = |topic: &Arc<Topic>| (topic.name.clone(), topic.id, topic.partitions.len() as i32);
        Topics::new(self.topics_version, self.topics_created, self.topics.values().map(topic))
    }

    pub(crate) fn live_nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| node.is_up)
    }

    /// The node that coordinates a group. `None` when all nodes are down.
    pub(crate) fn coordinator(&self, group: &str) -> Option<&Node> {
        self.coordinator_of(group, &self.coordinators)
    }

    /// The node that coordinates a transactional id. `None` when all nodes are down.
    pub(crate) fn transaction_coordinator(&self, id: &str) -> Option<&Node> {
        self.coordinator_of(id, &self.transaction_coordinators)
    }

    fn coordinator_of(&self, key: &str, moved: &BTreeMap<Str, i32>) -> Option<&Node> {
        let at = match moved.get(key) {
            Some(node) => self.nodes.keys().position(|id| id == node)?,
            None => spread(key) % self.nodes.len().max(1),
        };
        // When a node goes down only its own groups move: to the next node that is up.
        self.nodes.values().cycle().skip(at).take(self.nodes.len()).find(|node| node.is_up)
    }

    /// Makes `node` the coordinator of a group, until the broker is started again.
    pub(crate) fn move_coordinator(&mut self, group: &str, node: i32) -> Result<(), Error> {
        self.check_up(node)?;
        self.coordinators.insert(Str::from(group), node);
        Ok(())
    }

    /// Makes `node` the coordinator of a transactional id, until the broker is started again.
    pub(crate) fn move_transaction_coordinator(&mut self, id: &str, node: i32) -> Result<(), Error> {
        self.check_up(node)?;
        self.transaction_coordinators.insert(Str::from(id), node);
        Ok(())
    }

    fn check_up(&self, node: i32) -> Result<(), Error> {
        match self.nodes.get(&node).is_some_and(|node| node.is_up) {
            true => Ok(()),
            false => Err(Error::refused(format!("node {node} is not up"))),
        }
    }

    /// Changes what a node offers to connections made from now on.
    pub(crate) fn set_api_versions(
        &mut self,
        node: i32,
        key: i16,
        versions: Option<RangeInclusive<i16>>,
    ) -> Result<(), Error> {
        let served = ApiKey::from_i16(key).filter(|key| crate::api::find(*key).is_some());
        let key = served.ok_or_else(|| Error::refused(format!("this broker does not serve an API {key}")))?;
        if key == ApiKey::ApiVersions && versions.as_ref().is_none_or(RangeInclusive::is_empty) {
            return Err(Error::refused("a broker without ApiVersions cannot be asked anything"));
        }
        let node = self.nodes.get_mut(&node);
        let node = node.ok_or_else(|| Error::refused("there is no such node"))?;
        Arc::make_mut(&mut node.offer).limit(key, versions);
        Ok(())
    }

    /// The name of this rack, if a node is in it. It is the node's own, not a part of the caller's frame.
    pub(crate) fn known_rack(&self, rack: &str) -> Option<Str> {
        self.nodes
            .values()
            .filter_map(|node| node.rack.as_ref())
            .find(|known| known.as_str() == rack)
            .cloned()
    }

    /// The nodes in this rack that are up.
    pub(crate) fn nodes_in(&self, rack: &str) -> Vec<i32> {
        let is_there = |node: &&Node| node.rack.as_deref() == Some(rack);
        self.live_nodes().filter(is_there).map(|node| node.id).collect()
    }

    /// Those of `nodes` that are down.
    pub(crate) fn offline(&self, nodes: &[i32]) -> Vec<i32> {
        let is_up = |node: &i32| self.nodes.get(node).is_some_and(|node| node.is_up);
        nodes.iter().copied().filter(|node| !is_up(node)).collect()
    }

    /// The node that answers name as the controller. In fact every node obeys commands.
    pub(crate) fn controller(&self) -> Option<i32> {
        self.live_nodes().next().map(|node| node.id)
    }

    /// The rules that batches for a topic with these configs must keep.
    pub(crate) fn rules(&self, overrides: &Overrides) -> TopicRules {
        TopicRules::new(overrides, &self.settings.topic_defaults)
    }

    /// The configs of the brokers.
    pub(crate) fn configs(&self) -> &BrokerConfigs {
        &self.configs
    }

    /// The settings that hold now.
    pub(crate) fn settings(&self) -> &Arc<MachineSettings> {
        &self.settings
    }

    /// The number of partitions of all topics.
    pub(crate) fn partition_count(&self) -> usize {
        self.partitions
    }

    /// Whether `count` more partitions may be created.
    pub(crate) fn has_room(&self, count: usize) -> bool {
        self.partitions + count <= PARTITIONS_MAX
    }

    /// An assignment for a new topic: the nodes that are up take turns as leaders.
    pub(crate) fn assignment(&mut self, count: i32, replication: usize) -> Vec<Vec<i32>> {
        let nodes: Vec<i32> = self.live_nodes().map(|node| node.id).collect();
        let assignment = crate::topic::assign(&nodes, count, replication, self.next_assignment);
        self.next_assignment = (self.next_assignment + count as usize) % nodes.len().max(1);
        assignment
    }

    /// Creates a topic that was found valid. `assignment` has the replicas of each partition, the preferred leader
    /// first.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        overrides: Overrides,
        assignment: Vec<Vec<i32>>,
    ) -> Result<Arc<Topic>, Error> {
        let topic = self.prepare_topic(name, overrides, assignment)?;
        self.save_prepared(&[Arc::clone(&topic)])?;
        Ok(topic)
    }

    /// Saves topics that were prepared, or removes them all again.
    pub(crate) fn save_prepared(&mut self, topics: &[Arc<Topic>]) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        self.save().inspect_err(|_| topics.iter().for_each(|topic| self.remove(topic)))
    }

    /// Does all of [`create_topic`](Self::create_topic) but saving, so that one write saves many topics.
    pub(crate) fn prepare_topic(
        &mut self,
        name: &str,
        overrides: Overrides,
        assignment: Vec<Vec<i32>>,
    ) -> Result<Arc<Topic>, Error> {
        let id = self.random.uuid();
        let rules = self.rules(&overrides);
        let partitions = self.make_partitions(name, id, 0, assignment)?;
        Ok(self.insert(Arc::new(Topic { name: Str::from(name), id, overrides, rules, partitions })))
    }

    /// Adds partitions to a topic, one for each element of `assignment`.
    pub(crate) fn add_partitions(&mut self, name: &str, assignment: Vec<Vec<i32>>) -> Result<(), Error> {
        let Some(old) = self.topics.get(name).cloned() else {
            return Err(Error::refused(format!("topic {name} does not exist")));
        };
        let first = old.partitions.len() as i32;
        let mut partitions = old.partitions.clone();
        partitions.extend(self.make_partitions(name, old.id, first, assignment)?);
        let overrides = old.overrides.clone();
        let new = Topic { name: old.name.clone(), id: old.id, overrides, rules: old.rules, partitions };
        self.insert(Arc::new(new));
        self.save().inspect_err(|_| {
            self.insert(old);
        })
    }

    /// Gives topics these configs instead of their own, and brokers these, and saves it.
    pub(crate) fn alter(
        &mut self,
        topics: Vec<(Arc<Topic>, Overrides)>,
        brokers: Option<BrokerConfigs>,
    ) -> Result<(), Error> {
        let before: Vec<Arc<Topic>> = match &brokers {
            // The configs of brokers are in the rules of every topic.
            Some(_) => self.topics.values().cloned().collect(),
            None => topics.iter().map(|(topic, _)| Arc::clone(topic)).collect(),
        };
        let configs_before = self.configs.clone();
        if let Some(brokers) = brokers {
            self.set_configs(brokers);
            before.iter().for_each(|topic| self.set_overrides(topic, topic.overrides.clone()));
        }
        for (topic, overrides) in topics {
            self.set_overrides(&topic, overrides);
        }
        self.save().inspect_err(|_| {
            self.set_configs(configs_before);
            before.into_iter().for_each(|topic| drop(self.insert(topic)));
        })
    }

    fn set_configs(&mut self, configs: BrokerConfigs) {
        self.settings = Arc::new(configs.settings());
        self.configs = configs;
    }

    fn set_overrides(&mut self, topic: &Topic, overrides: Overrides) {
        let rules = self.rules(&overrides);
        let (name, partitions) = (topic.name.clone(), topic.partitions.clone());
        self.insert(Arc::new(Topic { name, id: topic.id, overrides, rules, partitions }));
    }

    /// Deletes a topic. When this returns its directories have other names, and soon after they are gone from the disk.
    pub(crate) fn delete_topic(&mut self, topic: &Arc<Topic>) -> Result<(), Error> {
        self.remove(topic);
        if let Err(error) = self.save() {
            self.insert(Arc::clone(topic));
            return Err(error);
        }
        topic.partitions.iter().for_each(|partition| partition.lock().delete());
        if let Some(storage) = &self.storage {
            storage.discard(topic);
        }
        Ok(())
    }

    /// A producer id that was never given out before.
    pub(crate) fn new_producer_id(&mut self) -> Result<i64, Error> {
        if self.next_producer_id >= self.reserved_producer_id {
            self.reserved_producer_id = self.next_producer_id + PRODUCER_ID_BLOCK;
            self.save().inspect_err(|_| self.reserved_producer_id = self.next_producer_id)?;
        }
        self.next_producer_id += 1;
        Ok(self.next_producer_id - 1)
    }

    /// Moves a partition's leadership to one of its replicas that is up. With `end` that replica has no records from
    /// there on, and they are lost.
    pub(crate) fn move_leader(
        &mut self,
        topic: &str,
        partition: i32,
        node: i32,
        end: Option<i64>,
    ) -> Result<(), Error> {
        let found = self.topics.get(topic).and_then(|topic| topic.partition(partition));
        let Some(found) = found.cloned() else {
            return Err(Error::refused(format!("there is no partition {topic}-{partition}")));
        };
        self.check_up(node)?;
        {
            let mut state = found.lock();
            let placement = state.placement();
            if !placement.replicas.contains(&node) {
                let replicas = &placement.replicas;
                return Err(Error::refused(format!(
                    "node {node} holds no replica of {topic}-{partition}: {replicas:?} do"
                )));
            }
            let isr = placement.isr.clone();
            if let Some(end) = end {
                state.cut_off(end)?;
            }
            state.lead(Some(node), isr);
        }
        self.save()
    }

    /// Brings a node up or takes it down. Partitions whose leader is down get another one, and partitions without a
    /// leader get one if this node can be it.
    pub(crate) fn set_up(&mut self, node: i32, is_up: bool) -> Result<(), Error> {
        match self.nodes.get_mut(&node) {
            Some(node) => node.is_up = is_up,
            None => return Err(Error::refused(format!("there is no node {node}"))),
        }
        self.settle_leaders();
        self.save()
    }

    /// The data directory; none if logs are in memory.
    pub(crate) fn directory(&self) -> Option<String> {
        self.storage.as_ref().map(|storage| storage.dir().display().to_string())
    }

    /// The bytes of all logs.
    pub(crate) fn log_bytes(&self) -> u64 {
        let partitions = self.topics.values().flat_map(|topic| &topic.partitions);
        partitions.map(|partition| partition.lock().log_bytes()).sum()
    }

    /// Makes the log of every partition durable, so that the next start need not check it.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        let Some(storage) = &self.storage else { return Ok(()) };
        let mut points = Vec::new();
        for topic in self.topics.values() {
            for partition in &topic.partitions {
                let flushed = partition.lock().flush();
                let what = || format!("cannot flush {}-{}", topic.name, partition.index);
                let point = flushed.map_err(|error| Error::io(what(), error))?;
                points.extend(point.map(|point| (topic.name.clone(), partition.index, point)));
            }
        }
        storage.save_recovery_points(&points)
    }

    /// Gives every partition a leader that is up, if one of its replicas is up.
    fn settle_leaders(&mut self) {
        let up: Vec<i32> = self.live_nodes().map(|node| node.id).collect();
        for partition in self.topics.values().flat_map(|topic| &topic.partitions) {
            let mut state = partition.lock();
            let placement = state.placement();
            let isr: Vec<i32> =
                placement.replicas.iter().copied().filter(|replica| up.contains(replica)).collect();
            let leader = placement.leader.filter(|leader| isr.contains(leader)).or(isr.first().copied());
            if leader != placement.leader {
                // When the last replica in sync goes down it stays in the list, as in Kafka: it alone may lead later.
                let isr = if isr.is_empty() { placement.isr.clone() } else { isr };
                state.lead(leader, isr);
            } else if isr != placement.isr && !isr.is_empty() {
                state.set_isr(isr);
            }
        }
    }

    fn make_partitions(
        &self,
        name: &str,
        id: Uuid,
        first: i32,
        assignment: Vec<Vec<i32>>,
    ) -> Result<Vec<Arc<Partition>>, Error> {
        let is_up = |node: &i32| self.nodes.get(node).is_some_and(|node| node.is_up);
        let mut partitions = Vec::with_capacity(assignment.len());
        for (index, replicas) in (first..).zip(assignment) {
            let isr: Vec<i32> = replicas.iter().copied().filter(is_up).collect();
            let placement = Placement { leader: isr.first().copied(), leader_epoch: 0, replicas, isr };
            let partition = match &self.storage {
                None => Partition::in_memory(index, placement),
                Some(storage) => storage.create_partition(name, id, index, placement)?,
            };
            partitions.push(Arc::new(partition));
        }
        self.storage.as_ref().map_or(Ok(()), Storage::sync)?;
        Ok(partitions)
    }

    /// Puts a topic in, in place of one that has the same name.
    fn insert(&mut self, topic: Arc<Topic>) -> Arc<Topic> {
        self.partitions += topic.partitions.len();
        self.topics_version += 1;
        if self.topics.get(&topic.name).is_none_or(|old| old.id != topic.id) {
            self.topics_created = self.topics_version;
        }
        if let Some(old) = self.topics.insert(topic.name.clone(), Arc::clone(&topic)) {
            self.partitions -= old.partitions.len();
        }
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_metric.insert(crate::topic::metric_name(&topic.name), topic.name.clone());
        topic
    }

    fn remove(&mut self, topic: &Topic) {
        self.topics_version += 1;
        if let Some(old) = self.topics.remove(topic.name.as_str()) {
            self.partitions -= old.partitions.len();
        }
        self.by_id.remove(&topic.id);
        self.by_metric.remove(&crate::topic::metric_name(&topic.name));
    }

    fn save(&self) -> Result<(), Error> {
        let Some(storage) = &self.storage else { return Ok(()) };
        storage.save(&self.cluster_id, self.reserved_producer_id, &self.configs, self.topics.values())
    }
}

/// Java's `String.hashCode`, by which Kafka spreads groups over the partitions of its offsets topic.
pub(crate) fn spread(key: &str) -> usize {
    let hash =
        key.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX) as usize
}
