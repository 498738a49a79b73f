//! The readers. Each notes the records it saw of every partition.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Batch, Client, Consumer, PartitionConsumer, Position};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::log::{Content, Log};
use crate::network::lock;
use crate::plan::{ReaderPlan, Rng};
use crate::world::{Outcome, World};

/// The records a reader saw of a partition, from one start until it sought or unassigned the partition.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) reader: usize,
    pub(crate) topic: usize,
    pub(crate) partition: i32,
    start: Start,
    /// The offsets and digests of the records.
    pub(crate) seen: Vec<(i64, u64)>,
    /// The next offset.
    next: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
enum Start {
    At(i64),
    /// At the end, which is there or later.
    AtLeast(i64),
    Anywhere,
}

type Shared = Arc<Mutex<Run>>;

/// The runs of one reader. Its tasks add to some of them.
#[derive(Default)]
struct Runs {
    all: Vec<Shared>,
    /// Of what is assigned, the one that goes on.
    current: BTreeMap<(usize, i32), Shared>,
}

impl Runs {
    fn begin(&mut self, reader: usize, (topic, partition): (usize, i32), start: Start) -> Shared {
        let run = Run { reader, topic, partition, start, seen: Vec::new(), next: None };
        let run = Arc::new(Mutex::new(run));
        self.all.push(Arc::clone(&run));
        self.current.insert((topic, partition), Arc::clone(&run));
        run
    }
}

pub(crate) struct Reader {
    world: Arc<World>,
    index: usize,
    consumer: Consumer,
    rng: Rng,
    whole: bool,
    slow: bool,
    one_by_one: bool,
    runs: Arc<Mutex<Runs>>,
    paused: BTreeSet<(usize, i32)>,
    /// Read by tasks of their own, which give their partitions back.
    taken: BTreeMap<(usize, i32), JoinHandle<Outcome<()>>>,
    held: Vec<(Batch, Vec<u64>)>,
}

/// The most batches that a reader keeps.
const HELD_MAX: usize = 3;

pub(crate) fn digest(content: &Content) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn contents(batch: &Batch) -> Vec<(i64, u64)> {
    let content = |record: milena::RecordView<'_>| Content {
        timestamp_ms: record.timestamp_ms().unwrap_or(-1),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record
            .headers()
            .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
            .collect(),
    };
    batch.iter().map(|record| (record.offset(), digest(&content(record)))).collect()
}

impl Run {
    /// Adds a batch, and checks that it follows.
    fn add(&mut self, world: &World, batch: &Batch, records: &[(i64, u64)]) {
        let Self { reader, topic, partition, start, .. } = *self;
        let who = format!("reader {reader} of partition {partition} of topic {topic}");
        for (offset, digest) in records {
            let follows = match (self.next, start) {
                (Some(next), _) => *offset == next,
                (None, Start::At(start)) => *offset == start,
                (None, Start::AtLeast(start)) => *offset >= start,
                (None, Start::Anywhere) => true,
            };
            if !follows && !world.is_fleeting() {
                let next = self.next;
                world.violate(format_args!(
                    "{who} saw offset {offset} after {next:?}, having started {start:?}"
                ));
            }
            self.next = Some(offset + 1);
            self.seen.push((*offset, *digest));
        }
        if let Some(next) = self.next
            && next != batch.next_offset()
            && !records.is_empty()
        {
            world
                .violate(format_args!("{who} got a batch to {} with records to {next}", batch.next_offset()));
        }
        world.learn_end(topic, partition, batch.next_offset());
    }
}

impl Reader {
    pub(crate) async fn start(
        world: &Arc<World>,
        client: &Client,
        index: usize,
        plan: &ReaderPlan,
        rng: Rng,
    ) -> Outcome<Self> {
        let all = world.all_partitions();
        let build = async {
            loop {
                let named = all.iter().map(|(topic, partition)| (World::topic(*topic), *partition));
                let builder = client.consumer_direct();
                let builder = match plan.whole {
                    true => (0..world.topic_count())
                        .fold(builder, |builder, topic| builder.topic(World::topic(topic)))
                        .from(Position::Earliest),
                    false => builder.assign(named, Position::Earliest),
                };
                match builder.settings(|settings| plan.apply(settings)).build().await {
                    Ok(consumer) => return consumer,
                    // On a slow machine a look-up may outlast a short timeout.
                    Err(error) => world.note(format_args!("a consumer was not built yet: {error}")),
                }
            }
        };
        let consumer = world.within("a consumer being built", build).await?;
        let mut reader = Self {
            world: Arc::clone(world),
            index,
            consumer,
            rng,
            whole: plan.whole,
            slow: plan.slow,
            one_by_one: plan.one_by_one,
            runs: Arc::default(),
            paused: BTreeSet::new(),
            taken: BTreeMap::new(),
            held: Vec::new(),
        };
        all.into_iter().for_each(|at| reader.begin(at, Start::At(0)));
        Ok(reader)
    }

