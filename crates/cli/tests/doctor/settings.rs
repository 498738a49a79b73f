//! Mistakes in the settings: no server is asked.

use milena_broker::{Authority, Broker};

use crate::{Files, Running, examine};

const NOWHERE: &str = "127.0.0.1:1";

#[test]
fn a_setting_is_misspelt() {
    examine("misspelt-setting", 1, NOWHERE, &["-X", "linger.mss=5"]);
}

#[test]
fn a_value_has_quotes() {
    examine("quoted-value", 1, NOWHERE, &["-X", "linger.ms=\"5\""]);
}

#[test]
fn credentials_are_given_and_no_security_protocol() {
    examine("no-security-protocol", 1, NOWHERE, &["-X", "sasl.username=alice", "-X", "sasl.password=pencil"]);
}

#[test]
fn a_password_would_go_over_the_network_as_it_is() {
    let cluster = Running::start(Broker::builder());
    let sasl = [
        "security.protocol=SASL_PLAINTEXT",
        "sasl.mechanism=PLAIN",
        "sasl.username=alice",
        "sasl.password=pencil",
    ];
    let args: Vec<_> = sasl.iter().flat_map(|property| ["-X", property]).collect();
    cluster.examine("plain-without-tls", 1, &args);
}

#[test]
fn a_command_for_the_password_takes_too_long() {
    let args = [
        "--limit",
        "1",
        "-X",
        "security.protocol=SASL_PLAINTEXT",
        "-X",
        "sasl.mechanism=SCRAM-SHA-256",
        "-X",
        "sasl.username=alice",
        "-X",
        "sasl.password=command:sleep 8",
    ];
    examine("slow-command", 1, NOWHERE, &args);
}

#[test]
fn a_variable_with_the_password_is_not_set() {
    let args = [
        "-X",
        "security.protocol=SASL_PLAINTEXT",
        "-X",
        "sasl.mechanism=SCRAM-SHA-256",
        "-X",
        "sasl.username=alice",
        "-X",
        "sasl.password=env:MILENA_NO_SUCH_VARIABLE",
    ];
    examine("variable-not-set", 1, NOWHERE, &args);
}

#[test]
fn a_file_of_roots_does_not_exist() {
    let cluster = Running::start(Broker::builder());
    cluster.examine(
        "no-truststore",
        1,
        &["-X", "security.protocol=SSL", "-X", "ssl.truststore.location=/no/such/ca.pem"],
    );
}

#[test]
fn a_private_key_is_another_certificates() {
    let cluster = Running::start(Broker::builder());
    let (authority, files) = (Authority::new().expect("made"), Files::new());
    let (one, other) =
        (authority.client("CN=one").expect("made"), authority.client("CN=other").expect("made"));
    let args = [
        "-X",
        "security.protocol=SSL",
        "-X",
        &files.property("ssl.ca.location", "ca.pem", authority.certificate_pem()),
        "-X",
        &files.property("ssl.certificate.location", "own.pem", one.certificate_pem()),
        "-X",
        &files.property("ssl.key.location", "own.key", other.key_pem()),
    ];
    cluster.examine("key-of-another-certificate", 1, &args);
}

#[test]
fn a_setting_has_no_effect() {
    let cluster = Running::start(Broker::builder());
    cluster.examine(
        "setting-without-effect",
        0,
        &["-X", "security.protocol=PLAINTEXT", "-X", "sasl.username=alice"],
    );
}
