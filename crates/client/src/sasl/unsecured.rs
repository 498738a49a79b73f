//! Tokens that nobody has signed (KIP-255), for tests and for brokers that believe every token.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use milena_core::millis_since_epoch;

use super::{ProvideToken, Providing, Token};

/// Makes such tokens.
#[derive(Debug, Clone)]
pub(crate) struct Unsecured {
    pub(crate) lifetime: Duration,
    claims: Vec<(String, String)>,
    extensions: Vec<(String, String)>,
}

impl Default for Unsecured {
    /// Java's and librdkafka's lifetime.
    fn default() -> Self {
        Self { lifetime: Duration::from_secs(3600), claims: Vec::new(), extensions: Vec::new() }
    }
}

impl Unsecured {
    pub(crate) fn set_claim(&mut self, name: &str, value: &str) {
        self.claims.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn set_extension(&mut self, name: &str, value: &str) {
        self.extensions.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn has_subject(&self) -> bool {
        self.claims.iter().any(|(name, value)| name == "sub" && !value.is_empty())
    }

    /// The token at this time, in milliseconds since 1970. It ends with a whole second, so it lives up to a second less than what is
    /// set.
    fn at(&self, unix_ms: i64) -> Token {
        let (seconds, gone_ms) = (unix_ms.div_euclid(1000), unix_ms.rem_euclid(1000));
        let claims = self.claims.iter().map(|(name, value)| format!("{}:{},", quoted(name), quoted(value)));
        let (claims, until) = (claims.collect::<String>(), seconds + self.lifetime.as_secs() as i64);
        let claims = format!("{{{claims}\"iat\":{seconds},\"exp\":{until}}}");
        let value = format!("{}.{}.", BASE64.encode("{\"alg\":\"none\"}"), BASE64.encode(claims));
        let lifetime = self.lifetime.saturating_sub(Duration::from_millis(gone_ms.unsigned_abs()));
        let token = Token::new(value, lifetime);
        self.extensions.iter().fold(token, |token, (name, value)| token.with_extension(&**name, &**value))
    }
}

impl ProvideToken for Unsecured {
    #[expect(
        clippy::disallowed_methods,
        reason = "a token names the time of day, and a provider has no clock of the client's"
    )]
    fn token(&self) -> Providing<Token> {
        let token = self.at(millis_since_epoch(SystemTime::now()));
        Box::pin(async move { Ok(token) })
    }
}

/// A text in JSON.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => quoted += &format!("\\u{:04x}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_its_claims_and_no_signature() {
        let mut tokens = Unsecured::default();
        tokens.set_claim("sub", "al\"ice\n");
        tokens.set_extension("cluster", "c");
        let token = tokens.at(1_000_250);
        let text = String::from_utf8(token.value.expose().to_vec()).expect("text");
        let parts: Vec<_> = text.split('.').collect();
        let decoded = |part: &str| String::from_utf8(BASE64.decode(part).expect("base64")).expect("text");
        assert_eq!(decoded(parts[0]), "{\"alg\":\"none\"}");
        assert_eq!(decoded(parts[1]), "{\"sub\":\"al\\\"ice\\u000a\",\"iat\":1000,\"exp\":4600}");
        // It ends when it says so.
        assert_eq!((parts[2], parts.len(), token.lifetime.as_millis()), ("", 3, 3_599_750));
        assert_eq!(token.extensions, [("cluster".to_owned(), "c".to_owned())]);
    }
}