    /// Reads, and makes all calls that a reader can make, until the storm is over.
    pub(crate) async fn storm(&mut self) -> Outcome<()> {
        while !self.world.is_over() {
            match self.rng.below(100) {
                0..4 => self.seek().await,
                4..8 => self.pause(),
                8..14 => self.resume_one(),
                14..17 if !self.whole => self.unassign(),
                17..22 if !self.whole => self.assign().await?,
                22..24 => self.take(),
                24..28 => self.give_up().await?,
                28..34 => self.release(),
                34..40 if self.slow => sleep(self.rng.moment(Duration::from_millis(40))).await,
                _ => {
                    let limit = self.rng.moment(Duration::from_millis(20));
                    self.read(limit).await?;
                }
            }
        }
        Ok(())
    }

    fn begin(&mut self, at: (usize, i32), start: Start) {
        lock(&self.runs).begin(self.index, at, start);
    }

    /// What is assigned.
    fn assigned(&self) -> Vec<(usize, i32)> {
        lock(&self.runs).current.keys().copied().collect()
    }

    fn current(&self, at: (usize, i32)) -> Option<Shared> {
        let mut runs = lock(&self.runs);
        match runs.current.get(&at) {
            Some(run) => Some(Arc::clone(run)),
            // It was added.
            None => self.whole.then(|| runs.begin(self.index, at, Start::At(0))),
        }
    }

    /// Everything that it saw.
    pub(crate) fn into_runs(self) -> Vec<Shared> {
        std::mem::take(&mut lock(&self.runs).all)
    }

    async fn read(&mut self, limit: Duration) -> Outcome<bool> {
        // Without an assignment it returns at once.
        if self.assigned().is_empty() {
            sleep(limit).await;
            return Ok(false);
        }
        match timeout(limit, self.consumer.next()).await {
            Err(_) => Ok(false),
            Ok(Ok(None)) => {
                self.world.violate(format_args!("reader {} has nothing assigned any more", self.index));
                Ok(false)
            }
            Ok(Ok(Some(batch))) => {
                self.see(batch);
                Ok(true)
            }
            Ok(Err(error)) => {
                self.failed(&error).await?;
                Ok(false)
            }
        }
    }

    async fn failed(&mut self, error: &milena::Error) -> Outcome<()> {
        self.world.note(format_args!("reader {} is told: {error}", self.index));
        if !self.world.is_fleeting() {
            self.world.violate(format_args!("reader {} failed: {error}", self.index));
        }
        // Start partitions that stopped again. Those that did not stop read their records once more.
        self.give_up().await?;
        for at in self.assigned() {
            self.seek_to(at, Position::Earliest, Start::At(0));
        }
        Ok(())
    }

