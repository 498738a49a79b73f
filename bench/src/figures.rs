//! Runs contestants in alternating rounds and prints their medians side by side.

use std::time::{Duration, Instant};

/// One of the compared functions. Each call does the work once for all records.
pub(crate) struct Contestant<'a> {
    pub(crate) name: &'static str,
    pub(crate) job: Box<dyn FnMut() + 'a>,
}

/// Prints the time per record of every contestant. All are compared with the first one.
///
/// Rounds alternate, so that a change of the machine's speed affects all of them. The median ignores what affects one.
pub(crate) fn compare(title: &str, records: usize, rounds: usize, contestants: &mut [Contestant<'_>]) {
    let mut times: Vec<Vec<f64>> = contestants.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for contestant in contestants.iter_mut() {
        (contestant.job)();
    }
    for _ in 0..rounds {
        for (contestant, times) in contestants.iter_mut().zip(&mut times) {
            times.push(nanoseconds(&mut contestant.job) / records as f64);
        }
    }
    println!("{title}");
    let mut base = None;
    for (contestant, times) in contestants.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        let ratio = median / *base.get_or_insert(median);
        let (low, high) = (times[times.len() / 10], times[times.len() * 9 / 10]);
        println!("  {:<32} {median:8.1} ns/record  {ratio:6.2}x   ({low:.1} to {high:.1})", contestant.name);
    }
}

/// The time of one call, measured over enough calls that the clock's own cost does not show, and over no more, so that
/// most rounds on a busy machine pass without the scheduler. One call before them warms the caches.
fn nanoseconds(job: &mut dyn FnMut()) -> f64 {
    const LEAST: Duration = Duration::from_micros(300);
    job();
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed() < LEAST {
        job();
        calls += 1;
    }
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}
