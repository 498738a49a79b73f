//! Runs the binary as a user would: as a process, with pipes, against a broker that is another such process.
//!
//! Nothing here waits without a deadline, and every process is ended by the value that owns it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests; clippy's own exception ends at test functions")]

pub mod prometheus;

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

pub const BINARY: &str = env!("CARGO_BIN_EXE_milena");

/// Longer than anything here takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// `milena broker` on free ports; killed when dropped.
pub struct Cluster {
    process: Process,
    pub bootstrap: String,
}

impl Cluster {
    pub fn start(args: &[&str]) -> Self {
        let mut all = vec!["broker", "--port", "0"];
        all.extend(args);
        let mut process = Process::spawn(&all, "");
        let bootstrap = process.stdout_line();
        assert!(bootstrap.contains(':'), "{bootstrap:?} is no address");
        Self { process, bootstrap }
    }

    /// As `kill -9` does it: nothing is flushed, nobody is told.
    pub fn kill(mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    pub fn interrupt(&self) {
        self.process.interrupt();
    }

    pub fn wait(self) -> Run {
        self.process.wait()
    }

    /// A command against this cluster.
    pub fn run(&self, args: &[&str], stdin: impl Into<Vec<u8>>) -> Run {
        self.spawn(args, stdin).wait()
    }

    /// The same, expecting success.
    pub fn ok(&self, args: &[&str], stdin: impl Into<Vec<u8>>) -> Vec<u8> {
        let run = self.run(args, stdin);
        assert_eq!(run.code, Some(0), "milena {args:?}: {}", run.stderr);
        run.stdout
    }

    pub fn spawn(&self, args: &[&str], stdin: impl Into<Vec<u8>>) -> Process {
        let mut process = self.spawn_open(args);
        process.write_and_close(stdin.into());
        process
    }

    /// The same with its stdin open: [`Process::write`] goes there.
    pub fn spawn_open(&self, args: &[&str]) -> Process {
        Process::spawn_open(&[args, &["--bootstrap", &self.bootstrap]].concat())
    }
}

/// A running `milena`; killed when dropped.
pub struct Process {
    child: Child,
    args: String,
    stdout: Option<BufReader<ChildStdout>>,
    /// The lines on its stderr, as they come; those that were looked at are kept.
    stderr: mpsc::Receiver<String>,
    seen: Vec<String>,
}

/// A `milena` that has ended.
#[derive(Debug)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Process {
    pub fn spawn(args: &[&str], stdin: impl Into<Vec<u8>>) -> Self {
        let mut process = Self::spawn_open(args);
        process.write_and_close(stdin.into());
        process
    }

    pub fn spawn_open(args: &[&str]) -> Self {
        Self::spawn_with(args, &[])
    }

