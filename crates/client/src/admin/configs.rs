//! Configurations of topics and brokers, as public types.

/// What a configuration belongs to.
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
    /// Its value; none when it is sensitive or has none.
    pub value: Option<String>,
    /// Whether it is the default, set by nobody.
    pub is_default: bool,
    /// Whether it cannot be changed while the broker runs.
    pub is_read_only: bool,
    /// Whether its value is kept secret.
    pub is_sensitive: bool,
}
