//! A client whose token and whose sessions last for seconds, at a high rate: nothing may fail, be lost or come twice, and no
//! connection may be made anew for it.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use milena::{
    Address, Client, Connect, Connecting, Consumer, NewTopic, Producer, Record, Resolving, Sasl, Tcp, Token,
};
use milena_broker::{Broker, Listener, OauthValidator};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::field::Field;
use tracing::span::{Attributes, Id, Record as Values};
use tracing::{Event, Level, Metadata, Subscriber};
use xtask::kafka::{Cluster, NEWEST};

use crate::embedded::Embedded;

/// What is done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// For how long records are written.
    pub time: Duration,
    /// Records per second.
    pub rate: u64,
    /// How long a token lasts. The broker limits sessions to as much.
    pub lifetime: Duration,
    /// Partitions of the topic.
    pub partitions: u32,
}

/// What came of it.
#[derive(Debug)]
pub struct Report {
    /// In lines.
    pub text: String,
    /// What should not have happened.
    pub faults: Vec<String>,
}

/// A broker that limits sessions and believes every token.
#[derive(Debug)]
pub enum Target {
    /// Real Kafka of the newest release.
    Kafka(Box<Cluster>),
    /// The embedded broker.
    Embedded(Embedded),
}

impl Target {
    /// Starts it. Sessions last for `lifetime` at most.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(is_kafka: bool, lifetime: Duration) -> anyhow::Result<Self> {
        if is_kafka {
            let setting = format!("connections.max.reauth.ms={}", lifetime.as_millis());
            return Ok(Self::Kafka(Box::new(Cluster::start_with(1, NEWEST, &[setting])?)));
        }
        let builder = Broker::builder().listener(Listener::sasl_plaintext()).session_lifetime_max(lifetime);
        Ok(Self::Embedded(Embedded::build(builder.oauth(OauthValidator::unsecured()))))
    }

    /// Where clients log in.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        match self {
            Self::Kafka(cluster) => cluster.sasl_bootstrap(),
            Self::Embedded(embedded) => embedded.bootstrap().to_owned(),
        }
    }
}

/// The client has fetched its next token when 75 to 80 % of the last one's life are over.
const FETCHED_AFTER_MIN: f64 = 0.74;
const FETCHED_AFTER_MAX: f64 = 0.85;
/// A record's value: which record of its partition it is.
const VALUE_BYTES: usize = 8;
/// Reading may end this much after writing.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pace is kept in steps of this length.
const STEP: Duration = Duration::from_millis(10);
const TOPIC: &str = "tokens";

async fn work(bootstrap: &str, plan: &Plan) -> anyhow::Result<Report> {
    let fetched = Arc::new(Mutex::new(Vec::new()));
    let made = Arc::new(Mutex::new(Vec::new()));
    let sasl = Sasl::oauth_bearer(issue(Arc::clone(&fetched), plan.lifetime)).allow_plaintext();
    let connector = Counting { tcp: Tcp::default(), made: Arc::clone(&made) };
    let client = Client::builder().bootstrap(bootstrap).connector(connector).sasl(sasl).connect().await?;
    let topic = NewTopic::new(TOPIC).partitions(i32::try_from(plan.partitions)?);
    client.admin().create_topic(topic).await?;
    let producer = client.producer().build().await?;
    let consumer = client.consumer("tokens").subscribe([TOPIC]).build().await?;

    let began = Instant::now();
    let written = Arc::new(AtomicU64::new(u64::MAX));
    let reading = tokio::spawn(read(consumer, Arc::clone(&written)));
    let mut faults = Vec::new();
    let (count, failed) = write(&producer, plan).await;
    faults.extend(failed);
    let wrote = began.elapsed();
    written.store(count, Ordering::Release);
    match timeout(PATIENCE, reading).await {
        Ok(read) => faults.extend(read.context("the reading task")?),
        Err(_) => faults.push(format!("the records were not read within {} s", PATIENCE.as_secs())),
    }

    let fetched = std::mem::take(&mut *fetched.lock().unwrap_or_else(PoisonError::into_inner));
    let made = std::mem::take(&mut *made.lock().unwrap_or_else(PoisonError::into_inner));
    faults.extend(judge_fetches(&fetched, plan.lifetime, wrote));
    // All connections are made at the beginning, and their sessions are renewed where they are.
    let late = made.iter().filter(|at| at.saturating_duration_since(began) > plan.lifetime / 2).count();
    if late > 0 {
        faults.push(format!("{late} connections were made after half of a token's life"));
    }
    let mut text = String::new();
    writeln!(
        text,
        "{count} records in {} s ({} per second), tokens and sessions of {} s: {} tokens fetched, {} connections made, {late} of \
         them after half of a token's life, {} faults",
        wrote.as_secs(),
        (count as f64 / wrote.as_secs_f64()) as u64,
        plan.lifetime.as_secs(),
        fetched.len(),
        made.len(),
        faults.len(),
    )?;
    for fault in faults.iter().take(20) {
        writeln!(text, "fault: {fault}")?;
    }
    Ok(Report { text, faults })
}

