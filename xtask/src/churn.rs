//! `cargo xtask churn`: builds and runs the program `churn` of the crate `interop`.

use std::process::Command;

use anyhow::{Context as _, ensure};
use lexopt::{Arg, ValueExt as _};

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
pub fn run(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let (mut options, mut profile) = (Vec::new(), "debug");
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("crash") => options.push("--crash".to_owned()),
            Arg::Long("release") => profile = "release",
            Arg::Long(
                name @ ("target" | "protocol" | "changes" | "records" | "rate" | "seed" | "session"
                | "journal"),
            ) => {
                let name = format!("--{name}");
                options.extend([name, args.value()?.string()?]);
            }
            Arg::Short('h') | Arg::Long("help") => {
                print!("{HELP}");
                return Ok(());
            }
            other => return Err(other.unexpected().into()),
        }
    }
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(crate::root()).args(["build", "--quiet", "--package", "milena-interop", "--bins"]);
    if profile == "release" {
        cargo.arg("--release");
    }
    ensure!(cargo.status().context("running cargo build")?.success(), "the programs do not build");
    let programs =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), Into::into);
    let status = Command::new(programs.join(profile).join("churn")).args(options).status();
    ensure!(status.context("running churn")?.success(), "the group did not keep its promises");
    Ok(())
}
