//! Plays rounds with many seeds, and names the seeds that fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::executor::lock;

/// How many seeds to play, in place of the test's own number. `cargo xtask sim --seeds` sets it.
const SEEDS: &str = "MILENA_SIM_SEEDS";
/// The first seed, in place of 0. `cargo xtask sim --from` sets it.
const FROM: &str = "MILENA_SIM_FROM";
/// After this many failures no round is begun: more of them are seldom of another cause.
const FAILURES_MAX: usize = 5;

/// Plays `round` with the seeds from 0 to `count` - 1, or with those that `cargo xtask sim` asks for, one on each processor
/// at a time.
///
/// # Panics
/// When a round panicked, after the other rounds were played. The message has the seeds.
pub fn play(count: u64, round: impl Fn(u64) + Sync) {
    let from = variable(FROM).unwrap_or(0);
    let until = from + variable(SEEDS).unwrap_or(count);
    let next = AtomicU64::new(from);
    let failed = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while lock(&failed).len() < FAILURES_MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= until {
                        return;
                    }
                    // The panic's own message was printed when it happened.
                    if catch_unwind(AssertUnwindSafe(|| round(seed))).is_err() {
                        eprintln!("seed {seed} failed");
                        lock(&failed).push(seed);
                    }
                }
            });
        }
    });
    let mut failed = lock(&failed).clone();
    failed.sort_unstable();
    assert!(
        failed.is_empty(),
        "seeds {failed:?} failed; play one again with: cargo xtask sim --from SEED --seeds 1"
    );
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}
