//! What must hold, judged by the records that applications have processed and by what the broker says. It knows nothing
//! of the machines.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{AddAssign, Range};

use milena_messages::ErrorCode;
use milena_messages::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};

/// How much has happened, so that a test can say that its rounds were no idle ones.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Seen {
    /// Partitions that were given to a member.
    pub(crate) moves: usize,
    /// Partitions that were taken from a member without its doing.
    pub(crate) losses: usize,
    /// Members that left because their applications were slow.
    pub(crate) left: usize,
    /// Offsets that were committed.
    pub(crate) commits: usize,
    /// Offsets whose commit was refused.
    pub(crate) refusals: usize,
    /// Records that were processed more than once.
    pub(crate) repeats: usize,
    /// Times that an application went back.
    pub(crate) seeks: usize,
    /// Partitions that were added.
    pub(crate) added: usize,
    /// Times that the brokers were killed and came back with what is on their disk.
    pub(crate) restarts: usize,
    /// Commits that an application has waited for, and those that failed.
    pub(crate) calls: usize,
    pub(crate) calls_failed: usize,
    /// Members that came back under the name of one that was closed or killed.
    pub(crate) returns: usize,
}

impl AddAssign for Seen {
    fn add_assign(&mut self, other: Self) {
        self.moves += other.moves;
        self.losses += other.losses;
        self.left += other.left;
        self.commits += other.commits;
        self.refusals += other.refusals;
        self.repeats += other.repeats;
        self.seeks += other.seeks;
        self.added += other.added;
        self.restarts += other.restarts;
        self.calls += other.calls;
        self.calls_failed += other.calls_failed;
        self.returns += other.returns;
    }
}

/// The offsets of each partition that some application has processed, and who reads which partition.
#[derive(Debug)]
pub(super) struct Judge {
    seed: u64,
    processed: Vec<BTreeSet<i64>>,
    /// Below this everything was processed.
    finished: Vec<i64>,
    pub(super) committed: Vec<i64>,
    /// By partition: the members that read it, and the next offset that each must be given. None before the first one.
    readers: BTreeMap<i32, BTreeMap<usize, Option<i64>>>,
    pub(super) seen: Seen,
}

impl Judge {
    pub(super) fn new(seed: u64, partitions: usize) -> Self {
        Self {
            seed,
            processed: vec![BTreeSet::new(); partitions],
            finished: vec![0; partitions],
            committed: vec![0; partitions],
            readers: BTreeMap::new(),
            seen: Seen::default(),
        }
    }

    pub(super) fn assigned(&mut self, member: usize, partition: i32) {
        self.seen.moves += 1;
        let before = self.readers.entry(partition).or_default().insert(member, None);
        assert!(before.is_none(), "seed {}: partition {partition} is assigned to {member} twice", self.seed);
    }

    pub(super) fn given_up(&mut self, member: usize, partition: i32) {
        let had = self.readers.entry(partition).or_default().remove(&member);
        assert!(had.is_some(), "seed {}: member {member} gives up {partition}, which it has not", self.seed);
    }

    /// A member was killed.
    pub(super) fn gone(&mut self, member: usize) {
        for readers in self.readers.values_mut() {
            readers.remove(&member);
        }
    }

    /// A member begins to read there.
    pub(super) fn begins(&mut self, member: usize, partition: i32, offset: i64) {
        let (seed, finished) = (self.seed, self.finished[partition as usize]);
        assert!(
            offset <= finished,
            "seed {seed}: member {member} begins partition {partition} at {offset}, and {finished} is not processed"
        );
        let next = self.readers.get_mut(&partition).and_then(|readers| readers.get_mut(&member));
        *next.unwrap_or_else(|| panic!("seed {seed}: {member} begins {partition}, which it has not")) =
            Some(offset);
    }

    /// A partition was added.
    pub(super) fn grow(&mut self) {
        self.seen.added += 1;
        self.processed.push(BTreeSet::new());
        self.finished.push(0);
        self.committed.push(0);
    }

    /// An application goes back, or forward to what it has seen.
    pub(super) fn sought(&mut self, member: usize, partition: i32, offset: i64) {
        self.seen.seeks += 1;
        let next = self.readers.get_mut(&partition).and_then(|readers| readers.get_mut(&member));
        *next.unwrap_or_else(|| {
            panic!("seed {}: {member} seeks in {partition}, which it has not", self.seed)
        }) = Some(offset);
    }

    /// An application that has waited for its commit is told that these offsets are stored.
    pub(super) fn told(&mut self, member: usize, offsets: &BTreeMap<i32, i64>) {
        for (partition, offset) in offsets {
            let (seed, committed) = (self.seed, self.committed[*partition as usize]);
            assert!(
                committed >= *offset,
                "seed {seed}: member {member} is told that {offset} of {partition} is committed, which is {committed}"
            );
        }
    }

    /// An application is given these offsets.
    pub(super) fn delivered(&mut self, member: usize, partition: i32, offsets: &Range<i64>) {
        let seed = self.seed;
        let next = self.readers.get_mut(&partition).and_then(|readers| readers.get_mut(&member));
        let next =
            next.unwrap_or_else(|| panic!("seed {seed}: {member} reads {partition}, which it has not"));
        assert_eq!(*next, Some(offsets.start), "seed {seed}: member {member}, partition {partition}");
        *next = Some(offsets.end);
    }

    /// An application has processed these offsets. It may not have the partition any more.
    pub(super) fn processed(&mut self, partition: i32, offsets: Range<i64>) {
        let (processed, finished) =
            (&mut self.processed[partition as usize], &mut self.finished[partition as usize]);
        let is_repeat = |offset: &i64| *offset < *finished || processed.contains(offset);
        self.seen.repeats += offsets.clone().filter(is_repeat).count();
        processed.extend(offsets);
        while processed.remove(finished) {
            *finished += 1;
        }
        processed.retain(|offset| *offset > *finished);
    }

    /// The broker has answered a commit.
    pub(super) fn commit_answered(&mut self, request: &OffsetCommitRequest, response: &OffsetCommitResponse) {
        let wanted = request.topics.iter().flat_map(|topic| &topic.partitions);
        let answers = response.topics.iter().flat_map(|topic| &topic.partitions);
        for (wanted, answer) in wanted.zip(answers) {
            assert_eq!(wanted.partition_index, answer.partition_index);
            if answer.error_code != ErrorCode::NONE {
                self.seen.refusals += 1;
                continue;
            }
            self.seen.commits += 1;
            let partition = wanted.partition_index as usize;
            let (seed, offset, finished) = (self.seed, wanted.committed_offset, self.finished[partition]);
            assert!(
                offset <= finished,
                "seed {seed}: {offset} is committed of partition {partition}, and {finished} is not processed"
            );
            self.committed[partition] = offset;
        }
    }

    /// Partitions with several readers, and these.
    pub(super) fn shared(&self) -> Vec<(i32, Vec<usize>)> {
        let several = self.readers.iter().filter(|(_, readers)| readers.len() > 1);
        several.map(|(partition, readers)| (*partition, readers.keys().copied().collect())).collect()
    }

    /// Whether everything below `end` was processed and committed.
    pub(super) fn is_finished(&self, end: i64) -> bool {
        self.finished.iter().chain(&self.committed).all(|offset| *offset >= end)
    }

    /// Whether each partition has one reader.
    pub(super) fn is_read(&self) -> bool {
        self.readers.len() == self.finished.len() && self.readers.values().all(|readers| readers.len() == 1)
    }

    pub(super) fn standing(&self) -> String {
        format!("processed {:?}, committed {:?}, readers {:?}", self.finished, self.committed, self.readers)
    }
}
