//! Writes data to stdout in large writes. A closed pipe is a normal end.

use std::fmt;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::exit::Failure;

/// Buffered data for stdout. A blocking thread writes it, so that Ctrl-C works even if the reader of the pipe does not
/// read.
pub(crate) struct Output {
    buffer: Vec<u8>,
    /// The write in progress, which gives its buffer back.
    writing: Option<JoinHandle<Written>>,
}

/// The written buffer, and the result of writing it.
type Written = (Vec<u8>, Result<Reader, Failure>);

/// Whether stdout still has a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reader {
    Listening,
    /// The reader closed the pipe, as in `milena consume | head`: the command ends with success.
    Gone,
}

/// The size of one write, about.
const WRITE_BYTES: usize = 256 * 1024;

impl Output {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::with_capacity(WRITE_BYTES), writing: None }
    }

    /// The buffer to append to; [`Output::flush_when_full`] or [`Output::flush`] follow.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Whether there is enough for a large write.
    pub(crate) fn is_full(&self) -> bool {
        self.buffer.len() >= WRITE_BYTES
    }

    /// Cancel safe, as [`Output::flush`] is.
    pub(crate) async fn flush_when_full(&mut self) -> Result<Reader, Failure> {
        if self.is_full() { self.flush().await } else { Ok(Reader::Listening) }
    }

    /// Writes the buffer. Cancel safe: a write that was started goes on, and the next flush waits for it.
    pub(crate) async fn flush(&mut self) -> Result<Reader, Failure> {
        if self.finish().await? == Reader::Gone {
            return Ok(Reader::Gone);
        }
        if self.buffer.is_empty() {
            return Ok(Reader::Listening);
        }
        let mut bytes = std::mem::take(&mut self.buffer);
        self.writing = Some(spawn_blocking(move || {
            let written = write_to(&mut io::stdout().lock(), &bytes);
            bytes.clear();
            (bytes, written)
        }));
        self.finish().await
    }

    /// Waits for the write in progress.
    async fn finish(&mut self) -> Result<Reader, Failure> {
        let Some(writing) = &mut self.writing else { return Ok(Reader::Listening) };
        let ended = writing.await;
        self.writing = None;
        let (buffer, written) = ended.map_err(|e| Failure::failed(format!("cannot write to stdout: {e}")))?;
        if self.buffer.capacity() == 0 {
            self.buffer = buffer;
        }
        written
    }
}

/// Writes a line to stderr. If that fails, the exit code is all that is left to report.
pub(crate) fn tell(line: impl fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// Writes `text` to stdout at once.
pub(crate) fn print(text: &str) -> Result<Reader, Failure> {
    write_to(&mut io::stdout().lock(), text.as_bytes())
}

/// Writes `text` to stdout at once, whether or not somebody reads it.
pub(crate) fn write_out(text: &str) -> Result<(), Failure> {
    match print(text)? {
        Reader::Listening | Reader::Gone => Ok(()),
    }
}

/// `value` as JSON on one line.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|e| Failure::failed(e.to_string()))
}

fn write_to(out: &mut impl Write, bytes: &[u8]) -> Result<Reader, Failure> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(Reader::Listening),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_is_an_end_and_a_full_disk_an_error() {
        assert_eq!(write_to(&mut Broken(ErrorKind::BrokenPipe), b"x").unwrap(), Reader::Gone);
        assert!(write_to(&mut Broken(ErrorKind::StorageFull), b"x").is_err());
        assert_eq!(write_to(&mut Vec::new(), b"x").unwrap(), Reader::Listening);
    }
}
