//! Builds and runs programs of the crate `interop`, which depends on this crate and so cannot be called.

use std::process::Command;

use anyhow::{Context as _, ensure};
use lexopt::{Arg, ValueExt as _};

/// A program and what it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Program {
    /// Its name.
    pub(crate) name: &'static str,
    /// What `--help` prints.
    pub(crate) help: &'static str,
    /// Its options without a value.
    pub(crate) flags: &'static [&'static str],
    /// Its options with a value.
    pub(crate) values: &'static [&'static str],
    /// What it means when the program fails.
    pub(crate) failed: &'static str,
}

/// Builds it and the programs that it starts, and runs it. `--release` builds with optimizations.
///
/// # Errors
/// It does not know an option, does not build, or fails.
pub(crate) fn run_program(program: Program, mut args: lexopt::Parser) -> anyhow::Result<()> {
    let (mut options, mut profile) = (Vec::new(), "debug");
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("release") => profile = "release",
            Arg::Long(flag) if program.flags.contains(&flag) => options.push(format!("--{flag}")),
            Arg::Long(name) if program.values.contains(&name) => {
                let name = format!("--{name}");
                options.extend([name, args.value()?.string()?]);
            }
            Arg::Short('h') | Arg::Long("help") => {
                print!("{}", program.help);
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
    let status = Command::new(programs.join(profile).join(program.name)).args(options).status();
    ensure!(status.with_context(|| format!("running {}", program.name))?.success(), "{}", program.failed);
    Ok(())
}
