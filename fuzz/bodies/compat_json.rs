//! Any text as two JSON Schemas, checked for compatibility.

include!("compat_shared.rs");

pub(crate) fn run(data: &[u8]) {
    compare(Format::Json, data);
}
