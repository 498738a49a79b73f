//! `milena produce`: reads lines and sends them as records.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use milena::{Acks, Compression, Delivery, Header, Producer, Record};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::cluster::Cluster;
use crate::commands::topics::{check_partitions, describe_topic};
use crate::escape::unescape;
use crate::exit::{Exit, Failure};
use crate::input::{Block, Cutter};
use crate::interrupt::{GRACE, Interrupt};
use crate::json;
use crate::output::tell;
use crate::progress::{Progress, TICK};
use crate::recipe::{Recipe, parse_header};

const EXAMPLES: &str = "\
Examples:
  milena topics create greetings && echo hello | milena produce greetings
  milena produce orders -K: < orders.txt              each line is KEY:VALUE
  milena produce orders -H source=import orders.txt   every record gets a header
  milena consume a --json -e | milena produce b --json";

/// Send each line of the input as a record. The exit code says whether all records were acknowledged.
#[derive(Debug, clap::Args)]
#[command(after_long_help = [EXAMPLES, json::HELP].join("\n\n"), after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The topic
    pub(crate) topic: String,

    /// The file to read; - is stdin
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,

    /// Each line is a JSON object with value, key, headers, partition and timestamp
    #[arg(short = 'J', long, conflicts_with_all = ["key_delimiter", "delimiter", "null", "empty_is_null"])]
    pub(crate) json: bool,

    /// The text that ends a record, instead of a newline; an empty one makes the whole input one record
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = "\\n")]
    pub(crate) delimiter: String,

    /// The text between a key and its value; a line without it has a null key
    #[arg(short = 'K', long, value_name = "DELIMITER")]
    pub(crate) key_delimiter: Option<String>,

    /// The key of records that have none
    #[arg(short, long)]
    pub(crate) key: Option<String>,

    /// A header for every record; without = its value is null; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,

    /// Send keys and values equal to MARKER as null
    #[arg(long, value_name = "MARKER")]
    pub(crate) null: Option<String>,

    /// Send empty keys and values as null; the same as --null ''
    #[arg(short = 'Z', conflicts_with = "null")]
    pub(crate) empty_is_null: bool,

    /// The partition of every record. Default: the partition in the JSON line, else the key's hash chooses
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(0..))]
    pub(crate) partition: Option<i32>,

    /// Ignore the partition in JSON lines: the key's hash chooses
    #[arg(long, requires = "json", conflicts_with = "partition")]
    pub(crate) repartition: bool,

    /// The codec that compresses batches. Default: none
    #[arg(short = 'z', long, value_name = "CODEC")]
    pub(crate) compression: Option<Codec>,

    /// Which replicas must have a record before it is acknowledged: all (in sync, the default), 1 (the leader alone), or
    /// 0 (none: the broker does not acknowledge)
    #[arg(long)]
    pub(crate) acks: Option<AcksFrom>,

    /// Print no counts if all records were acknowledged
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

/// The codec that compresses batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        match codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip,
            Codec::Snappy => Self::Snappy,
            Codec::Lz4 => Self::Lz4,
            Codec::Zstd => Self::Zstd,
        }
    }
}

/// Which replicas must have a record before it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AcksFrom {
    #[value(name = "0")]
    Nobody,
    #[value(name = "1")]
    Leader,
    #[value(alias = "-1")]
    All,
}

impl From<AcksFrom> for Acks {
    fn from(acks: AcksFrom) -> Self {
        match acks {
            AcksFrom::Nobody => Self::None,
            AcksFrom::Leader => Self::Leader,
            AcksFrom::All => Self::All,
        }
    }
}

impl Args {
    fn recipe(&self) -> Result<Recipe, String> {
        let bytes = |text: &Option<String>| text.as_deref().map(unescape).transpose();
        let key_delimiter = bytes(&self.key_delimiter)?;
        if key_delimiter.as_ref().is_some_and(Vec::is_empty) {
            return Err("-K needs a delimiter that is not empty".into());
        }
        Ok(Recipe {
            json: self.json,
            repartition: self.repartition,
            key_delimiter,
            key: self.key.as_ref().map(|key| key.clone().into_bytes()),
            headers: self.headers.iter().map(|header| parse_header(header)).collect(),
            null: if self.empty_is_null { Some(Vec::new()) } else { bytes(&self.null)? },
            partition: self.partition,
        })
    }

