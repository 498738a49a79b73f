//! The handles of a transactional producer: [`TransactionalProducer`] begins transactions, and a [`Transaction`] takes records and
//! offsets and ends.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use milena_core::Failure;
use milena_core::group::TopicPartition;
use milena_core::group::commits::StoredOffset;
use milena_core::transaction::Fate;
use tokio::sync::oneshot;

use super::inbox::Event;
use super::transacting::{Command, Limit, Open, Reply};
use super::{
    Delivery, Interceptor, NotAllWritten, Partitioner, Producer, ProducerBuilder, Receipt, RecordSink,
    TopicProducer, TopicSettings,
};
use crate::consumer::{InTransaction, Taken};
use crate::settings::{Compression, ProducerSettings};
use crate::{Client, CommittedOffset, Consumer, ConsumerHandle, Error, Record};

/// Writes records in transactions: consumers that read only what is committed
/// ([`Isolation::ReadCommitted`](crate::Isolation::ReadCommitted)) see all records of a transaction or none, whatever fails.
///
/// Only one instance of a transactional producer works at a time. A new one with the same id takes over: what the earlier one has
/// left open is aborted, and whatever it still sends is refused. Its calls fail then with an error that
/// [is fenced](Error::is_fenced).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # cluster.create_topic("invoices", 2)?;
/// # cluster.create_topic("payments", 2)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// use milena::Record;
///
/// let mut producer = client.transactional("billing-1").build().await?;
///
/// let transaction = producer.begin().await?;
/// transaction.post(Record::to("invoices").key("42").value("created")).await?;
/// transaction.post(Record::to("payments").key("42").value("due")).await?;
/// transaction.commit().await?; // both are seen, or the error says that neither is
///
/// let transaction = producer.begin().await?;
/// transaction.post(Record::to("invoices").key("43").value("created")).await?;
/// drop(transaction); // aborted before the next one begins
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Every error of a transaction says what to do: one that [is fatal](Error::is_fatal) ends this producer; after one that
/// [requires an abort](Error::requires_abort) the transaction is aborted and may be tried anew; after any other one the same call
/// may be made again. A record that was not written dooms its transaction, although its delivery was not awaited.
///
/// # What does not compile
///
/// A second transaction begins only when the first one has ended:
///
/// ```compile_fail,E0499
/// # async fn check(producer: &mut milena::TransactionalProducer) -> Result<(), milena::Error> {
/// let first = producer.begin().await?;
/// let second = producer.begin().await?;
/// first.commit().await
/// # }
/// ```
///
/// No record comes after the end, and there is one end:
///
/// ```compile_fail,E0382
/// # async fn check(producer: &mut milena::TransactionalProducer) -> Result<(), milena::Error> {
/// let transaction = producer.begin().await?;
/// transaction.commit().await?;
/// transaction.post(milena::Record::to("orders").value("late")).await
/// # }
/// ```
///
/// ```compile_fail,E0382
/// # async fn check(producer: &mut milena::TransactionalProducer) -> Result<(), milena::Error> {
/// let transaction = producer.begin().await?;
/// transaction.commit().await?;
/// transaction.abort().await
/// # }
/// ```
///
/// No record is written outside of a transaction:
///
/// ```compile_fail,E0599
/// # async fn check(producer: &milena::TransactionalProducer) -> Result<(), milena::Error> {
/// producer.post(milena::Record::to("orders").value("created")).await
/// # }
/// ```
pub struct TransactionalProducer {
    producer: Producer,
    id: Arc<str>,
}

/// Sets a transactional producer up; see [`Client::transactional`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct TransactionalProducerBuilder {
    producer: ProducerBuilder,
    id: Arc<str>,
}

/// How a transaction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionEnd {
    /// Its records and offsets count.
    Committed,
    /// None of its records and offsets counts.
    Aborted,
}

impl Client {
    /// Sets a producer up that writes in transactions (`transactional.id`). The id belongs to one instance of the program: the
    /// next instance with the same id takes over, and aborts what this one has left open.
    pub fn transactional(&self, id: impl Into<Arc<str>>) -> TransactionalProducerBuilder {
        TransactionalProducerBuilder { producer: self.producer(), id: id.into() }
    }

