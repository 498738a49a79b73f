//! The members of a group. What each of them owns, sees and marks as done is noted in one chronicle.
//!
//! Each member has a client and a runtime of its own: a member that is killed is a runtime that ends at whatever point its tasks
//! have reached, with its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Batch, Client, Consumer, Position};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::checker::Logs;
use crate::chronicle::{At, Chronicle, What};
use crate::log::{committed, group_state};
use crate::network::{Connector, lock};
use crate::plan::{GroupPlan, Rng};
use crate::reader::contents;
use crate::world::{Outcome, PATIENCE, World};

/// The name of the group.
const GROUP: &str = "company";
/// The most batches that a member keeps.
const HELD_MAX: usize = 4;

/// The members of the group, one after the other in each place.
pub(crate) struct Company {
    world: Arc<World>,
    plan: GroupPlan,
    chronicle: Arc<Chronicle>,
    /// The number of members so far.
    count: AtomicUsize,
}

/// How a member goes.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    /// The call to close is dropped, and then the consumer.
    CloseInVain,
    Drop,
}

impl Company {
    pub(crate) fn new(world: &Arc<World>, plan: &GroupPlan) -> Arc<Self> {
        let (world, plan) = (Arc::clone(world), plan.clone());
        Arc::new(Self { world, plan, chronicle: Arc::default(), count: AtomicUsize::new(0) })
    }

    pub(crate) fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    /// Members come and go until the storm is over.
    pub(crate) async fn storm(self: Arc<Self>, mut rng: Rng) -> Outcome<()> {
        let mut places = JoinSet::new();
        for place in 0..self.plan.members {
            places.spawn(Arc::clone(&self).fill(place, rng.fork()));
        }
        places.spawn(Arc::clone(&self).observe(rng.fork()));
        while let Some(ended) = places.join_next().await {
            match ended {
                Ok(ended) => ended?,
                Err(error) => self.world.violate(format_args!("a place in the group failed: {error}")),
            }
        }
        Ok(())
    }

    /// Fills one place with members, one after the other.
    async fn fill(self: Arc<Self>, place: usize, mut rng: Rng) -> Outcome<()> {
        while !self.world.is_over() {
            let (runtime, index) = (self.runtime(), self.count.fetch_add(1, Ordering::Relaxed));
            let member = Arc::clone(&self).live(index, place, rng.fork());
            let mut life = runtime.spawn(member);
            let ended = if rng.percent(40) {
                let age = rng.moment(Duration::from_millis(1500));
                timeout(age, &mut life).await.ok()
            } else {
                Some((&mut life).await)
            };
            match ended {
                Some(Ok(ended)) => {
                    // A consumer that was dropped leaves in the background.
                    sleep(rng.moment(Duration::from_millis(100))).await;
                    runtime.shutdown_background();
                    ended?;
                }
                Some(Err(error)) => {
                    self.world.violate(format_args!("a member failed: {error}"));
                    runtime.shutdown_background();
                }
                None => {
                    self.world.note(format_args!("member {index} is killed"));
                    runtime.shutdown_background();
                    self.chronicle.note(index, (0, 0), What::Ends);
                }
            }
            sleep(rng.moment(Duration::from_millis(100))).await;
        }
        Ok(())
    }

