//! Compacts the logs of topics with `cleanup.policy=compact`, one after the other and piece by piece.
//!
//! ```text
//!  begin ─▶ partitions ─▶ dirty enough? ─▶ Mapping: keys of the dirty part ─▶ Rewriting: groups of segments ─▶ next
//! ```
//!
//! A step locks the partition only to read a piece of its log and to put a new segment in place. Other requests go on
//! meanwhile, and other timers between two steps. If the log changes in a way that a step did not expect, its
//! compaction is given up, and begins anew the next time. It must not know requests.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use milena_wire::batch::{Batches, RawBatch};

use crate::log::{Dirty, Group, Keys, Left, Passed, Replacement, Rewriter, Terms};
use crate::partition::Partition;
use crate::topic::Topic;

/// The compaction that is going on.
#[derive(Debug, Default)]
pub(crate) struct Cleaner {
    /// The partitions that are to be looked at.
    waiting: VecDeque<(Arc<Topic>, Arc<Partition>)>,
    job: Option<Job>,
}

/// The compaction of one partition.
#[derive(Debug)]
struct Job {
    topic: Arc<Topic>,
    partition: Arc<Partition>,
    dirty: Dirty,
    keys: Keys,
    terms: Terms,
    passed: Passed,
    /// The markers of the group that is rewritten of whose transactions nothing is left.
    emptied: Vec<i64>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// The batch at `next` is looked at next.
    Mapping { next: i64 },
    /// The batch at `next` of the first group is rewritten next.
    Rewriting { groups: VecDeque<Group>, next: i64, replacement: Replacement },
}

/// What comes after a step.
enum Next {
    Step(Phase),
    /// All is done, up to this offset.
    Done(i64),
    /// The log is not as it was.
    GivenUp,
}

/// The bytes of a log that one step reads. It takes milliseconds.
const STEP_BYTES: usize = 1 << 20;

impl Cleaner {
    /// Whether all that was begun is done.
    pub(crate) fn is_idle(&self) -> bool {
        self.job.is_none() && self.waiting.is_empty()
    }

    /// Looks at all partitions of these topics in the next steps.
    pub(crate) fn begin<'a>(&mut self, topics: impl Iterator<Item = &'a Arc<Topic>>) {
        for topic in topics {
            let partitions = topic.partitions.iter();
            self.waiting.extend(partitions.map(|partition| (Arc::clone(topic), Arc::clone(partition))));
        }
    }

    /// Goes on with the job, or finds the next one.
    pub(crate) fn step(&mut self, now_ms: i64) {
        let Some(mut job) = self.job.take().or_else(|| self.next_job(now_ms)) else { return };
        let name = |job: &Job| format!("{}-{}", job.topic.name, job.partition.index);
        // Its contexts cannot go to another thread, and the next step may be on another one.
        match job.step(&mut Rewriter::default()) {
            Ok(Next::Step(phase)) => {
                job.phase = phase;
                self.job = Some(job);
            }
            Ok(Next::Done(end)) => {
                let mut state = job.partition.lock();
                if let Err(error) = state.log().note_cleaned(end) {
                    tracing::warn!(partition = name(&job), %error, "cannot note what is compacted");
                }
                state.retain(&job.topic.rules, now_ms);
            }
            Ok(Next::GivenUp) => tracing::debug!(partition = name(&job), "compaction begins anew"),
            Err(error) => tracing::error!(partition = name(&job), %error, "compaction failed"),
        }
    }

    /// The next partition of which enough is dirty. Those that are passed over lose the segments that they need not
    /// keep, as in Kafka, where the cleaner does that for compacted topics.
    fn next_job(&mut self, now_ms: i64) -> Option<Job> {
        while let Some((topic, partition)) = self.waiting.pop_front() {
            let Some(rules) = topic.rules.compaction() else { continue };
            let mut state = partition.lock();
            if state.is_deleted() {
                continue;
            }
            let Some((dirty, terms)) = state.dirty(&rules, now_ms) else {
                state.retain(&topic.rules, now_ms);
                continue;
            };
            drop(state);
            let phase = Phase::Mapping { next: dirty.start };
            let (keys, passed, emptied) = (Keys::default(), Passed::default(), Vec::new());
            return Some(Job { topic, partition, dirty, keys, terms, passed, emptied, phase });
        }
        None
    }
}

