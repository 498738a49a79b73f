//! The plan of a seed: the sizes, settings and troubles of one round. It determines everything but timing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use milena::assignors::{self, Assignor, CooperativeSticky, Range, RoundRobin, Sticky};
use milena::{
    Acks, ClientSettings, Compression, ConsumerSettings, GroupSettings, ProducerSettings, Protocol, Reset,
};

use crate::network::Rates;

/// splitmix64, which is small and gives the same numbers everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A generator whose numbers are its own.
    pub(crate) fn fork(&mut self) -> Self {
        Self(self.next())
    }

    /// 0 to `limit` - 1.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    pub(crate) fn between(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most - least + 1)
    }

    pub(crate) fn percent(&mut self, chance: u32) -> bool {
        self.below(100) < chance as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Up to `most`, most often far less: races live near zero.
    pub(crate) fn moment(&mut self, most: Duration) -> Duration {
        let part = self.below(1000) as f64 / 1000.0;
        most.mul_f64(part * part * part)
    }
}

/// The timeout of patient calls.
const PATIENT: Duration = Duration::from_secs(600);

/// The subject of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Every kind of trouble, batches and requests of all sizes.
    Storm,
    /// Every kind of trouble, with tiny batches and tiny requests, many of which are in flight at the same time.
    Burst,
    /// A network without faults: a failure here is a race within the client.
    Calm,
    /// Topics are deleted and made again.
    Recreate,
    /// The members of a group read, come and go, and their coordinator moves.
    Group,
}

/// One round.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) mode: Mode,
    /// Threads of the round's runtime; 1 is a runtime on the current thread, where a task that spins stops all others.
    pub(crate) threads: usize,
    /// Partitions of each topic.
    pub(crate) topics: Vec<i32>,
    pub(crate) storm: Duration,
    pub(crate) rates: Rates,
    pub(crate) memory_bytes_max: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) retry_backoff: Duration,
    pub(crate) producers: Vec<ProducerPlan>,
    pub(crate) readers: Vec<ReaderPlan>,
    /// Instead of readers: groups, whose members read the same topics.
    pub(crate) groups: Vec<GroupPlan>,
    /// The number of topics that are made during the storm, beside those that are there from the beginning. Some of them are
    /// deleted again.
    pub(crate) extras: usize,
    /// Producers and loops with transactions, beside the others.
    pub(crate) transactions: Option<TransactionPlan>,
    /// How long a session of a member lasts. The coordinator has one setting for all groups.
    pub(crate) session_timeout: Duration,
}

/// Transactional producers, and loops that process exactly once.
#[derive(Debug, Clone)]
pub(crate) struct TransactionPlan {
    /// `transaction.version` at the beginning.
    pub(crate) version: i16,
    pub(crate) is_version_changed: bool,
    /// The number of transactional ids.
    pub(crate) producers: usize,
    /// Whether each id has two instances, which fence each other.
    pub(crate) has_rivals: bool,
    /// The number of loops that copy a topic.
    pub(crate) loops: usize,
    /// How the loops' group is coordinated.
    pub(crate) protocol: Protocol,
    /// Whether coordinators and leaders move.
    pub(crate) has_trouble: bool,
    delivery_timeout: Duration,
    enqueue_timeout: Duration,
    batch_bytes_max: usize,
}

/// The members of a group.
#[derive(Debug, Clone)]
pub(crate) struct GroupPlan {
    /// The group's id.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    assignor: Assigning,
    /// The number of members at a time. Each that goes is followed by another one.
    pub(crate) members: usize,
    /// Whether members have names, under which the next ones come back.
    pub(crate) are_static: bool,
    pub(crate) promise: Promise,
    pub(crate) naming: Naming,
    /// Whether hooks take their time.
    pub(crate) has_slow_hooks: bool,
    /// Whether hooks panic now and then.
    pub(crate) has_panicking_hooks: bool,
    /// Whether members take some partitions to read them by tasks of their own.
    pub(crate) has_own_readers: bool,
    session_timeout: Duration,
    commit_interval: Duration,
    /// How long an application may take no batch.
    pub(crate) max_poll_interval: Option<Duration>,
    /// How members fetch.
    reader: ReaderPlan,
}

