//! The pipeline: its settings and its run.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use foldhash::fast::RandomState;
use milena::GroupConsumerBuilder;
use tokio::task::JoinSet;

use crate::alerts::Alerts;
use crate::aside::{Aside, Last};
use crate::control::{Control, OnStall, share_of};
use crate::dead_letters::{self, DeadLetters};
use crate::error::PipelineError;
use crate::exactly_once::{self, Parts};
use crate::gather::Together;
use crate::handler::{GroupHandler, Handler};
use crate::intake::Intake;
use crate::limit::Limit;
use crate::metrics::{Meter, handler_times};
use crate::permits::Permits;
use crate::retry_topics::Keeper;
use crate::schedule::{Order, Terms};
use crate::stats::{PipelineStats, PipelineWatch, Report, Stall};
use crate::worker::{Common, Group, Inbox, Taken, Unit, Work, Worker};
use crate::{Retry, RetryTopics};

/// Processes the records of a consumer group's member with many workers.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
/// # cluster.create_topic("orders", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # let producer = client.producer().build().await?;
/// # for amount in ["5", "many", "7"] {
/// #     producer.send(milena::Record::to("orders").key("42").value(amount)).await?;
/// # }
/// # let (finished, shutdown) = tokio::sync::oneshot::channel::<()>();
/// # let finished = std::sync::Arc::new(std::sync::Mutex::new(Some(finished)));
/// # let shutdown = async move { let _ = shutdown.await; };
/// use milena_pipeline::dead_letters::DeadLetters;
/// use milena_pipeline::prelude::*;
///
/// let report = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
///     .order(Order::Key)
///     .concurrency(256)
///     .retry(Retry::exponential(100.ms(), 10.s()).attempts(5).full_jitter())
///     .dead_letters(DeadLetters::to("orders.dlq").create(true))
///     .run(
///         move |Value(amount): Value<String>| {
///             # let finished = finished.clone();
///             async move {
///                 let amount: u32 = amount.parse().map_err(Failure::poison)?;
///                 println!("charged {amount}");
///                 # if amount == 7 { finished.lock().unwrap().take().map(|finished| finished.send(())); }
///                 Ok::<_, Failure>(())
///             }
///         },
///         shutdown, // any future: a signal, a token
///     )
///     .await?;
/// assert_eq!((report.finished, report.dead), (3, 1));
/// # Ok(())
/// # }
/// ```
///
/// # What is promised
///
/// - An offset is committed when everything below it is finished: processed, or written to the dead letters. What is finished above
///   it is stored [beside it](Self::keep_finished). A crash makes records run again that were finished since the last commit, and loses
///   none.
/// - Records that [have to wait](Order) for each other are processed one after the other, also if one of them is tried again.
/// - A key or a partition that takes long holds up only itself. Of each partition, workers have
///   [so many bytes](Self::partition_bytes_max) at most; the consumer buffers more within the client's budget.
/// - A partition that the group takes back is [drained](Self::drain): what is in work may end, and is committed; nothing else of
///   it starts.
/// - A handler that panics, or takes longer than its [time limit](Self::time_limit), has failed like one that returns an error.
#[must_use = "a pipeline does nothing until it runs"]
pub struct Pipeline {
    pub(crate) consumer: GroupConsumerBuilder,
    pub(crate) settings: Settings,
    on_stall: Option<OnStall>,
    alerts: Option<Alerts>,
    control: Arc<Control>,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) exactly: exactly_once::Settings,
    pub(crate) order: Order,
    concurrency: usize,
    is_adaptive: bool,
    workers: Option<usize>,
    retry: Retry,
    retry_topics: Option<RetryTopics>,
    given_up: Given,
    time_limit: Option<Duration>,
    report_after: Duration,
    drain: Duration,
    keeps_finished: bool,
    partition_bytes_max: usize,
    waiting_max: usize,
}

/// What is done with records that are given up.
#[derive(Debug, Clone)]
enum Given {
    Stop,
    Skip,
    DeadLetters(DeadLetters),
}

impl Pipeline {
    /// A pipeline that reads with this member of a group. The member commits by itself what is finished.
    pub fn new(consumer: GroupConsumerBuilder) -> Self {
        let settings = Settings {
            exactly: exactly_once::Settings::default(),
            order: Order::default(),
            concurrency: 16,
            is_adaptive: false,
            workers: None,
            retry: Retry::exponential(Duration::from_millis(100), Duration::from_secs(10)),
            retry_topics: None,
            given_up: Given::Stop,
            time_limit: None,
            report_after: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            keeps_finished: true,
            partition_bytes_max: 4 << 20,
            waiting_max: 10_000,
        };
        Self { consumer, settings, on_stall: None, alerts: None, control: Arc::new(Control::new()) }
    }

