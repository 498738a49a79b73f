//! Runs one command and measures its cost from outside: `milena-bench measure SECONDS COMMAND...`.
//!
//! It is a process of its own without another child, so that the kernel's counts for all children are those of the command.
//! It prints the command's standard output and, after it, a line of JSON with the cost.

use std::ffi::OsString;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike as _};
use serde_json::json;

use crate::options::Failure;

/// How often to check whether the command has ended: often enough for a deadline, rarely enough to cost nothing.
const LOOK: Duration = Duration::from_millis(10);

/// Runs the command, and ends it at the limit.
pub(crate) fn run(mut args: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let usage = || Failure::Usage("measure SECONDS COMMAND [ARGUMENT...]".into());
    let seconds: f64 = args.next().and_then(|text| text.to_str()?.parse().ok()).ok_or_else(usage)?;
    let program = args.next().ok_or_else(usage)?;
    let start = Instant::now();
    let spawned = Command::new(&program).args(args).stdin(Stdio::null()).spawn();
    let mut child = spawned.map_err(|error| format!("{}: {error}", program.display()))?;
    let status = wait(&mut child, start + Duration::from_secs_f64(seconds))?;
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
    // Kilobytes on Linux, bytes on macOS.
    let rss_unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    let line = json!({
        "exit": status.and_then(|status| status.code()),
        "is_timeout": status.is_none(),
        "seconds": start.elapsed().as_secs_f64(),
        "user_us": micros(used.user_time()),
        "system_us": micros(used.system_time()),
        "rss_bytes": used.max_rss() * rss_unit,
        "voluntary_switches": used.voluntary_context_switches(),
        "involuntary_switches": used.involuntary_context_switches(),
    });
    println!("{line}");
    Ok(())
}

/// How the command ended; `None` if it was killed at the limit.
fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>, String> {
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(Some(status));
        }
        if Instant::now() > deadline {
            child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
            return Ok(None);
        }
        thread::sleep(LOOK);
    }
}

fn micros(time: TimeVal) -> i64 {
    time.num_microseconds()
}
