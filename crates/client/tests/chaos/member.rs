//! One member of a group: what its application does.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use milena::{Batch, Client, CommittedOffset, Consumer, PartitionConsumer, PartitionHandle, Position};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::chronicle::{At, What, metadata_of};
use crate::members::{Built, Changed, Company, PATTERN};
use crate::network::lock;
use crate::plan::{Promise, Rng};
use crate::reader::contents;
use crate::world::{Outcome, World};

/// The most batches that a member keeps, and those that it keeps although it is done with them.
const HELD_MAX: usize = 4;
const SHARED_MAX: usize = 3;

/// How a member goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Close,
    /// The call to close is dropped, and then the consumer.
    CloseInVain,
    Drop,
}

/// A batch that a member has not finished.
struct Held {
    at: At,
    batch: Batch,
    /// The offsets that are not marked as done.
    undone: Vec<i64>,
}

/// A batch that is done, and is kept.
struct Shared {
    batch: milena::SharedBatch,
    digests: Vec<(i64, u64)>,
}

pub(crate) struct Member {
    company: Arc<Company>,
    world: Arc<World>,
    index: usize,
    client: Client,
    consumer: Consumer,
    rng: Rng,
    changed: Changed,
    paused: BTreeSet<At>,
    held: Vec<Held>,
    shared: Vec<Shared>,
    /// Partitions that tasks of their own read.
    taken: BTreeMap<At, JoinHandle<Outcome<()>>>,
    /// Where the batches end that it took of each partition, since that was assigned. None if some of them were dropped, if
    /// it was sought, or if a task has read it: then this does not know up to where it is done.
    read: BTreeMap<At, Option<i64>>,
    /// Whether it reads what is left after the storm.
    is_drainer: bool,
}