    /// The id of transactions that the client's properties name (`transactional.id`), if they name one.
    pub fn transactional_id(&self) -> Option<&str> {
        self.0.settings.producer.transactional_id.as_deref()
    }
}

impl TransactionalProducerBuilder {
    /// Sets how long a transaction may be open (`transaction.timeout.ms`). Then its coordinator aborts it, and the producer is
    /// fenced. Default 1 minute; the brokers' `transaction.max.timeout.ms` limits it.
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.producer.settings.transaction_timeout = timeout;
        self
    }

    /// As [`ProducerBuilder::linger`].
    pub fn linger(mut self, linger: Duration) -> Self {
        self.producer = self.producer.linger(linger);
        self
    }

    /// As [`ProducerBuilder::batch_bytes_max`].
    pub fn batch_bytes_max(mut self, bytes: usize) -> Self {
        self.producer = self.producer.batch_bytes_max(bytes);
        self
    }

    /// As [`ProducerBuilder::record_bytes_max`].
    pub fn record_bytes_max(mut self, bytes: usize) -> Self {
        self.producer = self.producer.record_bytes_max(bytes);
        self
    }

    /// As [`ProducerBuilder::compression`].
    pub fn compression(mut self, compression: Compression) -> Self {
        self.producer = self.producer.compression(compression);
        self
    }

    /// As [`ProducerBuilder::delivery_timeout`].
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.producer = self.producer.delivery_timeout(timeout);
        self
    }

    /// As [`ProducerBuilder::partitioner`].
    pub fn partitioner(mut self, partitioner: Partitioner) -> Self {
        self.producer = self.producer.partitioner(partitioner);
        self
    }

    /// As [`ProducerBuilder::topic`].
    pub fn topic(mut self, name: &str, change: impl FnOnce(&mut TopicSettings)) -> Self {
        self.producer = self.producer.topic(name, change);
        self
    }

    /// As [`ProducerBuilder::interceptor`]. What an interceptor is told of a batch is told when the batch is settled, which is before
    /// its transaction ends.
    pub fn interceptor(mut self, interceptor: Arc<dyn Interceptor>) -> Self {
        self.producer = self.producer.interceptor(interceptor);
        self
    }

    /// Changes any other setting.
    pub fn settings(mut self, change: impl FnOnce(&mut ProducerSettings)) -> Self {
        self.producer = self.producer.settings(change);
        self
    }

    /// Starts the producer and waits until its coordinator has given it an identity, for
    /// [`enqueue_timeout`](ProducerSettings::enqueue_timeout) at most (`max.block.ms`). An earlier instance with the same id is
    /// fenced then, and what it has left open is aborted.
    ///
    /// # Errors
    /// When settings contradict each other, the id is empty, the coordinator does not answer in time, or the cluster refuses: the
    /// principal may not use the id, or the transaction timeout is longer than the brokers allow.
    ///
    /// # Cancel safety
    /// If the future is dropped, there is no producer. An earlier instance may be fenced all the same.
    pub async fn build(self) -> Result<TransactionalProducer, Error> {
        let Self { mut producer, id } = self;
        if id.is_empty() {
            return Err(Error::caller(
                "setting a transactional producer up",
                "the transactional id is empty",
            ));
        }
        producer.transactional_id = Some(Arc::clone(&id));
        let producer = TransactionalProducer { producer: producer.start()?, id };
        producer.settled().await?;
        Ok(producer)
    }
}

