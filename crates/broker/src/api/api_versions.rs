//! ApiVersions (18): which APIs and versions this broker serves. KIP-35, KIP-511 (downgrade, client names), KIP-1242
//! (wrong cluster or node).

use milena_messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::WireFrame;

use super::{Call, SERVED};
use crate::machine::{Envelope, Refused};

pub(super) fn handle(call: &Call<'_>, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let error_code = check(call, &request);
    let served = if error_code.is_none() { SERVED } else { &[] };
    let api_keys = served.iter().map(|&key| entry(key)).collect();
    ApiVersionsResponse { error_code, api_keys, ..Default::default() }
}

/// The answer to a version we do not know: version 0, and the versions we do know of this one API (KIP-511).
pub(crate) fn downgrade(envelope: &Envelope) -> Result<WireFrame, Refused> {
    let response = ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: vec![entry(ApiKey::ApiVersions)],
        ..Default::default()
    };
    envelope.answer_at(&response, 0)
}

fn entry(key: ApiKey) -> ApiVersion {
    let versions = key.versions();
    // librdkafka takes a missing Produce v0 for a broker without compression, so Kafka 4 lists 0 to 2 and refuses them
    // (KAFKA-18659).
    let min_version = if key == ApiKey::Produce { 0 } else { *versions.start() };
    ApiVersion { api_key: key.as_i16(), min_version, max_version: *versions.end(), ..Default::default() }
}

fn check(call: &Call<'_>, request: &ApiVersionsRequest) -> ErrorCode {
    let names = [&request.client_software_name, &request.client_software_version];
    if call.envelope.version >= 3 && !names.iter().all(|name| is_plain(name.as_bytes())) {
        return ErrorCode::INVALID_REQUEST;
    }
    let state = call.machine.state();
    let other_cluster = request.cluster_id.as_ref().is_some_and(|id| *id != state.cluster_id);
    if other_cluster || request.node_id >= 0 && request.node_id != call.envelope.node {
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
