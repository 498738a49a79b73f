//! Refusals, with the codes and words of Confluent's registry: programs match on the codes, and people search for the words.

use std::fmt;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// The status is its first three digits.
    pub(super) code: u32,
    pub(super) message: String,
}

impl Fault {
    fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The status of HTTP.
    pub(super) fn status(&self) -> u16 {
        let status = if self.code > 999 { self.code / 100 } else { self.code };
        u16::try_from(status).unwrap_or(500)
    }

    pub(super) fn bad_request(why: &str) -> Self {
        Self::new(400, format!("HTTP 400 Bad Request: {why}"))
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, "HTTP 404 Not Found")
    }

    pub(super) fn method() -> Self {
        Self::new(405, "HTTP 405 Method Not Allowed")
    }

    pub(super) fn unprocessable(why: &str) -> Self {
        Self::new(422, why)
    }

    pub(super) fn subject_not_found(subject: &str) -> Self {
        Self::new(40401, format!("Subject '{subject}' not found."))
    }

    pub(super) fn version_not_found(version: i32) -> Self {
        Self::new(40402, format!("Version {version} not found."))
    }

    pub(super) fn schema_not_found() -> Self {
        Self::new(40403, "Schema not found")
    }

    pub(super) fn schema_not_found_by(id: impl fmt::Display) -> Self {
        Self::new(40403, format!("Schema {id} not found"))
    }

    pub(super) fn subject_soft_deleted(subject: &str) -> Self {
        Self::new(
            40404,
            format!("Subject '{subject}' was soft deleted.Set permanent=true to delete permanently"),
        )
    }

    pub(super) fn subject_not_soft_deleted(subject: &str) -> Self {
        Self::new(
            40405,
            format!("Subject '{subject}' was not deleted first before being permanently deleted"),
        )
    }

    pub(super) fn version_soft_deleted(subject: &str, version: i32) -> Self {
        let message = format!(
            "Subject '{subject}' Version {version} was soft deleted.Set permanent=true to delete permanently"
        );
        Self::new(40406, message)
    }

    pub(super) fn version_not_soft_deleted(subject: &str, version: i32) -> Self {
        let message = format!(
            "Subject '{subject}' Version {version} was not deleted first before being permanently deleted"
        );
        Self::new(40407, message)
    }

    pub(super) fn no_config(subject: &str) -> Self {
        Self::new(40408, format!("Subject '{subject}' does not have subject-level compatibility configured"))
    }

    pub(super) fn no_mode(subject: &str) -> Self {
        Self::new(40409, format!("Subject '{subject}' does not have subject-level mode configured"))
    }

    pub(super) fn no_association(resource: &str) -> Self {
        Self::new(40410, format!("Association for '{resource}' not found."))
    }

    /// `problems` are the words of the check.
    pub(super) fn incompatible(subject: &str, problems: &[String]) -> Self {
        let message = format!(
            "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{}]",
            problems.join(", ")
        );
        Self::new(40901, message)
    }

    pub(super) fn association_of_resource_exists(kind: &str, resource: &str) -> Self {
        let message = format!("An association of type '{kind}' already exists for resource '{resource}'");
        Self::new(40903, message)
    }

    pub(super) fn association_of_subject_exists(subject: &str) -> Self {
        Self::new(40904, format!("An association already exists for subject '{subject}'"))
    }

    pub(super) fn strong_association_exists(subject: &str) -> Self {
        Self::new(40905, format!("A strong association already exists for subject '{subject}'"))
    }

    pub(super) fn no_active_version(subject: &str) -> Self {
        Self::new(40907, format!("No active (non-deleted) version exists for subject '{subject}'"))
    }

    pub(super) fn association_is_frozen(kind: &str, subject: &str) -> Self {
        Self::new(40908, format!("The association of type '{kind}' is frozen for subject '{subject}'"))
    }

    pub(super) fn invalid_schema(why: impl Into<String>) -> Self {
        Self::new(42201, why)
    }

    pub(super) fn invalid_version(version: &str) -> Self {
        let message = format!(
            "The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
        );
        Self::new(42202, message)
    }

    pub(super) fn invalid_level() -> Self {
        let message = "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive";
        Self::new(42203, message)
    }

    pub(super) fn invalid_mode() -> Self {
        Self::new(
            42204,
            "Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE, IMPORT, and FORWARD",
        )
    }

    pub(super) fn forward_is_global() -> Self {
        Self::new(42204, "Forward mode only supported on global level")
    }

    pub(super) fn not_permitted(why: impl Into<String>) -> Self {
        Self::new(42205, why)
    }

    pub(super) fn reference_exists(schema: &str) -> Self {
        Self::new(42206, format!("One or more references exist to the schema {schema}."))
    }

    pub(super) fn invalid_subject(subject: &str) -> Self {
        Self::new(42208, format!("The specified subject '{subject}' is not a valid."))
    }

    pub(super) fn too_large() -> Self {
        Self::new(42209, "Register operation failed because schema is too large")
    }

    pub(super) fn invalid_rules(why: impl Into<String>) -> Self {
        Self::new(42210, why)
    }

    pub(super) fn context_not_empty(context: &str) -> Self {
        Self::new(42211, format!("The specified context '{context}' is not empty."))
    }

    pub(super) fn invalid_association(property: &str, why: &str) -> Self {
        Self::new(
            42212,
            format!("The association specified an invalid value for property: '{property}', detail: {why}"),
        )
    }

    /// The topic could not be written.
    pub(super) fn store(why: &str) -> Self {
        Self::new(50001, format!("Error in the backend data store: {why}"))
    }

    /// The topic did not answer in time. What was asked may have been done.
    pub(super) fn timed_out() -> Self {
        Self::new(50002, "The topic of schemas did not answer in time: the change may have been made")
    }

    /// Another registry has taken over the topic.
    pub(super) fn fenced() -> Self {
        Self::new(50004, "Another registry has taken over the topic of schemas: this one no longer answers.")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.message, self.code)
    }
}
