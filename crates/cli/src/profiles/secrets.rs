//! Which properties are secrets, and how they are shown.

use super::registry;

/// What stands in place of a value that is not shown.
pub(crate) const HIDDEN: &str = "(hidden)";

/// Where a value may come from instead of being written in the file.
const SOURCES: [&str; 3] = ["env:", "file:", COMMAND];
const COMMAND: &str = "command:";

/// A text with several secrets in a syntax of its own.
const JAAS: &str = "jaas.config";
/// An address that may have a password in it.
pub(crate) const PROXY: &str = "proxy";

/// Names with one of these are secrets, whatever client has them.
const WORDS: [&str; 9] = [
    "password",
    "passphrase",
    "secret",
    "jaas.config",
    "key.pem",
    "keystore.key",
    "credential",
    "private",
    "bearer.config",
];

/// Properties of TLS and SASL that are no secrets. Those of the client's own table are none either.
const PUBLIC: [&str; 33] = [
    "security.protocol",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.username",
    "sasl.kerberos.service.name",
    "sasl.oauthbearer.method",
    "sasl.oauthbearer.scope",
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.token.endpoint.url",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "ssl.truststore.location",
    "ssl.truststore.type",
    "ssl.truststore.certificates",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.keystore.location",
    "ssl.keystore.type",
    "ssl.keystore.certificate.chain",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.crl.location",
    "ssl.endpoint.identification.algorithm",
    "enable.ssl.certificate.verification",
    "ssl.enabled.protocols",
    "ssl.protocol",
    "client.id",
    "group.id",
    "transactional.id",
    "bootstrap.servers",
    "metadata.broker.list",
    "client.dns.lookup",
];

/// Whether the value of this property must not be shown, as far as its name tells.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !is_public(&name)
        && (registry::is_secret(&name) == Some(true) || WORDS.iter().any(|word| name.contains(word)))
}

fn is_public(name: &str) -> bool {
    PUBLIC.contains(&name)
        || registry::is_secret(name) == Some(false)
        || milena::SETTINGS.iter().any(|setting| setting.names().any(|known| known == name))
}

/// Whether the value says where the secret is, and is not the secret.
pub(crate) fn is_source(value: &str) -> bool {
    // The client does not look at blanks around a value.
    let value = value.trim_start();
    SOURCES.iter().any(|source| value.starts_with(source))
}

/// Whether the value is an address that may have a password in it, so that it may be a source although it is shown.
pub(crate) fn may_have_password(name: &str) -> bool {
    name == PROXY || name == registry::URL
}

/// Whether the client would run a command, or read a variable or a file, to have the value of this property.
pub(crate) fn is_read_elsewhere(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    (is_source(value) && (may_have_password(&name) || !is_public(&name)))
        || is_command(value)
        || has_source_within(&name, value)
}

/// Whether a text of JAAS may have an option that says where its secret is. The words are looked for anywhere, and as they are
/// when their escapes are undone: a text that has them and means no source is taken for one that does.
pub(crate) fn has_source_within(name: &str, value: &str) -> bool {
    let has_source = |text: &str| SOURCES.iter().any(|source| text.contains(source));
    name.to_ascii_lowercase().ends_with(JAAS) && (has_source(value) || has_source(&unescaped(value)))
}

/// The text without the escapes that JAAS has within quotes.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        let Some(escaped) = characters.next() else { break };
        let Some(mut code) = escaped.to_digit(8) else {
            plain.push(escaped);
            continue;
        };
        // As in Java's StreamTokenizer, three digits only if they fit a byte.
        let digits_max = if code <= 3 { 2 } else { 1 };
        for _ in 0..digits_max {
            let next = characters.next_if(|next| next.is_digit(8)).and_then(|next| next.to_digit(8));
            let Some(digit) = next else { break };
            code = code * 8 + digit;
        }
        plain.extend(char::from_u32(code));
    }
    plain
}

/// Whether the value is what a program prints that the client runs.
pub(crate) fn is_command(value: &str) -> bool {
    value.trim_start().starts_with(COMMAND)
}

/// Whether the file has this secret.
pub(crate) fn is_inline(name: &str, value: &str) -> bool {
    !value.is_empty() && !is_source(value) && (is_secret(name) || without_password(value).is_some())
}

/// The value as people may see it: as it is if the name is known to be no secret's, or if it says where the secret is. An
/// unknown name may be a misspelt secret's.
pub(crate) fn shown(name: &str, value: &str) -> String {
    if is_source(value) || is_public(&name.to_ascii_lowercase()) {
        without_password(value).unwrap_or_else(|| value.to_owned())
    } else {
        HIDDEN.to_owned()
    }
}

/// An address such as `socks5://user:password@proxy:1080` without its password.
fn without_password(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once("://")?;
    // At the last, as the client does: a password may have this character.
    let (login, host) = rest.rsplit_once('@')?;
    let (user, _) = login.split_once(':')?;
    Some(format!("{scheme}://{user}:{HIDDEN}@{host}"))
}

/// A source to write in place of a secret that was not imported: a variable whose name tells what it is for.
pub(crate) fn placeholder(profile: &str, name: &str) -> String {
    let upper = |text: &str| -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        text.chars().map(letter).collect()
    };
    format!("env:KAFKA_{}_{}", upper(profile), upper(name))
}
