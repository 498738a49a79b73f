//! Chaos by seed: client and brokers in one process, a faulty network between them, leaders and coordinators that move, nodes that
//! stop, members of groups that come and go or are killed, transactions, futures that are dropped, and a checker that reads the
//! brokers' logs.
//!
//! ```text
//!  plan (of a seed) ─▶ round: writers, readers, members ─▶ client ─▶ network ─▶ brokers
//!                        └──▶ their results ─────▶ checker ◀─ logs ◀────┘
//! ```
//!
//! A round runs in real time, so a seed that failed once fails often, but not always, when it is run again:
//!
//! ```text
//! cargo xtask chaos --from 1234 --seeds 1
//! ```

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests run on tokio")]

mod checker;
mod chronicle;
mod extras;
mod log;
mod member;
mod members;
mod network;
mod plan;
mod reader;
mod round;
mod transactor;
mod world;
mod writer;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::network::lock;
use crate::plan::Plan;
use crate::round::{Failed, Panics, play_on_threads};

/// The number of rounds in `cargo test`. `cargo xtask chaos` sets another one.
const SEEDS: u64 = 300;
/// The number of rounds at a time, because a round mostly waits.
const AT_A_TIME: u64 = 12;
/// After this many failed rounds no more are started.
const FAILURES_MAX: u64 = 8;

fn setting(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")),
        Err(_) => default,
    }
}

#[test]
fn nothing_is_lost_doubled_reordered_or_stuck_whatever_the_network_does() {
    let from = setting("MILENA_CHAOS_FROM", 0);
    let seeds = setting("MILENA_CHAOS_SEEDS", SEEDS);
    let limit = Duration::from_secs(setting("MILENA_CHAOS_SECONDS", u64::MAX / 2));
    let at_a_time = setting("MILENA_CHAOS_AT_A_TIME", AT_A_TIME);
    let failures_max = setting("MILENA_CHAOS_FAILURES", FAILURES_MAX) as usize;
    let began = Instant::now();
    let panics = Panics::watch();
    let next = AtomicU64::new(0);
    let played = AtomicU64::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.min(seeds) {
            scope.spawn(|| {
                while lock(&failures).len() < failures_max && began.elapsed() < limit {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= seeds {
                        break;
                    }
                    let seed = from + index;
                    if let Err(Failed { report, wrong }) = play_on_threads(Plan::of(seed), &panics) {
                        eprintln!("{report}");
                        lock(&failures).push((seed, wrong));
                    }
                    played.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let failed = lock(&failures);
    let played = played.into_inner();
    eprintln!(
        "{played} rounds from seed {from} in {:.1} s, {} failed",
        began.elapsed().as_secs_f64(),
        failed.len()
    );
    let ended = transactor::ENDED.each_ref().map(|count| count.load(Ordering::Relaxed));
    let copied = transactor::COPIED.load(Ordering::Relaxed);
    eprintln!(
        "transactions: {ended:?} committed, aborted and of unknown end; {copied} records copied exactly once"
    );
    assert!(
        failed.is_empty(),
        "seeds that failed, and why: {failed:#?}; play one again with cargo xtask chaos --from SEED --seeds 1"
    );
}
