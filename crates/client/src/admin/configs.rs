//! The public types of configurations.

/// A resource that has a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id.
    Broker(i32),
}

/// One configuration entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Its name, such as `retention.ms`.
    pub name: String,
    /// Its value; none if it is sensitive or is not set.
    pub value: Option<String>,
    /// Whether the value is the default, because nobody has set it.
    pub is_default: bool,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether the broker keeps its value secret.
    pub is_sensitive: bool,
}
