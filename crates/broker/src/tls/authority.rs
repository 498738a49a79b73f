//! Certificates made by the broker, for tests and development.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use graviola::hashing::Sha256;
use graviola::signing::ecdsa::{P256, SigningKey};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::error::Error;

/// A certificate authority for tests and development. It makes certificates for brokers and clients, and nothing keeps its
/// key.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, Key>,
    valid: (SystemTime, SystemTime),
}

/// A certificate of an [`Authority`], with its private key.
#[derive(Debug, Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Arc<PrivatePkcs8KeyDer<'static>>,
}

/// A key that signs, with its public half.
struct Key {
    key: SigningKey<P256>,
    public: Vec<u8>,
}

/// How long certificates are valid.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Certificates begin to be valid this long before they are made, because clocks differ.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

impl Authority {
    /// A new authority, whose name is `milena`. Its certificates are valid for a year.
    ///
    /// # Errors
    /// When the operating system has no random bytes.
    #[expect(clippy::disallowed_methods, reason = "certificates are valid by the clock")]
    pub fn new() -> Result<Self, Error> {
        let now = SystemTime::now();
        let valid = (now - CLOCK_SKEW, now + LIFETIME);
        let key = Key::generate()?;
        let mut params = params("CN=milena", valid)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key), valid })
    }

    /// Makes the next certificates valid from one time to another.
    pub fn valid(mut self, from: SystemTime, until: SystemTime) -> Self {
        self.valid = (from, until);
        self
    }

    /// The authority's own certificate as PEM, by which others trust those that it makes.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// A certificate for a broker that clients reach by these host names and addresses.
    ///
    /// # Errors
    /// When a name is not valid, and when the operating system has no random bytes.
    pub fn server<N: AsRef<str>>(&self, names: impl IntoIterator<Item = N>) -> Result<Identity, Error> {
        let mut params = params("CN=broker", self.valid)?;
        for name in names {
            let name = name.as_ref();
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.try_into().map_err(failed)?),
            });
        }
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client with this subject, such as `CN=alice,OU=dev,O=Org`.
    ///
    /// # Errors
    /// When the subject is not such a list of `CN`, `OU`, `O`, `L`, `ST` and `C`, and when the operating system has no
    /// random bytes.
    pub fn client(&self, subject: &str) -> Result<Identity, Error> {
        self.issue(params(subject, self.valid)?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, Error> {
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = Key::generate()?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let mut der = [0; 512];
        let der = key.key.to_pkcs8_der(&mut der).map_err(|error| failed(format!("{error:?}")))?;
        Ok(Identity { certificate: certificate.der().clone(), key: Arc::new(der.to_vec().into()) })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("valid", &self.valid).finish_non_exhaustive()
    }
}

impl Identity {
    /// The certificate as PEM.
    pub fn certificate_pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    /// The private key as PEM. It is not encrypted.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_pkcs8_der())
    }

    pub(super) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.clone()], self.key.clone_key().into())
    }
}

impl Key {
    fn generate() -> Result<Self, Error> {
        let broken = |error| failed(format!("{error:?}"));
        let key = SigningKey::<P256>::generate().map_err(broken)?;
        let mut spki = [0; 256];
        let spki = key.to_spki_der(&mut spki).map_err(broken)?;
        // The point is the last part.
        let public = spki[spki.len() - POINT_BYTES..].to_vec();
        Ok(Self { key, public })
    }
}

/// The bytes of a point of P-256 that is not compressed.
const POINT_BYTES: usize = 65;

impl rcgen::PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let mut signature = [0; 128];
        let signed = self.key.sign_asn1::<Sha256>(&[message], &mut signature);
        signed.map(<[u8]>::to_vec).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

fn params(subject: &str, (from, until): (SystemTime, SystemTime)) -> Result<CertificateParams, Error> {
    let mut serial = [0; 16];
    getrandom::fill(&mut serial).map_err(failed)?;
    // A serial number is positive.
    serial[0] = serial[0] & 0x7f | 0x40;
    let since_1970 = |time: SystemTime| {
        rcgen::date_time_ymd(1970, 1, 1) + time.duration_since(UNIX_EPOCH).unwrap_or_default()
    };
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    (params.not_before, params.not_after) = (since_1970(from), since_1970(until));
    params.distinguished_name = DistinguishedName::new();
    for part in subject.rsplit(',') {
        let invalid = || Error::refused(format!("{subject} is not a list such as CN=alice,O=Org"));
        let (kind, value) = part.split_once('=').ok_or_else(invalid)?;
        let kind = match kind {
            "CN" => DnType::CommonName,
            "OU" => DnType::OrganizationalUnitName,
            "O" => DnType::OrganizationName,
            "L" => DnType::LocalityName,
            "ST" => DnType::StateOrProvinceName,
            "C" => DnType::CountryName,
            _ => return Err(invalid()),
        };
        params.distinguished_name.push(kind, value);
    }
    Ok(params)
}

fn failed(error: impl fmt::Display) -> Error {
    Error::refused(format!("cannot make a certificate: {error}"))
}

/// The bytes of a line of PEM.
const LINE_BYTES: usize = 64;

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE_BYTES));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
