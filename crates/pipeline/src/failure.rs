//! What a handler says of a record that it could not process: the error, and what may be done about it.

use std::error::Error;
use std::fmt;

/// An error of any type.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// Why a record was not processed, and whether another attempt may help.
///
/// Every error converts into one that is [retriable](Class::Retriable), so that `?` works in handlers. The two others are said by
/// name:
///
/// ```
/// use milena_pipeline::{Class, Failure};
///
/// fn parse(value: &[u8]) -> Result<u32, Failure> {
///     let text = std::str::from_utf8(value).map_err(Failure::poison)?; // never becomes text
///     Ok(text.parse().map_err(Failure::poison)?)
/// }
/// fn look_up() -> Result<(), Failure> {
///     Err(std::io::Error::other("the database is not there"))? // retriable
/// }
/// assert_eq!(parse(b"four").unwrap_err().class(), Class::Poison);
/// assert_eq!(look_up().unwrap_err().class(), Class::Retriable);
/// ```
pub struct Failure {
    class: Class,
    is_counted: bool,
    error: BoxError,
}

/// What may be done about a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Another attempt may succeed: it is made as the retry policy says.
    Retriable,
    /// No attempt at this record can succeed. It goes to the dead letters at once.
    Poison,
    /// No attempt at any record can succeed, for example because a setting is wrong. The pipeline stops, and the record stays
    /// uncommitted.
    Fatal,
}

impl Failure {
    /// A failure that another attempt may not have.
    pub fn retriable(error: impl Into<BoxError>) -> Self {
        Self::new(Class::Retriable, error.into())
    }

    /// A failure of this record that no attempt can mend.
    pub fn poison(error: impl Into<BoxError>) -> Self {
        Self::new(Class::Poison, error.into())
    }

    /// A failure that every record would have.
    pub fn fatal(error: impl Into<BoxError>) -> Self {
        Self::new(Class::Fatal, error.into())
    }

    fn new(class: Class, error: BoxError) -> Self {
        Self { class, is_counted: true, error }
    }

    /// The same failure of another class.
    pub fn with_class(self, class: Class) -> Self {
        Self { class, ..self }
    }

    /// The same failure as one that says nothing of the record: the attempt is made again and does not count. Its class is
    /// [retriable](Class::Retriable) then. A [circuit breaker](crate::layers::CircuitBreaker) answers so while it is open.
    pub fn not_counted(self) -> Self {
        Self { class: Class::Retriable, is_counted: false, ..self }
    }

    /// Whether the attempt counts as one. Default true.
    pub fn is_counted(&self) -> bool {
        self.is_counted
    }

    /// The failure as an error, for layers that want one, such as `tower`'s own timeout. Converted back, it has its class again.
    ///
    /// ```
    /// use milena_pipeline::{Class, Failure};
    ///
    /// let error = Failure::poison("no such product").into_error();
    /// assert_eq!(error.to_string(), "no such product");
    /// assert_eq!(Failure::from(error).class(), Class::Poison);
    /// ```
    pub fn into_error(self) -> BoxError {
        Box::new(Carried(self))
    }

    /// What may be done about it.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The error.
    pub fn error(&self) -> &(dyn Error + Send + Sync + 'static) {
        &*self.error
    }

    /// The error, if it is an `E`.
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.error.downcast_ref()
    }

    /// The error and the errors that caused it, the outermost first. At most 16: the chain is the handler's.
    pub fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> + '_ {
        let mut next: Option<&(dyn Error + 'static)> = Some(&*self.error);
        std::iter::from_fn(move || {
            let error = next?;
            next = error.source();
            Some(error)
        })
        .take(CHAIN_MAX)
    }

    /// The texts of the error and of the errors that caused it, as [`causes`](Self::causes) has them.
    pub fn chain(&self) -> impl Iterator<Item = String> + '_ {
        self.causes().map(ToString::to_string)
    }
}

/// Causes of an error that are told.
const CHAIN_MAX: usize = 16;

impl<E: Into<BoxError>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into().downcast::<Carried>() {
            Ok(carried) => carried.0,
            Err(error) => Self::new(Class::Retriable, error),
        }
    }
}

/// A failure as an error. [`Failure`] is none itself, because then every error could not convert into it.
#[derive(Debug)]
struct Carried(Failure);

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.0.error(), f)
    }
}

impl Error for Carried {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.error().source()
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, is_counted, error } = self;
        let mut shown = f.debug_struct("Failure");
        shown.field("class", class).field("error", error);
        if !is_counted {
            shown.field("is_counted", is_counted);
        }
        shown.finish()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, text) in self.chain().enumerate() {
            if index > 0 {
                f.write_str(": ")?;
            }
            f.write_str(&text)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Outer(std::io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("charging failed")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn the_text_names_the_causes() {
        let failure = Failure::poison(Outer(std::io::Error::other("no route")));
        assert_eq!(failure.to_string(), "charging failed: no route");
        assert!(failure.downcast_ref::<Outer>().is_some());
    }

    /// An error that says it is its own cause.
    #[derive(Debug)]
    struct Endless;

    impl fmt::Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("again")
        }
    }

    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn a_chain_without_end_is_cut_off() {
        assert_eq!(Failure::retriable(Endless).chain().count(), CHAIN_MAX);
    }
}
