//! Classic mistakes, and what the doctor says of each: the whole output, as people see it. `UPDATE_DOCTOR=1` writes it anew.
//! docs/doctor.md has a table of them.

#[path = "../harness/mod.rs"]
mod harness;

mod brokers;
mod network;
mod sasl;
mod settings;
mod tls;
mod topics;

use std::path::{Path, PathBuf};

use harness::milena;
use milena_broker::{Builder, Cluster};

/// A cluster, and the runtime that it lives on.
pub(crate) struct Running {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) cluster: Cluster,
}

impl Running {
    pub(crate) fn start(builder: Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let cluster = runtime.block_on(builder.start()).expect("started");
        Self { runtime, cluster }
    }

    /// Examines this cluster.
    #[track_caller]
    pub(crate) fn examine(&self, mistake: &str, code: i32, args: &[&str]) {
        examine(mistake, code, self.cluster.bootstrap(), args);
    }
}

/// Files of a test.
pub(crate) struct Files(tempfile::TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("made"))
    }

    /// Writes a file, and returns the property with its path.
    pub(crate) fn property(&self, name: &str, file: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(file);
        std::fs::write(&path, content).expect("written");
        format!("{name}={}", path.display())
    }
}

/// Runs the doctor against `bootstrap` with these arguments, and compares all that it writes with the golden text of
/// `mistake`. Its exit code is `code`.
#[track_caller]
pub(crate) fn examine(mistake: &str, code: i32, bootstrap: &str, args: &[&str]) {
    let timeout = if args.contains(&"--timeout") { &[][..] } else { &["--timeout", "3"] };
    let run = milena(&[&["doctor", "-b", bootstrap], timeout, args].concat());
    let output = String::from_utf8(run.stdout).expect("text") + &run.stderr;
    let output = plain(output, bootstrap, args);
    assert!(!["pencil", "hunter2"].iter().any(|secret| output.contains(secret)), "{output}");
    let path = golden().join(format!("{mistake}.txt"));
    if std::env::var_os("UPDATE_DOCTOR").is_some() {
        std::fs::write(&path, &output).expect("written");
    }
    let expect = std::fs::read_to_string(&path)
        .unwrap_or_else(|_| panic!("no golden text; the doctor says:\n{output}"));
    assert_eq!(output, expect, "{}", path.display());
    assert_eq!(run.code, Some(code), "{output}");
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/doctor/golden")
}

/// The output without what differs from run to run: ports, directories, dates, ids, and the system's words.
fn plain(output: String, bootstrap: &str, args: &[&str]) -> String {
    let mut text = output;
    for (index, server) in bootstrap.split(',').enumerate() {
        if let Some((_, port)) = server.rsplit_once(':').filter(|(host, _)| *host == "127.0.0.1") {
            text = text.replace(&format!(":{port}"), &format!(":PORT{}", index + 1));
        }
    }
    for value in args.iter().filter_map(|arg| arg.split_once('=')).map(|(_, value)| Path::new(value)) {
        if let (true, Some(directory)) = (value.is_absolute(), value.parent()) {
            text = text.replace(directory.to_str().expect("text"), "DIR");
        }
    }
    let mut lines = String::new();
    for line in text.lines() {
        let line = between(line, "cluster ", ":", 22, "ID");
        let line = match line.split_once("does not resolve: ") {
            Some((before, _)) => format!("{before}does not resolve: WHY"),
            None => line,
        };
        let words: Vec<_> = line.split(' ').map(|word| if is_date(word) { "DATE" } else { word }).collect();
        let words: Vec<_> = words.iter().map(|word| if is_time(word) { "TIME" } else { word }).collect();
        lines += &(words.join(" ") + "\n");
    }
    lines
}

/// Replaces what is between two texts, if it has this length.
fn between(line: &str, before: &str, after: &str, length: usize, with: &str) -> String {
    let found = line.match_indices(before).map(|(at, _)| at + before.len()).find(|start| {
        line.get(*start..start + length).is_some() && line[start + length..].starts_with(after)
    });
    match found {
        Some(start) => format!("{}{with}{}", &line[..start], &line[start + length..]),
        None => line.to_owned(),
    }
}

fn is_date(word: &str) -> bool {
    word.len() == 10 && word.bytes().filter(|byte| *byte == b'-').count() == 2 && word.starts_with("20")
}

fn is_time(word: &str) -> bool {
    word.len() == 5 && word.as_bytes()[2] == b':' && word.bytes().filter(u8::is_ascii_digit).count() == 4
}

/// Each golden text is a test's, and each is in the table of docs/doctor.md.
#[test]
fn the_documentation_has_every_mistake() {
    let documentation = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/doctor.md");
    let documentation = std::fs::read_to_string(documentation).expect("there");
    let names = std::fs::read_dir(golden()).expect("there").map(|file| file.expect("there").file_name());
    let names: Vec<_> =
        names.map(|name| name.to_str().expect("text").trim_end_matches(".txt").to_owned()).collect();
    assert!(names.len() >= 25, "{} mistakes", names.len());
    for name in &names {
        assert!(documentation.contains(&format!("`{name}`")), "{name} is not in docs/doctor.md");
    }
    let rows = documentation.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    for (name, _) in rows {
        assert!(names.iter().any(|known| known == name), "there is no golden text of {name}");
    }
}
