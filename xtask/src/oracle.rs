//! `cargo xtask oracle`: golden messages and batches from Kafka's own encoder, for the tests of `milena-messages` and
//! `milena-wire`.
//!
//! The programs in `xtask/oracle` are compiled against the jars that the schemas come from. With `--check` they compare
//! what they write with what is committed.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use lexopt::Arg;

use crate::r#gen::jar::{self, Scratch};
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
    // Kafka's client logs through slf4j; its log is not needed here.
    jars.push(jar::fetch("org.slf4j", "slf4j-nop", "1.7.36")?);
    jars.push(jar::fetch("org.slf4j", "slf4j-api", "1.7.36")?);
    let classes = Scratch::new()?;
    let mut class_path: Vec<PathBuf> = jars;
    class_path.push(classes.path().to_owned());
    let class_path: OsString = std::env::join_paths(class_path)?;
    let sources = ["Oracle", "Batches"].map(|name| crate::root().join(format!("xtask/oracle/{name}.java")));
    jar::run(Command::new("javac").arg("-d").arg(classes.path()).arg("-cp").arg(&class_path).args(sources))?;
    let java = |program: &str, folder: &str| {
        let mut java = Command::new("java");
        java.arg("-cp").arg(&class_path).arg(program).arg(crate::root().join(folder)).arg(mode);
        java
    };
    jar::run(java("Oracle", "crates/messages/tests/golden").args(Sources::read()?.java_classes()))?;
    jar::run(&mut java("Batches", "crates/wire/tests/java"))
}
