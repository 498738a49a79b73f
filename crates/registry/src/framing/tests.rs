use std::io::Write as _;

use super::*;

fn hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn guid() -> Guid {
    "89791762-2336-4186-9674-299b90a802e2".parse().expect("a GUID")
}

/// Bytes of `SchemaId.id_to_bytes` and `guid_to_bytes` of confluent-kafka 2.16.1 (PyPI).
#[test]
fn confluents_bytes_are_written_and_read_alike() {
    let check = |indexes: Option<&[u32]>, prefix: &str, header: &str| {
        let mut payload = Vec::new();
        write_prefix(1_000_001, indexes, &mut payload);
        assert_eq!(payload, hex(prefix), "{indexes:?}");
        let value = header_value(guid(), indexes);
        assert_eq!(value, hex(header), "{indexes:?}");

        payload.extend_from_slice(b"body");
        let framed = read(Part::Value, &payload, []).expect("a schema");
        assert_eq!((framed.framing(), framed.schema()), (Framing::ConfluentPrefix, SchemaId::Id(1_000_001)));
        let headers = [Header::new(VALUE_SCHEMA_ID_HEADER, Some(&value[..]))];
        let in_header = read(Part::Value, b"body", headers).expect("a schema");
        assert_eq!(
            (in_header.framing(), in_header.schema()),
            (Framing::ConfluentHeader, SchemaId::Guid(guid()))
        );
        let Some(indexes) = indexes else {
            assert_eq!((framed.body(), in_header.body()), (&b"body"[..], &b"body"[..]));
            return;
        };
        for framed in [framed, in_header] {
            let (read, body) = framed.message().expect("indexes");
            assert_eq!((read.iter().collect::<Vec<_>>(), body), (indexes.to_vec(), &b"body"[..]));
        }
    };
    check(None, "00000f4241", "0189791762233641869674299b90a802e2");
    check(Some(&[0]), "00000f424100", "0189791762233641869674299b90a802e200");
    check(Some(&[1]), "00000f42410202", "0189791762233641869674299b90a802e20202");
    check(Some(&[2, 0, 300]), "00000f4241060400d804", "0189791762233641869674299b90a802e2060400d804");
}

#[test]
fn the_first_message_has_a_short_form_and_a_long_one() {
    for bytes in ["000000002a00", "000000002a0200", "000000002a828000808000"] {
        let payload = hex(bytes);
        let (indexes, body) = read(Part::Key, &payload, []).expect("a schema").message().expect("indexes");
        assert_eq!((indexes.iter().collect::<Vec<_>>(), body.len()), (vec![0], 0), "{bytes}");
    }
}

#[test]
fn a_header_counts_before_the_payload_and_the_last_one_of_a_name() {
    let (first, last) = (header_value(Guid::from_bytes([7; 16]), None), header_value(guid(), None));
    let name = Part::Key.schema_id_header();
    let headers = [Header::new(name, Some(&first[..])), Header::new(name, Some(&last[..]))];
    let payload = hex("000000002a");
    let framed = read(Part::Key, &payload, headers).expect("a schema");
    assert_eq!((framed.schema(), framed.body()), (SchemaId::Guid(guid()), &payload[..]));
    // The value's header says nothing of the key, and a null header nothing at all.
    let headers = [Header::new(VALUE_SCHEMA_ID_HEADER, Some(&last[..])), Header::new(name, None)];
    assert_eq!(read(Part::Key, &payload, headers).expect("a schema").schema(), SchemaId::Id(42));
    // Java's deserializer takes an id in the header, too.
    let headers = [Header::new(name, Some(&payload[..]))];
    assert_eq!(read(Part::Key, b"x", headers).expect("a schema").schema(), SchemaId::Id(42));
}

#[test]
fn apicurios_ids_of_eight_bytes_are_told_from_confluents() {
    let payload = hex("00000000000000002a07");
    let framed = read(Part::Value, &payload, []).expect("a schema");
    assert_eq!((framed.framing(), framed.schema()), (Framing::ApicurioPrefix, SchemaId::GlobalId(42)));
    assert_eq!(framed.body(), [7]);
    assert_eq!(framed.message(), Err(FramingError::NoIndexes(Framing::ApicurioPrefix)));
    // A Confluent id whose body begins with zeros.
    let payload = hex("000000002a00000000");
    assert_eq!(read(Part::Value, &payload, []).expect("a schema").schema(), SchemaId::Id(42));
}

