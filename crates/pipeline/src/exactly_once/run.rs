//! The pipeline that writes: its settings, and its run.

use std::sync::Arc;
use std::time::Duration;

use milena::{Client, GroupConsumerBuilder, Isolation, TransactionalProducer};

use super::{Exactly, GroupTransform, Terms, Transform};
use crate::dead_letters::ADDED_BYTES_MAX;
use crate::error::PipelineError;
use crate::schedule::Order;
use crate::worker::{Group, Taken};
use crate::{Pipeline, Report, Together};

/// How a pipeline writes in transactions.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    id: Option<String>,
    interval: Duration,
    records: usize,
}

impl Default for Settings {
    fn default() -> Self {
        // As `commit.interval.ms` of Kafka Streams when it processes exactly once.
        Self { id: None, interval: Duration::from_millis(100), records: 10_000 }
    }
}

/// The parts of a pipeline that writes in transactions.
pub(crate) struct Parts {
    pub(crate) exactly: Arc<Exactly>,
    pub(crate) producer: TransactionalProducer,
    pub(crate) terms: Terms,
}

impl Settings {
    /// # Errors
    /// When there is no id or no such topic, or the producer cannot be made.
    pub(crate) async fn open(&self, topic: String, client: &Client) -> Result<Parts, PipelineError> {
        let id = self.id.as_deref().or_else(|| client.transactional_id());
        let Some(id) = id else {
            return Err(PipelineError::setting(
                "run_to() writes in transactions: set transactional_id(), another one for each instance of the program",
            ));
        };
        // Without it, transactions would be tried for ever: it may be made later.
        for (_, described) in
            client.admin().describe_topics([&topic]).await.map_err(PipelineError::of_client)?
        {
            described.map_err(PipelineError::of_client)?;
        }
        let producer = client
            .transactional(id)
            // A record that is put aside has headers added.
            .settings(|settings| settings.record_bytes_max += ADDED_BYTES_MAX)
            .build()
            .await
            .map_err(PipelineError::of_client)?;
        let terms = Terms { topic, interval: self.interval, records: self.records.max(1) };
        Ok(Parts { exactly: Arc::new(Exactly::new()), producer, terms })
    }

    /// The consumer as such a pipeline needs it.
    pub(crate) fn consumer(consumer: GroupConsumerBuilder) -> GroupConsumerBuilder {
        // A restart must not leave out a record that was finished: its output may have waited for the records before it.
        let consumer = consumer.group_settings(|settings| settings.keep_finished = false);
        consumer.isolation(Isolation::ReadCommitted).manual_commits()
    }
}

impl Pipeline {
    /// Sets the id of the transactions of [`run_to`](Self::run_to) (`transactional.id`). Default: the one that the client's
    /// properties name. Each instance of the program has its own; the next one with the same id takes over.
    pub fn transactional_id(mut self, id: impl Into<String>) -> Self {
        self.settings.exactly.id = Some(id.into());
        self
    }

    /// Sets how long after the first output a transaction of [`run_to`](Self::run_to) is written. Default 100 ms. Consumers of what
    /// is written see it so much later, and short transactions cost more.
    pub fn transaction_interval(mut self, interval: Duration) -> Self {
        self.settings.exactly.interval = interval;
        self
    }

    /// Sets after how many finished records a transaction of [`run_to`](Self::run_to) is written before its interval is over.
    /// Default 10 000.
    pub fn transaction_records(mut self, records: usize) -> Self {
        self.settings.exactly.records = records;
        self
    }