    /// Sets which records may be in work at the same time. Default [`Order::Key`].
    pub fn order(mut self, order: Order) -> Self {
        self.settings.order = order;
        self
    }

    /// Sets how many records may be in work at the same time, over all partitions. Default 16, at least 1.
    ///
    /// A record that waits for its next attempt is not in work. Handlers that wait for a network or a database can be many;
    /// for those that compute, no more than there are cores are of use.
    pub fn concurrency(mut self, records: usize) -> Self {
        self.settings.concurrency = records;
        self.settings.is_adaptive = false;
        self
    }

    /// Lets up to this many records be in work, and finds how many are of use: more are let in as long as attempts do not take
    /// longer for it, and fewer when they do, or run into the [time limit](Self::time_limit). So a database that gets slow is not
    /// also flooded. It looks at attempts that wait; for handlers that only compute, set the [concurrency](Self::concurrency).
    ///
    /// Every ten seconds or so the number is halved for a tenth of a second, to see how long an attempt takes when little else is in
    /// work. [`PipelineStats::concurrency`] tells the number.
    pub fn adaptive_concurrency(mut self, records_max: usize) -> Self {
        self.settings.concurrency = records_max;
        self.settings.is_adaptive = true;
        self
    }

    /// Sets the number of worker tasks. Default: one per core, and no more than the [concurrency](Self::concurrency). Each polls the
    /// handlers of its records, so that handlers which compute run on as many cores at a time.
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = Some(workers);
        self
    }

    /// Sets how failed records are tried again. Default: `Retry::exponential(100.ms(), 10.s())`.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// Writes records whose attempts in place are used up to retry topics, in which they wait for later ones, and which this
    /// pipeline reads too; see [`RetryTopics`]. What fails after the last tier too is given up, and what is
    /// [poison](crate::Class::Poison) at once. Default: none.
    ///
    /// If a record cannot be written to a retry topic, its source stays uncommitted and no record is started until it can.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").key("42").value("created")).await?;
    /// use milena_pipeline::RetryTopics;
    /// use milena_pipeline::dead_letters::DeadLetters;
    /// use milena_pipeline::prelude::*;
    ///
    /// let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
    ///     .retry(Retry::fixed(1.ms()).attempts(2))
    ///     .retry_topics(RetryTopics::tiers([5.ms(), 10.ms()]).create(true))
    ///     .dead_letters(DeadLetters::to("orders.dlq").create(true));
    /// let watch = pipeline.watch();
    /// let report = pipeline
    ///     .run(
    ///         async |record: Record| {
    ///             println!("attempt {} at offset {} of {}", record.attempt(), record.origin().offset, record.origin().topic);
    ///             Err::<(), _>(Failure::retriable("the bank is closed"))
    ///         },
    ///         async move {
    ///             while watch.stats().dead == 0 {
    ///                 tokio::task::yield_now().await;
    ///             }
    ///         },
    ///     )
    ///     .await?;
    /// // Two attempts in place and one in each tier: three after the first.
    /// assert_eq!((report.finished, report.moved, report.dead, report.retries), (1, 2, 1, 3));
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_topics(mut self, topics: RetryTopics) -> Self {
        self.settings.retry_topics = Some(topics);
        self
    }

    /// Writes records that are given up to a topic, with their origin and what failed. They count as finished when they are
    /// written. If one cannot be written, its source stays uncommitted and no record is started until it can.
    ///
    /// Without this and without [`skip_failed`](Self::skip_failed), the pipeline stops at a record that is given up, with an error.
    pub fn dead_letters(mut self, to: impl Into<DeadLetters>) -> Self {
        self.settings.given_up = Given::DeadLetters(to.into());
        self
    }

    /// Logs records that are given up, and goes on without them: they count as finished.
    pub fn skip_failed(mut self) -> Self {
        self.settings.given_up = Given::Skip;
        self
    }

    /// Sets how long an attempt at a record may take. Then its future is dropped, and it has failed. Default: as long as it takes.
    /// A [blocking](crate::blocking) handler cannot be stopped, but its outcome counts no more, and the record is not tried again before
    /// it has ended.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.settings.time_limit = Some(limit);
        self
    }

    /// Sets after which time a record in work is reported, in the log, to [`on_stall`](Self::on_stall) and in
    /// [`PipelineStats::stalls`]. Default 10 s.
    pub fn report_after(mut self, time: Duration) -> Self {
        self.settings.report_after = time;
        self
    }

    /// Calls `report` with each record that is in work for longer than [`report_after`](Self::report_after), once per attempt. It
    /// must not block. The last one that is set counts.
    pub fn on_stall(mut self, report: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(Box::new(report));
        self
    }

    /// Sets how long records in work may take when their partition is given up, or the pipeline stops. Then their futures are
    /// dropped, and they are processed again by the next owner of the partition. Default 10 s. It should be shorter than the
    /// member's [rebalance timeout](GroupConsumerBuilder::rebalance_timeout).
    pub fn drain(mut self, time: Duration) -> Self {
        self.settings.drain = time;
        self
    }

    /// Sets whether what is finished above the committed offset is stored beside it, so that a restart or the next owner of the
    /// partition leaves it out; see [`GroupConsumerBuilder::keep_finished`]. Default: true. A group that Confluent's Parallel Consumer
    /// has left is taken over with what it had finished.
    pub fn keep_finished(mut self, keeps: bool) -> Self {
        self.settings.keeps_finished = keeps;
        self
    }

    /// Sets how many bytes of one partition workers may have before it is paused; see
    /// [`PartitionHandle::pause`](milena::PartitionHandle::pause). Default 4 MiB. A batch counts until its last record is finished.
    pub fn partition_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.partition_bytes_max = bytes;
        self
    }

    /// Has rules watch the pipeline while it runs, and people told when one of them is broken; see [`alerts`](crate::alerts). When the
    /// pipeline has ended, also with an error, it waits up to 5 seconds until all is delivered. The last ones that are set count.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// use milena_pipeline::alerts::{Alerts, Command, Rule};
    /// use milena_pipeline::prelude::*;
    ///
    /// let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
    ///     .alerts(Alerts::of("billing").rule(Rule::dead_letter_rate(10)).to(Command::new("notify-send")));
    /// # let _ = pipeline;
    /// # Ok(())
    /// # }
    /// ```
    pub fn alerts(mut self, alerts: Alerts) -> Self {
        self.alerts = Some(alerts);
        self
    }

    /// What the pipeline says of itself, also while it runs.
    pub fn watch(&self) -> PipelineWatch {
        PipelineWatch { control: Arc::clone(&self.control) }
    }

    /// Reads, and calls `handler` for each record, until `shutdown` ends. Then records in work are [drained](Self::drain), what is
    /// finished is committed, and the member leaves its group.
    ///
    /// # Errors
    /// - When a setting is wrong, or the member cannot be made; see [`GroupConsumerBuilder::build`].
    /// - When a record is given up and there is no place for it, or its failure is [fatal](crate::Class::Fatal).
    /// - When the consumer fails for good, or a record cannot be read.
    ///
    /// What was in work is drained then too, and what is finished is committed. The error has the [report](PipelineError::report).
    ///
    /// # Cancel safety
    /// If the future is dropped, handlers are dropped where they are, and the member leaves without a last commit: what was finished
    /// since the commit before is processed again.
    pub async fn run<M, H: Handler<M>>(
        self,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Report, PipelineError> {
        self.run_units::<Taken, _>(handler.into_service(), Together::up_to(1), None, shutdown).await
    }

    /// As [`run`](Self::run), but `handler` is called with groups of records, for example to write them to a database in one go. A
    /// group counts as one for the [concurrency](Self::concurrency), the [time limit](Self::time_limit) and what is
    /// [reported](Self::report_after). Its records are of one partition, in their order.
    ///
    /// If a group fails, its records are processed again one by one, each with its own attempts, so that one bad record does no harm
    /// to others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").key("42").value("created")).await?;
    /// use milena_pipeline::prelude::*;
    ///
    /// # let (finished, shutdown) = tokio::sync::oneshot::channel::<()>();
    /// # let finished = std::sync::Arc::new(std::sync::Mutex::new(Some(finished)));
    /// # let shutdown = async move { let _ = shutdown.await; };
    /// Pipeline::new(client.consumer("billing").subscribe(["orders"]))
    ///     .order(Order::Partition)
    ///     .run_together(
    ///         Together::up_to(500).within(20.ms()),
    ///         move |records: Vec<Record>| {
    ///             # let finished = finished.clone();
    ///             async move {
    ///                 println!("INSERT of {} rows", records.len());
    ///                 # finished.lock().unwrap().take().map(|finished| finished.send(()));
    ///             }
    ///         },
    ///         shutdown,
    ///     )
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn run_together<M, H: GroupHandler<M>>(
        self,
        together: Together,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Report, PipelineError> {
        together.check()?;
        self.run_units::<Group, _>(handler.into_service(), together, None, shutdown).await
    }

    pub(crate) async fn run_units<U: Unit, S: Work<U>>(
        mut self,
        service: S,
        together: Together,
        writing: Option<Parts>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Report, PipelineError> {
        let alerts = self.alerts.take().map(|alerts| alerts.watch(self.watch())).transpose();
        let alerts = alerts.map_err(|error| PipelineError::setting(&error.to_string()))?;
        // It is large, and would be so twice in the future that it is awaited in.
        let ended = Box::pin(self.run_watched::<U, S>(service, together, writing, shutdown)).await;
        if let Some(alerts) = alerts {
            // Also of an error that people should hear of.
            alerts.close(ALERTS_CLOSE).await;
        }
        ended
    }

    async fn run_watched<U: Unit, S: Work<U>>(
        self,
        service: S,
        together: Together,
        writing: Option<Parts>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Report, PipelineError> {
        let Self { consumer, settings, on_stall, control, .. } = self;
        let worker_count = settings.check()?;
        if on_stall.is_some_and(|report| control.on_stall.set(report).is_err()) {
            unreachable!("a pipeline runs once");
        }
        let client = consumer.client().clone();
        let topics: Vec<String> = consumer.topics().map(str::to_owned).collect();
        let group = consumer.group().to_owned();
        let Topics { aside, keeper, consumer } = settings.open(consumer, &topics, &control).await?;
        let oldest = aside.dead_letters().map(|(topic, partition_count)| {
            dead_letters::watch_oldest(
                client.clone(),
                topic.to_owned(),
                partition_count,
                Arc::clone(&control),
            )
        });
        // The registry asks it for as long as this runs.
        let _meter = client.metrics().map(|registry| Meter::register(registry, &group, &control));
        let handler_times = client.metrics().map(|registry| handler_times(registry, &group));
        let exactly = writing.as_ref().map(|parts| Arc::clone(&parts.exactly));
        let inboxes: Vec<_> = (0..worker_count).map(|_| Arc::new(Inbox::new())).collect();
        if control.workers.set(inboxes.clone()).is_err() {
            unreachable!("a pipeline runs once");
        }
        let intake = Arc::new(Intake::new(
            settings.order,
            settings.partition_bytes_max,
            inboxes.clone(),
            Arc::clone(&control),
            aside.retries.clone(),
            keeper.clone(),
            exactly.clone(),
        ));
        let consumer = match &exactly {
            None if settings.keeps_finished => consumer.keep_finished(),
            None => consumer,
            Some(_) => exactly_once::Settings::consumer(consumer),
        };
        let consumer = intake.attend(consumer, settings.drain);
        let mut consumer = consumer.build().await.map_err(PipelineError::of_client)?;
        let limit = settings.is_adaptive.then(|| Limit::new(settings.concurrency));
        let concurrency = limit.as_ref().map_or(settings.concurrency, Limit::get);
        let permits = Permits::new(concurrency, worker_count);
        control.set_concurrency(concurrency);
        let common = Common {
            limit: limit.map(|limit| Arc::new(Mutex::new(limit))),
            terms: settings.terms(),
            together,
            retry: settings.retry.clone(),
            control: Arc::clone(&control),
            handler_times,
            aside: Arc::new(aside),
            hasher: RandomState::default(),
        };
        // Its tasks end when this is dropped.
        let mut tasks = JoinSet::new();
        for (inbox, permits) in inboxes.into_iter().zip(permits) {
            let (service, common, handle) = (service.clone(), common.clone(), consumer.handle());
            tasks.spawn(Worker::<U, S>::new(service, common, permits, inbox, handle).run());
        }
        if let Some(keeper) = keeper {
            tasks.spawn(keeper.run(client, consumer.handle(), Arc::clone(&control)));
        }
        if let Some(oldest) = oldest {
            tasks.spawn(oldest);
        }
        let writer = writing.map(|Parts { exactly, producer, terms }| {
            tasks.spawn(exactly.run(producer, consumer.handle(), terms, Arc::clone(&control)))
        });
        tokio::select! {
            taken = intake.run(&mut consumer) => {
                if let Err(error) = taken {
                    control.fail(PipelineError::of_client(error));
                }
            }
            () = shutdown => {}
            () = control.stopping.notified() => {}
            // Only a panic in this crate ends one, or a failure that is known already.
            Some(ended) = tasks.join_next() => {
                control.fail(PipelineError::worker(ended.err().map(|error| error.to_string())));
            }
        }
        control.stop();
        let left = intake.give_up_all(control.now() + settings.drain).await;
        if let (Some(exactly), Some(writer)) = (&exactly, &writer) {
            if tokio::time::timeout(settings.drain, exactly.flush()).await.is_err() {
                control.fail(PipelineError::unwritten(settings.drain));
            }
            // Nothing waits for it any more, also when the consumer gives its partitions up.
            writer.abort();
        }
        let closed = consumer.close().await;
        drop(tasks);
        let report = Report::of(&PipelineStats::of(&control), left);
        match control.take_failure().or(closed.err().map(PipelineError::of_client)) {
            Some(failure) => Err(failure.with_report(report)),
            None => Ok(report),
        }
    }
}

/// How long alerts have to be delivered after the pipeline has ended.
const ALERTS_CLOSE: Duration = Duration::from_secs(5);

/// The topics that a pipeline writes failed records to.
struct Topics {
    aside: Aside,
    keeper: Option<Arc<Keeper>>,
    /// It reads the retry topics too.
    consumer: GroupConsumerBuilder,
}

impl Settings {
    /// Answers with the number of workers.
    fn check(&self) -> Result<usize, PipelineError> {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = self.workers.unwrap_or(cores.min(self.concurrency));
        let wrong = |why: &str| Err(PipelineError::setting(why));
        match self {
            _ if self.concurrency == 0 => wrong("concurrency is 0: no record could start"),
            _ if workers == 0 => wrong("workers is 0: no record could start"),
            _ if workers > self.concurrency => {
                let concurrency = self.concurrency;
                wrong(&format!(
                    "workers is {workers}, more than the concurrency of {concurrency}: some could never start a record"
                ))
            }
            _ if self.time_limit.is_some_and(|limit| limit.is_zero()) => {
                wrong("time_limit is 0: every attempt would fail")
            }
            Self { order: Order::None, retry_topics: Some(topics), .. } if topics.keeps_order() => wrong(
                "retry topics cannot keep the order with Order::None, which has none: leave keep_order() out, or set another order",
            ),
            _ if self.partition_bytes_max == 0 => wrong("partition_bytes_max is 0: no record could be read"),
            _ => Ok(workers),
        }
    }

    /// Looks up the topics for failed records of these, and creates those that are to be created.
    async fn open(
        &self,
        mut consumer: GroupConsumerBuilder,
        topics: &[String],
        control: &Control,
    ) -> Result<Topics, PipelineError> {
        let client = consumer.client().clone();
        let group: Arc<str> = Arc::from(consumer.group());
        let mut retries = None;
        if let Some(of) = &self.retry_topics {
            let of = of.open(&client, &group, topics).await?;
            consumer = of.subscribe(consumer);
            if control.tiers.set(of.counts().to_vec()).is_err() {
                unreachable!("a pipeline runs once");
            }
            retries = Some(Arc::new(of));
        }
        let last = match &self.given_up {
            Given::Stop => Last::Stop,
            Given::Skip => Last::Skip,
            Given::DeadLetters(to) => {
                let writer = to.open(&client, topics).await.map_err(PipelineError::of_client)?;
                Last::DeadLetters { writer: Box::new(writer), group }
            }
        };
        let keeps_order = self.retry_topics.as_ref().is_some_and(RetryTopics::keeps_order);
        let keeper = retries.clone().filter(|_| keeps_order);
        let keeper = keeper.map(|retries| Arc::new(Keeper::new(retries, self.order)));
        Ok(Topics { aside: Aside { retries, last }, keeper, consumer })
    }

    fn terms(&self) -> Terms {
        Terms {
            order: self.order,
            time_limit: self.time_limit,
            report_after: self.report_after,
            waiting_max: self.waiting_max,
            lane_running_max: share_of(self.concurrency),
        }
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("consumer", &self.consumer)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
