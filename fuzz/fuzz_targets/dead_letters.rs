#![no_main]

#[path = "../bodies/dead_letters.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
