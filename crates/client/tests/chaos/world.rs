//! The state that the tasks of a round share: the cluster, the network, the observations, and the running waits.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use milena_broker::Cluster;

use crate::extras::Extras;
use crate::network::{Network, lock};
use crate::plan::{Mode, Plan};
use crate::writer::Sent;

/// Nothing here takes this long even on a slow machine. A call that does has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A call hung. It was noted, and its task gives up.
#[derive(Debug)]
pub(crate) struct Hung;

pub(crate) type Outcome<T> = Result<T, Hung>;

/// The index of the first topic that is made during the storm.
pub(crate) const EXTRA: usize = 1000;
/// Lines of the trace that a failure shows.
const TRACE_LINES: usize = 60;
/// Violations of a kind that a failure shows, and the letters that two of a kind share.
const VIOLATIONS_MAX: usize = 3;
const KIND_LETTERS: usize = 40;

/// The state that can be read even if the round has stopped.
pub(crate) struct Notes {
    began: Instant,
    trace: Mutex<VecDeque<String>>,
    waiting: Mutex<BTreeMap<u64, (String, Instant)>>,
    next_wait: AtomicU64,
    /// By kind, so that one does not hide another.
    violations: Mutex<BTreeMap<String, Vec<String>>>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) cluster: Cluster,
    pub(crate) network: Arc<Network>,
    pub(crate) notes: Arc<Notes>,
    /// Partitions of each topic, by the topic's index; they may grow.
    partitions: Mutex<Vec<i32>>,
    /// For each partition an offset that its log has reached.
    ends: Mutex<BTreeMap<(usize, i32), i64>>,
    /// How many times each topic was made again.
    incarnations: Mutex<Vec<u32>>,
    /// The topics that are made during the storm.
    pub(crate) extras: Extras,
    is_over: AtomicBool,
}

impl Notes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            trace: Mutex::default(),
            waiting: Mutex::default(),
            next_wait: AtomicU64::new(0),
            violations: Mutex::default(),
        })
    }

    pub(crate) fn note(&self, line: impl Display) {
        let mut trace = lock(&self.trace);
        if trace.len() == TRACE_LINES {
            trace.pop_front();
        }
        trace.push_back(format!("{:>6} ms: {line}", self.began.elapsed().as_millis()));
    }

    pub(crate) fn violate(&self, what: impl Display) {
        let mut violations = lock(&self.violations);
        let what = what.to_string();
        let kind: String =
            what.chars().filter(|letter| !letter.is_ascii_digit()).take(KIND_LETTERS).collect();
        let count = violations.entry(kind).or_default();
        if count.len() < VIOLATIONS_MAX {
            count.push(format!("at {} ms: {what}", self.began.elapsed().as_millis()));
        }
    }

    /// What was wrong, some of each kind.
    pub(crate) fn wrong(&self) -> Vec<String> {
        lock(&self.violations).values().flatten().cloned().collect()
    }

    /// Everything that helps to understand a failure.
    pub(crate) fn report(&self) -> String {
        let violations = self.wrong().join("\n  ");
        let trace = lock(&self.trace).iter().cloned().collect::<Vec<_>>().join("\n  ");
        let waiting = lock(&self.waiting)
            .values()
            .map(|(what, since)| format!("{what}, for {} ms", since.elapsed().as_millis()))
            .collect::<Vec<_>>()
            .join("\n  ");
        format!("wrong:\n  {violations}\nstill waiting for:\n  {waiting}\nwhat happened last:\n  {trace}\n")
    }
}

/// Something is being waited for, until this is dropped.
struct Waiting<'a> {
    notes: &'a Notes,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.notes.waiting).remove(&self.id);
    }
}

impl World {
    pub(crate) fn new(plan: Plan, cluster: Cluster, network: Arc<Network>, notes: Arc<Notes>) -> Arc<Self> {
        let partitions = Mutex::new(plan.topics.clone());
        let incarnations = Mutex::new(vec![0; plan.topics.len()]);
        let (ends, is_over) = (Mutex::default(), AtomicBool::new(false));
        let extras = Extras::default();
        Arc::new(Self { plan, cluster, network, notes, partitions, ends, incarnations, extras, is_over })
    }

