//! A row of the table of APIs: the facts about an API that are needed before a request is decoded.

use milena_messages::ApiKey;
use milena_wire::Reader;

use crate::call::{Call, Outcome};
use crate::parts::Parts;
use crate::refused::Refused;

/// An API that is served, in all stable versions of its key. Each API's file has one row, named `API`.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    /// Decodes the request after the header, handles it, encodes the response.
    pub(crate) respond: Respond,
    /// The lowest version that is advertised. The key's versions are served, whatever is advertised.
    pub(crate) advertised_from: i16,
    /// The most elements that the arrays of one request may have together.
    pub(crate) elements_max: usize,
    /// Whether a request of this many bytes may take milliseconds.
    pub(crate) is_heavy: fn(&Parts, usize) -> bool,
    /// Whether handling a request twice has the same effect as handling it once, and gives the same answer.
    pub(crate) is_repeatable: bool,
    /// Whether the answer contains records. If the log is on disk they need memory before they are read.
    pub(crate) brings_records: bool,
}

/// Handles a request from its first byte after the header to its outcome.
pub(crate) type Respond = fn(&mut Call<'_>, &mut Reader<'_>) -> Result<Outcome, Refused>;

/// The most elements of a request unless its row says otherwise. In memory an element costs up to a hundred times its
/// bytes, and it is answered: a request of 5 MB that asks for the configs of one topic half a million times would cost
/// gigabytes.
const ELEMENTS_MAX: usize = 250_000;

/// The most elements of a request where the answer has a kilobyte or more for each.
pub(super) const COSTLY_ELEMENTS_MAX: usize = 20_000;

/// A request with more bytes may take milliseconds, whatever it asks for.
pub(super) const HEAVY_BYTES: usize = 16 * 1024;

/// The same limit where the answer has a kilobyte or more for a few bytes.
pub(super) const HEAVY_COSTLY_BYTES: usize = 1024;

impl Api {
    /// A row with the usual limits, for an API whose requests change something.
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
