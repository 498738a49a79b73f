//! The public error: what was done, to what, why it failed, whose fault it is, and whether something may have been written.

use std::fmt;
use std::sync::Arc;

pub use milena_core::ErrorKind;
pub use milena_core::failure::Fault;
use milena_core::group::TopicPartition;
use milena_core::group::commits::{NotCommitted, Uncommitted as CoreUncommitted};
use milena_core::{Cause, Failure, Obstacle};
pub use milena_messages::ErrorCode;

/// Any error of this crate. It has methods instead of variants: its [kind](Self::kind) to branch on, whose
/// [fault](Self::fault) it is, whether something [may have been written](Self::maybe_written).
///
/// Its text is one sentence that names the cause. The text is complete, so an error has no
/// [source](std::error::Error::source).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let cluster = milena_broker::Broker::builder().start().await?;
/// # let client = milena::Client::connect(cluster.bootstrap()).await?;
/// # let producer = client.producer().build().await?;
/// use milena::{ErrorCode, ErrorKind, Record};
///
/// match producer.send(Record::to("ordesr").value("created")).await {
///     Ok(receipt) => println!("written to partition {}", receipt.partition()),
///     Err(error) if error.maybe_written() => eprintln!("look before sending again: {error}"),
///     Err(error) => match error.kind() {
///         ErrorKind::Timeout | ErrorKind::Network | ErrorKind::Unavailable => eprintln!("try again later: {error}"),
///         ErrorKind::UnknownTopic => {
///             assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
///             eprintln!("{error}");
///         }
///         _ => return Err(error.into()),
///     },
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    /// What was being done, and to what: "creating topic \"t\"".
    doing: Box<str>,
    failure: Failure,
    maybe_written: bool,
    is_of_another_record: bool,
    unread: Option<Unread>,
    uncommitted: Vec<Uncommitted>,
}

/// An offset that a group has not stored, as far as is known: see [`Error::uncommitted`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Uncommitted {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset that was to be committed.
    pub offset: i64,
    /// Why it is not committed. If this says that something [may have been written](Error::maybe_written), the group may
    /// have stored the offset all the same.
    pub error: Error,
}

/// A record or a batch that cannot be read.
struct Unread {
    topic: Arc<str>,
    partition: i32,
    /// The offset at which reading can go on.
    next_offset: i64,
}

impl Error {
    /// An order failed. If the failure leaves open whether it was carried out, something may have been written.
    pub(crate) fn new(doing: impl Into<Box<str>>, failure: Failure) -> Self {
        let maybe_written = failure.may_have_acted();
        Self::with_maybe_written(doing, failure, maybe_written)
    }

    /// A question failed, or an order before it was sent: nothing was changed.
    pub(crate) fn harmless(doing: impl Into<Box<str>>, failure: Failure) -> Self {
        Self::with_maybe_written(doing, failure, false)
    }

    /// The caller asked for something that cannot be done. Nothing was sent.
    pub(crate) fn caller(doing: impl Into<Box<str>>, why: impl Into<String>) -> Self {
        Self::new(doing, Failure::Caller(Arc::from(why.into())))
    }

    /// As [`new`](Self::new), where the caller knows whether something may have been written.
    pub(crate) fn with_maybe_written(
        doing: impl Into<Box<str>>,
        failure: Failure,
        maybe_written: bool,
    ) -> Self {
        Self(Arc::new(Inner::new(doing, failure, maybe_written)))
    }

    /// The same error of something without which a transaction must not be committed. The producer can go on, though another
    /// part of the program may not.
    pub(crate) fn dooming(&self) -> Self {
        let cause = Box::new(self.failure().clone());
        let inner = Inner::new(self.doing(), Failure::Doomed { cause, is_fatal: false }, false);
        Self(Arc::new(Inner { uncommitted: self.0.uncommitted.clone(), ..inner }))
    }

    /// A record was refused because of another record in its batch.
    pub(crate) fn of_another_record(
        doing: impl Into<Box<str>>,
        failure: Failure,
        maybe_written: bool,
    ) -> Self {
        let inner = Inner::new(doing, failure, maybe_written);
        Self(Arc::new(Inner { is_of_another_record: true, ..inner }))
    }

