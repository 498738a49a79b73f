//! What is allocated for a record.

use milena::Header;
use milena_registry::framing::{self, Guid, Part, SchemaId};
use milena_registry::{
    Avro, RecordDecoder, RecordEncoder, RegistrySerde, Schema, SchemaMemory, SchemaRegistry,
};
use serde::{Deserialize, Serialize};

#[test]
fn reading_the_schema_of_a_record_allocates_nothing() {
    let guid = Guid::from_bytes([7; 16]);
    let value = framing::header_value(guid, Some(&[2, 0, 300]));
    let mut payload = Vec::new();
    framing::write_prefix(42, Some(&[0]), &mut payload);
    let headers =
        [Header::new("trace", Some(b"7f")), Header::new(framing::VALUE_SCHEMA_ID_HEADER, Some(&value[..]))];
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            let framed = framing::read(Part::Value, &payload, []).unwrap();
            assert_eq!(framed.message().unwrap().0.iter().count(), 1);
            let framed = framing::read(Part::Value, &payload, headers).unwrap();
            assert_eq!(framed.message().unwrap().0.iter().count(), 3);
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[derive(Serialize, Deserialize)]
struct Order<'a> {
    id: i64,
    item: &'a str,
    #[serde(borrow)]
    note: Option<&'a str>,
}

#[test]
fn reading_a_value_with_a_schema_that_is_known_allocates_nothing() {
    let schema = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},{"name":"item","type":"string"},
        {"name":"left_out","type":{"type":"array","items":"int"}},{"name":"note","type":["null","string"]}]}"#;
    let registry = SchemaRegistry::offline();
    registry.remember(SchemaId::Id(7), Schema::avro(schema));
    let serde = RegistrySerde::new(&registry, Avro);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(serde.load(SchemaId::Id(7))).expect("it is known");
    let payload = b"\0\0\0\0\x07\x0e\x06ink\x04\x02\x04\0\x02\x08soon";
    let mut memory = SchemaMemory::default();
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            let order: Order<'_> = serde.decode(&mut memory, Part::Value, payload, [].into_iter()).unwrap();
            assert_eq!((order.id, order.item, order.note), (7, "ink", Some("soon")));
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn writing_a_value_to_a_topic_that_is_known_allocates_nothing() {
    let schema = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"},{"name":"item","type":"string"},
        {"name":"note","type":["null","string"]}]}"#;
    let registry = SchemaRegistry::offline();
    registry.remember(SchemaId::Id(7), Schema::avro(schema));
    let serde = RegistrySerde::new(&registry, Avro).use_id(7);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let order = Order { id: 7, item: "ink", note: None };
    let mut into = Vec::with_capacity(100);
    let mut write = async || {
        let writer = RecordEncoder::<Order<'_>>::writer(&serde, "orders", Part::Value).await.unwrap();
        into.clear();
        serde.encode(&writer, &order, &mut into).unwrap();
    };
    let counted = runtime.block_on(async {
        write().await;
        let mut hundred = Box::pin(async {
            for _ in 0..100 {
                write().await;
            }
        });
        // Nothing is waited for, so one poll is all of it.
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        allocation_counter::measure(|| assert!(hundred.as_mut().poll(&mut context).is_ready()))
    });
    assert_eq!(counted.count_total, 0);
    assert_eq!(into, b"\0\0\0\0\x07\x0e\x06ink\0");
}
