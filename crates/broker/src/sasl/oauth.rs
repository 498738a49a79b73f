//! OAUTHBEARER (RFC 7628, KIP-255): the client sends a token, with extensions (KIP-342).
//!
//! ```text
//!  n,,^Aauth=Bearer token^A^A ─▶ nothing
//!                             └▶ {"status":"invalid_token"} ─▶ ^A ─▶ failure with the same words
//! ```

use super::{Failure, Step};
use crate::now::Now;
use crate::oauth::Rejected;
use crate::users::Users;

/// The exchange, from the server's side.
#[derive(Debug, Clone, Default)]
pub(super) struct Oauth {
    /// The words for the client when its token was not taken.
    refused: Option<(String, String)>,
}

/// What separates the parts of a message.
const SEPARATOR: char = '\u{1}';

impl Oauth {
    /// Takes the client's next message.
    pub(super) fn step(&mut self, token: &[u8], users: &Users, now: Now) -> Result<Step, Failure> {
        if let Some((message, reason)) = self.refused.take() {
            return match token {
                // The client has seen the reason.
                [1] => Err(Failure::Explained { message, reason }),
                _ => Err(Failure::Hidden("the answer to a refused token has another form")),
            };
        }
        let other_form = Failure::Hidden("the message has another form");
        let message = std::str::from_utf8(token).map_err(|_| other_form.clone())?;
        let (authorization_id, bearer) = parse(message).ok_or(other_form)?;
        let validator = users.oauth().ok_or(Failure::Hidden("there are no rules for tokens"))?;
        match validator.check(bearer, now.unix_ms) {
            Ok(accepted) if authorization_id.is_some_and(|id| id != accepted.principal) => {
                let message = format!(
                    "Authentication failed: Client requested an authorization id ({}) that is different from the \
                     token's principal name ({})",
                    authorization_id.unwrap_or_default(),
                    accepted.principal
                );
                Err(Failure::Explained { reason: message.clone(), message })
            }
            Ok(accepted) => Ok(Step::Done {
                user: accepted.principal,
                token: Vec::new(),
                expires_ms: Some(accepted.expires_ms),
                by_token: false,
            }),
            Err(rejected) => {
                let (message, reason) = match rejected {
                    Rejected::Invalid(reason) => {
                        (r#"{"status":"invalid_token"}"#.to_owned(), reason.to_owned())
                    }
                    Rejected::Scope(scope) => {
                        let scope = serde_json::Value::from(scope);
                        let message = format!(r#"{{"status":"insufficient_scope", "scope":{scope}}}"#);
                        (message, format!("the token lacks a scope of {scope}"))
                    }
                };
                let challenge = message.clone().into_bytes();
                self.refused = Some((message, reason));
                Ok(Step::Challenge(challenge))
            }
        }
    }
}

/// The authorization id and the token in the client's first message. The extensions must have the right form, and mean
/// nothing to this broker.
fn parse(message: &str) -> Option<(Option<&str>, &str)> {
    let rest = message.strip_prefix("n,")?;
    let (id, rest) = rest.split_once(',')?;
    let id = match id {
        "" => None,
        id => Some(id.strip_prefix("a=").filter(|id| !id.is_empty())?),
    };
    let pairs = rest.strip_prefix(SEPARATOR)?.strip_suffix(SEPARATOR)?;
    let pairs = pairs.strip_suffix(SEPARATOR)?;
    let mut bearer = None;
    for pair in pairs.split(SEPARATOR) {
        let (key, value) = pair.split_once('=')?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) || value.is_empty() {
            return None;
        }
        if key == "auth" {
            let (scheme, token) = value.split_once(' ')?;
            bearer = scheme.eq_ignore_ascii_case("bearer").then(|| token.trim());
            bearer.filter(|token| !token.is_empty())?;
        }
    }
    Some((id, bearer?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_read_as_kafka_reads_it() {
        assert_eq!(parse("n,,\u{1}auth=Bearer abc.d.e\u{1}\u{1}"), Some((None, "abc.d.e")));
        assert_eq!(parse("n,a=me,\u{1}auth=bearer  x \u{1}traceId=1 2\u{1}\u{1}"), Some((Some("me"), "x")));
        assert_eq!(parse("n,,\u{1}traceId=1\u{1}auth=BEARER x\u{1}\u{1}"), Some((None, "x")));
        for wrong in [
            "",
            "n,,",
            "n,,\u{1}\u{1}",
            "y,,\u{1}auth=Bearer x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}",
            "n,,\u{1}auth=Basic x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer \u{1}\u{1}",
            "n,,\u{1}a=Bearer x\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}1=2\u{1}\u{1}",
            "n,,\u{1}auth=Bearer x\u{1}trace=\u{1}\u{1}",
            "n,a=,\u{1}auth=Bearer x\u{1}\u{1}",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}
