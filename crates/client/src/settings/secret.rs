//! Where the secrets of properties come from: the text itself, the environment, a file, or what a program prints.
//!
//! ```text
//!  "env:NAME" ─────────▶ variable ──┐
//!  "file:PATH" ────────▶ file ──────┼─▶ bytes, without the last line's end ─▶ Secret
//!  "command:PROGRAM …" ▶ stdout ────┘
//! ```
//!
//! No error has a secret, nor an argument of the program, which may be one.

use std::fs::File;
use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::Secret;

/// A secret is one short text, or a private key.
const BYTES_MAX: usize = 64 << 10;
/// A program that asks a vault over the network takes seconds at most. One that waits for somebody to type would wait for ever.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a running program is looked at: std cannot wait for its end with a deadline.
const COMMAND_POLL: Duration = Duration::from_millis(2);
/// Of what a failing program writes to stderr, an error repeats as much as says why.
const EXCERPT_CHARACTERS_MAX: usize = 200;

/// A secret, from where its text says: `env:NAME` reads an environment variable, `file:PATH` a file, and `command:PROGRAM ARGS`
/// runs a program and takes what it prints. Of a file and of what is printed the last line's end is left out. Any other text is
/// the secret itself.
pub(super) fn secret(text: &str) -> Result<Secret, String> {
    if let Some(name) = text.strip_prefix("env:") {
        let value = std::env::var(name);
        return value.map(Secret::from).map_err(|error| match error {
            std::env::VarError::NotPresent => format!("the environment has no variable {name:?}"),
            std::env::VarError::NotUnicode(_) => format!("the environment variable {name:?} is not UTF-8"),
        });
    }
    if let Some(line) = text.strip_prefix("command:") {
        return printed(line, COMMAND_TIMEOUT);
    }
    let Some(path) = text.strip_prefix("file:") else { return Ok(Secret::from(text)) };
    let read = File::open(path).and_then(read_bounded);
    let bytes = read.map_err(|error| format!("the file {path:?} cannot be read: {error}"))?;
    if bytes.len() > BYTES_MAX {
        return Err(format!("the file {path:?} is longer than {BYTES_MAX} bytes"));
    }
    Ok(without_line_end(&bytes))
}

/// What `reader` has, and at most one byte more than a secret may have.
fn read_bounded(reader: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // The vector must not grow: that would leave parts of the secret in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX + 64));
    reader.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn without_line_end(bytes: &[u8]) -> Secret {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    Secret::from(bytes.strip_suffix(b"\r").unwrap_or(bytes).to_vec())
}

/// What the program of `line` prints. No shell runs it.
fn printed(line: &str, timeout: Duration) -> Result<Secret, String> {
    let words = words(line)?;
    let Some((program, arguments)) = words.split_first() else {
        return Err("command: names no program; write command:PROGRAM ARGS".into());
    };
    let wrong = |why: String| format!("the command {:?} {why}", &**program);
    let mut command = Command::new(&**program);
    command.args(arguments.iter().map(|argument| &**argument));
    // A program that asks for a password would wait for ever, and take what is meant for this one.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(|error| wrong(format!("cannot be run: {error}")))?;
    let Ended { status, stdout, stderr } = end(child, timeout).map_err(wrong)?;
    if stdout.len() > BYTES_MAX {
        return Err(wrong(format!("wrote more than {BYTES_MAX} bytes to stdout")));
    }
    if !status.success() {
        let excerpt = excerpt(&stderr, &stdout, arguments);
        // Such as "exit status: 2", or "signal: 9 (SIGKILL)".
        let status = status.to_string().replacen(": ", " ", 1);
        return Err(wrong(match excerpt.is_empty() {
            true => format!("ended with {status}"),
            false => format!("ended with {status}: {excerpt}"),
        }));
    }
    if stdout.is_empty() {
        return Err(wrong("wrote nothing to stdout".into()));
    }
    Ok(without_line_end(&stdout))
}

/// What came of a program.
struct Ended {
    status: ExitStatus,
    stdout: Zeroizing<Vec<u8>>,
    stderr: Zeroizing<Vec<u8>>,
}

/// Waits for the program's end, and ends it when `timeout` is over.
#[expect(clippy::disallowed_methods, reason = "properties are read before there is a client with a clock")]
fn end(mut child: Child, timeout: Duration) -> Result<Ended, String> {
    let until = Instant::now() + timeout;
    let late = || format!("did not end within {timeout:?}, and was ended");
    let (stdout, stderr) = (reading(child.stdout.take()), reading(child.stderr.take()));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() >= until => {
                // Both fail only if it has ended by itself.
                let _ = (child.kill(), child.wait());
                return Err(late());
            }
            Ok(None) => thread::sleep(COMMAND_POLL),
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    };
    let of = |output: Receiver<io::Result<Zeroizing<Vec<u8>>>>| {
        // A process that it has started may have the pipe, and outlive it.
        match output.recv_timeout(until.saturating_duration_since(Instant::now()).max(COMMAND_POLL)) {
            Ok(read) => read.map_err(|error| format!("has output that cannot be read: {error}")),
            Err(RecvTimeoutError::Timeout) => {
                Err("has ended, and a process that it started keeps its output open".into())
            }
            Err(RecvTimeoutError::Disconnected) => Err("has output that cannot be read".into()),
        }
    };
    Ok(Ended { status, stdout: of(stdout)?, stderr: of(stderr)? })
}

