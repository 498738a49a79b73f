//! A driver's arguments, the same for every client.

use std::path::PathBuf;

use lexopt::{Arg, ValueExt as _};
use milena_wire::codec::Compression;

/// The options of a driver. A mode ignores options that it does not have.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) mode: String,
    pub(crate) bootstrap: String,
    pub(crate) topic: String,
    pub(crate) records: u64,
    pub(crate) values: Option<PathBuf>,
    pub(crate) keys: Option<PathBuf>,
    pub(crate) codec: Compression,
    pub(crate) acks: Acks,
    pub(crate) idempotent: bool,
    pub(crate) linger_ms: u64,
    pub(crate) batch_bytes: usize,
    pub(crate) tasks: usize,
    pub(crate) seconds: f64,
    pub(crate) rate: f64,
    pub(crate) partition_fetch_bytes: Option<usize>,
    pub(crate) fetch_bytes: Option<usize>,
    pub(crate) retain: Option<u64>,
    pub(crate) pause: Option<i32>,
    pub(crate) slow: Option<i32>,
    pub(crate) idle_topics: Option<String>,
    /// Reads as the member of this group, instead of by position.
    pub(crate) group: Option<String>,
    /// Whether the member marks each batch as done, so that it is committed in the background.
    pub(crate) done: bool,
    /// Whether a partition is paused for a millisecond after each batch.
    pub(crate) pause_each: bool,
    /// `flip` only: how often each task pauses or resumes a partition, per second.
    pub(crate) flips: f64,
    /// `produce` only: the number of records of a transaction; without it, there are no transactions.
    pub(crate) transaction_records: Option<u64>,
    /// Milena's `produce` only: the number of records after which it waits until all are written.
    pub(crate) flush_records: Option<u64>,
    /// Milena's `produce` only: the batches of a partition that may be in flight; without it, the default.
    pub(crate) in_flight: Option<usize>,
    /// Milena's `produce` only: the codec's level, and the producer's memory; without them, the defaults.
    pub(crate) level: Option<i32>,
    pub(crate) memory_bytes: Option<usize>,
    /// `process` only: the topic to write to, how long records are processed before they are committed, and whether that
    /// is done in transactions.
    pub(crate) to: Option<String>,
    pub(crate) interval_ms: u64,
    pub(crate) exactly_once: bool,
    /// Speaks TLS, and trusts the authority whose certificate is in this file.
    pub(crate) authority: Option<PathBuf>,
    /// Milena only: a delivery for each record instead of one result for all.
    pub(crate) deliveries: bool,
    /// Milena only: whether the client counts and measures.
    pub(crate) metrics: bool,
    /// Milena only: the number of worker threads; without it, the runtime is on the main thread.
    pub(crate) threads: Option<usize>,
    /// Milena only: the fetch wait; without it, the default.
    pub(crate) fetch_wait_ms: Option<u64>,
    /// Milena's `stopped` only: how the application read before it stopped. Its `pipeline` only: in which order records are
    /// processed, or in a plain loop.
    pub(crate) reading: String,
    /// Milena's `rebalance` only: the group's protocol, and the number of bytes to buffer before a member joins.
    pub(crate) protocol: String,
    pub(crate) buffer_bytes: usize,
    /// `gaps` and `pipeline` only: how long the application works on each record.
    pub(crate) work_us: u64,
    /// `pipeline` only: values begin with the time at which they were to be sent.
    pub(crate) is_stamped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acks {
    All,
    Leader,
}

