//! A collector, and how it is reached.

use std::fmt;

use milena::Secret;
use milena::http::{Http, HttpSettings, Request, Url};

/// What was sent did not arrive, or the collector did not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpError(pub(super) String);

impl fmt::Display for OtlpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OtlpError {}

/// A collector, in protobuf over HTTP.
pub(super) struct Collector {
    pub(super) url: Url,
    headers: Vec<(&'static str, Secret)>,
    http: Http,
}

impl Collector {
    /// The collector at this address, of which `path` is added.
    pub(super) fn at(url: &str, path: &str) -> Result<Self, OtlpError> {
        let url = url.parse::<Url>().and_then(|url| url.joined(path)).map_err(OtlpError)?;
        let http = Http::new(HttpSettings::default().http_to_loopback());
        Ok(Self { url, headers: Vec::new(), http })
    }

    pub(super) fn header(&mut self, name: &'static str, value: Secret) {
        self.headers.push((name, value));
    }

    pub(super) fn settings(&mut self, settings: HttpSettings) {
        self.http = Http::new(settings);
    }

    pub(super) async fn send(&self, body: Vec<u8>) -> Result<(), OtlpError> {
        let mut request = Request::post(self.url.clone(), "application/x-protobuf", body);
        for (name, value) in &self.headers {
            request = request.header(name, value.clone());
        }
        let response = self.http.send(&request).await.map_err(|error| OtlpError(error.to_string()))?;
        match response.status() {
            200..300 => Ok(()),
            status => {
                let said = String::from_utf8_lossy(response.body());
                let said: String = said.chars().take(200).flat_map(char::escape_debug).collect();
                Err(OtlpError(format!("{} answered {status}: {said}", self.url)))
            }
        }
    }
}
