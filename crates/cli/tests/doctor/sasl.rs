//! Logging in.

use milena_broker::{Authority, Broker, Listener, OauthValidator, SaslMechanism, Tls};

use crate::{Files, Running};

fn guarded() -> Running {
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil");
    Running::start(broker.sasl_mechanisms([SaslMechanism::Plain, SaslMechanism::ScramSha256]))
}

#[track_caller]
fn examine(cluster: &Running, mistake: &str, mechanism: &str, user: &str, password: &str) {
    let properties = [
        format!("sasl.mechanism={mechanism}"),
        format!("sasl.username={user}"),
        format!("sasl.password={password}"),
    ];
    let mut args = vec!["-X", "security.protocol=SASL_PLAINTEXT"];
    properties.iter().for_each(|property| args.extend(["-X", property]));
    cluster.examine(mistake, 1, &args);
}

#[test]
fn a_password_is_wrong() {
    examine(&guarded(), "wrong-password", "SCRAM-SHA-256", "alice", "hunter2");
}

#[test]
fn a_user_is_unknown() {
    examine(&guarded(), "unknown-user", "SCRAM-SHA-256", "mallory", "pencil");
}

#[test]
fn a_mechanism_is_not_enabled() {
    examine(&guarded(), "mechanism-not-enabled", "SCRAM-SHA-512", "alice", "pencil");
}

#[test]
fn a_client_logs_in_where_there_is_no_sasl() {
    examine(&Running::start(Broker::builder()), "sasl-to-port-without", "SCRAM-SHA-256", "alice", "pencil");
}

#[test]
fn all_is_well_with_tls_and_a_password() {
    let (authority, files) = (Authority::new().expect("made"), Files::new());
    let tls = Tls::of(&authority.server(["127.0.0.1"]).expect("made"));
    let cluster = Running::start(Broker::builder().listener(Listener::sasl_ssl(tls)).user("alice", "pencil"));
    let roots = files.property("ssl.ca.location", "ca.pem", authority.certificate_pem());
    let sasl = ["sasl.mechanism=PLAIN", "sasl.username=alice", "sasl.password=pencil"];
    let mut args = vec!["-X", "security.protocol=SASL_SSL", "-X", &roots];
    sasl.iter().for_each(|property| args.extend(["-X", property]));
    cluster.examine("all-is-well-logged-in", 0, &args);
}

#[test]
fn an_issuer_of_tokens_is_not_there() {
    let broker = Broker::builder().listener(Listener::sasl_plaintext());
    let broker = broker.oauth(OauthValidator::unsecured()).sasl_mechanisms([SaslMechanism::OauthBearer]);
    let properties = [
        "security.protocol=SASL_PLAINTEXT",
        "sasl.mechanism=OAUTHBEARER",
        "allow_plaintext_credentials=true",
        "sasl.oauthbearer.token.endpoint.url=http://127.0.0.1:1/token",
        "sasl.oauthbearer.client.id=billing",
        "sasl.oauthbearer.client.secret=hunter2",
    ];
    let args: Vec<_> = properties.iter().flat_map(|property| ["-X", property]).collect();
    Running::start(broker).examine("no-issuer", 1, &args);
}

#[test]
fn a_client_does_not_log_in_where_it_must() {
    guarded().examine("no-sasl-to-port-with", 1, &[]);
}

#[test]
fn a_token_is_refused() {
    let broker = Broker::builder().listener(Listener::sasl_plaintext());
    let broker = broker.oauth(OauthValidator::unsecured().issuer("https://issuer.example"));
    let cluster = Running::start(broker.sasl_mechanisms([SaslMechanism::OauthBearer]));
    let jaas = "sasl.jaas.config=x.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"alice\";";
    let allowed = "allow_plaintext_credentials=true";
    let args = [
        "-X",
        "security.protocol=SASL_PLAINTEXT",
        "-X",
        "sasl.mechanism=OAUTHBEARER",
        "-X",
        jaas,
        "-X",
        allowed,
    ];
    cluster.examine("token-refused", 1, &args);
}
