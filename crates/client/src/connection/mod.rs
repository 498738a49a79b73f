//! One connection to one broker, and what it takes to get one.
//!
//! ```text
//!  callers ─ Call ─▶ Link (queue, reconnect, backoff) ─▶ dial ─▶ Connection ─ vectored writes ═▶ broker
//!                                                                    │
//!  callers ◀─ Answer (frame, version) ◀────────── InFlight ◀── Frames ◀═══ responses, in order ═╝
//! ```
//!
//! It must not know what a request means: a [`Call`] encodes itself, and whoever made it decodes the answer.

mod alarm;
mod call;
mod dial;
mod frames;
mod link;
mod peers;
mod settings;
mod stream;

pub(crate) use self::call::{Answer, Call, Claim, Landing, Reply, Typed};
pub(crate) use self::link::{Link, Links};
pub(crate) use self::settings::LinkSettings;
