//! `milena produce`: lines in, records out.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use milena::{Acks, Compression, Delivery, Header, Producer, Record};
use tokio::sync::mpsc;

use crate::args::Cluster;
use crate::commands::topics::{check_partitions, describe_topic};
use crate::escape::unescape;
use crate::exit::{Exit, Failure};
use crate::input::{Block, Cutter};
use crate::interrupt::Interrupt;
use crate::json;
use crate::progress::{Progress, TICK};
use crate::recipe::{Recipe, parse_header};

const EXAMPLES: &str = "\
Examples:
  milena topics create greetings && echo hello | milena produce greetings
  milena produce orders -K: < orders.txt              each line is KEY:VALUE
  milena produce orders -H source=import orders.txt   every record gets a header
  milena consume a --json -e | milena produce b --json";

/// Each line of the input becomes a record. The exit code says whether all were acknowledged.
#[derive(Debug, clap::Args)]
#[command(after_long_help = [EXAMPLES, json::HELP].join("\n\n"), after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The topic
    pub(crate) topic: String,

    /// The file to read, - for stdin
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,

    /// Every line is a JSON object with value, key, headers, partition, timestamp
    #[arg(short = 'J', long, conflicts_with_all = ["key_delimiter", "delimiter", "null", "empty_is_null"])]
    pub(crate) json: bool,

    /// Ends a record, in place of the line feed; an empty one makes the whole input one record
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = "\\n")]
    pub(crate) delimiter: String,

    /// Ends the key in front of the value; a line without it has a null key
    #[arg(short = 'K', long, value_name = "DELIMITER")]
    pub(crate) key_delimiter: Option<String>,

    /// The key of every record that has none of its own
    #[arg(short, long)]
    pub(crate) key: Option<String>,

    /// A header for every record, repeatable; without = its value is null
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,

    /// Send keys and values that equal MARKER as null
    #[arg(long, value_name = "MARKER")]
    pub(crate) null: Option<String>,

    /// Send empty keys and values as null; the same as --null ''
    #[arg(short = 'Z', conflicts_with = "null")]
    pub(crate) empty_is_null: bool,

    /// The partition of every record; by the key's hash otherwise, or as a JSON line says
    #[arg(short, long)]
    pub(crate) partition: Option<i32>,

    /// Let the key's hash choose even where a JSON line names a partition
    #[arg(long, requires = "json", conflicts_with = "partition")]
    pub(crate) repartition: bool,

    /// How batches are compressed; not at all otherwise
    #[arg(short = 'z', long, value_name = "CODEC")]
    pub(crate) compression: Option<Codec>,

    /// Who must have a record before it counts: all in-sync replicas (as when not said), 1 (the leader), 0 (nobody)
    #[arg(long)]
    pub(crate) acks: Option<AcksFrom>,

    /// Say nothing when all went well
    #[arg(short, long)]
    pub(crate) quiet: bool,

    #[command(flatten)]
    pub(crate) cluster: Cluster,
}

/// How batches are compressed.
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

/// Who must have a record before it counts as written.
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
        Ok(Recipe {
            json: self.json,
            repartition: self.repartition,
            key_delimiter: bytes(&self.key_delimiter)?,
            key: self.key.as_ref().map(|key| key.clone().into_bytes()),
            headers: self.headers.iter().map(|header| parse_header(header)).collect(),
            null: if self.empty_is_null { Some(Vec::new()) } else { bytes(&self.null)? },
            partition: self.partition,
        })
    }

    fn open(&self) -> Result<Box<dyn Read + Send>, Failure> {
        if self.file.as_os_str() == "-" {
            return Ok(Box::new(io::stdin()));
        }
        match File::open(&self.file) {
            Ok(file) => Ok(Box::new(file)),
            Err(error) => Err(Failure::not_found(format!("cannot read {}: {error}", self.file.display()))),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let recipe = args.recipe().map_err(Failure::usage)?;
    let delimiter = unescape(&args.delimiter).map_err(Failure::usage)?;
    let input = args.open()?;
    let client = args.cluster.connect().await?;
    // Told before the first line is read, and not only once there is one.
    let topic = describe_topic(&client, &args.topic, args.cluster.timeout).await?;
    check_partitions(&topic, args.partition)?;
    let mut producer = client.producer();
    if let Some(codec) = args.compression {
        producer = producer.compression(codec.into());
    }
    if let Some(acks) = args.acks {
        producer = producer.acks(acks.into());
    }
    let producer = producer.build().await.map_err(|error| Failure::usage(error.to_string()))?;

    let tally = Tally { is_unanswered: args.acks == Some(AcksFrom::Nobody), ..Tally::default() };
    let mut sending = Sending { producer, topic: &args.topic, pending: VecDeque::new(), tally };
    let mut blocks = blocks(input, delimiter);
    let progress = Progress::counting(!args.quiet && !io::stdin().is_terminal());
    let mut tick = tokio::time::interval(TICK);
    let stopped = loop {
        tokio::select! {
            block = blocks.recv() => match block {
                None => break None,
                Some(Err(error)) => break Some(Failure::failed(format!("cannot read the input: {error}"))),
                Some(Ok(block)) => {
                    let sent = tokio::select! {
                        sent = sending.send(&block, &recipe) => sent,
                        () = interrupt.asked() => Err(Failure::interrupted()),
                    };
                    if let Err(failure) = sent {
                        break Some(failure);
                    }
                }
            },
            _ = tick.tick() => {
                sending.settle_what_is_done().await;
                progress.show(sending.tally.acknowledged, sending.tally.to_string());
            }
            () = interrupt.asked() => break Some(Failure::interrupted()),
        }
        if let Some(failure) = sending.tally.first_failure.take() {
            break Some(failure);
        }
    };
    let is_interrupted = stopped.as_ref().is_some_and(|failure| failure.exit() == Exit::Interrupted);
    let patience = if is_interrupted { INTERRUPTED_PATIENCE } else { Duration::MAX };
    if tokio::time::timeout(patience, sending.settle_all()).await.is_err() {
        sending.give_up();
    }
    drop(progress);
    sending.tally.verdict(stopped, args.quiet)
}

/// Who presses Ctrl-C wants to know how much was written, but not at any price.
const INTERRUPTED_PATIENCE: Duration = Duration::from_secs(5);

/// Reads on a thread of its own: a read from a pipe or a terminal cannot be taken back.
fn blocks(input: Box<dyn Read + Send>, delimiter: Vec<u8>) -> mpsc::Receiver<io::Result<Block>> {
    // One block is being sent while the next is read.
    let (send, blocks) = mpsc::channel(1);
    thread::spawn(move || {
        let mut cutter = Cutter::new(input, &delimiter);
        while let Some(block) = cutter.next_block().transpose() {
            let is_last = block.is_err();
            if send.blocking_send(block).is_err() || is_last {
                break;
            }
        }
    });
    blocks
}

/// Records on their way.
struct Sending<'a> {
    producer: Producer,
    topic: &'a str,
    /// In the order they were sent, with their numbers in the input.
    pending: VecDeque<(u64, Delivery)>,
    tally: Tally,
}

