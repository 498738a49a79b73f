//! ApiVersions (18): the APIs and versions that this broker serves. KIP-35, KIP-511 (downgrade, client software),
//! KIP-1242 (wrong cluster or node).

use milena_messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::{Reader, Str, WireFrame};

use super::APIS;
use super::row::Api;
use crate::call::{Call, Outcome};
use crate::envelope::Envelope;
use crate::offer::Offer;
use crate::refused::Refused;
use crate::transactions::VERSION_MAX;

pub(super) const API: Api = Api { is_repeatable: true, ..Api::new(ApiKey::ApiVersions, respond) };

fn respond(call: &mut Call<'_>, reader: &mut Reader<'_>) -> Result<Outcome, Refused> {
    let request: ApiVersionsRequest = call.decode(reader)?;
    if !call.peer.session_mut().answer_versions() {
        let error_code = ErrorCode::ILLEGAL_SASL_STATE;
        let reason = "ApiVersions came twice before authentication, or within a SASL exchange".to_owned();
        return call.deny(&ApiVersionsResponse { error_code, ..Default::default() }, reason);
    }
    let has_names = call.envelope.version >= NAMES_FROM;
    let error_code = check(call, &request, has_names);
    if has_names && error_code != ErrorCode::INVALID_REQUEST {
        call.peer.set_software(&request.client_software_name, &request.client_software_version);
    }
    let mut response = ApiVersionsResponse { error_code, ..Default::default() };
    if error_code.is_none() {
        let offer = call.peer.offer();
        response.api_keys = APIS.iter().filter_map(|api| entry(api, offer)).collect();
        response.finalized_features_epoch = call.parts.transaction_version().1;
        for Feature { name, max, level } in features(call) {
            let name = Str::from_static(name);
            let supported =
                SupportedFeatureKey { name: name.clone(), max_version: max, ..Default::default() };
            response.supported_features.push(supported);
            // Kafka does not list a feature that is not finalized.
            if level > 0 {
                let (max_version_level, min_version_level) = (level, level);
                let finalized =
                    FinalizedFeatureKey { name, max_version_level, min_version_level, ..Default::default() };
                response.finalized_features.push(finalized);
            }
        }
    }
    call.reply(response)
}

/// Something that all brokers of a cluster do in the same version, which is finalized (KIP-584).
pub(super) struct Feature {
    pub(super) name: &'static str,
    /// The highest version.
    pub(super) max: i16,
    /// The version that is finalized, or 0 if the feature is not.
    pub(super) level: i16,
}

/// Groups of the consumer protocol (KIP-848).
pub(super) const GROUPS: &str = "group.version";
/// The protocol of transactions (KIP-890).
pub(super) const TRANSACTIONS: &str = "transaction.version";

/// The features of the APIs that this node offers.
pub(super) fn features(call: &Call<'_>) -> Vec<Feature> {
    let offer = call.peer.offer();
    let (transactions, _) = call.parts.transaction_version();
    let all = [
        (ApiKey::ConsumerGroupHeartbeat, Feature { name: GROUPS, max: 1, level: 1 }),
        (ApiKey::EndTxn, Feature { name: TRANSACTIONS, max: VERSION_MAX, level: transactions }),
    ];
    let has = |key: ApiKey| offer.part(key, key.versions()).is_some();
    all.into_iter().filter(|(key, _)| has(*key)).map(|(_, feature)| feature).collect()
}

/// The first version in which clients name their software.
const NAMES_FROM: i16 = 3;

/// The answer to a request in a version that this broker does not know. It is in version 0 and has the versions of this
/// API only (KIP-511).
pub(crate) fn downgrade(envelope: &Envelope, offer: &Offer) -> Result<WireFrame, Refused> {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: entry(&API, offer).into_iter().collect(),
        ..Default::default()
    };
    envelope.answer_at(&response, 0)
}

fn entry(api: &Api, offer: &Offer) -> Option<ApiVersion> {
    let versions = offer.part(api.key, api.advertised_from..=*api.key.versions().end())?;
    Some(ApiVersion {
        api_key: api.key.as_i16(),
        min_version: *versions.start(),
        max_version: *versions.end(),
        ..Default::default()
    })
}

fn check(call: &Call<'_>, request: &ApiVersionsRequest, has_names: bool) -> ErrorCode {
    let names = [&request.client_software_name, &request.client_software_version];
    if has_names && !names.iter().all(|name| is_plain(name.as_bytes())) {
        return ErrorCode::INVALID_REQUEST;
    }
    let state = call.parts.state();
    let other_cluster = request.cluster_id.as_ref().is_some_and(|id| *id != state.cluster_id);
    if other_cluster || request.node_id >= 0 && request.node_id != call.peer.node() {
        return ErrorCode::REBOOTSTRAP_REQUIRED;
    }
    ErrorCode::NONE
}

/// Letters and digits, with dots and dashes between them.
fn is_plain(name: &[u8]) -> bool {
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let is_edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    name.iter().all(is_inner) && is_edge(name.first()) && is_edge(name.last())
}
