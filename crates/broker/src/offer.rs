//! What a node offers: the versions of each API that it serves. Usually these are all that this broker has; a test of an
//! upgrade makes a node that offers what an older release of Kafka does.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use milena_messages::ApiKey;

/// The APIs of which a node does not serve all versions, and the versions that it serves, if any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offer(BTreeMap<ApiKey, Option<RangeInclusive<i16>>>);

impl Offer {
    /// Serves these versions of an API, as far as this broker has them, or none.
    pub(crate) fn limit(&mut self, key: ApiKey, versions: Option<RangeInclusive<i16>>) {
        self.0.insert(key, versions);
    }

    /// Whether a version that this broker has is served.
    pub(crate) fn has(&self, key: ApiKey, version: i16) -> bool {
        self.part(key, version..=version).is_some()
    }

    /// The part of `versions` that is served; `None` if that is nothing.
    pub(crate) fn part(&self, key: ApiKey, versions: RangeInclusive<i16>) -> Option<RangeInclusive<i16>> {
        let Some(limit) = self.0.get(&key) else { return Some(versions) };
        let limit = limit.as_ref()?;
        let part = (*versions.start()).max(*limit.start())..=(*versions.end()).min(*limit.end());
        (!part.is_empty()).then_some(part)
    }
}
