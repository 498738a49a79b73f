//! What is committed is what the generator and the oracle write.
//!
//! Both need Maven and a JDK. Where they are missing these tests say so and pass; where `CI` is set they fail.

use std::process::Command;

/// Whether this machine has what the commands need.
fn can_run(test: &str) -> bool {
    let missing = ["mvn", "jar", "javac", "java"]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_err());
    if let Some(program) = missing {
        assert!(std::env::var_os("CI").is_none(), "{test}: CI never skips, but there is no {program}");
        eprintln!("SKIPPED {test}: there is no {program}");
    }
    missing.is_none()
}

fn check(command: &str) {
    if !can_run(command) {
        return;
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_xtask")).args([command, "--check"]).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn generated_code_is_what_the_generator_writes() {
    check("gen");
}

#[test]
fn golden_messages_and_batches_are_what_kafka_writes() {
    check("oracle");
}
