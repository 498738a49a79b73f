//! Certificates and private keys from files and from memory, in whatever form they have: PEM, DER, PKCS#12 or JKS.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::cipher::Password;
use super::{jks, pem, pkcs12};
use crate::Secret;

/// Where certificates or keys come from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Memory(Secret),
    File(PathBuf),
}

/// What a store may be said to be. It is recognised by its content; a store that is something else is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Pem,
    Pkcs12,
    Jks,
    /// One certificate in DER.
    Der,
}

/// What a store has.
#[derive(Default)]
pub(super) struct Entries {
    pub(super) certificates: Vec<Vec<u8>>,
    pub(super) identities: Vec<Identity>,
}

/// A private key and its certificates.
pub(super) struct Identity {
    pub(super) chain: Vec<Vec<u8>>,
    /// PKCS#8, PKCS#1 or SEC1.
    pub(super) key: Zeroizing<Vec<u8>>,
}

/// The store of a system has some 200 KiB. A longer file is hardly a store.
const STORE_BYTES_MAX: u64 = 4 << 20;
/// The most files that are read of a directory of certificates.
const FILES_MAX: usize = 4096;

impl Source {
    /// What errors call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Memory(_) => "the given bytes".into(),
            Self::File(path) => path.display().to_string(),
        }
    }

    pub(super) fn read(&self) -> Result<Zeroizing<Vec<u8>>, String> {
        match self {
            Self::Memory(bytes) => Ok(Zeroizing::new(bytes.expose().to_vec())),
            Self::File(path) => file(path),
        }
    }

    /// The files that it is read from: one, or those of a directory, as `openssl rehash` fills one.
    pub(super) fn parts(&self) -> Result<Vec<Self>, String> {
        match self {
            Self::File(path) if path.is_dir() => {
                let entries = fs::read_dir(path).map_err(|error| error.to_string())?;
                let files =
                    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_file());
                let mut files: Vec<_> = files.take(FILES_MAX).collect();
                files.sort_unstable();
                Ok(files.into_iter().map(Self::File).collect())
            }
            _ => Ok(vec![self.clone()]),
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self, Self::File(path) if path.is_dir())
    }
}

fn file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = fs::File::open(path).and_then(|file| file.take(STORE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(count) if count as u64 > STORE_BYTES_MAX => {
            Err(format!("it is longer than {STORE_BYTES_MAX} bytes"))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(error.to_string()),
    }
}

impl Form {
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            _ if jks::is_jks(bytes) => Some(Self::Jks),
            _ if pkcs12::is_pkcs12(bytes) => Some(Self::Pkcs12),
            _ if Certificate::read(bytes).is_ok() => Some(Self::Der),
            _ if pem::is_pem(bytes) => Some(Self::Pem),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pem => "PEM",
            Self::Pkcs12 => "PKCS12",
            Self::Jks => "JKS",
            Self::Der => "DER",
        }
    }
}

/// Reads a store in any form, or in `form` if that is said.
pub(super) fn read(
    bytes: &[u8],
    form: Option<Form>,
    password: Option<&Secret>,
    key_password: Option<&Secret>,
) -> Result<Entries, String> {
    fn as_password(secret: &Secret) -> Password<'_> {
        Password { text: secret.expose() }
    }
    let found = Form::of(bytes).ok_or("it is neither PEM nor PKCS#12 nor JKS")?;
    // Since Java 9, a store that is called JKS may be PKCS#12, and the reverse.
    let is_store = |form| matches!(form, Form::Jks | Form::Pkcs12);
    if let Some(said) = form.filter(|said| *said != found && !(is_store(*said) && is_store(found))) {
        return Err(format!("it is {}, and its type is said to be {}", found.name(), said.name()));
    }
    let (password, key_password) = (password.map(as_password), key_password.map(as_password));
    let mut entries = match found {
        Form::Jks => jks::read(bytes, password.as_ref(), key_password.as_ref())?,
        Form::Pkcs12 => {
            let none = Password { text: &[] };
            pkcs12::read(bytes, password.as_ref().unwrap_or(&none), key_password.as_ref())?
        }
        Form::Der => Entries { certificates: vec![bytes.to_vec()], identities: Vec::new() },
        Form::Pem => of_pem(bytes, key_password.as_ref().or(password.as_ref()))?,
    };
    for identity in &mut entries.identities {
        identity.chain = ordered(std::mem::take(&mut identity.chain));
    }
    Ok(entries)
}

/// Certificates are roots or a chain: who asks knows. A key takes the certificates of the same text as its chain.
fn of_pem(text: &[u8], key_password: Option<&Password<'_>>) -> Result<Entries, String> {
    let mut entries = Entries::default();
    for block in pem::blocks(text)? {
        let key = match block.label {
            "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
                entries.certificates.push(block.der.to_vec());
                continue;
            }
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => block.der,
            "ENCRYPTED PRIVATE KEY" => {
                let password =
                    key_password.ok_or("the private key is encrypted, and no password is given for it")?;
                pkcs12::decrypt_key(&block.der, password).map_err(|why| format!("the private key: {why}"))?
            }
            _ => continue,
        };
        entries.identities.push(Identity { chain: Vec::new(), key });
    }
    if let [identity] = &mut *entries.identities {
        identity.chain.clone_from(&entries.certificates);
    }
    Ok(entries)
}

/// The certificate of the key, which is the first one, and then each one's issuer. What does not belong to the chain is left
/// out: some servers refuse certificates in another order.
fn ordered(chain: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let Some((own, mut rest)) = chain.split_first().map(|(own, rest)| (own.clone(), rest.to_vec())) else {
        return chain;
    };
    let mut ordered = vec![own];
    loop {
        let issuer = ordered.last().and_then(|last| Certificate::read(last).ok()).and_then(|last| {
            let is_issuer =
                |other: &Vec<u8>| Certificate::read(other).is_ok_and(|other| last.is_issued_by(&other));
            if last.is_self_issued() { None } else { rest.iter().position(is_issuer) }
        });
        let Some(issuer) = issuer else { return ordered };
        ordered.push(rest.swap_remove(issuer));
    }
}