impl TransactionalProducer {
    /// Begins a transaction. First the last one comes to its end: one that was dropped is aborted, and one whose commit was not
    /// answered is resolved. Waits for [`enqueue_timeout`](ProducerSettings::enqueue_timeout) at most.
    ///
    /// # Errors
    /// When the last transaction has not come to its end in time; the call may be made again. When another instance has taken over
    /// or the cluster does not serve this producer any more, every call fails with a [fatal](Error::is_fatal) error.
    ///
    /// # Cancel safety
    /// If the future is dropped, no transaction is open.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        let limit = self.limit();
        let open = self.order("beginning", false, |reply| Command::Begin { limit, reply }).await?;
        // Those of a transaction that was dropped.
        self.producer.0.parts.failures.take();
        Ok(Transaction { producer: self, open: Some(open), consumers: Mutex::default() })
    }

    /// Waits until it is known how the last transaction has ended: none if there was none. A program asks after a
    /// [`commit`](Transaction::commit) whose error says that it [may have taken effect](Error::maybe_written).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// use milena::{Record, TransactionEnd};
    ///
    /// let mut producer = client.transactional("billing-1").build().await?;
    /// let transaction = producer.begin().await?;
    /// transaction.post(Record::to("orders").value("created")).await?;
    /// let is_committed = match transaction.commit().await {
    ///     Ok(()) => true,
    ///     Err(error) if error.maybe_written() => producer.resolve().await? == Some(TransactionEnd::Committed),
    ///     Err(error) => return Err(error.into()),
    /// };
    /// assert!(is_committed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn resolve(&mut self) -> Result<Option<TransactionEnd>, Error> {
        self.settled().await
    }

    /// Waits until the last transaction has ended, which is aborted if it was dropped, and ends the producer. A program that ends
    /// without this may leave the transaction open, and until its [timeout](TransactionalProducerBuilder::transaction_timeout)
    /// consumers that read only what is committed do not get past it.
    ///
    /// # Errors
    /// When the last transaction has not come to its end within `timeout`. The producer goes on trying for 5 seconds, if the
    /// program does not end.
    ///
    /// # Cancel safety
    /// If the future is dropped, the producer ends as if it had been dropped.
    pub async fn close_within(self, timeout: Duration) -> Result<(), Error> {
        self.settled_within(timeout).await.map(drop)
    }

    /// The id that the producer was made with.
    pub fn transactional_id(&self) -> &str {
        &self.id
    }

    async fn settled(&self) -> Result<Option<TransactionEnd>, Error> {
        self.settled_within(self.producer.0.enqueue_timeout).await
    }

    async fn settled_within(&self, timeout: Duration) -> Result<Option<TransactionEnd>, Error> {
        let limit = self.limit_of(timeout);
        let last = self.order("settling", false, |reply| Command::Settle { limit, reply }).await?;
        Ok(last.map(|fate| match fate {
            Fate::Commit => TransactionEnd::Committed,
            Fate::Abort => TransactionEnd::Aborted,
        }))
    }

    fn limit(&self) -> Limit {
        self.limit_of(self.producer.0.enqueue_timeout)
    }

    fn limit_of(&self, after: Duration) -> Limit {
        Limit { deadline: self.producer.0.clock.after(after), after }
    }

    fn push(&self, command: Command) {
        self.producer.0.parts.inbox.push(Event::Transaction(command));
    }

    /// Gives the driver a command and waits for what comes of it. If the driver's runtime ends meanwhile, the error says that
    /// something may have been written if the command is one that `may_write`.
    async fn order<T>(
        &self,
        doing: &str,
        may_write: bool,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, Error> {
        let (reply, outcome) = oneshot::channel();
        self.push(command(reply));
        let ended = |_| {
            let doing = format!("{doing} a transaction of {:?}", self.id);
            Error::with_maybe_written(doing, Failure::Closed, may_write)
        };
        outcome.await.map_err(ended)?
    }

    pub(crate) fn client(&self) -> &Client {
        &self.producer.0.client
    }
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalProducer").field("id", &self.id).finish_non_exhaustive()
    }
}

/// An open transaction of a [`TransactionalProducer`]. It ends with [`commit`](Self::commit) or [`abort`](Self::abort). If it is
/// dropped, it is aborted before the next one begins.
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'a> {
    producer: &'a mut TransactionalProducer,
    /// None once it is ended.
    open: Option<Open>,
    /// The consumers whose offsets are in it, to be told when it is committed.
    consumers: Mutex<Vec<InTransaction>>,
}

