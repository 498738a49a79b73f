//! PushTelemetry (72): metrics of the client, as OpenTelemetry's `MetricsData`. KIP-714.

use milena_messages::push_telemetry::{PushTelemetryRequest, PushTelemetryResponse};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Uuid;
use milena_wire::codec::Compression;

use super::get_telemetry_subscriptions::who;
use super::row::{Api, HEAVY_COSTLY_BYTES};
use crate::call::Call;
use crate::check::Opened;
use crate::telemetry::{self, Point};

pub(super) const API: Api = Api {
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    ..Api::new(ApiKey::PushTelemetry, |call, reader| call.answer(reader, handle))
};

/// Kafka's `Uuid.ONE_UUID`, which it keeps for itself.
const RESERVED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn handle(call: &Call<'_>, request: PushTelemetryRequest) -> PushTelemetryResponse {
    let error_code = take(call, &request).err().unwrap_or(ErrorCode::NONE);
    PushTelemetryResponse { error_code, ..Default::default() }
}

fn take(call: &Call<'_>, request: &PushTelemetryRequest) -> Result<(), ErrorCode> {
    let id = request.client_instance_id;
    if id.is_zero() || id == Uuid::from_bytes(RESERVED) {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let settings = call.parts.settings();
    let bytes_max = settings.telemetry.bytes_max;
    let number = i16::from(request.compression_type);
    let codec = (0..=4).contains(&number).then(|| Compression::from_attributes(number)).flatten();
    let codec =
        codec.filter(|codec| *codec == Compression::None || settings.telemetry.codecs.contains(codec));
    let fits = request.metrics.len() <= bytes_max;
    call.parts.telemetry().instance(id, who(call), call.now.instant).push(
        request.subscription_id,
        request.terminating,
        codec.is_some(),
        fits,
        call.now.instant,
    )?;
    // A client without anything to say pushes nothing, to say that it is there or that it ends.
    let read = match codec {
        Some(codec) if !request.metrics.is_empty() => read(call, codec, &request.metrics, bytes_max),
        _ => Ok((Vec::new(), 0)),
    };
    // The telemetry is not locked while a payload is decompressed and read.
    let mut telemetry = call.parts.telemetry();
    match read {
        Ok((points, left_out)) => {
            tracing::debug!(
                client_instance_id = %id, peer = %call.peer, values = points.len(), left_out,
                is_last = request.terminating, "a client has pushed its metrics"
            );
            telemetry.note(id, points, left_out);
            Ok(())
        }
        Err(code) => {
            telemetry.instance(id, who(call), call.now.instant).refuse(code);
            Err(code)
        }
    }
}

/// The points of a payload, and how many were left out. Decompressed it has at most `bytes_max` bytes, too, as in Kafka: a few
/// hundred bytes of zstd can stand for a gigabyte.
fn read(
    call: &Call<'_>,
    codec: Compression,
    payload: &[u8],
    bytes_max: usize,
) -> Result<(Vec<Point>, u64), ErrorCode> {
    let parse = |bytes: &[u8]| telemetry::read(bytes).map_err(|_| ErrorCode::INVALID_RECORD);
    if codec == Compression::None {
        return parse(payload);
    }
    call.parts.decompressors.open(codec, payload, bytes_max, |opened, bytes| match opened {
        Opened::Whole => parse(bytes),
        Opened::TooLarge => Err(ErrorCode::TELEMETRY_TOO_LARGE),
        Opened::Followed | Opened::Broken => Err(ErrorCode::INVALID_RECORD),
    })
}
