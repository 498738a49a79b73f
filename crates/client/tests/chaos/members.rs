//! The members of a group. What each of them owns, sees and marks as done is noted in one chronicle.
//!
//! Each member has a client and a runtime of its own: a member that is killed is a runtime that ends at whatever point its tasks
//! have reached, with its connections.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Client, Consumer, GroupConsumerBuilder};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::checker::Logs;
use crate::chronicle::{At, Chronicle, What};
use crate::log::{committed, group_state};
use crate::member::{End, Member};
use crate::network::{Connector, lock};
use crate::plan::{GroupPlan, Naming, Promise, Rng};
use crate::world::{EXTRA, Outcome, PATIENCE, World};

/// What hooks say when they panic because the plan says so.
pub(crate) const PLANNED: &str = "a hook panics, as planned";

/// The members of a group, one after the other in each place.
pub(crate) struct Company {
    pub(crate) world: Arc<World>,
    pub(crate) plan: GroupPlan,
    pub(crate) chronicle: Arc<Chronicle>,
    /// The number of members so far.
    count: AtomicUsize,
    /// What the group had committed when an operator last asked.
    known: Mutex<BTreeMap<At, i64>>,
    /// One at a time asks what is committed, so that the answers are noted in the order in which they were given.
    looking: tokio::sync::Mutex<()>,
    /// The runtimes of members that have gone and were not killed, whose tasks must end by themselves.
    retired: Mutex<Vec<Retired>>,
}

/// The runtime of a member that has gone.
struct Retired {
    index: usize,
    /// None once it is being shut down.
    runtime: Option<Runtime>,
}

impl Retired {
    fn has_tasks(&self) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| runtime.metrics().num_alive_tasks() > 0)
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        // It may not be waited for in a task.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// Before the member's index in its client's `client.id`.
const MEMBER: &str = "member-";

/// A client of a member, and its consumer.
pub(crate) struct Built {
    pub(crate) client: Client,
    pub(crate) consumer: Consumer,
}

/// Partitions that are to be given up, or that were lost or assigned, as the hooks have said.
pub(crate) type Changed = Arc<Mutex<BTreeSet<At>>>;

impl Company {
    pub(crate) fn new(world: &Arc<World>, plan: &GroupPlan) -> Arc<Self> {
        Arc::new(Self {
            world: Arc::clone(world),
            plan: plan.clone(),
            chronicle: Arc::default(),
            count: AtomicUsize::new(0),
            known: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            retired: Mutex::default(),
        })
    }

