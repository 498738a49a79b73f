//! AlterConfigs (33): replaces all configs of topics and brokers. KIP-133.

use milena_messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResourceResponse, AlterConfigsResponse, AlterableConfig,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::incremental_alter_configs::{Change, SET, Wanted, alter};
use super::row::{Api, HEAVY_COSTLY_BYTES};
use crate::call::Call;

pub(super) const API: Api = Api {
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    ..Api::new(ApiKey::AlterConfigs, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let wanted = request.resources.into_iter().map(|resource| {
        let change =
            |config: AlterableConfig| Change { name: config.name, operation: SET, value: config.value };
        let changes = resource.configs.into_iter().map(change).collect();
        let (resource_type, name) = (resource.resource_type, resource.resource_name);
        Wanted { resource_type, name, replaces: true, changes }
    });
    let wanted: Vec<Wanted> = wanted.collect();
    let altered = alter(call, &wanted, request.validate_only);
    let responses = wanted.into_iter().zip(altered).map(|(wanted, altered)| {
        let (error_code, reason) = altered.err().unzip();
        AlterConfigsResourceResponse {
            error_code: error_code.unwrap_or(ErrorCode::NONE),
            error_message: reason.map(Str::from),
            resource_type: wanted.resource_type,
            resource_name: wanted.name,
            ..Default::default()
        }
    });
    AlterConfigsResponse { responses: responses.collect(), ..Default::default() }
}