/// Writes records at the plan's rate to each partition in turn; how many were written, and what failed.
async fn write(producer: &Producer, plan: &Plan) -> (u64, Option<String>) {
    let (began, mut sent) = (Instant::now(), 0);
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while began.elapsed() < plan.time {
        steps.tick().await;
        let due = (began.elapsed().as_secs_f64() * plan.rate as f64) as u64;
        while sent < due {
            let partition = (sent % u64::from(plan.partitions)) as i32;
            let value = (sent / u64::from(plan.partitions)).to_be_bytes();
            let record = Record::to(TOPIC).partition(partition).value(&value[..]);
            if let Err(error) = producer.post(record).await {
                return (sent, Some(format!("a record was not taken: {error}")));
            }
            sent += 1;
        }
    }
    let flushed = producer.flush().await;
    (sent, flushed.err().map(|error| format!("records were not written: {error}")))
}

/// Reads until as many records are read as were written. Each partition must have its records once, in their order.
async fn read(mut consumer: Consumer, written: Arc<AtomicU64>) -> Vec<String> {
    let (mut next, mut count, mut faults) = (BTreeMap::new(), 0, Vec::new());
    while count < written.load(Ordering::Acquire) {
        // The end may become known while there is nothing more to read.
        let Ok(batch) = timeout(Duration::from_secs(1), consumer.next()).await else { continue };
        let batch = match batch {
            Ok(Some(batch)) => batch,
            Ok(None) => break,
            Err(error) => {
                faults.push(format!("reading failed: {error}"));
                break;
            }
        };
        let expected: &mut u64 = next.entry(batch.partition()).or_default();
        for record in &batch {
            let value = record.value().and_then(|value| <[u8; VALUE_BYTES]>::try_from(value).ok());
            let value = value.map_or(u64::MAX, u64::from_be_bytes);
            if value != *expected {
                let (partition, offset) = (batch.partition(), record.offset());
                faults
                    .push(format!("partition {partition}, offset {offset}: record {value}, not {expected}"));
            }
            *expected = value.wrapping_add(1);
            count += 1;
        }
        consumer.done(&batch);
    }
    if let Err(error) = consumer.close().await {
        faults.push(format!("the last commit failed: {error}"));
    }
    faults
}

/// One token per lifetime: each fetch comes when most of the last token's life is over.
fn judge_fetches(fetched: &[Instant], lifetime: Duration, time: Duration) -> Vec<String> {
    let mut faults = Vec::new();
    for pair in fetched.windows(2) {
        let share = (pair[1] - pair[0]).as_secs_f64() / lifetime.as_secs_f64();
        if !(FETCHED_AFTER_MIN..=FETCHED_AFTER_MAX).contains(&share) {
            faults.push(format!("a token was fetched after {share:.2} of the last one's life"));
        }
    }
    let least = (time.as_secs_f64() / (lifetime.as_secs_f64() * FETCHED_AFTER_MAX)) as usize;
    if fetched.len() < least {
        faults.push(format!("{} tokens were fetched, where {least} are needed", fetched.len()));
    }
    faults
}

/// Issues tokens for `alice` that nobody has signed (KIP-255), and notes when.
fn issue(
    fetched: Arc<Mutex<Vec<Instant>>>,
    lifetime: Duration,
) -> impl Fn() -> std::future::Ready<Result<Token, milena::ConnectError>> + Send + Sync {
    move || {
        fetched.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        // With fractions of a second: a short token would otherwise be much shorter than it says.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let (from, until) = (now.as_secs_f64(), (now + lifetime).as_secs_f64());
        let claims = format!(r#"{{"sub":"alice","iat":{from:.3},"exp":{until:.3}}}"#);
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let token = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims));
        std::future::ready(Ok(Token::new(token, lifetime)))
    }
}

/// TCP, which notes when a connection is made.
struct Counting {
    tcp: Tcp,
    made: Arc<Mutex<Vec<Instant>>>,
}

impl Connect for Counting {
    fn resolve(&self, address: &Address) -> Resolving {
        self.tcp.resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(Instant::now());
        self.tcp.connect(address, at)
    }
}

/// Collects what the client warns of: a request that failed and was sent again is a warning at the latest when it failed
/// twice.
#[derive(Debug, Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN && metadata.target() == "milena"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Values<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            let _ = write!(text, "{}={value:?} ", field.name());
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Writes and reads as one client that logs in at `bootstrap` with tokens that nobody has signed. What the client warns of is a
/// fault.
///
/// # Errors
/// When the client cannot begin.
pub fn run(bootstrap: &str, plan: &Plan) -> anyhow::Result<Report> {
    ensure!(plan.lifetime >= Duration::from_secs(2), "a token lasts for two seconds at least");
    let warnings = Warnings::default();
    // All of the client runs on this thread.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let dispatch = tracing::Dispatch::new(warnings.clone());
    let mut report =
        tracing::dispatcher::with_default(&dispatch, || runtime.block_on(work(bootstrap, plan)))?;
    for warning in warnings.all() {
        let _ = writeln!(report.text, "fault: the client warned: {warning}");
        report.faults.push(warning);
    }
    Ok(report)
}