    /// The same with variables of the environment.
    pub fn spawn_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start(BINARY, args, variables)
    }

    /// Another program that becomes `milena`.
    pub fn spawn_program(program: &str, args: &[&str]) -> Self {
        Self::start(program, args, &[])
    }

    fn start(program: &str, args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(program)
            .args(args)
            .env_remove("MILENA_BOOTSTRAP")
            .env_remove("MILENA_LOG")
            .env_remove("MILENA_PROFILE")
            .env_remove("MILENA_REGISTRY")
            .env("MILENA_CONFIG", "")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let lines = BufReader::new(child.stderr.take().unwrap());
        let (send, stderr) = mpsc::channel();
        // Reads on to the end, so that the process never waits for room in the pipe.
        thread::spawn(move || {
            lines.split(b'\n').map_while(Result::ok).for_each(|line| {
                drop(send.send(String::from_utf8_lossy(&line).into_owned()));
            });
        });
        Self { child, args: args.join(" "), stdout, stderr, seen: Vec::new() }
    }

    fn write_and_close(&mut self, bytes: Vec<u8>) {
        let mut stdin = self.child.stdin.take().unwrap();
        // A command that does not read its input closes the pipe, which is no concern of ours.
        thread::spawn(move || drop(stdin.write_all(&bytes)));
    }

    pub fn write(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// The next line on stdout, without its line feed.
    pub fn stdout_line(&mut self) -> String {
        let mut stdout = self.stdout.take().unwrap();
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let read = stdout.read_line(&mut line);
            drop(send.send((read.map(|_| line), stdout)));
        });
        let Ok((line, stdout)) = receive.recv_timeout(DEADLINE) else {
            panic!("milena {}: no line on stdout within {DEADLINE:?}", self.args);
        };
        self.stdout = Some(stdout);
        line.unwrap().trim_end().to_owned()
    }

    /// The next line on stderr that contains `text`.
    pub fn stderr_line_with(&mut self, text: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.stderr.recv_timeout(left) else {
                panic!("milena {}: no {text:?} on stderr: {:?}", self.args, self.seen);
            };
            self.seen.push(line.clone());
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Writes `text` to its stdin for as long as it reads there.
    pub fn write_rest(&mut self, text: String) {
        self.write_and_close(text.into_bytes());
    }

    /// Ends its stdin.
    pub fn close_stdin(&mut self) {
        self.child.stdin = None;
    }

    /// Closes our end of its stdout, as `head` does when it has seen enough.
    pub fn close_stdout(&mut self) {
        self.stdout = None;
    }

    pub fn interrupt(&self) {
        self.signal("-INT");
    }

    pub fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// The most memory it has had so far, where the system is Linux.
    pub fn resident_mib_max(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }

    pub fn wait(mut self) -> Run {
        let stdout = read_to_end(self.stdout.take());
        let until = Instant::now() + DEADLINE;
        let left = || until.saturating_duration_since(Instant::now());
        loop {
            match self.stderr.recv_timeout(left()) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => self.never_ended(),
            }
        }
        let Ok(stdout) = stdout.recv_timeout(left()) else { self.never_ended() };
        let stderr = self.seen.iter().map(|line| format!("{line}\n")).collect();
        Run { code: self.child.wait().unwrap().code(), stdout, stderr }
    }

    /// Waits for its end without reading what it writes to stdout.
    pub fn wait_unread(mut self) -> Option<i32> {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.never_ended()
    }

    fn never_ended(&self) -> ! {
        panic!("milena {}: still running after {DEADLINE:?}; stderr: {:?}", self.args, self.seen)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors when it has ended already, which is what we want.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read_to_end(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes));
        }
        drop(send.send(bytes));
    });
    receive
}

/// Runs `milena` without a cluster, with variables of the environment.
pub fn milena_with(args: &[&str], variables: &[(&str, &str)]) -> Run {
    let mut process = Process::spawn_with(args, variables);
    process.close_stdin();
    process.wait()
}

/// Takes connections and never says anything.
pub struct Silent {
    listener: TcpListener,
    pub address: String,
}

impl Silent {
    pub fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self { listener, address }
    }

    /// The next connection, which waits for an answer until it is dropped.
    pub fn accept(&self) -> TcpStream {
        self.listener.accept().unwrap().0
    }
}

/// Runs `milena` without a cluster of ours, with this on its stdin.
pub fn milena_in(args: &[&str], stdin: &str) -> Run {
    Process::spawn(args, stdin).wait()
}

/// Runs `milena` without a cluster.
pub fn milena(args: &[&str]) -> Run {
    Process::spawn(args, "").wait()
}

/// `run` failed with `code`, said `says` on stderr in few lines, and wrote nothing to stdout.
#[track_caller]
pub fn assert_fails(run: &Run, code: i32, says: &str) {
    assert_eq!(run.code, Some(code), "{}", run.stderr);
    assert!(run.stderr.contains(says), "{says:?} is not in: {}", run.stderr);
    assert!(run.stdout.is_empty(), "{:?}", String::from_utf8_lossy(&run.stdout));
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}
