//! Which partition a record goes to: the one that it names, the one of its key, or the one that its topic's records without
//! a key stick to.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use milena_core::Rng;
use milena_core::partitioner::{KeyHash, Spread, SpreadSettings};

use crate::Record;
use crate::clock::Clock;

/// How a producer chooses the partition of a record that names none. Default [`Murmur2Random`](Self::Murmur2Random).
///
/// In properties: `partitioner` with librdkafka's words, or `partitioner.class` with a class of Java's client.
///
/// *Spread* stands for records that go where there is room: they stick to one partition until its batch is closed
/// (KIP-480), and then to one that has few batches waiting and few bytes so far (KIP-794). The settings
/// [`adaptive_partitioning`](crate::ProducerSettings::adaptive_partitioning),
/// [`partition_availability_timeout`](crate::ProducerSettings::partition_availability_timeout) and
/// [`rack_aware`](crate::ProducerSettings::rack_aware) are for these.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("orders", 12)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// use milena::{Partitioner, Record};
///
/// // Keys go where librdkafka's default puts them.
/// let producer = client.producer().partitioner(Partitioner::ConsistentRandom).build().await?;
/// let receipt = producer.send(Record::to("orders").key("42").value("created")).await?;
/// assert_eq!(receipt.partition(), 0x3224_b088 % 12); // CRC-32 of "42"
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// By the key's murmur2 hash, as Java's client and franz-go do by default. Records without a key are spread.
    #[default]
    Murmur2Random,
    /// By the key's murmur2 hash. Records without a key go where the empty key goes.
    Murmur2,
    /// By the key's CRC-32, as librdkafka's default. Records without a key or with an empty one are spread.
    ConsistentRandom,
    /// By the key's CRC-32. Records without a key go where the empty key goes.
    Consistent,
    /// By the key's FNV-1a hash, as sarama's `NewHashPartitioner`, its default. Records without a key are spread.
    Fnv1aRandom,
    /// By the key's FNV-1a hash. Records without a key go where the empty key goes.
    Fnv1a,
    /// By the key's FNV-1a hash, as sarama's `NewReferenceHashPartitioner`. Records without a key are spread.
    Fnv1aReference,
    /// All records are spread, whatever their keys: Java's `partitioner.ignore.keys`.
    Uniform,
    /// One partition after another, record by record, whatever the keys: Java's `RoundRobinPartitioner`.
    RoundRobin,
    /// A partition by chance for each record, whatever the keys: librdkafka's `random`.
    Random,
    /// A program's own.
    Custom(Arc<dyn ChoosePartition>),
}

/// A partitioner of a program's own, for [`Partitioner::Custom`].
///
/// ```
/// use milena::{ChoosePartition, Partitioner, Record};
///
/// /// Orders of test accounts go to partition 0.
/// #[derive(Debug)]
/// struct TestsApart;
///
/// impl ChoosePartition for TestsApart {
///     fn choose(&self, record: &Record<'_>, _partitions: u32) -> Option<u32> {
///         record.key_bytes().is_some_and(|key| key.starts_with(b"test-")).then_some(0)
///     }
/// }
///
/// let partitioner = Partitioner::Custom(std::sync::Arc::new(TestsApart));
/// ```
pub trait ChoosePartition: fmt::Debug + Send + Sync {
    /// The partition for `record` in a topic of `partitions` partitions. `None` spreads the record. A partition that the
    /// topic does not have is an error of the call that produces the record.
    ///
    /// It is called on the task that produces, once per record, or once more if the record has to wait for metadata.
    fn choose(&self, record: &Record<'_>, partitions: u32) -> Option<u32>;
}

/// The partitioners that have a name, with librdkafka's word or our own, and the class that Java's client has.
pub(crate) const NAMED: [(&str, Partitioner, &[&str]); 10] = [
    ("murmur2_random", Partitioner::Murmur2Random, &["null", "DefaultPartitioner", "BuiltInPartitioner"]),
    ("murmur2", Partitioner::Murmur2, &[]),
    ("consistent_random", Partitioner::ConsistentRandom, &[]),
    ("consistent", Partitioner::Consistent, &[]),
    ("fnv1a_random", Partitioner::Fnv1aRandom, &[]),
    ("fnv1a", Partitioner::Fnv1a, &[]),
    ("fnv1a_reference", Partitioner::Fnv1aReference, &[]),
    ("uniform", Partitioner::Uniform, &["UniformStickyPartitioner"]),
    ("round_robin", Partitioner::RoundRobin, &["RoundRobinPartitioner"]),
    ("random", Partitioner::Random, &[]),
];

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// To this partition.
    At(u32),
    /// To the partition that records stick to at the time when it is appended.
    Sticky,
}

