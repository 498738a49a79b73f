//! Cuts the bytes from a socket into frames. The buffer grows with the bytes that arrive, never with a size that the
//! peer announces.
//!
//! ```text
//!  [ size │ frame ][ size │ frame ][ size │ fra░░░░░░ ]      a frame is split off, not copied
//! ```
//!
//! When a frame was handled, its part of the buffer is used again. So a connection that sends large requests one after
//! another allocates once. It must not know sockets or time.

use std::ops::RangeInclusive;

use bytes::{Buf, Bytes, BytesMut};

use super::hangup::{self, Hangup};

/// The room for reading while the size of the next frame is not known.
const READ_BYTES: usize = 8 * 1024;

/// The most bytes of its buffer that an idle connection keeps.
const IDLE_BYTES: usize = READ_BYTES;

/// The bytes that arrived on one connection and were not handled yet.
#[derive(Debug)]
pub(super) struct Intake {
    buffer: BytesMut,
    /// The least size of the buffer's allocation, whichever part of it the buffer uses now.
    allocated: usize,
    /// The bytes that a frame may have.
    frame_bytes: RangeInclusive<usize>,
}

impl Intake {
    pub(super) fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), allocated: 0, frame_bytes: HEADER_BYTES_MIN..=frame_bytes_max }
    }

    /// Has the next frames this many bytes.
    pub(super) fn limit(&mut self, frame_bytes: RangeInclusive<usize>) {
        self.frame_bytes = frame_bytes;
    }

    /// The next whole frame, without its size.
    pub(super) fn next_frame(&mut self) -> Result<Option<Bytes>, Hangup> {
        let Some(size) = self.frame_size()? else { return Ok(None) };
        if self.buffer.len() < 4 + size {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    /// The number of bytes of the frame that is not whole yet.
    pub(super) fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Whether more bytes fit without growing.
    pub(super) fn has_room(&self) -> bool {
        self.buffer.capacity() > self.buffer.len()
    }

    /// The size of the buffer for the next read: twice the bytes that arrived, or the whole frame if that is less.
    pub(super) fn wanted(&self) -> usize {
        let arrived = self.buffer.len();
        let doubled = (arrived * 2).max(READ_BYTES);
        match self.frame_size() {
            Ok(Some(size)) => doubled.min(4 + size).max(arrived + 1),
            _ => arrived + READ_BYTES,
        }
    }

    /// The size that the frame announces which is arriving; 0 until it has arrived itself.
    pub(super) fn announced(&self) -> usize {
        self.frame_size().ok().flatten().unwrap_or_default()
    }

    /// The memory that the buffer holds.
    pub(super) fn allocated(&self) -> usize {
        self.allocated
    }

    /// Grows the buffer to `wanted` bytes in all.
    pub(super) fn grow(&mut self, wanted: usize) {
        let more = wanted.saturating_sub(self.buffer.len());
        self.buffer.reserve(more);
        self.allocated = self.allocated.max(self.buffer.capacity());
    }

    /// The buffer, for reading the next bytes into it.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Gives large memory back when nothing is pending.
    pub(super) fn shrink(&mut self) {
        if self.buffer.is_empty() && self.allocated > IDLE_BYTES {
            self.buffer = BytesMut::new();
            self.allocated = 0;
        }
    }

    /// Whether [`shrink`](Self::shrink) would give anything back.
    pub(super) fn is_oversized(&self) -> bool {
        self.allocated > IDLE_BYTES
    }

    /// The size of the next frame, when it has arrived.
    fn frame_size(&self) -> Result<Option<usize>, Hangup> {
        let Some(&first) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let announced = i32::from_be_bytes(first);
        match usize::try_from(announced) {
            Ok(size) if self.frame_bytes.contains(&size) => Ok(Some(size)),
            _ => Err(hangup::recognise(first).map_or(Hangup::FrameSize(announced), Hangup::Stranger)),
        }
    }
}

/// API key, version and correlation id. No request is shorter.
pub(super) const HEADER_BYTES_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize) -> Vec<u8> {
        let mut frame = (bytes as i32).to_be_bytes().to_vec();
        frame.extend((0..bytes).map(|n| n as u8));
        frame
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_come_in() {
        let stream = [frame(8), frame(5000), frame(77), frame(100_000)].concat();
        for step in [1, 3, 4, 8191, 8192, 60_000, 200_000] {
            let mut intake = Intake::new(1 << 20);
            let mut sizes = Vec::new();
            let mut rest = &stream[..];
            while !rest.is_empty() {
                intake.grow(intake.wanted());
                let room = intake.buffer.capacity() - intake.buffer.len();
                let count = step.min(rest.len()).min(room);
                intake.buffer().extend_from_slice(&rest[..count]);
                rest = &rest[count..];
                while let Some(frame) = intake.next_frame().expect("valid") {
                    assert!(frame.iter().enumerate().all(|(n, &byte)| byte == n as u8));
                    sizes.push(frame.len());
                }
            }
            assert_eq!(sizes, [8, 5000, 77, 100_000], "step {step}");
        }
    }

    #[test]
    fn memory_follows_what_arrived_and_not_what_was_announced() {
        let mut intake = Intake::new(100 << 20);
        intake.buffer().extend_from_slice(&(99_i32 << 20).to_be_bytes());
        for arrived in [4, 10_000, 100_000, 1_000_000] {
            let more = arrived - intake.pending();
            intake.buffer().extend_from_slice(&vec![0; more]);
            intake.grow(intake.wanted());
            assert!(intake.allocated() <= 4 * arrived.max(READ_BYTES), "{arrived}: {}", intake.allocated());
        }
    }

    #[test]
    fn a_buffer_is_used_again_once_its_frame_is_gone_and_given_back_when_idle() {
        let mut intake = Intake::new(1 << 20);
        let raw = frame(500_000);
        for _ in 0..5 {
            intake.grow(raw.len());
            intake.buffer().extend_from_slice(&raw);
            assert_eq!(intake.next_frame().expect("valid").expect("whole").len(), 500_000);
            assert!(intake.allocated() < 1_100_000, "{}", intake.allocated());
        }
        assert!(intake.is_oversized());
        intake.shrink();
        assert_eq!(intake.allocated(), 0);
    }

    #[test]
    fn what_is_no_frame_is_named() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1"[..], "the peer speaks HTTP, not Kafka's protocol"),
            (&[0x16, 3, 1, 2, 0, 1], "the peer speaks TLS, not Kafka's protocol"),
            (&[0x7f, 0xff, 0xff, 0xff], "a frame announces 2147483647 bytes"),
            (&[0xff, 0xff, 0xff, 0xff], "a frame announces -1 bytes"),
            (&[0, 0, 0, 0], "a frame announces 0 bytes"),
        ] {
            let mut intake = Intake::new(100 << 20);
            intake.buffer().extend_from_slice(bytes);
            assert_eq!(intake.next_frame().expect_err("no frame").to_string(), expected);
        }
    }
}