    pub(crate) fn note(&self, line: impl Display) {
        self.notes.note(line);
    }

    pub(crate) fn violate(&self, what: impl Display) {
        self.notes.violate(what);
    }

    /// Waits for a future that must not hang.
    pub(crate) async fn within<T>(
        &self,
        what: impl Into<String>,
        future: impl Future<Output = T>,
    ) -> Outcome<T> {
        let what = what.into();
        let id = self.notes.next_wait.fetch_add(1, Ordering::Relaxed);
        lock(&self.notes.waiting).insert(id, (what.clone(), Instant::now()));
        let _waiting = Waiting { notes: &self.notes, id };
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(value) => Ok(value),
            Err(_) => {
                self.violate(format_args!("{what} hangs"));
                Err(Hung)
            }
        }
    }

    /// Waits until a condition holds.
    pub(crate) async fn until(
        &self,
        what: impl Into<String>,
        mut is_so: impl FnMut() -> bool,
    ) -> Outcome<()> {
        let look = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        self.within(what, look).await
    }

    /// Whether the storm is over.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub(crate) fn topic(index: usize) -> String {
        match index.checked_sub(EXTRA) {
            None => format!("topic-{index}"),
            Some(extra) => format!("extra-{extra}"),
        }
    }

    pub(crate) fn topic_index(name: &str) -> usize {
        let (kind, index) = name.rsplit_once('-').expect("a topic of this world");
        let index: usize = index.parse().expect("a topic of this world");
        if kind == "extra" { EXTRA + index } else { index }
    }

    pub(crate) fn topic_count(&self) -> usize {
        self.plan.topics.len()
    }

    pub(crate) fn partitions(&self, topic: usize) -> i32 {
        lock(&self.partitions)[topic]
    }

    pub(crate) fn set_partitions(&self, topic: usize, count: i32) {
        lock(&self.partitions)[topic] = count;
    }

    /// Whether a record is bound to a partition that was added, of which a client learns after a while.
    pub(crate) fn is_added(&self, sent: &Sent) -> bool {
        sent.partition.is_some_and(|partition| partition >= self.plan.topics[sent.topic])
    }

    pub(crate) fn all_partitions(&self) -> Vec<(usize, i32)> {
        let partitions = lock(&self.partitions).clone();
        partitions
            .iter()
            .enumerate()
            .flat_map(|(topic, count)| (0..*count).map(move |it| (topic, it)))
            .collect()
    }

    pub(crate) fn incarnation(&self, topic: usize) -> u32 {
        lock(&self.incarnations)[topic]
    }

    /// The topic was deleted and made again.
    pub(crate) fn begin_incarnation(&self, topic: usize) {
        lock(&self.incarnations)[topic] += 1;
    }

    /// Whether topics are deleted and made again, so that written records may be gone.
    pub(crate) fn is_fleeting(&self) -> bool {
        self.plan.mode == Mode::Recreate
    }

    /// The log of a partition is at least this long.
    pub(crate) fn learn_end(&self, topic: usize, partition: i32, end: i64) {
        let mut ends = lock(&self.ends);
        let known = ends.entry((topic, partition)).or_default();
        *known = end.max(*known);
    }

    pub(crate) fn known_end(&self, topic: usize, partition: i32) -> i64 {
        lock(&self.ends).get(&(topic, partition)).copied().unwrap_or(0)
    }

    /// Where the leader of a partition listens, or any node that is up.
    pub(crate) fn leader(&self, topic: usize, partition: i32) -> SocketAddr {
        self.leader_of(&Self::topic(topic), partition)
    }

    /// As [`leader`](Self::leader), for a topic by its name.
    pub(crate) fn leader_of(&self, topic: &str, partition: i32) -> SocketAddr {
        let leader = self.cluster.leader(topic, partition);
        let addresses = self.cluster.addresses();
        leader.and_then(|leader| addresses.get(&leader)).copied().unwrap_or_else(|| addresses[&1])
    }
}
