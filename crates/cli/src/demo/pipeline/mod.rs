//! `milena demo pipeline`: flights go through a pipeline whose handler fails now and then, and each is found again in one place.
//!
//! ```text
//!  writer ─▶ flights ─▶ crew: members, each a pipeline ─▶ done
//!              ▲          │        └─▶ retry topics ─▶ crew
//!              │          ▼
//!              └─ redrive ── dead        watches ─▶ alerts ─▶ receiver, a webhook on this machine
//! ```
//!
//! This file has the options, the topics and the course of a run. What happens to which record is [`plan`]'s, the failure drills
//! are [`drill`]'s, and [`places`] judges what [`check`] has read.

mod check;
mod crew;
mod drill;
mod events;
mod places;
mod plan;
mod receiver;
mod report;
mod work;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use milena::metrics::Registry;
use milena::{Client, Header, NewTopic, Record};
use milena_pipeline::Order;
use milena_pipeline::alerts::{Alerts, AlertsHandle, Rule, Webhook};
use tokio::sync::watch;

use self::crew::{Crew, Terms};
pub(crate) use self::drill::Drill;
use self::events::Events;
use self::places::Topic;
use self::plan::{Fate, Plan};
use self::receiver::Receiver;
use self::report::{Check, Report};
use self::work::{Slow, Work};
use super::flights::Flights;
use super::run::INDEX_HEADER;
use super::{Ground, say, unique_name};
use crate::cluster::{Connected, Settings, seconds};
use crate::commands::{dashboards, dlq};
use crate::exit::{Exit, Failure};
use crate::interrupt::{GRACE, Interrupt};
use crate::units::{Count, per_second};

const EXAMPLES: &str = "\
Examples:
  milena demo pipeline                             faults, retries, dead letters, an alert, a redrive
  milena demo pipeline --drill stuck-key           one failure, and what to look at
  milena demo pipeline --bootstrap localhost:9092  any Kafka
  milena demo pipeline --records 100000 --seconds 30 --fault-rate 20 --order none";

/// Process flights with a pipeline whose handler fails now and then: attempts in place, retry topics, dead letters, an alert to a
/// webhook on this machine, and a redrive when the handler's bug is fixed. At the end every flight must be in exactly one place:
/// among the processed ones or among the dead letters.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The cluster to use. Default: an embedded cluster of three nodes is started
    #[arg(short, long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,

    /// Let this go wrong, and say what to look at. Default: a bit of everything
    #[arg(long, value_name = "DRILL")]
    drill: Option<Drill>,

    /// Process N flights
    #[arg(short = 'n', long, value_name = "N", default_value = "5000", value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    records: u32,

    /// Write the flights over SECONDS. What fails takes longer
    #[arg(long, value_name = "SECONDS", default_value = "8", value_parser = seconds)]
    seconds: Duration,

    /// The share of flights that fail, in percent
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
    fault_rate: f64,

    /// Which records may be in work at the same time: those of different keys, of different partitions, or all
    #[arg(long, default_value = "key")]
    order: OrderOf,

    /// How many records each member may have in work at the same time
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    concurrency: u32,

    /// The worker tasks of each member. Default: one per core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    workers: Option<u32>,

    /// The number of partitions of each topic
    #[arg(short, long, default_value = "6", value_parser = clap::value_parser!(i32).range(2..=1000))]
    partitions: i32,

    /// A file of flights, as CSV or gzipped CSV. Default: data/flights.csv.gz if it exists, else a built-in sample
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,

    /// Where metrics are served while it runs. Default: a free port of this machine
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0", hide_default_value = true)]
    metrics: SocketAddr,

    /// Where dashboards and alert rules are written. Default: milena-dashboards in the directory for temporary files
    #[arg(long, value_name = "DIR")]
    dashboards: Option<PathBuf>,

    /// Do not delete the topics and the groups at the end
    #[arg(long)]
    keep: bool,

    /// Print the report as one JSON object, and nothing else
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    settings: Settings,

    /// Fail if nothing happens for SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    timeout: Duration,
}

/// The order as an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OrderOf {
    Key,
    Partition,
    None,
}

impl From<OrderOf> for Order {
    fn from(order: OrderOf) -> Self {
        match order {
            OrderOf::Key => Self::Key,
            OrderOf::Partition => Self::Partition,
            OrderOf::None => Self::None,
        }
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let percent: Option<f64> = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
    percent.filter(|percent| (0.0..=100.0).contains(percent)).ok_or_else(|| "write 0 to 100".into())
}

/// Offsets by topic and partition.
type Committed = BTreeMap<(String, i32), i64>;

/// The names of a run.
#[derive(Clone)]
struct Names {
    prefix: String,
    flights: String,
    done: String,
    dead: String,
    group: String,
}

impl Names {
    fn new() -> Self {
        let prefix = unique_name();
        let of = |what: &str| format!("{prefix}.{what}");
        Self { flights: of("flights"), done: of("done"), dead: of("dead"), group: of("board"), prefix }
    }

