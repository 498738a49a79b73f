//! Where the coordinator of a group or a transactional producer is, and when to look it up.
//!
//! ```text
//!            looked up         answered
//!  Unknown ───────────▶ Asked ─────────▶ Known
//!   ▲ ▲ failed: backoff   │                │
//!   │ └───────────────────┘                │
//!   └──────────────────────────────────────┘ it moved, or did not answer
//! ```

use crate::backoff::Retry;
use crate::{Backoff, BrokerId, Failure, Instant, Notice, Rng};

/// The coordinator, or how far we are from knowing it. One look-up at most is on its way.
#[derive(Debug)]
pub(crate) struct Coordinator {
    /// What a look-up does, in words.
    doing: &'static str,
    state: State,
    retry: Retry,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Asked,
    Known(BrokerId),
}

impl Coordinator {
    /// The coordinator of a group.
    pub(crate) fn of_group() -> Self {
        Self::new("looking up the group's coordinator")
    }

    /// The coordinator of a transactional producer.
    pub(crate) fn of_transactions() -> Self {
        Self::new("looking up the transaction coordinator")
    }

    fn new(doing: &'static str) -> Self {
        Self { doing, state: State::Unknown, retry: Retry::default() }
    }

    /// The broker to send requests to.
    pub(crate) fn broker(&self) -> Option<BrokerId> {
        match self.state {
            State::Known(broker) => Some(broker),
            State::Unknown | State::Asked => None,
        }
    }

    /// Whether a look-up is on its way.
    pub(crate) fn is_asked(&self) -> bool {
        self.state == State::Asked
    }

    /// Whether to look it up now.
    pub(crate) fn poll_wanted(&mut self, now: Instant) -> bool {
        let is_wanted = self.state == State::Unknown && self.retry.is_ready(now);
        if is_wanted {
            self.state = State::Asked;
        }
        is_wanted
    }

    /// The answer to a look-up.
    ///
    /// # Errors
    /// When looking it up again is in vain.
    pub(crate) fn handle(
        &mut self,
        answer: Result<BrokerId, Failure>,
        now: Instant,
        backoff: &Backoff,
        rng: &mut Rng,
    ) -> Result<Option<Notice>, Failure> {
        let failure = match answer {
            Ok(broker) => {
                self.state = State::Known(broker);
                self.retry.succeeded();
                return Ok(None);
            }
            Err(failure) => failure,
        };
        self.state = State::Unknown;
        self.retry.failed_by(&failure, now, backoff, rng);
        if !self.retry.may_pass(&failure) {
            return Err(failure);
        }
        let failures = self.retry.failures();
        let is_notable = self.retry.is_notable(&failure);
        Ok(is_notable.then(|| Notice { doing: self.doing.into(), failure, failures }))
    }

    /// `broker` is not the coordinator any more, or does not answer. It says nothing about a coordinator that was found since.
    pub(crate) fn lost(&mut self, broker: BrokerId) {
        if self.state == State::Known(broker) {
            self.state = State::Unknown;
        }
    }

    /// When the next look-up may go out, if one is to go out.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        // Without a backoff the look-up is due now, which the caller's next poll finds.
        (self.state == State::Unknown).then(|| self.retry.not_before()).flatten()
    }
}
