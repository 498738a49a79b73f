//! What clients of other projects are told so that they log in to a broker.

use milena_broker::Identity;

use crate::partner::Partner;

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way<'a> {
    /// No authentication, or that of a certificate.
    None,
    /// User and password.
    Password {
        /// The SASL mechanism.
        mechanism: &'a str,
        /// The user's name.
        user: &'a str,
        /// The user's password.
        password: &'a str,
    },
    /// A token without a signature.
    Token {
        /// The principal, for which Java and librdkafka make a token themselves.
        user: &'a str,
        /// The token of franz-go.
        token: &'a str,
    },
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy)]
pub struct Tls<'a> {
    /// The authority that has signed the broker's certificate, as PEM.
    pub authority: &'a str,
    /// The client's own certificate.
    pub own: Option<&'a Identity>,
}

/// The bootstrap addresses with what `partner` must know to log in: see [`partner`](crate::partner).
#[must_use]
pub fn bootstrap(partner: Partner, addresses: &str, way: Way<'_>, tls: Option<Tls<'_>>) -> String {
    let mut lines = vec![addresses.to_owned()];
    let mut add = |name: &str, value: &str| lines.push(format!("{name}={}", value.replace('\n', "\t")));
    let is_java = matches!(partner, Partner::Java | Partner::OldJava);
    let sasl = if way == Way::None { "" } else { "SASL_" };
    let protocol = match (sasl, tls.is_some()) {
        ("", false) => "PLAINTEXT".to_owned(),
        (sasl, false) => format!("{sasl}PLAINTEXT"),
        (sasl, true) => format!("{sasl}SSL"),
    };
    add("security.protocol", &protocol);
    let module = "org.apache.kafka.common.security";
    match way {
        Way::None => {}
        Way::Password { mechanism, user, password } => {
            add("sasl.mechanism", mechanism);
            if is_java {
                let class =
                    if mechanism == "PLAIN" { "plain.PlainLoginModule" } else { "scram.ScramLoginModule" };
                let jaas = format!("{module}.{class} required username=\"{user}\" password=\"{password}\";");
                add("sasl.jaas.config", &jaas);
            } else {
                add("sasl.username", user);
                add("sasl.password", password);
            }
        }
        Way::Token { user, token } => {
            add("sasl.mechanism", "OAUTHBEARER");
            if is_java {
                let class = "oauthbearer.OAuthBearerLoginModule";
                let jaas = format!("{module}.{class} required unsecuredLoginStringClaim_sub=\"{user}\";");
                add("sasl.jaas.config", &jaas);
            } else if partner == Partner::Librdkafka {
                add("enable.sasl.oauthbearer.unsecure.jwt", "true");
                add("sasl.oauthbearer.config", &format!("principal={user}"));
            } else {
                add("token", token);
            }
        }
    }
    if let Some(Tls { authority, own }) = tls {
        if is_java {
            add("ssl.truststore.type", "PEM");
            add("ssl.truststore.certificates", authority);
        } else {
            add("ssl.ca.pem", authority);
        }
        if let Some(own) = own {
            let (chain, key) = (own.certificate_pem(), own.key_pem());
            if is_java {
                add("ssl.keystore.type", "PEM");
                add("ssl.keystore.certificate.chain", &chain);
                add("ssl.keystore.key", &key);
            } else {
                add("ssl.certificate.pem", &chain);
                add("ssl.key.pem", &key);
            }
        }
    }
    lines.join("\n")
}
