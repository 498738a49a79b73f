//! Where a command takes a password from: a variable, a file, a program, stdin, or somebody who types it. Never an argument,
//! which every list of processes shows.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use milena::{Secret, read_secret};
use tokio::task::spawn_blocking;

use crate::exit::Failure;
use crate::output::tell;

/// What `--help` says of the option.
pub(crate) const HELP: &str = "\
The password comes from --password env:NAME, file:PATH or command:PROGRAM, from stdin with --password -, or else from
the terminal, which does not show it. It cannot be an argument, because every list of processes shows arguments. The
cluster never sees it: it is salted and hashed here.";

/// A password is one line.
const BYTES_MAX: u64 = 4096;

/// The password from `source`, or from whoever is asked.
pub(crate) async fn password(source: Option<&str>, user: &str) -> Result<Secret, Failure> {
    let secret = match source {
        Some("-") => from_stdin().await?,
        Some(source) => {
            let source = source.to_owned();
            let read = spawn_blocking(move || from_source("--password", &source, ", or - for stdin")).await;
            read.map_err(|error| Failure::failed(error.to_string()))??
        }
        None if io::stdin().is_terminal() && io::stderr().is_terminal() => typed(user).await?,
        None => from_stdin().await?,
    };
    if secret.expose().is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    Ok(secret)
}

/// A secret from where the value of an option says. What else is written there is refused. It blocks while it reads. `or` is what
/// the option may be besides, for the error.
pub(crate) fn from_source(option: &str, source: &str, or: &str) -> Result<Secret, Failure> {
    if SOURCES.iter().any(|prefix| source.starts_with(prefix)) {
        return Ok(read_secret(source)?);
    }
    // It may be a password, so it is not repeated.
    let what = format!("{option} is env:NAME, file:PATH or command:PROGRAM{or}");
    Err(Failure::usage(what).hint("A password as an argument is shown by every list of processes."))
}

/// How a source begins.
const SOURCES: [&str; 3] = ["env:", "file:", "command:"];

/// All of stdin, without the last line's end.
async fn from_stdin() -> Result<Secret, Failure> {
    let read = spawn_blocking(|| {
        let mut bytes = Vec::with_capacity(BYTES_MAX as usize + 1);
        io::stdin().lock().take(BYTES_MAX + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let read = read.await.map_err(|error| Failure::failed(error.to_string()))?;
    let bytes =
        read.map_err(|error| Failure::failed(format!("cannot read the password from stdin: {error}")))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Failure::usage(format!("the password on stdin is longer than {BYTES_MAX} bytes")));
    }
    Ok(without_line_end(bytes))
}

fn without_line_end(mut bytes: Vec<u8>) -> Secret {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    Secret::from(bytes)
}

/// What somebody types, twice, so that a slip of the finger locks nobody out.
async fn typed(user: &str) -> Result<Secret, Failure> {
    // It is restored when this future is dropped by Ctrl-C, too.
    let _hidden = Hidden::begin()?;
    let first = line(format!("Password for {user}: ")).await?;
    let again = line("The same again: ".to_owned()).await?;
    if first != again {
        return Err(Failure::usage("the two passwords differ; nothing was changed"));
    }
    Ok(first)
}

/// Asks for one line.
async fn line(prompt: String) -> Result<Secret, Failure> {
    let read = spawn_blocking(move || {
        let _ = write!(io::stderr(), "{prompt}");
        let _ = io::stderr().flush();
        let mut bytes = Vec::with_capacity(BYTES_MAX as usize);
        io::stdin().lock().take(BYTES_MAX).read_until(b'\n', &mut bytes).map(|_| bytes)
    });
    let read = read.await.map_err(|error| Failure::failed(error.to_string()))?;
    // The line's end that was typed is not shown.
    tell("");
    let bytes = read.map_err(|error| Failure::failed(format!("cannot read from the terminal: {error}")))?;
    Ok(without_line_end(bytes))
}

/// While this lives, the terminal does not show what is typed.
struct Hidden {
    #[cfg(unix)]
    before: rustix::termios::Termios,
}

#[cfg(unix)]
impl Hidden {
    fn begin() -> Result<Self, Failure> {
        use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

        let failed = |error| Failure::failed(format!("the terminal cannot hide what is typed: {error}"));
        let before = tcgetattr(io::stdin()).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden).map_err(failed)?;
        Ok(Self { before })
    }
}

#[cfg(unix)]
impl Drop for Hidden {
    fn drop(&mut self) {
        let now = rustix::termios::OptionalActions::Now;
        let _ = rustix::termios::tcsetattr(io::stdin(), now, &self.before);
    }
}

#[cfg(not(unix))]
impl Hidden {
    fn begin() -> Result<Self, Failure> {
        let what = "this terminal cannot hide what is typed";
        Err(Failure::usage(what).hint("Give the password with --password env:NAME, file:PATH or -."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_no_argument_and_is_not_repeated() {
        let failure = password(Some("hunter2"), "alice").await.expect_err("refused").to_string();
        assert!(failure.contains("env:NAME") && !failure.contains("hunter2"), "{failure}");
        let failure = password(Some("env:MILENA_NO_SUCH_VARIABLE"), "alice").await.expect_err("not set");
        assert!(failure.to_string().contains("MILENA_NO_SUCH_VARIABLE"), "{failure}");
    }

    #[test]
    fn the_last_lines_end_is_no_part_of_it() {
        for (text, expected) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a \n\n", "a \n"), ("\n", "")] {
            assert_eq!(without_line_end(text.into()).expose(), expected.as_bytes());
        }
    }
}
