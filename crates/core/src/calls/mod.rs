//! Admin and coordinator requests: one table says of each API where its requests go and what its answers mean, and one
//! machine runs a call by its row.
//!
//! ```text
//!  items ─▶ Run ── poll_parts: items by broker ─▶ one request per part ─▶ answers, item by item ─┐
//!           ▲ │                                                                                  │
//!           │ └─── poll_lookups: coordinators ─▶ handle_coordinator                              │
//!           └───── only items that failed in a way that may pass are due again ◀── Row ◀─────────┘
//! ```
//!
//! The caller of such a call waits for its one result. Requests that a driver keeps under way (produce, fetch) have machines
//! of their own.
//!
//! This must not know what is in a request or a response.

mod members;
mod run;
mod table;

pub use self::members::{is_of_another_protocol, may_be_member, of_group_with_members};
pub use self::run::{Part, Run};
pub use self::table::{
    ALTER_CLIENT_QUOTAS, ALTER_USER_SCRAM_CREDENTIALS, API_VERSIONS, CONSUMER_GROUP_DESCRIBE, CREATE_ACLS,
    CREATE_DELEGATION_TOKEN, CREATE_PARTITIONS, CREATE_TOPICS, DELETE_ACLS, DELETE_GROUPS, DELETE_RECORDS,
    DELETE_TOPICS, DESCRIBE_ACLS, DESCRIBE_CLIENT_QUOTAS, DESCRIBE_CONFIGS, DESCRIBE_DELEGATION_TOKEN,
    DESCRIBE_GROUPS, DESCRIBE_LOG_DIRS, DESCRIBE_PRODUCERS, DESCRIBE_PRODUCERS_OF_BROKER,
    DESCRIBE_TRANSACTIONS, DESCRIBE_USER_SCRAM_CREDENTIALS, EXPIRE_DELEGATION_TOKEN, FIND_COORDINATOR,
    HEARTBEAT, INCREMENTAL_ALTER_CONFIGS, LEAVE_GROUP, LIST_CLIENT_METRICS, LIST_GROUPS, LIST_OFFSETS,
    LIST_TRANSACTIONS, METADATA, Nature, OFFSET_COMMIT, OFFSET_DELETE, OFFSET_FETCH, Patience,
    RENEW_DELEGATION_TOKEN, Route, Row, Split, TABLE, WRITE_TXN_MARKERS,
};
