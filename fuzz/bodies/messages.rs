//! Any bytes as any message.
//!
//! The input begins with three bytes: 0 for a request, 1 for a response, 2 for anything else; the API key, or the place
//! among the others; the version.

use bytes::Bytes;
use milena_messages::ApiKey;

#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../crates/messages/tests/golden/codec.rs"]
mod codec;
use codec::Codec;

/// Nothing panics, what was understood survives its own version, and every other version writes or refuses it.
pub fn run(data: &[u8]) {
    let &[kind, place, version, ref content @ ..] = data else { return };
    let Some(codec) = codec(kind, place) else { return };
    let (content, version) = (Bytes::copy_from_slice(content), i16::from(version));
    for other in codec.versions.clone() {
        if codec.recode(&content, version, other).is_err() {
            return;
        }
    }
}

fn codec(kind: u8, place: u8) -> Option<&'static Codec> {
    let suffix = match kind {
        0 => "Request",
        1 => "Response",
        _ => return others().nth(place.into()),
    };
    let name = format!("{}{suffix}", ApiKey::from_i16(place.into())?.name());
    Codec::all().iter().find(|codec| codec.name == name)
}

fn others() -> impl Iterator<Item = &'static Codec> {
    Codec::all().iter().filter(|codec| !codec.name.ends_with("Request") && !codec.name.ends_with("Response"))
}
