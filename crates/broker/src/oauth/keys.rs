//! The keys of a JSON Web Key Set (RFC 7517), and the signatures that they verify (RFC 7518).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use graviola::hashing::Sha256;
use graviola::signing::{ecdsa, rsa};
use serde_json::{Map, Value};

use super::text;

/// The keys of a set.
#[derive(Debug, Clone)]
pub(crate) struct Keys(Arc<[Key]>);

struct Key {
    id: Option<String>,
    public: Public,
}

enum Public {
    Rsa(Box<rsa::VerifyingKey>),
    Ec(Box<ecdsa::VerifyingKey<ecdsa::P256>>),
}

/// The most keys of a set that are looked at.
const KEYS_MAX: usize = 100;

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads a set. Keys that it cannot use are left out, as RFC 7517 wants it. The error is a sentence.
    pub(crate) fn parse(jwks: &str) -> Result<Self, String> {
        let set: Value = serde_json::from_str(jwks)
            .map_err(|error| format!("the JSON Web Key Set is not JSON: {error}"))?;
        let keys =
            set.get("keys").and_then(Value::as_array).ok_or("the JSON Web Key Set has no list of keys")?;
        let keys: Vec<Key> =
            keys.iter().take(KEYS_MAX).filter_map(|key| Key::parse(key.as_object()?)).collect();
        match keys.is_empty() {
            true => Err("the JSON Web Key Set has no RSA or P-256 key that signs".to_owned()),
            false => Ok(Self(keys.into())),
        }
    }

    /// Whether one of the keys made this signature. The error is a reason for the log.
    pub(super) fn verify(
        &self,
        header: &Map<String, Value>,
        signed: &[u8],
        signature: &str,
    ) -> Result<(), &'static str> {
        let algorithm = text(header, "alg").unwrap_or_default();
        if !matches!(algorithm, "RS256" | "ES256") {
            return Err("the token's algorithm is not RS256 or ES256");
        }
        let key = match (text(header, "kid"), &*self.0) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [key]) => Some(key),
            (None, _) => None,
        };
        let key = key.ok_or("no key has the token's key id")?;
        let wrong = "the token's signature is wrong";
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| wrong)?;
        let verified = match (&key.public, algorithm) {
            (Public::Rsa(public), "RS256") => public.verify_pkcs1_sha256(&signature, signed),
            (Public::Ec(public), "ES256") => public.verify::<Sha256>(&[signed], &signature),
            _ => return Err("the token's algorithm is not that of its key"),
        };
        verified.map_err(|_| wrong)
    }
}

impl Key {
    fn parse(fields: &Map<String, Value>) -> Option<Self> {
        if text(fields, "use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |name| URL_SAFE_NO_PAD.decode(text(fields, name)?).ok();
        let public = match text(fields, "kty")? {
            "RSA" => {
                let der = [integer(&bytes("n")?), integer(&bytes("e")?)].concat();
                Public::Rsa(Box::new(rsa::VerifyingKey::from_pkcs1_der(&element(SEQUENCE, &der)).ok()?))
            }
            "EC" if text(fields, "crv") == Some("P-256") => {
                let point = [&[UNCOMPRESSED][..], &bytes("x")?, &bytes("y")?].concat();
                Public::Ec(Box::new(ecdsa::VerifyingKey::from_x962_uncompressed(&point).ok()?))
            }
            _ => return None,
        };
        Some(Self { id: text(fields, "kid").map(str::to_owned), public })
    }
}

const INTEGER: u8 = 0x02;
const SEQUENCE: u8 = 0x30;
/// The first byte of a point with both of its coordinates.
const UNCOMPRESSED: u8 = 4;

/// A positive number in DER.
fn integer(number: &[u8]) -> Vec<u8> {
    let zeros = number.iter().take_while(|&&byte| byte == 0).count();
    let number = &number[zeros..];
    let sign: &[u8] = if number.first().is_none_or(|first| first & 0x80 != 0) { &[0] } else { &[] };
    element(INTEGER, &[sign, number].concat())
}

/// An element of DER.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let digits = &length[length.iter().take_while(|&&byte| byte == 0).count()..];
    let head = match content.len() {
        0..=0x7f => vec![tag, content.len() as u8],
        _ => [&[tag, 0x80 | digits.len() as u8][..], digits].concat(),
    };
    [head, content.to_vec()].concat()
}