/// How a group's partitions are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Assigning {
    /// As the client does when it is not told.
    Usual,
    CooperativeSticky,
    Range,
    RoundRobin,
    Sticky,
}

/// How members commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    /// What is done, in the background.
    AtLeastOnce,
    /// As `AtLeastOnce`, and what is done above the committed offset does not come again.
    Keeping,
    /// Only when the application says so.
    ByHand,
    /// Before records are delivered. `is_strict`: members cancel no call that waits for a batch, so that no record is missed
    /// unless a member is killed or loses a partition.
    AtMostOnce { is_strict: bool },
}

/// How members name what they subscribe to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// The topics that are there from the beginning.
    Topics,
    /// Also those that are made later.
    AllTopics,
    /// A pattern that all of them match.
    Pattern,
}

#[derive(Debug, Clone)]
pub(crate) struct ProducerPlan {
    pub(crate) acks: Acks,
    pub(crate) idempotence: bool,
    /// Its calls are patient: none of its records may fail.
    pub(crate) patient: bool,
    /// Flushes of several tasks overlap.
    pub(crate) flushes_overlap: bool,
    pub(crate) writers: usize,
    linger: Duration,
    pub(crate) batch_bytes_max: usize,
    request_bytes_max: usize,
    in_flight_max: usize,
    compression: Compression,
    delivery_timeout: Duration,
    enqueue_timeout: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct ReaderPlan {
    pub(crate) reset: Reset,
    fetch_bytes_max: usize,
    fetch_partition_bytes_max: usize,
    fetch_wait: Duration,
    fetch_bytes_min: usize,
    watermarks: WatermarkPlan,
    /// Reads whole topics, also partitions that are added later, and unassigns none.
    pub(crate) whole: bool,
    /// Sleeps between batches.
    pub(crate) slow: bool,
    /// Reads its partitions to their ends one after the other, and takes no batches of the remaining ones meanwhile.
    pub(crate) one_by_one: bool,
    /// How many records it takes at a time.
    delivery_records_max: Option<usize>,
}

/// At how much fetching stops, and goes on. None is no limit.
#[derive(Debug, Clone)]
struct WatermarkPlan {
    partition_bytes: Option<usize>,
    partition_records: Option<usize>,
    bytes: Option<usize>,
    records: Option<usize>,
    resume_percent: usize,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed ^ 0x006d_696c_656e_6100);
        use Mode::{Burst, Calm, Group, Recreate, Storm};
        let mode =
            [Storm, Burst, Group, Recreate, Group, Burst, Calm, Storm, Group, Burst][(seed % 10) as usize];
        let partitions_max = rng.pick(&[3, 8, 20]);
        let topics: Vec<i32> =
            (0..rng.between(1, 3)).map(|_| rng.between(1, partitions_max) as i32).collect();
        let producers = (0..rng.between(1, 3)).map(|_| ProducerPlan::of(&mut rng, mode)).collect();
        let readers: Vec<_> = (0..rng.between(1, 3)).map(|_| ReaderPlan::of(&mut rng, mode)).collect();
        let is_group = mode == Group;
        let session_timeout = Duration::from_millis(rng.pick(&[300, 1000, 3000]));
        let groups = if is_group { rng.pick(&[1, 1, 1, 2]) } else { 0 };
        let groups = (0..groups).map(|index| GroupPlan::of(&mut rng, index, session_timeout)).collect();
        Self {
            seed,
            mode,
            threads: rng.pick(&[1, 1, 2, 3]),
            topics,
            // Groups need time for several rebalances.
            storm: Duration::from_millis(rng.between(150, 600) as u64) * if is_group { 4 } else { 1 },
            rates: if mode == Calm { Rates::default() } else { Rates::of(&mut rng) },
            memory_bytes_max: rng.pick(&[64 << 10, 256 << 10, 1 << 20, 64 << 20]),
            request_timeout: Duration::from_millis(rng.pick(&[150, 400, 2000])),
            retry_backoff: Duration::from_millis(rng.pick(&[1, 5, 20])),
            producers,
            readers: if is_group { Vec::new() } else { readers },
            groups,
            extras: if is_group { rng.pick(&[0, 2, 4]) } else { 0 },
            transactions: matches!(mode, Storm | Calm)
                .then(|| TransactionPlan::of(&mut rng, mode, session_timeout)),
            session_timeout,
        }
    }

    pub(crate) fn apply(&self, settings: &mut ClientSettings) {
        settings.request_timeout = self.request_timeout;
        settings.connect_timeout = self.request_timeout;
        settings.retry_backoff = self.retry_backoff;
        settings.retry_backoff_max = self.retry_backoff * 8;
        settings.reconnect_backoff = self.retry_backoff;
        settings.reconnect_backoff_max = self.retry_backoff * 8;
        settings.memory_bytes_max = self.memory_bytes_max;
        if self.readers.iter().any(|reader| reader.whole) || !self.groups.is_empty() {
            // A reader of whole topics learns of added partitions when metadata is fetched again.
            settings.metadata_age_max = Duration::from_millis(500);
        }
    }
}

