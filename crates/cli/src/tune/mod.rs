//! What `milena tune` decides, without I/O and without a clock.
//!
//! ```text
//!  --codec ─▶ Candidate ─▶ Schedule (whose turn it is) ◀─▶ commands/tune/measure.rs ─▶ turns
//!  turns ─▶ figures (medians, sizes of the whole sample) ─▶ advice (one codec per goal, and why)
//!  values that are JSON ─▶ infer (a schema) ─▶ measured as Avro and Protobuf ─▶ formats (one per need, and why)
//! ```

pub(crate) mod advice;
pub(crate) mod candidate;
pub(crate) mod figures;
pub(crate) mod formats;
pub(crate) mod infer;
pub(crate) mod schedule;
