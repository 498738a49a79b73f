//! Instructions per record of the hot functions, counted by valgrind and kept in `instructions.txt`.
//!
//! Counts hardly depend on the machine or on what else runs there, so a change of a few per cent is a change of the
//! code. They depend on the compiler and on which copying routine the machine's libc picks: hence the allowance.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::wire::workload_records;

/// The workloads, each with the function whose instructions count, including those of the functions it calls.
const COUNTED: [(&str, &str); 5] = [
    ("append-100", "append_milena"),
    ("append-1024", "append_milena"),
    ("append_headers-100", "append_milena"),
    ("read-100", "read_milena"),
    ("read-1024", "read_milena"),
];

/// By how much the recorded figure may be exceeded, in per cent.
const ALLOWANCE: f64 = 5.0;

/// Counts and compares with the recorded figures.
pub(crate) fn compare() -> Result<(), String> {
    let path = recorded_path();
    let recorded = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut worse = String::new();
    for (name, function) in COUNTED {
        let count = count(name, function)?;
        let before = recorded_count(&recorded, name)
            .ok_or_else(|| format!("instructions.txt has no {name}: run `instructions --record`"))?;
        let change = (count / before - 1.0) * 100.0;
        println!("{name:<20} {count:8.1} instructions/record, recorded {before:.1} ({change:+.1} %)");
        if change > ALLOWANCE {
            let _ = writeln!(worse, "{name} takes {change:.1} % more instructions than recorded");
        }
    }
    if worse.is_empty() { Ok(()) } else { Err(worse) }
}

/// Counts and records.
pub(crate) fn record() -> Result<(), String> {
    let mut text = String::from(
        "# Instructions per record, checksum and copying included, batches of 1 MiB.\n\
         # Written by `milena-bench instructions --record`; `instructions` fails beyond 5 % more.\n",
    );
    for (name, function) in COUNTED {
        let count = count(name, function)?;
        println!("{name:<20} {count:8.1} instructions/record");
        let _ = writeln!(text, "{name} {count:.1}");
    }
    fs::write(recorded_path(), text).map_err(|error| error.to_string())
}

fn recorded_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
}

fn recorded_count(recorded: &str, name: &str) -> Option<f64> {
    let count = recorded.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    count.parse().ok()
}

fn count(name: &str, function: &str) -> Result<f64, String> {
    let out = std::env::temp_dir().join(format!("milena-bench-{}-{name}.callgrind", std::process::id()));
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--toggle-collect=*::{function}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args(["workload", name])
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let profile = fs::read_to_string(&out);
    let _ = fs::remove_file(&out);
    if !output.status.success() {
        return Err(format!("valgrind {}: {}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    let profile = profile.map_err(|error| format!("{}: {error}", out.display()))?;
    let total: f64 = profile
        .lines()
        .find_map(|line| line.strip_prefix("summary: ").or_else(|| line.strip_prefix("totals: ")))
        .and_then(|total| total.trim().parse().ok())
        .ok_or("callgrind wrote no total")?;
    Ok(total / workload_records(name) as f64)
}
