//! The public types of client quotas: for whom a quota is, what it limits, which quotas are meant.

use std::collections::BTreeMap;
use std::fmt;

/// For whom a quota is: a user, a client id, both together, or an IP address, each by its name or as the default of all that
/// have no quota of their own (KIP-546).
///
/// Of the quotas that fit a connection, Kafka takes the one for user and client id before that for the user, and that before the
/// one for the client id; at each, a name before the default.
///
/// ```
/// use milena::QuotaEntity;
///
/// let entity = QuotaEntity::new().user("alice").default_client_id();
/// assert_eq!(entity.to_string(), "user \"alice\", default client id");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaEntity {
    /// The parts by Kafka's names of their types; no value for the default.
    pub(super) parts: BTreeMap<String, Option<String>>,
}

/// What a component of a [`QuotaFilter`] matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Matches {
    Name(String),
    Default,
    Any,
}

/// Which quotas are meant. Default: all.
///
/// ```
/// use milena::QuotaFilter;
///
/// // The quotas of alice, alone or together with a client id.
/// let filter = QuotaFilter::all().user("alice");
/// // Those of alice alone.
/// let strict = filter.clone().strict();
/// # assert_ne!(filter, strict);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QuotaFilter {
    pub(super) components: BTreeMap<&'static str, Matches>,
    pub(super) is_strict: bool,
}

/// The quotas of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaDescription {
    /// For whom they are.
    pub entity: QuotaEntity,
    /// The limits by their names; see [`QuotaChange`].
    pub quotas: BTreeMap<String, f64>,
}

/// A change of one limit, for [`Admin::alter_quotas`](super::Admin::alter_quotas). Kafka's limits are:
///
/// - `producer_byte_rate` and `consumer_byte_rate`: bytes a second, for each broker;
/// - `request_percentage`: how much of a broker's threads for requests and network may be used, where 100 is one thread;
/// - `controller_mutation_rate`: partitions created and deleted a second (KIP-599);
/// - `connection_creation_rate`: connections a second, for IP addresses (KIP-612).
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaChange {
    pub(super) name: String,
    /// None to take it away.
    pub(super) value: Option<f64>,
}

/// Kafka's names of the types of entities.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

impl QuotaEntity {
    /// Nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A user by its name, without `User:`.
    #[must_use]
    pub fn user(self, name: impl Into<String>) -> Self {
        self.part(USER, Some(name.into()))
    }

    /// Users that have no quota of their own.
    #[must_use]
    pub fn default_user(self) -> Self {
        self.part(USER, None)
    }

    /// Clients with this `client.id`.
    #[must_use]
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.part(CLIENT_ID, Some(id.into()))
    }

    /// Clients whose `client.id` has no quota of its own.
    #[must_use]
    pub fn default_client_id(self) -> Self {
        self.part(CLIENT_ID, None)
    }

    /// An IP address.
    #[must_use]
    pub fn ip(self, address: impl Into<String>) -> Self {
        self.part(IP, Some(address.into()))
    }

    /// IP addresses that have no quota of their own.
    #[must_use]
    pub fn default_ip(self) -> Self {
        self.part(IP, None)
    }

    fn part(mut self, entity_type: &str, name: Option<String>) -> Self {
        self.parts.insert(entity_type.to_owned(), name);
        self
    }

    /// The parts in order: Kafka's names of their types (`user`, `client-id`, `ip`), and their names; none for the default.
    pub fn parts(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        // The user comes before the client id, as people say it.
        self.parts.iter().rev().map(|(entity_type, name)| (entity_type.as_str(), name.as_deref()))
    }
}

impl fmt::Display for QuotaEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return f.write_str("nobody");
        }
        for (index, (entity_type, name)) in self.parts().enumerate() {
            let entity_type = entity_type.replace('-', " ");
            let comma = if index > 0 { ", " } else { "" };
            match name {
                Some(name) => write!(f, "{comma}{entity_type} {name:?}")?,
                None => write!(f, "{comma}default {entity_type}")?,
            }
        }
        Ok(())
    }
}

impl QuotaFilter {
    /// All quotas.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those for this user.
    #[must_use]
    pub fn user(self, name: impl Into<String>) -> Self {
        self.component(USER, Matches::Name(name.into()))
    }

    /// Only those for the default of users.
    #[must_use]
    pub fn default_user(self) -> Self {
        self.component(USER, Matches::Default)
    }

    /// Only those for any user or the default.
    #[must_use]
    pub fn any_user(self) -> Self {
        self.component(USER, Matches::Any)
    }

    /// Only those for this client id.
    #[must_use]
    pub fn client_id(self, id: impl Into<String>) -> Self {
        self.component(CLIENT_ID, Matches::Name(id.into()))
    }

    /// Only those for the default of client ids.
    #[must_use]
    pub fn default_client_id(self) -> Self {
        self.component(CLIENT_ID, Matches::Default)
    }

    /// Only those for any client id or the default.
    #[must_use]
    pub fn any_client_id(self) -> Self {
        self.component(CLIENT_ID, Matches::Any)
    }

    /// Only those for this IP address.
    #[must_use]
    pub fn ip(self, address: impl Into<String>) -> Self {
        self.component(IP, Matches::Name(address.into()))
    }

    /// Only those for the default of IP addresses.
    #[must_use]
    pub fn default_ip(self) -> Self {
        self.component(IP, Matches::Default)
    }

    /// Only those for any IP address or the default.
    #[must_use]
    pub fn any_ip(self) -> Self {
        self.component(IP, Matches::Any)
    }

    /// Leaves out the quotas whose entities have parts that the filter does not name. Default: they are matched.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { is_strict: true, ..self }
    }

    fn component(mut self, entity_type: &'static str, matches: Matches) -> Self {
        self.components.insert(entity_type, matches);
        self
    }
}

impl QuotaChange {
    /// Sets a limit.
    pub fn set(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value: Some(value) }
    }

    /// Takes a limit away, so that the next default holds.
    pub fn remove(name: impl Into<String>) -> Self {
        Self { name: name.into(), value: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_is_told_with_its_defaults() {
        let check = |entity: QuotaEntity, expected: &str| assert_eq!(entity.to_string(), expected);
        check(QuotaEntity::new(), "nobody");
        check(QuotaEntity::new().client_id("c").user("u"), "user \"u\", client id \"c\"");
        check(QuotaEntity::new().default_client_id().default_user(), "default user, default client id");
        check(QuotaEntity::new().ip("10.0.0.1").default_ip(), "default ip");
    }
}
