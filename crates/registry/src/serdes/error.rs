//! Why a value cannot be written or read with its schema.

use std::fmt;

use crate::RegistryError;
use crate::framing::FramingError;

/// Why a key or a value cannot be written or read. It says what is wrong with what; what is in the record is not repeated, but for names
/// of fields and types.
#[derive(Clone)]
pub struct SerdeError(Box<Inner>);

#[derive(Debug, Clone)]
enum Inner {
    Framing(FramingError),
    Registry(RegistryError),
    Schema(Box<str>),
    Data(Box<str>),
    Rules(Box<str>),
}

/// What an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SerdeErrorKind {
    /// The record names no schema, or not in a way that can be read.
    Framing,
    /// The registry cannot be asked, or does not know the schema.
    Registry,
    /// The schema cannot be used: it is not valid, of another format, or not known yet.
    Schema,
    /// The data does not fit the schema or the type.
    Data,
    /// The schema has rules that Milena does not carry out, such as encryption.
    Rules,
}

impl SerdeError {
    pub(crate) fn schema(why: impl Into<Box<str>>) -> Self {
        Self(Box::new(Inner::Schema(why.into())))
    }

    pub(crate) fn data(why: impl Into<Box<str>>) -> Self {
        Self(Box::new(Inner::Data(why.into())))
    }

    pub(crate) fn rules(why: impl Into<Box<str>>) -> Self {
        Self(Box::new(Inner::Rules(why.into())))
    }

    /// What it is about.
    pub fn kind(&self) -> SerdeErrorKind {
        match &*self.0 {
            Inner::Framing(_) => SerdeErrorKind::Framing,
            Inner::Registry(_) => SerdeErrorKind::Registry,
            Inner::Schema(_) => SerdeErrorKind::Schema,
            Inner::Data(_) => SerdeErrorKind::Data,
            Inner::Rules(_) => SerdeErrorKind::Rules,
        }
    }

    /// Whether the same record may be read later, or the same value written: the registry could not be asked.
    pub fn is_retriable(&self) -> bool {
        self.registry().is_some_and(RegistryError::is_retriable)
    }

    /// The registry's error, if it is one.
    pub fn registry(&self) -> Option<&RegistryError> {
        match &*self.0 {
            Inner::Registry(error) => Some(error),
            _ => None,
        }
    }
}

impl From<FramingError> for SerdeError {
    fn from(error: FramingError) -> Self {
        Self(Box::new(Inner::Framing(error)))
    }
}

impl From<RegistryError> for SerdeError {
    fn from(error: RegistryError) -> Self {
        Self(Box::new(Inner::Registry(error)))
    }
}

impl serde::de::Error for SerdeError {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::data(why.to_string())
    }
}

impl serde::ser::Error for SerdeError {
    fn custom<T: fmt::Display>(why: T) -> Self {
        Self::data(why.to_string())
    }
}

impl fmt::Display for SerdeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Framing(error) => error.fmt(f),
            Inner::Registry(error) => error.fmt(f),
            Inner::Schema(why) | Inner::Data(why) | Inner::Rules(why) => f.write_str(why),
        }
    }
}

impl fmt::Debug for SerdeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SerdeError").field(&self.0).finish()
    }
}

impl std::error::Error for SerdeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.0 {
            Inner::Framing(error) => Some(error),
            Inner::Registry(error) => Some(error),
            _ => None,
        }
    }
}
