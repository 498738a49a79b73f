//! Decrypts what a password protects: PBES2 (RFC 8018), and the older schemes of PKCS#12 (RFC 7292) that Java 8 and OpenSSL
//! 1 wrote.

#![allow(unexpected_cfgs, reason = "cargo-fuzz sets `fuzzing`")]

use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use pkcs5::pbes2::Kdf;
use sha1::Sha1;
use sha2::digest::Digest;
use zeroize::Zeroizing;

use super::der::{Der, OCTETS, OID, SEQUENCE};

/// More rounds than this are refused. The readers run where a connection is made, and five million rounds take seconds, which
/// would be all of a fuzzer's time.
pub(super) const ROUNDS_MAX: u32 = if cfg!(fuzzing) { 100 } else { 5_000_000 };
/// The most memory that scrypt may ask for, in bytes.
const SCRYPT_BYTES_MAX: u64 = if cfg!(fuzzing) { 4 << 10 } else { 64 << 20 };

/// A password for a store: as text, and as PKCS#12 and JKS take it.
pub(super) struct Password<'a> {
    pub(super) text: &'a [u8],
}

impl Password<'_> {
    /// Two bytes for each UTF-16 unit, the higher one first.
    pub(super) fn utf16(&self) -> Zeroizing<Vec<u8>> {
        let text = String::from_utf8_lossy(self.text);
        let mut bytes = Zeroizing::new(Vec::with_capacity(text.len() * 2 + 2));
        for unit in text.encode_utf16() {
            bytes.extend_from_slice(&unit.to_be_bytes());
        }
        bytes
    }

    /// As PKCS#12 takes it, with a zero at the end.
    pub(super) fn bmp(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = self.utf16();
        bytes.extend_from_slice(&[0, 0]);
        bytes
    }
}

/// 1.2.840.113549.1.12.1: the schemes of PKCS#12, whose last number follows.
const PKCS12_PBE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01];

/// Decrypts `data` as `algorithm` says, a DER AlgorithmIdentifier.
pub(super) fn decrypt(
    algorithm: &[u8],
    password: &Password<'_>,
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, String> {
    let malformed = |_| "its encryption has malformed parameters";
    let mut within = Der::new(algorithm).within(SEQUENCE).map_err(malformed)?;
    let oid = within.content(OID).map_err(malformed)?;
    if let Some(scheme) = oid.strip_prefix(PKCS12_PBE) {
        let mut parameters = within.within(SEQUENCE).map_err(malformed)?;
        let salt = parameters.content(OCTETS).map_err(malformed)?;
        let rounds = checked(parameters.number().map_err(malformed)?)?;
        return match scheme {
            [3] => pkcs12::<cbc::Decryptor<des::TdesEde3>>(24, 8, password, salt, rounds, data),
            [4] => pkcs12::<cbc::Decryptor<des::TdesEde2>>(16, 8, password, salt, rounds, data),
            [5] => pkcs12::<cbc::Decryptor<rc2::Rc2>>(16, 8, password, salt, rounds, data),
            [6] => pkcs12::<cbc::Decryptor<rc2::Rc2>>(5, 8, password, salt, rounds, data),
            _ => Err("it is encrypted with RC4, which is not supported; convert it".into()),
        };
    }
    let scheme = pkcs5::EncryptionScheme::try_from(algorithm)
        .map_err(|_| "it is encrypted in a way that is not supported; PBES2 is, with AES or 3DES")?;
    match scheme.pbes2().map(|parameters| &parameters.kdf) {
        Some(Kdf::Pbkdf2(parameters)) => drop(checked(parameters.iteration_count)?),
        Some(Kdf::Scrypt(parameters)) => {
            let cost = parameters.cost_parameter;
            let bytes = cost.saturating_mul(128).saturating_mul(u64::from(parameters.block_size));
            if bytes > SCRYPT_BYTES_MAX || parameters.parallelization > 16 {
                return Err(format!("its scrypt parameters ask for more than {SCRYPT_BYTES_MAX} bytes"));
            }
        }
        _ => return Err("it is encrypted with PBES1, which is broken; convert it".into()),
    }
    let plain = scheme.decrypt(password.text, data).map_err(|_| WRONG_PASSWORD)?;
    Ok(Zeroizing::new(plain))
}

pub(super) const WRONG_PASSWORD: &str = "the password is wrong";

pub(super) fn checked(rounds: u32) -> Result<u32, String> {
    match rounds {
        1..=ROUNDS_MAX => Ok(rounds),
        _ => Err(format!("its password is hashed in {rounds} rounds; at most {ROUNDS_MAX} are allowed")),
    }
}

fn pkcs12<D: KeyIvInit + BlockModeDecrypt>(
    key_bytes: usize,
    iv_bytes: usize,
    password: &Password<'_>,
    salt: &[u8],
    rounds: u32,
    data: &[u8],
) -> Result<Zeroizing<Vec<u8>>, String> {
    let password = password.bmp();
    let key = derive::<Sha1, 64>(Purpose::Key, &password, salt, rounds, key_bytes);
    let iv = derive::<Sha1, 64>(Purpose::Iv, &password, salt, rounds, iv_bytes);
    let cipher = D::new_from_slices(&key, &iv).map_err(|_| "its cipher has another key size")?;
    let plain = cipher.decrypt_padded_vec::<Pkcs7>(data).map_err(|_| WRONG_PASSWORD)?;
    Ok(Zeroizing::new(plain))
}

/// What bytes are derived for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Key = 1,
    Iv = 2,
    Mac = 3,
}

