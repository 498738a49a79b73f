//! Reads PKCS#12 (RFC 7292), the key stores that Java and OpenSSL write.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use super::cipher::{Password, Purpose, checked, decrypt, derive};
use super::der::{Der, INTEGER, Malformed, OCTETS, OID, SEQUENCE, SET, context};
use super::store::{Entries, Identity};

/// 1.2.840.113549.1.7: contents of PKCS#7, whose last number follows.
const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07];
/// 1.2.840.113549.1.12.10.1: the kinds of bags, whose last number follows.
const BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x0a, 0x01];
/// 1.2.840.113549.1.9.22.1: an X.509 certificate.
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x16, 0x01];
/// 1.2.840.113549.1.9.21: what a key and its certificate have in common.
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x15];
const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
/// 2.16.840.1.101.3.4.2: the SHA-2 hashes, whose last number follows.
const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
/// Bags within bags within bags. Nobody writes even two.
const DEPTH_MAX: usize = 4;

/// Whether `bytes` begin as a PKCS#12 store does: a sequence, and in it the version 3.
pub(super) fn is_pkcs12(bytes: &[u8]) -> bool {
    let version = Der::new(bytes).within(SEQUENCE).and_then(|mut pfx| pfx.content(INTEGER));
    version == Ok(&[3])
}

/// Reads a store. A store that has no password is read with none.
pub(super) fn read(
    bytes: &[u8],
    password: &Password<'_>,
    key_password: Option<&Password<'_>>,
) -> Result<Entries, String> {
    let mut pfx = Der::new(bytes).within(SEQUENCE).map_err(damaged)?;
    pfx.content(INTEGER).map_err(damaged)?;
    let mut safe = pfx.within(SEQUENCE).map_err(damaged)?;
    if safe.content(OID).map_err(damaged)?.strip_prefix(PKCS7) != Some(&[1]) {
        return Err("it is a PKCS#12 store that is signed, which is not supported".into());
    }
    let contents = safe.within(context(0)).and_then(|mut safe| safe.content(OCTETS)).map_err(damaged)?;
    if !pfx.is_empty() {
        verify(pfx.within(SEQUENCE).map_err(damaged)?, contents, password)?;
    }
    let mut found = Found::default();
    let mut infos = Der::new(contents).within(SEQUENCE).map_err(damaged)?;
    while !infos.is_empty() {
        let mut info = infos.within(SEQUENCE).map_err(damaged)?;
        let kind = info.content(OID).map_err(damaged)?.strip_prefix(PKCS7);
        let mut content = info.within(context(0)).map_err(damaged)?;
        match kind {
            Some([1]) => {
                let bags = content.content(OCTETS).map_err(damaged)?;
                found.read(bags, password, key_password, 0)?;
            }
            Some([6]) => {
                let mut encrypted = content.within(SEQUENCE).map_err(damaged)?;
                encrypted.content(INTEGER).map_err(damaged)?;
                let mut part = encrypted.within(SEQUENCE).map_err(damaged)?;
                part.content(OID).map_err(damaged)?;
                let algorithm = part.value(SEQUENCE).map_err(damaged)?.whole;
                // [0] IMPLICIT OCTET STRING, in one piece.
                let data = part.content(0x80).map_err(damaged)?;
                let bags = decrypt(algorithm, password, data)?;
                found.read(&bags, password, key_password, 0)?;
            }
            _ => return Err("a part of the PKCS#12 store is encrypted with a public key".into()),
        }
    }
    Ok(found.entries())
}

fn damaged(_: Malformed) -> String {
    "it is a PKCS#12 store that is damaged, or not in DER; convert it with `openssl pkcs12`".into()
}

/// Checks the code that shows whether the password is right and the store whole.
fn verify(mut mac_data: Der<'_>, contents: &[u8], password: &Password<'_>) -> Result<(), String> {
    let mut mac = mac_data.within(SEQUENCE).map_err(damaged)?;
    let algorithm = mac.within(SEQUENCE).map_err(damaged)?.content(OID).map_err(damaged)?;
    let expected = mac.content(OCTETS).map_err(damaged)?;
    let salt = mac_data.content(OCTETS).map_err(damaged)?;
    let rounds = if mac_data.is_empty() { 1 } else { checked(mac_data.number().map_err(damaged)?)? };
    let bmp = password.bmp();
    let is_right = |password: &[u8]| match algorithm.strip_prefix(SHA2) {
        _ if algorithm == SHA1 => {
            let key = derive::<Sha1, 64>(Purpose::Mac, password, salt, rounds, 20);
            is_mac::<Hmac<Sha1>>(&key, contents, expected)
        }
        Some([1]) => {
            let key = derive::<Sha256, 64>(Purpose::Mac, password, salt, rounds, 32);
            is_mac::<Hmac<Sha256>>(&key, contents, expected)
        }
        Some([2]) => {
            let key = derive::<Sha384, 128>(Purpose::Mac, password, salt, rounds, 48);
            is_mac::<Hmac<Sha384>>(&key, contents, expected)
        }
        Some([3]) => {
            let key = derive::<Sha512, 128>(Purpose::Mac, password, salt, rounds, 64);
            is_mac::<Hmac<Sha512>>(&key, contents, expected)
        }
        _ => None,
    };
    // Tools disagree whether no password is an empty one or none at all.
    let mut is_known = is_right(&bmp);
    if is_known == Some(false) && password.text.is_empty() {
        is_known = is_right(&[]);
    }
    match is_known {
        Some(true) => Ok(()),
        Some(false) if password.text.is_empty() => Err("it needs a password".into()),
        Some(false) => Err("the password is wrong, or the store is damaged".into()),
        None => {
            Err("its integrity code is of a kind that is not supported; HMAC with SHA-1 or SHA-2 is".into())
        }
    }
}

