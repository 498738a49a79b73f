//! Says in words why a TLS connection was refused, by us or by the peer, and whether trying again is in vain.

use std::time::{Duration, UNIX_EPOCH};
use std::{fmt, io};

use milena_core::Obstacle;
use milena_core::framing::{FramingError, frame_bytes};
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InconsistentKeys, PeerIncompatible};

use super::certificate::Utc;
use crate::{Cause, ConnectError};

/// Why a chain of certificates ends at no root.
#[derive(Debug)]
pub(super) struct Untrusted(pub(super) String);

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Untrusted {}

/// What is known about the connection that was refused.
#[derive(Debug, Clone)]
pub(super) struct About {
    pub(super) host: Box<str>,
    pub(super) peer: Peer,
    /// Whether we have a certificate to show.
    pub(super) has_certificate: bool,
    /// The first bytes that the peer sent.
    pub(super) first: Vec<u8>,
}

/// What the client connects to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Broker,
    /// A web server, such as an issuer of tokens.
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "there are none without HTTP"))]
    Server,
}

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Server => "server",
        }
    }
}

/// The error as a transport reports it.
pub(super) fn as_io(error: &Error, about: &About) -> io::Error {
    io::Error::other(refusal(error, about))
}

pub(super) fn refusal(error: &Error, about: &About) -> ConnectError {
    let host = &about.host;
    let (obstacle, reason) = match error {
        Error::InvalidCertificate(why) => (Obstacle::Certificate, certificate(why, about)),
        Error::NoCertificatesPresented => (Obstacle::Certificate, format!("{host} shows no certificate")),
        Error::InvalidCertRevocationList(why) => {
            (Obstacle::Certificate, format!("a revocation list cannot be used: {why:?}"))
        }
        Error::AlertReceived(alert) => alerted(*alert, about),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } if !is_tls(&about.first) => {
            (Obstacle::Peer, spoken(&about.first, about.peer))
        }
        Error::PeerIncompatible(why) => (Obstacle::Peer, incompatible(why, about.peer)),
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            (Obstacle::Configuration, "the private key does not belong to the certificate".into())
        }
        Error::DecryptError | Error::PeerSentOversizedRecord => {
            (Obstacle::Network, format!("a TLS record was damaged on the way: {error}"))
        }
        Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => {
            (Obstacle::Configuration, format!("TLS cannot be used here: {error}"))
        }
        other => (Obstacle::Peer, format!("the TLS handshake failed: {other}")),
    };
    let refused = ConnectError::new(obstacle, reason);
    match cause(error, about) {
        Some(cause) => refused.with_cause(cause),
        None => refused,
    }
}

/// What people can mend.
fn cause(error: &Error, about: &About) -> Option<Cause> {
    use AlertDescription as Alert;
    Some(match error {
        Error::InvalidCertificate(why) => match why {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => Cause::CertificateExpired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                Cause::CertificateNotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Cause::CertificateOfAnotherHost
            }
            // A root has the name of the authority that signed it, and another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Cause::CertificateUntrusted,
            CertificateError::Other(other) if other.0.is::<Untrusted>() => Cause::CertificateUntrusted,
            CertificateError::Revoked
            | CertificateError::UnknownRevocationStatus
            | CertificateError::ExpiredRevocationListContext { .. } => Cause::CertificateRevoked,
            _ => return None,
        },
        Error::AlertReceived(alert) => match alert {
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::AccessDenied
            | Alert::HandshakeFailure
                if !about.has_certificate =>
            {
                Cause::ClientCertificateRequired
            }
            Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::UnsupportedCertificate
            | Alert::AccessDenied => Cause::ClientCertificateRefused,
            Alert::DecryptError if about.has_certificate => Cause::ClientCertificateRefused,
            Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity => {
                Cause::NoCommonTls
            }
            _ => return None,
        },
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } if !is_tls(&about.first) => {
            match about.first.first_chunk().map(|head| frame_bytes(*head, 1 << 20)) {
                Some(Ok(_)) => Cause::PeerIsPlain,
                _ => Cause::PeerIsForeign,
            }
        }
        Error::PeerIncompatible(_) => Cause::NoCommonTls,
        _ => return None,
    })
}

/// What is wrong with a certificate of the peer.
fn certificate(why: &CertificateError, about: &About) -> String {
    let host = &about.host;
    match why {
        CertificateError::ExpiredContext { time, not_after } => {
            format!(
                "a certificate of {host} expired on {}; this machine's clock says {}",
                utc(*not_after),
                utc(*time)
            )
        }
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "a certificate of {host} is not valid before {}; this machine's clock says {}",
            utc(*not_before),
            utc(*time)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<_> = presented.iter().map(|name| printable(name)).collect();
            let (expected, peer) = (expected.to_str(), about.peer.name());
            match &*names {
                [] => format!(
                    "the certificate of the {peer} is not for {expected}: it has no alternative names"
                ),
                names => format!(
                    "the certificate of the {peer} is not for {expected} but for {}",
                    names.join(", ")
                ),
            }
        }
        CertificateError::Revoked => format!("the certificate of {host} is revoked"),
        CertificateError::UnknownRevocationStatus => {
            format!("no revocation list tells whether the certificate of {host} is revoked")
        }
        CertificateError::ExpiredRevocationListContext { next_update, .. } => {
            format!("the revocation list for the certificate of {host} ended on {}", utc(*next_update))
        }
        CertificateError::BadSignature => format!(
            "the signature of the certificate of {host} is wrong: a trusted root has the name of the authority that signed it, \
             and another key"
        ),
        CertificateError::InvalidPurposeContext { .. } => {
            format!("the certificate of {host} is not one for servers (extended key usage)")
        }
        CertificateError::Other(other) if other.0.is::<Untrusted>() => {
            format!("the certificate of {host} {other}")
        }
        other => format!("the certificate of {host} is refused: {other}"),
    }
}

