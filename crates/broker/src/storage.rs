//! The data directory: the cluster's catalogue, a directory for each partition, and a lock.
//!
//! ```text
//!  data/  milena.catalog                        cluster id, producer ids, topics, placements; replaced whole
//!         milena.groups                         groups and their offsets: see journal.rs
//!         milena.transactions                   transactional ids: see journal.rs
//!         milena.acls                          access control lists: see kept.rs
//!         milena.users                         SCRAM users that clients have made: see kept.rs
//!         milena.quotas                        quotas of clients: see kept.rs
//!         milena.client-metrics                which metrics clients are asked for: see kept.rs
//!         milena.tokens                        delegation tokens without their secrets: see kept.rs
//!         recovery-point-offset-checkpoint      offsets that are durable; only between a clean stop and the next start
//!         .lock                                 locked while a broker runs
//!         orders-0/                             see log/mod.rs
//! ```
//!
//! Kafka's tools can read the partitions. Kafka's broker must not be started on this directory, nor this broker on a
//! directory of Kafka's.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use milena_wire::{Str, Uuid};

use crate::catalog::{self, Catalog};
use crate::configs::BrokerConfigs;
use crate::error::Error;
use crate::groups;
use crate::journal::Journal;
use crate::log::file;
use crate::partition::{Partition, Placement};
use crate::topic::Topic;
use crate::transactions;

const CATALOG: &str = "milena.catalog";
const GROUPS: &str = "milena.groups";
const TRANSACTIONS: &str = "milena.transactions";
const ACLS: &str = "milena.acls";
const USERS: &str = "milena.users";
const QUOTAS: &str = "milena.quotas";
const CLIENT_METRICS: &str = "milena.client-metrics";
const TOKENS: &str = "milena.tokens";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const PARTITION_METADATA: &str = "partition.metadata";
/// How often to try to lock the directory. When another thread of this process starts a program, the new process holds
/// our locks too until it runs that program. So a directory that was just given up may be locked a little longer, on a
/// busy machine; a broker that runs keeps its lock for good.
const LOCK_ATTEMPTS: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const DISCARDED: &str = "-delete";

/// A data directory. No other broker can use it as long as this exists.
#[derive(Debug)]
pub(crate) struct Storage {
    dir: PathBuf,
    _lock: File,
}

impl Storage {
    /// Locks `dir`, after creating it if need be.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let failed = |error| Error::io(format!("cannot use the data directory {}", dir.display()), error);
        fs::create_dir_all(dir).map_err(failed)?;
        if dir.join("meta.properties").exists() {
            return Err(Error::refused(format!(
                "{} belongs to Apache Kafka; this broker needs a directory of its own",
                dir.display()
            )));
        }
        let lock = File::create(dir.join(".lock")).map_err(failed)?;
        for _ in 0..LOCK_ATTEMPTS {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { dir: dir.to_owned(), _lock: lock }),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Err(Error::refused(format!("another broker uses the data directory {}", dir.display())))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Opens the journal of groups.
    pub(crate) fn open_groups(&self) -> Result<Journal<groups::Record>, Error> {
        Journal::open(&self.dir.join(GROUPS))
    }

    /// Opens the journal of transactional ids.
    pub(crate) fn open_transactions(&self) -> Result<Journal<transactions::Record>, Error> {
        Journal::open(&self.dir.join(TRANSACTIONS))
    }

    /// The file of the users that clients have made.
    pub(crate) fn users(&self) -> PathBuf {
        self.dir.join(USERS)
    }

    /// The file of the quotas.
    pub(crate) fn quotas(&self) -> PathBuf {
        self.dir.join(QUOTAS)
    }

    /// The file of the subscriptions to metrics of clients.
    pub(crate) fn client_metrics(&self) -> PathBuf {
        self.dir.join(CLIENT_METRICS)
    }

