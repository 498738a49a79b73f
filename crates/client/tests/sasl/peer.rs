//! A broker of one topic that demands SASL, within the process and on tokio's clock, which tests pause.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use milena::{Address, Connect, Connecting, Transport};
use milena_messages::api_versions::{ApiVersion, ApiVersionsResponse};
use milena_messages::header::{RequestHeader, ResponseHeader};
use milena_messages::metadata::{MetadataResponse, MetadataResponseBroker};
use milena_messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use milena_messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use milena_messages::{ApiKey, ErrorCode, Message, Request};
use milena_wire::{Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

/// Brokers `a`, `b` and so on, which all behave the same.
#[derive(Clone)]
pub(crate) struct Peer(Arc<Mutex<State>>);

/// How the brokers behave, and what has come to them.
pub(crate) struct State {
    pub(crate) brokers: u8,
    /// The part of a first message that proves who the client is, if it is right.
    pub(crate) accepts: Vec<String>,
    /// What is said after a wrong one, before the exchange is failed.
    pub(crate) challenge: &'static str,
    /// How long a session lives. Zero for ever.
    pub(crate) lifetime: Duration,
    /// It has too much to do to check a signature, as MSK says it.
    pub(crate) is_busy: bool,
    /// It does not answer SaslAuthenticate.
    pub(crate) is_silent: bool,
    /// It takes this long to answer Metadata.
    pub(crate) work: Duration,
    pub(crate) connections: usize,
    /// Exchanges that were accepted, and on which connection.
    pub(crate) accepted: Vec<usize>,
    pub(crate) refused: usize,
    pub(crate) metadata: usize,
    /// Requests that came after the session had ended, or before it had begun.
    pub(crate) unwelcome: usize,
}

impl Peer {
    pub(crate) fn new(accepts: &[&str]) -> Self {
        Self(Arc::new(Mutex::new(State {
            brokers: 1,
            accepts: accepts.iter().map(|text| (*text).to_owned()).collect(),
            challenge: "",
            lifetime: Duration::ZERO,
            is_busy: false,
            is_silent: false,
            work: Duration::ZERO,
            connections: 0,
            accepted: Vec::new(),
            refused: 0,
            metadata: 0,
            unwelcome: 0,
        })))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("whole")
    }

    pub(crate) fn accept(&self, accepts: &[&str]) {
        self.state().accepts = accepts.iter().map(|text| (*text).to_owned()).collect();
    }

    /// The answer to a message of an exchange, which was refused before or not.
    fn judge(&self, said: &str, connection: usize, is_refused: bool) -> SaslAuthenticateResponse {
        let mut state = self.state();
        if state.is_busy {
            let error_message = Some("[8c2e]: Too many connects".into());
            let error_code = ErrorCode::SASL_AUTHENTICATION_FAILED;
            return SaslAuthenticateResponse { error_code, error_message, ..Default::default() };
        }
        #[cfg(feature = "aws-msk-iam")]
        if said.starts_with('{') && super::msk::is_signed(said, &state.accepts) {
            state.accepted.push(connection);
            let auth_bytes = Bytes::from_static(super::msk::ANSWER.as_bytes());
            let session_lifetime_ms = state.lifetime.as_millis() as i64;
            return SaslAuthenticateResponse { auth_bytes, session_lifetime_ms, ..Default::default() };
        }
        if said.starts_with("toy hello ") {
            let auth_bytes = Bytes::from_static(b"number 42");
            return SaslAuthenticateResponse { auth_bytes, ..Default::default() };
        }
        if !is_refused && state.accepts.iter().any(|accepted| said.contains(accepted)) {
            state.accepted.push(connection);
            let session_lifetime_ms = state.lifetime.as_millis() as i64;
            return SaslAuthenticateResponse { session_lifetime_ms, ..Default::default() };
        }
        if !is_refused && !state.challenge.is_empty() {
            let auth_bytes = Bytes::from_static(state.challenge.as_bytes());
            return SaslAuthenticateResponse { auth_bytes, ..Default::default() };
        }
        state.refused += 1;
        let error_code = ErrorCode::SASL_AUTHENTICATION_FAILED;
        let error_message = Some("it is wrong".into());
        SaslAuthenticateResponse { error_code, error_message, ..Default::default() }
    }

    async fn serve(self, mut stream: DuplexStream) -> std::io::Result<()> {
        let connection = {
            let mut state = self.state();
            state.connections += 1;
            state.connections
        };
        let mut session: Option<Instant> = None;
        let mut is_refused = false;
        loop {
            let size = stream.read_i32().await?;
            let mut frame = vec![0; size as usize];
            stream.read_exact(&mut frame).await?;
            let frame = Bytes::from(frame);
            let key = ApiKey::from_i16(i16::from_be_bytes([frame[0], frame[1]])).expect("a known request");
            let version = i16::from_be_bytes([frame[2], frame[3]]);
            let answer = match key {
                ApiKey::ApiVersions => encoded(&frame, key, version, &versions()),
                ApiKey::SaslHandshake => {
                    let request: SaslHandshakeRequest = request(&frame, version);
                    assert!(["PLAIN", "OAUTHBEARER", "AWS_MSK_IAM", "X-TOY"].contains(&&*request.mechanism));
                    encoded(&frame, key, version, &SaslHandshakeResponse::default())
                }
                ApiKey::SaslAuthenticate => {
                    if self.state().is_silent {
                        std::future::pending::<()>().await;
                    }
                    let request: SaslAuthenticateRequest = request(&frame, version);
                    let said = String::from_utf8(request.auth_bytes.to_vec()).expect("text");
                    assert!(!is_refused || said == "\u{1}", "{said:?}");
                    let response = self.judge(&said, connection, is_refused);
                    let answer = encoded(&frame, key, version, &response);
                    if response.error_code != ErrorCode::NONE {
                        return stream.write_all(&answer).await;
                    }
                    let is_challenged = said.starts_with("toy hello ");
                    // Only MSK says something to a client that it accepts.
                    is_refused = !response.auth_bytes.is_empty() && !said.starts_with('{') && !is_challenged;
                    if !is_refused && !is_challenged {
                        let lifetime = self.state().lifetime;
                        let never = Duration::from_secs(1 << 30);
                        session = Some(Instant::now() + if lifetime.is_zero() { never } else { lifetime });
                    }
                    answer
                }
                ApiKey::Metadata => {
                    if session.is_none_or(|until| until < Instant::now()) {
                        self.state().unwelcome += 1;
                        return Ok(());
                    }
                    let work = self.state().work;
                    sleep(work).await;
                    let mut state = self.state();
                    state.metadata += 1;
                    encoded(&frame, key, version, &metadata(state.brokers))
                }
                other => panic!("{other:?} is not expected here"),
            };
            stream.write_all(&answer).await?;
        }
    }
}

impl Connect for Peer {
    fn connect(&self, _: &Address, _: Option<SocketAddr>) -> Connecting {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let peer = self.clone();
        tokio::spawn(async move { drop(peer.serve(theirs).await) });
        Box::pin(async { Ok(Box::new(ours) as Box<dyn Transport>) })
    }

    fn is_encrypted(&self) -> bool {
        true
    }
}

fn request<R: Request>(frame: &Bytes, version: i16) -> R {
    let mut reader = Reader::new(frame);
    RequestHeader::decode(&mut reader, R::KEY.request_header_version(version)).expect("a header");
    R::decode(&mut reader, version).expect("decodes")
}

fn encoded(request: &Bytes, key: ApiKey, version: i16, response: &impl Message) -> Vec<u8> {
    let correlation_id = i32::from_be_bytes([request[4], request[5], request[6], request[7]]);
    let mut writer = Writer::new();
    let mark = writer.begin_frame();
    let header = ResponseHeader { correlation_id, ..Default::default() };
    header.encode(&mut writer, key.response_header_version(version)).expect("encodes");
    response.encode(&mut writer, version).expect("encodes");
    writer.end_frame(mark, "Response").expect("encodes");
    writer.finish().to_vec()
}

fn versions() -> ApiVersionsResponse {
    let keys = [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate];
    let range = |key: ApiKey| {
        let versions = key.versions();
        let (min_version, max_version) = (*versions.start(), *versions.end());
        ApiVersion { api_key: key.as_i16(), min_version, max_version, ..Default::default() }
    };
    ApiVersionsResponse { api_keys: keys.map(range).to_vec(), ..Default::default() }
}

fn metadata(brokers: u8) -> MetadataResponse {
    let broker = |index: u8| MetadataResponseBroker {
        node_id: i32::from(index),
        host: char::from(b'a' + index).to_string().into(),
        port: 1,
        ..Default::default()
    };
    MetadataResponse { brokers: (0..brokers).map(broker).collect(), ..Default::default() }
}
