//! Where data goes: stdout, in large writes, with a closed pipe as a normal end.

use std::io::{self, ErrorKind, Write};

use crate::exit::Failure;

/// Data on its way to stdout.
pub(crate) struct Output {
    buffer: Vec<u8>,
}

/// Whether anybody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reader {
    Listening,
    /// `milena consume | head` has seen enough: the command ends, quietly and well.
    Gone,
}

/// One write holds about this much.
const WRITE_BYTES: usize = 256 * 1024;

impl Output {
    pub(crate) fn new() -> Self {
        Self { buffer: Vec::with_capacity(WRITE_BYTES) }
    }

    /// The buffer to append to; [`Output::flush_when_full`] or [`Output::flush`] follow.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    pub(crate) fn flush_when_full(&mut self) -> Result<Reader, Failure> {
        if self.buffer.len() < WRITE_BYTES { Ok(Reader::Listening) } else { self.flush() }
    }

    pub(crate) fn flush(&mut self) -> Result<Reader, Failure> {
        let written = write_to(&mut io::stdout().lock(), &self.buffer);
        self.buffer.clear();
        written
    }
}

/// Writes `text` to stdout at once.
pub(crate) fn print(text: &str) -> Result<Reader, Failure> {
    write_to(&mut io::stdout().lock(), text.as_bytes())
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
