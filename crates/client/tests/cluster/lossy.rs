//! A transport that loses or delays chosen requests or their answers, and closes their connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Address, Connect, Connecting, Resolving, Tcp, Transport};
use milena_messages::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, split};

/// What is lost of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The broker never sees the request.
    Request,
    /// The broker carries the request out, and its answer never arrives.
    Answer,
    /// The broker carries the request out, and the connection ends in the middle of its answer.
    HalfAnswer,
    /// The broker carries the request out, and its answer comes late, as do those after it.
    Late(Duration),
    /// The broker never sees the request, nor anything after it, and the connection stays open.
    Silence,
}

/// The losses that are still to come. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Losses(Arc<Mutex<Vec<(ApiKey, Loss)>>>);

impl Losses {
    /// The next request of this kind loses something.
    pub(crate) fn add(&self, key: ApiKey, loss: Loss) {
        self.0.lock().expect("not poisoned").push((key, loss));
    }

    /// Whether all of them have happened.
    pub(crate) fn are_over(&self) -> bool {
        self.0.lock().expect("not poisoned").is_empty()
    }

    /// Nothing is lost any more.
    pub(crate) fn clear(&self) {
        self.0.lock().expect("not poisoned").clear();
    }

    fn take(&self, key: i16) -> Option<Loss> {
        let mut losses = self.0.lock().expect("not poisoned");
        let index = losses.iter().position(|(of, _)| of.as_i16() == key)?;
        Some(losses.remove(index).1)
    }
}

impl Connect for Losses {
    fn resolve(&self, address: &Address) -> Resolving {
        Tcp::default().resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let (connecting, losses) = (Tcp::default().connect(address, at), self.clone());
        Box::pin(async move {
            let broker = connecting.await?;
            let (client, here) = duplex(64 << 10);
            tokio::spawn(relay(here, broker, losses));
            Ok(Box::new(client) as Box<dyn Transport>)
        })
    }
}

/// Carries frames until an end closes or something is lost.
async fn relay(client: tokio::io::DuplexStream, broker: Box<dyn Transport>, losses: Losses) {
    let (mut from_client, mut to_client) = split(client);
    let (mut from_broker, mut to_broker) = split(broker);
    // The correlation ids of answers that something happens to.
    let faults = Mutex::new(BTreeMap::<i32, Loss>::new());
    let up = async {
        while let Some(frame) = next(&mut from_client).await {
            let key = i16::from_be_bytes([frame[4], frame[5]]);
            match losses.take(key) {
                Some(Loss::Request) => return,
                Some(Loss::Silence) => return std::future::pending().await,
                Some(loss) => {
                    let id = [frame[8], frame[9], frame[10], frame[11]];
                    faults.lock().expect("not poisoned").insert(i32::from_be_bytes(id), loss);
                }
                None => {}
            }
            if to_broker.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    let down = async {
        while let Some(mut frame) = next(&mut from_broker).await {
            let id = i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]);
            let fault = faults.lock().expect("not poisoned").remove(&id);
            match fault {
                Some(Loss::Late(by)) => tokio::time::sleep(by).await,
                Some(Loss::HalfAnswer) => frame.truncate(frame.len() / 2),
                Some(_) => return,
                None => {}
            }
            if to_client.write_all(&frame).await.is_err() || fault == Some(Loss::HalfAnswer) {
                return;
            }
        }
    };
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// The next frame with its size; none at the end.
async fn next(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Vec<u8>> {
    let size = stream.read_u32().await.ok()?;
    let mut frame = size.to_be_bytes().to_vec();
    frame.resize(4 + size as usize, 0);
    stream.read_exact(&mut frame[4..]).await.ok()?;
    Some(frame)
}
