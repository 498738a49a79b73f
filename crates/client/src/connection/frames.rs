//! Cuts a byte stream into frames. The memory of a frame grows with the bytes that have arrived, not with the size that the
//! frame announces.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use milena_core::framing::{self, FramingError};
use milena_wire::pool::{Pool, PooledBuffer};
use tokio::io::AsyncReadExt;

use super::call::Room;
use crate::connect::Transport;

/// Reads frames. Small ones come out of one staging buffer, many per read; a large one is read straight into memory of
/// its own, which is taken from the pool as its bytes arrive.
#[derive(Debug)]
pub(super) struct Frames {
    pool: Pool,
    frame_bytes_max: usize,
    /// What was read and is in no frame yet.
    staged: BytesMut,
    large: Option<Large>,
}

/// A frame, without its size.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    /// The memory that a slice of it keeps.
    pub(super) memory_bytes: usize,
}

/// A frame that did not fit the staging buffer.
#[derive(Debug)]
struct Large {
    buffer: PooledBuffer,
    bytes: usize,
}

/// Why no more frames come.
#[derive(Debug)]
pub(super) enum FramesError {
    /// The peer closed the connection between two frames.
    Closed,
    /// The peer closed the connection within a frame.
    Truncated {
        bytes: usize,
        needed: usize,
    },
    Io(io::Error),
    Framing(FramingError),
}

/// One read brings this much at most while frames are small.
const STAGING_BYTES: usize = 16 << 10;
/// With less room than this in the staging buffer it gets all of it again.
const STAGING_FREE_MIN: usize = 4 << 10;
/// A smaller frame does not come out of the pool, whose smallest buffers have this size. The answers to the fetches of an idle
/// client are that small, and would keep a buffer in use for ever.
const POOLED_BYTES_MIN: usize = 1 << 10;
/// The memory of a frame grows by this factor when it is full. A small factor copies more often; a large one holds more memory
/// for bytes that may never arrive.
const GROWTH: usize = 4;

impl Frames {
    pub(super) fn new(pool: Pool, frame_bytes_max: usize) -> Self {
        Self { pool, frame_bytes_max, staged: BytesMut::new(), large: None }
    }

    /// The next frame. A frame that is expected to be this large gets its memory at once, and a larger one as it
    /// arrives.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut dyn Transport,
        room: Room,
    ) -> Poll<Result<Frame, FramesError>> {
        loop {
            if let Some(large) = &mut self.large {
                ready!(large.poll_fill(cx, stream))?;
                if let Some(large) = self.large.take() {
                    let memory_bytes = large.buffer.capacity();
                    return Poll::Ready(Ok(Frame { bytes: large.buffer.into_bytes(), memory_bytes }));
                }
            }
            if let Some(frame) = self.next_staged(room).map_err(FramesError::Framing)? {
                return Poll::Ready(Ok(frame));
            }
            if self.large.is_none() {
                ready!(self.poll_stage(cx, stream))?;
            }
        }
    }

    /// Whether a frame that does not fit the staging buffer has begun.
    pub(super) fn is_within_large(&self) -> bool {
        self.large.is_some()
    }

    /// The next frame, if the staging buffer holds all of it. The beginning of a large frame moves to memory of its own.
    fn next_staged(&mut self, room: Room) -> Result<Option<Frame>, FramingError> {
        let Some((head, body)) = self.staged.split_first_chunk::<4>() else { return Ok(None) };
        let bytes = framing::frame_bytes(*head, self.frame_bytes_max)?;
        if let Some(frame) = body.get(..bytes) {
            let frame = if !room.is_kept {
                self.staged.advance(4);
                Frame { bytes: self.staged.split_to(bytes).freeze(), memory_bytes: bytes }
            } else if bytes < POOLED_BYTES_MIN {
                // Copied: a slice would keep the whole staging buffer for as long as somebody keeps the frame.
                let copy = Bytes::copy_from_slice(frame);
                self.staged.advance(4 + bytes);
                Frame { bytes: copy, memory_bytes: bytes }
            } else {
                let mut copy = self.pool.take(bytes);
                copy.extend_from_slice(frame);
                self.staged.advance(4 + bytes);
                Frame { memory_bytes: copy.capacity(), bytes: copy.into_bytes() }
            };
            return Ok(Some(frame));
        }
        if bytes + 4 > STAGING_BYTES {
            let mut buffer = self.pool.take(bytes.min(room.bytes_expected.max(STAGING_BYTES)));
            buffer.extend_from_slice(body);
            self.large = Some(Large { buffer, bytes });
            self.staged.clear();
        }
        Ok(None)
    }

    fn poll_stage(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut dyn Transport,
    ) -> Poll<Result<(), FramesError>> {
        let free = self.staged.capacity() - self.staged.len();
        if free < STAGING_FREE_MIN {
            // This is the same buffer again if no frame is a slice of it any more.
            self.staged.reserve(STAGING_BYTES - self.staged.len());
        }
        let room = (self.staged.capacity() - self.staged.len()).min(STAGING_BYTES - self.staged.len());
        let read = ready!(poll_read(cx, stream, &mut self.staged, room)).map_err(FramesError::Io)?;
        Poll::Ready(match (read, self.staged.len()) {
            (0, 0) => Err(FramesError::Closed),
            (0, bytes) => Err(FramesError::Truncated { bytes, needed: self.needed() }),
            _ => Ok(()),
        })
    }

    /// The bytes that the staged beginning of a frame announces, with the four of its size.
    fn needed(&self) -> usize {
        let head = self.staged.first_chunk().map(|head| i32::from_be_bytes(*head));
        head.and_then(|bytes| usize::try_from(bytes).ok()).map_or(4, |bytes| bytes + 4)
    }
}

