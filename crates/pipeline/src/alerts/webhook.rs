//! Sends alerts to web servers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use milena::Secret;
use milena::http::{Http, HttpSettings, Request, Url};

use super::{Alert, AlertsError, Delivering, Sink, body};
use crate::Failure;

/// Sends each alert that opens or is resolved to a web server, as one of three bodies.
///
/// The address is `https`. `http` is allowed to this machine, and to other hosts by [name](Self::http_to). A redirect is a
/// failure. Nothing of the address but its host is shown in logs and errors, because those of chats are secrets.
///
/// ```
/// use milena_pipeline::alerts::Webhook;
///
/// # fn sinks(token: String) -> Result<[Webhook; 3], milena_pipeline::alerts::AlertsError> {
/// let own = Webhook::json("https://alerts.example/milena")?.header("authorization", format!("Bearer {token}"));
/// let chat = Webhook::slack("https://hooks.slack.com/services/T000/B000/XXXX")?;
/// let manager = Webhook::alertmanager("http://alertmanager:9093")?.http_to("alertmanager");
/// # Ok([own, chat, manager])
/// # }
/// # sinks("x".into()).unwrap();
/// ```
#[derive(Clone)]
pub struct Webhook {
    url: Url,
    format: Format,
    settings: HttpSettings,
    headers: Vec<(&'static str, Secret)>,
    http: Arc<Http>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Slack,
    Alertmanager,
}

impl Webhook {
    /// Sends the JSON that [`Command`](super::Command) gets, too:
    ///
    /// ```json
    /// {"status":"firing","key":"billing/DeadLetterRate/warning","name":"DeadLetterRate","pipeline":"billing",
    ///  "severity":"warning","summary":"12 records went to the dead letters within a minute; the limit is 10",
    ///  "value":12,"limit":10,"starts_at":"2026-11-29T08:15:30.250Z","ends_at":null}
    /// ```
    ///
    /// When it is resolved, `status` is `resolved`, and `ends_at` says when.
    ///
    /// # Errors
    /// When the address is none.
    pub fn json(url: impl AsRef<str>) -> Result<Self, AlertsError> {
        Self::new(url.as_ref(), Format::Json)
    }

    /// Sends a message as Slack's incoming webhooks take it, and chats that are compatible with them.
    ///
    /// # Errors
    /// When the address is none.
    pub fn slack(url: impl AsRef<str>) -> Result<Self, AlertsError> {
        Self::new(url.as_ref(), Format::Slack)
    }

    /// Sends alerts to an Alertmanager, whose address is given without `/api/v2/alerts`. An alert that is open is sent again each
    /// minute, as Alertmanager wants it, and ends there by itself 4 minutes after it was sent last.
    ///
    /// # Errors
    /// When the address is none.
    pub fn alertmanager(url: impl AsRef<str>) -> Result<Self, AlertsError> {
        let mut it = Self::new(url.as_ref(), Format::Alertmanager)?;
        it.url = it.url.joined("/api/v2/alerts").map_err(AlertsError::new)?;
        Ok(it)
    }

    fn new(url: &str, format: Format) -> Result<Self, AlertsError> {
        let url = url.parse::<Url>().map_err(AlertsError::new)?.with_hidden_path();
        let settings = HttpSettings::default().http_to_loopback();
        let http = Arc::new(Http::new(settings.clone()));
        Ok(Self { url, format, settings, headers: Vec::new(), http })
    }

    /// Adds a header, for example `authorization`. Its name is lower-case; its value is not printed.
    pub fn header(mut self, name: &'static str, value: impl Into<Secret>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Lets requests go to this host without TLS; see [`HttpSettings::http_to`].
    pub fn http_to(self, host: impl Into<Box<str>>) -> Self {
        let settings = self.settings.clone().http_to(host);
        self.settings(settings)
    }

    /// How requests are made: whom to trust, proxies, time limits. Default: [`HttpSettings::default`] with [`http` to this
    /// machine](HttpSettings::http_to_loopback).
    pub fn settings(mut self, settings: HttpSettings) -> Self {
        self.http = Arc::new(Http::new(settings.clone()));
        self.settings = settings;
        self
    }

    async fn send(&self, alert: &Alert) -> Result<(), Failure> {
        let body = match self.format {
            Format::Json => body::plain(alert),
            Format::Slack => body::slack(alert),
            Format::Alertmanager => body::alertmanager(alert),
        };
        let mut request = Request::post(self.url.clone(), "application/json", body);
        for (name, value) in &self.headers {
            request = request.header(name, value.clone());
        }
        let response = self.http.send(&request).await?;
        match response.status() {
            200..300 => Ok(()),
            status => {
                let said = String::from_utf8_lossy(response.body());
                let said: String = said.chars().take(200).flat_map(char::escape_debug).collect();
                let why = format!("{} answered {status}: {said}", self.url);
                // The same request will not be right later.
                Err(if response.may_pass() { Failure::retriable(why) } else { Failure::poison(why) })
            }
        }
    }
}

impl Sink for Webhook {
    fn name(&self) -> String {
        self.url.to_string()
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivering<'a> {
        Box::pin(self.send(alert))
    }

    fn repeat_every(&self) -> Option<Duration> {
        (self.format == Format::Alertmanager).then_some(Duration::from_secs(60))
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, format, .. } = self;
        f.debug_struct("Webhook").field("url", url).field("format", format).finish_non_exhaustive()
    }
}
