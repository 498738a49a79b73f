//! The loop that processes exactly once: it consumes, transforms and produces in transactions.
//!
//! ```text
//!  Consumer::next ─▶ begin ─▶ process each batch ─▶ offsets ─▶ commit ─▶ next
//!                      ▲                                         │ aborted
//!                      └────── the consumer goes back ◀──────────┘
//! ```

use std::pin::Pin;
use std::time::Duration;

use milena_core::backoff::Retry;
use milena_core::transaction::may_be_repeated;
use milena_core::{Failure, Notice, Rng};

use crate::consumer::Taken;
use crate::producer::{Transaction, TransactionEnd, TransactionalProducer};
use crate::report::report;
use crate::{Batch, Client, Consumer, Error};

/// Makes a loop that reads with `consumer`, and writes what comes of it in transactions of `producer`: each record read has its
/// effect once, whatever fails. The offsets of the consumer's group are committed with the records that were written.
///
/// The consumer is a member of a group that reads only what is [committed](crate::Isolation::ReadCommitted), and does not
/// [commit by itself](crate::GroupConsumerBuilder::manual_commits). Each instance of a program has a transactional id of its own.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
/// # cluster.create_topic("orders", 1)?;
/// # cluster.create_topic("invoices", 1)?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
/// use milena::{Error, Isolation, Record};
///
/// let consumer = client
///     .consumer("billing")
///     .subscribe(["orders"])
///     .isolation(Isolation::ReadCommitted)
///     .manual_commits()
///     .build()
///     .await?;
/// let producer = client.transactional("billing-1").build().await?;
/// let handle = consumer.handle();
///
/// milena::exactly_once(consumer, producer)
///     .run(|transaction, batch| {
///         # let handle = handle.clone();
///         Box::pin(async move {
///             for record in batch {
///                 transaction.post(Record::to("invoices").value(record.value().unwrap_or_default())).await?;
///             }
///             # tokio::spawn(async move { handle.close().await });
///             Ok::<_, Error>(())
///         })
///     })
///     .await?; // ends when the consumer is closed: handle.close().await
/// # let mut invoices = client.consumer_direct().topic("invoices").isolation(Isolation::ReadCommitted).until_end().build().await?;
/// # assert_eq!(invoices.next().await?.expect("an invoice").iter().count(), 1);
/// # Ok(())
/// # }
/// ```
pub fn exactly_once(consumer: Consumer, producer: TransactionalProducer) -> ExactlyOnce {
    ExactlyOnce { consumer, producer, interval: INTERVAL }
}

/// A loop that processes exactly once; see [`exactly_once`].
#[derive(Debug)]
#[must_use = "the loop does nothing until it runs"]
pub struct ExactlyOnce {
    consumer: Consumer,
    producer: TransactionalProducer,
    interval: Duration,
}

/// What is done with a batch, in a box: it borrows the batch and its transaction, and may run on any thread.
pub type Processing<'a, E> = Pin<Box<dyn Future<Output = Result<(), E>> + Send + 'a>>;

/// As `commit.interval.ms` of Kafka Streams when it processes exactly once.
const INTERVAL: Duration = Duration::from_millis(100);

/// What came of one transaction.
enum Outcome<E> {
    Committed,
    /// It was committed, and the consumer is closed.
    Over,
    /// It was aborted because of this, the consumer has gone back, and all of it is done again.
    Again(Failure),
    Failed(E),
}

