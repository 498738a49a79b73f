//! Traces: hooks that see what a client sends, receives and commits, and the trace context that records carry in their headers.
//!
//! The client makes no spans. A program, or the crate `milena-otel`, gives it [`Hooks`] ([`ClientBuilder::trace`]), and makes spans of
//! what they are told: once for each batch that was sent, received or committed, with times, when it is over. Only
//! [`Hooks::created`] is called for each record. Without hooks nothing of this costs anything.
//!
//! ```text
//! record ─ created ─▶ TraceContext ─▶ headers traceparent, tracestate, baggage ─▶ broker ─▶ TraceContext::of(record)
//!                          └─▶ its batch ─ written or given up ─▶ sent(batch, contexts)
//! ```
//!
//! [`ClientBuilder::trace`]: crate::ClientBuilder::trace

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use milena_core::Instant;

use crate::clock::Clock;
use crate::{Batch, Client, Header, Record, RecordView, SettledBatch};

/// Sees what a client's producers and consumers do, to make spans of it. See [`ClientBuilder::trace`](crate::ClientBuilder::trace).
///
/// Each method does nothing by default. They are called on the tasks that produce and consume, and on those of the client: while one
/// runs, its task does nothing else, so they must not block. A panic in one of them is caught and logged.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let bootstrap = cluster.bootstrap();
/// use std::sync::{Arc, Mutex};
///
/// use milena::trace::{Hooks, TraceContext};
/// use milena::{Client, Record, SettledBatch};
///
/// #[derive(Debug, Default)]
/// struct Spans(Mutex<Vec<String>>);
///
/// impl Hooks for Spans {
///     fn created(&self, _: &Record<'_>) -> Option<TraceContext> {
///         TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01") // that of the caller's span
///     }
///
///     fn sent(&self, batch: &SettledBatch<'_>) {
///         let links = batch.contexts.iter().map(TraceContext::traceparent);
///         self.0.lock().unwrap().push(format!("{} for {:?}", batch.topic, links.collect::<Vec<_>>()));
///     }
/// }
///
/// let spans = Arc::new(Spans::default());
/// let client = Client::builder().bootstrap(bootstrap).trace(spans.clone()).connect().await?;
/// client.producer().build().await?.send(Record::to("orders").value("created")).await?;
/// # let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
/// # let batch = consumer.next().await?.expect("a record");
/// # let context = TraceContext::of(&batch.iter().next().expect("a record")).expect("it was written");
/// # assert_eq!(context.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
/// # Ok(())
/// # }
/// ```
pub trait Hooks: fmt::Debug + Send + Sync {
    /// A record is about to be taken by a producer: the context in which it is created. It is written into the record's headers, and
    /// told with its batch. It is called on the task that produces, once or more for each record, unless the record has a header
    /// `traceparent` that can be read, which stays and is told in its place. None writes nothing.
    fn created(&self, record: &Record<'_>) -> Option<TraceContext> {
        let _ = record;
        None
    }

    /// A batch was written or given up.
    fn sent(&self, batch: &SettledBatch<'_>) {
        let _ = batch;
    }

    /// A batch is given to the application.
    fn received(&self, batch: &Received<'_>) {
        let _ = batch;
    }

    /// A group's commit was answered, or got no answer. So is one of offsets that a transaction takes along.
    fn committed(&self, commit: &Commit<'_>) {
        let _ = commit;
    }
}

/// A batch that is given to the application.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Received<'a> {
    /// The batch. Hooks look at its records with [`Batch::try_iter`], which changes nothing; the application iterates over them again.
    pub batch: &'a Batch,
    /// The group that the consumer is of.
    pub group: Option<&'a str>,
    /// The client's id ([`ClientBuilder::client_id`](crate::ClientBuilder::client_id)).
    pub client_id: &'a str,
    /// When the answer that brought the batch was there.
    pub arrived: SystemTime,
    /// When the application got it.
    pub taken: SystemTime,
}

