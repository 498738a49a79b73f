//! What the tests in `tests/` share: real Kafka, clients of other projects as partners, a raw connection, and letters,
//! the records that go to and fro. Knows nothing of Milena's client, so that it can judge it.
//!
//! ```text
//!  letters ─▶ Partner (Java, franz-go, librdkafka) or Raw ─▶ real Kafka or the embedded broker ─▶ another of them ─▶ letters
//! ```

pub mod embedded;
pub mod letter;
pub mod partner;
pub mod raw;
pub mod real;