    /// As [`run`](Self::run), but writes what `handler` returns to `topic`, exactly once: outputs, the offsets of their records,
    /// retries and dead letters are in one transaction. Whoever reads what is [committed](milena::Isolation::ReadCommitted) sees
    /// the outputs of each record once, whatever fails. What handlers do elsewhere may happen more than once.
    ///
    /// Orders, concurrency, retries and limits are those of [`run`](Self::run), and handlers go on while a transaction is written. The
    /// outputs of a record wait until all records of its partition before it are finished; they count as the partition's
    /// [bytes](Self::partition_bytes_max) until they are committed. The outputs of a partition's records are written in the order of
    /// the records. A transaction that is aborted, for example because a leader was lost, is written again from memory.
    ///
    /// The consumer reads what is committed, does not commit by itself, and does not [keep](Self::keep_finished) what is finished
    /// above the committed offset, whatever it was set to.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # cluster.create_topic("invoices", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # for order in ["5", "many", "7"] {
    /// #     client.producer().build().await?.send(milena::Record::to("orders").key("42").value(order)).await?;
    /// # }
    /// use milena_pipeline::dead_letters::DeadLetters;
    /// use milena_pipeline::prelude::*;
    ///
    /// let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
    ///     .transactional_id("billing-1")
    ///     .concurrency(256)
    ///     .dead_letters(DeadLetters::to("orders.dlq").create(true));
    /// # let watch = pipeline.watch();
    /// # let shutdown = async move { while watch.stats().finished < 3 { tokio::task::yield_now().await } };
    /// let report = pipeline
    ///     .run_to(
    ///         "invoices",
    ///         async |Key(customer): Key<String>, Value(amount): Value<String>| {
    ///             let amount: u32 = amount.parse().map_err(Failure::poison)?;
    ///             Ok::<_, Failure>(Output::new().key(customer).value(format!("{amount} EUR")))
    ///         },
    ///         shutdown,
    ///     )
    ///     .await?;
    /// assert_eq!((report.finished, report.dead), (3, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run); when there is no [transactional id](Self::transactional_id) or no such topic; when another instance has taken it
    /// over; and when the cluster refuses a record that is to be written, for example because it is too large.
    ///
    /// # Cancel safety
    /// If the future is dropped, the open transaction is aborted, and its records are processed again by whoever is next.
    pub async fn run_to<M, H: Transform<M>>(
        self,
        topic: impl Into<String>,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Report, PipelineError> {
        let parts = self.settings.exactly.open(topic.into(), self.consumer.client()).await?;
        let service = handler.into_service();
        self.run_units::<Taken, _>(service, Together::up_to(1), Some(parts), shutdown).await
    }

    /// As [`run_to`](Self::run_to), but `handler` is called with groups of records, as that of
    /// [`run_together`](Self::run_together). What it returns is written in one transaction with the offsets of all records of the
    /// group. So they have to follow each other: the order is [`Order::Partition`].
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # cluster.create_topic("sums", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = client.producer().build().await?;
    /// # for amount in ["5", "7"] {
    /// #     producer.send(milena::Record::to("orders").value(amount)).await?;
    /// # }
    /// use milena_pipeline::prelude::*;
    ///
    /// let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]))
    ///     .order(Order::Partition)
    ///     .transactional_id("billing-1");
    /// # let watch = pipeline.watch();
    /// # let shutdown = async move { while watch.stats().finished < 2 { tokio::task::yield_now().await } };
    /// let report = pipeline
    ///     .run_together_to(
    ///         "sums",
    ///         Together::up_to(500).within(20.ms()),
    ///         async |records: Vec<Record>| {
    ///             let amounts = records.iter().map(|record| String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned());
    ///             let amounts: Result<Vec<u32>, _> = amounts.map(|amount| amount.parse()).collect();
    ///             let sum: u32 = amounts.map_err(Failure::poison)?.iter().sum();
    ///             Ok::<_, Failure>(Output::new().value(sum.to_string()))
    ///         },
    ///         shutdown,
    ///     )
    ///     .await?;
    /// assert_eq!(report.finished, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there, and with another order.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn run_together_to<M, H: GroupTransform<M>>(
        self,
        topic: impl Into<String>,
        together: Together,
        handler: H,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Report, PipelineError> {
        together.check()?;
        if self.settings.order != Order::Partition {
            return Err(PipelineError::setting(
                "run_together_to() writes the outputs of a group with the offsets of all its records, which have to follow each \
                 other: set order(Order::Partition), or write for each record with run_to()",
            ));
        }
        let parts = self.settings.exactly.open(topic.into(), self.consumer.client()).await?;
        self.run_units::<Group, _>(handler.into_service(), together, Some(parts), shutdown).await
    }
}
