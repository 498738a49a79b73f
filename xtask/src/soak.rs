//! `cargo xtask soak`: builds and runs the program `soak` of the crate `interop`.

use crate::programs::{Program, run_program};

const HELP: &str = "\
Usage: cargo xtask soak [OPTION]...

A pipeline processes records of 20 partitions while one key fails always, the records of another hang, one partition takes so long
that it falls behind, and 1 % of all records fail for good. Records that have nothing to do with this must be finished at the rate
at which they are written, each once, and memory must not grow: the last quarter's mean is compared with the second's, when the slow
partition has filled what it may take. For a fifth of the time before there are no faults, to compare with. A short form is a test:
cargo test -p milena-interop soak

  --target WHERE   kafka (default): real Kafka with three brokers; embedded: three nodes in this process, whose memory grows
  --minutes M      there are faults for M minutes (default 30)
  --window S       what is finished is counted every S seconds (default 30)
  --rate N         N records are produced per second (default 2000)
  --release        build with optimizations
";

/// Runs it.
///
/// # Errors
/// When records are missing or late, or memory grows.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let values = &["target", "minutes", "window", "rate"];
    let failed = "the pipeline did not keep its promises";
    run_program(Program { name: "soak", help: HELP, flags: &[], values, failed }, args)
}
