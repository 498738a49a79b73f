//! What the tests in `tests/` share: real Kafka, clients of other projects as partners, a raw connection, and letters,
//! the records that go to and fro. Only `ours` knows Milena's client: the rest judges it.
//!
//! ```text
//!  letters ─▶ Partner (Java, franz-go, librdkafka) or Raw ─▶ real Kafka or the embedded broker ─▶ another of them ─▶ letters
//! ```

pub mod embedded;
pub mod letter;
pub mod ours;
pub mod partner;
pub mod raw;
pub mod real;