impl ExactlyOnce {
    /// Sets how long a transaction takes in batches before it is committed. Default 100 ms. Consumers of what is written see it
    /// so much later, and short transactions cost more.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Calls `process` with each batch and the transaction to write in, until the consumer is
    /// [closed](crate::ConsumerHandle::close).
    ///
    /// If a transaction cannot be committed, for example because the group has moved on or a leader was lost for too long, it is
    /// aborted, the consumer goes back to where it began, and `process` is called with the same records again: what it does beside
    /// writing in the transaction happens again too.
    ///
    /// # Errors
    /// - The error that `process` returns, if its transaction could have been committed. The transaction is aborted and the offsets
    ///   are not committed.
    /// - When the consumer commits by itself, is in no group, or reads what is not committed.
    /// - When a batch cannot be read, after what was read before it was committed.
    /// - When another instance has taken over the transactional id or the member's place, or the cluster refuses: a record is too
    ///   large, or a right is missing.
    ///
    /// # Cancel safety
    /// If the future is dropped, the open transaction is aborted and nothing of it counts.
    pub async fn run<E, F>(mut self, mut process: F) -> Result<(), E>
    where
        E: From<Error> + Send,
        F: for<'a> FnMut(&'a Transaction<'_>, &'a Batch) -> Processing<'a, E> + Send,
    {
        self.consumer.check_exactly_once()?;
        let mut pauses = Pauses::of(self.producer.client());
        while let Some(batch) = self.consumer.next().await? {
            let turn: Pin<Box<dyn Future<Output = Outcome<E>> + Send + '_>> =
                Box::pin(self.transact(batch, &mut process, &mut pauses));
            match turn.await {
                Outcome::Committed => pauses.retry.succeeded(),
                Outcome::Over => return Ok(()),
                Outcome::Failed(error) => return Err(error),
                Outcome::Again(failure) => pauses.pause(&failure).await,
            }
        }
        Ok(())
    }

    /// One transaction, which begins with `first`.
    async fn transact<E, F>(&mut self, first: Batch, process: &mut F, pauses: &mut Pauses) -> Outcome<E>
    where
        E: From<Error> + Send,
        F: for<'a> FnMut(&'a Transaction<'_>, &'a Batch) -> Processing<'a, E> + Send,
    {
        let Self { consumer, producer, interval } = self;
        let client = producer.client().clone();
        let (clock, runtime) = (&client.0.clock, &client.0.runtime);
        let mut taken = vec![Taken::of(&first)];
        let transaction = match producer.begin().await {
            Ok(transaction) => transaction,
            Err(error) => {
                consumer.give_back(&taken);
                return match error.is_fatal() {
                    true => Outcome::Failed(error.into()),
                    false => Outcome::Again(error.failure().clone()),
                };
            }
        };
        let until = clock.after(*interval);
        let (mut batch, mut end) = (first, None);
        loop {
            if let Err(error) = process(&transaction, &batch).await {
                // Whether the transaction or the program has failed is asked before the transaction is gone.
                let doom = transaction.doom().await;
                let aborted = transaction.abort().await;
                consumer.give_back(&taken);
                return match (aborted, doom) {
                    (Err(failed), _) if failed.is_fatal() => Outcome::Failed(failed.into()),
                    // An abort that takes long goes on, and the next transaction waits for it.
                    (_, Ok(Some(cause))) if may_be_repeated(&cause) => Outcome::Again(cause),
                    _ => Outcome::Failed(error),
                };
            }
            drop(batch);
            // A partition that the group wants back waits for this transaction.
            if clock.now() >= until || taken.iter().any(Taken::is_wanted_back) {
                break;
            }
            let next = runtime.entered(|| clock.timeout_at(until, consumer.next()));
            batch = match next.await {
                None => break,
                Some(Ok(Some(next))) => next,
                Some(Ok(None)) => {
                    end = Some(Ok(()));
                    break;
                }
                Some(Err(error)) => {
                    end = Some(Err(error));
                    break;
                }
            };
            if !taken.iter_mut().any(|of| of.add(&batch)) {
                taken.push(Taken::of(&batch));
            }
        }
        let committed = match transaction.commit_taken(consumer, &taken).await {
            Ok(()) => transaction.commit().await,
            Err(error) => {
                let aborted = transaction.abort().await;
                Err(aborted.err().filter(Error::is_fatal).unwrap_or(error))
            }
        };
        let is_open =
            committed.as_ref().err().is_some_and(|error| error.maybe_written() && !error.is_fatal());
        let mut is_committed = committed.is_ok();
        while is_open && !is_committed {
            match producer.resolve().await {
                Ok(end) => {
                    is_committed = end == Some(TransactionEnd::Committed);
                    break;
                }
                Err(error) if error.is_fatal() => return Outcome::Failed(error.into()),
                // The producer goes on asking. A call of it may be allowed to wait for no time at all.
                Err(error) => pauses.pause(error.failure()).await,
            }
        }
        if !is_committed {
            consumer.give_back(&taken);
        }
        match (committed, end) {
            (Err(error), _)
                if !is_committed && !error.maybe_written() && !may_be_repeated(error.failure()) =>
            {
                Outcome::Failed(error.into())
            }
            (Err(error), _) if error.is_fatal() => Outcome::Failed(error.into()),
            (Err(error), _) if !is_committed => Outcome::Again(error.failure().clone()),
            (_, Some(Err(error))) => Outcome::Failed(error.into()),
            (_, Some(Ok(()))) => Outcome::Over,
            (_, None) => Outcome::Committed,
        }
    }
}

/// The pauses between attempts that have failed.
struct Pauses {
    client: Client,
    rng: Rng,
    retry: Retry,
}

impl Pauses {
    fn of(client: &Client) -> Self {
        Self { client: client.clone(), rng: client.rng(), retry: Retry::default() }
    }

    /// Something failed, and is tried again after this. A loop that makes no progress for a while says why in the log.
    async fn pause(&mut self, failure: &Failure) {
        let (clock, runtime) = (&self.client.0.clock, &self.client.0.runtime);
        let until = self.retry.failed_by(failure, clock.now(), &self.client.retry_backoff(), &mut self.rng);
        if self.retry.is_notable(failure) {
            let failures = self.retry.failures();
            let doing = "a transaction of the loop that processes exactly once".into();
            report(&Notice { doing, failure: failure.clone(), failures });
        }
        runtime.entered(|| clock.sleep_until(Some(until))).await;
    }
}
