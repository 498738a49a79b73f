//! Java's `.properties`, librdkafka's properties and kcat's configuration.

use milena::Properties;

use super::super::registry;
use super::{Imported, Imports};

pub(super) fn read(text: &str) -> Result<Imported, String> {
    let mut properties = Properties::parse(text).map_err(|error| error.to_string())?;
    let mut imports = Imports::default();
    match properties.unfold_jaas() {
        Ok(true) => {
            imports.note("sasl.jaas.config became sasl.username and sasl.password, which say the same");
        }
        Ok(false) => {}
        Err(error) => return Err(error.to_string()),
    }
    for (name, value) in properties.iter() {
        // What runs in the JVM of brokers, of Connect and of Streams has no meaning for a client.
        let of_others = ["config.providers", "metric.reporters", "interceptor.classes", "key.", "value."];
        if of_others.iter().any(|other| name.starts_with(other)) {
            imports.pass_over(name, "it is for programs in Java");
            continue;
        }
        if registry::own_name(name).is_some() && registry::is_secret(name).is_none() {
            imports.pass_over(name, "Milena's client of schema registries has no setting of this name");
            continue;
        }
        // A key of the profiles file itself.
        if name == super::super::PROTECTED {
            imports.pass_over(name, "no client has a setting of this name");
            continue;
        }
        imports.set(name, value);
    }
    Ok(Imported { clusters: vec![imports], ..Imported::default() })
}
