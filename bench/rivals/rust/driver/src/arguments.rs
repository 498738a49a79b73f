//! The command line that every driver takes: `DRIVER MODE --bootstrap HOST:PORT --topic TOPIC ...`.

use std::collections::HashMap;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};

use crate::Lines;

/// What to do, and where.
pub struct Job {
    /// `HOST:PORT`, several with commas.
    pub bootstrap: String,
    /// The topic written to or read from.
    pub topic: String,
    /// The mode and its options.
    pub work: Work,
}

/// A mode with its options.
#[allow(missing_docs, reason = "the fields are the options of the command line")]
pub enum Work {
    /// As many records as fast as the client can.
    Produce { records: u64, values: Lines, keys: Option<Lines>, producing: Producing },
    /// Tasks that each send one record and wait for it.
    Send { tasks: usize, duration: Duration, values: Lines, producing: Producing },
    /// Records at intended times.
    Pace { rate: u64, duration: Duration, values: Lines, producing: Producing },
    /// As many records as there are, as fast as the client can.
    Consume(Consume),
    /// Records at intended times, and when they come back.
    Latency { rate: u64, duration: Duration, values: Lines, producing: Producing, fetching: Fetching },
}

impl Work {
    /// The mode, as on the command line.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Produce { .. } => "produce",
            Self::Send { .. } => "send",
            Self::Pace { .. } => "pace",
            Self::Consume(_) => "consume",
            Self::Latency { .. } => "latency",
        }
    }
}

/// What a producer is told; what is `None` stays at the client's default.
#[derive(Clone, Default)]
pub struct Producing {
    /// How batches are compressed.
    pub codec: Option<Codec>,
    /// Who must have a batch before it is acknowledged.
    pub acks: Option<Acks>,
    /// Whether the broker checks sequences.
    pub idempotent: Option<bool>,
    /// How long a batch waits for company.
    pub linger_ms: Option<u64>,
    /// The size at which a batch is full.
    pub batch_bytes: Option<usize>,
}

/// What a consumer is told; what is `None` stays at the client's default.
#[derive(Clone, Default)]
pub struct Fetching {
    /// How much of one partition a fetch may bring.
    pub partition_fetch_bytes: Option<usize>,
    /// How much a fetch may bring.
    pub fetch_bytes: Option<usize>,
}

/// What `consume` takes.
#[derive(Clone, Default)]
pub struct Consume {
    /// Ends after this many (of the partitions that are neither paused nor slow).
    pub records: u64,
    /// How many partitions the topic has; asked of the broker if not said.
    pub partitions: Option<i32>,
    /// How much to fetch.
    pub fetching: Fetching,
    /// One record in this many is kept.
    pub retain: Option<u64>,
    /// A partition that is assigned and paused.
    pub pause: Option<i32>,
    /// A partition whose every batch takes a millisecond.
    pub slow: Option<i32>,
    /// A topic that is assigned, too.
    pub idle_topic: Option<String>,
}

/// How batches are compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip, at the client's default level.
    Gzip,
    /// snappy.
    Snappy,
    /// lz4, at the client's default level.
    Lz4,
    /// zstd, at the client's default level.
    Zstd,
}

impl Codec {
    /// Kafka's name for it, as in `compression.type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl FromStr for Codec {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd]
            .into_iter()
            .find(|codec| codec.name() == text)
            .ok_or_else(|| anyhow!("none, gzip, snappy, lz4 or zstd is wanted"))
    }
}

/// Who must have a batch before it is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Every in-sync replica.
    All,
    /// The leader.
    One,
}

impl Acks {
    /// Kafka's name for it, as in `acks`.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::One => "1",
        }
    }
}

impl FromStr for Acks {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "all" => Ok(Self::All),
            "1" => Ok(Self::One),
            _ => bail!("all or 1 is wanted"),
        }
    }
}

