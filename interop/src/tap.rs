//! Watches what a client's connections bring, whatever the client says of it: the record batches in the answers to its
//! fetches. So it can be seen from outside what a member fetches twice.
//!
//! ```text
//!  client ◀─ bytes, unchanged ─ Tapped ◀─▶ the transport below
//!                                 └─ requests and answers, cut into frames ─▶ Fetched
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use milena::{Address, Connect, Connecting, Resolving, Tcp, Transport};
use milena_messages::fetch::{FetchRequest, FetchResponse};
use milena_messages::header::ResponseHeader;
use milena_messages::{Message as _, Request as _};
use milena_wire::Reader;
use milena_wire::batch::Batches;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::journal::now;

/// The whole batches that the answer to one fetch had of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fetched {
    /// The partition. A member reads one topic.
    pub partition: i32,
    /// The first batch's base offset.
    pub first: i64,
    /// The offset after the last batch.
    pub next: i64,
    /// Their bytes.
    pub bytes: u64,
    /// When the fetch was sent, in microseconds since the epoch.
    pub asked: u64,
}

/// What is told of each partition in an answer.
type Tell = dyn Fn(Fetched) + Send + Sync;

/// Connects by TCP, and watches the connections.
#[derive(Clone)]
pub struct Tap(Arc<Tell>);

impl Tap {
    /// Calls `tell` for each partition that an answer brings batches of, before the client sees the answer's end.
    pub fn new(tell: impl Fn(Fetched) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }
}

impl Connect for Tap {
    fn resolve(&self, address: &Address) -> Resolving {
        Tcp::default().resolve(address)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        let (connecting, tell) = (Tcp::default().connect(address, at), Arc::clone(&self.0));
        Box::pin(async move {
            let inner = connecting.await?;
            Ok(Box::new(Tapped { inner, tell, conversation: Conversation::default() }) as Box<dyn Transport>)
        })
    }
}

struct Tapped {
    inner: Box<dyn Transport>,
    tell: Arc<Tell>,
    conversation: Conversation,
}

impl AsyncRead for Tapped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.inner).poll_read(cx, buf);
        this.conversation.came(&buf.filled()[before..], &*this.tell);
        polled
    }
}

impl AsyncWrite for Tapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = &polled {
            this.conversation.sent(&buf[..*count], now());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What went over one connection and is not a whole frame yet, and the fetches without an answer.
#[derive(Default)]
struct Conversation {
    sent: BytesMut,
    came: BytesMut,
    /// The version of each fetch and when it was sent, by correlation id.
    asked: BTreeMap<i32, (i16, u64)>,
}

impl Conversation {
    fn sent(&mut self, bytes: &[u8], at: u64) {
        self.sent.extend_from_slice(bytes);
        while let Some(mut frame) = frame(&mut self.sent) {
            let (Ok(key), Ok(version), Ok(correlation)) =
                (frame.try_get_i16(), frame.try_get_i16(), frame.try_get_i32())
            else {
                continue;
            };
            if key == FetchRequest::KEY.as_i16() {
                self.asked.insert(correlation, (version, at));
            }
        }
    }

    fn came(&mut self, bytes: &[u8], tell: &Tell) {
        self.came.extend_from_slice(bytes);
        while let Some(frame) = frame(&mut self.came) {
            let correlation = frame.get(..4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
            if let Some((version, asked)) =
                correlation.and_then(|correlation| self.asked.remove(&correlation))
            {
                for fetched in fetched(&frame, version, asked) {
                    tell(fetched);
                }
            }
        }
    }
}

/// The next whole frame, without its length.
fn frame(bytes: &mut BytesMut) -> Option<Bytes> {
    const LENGTH_BYTES: usize = 4;
    let length = u32::from_be_bytes(*bytes.first_chunk::<LENGTH_BYTES>()?) as usize;
    if bytes.len() < LENGTH_BYTES + length {
        return None;
    }
    bytes.advance(LENGTH_BYTES);
    Some(bytes.split_to(length).freeze())
}

/// What the answer to a fetch brings. An answer that does not decode brings nothing: the client complains of it.
fn fetched(frame: &Bytes, version: i16, asked: u64) -> Vec<Fetched> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, FetchRequest::KEY.response_header_version(version));
    let response = header.and_then(|_| FetchResponse::decode(&mut reader, version));
    let topics = response.map(|response| response.responses).unwrap_or_default();
    let partitions = topics.into_iter().flat_map(|topic| topic.partitions);
    let of = |(partition, records): (i32, Bytes)| {
        let mut all: Option<Fetched> = None;
        for batch in Batches::new(records).map_while(Result::ok) {
            let header = &batch.header;
            let fetched =
                all.get_or_insert(Fetched { partition, first: header.base_offset, next: 0, bytes: 0, asked });
            fetched.next = header.base_offset + i64::from(header.last_offset_delta) + 1;
            fetched.bytes += header.bytes as u64;
        }
        all
    };
    partitions.filter_map(|data| of((data.partition_index, data.records?))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use milena_messages::fetch::{FetchableTopicResponse, PartitionData};
    use milena_messages::header::RequestHeader;
    use milena_wire::Writer;
    use milena_wire::codec::Compression;

    use super::*;
    use crate::letter::Letter;
    use crate::raw;

    const VERSION: i16 = 12;

    fn framed(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new();
        let mark = writer.begin_frame();
        write(&mut writer);
        writer.end_frame(mark, "a frame").unwrap();
        writer.finish().to_vec()
    }

    #[test]
    fn batches_are_seen_in_whatever_pieces_their_bytes_come() {
        let letter = Letter::value(3, b"v");
        let batch = raw::batch(&[letter.clone(), letter], Compression::None).unwrap();
        let request = framed(|writer| {
            let header = RequestHeader {
                request_api_key: FetchRequest::KEY.as_i16(),
                request_api_version: VERSION,
                correlation_id: 7,
                ..Default::default()
            };
            header.encode(writer, FetchRequest::KEY.request_header_version(VERSION)).unwrap();
        });
        let answer = framed(|writer| {
            let header = ResponseHeader { correlation_id: 7, ..Default::default() };
            header.encode(writer, FetchRequest::KEY.response_header_version(VERSION)).unwrap();
            let two = Bytes::from([&batch[..], &batch[..]].concat());
            let data = PartitionData { partition_index: 3, records: Some(two), ..Default::default() };
            let topic = FetchableTopicResponse { partitions: vec![data], ..Default::default() };
            let response = FetchResponse { responses: vec![topic], ..Default::default() };
            response.encode(writer, VERSION).unwrap();
        });
        for piece in [1, 5, 1000] {
            let seen = Mutex::new(Vec::new());
            let mut conversation = Conversation::default();
            for bytes in request.chunks(piece) {
                conversation.sent(bytes, 99);
            }
            // An answer to a request that was no fetch is passed over.
            let other = framed(|writer| writer.i32(6));
            let seen_by = {
                let came: Vec<u8> = [&other[..], &answer[..]].concat();
                let told = Arc::new(seen);
                let telling = Arc::clone(&told);
                let tell = move |fetched| telling.lock().unwrap().push(fetched);
                for bytes in came.chunks(piece) {
                    conversation.came(bytes, &tell);
                }
                told
            };
            let expected =
                Fetched { partition: 3, first: 0, next: 2, bytes: 2 * batch.len() as u64, asked: 99 };
            assert_eq!(*seen_by.lock().unwrap(), [expected], "in pieces of {piece}");
        }
    }
}
