//! Which version of each request a connection uses: the newest that both sides know.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use milena_messages::api_versions::{ApiVersion, ApiVersionsResponse};
use milena_messages::{ApiKey, Request};

/// The versions that the broker at the other end of one connection speaks. They belong to the connection, not to the
/// broker: after a rolling upgrade the same broker speaks others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerVersions(BTreeMap<i16, (i16, i16)>);

/// What a broker says of the features that its cluster has finalised (KIP-584).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// Counts the changes of the cluster's features. −1 if the broker does not tell.
    pub epoch: i64,
    /// The level of `transaction.version` (KIP-890, KIP-1022). None if the cluster has not finalised one.
    pub transaction_version: Option<i16>,
}

impl Features {
    /// The features in a broker's answer.
    pub fn of(response: &ApiVersionsResponse) -> Self {
        let mut finalised = response.finalized_features.iter();
        let of_transactions = finalised.find(|feature| &*feature.name == "transaction.version");
        Self {
            epoch: response.finalized_features_epoch,
            transaction_version: of_transactions.map(|feature| feature.max_version_level),
        }
    }

    /// Takes over what another broker says, unless it is older.
    pub fn learn(&mut self, other: Self) {
        if other.epoch >= self.epoch {
            *self = other;
        }
    }
}

/// Client and broker have no version of a request in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoCommonVersion {
    /// The request.
    pub api: ApiKey,
    /// The versions we speak.
    pub ours: RangeInclusive<i16>,
    /// The versions the broker speaks; none if it does not know the request.
    pub theirs: Option<RangeInclusive<i16>>,
}

impl BrokerVersions {
    /// The versions in a broker's answer. A range whose minimum is above its maximum is left out.
    pub fn new(ranges: &[ApiVersion]) -> Self {
        let ranges = ranges.iter().filter(|range| range.min_version <= range.max_version);
        Self(ranges.map(|range| (range.api_key, (range.min_version, range.max_version))).collect())
    }

    /// The newest version of `R` that both sides speak, and that is not above `version_max`.
    ///
    /// # Errors
    /// When there is no such version.
    pub fn choose<R: Request>(&self, version_max: i16) -> Result<i16, NoCommonVersion> {
        // Versions that a release calls unstable are in its schemas but not in `KEY.versions()`. Brokers refuse them.
        let versions = R::KEY.versions();
        let (start, end) = (*versions.start(), (*versions.end()).min(version_max));
        let theirs = self.range(R::KEY);
        let common = theirs.as_ref().and_then(|theirs| {
            let newest = end.min(*theirs.end());
            (newest >= start && newest >= *theirs.start()).then_some(newest)
        });
        common.ok_or(NoCommonVersion { api: R::KEY, ours: start..=end, theirs })
    }

    /// The versions of `api` that the broker speaks; none if it does not know the request.
    pub fn range(&self, api: ApiKey) -> Option<RangeInclusive<i16>> {
        self.0.get(&api.as_i16()).map(|(min, max)| *min..=*max)
    }
}

impl fmt::Display for NoCommonVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = self.api.name();
        match &self.theirs {
            None => write!(f, "the broker does not know {api} requests"),
            Some(theirs) => write!(
                f,
                "no version of {api} in common: this client speaks {} to {}, the broker {} to {}",
                self.ours.start(),
                self.ours.end(),
                theirs.start(),
                theirs.end()
            ),
        }
    }
}

impl std::error::Error for NoCommonVersion {}

#[cfg(test)]
mod tests {
    use milena_messages::api_versions::FinalizedFeatureKey;
    use milena_messages::metadata::MetadataRequest;

    use super::*;

    #[test]
    fn the_newest_features_count_whichever_broker_tells_them() {
        let features = |epoch, level: Option<i16>| {
            let finalised = level.map(|max_version_level| FinalizedFeatureKey {
                name: "transaction.version".into(),
                max_version_level,
                ..Default::default()
            });
            Features::of(&ApiVersionsResponse {
                finalized_features_epoch: epoch,
                finalized_features: finalised.into_iter().collect(),
                ..Default::default()
            })
        };
        let mut known = Features { epoch: -1, transaction_version: None };
        for (told, level) in [
            (features(-1, None), None),
            (features(5, Some(1)), Some(1)),
            (features(4, Some(2)), Some(1)),
            (features(6, Some(2)), Some(2)),
            (features(-1, None), Some(2)),
            (features(7, None), None),
        ] {
            known.learn(told);
            assert_eq!(known.transaction_version, level, "{told:?}");
        }
    }

    #[test]
    fn the_newest_common_version_is_chosen() {
        let (min, max) = (*MetadataRequest::KEY.versions().start(), *MetadataRequest::KEY.versions().end());
        let check = |theirs: Option<(i16, i16)>, version_max, expected: Option<i16>| {
            let ranges = theirs.map(|(min_version, max_version)| ApiVersion {
                api_key: MetadataRequest::KEY.as_i16(),
                min_version,
                max_version,
                ..Default::default()
            });
            let versions = BrokerVersions::new(ranges.as_slice());
            assert_eq!(
                versions.choose::<MetadataRequest>(version_max).ok(),
                expected,
                "{theirs:?} {version_max}"
            );
        };
        check(Some((0, max + 3)), i16::MAX, Some(max));
        check(Some((0, max - 1)), i16::MAX, Some(max - 1));
        check(Some((0, max)), max - 2, Some(max - 2));
        check(Some((max, max + 1)), max - 1, None);
        check(Some((max + 1, max + 2)), i16::MAX, None);
        check(Some((max, min)), i16::MAX, None);
        check(None, i16::MAX, None);
    }
}