    fn runtime(&self) -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let name = format!("chaos-{}", self.world.plan.seed);
        builder.worker_threads(1).thread_name(name).enable_all().build().expect("a runtime starts")
    }

    /// The life of a member, unless it is killed before.
    async fn live(self: Arc<Self>, index: usize, place: usize, mut rng: Rng) -> Outcome<()> {
        let Some(mut member) = self.join(index, place, rng.fork()).await? else { return Ok(()) };
        let steps = rng.between(1, 400);
        member.storm(steps).await?;
        let end = rng.pick(&[End::Close, End::Close, End::CloseInVain, End::Drop]);
        member.end(end).await
    }

    /// A new member. None if the storm is over.
    async fn join(&self, index: usize, place: usize, rng: Rng) -> Outcome<Option<Member>> {
        let world = &self.world;
        let changed: Arc<Mutex<BTreeSet<At>>> = Arc::default();
        let build = async {
            loop {
                match self.build(index, place, &changed).await {
                    Ok(consumer) => return Some(consumer),
                    Err(_) if world.is_over() && place < self.plan.members => return None,
                    // On a slow machine a look-up may outlast a short timeout.
                    Err(error) => world.note(format_args!("member {index} was not built yet: {error}")),
                }
            }
        };
        let Some(consumer) = world.within(format!("member {index} being built"), build).await? else {
            return Ok(None);
        };
        world.note(format_args!("member {index} is in place {place}"));
        let (world, chronicle) = (Arc::clone(world), Arc::clone(&self.chronicle));
        let (paused, held) = (BTreeSet::new(), Vec::new());
        let (is_static, is_drainer) = (self.plan.are_static, place >= self.plan.members);
        Ok(Some(Member {
            world,
            chronicle,
            index,
            consumer,
            rng,
            changed,
            paused,
            held,
            is_static,
            is_drainer,
        }))
    }

    async fn build(
        &self,
        index: usize,
        place: usize,
        changed: &Arc<Mutex<BTreeSet<At>>>,
    ) -> Result<Consumer, milena::Error> {
        let world = &self.world;
        let builder = Client::builder().bootstrap(world.cluster.bootstrap());
        let builder = builder.seed(world.plan.seed ^ ((index as u64) << 32));
        let builder = builder.connector(Connector(Arc::clone(&world.network)));
        let client = builder.settings(|settings| world.plan.apply(settings));
        // Those who read what is left have time, because their calls may not fail.
        let client = if place < self.plan.members { client } else { client.request_timeout(PATIENCE / 2) };
        let client = client.connect().await?;
        let topics = (0..world.topic_count()).map(World::topic);
        let builder = client.consumer(GROUP).subscribe(topics);
        let builder = builder.settings(|settings| self.plan.apply_to_fetches(settings));
        let builder = builder.group_settings(|settings| self.plan.apply(place, settings));
        let note = |what: What| {
            let (chronicle, changed) = (Arc::clone(&self.chronicle), Arc::clone(changed));
            move |partitions: Vec<(String, i32)>, _| {
                for (topic, partition) in partitions {
                    let at = (World::topic_index(&topic), partition);
                    lock(&changed).insert(at);
                    chronicle.note(index, at, what.clone());
                }
                async {}
            }
        };
        let builder = builder.on_assigned(note(What::Assigned)).on_revoked(note(What::Revoked));
        builder.on_lost(note(What::Lost)).build().await
    }

    /// Asks the coordinator what is committed, as an operator does.
    async fn observe(self: Arc<Self>, mut rng: Rng) -> Outcome<()> {
        while !self.world.is_over() {
            sleep(rng.moment(Duration::from_millis(60))).await;
            let node = rng.percent(20).then(|| rng.between(1, 3) as i32);
            if let Some(node) = node {
                // A node that is down takes nothing over.
                if self.world.cluster.move_coordinator(GROUP, node).is_ok() {
                    self.world.note(format_args!("node {node} coordinates the group"));
                }
            }
            let look = async { self.look().await };
            self.world.within("the committed offsets", look).await?;
        }
        Ok(())
    }

    fn coordinator(&self) -> Option<SocketAddr> {
        let node = self.world.cluster.coordinator(GROUP)?;
        self.world.cluster.addresses().get(&node).copied()
    }

    /// What is committed of each partition, if the coordinator says it.
    async fn look(&self) -> Option<BTreeMap<At, i64>> {
        let node = self.coordinator()?;
        let found = timeout(Duration::from_secs(1), committed(node, GROUP)).await.ok()?.ok()?;
        let found: BTreeMap<At, i64> = found
            .into_iter()
            .map(|(topic, partition, offset)| ((World::topic_index(&topic), partition), offset))
            .collect();
        for (at, offset) in &found {
            self.chronicle.note(usize::MAX, *at, What::Committed(*offset));
        }
        Some(found)
    }

    /// Reads what is left with members that work in order, until all of it is committed, and closes them.
    pub(crate) async fn drain(self: Arc<Self>, logs: &Logs, mut rng: Rng) -> Outcome<()> {
        let mut drainers = Vec::new();
        let (finish, finished) = tokio::sync::watch::channel(false);
        for place in 0..rng.between(1, 2) {
            // A place of its own, and so a name of its own if members have names.
            let (index, place) = (self.count.fetch_add(1, Ordering::Relaxed), place + self.plan.members);
            let Some(mut member) = self.join(index, place, rng.fork()).await? else { continue };
            let mut finished = finished.clone();
            drainers.push(tokio::spawn(async move {
                loop {
                    tokio::select! {
                        _ = finished.wait_for(|is_finished| *is_finished) => break,
                        read = member.read_and_finish() => read?,
                    }
                }
                member.end(End::Close).await
            }));
        }
        let wanted: BTreeMap<At, i64> =
            logs.iter().filter(|(_, log)| !log.is_empty()).map(|(at, log)| (*at, log.len() as i64)).collect();
        let drained = async {
            loop {
                let found = self.look().await.unwrap_or_default();
                if wanted.iter().all(|(at, end)| found.get(at) >= Some(end)) {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        let drained = self.world.within("the group committing everything", drained).await;
        finish.send_replace(true);
        for drainer in drainers {
            match drainer.await {
                Ok(ended) => ended?,
                Err(error) => self.world.violate(format_args!("a member failed after the storm: {error}")),
            }
        }
        drained?;
        self.look().await;
        let emptied = async {
            while let Some(node) = self.coordinator() {
                match group_state(node, GROUP).await {
                    Ok(state) if state == "Empty" => return,
                    _ => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        self.world.within("the group being empty", emptied).await
    }
}

/// A batch that a member has not finished.
struct Held {
    at: At,
    batch: Batch,
    /// The offsets that are not marked as done.
    undone: Vec<i64>,
}

struct Member {
    world: Arc<World>,
    chronicle: Arc<Chronicle>,
    index: usize,
    consumer: Consumer,
    rng: Rng,
    /// Partitions that are to be given up, or that were lost or assigned, as the hooks have said.
    changed: Arc<Mutex<BTreeSet<At>>>,
    paused: BTreeSet<At>,
    held: Vec<Held>,
    is_static: bool,
    /// Whether it reads what is left after the storm.
    is_drainer: bool,
}

impl Member {
    /// Reads, and makes the calls that a member can make, until the storm is over.
    async fn storm(&mut self, steps: usize) -> Outcome<()> {
        for _ in 0..steps {
            if self.world.is_over() {
                break;
            }
            self.finish_changed();
            match self.rng.below(100) {
                0..4 => self.pause(),
                4..10 => self.resume(),
                10..14 => self.seek(),
                14..18 => self.commit().await?,
                18..26 => self.finish_some(),
                26..30 => sleep(self.rng.moment(Duration::from_millis(30))).await,
                30 => self.put_down(),
                _ => {
                    let limit = self.rng.moment(Duration::from_millis(20));
                    self.read(limit).await?;
                }
            }
        }
        Ok(())
    }

    async fn read(&mut self, limit: Duration) -> Outcome<()> {
        let index = self.index;
        let world = Arc::clone(&self.world);
        let next = world.within(format!("member {index} reading"), timeout(limit, self.consumer.next()));
        match next.await? {
            Err(_) => {}
            Ok(Ok(Some(batch))) => self.take(batch),
            Ok(Ok(None)) => world.violate(format_args!("member {index} was told that nothing more comes")),
            // Another member has its name.
            Ok(Err(error)) if self.is_static => world.note(format_args!("member {index} is out: {error}")),
            Ok(Err(error)) => world.violate(format_args!("member {index} failed: {error}")),
        }
        Ok(())
    }

    fn take(&mut self, batch: Batch) {
        self.finish_changed();
        let at = (World::topic_index(batch.topic()), batch.partition());
        let records = contents(&batch);
        if self.paused.contains(&at) {
            self.world.violate(format_args!("member {} got a batch of {at:?}, which is paused", self.index));
        }
        let undone = records.iter().map(|(offset, _)| *offset).collect();
        self.chronicle.note(self.index, at, What::Seen(records, batch.next_offset()));
        self.held.push(Held { at, batch, undone });
        while self.held.len() > HELD_MAX {
            let which = self.rng.below(self.held.len());
            self.finish(which);
        }
    }

    /// Marks all of a batch as done, and drops it.
    fn finish(&mut self, which: usize) {
        let Held { at, batch, undone } = self.held.swap_remove(which);
        self.chronicle.note(self.index, at, What::Done(undone));
        self.consumer.done(&batch);
        self.chronicle.note(self.index, at, What::Dropped);
    }

    /// Marks some records of a batch as done, in any order.
    fn finish_some(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let which = self.rng.below(self.held.len());
        let Held { at, batch, undone } = &mut self.held[which];
        for _ in 0..self.rng.between(1, 4) {
            if undone.is_empty() {
                break;
            }
            let offset = undone.swap_remove(self.rng.below(undone.len()));
            self.chronicle.note(self.index, *at, What::Done(vec![offset]));
            if let Some(record) = batch.iter().find(|record| record.offset() == offset) {
                self.consumer.done_record(&record);
            }
        }
    }

    /// Finishes the batches of partitions that are to be given up; some are only dropped. If such a partition comes back, it is
    /// not paused.
    fn finish_changed(&mut self) {
        let changed = std::mem::take(&mut *lock(&self.changed));
        self.paused.retain(|at| !changed.contains(at));
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
        self.chronicle.note(self.index, at, What::Dropped);
    }

    /// Drops a batch that is not done: what follows of its partition is not committed by this member.
    fn put_down(&mut self) {
        if !self.held.is_empty() {
            let which = self.rng.below(self.held.len());
            self.drop_one(which);
        }
    }

    fn owned(&mut self) -> Option<At> {
        let owned = self.consumer.assignment();
        let (topic, partition) = owned.get(self.rng.below(owned.len()))?;
        Some((World::topic_index(topic), *partition))
    }

    fn pause(&mut self) {
        if let Some(at) = self.owned()
            && self.consumer.pause(&World::topic(at.0), at.1).is_ok()
            && self.consumer.assignment().contains(&(World::topic(at.0), at.1))
        {
            self.paused.insert(at);
        }
    }

    fn resume(&mut self) {
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
        self.chronicle.note(self.index, at, What::Sought(offset));
        // It may have been given up meanwhile.
        let _ = self.consumer.seek(&World::topic(at.0), at.1, Position::Offset(offset));
    }

    async fn commit(&mut self) -> Outcome<()> {
        let limit = self.rng.moment(Duration::from_millis(60));
        let call = timeout(limit, self.consumer.commit());
        // It may fail while the group rebalances, and is told why.
        let _ = self.world.within(format!("member {} committing", self.index), call).await?;
        Ok(())
    }

    /// Takes a batch and finishes it.
    async fn read_and_finish(&mut self) -> Outcome<()> {
        self.read(Duration::from_millis(20)).await?;
        while !self.held.is_empty() {
            self.finish(0);
        }
        Ok(())
    }

    async fn end(mut self, end: End) -> Outcome<()> {
        let (world, index) = (Arc::clone(&self.world), self.index);

        self.chronicle.note(index, (0, 0), What::Ends);
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
}
