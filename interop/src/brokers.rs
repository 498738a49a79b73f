//! Three brokers that are killed and started again: real Kafka, or the embedded broker.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use milena_broker::Broker;
use milena_messages::ErrorCode;
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic};
use milena_messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};
use xtask::kafka::{Cluster, NEWEST};

use crate::embedded::Embedded;
use crate::raw::Raw;

/// The cluster and how it is set up.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Real Kafka, or the embedded broker.
    pub is_kafka: bool,
    /// The finalized feature `transaction.version`, 1 or 2 (KIP-890).
    pub transaction_version: i16,
    /// How long a group waits for a member that does not speak.
    pub session: Duration,
    /// How often members speak; only the brokers of a group of KIP-848 say it.
    pub heartbeat: Duration,
}

impl Default for Setting {
    /// The embedded broker with version 2; members that are killed are missed after 3 s.
    fn default() -> Self {
        let (session, heartbeat) = (Duration::from_secs(3), Duration::from_millis(500));
        Self { is_kafka: false, transaction_version: 2, session, heartbeat }
    }
}

impl Setting {
    /// Whether a target of this name is real Kafka.
    ///
    /// # Errors
    /// There is no such target.
    pub fn is_kafka(target: &str) -> anyhow::Result<bool> {
        match target {
            "kafka" => Ok(true),
            "embedded" => Ok(false),
            other => bail!("there is no target {other:?}: embedded or kafka"),
        }
    }
}

/// A running cluster of three brokers, of which two must have a record before it is acknowledged.
#[derive(Debug)]
pub enum Brokers {
    /// Real Kafka of the newest release.
    Kafka(Box<Cluster>),
    /// The embedded broker.
    Embedded(Embedded),
}

/// How many brokers there are. Their ids begin with 1.
pub const BROKERS: usize = 3;

impl Brokers {
    /// Starts it.
    ///
    /// # Errors
    /// It does not start, or does not take the version of transactions.
    pub fn start(setting: Setting) -> anyhow::Result<Self> {
        let Setting { session, heartbeat, transaction_version, .. } = setting;
        if !setting.is_kafka {
            let builder = Broker::builder().nodes(BROKERS as u16).config("min.insync.replicas", "2");
            let builder = builder.transaction_version(transaction_version).group_session_timeout_min(session);
            let builder = builder.group_consumer_session_timeout(session);
            return Ok(Self::Embedded(Embedded::build(builder.group_consumer_heartbeat_interval(heartbeat))));
        }
        let millis = |name: &str, time: Duration| format!("{name}={}", time.as_millis());
        let settings = [
            "min.insync.replicas=2".to_owned(),
            // A broker that is killed is missed after 3 s, not 9 s, so that more of them are killed in the same time.
            "broker.session.timeout.ms=3000".to_owned(),
            "broker.heartbeat.interval.ms=500".to_owned(),
            // What a killed producer has left open is aborted when its time is over, not up to 10 s later.
            "transaction.abort.timed.out.transaction.cleanup.interval.ms=500".to_owned(),
            millis("group.min.session.timeout.ms", session),
            millis("group.consumer.session.timeout.ms", session),
            millis("group.consumer.min.session.timeout.ms", session),
            millis("group.consumer.heartbeat.interval.ms", heartbeat),
            millis("group.consumer.min.heartbeat.interval.ms", heartbeat),
        ];
        let cluster = Cluster::start_with(BROKERS, NEWEST, &settings)?;
        set_transaction_version(&cluster.bootstrap(), transaction_version)?;
        Ok(Self::Kafka(Box::new(cluster)))
    }

