//! The project's own commands, one module per first word. A library too, so that tests can call them.

pub mod apicurio;
pub mod bench;
#[cfg(test)]
mod cases;
pub mod chaos;
pub mod churn;
pub mod crashes;
pub mod edges;
pub mod r#gen;
pub mod hops;
pub mod kafka;
pub mod kills;
pub mod oracle;
mod programs;
pub mod rebalances;
pub mod registry_outage;
pub mod sim;
pub mod soak;
pub mod tokens;

use std::path::PathBuf;

/// The root of the repository.
pub fn root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().map_or_else(PathBuf::new, PathBuf::from)
}
