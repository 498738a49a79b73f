//! `DescribeLogDirs`: the directories of all brokers, and the sizes of the replicas in them (KIP-113, KIP-827).

use std::sync::Arc;

use milena_core::calls::{DESCRIBE_LOG_DIRS, Row};
use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure};
use milena_messages::describe_log_dirs::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
};

use super::Admin;
use crate::Error;
use crate::calls::{Answers, ApiCall};

/// The directories of a cluster's brokers.
#[derive(Debug, Clone)]
pub struct LogDirListing {
    /// The directories, by broker and in the order in which it names them.
    pub log_dirs: Vec<LogDir>,
    /// The brokers that did not answer, by id.
    pub failed: Vec<(i32, Error)>,
}

/// A directory in which a broker keeps records (`log.dirs`).
#[derive(Debug, Clone)]
pub struct LogDir {
    /// The broker's id.
    pub broker: i32,
    /// Where it is, on the broker's machine.
    pub path: String,
    /// Why the broker cannot use it. None if it can.
    pub error: Option<Error>,
    /// How large the volume is, in bytes. None if the broker does not tell, as before Kafka 3.3.
    pub total_bytes: Option<u64>,
    /// How much of the volume is free for the broker, in bytes. None if the broker does not tell.
    pub usable_bytes: Option<u64>,
    /// Whether new replicas are kept out of it (KIP-1066). False if the broker does not tell.
    pub is_cordoned: bool,
    /// The replicas in it, by topic and partition.
    pub replicas: Vec<ReplicaSize>,
}

/// A replica in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaSize {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The bytes of its segments, without their indexes.
    pub bytes: u64,
    /// How many offsets it is behind the high watermark. Of a replica that is moved here from another directory: behind the one there.
    pub offset_lag: i64,
    /// Whether it is moved here from another directory of the broker, and does not serve yet.
    pub is_future: bool,
}

struct DescribeLogDirs;

impl ApiCall for DescribeLogDirs {
    const ROW: &'static Row = &DESCRIBE_LOG_DIRS;
    type Request = DescribeLogDirsRequest;
    type Item = BrokerId;
    /// An answer is about its broker alone.
    type Key = ();
    type Found = Vec<DescribeLogDirsResult>;

    fn destination(&self, broker: &BrokerId) -> Destination {
        Destination::Broker(*broker)
    }

    fn key(&self, _broker: &BrokerId) {}

    fn request(&self, _brokers: &[&BrokerId]) -> DescribeLogDirsRequest {
        DescribeLogDirsRequest { topics: None, ..Default::default() }
    }

    fn answers(&self, response: DescribeLogDirsResponse) -> Answers<(), Self::Found> {
        vec![((), Failure::check(response.error_code, None).map(|()| response.results))]
    }
}

impl Admin {
    /// Describes the directories of all brokers, with the sizes of the replicas in them. Needs the right `Describe` on the cluster; a
    /// broker before Kafka 3.2 shows nothing to those who have it not.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = client.producer().build().await?;
    /// # producer.send(milena::Record::to("orders").value("created")).await?;
    /// let listing = client.admin().describe_log_dirs().await?;
    /// for log_dir in &listing.log_dirs {
    ///     for replica in &log_dir.replicas {
    ///         println!("{} {}: {} bytes on broker {}", replica.topic, replica.partition, replica.bytes, log_dir.broker);
    ///     }
    /// }
    /// for (broker, error) in &listing.failed {
    ///     eprintln!("the sizes on broker {broker} are missing: {error}");
    /// }
    /// # assert!(listing.log_dirs[0].replicas[0].bytes > 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When no broker describes its directories, for example because this principal may not see them. If one broker does not, it is
    /// in [`LogDirListing::failed`].
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_log_dirs(&self) -> Result<LogDirListing, Error> {
        let (found, failed) = self.call_all_brokers(&DescribeLogDirs, "log directories").await?;
        let log_dirs =
            found.into_iter().flat_map(|(broker, of)| of.into_iter().map(move |of| log_dir(broker, of)));
        Ok(LogDirListing { log_dirs: log_dirs.collect(), failed })
    }
}

fn log_dir(broker: BrokerId, of: DescribeLogDirsResult) -> LogDir {
    let known = |bytes: i64| u64::try_from(bytes).ok();
    let path = of.log_dir.to_string();
    let failure = Failure::check(of.error_code, None).err();
    let doing = || format!("using the directory {path:?} of broker {broker}");
    let error = failure.map(|failure| Error::harmless(doing(), failure));
    let mut replicas = Vec::new();
    for topic in of.topics {
        let name: Arc<str> = Arc::from(&*topic.name);
        replicas.extend(topic.partitions.into_iter().map(|of| ReplicaSize {
            topic: Arc::clone(&name),
            partition: of.partition_index,
            bytes: known(of.partition_size).unwrap_or(0),
            offset_lag: of.offset_lag,
            is_future: of.is_future_key,
        }));
    }
    replicas.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    LogDir {
        broker: broker.0,
        path,
        error,
        total_bytes: known(of.total_bytes),
        usable_bytes: known(of.usable_bytes),
        is_cordoned: of.is_cordoned,
        replicas,
    }
}
