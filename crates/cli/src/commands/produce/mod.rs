//! `milena produce`: reads lines and sends them as records.

pub(crate) mod pace;
mod report;
mod sending;
mod source;
mod tally;
mod transactions;

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use milena::{Acks, Compression, Producer, ProducerSettings, Properties, TransactionalProducer};

use self::pace::{Pace, rate};
use self::report::{Form, report};
use self::sending::{Sender, Shared};
use self::source::{Rounds, Source, rounds};
use self::tally::Tally;
use self::transactions::{Every, every, transact};
use crate::cluster::Cluster;
use crate::commands::topics::{check_partitions, describe_topic};
use crate::escape::unescape;
use crate::exit::Failure;
use crate::interrupt::{GRACE, Interrupt};
use crate::json;
use crate::output::tell;
use crate::progress::{Progress, TICK};
use crate::recipe::{Recipe, parse_header};
use crate::schemas::{self, Encoder, WriteOptions};

const EXAMPLES: &str = "\
Examples:
  milena topics create greetings && echo hello | milena produce greetings
  milena produce orders -K: < orders.txt              each line is KEY:VALUE
  milena produce orders -H source=import orders.txt   every record gets a header
  milena produce images -D '' *.png                   each file is a record
  milena consume a --json -e | milena produce b --json
  milena produce orders --registry http://127.0.0.1:8081 --value-schema orders-value orders.jsonl
  echo ping | milena produce load --repeat forever --rate 1000 --report text
  milena produce orders --transactional-id import-7 --commit-every 1000 orders.txt";

const TRANSACTIONS: &str = "\
Transactions:
  With --transactional-id the input is sent in one transaction, or in one for every --commit-every.
  The end of the input commits. If a record or a commit fails, a line is wrong, or Ctrl-C comes, the
  open transaction is aborted and nothing more is sent: exactly the lines before it are committed,
  and the message names those that are not. A second program with the same id ends the first one.
  A transaction may be open for transaction.timeout.ms (60 s): -X transaction.timeout.ms=600000.";

