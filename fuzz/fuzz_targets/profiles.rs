#![no_main]

#[allow(dead_code, unreachable_pub, reason = "the binary uses all of it")]
#[path = "../../crates/cli/src/profiles/mod.rs"]
mod profiles;

#[path = "../bodies/profiles.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
