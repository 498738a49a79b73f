//! `cargo xtask sim`: runs N rounds of `crates/sim/tests`.

use std::process::Command;

use anyhow::{Context as _, ensure};
use lexopt::{Arg, ValueExt as _};

const HELP: &str = "\
Usage: cargo xtask sim [OPTION]... [TEST]

Runs the simulations on virtual time, in rounds that each have a seed. The same seed repeats the same round, to the
nanosecond. Prints the seeds of the rounds that fail. `cargo test -p milena-sim` runs the first few hundred.

  TEST             run only the simulations with TEST in their names: client, producer, source, groups,
                   transactions, exactly_once
  --seeds N        run N rounds of each (default 2000)
  --from SEED      the seed of the first round (default 0); the next rounds have the next seeds
  --release        build with optimizations
";

/// Runs rounds.
///
/// # Errors
/// When a round failed.
pub fn run(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(crate::root()).args(["test", "--package", "milena-sim", "--tests"]);
    cargo.env("MILENA_SIM_SEEDS", "2000");
    let mut name = None;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("seeds") => drop(cargo.env("MILENA_SIM_SEEDS", number(&mut args)?)),
            Arg::Long("from") => drop(cargo.env("MILENA_SIM_FROM", number(&mut args)?)),
            Arg::Long("release") => drop(cargo.arg("--release")),
            Arg::Short('h') | Arg::Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            Arg::Value(test) if name.is_none() => name = Some(test),
            other => return Err(other.unexpected().into()),
        }
    }
    let status = cargo.args(name).args(["--", "--nocapture"]).status().context("running cargo test")?;
    ensure!(status.success(), "rounds failed; play one again with: cargo xtask sim --from SEED --seeds 1");
    Ok(())
}

fn number(args: &mut lexopt::Parser) -> anyhow::Result<String> {
    let number: u64 = args.value()?.parse()?;
    Ok(number.to_string())
}