fn is_mac<M: Mac + KeyInit>(key: &[u8], contents: &[u8], expected: &[u8]) -> Option<bool> {
    let mac = <M as KeyInit>::new_from_slice(key).ok()?;
    Some(mac.chain_update(contents).verify_slice(expected).is_ok())
}

/// What a key and its certificate have in common, if the store says it.
type Id = Option<Vec<u8>>;

/// Keys and certificates as they come, with the ids that match them.
#[derive(Default)]
struct Found {
    certificates: Vec<(Id, Vec<u8>)>,
    keys: Vec<(Id, Zeroizing<Vec<u8>>)>,
}

impl Found {
    fn read(
        &mut self,
        bags: &[u8],
        password: &Password<'_>,
        key_password: Option<&Password<'_>>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err("the bags of the PKCS#12 store are nested too deep".into());
        }
        let mut bags = Der::new(bags).within(SEQUENCE).map_err(damaged)?;
        while !bags.is_empty() {
            let mut bag = bags.within(SEQUENCE).map_err(damaged)?;
            let kind = bag.content(OID).map_err(damaged)?.strip_prefix(BAG);
            let mut value = bag.within(context(0)).map_err(damaged)?;
            let id = local_key_id(bag).map_err(damaged)?.map(<[u8]>::to_vec);
            match kind {
                Some([1]) => {
                    let key = value.value(SEQUENCE).map_err(damaged)?.whole;
                    self.keys.push((id, Zeroizing::new(key.to_vec())));
                }
                Some([2]) => {
                    let shrouded = value.value(SEQUENCE).map_err(damaged)?.whole;
                    let key = decrypt_key(shrouded, key_password.unwrap_or(password))?;
                    self.keys.push((id, key));
                }
                Some([3]) => {
                    let mut certificate = value.within(SEQUENCE).map_err(damaged)?;
                    if certificate.content(OID).map_err(damaged)? == X509 {
                        let der = certificate.within(context(0)).and_then(|mut der| der.content(OCTETS));
                        self.certificates.push((id, der.map_err(damaged)?.to_vec()));
                    }
                }
                Some([6]) => {
                    let bags = value.value(SEQUENCE).map_err(damaged)?.whole;
                    self.read(bags, password, key_password, depth + 1)?;
                }
                // Revocation lists, and secrets for other programs.
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts keys and certificates together. The certificates of keys are no roots, as in Java.
    fn entries(self) -> Entries {
        let Self { certificates, keys } = self;
        if keys.is_empty() {
            let certificates = certificates.into_iter().map(|(_, der)| der).collect();
            return Entries { certificates, identities: Vec::new() };
        }
        let identities = keys.into_iter().map(|(id, key)| {
            let own = certificates.iter().position(|(of, _)| id.is_some() && *of == id);
            // The certificates that follow are found by their issuers; see `Entries`.
            let mut chain: Vec<Vec<u8>> = certificates.iter().map(|(_, der)| der.clone()).collect();
            if let Some(own) = own {
                chain.swap(0, own);
            }
            Identity { chain, key }
        });
        let identities = identities.collect();
        Entries {
            certificates: certificates
                .into_iter()
                .filter(|(id, _)| id.is_none())
                .map(|(_, der)| der)
                .collect(),
            identities,
        }
    }
}

/// The id among a bag's attributes.
fn local_key_id(mut bag: Der<'_>) -> Result<Option<&[u8]>, Malformed> {
    let Some(attributes) = bag.optional(SET)? else { return Ok(None) };
    let mut attributes = Der::new(attributes);
    while !attributes.is_empty() {
        let mut attribute = attributes.within(SEQUENCE)?;
        if attribute.content(OID)? == LOCAL_KEY_ID {
            return attribute.within(SET)?.content(OCTETS).map(Some);
        }
    }
    Ok(None)
}

/// Decrypts a PKCS#8 key, DER of an EncryptedPrivateKeyInfo.
pub(super) fn decrypt_key(der: &[u8], password: &Password<'_>) -> Result<Zeroizing<Vec<u8>>, String> {
    let malformed = |_| "an encrypted private key is damaged";
    let mut info = Der::new(der).within(SEQUENCE).map_err(malformed)?;
    let algorithm = info.value(SEQUENCE).map_err(malformed)?.whole;
    let data = info.content(OCTETS).map_err(malformed)?;
    decrypt(algorithm, password, data)
}
