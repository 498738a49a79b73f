//! Keys that sign JSON Web Tokens.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use graviola::hashing::Sha256;
use graviola::signing::{ecdsa, rsa};
use serde_json::{Value, json};

use crate::error::Error;
use crate::tls::pem;

/// A private key that signs JSON Web Tokens, for tests and development: that of an [`Issuer`](super::Issuer), or that of a
/// client which signs assertions.
///
/// ```
/// use milena_broker::{Issuer, JwtKey};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
/// let key = JwtKey::es256()?;
/// let issuer = Issuer::builder().client_keys("billing", &key.jwks())?.start().await?;
/// assert!(key.private_pem().starts_with("-----BEGIN PRIVATE KEY-----"));
/// let assertion = key.sign(&json!({}), &json!({"iss": "billing", "sub": "billing"}));
/// assert_eq!(assertion.split('.').count(), 3);
/// # drop(issuer);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct JwtKey {
    id: String,
    private: Arc<Private>,
}

enum Private {
    Rsa(Box<rsa::SigningKey>),
    Ec(ecdsa::SigningKey<ecdsa::P256>),
}

/// The bytes of a point of P-256 that is not compressed, without its first one.
const POINT_BYTES: usize = 64;

impl JwtKey {
    /// A new key of the curve P-256, for ES256.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn es256() -> Result<Self, Error> {
        Self::of(false)
    }

    /// A new RSA key of 2048 bits, for RS256. Making it takes a moment.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub fn rs256() -> Result<Self, Error> {
        Self::of(true)
    }

    pub(super) fn of(is_rs256: bool) -> Result<Self, Error> {
        let failed = |error| Error::refused(format!("cannot make a key: {error:?}"));
        let private = match is_rs256 {
            true => Private::Rsa(Box::new(rsa::SigningKey::generate(rsa::KeySize::Rsa2048).map_err(failed)?)),
            false => Private::Ec(ecdsa::SigningKey::generate().map_err(failed)?),
        };
        Ok(Self { id: random_text(), private: Arc::new(private) })
    }

    /// The private key as PEM. It is not encrypted.
    ///
    /// # Panics
    /// Never: a key that was made here can be written.
    pub fn private_pem(&self) -> String {
        let mut der = [0; 4096];
        let der = match &*self.private {
            Private::Rsa(key) => key.to_pkcs8_der(&mut der),
            Private::Ec(key) => key.to_pkcs8_der(&mut der),
        };
        pem("PRIVATE KEY", der.expect("a key is shorter"))
    }

    /// The public key as a JSON Web Key Set.
    pub fn jwks(&self) -> String {
        json!({ "keys": [self.public()] }).to_string()
    }

    /// The public key as a JSON Web Key.
    pub(super) fn public(&self) -> Value {
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut der = [0; 1024];
        match &*self.private {
            Private::Rsa(key) => {
                let der = key.public_key().to_pkcs1_der(&mut der).map(<[u8]>::to_vec);
                let (n, e) = numbers(&der.expect("a key is shorter")).expect("a key has two numbers");
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id, "n": encoded(&n), "e": encoded(&e) })
            }
            Private::Ec(key) => {
                let spki = key.to_spki_der(&mut der).expect("a key is shorter");
                // The point is the last part.
                let (x, y) = spki[spki.len() - POINT_BYTES..].split_at(POINT_BYTES / 2);
                json!({
                    "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id, "x": encoded(x), "y": encoded(y)
                })
            }
        }
    }

    /// A token with this header and these claims, which are objects. `alg` and `kid` are added to the header.
    ///
    /// # Panics
    /// When the system has no random bytes.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let mut header = header.clone();
        header["alg"] = if matches!(&*self.private, Private::Rsa(_)) { "RS256" } else { "ES256" }.into();
        header["kid"] = self.id.as_str().into();
        let part = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", part(&header), part(claims));
        let mut signature = [0; 512];
        let signature = match &*self.private {
            Private::Rsa(key) => {
                let signature = &mut signature[..key.modulus_len_bytes()];
                key.sign_pkcs1_sha256(signature, signed.as_bytes())
            }
            Private::Ec(key) => key.sign::<Sha256>(&[signed.as_bytes()], &mut signature),
        };
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.expect("there are random bytes")))
    }
}

impl fmt::Debug for JwtKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A text that nobody can foresee.
pub(super) fn random_text() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has random bytes");
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The modulus and the exponent of a public key in PKCS#1, without leading zeros.
fn numbers(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (sequence, _) = element(der)?;
    let (n, rest) = element(sequence)?;
    let (e, _) = element(rest)?;
    let bare = |number: &[u8]| number[number.iter().take_while(|&&digit| digit == 0).count()..].to_vec();
    Some((bare(n), bare(e)))
}

/// The content of the first element of DER, and what follows it.
fn element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[_, length], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match length {
        ..=0x7f => (usize::from(length), rest),
        _ => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
    };
    rest.split_at_checked(length)
}