impl Large {
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut dyn Transport,
    ) -> Poll<Result<(), FramesError>> {
        while self.buffer.len() < self.bytes {
            let have = self.buffer.len();
            if have == self.buffer.capacity() {
                self.grow();
            }
            let room = (self.buffer.capacity() - have).min(self.bytes - have);
            if ready!(poll_read(cx, stream, &mut *self.buffer, room)).map_err(FramesError::Io)? == 0 {
                return Poll::Ready(Err(FramesError::Truncated { bytes: have + 4, needed: self.bytes + 4 }));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn grow(&mut self) {
        let bytes = self.buffer.len().saturating_mul(GROWTH).min(self.bytes);
        let mut larger = self.buffer.pool().take(bytes);
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }
}

/// Reads up to `room` bytes to the end of `buffer`.
fn poll_read(
    cx: &mut Context<'_>,
    stream: &mut dyn Transport,
    buffer: &mut (impl BufMut + ?Sized),
    room: usize,
) -> Poll<io::Result<usize>> {
    let mut limited = buffer.limit(room);
    // The future holds no state of its own, so making one per poll loses nothing.
    pin!(stream.read_buf(&mut limited)).poll(cx)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn next(frames: &mut Frames, stream: &mut dyn Transport) -> Result<Bytes, FramesError> {
        let room = Room { bytes_expected: 0, is_kept: true };
        poll_fn(|cx| frames.poll_next(cx, stream, room)).await.map(|frame| frame.bytes)
    }

    #[tokio::test]
    async fn frames_that_are_not_kept_cost_no_memory_of_their_own_and_stay_as_they_are() {
        const FRAMES: usize = 1000;
        let (mut ours, mut theirs) = tokio::io::duplex(100);
        let writer = tokio::spawn(async move {
            for index in 0..FRAMES {
                theirs.write_i32(60).await.expect("written");
                theirs.write_all(&[index as u8; 60]).await.expect("written");
            }
        });
        let pool = Pool::default();
        let mut frames = Frames::new(pool.clone(), 1000);
        let room = Room { bytes_expected: 0, is_kept: false };
        let mut memory = std::collections::BTreeSet::new();
        let mut late = Vec::new();
        for index in 0..FRAMES {
            let frame = poll_fn(|cx| frames.poll_next(cx, &mut ours, room)).await.expect("a frame");
            assert_eq!(&frame.bytes[..], [index as u8; 60]);
            memory.insert(frame.bytes.as_ptr() as usize / STAGING_BYTES);
            // A caller that is slow holds its answer while others come.
            if index % 100 == 0 {
                late.push((index, frame.bytes));
            }
        }
        assert!(late.iter().all(|(index, bytes)| bytes[..] == [*index as u8; 60]));
        assert_eq!(pool.stats().misses, 0);
        assert!(memory.len() < 30, "{} buffers", memory.len());
        writer.await.expect("ended");
    }

    #[tokio::test]
    async fn frames_come_out_however_they_are_cut() {
        let sizes = [4usize, 5, 100, STAGING_BYTES - 4, STAGING_BYTES - 3, 100_000, 4, 1_000_000];
        for segment in [1usize, 3, 4096, 70_000] {
            let (mut ours, mut theirs) = tokio::io::duplex(segment);
            let writer = tokio::spawn(async move {
                for (index, size) in sizes.into_iter().enumerate() {
                    theirs.write_i32(size as i32).await.expect("written");
                    theirs.write_all(&vec![index as u8; size]).await.expect("written");
                }
            });
            let mut frames = Frames::new(Pool::default(), 10 << 20);
            // A byte at a time is slow; the small frames show it.
            let count = if segment < 10 { 5 } else { sizes.len() };
            for (index, size) in sizes.into_iter().enumerate().take(count) {
                let frame = next(&mut frames, &mut ours).await.expect("a frame");
                assert_eq!(frame.len(), size, "frame {index}");
                assert!(frame.iter().all(|byte| usize::from(*byte) == index), "frame {index}");
            }
            writer.abort();
        }
    }

    #[tokio::test]
    async fn memory_follows_what_arrives_not_what_is_announced() {
        let pool = Pool::default();
        let (mut ours, mut theirs) = tokio::io::duplex(1 << 20);
        theirs.write_i32(99 << 20).await.expect("written");
        theirs.write_all(&[0; 100_000]).await.expect("written");
        let mut frames = Frames::new(pool.clone(), 100 << 20);
        let waited =
            tokio::time::timeout(std::time::Duration::from_millis(50), next(&mut frames, &mut ours)).await;
        assert!(waited.is_err(), "the frame is not complete");
        assert!(pool.stats().bytes_out <= 100_000 * GROWTH * 2, "{:?}", pool.stats());
        drop(theirs);
        let error = next(&mut frames, &mut ours).await.expect_err("cut off");
        assert!(matches!(error, FramesError::Truncated { bytes: 100_004, .. }), "{error:?}");
    }
}
