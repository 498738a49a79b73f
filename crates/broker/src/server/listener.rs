//! A port of one node: accepts connections up to their limit, and ends them all when the node stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::connection::Connection;
use super::hangup::Hangup;
use super::shared::{self, Shared, Slot};

/// The pause after a failed accept. Most often the process is out of file descriptors, and trying again at once would
/// fail again.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// A node that listens. When it is dropped its connections end soon; [`stop`](Self::stop) waits until they have ended.
#[derive(Debug)]
pub(crate) struct NodeServer {
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl NodeServer {
    /// Serves `node` on `socket`, which is that of the listener with this index, on the runtime this is called in.
    pub(crate) fn start(node: i32, listener: usize, socket: TcpListener, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = watch::channel(());
        let task = tokio::spawn(serve(node, listener, socket, shared, stopped));
        Self { stop, task }
    }

    /// Closes the port and all connections.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a node's task failed");
        }
    }
}

async fn serve(
    node: i32,
    listener: usize,
    socket: TcpListener,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((stream, address)) => accept(node, listener, (stream, address), &shared, &mut connections),
                Err(error) => {
                    tracing::warn!(node, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            },
            Some(_) = connections.join_next() => {}
            // Nothing is ever sent on the channel. It closes when the node stops.
            _ = stopped.changed() => break,
        }
    }
    drop(socket);
    connections.shutdown().await;
}

fn accept(
    node: i32,
    listener: usize,
    (stream, address): (TcpStream, SocketAddr),
    shared: &Arc<Shared>,
    connections: &mut JoinSet<()>,
) {
    let delay = shared.machine.connection_delay(address.ip(), shared::now());
    let peer = match shared.machine.connect_to(node, listener, address, shared::now()) {
        Ok(peer) => peer,
        // The node is going down: its port closes next.
        Err(refused) => return tracing::debug!(node, %address, %refused, "connection closed"),
    };
    let is_guest = shared.entrances[listener].is_some() || !peer.session().is_admitted();
    match Slot::take(shared, address.ip(), is_guest) {
        Ok(slot) => match delay {
            None => drop(connections.spawn(Connection::begin(peer, stream, slot))),
            // The client learns nothing until its time is over, or it would connect again at once.
            Some(delay) => drop(connections.spawn(async move {
                tokio::time::sleep(delay).await;
                slot.shared().hangups.note(&peer, &Hangup::TooOften);
                drop(stream);
            })),
        },
        Err(reason) => shared.hangups.note(&peer, &reason),
    }
}

/// The most bytes of unread answers that the operating system keeps for a connection. Without this limit it keeps up to
/// 4 MB: then 300 clients that never read filled a gigabyte of kernel memory, and no other client was served for two
/// seconds. More brings no throughput (measured with 100 KiB, 1 MiB and none).
const SEND_BUFFER_BYTES: u32 = 256 * 1024;

/// The most connections that wait to be accepted, as in the standard library.
const BACKLOG: u32 = 1024;

/// Binds a node's port.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A broker that is started again can bind its port though connections of the last run linger in the system.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit the size.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
