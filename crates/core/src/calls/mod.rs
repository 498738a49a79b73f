//! Admin and coordinator requests: one table says of each API where its requests go and what its answers mean, and one
//! machine runs a call by its row.
//!
//! ```text
//!  items ─▶ Run ── poll_parts: items by broker ─▶ one request per part ─▶ answers, item by item ─┐
//!            ▲                                                                                   │
//!            └── only items that failed in a way that may pass are due again ◀── Row ◀───────────┘
//! ```
//!
//! The caller of such a call waits for its one result. Requests that a driver keeps under way (produce, fetch) have machines
//! of their own.
//!
//! This must not know what is in a request or a response.

mod run;
mod table;

pub use self::run::{Part, Run};
pub use self::table::{
    CREATE_TOPICS, DELETE_TOPICS, DESCRIBE_CONFIGS, FIND_COORDINATOR, LIST_OFFSETS, METADATA, Nature,
    Patience, Route, Row, Split, TABLE,
};