    fn see(&mut self, batch: Batch) {
        let at = (World::topic_index(batch.topic()), batch.partition());
        let records = contents(&batch);
        let index = self.index;
        let Some(run) = self.current(at) else {
            self.world.violate(format_args!("reader {index} got {batch:?}, which is not assigned"));
            return;
        };
        if self.paused.contains(&at) {
            self.world.violate(format_args!("reader {index} got {batch:?}, which is paused"));
        }
        lock(&run).add(&self.world, &batch, &records);
        let position = self.consumer.position(batch.topic(), batch.partition());
        if position != Some(batch.next_offset()) && !self.world.is_fleeting() {
            self.world.violate(format_args!("reader {index} stands at {position:?} after {batch:?}"));
        }
        if self.held.len() < HELD_MAX && self.rng.percent(20) {
            self.held.push((batch, records.into_iter().map(|(_, digest)| digest).collect()));
        }
    }

    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let at = self.rng.below(self.held.len());
        let (batch, digests) = self.held.swap_remove(at);
        let now: Vec<u64> = contents(&batch).into_iter().map(|(_, digest)| digest).collect();
        if now != digests {
            self.world.violate(format_args!("{batch:?} changed while it was held"));
        }
    }

    /// One of those assigned that no task reads.
    fn any(&mut self) -> Option<(usize, i32)> {
        let own = self.assigned().into_iter().filter(|at| !self.taken.contains_key(at));
        let own: Vec<_> = own.collect();
        (!own.is_empty()).then(|| own[self.rng.below(own.len())])
    }

    async fn seek(&mut self) {
        let Some(at) = self.any() else { return };
        let (position, start) = somewhere(&self.world, &mut self.rng, at);
        self.seek_to(at, position, start);
    }

    fn seek_to(&mut self, at: (usize, i32), position: Position, start: Start) {
        self.begin(at, start);
        if let Err(error) = self.consumer.seek(&World::topic(at.0), at.1, position) {
            self.world.violate(format_args!("reader {} cannot seek: {error}", self.index));
        }
    }

    fn pause(&mut self) {
        let Some(at) = self.any() else { return };
        self.paused.insert(at);
        let _ = self.consumer.pause(&World::topic(at.0), at.1);
    }

    fn resume_one(&mut self) {
        if let Some(at) = self.paused.pop_first() {
            let _ = self.consumer.resume(&World::topic(at.0), at.1);
        }
    }

    fn unassign(&mut self) {
        // Also partitions that a task reads: the task is told.
        let all = self.assigned();
        let count = self.rng.between(1, 3);
        for _ in 0..count.min(all.len()) {
            let at = all[self.rng.below(all.len())];
            self.consumer.unassign([(World::topic(at.0), at.1)]).expect("read by position");
            lock(&self.runs).current.remove(&at);
            self.paused.remove(&at);
        }
    }

    /// Assigns one that is not, or all of them.
    async fn assign(&mut self) -> Outcome<()> {
        let missing: Vec<_> = self
            .world
            .all_partitions()
            .into_iter()
            .filter(|at| self.current(*at).is_none() && !self.taken.contains_key(at))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let at = missing[self.rng.below(missing.len())];
        let (position, start) = somewhere(&self.world, &mut self.rng, at);
        let assign = self.consumer.assign([(World::topic(at.0), at.1)], position);
        let what = format!("reader {} assigning partition {} of topic {}", self.index, at.1, at.0);
        match self.world.within(what, assign).await? {
            Ok(()) => self.begin(at, start),
            // The topic may have to be looked up, and that may fail.
            Err(error) => self.world.note(format_args!("reader {} cannot assign: {error}", self.index)),
        }
        Ok(())
    }

    /// Gives the partitions that no task reads to tasks of their own.
    fn take(&mut self) {
        for partition in self.consumer.partitions() {
            let at = (World::topic_index(partition.topic()), partition.partition());
            let Some(run) = self.current(at) else {
                self.world
                    .violate(format_args!("reader {} has {partition:?}, which is not assigned", self.index));
                continue;
            };
            // A paused partition stays so; its task waits.
            let (world, runs) = (Arc::clone(&self.world), Arc::clone(&self.runs));
            let task = PartitionTask { world, partition, at, run, runs, rng: self.rng.fork() };
            self.taken.insert(at, tokio::spawn(task.run()));
        }
    }

    /// Waits for the tasks that read partitions.
    async fn give_up(&mut self) -> Outcome<()> {
        for (at, task) in std::mem::take(&mut self.taken) {
            let what = format!("the task that reads partition {} of topic {}", at.1, at.0);
            match self.world.within(what, task).await? {
                Ok(read) => read?,
                Err(error) => {
                    self.world.violate(format_args!("a task that reads a partition failed: {error}"));
                }
            }
        }
        Ok(())
    }

    /// Reads everything to its end.
    pub(crate) async fn drain(&mut self, logs: &BTreeMap<(usize, i32), Log>) -> Outcome<()> {
        self.give_up().await?;
        while !self.held.is_empty() {
            self.release();
        }
        while !self.paused.is_empty() {
            self.resume_one();
        }
        for at in logs.keys().copied() {
            let Some(run) = self.current(at) else {
                self.assign_from_start(at).await?;
                continue;
            };
            let is_lost = lock(&run).next.is_none() && !matches!(lock(&run).start, Start::At(_));
            if is_lost {
                // It may be at the end, where no more records come.
                self.seek_to(at, Position::Earliest, Start::At(0));
            }
        }
        if self.one_by_one {
            return self.drain_one_by_one(logs).await;
        }
        let world = Arc::clone(&self.world);
        while let Some((topic, partition)) =
            logs.iter().find_map(|(at, log)| self.is_behind(*at, log).then_some(*at))
        {
            let (end, next) = (logs[&(topic, partition)].len(), self.next(topic, partition));
            let what = format!(
                "reader {} at the end of partition {partition} of topic {topic}, {next:?} of {end}",
                self.index
            );
            match world.within(what, self.consumer.next()).await? {
                Ok(Some(batch)) => self.see(batch),
                Ok(None) => world.violate(format_args!("reader {} has nothing assigned", self.index)),
                Err(error) => self.failed(&error).await?,
            }
            self.release();
        }
        Ok(())
    }

    /// Checks that a partition that is not read delays no other partition.
    async fn drain_one_by_one(&mut self, logs: &BTreeMap<(usize, i32), Log>) -> Outcome<()> {
        let mut partitions = self.consumer.partitions();
        for partition in &mut partitions {
            let at = (World::topic_index(partition.topic()), partition.partition());
            while self.is_behind(at, &logs[&at]) {
                let (end, next) = (logs[&at].len(), self.next(at.0, at.1));
                let what = format!("reader {} at the end of {at:?} alone, {next:?} of {end}", self.index);
                match self.world.within(what, partition.next()).await? {
                    Ok(Some(batch)) => {
                        let run = self.current(at).expect("assigned");
                        lock(&run).add(&self.world, &batch, &contents(&batch));
                    }
                    other => self.world.violate(format_args!("{partition:?} is told {other:?}")),
                }
            }
        }
        Ok(())
    }

    fn next(&self, topic: usize, partition: i32) -> Option<i64> {
        self.current((topic, partition)).and_then(|run| lock(&run).next)
    }

    /// Whether there is more to come.
    fn is_behind(&self, at: (usize, i32), log: &Log) -> bool {
        let run = self.current(at).expect("assigned");
        let run = lock(&run);
        let next = run.next.unwrap_or(match run.start {
            Start::At(start) => start,
            Start::AtLeast(_) | Start::Anywhere => 0,
        });
        if !self.world.is_fleeting() {
            return next < log.len() as i64;
        }
        // Its position may be an offset of a topic that is gone.
        drop(run);
        let runs = lock(&self.runs).all.clone();
        let runs = runs.iter().map(|run| lock(run)).filter(|run| (run.topic, run.partition) == at);
        let seen: BTreeSet<(i64, u64)> = runs.flat_map(|run| run.seen.clone()).collect();
        log.iter().enumerate().any(|(offset, content)| !seen.contains(&(offset as i64, digest(content))))
    }

    async fn assign_from_start(&mut self, at: (usize, i32)) -> Outcome<()> {
        let world = Arc::clone(&self.world);
        let assign = async {
            while let Err(error) =
                self.consumer.assign([(World::topic(at.0), at.1)], Position::Earliest).await
            {
                world.note(format_args!("reader {} cannot assign yet: {error}", self.index));
                sleep(Duration::from_millis(5)).await;
            }
        };
        world.within(format!("reader {} assigning {at:?} after the storm", self.index), assign).await?;
        self.begin(at, Start::At(0));
        Ok(())
    }
}

