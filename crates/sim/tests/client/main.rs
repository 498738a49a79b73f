//! Whole clients against a whole cluster, by seed: producers and consumers, a faulty network, nodes that stop, leaders
//! that move, futures that are dropped.
//!
//! ```text
//!  seed ─▶ plan ─▶ writers, readers ─▶ client ─▶ network ─▶ cluster
//!                    └─▶ outcomes, records read ─▶ judge ◀─ logs ◀┘
//! ```

mod plan;
mod reader;
mod round;
mod writer;

use std::collections::BTreeMap;
use std::sync::Mutex;

use milena_sim::seeds;

use crate::round::play;

/// Seeds below this are played twice.
const COMPARED: u64 = 200;
/// Of the seeds after them, multiples of this are.
const COMPARED_LATER: u64 = 10;

#[test]
fn a_client_writes_once_in_order_and_reads_all_of_it_and_a_seed_plays_the_same_twice() {
    let traces: Mutex<BTreeMap<u64, u64>> = Mutex::default();
    seeds::play(COMPARED, |seed| {
        let trace = play(seed);
        assert!(trace.lines() > 100, "seed {seed}: only {} lines", trace.lines());
        let same = traces.lock().expect("whole").insert(trace.hash(), seed);
        assert_eq!(same, None, "seed {seed}: another seed gave the same trace");
        if seed < COMPARED || seed.is_multiple_of(COMPARED_LATER) {
            let difference = trace.first_difference(&play(seed));
            if let Some((line, one, other)) = difference {
                panic!("seed {seed}: line {line} is\n  {one}\nand then\n  {other}");
            }
        }
    });
}
