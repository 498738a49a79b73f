//! OAUTHBEARER (RFC 7628): the client sends its token, and a broker that refuses it says why before it fails the exchange.

use bytes::Bytes;

use super::{Credentials, Token, Turn, secret_bytes};

/// The broker's side of the exchange.
#[derive(Debug, Clone, Default)]
pub(super) struct Bearer {
    /// Why the broker refused the token. It does not have the token, even if the broker repeated it.
    told: Option<String>,
}

/// A broker's reason is an object of a few short texts.
const REASON_BYTES_MAX: usize = 4096;
/// Between the parts of a message.
const SEPARATOR: &[u8] = b"\x01";

impl Bearer {
    /// An empty challenge accepts the token. Anything else is the reason why it is refused, and wants `\x01` as an answer
    /// before the broker ends the exchange.
    pub(super) fn handle(&mut self, credentials: &Credentials, challenge: &[u8]) -> Turn {
        if challenge.is_empty() {
            return Turn::Done;
        }
        // The secret is hidden in the whole text: a part of it would not be recognised.
        let text = credentials.hidden(&String::from_utf8_lossy(challenge));
        self.told = Some(credentials.quoted(&reason(&text)));
        Turn::Send(Bytes::from_static(b"\x01"))
    }

    pub(super) fn told(&self) -> Option<&str> {
        self.told.as_deref()
    }
}

/// The client's first message.
pub(super) fn first(token: &Token) -> Bytes {
    let extensions = token.extensions.iter();
    let extensions =
        extensions.flat_map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), SEPARATOR]);
    let begin = [b"n,,", SEPARATOR, b"auth=Bearer ", token.value.expose(), SEPARATOR];
    secret_bytes(begin.into_iter().chain(extensions).chain([SEPARATOR]))
}

/// Refuses what a message cannot carry: it has no escapes.
pub(super) fn check(token: &Token) -> Result<(), String> {
    let value = token.value.expose();
    if value.is_empty() {
        return Err("the token is empty".into());
    }
    // RFC 6750's `b64token`, which is all that brokers take.
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    if !value.iter().copied().all(is_of_token) {
        return Err(
            "the token has a character that no bearer token has, such as a space or a line's end".into()
        );
    }
    for (name, value) in &token.extensions {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(format!("the SASL extension {name:?} has a name of other characters than letters"));
        }
        if name == "auth" {
            return Err("\"auth\" is no name for a SASL extension: the token is sent under it".into());
        }
        let is_of_value = |byte: u8| matches!(byte, 0x20..=0x7e | b'\t' | b'\r' | b'\n');
        if value.is_empty() || !value.bytes().all(is_of_value) {
            return Err(format!(
                "the SASL extension {name:?} has a value that is empty or not printable ASCII"
            ));
        }
    }
    Ok(())
}

/// The reason in a broker's answer, which is an object of JSON with `status`, and maybe `scope` and `openid-configuration`.
fn reason(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(REASON_BYTES_MAX)];
    let Some(members) = members(text) else { return text.to_owned() };
    let member = |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let Some(status) = member("status") else { return text.to_owned() };
    let mut reason = status.clone();
    if let Some(scope) = member("scope") {
        reason += &format!("; it wants the scope {scope:?}");
    }
    if let Some(at) = member("openid-configuration") {
        reason += &format!("; {at} describes the issuer that it trusts");
    }
    reason
}

/// The members of an object whose values are all texts. Nothing else is read, and nothing nested.
pub(super) fn members(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?.trim();
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (name, after) = string(rest)?;
        let (value, after) = string(after.trim_start().strip_prefix(':')?.trim_start())?;
        members.push((name, value));
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(members)
}

/// The text that `text` begins with, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let text = text.strip_prefix('"')?;
    let mut string = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((string, &text[index + 1..])),
            '\\' => string.push(match characters.next()?.1 {
                'n' | 'r' | 't' | 'b' | 'f' => ' ',
                'u' => {
                    let digits: String = characters.by_ref().take(4).map(|(_, digit)| digit).collect();
                    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
                        .unwrap_or(char::REPLACEMENT_CHARACTER)
                }
                other => other,
            }),
            other => string.push(other),
        }
    }
    None
}
