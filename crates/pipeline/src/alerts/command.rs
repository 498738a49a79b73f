//! Runs a program for each alert.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::{Alert, Delivering, Sink, body};
use crate::Failure;

/// Runs a program for each alert that opens or is resolved.
///
/// It gets the alert as JSON on its standard input, and as environment variables: `MILENA_ALERT_STATUS` (`firing` or
/// `resolved`), `MILENA_ALERT_KEY`, `MILENA_ALERT_NAME`, `MILENA_ALERT_PIPELINE`, `MILENA_ALERT_SEVERITY` and
/// `MILENA_ALERT_SUMMARY`. It inherits the other variables and the working directory. What it writes is thrown away. It runs
/// without a shell, so that nothing in an alert is a command.
///
/// ```
/// use milena_pipeline::alerts::Command;
///
/// let command = Command::new("/usr/local/bin/page").argument("--team").argument("billing");
/// # let _ = command;
/// ```
///
/// An exit status other than 0 is a failure: the alert is delivered again.
#[derive(Clone)]
pub struct Command {
    program: OsString,
    arguments: Vec<OsString>,
    time_limit: Duration,
}

impl Command {
    /// The program, by its path or by a name that is looked for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let program = program.as_ref().to_owned();
        Self { program, arguments: Vec::new(), time_limit: Duration::from_secs(10) }
    }

    /// One more argument.
    pub fn argument(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// How long it may run; then it is killed, and the delivery has failed. Programs that it has started itself are not killed.
    /// Default 10 s.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    async fn run(&self, alert: &Alert) -> Result<(), Failure> {
        let program = self.program.display();
        let variables = [
            ("MILENA_ALERT_STATUS", alert.status()),
            ("MILENA_ALERT_KEY", &alert.key()),
            ("MILENA_ALERT_NAME", &alert.name),
            ("MILENA_ALERT_PIPELINE", &alert.pipeline),
            ("MILENA_ALERT_SEVERITY", alert.severity.as_str()),
            ("MILENA_ALERT_SUMMARY", &alert.summary),
        ];
        let child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            // No text in a variable can have a null byte.
            .envs(variables.map(|(name, value)| (name, value.replace('\0', " "))))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        let mut child =
            child.map_err(|error| Failure::retriable(format!("{program} cannot be run: {error}")))?;
        let mut input = child.stdin.take();
        let run = async {
            if let Some(input) = &mut input {
                // A program that does not read it closes the pipe, which is no failure.
                let _ = input.write_all(format!("{}\n", body::plain(alert)).as_bytes()).await;
            }
            drop(input.take());
            child.wait().await
        };
        match tokio::time::timeout(self.time_limit, run).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::retriable(format!("{program} ended with {status}"))),
            Ok(Err(error)) => Err(Failure::retriable(format!("{program} cannot be waited for: {error}"))),
            Err(_) => {
                // It may have ended in this moment.
                let _ = child.kill().await;
                let limit = self.time_limit;
                Err(Failure::retriable(format!("{program} ran for longer than {limit:?}, and was killed")))
            }
        }
    }
}

impl Sink for Command {
    fn name(&self) -> String {
        self.program.display().to_string()
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivering<'a> {
        Box::pin(self.run(alert))
    }
}

/// Arguments may have secrets in them.
impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("program", &self.program).finish_non_exhaustive()
    }
}
