//! Transactional producers and loops that process exactly once, on topics of their own. Producers commit, abort and drop their
//! transactions, are fenced by another instance and give calls up; loops come, go and are killed. What each was told is compared
//! with what readers of committed records see in the end.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Client, Error, Isolation, Record, Reset, Transaction, TransactionEnd, TransactionalProducer};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::log::{Committed, committed, read_committed, write};
use crate::network::{Connector, lock};
use crate::plan::{Rng, TransactionPlan};
use crate::world::{Outcome, World};

/// What producers write to, what loops read and what they copy it to.
const LEDGER: &str = "ledger";
const SOURCE: &str = "source";
const COPY: &str = "copy";
const PARTITIONS: i32 = 2;
/// The records of each partition of the source, in batches of ten.
const BATCHES: usize = 6;
const RECORDS: usize = 10;
const GROUP: &str = "copying";
const NODES: usize = 3;
/// Each instance's place plays this many transactions at least.
const SPANS_MIN: usize = 5;
/// No round lasts as long as this.
const FOREVER: Duration = Duration::from_secs(3600);

/// In all rounds: the transactions with records that were committed, that were aborted and whose end is not known.
pub(crate) static ENDED: [AtomicUsize; 3] = [const { AtomicUsize::new(0) }; 3];
/// In all rounds: the records that loops have copied.
pub(crate) static COPIED: AtomicUsize = AtomicUsize::new(0);

/// What is known of the end of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Committed,
    Aborted,
    Unknown,
}

/// A transaction that has ended, or whose producer has.
#[derive(Debug)]
struct Span {
    /// The records that it has if it is committed, and those that it may have.
    taken: Vec<String>,
    maybe: Vec<String>,
    end: End,
}

pub(crate) struct Transactors {
    world: Arc<World>,
    plan: TransactionPlan,
    spans: Mutex<Vec<Span>>,
    numbers: AtomicUsize,
    /// Whether nothing is left to copy.
    is_copied: tokio::sync::watch::Sender<bool>,
}

impl Transactors {
    /// Makes the topics, and fills the one that loops read.
    pub(crate) async fn start(world: &Arc<World>, plan: &TransactionPlan) -> Outcome<Arc<Self>> {
        for topic in [LEDGER, SOURCE, COPY] {
            world.cluster.create_topic(topic, PARTITIONS).expect("a topic is created");
        }
        if plan.loops > 0 {
            for partition in 0..PARTITIONS {
                let filled = write(world.leader_of(SOURCE, partition), SOURCE, partition, BATCHES, RECORDS);
                world.within("the source being filled", filled).await?.expect("no fault happens yet");
            }
        }
        Ok(Arc::new(Self {
            world: Arc::clone(world),
            plan: plan.clone(),
            spans: Mutex::default(),
            numbers: AtomicUsize::new(0),
            is_copied: tokio::sync::watch::Sender::new(plan.loops == 0),
        }))
    }

    /// Plays until the storm is over and everything is copied.
    pub(crate) async fn play(self: Arc<Self>, mut rng: Rng) -> Outcome<()> {
        let mut all = JoinSet::new();
        for id in 0..self.plan.producers {
            all.spawn(Arc::clone(&self).produce(id, rng.fork()));
            if self.plan.has_rivals {
                all.spawn(Arc::clone(&self).produce(id, rng.fork()));
            }
        }
        for place in 0..self.plan.loops {
            all.spawn(Arc::clone(&self).copy(place, rng.fork()));
        }
        all.spawn(Arc::clone(&self).watch());
        all.spawn(Arc::clone(&self).trouble(rng.fork()));
        while let Some(ended) = all.join_next().await {
            match ended {
                Ok(ended) => ended?,
                Err(error) => self.world.violate(format_args!("a transactor failed: {error}")),
            }
        }
        Ok(())
    }

    /// Coordinators and leaders move, and the version of transactions changes.
    async fn trouble(self: Arc<Self>, mut rng: Rng) -> Outcome<()> {
        let (world, mut version) = (&self.world, self.plan.version);
        while self.plan.has_trouble && !world.is_over() {
            sleep(rng.moment(Duration::from_millis(80))).await;
            let node = rng.between(1, NODES) as i32;
            match rng.below(10) {
                0..3 => {
                    let id = rng.below(self.plan.producers);
                    // A node that is down takes nothing over.
                    let _ = world.cluster.move_transaction_coordinator(&name(id), node);
                }
                3..5 => {
                    let place = rng.below(self.plan.loops);
                    let _ = world.cluster.move_transaction_coordinator(&copier(place), node);
                }
                5 => drop(world.cluster.move_coordinator(GROUP, node)),
                6 if self.plan.is_version_changed => {
                    version = 3 - version;
                    world.note(format_args!("transactions have version {version}"));
                    world.cluster.set_transaction_version(version).expect("there is such a version");
                }
                _ => {
                    let topic = rng.pick(&[LEDGER, SOURCE, COPY]);
                    let _ = world.cluster.move_leader(topic, rng.below(PARTITIONS as usize) as i32, node);
                }
            }
        }
        Ok(())
    }

