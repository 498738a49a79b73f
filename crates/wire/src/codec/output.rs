//! The output of a decompressing codec: a vector that grows with the output and never exceeds its limit.
//!
//! A codec asks for room, fills it and says how much it filled. A size that its input *announces* is only a hint, limited to what
//! an input of that length could produce, so that a small hostile batch cannot get a large buffer.

use super::ratio::Ratio;
use crate::pool::Pool;
use crate::{DecodeError, DecodeReason};

/// A vector to decompress into.
///
/// Safe Rust writes only to initialised memory, and initialising it costs a tenth of lz4's time. So the vector's length is the
/// number of initialised bytes, from this use or an earlier one, and becomes the number of written bytes only at the end.
#[derive(Debug)]
pub(crate) struct Output<'a> {
    buffer: &'a mut Vec<u8>,
    /// The number of written bytes; `buffer[filled..]` is room.
    filled: usize,
    limit: usize,
    /// The probable size of content that does not announce it.
    ratio: Ratio,
    /// The pool for larger memory; without it, the allocator.
    pool: Option<&'a Pool>,
}

/// The first room if the size cannot be estimated.
const ROOM_BYTES_MIN: usize = 4096;

impl<'a> Output<'a> {
    /// An output of at most `limit` bytes that replaces the content of `buffer`.
    pub(crate) fn new(buffer: &'a mut Vec<u8>, limit: usize, ratio: Ratio, pool: Option<&'a Pool>) -> Self {
        Self { buffer, filled: 0, limit, ratio, pool }
    }

    /// The first room for `compressed` bytes of unknown content: at most the memory that is left, if that may be enough. The end
    /// of a batch often compresses worse than its beginning.
    pub(crate) fn likely_bytes(&self, compressed: usize) -> usize {
        let (likely, left) = (self.ratio.output_bytes(compressed), self.buffer.capacity() - self.filled);
        if left < compressed { likely } else { likely.min(left) }
    }

    /// Bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.filled
    }

    /// Bytes that may still be written.
    pub(crate) fn remaining(&self) -> usize {
        self.limit - self.len()
    }

    /// The bytes written so far.
    pub(crate) fn written(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Reserves memory for `bytes` more at once, or for what the limit leaves.
    pub(crate) fn expect(&mut self, bytes: usize) {
        let end = self.filled + bytes.min(self.remaining());
        if end > self.buffer.capacity() {
            self.grow(end);
        }
    }

    /// Moves the written bytes to memory of at least `bytes`.
    #[cold]
    fn grow(&mut self, bytes: usize) {
        let Some(pool) = self.pool else {
            self.buffer.reserve_exact(bytes - self.buffer.len());
            return;
        };
        let mut larger = pool.take_uncleared(bytes);
        let common = self.filled.min(larger.len());
        larger[..common].copy_from_slice(&self.buffer[..common]);
        larger.extend_from_slice(&self.buffer[common..self.filled]);
        // The smaller memory returns to the pool.
        std::mem::swap(self.buffer, &mut *larger);
    }

    /// Room for `bytes`, or for what the limit leaves, after the written bytes.
    pub(crate) fn room(&mut self, bytes: usize) -> &mut [u8] {
        self.split(bytes).1
    }

    /// Room for as many bytes as are written, so that a codec of unknown size doubles its memory at each step.
    pub(crate) fn more_room(&mut self) -> &mut [u8] {
        let free = self.buffer.len() - self.filled;
        let bytes = if free > 0 { free } else { self.len().max(ROOM_BYTES_MIN) };
        self.room(bytes)
    }

    /// The written bytes, and [`room`](Self::room).
    pub(crate) fn split(&mut self, bytes: usize) -> (&[u8], &mut [u8]) {
        let end = self.filled + bytes.min(self.remaining());
        if end > self.buffer.capacity() {
            // Doubles, but not beyond the limit.
            let doubled = (self.buffer.capacity() * 2).min(self.limit);
            self.grow(doubled.max(end));
        }
        if end > self.buffer.len() {
            self.buffer.resize(end, 0);
        }
        let (written, room) = self.buffer[..end].split_at_mut(self.filled);
        (written, room)
    }

    /// Counts `bytes` of the room as written.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.filled += bytes;
        assert!(self.filled <= self.buffer.len(), "a codec wrote past its room");
    }

    /// Appends `bytes`.
    ///
    /// # Errors
    /// When they exceed the limit. `field` and `offset` are for the error.
    pub(crate) fn extend(
        &mut self,
        bytes: &[u8],
        field: &'static str,
        offset: usize,
    ) -> Result<(), DecodeError> {
        let room = self.room(bytes.len());
        if room.len() < bytes.len() {
            return Err(self.over_limit(field, offset));
        }
        room.copy_from_slice(bytes);
        self.advance(bytes.len());
        Ok(())
    }

    /// The error for input that decompresses to more than the limit.
    #[cold]
    pub(crate) fn over_limit(&self, field: &'static str, offset: usize) -> DecodeError {
        DecodeError::new(field, offset, DecodeReason::DecompressesPast { limit: self.limit })
    }

    /// Refuses `bytes` more, announced by `field` at `offset`, if they exceed the limit or `possible`, which is the most that the
    /// rest of the input can produce.
    pub(crate) fn check_announced(
        &self,
        bytes: u64,
        possible: usize,
        field: &'static str,
        offset: usize,
    ) -> Result<usize, DecodeError> {
        let limit = self.remaining().min(possible);
        match usize::try_from(bytes) {
            Ok(bytes) if bytes <= limit => Ok(bytes),
            Ok(bytes) if bytes <= possible => Err(self.over_limit(field, offset)),
            _ => {
                let limit = limit as u64;
                Err(DecodeError::new(field, offset, DecodeReason::TooLarge { announced: bytes, limit }))
            }
        }
    }
}

