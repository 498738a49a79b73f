//! The cluster as a machine, on virtual time: frames in, frames out, nothing else.

#![allow(clippy::disallowed_methods, reason = "tests have a clock")]

mod fetch;
mod mutations;
mod offsets;
mod produce;
mod rig;
mod sessions;
mod topics;
mod versions;