    /// The topics of the run that there are: ours, and the retry topics.
    async fn topics(&self, client: &Client) -> Result<Vec<String>, Failure> {
        let topics = client.admin().topics().await?.into_iter().map(|topic| topic.name);
        Ok(topics.filter(|name| name.starts_with(&self.prefix)).collect())
    }

    /// Which topic it is. None for a retry topic.
    fn place(&self, topic: &str) -> Option<Topic> {
        match topic {
            topic if topic == self.flights => Some(Topic::Flights),
            topic if topic == self.done => Some(Topic::Done),
            topic if topic == self.dead => Some(Topic::Dead),
            _ => None,
        }
    }
}

/// A run.
struct Run {
    drill: Option<Drill>,
    record_count: u32,
    seconds: Duration,
    flights: Flights,
    client: Client,
    names: Names,
    work: Arc<Work>,
    crew: Arc<Crew>,
    events: Arc<Events>,
    /// How many flights may be written by now.
    allowed: watch::Sender<u32>,
    /// What was committed when a member was killed.
    crashed_at: OnceLock<Committed>,
}

/// How often a line of progress is printed.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// How long an open alert is waited for until it is resolved.
const RESOLVED_MAX: Duration = Duration::from_secs(20);
/// The window of the alert's rule: as short as a demo.
const WINDOW: Duration = Duration::from_secs(3);

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    if args.drill == Some(Drill::StuckKey) && args.order == OrderOf::Partition {
        let message =
            "--drill stuck-key with --order partition: other keys wait for the partition's first record";
        return Err(Failure::usage(message));
    }
    let data = args.data.clone();
    let opening = tokio::task::spawn_blocking(move || Flights::open(data.as_deref()));
    let opening = async { opening.await.map_err(|e| Failure::failed(e.to_string()))? };
    let flights = interrupt.or(opening).await?;
    let events = Arc::new(Events::new(!args.json));
    let registry = Registry::new();
    let address = args.metrics;
    let server = milena_observe::serve(address, registry.clone()).await;
    let server =
        server.map_err(|error| Failure::failed(format!("cannot serve metrics at {address}: {error}")))?;
    let finding = Ground::find(args.bootstrap.as_deref(), &args.settings, args.timeout, Some(&registry));
    let ground = interrupt.or(finding).await?;
    let names = Names::new();
    let played = async {
        create_topics(args, &ground, &names).await?;
        show_metrics(args, &server, &events)?;
        play(args, flights, &ground, &names, events, interrupt).await
    };
    let ended = played.await;
    let cleared = tokio::select! {
        cleared = clear(args, ground, &names) => cleared,
        () = interrupt.asked_again() => Ok(()),
    };
    ended.and(cleared)
}

/// Says where the metrics are, and writes the dashboards for them.
fn show_metrics(args: &Args, server: &milena_observe::Server, events: &Events) -> Result<(), Failure> {
    events.line(format_args!("metrics      http://{}/metrics", server.address()));
    if args.json && args.dashboards.is_none() {
        return Ok(());
    }
    let directory = args.dashboards.clone();
    let directory = directory.unwrap_or_else(|| std::env::temp_dir().join("milena-dashboards"));
    dashboards::write(&directory, dashboards::RUNBOOKS)?;
    events.line(format_args!(
        "dashboards   {}, for Grafana, with alert rules for Prometheus",
        directory.display()
    ));
    Ok(())
}

async fn create_topics(args: &Args, ground: &Ground, names: &Names) -> Result<(), Failure> {
    for topic in [&names.flights, &names.done, &names.dead] {
        let mut new = NewTopic::new(topic).partitions(args.partitions).replication(ground.replicas);
        if args.drill == Some(Drill::DeadLettersDown) && *topic == names.dead {
            new = new.config("max.message.bytes", drill::BYTES_DOWN.to_string());
        }
        ground.client.admin().create_topic(new).await?;
    }
    Ok(())
}

