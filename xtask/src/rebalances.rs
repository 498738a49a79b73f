//! `cargo xtask rebalances`: builds and runs the program `rebalances` of the crate `interop`.

use crate::programs::{Program, run_program};

const HELP: &str = "\
Usage: cargo xtask rebalances [OPTION]...

Up to three members of a group, each of which is a pipeline, join and leave while records are written. After each change all records
written before it must be processed within a minute. No record may be processed to its end twice, and none begun again but those
that were in work when their partition was given up: none if they fit the time to drain. Short forms are tests:
cargo test -p milena-interop rebalances

  --target WHERE   embedded (default): three nodes in one process; kafka: real Kafka with three brokers
  --protocol P     consumer for KIP-848 (default); classic, with the cooperative assignor; or eager, with the range assignor
  --changes N      members join or leave N times (default 500)
  --rate N         N records are produced per second (default 1000)
  --drain MS       records in work may take MS milliseconds when their partition is given up (default 10000)
  --hurry          a third of the changes come in the middle of the rebalance before; a member that leaves then may not get its
                   last commit through
  --seed S         who joins and leaves follows from the seed (default 0)
  --release        build with optimizations
";

/// Runs it.
///
/// # Errors
/// When a record waits for too long, or is processed again without a reason.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let values = &["target", "protocol", "changes", "rate", "drain", "seed"];
    let failed = "the pipelines did not keep their promises";
    run_program(Program { name: "rebalances", help: HELP, flags: &["hurry"], values, failed }, args)
}
