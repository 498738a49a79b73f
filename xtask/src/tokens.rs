//! `cargo xtask tokens`: builds and runs the program `tokens` of the crate `interop`.

use crate::programs::{Program, run_program};

const HELP: &str = "\
Usage: cargo xtask tokens [OPTION]...

One client writes and reads while its token and its sessions end again and again. It fails if a request fails, if a record is
lost, repeated or out of order, if tokens are not fetched once per lifetime, or if a connection is made anew. A short form is a
test: cargo test -p milena-interop tokens

  --target WHERE  kafka (default): real Kafka; embedded: the embedded broker
  --seconds N     for N seconds (default 1200)
  --rate N        N records per second (default 50000)
  --lifetime N    tokens, and sessions, of N seconds (default 60)
  --release       build with optimizations
";

/// Runs it.
///
/// # Errors
/// When something failed.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let values = &["target", "seconds", "rate", "lifetime"];
    let failed = "something failed";
    run_program(Program { name: "tokens", help: HELP, flags: &[], values, failed }, args)
}
