#![no_main]

#[path = "../bodies/properties.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