    /// Offsets were not committed.
    pub(crate) fn not_committed(error: NotCommitted) -> Self {
        let NotCommitted { group, partitions } = error;
        let doing = |at: &TopicPartition, offset| format!("committing offset {offset} of {at}");
        let uncommitted = partitions.into_iter().map(|of| {
            let CoreUncommitted { partition: at, offset, failure, may_be_stored } = of;
            let doing = format!("{} in group {group:?}", doing(&at, offset));
            let error = Self::with_maybe_written(doing, failure, may_be_stored);
            Uncommitted { topic: at.topic.to_string(), partition: at.partition, offset, error }
        });
        let uncommitted: Vec<_> = uncommitted.collect();
        let maybe_written = uncommitted.iter().any(|of| of.error.maybe_written());
        let (doing, failure) = match &*uncommitted {
            [] => (format!("committing in group {group:?}"), Failure::incomplete()),
            [of] => (of.error.doing().to_owned(), of.error.failure().clone()),
            [of, rest @ ..] => {
                let at = TopicPartition::new(&Arc::from(&*of.topic), of.partition);
                let (of_first, count) = (doing(&at, of.offset), rest.len());
                let doing = format!("{of_first} and offsets of {count} more partitions in group {group:?}");
                (doing, of.error.failure().clone())
            }
        };
        let inner = Inner::new(doing, failure, maybe_written);
        Self(Arc::new(Inner { uncommitted, ..inner }))
    }

    /// Why it failed, in terms of the protocol.
    pub(crate) fn failure(&self) -> &Failure {
        &self.0.failure
    }

    /// What was being done, without what came of it.
    pub(crate) fn doing(&self) -> &str {
        &self.0.doing
    }

    /// A record or a batch of a partition cannot be read, and reading can go on at `next_offset`.
    pub(crate) fn unread(
        doing: impl Into<Box<str>>,
        failure: Failure,
        topic: Arc<str>,
        partition: i32,
        next_offset: i64,
    ) -> Self {
        let unread = Some(Unread { topic, partition, next_offset });
        Self(Arc::new(Inner { unread, ..Inner::new(doing, failure, false) }))
    }

    /// The partition in which something cannot be read, and the offset at which reading can go on.
    pub(crate) fn unread_part(&self) -> Option<(&Arc<str>, i32, i64)> {
        self.0.unread.as_ref().map(|unread| (&unread.topic, unread.partition, unread.next_offset))
    }

    /// The kind of error, for a program to branch on.
    pub fn kind(&self) -> ErrorKind {
        self.0.failure.kind()
    }

    /// Whether the same call may succeed when it is made again later.
    pub fn is_retriable(&self) -> bool {
        self.0.failure.is_retriable()
    }

    /// Whether the producer or consumer that reported it can do nothing more, and has to be made anew.
    pub fn is_fatal(&self) -> bool {
        self.0.failure.is_fatal()
    }

    /// Whether a broker refuses this instance because it knows a newer one: a transactional producer with a higher epoch, or a newer
    /// static member of a group. The epoch is higher when another instance has begun, when the transaction was open for longer
    /// than `transaction.timeout.ms`, or when a request of this producer that had been lost was carried out late.
    pub fn is_fenced(&self) -> bool {
        self.0.failure.is_fenced()
    }

    /// Whether the cluster and the client did not accept each other: wrong credentials, a mechanism that is not enabled, a
    /// listener without SASL, a certificate that is not trusted. It stays so until somebody changes something.
    pub fn is_authentication(&self) -> bool {
        self.0.failure.is_authentication()
    }

    /// Whether a transaction in which it happened can only be aborted.
    pub fn requires_abort(&self) -> bool {
        self.0.failure.requires_abort()
    }

    /// Whether a transaction that ended with this error may succeed when all of it is done again: what was in the way passes, or is
    /// gone with the transaction, as after a rebalance. A record that is too large, or a right that is missing, stays in the way.
    pub fn transaction_may_be_repeated(&self) -> bool {
        !self.is_fatal() && milena_core::transaction::may_be_repeated(&self.0.failure)
    }

    /// Whether something may have been written although the call failed. False is a promise that nothing was.
    pub fn maybe_written(&self) -> bool {
        self.0.maybe_written
    }

    /// Whether the broker refused the whole batch because of another record, which it named (KIP-467). This record may be
    /// written if it is sent again without that one.
    pub fn is_of_another_record(&self) -> bool {
        self.0.is_of_another_record
    }

