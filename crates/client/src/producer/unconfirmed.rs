//! With `acks=0`: which records a broker has certainly read. It answers no produce request, but it reads the requests of a
//! connection in order, so its answer to a question that was sent after them shows that it has read them all.
//!
//! ```text
//!  sent ─▶ written ─▶ the question after it is answered: read
//!    │        └──────▶ its connection is lost: may be lost, and counted
//!    └─ failed: its own batches say so
//! ```
//!
//! One question at a time is under way to a broker. This must not know how it is asked.

use std::collections::{BTreeMap, VecDeque};

use milena_core::BrokerId;
use milena_core::producer::RequestId;

/// The produce requests without an answer that brokers may not have read.
#[derive(Debug, Default)]
pub(super) struct Unconfirmed {
    brokers: BTreeMap<BrokerId, OfBroker>,
}

#[derive(Debug, Default)]
struct OfBroker {
    /// In the order in which they were sent.
    sent: VecDeque<Sent>,
    /// The last request before the question that is under way.
    asked: Option<RequestId>,
}

#[derive(Debug)]
struct Sent {
    id: RequestId,
    records: u32,
    is_written: bool,
}

impl Unconfirmed {
    /// A request was handed to the link to `broker`.
    pub(super) fn note_sent(&mut self, broker: BrokerId, id: RequestId, records: u32) {
        let sent = Sent { id, records, is_written: false };
        self.brokers.entry(broker).or_default().sent.push_back(sent);
    }

    /// The request was written to its connection.
    pub(super) fn note_written(&mut self, id: RequestId) {
        for broker in self.brokers.values_mut() {
            if let Some(sent) = broker.sent.iter_mut().find(|sent| sent.id == id) {
                sent.is_written = true;
            }
        }
    }

    /// The request failed, and its batches with it.
    pub(super) fn note_failed(&mut self, id: RequestId) {
        for broker in self.brokers.values_mut() {
            broker.sent.retain(|sent| sent.id != id);
        }
    }

    /// A broker to ask now, after everything that was sent to it.
    pub(super) fn poll_ask(&mut self) -> Option<BrokerId> {
        self.brokers.iter_mut().find_map(|(broker, of_broker)| {
            let last = of_broker.sent.back().filter(|_| of_broker.asked.is_none())?;
            of_broker.asked = Some(last.id);
            Some(*broker)
        })
    }

    /// The broker has answered the question: it has read everything before it.
    pub(super) fn handle_answer(&mut self, broker: BrokerId) {
        let Some(of_broker) = self.brokers.get_mut(&broker) else { return };
        if let Some(asked) = of_broker.asked.take() {
            of_broker.sent.retain(|sent| sent.id > asked);
        }
    }

    /// The question was lost with its connection. Answers how many records were written to it that may be lost.
    pub(super) fn handle_lost(&mut self, broker: BrokerId) -> u32 {
        let Some(of_broker) = self.brokers.get_mut(&broker) else { return 0 };
        of_broker.asked = None;
        let written = of_broker.sent.iter().filter(|sent| sent.is_written);
        let records = written.map(|sent| sent.records).sum();
        // The rest is still on its way, or fails on its own.
        of_broker.sent.retain(|sent| !sent.is_written);
        records
    }

    /// Whether brokers have read everything, as far as it did not fail.
    pub(super) fn is_empty(&self) -> bool {
        self.brokers.values().all(|broker| broker.sent.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROKER: BrokerId = BrokerId(1);

    fn sent(ids: std::ops::Range<u64>) -> Unconfirmed {
        let mut unconfirmed = Unconfirmed::default();
        ids.for_each(|id| unconfirmed.note_sent(BROKER, RequestId(id), 10));
        unconfirmed
    }

    #[test]
    fn an_answer_confirms_what_was_sent_before_its_question() {
        let mut unconfirmed = sent(0..2);
        assert_eq!(unconfirmed.poll_ask(), Some(BROKER));
        unconfirmed.note_sent(BROKER, RequestId(2), 10);
        assert_eq!(unconfirmed.poll_ask(), None, "one question at a time");
        (0..3).for_each(|id| unconfirmed.note_written(RequestId(id)));
        unconfirmed.handle_answer(BROKER);
        assert!(!unconfirmed.is_empty());
        assert_eq!(unconfirmed.poll_ask(), Some(BROKER));
        assert_eq!(unconfirmed.handle_lost(BROKER), 10);
        assert!(unconfirmed.is_empty());
        assert_eq!(unconfirmed.poll_ask(), None);
    }

    #[test]
    fn what_failed_on_its_own_or_was_not_written_is_not_counted_as_lost() {
        let mut unconfirmed = sent(0..4);
        assert_eq!(unconfirmed.poll_ask(), Some(BROKER));
        unconfirmed.note_written(RequestId(0));
        unconfirmed.note_written(RequestId(1));
        unconfirmed.note_failed(RequestId(1));
        unconfirmed.note_failed(RequestId(2));
        assert_eq!(unconfirmed.handle_lost(BROKER), 10);
        assert!(!unconfirmed.is_empty(), "one is still on its way");
        assert_eq!(unconfirmed.poll_ask(), Some(BROKER), "and is asked for again");
        unconfirmed.note_written(RequestId(3));
        unconfirmed.handle_answer(BROKER);
        assert!(unconfirmed.is_empty());
    }
}
