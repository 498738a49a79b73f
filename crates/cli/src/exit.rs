//! How a command ends: the exit codes that scripts may rely on, and the one error type of this crate.
//!
//! A [`Failure`] has one sentence for a person (what was tried, what went wrong), an optional second sentence (what to
//! do), and a code for a script. It has no backtrace and no chain of causes: the sentence names the causes.

use std::fmt;
use std::process::ExitCode;

use milena::{ErrorCode, ErrorKind, Fault};

/// The exit codes. Part of the command line's contract: documented in `--help`, tested, never renumbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A failure for which there is no other code.
    Failed = 1,
    /// The command line or the input was wrong; nothing was done.
    Usage = 2,
    /// Some of the work was done and some was not; the message counts both parts.
    Partial = 3,
    /// The topic, partition, offset, group, schema or file does not exist.
    NotFound = 4,
    /// The broker refused authentication or authorization.
    Auth = 5,
    /// The cluster did not answer in time, or cannot be reached.
    Unreachable = 6,
    /// A check found a fault.
    CheckFailed = 7,
    /// Ctrl-C or SIGTERM ended the command.
    Interrupted = 130,
}

/// The table of `milena --help`.
pub(crate) const HELP: &str = "\
Exit codes:
    0  done
    1  failed (doctor: a check failed)
    2  wrong usage or wrong input; nothing was done
    3  partly done; the message counts both parts
    4  topic, partition, offset, group, schema or file not found
    5  authentication or authorization refused
    6  timeout, or the cluster cannot be reached
    7  a check failed (demo: a record was lost, doubled, changed or out of order; schema: it is not compatible)
  130  interrupted (Ctrl-C), or terminated (SIGTERM)

Data goes to stdout, everything else to stderr. Progress is shown on a terminal only; NO_COLOR is respected.
MILENA_LOG=off|error|warn|info|debug chooses what is logged to stderr (default: warn).";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(Exit::NotFound, message)
    }

    /// The command was ended by a signal. The user sent it, so there is no message.
    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "")
    }

    /// Whether there is no message.
    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty() && self.hint.is_none()
    }

    /// Adds what the user can do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Puts a place in the input before the message.
    pub(crate) fn at(mut self, place: &str) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub(crate) fn with_exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hint {
            Some(hint) if self.message.is_empty() => f.write_str(hint),
            Some(hint) => write!(f, "{}\n  {hint}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl From<milena::Error> for Failure {
    /// The client's error message, with the exit code for its cause.
    fn from(error: milena::Error) -> Self {
        let exit = match error.code() {
            // Not by kind: a record whose delivery timed out because its topic is missing has the kind of the timeout.
            Some(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::GROUP_ID_NOT_FOUND
                | ErrorCode::OFFSET_OUT_OF_RANGE,
            ) => Exit::NotFound,
            // The group is in a state that passes: it was asked properly.
            Some(ErrorCode::NON_EMPTY_GROUP | ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC) => Exit::Failed,
            code => match (error.kind(), error.fault()) {
                (ErrorKind::Authorization | ErrorKind::Authentication, _) => Exit::Auth,
                (ErrorKind::InvalidInput, _) => Exit::Usage,
                // A broker that refuses something else of the caller's, such as a topic that exists, was asked properly.
                (_, Fault::Caller) if code.is_none() => Exit::Usage,
                (_, Fault::Network) => Exit::Unreachable,
                _ => Exit::Failed,
            },
        };
        Self::new(exit, error.to_string())
    }
}

/// One result for several things, such as topics: the message of every failure, an exit code that says whether all or only some failed, and
/// the things that succeeded.
pub(crate) fn summary(done: &str, results: Vec<(String, Result<(), Failure>)>) -> Result<(), Failure> {
    let count = results.len();
    let (mut names, mut failures) = (Vec::new(), Vec::new());
    for (name, result) in results {
        match result {
            Ok(()) => names.push(name),
            Err(failure) => failures.push(failure),
        }
    }
    let Some(first) = failures.first() else { return Ok(()) };
    let exit = if names.is_empty() { first.exit() } else { Exit::Partial };
    let sentences: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let failure = Failure::new(exit, sentences.join("\n       "));
    if count == 1 {
        return Err(failure);
    }
    let these = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
    Err(failure.hint(format!("{} of {count} {done}{these}.", names.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_in_the_help() {
        let codes = [
            Exit::Failed,
            Exit::Usage,
            Exit::Partial,
            Exit::NotFound,
            Exit::Auth,
            Exit::Unreachable,
            Exit::CheckFailed,
            Exit::Interrupted,
        ];
        for exit in codes {
            let line = format!("{:>5}  ", exit as u8);
            assert!(HELP.lines().any(|l| l.starts_with(&line)), "{exit:?} is missing");
        }
    }

    #[test]
    fn a_hint_follows_on_its_own_line() {
        let failure = Failure::not_found("topic x does not exist").hint("Create it first.");
        assert_eq!(failure.to_string(), "topic x does not exist\n  Create it first.");
        assert_eq!(failure.exit(), Exit::NotFound);
    }
}
