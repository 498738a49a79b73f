//! rpk's `rpk.yaml` with its profiles, and the section `rpk` of Redpanda's `redpanda.yaml`.

use super::super::yaml::Yaml;
use super::{Imported, Imports, mechanism};

pub(super) fn read(file: &Yaml) -> Result<Imported, String> {
    let mut imported =
        Imported { current: file.text("current_profile").map(str::to_owned), ..Imported::default() };
    for profile in file.get("profiles").map(Yaml::nodes).unwrap_or_default() {
        imported.clusters.push(cluster(profile.text("name").unwrap_or_default(), profile));
    }
    if let Some(section) = file.get("rpk").filter(|section| section.get("kafka_api").is_some()) {
        imported.clusters.push(cluster("", section));
    }
    if file.get("cloud_auth").is_some_and(|auth| !auth.nodes().is_empty()) {
        imported.notes.push("cloud_auth was not taken: it is for Redpanda's cloud, not for Kafka".into());
    }
    Ok(imported)
}

fn cluster(name: &str, profile: &Yaml) -> Imports {
    let mut imports = Imports::new(name);
    let nothing = Yaml::Map(Vec::new());
    let api = profile.get("kafka_api").unwrap_or(&nothing);
    imports.set_some("bootstrap.servers", api.joined("brokers"));
    // TLS is on as soon as the section is there, even if it is empty, unless it says that it is not.
    let tls = api.get("tls").filter(|tls| tls.text("enabled") != Some("false"));
    let sasl = api.get("sasl").filter(|sasl| !sasl.entries().is_empty());
    imports.protocol(tls.is_some(), sasl.is_some());
    if let Some(tls) = tls {
        let ca = ["ca_file", "truststore_file", "ca"].iter().find_map(|name| tls.text(name));
        imports.set_some("ssl.ca.location", ca);
        imports.set_some("ssl.certificate.location", tls.text("cert_file").or(tls.text("cert")));
        imports.set_some("ssl.key.location", tls.text("key_file").or(tls.text("key")));
        if tls.is_true("insecure_skip_verify") {
            imports.skips_certificates();
        }
    }
    if let Some(sasl) = sasl {
        match sasl.text("mechanism").or(sasl.text("type")).map(mechanism) {
            Some(Some(mechanism)) => imports.set("sasl.mechanism", mechanism),
            Some(None) => imports.pass_over("kafka_api.sasl.mechanism", "there is no such mechanism"),
            // What rpk takes if none is given.
            None => imports.set("sasl.mechanism", "SCRAM-SHA-256"),
        }
        imports.set_some("sasl.username", sasl.text("user"));
        imports.set_some("sasl.password", sasl.text("password"));
    }
    let cloud = profile.get("cloud_cluster").or(profile.get("from_cloud"));
    if cloud.is_some_and(|cloud| !cloud.entries().is_empty()) {
        imports.pass_over(
            "cloud_cluster",
            "logging in to Redpanda's cloud is rpk's own; create a user and set sasl.username",
        );
    }
    if profile.get("admin_api").is_some_and(|section| !section.entries().is_empty()) {
        imports.pass_over("admin_api", "it is for Redpanda's own API, not for Kafka");
    }
    if let Some(registry) = profile.get("schema_registry") {
        schema_registry(registry, &mut imports);
    }
    imports
}

fn schema_registry(registry: &Yaml, imports: &mut Imports) {
    let Some(addresses) = registry.joined("addresses") else { return };
    let tls = registry.get("tls").filter(|tls| tls.text("enabled") != Some("false"));
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = |address: &str| match address.contains("://") {
        true => address.to_owned(),
        false => format!("{scheme}://{address}"),
    };
    let urls: Vec<String> = addresses.split(',').map(|address| url(address.trim())).collect();
    imports.set("schema.registry.url", urls.join(","));
    if let Some(tls) = tls {
        let ca = ["ca_file", "truststore_file", "ca"].iter().find_map(|name| tls.text(name));
        imports.set_some("schema.registry.ssl.ca.location", ca);
        let certificate = tls.text("cert_file").or(tls.text("cert"));
        imports.set_some("schema.registry.ssl.certificate.location", certificate);
        imports.set_some("schema.registry.ssl.key.location", tls.text("key_file").or(tls.text("key")));
        if tls.is_true("insecure_skip_verify") {
            imports.pass_over("schema_registry.tls.insecure_skip_verify", "name the authority's certificate");
        }
    }
    // rpk logs in to the registry as to Kafka.
    if imports.properties.iter().any(|(name, _)| name == "sasl.password") {
        imports.set("basic.auth.credentials.source", "SASL_INHERIT");
    }
}
