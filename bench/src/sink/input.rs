//! Reads requests. Heads are read; the kernel drops the bytes that are not needed, without a copy.

use std::io::{self, Read};
use std::net::TcpStream;

use rustix::net::RecvFlags;

/// The source of a frame's bytes.
pub(super) trait Input {
    /// Fills `buffer`.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()>;

    /// Drops bytes.
    fn skip(&mut self, bytes: usize) -> io::Result<()>;
}

/// A socket, read through a small buffer.
pub(super) struct Socket {
    stream: TcpStream,
    buffer: Box<[u8]>,
    at: usize,
    end: usize,
    /// The address for dropped bytes, which the kernel does not write to.
    nowhere: Box<[u8]>,
}

/// Enough for any head. With more, records after the head would be copied for nothing.
const BUFFER_BYTES: usize = 4096;

const DROPPED_BYTES_MAX: usize = 4 << 20;

impl Socket {
    pub(super) fn new(stream: TcpStream) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Self { stream, buffer, at: 0, end: 0, nowhere: vec![0; DROPPED_BYTES_MAX].into_boxed_slice() }
    }

    /// The next frame's size; `None` if the peer has closed the connection between frames.
    pub(super) fn frame_size(&mut self) -> io::Result<Option<usize>> {
        if self.at == self.end && !self.read_more()? {
            return Ok(None);
        }
        let mut size = [0; 4];
        self.fill(&mut size)?;
        let size = u32::from_be_bytes(size) as usize;
        if size > FRAME_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {size} bytes")));
        }
        Ok(Some(size))
    }

    /// Reads the bytes that have arrived; returns false if the peer has closed the connection.
    fn read_more(&mut self) -> io::Result<bool> {
        self.at = 0;
        self.end = 0;
        self.end = loop {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        Ok(self.end > 0)
    }
}

/// As brokers have it by default (`socket.request.max.bytes`).
const FRAME_BYTES_MAX: usize = 100 << 20;

impl Input for Socket {
    fn fill(&mut self, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            if self.at == self.end {
                if buffer.len() >= self.buffer.len() {
                    return self.stream.read_exact(buffer);
                }
                if !self.read_more()? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            let count = buffer.len().min(self.end - self.at);
            buffer[..count].copy_from_slice(&self.buffer[self.at..self.at + count]);
            self.at += count;
            buffer = &mut buffer[count..];
        }
        Ok(())
    }

    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        let buffered = bytes.min(self.end - self.at);
        self.at += buffered;
        let mut left = bytes - buffered;
        // With MSG_TRUNC, Linux drops what TCP received; elsewhere it is copied.
        let flags = if cfg!(target_os = "linux") { RecvFlags::TRUNC } else { RecvFlags::empty() };
        while left > 0 {
            let count = left.min(self.nowhere.len());
            match rustix::net::recv(&self.stream, &mut self.nowhere[..count], flags | RecvFlags::WAITALL) {
                Ok((_, 0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok((_, dropped)) => left -= dropped.min(left),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// A request frame, read field by field, never past its end.
pub(super) struct Frame<'a, I> {
    input: &'a mut I,
    left: usize,
    /// Whether lengths are varints (KIP-482).
    pub(super) is_flexible: bool,
}

impl<'a, I: Input> Frame<'a, I> {
    pub(super) fn new(input: &'a mut I, bytes: usize) -> Self {
        Self { input, left: bytes, is_flexible: false }
    }

    pub(super) fn left(&self) -> usize {
        self.left
    }

    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.take(buffer.len())?;
        self.input.fill(buffer)
    }

    pub(super) fn skip(&mut self, bytes: usize) -> io::Result<()> {
        self.take(bytes)?;
        self.input.skip(bytes)
    }

    pub(super) fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.vec(self.left)
    }

    pub(super) fn vec(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        self.take(bytes)?;
        let mut buffer = vec![0; bytes];
        self.input.fill(&mut buffer)?;
        Ok(buffer)
    }

    pub(super) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(super) fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// The length of an array or of bytes; `None` is null.
    pub(super) fn length(&mut self) -> io::Result<Option<usize>> {
        if self.is_flexible { self.compact_length() } else { Ok(usize::try_from(self.i32()?).ok()) }
    }

    /// The length of a string; `None` is null.
    pub(super) fn string_length(&mut self) -> io::Result<Option<usize>> {
        if self.is_flexible { self.compact_length() } else { Ok(usize::try_from(self.i16()?).ok()) }
    }

    /// Drops the tagged fields of a flexible struct.
    pub(super) fn skip_tags(&mut self) -> io::Result<()> {
        if !self.is_flexible {
            return Ok(());
        }
        for _ in 0..self.varint()? {
            self.varint()?;
            let bytes = self.varint()? as usize;
            self.skip(bytes)?;
        }
        Ok(())
    }

    fn compact_length(&mut self) -> io::Result<Option<usize>> {
        Ok((self.varint()? as usize).checked_sub(1))
    }

    fn varint(&mut self) -> io::Result<u32> {
        let mut value = 0;
        for shift in (0..32).step_by(7) {
            let [byte] = self.array()?;
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(invalid("a varint is too long"))
    }

    fn take(&mut self, bytes: usize) -> io::Result<()> {
        self.left = self.left.checked_sub(bytes).ok_or_else(|| invalid("a field reaches past its frame"))?;
        Ok(())
    }
}

pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
impl Input for &[u8] {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact(buffer)
    }

    fn skip(&mut self, bytes: usize) -> io::Result<()> {
        *self = self.get(bytes..).ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(())
    }
}
