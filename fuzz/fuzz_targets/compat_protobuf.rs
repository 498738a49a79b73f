#![no_main]

#[path = "../bodies/compat_protobuf.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
