//! Core's machines against the broker's machine, by seed, without the client between them: the tests hand requests and
//! answers over themselves, and lose, delay and repeat them. There are no tasks, so a round takes a few milliseconds.

mod batch;
mod brokers;
mod groups;
mod producer;
mod source;
mod transactions;

use std::sync::{Mutex, PoisonError};

use milena_sim::seeds;

#[test]
fn a_producer_writes_once_in_order_and_says_what_may_have_been_written() {
    seeds::play(300, producer::play);
}

#[test]
fn members_of_groups_skip_no_record_and_share_no_partition() {
    let seen = Mutex::new(groups::Seen::default());
    seeds::play(20, |seed| {
        let of_round = groups::play(seed);
        *seen.lock().unwrap_or_else(PoisonError::into_inner) += of_round;
    });
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{seen:?}");
    let of_members = [seen.moves, seen.losses, seen.left, seen.returns, seen.added, seen.restarts];
    let of_commits = [seen.commits, seen.refusals, seen.repeats, seen.seeks, seen.calls];
    let has_seen = [&of_members[..], &of_commits].concat();
    assert!(has_seen.iter().all(|count| *count > 0), "idle rounds prove nothing: {seen:?}");
}

#[test]
fn a_source_goes_on_where_it_was_sought_and_reaches_the_end() {
    seeds::play(200, source::play);
}

#[test]
fn transactions_are_whole_or_not_there_and_errors_say_what_is_true() {
    let seen = Mutex::new(transactions::Seen::default());
    seeds::play(300, |seed| {
        let of_round = transactions::play(seed);
        *seen.lock().unwrap_or_else(PoisonError::into_inner) += of_round;
    });
    let seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{seen:?}");
    let of_ends = [seen.committed, seen.aborted, seen.refused, seen.unknown, seen.unknown_committed];
    let of_faults = [seen.fenced, seen.timed_out, seen.raised, seen.late, seen.offsets];
    let has_seen = [of_ends, of_faults].concat();
    assert!(has_seen.iter().all(|count| *count > 0), "idle rounds prove nothing: {seen:?}");
}
