//! What waits for a transaction: the outputs of records that are finished, and up to which offset each partition is.
//!
//! It decides, without I/O, which outputs go into the next transaction: those of records below the lowest unfinished one of their
//! partition. The group's offset is committed with them, so that each output is written once. Outputs of later records wait: a
//! crash would make those records run again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Output;
use crate::flow::Flow;

/// Outputs by partition.
pub(super) struct Session<M> {
    /// By a number that no other assignment of a partition has.
    parts: BTreeMap<u64, Part>,
    /// What the consumer is to be told: offsets that are finished since the last transaction began.
    marks: Vec<(u64, M)>,
    /// Partitions that were given up although the consumer was told of more than is committed. Its next refusal says so, and is of
    /// them.
    refused: BTreeSet<(Arc<str>, i32)>,
    /// Records that were finished since the last transaction began.
    pub(super) fresh: usize,
}

struct Part {
    topic: Arc<str>,
    partition: i32,
    /// Everything below is finished. None before the first batch.
    base: Option<i64>,
    /// The offset after the last batch.
    routed: i64,
    /// What was committed last, or is where it began.
    committed: i64,
    /// What the consumer was told.
    told: i64,
    /// Finished ranges above the base: their ends by their starts.
    done: BTreeMap<i64, i64>,
    /// By the offset of their record, or of the first of a group.
    outputs: BTreeMap<i64, Vec<Output>>,
    /// The last offset of each group that has outputs, by its first one. They are written with the offsets of all its records.
    groups: BTreeMap<i64, i64>,
    /// The outputs' memory counts as the partition's.
    flow: Option<Arc<Flow>>,
}

/// The content of a transaction.
#[derive(Debug)]
pub(super) struct Load<M> {
    pub(super) marks: Vec<(u64, M)>,
    pub(super) parts: Vec<LoadPart>,
}

#[derive(Debug)]
pub(super) struct LoadPart {
    number: u64,
    upto: i64,
    pub(super) outputs: BTreeMap<i64, Vec<Output>>,
}

impl<M> Session<M> {
    pub(super) fn new() -> Self {
        Self { parts: BTreeMap::new(), marks: Vec::new(), refused: BTreeSet::new(), fresh: 0 }
    }

    pub(super) fn enter(&mut self, number: u64, topic: Arc<str>, partition: i32, flow: Option<Arc<Flow>>) {
        let (done, outputs, groups) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (base, routed, committed, told) = (None, 0, 0, 0);
        let part = Part { topic, partition, base, routed, committed, told, done, outputs, groups, flow };
        self.parts.insert(number, part);
    }

    /// A batch with these offsets is on its way to workers.
    pub(super) fn route(&mut self, number: u64, first: i64, end: i64) {
        let Some(part) = self.parts.get_mut(&number) else { return };
        if part.base.is_none() {
            (part.base, part.committed, part.told) = (Some(first), first, first);
        } else if part.routed < first {
            // Between batches are those of transactions that were aborted, and the ends of transactions.
            part.finish(part.routed, first);
        }
        part.routed = end;
    }

    /// The records of a partition from `first` up to `last` were processed, or one is put aside: they are finished next. What an
    /// earlier attempt has written counts no more.
    pub(super) fn emit(&mut self, number: u64, first: i64, last: i64, outputs: Vec<Output>) {
        let Some(part) = self.parts.get_mut(&number) else { return };
        part.groups.remove(&first);
        let bytes = |outputs: &[Output]| outputs.iter().map(Output::bytes).sum();
        if let (Some(flow), Some(before)) = (&part.flow, part.outputs.remove(&first)) {
            flow.give_back(bytes(&before));
        }
        if outputs.is_empty() {
            return;
        }
        if let Some(flow) = &part.flow {
            flow.take(bytes(&outputs));
        }
        part.outputs.insert(first, outputs);
        if first < last {
            part.groups.insert(first, last);
        }
    }

    /// These offsets are finished.
    pub(super) fn finish(&mut self, number: u64, from: i64, end: i64, mark: M) {
        let Some(part) = self.parts.get_mut(&number) else { return };
        part.finish(from, end);
        self.marks.push((number, mark));
        self.fresh += usize::try_from(end - from).unwrap_or_default();
    }

    /// A partition is another member's. What it has not written is the next owner's to do.
    pub(super) fn forget(&mut self, topic: &str, partition: i32) {
        let is_it = |part: &Part| &*part.topic == topic && part.partition == partition;
        let Some(number) = self.parts.iter().find(|(_, part)| is_it(part)).map(|(number, _)| *number) else {
            return;
        };
        self.marks.retain(|(of, _)| *of != number);
        if let Some(part) = self.parts.remove(&number)
            && part.told > part.committed
        {
            self.refused.insert((part.topic, partition));
        }
    }