/// Why a driver ended without a result. Each reason has its exit code.
#[derive(Debug)]
pub(crate) enum Failure {
    Failed(String),
    Usage(String),
    /// The client lacks a feature that an option needs.
    Lacks(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Lacks(_) => 3,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::Lacks(text) => text,
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl Options {
    pub(crate) fn parse(mut args: lexopt::Parser) -> Result<Self, Failure> {
        let mut options = Self::default();
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Value(mode) if options.mode.is_empty() => options.mode = mode.string()?,
                Arg::Long(name) => {
                    let name = name.to_owned();
                    options.set(&name, &mut args)?;
                }
                other => return Err(other.unexpected().into()),
            }
        }
        if options.bootstrap.is_empty() || options.topic.is_empty() {
            return Err(Failure::Usage("--bootstrap and --topic are needed".into()));
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, args: &mut lexopt::Parser) -> Result<(), Failure> {
        match name {
            "bootstrap" => self.bootstrap = args.value()?.string()?,
            "topic" => self.topic = args.value()?.string()?,
            "records" => self.records = args.value()?.parse()?,
            "values" => self.values = Some(args.value()?.into()),
            "keys" => self.keys = Some(args.value()?.into()),
            "codec" => self.codec = args.value()?.parse()?,
            "acks" => {
                self.acks = match args.value()?.string()?.as_str() {
                    "all" => Acks::All,
                    "1" => Acks::Leader,
                    other => return Err(Failure::Usage(format!("--acks {other}: all or 1"))),
                }
            }
            "idempotent" => self.idempotent = args.value()?.parse()?,
            "linger-ms" => self.linger_ms = args.value()?.parse()?,
            "batch-bytes" => self.batch_bytes = args.value()?.parse()?,
            "tasks" => self.tasks = args.value()?.parse()?,
            "seconds" => self.seconds = args.value()?.parse()?,
            "rate" => self.rate = args.value()?.parse()?,
            // Asked of the broker instead.
            "partitions" | "idle-partitions" => drop(args.value()?),
            "partition-fetch-bytes" => self.partition_fetch_bytes = Some(args.value()?.parse()?),
            "fetch-bytes" => self.fetch_bytes = Some(args.value()?.parse()?),
            "retain" => self.retain = Some(args.value()?.parse()?),
            "pause" => self.pause = Some(args.value()?.parse()?),
            "slow" => self.slow = Some(args.value()?.parse()?),
            "group" => self.group = Some(args.value()?.string()?),
            "done" => self.done = true,
            "pause-each" => self.pause_each = true,
            "flips" => self.flips = args.value()?.parse()?,
            "idle-topics" => self.idle_topics = Some(args.value()?.string()?),
            "transaction-records" => self.transaction_records = Some(args.value()?.parse()?),
            "flush-records" => self.flush_records = Some(args.value()?.parse()?),
            "in-flight" => self.in_flight = Some(args.value()?.parse()?),
            "level" => self.level = Some(args.value()?.parse()?),
            "memory-bytes" => self.memory_bytes = Some(args.value()?.parse()?),
            "to" => self.to = Some(args.value()?.string()?),
            "interval-ms" => self.interval_ms = args.value()?.parse()?,
            "exactly-once" => self.exactly_once = true,
            "tls" => self.authority = Some(args.value()?.into()),
            "deliveries" => self.deliveries = true,
            "metrics" => self.metrics = true,
            "threads" => self.threads = Some(args.value()?.parse()?),
            "reading" => self.reading = args.value()?.string()?,
            "protocol" => self.protocol = args.value()?.string()?,
            "buffer-bytes" => self.buffer_bytes = args.value()?.parse()?,
            "fetch-wait-ms" => self.fetch_wait_ms = Some(args.value()?.parse()?),
            "stamped" => self.is_stamped = true,
            "work-us" => self.work_us = args.value()?.parse()?,
            other => return Err(Failure::Usage(format!("no option is called --{other}"))),
        }
        Ok(())
    }

    /// These options with `consume`'s default sizes of fetches.
    pub(crate) fn with_fetch_sizes(&self) -> Self {
        let partition_fetch_bytes = self.partition_fetch_bytes.or(Some(10 << 20));
        let fetch_bytes = self.fetch_bytes.or(Some(50 << 20));
        Self { partition_fetch_bytes, fetch_bytes, ..self.clone() }
    }

    /// The file of values, which most modes need.
    pub(crate) fn values(&self) -> Result<crate::payload::Lines, Failure> {
        let path = self.values.as_ref().ok_or_else(|| Failure::Usage("--values is needed".into()))?;
        Ok(crate::payload::Lines::read(path)?)
    }

    pub(crate) fn keys(&self) -> Result<Option<crate::payload::Lines>, Failure> {
        Ok(self.keys.as_deref().map(crate::payload::Lines::read).transpose()?)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: String::new(),
            bootstrap: String::new(),
            topic: String::new(),
            records: 1,
            values: None,
            keys: None,
            codec: Compression::None,
            acks: Acks::All,
            idempotent: true,
            linger_ms: 5,
            batch_bytes: 1_000_000,
            tasks: 1,
            seconds: 1.0,
            rate: 1000.0,
            partition_fetch_bytes: None,
            fetch_bytes: None,
            retain: None,
            pause: None,
            slow: None,
            idle_topics: None,
            group: None,
            done: false,
            pause_each: false,
            flips: 100.0,
            transaction_records: None,
            flush_records: None,
            in_flight: None,
            level: None,
            memory_bytes: None,
            to: None,
            interval_ms: 100,
            exactly_once: false,
            authority: None,
            deliveries: false,
            metrics: false,
            threads: None,
            fetch_wait_ms: None,
            reading: "turns".into(),
            protocol: "cooperative".into(),
            buffer_bytes: 1 << 20,
            work_us: 0,
            is_stamped: false,
        }
    }
}
