//! What is said of single types of errors.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use super::Retry;
use crate::{Class, Failure};

/// The rules of a policy, in the order in which they were added.
#[derive(Clone, Default)]
pub(super) struct Rules(Vec<Rule>);

/// Says something of an error, if it is of the rule's type.
type Rule = Arc<dyn Fn(&(dyn Error + 'static)) -> Option<Verdict> + Send + Sync>;

/// What a rule says.
#[derive(Clone)]
pub(super) enum Verdict {
    /// The failure is of this class.
    Class(Class),
    /// It may pass, and attempts are made as this policy says.
    Retry(Retry),
}

impl Rules {
    pub(super) fn add<E: Error + 'static>(
        &mut self,
        say: impl Fn(&E) -> Option<Verdict> + Send + Sync + 'static,
    ) {
        self.0.push(Arc::new(move |error| error.downcast_ref().and_then(&say)));
    }

    /// What the first rule says that knows the error, or if none does, its cause, and so on.
    pub(super) fn verdict(&self, failure: &Failure) -> Option<Verdict> {
        if self.0.is_empty() {
            return None;
        }
        failure.causes().find_map(|error| self.0.iter().find_map(|rule| rule(error)))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} rules", self.0.len())
    }
}