    /// The bootstrap addresses.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Kafka(cluster) => cluster.bootstrap(),
            Self::Embedded(embedded) => embedded.bootstrap().to_owned(),
        }
    }

    /// Kills a broker: `kill -9`, or the end of an embedded one.
    ///
    /// # Errors
    /// It runs no more.
    pub fn kill(&mut self, id: usize) -> anyhow::Result<()> {
        match self {
            Self::Kafka(cluster) => cluster.kill(id),
            Self::Embedded(embedded) => embedded.stop_node(id),
        }
    }

    /// Lets a broker stand still for a time (SIGSTOP): its connections stay, and it answers late. The embedded broker cannot, and
    /// answers false.
    ///
    /// # Errors
    /// It runs no more.
    pub fn stall(&mut self, id: usize, time: Duration) -> anyhow::Result<bool> {
        let Self::Kafka(cluster) = self else { return Ok(false) };
        cluster.pause(id)?;
        thread::sleep(time);
        cluster.resume(id)?;
        Ok(true)
    }

    /// Starts a killed broker again, and waits until it is ready.
    ///
    /// # Errors
    /// It does not start.
    pub fn restart(&mut self, id: usize) -> anyhow::Result<()> {
        match self {
            Self::Kafka(cluster) => cluster.restart(id),
            Self::Embedded(embedded) => embedded.start_node(id),
        }
    }

    /// Waits until all replicas of these topics are in sync.
    ///
    /// # Errors
    /// Not in time.
    pub fn wait_in_sync(&self, topics: &[String]) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            let lagging = match self.lagging(topics) {
                Ok(0) => return Ok(()),
                Ok(count) => format!("{count} partitions"),
                Err(error) => format!("{error:#}"),
            };
            ensure!(started.elapsed() < PATIENCE, "replicas are not in sync after {PATIENCE:?}: {lagging}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// How many partitions lack replicas that are in sync.
    fn lagging(&self, topics: &[String]) -> anyhow::Result<usize> {
        let wanted = topics
            .iter()
            .map(|name| MetadataRequestTopic { name: Some(name.as_str().into()), ..Default::default() });
        let request = MetadataRequest { topics: Some(wanted.collect()), ..Default::default() };
        let metadata = Raw::connect(&self.bootstrap())?.call(&request, 7)?;
        ensure!(
            metadata.topics.iter().all(|topic| topic.error_code == ErrorCode::NONE),
            "a topic is not known"
        );
        let partitions = metadata.topics.iter().flat_map(|topic| &topic.partitions);
        Ok(partitions.filter(|partition| partition.isr_nodes.len() < BROKERS).count())
    }

    /// Which broker is the coordinator of a transactional id; none if it is not known at the moment.
    ///
    /// # Errors
    /// The first broker does not answer.
    pub fn transaction_coordinator(&self, id: &str) -> anyhow::Result<Option<usize>> {
        let request = FindCoordinatorRequest { key: id.into(), key_type: 1, ..Default::default() };
        let answer = Raw::connect(&self.bootstrap())?.call(&request, 3)?;
        Ok(usize::try_from(answer.node_id).ok().filter(|_| answer.error_code == ErrorCode::NONE))
    }
}

/// Sets the finalized feature; a new cluster has version 2.
fn set_transaction_version(bootstrap: &str, version: i16) -> anyhow::Result<()> {
    const SAFE_DOWNGRADE: i8 = 2;
    let upgrade_type = match version {
        1 => SAFE_DOWNGRADE,
        2 => return Ok(()),
        _ => bail!("transactions have versions 1 and 2, not {version}"),
    };
    let update = FeatureUpdateKey {
        feature: "transaction.version".into(),
        max_version_level: version,
        upgrade_type,
        ..Default::default()
    };
    let request = UpdateFeaturesRequest { feature_updates: vec![update], ..Default::default() };
    let answer = Raw::connect(bootstrap)?.call(&request, 1)?;
    let refused = answer.results.iter().map(|result| result.error_code).find(|code| *code != ErrorCode::NONE);
    let error = refused.unwrap_or(answer.error_code);
    ensure!(error == ErrorCode::NONE, "transaction.version {version}: {error} {:?}", answer.error_message);
    Ok(())
}

/// Creates a topic with a replica on each broker.
///
/// # Errors
/// It was not created.
pub fn create_topic(bootstrap: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let mut raw = Raw::connect(bootstrap)?;
    raw.create_replicated(topic, partitions, BROKERS as i16).with_context(|| format!("creating {topic}"))
}

/// A broker that recovers its log on a busy machine takes a minute.
const PATIENCE: Duration = Duration::from_secs(150);
