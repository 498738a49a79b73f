//! The names of SASL mechanisms.

use std::fmt;
use std::str::FromStr;

use crate::hash::Hash;

/// A SASL mechanism that the broker knows (`sasl.enabled.mechanisms`).
///
/// ```
/// use milena_broker::SaslMechanism;
/// assert_eq!("SCRAM-SHA-512".parse(), Ok(SaslMechanism::ScramSha512));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SaslMechanism {
    /// PLAIN (RFC 4616): the client sends its password.
    Plain,
    /// SCRAM-SHA-256 (RFC 7677): client and broker prove to each other that they know the password.
    ScramSha256,
    /// SCRAM-SHA-512: the same with a longer hash.
    ScramSha512,
    /// OAUTHBEARER (RFC 7628): the client sends a token that an issuer has signed.
    OauthBearer,
}

impl SaslMechanism {
    /// All mechanisms, in the order of their names.
    pub const ALL: &'static [Self] = &[Self::OauthBearer, Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// The name that clients ask for.
    pub fn name(self) -> &'static str {
        match self {
            Self::OauthBearer => "OAUTHBEARER",
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// The hash of a SCRAM mechanism.
    pub(crate) fn scram(self) -> Option<Hash> {
        match self {
            Self::Plain | Self::OauthBearer => None,
            Self::ScramSha256 => Some(Hash::Sha256),
            Self::ScramSha512 => Some(Hash::Sha512),
        }
    }
}

impl fmt::Display for SaslMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SaslMechanism {
    type Err = UnknownMechanism;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|mechanism| mechanism.name() == name).ok_or(UnknownMechanism)
    }
}

/// The name of a mechanism that the broker does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownMechanism;

impl fmt::Display for UnknownMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = SaslMechanism::ALL.iter().map(|mechanism| mechanism.name()).collect();
        write!(f, "the broker knows the SASL mechanisms {}", names.join(", "))
    }
}

impl std::error::Error for UnknownMechanism {}
