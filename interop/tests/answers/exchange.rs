//! What a client is answered that does not follow the order of SASL's requests.

use std::fmt::Debug;

use milena_messages::Request;
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::find_coordinator::FindCoordinatorRequest;
use milena_messages::metadata::MetadataRequest;
use milena_messages::sasl_authenticate::SaslAuthenticateRequest;
use milena_messages::sasl_handshake::SaslHandshakeRequest;

use super::Asker;
use super::guarded::{self, codes};

fn versions() -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: "t".into(),
        client_software_version: "1".into(),
        ..Default::default()
    }
}

fn mechanism(name: &str) -> SaslHandshakeRequest {
    SaslHandshakeRequest { mechanism: name.into() }
}

fn token(text: &'static str) -> SaslAuthenticateRequest {
    SaslAuthenticateRequest { auth_bytes: text.into(), ..Default::default() }
}

/// Sends a request and notes the codes of the answer.
fn note<R: Request>(asker: &mut Asker, what: &str, version: i16, request: &R)
where
    R::Response: Debug,
{
    if let Some(answer) = asker.ask(what, request, version) {
        asker.say(what, codes(&answer));
    }
}

const RIGHT: &str = "\0alice\0pencil";

fn script(asker: &mut Asker) {
    let begin = |asker: &mut Asker, steps: usize| {
        asker.anew();
        let begun: [fn(&mut Asker); 2] = [
            |asker| note(asker, "begins", 1, &mechanism("PLAIN")),
            |asker| note(asker, "logs in", 2, &token(RIGHT)),
        ];
        begun[..steps].iter().for_each(|step| step(asker));
    };
    for (when, steps) in [("at first", 0), ("within the exchange", 1), ("after it", 2)] {
        type Asking = fn(&mut Asker, &str);
        let asked: [(&str, Asking); 8] = [
            ("ApiVersions v0", |asker, what| note(asker, what, 0, &ApiVersionsRequest::default())),
            ("ApiVersions v3", |asker, what| note(asker, what, 3, &versions())),
            ("Metadata", |asker, what| {
                note(asker, what, 9, &MetadataRequest { topics: Some(Vec::new()), ..Default::default() });
            }),
            ("FindCoordinator", |asker, what| {
                note(asker, what, 3, &FindCoordinatorRequest { key: "g".into(), ..Default::default() });
            }),
            ("SaslHandshake", |asker, what| note(asker, what, 1, &mechanism("PLAIN"))),
            ("another mechanism", |asker, what| note(asker, what, 1, &mechanism("SCRAM-SHA-256"))),
            ("no mechanism", |asker, what| note(asker, what, 1, &mechanism("NONE"))),
            ("SaslAuthenticate", |asker, what| note(asker, what, 2, &token(RIGHT))),
        ];
        for (what, ask) in asked {
            // Within the exchange, Kafka answers other requests with ILLEGAL_SASL_STATE in the form of each API before it closes
            // the connection. The embedded broker closes it.
            if steps == 1 && ["Metadata", "FindCoordinator"].contains(&what) {
                continue;
            }
            begin(asker, steps);
            let what = format!("{what} {when}");
            ask(asker, &what);
            note(asker, &format!("{what}, then versions"), 0, &ApiVersionsRequest::default());
        }
    }
    begin(asker, 0);
    note(asker, "versions once", 3, &versions());
    note(asker, "versions twice", 3, &versions());
}

#[test]
fn requests_out_of_order_are_answered_as_kafka_does() {
    guarded::compare_strangers(script);
}