/// Derives bytes from a password as PKCS#12 does it (RFC 7292, appendix B.2). `BLOCK` is the block size of the hash.
pub(super) fn derive<D: Digest, const BLOCK: usize>(
    purpose: Purpose,
    password: &[u8],
    salt: &[u8],
    rounds: u32,
    bytes: usize,
) -> Zeroizing<Vec<u8>> {
    let diversifier = [purpose as u8; BLOCK];
    // Both are repeated to whole blocks.
    let filled =
        |part: &[u8]| part.iter().copied().cycle().take(part.len().next_multiple_of(BLOCK)).collect();
    let salt: Vec<u8> = filled(salt);
    let password: Zeroizing<Vec<u8>> = Zeroizing::new(filled(password));
    let mut input = Zeroizing::new([&salt[..], &password].concat());
    let mut derived = Zeroizing::new(Vec::new());
    loop {
        let mut hash = D::new().chain_update(diversifier).chain_update(&*input).finalize();
        for _ in 1..rounds {
            hash = D::digest(&hash);
        }
        derived.extend_from_slice(&hash);
        if derived.len() >= bytes {
            derived.truncate(bytes);
            return derived;
        }
        // Each block of the input is increased by the hash, repeated to a block, and by one.
        let addend: Vec<u8> = hash.iter().copied().cycle().take(BLOCK).collect();
        for block in input.chunks_exact_mut(BLOCK) {
            let mut carry = 1u16;
            for (digit, addend) in block.iter_mut().zip(&addend).rev() {
                let sum = u16::from(*digit) + u16::from(*addend) + carry;
                *digit = sum as u8;
                carry = sum >> 8;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of DER with less than 128 bytes.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, content.len() as u8], content].concat()
    }

    /// An integer of as few bytes as it needs.
    fn number(value: u32) -> Vec<u8> {
        let bytes = [&[0], &value.to_be_bytes()[..]].concat();
        let is_needless = |pair: &&[u8]| pair[0] == 0 && pair[1] < 0x80;
        let needless = bytes.windows(2).take_while(is_needless).count();
        der(0x02, &bytes[needless..])
    }

    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        der(0x30, &parts.concat())
    }

    /// PBES2 with AES-128-CBC, and a key that is derived so.
    fn pbes2(derivation: &[u8]) -> Vec<u8> {
        let aes = der(OID, &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x02]);
        let scheme = sequence(&[&aes, &der(OCTETS, &[0; 16])]);
        let pbes2 = der(OID, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0d]);
        sequence(&[&pbes2, &sequence(&[derivation, &scheme])])
    }

    #[test]
    fn what_would_take_long_is_refused_before_it_begins() {
        let password = Password { text: b"changeit" };
        let check = |algorithm: &[u8], expected: &str| {
            let told = decrypt(algorithm, &password, &[0; 16]).expect_err("no password fits");
            assert_eq!(told, expected);
        };
        let salt = der(OCTETS, b"saltsalt");
        let old = |rounds| {
            sequence(&[&der(OID, &[PKCS12_PBE, &[3]].concat()), &sequence(&[&salt, &number(rounds)])])
        };
        let pbkdf2 = |rounds| {
            let oid = der(OID, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c]);
            pbes2(&sequence(&[&oid, &sequence(&[&salt, &number(rounds)])]))
        };
        let scrypt = |cost, block, parallel| {
            let oid = der(OID, &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x04, 0x0b]);
            let parameters = sequence(&[&salt, &number(cost), &number(block), &number(parallel)]);
            pbes2(&sequence(&[&oid, &parameters]))
        };
        for algorithm in [old(1000), pbkdf2(1000), scrypt(16, 1, 1)] {
            check(&algorithm, WRONG_PASSWORD);
        }
        let many = "its password is hashed in 5000001 rounds; at most 5000000 are allowed";
        check(&old(5_000_001), many);
        check(&pbkdf2(5_000_001), many);
        check(&old(0), "its password is hashed in 0 rounds; at most 5000000 are allowed");
        let much = "its scrypt parameters ask for more than 67108864 bytes";
        check(&scrypt(1 << 17, 8, 1), much);
        check(&scrypt(1 << 10, 1 << 12, 1), much);
        check(&scrypt(16, 1, 17), much);
    }
}
