//! Decides whether the certificate that a broker shows is trusted.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, SignatureScheme};

use super::Checks;
use super::certificate::Certificate;
use super::refusal::Untrusted;

/// The rules of webpki, with two additions: a certificate that is itself among the roots is trusted, as in Java and OpenSSL,
/// although it may be one of an authority; and checks can be turned off by name.
#[derive(Debug)]
pub(super) struct Verifier {
    /// None if nothing is checked.
    pub(super) webpki: Option<Arc<WebPkiServerVerifier>>,
    pub(super) roots: Vec<CertificateDer<'static>>,
    pub(super) checks: Checks,
    pub(super) provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// Whether `end_entity` is a root, and is valid at `now` for `name`.
    fn verify_pinned(
        &self,
        end_entity: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<bool, Error> {
        if !self.roots.iter().any(|root| root == end_entity) {
            return Ok(false);
        }
        let malformed = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
        let validity = Certificate::read(end_entity).map_err(malformed)?.validity;
        let seconds = |time: std::time::SystemTime| {
            UnixTime::since_unix_epoch(time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
        };
        let (not_before, not_after) = (seconds(validity.not_before), seconds(validity.not_after));
        if now < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        if self.checks == Checks::All {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
        }
        Ok(true)
    }
}

/// Says who is not trusted. `last` is the last certificate that the broker has shown.
fn untrusted(why: CertificateError, last: &CertificateDer<'_>) -> CertificateError {
    let Ok(last) = Certificate::read(last) else { return why };
    let reason = match &why {
        CertificateError::UnknownIssuer => {
            format!("is signed by {}, which is not among the trusted roots", last.issuer())
        }
        CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
            "is one of an authority (basicConstraints CA:TRUE); issue one for the server, or make this very certificate a \
             trusted root"
                .into()
        }
        _ => return why,
    };
    CertificateError::Other(OtherError(Arc::new(Untrusted(reason))))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(webpki) = &self.webpki else { return Ok(ServerCertVerified::assertion()) };
        let verified = webpki.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verified {
            // webpki checks the name after everything else.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.checks == Checks::NoHostName => Ok(ServerCertVerified::assertion()),
            Err(Error::InvalidCertificate(
                why @ (CertificateError::UnknownIssuer | CertificateError::Other(_)),
            )) => match self.verify_pinned(end_entity, server_name, now)? {
                true => Ok(ServerCertVerified::assertion()),
                false => Err(untrusted(why, intermediates.last().unwrap_or(end_entity)).into()),
            },
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