    /// The length in bytes of the longest piece of input for a record of `record_bytes_max`. In JSON one byte of a value
    /// takes up to six, as in `\u0000`.
    fn text_bytes_max(&self, record_bytes_max: usize) -> usize {
        const DELIMITERS: usize = 64 << 10;
        let for_each = if self.json { 6 } else { 1 };
        record_bytes_max.saturating_mul(for_each).saturating_add(DELIMITERS)
    }

    fn open(file: &Path) -> Result<Box<dyn Read + Send>, Failure> {
        if file.as_os_str() == "-" {
            return Ok(Box::new(io::stdin()));
        }
        let wrong = |exit, why: &dyn fmt::Display| {
            Failure::new(exit, format!("cannot read {}: {why}", file.display()))
        };
        match File::open(file) {
            Ok(opened) if opened.metadata().is_ok_and(|metadata| metadata.is_dir()) => {
                Err(wrong(Exit::Usage, &"it is a directory"))
            }
            Ok(opened) => Ok(Box::new(opened)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(wrong(Exit::NotFound, &error)),
            Err(error) => Err(wrong(Exit::Usage, &error)),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let recipe = args.recipe().map_err(Failure::usage)?;
    let delimiter = unescape(&args.delimiter).map_err(Failure::usage)?;
    let mut sending = match interrupt.or(prepare(args)).await {
        Ok(sending) => sending,
        Err(failure) => return Tally::default().verdict(Some(failure), args.quiet),
    };
    let flow = Rc::clone(&sending.flow);
    let stalled = || flow.stalled(args.cluster.timeout_asked());

    let Some(input) = sending.input.take() else { return Ok(()) };
    let mut blocks = blocks(input, delimiter, args.text_bytes_max(sending.record_bytes_max));
    let mut ended = tokio::select! {
        sent = sending.send_all(&mut blocks, &recipe, args.quiet) => sent.map_or_else(Ended::Failed, |()| Ended::Sent),
        failure = stalled() => Ended::Stalled(failure),
        () = interrupt.asked() => Ended::Interrupted,
    };
    // A failure stops further records. Those already sent are still waited for, so that the counts are final.
    if let Ended::Failed(_) = ended {
        tokio::select! {
            () = sending.settle_all() => {}
            failure = stalled() => ended = Ended::Stalled(failure),
            () = interrupt.asked() => ended = Ended::Interrupted,
        }
    }
    if let Ended::Interrupted = ended {
        tokio::select! {
            () = sending.settle_all() => {}
            () = tokio::time::sleep(GRACE) => {}
            () = interrupt.asked_again() => {}
        }
    }
    sending.give_up();
    let failure = match ended {
        Ended::Sent => None,
        Ended::Failed(failure) => failure,
        Ended::Stalled(failure) => Some(failure),
        Ended::Interrupted => Some(Failure::interrupted()),
    };
    sending.tally.verdict(failure, args.quiet)
}

/// How sending ended.
enum Ended {
    Sent,
    /// The input cannot be read or sent; or, if there is no failure here, the tally has the failure of a refused record.
    Failed(Option<Failure>),
    /// No record was acknowledged in time.
    Stalled(Failure),
    Interrupted,
}

/// Opens the input and connects, as far as is needed to send the first record.
async fn prepare(args: &Args) -> Result<Sending, Failure> {
    let file = args.file.clone();
    // Opening a named pipe waits for its writer.
    let input =
        spawn_blocking(move || Args::open(&file)).await.map_err(|e| Failure::failed(e.to_string()))??;
    let cluster = args.cluster.connect().await?;
    // Check the topic first, so that a mistake in its name is an error before the first line is typed.
    let topic = describe_topic(&cluster, &args.topic).await?;
    check_partitions(&topic, args.partition)?;
    let mut producer = cluster.client.producer();
    if let Some(codec) = args.compression {
        producer = producer.compression(codec.into());
    }
    if let Some(acks) = args.acks {
        producer = producer.acks(acks.into());
    }
    let mut record_bytes_max = 0;
    let producer = producer.settings(|settings| record_bytes_max = settings.record_bytes_max);
    let producer = producer.build().await.map_err(|error| Failure::usage(error.to_string()))?;
    Ok(Sending {
        input: Some(input),
        record_bytes_max,
        producer,
        topic: args.topic.clone(),
        pending: VecDeque::new(),
        tally: Tally { is_unanswered: args.acks == Some(AcksFrom::Nobody), ..Tally::default() },
        flow: Rc::default(),
    })
}

/// Reads the input on its own thread, because a read from a pipe or a terminal cannot be cancelled.
fn blocks(
    input: Box<dyn Read + Send>,
    delimiter: Vec<u8>,
    record_bytes_max: usize,
) -> mpsc::Receiver<io::Result<Block>> {
    // One block is sent while the next is read.
    let (send, blocks) = mpsc::channel(1);
    thread::spawn(move || {
        let mut cutter = Cutter::new(input, &delimiter, record_bytes_max);
        while let Some(block) = cutter.next_block().transpose() {
            let is_last = block.is_err();
            if send.blocking_send(block).is_err() || is_last {
                break;
            }
        }
    });
    blocks
}

/// Sends records and waits for their deliveries.
struct Sending {
    input: Option<Box<dyn Read + Send>>,
    /// The largest record in bytes.
    record_bytes_max: usize,
    producer: Producer,
    topic: String,
    /// The deliveries in the order of sending, with the records' numbers in the input.
    pending: VecDeque<(u64, Delivery)>,
    tally: Tally,
    flow: Rc<Flow>,
}

/// How many records were sent and settled so far, from which a timeout sees whether the cluster makes progress.
#[derive(Debug, Default)]
struct Flow {
    begun: Cell<u64>,
    settled: Cell<u64>,
}

impl Flow {
    /// Completes when records were in flight for `limit` and none of them was settled and none was sent in that time.
    async fn stalled(&self, limit: Option<Duration>) -> Failure {
        let Some(limit) = limit else { return std::future::pending().await };
        let mut tick = tokio::time::interval(TICK);
        let (mut moved, mut moved_at) = ((0, 0), Instant::now());
        loop {
            tick.tick().await;
            let now = (self.begun.get(), self.settled.get());
            if now != moved || now.0 == now.1 {
                (moved, moved_at) = (now, Instant::now());
            } else if moved_at.elapsed() >= limit {
                return Failure::new(Exit::Unreachable, format!("no record was acknowledged for {limit:?}"));
            }
        }
    }
}

/// The most deliveries that wait: 10 MB of memory at most, and more records than are sent in a round trip.
const PENDING_MAX: usize = 200_000;
/// Settled deliveries are taken out after every N records: often enough to hold few, and rarely enough to cost nothing.
const LOOK_EVERY: usize = 10_000;

impl Sending {
    /// Sends the whole input, and waits until every record is settled. `Err` says why the rest is not sent; `Err(None)` means
    /// that a record was refused, whose failure is in the tally.
    async fn send_all(
        &mut self,
        blocks: &mut mpsc::Receiver<io::Result<Block>>,
        recipe: &Recipe,
        quiet: bool,
    ) -> Result<(), Option<Failure>> {
        let progress = Progress::counting(!quiet && !io::stdin().is_terminal());
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                block = blocks.recv() => match block {
                    None => break,
                    Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                        return Err(Some(Failure::usage(error.to_string())));
                    }
                    Some(Err(error)) => {
                        return Err(Some(Failure::failed(format!("cannot read the input: {error}"))));
                    }
                    Some(Ok(block)) => self.send(&block, recipe).await?,
                },
                _ = tick.tick() => {
                    self.settle_what_is_done().await;
                    progress.show(self.tally.acknowledged, self.tally.to_string());
                }
            }
            if self.tally.failed > 0 {
                return Err(None);
            }
        }
        self.settle_all().await;
        Ok(())
    }