/// What the peer's alert means.
fn alerted(alert: AlertDescription, about: &About) -> (Obstacle, String) {
    use AlertDescription as Alert;
    let (host, peer) = (&about.host, about.peer.name());
    let told = name(alert);
    let is_ours =
        |what: &str| (Obstacle::Certificate, format!("{host} refuses the client's certificate: {what}"));
    let wanted = || {
        let reason =
            format!("{host} requires a client certificate, and the client has none (TLS alert {told})");
        (Obstacle::Certificate, reason)
    };
    match alert {
        Alert::CertificateRequired if !about.has_certificate => wanted(),
        // With TLS 1.2, and from Java, these are the answers to no certificate.
        Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied if !about.has_certificate => {
            wanted()
        }
        Alert::HandshakeFailure if !about.has_certificate => (
            Obstacle::Peer,
            format!(
                "{host} refused the handshake (TLS alert {told}): it requires a client certificate, which the client \
                 does not have, or no TLS version and cipher suite suits both"
            ),
        ),
        Alert::CertificateRequired => {
            is_ours(&format!("it was not issued by an authority that the {peer} names"))
        }
        Alert::UnknownCA => is_ours(&format!("the {peer} does not trust the authority that signed it")),
        // What rustls says of a chain whose signature is wrong.
        Alert::DecryptError if about.has_certificate => is_ours(
            "its signature is wrong: the broker trusts an authority of the same name, and another key (TLS alert decrypt_error)",
        ),
        Alert::CertificateExpired => is_ours("it has expired"),
        Alert::CertificateRevoked => is_ours("it is revoked"),
        Alert::BadCertificate
        | Alert::CertificateUnknown
        | Alert::UnsupportedCertificate
        | Alert::AccessDenied => is_ours(&format!("TLS alert {told}")),
        Alert::ProtocolVersion => {
            (Obstacle::Peer, format!("{host} supports none of the client's TLS versions (TLS alert {told})"))
        }
        Alert::HandshakeFailure | Alert::InsufficientSecurity => (
            Obstacle::Peer,
            format!("no TLS version and cipher suite suits both {host} and the client (TLS alert {told})"),
        ),
        Alert::UnrecognisedName => {
            (Obstacle::Peer, format!("the server does not know the name {host} (TLS alert {told})"))
        }
        // A server that is stopping, or has a fault of its own.
        Alert::InternalError | Alert::UserCanceled | Alert::CloseNotify => {
            (Obstacle::Network, format!("{host} ended the TLS connection (TLS alert {told})"))
        }
        _ => (Obstacle::Peer, format!("{host} refused the TLS connection (TLS alert {told})")),
    }
}

/// As RFC 8446 writes it: `certificate_required`.
fn name(alert: AlertDescription) -> String {
    let camel = format!("{alert:?}");
    let mut name = String::new();
    let mut was_upper = true;
    for char in camel.chars() {
        if char.is_ascii_uppercase() && !was_upper {
            name.push('_');
        }
        was_upper = char.is_ascii_uppercase();
        name.push(char.to_ascii_lowercase());
    }
    name
}

fn incompatible(why: &PeerIncompatible, peer: Peer) -> String {
    let peer = peer.name();
    match why {
        PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
        | PeerIncompatible::Tls12NotOfferedOrEnabled => {
            format!("the {peer} supports none of the client's TLS versions ({why:?})")
        }
        _ => format!("the {peer}'s TLS does not suit the client: {why:?}"),
    }
}

/// Whether the bytes begin a TLS record.
fn is_tls(first: &[u8]) -> bool {
    matches!(first, [20..=23, 3, 0..=4, ..] | [20..=23, 3] | [20..=23] | [])
}

/// What a peer speaks that does not speak TLS.
fn spoken(first: &[u8], peer: Peer) -> String {
    let other = first.first_chunk().map(|head| frame_bytes(*head, 1 << 20));
    match other {
        Some(Err(FramingError::Http)) if peer == Peer::Server => {
            "the server speaks HTTP without TLS on this port".into()
        }
        Some(Err(FramingError::Http)) => "the peer speaks HTTP without TLS: this is not a Kafka port".into(),
        Some(Err(FramingError::Ssh)) => "the peer speaks SSH: this is not a Kafka port".into(),
        _ => {
            let bytes: Vec<_> = first.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!(
                "the peer does not speak TLS on this port: its answer begins with the bytes {}",
                bytes.join(" ")
            )
        }
    }
}

fn utc(time: UnixTime) -> Utc {
    Utc(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

/// A name as rustls has it, `DnsName("kafka")`, without what surrounds it and without control characters.
fn printable(name: &str) -> String {
    let bare = name.split_once('(').map_or(name, |(_, rest)| rest.strip_suffix(')').unwrap_or(rest));
    bare.chars().filter(|char| !char.is_control() && *char != '"').take(128).collect()
}