/// Polls `call` at most this many times, and then drops it.
async fn polled<T>(polls: usize, call: impl Future<Output = T>) -> Option<T> {
    let mut call = pin!(call);
    let mut left = polls;
    std::future::poll_fn(move |cx| match call.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

impl Member {
    pub(crate) fn new(
        company: Arc<Company>,
        index: usize,
        built: Built,
        rng: Rng,
        changed: Changed,
        is_drainer: bool,
    ) -> Self {
        let Built { client, consumer } = built;
        Self {
            world: Arc::clone(&company.world),
            company,
            index,
            client,
            consumer,
            rng,
            changed,
            paused: BTreeSet::new(),
            held: Vec::new(),
            shared: Vec::new(),
            taken: BTreeMap::new(),
            read: BTreeMap::new(),
            is_drainer,
        }
    }

    fn is_at_most_once(&self) -> bool {
        matches!(self.company.plan.promise, Promise::AtMostOnce { .. })
    }

    fn note(&self, at: At, what: What) {
        self.company.chronicle.note(self.index, at, what);
    }

    /// Reads, and makes the calls that a member can make, until the storm is over.
    pub(crate) async fn storm(&mut self, steps: usize) -> Outcome<()> {
        for _ in 0..steps {
            if self.world.is_over() {
                break;
            }
            self.finish_changed();
            match self.rng.below(100) {
                0..4 => self.pause(),
                4..10 => self.resume(),
                10..14 if !self.is_at_most_once() => self.seek(),
                14..18 => self.commit().await?,
                18..26 => self.finish_some(),
                26..30 => sleep(self.rng.moment(Duration::from_millis(30))).await,
                30 => self.put_down(),
                31 => self.subscribe(),
                32..34 if self.company.plan.has_own_readers => self.take_partitions(),
                34..38 => self.give_back().await?,
                38..40 => self.ask().await?,
                40..42 => self.release(),
                _ => {
                    let limit = self.rng.moment(Duration::from_millis(20));
                    self.read(limit).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads without dropping a call, until it is this old or the storm is over. Then it closes while it waits for a batch,
    /// or drops the call.
    pub(crate) async fn storm_strictly(&mut self, end: End, age: Duration) -> Outcome<()> {
        let world = Arc::clone(&self.world);
        let handle = self.consumer.handle();
        let mut over = pin!(async {
            let over = async {
                while !world.is_over() {
                    sleep(Duration::from_millis(2)).await;
                }
            };
            let _ = timeout(age, over).await;
        });
        let mut closing = None;
        loop {
            self.finish_changed();
            if self.rng.percent(3) {
                self.subscribe();
            }
            let next = async {
                tokio::select! {
                    biased;
                    () = &mut over, if closing.is_none() => None,
                    next = self.consumer.next() => Some(next),
                }
            };
            match next.await {
                None if end == End::Close => {
                    self.note((0, 0), What::Ends { is_orderly: true });
                    let handle = handle.clone();
                    closing = Some(tokio::spawn(async move { handle.close().await }));
                }
                None => {
                    self.note((0, 0), What::Cancelled);
                    return Ok(());
                }
                Some(Ok(None)) if closing.is_some() => break,
                Some(next) => {
                    let is_out = next.is_err();
                    self.took(next);
                    if is_out {
                        sleep(Duration::from_millis(1)).await;
                    }
                }
            }
            while !self.held.is_empty() {
                self.finish(0);
            }
        }
        if let Some(closing) = closing {
            let what = format!("member {} closing while it reads", self.index);
            match world.within(what, closing).await? {
                Ok(Ok(())) => {}
                // Nodes are down.
                Ok(Err(_)) => self.note((0, 0), What::Cancelled),
                Err(error) => world.violate(format_args!("a task of member {} failed: {error}", self.index)),
            }
        }
        Ok(())
    }

    async fn read(&mut self, limit: Duration) -> Outcome<()> {
        let index = self.index;
        let world = Arc::clone(&self.world);
        let next = world.within(format!("member {index} reading"), timeout(limit, self.consumer.next()));
        match next.await? {
            Err(_) => self.note((0, 0), What::Cancelled),
            Ok(next) => {
                self.took(next);
                self.look_after_delivery().await;
            }
        }
        Ok(())
    }

    /// What waiting for a batch has brought.
    fn took(&mut self, next: Result<Option<Batch>, milena::Error>) {
        let (world, index) = (Arc::clone(&self.world), self.index);
        match next {
            Ok(Some(batch)) => self.take(batch),
            Ok(None) => world.violate(format_args!("member {index} was told that nothing more comes")),
            Err(error) => failed(&self.company, index, &error),
        }
    }

    fn take(&mut self, batch: Batch) {
        self.finish_changed();
        let at = (World::topic_index(batch.topic()), batch.partition());
        let records = contents(&batch);
        if self.paused.contains(&at) {
            self.world.violate(format_args!("member {} got a batch of {at:?}, which is paused", self.index));
        }
        let undone = records.iter().map(|(offset, _)| *offset).collect();
        let end = self.read.entry(at).or_insert(Some(0));
        *end = end.map(|_| batch.next_offset());
        self.note(at, What::Seen(records, batch.next_offset()));
        self.held.push(Held { at, batch, undone });
        while self.held.len() > HELD_MAX {
            let which = self.rng.below(self.held.len());
            self.finish(which);
        }
    }

    /// With commits before delivery: checks that what it was just given is committed.
    async fn look_after_delivery(&mut self) {
        let Some(Held { at, batch, .. }) = self.held.last() else { return };
        let (at, next) = (*at, batch.next_offset());
        if !self.is_at_most_once() || !self.rng.percent(20) {
            return;
        }
        let Some(found) = self.company.look().await else { return };
        if found.get(&at) < Some(&next) && !self.world.extras.names_deleted(&World::topic(at.0)) {
            let index = self.index;
            self.world.violate(format_args!(
                "member {index} was given {at:?} up to {next}, and {:?} is committed",
                found.get(&at)
            ));
        }
    }

    /// Marks all of a batch as done, and drops it, or keeps it a little longer.
    fn finish(&mut self, which: usize) {
        let Held { at, batch, undone } = self.held.swap_remove(which);
        self.note(at, What::Done(undone));
        if self.rng.percent(20) && self.shared.len() < SHARED_MAX && !self.is_drainer {
            let (digests, batch) = (contents(&batch), batch.share());
            // Records that are not returned may come before the first one.
            let first = digests.first().map_or(batch.first_offset(), |(offset, _)| *offset);
            let part = batch.range(first + 1..);
            self.consumer.done(batch.batch());
            self.shared.push(Shared { batch: part, digests });
        } else {
            self.consumer.done(&batch);
        }
        self.note(at, What::Dropped);
    }

    /// Drops a batch that was kept.
    fn release(&mut self) {
        let Some(Shared { batch, digests }) = self.shared.pop() else { return };
        if contents(batch.batch()) != digests {
            self.world.violate(format_args!("member {}: {:?} changed", self.index, batch.batch()));
        }
        let offsets: Vec<_> = batch.iter().map(|record| record.offset()).collect();
        if !offsets.iter().eq(digests.iter().skip(1).map(|(offset, _)| offset)) {
            self.world.violate(format_args!("member {}: a part has the offsets {offsets:?}", self.index));
        }
    }

    /// Marks some records of a batch as done, in any order.
    fn finish_some(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let which = self.rng.below(self.held.len());
        let Held { at, batch, undone } = &mut self.held[which];
        let handle = self.consumer.handle();
        for _ in 0..self.rng.between(1, 4) {
            if undone.is_empty() {
                break;
            }
            let offset = undone.swap_remove(self.rng.below(undone.len()));
            self.company.chronicle.note(self.index, *at, What::Done(vec![offset]));
            if let Some(record) = batch.iter().find(|record| record.offset() == offset) {
                handle.done_record(&record);
            }
        }
    }

    /// Finishes the batches of partitions that are to be given up; some are only dropped. If such a partition comes back, it is
    /// not paused.
    fn finish_changed(&mut self) {
        let changed = std::mem::take(&mut *lock(&self.changed));
        self.paused.retain(|at| !changed.contains(at));
        self.read.retain(|at, _| !changed.contains(at));
        while let Some(which) = self.held.iter().position(|held| changed.contains(&held.at)) {
            if self.rng.percent(70) {
                self.finish(which);
            } else {
                self.drop_one(which);
            }
        }
    }

    fn drop_one(&mut self, which: usize) {
        let Held { at, batch, .. } = self.held.swap_remove(which);
        drop(batch);
        self.read.insert(at, None);
        self.note(at, What::Dropped);
    }

    /// Drops a batch that is not done: what follows of its partition is not committed by this member.
    fn put_down(&mut self) {
        if !self.held.is_empty() {
            let which = self.rng.below(self.held.len());
            self.drop_one(which);
        }
    }

    /// One that it owns and that no task reads.
    fn owned(&mut self) -> Option<At> {
        let owned = self.consumer.assignment();
        let owned = owned.iter().map(|(topic, partition)| (World::topic_index(topic), *partition));
        let owned: Vec<At> = owned.filter(|at| !self.taken.contains_key(at)).collect();
        owned.get(self.rng.below(owned.len())).copied()
    }

    /// Pauses one by name or by a handle, or all that no task reads.
    fn pause(&mut self) {
        let names = |at: At| (World::topic(at.0), at.1);
        let Some(at) = self.owned() else { return };
        let (topic, partition) = names(at);
        let mut chosen = vec![at];
        let is_done = match self.rng.below(3) {
            0 => self.consumer.pause(&topic, partition).is_ok(),
            1 => self.consumer.partition_handle(&topic, partition).is_ok_and(|handle| handle.pause()),
            _ => {
                let handles = self.consumer.partition_handles();
                let at = |handle: &PartitionHandle| (World::topic_index(handle.topic()), handle.partition());
                let own: Vec<_> =
                    handles.iter().filter(|handle| !self.taken.contains_key(&at(handle))).collect();
                chosen = own.iter().map(|handle| at(handle)).collect();
                PartitionHandle::pause_each(own);
                true
            }
        };
        let assigned = self.consumer.assignment();
        if is_done {
            self.paused.extend(chosen.into_iter().filter(|at| assigned.contains(&names(*at))));
        }
    }

    fn resume(&mut self) {
        if self.rng.percent(10) {
            self.paused.clear();
            return self.consumer.resume_all();
        }
        if let Some(at) = self.paused.pop_first() {
            // It may have been given up meanwhile.
            let _ = self.consumer.resume(&World::topic(at.0), at.1);
        }
    }

    /// Goes back a little, perhaps to a record after one that it has and has not done.
    fn seek(&mut self) {
        let Some(at) = self.owned() else { return };
        let Some(position) = self.consumer.position(&World::topic(at.0), at.1) else { return };
        let offset = (position - self.rng.below(20) as i64).max(0);
        self.read.insert(at, None);
        self.note(at, What::Sought(offset));
        // It may have been given up meanwhile.
        let _ = self.consumer.seek(&World::topic(at.0), at.1, Position::Offset(offset));
    }

    /// Commits what is done, or an offset that it names. The call may be dropped wherever it waits.
    async fn commit(&mut self) -> Outcome<()> {
        let (limit, polls) = (self.rng.moment(Duration::from_millis(60)), self.rng.between(0, 6));
        let what = format!("member {} committing", self.index);
        let world = Arc::clone(&self.world);
        // They may fail while the group rebalances, and are told why.
        if self.company.plan.promise == Promise::ByHand
            && self.rng.percent(50)
            && let Some((at, offset)) = self.known_as_done()
        {
            let stored = CommittedOffset { offset, leader_epoch: None, metadata: Some(metadata_of(offset)) };
            let call = self.consumer.commit_offsets([((World::topic(at.0), at.1), stored)]);
            let _ = world.within(what, timeout(limit, polled(polls, call))).await?;
        } else if self.rng.percent(50) {
            let _ = world.within(what, timeout(limit, polled(polls, self.consumer.commit()))).await?;
        } else {
            let _ = world.within(what, timeout(limit, self.consumer.commit())).await?;
        }
        Ok(())
    }

    /// A partition, and up to where all of it is done.
    fn known_as_done(&mut self) -> Option<(At, i64)> {
        self.finish_changed();
        let known: Vec<(At, i64)> = self.read.iter().filter_map(|(at, end)| Some((*at, (*end)?))).collect();
        let (at, end) = known.get(self.rng.below(known.len())).copied()?;
        let undone = self.held.iter().filter(|held| held.at == at).flat_map(|held| &held.undone).min();
        // Partly done batches of before count from their first record that is not.
        Some((at, undone.copied().unwrap_or(end)))
    }

    /// Asks what is committed: it is never less than what was committed before.
    async fn ask(&mut self) -> Outcome<()> {
        let Some(at) = self.owned() else { return Ok(()) };
        let before = self.company.known(at);
        let limit = self.rng.moment(Duration::from_millis(60));
        let call = timeout(limit, self.consumer.committed([(World::topic(at.0), at.1)]));
        let told = self.world.within(format!("member {} asking", self.index), call).await?;
        let Ok(Ok(told)) = told else { return Ok(()) };
        let offset = told.first().and_then(|(_, offset)| offset.as_ref()).map(|offset| offset.offset);
        let may_go_back = !matches!(self.company.plan.promise, Promise::AtLeastOnce | Promise::Keeping)
            || self.world.extras.names_deleted(&World::topic(at.0));
        if offset < before && !may_go_back {
            self.world.violate(format_args!(
                "member {} was told that {offset:?} is committed of {at:?}, and it was {before:?} before",
                self.index
            ));
        }
        Ok(())
    }

    /// Subscribes to something else.
    fn subscribe(&mut self) {
        let mut topics = self.company.topics();
        let choice = self.rng.below(6);
        let result = match choice {
            0 => self.consumer.subscribe_pattern(PATTERN),
            1 | 2 => self.consumer.subscribe(topics),
            // It leaves the group until it subscribes to something.
            3 if !self.is_at_most_once() => self.consumer.subscribe(Vec::<String>::new()),
            _ => {
                let index = self.rng.below(topics.len());
                self.consumer.subscribe([topics.swap_remove(index)])
            }
        };
        self.world.note(format_args!("member {} subscribes anew ({choice})", self.index));
        if let Err(error) = result {
            self.world.violate(format_args!("member {} cannot subscribe: {error}", self.index));
        }
    }

    /// Gives partitions to tasks of their own.
    fn take_partitions(&mut self) {
        for partition in self.consumer.partitions() {
            let at = (World::topic_index(partition.topic()), partition.partition());
            self.read.insert(at, None);
            let (company, index, rng) = (Arc::clone(&self.company), self.index, self.rng.fork());
            if self.paused.remove(&at) {
                partition.resume();
            }
            let task = OwnReader { company, index, partition, at, rng, held: Vec::new() };
            self.taken.insert(at, tokio::spawn(task.run()));
        }
    }

    /// Waits for the tasks that read partitions.
    async fn give_back(&mut self) -> Outcome<()> {
        let index = self.index;
        for (at, task) in std::mem::take(&mut self.taken) {
            let what = format!("the task of member {index} that reads {at:?}");
            match self.world.within(what, task).await? {
                Ok(read) => read?,
                Err(error) => self.world.violate(format_args!("a task of member {index} failed: {error}")),
            }
        }
        Ok(())
    }

    /// Takes a batch and finishes it.
    pub(crate) async fn read_and_finish(&mut self) -> Outcome<()> {
        self.read(Duration::from_millis(20)).await?;
        while !self.held.is_empty() {
            self.finish(0);
        }
        if self.company.plan.promise == Promise::ByHand && self.rng.percent(20) {
            let commit = self.consumer.commit();
            // It may fail while the other one joins.
            let _ = self.world.within(format!("member {} committing", self.index), commit).await?;
        }
        Ok(())
    }

    pub(crate) async fn end(mut self, end: End) -> Outcome<()> {
        let (world, index) = (Arc::clone(&self.world), self.index);
        self.give_back().await?;
        self.note((0, 0), What::Ends { is_orderly: end == End::Close });
        // What it holds and does not finish is read by another member.
        while !self.held.is_empty() {
            if self.rng.percent(60) { self.finish(0) } else { self.drop_one(0) }
        }
        world.note(format_args!("member {index} ends: {end:?}"));
        match end {
            End::Close => {
                let closed = world.within(format!("member {index} closing"), self.consumer.close()).await?;
                if let Err(error) = closed
                    && self.is_drainer
                {
                    world.violate(format_args!("member {index} closed with an error: {error}"));
                }
                let after =
                    world.within(format!("member {index} reading after its end"), self.consumer.next());
                if !matches!(after.await?, Ok(None)) {
                    world.violate(format_args!("member {index} was closed, and goes on"));
                }
                while !self.shared.is_empty() {
                    self.release();
                }
                self.check_returned().await?;
            }
            End::CloseInVain => {
                let limit = self.rng.moment(Duration::from_millis(20));
                let close = timeout(limit, self.consumer.close());
                let _ = world.within(format!("member {index} closing"), close).await?;
            }
            End::Drop => {}
        }
        Ok(())
    }

    /// Checks that a closed member that holds no batch keeps no memory.
    async fn check_returned(&self) -> Outcome<()> {
        let left = || {
            let memory = self.consumer.memory();
            let pinned = memory.topics.iter().map(|of| of.in_use_bytes + of.pinned_bytes + of.buffered_bytes);
            let pools = [self.client.pool_stats(), self.client.decompressed_pool_stats()];
            let out = pools.iter().map(|pool| pool.bytes_out).sum::<usize>();
            memory.budget_bytes_used + pinned.sum::<usize>() + out
        };
        let what = format!("the memory of member {} to come back", self.index);
        self.world.until(what, || left() == 0).await
    }
}

/// What an error of a call that waits for a batch means.
fn failed(company: &Company, index: usize, error: &milena::Error) {
    let text = error.to_string();
    let plan = &company.plan;
    // Another member has its name, its application was slow, or a topic was deleted.
    let is_right = plan.are_static
        || plan.max_poll_interval.is_some() && text.contains("max_poll_interval")
        || company.world.extras.names_deleted(&text);
    if is_right {
        company.world.note(format_args!("member {index} is told: {text}"));
    } else {
        company.world.violate(format_args!("member {index} failed: {text}"));
    }
}

/// Reads one partition of a member for a while.
struct OwnReader {
    company: Arc<Company>,
    index: usize,
    partition: PartitionConsumer,
    at: At,
    rng: Rng,
    held: Vec<Batch>,
}

impl OwnReader {
    async fn run(mut self) -> Outcome<()> {
        let world = Arc::clone(&self.company.world);
        for _ in 0..self.rng.between(1, 20) {
            let limit = self.rng.moment(Duration::from_millis(20));
            match timeout(limit, self.partition.next()).await {
                Err(_) => self.note(What::Cancelled),
                Ok(Ok(None)) => break,
                Ok(Ok(Some(batch))) => self.take(batch),
                Ok(Err(error)) => {
                    failed(&self.company, self.index, &error);
                    break;
                }
            }
            match self.rng.below(10) {
                0 => sleep(self.rng.moment(Duration::from_millis(10))).await,
                1 if !matches!(self.company.plan.promise, Promise::AtMostOnce { .. }) => self.seek(),
                2 if self.partition.pause() => {
                    match self.partition.try_next() {
                        Ok(None) | Err(_) => {}
                        Ok(Some(batch)) => {
                            world.violate(format_args!("member {} got {batch:?}, paused", self.index));
                        }
                    }
                    self.partition.resume();
                }
                _ => {}
            }
        }
        while !self.held.is_empty() {
            self.finish();
        }
        Ok(())
    }

    fn note(&self, what: What) {
        self.company.chronicle.note(self.index, self.at, what);
    }

    fn take(&mut self, batch: Batch) {
        self.note(What::Seen(contents(&batch), batch.next_offset()));
        self.held.push(batch);
        while self.held.len() > 2 {
            self.finish();
        }
    }

    fn finish(&mut self) {
        let batch = self.held.swap_remove(self.rng.below(self.held.len()));
        if self.rng.percent(90) {
            self.note(What::Done(batch.iter().map(|record| record.offset()).collect()));
            self.partition.done(&batch);
        }
        drop(batch);
        self.note(What::Dropped);
    }

    fn seek(&mut self) {
        let Some(position) = self.partition.position() else { return };
        let offset = (position - self.rng.below(20) as i64).max(0);
        self.note(What::Sought(offset));
        // It may have been given up meanwhile.
        let _ = self.partition.seek(Position::Offset(offset));
    }
}
