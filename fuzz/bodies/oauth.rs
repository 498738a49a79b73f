//! Any bytes as an issuer's answer, and as a token.

use std::time::{Duration, UNIX_EPOCH};

use milena::Token;
use milena::oauth::TokenAnswer;

/// No token lives longer, whatever its issuer says.
const LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The first two bytes are the status, and the rest is the body; the rest is read as a token, too, and as the claims of one.
/// Nothing panics, errors are short and of one line, and no token lives for nothing or for ever.
pub(crate) fn run(data: &[u8]) {
    let Some((status, body)) = data.split_first_chunk::<2>() else { return };
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let check = |token: Result<Token, milena::ConnectError>| match token {
        Ok(token) => {
            assert!(
                !token.lifetime().is_zero() && token.lifetime() <= LIFETIME_MAX,
                "{:?}",
                token.lifetime()
            );
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.chars().count() < 2048 && !text.contains(char::is_control), "{text:?}");
        }
    };
    for status in [200, u16::from_be_bytes(*status)] {
        check(TokenAnswer::parse(status, body).and_then(|answer| answer.into_token(now)));
    }
    check(Token::from_jwt(body.to_vec(), now));
    check(Token::from_jwt(format!("e30.{}.", base64(body)), now));
}

/// The form that claims have in a token.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len() * 4 / 3 + 4);
    for part in bytes.chunks(3) {
        let bits =
            part.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - part.len()));
        for index in 0..=part.len() {
            text.push(char::from(ALPHABET[(bits >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}
