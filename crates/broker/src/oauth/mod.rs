//! Which tokens OAUTHBEARER takes: JWTs that are signed by a known key, or unsecured ones where that is allowed.
//!
//! ```text
//!  header.claims.signature ─▶ key by kid ─▶ signature ─▶ exp, nbf, iat, iss, aud, scope ─▶ principal, lifetime
//! ```
//!
//! It must not know SASL; `sasl/oauth.rs` unpacks the token.

mod keys;

use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::error::Error;
pub(crate) use keys::Keys;

/// The rules for tokens of OAUTHBEARER, as Kafka's validators have them (`sasl.oauthbearer.*`).
///
/// ```
/// use milena_broker::{Broker, Listener, OauthValidator};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
/// // Only for tests: anyone can write such a token.
/// let validator = OauthValidator::unsecured();
/// let cluster = Broker::builder().listener(Listener::sasl_plaintext()).oauth(validator).start().await?;
/// cluster.shutdown().await
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct OauthValidator {
    /// `None` takes unsecured tokens. Clones share the keys, which may be replaced.
    keys: Option<Arc<RwLock<Keys>>>,
    issuer: Option<String>,
    audiences: Vec<String>,
    clock_skew_ms: i64,
    principal_claim: String,
    scope_claim: String,
    required_scopes: Vec<String>,
}

/// What a token that was taken says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) principal: String,
    pub(crate) expires_ms: i64,
}

/// Why a token is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It is not valid; the reason is for the log.
    Invalid(&'static str),
    /// It lacks a scope: these are wanted.
    Scope(String),
}

/// The longest token whose claims are looked at.
const TOKEN_BYTES_MAX: usize = 32 * 1024;

impl OauthValidator {
    /// Takes tokens that are signed with RS256 or ES256 by one of these keys: the text of a JSON Web Key Set
    /// (`sasl.oauthbearer.jwks.endpoint.url`). Tokens must have `exp` and `iat`, as in Kafka.
    ///
    /// # Errors
    /// When the text is not a JSON Web Key Set, and when it has no RSA or P-256 key that signs.
    pub fn jwks(text: &str) -> Result<Self, Error> {
        Ok(Self::new(Some(Keys::parse(text).map_err(Error::refused)?)))
    }

    /// Takes tokens that are signed by one of these keys from now on, and by no other: an issuer has replaced its keys. It is so
    /// for all clones, that of a running broker included, and sessions that have begun go on.
    ///
    /// # Errors
    /// As [`jwks`](Self::jwks), and when this takes unsecured tokens. The keys before stay then.
    pub fn set_jwks(&self, text: &str) -> Result<(), Error> {
        let keys = Keys::parse(text).map_err(Error::refused)?;
        let shared = self.keys.as_ref().ok_or_else(|| Error::refused("unsecured tokens have no keys"))?;
        *shared.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(())
    }

    /// Takes tokens without a signature (`alg` is `none`), as Kafka's default validator does
    /// (`OAuthBearerUnsecuredValidatorCallbackHandler`). Anyone can write such a token.
    pub fn unsecured() -> Self {
        Self::new(None)
    }

    fn new(keys: Option<Keys>) -> Self {
        Self {
            keys: keys.map(|keys| Arc::new(RwLock::new(keys))),
            issuer: None,
            audiences: Vec::new(),
            clock_skew_ms: 30_000,
            principal_claim: "sub".to_owned(),
            scope_claim: "scope".to_owned(),
            required_scopes: Vec::new(),
        }
    }

