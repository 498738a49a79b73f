//! Dashboards for Grafana and alert rules for Prometheus, made from the tables of families: a panel names the family itself, so
//! what is renamed or removed there does not compile here.
//!
//! ```
//! use milena_observe::dashboards;
//!
//! let producer = dashboards::boards().into_iter().find(|board| board.uid == "milena-producer").unwrap();
//! let json = producer.to_grafana();
//! assert_eq!(json["title"], "Milena: producer");
//!
//! let rules = dashboards::to_prometheus("milena", &dashboards::rules(), "docs/alerts.md");
//! assert!(rules.contains("alert: MilenaRecordsNotWritten"));
//! ```

mod board;
mod client;
mod cluster;
mod expr;
mod grafana;
mod rules;
#[cfg(test)]
mod tests;

pub use board::{Board, Look, Panel, Query, Row, Shown};
pub use expr::Scope;
pub use rules::{Rule, Severity, to_prometheus};

/// All boards of this crate.
pub fn boards() -> Vec<Board> {
    let mut boards = client::boards();
    boards.push(cluster::board());
    boards
}

/// All alert rules of this crate.
pub fn rules() -> Vec<Rule> {
    let mut rules = rules::client();
    rules.extend(cluster::rules());
    rules
}
