//! What is known of each API key: name, versions, which header its messages carry.

use std::fmt;
use std::ops::RangeInclusive;

pub use crate::r#gen::api_key::ApiKey;

/// One key's row of the generated table.
pub(crate) struct ApiKeyFacts {
    name: &'static str,
    low: i16,
    high: i16,
    flexible_from: i16,
}

impl ApiKeyFacts {
    pub(crate) const fn new(name: &'static str, low: i16, high: i16, flexible_from: i16) -> Self {
        Self { name, low, high, flexible_from }
    }
}

impl ApiKey {
    /// The key with this number, if this release knows it.
    ///
    /// ```
    /// use milena_messages::ApiKey;
    /// assert_eq!(ApiKey::from_i16(18), Some(ApiKey::ApiVersions));
    /// assert_eq!(ApiKey::from_i16(-1), None);
    /// ```
    pub fn from_i16(key: i16) -> Option<Self> {
        // Ascending; a retired key keeps its number, so the index is the key unless Kafka ever leaves a gap.
        let at = Self::ALL.binary_search_by_key(&key, |candidate| candidate.as_i16()).ok()?;
        Some(Self::ALL[at])
    }

    /// The number on the wire.
    pub const fn as_i16(self) -> i16 {
        self as i16
    }

    /// Kafka's name for the API, such as `Fetch`.
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The versions to offer and to use: all that are supported and stable. Empty for retired keys.
    ///
    /// A message's own [`VERSIONS`](crate::Message::VERSIONS) may reach one further, to a version that Kafka still
    /// changes; it decodes, but nobody is offered it.
    pub const fn versions(self) -> RangeInclusive<i16> {
        let facts = self.facts();
        facts.low..=facts.high
    }

    /// Whether this version has compact lengths and tagged fields (KIP-482).
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.facts().flexible_from
    }

    /// The version of [`RequestHeader`](crate::header::RequestHeader) before a request of this version.
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The version of [`ResponseHeader`](crate::header::ResponseHeader) before the response to a request of this
    /// version.
    ///
    /// ApiVersions always answers with version 0: a client that does not know the broker yet must be able to read the
    /// answer of a broker that does not know its version (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            Self::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
