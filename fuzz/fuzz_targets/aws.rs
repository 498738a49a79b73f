#![no_main]
// The readers are reachable in builds of cargo-fuzz only.
#![cfg(fuzzing)]

use milena::aws::fuzzing;

#[path = "../bodies/aws.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
