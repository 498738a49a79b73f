//! What an issuer answers at its token endpoint (RFC 6749, sections 5.1 and 5.2).

use std::time::{Duration, SystemTime};

use milena_core::Obstacle;
use serde_json::{Map, Value};

use super::jwt;
use crate::http::cleaned;
use crate::{ConnectError, Secret, Token};

/// A token as an issuer gave it. Programs that ask issuers of their own kind can read the answers with it.
///
/// ```
/// use std::time::SystemTime;
///
/// use milena::oauth::TokenAnswer;
///
/// let answer = TokenAnswer::parse(200, br#"{"access_token":"opaque","token_type":"Bearer","expires_in":300}"#)?;
/// let token = answer.into_token(SystemTime::now())?;
///
/// let refused = br#"{"error":"invalid_client","error_description":"no such client"}"#;
/// let error = TokenAnswer::parse(401, refused).unwrap_err();
/// assert_eq!(error.to_string(), "the issuer refuses with invalid_client: \"no such client\" (status 401)");
/// assert!(error.obstacle().is_final());
/// # Ok::<(), milena::ConnectError>(())
/// ```
#[derive(Debug, Clone)]
pub struct TokenAnswer {
    access_token: Secret,
    expires_in: Option<Duration>,
    refresh_token: Option<Secret>,
}

/// The longest texts of an issuer that errors repeat, in characters.
const CODE_MAX: usize = 64;
const DESCRIPTION_MAX: usize = 300;

impl TokenAnswer {
    /// Reads an answer: the status of HTTP and the body. The token is `access_token`, or `id_token` if there is no other, as
    /// in Java's client.
    ///
    /// # Errors
    /// When it has no token. The error has the issuer's code and description, without control characters and cut to a length.
    /// Its obstacle is [`Credentials`](Obstacle::Credentials) if the issuer refuses the client or what it presented,
    /// [`Network`](Obstacle::Network) if the issuer has a fault of its own that may pass, and
    /// [`Configuration`](Obstacle::Configuration) or [`Peer`](Obstacle::Peer) otherwise.
    pub fn parse(status: u16, body: &[u8]) -> Result<Self, ConnectError> {
        Self::parse_hiding(status, body, &[])
    }

    /// As [`parse`](Self::parse), for an issuer that may repeat one of the secrets that it was told.
    pub(super) fn parse_hiding(status: u16, body: &[u8], secrets: &[&Secret]) -> Result<Self, ConnectError> {
        let answer: Option<Map<String, Value>> = serde_json::from_slice(body).ok();
        let Some(answer) = answer.filter(|_| (200..300).contains(&status)) else {
            let answer = serde_json::from_slice(body).ok();
            return Err(refusal(status, answer.as_ref(), secrets));
        };
        let text = |name| match answer.get(name) {
            Some(Value::String(text)) if !text.is_empty() => Some(Secret::from(text.as_str())),
            _ => None,
        };
        let Some(access_token) = text("access_token").or_else(|| text("id_token")) else {
            // Some issuers say so with a status of success.
            if answer.contains_key("error") {
                return Err(refusal(status, Some(&answer), secrets));
            }
            let why = "the issuer's answer has no access_token";
            return Err(ConnectError::new(Obstacle::Peer, why));
        };
        let expires_in = answer.get("expires_in").and_then(seconds);
        Ok(Self { access_token, expires_in, refresh_token: text("refresh_token") })
    }

