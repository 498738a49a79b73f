//! A client as the metrics know it: what it was told, when it may ask and push, what it has reported.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_wire::Uuid;

use super::report::{ClientMetrics, Report};

/// One client instance.
#[derive(Debug)]
pub(crate) struct Instance {
    id: Uuid,
    connection: u64,
    version: u64,
    client_id: String,
    software: Option<(String, String)>,
    address: SocketAddr,
    /// The prefixes of the metrics that it is asked for, or `*`.
    pub(crate) metrics: BTreeSet<String>,
    pub(crate) interval: Duration,
    pub(crate) subscription_id: i32,
    pub(super) heard: Instant,
    asked: Option<Instant>,
    pushed: Option<Instant>,
    has_ended: bool,
    /// The answer to its last push.
    last_error: ErrorCode,
    pub(super) report: Report,
}

/// The client behind a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) connection: u64,
    pub(crate) client_id: &'a str,
    pub(crate) software: Option<(&'a str, &'a str)>,
    pub(crate) address: SocketAddr,
}

/// At most this many bytes of a client id are kept. Kafka has no limit, and a client may send any.
const CLIENT_ID_BYTES_MAX: usize = 255;

impl Instance {
    pub(super) fn new(
        id: Uuid,
        who: Who<'_>,
        version: u64,
        (metrics, interval): (BTreeSet<String>, Duration),
        report: Report,
        now: Instant,
    ) -> Self {
        let subscription_id = subscription_id(&metrics, interval, id);
        let owned = |(name, version): (&str, &str)| (name.to_owned(), version.to_owned());
        Self {
            id,
            connection: who.connection,
            version,
            client_id: super::report::cut(who.client_id, CLIENT_ID_BYTES_MAX).to_owned(),
            software: who.software.map(owned),
            address: who.address,
            metrics,
            interval,
            subscription_id,
            heard: now,
            asked: None,
            pushed: None,
            has_ended: false,
            last_error: ErrorCode::NONE,
            report,
        }
    }

    /// Whether it holds for a connection and a version of the subscriptions.
    pub(super) fn is_of(&self, connection: u64, version: u64) -> bool {
        (self.connection, self.version) == (connection, version)
    }

    /// Whether the client may ask for its subscription: an interval after its last request, or at once when its last push was
    /// refused because it has to ask again.
    pub(crate) fn ask(&mut self, now: Instant) -> Result<(), ErrorCode> {
        let last = self.asked.max(self.pushed);
        let is_due = last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval);
        let must_ask = [ErrorCode::UNKNOWN_SUBSCRIPTION_ID, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE];
        if !is_due && !must_ask.contains(&self.last_error) {
            return Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        }
        if is_due {
            self.asked = Some(now);
        }
        self.last_error = ErrorCode::NONE;
        Ok(())
    }

    /// Whether the client may push. `is_known_codec` and `fits` are about the payload.
    pub(crate) fn push(
        &mut self,
        subscription_id: i32,
        is_last: bool,
        is_known_codec: bool,
        fits: bool,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        let checked = self.check_push(subscription_id, is_last, is_known_codec, fits, now);
        self.has_ended = is_last;
        self.last_error = checked.err().unwrap_or(ErrorCode::NONE);
        checked
    }

    fn check_push(
        &mut self,
        subscription_id: i32,
        is_last: bool,
        is_known_codec: bool,
        fits: bool,
        now: Instant,
    ) -> Result<(), ErrorCode> {
        if self.has_ended {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        // The first push after asking comes whenever the client likes, because clients spread theirs.
        let is_first = self.asked.is_some() && self.asked > self.pushed;
        let is_due = self.pushed.is_none_or(|last| now.saturating_duration_since(last) >= self.interval);
        if is_first || is_due {
            self.pushed = Some(now);
        } else if !is_last {
            return Err(ErrorCode::THROTTLING_QUOTA_EXCEEDED);
        }
        match () {
            () if subscription_id != self.subscription_id => Err(ErrorCode::UNKNOWN_SUBSCRIPTION_ID),
            () if !is_known_codec => Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
            () if !fits => Err(ErrorCode::TELEMETRY_TOO_LARGE),
            () => Ok(()),
        }
    }

    /// Notes that the payload of a push was refused.
    pub(crate) fn refuse(&mut self, code: ErrorCode) {
        self.last_error = code;
    }

    /// What it has reported, if it has.
    pub(super) fn shown(&self) -> Option<ClientMetrics> {
        let (metrics, labels) = self.report.shown()?;
        Some(ClientMetrics {
            client_instance_id: self.id.to_string(),
            client_id: self.client_id.clone(),
            software: self.software.clone(),
            address: self.address,
            labels,
            metrics,
            pushes: self.report.pushes(),
            left_out: self.report.left_out(),
            has_ended: self.has_ended,
        })
    }
}

/// A number for what the client is asked for, made as Kafka makes it: it differs when the metrics, the interval or the client do.
fn subscription_id(metrics: &BTreeSet<String>, interval: Duration, id: Uuid) -> i32 {
    let names: Vec<&str> = metrics.iter().map(String::as_str).collect();
    let text = format!("[{}]{}", names.join(", "), interval.as_millis());
    let words =
        id.as_bytes().chunks(4).map(|word| word.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)));
    (crc32c::crc32c(text.as_bytes()) ^ words.fold(0, |sum, word| sum ^ word)) as i32
}
