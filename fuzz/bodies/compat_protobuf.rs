//! Any text as two Protobuf's files, checked for compatibility.

include!("compat_shared.rs");

pub(crate) fn run(data: &[u8]) {
    compare(Format::Protobuf, data);
}