/// Reads a pipe on a thread of its own: a program that fills a pipe that nothing reads would stop.
fn reading(pipe: Option<impl Read + Send + 'static>) -> Receiver<io::Result<Zeroizing<Vec<u8>>>> {
    let (done, outcome) = sync_channel(1);
    if let Some(mut pipe) = pipe {
        let read = move || {
            let bytes = read_bounded(&mut pipe);
            // The rest is read and dropped, so that the program ends by itself and says how.
            let _ = io::copy(&mut pipe, &mut io::sink());
            let _ = done.send(bytes);
        };
        // Without a thread the sender is dropped, which the receiver notices.
        let _ = thread::Builder::new().name("milena-secret".into()).spawn(read);
    }
    outcome
}

/// The end of what a program wrote to stderr, on one line, without what it wrote to stdout, which may be the secret, and without
/// the words of its arguments, which may be secrets too.
fn excerpt(stderr: &[u8], stdout: &[u8], arguments: &[Zeroizing<String>]) -> String {
    /// A shorter word would occur by accident.
    const WORD_BYTES_MIN: usize = 4;
    let text = String::from_utf8_lossy(stderr);
    let is_blank = |character: char| character.is_control() || character.is_whitespace();
    let words: Vec<_> = text.split(is_blank).filter(|word| !word.is_empty()).collect();
    let mut text = words.join(" ");
    let stdout = String::from_utf8_lossy(stdout);
    // A program that does not like `--token=s3cr3t` may name the value only.
    let arguments = arguments.iter().flat_map(|argument| argument.split(is_blank));
    let arguments = arguments.flat_map(|word| [word, word.split_once('=').map_or("", |(_, value)| value)]);
    let mut hidden: Vec<_> = stdout.split(is_blank).chain(arguments).collect();
    hidden.retain(|word| word.len() >= WORD_BYTES_MIN);
    // A word that is a part of a longer one would leave the rest of that.
    hidden.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
    for word in hidden {
        text = text.replace(word, "***");
    }
    let length = text.chars().count();
    if length <= EXCERPT_CHARACTERS_MAX {
        return text;
    }
    let end: String = text.chars().skip(length - EXCERPT_CHARACTERS_MAX).collect();
    format!("…{end}")
}

