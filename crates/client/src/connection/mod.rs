//! Connections to brokers: how they are made, and how calls travel over them.
//!
//! ```text
//!  callers ─ Call ─▶ Link (queue, reconnect, backoff) ─▶ dial ─▶ Connection ─ vectored writes ═▶ broker
//!                                                                    │  └─ core::Lifecycle: may a call start, when is the end
//!  callers ◀─ Answer (frame, version) ◀────────── InFlight ◀── Frames ◀═══ responses, in order ═╝
//! ```
//!
//! This module must not know what a request means. A [`Call`] encodes itself, and its caller decodes the answer.

mod alarm;
mod call;
mod dial;
mod frames;
mod link;
mod peers;
mod queue;
mod settings;
mod stream;

pub(crate) use self::alarm::Alarm;
pub(crate) use self::call::{
    Answer, AnyRequest, ByVersion, Call, Claim, Course, Landing, Reply, Reused, Sendable, Typed,
};
pub(crate) use self::link::{Link, Links};
pub(crate) use self::settings::LinkSettings;
