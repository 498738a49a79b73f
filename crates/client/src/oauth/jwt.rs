//! Reads of a JSON Web Token what the client needs: when it ends, and whom it stands for. The broker checks its signature.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use milena_core::Obstacle;
use serde_json::{Map, Value};

use crate::{ConnectError, Secret, Token};

/// Base64 as tokens have it. Padding is not written, and read.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Of a longer token the claims are not read; such a token is opaque.
const TOKEN_BYTES_MAX: usize = 256 << 10;
/// No token lives longer, whatever it says.
pub(super) const LIFETIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// The claims of a token, if it is a JWT.
pub(super) fn claims(token: &[u8]) -> Option<Map<String, Value>> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    let mut parts = token.split(|byte| *byte == b'.');
    let (header, claims, _signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    object(header)?;
    object(claims)
}

fn object(part: &[u8]) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64.decode(part).ok()?).ok()
}

/// The claim `exp`, a number of seconds since 1970.
pub(super) fn end(claims: &Map<String, Value>) -> Option<SystemTime> {
    let seconds = claims.get("exp")?.as_f64().filter(|seconds| *seconds >= 0.0)?;
    UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(seconds).ok()?)
}

/// Whom the token stands for.
pub(super) fn subject(claims: &Map<String, Value>) -> Option<&str> {
    claims.get("sub")?.as_str().filter(|subject| !subject.is_empty())
}

/// How long something lives that ends at `end`, at `now`.
pub(super) fn left(end: SystemTime, now: SystemTime) -> Result<Duration, ConnectError> {
    match end.duration_since(now) {
        Ok(left) if !left.is_zero() => Ok(left.min(LIFETIME_MAX)),
        Ok(_) => Err(ended(Duration::ZERO)),
        Err(error) => Err(ended(error.duration())),
    }
}

fn ended(ago: Duration) -> ConnectError {
    let seconds = ago.as_secs();
    let why = format!("the token ended {seconds} s ago, by this machine's clock (claim \"exp\")");
    ConnectError::new(Obstacle::Credentials, why)
}

impl Token {
    /// A JSON Web Token, which lives until its claim `exp` says, and stands for its claim `sub`. `now` is the time of day. The
    /// signature is not checked, because that is for the broker.
    ///
    /// ```
    /// use std::time::{Duration, UNIX_EPOCH};
    ///
    /// use milena::Token;
    ///
    /// let jwt = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSIsImV4cCI6MTAwMH0."; // {"sub":"alice","exp":1000}
    /// assert!(Token::from_jwt(jwt, UNIX_EPOCH + Duration::from_secs(400)).is_ok());
    /// let error = Token::from_jwt(jwt, UNIX_EPOCH + Duration::from_secs(1005)).unwrap_err();
    /// assert!(error.to_string().contains("the token ended 5 s ago"));
    /// ```
    ///
    /// # Errors
    /// When it is no JWT, has no `exp`, or has ended by `now`.
    pub fn from_jwt(value: impl Into<Secret>, now: SystemTime) -> Result<Self, ConnectError> {
        let value = value.into();
        let claims = claims(value.expose())
            .ok_or_else(|| ConnectError::new(Obstacle::Credentials, "the token is no JSON Web Token"))?;
        let end = end(&claims).ok_or_else(|| {
            ConnectError::new(Obstacle::Credentials, "the token does not say when it ends (claim \"exp\")")
        })?;
        let token = Self::new(value, left(end, now)?);
        Ok(match subject(&claims) {
            Some(subject) => token.with_principal(subject),
            None => token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwt(claims: &str) -> String {
        format!("{}.{}.c2ln", BASE64.encode("{\"alg\":\"RS256\"}"), BASE64.encode(claims))
    }

    #[test]
    fn the_end_of_a_token_is_read_in_every_form_that_issuers_write() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let check = |claims: &str, expected: Result<u64, &str>| {
            let found = claims_of(claims).and_then(|claims| end(&claims));
            let found = found.ok_or_else(|| "no end".to_owned());
            let found = found.and_then(|end| left(end, now).map_err(|error| error.to_string()));
            let found = found.map(|left| left.as_secs());
            assert_eq!(
                found.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|why| *why),
                "{claims}"
            );
        };
        fn claims_of(text: &str) -> Option<Map<String, Value>> {
            claims(jwt(text).as_bytes())
        }
        check("{\"exp\":1060}", Ok(60));
        check("{\"exp\":1060.9}", Ok(60));
        check("{\"exp\":1.06e3}", Ok(60));
        check("{\"exp\":1e300}", Err("no end"));
        check("{\"exp\":99999999999}", Ok(LIFETIME_MAX.as_secs()));
        check("{\"exp\":-1}", Err("no end"));
        check("{\"exp\":\"1060\"}", Err("no end"));
        check("{}", Err("no end"));
        check("{\"exp\":1000}", Err("the token ended 0 s ago, by this machine's clock (claim \"exp\")"));
        check("{\"exp\":940}", Err("the token ended 60 s ago, by this machine's clock (claim \"exp\")"));
    }

    #[test]
    fn what_is_no_jwt_is_opaque() {
        let none = |token: &str| assert!(claims(token.as_bytes()).is_none(), "{token}");
        none("");
        none("opaque");
        none("a.b.c");
        none("e30.e30");
        none("e30.e30.e30.e30");
        none("W10.e30.e30");
        none(&format!("e30.{}.x", BASE64.encode("[".repeat(10_000))));
        none(&format!("{}.", jwt(&format!("{{\"a\":\"{}\"}}", "x".repeat(TOKEN_BYTES_MAX)))));
        assert!(claims(b"e30.e30.").is_some() && claims(b"e30=.e30=.x").is_some(), "padding is taken");
    }
}
