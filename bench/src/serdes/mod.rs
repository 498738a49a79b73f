//! Formats with a schema registry: what one record costs beside the plain crates, and a driver that writes and reads a topic.

mod cost;
mod flight;
mod flow;

pub(crate) use cost::run as cost;
pub(crate) use flow::run as flow;
