//! Errors for the program that runs a broker. Clients of the broker get Kafka's error codes instead.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::log::OpenError;

/// Why a broker did not start or did not obey a command.
#[derive(Debug)]
pub struct Error(Kind);

#[derive(Debug)]
enum Kind {
    Io { what: String, error: io::Error },
    Damaged { path: PathBuf, position: u64, reason: String },
    Refused(String),
}

impl Error {
    /// Whether the disk or the network of this computer failed. Otherwise the request itself was at fault.
    pub fn is_io(&self) -> bool {
        matches!(self.0, Kind::Io { .. })
    }

    /// Whether data is damaged that was made durable before. Nothing was changed on disk.
    pub fn is_damaged(&self) -> bool {
        matches!(self.0, Kind::Damaged { .. })
    }

    pub(crate) fn io(what: impl Into<String>, error: io::Error) -> Self {
        Self(Kind::Io { what: what.into(), error })
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self(Kind::Refused(reason.into()))
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self(Kind::Damaged { path: path.to_owned(), position: 0, reason: reason.into() })
    }

    pub(crate) fn open(dir: &Path, error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => Self::io(format!("cannot open {}", dir.display()), error),
            OpenError::Damaged { path, damage } => {
                Self(Kind::Damaged { path, position: damage.position, reason: damage.reason })
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Io { what, error } => write!(f, "{what}: {error}"),
            Kind::Damaged { path, position, reason } => {
                write!(f, "{} is damaged at byte {position}: {reason}", path.display())
            }
            Kind::Refused(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0 {
            Kind::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