/// Deletes topics and groups, unless they are to be kept, and stops the embedded cluster.
async fn clear(args: &Args, ground: Ground, names: &Names) -> Result<(), Failure> {
    if ground.is_embedded() {
        return ground.end().await;
    }
    if args.keep {
        return Ok(());
    }
    let admin = ground.client.admin().timeout(args.timeout.min(GRACE));
    let topics = names.topics(&ground.client).await?;
    for (_, deleted) in admin.delete_topics(&topics).await? {
        deleted?;
    }
    let groups = [names.group.clone(), dlq::replay_name(&names.dead, None)];
    for (_, deleted) in admin.delete_groups(&groups).await {
        match deleted {
            Err(error) if error.code_name() == Some("GROUP_ID_NOT_FOUND") => {}
            deleted => deleted?,
        }
    }
    Ok(())
}

/// Runs all of it, and prints the report.
async fn play(
    args: &Args,
    flights: Flights,
    ground: &Ground,
    names: &Names,
    events: Arc<Events>,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let client = ground.client.clone();
    let producer = client.producer().build().await?;
    let plan = Plan::new(args.drill, args.fault_rate);
    let slow = slow(args.drill, args.records, plan, &flights);
    let work = Arc::new(Work::new(args.records, plan, slow, names.done.clone(), producer));
    let terms = Terms {
        client: client.clone(),
        group: names.group.clone(),
        flights_topic: names.flights.clone(),
        dead_topic: names.dead.clone(),
        order: args.order.into(),
        concurrency: args.concurrency as usize,
        workers: args.workers.map(|workers| workers as usize),
    };
    let crew = Arc::new(Crew::new(terms, Arc::clone(&work), Arc::clone(&events)));
    let run = Run {
        drill: args.drill,
        record_count: args.records,
        seconds: args.seconds,
        flights,
        client,
        names: names.clone(),
        work,
        crew,
        events,
        allowed: watch::Sender::new(u32::MAX),
        crashed_at: OnceLock::new(),
    };
    introduce(args, ground, &run);
    let receiver = Receiver::start(Arc::clone(&run.events)).await;
    let receiver = receiver.map_err(|e| Failure::failed(format!("the webhook cannot be started: {e}")))?;
    let alerts = watch_over(&run, receiver.url())?;
    for _ in 0..args.drill.map_or(1, Drill::members) {
        run.crew.start();
    }
    let (mut checks, mut replayed, mut is_interrupted) = (Vec::new(), 0, false);
    let course = async {
        let ((), found) = tokio::try_join!(write(&run), drill::script(&run))?;
        checks.extend(found);
        course(&run, &alerts, interrupt).await
    };
    let ended = tokio::select! {
        ended = course => ended,
        failure = watch_progress(&run, args.timeout) => Err(failure),
        () = interrupt.asked() => {
            is_interrupted = true;
            Ok(0)
        }
    };
    // What is finished is committed, also when the run has failed.
    let stopped = run.crew.stop().await;
    replayed += ended?;
    stopped?;
    alerts.close(Duration::from_secs(2)).await;
    let report = report(args, ground, &run, checks, replayed, is_interrupted).await?;
    let text = if args.json {
        serde_json::to_string(&report).map_err(|e| Failure::failed(e.to_string()))?
    } else {
        report.to_string()
    };
    say(&(text + "\n"))?;
    match (report.verified, is_interrupted) {
        (true, false) => Ok(()),
        (true, true) => Err(Failure::interrupted()),
        (false, _) => {
            Err(Failure::new(Exit::CheckFailed, "not everything is as it should be; the report says what"))
        }
    }
}

/// Which records take long.
fn slow(drill: Option<Drill>, record_count: u32, plan: Plan, flights: &Flights) -> Slow {
    match drill {
        Some(Drill::StuckKey) => {
            let mut counts = BTreeMap::<&str, u32>::new();
            for key in flights.cycle().take(record_count as usize).filter_map(|row| flights.key(row)) {
                *counts.entry(key).or_default() += 1;
            }
            let most = counts.into_iter().max_by_key(|(_, count)| *count);
            most.map_or(Slow::Nothing, |(key, _)| Slow::Key(key.to_owned()))
        }
        Some(Drill::SlowPartition) => Slow::Partition(0),
        None => {
            let fine = (record_count / 3..record_count).find(|index| plan.fate(*index) == Fate::Fine);
            fine.map_or(Slow::Nothing, Slow::Record)
        }
        Some(Drill::Poison | Drill::Rebalance | Drill::Crash | Drill::DeadLettersDown) => Slow::Nothing,
    }
}