/// A topic's partitioner.
pub(super) struct Rule {
    partitioner: Partitioner,
    /// Counts the records that take turns, or are placed by chance.
    turns: AtomicU64,
}

impl Rule {
    pub(super) fn new(partitioner: Partitioner, seed: u64) -> Self {
        Self { partitioner, turns: AtomicU64::new(seed) }
    }

    /// Where `record` goes in a topic of `count` partitions. The partition may be one that the topic does not have, if the
    /// record or a custom partitioner names it.
    ///
    /// Bench: `enqueue`.
    #[inline]
    pub(super) fn place(&self, record: &Record<'_>, count: u32, sticky: &Sticky) -> Place {
        if let Some(partition) = record.chosen_partition() {
            return Place::At(u32::try_from(partition).unwrap_or(u32::MAX));
        }
        let hashed = |hash: KeyHash, key: &[u8]| Place::At(hash.partition(key, count).unwrap_or(u32::MAX));
        let random = |hash| record.key_bytes().map_or(Place::Sticky, |key| hashed(hash, key));
        let always = |hash| hashed(hash, record.key_bytes().unwrap_or_default());
        match &self.partitioner {
            Partitioner::Murmur2Random => random(KeyHash::Murmur2),
            Partitioner::Murmur2 => always(KeyHash::Murmur2),
            Partitioner::ConsistentRandom => match record.key_bytes() {
                None | Some([]) => Place::Sticky,
                Some(key) => hashed(KeyHash::Crc32, key),
            },
            Partitioner::Consistent => always(KeyHash::Crc32),
            Partitioner::Fnv1aRandom => random(KeyHash::Fnv1a),
            Partitioner::Fnv1a => always(KeyHash::Fnv1a),
            Partitioner::Fnv1aReference => random(KeyHash::Fnv1aReference),
            Partitioner::Uniform => Place::Sticky,
            Partitioner::RoundRobin => {
                let turn = self.turns.fetch_add(1, Ordering::Relaxed);
                sticky.available(|available| turn.checked_rem(available as u64).unwrap_or(0) as usize)
            }
            Partitioner::Random => {
                let turn = self.turns.fetch_add(1, Ordering::Relaxed);
                sticky.available(|available| Rng::seeded(turn).below(available as u32) as usize)
            }
            Partitioner::Custom(custom) => custom.choose(record, count).map_or(Place::Sticky, Place::At),
        }
    }
}

/// The partition that a topic's records stick to. Callers read it without a lock.
pub(super) struct Sticky {
    current: AtomicU32,
    spread: Mutex<Spread>,
    clock: Clock,
}

/// An open batch of a partition that has this many batches waiting already takes no more than these bytes of records in one
/// turn. While its broker is slow the batch stays open for long, and all records would wait there.
const BATCHES_WAITING: u32 = 2;
const TURN_BYTES_MAX: usize = 64 << 10;

impl Sticky {
    pub(super) fn new(settings: SpreadSettings, rng: Rng, clock: Clock, available: &[u32]) -> Self {
        let sticky =
            Self { current: AtomicU32::new(0), spread: Mutex::new(Spread::new(settings, rng)), clock };
        sticky.choose_from(available);
        sticky
    }

    #[inline]
    pub(super) fn current(&self) -> u32 {
        self.current.load(Ordering::Relaxed)
    }

    /// Sets the partitions to choose from, as leaders come and go. A current partition without a leader gets no more
    /// records.
    pub(super) fn choose_from(&self, available: &[u32]) {
        self.update(|spread, clock| spread.handle_available(available, clock.now()));
    }

    /// A batch of `partition` was closed, with these bytes.
    pub(super) fn closed(&self, partition: i32, bytes: usize) {
        self.update(|spread, clock| spread.handle_closed(partition.cast_unsigned(), bytes, clock.now()));
    }

    /// A batch of `partition` was settled.
    pub(super) fn settled(&self, partition: i32) {
        self.update(|spread, clock| spread.handle_settled(partition.cast_unsigned(), clock.now()));
    }

    /// How many bytes a batch of `partition` that is opened now may have before records go to another partition.
    pub(super) fn turn_bytes_max(&self, partition: i32) -> usize {
        let is_slow = self.spread().waiting(partition.cast_unsigned()) >= BATCHES_WAITING;
        if is_slow { TURN_BYTES_MAX } else { usize::MAX }
    }

