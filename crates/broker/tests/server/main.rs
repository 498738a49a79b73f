//! The broker on real sockets: clients that behave, and strangers that do not.

mod client;
mod hostile;
mod nodes;
mod order;