impl TransactionPlan {
    fn of(rng: &mut Rng, mode: Mode, session_timeout: Duration) -> Self {
        // Members whose sessions are shorter than a round trip on a busy machine never get anywhere.
        let has_loops = session_timeout >= Duration::from_secs(1) && rng.percent(70);
        Self {
            version: rng.pick(&[1, 2]),
            is_version_changed: rng.percent(25),
            producers: rng.between(1, 2),
            has_rivals: rng.percent(25),
            loops: if has_loops { rng.between(1, 2) } else { 0 },
            protocol: rng.pick(&[Protocol::Classic, Protocol::Consumer]),
            has_trouble: mode != Mode::Calm,
            delivery_timeout: rng.pick(&[Duration::from_millis(300), Duration::from_secs(2), PATIENT]),
            enqueue_timeout: rng.pick(&[Duration::from_secs(1), Duration::from_secs(5), PATIENT]),
            batch_bytes_max: rng.pick(&[200, 16_384]),
        }
    }

    pub(crate) fn apply(&self, settings: &mut ProducerSettings) {
        settings.delivery_timeout = self.delivery_timeout;
        settings.enqueue_timeout = self.enqueue_timeout;
        settings.batch_bytes_max = self.batch_bytes_max;
        // Kafka's default of a minute is longer than a round waits for a transaction of a producer that was dropped.
        settings.transaction_timeout = Duration::from_secs(5);
    }
}

impl ProducerPlan {
    fn of(rng: &mut Rng, mode: Mode) -> Self {
        let (acks, idempotence) = match rng.below(20) {
            0 => (Acks::None, false),
            1 => (Acks::Leader, false),
            2 => (Acks::All, false),
            _ => (Acks::All, true),
        };
        let is_burst = mode == Mode::Burst;
        let patient = mode != Mode::Recreate && rng.percent(60);
        let mut wait = |least, most| match patient {
            true => PATIENT,
            false => Duration::from_millis(least) + rng.moment(Duration::from_millis(most)),
        };
        let (delivery_timeout, enqueue_timeout) = (wait(60, 1500), wait(30, 500));
        Self {
            acks,
            idempotence,
            patient,
            flushes_overlap: rng.percent(25),
            writers: if is_burst { rng.between(2, 6) } else { rng.between(1, 3) },
            linger: Duration::from_millis(rng.pick(&[0, 0, 1, 5])),
            batch_bytes_max: match is_burst {
                true => rng.between(150, 2000),
                false => rng.pick(&[2000, 16_384, 1_000_000]),
            },
            request_bytes_max: if is_burst {
                rng.pick(&[300, 1000, 4000])
            } else {
                rng.pick(&[4000, 8 << 20])
            },
            in_flight_max: rng.between(1, 5),
            compression: rng.pick(&[
                Compression::None,
                Compression::None,
                Compression::None,
                Compression::Lz4,
                Compression::Snappy,
                Compression::Gzip,
                Compression::Zstd,
            ]),
            delivery_timeout,
            enqueue_timeout,
        }
    }

