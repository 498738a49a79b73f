//! Receives alerts on this machine: as much of a web server as a webhook needs.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::events::Events;

/// A server that tells [`Events`] what it receives. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Receiver {
    url: String,
    _serving: JoinSet<()>,
}

/// The part of an alert that is shown.
#[derive(Debug, Deserialize)]
struct Body {
    status: String,
    name: String,
    summary: String,
}

/// Bytes of a request with its head. An alert has far less.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// How long a request may take.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

impl Receiver {
    pub(super) async fn start(events: Arc<Events>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/alerts", listener.local_addr()?);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            // One connection after the other: there is one sender.
            while let Ok((socket, _)) = listener.accept().await {
                let served = tokio::time::timeout(REQUEST_TIME_MAX, serve(socket, &events)).await;
                drop(served);
            }
        });
        Ok(Self { url, _serving: serving })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }
}

async fn serve(mut socket: TcpStream, events: &Events) -> io::Result<()> {
    let mut request = Vec::new();
    let body = loop {
        if let Some(body) = body(&request) {
            break Some(body.to_vec());
        }
        if request.len() > REQUEST_BYTES_MAX || socket.read_buf(&mut request).await? == 0 {
            break None;
        }
    };
    let alert = body.and_then(|body| serde_json::from_slice::<Body>(&body).ok());
    let answer = match alert {
        Some(alert) => {
            events.alert(&alert.name, alert.status == "resolved", &alert.summary);
            "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
        }
        None => "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    };
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await
}

/// The body, when the request is whole.
fn body(request: &[u8]) -> Option<&[u8]> {
    let head = request.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let lines = std::str::from_utf8(&request[..head]).ok()?.lines();
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.trim().eq_ignore_ascii_case("content-length"))?;
    let length: usize = length.1.trim().parse().ok()?;
    request.get(head + 4..(head + 4).checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_whole_when_its_body_is() {
        let whole = b"POST /alerts HTTP/1.1\r\nhost: x\r\nContent-Length: 4\r\n\r\nbody";
        assert_eq!(body(whole), Some(&b"body"[..]));
        for length in 0..whole.len() {
            assert_eq!(body(&whole[..length]), None, "{length}");
        }
        for wrong in ["POST / HTTP/1.1\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", ""] {
            assert_eq!(body(wrong.as_bytes()), None, "{wrong}");
        }
        let endless = format!("POST / HTTP/1.1\r\ncontent-length: {}\r\n\r\n", usize::MAX);
        assert_eq!(body(endless.as_bytes()), None);
    }
}
