//! Signs with a private key, as JSON Web Signatures want it (RFC 7518). The provider of TLS does the cryptography.

use rustls::SignatureScheme;
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::der::{Der, INTEGER, Malformed, SEQUENCE};
use super::provider::provider;
use super::store;
use crate::Secret;

/// How an assertion is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigningAlgorithm {
    /// RSA with PKCS#1 v1.5 padding and SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

/// The bytes of a number of P-256.
const P256_BYTES: usize = 32;

impl SigningAlgorithm {
    /// Its name in JSON Web Signatures, and in properties.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

/// The one private key in `bytes`, which are PEM or a store, as those of a client's certificate: PKCS#8, which may be
/// encrypted, PKCS#1 or SEC1.
pub(crate) fn private_key(bytes: &[u8], passphrase: Option<&Secret>) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut found = store::read(bytes, None, passphrase, passphrase)?.identities;
    match (found.pop(), found.len()) {
        (Some(identity), 0) => Ok(identity.key),
        (Some(_), more) => Err(format!("it has {} private keys, and only one can be used", more + 1)),
        (None, _) => Err("it has no private key that can be read".into()),
    }
}

/// The signature of `message` in the form of JSON Web Signatures.
pub(crate) fn sign(key: &[u8], algorithm: SigningAlgorithm, message: &[u8]) -> Result<Vec<u8>, String> {
    let scheme = match algorithm {
        SigningAlgorithm::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
        SigningAlgorithm::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
    };
    let key = PrivateKeyDer::try_from(key).map_err(str::to_owned)?.clone_key();
    let key = provider()?.key_provider.load_private_key(key);
    let key = key.map_err(|error| format!("the private key cannot be used: {error}"))?;
    let needs = match algorithm {
        SigningAlgorithm::Rs256 => "an RSA key",
        SigningAlgorithm::Es256 => "a key of the curve P-256",
    };
    let signer = key.choose_scheme(&[scheme]);
    let signer =
        signer.ok_or_else(|| format!("{} needs {needs}, and the key is another one", algorithm.name()))?;
    let signature = signer.sign(message).map_err(|error| format!("signing failed: {error}"))?;
    match algorithm {
        SigningAlgorithm::Rs256 => Ok(signature),
        SigningAlgorithm::Es256 => flat(&signature).map_err(|_| "the signature has an unknown form".into()),
    }
}

/// The two numbers of an ECDSA signature in a row, of DER.
fn flat(signature: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut numbers = Der::new(signature).within(SEQUENCE)?;
    let mut flat = Vec::with_capacity(2 * P256_BYTES);
    for _ in 0..2 {
        let number = numbers.content(INTEGER)?;
        let number = &number[number.iter().take_while(|&&digit| digit == 0).count()..];
        let zeros = P256_BYTES.checked_sub(number.len()).ok_or(Malformed)?;
        flat.extend(std::iter::repeat_n(0, zeros));
        flat.extend_from_slice(number);
    }
    Ok(flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_signature_are_padded() {
        let der = [0x30, 7, 2, 2, 0, 0x80, 2, 1, 5];
        let flat = flat(&der).expect("read");
        assert_eq!((flat.len(), flat[31], flat[63]), (64, 0x80, 5));
        assert!(flat[..31].iter().chain(&flat[32..63]).all(|digit| *digit == 0));
        assert!(super::flat(&[0x30, 3, 2, 1, 5]).is_err() && super::flat(&[]).is_err());
        let long = [&[0x30, 38, 2, 33, 1][..], &[0; 32], &[2, 1, 5]].concat();
        assert!(super::flat(&long).is_err());
    }
}
