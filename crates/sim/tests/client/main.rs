//! Whole clients against a whole cluster, by seed: producers and consumers, a faulty network, nodes that stop, leaders
//! that move, futures that are dropped; and the same with transactions.
//!
//! ```text
//!  seed ─▶ plan ─▶ writers, readers ─▶ client ─▶ network ─▶ cluster
//!                    └─▶ outcomes, records read ─▶ judge ◀─ logs ◀┘
//! ```

mod plan;
mod quotas;
mod reader;
mod round;
mod transactions;
mod writer;

use std::collections::BTreeMap;
use std::sync::Mutex;

use milena_sim::seeds;

use crate::round::play;

/// Seeds below this are played twice.
const COMPARED: u64 = 200;
/// Of the seeds after them, multiples of this are.
const COMPARED_LATER: u64 = 10;

/// Faults, and their effects on callers. The rounds must meet all of them, or they prove nothing about them.
const MET: [&str; 19] = [
    "a connection is cut",
    "a connection is made, and nothing is read from it",
    "a connection is not answered",
    "a connection is refused",
    "a node stops",
    "a node takes a while",
    "a partition gets another leader",
    "a partition is given up",
    "a read is dropped",
    "a record fails as maybe written",
    "a record fails as not written",
    "a request is lost",
    "a send is dropped",
    "a topic is made again",
    "an answer is lost after an append",
    "an answer is torn",
    "an enqueue waits for memory or metadata",
    "an offset is looked up",
    "bytes that are on their way are lost",
];
/// In all rounds together.
const MET_MIN: u64 = 20;

#[test]
fn a_client_writes_once_in_order_and_reads_all_of_it_and_a_seed_plays_the_same_twice() {
    let traces: Mutex<BTreeMap<u64, u64>> = Mutex::default();
    let counts: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    seeds::play(COMPARED, |seed| {
        let trace = play(seed);
        assert!(trace.lines() > 100, "seed {seed}: only {} lines", trace.lines());
        for (what, count) in trace.counts() {
            *counts.lock().expect("whole").entry(what).or_default() += count;
        }
        let same = traces.lock().expect("whole").insert(trace.hash(), seed);
        assert_eq!(same, None, "seed {seed}: another seed gave the same trace");
        if seed < COMPARED || seed.is_multiple_of(COMPARED_LATER) {
            let difference = trace.first_difference(&play(seed));
            if let Some((line, one, other)) = difference {
                panic!("seed {seed}: line {line} is\n  {one}\nand then\n  {other}");
            }
        }
    });
    let counts = counts.into_inner().expect("whole");
    println!("{counts:#?}");
    // Few seeds are played to look into a fault that is known.
    if traces.into_inner().expect("whole").len() >= COMPARED as usize {
        for what in MET {
            assert!(counts.get(what).is_some_and(|count| *count >= MET_MIN), "{what}: {counts:#?}");
        }
    }
}

/// Seeds of rounds with transactions.
const TRANSACTIONS: u64 = 60;
/// What these rounds must meet.
const MET_BY_TRANSACTIONS: [&str; 9] = [
    "a commit is refused",
    "a commit of unknown fate is resolved",
    "a group gets another coordinator",
    "a loop's transaction fails, and its records are processed again",
    "a node stops",
    "a partition gets another leader",
    "a transactional id gets another coordinator",
    "an answer is lost",
    "an answer is torn",
];

#[test]
fn exactly_once_holds_while_leaders_and_coordinators_move_and_answers_are_lost() {
    let counts: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    seeds::play(TRANSACTIONS, |seed| {
        for (what, count) in transactions::play(seed).counts() {
            *counts.lock().expect("whole").entry(what).or_default() += count;
        }
    });
    let counts = counts.into_inner().expect("whole");
    println!("{counts:#?}");
    if std::env::var_os("MILENA_SIM_SEEDS").is_none() {
        for what in MET_BY_TRANSACTIONS {
            assert!(counts.get(what).is_some_and(|count| *count >= MET_MIN), "{what}: {counts:#?}");
        }
    }
}

#[test]
fn a_loop_processes_the_records_of_a_doomed_transaction_again_and_they_count_once() {
    for version in [1, 2] {
        transactions::play_doomed(version);
    }
}

#[test]
fn a_client_above_its_quotas_waits_and_loses_nothing() {
    quotas::play();
}
