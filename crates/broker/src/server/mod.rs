//! Sockets around the machine: listeners, connections, and what strangers may cost.
//!
//! ```text
//!  listener ─▶ connection: intake (bytes ─▶ frames) ─▶ machine.handle ─▶ vectored write
//!                   └────────── lease of the node's memory budget ──────────┘
//!  timekeeper ─▶ machine.handle_timeout
//! ```
//!
//! It must not know what a request means; it knows frames, time and memory.

mod budget;
mod connection;
mod hangup;
mod heavy;
mod intake;
mod listener;
mod shared;
mod timekeeper;

use std::time::Duration;

pub(crate) use budget::Budget;
pub(crate) use hangup::Hangups;
pub(crate) use listener::{NodeServer, bind};
pub(crate) use shared::Shared;
pub(crate) use timekeeper::Timekeeper;

/// What peers may cost. Shared by all nodes of a cluster.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// The largest frame (`socket.request.max.bytes`).
    pub(crate) request_bytes_max: usize,
    /// Memory for requests that are arriving and responses that are leaving.
    pub(crate) buffer_bytes_max: usize,
    /// Connections at a time.
    pub(crate) connections_max: usize,
    /// A connection that asks for nothing this long is closed (`connections.max.idle.ms`).
    pub(crate) idle_timeout: Duration,
    /// A frame must come or go whole within this, or move [`PROGRESS_BYTES`] each time.
    pub(crate) stall_timeout: Duration,
    /// What one fetch may bring when logs are on disk, because it is read into memory before it is sent; 0 when logs are
    /// in memory, and a fetch brings slices of them.
    pub(crate) disk_fetch_bytes: usize,
}

/// Less than this is no progress: a peer that sends a byte a second is stalled.
const PROGRESS_BYTES: usize = 16 * 1024;