impl Drop for Output<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.filled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(buffer: &mut Vec<u8>, limit: usize) -> Output<'_> {
        Output::new(buffer, limit, Ratio::new(4, 1), None)
    }

    #[test]
    fn larger_memory_comes_from_the_pool_and_smaller_goes_back() {
        let pool = Pool::default();
        let mut used = pool.take(5000);
        used.resize(3, b'x');
        drop(used);
        let mut buffer = pool.take(1000);
        let mut output = Output::new(&mut buffer, 10_000, Ratio::new(4, 1), Some(&pool));
        output.extend(&[1; 1000], "f", 0).expect("below the limit");
        output.extend(&[2; 3000], "f", 0).expect("below the limit");
        drop(output);
        assert!(buffer.iter().eq([[1; 1000], [2; 1000], [2; 1000], [2; 1000]].concat().iter()));
        buffer.recount();
        assert_eq!((pool.stats().hits, pool.stats().misses), (1, 2));
        assert_eq!(pool.stats().bytes_out, buffer.capacity());
        drop(pool.take(1000));
        assert_eq!(pool.stats().hits, 2, "what was too small");
    }

    #[test]
    fn steps_double_until_the_limit_and_memory_ends_there() {
        let mut buffer = Vec::new();
        let mut output = output(&mut buffer, 50_000);
        let mut steps = Vec::new();
        while output.remaining() > 0 {
            let bytes = output.more_room().len();
            output.advance(bytes);
            steps.push(bytes);
        }
        assert!(output.more_room().is_empty());
        assert!(output.extend(&[1], "f", 3).is_err());
        drop(output);
        assert_eq!(steps, [4096, 4096, 8192, 16_384, 17_232]);
        assert_eq!((buffer.len(), buffer.capacity()), (50_000, 50_000));
    }

    #[test]
    fn only_what_was_written_stays() {
        let mut buffer = b"before".to_vec();
        let mut output = output(&mut buffer, 100);
        output.expect(1_000_000);
        output.room(50)[..2].copy_from_slice(b"ab");
        output.advance(2);
        assert_eq!(output.written(), b"ab");
        drop(output);
        assert_eq!(buffer, b"ab");
        assert_eq!(buffer.capacity(), 100);
    }

    #[test]
    fn announcements_are_held_against_the_limit_and_against_the_input() {
        let mut buffer = Vec::new();
        let output = output(&mut buffer, 100);
        assert_eq!(output.check_announced(90, 95, "f", 0), Ok(90));
        let text = |announced, possible| {
            output.check_announced(announced, possible, "f", 3).unwrap_err().to_string()
        };
        assert_eq!(text(101, 200), "f at byte 3: decompresses to more than the limit of 100 bytes");
        assert_eq!(text(96, 95), "f at byte 3: announces 96, at most 95 can be here");
        assert_eq!(text(u64::MAX, 95), "f at byte 3: announces 18446744073709551615, at most 95 can be here");
    }
}