    /// The issuer that tokens must name (`sasl.oauthbearer.expected.issuer`). Default: any.
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.issuer = Some(issuer.into());
        self
    }

    /// An audience, of which tokens must name one (`sasl.oauthbearer.expected.audience`); may be repeated. Default: tokens
    /// name none, as in Kafka.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audiences.push(audience.into());
        self
    }

    /// How much the clocks of the issuer and the broker may differ (`sasl.oauthbearer.clock.skew.seconds`). Default 30
    /// seconds.
    pub fn clock_skew(mut self, skew: std::time::Duration) -> Self {
        self.clock_skew_ms = i64::try_from(skew.as_millis()).unwrap_or(i64::MAX / 4);
        self
    }

    /// The claim with the name of the principal (`sasl.oauthbearer.sub.claim.name`). Default `sub`.
    pub fn principal_claim(mut self, name: impl Into<String>) -> Self {
        self.principal_claim = name.into();
        self
    }

    /// The claim with the scopes (`sasl.oauthbearer.scope.claim.name`). Default `scope`.
    pub fn scope_claim(mut self, name: impl Into<String>) -> Self {
        self.scope_claim = name.into();
        self
    }

    /// A scope that tokens must have (`unsecuredValidatorRequiredScope`); may be repeated. Default: none.
    pub fn required_scope(mut self, scope: impl Into<String>) -> Self {
        self.required_scopes.push(scope.into());
        self
    }

    /// Checks a token.
    pub(crate) fn check(&self, token: &str, now_ms: i64) -> Result<Accepted, Rejected> {
        let invalid = Rejected::Invalid;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("the token is too long"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(body), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid("the token does not have three parts"));
        };
        let fields = object(header).ok_or(invalid("the token's header cannot be read"))?;
        let signed = &token[..header.len() + 1 + body.len()];
        match &self.keys {
            Some(keys) => {
                let keys = keys.read().unwrap_or_else(PoisonError::into_inner).clone();
                keys.verify(&fields, signed.as_bytes(), signature).map_err(invalid)?;
            }
            None if text(&fields, "alg") != Some("none") => {
                return Err(invalid("the token is not unsecured"));
            }
            None if !signature.is_empty() => return Err(invalid("an unsecured token has a signature")),
            None => {}
        }
        let claims = object(body).ok_or(invalid("the token's claims cannot be read"))?;
        self.check_claims(&claims, now_ms)
    }

    fn check_claims(&self, claims: &Map<String, Value>, now_ms: i64) -> Result<Accepted, Rejected> {
        let invalid = Rejected::Invalid;
        let skew = self.clock_skew_ms;
        let expires_ms = seconds(claims, "exp").map_err(invalid)?;
        let expires_ms = expires_ms.ok_or(invalid("the token has no expiry time"))?;
        if now_ms.saturating_sub(skew) >= expires_ms {
            return Err(invalid("the token has expired"));
        }
        if seconds(claims, "nbf").map_err(invalid)?.is_some_and(|from| now_ms.saturating_add(skew) < from) {
            return Err(invalid("the token is not valid yet"));
        }
        match seconds(claims, "iat").map_err(invalid)? {
            None if self.keys.is_some() => return Err(invalid("the token does not say when it was issued")),
            Some(issued) if issued > expires_ms => {
                return Err(invalid("the token was issued after its expiry time"));
            }
            _ => {}
        }
        if self.issuer.as_deref().is_some_and(|issuer| text(claims, "iss") != Some(issuer)) {
            return Err(invalid("the token's issuer is another one"));
        }
        let named = claims.get("aud").map(words).unwrap_or_default();
        let is_meant = match self.audiences.as_slice() {
            // Unsecured tokens are not asked for their audience.
            [] => named.is_empty() || self.keys.is_none(),
            expected => expected.iter().any(|audience| named.contains(&audience.as_str())),
        };
        if !is_meant {
            return Err(invalid("the token is meant for another audience"));
        }
        let scopes = claims.get(&self.scope_claim).map(words).unwrap_or_default();
        if self.required_scopes.iter().any(|wanted| !scopes.contains(&wanted.as_str())) {
            return Err(Rejected::Scope(self.required_scopes.join(" ")));
        }
        let principal = text(claims, &self.principal_claim).map(str::trim).unwrap_or_default();
        if principal.is_empty() {
            return Err(invalid("the token names no principal"));
        }
        Ok(Accepted { principal: principal.to_owned(), expires_ms })
    }
}

/// The claims of a token that one of the keys signed which `keys` knows for the claim `iss`. When the token is valid is not
/// checked.
pub(crate) fn verified(
    token: &str,
    keys: impl FnOnce(&str) -> Option<Keys>,
) -> Result<Map<String, Value>, &'static str> {
    let malformed = "the assertion is no JSON Web Token";
    if token.len() > TOKEN_BYTES_MAX {
        return Err("the assertion is too long");
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed)?;
    let (header, body) = signed.split_once('.').ok_or(malformed)?;
    let (header, claims) = (object(header).ok_or(malformed)?, object(body).ok_or(malformed)?);
    let keys = keys(text(&claims, "iss").unwrap_or_default()).ok_or("the assertion's issuer is not known")?;
    keys.verify(&header, signed.as_bytes(), signature)?;
    Ok(claims)
}

/// The JSON object in a part of a token.
fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str()
}

/// A time in a claim, in milliseconds since 1970.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, &'static str> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let seconds = value.as_f64().filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    let seconds = seconds.ok_or("a time in the token is no number of seconds")?;
    Ok(Some((seconds * 1000.0) as i64))
}