/// Send each line of the input as a record. The exit code says whether all records were acknowledged.
#[derive(Debug, clap::Args)]
#[command(after_long_help = [EXAMPLES, TRANSACTIONS, json::HELP, schemas::HELP].join("\n\n"), after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The topic
    topic: String,

    /// The files to read, one after another; - is stdin
    #[arg(default_value = "-", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Each line is a JSON object with value, key, headers, partition and timestamp
    #[arg(short = 'J', long, conflicts_with_all = ["key_delimiter", "delimiter", "null", "empty_is_null"])]
    json: bool,

    /// The text that ends a record, instead of a newline; an empty one makes each file one record
    #[arg(short = 'D', long, value_name = "DELIMITER", default_value = "\\n")]
    delimiter: String,

    /// The text between a key and its value; a line without it has a null key
    #[arg(short = 'K', long, value_name = "DELIMITER")]
    key_delimiter: Option<String>,

    /// The key of records that have none
    #[arg(short, long)]
    key: Option<String>,

    /// A header for every record; without = its value is null; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,

    /// Send keys and values equal to MARKER as null
    #[arg(long, value_name = "MARKER")]
    null: Option<String>,

    /// Send empty keys and values as null; the same as --null ''
    #[arg(short = 'Z', conflicts_with = "null")]
    empty_is_null: bool,

    /// The partition of every record. Default: the partition in the JSON line, else the partitioner chooses
    #[arg(short, long, value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,

    /// Ignore the partition in JSON lines: the partitioner chooses
    #[arg(long, requires = "json", conflicts_with = "partition")]
    repartition: bool,

    /// How partitions are chosen: murmur2_random (the default, as Java's client), murmur2, consistent_random, consistent,
    /// fnv1a_random, fnv1a, random, or a class of Java's client
    #[arg(long, value_name = "NAME", conflicts_with = "partition")]
    partitioner: Option<String>,

    /// The codec that compresses batches. Default: none
    #[arg(short = 'z', long, value_name = "CODEC")]
    compression: Option<Codec>,

    /// The level of the codec. Default: the codec's own
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    compression_level: Option<i32>,

    /// Which replicas must have a record before it is acknowledged: all (in sync, the default), 1 (the leader alone), or
    /// 0 (none: the broker does not acknowledge)
    #[arg(long)]
    acks: Option<AcksFrom>,

    /// Whether brokers drop what is sent twice. Default: true with --acks all
    #[arg(long, value_name = "BOOL")]
    idempotence: Option<bool>,

    /// Send at most N records a second, at even distances
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,

    /// Send the whole input N times, or forever
    #[arg(long, value_name = "N", default_value = "1", value_parser = rounds)]
    repeat: Rounds,

    /// Send in transactions, under this id
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,

    /// Commit after N records or a TIME as in 5s, or after whichever comes first, as in 1000,5s. Default: at the end
    #[arg(long, value_name = "N|TIME", value_parser = every, requires = "transactional_id")]
    commit_every: Option<Every>,

    /// Report counts, bytes, rates and percentiles of the time from sending a record to its acknowledgement
    #[arg(long, value_name = "FORM", conflicts_with = "quiet")]
    report: Option<Form>,

    /// Print no counts if all records were acknowledged
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    schemas: WriteOptions,

    #[command(flatten)]
    cluster: Cluster,
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
    /// Fails if options contradict each other, before a broker is asked.
    fn check(&self) -> Result<(), Failure> {
        let few = self.acks.filter(|acks| *acks != AcksFrom::All).and_then(|acks| acks.to_possible_value());
        let few = few.as_ref().map(clap::builder::PossibleValue::get_name);
        let wrong = match (few, self.idempotence, &self.transactional_id) {
            (Some(acks), _, Some(_)) => format!("--transactional-id needs --acks all, not --acks {acks}"),
            (Some(acks), Some(true), None) => {
                format!("--idempotence true needs --acks all, not --acks {acks}")
            }
            (_, Some(false), Some(_)) => "--transactional-id needs --idempotence true".into(),
            (_, _, Some(id)) if id.is_empty() => "--transactional-id needs an id that is not empty".into(),
            _ => return Ok(()),
        };
        Err(Failure::usage(wrong))
    }

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
            keys_are_json: self.schemas.is_json().0,
            values_are_json: self.schemas.is_json().1,
        })
    }

    fn source(&self) -> Result<Source, String> {
        let (files, rounds) = (self.files.clone(), self.repeat);
        Ok(Source { files, rounds, delimiter: unescape(&self.delimiter)?, text_bytes_max: 0 })
    }

    /// The length in bytes of the longest piece of input for a record of `record_bytes_max`. In JSON one byte of a value
    /// takes up to six, as in `\u0000`. Of a value with a schema it has the names of fields too, and perhaps the raw form.
    fn text_bytes_max(&self, record_bytes_max: usize) -> usize {
        const DELIMITERS: usize = 64 << 10;
        let for_each = match self.schemas.is_json() {
            (false, false) if !self.json => 1,
            _ => 16,
        };
        record_bytes_max.saturating_mul(for_each).saturating_add(DELIMITERS)
    }

    /// Changes the producer's settings as the options say.
    fn apply(&self, settings: &mut ProducerSettings) {
        if let Some(codec) = self.compression {
            (settings.compression, settings.compression_level) = (codec.into(), None);
        }
        settings.compression_level = self.compression_level.or(settings.compression_level);
        if let Some(acks) = self.acks {
            settings.acks = acks.into();
        }
    }

    /// Fails if the level is for a codec that has none.
    fn check_level(&self, settings: &ProducerSettings) -> Result<(), Failure> {
        match (self.compression_level, settings.compression) {
            (Some(level), codec @ (Compression::None | Compression::Snappy)) => {
                let codec = format!("{codec:?}").to_lowercase();
                Err(Failure::usage(format!(
                    "--compression-level {level} has no effect with the codec {codec}: choose gzip, lz4 or zstd with -z"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// What the input is sent with.
enum Means {
    Plain(Producer),
    Transactional(Box<TransactionalProducer>),
}

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    args.check()?;
    let recipe = args.recipe().map_err(Failure::usage)?;
    let mut source = args.source().map_err(Failure::usage)?;
    source.check()?;
    let tally = Tally::new(args.acks == Some(AcksFrom::Nobody), args.transactional_id.is_some());
    let (means, encoder, record_bytes_max) = match interrupt.or(prepare(args)).await {
        Ok(prepared) => prepared,
        Err(failure) => return tally.verdict(Some(failure), &source),
    };
    source.text_bytes_max = args.text_bytes_max(record_bytes_max);
    let shared = Arc::new(Shared::new(tally));
    let pace = args.rate.map(Pace::new);
    let mut sender = Sender::new(args.topic.clone(), recipe, encoder, source, pace, Arc::clone(&shared));
    let began = Instant::now();
    let timeout = args.cluster.timeout_asked();
    let sending = async {
        match means {
            Means::Plain(producer) => send_all(&mut sender, &producer, timeout, interrupt).await,
            Means::Transactional(mut producer) => {
                let every = args.commit_every.unwrap_or_default();
                transact(&mut sender, &mut producer, every, timeout, interrupt).await.map_err(Some)
            }
        }
    };
    let sent = tokio::select! {
        sent = sending => sent,
        () = show_progress(&shared, !args.quiet) => Ok(()),
    };
    let (tally, source) = (shared.tally(), &sender.source);
    if let Some(form) = args.report {
        report(form, &tally, began.elapsed())?;
    }
    let stopped = sent.err().flatten();
    let is_done = stopped.is_none();
    tally.verdict(stopped, source)?;
    if is_done && !args.quiet {
        tell(tally.told(source));
    }
    Ok(())
}

/// Shows the counts on a terminal. Never completes.
async fn show_progress(shared: &Shared, is_wanted: bool) {
    let progress = Progress::counting(is_wanted && !io::stdin().is_terminal());
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        let (count, text) = {
            let tally = shared.tally();
            (tally.acknowledged, tally.to_string())
        };
        progress.show(count, text);
    }
}

/// Connects, as far as is needed to send the first record. Answers with the largest record in bytes, too.
async fn prepare(args: &Args) -> Result<(Means, Encoder, usize), Failure> {
    let mut cluster = args.cluster.clone();
    if let Some(partitioner) = &args.partitioner {
        cluster = cluster.with("partitioner", partitioner);
    }
    if let Some(idempotence) = args.idempotence {
        cluster = cluster.with("enable.idempotence", &idempotence.to_string());
    }
    let resolved = cluster.resolve(Properties::new())?;
    let cluster = cluster.connect().await?;
    // Check the topic first, so that a mistake in its name is an error before the first line is typed.
    let topic = describe_topic(&cluster, &args.topic).await?;
    check_partitions(&topic, args.partition)?;
    let encoder = args.schemas.encoder(&resolved, &args.topic).await?;
    let (mut checked, mut record_bytes_max) = (Ok(()), 0);
    let change = |settings: &mut ProducerSettings| {
        args.apply(settings);
        checked = args.check_level(settings);
        record_bytes_max = settings.record_bytes_max;
    };
    let means = match &args.transactional_id {
        None => {
            let producer = cluster.client.producer().settings(change);
            checked?;
            Means::Plain(producer.build().await.map_err(|error| Failure::usage(error.to_string()))?)
        }
        Some(id) => {
            let producer = cluster.client.transactional(id.as_str()).settings(change);
            checked?;
            Means::Transactional(Box::new(producer.build().await?))
        }
    };
    Ok((means, encoder, record_bytes_max))
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

/// Sends the whole input, and waits until every record is settled. `Err` says why the rest is not sent; `Err(None)` means
/// that a record was refused, whose failure is in the tally.
async fn send_all(
    sender: &mut Sender,
    producer: &Producer,
    timeout: Option<Duration>,
    interrupt: &Interrupt,
) -> Result<(), Option<Failure>> {
    let shared = Arc::clone(&sender.shared);
    let settle = || async {
        // Each delivery has its own result, so that of the flush is not needed.
        tokio::join!(async { drop(producer.flush().await) }, shared.all_settled());
    };
    let sending = async {
        while sender.ready().await? {
            sender.send(producer).await?;
        }
        settle().await;
        Ok(())
    };
    let mut ended = tokio::select! {
        sent = sending => sent.map_or_else(|failure| Ended::Failed(Some(failure)), |()| Ended::Sent),
        () = shared.failed() => Ended::Failed(None),
        failure = shared.stalled(timeout) => Ended::Stalled(failure),
        () = interrupt.asked() => Ended::Interrupted,
    };
    // A failure stops further records. Those already sent are still waited for, so that the counts are final.
    if let Ended::Failed(_) = ended {
        tokio::select! {
            () = settle() => {}
            failure = shared.stalled(timeout) => ended = Ended::Stalled(failure),
            () = interrupt.asked() => ended = Ended::Interrupted,
        }
    }
    if let Ended::Interrupted = ended {
        tokio::select! {
            () = settle() => {}
            () = tokio::time::sleep(GRACE) => {}
            () = interrupt.asked_again() => {}
        }
    }
    if shared.unsettled() > 0 {
        // What is given up says whether it may have been written.
        drop(
            tokio::time::timeout(GIVING_UP, async { tokio::join!(producer.purge(), shared.all_settled()) })
                .await,
        );
        shared.tally().give_up(shared.unsettled());
    }
    match ended {
        Ended::Sent if shared.tally().failed > 0 => Err(None),
        Ended::Sent => Ok(()),
        Ended::Failed(failure) => Err(failure),
        Ended::Stalled(failure) => Err(Some(failure)),
        Ended::Interrupted => Err(Some(Failure::interrupted())),
    }
}

/// How long records may take to be given up. After the second signal the process exits within a second.
const GIVING_UP: Duration = Duration::from_millis(500);
