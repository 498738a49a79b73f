//! The table of all scenarios. It says what is done, and not how.

use std::fmt;

/// One scenario, which every client does that can.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scenario {
    /// A unique name, which names everything that is not the default.
    pub(super) name: String,
    /// Whether it is in the quick set.
    pub(super) is_quick: bool,
    /// Whether it has many records and only Milena does it. It is compared with the same scenario without the twist; with so
    /// many records the start and changes of the machine's speed do not matter.
    pub(super) is_long: bool,
    /// The broker.
    pub(super) broker: Broker,
    /// The content of the records.
    pub(super) payload: Payload,
    /// Partitions of the topic.
    pub(super) partitions: u32,
    /// The client that writes the topic that is read. Without one, prepared batches are written.
    pub(super) writer: Option<Writer>,
    /// Whether client and broker speak TLS 1.3. Topics are written without it.
    pub(super) is_tls: bool,
    /// Whether the client counts and measures. Only Milena does it, beside the same without.
    pub(super) has_metrics: bool,
    /// The client's work.
    pub(super) work: Work,
}

/// A client whose driver writes the topic that is read, because clients make different batches of the same records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writer {
    /// The driver's name.
    pub(super) client: &'static str,
    /// The bytes of a batch before compression. `None` keeps the client's defaults, also for linger.
    pub(super) batch_bytes: Option<u32>,
    /// Whether the records have keys, which are distributed unevenly.
    pub(super) is_keyed: bool,
}

/// The broker of a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Broker {
    /// The sink, which drops produced records and serves prepared batches.
    Sink {
        /// The number of nodes.
        nodes: u32,
        /// The round trip in milliseconds, which delays each answer.
        delay_ms: u32,
    },
    /// Apache Kafka, with one or three brokers.
    Kafka(u32),
    /// The broker of this repository, in memory.
    Embedded(u32),
}

/// The content of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Payload {
    /// JSON of N bytes.
    Bytes(u32),
    /// Real flights as JSON, 320 bytes on average.
    Flights,
}

/// The work of a client, with the arguments of its driver.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    /// Produces as fast as possible.
    Produce {
        /// How many.
        records: u64,
        /// With keys.
        is_keyed: bool,
        /// `all` or `1`.
        acks: &'static str,
        /// Exactly once.
        is_idempotent: bool,
        /// By name.
        codec: &'static str,
        /// When it waits for what it has sent.
        rhythm: Rhythm,
    },
    /// Reads a topic as the only member of a group and writes each record to another topic. Every 100 ms it waits until all is
    /// written, and commits.
    Process {
        /// How many.
        records: u64,
        /// In transactions, with the offsets in them.
        is_exactly_once: bool,
    },
    /// Sends records from N tasks, each of which waits for an answer before its next record.
    Send {
        /// How many.
        tasks: u32,
        /// For how long.
        seconds: u32,
    },
    /// Produces records at intended times.
    Pace {
        /// Records a second.
        rate: u32,
        /// For how long.
        seconds: u32,
    },
    /// Consumes a topic from the beginning.
    Consume {
        /// How many in all.
        records: u64,
        /// By name.
        codec: &'static str,
        /// The bytes of a batch before compression.
        batch_bytes: u32,
        /// What differs from plain consuming.
        twist: Twist,
    },
    /// Produces records at intended times and consumes them in the same process.
    Latency {
        /// Records a second.
        rate: u32,
        /// For how long.
        seconds: u32,
    },
    /// Consumes at full rate while N tasks pause and resume 1000 idle partitions.
    Flip {
        /// How many.
        tasks: u32,
        /// How often each task pauses or resumes a partition, per second.
        rate: u32,
        /// For how long.
        seconds: u32,
    },
    /// Resumes a partition, again and again, to which something was written while it was paused. Six idle partitions keep the
    /// broker's answer back.
    Resume {
        /// For how long.
        seconds: u32,
    },
    /// Consumes a topic that another process writes at intended times, while another topic of one partition is disturbed.
    Follow {
        /// How.
        disturbance: Disturbance,
        /// Records a second.
        rate: u32,
        /// For how long.
        seconds: u32,
    },
}

