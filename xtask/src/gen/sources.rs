//! Which schemas are taken, from which jars, and which of them make a file together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;

use super::jar;
use super::model::Module;
use super::names;
use super::schema::{Kind, Schema};

/// The release whose schemas the committed code follows.
pub(crate) const RELEASE: &str = "4.4.0";

/// The jars that hold schemas of what clients send, receive and find in internal topics, and their Java packages.
const ARTIFACTS: [(&str, &str); 3] = [
    ("kafka-clients", "org.apache.kafka.common.message"),
    ("kafka-group-coordinator", "org.apache.kafka.coordinator.group.generated"),
    ("kafka-transaction-coordinator", "org.apache.kafka.coordinator.transaction.generated"),
];

/// Payloads that no client reads: KRaft's own control records, and the principal inside a forwarded request.
const PAYLOADS_LEFT_OUT: [&str; 6] = [
    "DefaultPrincipalData",
    "KRaftVersionRecord",
    "LeaderChangeMessage",
    "SnapshotFooterRecord",
    "SnapshotHeaderRecord",
    "VotersRecord",
];

/// All schemas of the release.
pub(crate) struct Sources {
    schemas: Vec<(&'static str, Schema)>,
    /// Names of the APIs that clients use. Responses are sorted by them: only requests list their listeners.
    client_apis: BTreeSet<String>,
}

impl Sources {
    /// Reads them, and fetches the jars on first use.
    pub(crate) fn read() -> Result<Self> {
        let mut schemas = Vec::new();
        for (jar, (_, package)) in jars()?.iter().zip(ARTIFACTS) {
            schemas.extend(jar::schemas(jar)?.into_iter().map(|schema| (package, schema)));
        }
        let requests = schemas.iter().map(|(_, schema)| schema).filter(|schema| is_for_clients(schema));
        let client_apis = requests.map(|request| names::api(&request.name).to_owned()).collect();
        Ok(Self { schemas, client_apis })
    }

    /// Every schema, left out or not.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Schema> {
        self.schemas.iter().map(|(_, schema)| schema)
    }

    /// The files to generate: request and response of an API, key and value of a coordinator's record, or a payload.
    pub(crate) fn modules(&self) -> Result<Vec<Module>> {
        let mut groups: BTreeMap<String, Vec<&Schema>> = BTreeMap::new();
        for schema in self.all().filter(|schema| self.is_generated(schema)) {
            groups.entry(module_name(schema)).or_default().push(schema);
        }
        groups.iter().map(|(name, schemas)| Module::resolve(name, schemas)).collect()
    }

    /// Kafka's own classes for the messages that are generated.
    pub(crate) fn java_classes(&self) -> Vec<String> {
        let generated = self.schemas.iter().filter(|(_, schema)| self.is_generated(schema));
        let class = |(package, schema): &(&str, Schema)| match schema.kind {
            Kind::Request | Kind::Response | Kind::Header => format!("{package}.{}Data", schema.name),
            Kind::Data | Kind::CoordinatorKey | Kind::CoordinatorValue => {
                format!("{package}.{}", schema.name)
            }
        };
        generated.map(class).collect()
    }

    fn is_generated(&self, schema: &Schema) -> bool {
        match schema.kind {
            Kind::Request | Kind::Response => self.client_apis.contains(names::api(&schema.name)),
            Kind::Data => !PAYLOADS_LEFT_OUT.contains(&schema.name.as_str()),
            Kind::Header | Kind::CoordinatorKey | Kind::CoordinatorValue => true,
        }
    }
}

/// The jars that the schemas come from.
pub(crate) fn jars() -> Result<Vec<PathBuf>> {
    ARTIFACTS.iter().map(|(artifact, _)| jar::fetch("org.apache.kafka", artifact, RELEASE)).collect()
}

/// Whether clients send this request. Requests that Kafka has retired have no listeners, and no versions.
pub(crate) fn is_for_clients(schema: &Schema) -> bool {
    schema.kind == Kind::Request && schema.listeners.iter().any(|listener| listener == "broker")
}

fn module_name(schema: &Schema) -> String {
    let name = schema.name.as_str();
    match schema.kind {
        Kind::Request | Kind::Response => names::snake(names::api(name)),
        Kind::Header => "header".to_owned(),
        Kind::Data => names::snake(name),
        Kind::CoordinatorKey | Kind::CoordinatorValue => {
            let record = name.strip_suffix("Key").or_else(|| name.strip_suffix("Value")).unwrap_or(name);
            format!("{}_record", names::snake(record))
        }
    }
}
