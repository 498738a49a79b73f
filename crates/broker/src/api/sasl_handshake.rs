//! SaslHandshake (17): the client chooses a SASL mechanism, to authenticate or to authenticate again. KIP-43, KIP-152
//! (version 1: tokens in requests), KIP-368 (re-authentication).

use milena_messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Reader;

use super::row::Api;
use crate::call::{Call, Outcome};
use crate::refused::Refused;
use crate::sasl::Handshake;

pub(super) const API: Api = Api::new(ApiKey::SaslHandshake, respond);

fn respond(call: &mut Call<'_>, reader: &mut Reader<'_>) -> Result<Outcome, Refused> {
    let request: SaslHandshakeRequest = call.decode(reader)?;
    let mut users = call.parts.users();
    let outcome =
        call.peer.session_mut().begin(&request.mechanism, call.envelope.version, &mut users, call.now);
    let mechanisms = users.mechanisms();
    drop(users);
    match outcome {
        Handshake::Begun => {
            let response = SaslHandshakeResponse { mechanisms, ..Default::default() };
            Ok(Outcome::Answered(call.envelope.answer(&response)?))
        }
        Handshake::Unsupported => {
            let error_code = ErrorCode::UNSUPPORTED_SASL_MECHANISM;
            let reason = "the client asked for a SASL mechanism that is not enabled".to_owned();
            call.deny(&SaslHandshakeResponse { error_code, mechanisms }, reason)
        }
        Handshake::NotNow => {
            let error_code = ErrorCode::ILLEGAL_SASL_STATE;
            let response = SaslHandshakeResponse { error_code, ..Default::default() };
            Ok(Outcome::Answered(call.envelope.answer(&response)?))
        }
        Handshake::Illegal => {
            let error_code = ErrorCode::ILLEGAL_SASL_STATE;
            let reason = "SaslHandshake came within a SASL exchange".to_owned();
            call.deny(&SaslHandshakeResponse { error_code, ..Default::default() }, reason)
        }
    }
}