/// When a producer waits for what it has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rhythm {
    /// At the end.
    Free,
    /// At the end; one batch of a partition is in flight.
    OneInFlight,
    /// After N records.
    Flushes(u32),
    /// After N records, which are a transaction.
    Transactions(u32),
}

/// What happens to the other topic's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disturbance {
    /// Nothing.
    None,
    /// Its leader moves every second.
    LeaderMoves,
    /// Nothing; the consumer is the only member of a group.
    Group,
    /// Another member of the group gets it, leaves, and begins again.
    Revokes,
}

/// What differs from plain consuming.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twist {
    /// Nothing.
    None,
    /// All records lie on the first broker.
    OthersIdle,
    /// One partition is assigned and paused.
    Paused,
    /// One partition is read slowly.
    Slow,
    /// One record in N is kept.
    Retain(u32),
    /// N partitions without records are assigned as well.
    IdlePartitions(u32),
    /// After each batch, its partition is paused for a millisecond.
    PausedEach,
    /// The consumer is the only member of a group. What it has read is committed in the background.
    Group,
}

/// The partition that is paused or slow.
pub(super) const SPECIAL_PARTITION: u32 = 3;

/// franz-go, librdkafka (in confluent-kafka-go) and Java, which have different codecs.
const WRITERS: [&str; 3] = ["franz-go", "confluent-kafka-go", "kafka-clients"];

const SINK: Broker = Broker::Sink { nodes: 1, delay_ms: 0 };
const SIX: u32 = 6;
const MIB: u32 = 1 << 20;

/// All scenarios, in the order in which they are run and reported.
#[must_use]
pub(super) fn table() -> Vec<Scenario> {
    let mut table = Vec::new();
    for broker in [SINK, Broker::Kafka(1)] {
        main_cells(&mut table, broker);
    }
    produce_variants(&mut table);
    consume_variants(&mut table);
    transactions(&mut table);
    encrypted(&mut table);
    writers(&mut table);
    measured(&mut table);
    latencies(&mut table);
    flows(&mut table);
    table
}

/// The main scenarios to produce and to consume, without and with keys, and those with other sizes and codecs.
fn main_cells(table: &mut Vec<Scenario>, broker: Broker) {
    for bytes in [100, 1024, 10, 10_240] {
        for codec in ["none", "lz4", "zstd"] {
            let payload = Payload::Bytes(bytes);
            let is_main = matches!(bytes, 100 | 1024) && codec != "zstd";
            let is_quick = is_main && (broker == SINK || codec == "none");
            table.push(Scenario { is_quick, ..produce(broker, payload, codec) });
            if is_main {
                table.push(produce(broker, payload, codec).with(|work| {
                    if let Work::Produce { is_keyed, .. } = work {
                        *is_keyed = true;
                    }
                }));
            }
            table.push(Scenario { is_quick, ..consume(broker, payload, codec, MIB, Twist::None) });
        }
    }
    for codec in ["none", "lz4", "zstd"] {
        table.push(produce(broker, Payload::Flights, codec));
        table.push(consume(broker, Payload::Flights, codec, MIB, Twist::None));
    }
}

fn produce_variants(table: &mut Vec<Scenario>) {
    let payload = Payload::Bytes(100);
    for partitions in [1, 100, 1000] {
        table.push(Scenario { partitions, ..produce(SINK, payload, "none") }.named());
    }
    table.push(produce(Broker::Kafka(1), payload, "none").with(|work| {
        if let Work::Produce { acks, is_idempotent, .. } = work {
            (*acks, *is_idempotent) = ("1", false);
        }
    }));
    table.push(produce(Broker::Kafka(1), payload, "none").with(|work| {
        if let Work::Produce { is_idempotent, .. } = work {
            *is_idempotent = false;
        }
    }));
    for delay_ms in [5, 50] {
        table.push(produce(Broker::Sink { nodes: 1, delay_ms }, payload, "none"));
    }
    table.push(produce(Broker::Kafka(3), payload, "none"));
    table.push(produce(Broker::Kafka(3), Payload::Bytes(1024), "lz4"));
    table.push(produce(Broker::Embedded(1), payload, "none"));
    table.push(produce(Broker::Embedded(1), Payload::Bytes(1024), "none"));
    table.push(produce(Broker::Embedded(1), Payload::Bytes(1024), "lz4"));
    let far = Broker::Sink { nodes: 1, delay_ms: 50 };
    for rhythm in [Rhythm::Free, Rhythm::OneInFlight] {
        table.push(Scenario { partitions: 1, ..produce(far, payload, "none").rhythm(rhythm) }.named());
    }
}

