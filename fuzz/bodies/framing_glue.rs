//! Any bytes as a value of AWS Glue's serializers, decompressed within a limit, and compressed bytes that must be read again.

use std::borrow::Cow;

use milena_registry::framing::{self, Framing, Part, SchemaId};

const BODY_BYTES_MAX: usize = 1 << 16;

/// The bytes as a payload, and after the head of one that is compressed.
pub(crate) fn run(data: &[u8]) {
    let id = [7; 16];
    let mut headed = vec![3, 5];
    headed.extend_from_slice(&id);
    headed.extend_from_slice(data);
    for payload in [data, &headed] {
        let Ok(framed) = framing::read(Part::Value, payload, []) else { continue };
        if framed.framing() != Framing::Glue {
            continue;
        }
        assert!(matches!(framed.schema(), SchemaId::Glue(_)) && framed.message().is_err());
        assert_eq!(framed.body(), &payload[18..]);
        match framed.decompressed(BODY_BYTES_MAX) {
            Ok(Cow::Borrowed(body)) => assert_eq!((payload[1], body), (0, framed.body())),
            Ok(Cow::Owned(body)) => {
                assert!(payload[1] == 5 && body.len() <= BODY_BYTES_MAX);
                // A limit that is less by one refuses it.
                assert!(body.is_empty() || framed.decompressed(body.len() - 1).is_err());
            }
            Err(_) => assert_eq!(payload[1], 5),
        }
    }
}