    /// The defaults, and all the patience there is.
    pub(crate) fn patient() -> Self {
        let defaults = ProducerSettings::default();
        Self {
            acks: defaults.acks,
            idempotence: defaults.idempotence,
            patient: true,
            flushes_overlap: false,
            writers: 0,
            linger: defaults.linger,
            batch_bytes_max: defaults.batch_bytes_max,
            request_bytes_max: defaults.request_bytes_max,
            in_flight_max: defaults.in_flight_max,
            compression: defaults.compression,
            delivery_timeout: PATIENT,
            enqueue_timeout: PATIENT,
        }
    }

    pub(crate) fn apply(&self, settings: &mut ProducerSettings) {
        settings.acks = self.acks;
        settings.idempotence = self.idempotence;
        settings.linger = self.linger;
        settings.batch_bytes_max = self.batch_bytes_max;
        settings.request_bytes_max = self.request_bytes_max;
        settings.in_flight_max = self.in_flight_max;
        settings.compression = self.compression;
        settings.delivery_timeout = self.delivery_timeout;
        settings.enqueue_timeout = self.enqueue_timeout;
    }

    /// Written once, in order, and what is told of it is true.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.acks == Acks::All && self.idempotence
    }
}

impl ReaderPlan {
    fn of(rng: &mut Rng, mode: Mode) -> Self {
        let fetch_bytes_min = rng.pick(&[1, 1, 1, 2000]);
        let whole = rng.percent(25);
        Self {
            reset: if mode == Mode::Recreate {
                rng.pick(&[Reset::Fail, Reset::Earliest])
            } else {
                Reset::Fail
            },
            fetch_bytes_max: rng.pick(&[1000, 50_000, 8 << 20]),
            fetch_partition_bytes_max: rng.pick(&[300, 4000, 1 << 20]),
            fetch_wait: Duration::from_millis(if fetch_bytes_min > 1 { 20 } else { rng.pick(&[5, 50, 500]) }),
            fetch_bytes_min,
            watermarks: WatermarkPlan::of(rng),
            whole,
            slow: rng.percent(30),
            one_by_one: mode != Mode::Recreate && !whole && rng.percent(30),
            delivery_records_max: rng.pick(&[None, None, Some(1), Some(3), Some(40)]),
        }
    }

    pub(crate) fn apply(&self, settings: &mut ConsumerSettings) {
        settings.reset = Some(self.reset);
        settings.fetch_bytes_max = self.fetch_bytes_max;
        settings.fetch_partition_bytes_max = self.fetch_partition_bytes_max;
        settings.fetch_wait = self.fetch_wait;
        settings.fetch_bytes_min = self.fetch_bytes_min;
        settings.delivery_records_max = self.delivery_records_max;
        let watermarks = &self.watermarks;
        settings.partition_buffer_bytes_max = watermarks.partition_bytes;
        settings.partition_buffer_records_max = watermarks.partition_records;
        settings.buffer_bytes_max = watermarks.bytes;
        settings.buffer_records_max = watermarks.records;
        settings.buffer_resume_percent = watermarks.resume_percent;
    }
}

impl WatermarkPlan {
    fn of(rng: &mut Rng) -> Self {
        let mut often_none = |some: &[usize]| rng.percent(30).then(|| rng.pick(some));
        Self {
            partition_bytes: often_none(&[1, 500, 4000]),
            partition_records: often_none(&[1, 10, 50]),
            bytes: often_none(&[1, 1000, 8000]),
            records: often_none(&[1, 20, 100]),
            resume_percent: rng.pick(&[0, 50, 50, 100]),
        }
    }
}

