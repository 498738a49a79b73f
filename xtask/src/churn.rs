//! `cargo xtask churn`: builds and runs the program `churn` of the crate `interop`.

use crate::programs::{Program, run_program};

const HELP: &str = "\
Usage: cargo xtask churn [OPTION]...

Members of Milena, Java and librdkafka join a group, leave it and are killed, while records are produced. A checker that knows
no client judges what they print: no record is skipped, partitions are read in order and by one member at a time, a record is
read twice only if a killed member had not committed it, no record waits for longer than two heartbeats and the session of a
killed member, and partitions that a member keeps are not fetched twice and pause no more than for a reader without a group
beside it. The report says which promises were kept. Short forms are tests: cargo test -p milena-interop churn

  --target WHERE   embedded (default): three nodes in one process; kafka: real Kafka with three brokers; or bootstrap
                   addresses
  --protocol P     assignors separated by commas (default range,cooperative-sticky), or consumer for KIP-848
  --changes N      members join, leave or are killed N times (default 200)
  --records N      until N records are read (default 1000000, with --crash as many as come)
  --rate N         N records are produced per second (default 2000)
  --session MS     a killed member is missed after MS milliseconds (default 6000, with --crash 1500)
  --seed S         which change comes when follows from the seed (default 0)
  --journal FILE   all that the members saw is written to a file
  --crash          instead, members of Milena that finish records in random order are killed and started again
  --release        build with optimizations
";

/// Runs it.
///
/// # Errors
/// When the checker has found a fault.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let flags = &["crash"];
    let values = &["target", "protocol", "changes", "records", "rate", "seed", "session", "journal"];
    let failed = "the group did not keep its promises";
    run_program(Program { name: "churn", help: HELP, flags, values, failed }, args)
}
