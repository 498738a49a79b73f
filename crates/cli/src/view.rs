//! A consumed record for the formats to write. It does not depend on the client's types.

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
}