    /// The open batch of `partition` has the bytes of one turn.
    #[cold]
    pub(super) fn leave(&self, partition: i32) {
        self.update(|spread, clock| {
            if spread.current() == partition.cast_unsigned() {
                spread.turn(clock.now());
            }
        });
    }

    /// The partition whose place among the available ones `choose` answers, given their number.
    fn available(&self, choose: impl FnOnce(usize) -> usize) -> Place {
        let spread = self.spread();
        let available = spread.available();
        Place::At(available.get(choose(available.len())).copied().unwrap_or(u32::MAX))
    }

    fn update(&self, change: impl FnOnce(&mut Spread, &Clock)) {
        let mut spread = self.spread();
        change(&mut spread, &self.clock);
        self.current.store(spread.current(), Ordering::Relaxed);
    }

    fn spread(&self) -> MutexGuard<'_, Spread> {
        self.spread.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Debug)]
    struct ByLength;

    impl ChoosePartition for ByLength {
        fn choose(&self, record: &Record<'_>, partitions: u32) -> Option<u32> {
            record.value_bytes().map(|value| value.len() as u32 % partitions)
        }
    }

    fn sticky() -> Sticky {
        let clock = Clock::start(&crate::runtime::Executor::current().expect("a runtime"));
        let settings = SpreadSettings { is_adaptive: true, availability_timeout: Duration::ZERO };
        Sticky::new(settings, Rng::seeded(1), clock, &[0, 2, 3])
    }

    fn place(partitioner: &Partitioner, record: &Record<'_>) -> Place {
        Rule::new(partitioner.clone(), 0).place(record, 4, &sticky())
    }

    #[tokio::test]
    async fn keyed_empty_and_null_keys_go_where_each_partitioner_says() {
        let (keyed, empty, null) =
            (Record::to("t").key("foobar"), Record::to("t").key(""), Record::to("t").value("v"));
        let of = |hash: KeyHash, key: &[u8]| Place::At(hash.partition(key, 4).expect("partitions"));
        for (partitioner, hash, of_empty, of_null) in [
            (Partitioner::Murmur2Random, KeyHash::Murmur2, true, false),
            (Partitioner::Murmur2, KeyHash::Murmur2, true, true),
            (Partitioner::ConsistentRandom, KeyHash::Crc32, false, false),
            (Partitioner::Consistent, KeyHash::Crc32, true, true),
            (Partitioner::Fnv1aRandom, KeyHash::Fnv1a, true, false),
            (Partitioner::Fnv1a, KeyHash::Fnv1a, true, true),
            (Partitioner::Fnv1aReference, KeyHash::Fnv1aReference, true, false),
        ] {
            let check = |record: &Record<'_>, key: &[u8], is_hashed: bool| {
                let expected = if is_hashed { of(hash, key) } else { Place::Sticky };
                assert_eq!(place(&partitioner, record), expected, "{partitioner:?} {key:?}");
            };
            check(&keyed, b"foobar", true);
            check(&empty, b"", of_empty);
            check(&null, b"", of_null);
        }
        assert_eq!(place(&Partitioner::Uniform, &keyed), Place::Sticky);
        let custom = Partitioner::Custom(Arc::new(ByLength));
        assert_eq!(place(&custom, &null), Place::At(1));
        assert_eq!(place(&custom, &keyed), Place::Sticky);
    }

    #[tokio::test]
    async fn a_record_that_names_its_partition_goes_there() {
        for (_, partitioner, _) in NAMED {
            assert_eq!(place(&partitioner, &Record::to("t").partition(1)), Place::At(1));
            // The topic has no such partition, and the caller finds that out.
            assert_eq!(place(&partitioner, &Record::to("t").partition(-5)), Place::At(u32::MAX));
        }
    }

    #[tokio::test]
    async fn round_robin_and_random_use_the_partitions_that_have_a_leader() {
        let sticky = sticky();
        let rule = Rule::new(Partitioner::RoundRobin, 0);
        let record = Record::to("t").key("k");
        let turns: Vec<_> = (0..6).map(|_| rule.place(&record, 4, &sticky)).collect();
        assert_eq!(turns, [0, 2, 3, 0, 2, 3].map(Place::At));
        let rule = Rule::new(Partitioner::Random, 0);
        let mut counts = [0; 4];
        for _ in 0..3000 {
            let Place::At(partition) = rule.place(&record, 4, &sticky) else { panic!("a partition") };
            counts[partition as usize] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!([0, 2, 3].iter().all(|index| (800..1200).contains(&counts[*index])), "{counts:?}");
    }
}