impl GroupPlan {
    fn of(rng: &mut Rng, index: usize, session_timeout: Duration) -> Self {
        let promise = match rng.below(10) {
            0..3 => Promise::AtLeastOnce,
            3..6 => Promise::Keeping,
            6..8 => Promise::ByHand,
            more => Promise::AtMostOnce { is_strict: more == 8 },
        };
        Self {
            name: format!("company-{index}"),
            protocol: rng.pick(&[Protocol::Classic, Protocol::Consumer, Protocol::Automatic]),
            assignor: rng.pick(&[
                Assigning::Usual,
                Assigning::CooperativeSticky,
                Assigning::CooperativeSticky,
                Assigning::Range,
                Assigning::RoundRobin,
                Assigning::Sticky,
            ]),
            members: rng.between(1, 4),
            are_static: rng.percent(20),
            promise,
            naming: rng.pick(&[Naming::Topics, Naming::AllTopics, Naming::Pattern]),
            has_slow_hooks: rng.percent(30),
            has_panicking_hooks: rng.percent(10),
            has_own_readers: rng.percent(40),
            session_timeout,
            commit_interval: Duration::from_millis(rng.pick(&[1, 20, 200, 1000])),
            max_poll_interval: rng.percent(10).then_some(Duration::from_millis(300)),
            reader: ReaderPlan::of(rng, Mode::Group),
        }
    }

    /// The settings of the member in this place.
    pub(crate) fn apply_to_fetches(&self, settings: &mut ConsumerSettings) {
        self.reader.apply(settings);
        settings.reset = Some(Reset::Earliest);
    }

    /// `is_drainer`: it reads what is left, in its own time.
    pub(crate) fn apply(&self, place: usize, is_drainer: bool, group: &mut GroupSettings) {
        group.instance_id = self.are_static.then(|| format!("place-{place}").into());
        group.protocol = self.protocol;
        let assignor: Option<Arc<dyn Assignor>> = match self.assignor {
            Assigning::Usual => None,
            Assigning::CooperativeSticky => Some(Arc::new(CooperativeSticky)),
            Assigning::Range => Some(Arc::new(Range)),
            Assigning::RoundRobin => Some(Arc::new(RoundRobin)),
            Assigning::Sticky => Some(Arc::new(Sticky)),
        };
        group.assignors = assignor.map_or_else(assignors::defaults, |assignor| vec![assignor]);
        if self.protocol == Protocol::Consumer {
            // The coordinator's assignors have other names.
            group.server_assignor = match self.assignor {
                Assigning::Range => Some("range".into()),
                Assigning::RoundRobin | Assigning::Sticky => Some("uniform".into()),
                Assigning::Usual | Assigning::CooperativeSticky => None,
            };
        }
        group.session_timeout = self.session_timeout;
        group.heartbeat_interval = self.session_timeout / 10;
        group.rebalance_timeout = Some(Duration::from_secs(3));
        group.auto_commit = self.promise != Promise::ByHand;
        group.keep_finished = self.promise == Promise::Keeping;
        group.commit_interval = self.commit_interval;
        if let Some(interval) = self.max_poll_interval.filter(|_| !is_drainer) {
            group.max_poll_interval = interval;
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, mode, threads, topics, storm, rates, memory_bytes_max, .. } = self;
        writeln!(
            f,
            "seed {seed}: {mode:?}, {threads} threads, partitions {topics:?}, storm {storm:?}, memory \
             {memory_bytes_max}, request timeout {:?}, backoff {:?}",
            self.request_timeout, self.retry_backoff
        )?;
        writeln!(f, "  {rates:?}")?;
        self.producers.iter().try_for_each(|producer| writeln!(f, "  {producer:?}"))?;
        self.readers.iter().try_for_each(|reader| writeln!(f, "  {reader:?}"))?;
        self.groups.iter().try_for_each(|group| writeln!(f, "  {group:?}"))?;
        self.transactions.iter().try_for_each(|transactions| writeln!(f, "  {transactions:?}"))
    }
}
