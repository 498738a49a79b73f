//! A server on loopback that answers as a function says.

use std::sync::{Arc, Mutex};

use milena_registry::{SchemaRegistry, SchemaRegistryBuilder};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server got.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// What it does.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Json(u16, String),
    /// Nothing, until the client goes.
    Silence,
    /// These bytes, and the end.
    Raw(&'static [u8]),
    /// A body that does not end.
    Endless,
    /// The end, without a byte.
    Gone,
}

pub(crate) struct Fake {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(crate) async fn start(reply: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, reply) = (Arc::clone(&asked), Arc::new(reply));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, reply) = (Arc::clone(&seen), Arc::clone(&reply));
                tokio::spawn(async move { serve(stream, &seen, &*reply).await });
            }
        });
        Self { url, asked }
    }

    /// One that answers each request with the same.
    pub(crate) async fn always(reply: Reply) -> Self {
        Self::start(move |_| reply.clone()).await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("no panic").clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.asked().len()
    }

    pub(crate) fn client(&self) -> SchemaRegistry {
        patient([&self.url]).build().expect("an address")
    }
}

/// A client that does not wait long between its attempts.
pub(crate) fn patient<'a>(urls: impl IntoIterator<Item = &'a String>) -> SchemaRegistryBuilder {
    SchemaRegistry::builder(urls.into_iter().cloned())
        .retry_wait(Duration::from_millis(1), Duration::from_millis(2))
}

/// An address where nobody listens.
pub(crate) async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    format!("http://{}", listener.local_addr().expect("bound"))
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Asked>>,
    reply: &(dyn Fn(&Asked) -> Reply + Send + Sync),
) {
    let mut bytes = Vec::new();
    let (head, mut body) = loop {
        let mut more = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut more).await else { return };
        bytes.extend_from_slice(&more[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            break (head.to_owned(), body.to_owned());
        }
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse::<usize>().expect("a number"));
    while body.len() < length {
        let mut more = [0; 4096];
        let Ok(count @ 1..) = stream.read(&mut more).await else { return };
        body.push_str(&String::from_utf8_lossy(&more[..count]));
    }
    let mut words = head.split_whitespace();
    let mut word = || words.next().unwrap_or_default().to_owned();
    let asked = Asked { method: word(), path: word(), head: head.clone(), body };
    seen.lock().expect("no panic").push(asked.clone());
    match reply(&asked) {
        Reply::Json(status, body) => {
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        Reply::Silence => while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {},
        Reply::Raw(bytes) => drop(stream.write_all(bytes).await),
        Reply::Endless => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            while stream.write_all(&[b'['; 4096]).await.is_ok() {}
        }
        Reply::Gone => {}
    }
}