/// The words of a command line. Blanks separate them, but within quotes of either kind. There are no escapes.
fn words(line: &str) -> Result<Vec<Zeroizing<String>>, String> {
    let mut words = Vec::new();
    let mut word: Option<Zeroizing<String>> = None;
    let mut quote = None;
    for character in line.chars() {
        match quote {
            Some(closing) if closing == character => quote = None,
            None if character == '"' || character == '\'' => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            None if character.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("command: has a quote that is not closed".into());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_where_its_text_says() {
        let path = std::env::temp_dir().join(format!("milena-secret-{}", std::process::id()));
        for (content, expected) in [
            ("hunter2", "hunter2"),
            ("hunter2\n", "hunter2"),
            ("hunter2\r\n", "hunter2"),
            ("a\nb\n\n", "a\nb\n"),
        ] {
            std::fs::write(&path, content).expect("written");
            let read = secret(&format!("file:{}", path.display())).expect("read");
            assert_eq!(read.expose(), expected.as_bytes());
        }
        std::fs::write(&path, vec![b'x'; BYTES_MAX + 1]).expect("written");
        let why = secret(&format!("file:{}", path.display())).expect_err("too long");
        assert_eq!(why, format!("the file {path:?} is longer than 65536 bytes"));
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(secret("env:PATH").expect("set").expose(), std::env::var("PATH").expect("set").as_bytes());
        assert_eq!(secret("environment:PATH").expect("itself").expose(), b"environment:PATH");
    }

    #[test]
    fn words_are_separated_by_blanks_outside_of_quotes() {
        let check = |line: &str, expected: &[&str]| {
            let words = words(line).expect("closed");
            assert_eq!(words.iter().map(|word| &***word).collect::<Vec<_>>(), expected, "{line}");
        };
        check("", &[]);
        check("  vault  read\tkafka ", &["vault", "read", "kafka"]);
        check("'a b' \"c 'd'\" e' 'f ''", &["a b", "c 'd'", "e f", ""]);
        check(r"C:\bin\vault.exe \n", &[r"C:\bin\vault.exe", r"\n"]);
        assert_eq!(words("a 'b").expect_err("open"), "command: has a quote that is not closed");
    }

    #[cfg(unix)]
    #[test]
    fn a_command_prints_the_secret_and_its_failure_says_why_without_it() {
        let check = |line: &str, expected: Result<&str, &str>| {
            let found = secret(&format!("command:{line}"));
            let found = found.map(|secret| String::from_utf8(secret.expose().to_vec()).expect("text"));
            assert_eq!(found.as_deref().map_err(|why| &**why), expected, "{line}");
        };
        check("echo hunter2", Ok("hunter2"));
        check("printf 'a b\\n\\n'", Ok("a b\n"));
        // No shell looks at the arguments.
        check("echo $HOME `id` | cat", Ok("$HOME `id` | cat"));
        check("", Err("command: names no program; write command:PROGRAM ARGS"));
        check(
            "/no/such/program --token=s3cr3t",
            Err("the command \"/no/such/program\" cannot be run: No such file or directory (os error 2)"),
        );
        check("true", Err("the command \"true\" wrote nothing to stdout"));
        check("sh -c 'exit 3'", Err("the command \"sh\" ended with exit status 3"));
        check(
            "sh -c 'echo hunter2; echo \"no  key\x07 for hunter2\" >&2; exit 1'",
            Err("the command \"sh\" ended with exit status 1: no key for ***"),
        );
        let hidden = Err("the command \"sh\" ended with exit status 1: no ***");
        check("sh -c 'echo \"no $0\" >&2; exit 1' --token=s3cr3t", hidden);
        check("sh -c 'echo \"no ${0#*=}\" >&2; exit 1' --token=s3cr3t", hidden);
        check("sh -c 'echo \"no $1\" >&2; exit 1' s3cr s3cr3t", hidden);
        check("sh -c 'kill -9 $$'", Err("the command \"sh\" ended with signal 9 (SIGKILL)"));
        let long = format!("the command \"sh\" ended with exit status 1: …{}", "x".repeat(200));
        check("sh -c 'head -c 100000 /dev/zero | tr \"\\0\" x >&2; exit 1'", Err(&long));
        check("head -c 65537 /dev/zero", Err("the command \"head\" wrote more than 65536 bytes to stdout"));
    }

    #[cfg(unix)]
    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let short = Duration::from_millis(20);
        let why = printed("sleep 600", short).expect_err("ended");
        assert_eq!(why, "the command \"sleep\" did not end within 20ms, and was ended");
        // It may not wait for somebody to type either.
        let why = printed("cat", COMMAND_TIMEOUT).expect_err("its input is empty");
        assert_eq!(why, "the command \"cat\" wrote nothing to stdout");
    }
}
