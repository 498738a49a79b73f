//! `cargo xtask oracle`: golden messages from Kafka's own encoder, for the tests of `milena-messages`.
//!
//! `xtask/oracle/Oracle.java` is compiled against the jars that the schemas come from. With `--check` it compares what it
//! writes with what is committed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use lexopt::Arg;

use crate::r#gen::jar;
use crate::r#gen::sources::{self, Sources};

/// Writes the golden files, or with `--check` compares them.
///
/// # Errors
/// When Java or the jars are missing, when the program fails, or with `--check` when a file differs.
pub fn run(mut args: lexopt::Parser) -> Result<()> {
    let mut mode = "write";
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("check") => mode = "check",
            other => return Err(other.unexpected().into()),
        }
    }
    write_or_check(mode)
}

fn write_or_check(mode: &str) -> Result<()> {
    let mut jars = sources::jars()?;
    // Kafka's client logs through it, and nothing of it is wanted here.
    jars.push(jar::fetch("org.slf4j", "slf4j-nop", "1.7.36")?);
    jars.push(jar::fetch("org.slf4j", "slf4j-api", "1.7.36")?);
    let classes = jar::scratch()?;
    let mut class_path: Vec<PathBuf> = jars;
    class_path.push(classes.clone());
    let class_path: OsString = std::env::join_paths(class_path)?;
    let source = crate::root().join("xtask/oracle/Oracle.java");
    jar::run(Command::new("javac").arg("-d").arg(&classes).arg("-cp").arg(&class_path).arg(source))?;
    let mut java = Command::new("java");
    java.arg("-cp").arg(&class_path).arg("Oracle");
    java.arg(crate::root().join("crates/messages/tests/golden")).arg(mode);
    jar::run(java.args(Sources::read()?.java_classes()))?;
    std::fs::remove_dir_all(classes)?;
    Ok(())
}