    /// The token. It lives as long as `expires_in` says, which needs no clock, or else until its claim `exp`. `now` is the
    /// time of day.
    ///
    /// # Errors
    /// When neither is there, or the token has ended.
    pub fn into_token(self, now: SystemTime) -> Result<Token, ConnectError> {
        let claims = jwt::claims(self.access_token.expose());
        let lifetime = match (self.expires_in, &claims) {
            (Some(lifetime), _) if lifetime.is_zero() => {
                let why = "the issuer gave a token that has ended already (expires_in is 0)";
                return Err(ConnectError::new(Obstacle::Credentials, why));
            }
            (Some(lifetime), _) => lifetime,
            (None, Some(claims)) => match jwt::end(claims) {
                Some(end) => jwt::left(end, now)?,
                None => return Err(endless()),
            },
            (None, None) => return Err(endless()),
        };
        let token = Token::new(self.access_token, lifetime);
        Ok(match claims.as_ref().and_then(jwt::subject) {
            Some(subject) => token.with_principal(subject),
            None => token,
        })
    }

    /// The refresh token, if the issuer gave one. From then on it takes the place of the one before.
    pub fn refresh_token(&self) -> Option<&Secret> {
        self.refresh_token.as_ref()
    }
}

fn endless() -> ConnectError {
    let why = "the issuer's answer does not say how long the token lives: it has no expires_in, and the token no claim \"exp\"";
    ConnectError::new(Obstacle::Peer, why)
}

/// A number of seconds. Some issuers write it as text.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::String(text) => text.parse().ok()?,
        value => value.as_f64()?,
    };
    if seconds.is_nan() {
        return None;
    }
    let seconds = if seconds <= 0.0 { 0.0 } else { seconds };
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(jwt::LIFETIME_MAX).min(jwt::LIFETIME_MAX))
}

