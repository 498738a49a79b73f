//! Tests with real Kafka and with clients of other projects. They are one program, so that each Kafka cluster starts once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod acceptance;
mod admin;
mod answers;
mod churn;
mod client;
mod compat;
mod conformance;
mod console;
mod crashes;
mod dashboards;
mod dead_letters;
mod doctor;
mod franz_go;
mod group_admin;
mod group_tools;
mod groups;
mod hops;
mod keeping;
mod kills;
mod login;
mod matrix;
mod members;
mod mutants;
mod oauth;
mod outage;
mod partners;
mod pipelines;
mod programs;
mod rebalances;
mod replicas;
mod sasl;
mod schemas;
mod security_admin;
mod serdes;
mod soak;
mod telemetry;
mod tls;
mod tokens;
mod transactions;
mod truncation;
