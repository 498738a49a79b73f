//! The properties that say how a schema registry is reached, under the names that Confluent's serializers have for them.
//!
//! The client of Kafka passes over all of them. `schema.registry.` before a name of `basic.auth.` or `bearer.auth.` changes nothing,
//! as in Java.

const PREFIX: &str = "schema.registry.";
const OWN: [&str; 2] = ["basic.auth.", "bearer.auth."];

/// The addresses, which may have a user and a password in them.
pub(crate) const URL: &str = "schema.registry.url";

/// Names without the prefix. The value of each that is marked is a secret.
const NAMES: [(&str, bool); 24] = [
    ("url", false),
    ("plaintext", false),
    ("basic.auth.credentials.source", false),
    ("basic.auth.user.info", true),
    ("bearer.auth.credentials.source", false),
    ("bearer.auth.token", true),
    ("bearer.auth.issuer.endpoint.url", false),
    ("bearer.auth.client.id", false),
    ("bearer.auth.client.secret", true),
    ("bearer.auth.scope", false),
    ("bearer.auth.logical.cluster", false),
    ("bearer.auth.identity.pool.id", false),
    ("ssl.truststore.location", false),
    ("ssl.truststore.password", true),
    ("ssl.truststore.certificates", false),
    ("ssl.ca.location", false),
    ("ssl.keystore.location", false),
    ("ssl.keystore.password", true),
    ("ssl.key.password", true),
    ("ssl.certificate.location", false),
    ("ssl.key.location", false),
    ("ssl.truststore.type", false),
    ("ssl.keystore.type", false),
    ("ssl.endpoint.identification.algorithm", false),
];

/// The name without the prefix, if the property is the registry's, whether or not it is a known one.
pub(crate) fn own_name(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PREFIX);
    rest.or_else(|| OWN.iter().any(|own| name.starts_with(own)).then_some(name))
}

/// Whether the value of a property of the registry is a secret; none if there is no such property.
pub(crate) fn is_secret(name: &str) -> Option<bool> {
    let own = own_name(name)?;
    NAMES.iter().find(|(known, _)| *known == own).map(|(_, is_secret)| *is_secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_with_and_without_their_prefix() {
        assert_eq!(is_secret(URL), Some(false));
        assert_eq!(is_secret("basic.auth.user.info"), Some(true));
        assert_eq!(is_secret("schema.registry.basic.auth.user.info"), Some(true));
        assert_eq!(is_secret("schema.registry.ssl.keystore.password"), Some(true));
        // Those of Kafka's own connections, and of the serializers.
        for name in ["ssl.keystore.password", "url", "schema.registry.nonsense", "auto.register.schemas"] {
            assert_eq!(is_secret(name), None, "{name}");
        }
    }
}
