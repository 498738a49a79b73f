//! The cluster as a machine, on virtual time: frames in, frames out, nothing else.

mod fetch;
mod mutations;
mod offsets;
mod produce;
mod rig;
mod sessions;
mod topics;
mod versions;
