//! Makes TLS connections over those of another connector.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use milena_core::{Cause, Obstacle};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::material::{Material, Ready};
use super::refusal::{About, Peer, refusal};
use super::stream::{TlsStream, Unfinished};
use crate::Address;
use crate::clock::Clock;
use crate::connect::{Connect, ConnectError, Connecting, Connector, Naming, Resolving, Transport};

pub(crate) struct TlsConnector {
    inner: Connector,
    material: Arc<Material>,
    clock: Clock,
    peer: Peer,
}

impl TlsConnector {
    pub(crate) fn new(inner: Connector, material: Arc<Material>, clock: Clock) -> Self {
        Self { inner, material, clock, peer: Peer::Broker }
    }

    /// Connects to web servers.
    #[cfg(feature = "http")]
    pub(crate) fn to_servers(inner: Connector, material: Arc<Material>, clock: Clock) -> Self {
        Self { peer: Peer::Server, ..Self::new(inner, material, clock) }
    }
}

impl Connect for TlsConnector {
    fn resolve(&self, address: &Address) -> Resolving {
        self.inner.resolve(address)
    }

    fn name_of(&self, ip: IpAddr) -> Naming {
        self.inner.name_of(ip)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        self.connect_within(address, at, WITHIN)
    }

    fn connect_within(&self, address: &Address, at: Option<SocketAddr>, within: Duration) -> Connecting {
        let (inner, material, clock) =
            (Arc::clone(&self.inner), Arc::clone(&self.material), self.clock.clone());
        let (address, peer) = (address.clone(), self.peer);
        let within = within / 10 * 9;
        let until = clock.after(within);
        Box::pin(async move {
            let name = server_name(address.host())?;
            let io = inner.connect(&address, at).await?;
            let Ready { config, own } = material.ready();
            let (host, has_certificate) = (address.host().into(), own.is_some());
            let about = About { host, peer, has_certificate, first: Vec::new() };
            let stream = TlsStream::new(io, config, name, about.clone());
            let mut stream = stream.map_err(|error| refusal(&error, &about))?;
            match clock.timeout_at(until, stream.handshake()).await {
                Some(Ok(())) => {}
                Some(Err(Unfinished::Failed(error))) => return Err(failed(error)),
                Some(Err(Unfinished::Closed(heard))) => {
                    drop(stream);
                    let is_plain = (heard, peer) == (0, Peer::Broker)
                        && clock.timeout_at(until, speaks_plainly(&inner, &address, at)).await == Some(true);
                    return Err(closed(heard, is_plain));
                }
                None => {
                    let within = Duration::from_millis(within.as_millis().next_multiple_of(10) as u64);
                    let reason = format!("the TLS handshake was not completed within {within:?}");
                    return Err(ConnectError::new(Obstacle::Network, reason));
                }
            }
            let certificate = stream.peer_certificates().first().map(|certificate| &**certificate);
            let open = material.opened(&address, certificate);
            stream.keep(open);
            Ok(Box::new(stream) as Box<dyn Transport>)
        })
    }

    fn is_encrypted(&self) -> bool {
        true
    }
}

/// The time for a handshake if nobody limits it.
const WITHIN: Duration = Duration::from_secs(30);

/// The name that the broker's certificate must be for. A dot at the end makes a name absolute in DNS; no certificate has it.
fn server_name(host: &str) -> Result<ServerName<'static>, ConnectError> {
    let bare = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| {
        ConnectError::new(
            Obstacle::Configuration,
            format!("{host:?} is no host name that a certificate can be for"),
        )
    })
}

/// What a transport's error says about the connection.
fn failed(error: std::io::Error) -> ConnectError {
    match error.downcast::<ConnectError>() {
        Ok(refused) => refused,
        Err(error) => ConnectError::new(Obstacle::Network, format!("during the TLS handshake: {error}")),
    }
}

fn closed(heard: usize, is_plain: bool) -> ConnectError {
    if is_plain {
        let reason = "the broker speaks plain text on this port, and the client was told to use TLS";
        return ConnectError::new(Obstacle::Peer, reason).with_cause(Cause::PeerIsPlain);
    }
    let reason = if heard == 0 {
        "the peer closed the connection when the TLS handshake began"
    } else {
        "the peer closed the connection during the TLS handshake"
    };
    ConnectError::new(Obstacle::Network, reason)
}

/// ApiVersions version 0 without a client id, as its correlation id 1.
const QUESTION: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];

/// Whether the peer answers Kafka's first request in plain text. A broker closes the connection when TLS comes where it expects
/// plain text, and says nothing, so it is asked. Nothing is sent that anybody may not know.
async fn speaks_plainly(inner: &Connector, address: &Address, at: Option<SocketAddr>) -> bool {
    let ask = async {
        let mut io = inner.connect(address, at).await.ok()?;
        io.write_all(&QUESTION).await.ok()?;
        io.flush().await.ok()?;
        let mut answer = [0; 8];
        io.read_exact(&mut answer).await.ok()?;
        Some(answer)
    };
    // A size below 1 MiB, and the correlation id.
    matches!(ask.await, Some([0, 0..16, _, _, 0, 0, 0, 1]))
}
