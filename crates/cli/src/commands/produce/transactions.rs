//! `milena produce --transactional-id`: sends the input in transactions.
//!
//! A transaction is begun when there is a record for it, so that none is open while the input has nothing to read, unless
//! records were sent already. One that is not committed ends the command: then exactly the lines before it are committed.

use std::time::{Duration, Instant};

use milena::{TransactionEnd, TransactionalProducer};

use super::sending::Sender;
use super::source::Place;
use super::tally::Uncommitted;
use crate::commands::txn::duration;
use crate::exit::Failure;
use crate::interrupt::{GRACE, Interrupt};

/// When a transaction is committed before the end of the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Every {
    records: Option<u64>,
    time: Option<Duration>,
}

/// Reads `--commit-every`: `1000`, `5s` or `1000,5s`.
pub(crate) fn every(text: &str) -> Result<Every, String> {
    let mut every = Every::default();
    for part in text.split(',').map(str::trim) {
        let is_second = match part.parse() {
            Ok(records) if records > 0 => every.records.replace(records).is_some(),
            Ok(_) => return Err("a transaction has at least 1 record".into()),
            Err(_) => {
                let time = duration(part).ok().filter(|time| !time.is_zero());
                let time = time.ok_or("write a number of records, a time as in 5s, or both as in 1000,5s")?;
                every.time.replace(time).is_some()
            }
        };
        if is_second {
            return Err(format!("{part} is the second of its kind"));
        }
    }
    Ok(every)
}

/// Why no more records are added to a transaction.
enum Filled {
    /// It has as many as it may have, or its time is over.
    Full,
    /// The input has ended.
    Last,
    Failed(Failure),
}

/// Sends all pieces. `Err` says why the rest was not sent; the tally has the transaction that was not committed, if one was open.
pub(super) async fn transact(
    sender: &mut Sender,
    producer: &mut TransactionalProducer,
    every: Every,
    timeout: Option<Duration>,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    while interrupt.or(sender.ready()).await? {
        let transaction = interrupt.or(producer.begin()).await?;
        let mut sent: Option<Uncommitted> = None;
        let shared = sender.shared.clone();
        let filled = tokio::select! {
            filled = fill(sender, &transaction, every, &mut sent) => filled,
            () = shared.failed() => Filled::Failed(failure_of_record(sender)),
            failure = shared.stalled(timeout) => Filled::Failed(failure),
            () = interrupt.asked() => Filled::Failed(Failure::interrupted()),
        };
        let ended = match filled {
            Filled::Full | Filled::Last => tokio::select! {
                committed = transaction.commit() => committed,
                () = gave_up(interrupt) => return Err(uncommitted(sender, sent, true, Failure::interrupted())),
            },
            Filled::Failed(failure) => {
                let told = uncommitted(sender, sent, false, failure);
                tokio::select! {
                    // If it fails, the coordinator aborts the transaction when its time is over.
                    _ = transaction.abort() => {}
                    () = gave_up(interrupt) => {}
                    () = tokio::time::sleep(GRACE) => {}
                }
                return Err(told);
            }
        };
        if let Err(error) = ended {
            return Err(refused(sender, producer, sent, error, interrupt).await);
        }
        // Their deliveries resolve before the commit does; the tasks that count them may be a little later.
        shared.all_settled().await;
        let mut tally = shared.tally();
        if let (Some(of), Some(sent)) = (&mut tally.transactions, sent) {
            of.committed += 1;
            of.committed_records += sent.records;
        }
        drop(tally);
        if matches!(filled, Filled::Last) {
            break;
        }
    }
    Ok(())
}

/// Sends pieces in the transaction until it is to be committed.
async fn fill(
    sender: &mut Sender,
    transaction: &milena::Transaction<'_>,
    every: Every,
    sent: &mut Option<Uncommitted>,
) -> Filled {
    let until = every.time.map(|time| Instant::now() + time);
    loop {
        // Only the wait ends with the time: a record that is being taken counts.
        let ready = tokio::select! {
            biased;
            ready = sender.ready() => ready,
            () = passed(until) => return Filled::Full,
        };
        match ready {
            Ok(true) => {}
            Ok(false) => return Filled::Last,
            Err(failure) => return Filled::Failed(failure),
        }
        match sender.send(transaction).await {
            Ok(Some(place)) => note(sent, place),
            Ok(None) => {}
            Err(failure) => return Filled::Failed(failure),
        }
        let is_full =
            every.records.is_some_and(|most| sent.as_ref().is_some_and(|sent| sent.records >= most));
        // The wait is over at once while there is input.
        if is_full || until.is_some_and(|until| Instant::now() >= until) {
            return Filled::Full;
        }
    }
}

/// Completes at this time, if there is one.
async fn passed(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until.into()).await,
        None => std::future::pending().await,
    }
}

fn note(sent: &mut Option<Uncommitted>, place: Place) {
    let sent =
        sent.get_or_insert(Uncommitted { first: place, last: place, records: 0, may_be_committed: false });
    (sent.last, sent.records) = (place, sent.records + 1);
}

/// Puts a transaction that was not committed into the tally.
fn uncommitted(
    sender: &Sender,
    sent: Option<Uncommitted>,
    may_be_committed: bool,
    failure: Failure,
) -> Failure {
    if let Some(of) = &mut sender.shared.tally().transactions {
        of.last = sent.map(|sent| Uncommitted { may_be_committed, ..sent });
    }
    failure
}

/// What comes of a commit that was not successful. If its fate is not known, the coordinator is asked.
async fn refused(
    sender: &Sender,
    producer: &mut TransactionalProducer,
    sent: Option<Uncommitted>,
    error: milena::Error,
    interrupt: &Interrupt,
) -> Failure {
    let mut is_unknown = error.maybe_written();
    if is_unknown {
        let resolved = tokio::select! {
            resolved = producer.resolve() => resolved.ok().flatten(),
            () = gave_up(interrupt) => None,
        };
        match resolved {
            Some(TransactionEnd::Committed) => {
                if let (Some(of), Some(sent)) = (&mut sender.shared.tally().transactions, sent) {
                    of.committed += 1;
                    of.committed_records += sent.records;
                }
                return error.into();
            }
            Some(TransactionEnd::Aborted) => is_unknown = false,
            None => {}
        }
    }
    // The record that failed says more than the commit.
    let failure = if error.requires_abort() { sender.shared.tally().failure(&sender.source) } else { None };
    uncommitted(sender, sent, is_unknown, failure.unwrap_or_else(|| error.into()))
}

fn failure_of_record(sender: &Sender) -> Failure {
    let failure = sender.shared.tally().failure(&sender.source);
    failure.unwrap_or_else(|| Failure::failed("a record was not written"))
}

/// Completes when the command must end: some time after the first signal, or at once after the second.
async fn gave_up(interrupt: &Interrupt) {
    interrupt.asked().await;
    tokio::select! {
        () = tokio::time::sleep(GRACE) => {}
        () = interrupt.asked_again() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_are_after_records_or_a_time_or_both() {
        let (thousand, seconds) = (Some(1000), Some(Duration::from_secs(5)));
        for (text, records, time) in
            [("1000", thousand, None), ("5s", None, seconds), ("1000,5s", thousand, seconds)]
        {
            assert_eq!(every(text), Ok(Every { records, time }), "{text}");
        }
        for text in ["", "0", "0s", "-1", "5 parsecs", "1,2", "1s,2s"] {
            assert!(every(text).is_err(), "{text}");
        }
    }
}
