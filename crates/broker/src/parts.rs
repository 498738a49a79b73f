//! The parts of the broker that requests work on, each behind its own lock.
//!
//! ```text
//!  Parts ─▶ state          topics, nodes, producer ids: read by most requests, written by commands
//!        ├▶ sessions       fetch sessions, one lock for each node
//!        ├▶ decompressors  to look into batches with
//!        ├▶ timers         work that is due later
//!        └▶ unserved       what the log was told
//! ```
//!
//! A coordinator is one more part. A part must not know requests, and none takes another one's lock under its own, but
//! for the state, under which partitions are locked one by one.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::check::Decompressors;
use crate::error::Error;
use crate::random::Random;
use crate::sessions::Sessions;
use crate::state::{Defaults, Node, State};
use crate::storage::Storage;
use crate::timers::Timers;
use crate::unserved::Unserved;

/// Everything that outlives a request.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) settings: MachineSettings,
    state: RwLock<State>,
    sessions: BTreeMap<i32, Mutex<Sessions>>,
    pub(crate) decompressors: Decompressors,
    pub(crate) timers: Timers,
    pub(crate) unserved: Unserved,
}

/// The settings that requests are handled by.
#[derive(Debug, Clone)]
pub(crate) struct MachineSettings {
    pub(crate) partitions_default: i32,
    pub(crate) replication_default: i16,
    pub(crate) auto_create_topics: bool,
    pub(crate) batch_bytes_max: usize,
    pub(crate) segment_bytes: u64,
    pub(crate) fetch_bytes_max: usize,
    pub(crate) fetch_sessions_max: usize,
    pub(crate) seed: u64,
}

impl Parts {
    /// The parts of a cluster, with the state that is in `storage` if there is one.
    pub(crate) fn open(
        settings: MachineSettings,
        nodes: Vec<Node>,
        storage: Option<Storage>,
    ) -> Result<Self, Error> {
        let defaults =
            Defaults { batch_bytes_max: settings.batch_bytes_max, segment_bytes: settings.segment_bytes };
        let new_sessions = |node: &Node| {
            let seed = settings.seed ^ (node.id as u64).rotate_left(32);
            (node.id, Mutex::new(Sessions::new(settings.fetch_sessions_max, seed)))
        };
        let sessions = nodes.iter().map(new_sessions).collect();
        let state = State::open(nodes, defaults, Random::new(settings.seed), storage)?;
        Ok(Self {
            settings,
            state: RwLock::new(state),
            sessions,
            decompressors: Decompressors::default(),
            timers: Timers::default(),
            unserved: Unserved::default(),
        })
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fetch sessions of a node that exists: a [`Peer`](crate::Peer) has no other.
    pub(crate) fn sessions(&self, node: i32) -> MutexGuard<'_, Sessions> {
        crate::lock(&self.sessions[&node])
    }
}