    /// Sends a block's records. `Err` is the failure of the first record that cannot be sent; those before it are sent.
    async fn send(&mut self, block: &Block, recipe: &Recipe) -> Result<(), Failure> {
        for (number, piece) in block.records() {
            let line = recipe.apply(piece).map_err(|e| Failure::usage(format!("line {number}: {e}")))?;
            let Some(line) = line else { continue };
            // An empty vector does not allocate, so records without headers cost nothing here.
            let headers: Vec<_> =
                line.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
            let mut record = Record::to(&self.topic)
                .key_or_null(line.key.as_deref())
                .value_or_null(line.value.as_deref())
                .headers(&headers);
            record = line.partition.into_iter().fold(record, Record::partition);
            record = line.timestamp.into_iter().fold(record, Record::timestamp_ms);
            self.flow.begun.set(self.flow.begun.get() + 1);
            let delivery = self.producer.enqueue(record).await.map_err(|error| at_line(number, error))?;
            self.pending.push_back((number, delivery));
            if self.pending.len().is_multiple_of(LOOK_EVERY) {
                self.settle_what_is_done().await;
            }
            if self.pending.len() >= PENDING_MAX {
                self.settle_first().await;
            }
        }
        Ok(())
    }

    /// Counts settled deliveries from the front up to the first one that is not settled. Partitions overtake each other only
    /// by a little, so few settled deliveries wait longer.
    async fn settle_what_is_done(&mut self) {
        while self.pending.front().is_some_and(|(_, delivery)| delivery.is_settled()) {
            self.settle_first().await;
        }
    }