fn introduce(args: &Args, ground: &Ground, run: &Run) {
    let events = &run.events;
    events.line(format_args!("cluster      {}", ground.cluster));
    events.line(format_args!("topic        {}, {} partitions", run.names.flights, args.partitions));
    events.line(format_args!(
        "pipeline     {} records at a time, order {:?}, {} % of {} flights fail",
        args.concurrency,
        Order::from(args.order),
        args.fault_rate,
        Count(args.records.into())
    ));
    if let Some(drill) = args.drill {
        let name = drill.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        events.line(format_args!("drill        {name}. {}", drill.look_at()));
    }
}

/// Rules over all members, and the webhook.
fn watch_over(run: &Run, url: &str) -> Result<AlertsHandle, Failure> {
    let crew = Arc::clone(&run.crew);
    let resolve_after = Duration::from_secs(1);
    let rules =
        [Rule::dead_letter_ratio(1.0).window(WINDOW), Rule::records_stall(), Rule::dead_letter_writes_fail()];
    let wrong = |error: milena_pipeline::alerts::AlertsError| Failure::failed(error.to_string());
    let mut alerts = Alerts::of("flights").every(Duration::from_millis(200));
    for rule in rules {
        alerts = alerts.rule(rule.resolve_after(resolve_after));
    }
    alerts.to(Webhook::json(url).map_err(wrong)?).watch_with(move || crew.snapshot()).map_err(wrong)
}

/// Writes the flights, over time.
async fn write(run: &Run) -> Result<(), Failure> {
    let producer = run.client.producer().build().await?;
    let (begun, mut json) = (Instant::now(), Vec::with_capacity(512));
    let mut allowed = run.allowed.subscribe();
    let mut others = 0;
    for (index, row) in (0..run.record_count).zip(run.flights.cycle()) {
        let due = run.seconds.mul_f64(f64::from(index) / f64::from(run.record_count));
        let ahead = due.saturating_sub(begun.elapsed());
        if !ahead.is_zero() {
            tokio::time::sleep(ahead).await;
        }
        // The sender is the run's.
        let _ = allowed.wait_for(|allowed| index < *allowed).await;
        let key = run.flights.encode(row, &mut json).map(str::as_bytes);
        let bytes = index.to_be_bytes();
        let headers = [Header { key: INDEX_HEADER, value: Some(&bytes) }];
        let record = Record::to(&run.names.flights).key_or_null(key).value(&json).headers(&headers);
        let delivery = producer.enqueue(record).await?;
        others += u64::from(!run.work.waits_for_others(key, delivery.partition()));
        run.work.written.fetch_add(1, Ordering::Relaxed);
    }
    producer.flush().await?;
    run.work.all_written(others);
    Ok(())
}

/// What happens after the flights are written, until each has ended. Answers with the number of letters that were replayed.
async fn course(run: &Run, alerts: &AlertsHandle, interrupt: &Interrupt) -> Result<u64, Failure> {
    let work = &run.work;
    let all = u64::from(run.record_count);
    let expected = (0..run.record_count).filter(|index| !is_fatal(run, *index)).count() as u64;
    // What is given up is counted when its letter is written.
    until(|| work.ended.load(Ordering::Relaxed) >= all && run.crew.stats().dead >= all - expected).await;
    run.events.say("every flight has ended");
    resolved(run, alerts).await;
    let dead = run.crew.stats().dead;
    if dead == 0 {
        return Ok(0);
    }
    work.is_fixed.store(true, Ordering::Relaxed);
    let (processed, dead) = (work.processed.load(Ordering::Relaxed), dead);
    run.events.say(format_args!("the handler's bug is fixed: {} dead letters are replayed", Count(dead)));
    let cluster =
        Connected { client: run.client.clone(), timeout: Duration::from_secs(10), creates_topics: false };
    let replayed = dlq::redrive(&cluster, &run.names.dead, interrupt).await?;
    until(|| {
        let now = work.processed.load(Ordering::Relaxed) + run.crew.stats().dead;
        now >= processed + dead + replayed
    })
    .await;
    run.events.say(format_args!("all {} have ended again", Count(replayed)));
    resolved(run, alerts).await;
    Ok(replayed)
}

/// Whether the first attempts give the record up.
fn is_fatal(run: &Run, index: u32) -> bool {
    matches!(run.work.plan.fate(index), Fate::Bug | Fate::Hopeless)
}

/// Waits until no alert is open, but not for ever.
async fn resolved(run: &Run, alerts: &AlertsHandle) {
    // The rules may not have looked since the last record.
    tokio::time::sleep(Duration::from_millis(500)).await;
    if alerts.open().is_empty() && run.events.alerts().iter().all(|alert| alert.resolved.is_some()) {
        return;
    }
    run.events.say("waiting until the alert is resolved");
    let resolved = until(|| run.events.alerts().iter().all(|alert| alert.resolved.is_some()));
    // If it is not, the report says so.
    let _ = tokio::time::timeout(RESOLVED_MAX, resolved).await;
}

