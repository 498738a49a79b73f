//! The code that the tests in `tests/` share: real Kafka, clients of other projects (partners), a raw connection, and letters,
//! which are the records that are sent. Only `ours` knows Milena's client, because the rest checks it.
//!
//! ```text
//!  letters ─▶ Partner (Java, franz-go, librdkafka) or Raw ─▶ real Kafka or the embedded broker ─▶ another of them ─▶ letters
//! ```
//!
//! Groups have another set: `member` starts members of all clients, `stream` produces for them, `tap` watches Milena's
//! connections, `journal` gathers what they saw, and `checker` judges it; `group` has them together, `churn` lets them come and
//! go, and `report` says which promises were kept.
//!
//! What producers are told, and what transactions promise, is tested while processes are killed: `kills` kills `brokers`, and
//! `fates` judges the log; `hops` kills members of groups in a chain, each of which is a `hop`. Java's consumer reads for the judges.
//!
//! `soak` runs a pipeline with faults for half an hour, `rebalances` lets members of pipelines come and go, and `crashes` kills a
//! pipeline's process again and again.
//!
//! `outage` ends a schema registry while records are written and read, and looks where each record is.
//!
//! `tokens` lets a client log in again and again while it works; `ways` are all the ways to log in.

pub mod brokers;
pub mod checker;
pub mod churn;
pub mod crashes;
pub mod embedded;
pub mod fates;
pub mod group;
pub mod hop;
pub mod hops;
pub mod journal;
pub mod kills;
pub mod letter;
pub mod login;
pub mod member;
pub mod ours;
pub mod outage;
pub mod partner;
pub mod random;
pub mod raw;
pub mod real;
pub mod rebalances;
pub mod report;
pub mod soak;
pub mod stream;
pub mod tap;
pub mod tokens;
pub mod ways;
