//! What is allocated for a record.

use milena::Header;
use milena_registry::framing::{self, Guid, Part};

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