    /// Checks everything that its members saw.
    pub(crate) fn check(&self, logs: &Logs) {
        let all = self.world.cluster.expired_members().into_iter();
        let own = all.filter(|member| member.group == self.plan.name);
        let expired = own.filter_map(|member| member.client_id.strip_prefix(MEMBER)?.parse().ok());
        let expired: BTreeSet<usize> = expired.collect();
        for wrong in self.chronicle.check(self.plan.promise, &expired, logs) {
            self.world.violate(format_args!("{wrong}, in {}", self.plan.name));
        }
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
                    if rng.percent(50) {
                        lock(&self.retired).push(Retired { index, runtime: Some(runtime) });
                    } else {
                        runtime.shutdown_background();
                    }
                    ended?;
                }
                Some(Err(error)) => {
                    self.world.violate(format_args!("a member failed: {error}"));
                    runtime.shutdown_background();
                }
                None => {
                    self.world.note(format_args!("member {index} is killed"));
                    runtime.shutdown_background();
                    self.chronicle.note(index, (0, 0), What::Ends { is_orderly: false });
                }
            }
            sleep(rng.moment(Duration::from_millis(100))).await;
        }
        Ok(())
    }

    fn runtime(&self) -> Runtime {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let name = format!("chaos-{}", self.world.plan.seed);
        builder.worker_threads(1).thread_name(name).enable_all().build().expect("a runtime starts")
    }

    /// The life of a member, unless it is killed before.
    async fn live(self: Arc<Self>, index: usize, place: usize, mut rng: Rng) -> Outcome<()> {
        let Some(mut member) = self.join(index, place, rng.fork()).await? else { return Ok(()) };
        let end = rng.pick(&[End::Close, End::Close, End::CloseInVain, End::Drop]);
        if let Promise::AtMostOnce { is_strict: true } = self.plan.promise {
            member.storm_strictly(end, rng.moment(Duration::from_millis(1500))).await?;
        } else {
            member.storm(rng.between(1, 400)).await?;
        }
        member.end(end).await
    }

    /// A new member. None if the storm is over.
    async fn join(self: &Arc<Self>, index: usize, place: usize, mut rng: Rng) -> Outcome<Option<Member>> {
        let world = &self.world;
        let changed: Changed = Arc::default();
        let build = async {
            loop {
                match self.build(index, place, &changed, rng.fork()).await {
                    Ok(built) => return Some(built),
                    Err(_) if world.is_over() && place < self.plan.members => return None,
                    // On a slow machine a look-up may outlast a short timeout.
                    Err(error) => world.note(format_args!("member {index} was not built yet: {error}")),
                }
            }
        };
        let Some(built) = world.within(format!("member {index} being built"), build).await? else {
            return Ok(None);
        };
        world.note(format_args!("member {index} is in place {place} of {}", self.plan.name));
        let is_drainer = place >= self.plan.members;
        Ok(Some(Member::new(Arc::clone(self), index, built, rng, changed, is_drainer)))
    }

    async fn build(
        &self,
        index: usize,
        place: usize,
        changed: &Changed,
        rng: Rng,
    ) -> Result<Built, milena::Error> {
        let world = &self.world;
        let is_drainer = place >= self.plan.members;
        let builder = Client::builder().bootstrap(world.cluster.bootstrap());
        let builder = builder.seed(world.plan.seed ^ ((index as u64) << 32));
        let builder = builder.connector(Connector(Arc::clone(&world.network)));
        let builder = builder.settings(|settings| {
            world.plan.apply(settings);
            settings.client_id = format!("{MEMBER}{index}").into();
        });
        // Those who read what is left have time, because their calls may not fail.
        let builder = if is_drainer { builder.request_timeout(PATIENCE / 2) } else { builder };
        let client = builder.connect().await?;
        let builder = client.consumer(self.plan.name.as_str());
        let builder = match self.plan.naming {
            Naming::Pattern => builder.subscribe_pattern(PATTERN),
            Naming::Topics | Naming::AllTopics => builder.subscribe(self.topics()),
        };
        let builder = builder.settings(|settings| self.plan.apply_to_fetches(settings));
        let builder = builder.group_settings(|settings| self.plan.apply(place, is_drainer, settings));
        let builder = match self.plan.promise {
            Promise::AtMostOnce { .. } => builder.at_most_once(),
            Promise::AtLeastOnce | Promise::Keeping | Promise::ByHand => builder,
        };
        let consumer = self.with_hooks(builder, index, changed, rng).build().await?;
        Ok(Built { client, consumer })
    }

    /// What members subscribe to by name.
    pub(crate) fn topics(&self) -> Vec<String> {
        let extras = if self.plan.naming == Naming::AllTopics { self.world.plan.extras } else { 0 };
        (0..self.world.topic_count()).chain(EXTRA..EXTRA + extras).map(World::topic).collect()
    }

    /// Hooks that note what they are told. Some take their time or panic, but not before they have noted it.
    fn with_hooks(
        &self,
        builder: GroupConsumerBuilder,
        index: usize,
        changed: &Changed,
        rng: Rng,
    ) -> GroupConsumerBuilder {
        let rng = Arc::new(Mutex::new(rng));
        let (is_slow, panics) = (self.plan.has_slow_hooks, self.plan.has_panicking_hooks);
        let note = |what: What| {
            let (chronicle, changed) = (Arc::clone(&self.chronicle), Arc::clone(changed));
            let rng = Arc::clone(&rng);
            move |partitions: Vec<(String, i32)>, _| {
                for (topic, partition) in partitions {
                    let at = (World::topic_index(&topic), partition);
                    lock(&changed).insert(at);
                    chronicle.note(index, at, what.clone());
                }
                let mut rng = lock(&rng).fork();
                assert!(!(panics && rng.percent(10)), "{PLANNED}");
                async move {
                    if is_slow {
                        sleep(rng.moment(Duration::from_millis(60))).await;
                    }
                    assert!(!(panics && rng.percent(10)), "{PLANNED}");
                }
            }
        };
        let builder = builder.on_assigned(note(What::Assigned)).on_revoked(note(What::Revoked));
        builder.on_lost(note(What::Lost))
    }

    /// Asks the coordinator what is committed, as an operator does.
    async fn observe(self: Arc<Self>, mut rng: Rng) -> Outcome<()> {
        while !self.world.is_over() {
            sleep(rng.moment(Duration::from_millis(60))).await;
            let node = rng.percent(20).then(|| rng.between(1, 3) as i32);
            if let Some(node) = node {
                // A node that is down takes nothing over.
                if self.world.cluster.move_coordinator(&self.plan.name, node).is_ok() {
                    self.world.note(format_args!("node {node} coordinates {}", self.plan.name));
                }
            }
            let look = async { self.look().await };
            self.world.within("the committed offsets", look).await?;
        }
        Ok(())
    }

    fn coordinator(&self) -> Option<SocketAddr> {
        let node = self.world.cluster.coordinator(&self.plan.name)?;
        self.world.cluster.addresses().get(&node).copied()
    }

    /// What is committed of each partition, if the coordinator says it.
    pub(crate) async fn look(&self) -> Option<BTreeMap<At, i64>> {
        let _turn = self.looking.lock().await;
        let node = self.coordinator()?;
        let found = timeout(Duration::from_secs(1), committed(node, &self.plan.name)).await.ok()?.ok()?;
        let mut offsets = BTreeMap::new();
        for stored in found {
            let at = (World::topic_index(&stored.topic), stored.partition);
            offsets.insert(at, stored.offset);
            lock(&self.known).insert(at, stored.offset);
            self.chronicle.note(usize::MAX, at, What::Committed(stored.offset, stored.metadata));
        }
        Some(offsets)
    }

    /// What was committed when an operator last asked.
    pub(crate) fn known(&self, at: At) -> Option<i64> {
        lock(&self.known).get(&at).copied()
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
        let is_wanted = |topic: usize| topic < EXTRA || self.plan.naming != Naming::Topics;
        let wanted = logs.iter().filter(|((topic, _), log)| is_wanted(*topic) && !log.is_empty());
        let wanted: BTreeMap<At, i64> = wanted.map(|(at, log)| (*at, log.len() as i64)).collect();
        let drained = self.drained(&wanted).await;
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
                match group_state(node, &self.plan.name).await {
                    Ok(state) if state == "Empty" => return,
                    _ => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        self.world.within("the group being empty", emptied).await?;
        self.bury().await
    }

    /// Waits until all that is wanted is committed. It may take long on a slow machine, but it goes on all the time.
    async fn drained(&self, wanted: &BTreeMap<At, i64>) -> Outcome<()> {
        let mut found = self.look().await.unwrap_or_default();
        while wanted.iter().any(|(at, end)| found.get(at) < Some(end)) {
            let progress = async {
                loop {
                    sleep(Duration::from_millis(5)).await;
                    match self.look().await {
                        Some(next) if next != found => return next,
                        _ => {}
                    }
                }
            };
            match self.world.within(format!("{} committing what is left", self.plan.name), progress).await {
                Ok(next) => found = next,
                Err(hung) => {
                    self.world.note(format_args!("of {wanted:?} is committed: {found:?}"));
                    return Err(hung);
                }
            }
        }
        Ok(())
    }

    /// Checks that no task is left of the members that were not killed.
    async fn bury(&self) -> Outcome<()> {
        let all = std::mem::take(&mut *lock(&self.retired));
        for retired in all {
            let what = format!("the tasks of member {} to end", retired.index);
            self.world.until(what, || !retired.has_tasks()).await?;
        }
        Ok(())
    }
}

/// All topics of the world.
pub(crate) const PATTERN: &str = "(topic|extra)-[0-9]+";