impl Job {
    /// Does a piece of the work. The phase is taken out, and must be put back.
    fn step(&mut self, rewriter: &mut Rewriter) -> io::Result<Next> {
        let phase = std::mem::replace(&mut self.phase, Phase::Mapping { next: 0 });
        if self.partition.lock().is_deleted() {
            return Ok(Next::GivenUp);
        }
        match phase {
            Phase::Mapping { next } => self.map(next, rewriter),
            Phase::Rewriting { groups, next, replacement } => {
                self.rewrite(groups, next, replacement, rewriter)
            }
        }
    }

    fn map(&mut self, mut next: i64, rewriter: &mut Rewriter) -> io::Result<Next> {
        let batches = self.read(next)?;
        let mut is_done = true;
        for batch in batches {
            if batch.header.base_offset >= self.dirty.end || self.keys.is_full() {
                is_done = true;
                break;
            }
            rewriter
                .note_keys(batch.bytes(), self.dirty.start, &mut self.keys, &self.terms)
                .map_err(io::Error::other)?;
            next = batch.header.next_offset();
            is_done = next >= self.dirty.end;
        }
        if !is_done {
            return Ok(Next::Step(Phase::Mapping { next }));
        }
        let groups = self.partition.lock().log().groups(self.keys.end(), self.topic.rules.segment_bytes);
        self.begin_group(groups.into())
    }

    /// Begins with the first of `groups`.
    fn begin_group(&self, groups: VecDeque<Group>) -> io::Result<Next> {
        let Some(first) = groups.front() else { return Ok(Next::Done(self.keys.end())) };
        let (next, replacement) = (first.start(), self.partition.lock().log().replacement(first)?);
        Ok(Next::Step(Phase::Rewriting { groups, next, replacement }))
    }

    fn rewrite(
        &mut self,
        mut groups: VecDeque<Group>,
        mut next: i64,
        mut replacement: Replacement,
        rewriter: &mut Rewriter,
    ) -> io::Result<Next> {
        let Some(group) = groups.front() else { return Ok(Next::GivenUp) };
        let mut is_done = true;
        let outcome = self.read(next).and_then(|batches| {
            for batch in batches {
                is_done = batch.header.base_offset >= group.end;
                if is_done {
                    break;
                }
                let (bytes, header) = (batch.bytes(), batch.header);
                let left = rewriter.rewrite(bytes, &self.keys, &self.terms, &mut self.passed);
                let left = left.map_err(io::Error::other)?;
                if header.is_control() && left != Left::All {
                    self.emptied.push(header.base_offset);
                }
                match left {
                    Left::Nothing => {}
                    Left::All => replacement.append(batch.bytes())?,
                    Left::Some(left) => replacement.append(&left)?,
                }
                next = batch.header.next_offset();
                is_done = next >= group.end;
            }
            Ok(())
        });
        if let Err(error) = outcome {
            replacement.discard();
            return Err(error);
        }
        if !is_done {
            return Ok(Next::Step(Phase::Rewriting { groups, next, replacement }));
        }
        let mut state = self.partition.lock();
        if !state.log().replace(group, replacement)? {
            return Ok(Next::GivenUp);
        }
        // No reader may be told of an aborted transaction without records: it would wait for its marker, which goes.
        state.forget_aborted(&std::mem::take(&mut self.emptied));
        drop(state);
        groups.pop_front();
        self.begin_group(groups)
    }

    /// The batches from `offset` on that are read at a time. None at the end of the log.
    fn read(&self, offset: i64) -> io::Result<Vec<RawBatch>> {
        let read = self.partition.lock().log().read(offset, STEP_BYTES, true)?;
        Batches::new(read).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)
    }
}
