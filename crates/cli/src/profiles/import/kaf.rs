//! kaf's `~/.kaf/config`.

use super::super::yaml::Yaml;
use super::{Imported, Imports, mechanism};

pub(super) fn read(file: &Yaml) -> Result<Imported, String> {
    let clusters = file.get("clusters").map(Yaml::nodes).unwrap_or_default();
    Ok(Imported {
        clusters: clusters.iter().map(cluster).collect(),
        current: file.text("current-cluster").map(str::to_owned),
        notes: Vec::new(),
    })
}

fn cluster(cluster: &Yaml) -> Imports {
    let mut imports = Imports::new(cluster.text("name").unwrap_or_default());
    imports.set_some("bootstrap.servers", cluster.joined("brokers"));
    let section = |name: &str| cluster.get(name).filter(|section| !section.entries().is_empty());
    let (tls, sasl) = (section("TLS"), section("SASL"));
    let protocol = cluster.text("security-protocol").map(str::to_ascii_uppercase);
    match protocol.as_deref() {
        Some(known @ ("PLAINTEXT" | "SSL" | "SASL_PLAINTEXT" | "SASL_SSL")) => {
            imports.set("security.protocol", known);
        }
        Some(_) => imports
            .pass_over("security-protocol", "it is not one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"),
        None => imports.protocol(tls.is_some(), sasl.is_some()),
    }
    if let Some(tls) = tls {
        imports.set_some("ssl.ca.location", tls.text("cafile"));
        imports.set_some("ssl.certificate.location", tls.text("clientfile"));
        imports.set_some("ssl.key.location", tls.text("clientkeyfile"));
        if tls.is_true("insecure") {
            imports.skips_certificates();
        }
    }
    if let Some(sasl) = sasl {
        // PLAIN is what kaf takes if none is given.
        let known = sasl.text("mechanism").map_or(Some("PLAIN"), mechanism);
        match known {
            Some(mechanism) => imports.set("sasl.mechanism", mechanism),
            None => imports.pass_over("SASL.mechanism", "there is no such mechanism"),
        }
        imports.set_some("sasl.username", sasl.text("username"));
        imports.set_some("sasl.password", sasl.text("password"));
        if known == Some("OAUTHBEARER") {
            imports.set_some("sasl.oauthbearer.token.endpoint.url", sasl.text("tokenURL"));
            imports.set_some("sasl.oauthbearer.client.credentials.client.id", sasl.text("clientID"));
            imports.set_some("sasl.oauthbearer.client.credentials.client.secret", sasl.text("clientSecret"));
            imports.set_some(
                "sasl.oauthbearer.scope",
                sasl.joined("scopes").map(|scopes| scopes.replace(',', " ")),
            );
            if sasl.text("token").is_some() {
                imports.pass_over("SASL.token", "a token of its own ends soon; name the token endpoint");
            }
        }
        if sasl.text("version").is_some() {
            imports.pass_over("SASL.version", "the client agrees on it with the broker");
        }
    }
    if cluster.text("version").is_some() {
        imports.pass_over("version", "the client asks the broker for its versions");
    }
    imports.set_some("schema.registry.url", cluster.text("schema-registry-url"));
    if let Some(login) = section("schema-registry-credentials") {
        let part = |name: &str| login.text(name).unwrap_or_default();
        imports.set("basic.auth.credentials.source", "USER_INFO");
        imports.set("basic.auth.user.info", format!("{}:{}", part("username"), part("password")));
    }
    imports
}