/// Why there is no token.
fn refusal(status: u16, answer: Option<&Map<String, Value>>, secrets: &[&Secret]) -> ConnectError {
    // One of them may be part of another, which has to be found whole.
    let mut secrets = secrets.to_vec();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
    let text = |name: &str, most: usize| {
        let text = answer?.get(name)?.as_str().filter(|text| !text.is_empty())?;
        let hidden = secrets.iter().fold(text.to_owned(), |text, secret| secret.hide_in(&text));
        Some(cleaned(&hidden, most))
    };
    let code = text("error", CODE_MAX);
    let description = text("error_description", DESCRIPTION_MAX).or_else(|| text("message", DESCRIPTION_MAX));
    let obstacle = match (status, code.as_deref()) {
        (_, Some("temporarily_unavailable" | "server_error" | "slow_down")) => Obstacle::Network,
        (408 | 425 | 429 | 500.., _) => Obstacle::Network,
        (_, Some("invalid_request" | "invalid_scope" | "unsupported_grant_type" | "invalid_target")) => {
            Obstacle::Configuration
        }
        (_, Some(_)) | (401 | 403, None) => Obstacle::Credentials,
        (400..500, None) => Obstacle::Configuration,
        (_, None) => Obstacle::Peer,
    };
    let told = description.map(|description| format!(": {description:?}")).unwrap_or_default();
    let why = match code {
        Some(code) => format!("the issuer refuses with {code}{told} (status {status})"),
        None if (200..300).contains(&status) => "the issuer's answer is not an object of JSON".to_owned(),
        None => format!("the issuer answers with status {status}{told}"),
    };
    ConnectError::new(obstacle, why)
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn answers_are_read_as_issuers_write_them() {
        let check = |body: &str, expected: Result<u64, &str>| {
            let now = UNIX_EPOCH + Duration::from_secs(1000);
            let token = TokenAnswer::parse(200, body.as_bytes()).and_then(|answer| answer.into_token(now));
            let lifetime = token.map(|token| token.lifetime().as_secs()).map_err(|error| error.to_string());
            assert_eq!(
                lifetime.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|why| *why),
                "{body}"
            );
        };
        check(r#"{"access_token":"t","expires_in":60}"#, Ok(60));
        check(r#"{"access_token":"t","expires_in":"60"}"#, Ok(60));
        check(r#"{"access_token":"t","expires_in":60.5,"x":[{}]}"#, Ok(60));
        check(r#"{"access_token":"t","expires_in":1e308}"#, Ok(jwt::LIFETIME_MAX.as_secs()));
        check(r#"{"id_token":"t","expires_in":60}"#, Ok(60));
        // expires_in needs no clock, so it goes before the claim.
        check(r#"{"access_token":"e30.eyJleHAiOjEwMDF9.x","expires_in":60}"#, Ok(60));
        check(r#"{"access_token":"e30.eyJleHAiOjEwMDF9.x"}"#, Ok(1));
        let ended = "the issuer gave a token that has ended already (expires_in is 0)";
        check(r#"{"access_token":"t","expires_in":0}"#, Err(ended));
        check(r#"{"access_token":"t","expires_in":-3}"#, Err(ended));
        check(
            r#"{"access_token":"t"}"#,
            Err(
                "the issuer's answer does not say how long the token lives: it has no expires_in, and the token no claim \"exp\"",
            ),
        );
        check(
            r#"{"access_token":"t","expires_in":"NaN"}"#,
            Err(
                "the issuer's answer does not say how long the token lives: it has no expires_in, and the token no claim \"exp\"",
            ),
        );
        check(r#"{"access_token":""}"#, Err("the issuer's answer has no access_token"));
        check(r#"{"access_token":7}"#, Err("the issuer's answer has no access_token"));
        check("<html>", Err("the issuer's answer is not an object of JSON"));
        check("", Err("the issuer's answer is not an object of JSON"));
        check(r#"{"error":"invalid_client"}"#, Err("the issuer refuses with invalid_client (status 200)"));
    }

    #[test]
    fn a_secret_that_is_part_of_another_does_not_show_the_rest() {
        let [part, whole] = ["kafka", "kafka-hunter2"].map(Secret::from);
        let body = r#"{"error":"invalid_client","error_description":"kafka-hunter2 is wrong"}"#;
        let Value::Object(answer) = serde_json::from_str(body).expect("an object") else {
            panic!("an object")
        };
        let error = refusal(401, Some(&answer), &[&part, &whole]);
        let expected = "the issuer refuses with invalid_client: \"*** is wrong\" (status 401)";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn a_refusal_says_whose_fault_it_is() {
        let check = |status: u16, body: &str, obstacle: Obstacle, expected: &str| {
            let error = TokenAnswer::parse(status, body.as_bytes()).expect_err("refused");
            assert_eq!((error.obstacle(), &*error.to_string()), (obstacle, expected), "{status} {body}");
        };
        check(
            400,
            r#"{"error":"invalid_grant","error_description":"expired\u001b[31m\nrefresh token"}"#,
            Obstacle::Credentials,
            "the issuer refuses with invalid_grant: \"expired [31m refresh token\" (status 400)",
        );
        check(
            400,
            r#"{"error":"invalid_scope"}"#,
            Obstacle::Configuration,
            "the issuer refuses with invalid_scope (status 400)",
        );
        check(
            503,
            r#"{"error":"invalid_client"}"#,
            Obstacle::Network,
            "the issuer refuses with invalid_client (status 503)",
        );
        check(500, "", Obstacle::Network, "the issuer answers with status 500");
        check(429, "{}", Obstacle::Network, "the issuer answers with status 429");
        check(401, "no", Obstacle::Credentials, "the issuer answers with status 401");
        check(404, "<html>", Obstacle::Configuration, "the issuer answers with status 404");
        check(
            403,
            r#"{"message":"go away"}"#,
            Obstacle::Credentials,
            "the issuer answers with status 403: \"go away\"",
        );
    }

    #[test]
    fn what_an_issuer_repeats_of_a_secret_is_hidden() {
        let secret = Secret::from("hunter2");
        let body = format!(
            r#"{{"error":"invalid_client","error_description":"{}hunter2 is wrong"}}"#,
            "x".repeat(297)
        );
        let error = TokenAnswer::parse_hiding(401, body.as_bytes(), &[&secret]).expect_err("refused");
        assert!(!error.to_string().contains("hun") && error.to_string().contains("***…"), "{error}");
    }
}
