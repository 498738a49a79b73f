//! Whom a quota is for: users, client ids, both together, or addresses.

/// Whom a quota is for. A kind that is missing does not matter for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entity {
    parts: [Option<Name>; 3],
}

/// What a client is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    User,
    ClientId,
    Ip,
}

/// One value of a kind, or all that have no quota of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Default,
    Is(String),
}

impl Kind {
    const ALL: [Self; 3] = [Self::User, Self::ClientId, Self::Ip];

    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ClientId => "client-id",
            Self::Ip => "ip",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    fn index(self) -> usize {
        match self {
            Self::User => 0,
            Self::ClientId => 1,
            Self::Ip => 2,
        }
    }
}

impl Name {
    /// The name in a request, where null stands for the default.
    pub(crate) fn of(name: Option<&str>) -> Self {
        name.map_or(Self::Default, |name| Self::Is(name.to_owned()))
    }

    /// As in an answer.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::Is(name) => Some(name),
        }
    }
}

impl Entity {
    /// The name of a kind, if the entity has that kind.
    pub(crate) fn get(&self, kind: Kind) -> Option<&Name> {
        self.parts[kind.index()].as_ref()
    }

    pub(crate) fn set(&mut self, kind: Kind, name: Name) {
        self.parts[kind.index()] = Some(name);
    }

    /// Its kinds with their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Kind, &Name)> {
        Kind::ALL.into_iter().filter_map(|kind| Some((kind, self.get(kind)?)))
    }
}
