//! Any bytes as a value and as a header of Confluent's framings; what is read is written to the same.

use milena::Header;
use milena_registry::framing::{
    self, Framing, INDEXES_MAX, Part, SchemaId, VALUE_SCHEMA_ID_HEADER, header_value, write_prefix,
};

/// The first byte is the length of a header, whose value and the payload follow.
pub(crate) fn run(data: &[u8]) {
    let (length, rest) = data.split_first().map_or((0, data), |(length, rest)| (usize::from(*length), rest));
    let (header, payload) = rest.split_at(length.min(rest.len()));
    let headers = [Header::new(VALUE_SCHEMA_ID_HEADER, Some(header))];
    for read in [
        framing::read(Part::Value, rest, []),
        framing::read(Part::Value, payload, headers),
        framing::detect(Part::Value, rest, []).ok_or(framing::FramingError::BadIndexes),
    ] {
        let Ok(framed) = read else { continue };
        assert!(framed.body().len() <= rest.len());
        assert!(framed.decompressed(1 << 16).map_or(0, |body| body.len()) <= (1 << 16).max(data.len()));
        let message = framed.message();
        let (indexes, body) = match &message {
            Ok((indexes, body)) => (Some(indexes.iter().collect::<Vec<_>>()), *body),
            Err(_) => (None, framed.body()),
        };
        assert!(indexes.as_ref().is_none_or(|indexes| (1..=INDEXES_MAX).contains(&indexes.len())));
        let indexes = indexes.as_deref();
        // Written anew it is as short as it can be, and says the same.
        match (framed.framing(), framed.schema()) {
            (Framing::ConfluentPrefix, SchemaId::Id(id)) => {
                let mut again = Vec::new();
                write_prefix(id, indexes, &mut again);
                again.extend_from_slice(body);
                assert!(again.len() <= rest.len());
                let again = framing::read(Part::Value, &again, []).expect("it was read before");
                assert_eq!(again.schema(), framed.schema());
                assert_eq!(again.message().ok().map(|(_, body)| body), message.ok().map(|(_, body)| body));
            }
            (Framing::ConfluentHeader, SchemaId::Guid(guid)) => {
                let value = header_value(guid, indexes);
                assert!(value.len() <= header.len());
                let again = [Header::new(VALUE_SCHEMA_ID_HEADER, Some(&value[..]))];
                let again = framing::read(Part::Value, payload, again).expect("it was read before");
                assert_eq!((again.schema(), again.body()), (framed.schema(), framed.body()));
            }
            _ => {}
        }
    }
}