/// A group's commit.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Commit<'a> {
    /// The group.
    pub group: &'a str,
    /// The client's id.
    pub client_id: &'a str,
    /// The transactional id, if a transaction takes the offsets along: they count once it is committed.
    pub transactional_id: Option<&'a str>,
    /// The topics, partitions and offsets to commit.
    pub offsets: &'a [(Arc<str>, i32, i64)],
    /// When it was sent.
    pub began: SystemTime,
    /// When the answer was there, or was not waited for any more.
    pub ended: SystemTime,
    /// Why nothing was committed of at least one of them: Kafka's name of the error, or what happened on the client's side in lower
    /// case, as `timed_out`.
    pub error: Option<&'a str>,
}

/// A W3C trace context, as records carry it in the headers `traceparent`, `tracestate` and `baggage`.
///
/// It is read from headers that anyone may have written: what is not valid or longer than the [limits](Self::STATE_BYTES_MAX) is as if
/// it were not there.
///
/// ```
/// use milena::trace::TraceContext;
///
/// let context = TraceContext::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
/// assert!(context.is_sampled());
/// assert_eq!(context.span_id(), [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
/// assert!(TraceContext::parse(b"00-00000000000000000000000000000000-00f067aa0ba902b7-01").is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u8,
    state: Option<Arc<str>>,
    baggage: Option<Arc<str>>,
}

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";
/// The length of a `traceparent` of version 00. Later versions are longer and begin alike.
const PARENT_BYTES: usize = 55;
/// Of a record with more headers, these are looked at: someone else may have written millions of them.
const HEADERS_MAX: usize = 256;
/// How many contexts a batch remembers. It is OpenTelemetry's default limit of links in a span.
const CONTEXTS_MAX: usize = 128;

impl TraceContext {
    /// A longer `tracestate` is ignored, in bytes. W3C asks for at least 512.
    pub const STATE_BYTES_MAX: usize = 512;
    /// A longer `baggage` is ignored, in bytes: W3C's limit.
    pub const BAGGAGE_BYTES_MAX: usize = 8192;

    /// A context without `tracestate` and `baggage`. None if one of the ids is zero, which is not valid.
    pub fn new(trace_id: [u8; 16], span_id: [u8; 8], flags: u8) -> Option<Self> {
        let is_valid = trace_id != [0; 16] && span_id != [0; 8];
        is_valid.then_some(Self { trace_id, span_id, flags, state: None, baggage: None })
    }

    /// The same context with a `tracestate`, unless it is empty, too long or not printable ASCII.
    pub fn with_state(mut self, state: &str) -> Self {
        self.state = text(state.as_bytes(), Self::STATE_BYTES_MAX);
        self
    }

    /// The same context with a `baggage`, unless it is empty, too long or not printable ASCII.
    pub fn with_baggage(mut self, baggage: &str) -> Self {
        self.baggage = text(baggage.as_bytes(), Self::BAGGAGE_BYTES_MAX);
        self
    }

    /// Reads a `traceparent`. None if it is not valid.
    pub fn parse(traceparent: &[u8]) -> Option<Self> {
        let (text, rest) = traceparent.split_at_checked(PARENT_BYTES)?;
        let [version] = hex(text.get(..2)?)?;
        let is_whole = match version {
            0 => rest.is_empty(),
            // W3C forbids this one.
            0xff => false,
            // What later versions add follows a dash.
            _ => rest.first().is_none_or(|byte| *byte == b'-'),
        };
        if !is_whole || [2, 35, 52].iter().any(|at| text[*at] != b'-') {
            return None;
        }
        let [flags] = hex(&text[53..])?;
        Self::new(hex(&text[3..35])?, hex(&text[36..52])?, flags)
    }

    /// The context that a consumed record carries. Of several headers of a name the last one counts, which was written last.
    pub fn of(record: &RecordView<'_>) -> Option<Self> {
        Self::of_headers(record.headers())
    }

