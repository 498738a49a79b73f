//! Takes batches from the consumer and gives them to workers; gives partitions up when the group takes them.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use milena::{Batch, Consumer, ConsumerHandle, Error, GroupConsumerBuilder, PartitionHandle};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::oneshot;

use crate::control::Control;
use crate::exactly_once::Exactly;
use crate::flow::Flow;
use crate::record::Held;
use crate::retry_topics::{Keeper, Retries};
use crate::schedule::Order;
use crate::stats::Left;
use crate::worker::{BATCH_BYTES, Command, Inbox, Route, Share};

/// Which workers have which partitions.
pub(crate) struct Intake {
    order: Order,
    /// From this many bytes on that workers have of a partition, it is paused.
    partition_bytes_max: usize,
    workers: Vec<Arc<Inbox<Command>>>,
    control: Arc<Control>,
    retries: Option<Arc<Retries>>,
    keeper: Option<Arc<Keeper>>,
    exactly: Option<Arc<Exactly>>,
    /// Batches are taken from the consumer and routed under this lock, so that a partition which is given up has no batch on the
    /// way to a worker.
    routes: Mutex<Routes>,
}

#[derive(Default)]
struct Routes {
    by_topic: FxHashMap<Arc<str>, FxHashMap<i32, Entry>>,
    next: u64,
    /// The number of partitions that are here.
    count: usize,
    /// The partitions of this member, also those without records so far.
    assigned: FxHashSet<(String, i32)>,
    /// The number of partitions, or parts of them, that each worker has.
    loads: Vec<usize>,
}

/// Workers answer within some milliseconds after the deadline, unless a handler blocks their thread.
const GRACE: Duration = Duration::from_secs(3);

/// A partition, and the workers that have its keys.
struct Entry {
    workers: Vec<usize>,
    route: Route,
}

/// Of a retry topic's partition, workers have this part of what they may have of another.
const TIER_PART: usize = 16;

impl Intake {
    pub(crate) fn new(
        order: Order,
        partition_bytes_max: usize,
        workers: Vec<Arc<Inbox<Command>>>,
        control: Arc<Control>,
        retries: Option<Arc<Retries>>,
        keeper: Option<Arc<Keeper>>,
        exactly: Option<Arc<Exactly>>,
    ) -> Self {
        let routes = Routes { loads: vec![0; workers.len()], ..Routes::default() };
        let routes = Mutex::new(routes);
        Self { order, partition_bytes_max, workers, control, retries, keeper, exactly, routes }
    }

    /// The consumer, whose partitions are given up here before another member has them.
    pub(crate) fn attend(
        self: &Arc<Self>,
        consumer: GroupConsumerBuilder,
        drain: Duration,
    ) -> GroupConsumerBuilder {
        let [assigned, revoking, losing] = [(); 3].map(|()| Arc::clone(self));
        consumer
            // A partition is read when this has ended, and hooks run one after the other. Without it, one that was lost and comes back
            // could be read before its loss was heard of, which would then drop the new batches: their records would be missing.
            .on_assigned(move |partitions, _| {
                let intake = Arc::clone(&assigned);
                async move {
                    intake.lose(&partitions).await;
                    intake.hold(partitions);
                }
            })
            .on_revoked(move |partitions, _: ConsumerHandle| {
                let intake = Arc::clone(&revoking);
                async move {
                    let deadline = intake.control.now() + drain;
                    intake.give_up(&partitions, deadline).await;
                    if let Some(exactly) = &intake.exactly {
                        exactly.flush().await;
                        exactly.forget(&partitions);
                    }
                }
            })
            .on_lost(move |partitions, _| {
                let intake = Arc::clone(&losing);
                async move { intake.lose(&partitions).await }
            })
    }

    /// Partitions are this member's from now on. Records of one leave places to the others, also while those have none.
    fn hold(&self, partitions: Vec<(String, i32)>) {
        let mut routes = self.routes();
        routes.assigned.extend(partitions);
        self.control.set_partitions(routes.assigned.len());
    }

    /// Partitions are another member's already, if they were here at all.
    async fn lose(&self, partitions: &[(String, i32)]) {
        if let Some(exactly) = &self.exactly {
            exactly.forget(partitions);
        }
        self.give_up(partitions, Duration::ZERO).await;
    }

    /// Takes batches until the consumer has ended.
    ///
    /// # Errors
    /// The consumer's.
    ///
    /// # Cancel safety
    /// It may be dropped: no batch is lost that the consumer has returned.
    pub(crate) async fn run(&self, consumer: &mut Consumer) -> Result<(), Error> {
        loop {
            let handle = consumer.handle();
            let mut next = pin!(consumer.next());
            let is_over = poll_fn(|context| {
                let mut routes = self.routes();
                let Poll::Ready(taken) = next.as_mut().poll(context) else { return Poll::Pending };
                Poll::Ready(taken.map(|batch| match batch {
                    Some(batch) => {
                        self.route(batch, &handle, &mut routes);
                        false
                    }
                    None => true,
                }))
            });
            if is_over.await? {
                return Ok(());
            }
        }
    }

