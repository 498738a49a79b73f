//! A client of few words: frames over a socket, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use milena_broker::{Builder, Cluster};
use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, PartitionData};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use milena_messages::{ErrorCode, Message, Request};
use milena_wire::batch::BatchBuilder;
use milena_wire::pool::Pool;
use milena_wire::{Reader, Writer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Longer than anything takes that works; what does not work fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PRODUCE: i16 = 12;
pub(crate) const FETCH: i16 = 12;

/// A connection to a node.
pub(crate) struct Client {
    stream: Box<dyn Duplex>,
}

/// A stream of bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        stream.set_nodelay(true).expect("a socket");
        Self { stream: Box::new(stream) }
    }

    /// With TLS, to a node whose certificate is for 127.0.0.1.
    pub(crate) async fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let handshake = TlsConnector::from(config).connect(name, stream);
        let stream = timeout(PATIENCE, handshake).await.expect("in time")?;
        Ok(Self { stream: Box::new(stream) })
    }

    /// To node 1.
    pub(crate) async fn of(cluster: &Cluster) -> Self {
        Self::connect(cluster.addresses()[&1]).await
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("sent");
    }

    pub(crate) async fn send<R: Request>(&mut self, correlation_id: i32, version: i16, request: &R) {
        self.send_bytes(&frame(correlation_id, version, request)).await;
    }

    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> (i32, R::Response) {
        let read = async {
            let size = self.stream.read_u32().await?;
            let mut raw = vec![0; size as usize];
            self.stream.read_exact(&mut raw).await?;
            std::io::Result::Ok(Bytes::from(raw))
        };
        let raw = timeout(PATIENCE, read).await.expect("in time").expect("a response");
        let mut reader = Reader::new(&raw);
        let header_version = R::KEY.response_header_version(version);
        let header = ResponseHeader::decode(&mut reader, header_version).expect("a header");
        (header.correlation_id, R::Response::decode(&mut reader, version).expect("a response"))
    }

    pub(crate) async fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(1, version, request).await;
        self.receive::<R>(version).await.1
    }

    pub(crate) async fn produce(&mut self, topic: &str, index: i32, value: &[u8]) -> i64 {
        let answer = self.ask(PRODUCE, &produce(topic, index, batch(value))).await;
        let (code, offset) = outcome(&answer);
        assert_eq!(code, ErrorCode::NONE);
        offset
    }

    pub(crate) async fn fetch(&mut self, topic: &str, index: i32, offset: i64) -> PartitionData {
        let answer = self.ask(FETCH, &fetch(topic, index, offset)).await;
        answer.responses[0].partitions[0].clone()
    }

    /// Everything the node sends until it hangs up.
    pub(crate) async fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is a way to hang up, too.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut bytes)).await.expect("hung up in time");
        bytes
    }

    /// Why reading ends.
    pub(crate) async fn read_error(&mut self) -> String {
        let read =
            timeout(PATIENCE, self.stream.read_to_end(&mut Vec::new())).await.expect("hung up in time");
        read.expect_err("an alert").to_string()
    }

    /// Sends to a node that may hang up meanwhile.
    pub(crate) async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub(crate) async fn try_finish_sending(&mut self) -> std::io::Result<()> {
        self.stream.shutdown().await
    }
}

pub(crate) async fn start(builder: Builder) -> Cluster {
    builder.start().await.expect("starts")
}

/// Waits for something that has no event of its own.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

pub(crate) fn frame<R: Request>(correlation_id: i32, version: i16, request: &R) -> Vec<u8> {
    let mut writer = Writer::new();
    let mark = writer.begin_frame();
    let header = RequestHeader {
        request_api_key: R::KEY.as_i16(),
        request_api_version: version,
        correlation_id,
        client_id: None,
        ..Default::default()
    };
    header.encode(&mut writer, R::KEY.request_header_version(version)).expect("encodes");
    request.encode(&mut writer, version).expect("encodes");
    writer.end_frame(mark, R::NAME).expect("fits");
    writer.finish().to_vec()
}

pub(crate) fn batch(value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(&Pool::default());
    builder.append(1_700_000_000_000, None, Some(value), &[]).expect("fits");
    builder.seal().into_bytes()
}

pub(crate) fn produce(topic: &str, index: i32, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData { index, records: Some(records), ..Default::default() };
    let topic = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() }
}

pub(crate) fn outcome(response: &ProduceResponse) -> (ErrorCode, i64) {
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

pub(crate) fn fetch(topic: &str, partition: i32, fetch_offset: i64) -> FetchRequest {
    let wanted =
        FetchPartition { partition, fetch_offset, partition_max_bytes: i32::MAX, ..Default::default() };
    let topic = FetchTopic { topic: topic.into(), partitions: vec![wanted], ..Default::default() };
    FetchRequest { max_bytes: i32::MAX, session_epoch: -1, topics: vec![topic], ..Default::default() }
}
