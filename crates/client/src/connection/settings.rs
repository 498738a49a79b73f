//! The settings that the connections of a client have in common.

use std::sync::Arc;
use std::time::Duration;

use milena_core::Backoff;
use milena_wire::Str;
use milena_wire::pool::Pool;

use super::peers::Peers;
use crate::clock::Clock;
use crate::connect::Connector;
use crate::metrics::Counting;
use crate::runtime::Executor;
use crate::sasl::Holder;

/// The settings, clock, transport and memory that all links of a client share.
#[derive(Clone)]
pub(crate) struct LinkSettings {
    /// Where the links' tasks run. Links are shared, so their tasks must not run on the runtime of the caller that needs one
    /// first: it may end before the client's.
    pub(crate) runtime: Executor,
    pub(crate) connector: Connector,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) client_id: Str,
    /// How long connecting and the handshake may take together (KIP-601).
    pub(crate) connect_timeout: Duration,
    /// How long they may take at most after failures.
    pub(crate) connect_timeout_max: Duration,
    pub(crate) backoff: Backoff,
    /// A connection that is idle for longer is closed.
    pub(crate) idle_max: Duration,
    pub(crate) frame_bytes_max: usize,
    pub(crate) peers: Arc<Peers>,
    /// Where connections are counted, if they are.
    pub(crate) metrics: Option<Arc<Counting>>,
    /// What connections authenticate with, if they do.
    pub(crate) sasl: Option<Arc<Holder>>,
}