/// Somewhere that exists.
fn somewhere(world: &World, rng: &mut Rng, at: (usize, i32)) -> (Position, Start) {
    // What is skipped of a topic that is made again was never there.
    if world.is_fleeting() {
        return (Position::Earliest, Start::At(0));
    }
    let known = world.known_end(at.0, at.1);
    match rng.below(10) {
        0..2 => (Position::Earliest, Start::At(0)),
        2 => (Position::Latest, Start::AtLeast(known)),
        3 => (Position::BeforeEnd(rng.below(20) as i64), Start::Anywhere),
        _ => {
            let offset = rng.below(known as usize + 1) as i64;
            (Position::Offset(offset), Start::At(offset))
        }
    }
}

/// Reads one partition for a while.
struct PartitionTask {
    world: Arc<World>,
    partition: PartitionConsumer,
    at: (usize, i32),
    run: Shared,
    /// Those of its reader.
    runs: Arc<Mutex<Runs>>,
    rng: Rng,
}

impl PartitionTask {
    async fn run(mut self) -> Outcome<()> {
        for _ in 0..self.rng.between(1, 20) {
            let limit = self.rng.moment(Duration::from_millis(20));
            match timeout(limit, self.partition.next()).await {
                Err(_) => {}
                Ok(Ok(None)) => return Ok(()),
                Ok(Ok(Some(batch))) => lock(&self.run).add(&self.world, &batch, &contents(&batch)),
                Ok(Err(error)) => {
                    if !self.world.is_fleeting() {
                        self.world.violate(format_args!("{:?} failed: {error}", self.partition));
                    }
                    return Ok(());
                }
            }
            match self.rng.below(10) {
                0..2 => sleep(self.rng.moment(Duration::from_millis(20))).await,
                2 => self.seek(),
                _ => {}
            }
        }
        Ok(())
    }

    fn seek(&mut self) {
        let (position, start) = somewhere(&self.world, &mut self.rng, self.at);
        let mut runs = lock(&self.runs);
        // Else it was unassigned meanwhile, and this does nothing.
        if runs.current.get(&self.at).is_some_and(|run| Arc::ptr_eq(run, &self.run)) {
            let reader = lock(&self.run).reader;
            self.run = runs.begin(reader, self.at, start);
            let _ = self.partition.seek(position);
        }
    }
}
