//! What the groups know of topics: their names, their ids and how many partitions they have.
//!
//! It is a copy of the state's topics at one moment. Kafka's coordinator works on such an image too.

use std::collections::{BTreeMap, BTreeSet};

use milena_wire::{Str, Uuid};

/// The topics of the cluster at one moment.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    /// Grows with every change of a topic.
    version: u64,
    /// The version in which the newest topic was created.
    created: u64,
    by_name: BTreeMap<Str, Fact>,
    by_id: BTreeMap<Uuid, Str>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Fact {
    pub(super) id: Uuid,
    pub(super) partitions: i32,
}

impl Topics {
    /// The topics with their ids and partition counts.
    pub(crate) fn new(version: u64, created: u64, topics: impl Iterator<Item = (Str, Uuid, i32)>) -> Self {
        let mut image = Self { version, created, ..Self::default() };
        for (name, id, partitions) in topics {
            image.by_id.insert(id, name.clone());
            image.by_name.insert(name, Fact { id, partitions });
        }
        image
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn created(&self) -> u64 {
        self.created
    }

    pub(super) fn get(&self, name: &str) -> Option<Fact> {
        self.by_name.get(name).copied()
    }

    /// The ids of those of these topics that exist.
    pub(super) fn ids<'a>(&self, names: impl Iterator<Item = &'a Str>) -> BTreeSet<Uuid> {
        names.filter_map(|name| self.get(name)).map(|fact| fact.id).collect()
    }

    pub(super) fn name(&self, id: Uuid) -> Option<&Str> {
        self.by_id.get(&id)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Str> {
        self.by_name.keys()
    }

    /// How many partitions the topic with this id has; none when it does not exist.
    pub(super) fn partitions(&self, id: Uuid) -> i32 {
        self.name(id).and_then(|name| self.get(name)).map_or(0, |fact| fact.partitions)
    }

    /// A number that is another one when one of these topics is created, deleted or gets partitions. Kafka's differs,
    /// and only the coordinator that wrote it compares it.
    pub(super) fn hash<'a>(&self, names: impl Iterator<Item = &'a Str>) -> i64 {
        // FNV-1a, but for no topics it is 0, as for a new group.
        let mut hash = 0_u64;
        let mut add = |bytes: &[u8]| {
            for &byte in bytes {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
            }
        };
        for name in names {
            if let Some(fact) = self.get(name) {
                // No name begins with a zero, which would leave a hash of 0 unchanged.
                add(name.as_bytes());
                add(fact.id.as_bytes());
                add(&fact.partitions.to_be_bytes());
            }
        }
        hash as i64
    }
}