/// Transactions of 1000 records, and a flow that processes exactly once, each beside the same without transactions.
fn transactions(table: &mut Vec<Scenario>) {
    for broker in [Broker::Embedded(1), Broker::Kafka(1)] {
        for payload in [Payload::Bytes(100), Payload::Bytes(1024)] {
            for rhythm in [Rhythm::Flushes(1000), Rhythm::Transactions(1000)] {
                table.push(produce(broker, payload, "none").rhythm(rhythm));
            }
        }
        for is_exactly_once in [false, true] {
            let payload = Payload::Bytes(100);
            let work = Work::Process { records: payload.records(), is_exactly_once };
            table.push(scenario(broker, payload, work));
        }
    }
}

/// The same work over TLS.
fn encrypted(table: &mut Vec<Scenario>) {
    for broker in [Broker::Embedded(1), Broker::Kafka(1)] {
        for payload in [Payload::Bytes(100), Payload::Bytes(1024)] {
            for plain in
                [produce(broker, payload, "none"), consume(broker, payload, "none", MIB, Twist::None)]
            {
                table.push(Scenario { is_tls: true, ..plain }.named());
            }
        }
    }
}

fn consume_variants(table: &mut Vec<Scenario>) {
    let payload = Payload::Bytes(100);
    for batch_bytes in [4096, 16_384] {
        for broker in [SINK, Broker::Kafka(1)] {
            table.push(consume(broker, payload, "none", batch_bytes, Twist::None));
        }
        table.push(consume(SINK, payload, "lz4", batch_bytes, Twist::None));
    }
    for partitions in [1, 100, 1000] {
        table.push(Scenario { partitions, ..consume(SINK, payload, "none", 16_384, Twist::None) }.named());
    }
    for delay_ms in [5, 50] {
        table.push(consume(Broker::Sink { nodes: 1, delay_ms }, payload, "none", MIB, Twist::None));
    }
    table.push(consume(Broker::Kafka(3), payload, "none", MIB, Twist::None));
    table.push(consume(Broker::Kafka(3), Payload::Bytes(1024), "lz4", MIB, Twist::None));
    table.push(consume(Broker::Embedded(1), payload, "none", MIB, Twist::None));
    table.push(consume(Broker::Embedded(1), Payload::Bytes(1024), "lz4", MIB, Twist::None));
    // Each is compared with the same scenario without the twist.
    let three = Broker::Sink { nodes: 3, delay_ms: 0 };
    for broker in [three, Broker::Kafka(3)] {
        table.push(consume(broker, payload, "none", 16_384, Twist::None));
        table.push(consume(broker, payload, "none", 16_384, Twist::OthersIdle));
    }
    let twists = [Twist::Paused, Twist::Slow, Twist::Retain(10_000), Twist::IdlePartitions(10_000)];
    for twist in twists {
        table.push(consume(SINK, payload, "none", 16_384, twist));
    }
    for twist in [Twist::None, Twist::Group].into_iter().chain(twists) {
        table.push(consume(SINK, payload, "none", 16_384, twist).long());
    }
    table.push(consume(SINK, payload, "lz4", 16_384, Twist::Retain(10_000)));
    for twist in [Twist::None, Twist::Retain(10_000)] {
        table.push(consume(SINK, payload, "lz4", 16_384, twist).long());
    }
    for codec in ["none", "lz4"] {
        table.push(consume(SINK, payload, codec, MIB, Twist::Group));
    }
    table.push(
        Scenario { partitions: 1000, ..consume(SINK, payload, "none", 16_384, Twist::PausedEach) }.named(),
    );
    for twist in [Twist::None, Twist::Slow] {
        table.push(Scenario { partitions: 64, ..consume(SINK, payload, "none", 16_384, twist) }.named());
    }
    let far = Broker::Sink { nodes: 1, delay_ms: 50 };
    table.push(
        Scenario { partitions: 1, ..consume(far, Payload::Bytes(1024), "none", MIB, Twist::None) }.named(),
    );
    for twist in [Twist::None, Twist::OthersIdle] {
        table.push(consume(three, payload, "none", 16_384, twist).long());
    }
    table.push(consume(Broker::Kafka(1), payload, "none", 16_384, Twist::Paused));
    // Kafka lets no request create 10 000 partitions, and each takes it four files.
    table.push(consume(Broker::Kafka(1), payload, "none", 16_384, Twist::IdlePartitions(1000)));
}