    /// Waits for every delivery; the producer's delivery timeout limits it.
    async fn settle_all(&mut self) {
        let producer = self.producer.clone();
        // Each delivery has its own result, so that of the flush is not needed. Both run at the same time, so that settled
        // records are counted while others wait.
        tokio::join!(async { drop(producer.flush().await) }, async {
            while !self.pending.is_empty() {
                self.settle_first().await;
            }
        });
    }

    /// Counts the records still in flight as failed, and as perhaps written: their result is not known.
    fn give_up(&mut self) {
        let unknown = self.pending.drain(..).len() as u64;
        self.tally.failed += unknown;
        self.tally.maybe_written += unknown;
    }

    async fn settle_first(&mut self) {
        // Take it out only after it is settled, so that dropping this future loses no delivery.
        let Some((number, delivery)) = self.pending.front_mut() else { return };
        let (number, outcome) = (*number, delivery.await);
        self.pending.pop_front();
        self.flow.settled.set(self.flow.settled.get() + 1);
        match outcome {
            Ok(_) => self.tally.acknowledged += 1,
            Err(error) => self.tally.failed(number, error),
        }
    }
}

fn at_line(number: u64, error: milena::Error) -> Failure {
    Failure::from(error).at(&format!("line {number}"))
}

/// Counts of the results so far.
#[derive(Debug, Default)]
struct Tally {
    /// Whether acks is 0: then brokers do not answer, and a record counts when it was written to the connection.
    is_unanswered: bool,
    acknowledged: u64,
    failed: u64,
    /// How many of the failed records may have been written.
    maybe_written: u64,
    first_failure: Option<Failure>,
    /// Whether that record was refused because of its own content.
    is_at_fault: bool,
}

impl Tally {
    fn failed(&mut self, number: u64, error: milena::Error) {
        self.failed += 1;
        self.maybe_written += u64::from(error.maybe_written());
        // If a broker refuses a batch because of one record, report that record and not those refused with it.
        let is_at_fault = !error.is_of_another_record();
        if self.first_failure.is_none() || (is_at_fault && !self.is_at_fault) {
            self.first_failure = Some(at_line(number, error));
            self.is_at_fault = is_at_fault;
        }
    }

    /// The result of the command: success, or the failure with the counts.
    fn verdict(mut self, stopped: Option<Failure>, quiet: bool) -> Result<(), Failure> {
        let Some(failure) = stopped.or_else(|| self.first_failure.take()) else {
            if !quiet {
                tell(&self);
            }
            return Ok(());
        };
        if failure.exit() == Exit::Interrupted {
            return Err(Failure::new(
                Exit::Interrupted,
                format!("interrupted: {self}; the rest was not sent"),
            ));
        }
        if self.acknowledged + self.failed == 0 {
            return Err(failure);
        }
        // If nothing was written, the cause decides the exit code.
        let exit = if self.acknowledged + self.maybe_written == 0 { failure.exit() } else { Exit::Partial };
        Err(failure.with_exit(exit).hint(format!("{self}; the rest was not sent.")))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.acknowledged == 1 { "" } else { "s" };
        let became = if self.is_unanswered { "sent, not acknowledged (acks=0)" } else { "acknowledged" };
        write!(f, "{} record{plural} {became}", self.acknowledged)?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        if self.maybe_written > 0 {
            write!(f, " ({} of them may have been written)", self.maybe_written)?;
        }
        Ok(())
    }
}
