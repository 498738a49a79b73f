//! One file per command: its arguments, what it does, what it prints.

pub(crate) mod acl;
pub(crate) mod broker;
pub(crate) mod chosen;
pub(crate) mod client_metrics;
pub(crate) mod consume;
pub(crate) mod dashboards;
pub(crate) mod dev;
pub(crate) mod dlq;
pub(crate) mod doctor;
pub(crate) mod exporter;
pub(crate) mod groups;
pub(crate) mod produce;
pub(crate) mod profile;
mod pushed;
pub(crate) mod quota;
pub(crate) mod registry;
pub(crate) mod schema;
pub(crate) mod token;
pub(crate) mod top;
pub(crate) mod topics;
pub(crate) mod tune;
pub(crate) mod txn;
pub(crate) mod user;
pub(crate) mod verifiable;
