//! ListConfigResources (74): the names of resources that have configs. In version 0, then named ListClientMetricsResources, those of
//! subscriptions to metrics of clients. KIP-714, KIP-1142.

use milena_messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::describe_configs::{RESOURCE_BROKER, RESOURCE_CLIENT_METRICS, RESOURCE_TOPIC};
use super::row::Api;
use crate::acls::Operation;
use crate::call::Call;

pub(super) const API: Api = Api {
    is_repeatable: true,
    is_heavy: |_, _| true,
    ..Api::new(ApiKey::ListConfigResources, |call, reader| call.answer(reader, handle))
};

/// Types that Kafka lists, and that have no resources here: levels of loggers, and configs of groups.
const RESOURCE_BROKER_LOGGER: i8 = 8;
const RESOURCE_GROUP: i8 = 32;

fn handle(call: &Call<'_>, request: ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    if let Err(error_code) = call.check_cluster(Operation::DescribeConfigs) {
        return ListConfigResourcesResponse { error_code, ..Default::default() };
    }
    let known =
        [RESOURCE_TOPIC, RESOURCE_BROKER, RESOURCE_BROKER_LOGGER, RESOURCE_CLIENT_METRICS, RESOURCE_GROUP];
    let wanted: Vec<i8> = match (call.envelope.version, request.resource_types) {
        (0, _) => vec![RESOURCE_CLIENT_METRICS],
        (_, types) if types.is_empty() => known.to_vec(),
        (_, types) => types,
    };
    if wanted.iter().any(|wanted| !known.contains(wanted)) {
        let error_code = ErrorCode::UNSUPPORTED_VERSION;
        return ListConfigResourcesResponse { error_code, ..Default::default() };
    }
    let mut config_resources = Vec::new();
    let mut add = |resource_type: i8, name: Str| {
        // The field is in version 1 and later.
        let resource_type = if call.envelope.version == 0 { RESOURCE_CLIENT_METRICS } else { resource_type };
        config_resources.push(ConfigResource { resource_name: name, resource_type, ..Default::default() });
    };
    for resource_type in known.into_iter().filter(|known| wanted.contains(known)) {
        match resource_type {
            RESOURCE_TOPIC => {
                call.parts.state().topics().for_each(|topic| add(RESOURCE_TOPIC, topic.name.clone()));
            }
            RESOURCE_BROKER => {
                let state = call.parts.state();
                state.nodes.keys().for_each(|id| add(RESOURCE_BROKER, id.to_string().into()));
            }
            RESOURCE_CLIENT_METRICS => {
                call.parts.telemetry().names().for_each(|name| add(RESOURCE_CLIENT_METRICS, name.into()));
            }
            _ => {}
        }
    }
    ListConfigResourcesResponse { config_resources, ..Default::default() }
}
