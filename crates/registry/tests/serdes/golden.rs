//! Records of confluent-kafka's serializers, which are read, and written to the same bytes: `tests/golden/confluent.json`, made by
//! `interop/python/serdes_golden.py`.

use std::time::Duration;

use milena::Header;
use milena_registry::framing::{self, Part};
use milena_registry::{
    Avro, Decode, Dynamic, DynamicMessage, DynamicProtobuf, DynamicValue, Encode, Format, JsonSchema,
    RecordEncoder, ReflectMessage as _, RegistrySerde,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fake::patient;
use crate::memory::Registry;

#[derive(Deserialize)]
struct Row {
    format: String,
    name: String,
    message: Option<String>,
    id: u32,
    guid: String,
    schema: String,
    references: Vec<Other>,
    value: Value,
    payload: String,
    headers: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Other {
    name: String,
    subject: String,
    schema: String,
}

impl Row {
    async fn registry(&self) -> Registry {
        let registry = Registry::start().await;
        for Other { subject, schema, .. } in &self.references {
            registry.put(subject, json!({"schema": schema, "schemaType": self.format}));
        }
        let references: Vec<_> = self
            .references
            .iter()
            .map(|other| json!({"name": other.name, "subject": other.subject, "version": 1}))
            .collect();
        let body = json!({
            "schema": self.schema, "schemaType": self.format, "references": references, "guid": self.guid,
        });
        assert_eq!(registry.put("orders-value", body), self.id, "{}", self.name);
        registry
    }

    /// Reads the record as JSON, without saying which format it is, and writes it again.
    async fn check_json(&self) {
        let registry = self.registry().await;
        let client = patient([&registry.fake.url]).latest_ttl(Duration::ZERO).build().expect("an address");
        let (payload, name) = (hex(&self.payload), &self.name);
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.clone(), hex(value))).collect();
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| Header::new(name, Some(&value[..]))).collect();
        let serde = RegistrySerde::new(&client, Dynamic::new());
        let value: DynamicValue =
            serde.read(Part::Value, &payload, &headers).await.unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(value.message(), self.message.as_deref(), "{name}");
        let mut json: Value = serde_json::from_str(value.json()).expect("JSON");
        if self.format == "AVRO"
            && let Some(note) = json.pointer("/note/string").cloned()
        {
            // Avro's JSON names the branch.
            json["note"] = note;
        }
        assert_eq!(json, self.value, "{name}");

        let framed = framing::read(Part::Value, &payload, headers.iter().copied()).expect("a schema");
        assert!(serde.restores(Part::Value, framed.framing(), framed.schema(), &value, &payload), "{name}");
        let mut written = Vec::new();
        let header = serde.write_as(Part::Value, framed.framing(), framed.schema(), &value, &mut written);
        let header = header.unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(written, payload, "{name}");
        let header = header.as_ref().map(|(name, value)| Header::new(name, Some(&value[..])));
        assert_eq!(header.as_slice(), headers, "{name}");
    }

    /// Reads the record, and writes what was read.
    async fn check<F, T>(&self, format: F, is_it: impl Fn(&T) -> bool)
    where
        F: Format + Clone + Encode<T> + for<'de> Decode<'de, T>,
    {
        let registry = self.registry().await;
        let client = patient([&registry.fake.url]).latest_ttl(Duration::ZERO).build().expect("an address");
        let (payload, name) = (hex(&self.payload), &self.name);
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.clone(), hex(value))).collect();
        let headers: Vec<_> =
            headers.iter().map(|(name, value)| Header::new(name, Some(&value[..]))).collect();

        let serde =
            RegistrySerde::new(&client, format).use_latest_version(true).in_header(!headers.is_empty());
        let value: T =
            serde.read(Part::Value, &payload, &headers).await.unwrap_or_else(|why| panic!("{name}: {why}"));
        assert!(is_it(&value), "{name}");

        let writer = RecordEncoder::<T>::writer(&serde, "orders", Part::Value).await.expect("a writer");
        let mut written = Vec::new();
        serde.encode(&writer, &value, &mut written).unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!(written, payload, "{name}");
        let header = RecordEncoder::<T>::header(&serde, &writer);
        assert_eq!(header.as_slice(), headers, "{name}");
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digits).collect()
}

#[tokio::test]
async fn records_of_confluents_serializers_are_read_and_written_byte_for_byte() {
    let rows: Vec<Row> = serde_json::from_str(include_str!("../golden/confluent.json")).expect("rows");
    let mut formats = std::collections::BTreeMap::new();
    for row in &rows {
        *formats.entry(row.format.as_str()).or_insert(0) += 1;
        row.check_json().await;
        match row.format.as_str() {
            "AVRO" => row.check::<_, Value>(Avro, |value| *value == row.value).await,
            "JSON" => row.check::<_, Value>(JsonSchema::new(), |value| *value == row.value).await,
            _ => {
                let name = row.message.as_deref().expect("a message");
                let is_it = |message: &DynamicMessage| message.descriptor().full_name() == name;
                row.check(DynamicProtobuf::message(name), is_it).await;
            }
        }
    }
    assert_eq!(formats.into_iter().collect::<Vec<_>>(), [("AVRO", 6), ("JSON", 4), ("PROTOBUF", 6)]);
}
