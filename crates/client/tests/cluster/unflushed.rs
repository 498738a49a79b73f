//! Transports with a buffer, such as TLS: bytes that are in it are not with the system yet.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use milena::{Address, Connect, Connecting, Resolving, Tcp, Transport};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;

use super::*;

/// Decides whether what is written goes to the system when it is flushed.
#[derive(Clone, Default)]
struct Valve(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    is_shut: bool,
    /// The bytes in the buffers.
    held: usize,
    waiting: Vec<Waker>,
}

impl Valve {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("whole")
    }

    fn open(&self) {
        let waiting = {
            let mut state = self.state();
            state.is_shut = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

struct Buffered {
    inner: Box<dyn Transport>,
    buffer: Vec<u8>,
    valve: Valve,
}

impl Connect for Valve {
    fn resolve(&self, address: &Address) -> Resolving {
        Tcp::default().resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let (connecting, valve) = (Tcp::default().connect(address, at), self.clone());
        Box::pin(async move {
            let inner = connecting.await?;
            Ok(Box::new(Buffered { inner, buffer: Vec::new(), valve }) as Box<dyn Transport>)
        })
    }
}

impl AsyncRead for Buffered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.buffer.extend_from_slice(buf);
        self.valve.state().held += buf.len();
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while !this.buffer.is_empty() {
            let mut state = this.valve.state();
            if state.is_shut {
                state.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            drop(state);
            let written = std::task::ready!(Pin::new(&mut this.inner).poll_write(cx, &this.buffer))?;
            this.buffer.drain(..written);
            this.valve.state().held -= written;
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn without_acks_a_record_in_the_transports_buffer_is_not_written_yet() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 1).expect("created");
    let valve = Valve::default();
    let client = Client::builder().bootstrap(cluster.bootstrap()).connector(valve.clone()).connect().await;
    let producer = client.expect("connected").producer().acks(Acks::None).build().await.expect("built");
    producer.send(Record::to("t").value("a")).await.expect("written");
    valve.state().is_shut = true;
    let mut delivery = std::pin::pin!(producer.send(Record::to("t").value("b")));
    let mut rounds = 0;
    // Once the request is in the buffer, all tasks run often enough to settle it.
    while valve.state().held == 0 || rounds < 100 {
        let settled = std::future::poll_fn(|cx| Poll::Ready(delivery.as_mut().poll(cx).is_ready())).await;
        assert!(!settled, "it is in the buffer only");
        rounds += usize::from(valve.state().held > 0);
        yield_now().await;
    }
    valve.open();
    timeout(PATIENCE, delivery).await.expect("in time").expect("written");
}
