//! `cargo xtask chaos`: runs N rounds of `crates/client/tests/chaos`.

use std::process::Command;

use anyhow::{Context as _, ensure};
use lexopt::{Arg, ValueExt as _};

const HELP: &str = "\
Usage: cargo xtask chaos [OPTION]...

Runs the client against three brokers over a faulty network, in rounds that each have a seed. Prints the seeds of the rounds
that fail. `cargo test -p milena --test chaos` runs the first 300.

  --seeds N        run N rounds (default 2000)
  --from SEED      the seed of the first round (default 0); the next rounds have the next seeds
  --seconds T      start no round after T seconds
  --at-a-time N    run N rounds at a time (default 12), because a round mostly waits
  --failures N     start no round after N rounds have failed (default 8)
  --release        build with optimizations
";

/// Runs rounds.
///
/// # Errors
/// When a round failed.
pub fn run(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(crate::root()).args(["test", "--package", "milena", "--test", "chaos"]);
    cargo.env("MILENA_CHAOS_SEEDS", "2000");
    while let Some(arg) = args.next()? {
        let variable = match arg {
            Arg::Long("seeds") => "MILENA_CHAOS_SEEDS",
            Arg::Long("from") => "MILENA_CHAOS_FROM",
            Arg::Long("seconds") => "MILENA_CHAOS_SECONDS",
            Arg::Long("at-a-time") => "MILENA_CHAOS_AT_A_TIME",
            Arg::Long("failures") => "MILENA_CHAOS_FAILURES",
            Arg::Long("release") => {
                cargo.arg("--release");
                continue;
            }
            Arg::Short('h') | Arg::Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        };
        let number: u64 = args.value()?.parse()?;
        cargo.env(variable, number.to_string());
    }
    let status = cargo.args(["--", "--nocapture"]).status().context("running cargo test")?;
    ensure!(status.success(), "rounds failed; run one again with: cargo xtask chaos --from SEED --seeds 1");
    Ok(())
}
