//! The public error: what we did, to whom, why it failed, whose fault it is, and whether something was written.

use std::fmt;
use std::sync::Arc;

use milena_core::Failure;
pub use milena_core::failure::Fault;

/// Anything that can go wrong, with questions instead of variants.
///
/// ```
/// # async fn example(producer: milena::Producer) -> Result<(), milena::Error> {
/// use milena::Record;
/// match producer.send(Record::to("orders").value("created")).await {
///     Ok(receipt) => println!("written to partition {}", receipt.partition()),
///     Err(error) if error.maybe_written() => eprintln!("look before sending again: {error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    /// What we did, and to what.
    doing: Box<str>,
    failure: Failure,
    maybe_written: bool,
    is_of_another_record: bool,
}

impl Error {
    pub(crate) fn new(doing: impl Into<Box<str>>, failure: Failure) -> Self {
        let maybe_written = failure.may_have_acted();
        Self::with_maybe_written(doing, failure, maybe_written)
    }

    /// A question failed, or an order before it was given: nothing was changed.
    pub(crate) fn harmless(doing: impl Into<Box<str>>, failure: Failure) -> Self {
        Self::with_maybe_written(doing, failure, false)
    }

    /// The caller asked for what cannot be.
    pub(crate) fn caller(doing: impl Into<Box<str>>, why: impl Into<String>) -> Self {
        Self::new(doing, Failure::Caller(Arc::from(why.into())))
    }

    pub(crate) fn with_maybe_written(
        doing: impl Into<Box<str>>,
        failure: Failure,
        maybe_written: bool,
    ) -> Self {
        let is_of_another_record = false;
        Self(Arc::new(Inner { doing: doing.into(), failure, maybe_written, is_of_another_record }))
    }

    /// A record was refused because of another one in its batch.
    pub(crate) fn of_another_record(
        doing: impl Into<Box<str>>,
        failure: Failure,
        maybe_written: bool,
    ) -> Self {
        let is_of_another_record = true;
        Self(Arc::new(Inner { doing: doing.into(), failure, maybe_written, is_of_another_record }))
    }

    pub(crate) fn doing(&self) -> &str {
        &self.0.doing
    }

    pub(crate) fn failure(&self) -> &Failure {
        &self.0.failure
    }

    /// Whether the same may succeed when it is tried again later.
    pub fn is_retriable(&self) -> bool {
        self.0.failure.is_retriable()
    }

    /// Whether the producer or consumer that reported it can do nothing more.
    pub fn is_fatal(&self) -> bool {
        self.0.failure.is_fatal()
    }

    /// Whether another instance has taken over (a newer transactional producer, a newer static member).
    pub fn is_fenced(&self) -> bool {
        self.0.failure.is_fenced()
    }

    /// Whether the transaction it happened in can only be aborted.
    pub fn requires_abort(&self) -> bool {
        self.0.failure.requires_abort()
    }

    /// Whether something may have been written all the same. False is a promise: nothing was.
    pub fn maybe_written(&self) -> bool {
        self.0.maybe_written
    }

    /// Whether the record was not at fault itself: the broker refused its whole batch because of another record, which it
    /// named (KIP-467). Sent again without that one, it may be written.
    pub fn is_of_another_record(&self) -> bool {
        self.0.is_of_another_record
    }

    /// Kafka's error code, when a broker's answer was the cause; zero is never one.
    pub fn code(&self) -> Option<i16> {
        self.0.failure.code().map(milena_messages::ErrorCode::as_i16)
    }

    /// Kafka's name of the [`code`](Self::code).
    pub fn code_name(&self) -> Option<&'static str> {
        self.0.failure.code().map(milena_messages::ErrorCode::name)
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.0.failure.fault()
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
        // `unwrap` and `main` show this form to people.
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0.failure)
    }
}