/// The words of a claim that is a list, or a text with spaces.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => text.split_whitespace().collect(),
        Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use graviola::hashing::Sha256;
    use graviola::signing::ecdsa::{P256, SigningKey as EcKey};
    use graviola::signing::rsa::{KeySize, SigningKey as RsaKey};
    use serde_json::json;

    use super::*;

    const NOW_MS: i64 = 1_700_000_000_000;
    const NOW: i64 = NOW_MS / 1000;

    fn part(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    fn unsecured(claims: &Value) -> String {
        format!("{}.{}.", part(&json!({ "alg": "none" })), part(claims))
    }

    fn claims() -> Value {
        json!({ "sub": "alice", "exp": NOW + 60, "iat": NOW })
    }

    /// The claims with some of them changed; null takes one away.
    fn with(changes: &Value) -> Value {
        let mut claims = claims();
        for (name, value) in changes.as_object().expect("an object") {
            match value {
                Value::Null => drop(claims.as_object_mut().expect("an object").remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        claims
    }

    fn alice() -> Result<Accepted, Rejected> {
        Ok(Accepted { principal: "alice".to_owned(), expires_ms: NOW_MS + 60_000 })
    }

    #[test]
    fn claims_are_checked_as_kafka_checks_them() {
        let any = OauthValidator::unsecured();
        let strict =
            any.clone().issuer("https://issuer").audience("kafka").audience("other").required_scope("write");
        let good = json!({ "iss": "https://issuer", "aud": ["x", "kafka"], "scope": "read write" });
        let check = |validator: &OauthValidator, claims: &Value| validator.check(&unsecured(claims), NOW_MS);
        assert_eq!(check(&any, &claims()), alice());
        assert_eq!(check(&strict, &with(&good)), alice());
        let own = OauthValidator::unsecured().principal_claim("name").scope_claim("scp").required_scope("a");
        assert_eq!(check(&own, &with(&json!({ "name": "alice", "scp": ["b", "a"], "sub": "bob" }))), alice());
        for (changes, reason) in [
            (json!({ "exp": null }), "the token has no expiry time"),
            (json!({ "exp": NOW - 31 }), "the token has expired"),
            (json!({ "exp": "soon" }), "a time in the token is no number of seconds"),
            (json!({ "exp": 1e300, "iat": -1 }), "a time in the token is no number of seconds"),
            (json!({ "nbf": NOW + 31 }), "the token is not valid yet"),
            (json!({ "iat": NOW + 61 }), "the token was issued after its expiry time"),
            (json!({ "sub": null }), "the token names no principal"),
            (json!({ "sub": "  " }), "the token names no principal"),
            (json!({ "sub": 7 }), "the token names no principal"),
        ] {
            assert_eq!(check(&any, &with(&changes)), Err(Rejected::Invalid(reason)), "{changes}");
        }
        for changes in [json!({ "exp": NOW - 29, "iat": NOW - 99 }), json!({ "nbf": NOW + 29 })] {
            assert!(check(&any, &with(&changes)).is_ok(), "within the clock skew: {changes}");
        }
        for (name, value, reason) in [
            ("iss", json!("https://other"), "the token's issuer is another one"),
            ("iss", json!(null), "the token's issuer is another one"),
            ("aud", json!("x"), "the token is meant for another audience"),
            ("aud", json!(null), "the token is meant for another audience"),
        ] {
            let mut claims = with(&good);
            claims[name] = value;
            assert_eq!(check(&strict, &claims), Err(Rejected::Invalid(reason)), "{claims}");
        }
        let mut claims = with(&good);
        claims["scope"] = json!("read writes");
        assert_eq!(check(&strict, &claims), Err(Rejected::Scope("write".to_owned())));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = unsecured(&claims());
        for token in [
            "",
            ".",
            "..",
            "a.b.c",
            "....",
            &good[..good.len() - 1],
            &format!("{good}x"),
            &format!("{good}."),
        ] {
            assert!(OauthValidator::unsecured().check(token, NOW_MS).is_err(), "{token}");
        }
        let signed = format!("{}.{}.", part(&json!({ "alg": "RS256" })), part(&claims()));
        assert!(OauthValidator::unsecured().check(&signed, NOW_MS).is_err());
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        assert_eq!(
            OauthValidator::unsecured().check(&long, NOW_MS),
            Err(Rejected::Invalid("the token is too long"))
        );
    }

    struct Ec(EcKey<P256>);

    impl Ec {
        fn new() -> Self {
            Self(EcKey::generate().expect("a key"))
        }

        fn jwk(&self, kid: &str) -> Value {
            let mut spki = [0; 256];
            let spki = self.0.to_spki_der(&mut spki).expect("fits");
            let point = &spki[spki.len() - 64..];
            let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": number(&point[..32]), "y": number(&point[32..]) })
        }

        fn token(&self, header: &Value, claims: &Value) -> String {
            let signed = format!("{}.{}", part(header), part(claims));
            let mut signature = [0; 64];
            let signature = self.0.sign::<Sha256>(&[signed.as_bytes()], &mut signature).expect("signed");
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn jwks(keys: &[Value]) -> String {
        json!({ "keys": keys }).to_string()
    }

    #[test]
    fn a_token_needs_the_signature_of_a_key_of_the_set() {
        let (one, two, other) = (Ec::new(), Ec::new(), Ec::new());
        let set = OauthValidator::jwks(&jwks(&[one.jwk("1"), two.jwk("2")])).expect("a set");
        let es256 = |kid: &str| json!({ "alg": "ES256", "kid": kid, "typ": "JWT" });
        assert_eq!(set.check(&one.token(&es256("1"), &claims()), NOW_MS), alice());
        assert_eq!(set.check(&two.token(&es256("2"), &claims()), NOW_MS), alice());
        let reason = |token: &str| match set.check(token, NOW_MS) {
            Err(Rejected::Invalid(reason)) => reason,
            other => panic!("{other:?}"),
        };
        assert_eq!(reason(&other.token(&es256("1"), &claims())), "the token's signature is wrong");
        assert_eq!(reason(&two.token(&es256("1"), &claims())), "the token's signature is wrong");
        assert_eq!(reason(&one.token(&es256("3"), &claims())), "no key has the token's key id");
        assert_eq!(reason(&unsecured(&claims())), "the token's algorithm is not RS256 or ES256");
        let token = one.token(&json!({ "alg": "RS256", "kid": "1" }), &claims());
        assert_eq!(reason(&token), "the token's algorithm is not that of its key");
        assert_eq!(
            reason(&one.token(&es256("1"), &with(&json!({ "iat": null })))),
            "the token does not say when it was issued"
        );
        let reason_of_audience = reason(&one.token(&es256("1"), &with(&json!({ "aud": "kafka" }))));
        assert_eq!(reason_of_audience, "the token is meant for another audience");
        let token = one.token(&es256("1"), &claims());
        let (signed, signature) = token.rsplit_once('.').expect("parts");
        let (header, _) = signed.split_once('.').expect("parts");
        let forged = format!("{header}.{}.{signature}", part(&with(&json!({ "sub": "admin" }))));
        assert_eq!(reason(&forged), "the token's signature is wrong");
        assert_eq!(reason(&format!("{signed}.")), "the token's signature is wrong");
        // With one key the token need not name it.
        let single = OauthValidator::jwks(&jwks(&[one.jwk("1")])).expect("a set");
        assert_eq!(single.check(&one.token(&json!({ "alg": "ES256" }), &claims()), NOW_MS), alice());
    }

    #[test]
    fn rsa_keys_verify_too() {
        let key = RsaKey::generate(KeySize::Rsa2048).expect("a key");
        let mut der = [0; 1024];
        let der = key.public_key().to_pkcs1_der(&mut der).expect("fits");
        // SEQUENCE (long form), INTEGER n of 257 bytes with a zero before it, INTEGER e of 3 bytes.
        let (n, e) = (&der[9..9 + 256], &der[der.len() - 3..]);
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwk = json!({ "kty": "RSA", "kid": "r", "use": "sig", "n": number(n), "e": number(e) });
        let set = OauthValidator::jwks(&jwks(&[jwk])).expect("a set");
        let signed = format!("{}.{}", part(&json!({ "alg": "RS256", "kid": "r" })), part(&claims()));
        let mut signature = [0; 256];
        let signature = key.sign_pkcs1_sha256(&mut signature, signed.as_bytes()).expect("signed");
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(set.check(&token, NOW_MS), alice());
        assert!(set.check(&token[..token.len() - 4], NOW_MS).is_err());
    }

    #[test]
    fn a_set_without_a_key_that_signs_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            r#"{"keys":[{"kty":"RSA"}]}"#,
        ] {
            assert!(OauthValidator::jwks(text).is_err(), "{text}");
        }
        let mut jwk = Ec::new().jwk("1");
        jwk["use"] = json!("enc");
        assert!(OauthValidator::jwks(&jwks(&[jwk])).is_err());
    }
}
