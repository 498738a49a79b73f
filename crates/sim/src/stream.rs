//! A connection in memory: two ends that read what the other wrote, later and in pieces.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use milena_core::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::executor::{Sim, lock, up_to};
use crate::trace::{Trace, hash};

/// One end of a connection. Dropping it closes the connection; bytes that were written before still arrive.
#[derive(Debug)]
pub(crate) struct Stream {
    sim: Sim,
    wire: Arc<Wire>,
    /// The index of the pipe that this end writes to. It reads from the other one.
    out: usize,
    /// Where reads and writes of this end are noted, if they are.
    trace: Option<Trace>,
}

/// Both directions of a connection, and how it behaves.
#[derive(Debug)]
pub(crate) struct Wire {
    number: u64,
    pipes: Mutex<[Pipe; 2]>,
    rng: Mutex<Rng>,
    latency: Duration,
    jitter: Duration,
    /// How many of a hundred reads and writes move a few bytes only.
    crumbs_percent: u32,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    /// The bytes of each write, and when they arrive.
    chunks: VecDeque<(Duration, Bytes)>,
    bytes: usize,
    /// When the last chunk arrives. Later ones do not arrive before it.
    last_at: Duration,
    /// When the reader learns that the writer closed the connection.
    end: Option<Duration>,
    /// The connection broke, or the reader was dropped. Writes fail.
    is_broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The most bytes on their way in one direction. When they are so many, writers wait.
const PIPE_BYTES: usize = 64 << 10;
/// The most bytes that a read or write moves when it moves a few bytes only.
const CRUMB_BYTES: u32 = 40;

impl Wire {
    /// Makes a connection and its two ends, the client's first. `trace` notes what the client reads and writes.
    pub(crate) fn open(
        sim: &Sim,
        number: u64,
        latency: Duration,
        crumbs_percent: u32,
        trace: Option<Trace>,
    ) -> (Arc<Self>, Stream, Stream) {
        let wire = Arc::new(Self {
            number,
            pipes: Mutex::default(),
            rng: Mutex::new(sim.rng()),
            latency,
            jitter: latency,
            crumbs_percent,
        });
        let end = |out, trace| Stream { sim: sim.clone(), wire: Arc::clone(&wire), out, trace };
        let (client, server) = (end(0, trace), end(1, None));
        (wire, client, server)
    }

    /// Breaks the connection. Bytes on their way are lost, and both ends learn it at once. Returns whether there were any.
    pub(crate) fn cut(&self) -> bool {
        let mut is_lost = false;
        for pipe in lock(&self.pipes).iter_mut() {
            is_lost |= !pipe.chunks.is_empty();
            pipe.is_broken = true;
            pipe.chunks.clear();
            pipe.reader.take().into_iter().chain(pipe.writer.take()).for_each(Waker::wake);
        }
        is_lost
    }

    /// How many of `bytes` bytes a read or write moves.
    fn piece(&self, bytes: usize) -> usize {
        let mut rng = lock(&self.rng);
        match rng.below(100) < self.crumbs_percent {
            true => bytes.min(1 + rng.below(CRUMB_BYTES) as usize),
            false => bytes,
        }
    }
}

impl Stream {
    /// The connection's number.
    pub(crate) fn number(&self) -> u64 {
        self.wire.number
    }

    /// See [`Wire::cut`].
    pub(crate) fn cut(&self) {
        self.wire.cut();
    }

