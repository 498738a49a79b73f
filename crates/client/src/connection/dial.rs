//! Makes a working connection to an address. The name is resolved, its socket addresses are tried beside each other, each a
//! little later than the one before, and the first with which the handshake succeeds is kept.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use milena_core::sasl::{Credentials, Fresh};
use milena_core::{BrokerId, Failure, Instant, Obstacle};

use super::settings::LinkSettings;
use super::stream::Connection;
use crate::Address;
use crate::connect::{ConnectError, Transport};
use crate::runtime::Together;

/// When a socket address has not become a connection after this long, the next one is tried beside it (RFC 8305 recommends
/// 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// What a connection authenticates with. None if the client has no credentials.
pub(super) type Login = Option<(Arc<Credentials>, Fresh)>;

/// Gets what the next connection is to authenticate with. A provider has a timeout of its own.
pub(super) async fn login(
    settings: &LinkSettings,
    address: &Address,
    peer: &Arc<str>,
) -> Result<Login, Failure> {
    match &settings.sasl {
        Some(sasl) => sasl.for_connection(peer, address.host()).await.map(Some),
        None => Ok(None),
    }
}

/// Connects to `address` within `after`. Dropping the future drops all attempts.
pub(super) async fn dial(
    settings: &LinkSettings,
    address: &Address,
    peer: &Arc<str>,
    after: Duration,
    login: Login,
) -> Result<Connection, Failure> {
    let dialed = authenticated(settings, address, peer, after, login).await;
    dialed.map_err(|failure| match settings.peers.advertiser(address) {
        Some(broker) => advertised(failure, broker),
        None => failure,
    })
}

/// Makes the connection. A broker that has just refused the credentials is not asked again.
async fn authenticated(
    settings: &LinkSettings,
    address: &Address,
    peer: &Arc<str>,
    after: Duration,
    login: Login,
) -> Result<Connection, Failure> {
    let Some((credentials, fresh)) = login else { return race(settings, address, peer, after, None).await };
    if let Some(failure) = settings.peers.refusal(address, &credentials, settings.clock.now()) {
        return Err(failure);
    }
    let dialed = race(settings, address, peer, after, Some((&credentials, fresh))).await;
    if let Err(failure) = &dialed
        && failure.is_refusal_of_credentials()
    {
        settings.peers.note_refusal(address, credentials, failure, settings.clock.now());
    }
    dialed
}

async fn race(
    settings: &LinkSettings,
    address: &Address,
    peer: &Arc<str>,
    after: Duration,
    login: Option<(&Arc<Credentials>, Fresh)>,
) -> Result<Connection, Failure> {
    let clock = &settings.clock;
    let until = clock.after(after);
    let resolved = clock.timeout_at(until, settings.connector.resolve(address)).await;
    let Some(resolved) = resolved else {
        let reason = format!("the name was not resolved within {after:?}").into();
        let (peer, obstacle) = (Arc::clone(peer), Obstacle::Name);
        return Err(Failure::Unreachable { peer, obstacle, cause: None, reason });
    };
    let mut addresses = resolved.map_err(|error| error.into_failure(peer))?;
    let good = settings.peers.reached_at(address);
    // The socket address of the last connection goes first: the addresses before it may be those of dead hosts.
    if let Some(index) = addresses.iter().position(|at| Some(*at) == good) {
        addresses[..=index].rotate_right(1);
    }
    let is_alone = addresses.len() < 2;
    let mut candidates: Vec<_> = addresses.into_iter().map(Some).collect();
    // The transport connects by name, as one that goes through a proxy does.
    if candidates.is_empty() {
        candidates.push(None);
    }
    // All attempts have begun when half of the time is over. The other half is left for the last one.
    let stagger =
        STAGGER.min((until - clock.now()) / 2 / u32::try_from(candidates.len()).unwrap_or(u32::MAX));
    let mut candidates = candidates.into_iter();
    let mut attempts = Together::new();
    let mut failures = Vec::new();
    loop {
        match candidates.next() {
            Some(at) => {
                attempts.push(async move { (at, attempt(settings, address, peer, at, until, login).await) });
            }
            None if attempts.is_empty() => return Err(all(peer, failures, is_alone)),
            None => {}
        }
        let next = (candidates.len() > 0).then(|| clock.after(stagger));
        tokio::select! {
            // A connection that is there counts, however late it is looked at. When the time is over, no attempt begins.
            biased;
            Some((at, outcome)) = attempts.next() => match outcome {
                Ok(connection) => {
                    settings.peers.note_reached(address, at, connection.handshake(), clock.now());
                    return Ok(connection);
                }
                // All its addresses are those of one cluster, which would refuse them again.
                Err(failure) if failure.is_refusal_of_credentials() => return Err(failure),
                Err(failure) => failures.push((at, failure)),
            },
            () = clock.sleep_until(Some(until)) => {
                let late = Failure::TimedOut { peer: Arc::clone(peer), after, sent: false };
                failures.push((None, late));
                return Err(all(peer, failures, is_alone));
            }
            () = clock.sleep_until(next) => {}
        }
    }
}