impl Transaction<'_> {
    /// Writes a record in the transaction and waits until it is written, as [`Producer::send`] does. It is seen by consumers that
    /// read only what is committed when the transaction is committed.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and when the record was not written: the transaction can only be aborted then.
    ///
    /// # Cancel safety
    /// As [`Producer::send`].
    pub async fn send(&self, record: Record<'_>) -> Result<Receipt, Error> {
        self.producer.producer.send(record).await
    }

    /// Takes a record, waiting only for room, as [`Producer::enqueue`] does.
    ///
    /// # Errors
    /// As [`Producer::enqueue`]. The record is not in the transaction then, which can be committed without it.
    ///
    /// # Cancel safety
    /// If the future is dropped before it returns, the record is not sent.
    pub fn enqueue(&self, record: Record<'_>) -> impl Future<Output = Result<Delivery, Error>> + Send {
        self.producer.producer.enqueue(record)
    }

    /// Takes a record without making a delivery for it, as [`Producer::post`] does. If it is not written, the commit fails.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    /// If the future is dropped before it returns, the record is not sent.
    pub fn post(&self, record: Record<'_>) -> impl Future<Output = Result<(), Error>> + Send {
        self.producer.producer.post(record)
    }

    /// Takes a record if that needs no waiting, as [`Producer::try_enqueue`] does.
    ///
    /// # Errors
    /// As [`Producer::try_enqueue`]. The record is not in the transaction then, which can be committed without it.
    pub fn try_enqueue(&self, record: Record<'_>) -> Result<Delivery, Error> {
        self.producer.producer.try_enqueue(record)
    }

    /// Takes a record, and calls `settled` with what became of it, as [`Producer::enqueue_with`] does: before the transaction ends.
    /// A record that is written counts only once the transaction is committed.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue); `settled` is not called then.
    ///
    /// # Cancel safety
    /// If the future is dropped before it returns, the record is not sent, and `settled` is not called.
    pub async fn enqueue_with(
        &self,
        record: Record<'_>,
        settled: impl FnOnce(Result<Receipt, Error>) + Send + 'static,
    ) -> Result<(), Error> {
        self.producer.producer.enqueue_with(record, settled).await
    }

    /// Writes many records, and waits until each is written or given up, as [`Producer::send_all`] does.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("invoices", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let mut producer = client.transactional("billing-1").build().await?;
    /// use milena::Record;
    ///
    /// let transaction = producer.begin().await?;
    /// let lines = ["created", "due", "paid"];
    /// match transaction.send_all(lines.map(|line| Record::to("invoices").key("42").value(line))).await {
    ///     Ok(_) => transaction.commit().await?,
    ///     Err(_) => transaction.abort().await?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Producer::send_all`]. If a record was taken and not written, the transaction can only be aborted then.
    ///
    /// # Cancel safety
    /// As [`Producer::send_all`].
    pub async fn send_all<'r>(
        &self,
        records: impl IntoIterator<Item = Record<'r>>,
    ) -> Result<Vec<Receipt>, NotAllWritten> {
        self.producer.producer.send_all(records).await
    }

    /// A handle of one topic, as [`Producer::topic`] makes. It borrows the transaction:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("invoices", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let mut producer = client.transactional("billing-1").build().await?;
    /// use milena::Record;
    ///
    /// let transaction = producer.begin().await?;
    /// let invoices = transaction.topic("invoices").await?;
    /// for line in ["created", "due", "paid"] {
    ///     invoices.post(Record::new().key("42").value(line)).await?;
    /// }
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```compile_fail,E0505
    /// # async fn check(producer: &mut milena::TransactionalProducer) -> Result<(), milena::Error> {
    /// let transaction = producer.begin().await?;
    /// let invoices = transaction.topic("invoices").await?;
    /// transaction.commit().await?;
    /// invoices.post(milena::Record::new().value("late")).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Producer::topic`].
    ///
    /// # Cancel safety
    /// As [`Producer::topic`].
    pub async fn topic(&self, name: &str) -> Result<TopicProducer<'_>, Error> {
        self.producer.producer.topic_for(name).await
    }

    /// A sink of records, as [`Producer::sink`] makes. It borrows the transaction:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("invoices", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let mut producer = client.transactional("billing-1").build().await?;
    /// use futures_util::{StreamExt as _, stream};
    /// use milena::Record;
    ///
    /// struct Invoice(u32);
    ///
    /// impl<'a> From<&'a Invoice> for Record<'a> {
    ///     fn from(invoice: &'a Invoice) -> Self {
    ///         Record::to("invoices").key(invoice.0.to_string()).value("created")
    ///     }
    /// }
    ///
    /// let transaction = producer.begin().await?;
    /// stream::iter((0..100).map(Invoice)).map(Ok).forward(transaction.sink()).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn sink<R>(&self) -> RecordSink<'_, R>
    where
        for<'r> Record<'r>: From<&'r R>,
    {
        RecordSink::of(&self.producer.producer)
    }

    /// Sends every record taken before this call without waiting for linger, and waits until each is written or given up. A commit
    /// does so by itself.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    ///
    /// # Cancel safety
    /// As [`Producer::flush`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.producer.producer.flush().await
    }

    /// Commits in the transaction what is [done](Consumer::done) in the consumer and not committed: the group's offsets move on
    /// with the records of the transaction, or not at all. The coordinator takes the offsets only from a present member of the
    /// group (KIP-447).
    ///
    /// After an abort the consumer has read on, and goes back with [`Consumer::rewind`]. The
    /// [loop](crate::exactly_once()) does all of that.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # cluster.create_topic("invoices", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
    /// use milena::{Isolation, Record};
    ///
    /// let mut producer = client.transactional("billing-1").build().await?;
    /// let mut consumer = client
    ///     .consumer("billing")
    ///     .subscribe(["orders"])
    ///     .isolation(Isolation::ReadCommitted)
    ///     .manual_commits()
    ///     .build()
    ///     .await?;
    /// let batch = consumer.next().await?.expect("a member waits for records");
    /// let transaction = producer.begin().await?;
    /// for record in &batch {
    ///     transaction.post(Record::to("invoices").value(record.value().unwrap_or_default())).await?;
    /// }
    /// consumer.done(&batch);
    /// transaction.commit_offsets(&consumer).await?;
    /// transaction.commit().await?;
    /// assert_eq!(consumer.committed([("orders", 0)]).await?[0].1.as_ref().map(|of| of.offset), Some(1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the coordinator refuses, for example because the group has moved on, or does not answer in time: the transaction can
    /// only be aborted then. When the consumer is in no group, or commits by itself
    /// ([`manual_commits`](crate::GroupConsumerBuilder::manual_commits)).
    ///
    /// # Cancel safety
    /// If the future is dropped, the transaction is committed with the offsets or not at all.
    pub async fn commit_offsets(&self, consumer: &Consumer) -> Result<(), Error> {
        self.commit_of(consumer.in_transaction(None)).await
    }

    /// As [`commit_offsets`](Self::commit_offsets), with a handle of the consumer, for programs in which another task reads.
    ///
    /// # Errors
    /// As there, and when the consumer was dropped.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn commit_offsets_of(&self, consumer: &ConsumerHandle) -> Result<(), Error> {
        self.commit_of(consumer.in_transaction()).await
    }

    /// Commits these offsets of the consumer's group in the transaction, as they are: each is the next offset to read. It is for
    /// programs that do not mark what is [done](Consumer::done).
    ///
    /// # Errors
    /// As [`commit_offsets`](Self::commit_offsets).
    ///
    /// # Cancel safety
    /// As [`commit_offsets`](Self::commit_offsets).
    pub async fn commit_offsets_at<T: AsRef<str>>(
        &self,
        consumer: &Consumer,
        offsets: impl IntoIterator<Item = ((T, i32), impl Into<CommittedOffset>)>,
    ) -> Result<(), Error> {
        let offsets = offsets.into_iter().map(|((topic, partition), offset)| {
            let offset: CommittedOffset = offset.into();
            (TopicPartition::new(&Arc::from(topic.as_ref()), partition), StoredOffset::from(offset))
        });
        self.commit_of(consumer.in_transaction(Some(offsets.collect()))).await
    }

    /// Commits the offsets after what was taken of the consumer.
    pub(crate) async fn commit_taken(&self, consumer: &Consumer, taken: &[Taken]) -> Result<(), Error> {
        self.commit_of(consumer.taken_in_transaction(taken)).await
    }

    async fn commit_of(
        &self,
        taken: impl Future<Output = Result<Option<InTransaction>, Error>>,
    ) -> Result<(), Error> {
        // Without its offsets the transaction must not be committed, though the caller may go on, or drop this future.
        let mut missing =
            MissingOffsets { producer: self.producer, why: Some(Failure::Caller(NOT_AWAITED.into())) };
        let taken = taken.await.map_err(|error| {
            let error = error.dooming();
            missing.why = Some(error.failure().clone());
            error
        })?;
        // From here on the driver has them: a commit waits for what becomes of them.
        missing.why = None;
        let Some(taken) = taken else { return Ok(()) };
        let (what, limit) = (taken.offsets().clone(), self.producer.limit());
        let order = |reply| Command::Offsets { what, limit, reply };
        if let Err(error) = self.producer.order("committing offsets in", false, order).await {
            taken.refused(error.failure());
            return Err(error);
        }
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner).push(taken);
        Ok(())
    }

    /// Writes what is under way and commits the transaction, within [`enqueue_timeout`](ProducerSettings::enqueue_timeout).
    ///
    /// # Errors
    /// - When a part of the transaction has failed, or the coordinator refuses: the transaction is aborted, and may be tried anew
    ///   ([`Error::requires_abort`]).
    /// - When its end is not known in time. The error says that it [may have taken effect](Error::maybe_written), and the producer
    ///   goes on asking: [`TransactionalProducer::resolve`] tells what has become of it.
    /// - When the producer [can do nothing more](Error::is_fatal).
    ///
    /// # Cancel safety
    /// If the future is dropped before it was polled, the transaction is aborted. Later the commit goes on, and
    /// [`TransactionalProducer::resolve`] tells what has become of it.
    pub async fn commit(mut self) -> Result<(), Error> {
        let limit = self.producer.limit();
        if let Some(open) = self.open.take() {
            open.end();
        }
        let committed =
            self.producer.order("committing", true, |reply| Command::Commit { limit, reply }).await;
        // Records that were posted have no other way to fail than with the transaction.
        self.producer.producer.0.parts.failures.take();
        committed?;
        let consumers = std::mem::take(&mut *self.consumers.lock().unwrap_or_else(PoisonError::into_inner));
        consumers.into_iter().for_each(InTransaction::committed);
        Ok(())
    }

    /// Aborts the transaction: records that are not sent yet fail, and none of the others is ever seen by consumers that read only
    /// what is committed. Waits for [`enqueue_timeout`](ProducerSettings::enqueue_timeout) at most.
    ///
    /// # Errors
    /// When the coordinator does not answer in time; the producer goes on aborting, and the next transaction waits for it. When the
    /// producer [can do nothing more](Error::is_fatal).
    ///
    /// # Cancel safety
    /// If the future is dropped, the transaction is aborted nevertheless.
    pub async fn abort(mut self) -> Result<(), Error> {
        let limit = self.producer.limit();
        if let Some(open) = self.open.take() {
            open.end();
        }
        let aborted = self.producer.order("aborting", false, |reply| Command::Abort { limit, reply }).await;
        self.producer.producer.0.parts.failures.take();
        aborted
    }

    /// Why the transaction cannot be committed, if it cannot.
    pub(crate) async fn doom(&self) -> Result<Option<Failure>, Error> {
        self.producer.order("asking about", false, |reply| Command::TellDoom { reply }).await
    }
}

/// Offsets that were to come into a transaction. If this is dropped while it says why they did not, the transaction can only be
/// aborted.
struct MissingOffsets<'a> {
    producer: &'a TransactionalProducer,
    why: Option<Failure>,
}

const NOT_AWAITED: &str = "the program dropped the call that was to commit offsets in the transaction";

impl Drop for MissingOffsets<'_> {
    fn drop(&mut self) {
        if let Some(why) = self.why.take() {
            self.producer.push(Command::Doom(Failure::Doomed { cause: Box::new(why), is_fatal: false }));
        }
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("id", &self.producer.id).finish_non_exhaustive()
    }
}
