//! Requests to registries: where they go, when they are made again, and what the answers say.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use milena::http::{Http, Request, Response, Url};
use milena::{Obstacle, Secret};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::attempts::{Attempts, Fate, Next, Policy};
use super::auth::Authorization;
use super::clock::{Clock, random};
use crate::{RegistryError, RegistryErrorKind};

/// How registries are reached.
pub(super) struct Rest {
    pub(super) urls: Vec<Url>,
    /// The address that answered last: it is asked first.
    pub(super) preferred: AtomicUsize,
    pub(super) http: Http,
    pub(super) authorization: Authorization,
    pub(super) headers: Vec<(&'static str, Secret)>,
    pub(super) policy: Policy,
    /// How long a call may take, with all attempts.
    pub(super) timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

/// One question to the registry.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The path and the query, after the registry's own address.
    pub(super) path: String,
    pub(super) body: Option<String>,
    /// For errors: "looking up schema 7".
    pub(super) doing: String,
}

impl Call {
    pub(super) fn get(path: impl Into<String>, doing: impl Into<String>) -> Self {
        Self { method: Method::Get, path: path.into(), body: None, doing: doing.into() }
    }

    pub(super) fn delete(path: impl Into<String>, doing: impl Into<String>) -> Self {
        Self { method: Method::Delete, ..Self::get(path, doing) }
    }

    pub(super) fn post(path: impl Into<String>, body: String, doing: impl Into<String>) -> Self {
        Self { method: Method::Post, body: Some(body), ..Self::get(path, doing) }
    }

    pub(super) fn put(path: impl Into<String>, body: String, doing: impl Into<String>) -> Self {
        Self { method: Method::Put, body: Some(body), ..Self::get(path, doing) }
    }
}

/// What registries send with an error.
#[derive(Deserialize, Default)]
struct ErrorBody {
    #[serde(default)]
    error_code: Option<i64>,
    #[serde(default)]
    message: Option<String>,
}

/// Registries with Confluent's API answer with this type.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const ACCEPT: &str = "application/vnd.schemaregistry.v1+json, application/json; q=0.9";
/// How much of what a registry says is shown.
const MESSAGE_CHARACTERS_MAX: usize = 500;

impl Rest {
    /// Asks until there is an answer, and reads it.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        call: &Call,
        clock: &Clock,
    ) -> Result<T, RegistryError> {
        let (url, response) = self.answered(call, clock).await?;
        serde_json::from_slice(response.body()).map_err(|error| {
            // The text of serde's error may repeat what the registry sent.
            let error = milena::http::cleaned(&error.to_string(), MESSAGE_CHARACTERS_MAX);
            let (doing, status) = (&call.doing, response.status());
            let text = format!("{doing}: {url}: the answer cannot be understood: {error}");
            RegistryError::answered(RegistryErrorKind::Garbage, status, None, text)
        })
    }

    /// Asks until there is an answer, whose body says nothing.
    pub(super) async fn done(&self, call: &Call, clock: &Clock) -> Result<(), RegistryError> {
        self.answered(call, clock).await.map(drop)
    }

