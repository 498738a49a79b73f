//! `cargo xtask hops`: builds and runs the program `hops` of the crate `interop`.

use crate::programs::{Program, run_program};

const HELP: &str = "\
Usage: cargo xtask hops [OPTION]...

Three groups in a chain consume, transform and produce exactly once, all at the same time. Their members are processes that join,
leave and are killed, and some of their batches fail. Then Java's consumer reads each topic under read_committed: it must have
each record of the first topic once, in the order of its partition. Short forms are tests: cargo test -p milena-interop hops

  --target WHERE   embedded (default): three nodes in one process; kafka: real Kafka with three brokers
  --protocol P     classic (default), or consumer for KIP-848
  --transaction-version V
                   1 or 2 (default; KIP-890)
  --records N      N records are produced to the first topic (default 500000)
  --rate N         N records are produced per second (default 3000)
  --pause MS       the mean time between two changes of members (default 1500)
  --seed S         what happens when follows from the seed (default 0)
  --release        build with optimizations
";

/// Runs it.
///
/// # Errors
/// When the judge has found a fault.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let values = &["target", "protocol", "transaction-version", "records", "rate", "pause", "seed"];
    let failed = "the last topic is not the first one";
    run_program(Program { name: "hops", help: HELP, flags: &[], values, failed }, args)
}