    fn route(&self, mut batch: Batch, consumer: &ConsumerHandle, routes: &mut Routes) {
        let (topic, partition) = (batch.topic(), batch.partition());
        let known = routes.by_topic.get(topic).is_some_and(|of| of.contains_key(&partition));
        if !known {
            // It was given up meanwhile: another member reads the batch.
            let Ok(handle) = consumer.partition_handle(topic, partition) else { return };
            // The list is long if there are thousands, of which none is divided.
            let is_divided = routes.count < self.workers.len() / 2;
            let count = if is_divided { consumer.assignment().len() } else { usize::MAX };
            let topic: Arc<str> = Arc::from(topic);
            let entry = self.enter(&topic, partition, handle, count, routes);
            routes.by_topic.entry(topic).or_default().insert(partition, entry);
            routes.count += 1;
        }
        let entry = &routes.by_topic[batch.topic()][&partition];
        if entry.route.flow.is_slow(self.control.now()) {
            // It may be kept for long, and is a part of a response with batches of other partitions.
            batch.shrink_to_fit();
        }
        let bytes = batch.memory_bytes() + BATCH_BYTES;
        let batch = batch.share();
        if let Some(place) = &entry.route.held.place {
            place.route(batch.first_offset(), batch.next_offset());
        }
        entry.route.flow.take(bytes * entry.workers.len());
        for (index, worker) in entry.workers.iter().enumerate() {
            let share = Share { index: index as u64, ..entry.route.share };
            let route = Route { share, ..entry.route.clone() };
            self.workers[*worker].push(Command::Batch { route, batch: batch.clone(), bytes });
        }
    }

    /// Chooses the workers of a partition: one, unless there are fewer partitions than workers. Then its keys are divided among
    /// several, because a worker runs on one core at a time.
    fn enter(
        &self,
        topic: &str,
        partition: i32,
        handle: PartitionHandle,
        partition_count: usize,
        routes: &mut Routes,
    ) -> Entry {
        let count = match self.order {
            Order::Partition => 1,
            Order::Key | Order::None => (self.workers.len() / partition_count.max(1)).max(1),
        };
        let mut workers: Vec<usize> = (0..self.workers.len()).collect();
        workers.sort_by_key(|worker| routes.loads[*worker]);
        workers.truncate(count);
        for worker in &workers {
            routes.loads[*worker] += 1;
        }
        routes.next += 1;
        let share = Share { index: 0, count: count as u64 };
        let tier = self.retries.as_ref().and_then(|retries| retries.tier(topic));
        // Records that wait for hours must not take the memory that others need.
        let bytes_max = match tier {
            None => self.partition_bytes_max,
            Some(_) => (self.partition_bytes_max / TIER_PART).max(1),
        };
        let flow = Arc::new(Flow::new(handle, bytes_max, tier.is_some()));
        let exactly = self.exactly.as_ref();
        let place = exactly.map(|exactly| exactly.enter(routes.next, topic, partition, &flow));
        let behind = self.keeper.as_ref().and_then(|keeper| keeper.enter(topic, partition, routes.next));
        let held = Arc::new(Held { tier, place, behind, ..Held::default() });
        let route = Route { number: routes.next, share, held, flow };
        Entry { workers, route }
    }

    /// Gives partitions up: records in work have until the deadline to end. Answers with those that were left. It does not wait
    /// for a worker whose thread a handler blocks.
    pub(crate) async fn give_up(&self, partitions: &[(String, i32)], deadline: Duration) -> Vec<Left> {
        let mut replies = Vec::new();
        {
            let mut routes = self.routes();
            for of in partitions {
                routes.assigned.remove(of);
                let (topic, partition) = of;
                let entry = routes.by_topic.get_mut(&**topic).and_then(|of| of.remove(partition));
                let Some(Entry { workers, route }) = entry else { continue };
                routes.count -= 1;
                if let Some(behind) = &route.held.behind {
                    behind.leave();
                }
                for worker in workers {
                    routes.loads[worker] -= 1;
                    let (reply, left) = oneshot::channel();
                    self.workers[worker].push(Command::Revoke { route: route.number, deadline, reply });
                    replies.push(left);
                }
            }
            self.control.set_partitions(routes.assigned.len());
        }
        let until = self.control.at(deadline.max(self.control.now())) + GRACE;
        let (mut left, mut missing) = (Vec::new(), 0);
        for reply in replies {
            match tokio::time::timeout_at(until, reply).await {
                // A worker that has ended has nothing in work.
                Ok(reply) => left.extend(reply.unwrap_or_default()),
                Err(_) => missing += 1,
            }
        }
        if missing > 0 {
            tracing::error!(
                target: "milena",
                "{missing} partitions, or parts of them, are given up although their workers do not answer: a handler blocks its \
                 thread. Handlers that block or compute for long belong into milena_pipeline::blocking"
            );
        }
        left
    }

    /// As [`give_up`](Self::give_up), all that there are.
    pub(crate) async fn give_up_all(&self, deadline: Duration) -> Vec<Left> {
        let all: Vec<(String, i32)> = {
            let routes = self.routes();
            let topics = routes.by_topic.iter();
            topics
                .flat_map(|(topic, of)| of.keys().map(|partition| (topic.to_string(), *partition)))
                .collect()
        };
        self.give_up(&all, deadline).await
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
