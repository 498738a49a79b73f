//! Processes: running one to its end with a deadline, and recognising one by its id. Knows nothing of Kafka.

use std::io::{Read, Write as _};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

/// Runs `command` to its end, feeds it `stdin`, and gathers what it writes. Killed at the deadline.
///
/// Without `stdin` the command's standard input stays open and empty until it ends, so that a command tied to its
/// input (`Tether.java`) lives as long as we do and no longer.
///
/// # Errors
/// The command does not start, or has not ended by the deadline.
pub fn run(mut command: Command, stdin: Option<&[u8]>, deadline: Duration) -> anyhow::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} does not start"))?;
    let input = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stdout = scope.spawn(move || read_all(stdout));
        let stderr = scope.spawn(move || read_all(stderr));
        let feed = scope.spawn(move || match (stdin, input) {
            (Some(bytes), Some(mut pipe)) => {
                // A command that ends before it read everything is judged by its exit status.
                let _ = pipe.write_all(bytes);
                None
            }
            (_, pipe) => pipe,
        });
        let status = wait(&mut child, deadline);
        if status.is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(feed.join());
        let joined = |reader: thread::ScopedJoinHandle<'_, Vec<u8>>| reader.join().unwrap_or_default();
        let (stdout, stderr) = (joined(stdout), joined(stderr));
        match status {
            Ok(status) => Ok(Output { status, stdout, stderr }),
            Err(error) => bail!(
                "{program}: {error}; it wrote\n{}{}",
                String::from_utf8_lossy(&stdout),
                String::from_utf8_lossy(&stderr)
            ),
        }
    })
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // Return what could be read.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// Waits until a child process has ended by itself.
///
/// # Errors
/// It has not ended by the deadline.
pub fn wait(child: &mut Child, deadline: Duration) -> anyhow::Result<std::process::ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if started.elapsed() > deadline {
            bail!("not finished after {} s", deadline.as_secs());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether `program` is found on the path.
#[must_use]
pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether `pid` is a live process whose command line has `mark` in it. The mark is the path of a file that only our
/// processes are started with: process ids are used again, such a path is not.
#[must_use]
pub fn is_ours(pid: u32, mark: &str) -> bool {
    command_line(pid).is_some_and(|line| line.contains(mark))
}

/// Sends a signal to a child process of this one, which has its id until it is waited for.
///
/// # Errors
/// There is no such process.
pub fn signal(pid: u32, signal: rustix::process::Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("no process id")?;
    Ok(rustix::process::kill_process(pid, signal)?)
}

/// Ends a process that [`is_ours`], and waits until it is gone.
///
/// # Errors
/// It is still there after five seconds.
pub fn kill_ours(pid: u32, mark: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    while is_ours(pid, mark) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended between the check and the call, which is fine.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        if started.elapsed() > Duration::from_secs(5) {
            bail!("process {pid} does not end");
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Arguments joined by spaces; nothing for a process that is gone or a zombie.
fn command_line(pid: u32) -> Option<String> {
    let bytes = if std::path::Path::new("/proc/self/cmdline").exists() {
        std::fs::read(format!("/proc/{pid}/cmdline")).ok()?
    } else {
        Command::new("ps").args(["-o", "command=", "-p", &pid.to_string()]).output().ok()?.stdout
    };
    let line: Vec<u8> = bytes.iter().map(|byte| if *byte == 0 { b' ' } else { *byte }).collect();
    (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let output = run(Command::new("cat"), Some(b"letters"), Duration::from_secs(10)).unwrap();
        assert_eq!(output.stdout, b"letters");
    }

    #[test]
    fn a_command_that_does_not_end_is_killed_at_the_deadline() {
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let error = run(sleep, None, Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("not finished"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_exist_is_named() {
        let error = run(Command::new("no-such-program"), None, Duration::from_secs(1)).unwrap_err();
        assert!(error.to_string().contains("no-such-program"), "{error}");
    }

    #[test]
    fn programs_are_found_on_the_path() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program"));
    }

    #[test]
    fn only_a_process_with_our_mark_is_ended() {
        let mut sleep = Command::new("sleep");
        let mut child = sleep.arg("60.125").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Between exec and the first instruction the command line is empty for a moment.
        let started = Instant::now();
        while !is_ours(child.id(), "60.125") {
            assert!(started.elapsed() < Duration::from_secs(5), "never recognised");
        }
        assert!(!is_ours(child.id(), "another mark"));
        kill_ours(child.id(), "another mark").unwrap();
        assert!(child.try_wait().unwrap().is_none(), "it was not ours to end");
        kill_ours(child.id(), "60.125").unwrap();
        assert!(!child.wait().unwrap().success());
    }
}
