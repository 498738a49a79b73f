//! `cargo xtask crashes`: builds and runs the program `crashes` of the crate `interop`.

use crate::programs::{Program, run_program};

const HELP: &str = "\
Usage: cargo xtask crashes [OPTION]...

A pipeline that orders by key runs in a process of its own, in which half of the records of two partitions end in random order and the
lowest ones do not. It is killed (kill -9) and started again, several times, and what it has printed is judged: no record is left
out; after a commit of everything no finished record is run again; and in the middle of the work only those are that were finished
last, after the last commit. Short forms are tests: cargo test -p milena-interop crashes

  --target WHERE   embedded (default): three nodes in one process; kafka: real Kafka with three brokers
  --protocol P     consumer for KIP-848 (default); classic, with the cooperative assignor; or eager, with the range assignor
  --records N      each partition has N records, of which half are finished above the committed offset (default 40000)
  --after-commits N
                   N kills come after a commit of everything that was finished (default 2)
  --in-the-middle N
                   then N kills come in the middle of the work (default 2)
  --seed S         which records end, and when, follows from the seed (default 0)
  --release        build with optimizations
";

/// Runs it.
///
/// # Errors
/// When a record is left out, or is run again without a reason.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let values = &["target", "protocol", "records", "after-commits", "in-the-middle", "seed"];
    let failed = "the pipeline did not keep its promises";
    run_program(Program { name: "crashes", help: HELP, flags: &[], values, failed }, args)
}