/// The outcome of `connecting`. The connector may be the application's own code: if it panics, this attempt fails with an
/// error that says so. Otherwise the link's task would end, and the calls that wait for it would count as sent.
async fn guarded(
    connecting: impl Future<Output = Result<Box<dyn Transport>, ConnectError>>,
) -> Result<Box<dyn Transport>, ConnectError> {
    let mut connecting = pin!(connecting);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| connecting.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| {
            Poll::Ready(Err(ConnectError::new(Obstacle::Configuration, "the connector panicked")))
        })
    })
    .await
}

/// Tries one socket address, with as many connections as the handshake takes.
async fn attempt(
    settings: &LinkSettings,
    address: &Address,
    peer: &Arc<str>,
    at: Option<SocketAddr>,
    until: Instant,
    login: Option<(&Arc<Credentials>, Fresh)>,
) -> Result<Connection, Failure> {
    let mut handshake = settings.peers.handshake(address, settings.clock.now());
    if let Some((credentials, fresh)) = login {
        handshake = handshake.authenticating(Arc::clone(credentials), &address.host().into(), &fresh);
    }
    loop {
        let within = until - settings.clock.now();
        let connecting = async { settings.connector.connect_within(address, at, within).await };
        let stream = guarded(connecting).await.map_err(|error| error.into_failure(peer))?;
        let mut connection = Connection::new(settings, stream, address, Arc::clone(peer), handshake);
        match connection.open().await {
            Ok(()) => return Ok(connection),
            Err(failure) => handshake = connection.into_handshake().handle_failure(failure)?,
        }
    }
}

/// The failure to tell when no socket address worked. If a server answered, its failure says more than those of the others
/// that could not be reached. If none answered, the failure names the reason for each. It may pass if one of them may.
fn all(peer: &Arc<str>, mut failures: Vec<(Option<SocketAddr>, Failure)>, is_alone: bool) -> Failure {
    let is_answer = |failure: &Failure| match failure {
        Failure::Unreachable { obstacle, .. } => *obstacle == Obstacle::Peer,
        Failure::TimedOut { .. } | Failure::Closed => false,
        _ => true,
    };
    let told = failures.iter().position(|(_, failure)| is_answer(failure));
    if let Some(index) = told.or((is_alone || failures.len() == 1).then_some(0)) {
        return failures.swap_remove(index).1;
    }
    let may_pass = failures.iter().find(|(_, failure)| failure.is_retriable());
    let first = may_pass.or(failures.first()).and_then(|(_, failure)| failure.obstacle());
    let reason = |(at, failure): &(Option<SocketAddr>, Failure)| match (at, failure) {
        (Some(at), Failure::Unreachable { reason, .. }) => format!("{}: {reason}", at.ip()),
        (None, Failure::TimedOut { after, .. }) => format!("no other address answered within {after:?}"),
        (_, failure) => failure.to_string(),
    };
    let reasons: Vec<_> = failures.iter().map(reason).collect();
    Failure::Unreachable {
        peer: Arc::clone(peer),
        obstacle: first.unwrap_or(Obstacle::Network),
        cause: failures.iter().find_map(|(_, failure)| failure.cause()),
        reason: reasons.join("; ").into(),
    }
}

/// Adds that the broker advertises the address: the user did not type it, and would not know where it comes from.
fn advertised(failure: Failure, broker: BrokerId) -> Failure {
    let whence = format!("broker {broker} advertises this address (its advertised.listeners)");
    match failure {
        Failure::Unreachable { peer, obstacle, cause, reason } => {
            Failure::Unreachable { peer, obstacle, cause, reason: format!("{reason}; {whence}").into() }
        }
        Failure::TimedOut { peer, after, .. } => {
            Failure::unreachable(peer, format!("it did not answer within {after:?}; {whence}"))
        }
        other => other,
    }
}
