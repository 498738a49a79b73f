//! Any bytes as a value and as a header of Apicurio's framings.

use milena::Header;
use milena_registry::framing::{self, Framing, Part, SchemaId};

/// The first byte says which header the next bytes are, and how many of them.
pub(crate) fn run(data: &[u8]) {
    let (choice, rest) = data.split_first().map_or((0, data), |(choice, rest)| (*choice, rest));
    let (value, payload) = rest.split_at(usize::from(choice >> 1 & 0xf).min(rest.len()));
    let is_global = choice & 1 == 0;
    let name = if is_global { "apicurio.value.globalId" } else { "apicurio.value.contentId" };
    if let Ok(framed) = framing::read(Part::Value, payload, [Header::new(name, Some(value))]) {
        assert_eq!((framed.framing(), framed.body()), (Framing::ApicurioHeader, payload));
        let id = u64::from_be_bytes(value[..8].try_into().expect("it was read"));
        assert_eq!(framed.schema(), if is_global { SchemaId::GlobalId(id) } else { SchemaId::ContentId(id) });
        assert!(id > 0 && i64::try_from(id).is_ok());
    }
    let Ok(framed) = framing::read(Part::Value, rest, []) else { return };
    if framed.framing() == Framing::ApicurioPrefix {
        let mut again = vec![0];
        let SchemaId::GlobalId(id) = framed.schema() else { panic!("{:?}", framed.schema()) };
        again.extend_from_slice(&id.to_be_bytes());
        again.extend_from_slice(framed.body());
        assert_eq!(again, rest);
        assert!(framed.message().is_err());
    }
}
