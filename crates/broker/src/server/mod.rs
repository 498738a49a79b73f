//! Sockets around the machine: listeners, connections, and limits for what peers may cost.
//!
//! ```text
//!  listener ─▶ connection: intake (bytes ─▶ frames) ─▶ machine.handle ─▶ vectored write
//!                   └────────── lease of the node's memory budget ──────────┘
//!  timekeeper ─▶ machine.handle_timeout
//! ```
//!
//! It knows frames, time and memory. It must not know what a request means.

mod budget;
mod connection;
mod hangup;
mod heavy;
mod intake;
mod listener;
mod shared;
mod stream;
mod timekeeper;

use std::time::Duration;

pub(crate) use budget::Budget;
pub(crate) use hangup::Hangups;
pub(crate) use listener::{NodeServer, bind};
pub(crate) use shared::{Entrance, Shared};
pub(crate) use stream::Acceptor;
pub(crate) use timekeeper::Timekeeper;

/// Limits for what peers may cost. All nodes of a cluster share them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServerLimits {
    /// The largest frame (`socket.request.max.bytes`).
    pub(crate) request_bytes_max: usize,
    /// Memory for requests that are arriving and responses that are leaving.
    pub(crate) buffer_bytes_max: usize,
    /// The most connections at a time.
    pub(crate) connections_max: usize,
    /// The most connections at a time from one address (`max.connections.per.ip`).
    pub(crate) connections_per_address_max: usize,
    /// The most connections at a time from one address whose clients have yet to authenticate.
    pub(crate) guests_per_address_max: usize,
    /// A connection without a request for this long is closed (`connections.max.idle.ms`).
    pub(crate) idle_timeout: Duration,
    /// Within this time a frame must be read or written whole, or [`PROGRESS_BYTES`] of it.
    pub(crate) stall_timeout: Duration,
    /// The most bytes of records that one fetch brings when logs are on disk, because they are read into memory before
    /// they are sent. 0 when logs are in memory: a fetch brings slices of them.
    pub(crate) disk_fetch_bytes: usize,
}

/// Fewer bytes are no progress: a peer that sends a byte a second has stalled.
const PROGRESS_BYTES: usize = 16 * 1024;
