//! Reads JKS, the key stores that Java wrote by default before Java 9.

use sha1::{Digest as _, Sha1};
use zeroize::Zeroizing;

use super::cipher::{Password, WRONG_PASSWORD};
use super::der::{Der, OCTETS, OID, SEQUENCE};
use super::store::{Entries, Identity};

const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const MAGIC_OF_JCEKS: [u8; 4] = [0xce, 0xce, 0xce, 0xce];
/// The SHA-1 of the password, these bytes and the store follows the store.
const WHITENER: &[u8] = b"Mighty Aphrodite";
const DIGEST_BYTES: usize = 20;
/// 1.3.6.1.4.1.42.2.17.1.1: Java's own protection of keys.
const PROTECTION: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0x2a, 0x02, 0x11, 0x01, 0x01];

pub(super) fn is_jks(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) || bytes.starts_with(&MAGIC_OF_JCEKS)
}

/// Reads a store. Without a password its integrity is not checked and its keys are not read, as in Java.
pub(super) fn read(
    bytes: &[u8],
    password: Option<&Password<'_>>,
    key_password: Option<&Password<'_>>,
) -> Result<Entries, String> {
    if bytes.starts_with(&MAGIC_OF_JCEKS) {
        return Err(
            "it is a JCEKS store, which is not supported; convert it with `keytool -importkeystore`".into()
        );
    }
    let malformed = "it is a JKS store that is damaged";
    let (body, digest) = bytes.split_last_chunk::<DIGEST_BYTES>().ok_or(malformed)?;
    if let Some(password) = password {
        let expected = Sha1::new().chain_update(&*password.utf16()).chain_update(WHITENER).chain_update(body);
        if expected.finalize()[..] != digest[..] {
            return Err(format!("{WRONG_PASSWORD}, or the store is damaged"));
        }
    }
    let mut store = Bytes(body);
    store.take(MAGIC.len()).ok_or(malformed)?;
    let version = store.number().ok_or(malformed)?;
    let count = store.number().ok_or(malformed)?;
    let mut entries = Entries::default();
    for _ in 0..count {
        let tag = store.number().ok_or(malformed)?;
        let _alias = store.text().ok_or(malformed)?;
        let _made = store.take(8).ok_or(malformed)?;
        match tag {
            1 => {
                let protected = store.sized().ok_or(malformed)?;
                let certificates = store.number().ok_or(malformed)?;
                let mut chain = Vec::new();
                for _ in 0..certificates {
                    chain.push(store.certificate(version).ok_or(malformed)?.to_vec());
                }
                if let Some(password) = key_password.or(password) {
                    entries.identities.push(Identity { chain, key: unprotected(protected, password)? });
                }
            }
            2 => entries.certificates.push(store.certificate(version).ok_or(malformed)?.to_vec()),
            _ => return Err(malformed.into()),
        }
    }
    Ok(entries)
}

/// Decrypts a key: it is combined with hashes of the password, each of which is made with the one before.
fn unprotected(protected: &[u8], password: &Password<'_>) -> Result<Zeroizing<Vec<u8>>, String> {
    let malformed = |_| "a key of the JKS store is damaged";
    let mut info = Der::new(protected).within(SEQUENCE).map_err(malformed)?;
    let algorithm = info.within(SEQUENCE).map_err(malformed)?.content(OID).map_err(malformed)?;
    if algorithm != PROTECTION {
        return Err("a key of the JKS store is encrypted in a way that is not supported".into());
    }
    let data = info.content(OCTETS).map_err(malformed)?;
    let short = "a key of the JKS store is damaged";
    let (salt, data) = data.split_first_chunk::<DIGEST_BYTES>().ok_or(short)?;
    let (data, check) = data.split_last_chunk::<DIGEST_BYTES>().ok_or(short)?;
    let password = password.utf16();
    let hash = |part: &[u8]| Sha1::new().chain_update(&*password).chain_update(part).finalize();
    let mut key = Zeroizing::new(data.to_vec());
    let mut mask = hash(salt);
    for block in key.chunks_mut(DIGEST_BYTES) {
        for (byte, mask) in block.iter_mut().zip(&mask) {
            *byte ^= mask;
        }
        mask = hash(&mask);
    }
    if hash(&key)[..] != check[..] {
        return Err("the password of the key is wrong".into());
    }
    Ok(key)
}

/// What is left of the store.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    /// Bytes after their number, in four bytes.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let count = self.number()?;
        self.take(count as usize)
    }

    /// Text after the number of its bytes, in two bytes.
    fn text(&mut self) -> Option<&'a [u8]> {
        let count = u16::from_be_bytes(self.take(2)?.try_into().ok()?);
        self.take(usize::from(count))
    }

    fn certificate(&mut self, version: u32) -> Option<&'a [u8]> {
        if version > 1 && self.text()? != b"X.509" {
            return None;
        }
        self.sized()
    }
}