    /// The context that these headers carry.
    pub fn of_headers<'a>(headers: impl IntoIterator<Item = Header<'a>>) -> Option<Self> {
        let (mut parent, mut state, mut baggage) = (None, None, None);
        for Header { key, value } in headers.into_iter().take(HEADERS_MAX) {
            // Most headers are others, and differ in their length.
            match key.len() {
                11 if key == TRACEPARENT.as_bytes() => parent = value,
                10 if key == TRACESTATE.as_bytes() => state = value,
                7 if key == BAGGAGE.as_bytes() => baggage = value,
                _ => {}
            }
        }
        let context = Self::parse(parent?)?;
        let state = state.and_then(|state| text(state, Self::STATE_BYTES_MAX));
        let baggage = baggage.and_then(|baggage| text(baggage, Self::BAGGAGE_BYTES_MAX));
        Some(Self { state, baggage, ..context })
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span.
    pub fn span_id(&self) -> [u8; 8] {
        self.span_id
    }

    /// The flags, of which the lowest bit says that the span may be recorded.
    pub fn flags(&self) -> u8 {
        self.flags
    }

    /// Whether the span may be recorded.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }

    /// What tracing systems add of their own: `tracestate`.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// What applications add: `baggage`.
    pub fn baggage(&self) -> Option<&str> {
        self.baggage.as_deref()
    }

    /// The header `traceparent`, in version 00.
    pub fn traceparent(&self) -> String {
        self.parent().iter().map(|byte| char::from(*byte)).collect()
    }

    /// The same, without an allocation.
    pub(crate) fn parent(&self) -> [u8; PARENT_BYTES] {
        let mut text = [b'-'; PARENT_BYTES];
        let mut write = |at: usize, bytes: &[u8]| {
            for (pair, byte) in text[at..].chunks_exact_mut(2).zip(bytes) {
                let digit = |nibble: u8| b"0123456789abcdef"[usize::from(nibble)];
                pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
            }
        };
        write(0, &[0]);
        write(3, &self.trace_id);
        write(36, &self.span_id);
        write(53, &[self.flags]);
        text
    }

    /// The headers that carry it. `traceparent` is its own [text](Self::traceparent).
    pub fn headers<'a>(&'a self, traceparent: &'a str) -> impl Iterator<Item = Header<'a>> {
        let [state, baggage] = [(TRACESTATE, &self.state), (BAGGAGE, &self.baggage)]
            .map(|(name, value)| value.as_deref().map(|value| Header::new(name, Some(value.as_bytes()))));
        [Some(Header::new(TRACEPARENT, Some(traceparent.as_bytes()))), state, baggage].into_iter().flatten()
    }
}

/// Lower-case hexadecimal digits, which W3C demands.
fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if digits.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Printable ASCII of at least one and at most `max` bytes.
fn text(bytes: &[u8], max: usize) -> Option<Arc<str>> {
    let is_text = (1..=max).contains(&bytes.len()) && bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
    std::str::from_utf8(bytes).ok().filter(|_| is_text).map(Arc::from)
}

/// The contexts of a batch's records: each once, and not more than a span has links.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contexts(Vec<TraceContext>);

impl Contexts {
    pub(crate) fn add(&mut self, context: TraceContext) {
        // Records that follow each other are often of one trace.
        let is_known = self.0.last() == Some(&context);
        if !is_known && self.0.len() < CONTEXTS_MAX && !self.0.contains(&context) {
            self.0.push(context);
        }
    }

    pub(crate) fn all(&self) -> &[TraceContext] {
        &self.0
    }
}

/// A commit that is under way.
pub(crate) struct Committing {
    pub(crate) group: Arc<str>,
    pub(crate) transactional_id: Option<Arc<str>>,
    pub(crate) offsets: Vec<(Arc<str>, i32, i64)>,
    pub(crate) began: Instant,
}

impl Committing {
    /// It was answered, or there will be no answer.
    pub(crate) fn tell(self, client: &Client, error: Option<&str>, now: Instant) {
        let Some(trace) = &client.0.trace else { return };
        let clock = &client.0.clock;
        let commit = Commit {
            group: &self.group,
            client_id: &client.0.settings.client.client_id,
            transactional_id: self.transactional_id.as_deref(),
            offsets: &self.offsets,
            began: time_of_day(clock, self.began),
            ended: time_of_day(clock, now),
            error,
        };
        trace.tell(|hooks| hooks.committed(&commit));
    }
}

/// A client's hooks.
#[derive(Debug, Clone)]
pub(crate) struct Tracing(pub(crate) Arc<dyn Hooks>);

impl Tracing {
    /// The context in which `record` is created, and whether it is to be written into the record's headers.
    pub(crate) fn created(&self, record: &Record<'_>) -> Option<(TraceContext, bool)> {
        if let Some(own) = TraceContext::of_headers(record.header_slice().iter().copied()) {
            return Some((own, false));
        }
        let mut context = None;
        self.tell(|hooks| context = hooks.created(record));
        context.map(|context| (context, true))
    }