    /// The file of the delegation tokens.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.dir.join(TOKENS)
    }

    /// The file of the access control lists.
    pub(crate) fn acls(&self) -> PathBuf {
        self.dir.join(ACLS)
    }

    /// The directory of a partition.
    pub(crate) fn partition_dir(&self, topic: &str, index: i32) -> PathBuf {
        self.dir.join(format!("{topic}-{index}"))
    }

    /// The catalogue that was saved last; `None` in a new directory.
    pub(crate) fn load(&self) -> Result<Option<Catalog>, Error> {
        let path = self.dir.join(CATALOG);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(format!("cannot read {}", path.display()), error)),
        };
        catalog::parse(&text).map(Some).map_err(|reason| Error::damaged(&path, reason))
    }

    /// Saves the catalogue. When this has returned, a crash does not undo it.
    pub(crate) fn save<'a>(
        &self,
        cluster_id: &Str,
        next_producer_id: i64,
        configs: &BrokerConfigs,
        topics: impl Iterator<Item = &'a Arc<Topic>>,
    ) -> Result<(), Error> {
        let text = catalog::write(cluster_id, next_producer_id, configs, topics);
        self.replace(CATALOG, &text)
    }

    /// Creates a partition and its directory. If a crash left a directory of an earlier attempt, that is removed first.
    pub(crate) fn create_partition(
        &self,
        topic: &str,
        id: Uuid,
        index: i32,
        placement: Placement,
    ) -> Result<Partition, Error> {
        let dir = self.partition_dir(topic, index);
        let create = || {
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            let partition = Partition::create(index, placement, &dir)?;
            fs::write(dir.join(PARTITION_METADATA), format!("version: 0\ntopic_id: {id}"))?;
            Ok(partition)
        };
        create().map_err(|error| Error::io(format!("cannot create {}", dir.display()), error))
    }

    /// Makes the names of new directories durable. The catalogue may name their partitions only after that.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let failed = |error| Error::io(format!("cannot sync {}", self.dir.display()), error);
        file::sync_dir(&self.dir).map_err(failed)
    }

    /// Removes the directories of a deleted topic. Those that cannot be removed now are removed at the next start.
    pub(crate) fn discard(&self, topic: &Topic) {
        for partition in &topic.partitions {
            let dir = self.partition_dir(&topic.name, partition.index);
            let aside = dir.with_added_extension(format!("{}{DISCARDED}", topic.id));
            if let Err(error) = fs::rename(&dir, &aside).and_then(|()| fs::remove_dir_all(&aside)) {
                tracing::warn!(dir = %dir.display(), %error, "cannot remove a deleted partition's files yet");
            }
        }
    }

    /// Removes the directories of partitions that belong to no topic. A crash leaves them when it comes between a
    /// change of the directories and the save of the catalogue.
    pub(crate) fn remove_strays(&self, is_known: impl Fn(&str, Uuid) -> bool) -> Result<(), Error> {
        let failed = |error| Error::io(format!("cannot tidy {}", self.dir.display()), error);
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(id) = partition_owner(&path) else { continue };
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let topic = name.rsplit_once('-').map_or(name, |(topic, _)| topic);
            if name.ends_with(DISCARDED) || !is_known(topic, id) {
                tracing::warn!(dir = %path.display(), "removed a partition that belongs to no topic");
                fs::remove_dir_all(&path).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// For each partition, the offset below which its log is known to be durable.
    pub(crate) fn recovery_points(&self) -> BTreeMap<(String, i32), i64> {
        let text = fs::read_to_string(self.dir.join(RECOVERY_POINTS)).unwrap_or_default();
        let entry = |line: &str| {
            let mut words = line.split(' ');
            let topic = words.next()?.to_owned();
            Some(((topic, words.next()?.parse().ok()?), words.next()?.parse().ok()?))
        };
        text.lines().skip(2).map_while(entry).collect()
    }

    /// Removes the recovery points. They hold no longer once logs grow and topics are created again under old names.
    pub(crate) fn clear_recovery_points(&self) -> Result<(), Error> {
        let path = self.dir.join(RECOVERY_POINTS);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("cannot remove {}", path.display()), error))
            }
            _ => self.sync(),
        }
    }

    /// Saves the recovery points.
    pub(crate) fn save_recovery_points(&self, points: &[(Str, i32, i64)]) -> Result<(), Error> {
        let mut text = format!("0\n{}\n", points.len());
        for (topic, index, offset) in points {
            let _ = writeln!(text, "{topic} {index} {offset}");
        }
        self.replace(RECOVERY_POINTS, &text)
    }

    fn replace(&self, name: &str, text: &str) -> Result<(), Error> {
        let path = self.dir.join(name);
        file::replace(&path, text.as_bytes())
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
    }
}

/// The topic id in the directory of a partition; `None` when the path is not such a directory.
fn partition_owner(path: &Path) -> Option<Uuid> {
    let text = fs::read_to_string(path.join(PARTITION_METADATA)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("topic_id: "))?.parse().ok()
}
