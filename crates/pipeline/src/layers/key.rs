//! What of a record says that it belongs together with another.

use std::fmt;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

use crate::Record;

/// A key that layers take from records: the record's own, a header, or what a function makes of it.
///
/// Keys are compared by a hash of 128 bits with a secret of the process, so that no sender of records can make two keys the
/// same.
#[derive(Clone)]
pub struct KeyOf(Arc<Take>);

/// A key's hash.
pub(super) type KeyHash = u128;

type Take = dyn Fn(&Record) -> Option<KeyHash> + Send + Sync;

impl KeyOf {
    /// The record's key within its topic. A record whose key is null has none.
    pub fn record_key() -> Self {
        Self::hashed(|record, secret| record.key().map(|key| secret.hash_one((record.topic(), key))))
    }

    /// The value of the last header of this name, whatever the topic: an id that the sender has given. A record without the header
    /// or whose header is null has none.
    pub fn header(name: impl Into<Box<str>>) -> Self {
        let name = name.into();
        Self::hashed(move |record, secret| record.header(&name).flatten().map(|value| secret.hash_one(value)))
    }

    /// Topic, partition and offset: no two records have the same one.
    pub fn position() -> Self {
        Self::hashed(|record, secret| {
            Some(secret.hash_one((record.topic(), record.partition(), record.offset())))
        })
    }

    /// What a function makes of the record. With `None` the layer leaves the record alone.
    ///
    /// ```
    /// use milena_pipeline::Record;
    /// use milena_pipeline::layers::KeyOf;
    ///
    /// // The part of the key before the first colon.
    /// let tenant = KeyOf::function(|record: &Record| Some(record.key()?.split(|byte| *byte == b':').next()?.to_vec()));
    /// # let _ = tenant;
    /// ```
    pub fn function<K: Hash>(key: impl Fn(&Record) -> Option<K> + Send + Sync + 'static) -> Self {
        let secrets = [RandomState::new(), RandomState::new()];
        Self(Arc::new(move |record| {
            let key = key(record)?;
            Some(joined(secrets.each_ref().map(|secret| secret.hash_one(&key))))
        }))
    }

    /// The hash with a secret, of what is borrowed from the record: keys of this crate's own are not copied.
    fn hashed(hash: impl Fn(&Record, &RandomState) -> Option<u64> + Send + Sync + 'static) -> Self {
        let secrets = [RandomState::new(), RandomState::new()];
        Self(Arc::new(move |record| Some(joined([hash(record, &secrets[0])?, hash(record, &secrets[1])?]))))
    }

    pub(super) fn hash(&self, record: &Record) -> Option<KeyHash> {
        (self.0)(record)
    }
}

fn joined([high, low]: [u64; 2]) -> KeyHash {
    u128::from(high) << 64 | u128::from(low)
}

impl fmt::Debug for KeyOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyOf")
    }
}
