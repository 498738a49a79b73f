//! A row of the table of APIs: what is known of one before any request of it is decoded.

use milena_messages::ApiKey;
use milena_wire::Reader;

use crate::call::{Call, Outcome};
use crate::parts::Parts;
use crate::refused::Refused;

/// An API that is served, in all its stable versions. Each API's file has one, named `API`.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    /// Decodes the request after the header, handles it, encodes the response.
    pub(crate) respond: Respond,
    /// The lowest version that is advertised. Only those of the key are served.
    pub(crate) advertised_from: i16,
    /// Elements that the arrays of one request may have together.
    pub(crate) elements_max: usize,
    /// Whether a request of this many bytes may keep a processor busy for milliseconds.
    pub(crate) is_heavy: fn(&Parts, usize) -> bool,
    /// Whether a request may be handled twice with the same effect as once, and the same answer.
    pub(crate) is_repeatable: bool,
    /// Whether the answer has records, which are read into memory when the log is on disk.
    pub(crate) brings_records: bool,
}

/// A handler: from a request to what became of it.
pub(crate) type Respond = fn(&mut Call<'_>, &mut Reader<'_>) -> Result<Outcome, Refused>;

/// Elements that a request may have unless its API says otherwise. Each costs up to a hundred times its bytes in memory,
/// and is answered: a request of 5 MB that asks for the configs of one topic half a million times would cost gigabytes.
const ELEMENTS_MAX: usize = 250_000;

/// The same where an element is answered by a kilobyte and more.
pub(super) const COSTLY_ELEMENTS_MAX: usize = 20_000;

/// A request that is longer may take milliseconds, however little it says per byte.
pub(super) const HEAVY_BYTES: usize = 16 * 1024;

/// The same where a few bytes are answered by a kilobyte and more.
pub(super) const HEAVY_COSTLY_BYTES: usize = 1024;

impl Api {
    /// An API whose requests have effects, and of which only long requests are heavy.
    pub(super) const fn new(key: ApiKey, respond: Respond) -> Self {
        Self {
            key,
            respond,
            advertised_from: *key.versions().start(),
            elements_max: ELEMENTS_MAX,
            is_heavy: |_, bytes| bytes > HEAVY_BYTES,
            is_repeatable: false,
            brings_records: false,
        }
    }

    /// Whether a version is served.
    pub(crate) fn serves(&self, version: i16) -> bool {
        self.key.versions().contains(&version)
    }
}