    /// The consumer says that a partition of which it was told is not its own any more.
    pub(super) fn refuse(&mut self, topic: &str, partition: i32) {
        // It may be assigned again by now: then what was refused is of the time before.
        if !self.refused.remove(&(Arc::from(topic), partition)) {
            self.forget(topic, partition);
            self.refused.remove(&(Arc::from(topic), partition));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty() && self.parts.values().all(|part| !part.is_ready())
    }

    /// The next transaction. It is given back, or it is committed.
    pub(super) fn take(&mut self) -> Load<M> {
        self.fresh = 0;
        let mut parts = Vec::new();
        let all = std::mem::take(&mut self.marks);
        let of_parts = &self.parts;
        // Nothing of a partition in whose group a worker is just marking records: the consumer would commit a part of the group.
        let is_amid = |number: &u64| of_parts.get(number).is_some_and(Part::is_amid_group);
        let (later, marks) = all.into_iter().partition(|(number, _)| is_amid(number));
        self.marks = later;
        for (number, part) in &mut self.parts {
            if !part.is_ready() {
                continue;
            }
            let Some(upto) = part.base else { continue };
            part.told = upto;
            part.groups.retain(|_, last| *last >= upto);
            let later = part.outputs.split_off(&upto);
            let outputs = std::mem::replace(&mut part.outputs, later);
            parts.push(LoadPart { number: *number, upto, outputs });
        }
        Load { marks, parts }
    }

    /// The transaction was aborted. The consumer knows its marks already.
    pub(super) fn give_back(&mut self, parts: Vec<LoadPart>) {
        for LoadPart { number, mut outputs, .. } in parts {
            if let Some(part) = self.parts.get_mut(&number) {
                part.outputs.append(&mut outputs);
            }
        }
    }

    /// The transaction is committed.
    pub(super) fn commit(&mut self, parts: Vec<LoadPart>) {
        for LoadPart { number, upto, outputs } in parts {
            let Some(part) = self.parts.get_mut(&number) else { continue };
            part.committed = part.committed.max(upto);
            if let Some(flow) = &part.flow {
                flow.give_back(outputs.values().flatten().map(Output::bytes).sum());
            }
        }
    }
}

impl Part {
    fn is_ready(&self) -> bool {
        !self.is_amid_group()
            && self
                .base
                .is_some_and(|base| base > self.committed || self.outputs.range(..base).next().is_some())
    }

    /// Whether some records of a group with outputs are finished, and some are not.
    fn is_amid_group(&self) -> bool {
        let Some(base) = self.base else { return false };
        self.groups.range(..base).any(|(_, last)| *last >= base)
    }

    fn finish(&mut self, from: i64, end: i64) {
        let Some(base) = &mut self.base else { return };
        self.done.entry(from).and_modify(|known| *known = (*known).max(end)).or_insert(end);
        while let Some(first) = self.done.first_entry().filter(|first| first.key() <= base) {
            *base = first.remove().max(*base);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session<()> {
        let mut session = Session::new();
        session.enter(1, Arc::from("orders"), 0, None);
        session.route(1, 10, 15);
        session
    }

    fn finish(session: &mut Session<()>, offset: i64) {
        session.emit(1, offset, offset, vec![Output::new().value(offset.to_string())]);
        session.finish(1, offset, offset + 1, ());
    }

    /// The offsets of the records whose outputs are in it, and up to which offset it is.
    fn content(load: &Load<()>) -> Vec<(i64, Vec<i64>)> {
        load.parts.iter().map(|part| (part.upto, part.outputs.keys().copied().collect())).collect()
    }

    #[test]
    fn outputs_wait_for_all_records_before_theirs() {
        let mut session = session();
        finish(&mut session, 12);
        finish(&mut session, 11);
        assert_eq!(content(&session.take()), [], "10 is unfinished");
        finish(&mut session, 10);
        let load = session.take();
        assert_eq!(content(&load), [(13, vec![10, 11, 12])]);
        session.commit(load.parts);
        assert!(session.is_empty());
        finish(&mut session, 14);
        session.finish(1, 13, 14, ());
        assert_eq!(content(&session.take()), [(15, vec![14])], "a record without output is finished too");
    }

    #[test]
    fn what_was_aborted_is_in_the_next_one_with_what_came_meanwhile() {
        let mut session = session();
        finish(&mut session, 10);
        let load = session.take();
        finish(&mut session, 11);
        session.give_back(load.parts);
        assert_eq!(content(&session.take()), [(12, vec![10, 11])]);
    }

    #[test]
    fn outputs_of_a_group_are_written_with_all_of_its_offsets() {
        let mut session = session();
        finish(&mut session, 10);
        session.emit(1, 11, 13, vec![Output::new()]);
        session.finish(1, 11, 12, ());
        let load = session.take();
        assert!(load.marks.is_empty() && load.parts.is_empty(), "amid the group");
        session.finish(1, 12, 14, ());
        let load = session.take();
        assert_eq!((load.marks.len(), content(&load)), (3, vec![(14, vec![10, 11])]));
        session.commit(load.parts);
        assert!(session.is_empty());
    }

    #[test]
    fn what_an_earlier_attempt_has_written_counts_no_more() {
        let mut session = session();
        session.emit(1, 10, 12, vec![Output::new().value("of the group")]);
        session.emit(1, 10, 10, Vec::new());
        session.finish(1, 10, 11, ());
        assert_eq!(content(&session.take()), [(11, vec![])]);
    }

    #[test]
    fn offsets_between_batches_are_finished() {
        let mut session = session();
        (10..15).for_each(|offset| finish(&mut session, offset));
        session.route(1, 17, 18);
        assert_eq!(content(&session.take()), [(17, (10..15).collect())]);
    }

    #[test]
    fn what_a_partition_that_is_gone_has_not_written_is_not_written() {
        let mut session = session();
        finish(&mut session, 10);
        let load = session.take();
        session.forget("orders", 0);
        session.give_back(load.parts);
        finish(&mut session, 11);
        assert!(session.is_empty());
        // It comes again before the consumer says that it was gone.
        session.enter(2, Arc::from("orders"), 0, None);
        session.route(2, 10, 15);
        session.refuse("orders", 0);
        session.emit(2, 10, 10, vec![Output::new()]);
        session.finish(2, 10, 11, ());
        assert_eq!(content(&session.take()), [(11, vec![10])]);
        // The consumer says so first.
        session.refuse("orders", 0);
        assert!(session.is_empty());
        session.forget("orders", 0);
        session.enter(3, Arc::from("orders"), 0, None);
        session.refuse("orders", 0);
        assert!(session.parts.is_empty());
    }
}
