//! What the state machine needs to know of the formats of schemas. The state machine does not know what a field is.

pub(super) use crate::compat::Level;

/// Reads a level in capital or small letters.
pub(super) fn level(text: &str) -> Option<Level> {
    text.parse().ok()
}

/// A schema with all that it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) kind: String,
    pub(super) text: String,
    /// Names and texts of schemas that it needs, also indirectly. A schema comes after those that it needs.
    pub(super) needed: Vec<(String, String)>,
}

/// A schema that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// The text in which all spellings of a schema that differ in white space are the same.
    pub(super) canonical: String,
    /// The text in which all spellings of a schema that mean the same are the same.
    pub(super) normalized: String,
}

/// The formats of schemas.
pub(super) trait Formats: Send + Sync {
    /// Their names, sorted as clients see them.
    fn kinds(&self) -> Vec<&'static str>;

    /// Reads a schema.
    ///
    /// # Errors
    /// What is wrong with it.
    fn parse(&self, source: &Source) -> Result<Parsed, String>;

    /// The schema in the form that clients of Protobuf in other languages ask for (`format=serialized`), a descriptor in base64; none if
    /// its format has no such form, or it cannot be made.
    fn serialized(&self, source: &Source) -> Option<String>;

    /// Why a schema may not follow others, oldest first; empty if it may.
    fn incompatibilities(&self, level: Level, new: &Source, older: &[Source]) -> Vec<String>;
}