#[test]
fn apicurios_headers_are_read() {
    let (global, content) = (hex("000000000000002a"), hex("000000000000002b"));
    let headers = [
        Header::new("apicurio.value.contentId", Some(&content[..])),
        Header::new("apicurio.value.encoding", Some(b"BINARY")),
        Header::new("apicurio.value.globalId", Some(&global[..])),
    ];
    let framed = read(Part::Value, b"body", headers).expect("a schema");
    assert_eq!((framed.framing(), framed.schema()), (Framing::ApicurioHeader, SchemaId::GlobalId(42)));
    assert_eq!(framed.body(), b"body");
    let framed = read(Part::Value, b"body", headers[..1].iter().copied()).expect("a schema");
    assert_eq!(framed.schema(), SchemaId::ContentId(43));
    let short = [Header::new("apicurio.key.globalId", Some(&global[..4]))];
    let error = read(Part::Key, b"body", short).expect_err("too short");
    assert_eq!(error.to_string(), "the schema's id of the key has 4 bytes, and 8 are needed");
}

#[test]
fn glues_bodies_are_decompressed_within_a_limit() {
    let plain = [&[3, 0][..], guid().as_bytes(), b"body"].concat();
    let framed = read(Part::Value, &plain, []).expect("a schema");
    assert_eq!((framed.framing(), framed.schema()), (Framing::Glue, SchemaId::Glue(guid())));
    assert!(matches!(framed.decompressed(0), Ok(Cow::Borrowed(b"body"))), "it is not compressed");

    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    zlib.write_all(&[7; 1000]).expect("written");
    let zlib = zlib.finish().expect("written");
    let payload = [&[3, 5][..], guid().as_bytes(), &zlib].concat();
    let framed = read(Part::Value, &payload, []).expect("a schema");
    assert_eq!(framed.decompressed(1000).expect("decompressed"), vec![7; 1000]);
    assert_eq!(framed.decompressed(999), Err(FramingError::BadCompression { bytes_max: 999 }));
    let cut = read(Part::Value, &payload[..payload.len() - 8], []).expect("a schema");
    assert!(cut.decompressed(1000).is_err());
    assert!(read(Part::Value, &payload[..17], []).is_err());
}

#[test]
fn what_names_no_schema_says_what_it_is() {
    let check = |payload: &[u8], expected: &str| {
        let error = read(Part::Value, payload, []).expect_err("no schema");
        assert_eq!(error.to_string(), expected);
        assert_eq!(detect(Part::Value, payload, []), None);
    };
    check(b"", "the value names no schema: it is empty");
    check(b"{}", "the value names no schema: it begins with byte 0x7b");
    check(&hex("0000"), "the schema's id of the value has 2 bytes, and 5 are needed");
    check(&hex("0000000000"), "the value names schema 0, and ids are greater than zero");
    check(&hex("00ffffffff"), "the value names schema -1, and ids are greater than zero");
    check(&hex("0307"), "the value names no schema: it begins with byte 0x03");
    check(&hex("0300"), "the schema's id of the value has 2 bytes, and 18 are needed");
    check(&hex("0100"), "the schema's id of the value has 2 bytes, and 17 are needed");
    let headers = [Header::new(VALUE_SCHEMA_ID_HEADER, Some(&[9][..]))];
    let error = read(Part::Value, b"", headers).expect_err("an unknown version");
    assert_eq!(error.to_string(), "the header __value_schema_id begins with byte 0x09, which is not known");
    // Java reads a GUID in the payload, which is too unlikely to be taken for one unasked.
    let payload = header_value(guid(), None);
    assert_eq!(read(Part::Value, &payload, []).expect("a GUID").schema(), SchemaId::Guid(guid()));
    assert_eq!(detect(Part::Value, &payload, []), None);
}

#[test]
fn message_indexes_are_bounded() {
    let check = |indexes: &str| {
        let payload = hex(&format!("000000002a{indexes}"));
        assert_eq!(
            read(Part::Value, &payload, []).expect("a schema").message(),
            Err(FramingError::BadIndexes),
            "{indexes}"
        );
    };
    check("");
    check("01"); // a count of -1
    check("02"); // one index, and none follows
    check("0201"); // -1
    check("ffffffff0f"); // a count of -2³¹
    check("feffffff0f"); // a count of 2³¹ - 1
    check("8280808080"); // a number that does not end
    check(&format!("8201{}", "00".repeat(65))); // 65 levels
    let payload = hex(&format!("000000002a8001{}", "00".repeat(64)));
    let (indexes, _) = read(Part::Value, &payload, []).expect("a schema").message().expect("64 levels");
    assert_eq!(indexes.iter().count(), INDEXES_MAX);
}
