//! `milena schema`, with a registry and with files alone.

#[path = "../harness/mod.rs"]
mod harness;

mod access;
mod docs;
mod files;
mod registry;

use std::path::PathBuf;

use harness::{Process, Run};

const USAGE: i32 = 2;
const NOT_FOUND: i32 = 4;
const AUTH: i32 = 5;
const UNREACHABLE: i32 = 6;
const CHECK_FAILED: i32 = 7;

/// `milena dev`, and a directory for schemas.
struct Stage {
    _dev: Process,
    url: String,
    files: Files,
}

impl Stage {
    fn start() -> Self {
        let mut dev = Process::spawn(&["dev", "--port", "0", "--registry-port", "0"], "");
        let (_, url) = (dev.stdout_line(), dev.stdout_line());
        Self { _dev: dev, url, files: Files::new() }
    }

    /// `milena schema` with these arguments.
    fn run(&self, args: &[&str]) -> Run {
        self.run_in(args, "")
    }

    fn run_in(&self, args: &[&str], stdin: &str) -> Run {
        Process::spawn(&[&["schema"], args, &["--registry", &self.url]].concat(), stdin).wait()
    }

    /// The same, expecting success. Its stdout.
    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        text(self.run(args))
    }
}

/// A directory of schemas.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// Writes a file. Its path.
    fn write(&self, name: &str, content: &str) -> String {
        let path: PathBuf = self.0.path().join(name);
        std::fs::write(&path, content).expect("is written");
        path.to_str().expect("text").to_owned()
    }
}

#[track_caller]
fn text(run: Run) -> String {
    assert_eq!((run.code, &*run.stderr), (Some(0), ""));
    String::from_utf8(run.stdout).expect("text")
}

/// The run failed with this code and said this on stderr. Its stdout.
#[track_caller]
fn failed(run: Run, code: i32, says: &str) -> String {
    assert_eq!(run.code, Some(code), "{}", run.stderr);
    assert!(
        run.stderr.contains(says) && !run.stderr.contains("panicked"),
        "{says:?} is not in: {}",
        run.stderr
    );
    String::from_utf8(run.stdout).expect("text")
}

fn order(fields: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Order","namespace":"shop","fields":[{{"name":"id","type":"long"}}{fields}]}}"#
    )
}

const WITH_DEFAULT: &str = r#",{"name":"note","type":"string","default":""}"#;
const WITHOUT_DEFAULT: &str = r#",{"name":"note","type":"string"}"#;
