//! GetTelemetrySubscriptions (71): which metrics the client is asked for, and how often. KIP-714.

use milena_messages::get_telemetry_subscriptions::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::call::Call;
use crate::telemetry::Who;

pub(super) const API: Api =
    Api::new(ApiKey::GetTelemetrySubscriptions, |call, reader| call.answer(reader, handle));

fn handle(call: &Call<'_>, request: GetTelemetrySubscriptionsRequest) -> GetTelemetrySubscriptionsResponse {
    let settings = call.parts.settings();
    let mut telemetry = call.parts.telemetry();
    let id = match request.client_instance_id {
        id if id.is_zero() => telemetry.new_id(),
        id => id,
    };
    let instance = telemetry.instance(id, who(call), call.now.instant);
    if let Err(error_code) = instance.ask(call.now.instant) {
        return GetTelemetrySubscriptionsResponse { error_code, ..Default::default() };
    }
    GetTelemetrySubscriptionsResponse {
        error_code: ErrorCode::NONE,
        client_instance_id: id,
        subscription_id: instance.subscription_id,
        accepted_compression_types: settings
            .telemetry
            .codecs
            .iter()
            .map(|codec| codec.attributes() as i8)
            .collect(),
        push_interval_ms: instance.interval.as_millis() as i32,
        telemetry_max_bytes: settings.telemetry.bytes_max as i32,
        delta_temporality: settings.telemetry.wants_delta,
        requested_metrics: instance.metrics.iter().map(|name| name.as_str().into()).collect(),
        ..Default::default()
    }
}

/// The client behind a request.
pub(super) fn who<'a>(call: &'a Call<'_>) -> Who<'a> {
    Who {
        connection: call.peer.connection(),
        client_id: call.client_id.as_deref().unwrap_or_default(),
        software: call.peer.software(),
        address: call.peer.address(),
    }
}
