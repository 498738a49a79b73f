//! `cargo xtask registry-outage`: builds and runs the program `registry_outage` of the crate `interop`.

use crate::programs::{Program, run_program};

const HELP: &str = "\
Usage: cargo xtask registry-outage [OPTION]...

Our schema registry is down for a while under load, on the embedded broker. Two groups read a topic with a pipeline. Records whose
schema is known must be finished at the rate at which they are written. Of the rest, those of the group that waits must wait until the
registry is back, and those of the group that fails must go to its dead letters. A producer that knows no schema waits or is refused.
In the end each record must be in one place, once. A short form is a test: cargo test -p milena-interop outage

  --seconds S        the registry is down for S seconds, and up for a fourth of that before and after (default 60)
  --window S         what is finished is counted every S seconds (default 5)
  --rate N           N records are produced per second (default 2000)
  --unknown-every N  one record of N has a schema that is not known while the registry is down (default 100)
  --release          build with optimizations
";

/// Runs it.
///
/// # Errors
/// When records are missing, in two places, or late.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let values = &["seconds", "window", "rate", "unknown-every"];
    let failed = "what was promised of an outage was not kept";
    run_program(Program { name: "registry_outage", help: HELP, flags: &[], values, failed }, args)
}