    /// Ready when the connection broke or the other end was closed.
    pub(crate) fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.sim.now();
        let mut pipes = lock(&self.wire.pipes);
        let pipe = &mut pipes[1 - self.out];
        match pipe.end {
            _ if pipe.is_broken => Poll::Ready(()),
            Some(end) if end <= now => Poll::Ready(()),
            Some(end) => {
                self.sim.wake_at(end, cx.waker());
                Poll::Pending
            }
            None => {
                pipe.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn note(&self, what: &str, bytes: &[u8]) {
        if let Some(trace) = &self.trace {
            let (number, count, hash) = (self.wire.number, bytes.len(), hash(bytes));
            trace.note(self.sim.now(), format_args!("connection {number} {what} {count} bytes {hash:016x}"));
        }
    }

    fn close(&self) {
        let now = self.sim.now();
        let mut pipes = lock(&self.wire.pipes);
        let pipe = &mut pipes[self.out];
        if pipe.end.is_none() {
            let end = pipe.last_at.max(now + self.wire.latency);
            pipe.end = Some(end);
            if let Some(reader) = pipe.reader.take() {
                self.sim.wake_at(end, &reader);
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.close();
        // What the other end writes from now on is read by no one, so its writes fail.
        let mut pipes = lock(&self.wire.pipes);
        let pipe = &mut pipes[1 - self.out];
        pipe.is_broken = true;
        pipe.writer.take().into_iter().for_each(Waker::wake);
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the simulated connection broke")
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let now = self.sim.now();
        let mut pipes = lock(&self.wire.pipes);
        let pipe = &mut pipes[1 - self.out];
        if pipe.is_broken {
            return Poll::Ready(Err(reset()));
        }
        let Some((at, chunk)) = pipe.chunks.front_mut() else {
            match pipe.end {
                Some(end) if end <= now => return Poll::Ready(Ok(())),
                Some(end) => self.sim.wake_at(end, cx.waker()),
                None => pipe.reader = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        if *at > now {
            let at = *at;
            self.sim.wake_at(at, cx.waker());
            return Poll::Pending;
        }
        let count = self.wire.piece(chunk.len().min(buffer.remaining()));
        let piece = chunk.split_to(count);
        if chunk.is_empty() {
            pipe.chunks.pop_front();
        }
        pipe.bytes -= count;
        pipe.writer.take().into_iter().for_each(Waker::wake);
        drop(pipes);
        self.note("reads", &piece);
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let now = self.sim.now();
        let jitter = up_to(&mut lock(&self.wire.rng), self.wire.jitter);
        let mut pipes = lock(&self.wire.pipes);
        let pipe = &mut pipes[self.out];
        if pipe.is_broken || pipe.end.is_some() {
            return Poll::Ready(Err(reset()));
        }
        let room = PIPE_BYTES - pipe.bytes;
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = self.wire.piece(bytes.len().min(room));
        let at = pipe.last_at.max(now + self.wire.latency + jitter);
        pipe.chunks.push_back((at, Bytes::copy_from_slice(&bytes[..count])));
        pipe.bytes += count;
        pipe.last_at = at;
        if let Some(reader) = pipe.reader.take() {
            self.sim.wake_at(at, &reader);
        }
        drop(pipes);
        self.note("writes", &bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Writes `bytes` bytes at one end, and answers what the other end read and how its reading ended.
    fn read(seed: u64, crumbs_percent: u32, bytes: usize, is_cut: bool) -> (Vec<u8>, io::Result<usize>) {
        let sim = Sim::new(seed);
        let latency = Duration::from_millis(5);
        let (wire, mut client, mut server) = Wire::open(&sim, 1, latency, crumbs_percent, None);
        let own = sim.clone();
        let written: Vec<u8> = (0..bytes).map(|index| index as u8).collect();
        let reading = sim.spawn(async move {
            let mut read = Vec::new();
            let outcome = client.read_to_end(&mut read).await;
            (read, outcome)
        });
        let both = async move {
            server.write_all(&written).await.expect("written");
            if is_cut {
                // The bytes are still on their way.
                own.sleep(latency / 2).await;
                wire.cut();
            }
            drop(server);
            reading.await
        };
        sim.block_on(both).expect("finished")
    }

    #[test]
    fn bytes_arrive_whole_and_in_order_in_pieces_of_any_size() {
        for (seed, crumbs_percent) in [(1, 0), (2, 50), (3, 100)] {
            let (read, outcome) = read(seed, crumbs_percent, 200_000, false);
            assert_eq!(outcome.expect("the end"), 200_000);
            assert!(read.iter().enumerate().all(|(index, byte)| *byte == index as u8));
        }
    }

    #[test]
    fn a_connection_that_breaks_loses_what_is_on_its_way() {
        let (read, outcome) = read(1, 0, 1000, true);
        assert_eq!(outcome.expect_err("broken").kind(), io::ErrorKind::ConnectionReset);
        assert!(read.is_empty());
    }
}