/// The same work, counted and measured.
fn measured(table: &mut Vec<Scenario>) {
    let payload = Payload::Bytes(100);
    for plain in [produce(SINK, payload, "none"), consume(SINK, payload, "none", MIB, Twist::None)] {
        table.push(Scenario { has_metrics: true, ..plain }.named());
    }
}

/// Topics written by other clients, with their defaults and in batches of 1 MB.
fn writers(table: &mut Vec<Scenario>) {
    for client in WRITERS {
        for batch_bytes in [None, Some(1_000_000)] {
            for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
                let writer = Writer { client, batch_bytes, is_keyed: false };
                table.push(written(Broker::Kafka(1), codec, writer));
            }
        }
        let writer = Writer { client, batch_bytes: Some(1_000_000), is_keyed: false };
        table.push(written(Broker::Embedded(1), "lz4", writer));
    }
}

fn latencies(table: &mut Vec<Scenario>) {
    for broker in [SINK, Broker::Kafka(1)] {
        for tasks in [1, 16, 256] {
            let work = Work::Send { tasks, seconds: if broker == SINK { 1 } else { 3 } };
            let is_quick = broker == SINK && tasks == 16;
            table.push(Scenario { is_quick, ..scenario(broker, Payload::Bytes(100), work) });
        }
        table.push(scenario(broker, Payload::Bytes(100), Work::Pace { rate: 10_000, seconds: 3 }));
    }
    for broker in [Broker::Kafka(1), Broker::Embedded(1)] {
        table.push(scenario(broker, Payload::Bytes(100), Work::Latency { rate: 10_000, seconds: 3 }));
    }
}

/// Partitions that are paused, moved and given away while others are read.
fn flows(table: &mut Vec<Scenario>) {
    let payload = Payload::Bytes(100);
    table.push(scenario(SINK, payload, Work::Flip { tasks: 64, rate: 100, seconds: 12 }));
    for broker in [Broker::Embedded(1), Broker::Kafka(1)] {
        table.push(
            Scenario { partitions: 1, ..scenario(broker, payload, Work::Resume { seconds: 20 }) }.named(),
        );
    }
    let disturbances =
        [Disturbance::None, Disturbance::LeaderMoves, Disturbance::Group, Disturbance::Revokes];
    for disturbance in disturbances {
        let work = Work::Follow { disturbance, rate: 20_000, seconds: 15 };
        table.push(Scenario { partitions: 299, ..scenario(Broker::Embedded(3), payload, work) }.named());
    }
}

fn produce(broker: Broker, payload: Payload, codec: &'static str) -> Scenario {
    let records = payload.records() / if matches!(broker, Broker::Kafka(3)) { 2 } else { 1 };
    let rhythm = Rhythm::Free;
    let work = Work::Produce { records, is_keyed: false, acks: "all", is_idempotent: true, codec, rhythm };
    scenario(broker, payload, work)
}

fn consume(
    broker: Broker,
    payload: Payload,
    codec: &'static str,
    batch_bytes: u32,
    twist: Twist,
) -> Scenario {
    let records = payload.records() / if batch_bytes < 10_000 { 4 } else { 1 };
    scenario(broker, payload, Work::Consume { records, codec, batch_bytes, twist })
}

/// Reads a topic that `writer` wrote.
pub(super) fn written(broker: Broker, codec: &'static str, writer: Writer) -> Scenario {
    let scenario = consume(broker, Payload::Bytes(100), codec, MIB, Twist::None);
    Scenario { writer: Some(writer), ..scenario }.named()
}

