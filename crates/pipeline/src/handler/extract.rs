//! What the arguments of a handler are made of.

use serde::de::DeserializeOwned;

use crate::{Failure, Record};

/// Something that is taken from a record when a handler is called with it.
///
/// What cannot be taken is a failure of the record: by convention one that is [poison](Failure::poison), because another attempt
/// would find the same bytes.
///
/// ```
/// use milena_pipeline::{Failure, FromRecord, Record};
///
/// /// The header that says who has sent it.
/// struct Tenant(String);
///
/// impl FromRecord for Tenant {
///     fn from_record(record: &Record) -> Result<Self, Failure> {
///         let tenant = record.header("tenant").flatten();
///         let tenant = tenant.ok_or_else(|| Failure::poison("the record has no header \"tenant\""))?;
///         Ok(Self(String::from_utf8(tenant.to_vec()).map_err(Failure::poison)?))
///     }
/// }
/// milena_pipeline::service(async |tenant: Tenant| println!("{}", tenant.0));
/// ```
pub trait FromRecord: Sized {
    /// Takes it.
    ///
    /// # Errors
    /// When the record does not have it.
    fn from_record(record: &Record) -> Result<Self, Failure>;

    /// As [`from_record`](Self::from_record), for the last argument of a handler: nothing else needs the record.
    ///
    /// # Errors
    /// As there.
    fn from_last(record: Record) -> Result<Self, Failure> {
        Self::from_record(&record)
    }
}

/// A type that [`Key`] and [`Value`] read from bytes.
pub trait FromBytes: Sized {
    /// Reads it. `None` is null.
    ///
    /// # Errors
    /// Why these bytes are none.
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, Failure>;
}

/// The record itself: a handle of the fetched batch, without a copy.
impl FromRecord for Record {
    fn from_record(record: &Record) -> Result<Self, Failure> {
        Ok(record.clone())
    }

    fn from_last(record: Record) -> Result<Self, Failure> {
        Ok(record)
    }
}

/// The record's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key<T>(pub T);

/// The record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value<T>(pub T);

/// The record's value, which is JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// The record's headers, in order. A value may be null, and names may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, Option<Vec<u8>>)>);

/// The number of this attempt, the first is 1: see [`Record::attempt`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt(pub u32);

impl<T: FromBytes> FromRecord for Key<T> {
    fn from_record(record: &Record) -> Result<Self, Failure> {
        T::from_bytes(record.key()).map(Key).map_err(|failure| within("key", failure))
    }
}

impl<T: FromBytes> FromRecord for Value<T> {
    fn from_record(record: &Record) -> Result<Self, Failure> {
        T::from_bytes(record.value()).map(Value).map_err(|failure| within("value", failure))
    }
}

impl<T: DeserializeOwned> FromRecord for Json<T> {
    fn from_record(record: &Record) -> Result<Self, Failure> {
        let Some(value) = record.value() else {
            return Err(Failure::poison("the record's value is null, not JSON"));
        };
        serde_json::from_slice(value).map(Json).map_err(|error| within("value", Failure::poison(error)))
    }
}

impl FromRecord for Headers {
    fn from_record(record: &Record) -> Result<Self, Failure> {
        let headers = record.headers().map(|header| {
            let name = header.name().unwrap_or_default().to_owned();
            (name, header.value.map(<[u8]>::to_vec))
        });
        Ok(Self(headers.collect()))
    }
}

impl FromRecord for Attempt {
    fn from_record(record: &Record) -> Result<Self, Failure> {
        Ok(Self(record.attempt()))
    }
}

impl FromBytes for Vec<u8> {
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, Failure> {
        bytes.map(<[u8]>::to_vec).ok_or_else(|| Failure::poison("it is null"))
    }
}

impl FromBytes for String {
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, Failure> {
        Self::from_utf8(Vec::from_bytes(bytes)?).map_err(Failure::poison)
    }
}

impl<T: FromBytes> FromBytes for Option<T> {
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, Failure> {
        bytes.map(|bytes| T::from_bytes(Some(bytes))).transpose()
    }
}

/// A failure that says which part of the record it is about.
fn within(part: &'static str, failure: Failure) -> Failure {
    Failure::poison(Within { part, failure })
}

#[derive(Debug)]
struct Within {
    part: &'static str,
    failure: Failure,
}

impl std::fmt::Display for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the record's {} cannot be read", self.part)
    }
}

impl std::error::Error for Within {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.failure.error())
    }
}