    /// Kafka's error code, if a broker's answer was the cause. It is never [`ErrorCode::NONE`].
    pub fn code(&self) -> Option<ErrorCode> {
        self.0.failure.code()
    }

    /// Kafka's name of the [`code`](Self::code), such as `NOT_LEADER_OR_FOLLOWER`.
    pub fn code_name(&self) -> Option<&'static str> {
        self.code().map(ErrorCode::name)
    }

    /// A word for what happened, as metrics and spans have it: the [name](Self::code_name) of Kafka's code, or in lower case what
    /// happened on the client's side, such as `timed_out`. There are few of them.
    pub fn label(&self) -> &'static str {
        self.0.failure.label()
    }

    /// The offset at which reading can go on after a record or batch that cannot be read; none for any other error.
    /// [`Consumer::skip`](crate::Consumer::skip) goes on there.
    pub fn next_offset(&self) -> Option<i64> {
        self.0.unread.as_ref().map(|unread| unread.next_offset)
    }

    /// What a failed commit has left uncommitted: each partition with its offset and why. Everything else that the call was to
    /// commit is committed. Empty for an error of anything but a commit.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
    /// # let mut consumer = client.consumer("billing").subscribe(["orders"]).build().await?;
    /// # let batch = consumer.next().await?;
    /// let error = consumer.commit_offsets([(("orders", 0), 1), (("orders", 7), 1)]).await.unwrap_err();
    /// for of in error.uncommitted() {
    ///     println!("{}/{} at {}: {}", of.topic, of.partition, of.offset, of.error);
    /// }
    /// assert_eq!(error.uncommitted().len(), 1); // the group has stored that of partition 0
    /// assert_eq!(error.uncommitted()[0].partition, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn uncommitted(&self) -> &[Uncommitted] {
        &self.0.uncommitted
    }

    /// What stood in the way of a connection, if that was the cause.
    pub fn obstacle(&self) -> Option<Obstacle> {
        self.0.failure.obstacle()
    }

    /// What exactly stood in the way of a connection, where there are different ways to mend it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # let bootstrap = cluster.bootstrap(); // it speaks plain text
    /// use milena::{Cause, Client, Tls};
    ///
    /// # let roots = milena_broker::Authority::new()?.certificate_pem();
    /// let builder = Client::builder().bootstrap(bootstrap).tls(Tls::roots_from_pem(roots));
    /// let error = builder.connect().await.unwrap_err();
    /// assert_eq!(error.cause(), Some(Cause::PeerIsPlain));
    /// # Ok(())
    /// # }
    /// ```
    pub fn cause(&self) -> Option<Cause> {
        self.0.failure.cause()
    }

    /// Whose fault it is: who can mend it.
    pub fn fault(&self) -> Fault {
        self.0.failure.fault()
    }
}

impl Inner {
    fn new(doing: impl Into<Box<str>>, failure: Failure, maybe_written: bool) -> Self {
        let (doing, uncommitted) = (doing.into(), Vec::new());
        Self { doing, failure, maybe_written, is_of_another_record: false, unread: None, uncommitted }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.doing, self.0.failure)?;
        if self.0.maybe_written && !matches!(self.0.failure, Failure::Malformed { .. }) {
            f.write_str(" (it may have taken effect)")?;
        }
        match self.0.failure.advice() {
            Some(advice) => write!(f, "; {advice}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `unwrap`, and an error that `main` returns, are printed in this form.
        fmt::Display::fmt(self, f)
    }
}

/// There is no source: the text names the cause already, and a report that follows sources would print it twice.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::error::Error as _;
    use std::time::Duration;

    use super::*;

    /// The error and then each source, as anyhow's `{:#}` prints them.
    fn report(error: &Error) -> String {
        let mut said = vec![error.to_string()];
        let mut source = error.source();
        while let Some(error) = source {
            said.push(error.to_string());
            source = error.source();
        }
        said.join(": ")
    }

    #[test]
    fn a_report_names_each_cause_once() {
        let lost = Failure::Lost { peer: "b:1".into(), reason: "the broker hung up".into(), sent: true };
        let undelivered = Failure::Undelivered {
            after: Duration::from_secs(5),
            waited_for: None,
            last: Some(Box::new(lost.clone())),
        };
        for failure in [lost, undelivered] {
            let report = report(&Error::new("writing to topic \"t\"", failure));
            assert_eq!(report.matches("the broker hung up").count(), 1, "{report}");
        }
    }
}
