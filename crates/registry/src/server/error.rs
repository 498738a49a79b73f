//! Why a registry does not start.

use std::fmt;
use std::io;

/// Why a registry does not start or stop.
#[derive(Debug)]
pub struct Error(Cause);

#[derive(Debug)]
pub(super) enum Cause {
    /// The address cannot be listened on.
    Listen(String, io::Error),
    /// The cluster failed.
    Kafka(milena::Error),
    /// The topic is not one for schemas.
    Topic(String),
    /// A setting.
    Setting(String),
}

impl Error {
    /// Whether the address cannot be listened on.
    pub fn is_io(&self) -> bool {
        matches!(self.0, Cause::Listen(..))
    }

    /// Whether a setting of the caller's is wrong.
    pub fn is_setting(&self) -> bool {
        matches!(self.0, Cause::Setting(_))
    }

    /// The error of the Kafka client, if it is one.
    pub fn client_error(&self) -> Option<&milena::Error> {
        match &self.0 {
            Cause::Kafka(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self(cause)
    }
}

impl From<milena::Error> for Error {
    fn from(error: milena::Error) -> Self {
        Self(Cause::Kafka(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Cause::Listen(address, error) => write!(f, "the registry cannot listen at {address}: {error}"),
            Cause::Kafka(error) => write!(f, "the registry cannot use its topic: {error}"),
            Cause::Topic(why) | Cause::Setting(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Cause::Listen(_, error) => Some(error),
            Cause::Kafka(error) => Some(error),
            Cause::Topic(_) | Cause::Setting(_) => None,
        }
    }
}
