//! SaslAuthenticate (36): a token of a SASL mechanism. KIP-152, KIP-368 (version 1: how long the session lasts).

use milena_messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::{Reader, Str};

use super::row::Api;
use crate::call::{Call, Outcome};
use crate::refused::Refused;

pub(super) const API: Api = Api::new(ApiKey::SaslAuthenticate, respond);

fn respond(call: &mut Call<'_>, reader: &mut Reader<'_>) -> Result<Outcome, Refused> {
    let request: SaslAuthenticateRequest = call.decode(reader)?;
    if !call.peer.session().is_exchanging() {
        let response = SaslAuthenticateResponse {
            error_code: ErrorCode::ILLEGAL_SASL_STATE,
            error_message: Some(Str::from_static(
                "SaslAuthenticate request received after successful authentication",
            )),
            ..Default::default()
        };
        return Ok(Outcome::Answered(call.envelope.answer(&response)?));
    }
    match call.authenticate(&request.auth_bytes) {
        Ok(reply) => {
            let session_lifetime_ms = match call.envelope.version {
                // Older clients do not authenticate again. Their connections end all the same, as in Kafka.
                0 => 0,
                _ => reply.lifetime.as_millis() as i64,
            };
            let response = SaslAuthenticateResponse {
                auth_bytes: reply.token,
                session_lifetime_ms,
                ..Default::default()
            };
            Ok(Outcome::Answered(call.envelope.answer(&response)?))
        }
        Err(denial) => {
            let response = SaslAuthenticateResponse {
                error_code: ErrorCode::SASL_AUTHENTICATION_FAILED,
                error_message: Some(denial.message.into()),
                ..Default::default()
            };
            call.deny(&response, denial.reason)
        }
    }
}
