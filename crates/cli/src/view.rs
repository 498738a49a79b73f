//! A consumed record for the formats to write. It does not depend on the client's types.

use crate::schemas::Seen;

/// A record, borrowed from the batch it came in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct View<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Milliseconds since the epoch; -1 if the record has no timestamp.
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a [u8], Option<&'a [u8]>)],
    /// How the key is shown, if it is not shown as it is.
    pub(crate) key_seen: Option<&'a Seen>,
    /// How the value is shown, if it is not shown as it is.
    pub(crate) value_seen: Option<&'a Seen>,
}

impl<'a> View<'a> {
    /// The key that is shown as text.
    pub(crate) fn key_shown(&self) -> Option<&'a [u8]> {
        Seen::shown(self.key_seen, self.key)
    }

    /// The value that is shown as text.
    pub(crate) fn value_shown(&self) -> Option<&'a [u8]> {
        Seen::shown(self.value_seen, self.value)
    }
}
