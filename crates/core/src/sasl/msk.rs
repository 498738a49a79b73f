//! AWS_MSK_IAM, the mechanism of Amazon's MSK: the client's only message is a request to AWS that is signed and never sent there.
//! The broker has AWS check it, and answers with the request's id.
//!
//! ```text
//!  {"version":"2020_10_22","host":…,"x-amz-signature":…} ─▶        ◀─ {"version":"2020_10_22","request-id":…}
//! ```
//!
//! The format is that of Amazon's client for Java (aws-msk-iam-auth). Amazon's clients for other languages send the same request
//! as a token of OAUTHBEARER: [`AwsKeys::token`].

use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use zeroize::Zeroizing;

use super::sigv4::{Signer, percent_encode, query};
use super::{Credentials, Refusal, Turn, bearer, secret_bytes};
use crate::{Instant, Secret};

/// Keys of AWS, with which requests are signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKeys {
    /// The id of the access key, which is no secret.
    pub access_key: Arc<str>,
    /// The secret access key.
    pub secret: Secret,
    /// The session token of temporary keys.
    pub session_token: Option<Secret>,
    /// The region, if it was given. Otherwise a broker's host name has it.
    pub region: Option<Arc<str>>,
    /// The region of a broker whose name has none.
    pub region_default: Option<Arc<str>>,
    /// How the client calls itself in AWS's logs and in policies (`aws:UserAgent`).
    pub user_agent: Arc<str>,
    /// When they end, if they do.
    pub until: Option<Instant>,
}

const VERSION: &str = "2020_10_22";
const SERVICE: &str = "kafka-cluster";
const ACTION: &str = "kafka-cluster:Connect";
/// How long a signature is good. Amazon's clients say the same.
pub const VALID_SECONDS: u32 = 900;
/// A broker's answer has two short texts.
const ANSWER_BYTES_MAX: usize = 4096;
/// The ends of the names of AWS's hosts.
const SUFFIXES: [&str; 4] = [".amazonaws.com", ".amazonaws.com.cn", ".c2s.ic.gov", ".sc2s.sgov.gov"];

impl AwsKeys {
    /// The region for requests to `host`: the one that was given, or the host's, or the default.
    pub fn region_of<'a>(&'a self, host: &'a str) -> Option<&'a str> {
        self.region.as_deref().or_else(|| region_in(host)).or(self.region_default.as_deref())
    }

    /// A token of OAUTHBEARER for brokers in `region`. It is good for [`VALID_SECONDS`] from `unix_seconds` on.
    pub fn token(&self, region: &str, unix_seconds: i64) -> Secret {
        let host = format!("kafka.{region}.amazonaws.com");
        let query = query(&self.signer(region, unix_seconds).presigned(&host, ACTION, VALID_SECONDS));
        let mut url = Zeroizing::new(String::with_capacity(query.len() + 3 * self.user_agent.len() + 128));
        // Writing to a String does not fail.
        let _ = write!(url, "https://{host}/?{}&User-Agent=", *query);
        percent_encode(&mut url, &self.user_agent);
        Secret::from(BASE64.encode(&*url))
    }

    fn signer<'a>(&'a self, region: &'a str, unix_seconds: i64) -> Signer<'a> {
        let Self { access_key, secret, session_token, .. } = self;
        Signer {
            access_key,
            secret,
            session_token: session_token.as_ref(),
            region,
            service: SERVICE,
            unix_seconds,
        }
    }

    /// Refuses what cannot be keys.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_wrong = |bytes: &[u8]| bytes.is_empty() || !bytes.iter().all(u8::is_ascii_graphic);
        let why = "is empty or has other characters than printable ASCII, such as a line's end";
        if is_wrong(self.access_key.as_bytes()) {
            return Err(format!("the AWS access key id {:?} {why}", self.access_key));
        }
        if is_wrong(self.secret.expose()) {
            return Err(format!("the secret of the AWS access key {:?} {why}", self.access_key));
        }
        if self.session_token.as_ref().is_some_and(|token| is_wrong(token.expose())) {
            return Err(format!("the session token of the AWS access key {:?} {why}", self.access_key));
        }
        Ok(())
    }
}

/// The region in the name of a host of AWS's: `b-1.demo.c2.kafka.eu-west-1.amazonaws.com`.
fn region_in(host: &str) -> Option<&str> {
    let bare = SUFFIXES.iter().find_map(|suffix| host.strip_suffix(suffix))?;
    let (service, region) = bare.rsplit_once('.')?;
    // Of a name like `kafka.amazonaws.com` the last label is no region.
    (service.split('.').any(|label| label.starts_with("kafka")) && region.contains('-')).then_some(region)
}

/// The broker's side of the exchange.
#[derive(Debug, Clone)]
pub(super) struct Msk {
    /// The broker's name.
    host: Arc<str>,
    /// When the message is signed.
    unix_seconds: i64,
    is_done: bool,
}

impl Msk {
    pub(super) fn new(host: &Arc<str>, unix_seconds: i64) -> Self {
        Self { host: Arc::clone(host), unix_seconds, is_done: false }
    }

    /// The client's only message.
    pub(super) fn first(&self, keys: &AwsKeys) -> Bytes {
        // The driver asks before it connects whether there is a region.
        let region = keys.region_of(&self.host).unwrap_or_default();
        let signed = keys.signer(region, self.unix_seconds).presigned(&self.host, ACTION, VALID_SECONDS);
        let fixed = [("version", VERSION), ("host", &*self.host), ("user-agent", &*keys.user_agent)];
        let members = fixed.into_iter().chain(signed.iter().map(|(name, value)| (*name, value.as_str())));
        let bytes: usize = members.clone().map(|(name, value)| name.len() + 6 * value.len() + 6).sum();
        let mut object = Zeroizing::new(String::with_capacity(bytes + 2));
        for (name, value) in members {
            let before = if object.is_empty() { '{' } else { ',' };
            object.push(before);
            let _ = write!(object, "\"{}\":\"", name.to_ascii_lowercase());
            escape(&mut object, value);
            object.push('"');
        }
        object.push('}');
        secret_bytes([object.as_bytes()].into_iter())
    }

    pub(super) fn handle(&mut self, credentials: &Credentials, challenge: &[u8]) -> Result<Turn, Refusal> {
        let wrong = |why: String| Refusal::of_peer(format!("its answer to AWS_MSK_IAM {why}"));
        if self.is_done {
            return Err(wrong("is one more than the exchange has".into()));
        }
        if challenge.is_empty() {
            return Err(wrong("is empty, so it may be no broker of MSK's".into()));
        }
        let text = std::str::from_utf8(&challenge[..challenge.len().min(ANSWER_BYTES_MAX)]).ok();
        let members =
            text.and_then(bearer::members).ok_or_else(|| wrong("is no object of JSON with texts".into()))?;
        let version = members.iter().find(|(name, _)| name == "version").map(|(_, value)| value.as_str());
        match version {
            Some(VERSION) => {
                self.is_done = true;
                Ok(Turn::Done)
            }
            Some(other) => {
                Err(wrong(format!("has the version {:?} and not {VERSION}", credentials.quoted(other))))
            }
            None => Err(wrong("has no version".into())),
        }
    }
}

/// A text within quotes of JSON.
fn escape(to: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '"' | '\\' => to.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(to, "\\u{:04x}", u32::from(control));
            }
            other => to.push(other),
        }
    }
}
