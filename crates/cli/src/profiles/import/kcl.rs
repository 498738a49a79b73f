//! kcl's `config.toml`: profiles, and fields outside of them, which are a cluster of their own in older versions and what
//! profiles leave out in newer ones.

use toml_edit::{DocumentMut, Item, TableLike};

use super::{Imported, Imports, mechanism};

/// Why a time was not taken.
const TIMES: &str = "use --timeout";

pub(super) fn read(document: &DocumentMut) -> Result<Imported, String> {
    let current = document.get("current_profile").and_then(Item::as_str).map(str::to_owned);
    let mut imported = Imported { current, ..Imported::default() };
    if let Some(profiles) = document.get("profiles").and_then(Item::as_table_like) {
        for (name, item) in profiles.iter() {
            let table = item.as_table_like().ok_or_else(|| format!("profiles.{name} is not a table"))?;
            let mut imports = cluster(name, table);
            if !table.contains_key("seed_brokers") {
                imports.set_some("bootstrap.servers", joined(document.as_table(), "seed_brokers"));
            }
            imported.clusters.push(imports);
        }
    }
    let flat = ["seed_brokers", "tls", "sasl"].iter().any(|name| document.contains_key(name));
    if flat && imported.clusters.is_empty() {
        imported.clusters.push(cluster("", document.as_table()));
    }
    Ok(imported)
}

fn cluster(name: &str, table: &dyn TableLike) -> Imports {
    let mut imports = Imports::new(name);
    imports.set_some("bootstrap.servers", joined(table, "seed_brokers"));
    let tls = table.get("tls").and_then(Item::as_table_like);
    let sasl = table.get("sasl").and_then(Item::as_table_like);
    imports.protocol(tls.is_some(), sasl.is_some());
    if let Some(tls) = tls {
        imports.set_some("ssl.ca.location", text(tls, "ca_cert_path"));
        imports.set_some("ssl.certificate.location", text(tls, "client_cert_path"));
        imports.set_some("ssl.key.location", text(tls, "client_key_path"));
        if tls.get("insecure").and_then(Item::as_bool) == Some(true) {
            imports.skips_certificates();
        }
        match text(tls, "min_version").map(|version| version.trim_start_matches(['v', 'V'])) {
            Some("1.3") => imports.set("ssl.enabled.protocols", "TLSv1.3"),
            Some("1.0" | "1.1") => {
                imports.pass_over("tls.min_version", "TLS 1.2 is the oldest version that is spoken");
            }
            _ => {}
        }
        if text(tls, "server_name").is_some() {
            imports.pass_over("tls.server_name", "the certificate must be for the host in the address");
        }
        for list in ["cipher_suites", "curve_preferences"] {
            if joined(tls, list).is_some() {
                imports.pass_over(&format!("tls.{list}"), "all that are built in are safe");
            }
        }
    }
    if let Some(sasl) = sasl {
        match text(sasl, "method").map(|method| (method, mechanism(method))) {
            Some((_, Some(mechanism))) => imports.set("sasl.mechanism", mechanism),
            Some((_, None)) => imports.pass_over("sasl.method", "there is no such mechanism"),
            None => {}
        }
        imports.set_some("sasl.username", text(sasl, "user"));
        imports.set_some("sasl.password", text(sasl, "pass"));
        if text(sasl, "zid").is_some() {
            imports.pass_over("sasl.zid", "the identity is the user");
        }
        if sasl.get("is_token").and_then(Item::as_bool) == Some(true) {
            imports.pass_over(
                "sasl.is_token",
                "write sasl.jaas.config with ScramLoginModule and tokenauth=\"true\"",
            );
        }
    }
    for time in ["broker_timeout", "dial_timeout", "retry_timeout", "timeout_ms"] {
        if table.contains_key(time) {
            imports.pass_over(time, TIMES);
        }
    }
    imports
}

fn text<'a>(table: &'a dyn TableLike, name: &str) -> Option<&'a str> {
    table.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn joined(table: &dyn TableLike, name: &str) -> Option<String> {
    let list = table.get(name)?.as_array()?;
    let texts: Vec<_> = list.iter().filter_map(|value| value.as_str()).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}
