//! Remembers about addresses what the next connection to them can use.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use milena_core::backoff::Retry;
use milena_core::sasl::Credentials;
use milena_core::{Backoff, BrokerId, Failure, Features, Handshake, Instant, Rng};
use rustc_hash::FxHashMap;

use crate::Address;

/// What earlier connections and the metadata told about addresses.
#[derive(Debug)]
pub(crate) struct Peers {
    known: Mutex<FxHashMap<Address, Known>>,
    features: Mutex<Features>,
}

impl Default for Peers {
    fn default() -> Self {
        // Any broker's word is newer.
        let features = Features { epoch: -1, transaction_version: None };
        Self { known: Mutex::default(), features: Mutex::new(features) }
    }
}

#[derive(Debug, Default)]
struct Known {
    /// The socket address of the last connection.
    at: Option<SocketAddr>,
    /// A lower version of ApiVersions than our newest, at which the handshake succeeded, and until when it is asked at first.
    lowered: Option<(i16, Instant)>,
    /// The broker that advertises the address.
    broker: Option<BrokerId>,
    /// Whether the user named the address.
    is_named: bool,
    /// The last refusal of credentials, if no connection was made since.
    refused: Option<Refused>,
    /// Whether the last connection ended at its first request, as a listener with SASL ends that of a client without credentials.
    may_require_sasl: bool,
}

/// A broker refused the client's credentials. Each role has a connection of its own, and each request would make it try again:
/// together they would ask many times a second, and lock an account.
#[derive(Debug)]
struct Refused {
    credentials: Arc<Credentials>,
    failure: Failure,
    at: Instant,
    retry: Retry,
}

/// A server that did not answer the newest version of ApiVersions is asked at it again after this long: it may have been
/// upgraded.
const LOWERED_FOR: Duration = Duration::from_secs(600);
/// The same credentials are tried again after this long. Other ones are tried sooner, but not before the minimum.
const REFUSED: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };

impl Peers {
    fn known(&self) -> MutexGuard<'_, FxHashMap<Address, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handshake for a new connection: at the version of the last success, if a newer one was asked at in vain.
    pub(super) fn handshake(&self, address: &Address, now: Instant) -> Handshake {
        let known = self.known();
        let Some(known) = known.get(address) else { return Handshake::new() };
        let lowered = known.lowered.filter(|(_, until)| now < *until);
        let handshake = lowered.map_or_else(Handshake::new, |(version, _)| Handshake::at(version));
        if known.may_require_sasl { handshake.asking_for_sasl() } else { handshake }
    }

    /// A connection of a client without credentials ended at its first request.
    pub(super) fn note_silent_end(&self, address: &Address) {
        self.known().entry(address.clone()).or_default().may_require_sasl = true;
    }

    /// Whether a listener may require SASL, which a client without credentials learns from the next connection.
    pub(crate) fn may_require_sasl(&self) -> bool {
        self.known().values().any(|known| known.may_require_sasl)
    }

    /// A connection to `address` was made, at the socket address `at`.
    pub(super) fn note_reached(
        &self,
        address: &Address,
        at: Option<SocketAddr>,
        handshake: &Handshake,
        now: Instant,
    ) {
        self.features.lock().unwrap_or_else(PoisonError::into_inner).learn(handshake.features());
        let mut known = self.known();
        let known = known.entry(address.clone()).or_default();
        known.at = at;
        known.refused = None;
        known.may_require_sasl = false;
        let version = handshake.version();
        // The time runs from the first success at this version. If each success began it anew, a busy client would never
        // ask at the newest version again.
        let until = known.lowered.filter(|(lowered, until)| *lowered == version && now < *until);
        let until = until.map_or(now + LOWERED_FOR, |(_, until)| until);
        known.lowered = handshake.is_lowered().then_some((version, until));
    }

    /// The broker's last refusal, if it is too early to try `credentials`.
    pub(super) fn refusal(
        &self,
        address: &Address,
        credentials: &Credentials,
        now: Instant,
    ) -> Option<Failure> {
        let known = self.known();
        let refused = known.get(address)?.refused.as_ref()?;
        let is_same = *refused.credentials == *credentials;
        let waits = now - refused.at < REFUSED.min || (is_same && !refused.retry.is_ready(now));
        waits.then(|| refused.failure.clone())
    }

    /// The broker at `address` refused `credentials`.
    pub(super) fn note_refusal(
        &self,
        address: &Address,
        credentials: Arc<Credentials>,
        failure: &Failure,
        now: Instant,
    ) {
        let mut known = self.known();
        let known = known.entry(address.clone()).or_default();
        let mut retry = known.refused.take().map_or_else(Retry::default, |refused| refused.retry);
        // The jitter spreads clients, and each of them begins at another time.
        retry.failed(now, &REFUSED, &mut Rng::seeded(now.since_origin().as_nanos() as u64));
        known.refused = Some(Refused { credentials, failure: failure.clone(), at: now, retry });
    }

    /// What the cluster has finalised, as the newest handshake with any broker told it.
    pub(crate) fn features(&self) -> Features {
        *self.features.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The socket address of the last connection to `address`.
    pub(super) fn reached_at(&self, address: &Address) -> Option<SocketAddr> {
        self.known().get(address)?.at
    }

    /// These brokers advertise these addresses, of which the user has named those that `is_named`.
    pub(crate) fn note_advertised(
        &self,
        brokers: impl Iterator<Item = (Address, BrokerId)>,
        is_named: impl Fn(&Address) -> bool,
    ) {
        let mut known = self.known();
        for (address, broker) in brokers {
            let is_named = is_named(&address);
            let known = known.entry(address).or_default();
            (known.broker, known.is_named) = (Some(broker), is_named);
        }
    }

    /// The broker that advertises `address`.
    pub(super) fn broker(&self, address: &Address) -> Option<BrokerId> {
        self.known().get(address)?.broker
    }

    /// Forgets addresses that are not current. Some clusters have new ones after each restart.
    pub(crate) fn retain(&self, is_current: impl Fn(&Address) -> bool) {
        self.known().retain(|address, _| is_current(address));
    }

    /// The broker that advertises `address`, unless the user named the address.
    pub(super) fn advertiser(&self, address: &Address) -> Option<BrokerId> {
        self.known().get(address).filter(|known| !known.is_named)?.broker
    }
}
