//! Any text as two Avro schemas, checked for compatibility.

include!("compat_shared.rs");

pub(crate) fn run(data: &[u8]) {
    compare(Format::Avro, data);
}