    /// Calls the program's hooks. A panic in them must not end the task that tells them.
    pub(crate) fn tell(&self, tell: impl FnOnce(&dyn Hooks)) {
        if catch_unwind(AssertUnwindSafe(|| tell(&*self.0))).is_err() {
            tracing::error!(target: "milena", "the hooks {:?} of the program panicked", self.0);
        }
    }
}

/// What time of day it was at `at`, which is not long ago.
pub(crate) fn time_of_day(clock: &Clock, at: Instant) -> SystemTime {
    let (now, unix_ms) = (clock.now(), clock.unix_ms());
    let unix = Duration::from_millis(unix_ms.unsigned_abs()).saturating_sub(now - at);
    SystemTime::UNIX_EPOCH + unix
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn contexts_are_read_as_they_are_written() {
        let context = TraceContext::parse(PARENT.as_bytes()).expect("valid");
        assert_eq!(context.traceparent(), PARENT);
        let context = context.with_state("a=1,b=2").with_baggage("user=42");
        let parent = context.traceparent();
        let headers: Vec<_> = context.headers(&parent).collect();
        assert_eq!(headers.len(), 3);
        assert_eq!(TraceContext::of_headers(headers), Some(context));
    }

    #[test]
    fn later_versions_may_be_longer_and_bad_ones_count_as_none() {
        let later = PARENT.replacen("00", "cc", 1);
        for good in [later.clone(), format!("{later}-what-comes")] {
            assert_eq!(TraceContext::parse(good.as_bytes()).expect(&good).traceparent(), PARENT);
        }
        let bad = [
            String::new(),
            PARENT[1..].into(),
            format!("{PARENT}-more"),
            format!("{later}x"),
            PARENT.replacen("00", "ff", 1),
            PARENT.replacen("00", "0x", 1),
            PARENT.to_uppercase(),
            PARENT.replace('-', "_"),
            PARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            PARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            PARENT.replace("4b", "é"),
        ];
        for bad in bad {
            assert_eq!(TraceContext::parse(bad.as_bytes()), None, "{bad}");
        }
        // Any byte in any place, and any length: nothing panics.
        for at in 0..PARENT.len() {
            assert_eq!(TraceContext::parse(&PARENT.as_bytes()[..at]), None);
            for byte in 0..=255 {
                let mut text = PARENT.as_bytes().to_vec();
                text[at] = byte;
                let _ = TraceContext::parse(&text);
            }
        }
    }

    #[test]
    fn headers_of_strangers_are_bounded_and_the_last_one_of_a_name_counts() {
        let header = |name, value: &'static [u8]| Header::new(name, Some(value));
        let other = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-00";
        let parents = [header(TRACEPARENT, PARENT.as_bytes()), header(TRACEPARENT, other)];
        let found = TraceContext::of_headers(parents).expect("valid");
        assert_eq!(found.traceparent().as_bytes(), other);

        let long = vec![b'a'; TraceContext::BAGGAGE_BYTES_MAX + 1];
        for bad in [&b"\xff"[..], b"", b"a=\n", &long] {
            let mut headers = vec![Header::new(TRACESTATE, Some(bad)), Header::new(BAGGAGE, Some(bad))];
            headers.extend(parents);
            let found = TraceContext::of_headers(headers).expect("its parent is valid");
            assert_eq!((found.state(), found.baggage()), (None, None));
        }
        assert_eq!(TraceContext::of_headers([Header::new(TRACEPARENT, None)]), None);
        let many = std::iter::repeat_n(header("x", b""), HEADERS_MAX).chain(parents);
        assert_eq!(TraceContext::of_headers(many), None, "they come too late");
    }

    #[test]
    fn a_batch_has_each_context_once_and_not_more_than_a_span_has_links() {
        let mut contexts = Contexts::default();
        for _ in 0..2 {
            for span in 1..=200 {
                contexts.add(TraceContext::new([1; 16], [span; 8], 1).expect("valid"));
                contexts.add(TraceContext::new([1; 16], [span; 8], 1).expect("valid"));
            }
        }
        assert_eq!(contexts.all().len(), CONTEXTS_MAX);
    }
}