/// So many records may be on their way: 10 MB of deliveries at most, and more records than a round trip takes.
const PENDING_MAX: usize = 200_000;
/// Every so many records those settled by now are taken out: often enough to hold few, too rarely to cost.
const LOOK_EVERY: usize = 10_000;

impl Sending<'_> {
    /// Sends a block's records. `Err` is about a record that cannot be sent; those before it are on their way.
    async fn send(&mut self, block: &Block, recipe: &Recipe) -> Result<(), Failure> {
        for (number, piece) in block.records() {
            let line = recipe.apply(piece).map_err(|e| Failure::usage(format!("line {number}: {e}")))?;
            let Some(line) = line else { continue };
            // Allocates only where there are any.
            let headers: Vec<_> =
                line.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
            let mut record = Record::to(self.topic)
                .key_or_null(line.key.as_deref())
                .value_or_null(line.value.as_deref())
                .headers(&headers);
            record = line.partition.into_iter().fold(record, Record::partition);
            record = line.timestamp.into_iter().fold(record, Record::timestamp_ms);
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

    /// Counts what is settled, as far as it is in order: partitions overtake each other only by a little.
    async fn settle_what_is_done(&mut self) {
        while self.pending.front().is_some_and(|(_, delivery)| delivery.is_settled()) {
            self.settle_first().await;
        }
    }

    /// Waits for everything; the producer's delivery timeout bounds it.
    async fn settle_all(&mut self) {
        // What fails to be flushed its delivery tells as well.
        drop(self.producer.flush().await);
        while !self.pending.is_empty() {
            self.settle_first().await;
        }
    }

    /// Nobody will know what becomes of what is still on its way.
    fn give_up(&mut self) {
        let unknown = self.pending.drain(..).len() as u64;
        self.tally.failed += unknown;
        self.tally.maybe_written += unknown;
    }

    async fn settle_first(&mut self) {
        // Taken out once it is settled: whoever drops this future forgets nothing.
        let Some((number, delivery)) = self.pending.front_mut() else { return };
        let (number, outcome) = (*number, delivery.await);
        self.pending.pop_front();
        match outcome {
            Ok(_) => self.tally.acknowledged += 1,
            Err(error) => self.tally.failed(number, error),
        }
    }
}

fn at_line(number: u64, error: milena::Error) -> Failure {
    Failure::from(error).at(&format!("line {number}"))
}

/// What became of the records so far.
#[derive(Debug, Default)]
struct Tally {
    /// With `acks=0` no broker says anything: a record counts once it was handed to the network.
    is_unanswered: bool,
    acknowledged: u64,
    failed: u64,
    /// Of the failed: those that may be in the topic all the same.
    maybe_written: u64,
    first_failure: Option<Failure>,
}

impl Tally {
    fn failed(&mut self, number: u64, error: milena::Error) {
        self.failed += 1;
        self.maybe_written += u64::from(error.maybe_written());
        if self.failed == 1 {
            self.first_failure = Some(at_line(number, error));
        }
    }

    /// The end of the command: everything, or why not, and how much all the same.
    fn verdict(mut self, stopped: Option<Failure>, quiet: bool) -> Result<(), Failure> {
        let Some(failure) = stopped.or_else(|| self.first_failure.take()) else {
            if !quiet {
                eprintln!("{self}");
            }
            return Ok(());
        };
        if self.acknowledged + self.failed == 0 {
            return Err(failure);
        }
        if failure.exit() == Exit::Interrupted {
            return Err(Failure::new(
                Exit::Interrupted,
                format!("interrupted: {self}; the rest was not sent"),
            ));
        }
        // With nothing written the cause alone decides the code.
        let exit = if self.acknowledged + self.maybe_written == 0 { failure.exit() } else { Exit::Partial };
        Err(failure.with_exit(exit).hint(format!("{self}; the rest was not sent.")))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.acknowledged == 1 { "" } else { "s" };
        let became = if self.is_unanswered { "sent, acknowledged by nobody" } else { "acknowledged" };
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