pub(crate) fn parse() -> anyhow::Result<Job> {
    let (mode, mut options) = Options::read()?;
    let bootstrap = options.required("bootstrap")?;
    let topic = options.required("topic")?;
    let work = match mode.as_str() {
        "produce" => Work::Produce {
            records: options.required("records")?,
            values: options.lines("values")?.context("--values is missing")?,
            keys: options.lines("keys")?,
            producing: options.producing(Producing {
                codec: Some(Codec::None),
                acks: Some(Acks::All),
                idempotent: Some(true),
                linger_ms: Some(5),
                batch_bytes: Some(1_000_000),
            })?,
        },
        "send" => Work::Send {
            tasks: options.required("tasks")?,
            duration: options.seconds()?,
            values: options.lines("values")?.context("--values is missing")?,
            producing: options.producing(Producing::default())?,
        },
        "pace" => Work::Pace {
            rate: options.required("rate")?,
            duration: options.seconds()?,
            values: options.lines("values")?.context("--values is missing")?,
            producing: options.producing(Producing::default())?,
        },
        "consume" => Work::Consume(Consume {
            records: options.required("records")?,
            partitions: options.optional("partitions")?,
            fetching: options.fetching(Fetching {
                partition_fetch_bytes: Some(10_485_760),
                fetch_bytes: Some(52_428_800),
            })?,
            retain: options.optional("retain")?,
            pause: options.optional("pause")?,
            slow: options.optional("slow")?,
            idle_topic: options.optional("idle-topics")?,
        }),
        "latency" => Work::Latency {
            rate: options.required("rate")?,
            duration: options.seconds()?,
            values: options.lines("values")?.unwrap_or_else(|| Lines::one(&[b'.'; 100])),
            producing: options.producing(Producing::default())?,
            fetching: options.fetching(Fetching::default())?,
        },
        other => bail!("{other}: produce, send, pace, consume or latency is wanted"),
    };
    options.nothing_left()?;
    Ok(Job { bootstrap, topic, work })
}

/// `--name value` pairs that nobody has asked for yet.
struct Options(HashMap<String, String>);

impl Options {
    fn read() -> anyhow::Result<(String, Self)> {
        let mut arguments = lexopt::Parser::from_env();
        let (mut mode, mut options) = (None, HashMap::new());
        while let Some(argument) = arguments.next()? {
            match argument {
                lexopt::Arg::Long(name) => {
                    let name = name.to_owned();
                    let value =
                        arguments.value()?.into_string().map_err(|_| anyhow!("--{name}: not UTF-8"))?;
                    options.insert(name, value);
                }
                lexopt::Arg::Value(value) if mode.is_none() => mode = value.into_string().ok(),
                other => return Err(other.unexpected().into()),
            }
        }
        Ok((mode.context("a mode is wanted: produce, send, pace, consume or latency")?, Self(options)))
    }

    fn optional<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> anyhow::Result<Option<T>> {
        let Some(text) = self.0.remove(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|error| anyhow!("--{name} {text}: {error}"))
    }

    fn required<T: FromStr<Err: std::fmt::Display>>(&mut self, name: &str) -> anyhow::Result<T> {
        self.optional(name)?.with_context(|| format!("--{name} is missing"))
    }

    fn seconds(&mut self) -> anyhow::Result<Duration> {
        Ok(Duration::try_from_secs_f64(self.required("seconds")?)?)
    }

    fn lines(&mut self, name: &str) -> anyhow::Result<Option<Lines>> {
        self.0.remove(name).map(|path| Lines::read(path.as_ref())).transpose()
    }

    fn producing(&mut self, defaults: Producing) -> anyhow::Result<Producing> {
        Ok(Producing {
            codec: self.optional("codec")?.or(defaults.codec),
            acks: self.optional("acks")?.or(defaults.acks),
            idempotent: self.optional("idempotent")?.or(defaults.idempotent),
            linger_ms: self.optional("linger-ms")?.or(defaults.linger_ms),
            batch_bytes: self.optional("batch-bytes")?.or(defaults.batch_bytes),
        })
    }

    fn fetching(&mut self, defaults: Fetching) -> anyhow::Result<Fetching> {
        Ok(Fetching {
            partition_fetch_bytes: self.optional("partition-fetch-bytes")?.or(defaults.partition_fetch_bytes),
            fetch_bytes: self.optional("fetch-bytes")?.or(defaults.fetch_bytes),
        })
    }

    fn nothing_left(&self) -> anyhow::Result<()> {
        let names: Vec<_> = self.0.keys().map(String::as_str).collect();
        ensure!(names.is_empty(), "this mode does not take --{}", names.join(", --"));
        Ok(())
    }
}