    async fn client(&self, rng: &mut Rng) -> Outcome<Client> {
        let world = &self.world;
        let connect = async {
            loop {
                let builder = Client::builder().bootstrap(world.cluster.bootstrap()).seed(rng.next());
                let builder = builder.connector(Connector(Arc::clone(&world.network)));
                match builder.settings(|settings| world.plan.apply(settings)).connect().await {
                    Ok(client) => return client,
                    Err(error) => world.note(format_args!("no connection yet: {error}")),
                }
            }
        };
        world.within("a transactor connecting", connect).await
    }

    async fn build(&self, client: &Client, id: &str) -> Outcome<TransactionalProducer> {
        let build = async {
            loop {
                let builder = client.transactional(id).settings(|settings| self.plan.apply(settings));
                match builder.build().await {
                    Ok(producer) => return producer,
                    Err(error) => {
                        if error.is_fatal() && !error.is_fenced() {
                            self.world.violate(format_args!("no transactional producer: {error}"));
                        }
                        self.world.note(format_args!("{id} is not ready yet: {error}"));
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        };
        self.world.within(format!("the transactional producer {id} being built"), build).await
    }

    /// Instances of a transactional id, one after the other.
    async fn produce(self: Arc<Self>, id: usize, mut rng: Rng) -> Outcome<()> {
        let mut played = 0;
        // On a busy machine a storm is over before anything has happened.
        while !self.world.is_over() || played < SPANS_MIN {
            let client = self.client(&mut rng).await?;
            let mut producer = self.build(&client, &name(id)).await?;
            let mut left = rng.between(1, 30);
            while left > 0 && (!self.world.is_over() || played < SPANS_MIN) {
                left -= 1;
                played += 1;
                if !self.transact(&mut producer, &mut rng).await? {
                    break;
                }
            }
            if rng.percent(30) {
                // The process ends with a transaction open.
                if let Ok(Ok(transaction)) = timeout(Duration::from_millis(50), producer.begin()).await {
                    let mut span = Span { taken: Vec::new(), maybe: Vec::new(), end: End::Aborted };
                    self.write(&transaction, &mut span, &mut rng).await?;
                    drop(transaction);
                    lock(&self.spans).push(span);
                }
            }
        }
        Ok(())
    }

    /// One transaction. False if the producer can do nothing more.
    async fn transact(&self, producer: &mut TransactionalProducer, rng: &mut Rng) -> Outcome<bool> {
        let world = &self.world;
        let mut span = Span { taken: Vec::new(), maybe: Vec::new(), end: End::Aborted };
        let transaction = match world.within("a transaction beginning", producer.begin()).await? {
            Ok(transaction) => transaction,
            Err(error) if error.is_fatal() => {
                self.check_fatal(&error);
                return Ok(false);
            }
            Err(error) => {
                if error.requires_abort() {
                    world.violate(format_args!("nothing is there to abort: {error}"));
                }
                return Ok(true);
            }
        };
        self.write(&transaction, &mut span, rng).await?;
        let mut is_alive = true;
        match rng.below(10) {
            0..6 => {
                let limit = if rng.percent(15) { rng.moment(Duration::from_millis(30)) } else { FOREVER };
                let committed = timeout(limit, transaction.commit());
                let committed = world.within("a commit", committed).await?;
                is_alive = committed
                    .as_ref()
                    .ok()
                    .and_then(|of| of.as_ref().err())
                    .is_none_or(|error| !error.is_fatal());
                span.end = match committed {
                    Ok(Ok(())) => End::Committed,
                    Ok(Err(error)) if error.maybe_written() && !error.is_fatal() => {
                        self.resolve(producer).await?
                    }
                    Ok(Err(error)) if error.maybe_written() => End::Unknown,
                    Ok(Err(error)) => {
                        self.check_refused(&error);
                        End::Aborted
                    }
                    // It was given up.
                    Err(_) => self.resolve(producer).await?,
                };
            }
            6..8 => {
                if let Err(error) = world.within("an abort", transaction.abort()).await? {
                    is_alive = !error.is_fatal();
                    self.check_refused(&error);
                }
            }
            _ => drop(transaction),
        }
        lock(&self.spans).push(span);
        Ok(is_alive)
    }

    async fn write(&self, transaction: &Transaction<'_>, span: &mut Span, rng: &mut Rng) -> Outcome<()> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        for index in 0..rng.below(8) {
            let value = format!("{number}:{index}");
            let partition = rng.below(PARTITIONS as usize) as i32;
            let record = Record::to(LEDGER).partition(partition).value(&value);
            let limit = if rng.percent(10) { rng.moment(Duration::from_millis(10)) } else { FOREVER };
            let is_sent = rng.percent(20);
            let call = async {
                if is_sent {
                    transaction.send(record).await.map(drop)
                } else {
                    transaction.post(record).await
                }
            };
            match self.world.within("a record of a transaction", timeout(limit, call)).await? {
                Ok(Ok(())) => span.taken.push(value),
                // A record that failed dooms the transaction; one that was not taken is not in it.
                Ok(Err(_)) | Err(_) => span.maybe.push(value),
            }
        }
        Ok(())
    }

    /// How the last transaction ended.
    async fn resolve(&self, producer: &mut TransactionalProducer) -> Outcome<End> {
        let resolve = async {
            loop {
                match producer.resolve().await {
                    Ok(Some(TransactionEnd::Committed)) => return End::Committed,
                    Ok(Some(TransactionEnd::Aborted)) => return End::Aborted,
                    Ok(None) => {
                        self.world.violate("a transaction has no end");
                        return End::Unknown;
                    }
                    Err(error) if error.is_fatal() => {
                        self.check_fatal(&error);
                        return End::Unknown;
                    }
                    Err(_) => sleep(Duration::from_millis(2)).await,
                }
            }
        };
        self.world.within("a commit being resolved", resolve).await
    }

    fn check_fatal(&self, error: &Error) {
        if !error.is_fenced() || error.is_retriable() || error.requires_abort() {
            self.world.violate(format_args!("a producer can do nothing more, and was not fenced: {error}"));
        }
    }

    /// An end that failed and has certainly committed nothing.
    fn check_refused(&self, error: &Error) {
        if error.is_fatal() {
            self.check_fatal(error);
        } else if !error.requires_abort() && !error.is_retriable() {
            self.world.violate(format_args!("the class of an error: {error}"));
        }
    }

    /// Loops in one place, one after the other.
    async fn copy(self: Arc<Self>, place: usize, mut rng: Rng) -> Outcome<()> {
        let mut is_copied = self.is_copied.subscribe();
        while !*is_copied.borrow() {
            let client = self.client(&mut rng).await?;
            let consumer = client
                .consumer(GROUP)
                .subscribe([SOURCE])
                .isolation(Isolation::ReadCommitted)
                .manual_commits()
                .settings(|settings| {
                    settings.reset = Some(Reset::Earliest);
                    settings.delivery_records_max = Some(3);
                })
                .group_settings(|settings| {
                    settings.protocol = self.plan.protocol;
                    settings.session_timeout = self.world.plan.session_timeout;
                    settings.heartbeat_interval = self.world.plan.session_timeout / 10;
                    settings.rebalance_timeout = Some(Duration::from_secs(3));
                });
            let consumer =
                match self.world.within("a copier's consumer being built", consumer.build()).await? {
                    Ok(consumer) => consumer,
                    Err(error) => {
                        self.world.note(format_args!("no copier yet: {error}"));
                        continue;
                    }
                };
            let producer = self.build(&client, &copier(place)).await?;
            let run = milena::exactly_once(consumer, producer).interval(Duration::from_millis(5));
            let run = run.run(|transaction, batch| {
                Box::pin(async move {
                    for record in batch {
                        let value = format!("{}:{}", batch.partition(), record.offset());
                        transaction.post(Record::to(COPY).key(&value).value(&value)).await?;
                    }
                    Ok::<_, Error>(())
                })
            });
            let is_killed = !self.world.is_over() && rng.percent(50);
            let life = if is_killed { rng.moment(Duration::from_millis(400)) } else { FOREVER };
            tokio::select! {
                ended = timeout(life, run) => {
                    if let Ok(Err(error)) = ended {
                        self.world.note(format_args!("copier {place} ends: {error}"));
                    }
                }
                _ = is_copied.wait_for(|is_copied| *is_copied) => {}
            }
        }
        Ok(())
    }

    /// Waits until everything is copied. After the storm it must be soon.
    async fn watch(self: Arc<Self>) -> Outcome<()> {
        if self.plan.loops == 0 {
            return Ok(());
        }
        while !self.world.is_over() {
            sleep(Duration::from_millis(20)).await;
        }
        let copying = async {
            loop {
                sleep(Duration::from_millis(10)).await;
                if let Ok(copied) = self.committed(COPY).await {
                    let count: usize = copied.values().map(|of| of.values.len()).sum();
                    if count >= PARTITIONS as usize * BATCHES * RECORDS {
                        return;
                    }
                }
            }
        };
        self.world.within("everything being copied", copying).await?;
        self.is_copied.send_replace(true);
        Ok(())
    }

    /// What readers of committed records see of a topic, by partition.
    async fn committed(&self, topic: &str) -> io::Result<BTreeMap<i32, Committed>> {
        let mut all = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let read = read_committed(self.world.leader_of(topic, partition), topic, partition).await?;
            all.insert(partition, read);
        }
        Ok(all)
    }

    /// Checks what is there in the end, when all clients have gone.
    pub(crate) async fn check(&self) -> Outcome<()> {
        let world = &self.world;
        let mut logs = BTreeMap::new();
        for topic in [LEDGER, COPY] {
            let settled = async {
                loop {
                    match self.committed(topic).await {
                        Ok(log) if log.values().all(|of| of.is_stable) => return log,
                        // The last transactions of those that were killed time out.
                        Ok(_) => sleep(Duration::from_millis(10)).await,
                        Err(error) => {
                            world.violate(format_args!("{topic} cannot be read: {error}"));
                            return BTreeMap::new();
                        }
                    }
                }
            };
            let log = world.within(format!("the transactions of {topic} to end"), settled).await?;
            logs.insert(topic, log);
        }
        self.check_ledger(&logs[LEDGER]);
        if self.plan.loops > 0 {
            self.check_copy(&logs[COPY]);
            let coordinator = world.cluster.coordinator(GROUP).expect("a coordinator");
            let stored = committed(world.cluster.addresses()[&coordinator], GROUP).await;
            let offsets: BTreeMap<_, _> =
                stored.unwrap_or_default().iter().map(|of| (of.partition, of.offset)).collect();
            let expected = (0..PARTITIONS).map(|partition| (partition, (BATCHES * RECORDS) as i64));
            if offsets != expected.collect() {
                world.violate(format_args!("all is copied, and {offsets:?} is committed"));
            }
        }
        Ok(())
    }

    fn check_ledger(&self, log: &BTreeMap<i32, Committed>) {
        let mut places = BTreeMap::<&str, Vec<(i32, usize)>>::new();
        for (partition, committed) in log {
            for (at, value) in committed.values.iter().enumerate() {
                places.entry(value).or_default().push((*partition, at));
            }
        }
        for (value, at) in &places {
            if at.len() > 1 {
                self.world.violate(format_args!("record {value} is there more than once: {at:?}"));
            }
        }
        let is_there = |value: &String| places.contains_key(value.as_str());
        let spans = lock(&self.spans);
        let mut known = 0;
        for span in spans.iter() {
            let there = span.taken.iter().filter(|value| is_there(value)).count();
            let any = there + span.maybe.iter().filter(|value| is_there(value)).count();
            let is_right = match span.end {
                End::Committed => there == span.taken.len(),
                End::Aborted => any == 0,
                End::Unknown => any == 0 || there == span.taken.len(),
            };
            if !is_right {
                self.world.violate(format_args!("a transaction is not whole: {any} records of {span:?}"));
            }
            known += any;
            // Records of a partition are in the order of the calls.
            let mut last = BTreeMap::new();
            for value in &span.taken {
                for (partition, at) in places.get(value.as_str()).into_iter().flatten() {
                    if last.insert(*partition, *at).is_some_and(|before| before > *at) {
                        self.world.violate(format_args!("record {value} is before an earlier one"));
                    }
                }
            }
        }
        if known != places.values().map(Vec::len).sum::<usize>() {
            self.world.violate("a record is there that no transaction has");
        }
        for span in spans.iter().filter(|span| !span.taken.is_empty()) {
            ENDED[span.end as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn check_copy(&self, log: &BTreeMap<i32, Committed>) {
        let mut copied: Vec<_> = log.values().flat_map(|of| of.values.iter().cloned()).collect();
        copied.sort_unstable();
        COPIED.fetch_add(copied.len(), Ordering::Relaxed);
        let offsets = |partition| (0..BATCHES * RECORDS).map(move |offset| format!("{partition}:{offset}"));
        let mut expected: Vec<_> = (0..PARTITIONS).flat_map(offsets).collect();
        expected.sort_unstable();
        if copied != expected {
            let twice = copied.windows(2).find(|pair| pair[0] == pair[1]);
            self.world.violate(format_args!(
                "{} records were copied of {}; twice: {twice:?}",
                copied.len(),
                expected.len()
            ));
        }
    }
}

fn name(id: usize) -> String {
    format!("ledger-{id}")
}

fn copier(place: usize) -> String {
    format!("copier-{place}")
}