/// 10 000 partitions, each with more records than fit the memory of any of them, and how the application reads before it
/// stops: in small batches, in large ones, of which even one for each partition is too much, and in batches of one record. A
/// member of a group reads from the embedded broker, which keeps every record in memory, and so has half as many partitions
/// and fewer records.
pub(super) fn stopped() -> Vec<(Scenario, &'static str)> {
    let topic = |broker, codec, batch_bytes, partitions: u32, each: u64| {
        let scenario = consume(broker, Payload::Bytes(1024), codec, batch_bytes, Twist::None);
        Scenario { partitions, ..scenario }.with(|work| {
            if let Work::Consume { records, .. } = work {
                *records = u64::from(partitions) * each;
            }
        })
    };
    let shapes = [("none", 16 << 10), ("lz4", MIB), ("none", 1)];
    let rows = shapes.iter().flat_map(|(codec, batch_bytes)| {
        let readings = ["turns", "own", "paused", "keeping"];
        readings.map(|reading| (topic(SINK, codec, *batch_bytes, 10_000, 4096), reading))
    });
    rows.chain([(topic(Broker::Embedded(1), "none", 16 << 10, 5000, 64), "member")]).collect()
}

/// A topic of 32 partitions with this many bytes of records in all.
pub(super) fn rebalance(bytes: u64) -> Scenario {
    let scenario = consume(Broker::Embedded(1), Payload::Bytes(1024), "none", 16 << 10, Twist::None);
    Scenario { partitions: 32, ..scenario }.with(|work| {
        if let Work::Consume { records, .. } = work {
            *records = bytes / 1024;
        }
    })
}

/// Topics that are read by position and in a group: many small records, and compressed ones.
pub(super) fn group_costs() -> [Scenario; 2] {
    [(Payload::Bytes(100), "none"), (Payload::Bytes(1024), "lz4")].map(|(payload, codec)| {
        let scenario = consume(SINK, payload, codec, 16_384, Twist::None);
        scenario.with(|work| {
            if let Work::Consume { records, .. } = work {
                *records *= 5;
            }
        })
    })
}

fn scenario(broker: Broker, payload: Payload, work: Work) -> Scenario {
    let name = String::new();
    Scenario {
        name,
        is_quick: false,
        is_long: false,
        broker,
        payload,
        partitions: SIX,
        writer: None,
        is_tls: false,
        has_metrics: false,
        work,
    }
    .named()
}

impl Scenario {
    fn long(mut self) -> Self {
        self.is_long = true;
        self.with(|work| {
            if let Work::Consume { records, .. } = work {
                *records *= 10;
            }
        })
    }

    pub(super) fn rhythm(self, to: Rhythm) -> Self {
        self.with(|work| {
            if let Work::Produce { rhythm, .. } = work {
                *rhythm = to;
            }
        })
    }

    /// The same scenario with a flush in place of each transaction.
    pub(super) fn flushing(&self) -> Self {
        self.clone().with(|work| {
            if let Work::Produce { rhythm, .. } = work
                && let Rhythm::Transactions(each) = *rhythm
            {
                *rhythm = Rhythm::Flushes(each);
            }
        })
    }

    pub(super) fn with(mut self, change: impl FnOnce(&mut Work)) -> Self {
        change(&mut self.work);
        self.named()
    }

