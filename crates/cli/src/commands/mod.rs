//! One file per command: its arguments, what it does, what it prints.

pub(crate) mod broker;
pub(crate) mod chosen;
pub(crate) mod consume;
pub(crate) mod doctor;
pub(crate) mod groups;
pub(crate) mod produce;
pub(crate) mod profile;
pub(crate) mod topics;
pub(crate) mod txn;
pub(crate) mod verifiable;
