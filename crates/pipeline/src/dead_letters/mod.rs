//! Dead letters: records that could not be processed, put aside in a topic of their own with what is known of their failure.
//!
//! ```text
//!  the failed record, its Failure, Facts ─▶ letter (pure: which headers) ─▶ writer (producer, awaits the ack)
//!  a dead letter of anyone's ─▶ headers (pure, by the tables of dialect) ─▶ Letter: `milena dlq`
//! ```

mod dialect;
mod headers;
mod letter;
mod oldest;
mod writer;

pub(crate) use self::oldest::watch as watch_oldest;
pub use dialect::Dialect;
pub use headers::Letter;
pub(crate) use letter::{ADDED_BYTES_MAX, clipped};
pub use letter::{DeadLetter, Facts, ReplayMarks};
pub(crate) use writer::config_of;
pub use writer::{DeadLetterWriter, DeadLetters};
