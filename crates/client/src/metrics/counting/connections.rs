//! Connections and the requests on them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use milena_core::lifecycle::End;
use milena_core::{BrokerId, Failure};
use milena_messages::ApiKey;

use crate::metrics::{Counter, Gauge, Histogram, Registry, families};

/// The handles of connections.
pub(crate) struct Connections {
    registry: Registry,
    /// By the number of the API.
    requests: [OnceLock<Arc<Histogram>>; APIS],
    pub(crate) sent_bytes: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) reauthentications: Counter,
    pub(crate) connect_seconds: Arc<Histogram>,
    open: Gauge,
    opened: Counter,
}

/// More than the highest number of an API that a client sends.
const APIS: usize = 128;

impl Connections {
    pub(super) fn new(registry: &Registry) -> Self {
        Self {
            requests: [const { OnceLock::new() }; APIS],
            sent_bytes: registry.counter(&families::SENT_BYTES, &[]),
            received_bytes: registry.counter(&families::RECEIVED_BYTES, &[]),
            reauthentications: registry.counter(&families::REAUTHENTICATIONS, &[]),
            connect_seconds: registry.histogram(&families::CONNECT_SECONDS, &[]),
            open: registry.gauge(&families::CONNECTIONS, &[]),
            opened: registry.counter(&families::CONNECTIONS_OPENED, &[]),
            registry: registry.clone(),
        }
    }

    /// A request was answered, `took` after its connection was given it.
    pub(crate) fn note_answer(&self, api: ApiKey, took: Duration, throttle: Duration) {
        let made = || self.registry.histogram(&families::REQUEST_SECONDS, &[api.name()]);
        if let Some(place) = self.requests.get(usize::try_from(api.as_i16()).unwrap_or(APIS)) {
            place.get_or_init(made).record_duration(took);
        }
        if !throttle.is_zero() {
            self.note_throttle(api, throttle);
        }
    }

    /// The histogram of a broker's requests.
    pub(crate) fn node(&self, broker: BrokerId) -> Arc<Histogram> {
        self.registry.histogram(&families::NODE_REQUEST_SECONDS, &[&broker.to_string()])
    }

    /// A broker ordered to wait.
    #[cold]
    pub(crate) fn note_throttle(&self, api: ApiKey, throttle: Duration) {
        self.registry.histogram(&families::THROTTLE_SECONDS, &[api.name()]).record_duration(throttle);
    }

    /// A request on a connection that ended has no answer.
    #[cold]
    pub(crate) fn note_unanswered(&self, api: ApiKey, failure: &Failure) {
        self.registry.counter(&families::REQUEST_ERRORS, &[api.name(), failure.label()]).add(1);
    }

    /// A connection can be used, `took` after the attempt began.
    pub(crate) fn note_opened(&self, took: Duration) {
        self.connect_seconds.record_duration(took);
        self.opened.add(1);
        self.open.add(1);
    }

    /// No connection could be made.
    pub(crate) fn note_failed(&self, failure: &Failure) {
        self.registry.counter(&families::CONNECTION_FAILURES, &[failure.label()]).add(1);
    }

    /// A connection that could be used has ended.
    pub(crate) fn note_closed(&self, end: End) {
        let reason = match end {
            End::Released => "released",
            End::Idle => "idle",
            End::Broken { .. } => "broken",
        };
        self.open.add(-1);
        self.registry.counter(&families::CONNECTIONS_CLOSED, &[reason]).add(1);
    }
}
