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
    for (section, of) in [("admin_api", "Redpanda's own API"), ("schema_registry", "the registry's API")] {
        if profile.get(section).is_some_and(|section| !section.entries().is_empty()) {
            imports.pass_over(section, &format!("it is for {of}, not for Kafka"));
        }
    }
    imports
}