    /// Gives the scenario its name.
    fn named(mut self) -> Self {
        let (broker, payload) = (self.broker, self.payload);
        self.name = match &self.work {
            Work::Produce { is_keyed, acks, is_idempotent, codec, rhythm, .. } => {
                let mut name = format!("produce-{broker}-{payload}-{codec}{}", rhythm.suffix());
                name += if *is_keyed { "-keyed" } else { "" };
                name += if *acks == "1" { "-acks1" } else { "" };
                name + if *is_idempotent || *acks == "1" { "" } else { "-once-or-twice" }
            }
            Work::Process { is_exactly_once, .. } => {
                format!("process-{broker}-{payload}{}", if *is_exactly_once { "-exactly-once" } else { "" })
            }
            Work::Send { tasks, .. } => format!("send-{broker}-{tasks}tasks"),
            Work::Pace { rate, .. } => format!("pace-{broker}-{rate}"),
            Work::Latency { rate, .. } => format!("latency-{broker}-{rate}"),
            Work::Flip { tasks, rate, .. } => format!("flip-{broker}-{tasks}tasks-{rate}"),
            Work::Resume { .. } => format!("resume-{broker}"),
            Work::Follow { disturbance, rate, .. } => {
                format!("follow-{broker}-{rate}{}", disturbance.suffix())
            }
            Work::Consume { codec, batch_bytes, twist, .. } => {
                let mut name = format!("consume-{broker}-{payload}-{codec}");
                if *batch_bytes < MIB {
                    name += &format!("-batches{}K", batch_bytes / 1024);
                }
                name += if self.is_long { "-long" } else { "" };
                name += &self.writer.map(|writer| writer.to_string()).unwrap_or_default();
                name + &twist.suffix()
            }
        };
        if self.partitions != SIX {
            self.name += &format!("-{}partitions", self.partitions);
        }
        self.name += if self.is_tls { "-tls" } else { "" };
        self.name += if self.has_metrics { "-metrics" } else { "" };
        self
    }

    /// The same scenario without its twist or its disturbance.
    #[must_use]
    pub(super) fn plain(&self) -> Self {
        Self { has_metrics: false, ..self.clone() }.with(|work| match work {
            Work::Consume { twist, .. } => *twist = Twist::None,
            Work::Follow { disturbance, .. } => *disturbance = disturbance.without(),
            Work::Produce { rhythm, .. } => *rhythm = Rhythm::Free,
            Work::Process { is_exactly_once, .. } => *is_exactly_once = false,
            _ => {}
        })
    }

    /// The partitions of the other topic, which has no records: those that are assigned as well, or that are written to.
    #[must_use]
    pub(super) fn idle_partitions(&self) -> Option<u32> {
        match self.work {
            Work::Consume { twist: Twist::IdlePartitions(count), .. } => Some(count),
            Work::Flip { .. } => Some(1000),
            Work::Resume { .. } | Work::Process { .. } => Some(SIX),
            Work::Follow { .. } => Some(1),
            _ => None,
        }
    }

    /// Whether only Milena does it, beside the same without the twist.
    #[must_use]
    pub(super) fn is_own(&self) -> bool {
        self.is_long
            || self.has_metrics
            || matches!(self.work, Work::Produce { rhythm: Rhythm::Flushes(_) | Rhythm::OneInFlight, .. })
    }

    /// Whether a client must have transactions, or process in a group as those that have them.
    #[must_use]
    pub(super) fn is_transactional(&self) -> bool {
        let is_process = matches!(self.work, Work::Process { .. });
        is_process || matches!(self.work, Work::Produce { rhythm: Rhythm::Transactions(_), .. })
    }

    /// Whether a client must be a member of a group, or pause partitions while it reads.
    #[must_use]
    pub(super) fn is_flow(&self) -> bool {
        match self.work {
            Work::Consume { twist, .. } => matches!(twist, Twist::PausedEach | Twist::Group),
            Work::Flip { .. } | Work::Resume { .. } | Work::Follow { .. } => true,
            _ => false,
        }
    }

    /// The number of records, unless the work is limited by time.
    #[must_use]
    pub(super) fn records(&self) -> Option<u64> {
        match self.work {
            Work::Produce { records, .. } | Work::Consume { records, .. } | Work::Process { records, .. } => {
                Some(records)
            }
            _ => None,
        }
    }

    /// The codec's name.
    #[must_use]
    pub(super) fn codec(&self) -> &'static str {
        match self.work {
            Work::Produce { codec, .. } | Work::Consume { codec, .. } => codec,
            _ => "none",
        }
    }

    /// The same scenario with fewer records and less time.
    #[must_use]
    pub(super) fn shortened(mut self) -> Self {
        match &mut self.work {
            Work::Produce { records, .. } | Work::Consume { records, .. } | Work::Process { records, .. } => {
                *records /= 4;
            }
            Work::Send { seconds, .. } | Work::Pace { seconds, .. } | Work::Latency { seconds, .. } => {
                *seconds = 1;
            }
            Work::Flip { seconds, .. } | Work::Resume { seconds } | Work::Follow { seconds, .. } => {
                *seconds = 3;
            }
        }
        self
    }
}

