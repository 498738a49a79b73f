//! A broker that costs nearly nothing: produced records are dropped, and fetched batches were made before.
//!
//! Its sockets, protocol and limits are real, and it keeps offsets, idempotent sequences and fetch sessions. So a client that
//! is measured against it shows its own cost. It prints a line of JSON when it listens, and a line with the counts of the wire
//! when its standard input ends.

mod answers;
mod counters;
mod fetch;
mod group;
mod input;
mod node;
mod produce;
pub(crate) mod raw;
mod response;
mod sequences;
mod sessions;
mod topics;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use lexopt::{Arg, ValueExt as _};
use milena_wire::codec::Compression;
use serde_json::{Map, Value, json};

use self::counters::Counters;
use self::response::Blank;
use self::sessions::Sessions;
use self::topics::Topics;
use crate::batches::{Batches, Shape};
use crate::payload::Lines;
use crate::topic_spec::TopicSpec;

/// The state that all nodes share.
struct Sink {
    ports: Vec<u16>,
    delays: Vec<Duration>,
    topics: Topics,
    batches: Option<Batches>,
    /// The bytes for the floor.
    raw: Bytes,
    sessions: Vec<Mutex<Sessions>>,
    producers: AtomicI64,
    counters: Counters,
    blank: Blank,
}

/// The command line.
struct Options {
    nodes: usize,
    delay_ms: Vec<u64>,
    topics: Vec<TopicSpec>,
    values: Option<PathBuf>,
    keys: Option<PathBuf>,
    shape: Shape,
}

/// The most bytes of records in a response: the largest size that a client can seriously ask for.
const FETCH_BYTES_MAX: usize = 128 << 20;

/// Serves until standard input ends.
pub(crate) fn run(args: lexopt::Parser) -> Result<(), String> {
    let options = Options::parse(args).map_err(|error| error.to_string())?;
    let (sink, listeners) = Sink::make(&options)?;
    let sink = Arc::new(sink);
    for (node, listener) in listeners.into_iter().enumerate() {
        let sink = Arc::clone(&sink);
        thread::spawn(move || node::serve(&sink, node, &listener));
    }
    say(&sink.greeting())?;
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    say(&sink.counters.to_json())
}

fn say(line: &Value) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).map_err(|error| error.to_string())
}

impl Sink {
    fn make(options: &Options) -> Result<(Self, Vec<TcpListener>), String> {
        let read = |path: &Option<PathBuf>| path.as_deref().map(Lines::read).transpose();
        let (values, keys) = (read(&options.values)?, read(&options.keys)?);
        let Shape { codec, batch_bytes } = options.shape;
        let raw = values.as_ref().map(|values| raw::buffer(values, codec, batch_bytes)).transpose()?;
        let batches = values.map(|values| Batches::make(values, keys, options.shape)).transpose()?;
        let topics = Topics::make(&options.topics, options.nodes as i32, batches.as_ref())?;
        let (mut listeners, mut ports) = (Vec::new(), Vec::new());
        for _ in 0..options.nodes {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|error| error.to_string())?;
            ports.push(listener.local_addr().map_err(|error| error.to_string())?.port());
            listeners.push(listener);
        }
        let delay = |node| options.delay_ms.get(node).or(options.delay_ms.last()).copied().unwrap_or(0);
        let sink = Self {
            ports,
            delays: (0..options.nodes).map(|node| Duration::from_millis(delay(node))).collect(),
            topics,
            batches,
            raw: raw.unwrap_or_default(),
            sessions: (0..options.nodes).map(|_| Mutex::default()).collect(),
            producers: AtomicI64::new(1000),
            counters: Counters::new(),
            blank: Blank::new(FETCH_BYTES_MAX),
        };
        Ok((sink, listeners))
    }

    /// The first line: the addresses, and the records that can be fetched.
    fn greeting(&self) -> Value {
        let bootstrap: Vec<String> = self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        let stored = |topic: &topics::Topic| {
            let (records, bytes) = topic.stored(self.batches.as_ref());
            (topic.name.to_string(), json!({ "records": records, "bytes": bytes }))
        };
        let topics: Map<String, Value> = self.topics.all().iter().map(stored).collect();
        json!({
            "bootstrap": bootstrap.join(","),
            "records_per_batch": self.batches.as_ref().map(Batches::records_per_batch),
            "topics": topics,
        })
    }
}

impl Options {
    fn parse(mut args: lexopt::Parser) -> Result<Self, lexopt::Error> {
        let shape = Shape { codec: Compression::None, batch_bytes: 1_000_000 };
        let (nodes, delay_ms, topics, values, keys) = (1, vec![0], Vec::new(), None, None);
        let mut options = Self { nodes, delay_ms, topics, values, keys, shape };
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Long("nodes") => options.nodes = args.value()?.parse()?,
                Arg::Long("delay-ms") => {
                    let given = args.value()?.string()?;
                    let delays: Result<_, _> = given.split(',').map(str::parse).collect();
                    options.delay_ms = delays.map_err(|error| format!("--delay-ms {given}: {error}"))?;
                }
                Arg::Long("topic") => options.topics.push(args.value()?.parse()?),
                Arg::Long("values") => options.values = Some(args.value()?.into()),
                Arg::Long("keys") => options.keys = Some(args.value()?.into()),
                Arg::Long("codec") => options.shape.codec = args.value()?.parse()?,
                Arg::Long("batch-bytes") => options.shape.batch_bytes = args.value()?.parse()?,
                other => return Err(other.unexpected()),
            }
        }
        if !(1..=16).contains(&options.nodes) {
            return Err("--nodes: 1 to 16".into());
        }
        Ok(options)
    }
}