    async fn answered(&self, call: &Call, clock: &Clock) -> Result<(Url, Response), RegistryError> {
        if self.urls.is_empty() {
            let text = format!("{}: the registry is offline, and this is not known", call.doing);
            return Err(RegistryError::new(RegistryErrorKind::Unavailable, text));
        }
        let until = clock.now() + self.timeout;
        let first = self.preferred.load(Ordering::Relaxed);
        let mut attempts = Attempts::new(self.policy, self.urls.len(), first, until);
        loop {
            let address = attempts.address();
            let left = until.saturating_sub(clock.now());
            let attempt = tokio::time::timeout(left, Box::pin(self.attempt(call, &self.urls[address])));
            let (error, fate) = match attempt.await {
                Ok(Ok(answer)) => {
                    self.preferred.store(address, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(failed)) => failed,
                Err(_) => {
                    let (doing, url, timeout) = (&call.doing, &self.urls[address], self.timeout);
                    let text = format!("{doing}: {url}: there is no answer within {timeout:?}");
                    return Err(RegistryError::new(RegistryErrorKind::Unavailable, text));
                }
            };
            match attempts.failed(fate, clock.now(), random()) {
                Next::GiveUp => return Err(error),
                Next::At { after, .. } => {
                    tracing::debug!(target: "milena", "{error}; trying again");
                    tokio::time::sleep(after).await;
                }
            }
        }
    }

    /// One attempt, and whether another one may succeed.
    async fn attempt(&self, call: &Call, base: &Url) -> Result<(Url, Response), (RegistryError, Fate)> {
        let doing = &call.doing;
        let unanswered = |error: &milena::ConnectError| RegistryError::unanswered(doing, error);
        let url = base.joined(&call.path).map_err(|why| {
            (RegistryError::new(RegistryErrorKind::Configuration, format!("{doing}: {why}")), Fate::Final)
        })?;
        let mut request = match (call.method, &call.body) {
            (Method::Get, _) => Request::get(url.clone()),
            (Method::Delete, _) => Request::delete(url.clone()),
            (Method::Post, body) => {
                Request::post(url.clone(), CONTENT_TYPE, body.clone().unwrap_or_default())
            }
            (Method::Put, body) => {
                Request::put_body(url.clone(), CONTENT_TYPE, body.clone().unwrap_or_default())
            }
        };
        request = request.header("accept", ACCEPT);
        let authorization = self.authorization.value().await;
        // Where tokens come from makes its own attempts.
        let authorization = authorization.map_err(|error| (unanswered(&error), Fate::Final))?;
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value.clone());
        }
        let response = self.http.send(&request).await.map_err(|error| {
            let may_pass = matches!(error.obstacle(), Obstacle::Network | Obstacle::Name);
            // It may have been carried out, and would say then that there is nothing to delete. Not without a connection.
            let is_again = may_pass && (call.method != Method::Delete || error.is_unsent());
            (unanswered(&error), if is_again { Fate::MayPass } else { Fate::Final })
        })?;
        match response.status() {
            200..300 => Ok((url, response)),
            _ => Err(refused(doing, &url, &response)),
        }
    }
}

/// The error that an answer is.
fn refused(doing: &str, url: &Url, response: &Response) -> (RegistryError, Fate) {
    let status = response.status();
    let body: ErrorBody = serde_json::from_slice(response.body()).unwrap_or_default();
    // Apicurio sends 0 with routes that it does not have.
    let code = body.error_code.and_then(|code| u32::try_from(code).ok()).filter(|code| *code != 0);
    let kind = kind(status, code);
    let said =
        body.message.map(|said| milena::http::cleaned(&said, MESSAGE_CHARACTERS_MAX)).unwrap_or_default();
    let code_said = code.map(|code| format!(", code {code}")).unwrap_or_default();
    let hint = match kind {
        RegistryErrorKind::Unauthorized if status == 401 => "; the registry wants other credentials",
        RegistryErrorKind::Unauthorized => "; the credentials do not have the right",
        _ => "",
    };
    let colon = if said.is_empty() { "" } else { ": " };
    let text = format!("{doing}: {url} answers with status {status}{code_said}{colon}{said}{hint}");
    let fate = if kind == RegistryErrorKind::Unavailable { Fate::MayPass } else { Fate::Final };
    (RegistryError::answered(kind, status, code, text), fate)
}

fn kind(status: u16, code: Option<u32>) -> RegistryErrorKind {
    match (status, code) {
        // Apicurio gives the status as the code.
        (_, Some(40901)) | (409, None | Some(409)) => RegistryErrorKind::Incompatible,
        (404, _) => RegistryErrorKind::NotFound,
        (401 | 403, _) => RegistryErrorKind::Unauthorized,
        (408 | 425 | 429 | 500.., _) => RegistryErrorKind::Unavailable,
        (400..500, _) => RegistryErrorKind::Invalid,
        _ => RegistryErrorKind::Garbage,
    }
}

/// A part of a path, as addresses have it.
pub(super) fn encoded(part: &str) -> String {
    let mut encoded = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

impl fmt::Debug for Rest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rest").field("urls", &self.urls).finish_non_exhaustive()
    }
}
