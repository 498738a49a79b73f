//! The requests on one connection that wait for their responses.
//!
//! A broker answers a connection in order, so the next response belongs to the oldest request or the connection is
//! broken: then everything in flight fails with one cause, because nothing on it can be trusted any more.

use std::collections::VecDeque;
use std::fmt;

use crate::{CorrelationId, Instant};

/// The requests in flight on one connection, oldest first. `T` is what the driver needs to finish one.
#[derive(Debug)]
pub struct InFlight<T> {
    next: i32,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    correlation: CorrelationId,
    deadline: Instant,
    call: T,
}

/// A response came whose correlation id is not the oldest request's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnexpectedResponse {
    /// The oldest request's, if there is any.
    pub expected: Option<CorrelationId>,
    /// The response's.
    pub received: CorrelationId,
}

impl<T> InFlight<T> {
    /// Nothing in flight.
    pub fn new() -> Self {
        Self { next: 0, waiting: VecDeque::new() }
    }

    /// The id the next request will carry.
    pub fn next_correlation(&self) -> CorrelationId {
        CorrelationId(self.next)
    }

    /// The request with [`next_correlation`](Self::next_correlation) was sent.
    pub fn push(&mut self, call: T, deadline: Instant) {
        let correlation = CorrelationId(self.next);
        self.next = self.next.checked_add(1).unwrap_or(0);
        self.waiting.push_back(Waiting { correlation, deadline, call });
    }

    /// A response came. Answers with the request that it belongs to.
    ///
    /// # Errors
    /// When it belongs to no request, or not to the oldest. The connection must be given up.
    pub fn pop(&mut self, received: CorrelationId) -> Result<T, UnexpectedResponse> {
        let expected = self.waiting.front().map(|oldest| oldest.correlation);
        match self.waiting.pop_front_if(|oldest| oldest.correlation == received) {
            Some(oldest) => Ok(oldest.call),
            None => Err(UnexpectedResponse { expected, received }),
        }
    }

    /// The oldest request, whose response comes next.
    pub fn front(&self) -> Option<&T> {
        self.waiting.front().map(|waiting| &waiting.call)
    }

    /// The request before which `index` others are in flight.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.waiting.get_mut(index).map(|waiting| &mut waiting.call)
    }

    /// Takes out all requests, oldest first. The connection is gone, and none of them will be answered.
    pub fn drain(&mut self) -> impl Iterator<Item = T> {
        self.waiting.drain(..).map(|waiting| waiting.call)
    }

    /// The oldest request whose deadline has passed. Answers come in order, so the requests after it cannot be answered
    /// either.
    pub fn overdue(&self, now: Instant) -> Option<&T> {
        self.waiting.iter().find(|waiting| waiting.deadline <= now).map(|waiting| &waiting.call)
    }

    /// When the next request is overdue.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.deadline).min()
    }

    /// How many requests are in flight.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no request is in flight.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for UnexpectedResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a response with correlation id {} came, ", self.received)?;
        match self.expected {
            Some(expected) => write!(f, "where {expected} is the oldest request"),
            None => f.write_str("and no request was waiting"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(ms)
    }

    #[test]
    fn responses_are_matched_in_order_only() {
        let mut flights = InFlight::new();
        flights.push("first", at(10));
        flights.push("second", at(5));
        assert_eq!(flights.poll_timeout(), Some(at(5)));
        let unexpected = flights.pop(CorrelationId(1)).unwrap_err();
        assert_eq!(
            unexpected.to_string(),
            "a response with correlation id 1 came, where 0 is the oldest request"
        );
        assert_eq!(flights.pop(CorrelationId(0)), Ok("first"));
        assert_eq!(flights.overdue(at(5)), Some(&"second"));
        assert_eq!(flights.drain().collect::<Vec<_>>(), ["second"]);
        assert_eq!(flights.pop(CorrelationId(2)).unwrap_err().expected, None);
    }

    #[test]
    fn correlation_ids_stay_positive() {
        let mut flights = InFlight::new();
        flights.next = i32::MAX;
        flights.push((), Instant::NEVER);
        assert_eq!(flights.next_correlation(), CorrelationId(0));
    }
}