/// Waits until something is so. The run's time limit bounds it.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Prints what is going on until a member fails, or nothing goes on any more.
async fn watch_progress(run: &Run, timeout: Duration) -> Failure {
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + LINE_INTERVAL, LINE_INTERVAL);
    let (mut earlier, mut moved, mut moved_at) = (0, 0, Instant::now());
    loop {
        tick.tick().await;
        if let Some(failure) = run.crew.failure().await {
            return failure;
        }
        let (totals, processed) = (run.crew.stats(), run.work.processed.load(Ordering::Relaxed));
        let written = run.work.written.load(Ordering::Relaxed);
        let now = processed + written + totals.retries + totals.moved + totals.dead;
        if now == moved {
            if moved_at.elapsed() >= timeout {
                return Failure::new(Exit::Unreachable, format!("nothing has happened for {timeout:?}"));
            }
            continue;
        }
        (moved, moved_at) = (now, Instant::now());
        run.events.say(format_args!(
            "written {} · processed {} ({}/s) · failed attempts {} · to retry topics {} · dead letters {}",
            Count(written),
            Count(processed),
            per_second(processed - earlier, LINE_INTERVAL),
            Count(totals.failed_attempts),
            Count(totals.moved),
            Count(totals.dead)
        ));
        earlier = processed;
    }
}

async fn report(
    args: &Args,
    ground: &Ground,
    run: &Run,
    script: Vec<Check>,
    replayed: u64,
    is_interrupted: bool,
) -> Result<Report, Failure> {
    let seconds = run.events.elapsed().as_secs_f64();
    let read = check::read(&run.client, &run.names, run.record_count, run.crashed_at.get()).await?;
    let (found, totals, alerts) = (read.places.found(), run.crew.stats(), run.events.alerts());
    let mut checks = Vec::new();
    if is_interrupted {
        let is_clean = found.twice == 0 && found.foreign == 0 && found.nowhere <= read.waiting;
        checks.push(Check::new("every record has ended in one place, or waits", is_clean));
    } else {
        let is_whole = found.records == u64::from(run.record_count) && found.is_clean();
        checks.push(Check::new("every record has ended in exactly one place", is_whole));
        checks.push(Check::new("every record that was read is committed", read.waiting == 0));
        checks.extend(script);
        checks.extend(checks_of(run, &alerts, totals.dead, found.dead));
    }
    let verified = checks.iter().all(|check| check.ok);
    let drill = args.drill.and_then(|drill| drill.to_possible_value());
    Ok(Report {
        drill: drill.map(|drill| drill.get_name().to_owned()),
        cluster: ground.cluster.clone(),
        topic: run.names.flights.clone(),
        order: args.order.to_possible_value().map_or_else(String::new, |order| order.get_name().to_owned()),
        concurrency: args.concurrency as usize,
        fault_percent: args.fault_rate,
        seconds,
        found,
        waiting: read.waiting,
        failed_attempts: totals.failed_attempts,
        retries: totals.retries,
        moved: totals.moved,
        stalls: totals.stalls,
        replayed,
        alerts,
        interrupted: is_interrupted,
        checks,
        verified,
    })
}

/// What a run that has ended by itself must have shown.
fn checks_of(run: &Run, alerts: &[events::AlertSeen], letters: u64, dead: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    let told = |name: &str| alerts.iter().any(|alert| alert.name == name);
    if let Some(Drill::StuckKey | Drill::SlowPartition) = run.drill {
        let what = "all other flights ended while the slow ones waited";
        checks.push(Check::new(what, run.work.others_were_not_held_up()));
    }
    if run.drill == Some(Drill::DeadLettersDown) {
        checks.push(Check::new(
            "the webhook was told that dead letters cannot be written",
            told("DeadLetterWritesFail"),
        ));
    }
    if run.drill == Some(Drill::Poison) && letters > 0 {
        checks
            .push(Check::new("the webhook was told that many records are given up", told("DeadLetterRatio")));
    }
    if !alerts.is_empty() {
        let is_resolved = alerts.iter().all(|alert| alert.resolved.is_some());
        checks.push(Check::new("the webhook was told that each alert is resolved", is_resolved));
    }
    if letters > 0 {
        let hopeless = (0..run.record_count).filter(|index| run.work.plan.fate(*index) == Fate::Hopeless);
        let what = "the redrive has left only the hopeless flights among the dead letters";
        checks.push(Check::new(what, dead == hopeless.count() as u64));
    }
    checks
}