impl Payload {
    /// As many records as a fast client moves in a second or two.
    fn records(self) -> u64 {
        match self {
            Self::Bytes(10) => 4_000_000,
            Self::Bytes(100) => 3_000_000,
            Self::Bytes(1024) => 600_000,
            Self::Bytes(_) => 80_000,
            Self::Flights => 1_500_000,
        }
    }

    /// The file of its values.
    #[must_use]
    pub(super) fn values(self) -> String {
        match self {
            Self::Bytes(bytes) => format!("values-{bytes}.txt"),
            Self::Flights => "flights.txt".into(),
        }
    }

    /// The file of its keys.
    #[must_use]
    pub(super) fn keys(self) -> &'static str {
        if self == Self::Flights { "tail-numbers.txt" } else { "keys.txt" }
    }
}

impl Twist {
    /// The suffix of the scenario's name.
    pub(super) fn suffix(self) -> String {
        match self {
            Self::None => String::new(),
            Self::OthersIdle => "-others-idle".into(),
            Self::Paused => "-paused".into(),
            Self::Slow => "-slow".into(),
            Self::Retain(every) => format!("-retain{every}"),
            Self::IdlePartitions(count) => format!("-idle{count}"),
            Self::PausedEach => "-paused-each".into(),
            Self::Group => "-group".into(),
        }
    }
}

impl Rhythm {
    fn suffix(self) -> String {
        match self {
            Self::Free => String::new(),
            Self::OneInFlight => "-one-in-flight".into(),
            Self::Flushes(each) => format!("-flush{each}"),
            Self::Transactions(each) => format!("-transactions{each}"),
        }
    }
}

impl Disturbance {
    fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::LeaderMoves => "-leader-moves",
            Self::Group => "-group",
            Self::Revokes => "-group-revokes",
        }
    }

    /// Whether the consumer is a member of a group.
    pub(super) fn is_group(self) -> bool {
        matches!(self, Self::Group | Self::Revokes)
    }

    fn without(self) -> Self {
        if self.is_group() { Self::Group } else { Self::None }
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sink { nodes: 1, delay_ms: 0 } => f.write_str("sink"),
            Self::Sink { nodes, delay_ms: 0 } => write!(f, "sink{nodes}"),
            Self::Sink { delay_ms, .. } => write!(f, "sink-rtt{delay_ms}"),
            Self::Kafka(1) => f.write_str("kafka"),
            Self::Kafka(nodes) => write!(f, "kafka{nodes}"),
            Self::Embedded(1) => f.write_str("embedded"),
            Self::Embedded(nodes) => write!(f, "embedded{nodes}"),
        }
    }
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = if self.batch_bytes.is_some() { "-1M" } else { "" };
        write!(f, "-by-{}{size}{}", self.client, if self.is_keyed { "-keyed" } else { "" })
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(1024) => f.write_str("1K"),
            Self::Bytes(10_240) => f.write_str("10K"),
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
            Self::Flights => f.write_str("flights"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> = table().into_iter().map(|scenario| scenario.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_scenario_without_its_twist_is_there() {
        let table = table();
        let is_compared = |scenario: &&Scenario| {
            matches!(scenario.work, Work::Follow { .. } | Work::Process { .. })
                || scenario.is_own()
                || scenario.is_transactional()
                || matches!(scenario.work, Work::Consume { twist: Twist::PausedEach, .. })
        };
        for scenario in table.iter().filter(is_compared) {
            for plain in [scenario.plain().name, scenario.flushing().name] {
                assert!(table.iter().any(|other| other.name == plain), "{}: no {plain}", scenario.name);
            }
        }
    }

    #[test]
    fn the_issues_cells_are_there() {
        let names: Vec<String> = table().into_iter().map(|scenario| scenario.name).collect();
        for broker in ["sink", "kafka"] {
            for cell in ["100B-none", "100B-lz4", "1K-none", "1K-lz4"] {
                for mode in ["produce", "consume"] {
                    let name = format!("{mode}-{broker}-{cell}");
                    assert!(names.contains(&name), "{name}");
                }
            }
        }
    }
}
