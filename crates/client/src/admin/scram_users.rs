//! The public types of users that log in with SCRAM.

use std::fmt;
use std::str::FromStr;

use milena_core::Secret;
use milena_core::sasl::Hash;

/// A mechanism of SCRAM. [`FromStr`] reads Kafka's names in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ScramMechanism {
    /// `SCRAM-SHA-256`.
    Sha256,
    /// `SCRAM-SHA-512`.
    Sha512,
    /// A mechanism that this release does not know.
    Unknown,
}

/// What a cluster keeps of a user's password for one mechanism. The password cannot be found from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScramCredential {
    /// The mechanism.
    pub mechanism: ScramMechanism,
    /// How many times the password is hashed.
    pub iterations: u32,
}

/// A change of what a user can log in with, for [`Admin::alter_scram_users`](super::Admin::alter_scram_users).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramChange {
    pub(super) user: String,
    pub(super) mechanism: ScramMechanism,
    pub(super) action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Set { password: Secret, iterations: u32 },
    Delete,
}

/// As many as Kafka accepts. They cost a client milliseconds per connection, and whoever steals what the cluster keeps that
/// much per guess.
const ITERATIONS: u32 = 16_384;

impl ScramChange {
    /// Gives `user` this password for this mechanism, in place of the one that it may have. A user that does not exist is
    /// created. Other mechanisms keep their passwords.
    pub fn set(user: impl Into<String>, mechanism: ScramMechanism, password: impl Into<Secret>) -> Self {
        let action = Action::Set { password: password.into(), iterations: ITERATIONS };
        Self { user: user.into(), mechanism, action }
    }

    /// How many times the password is hashed, when the change sets one. Kafka accepts 4096 to 16384. Default: 16384.
    #[must_use]
    pub fn iterations(mut self, count: u32) -> Self {
        if let Action::Set { iterations, .. } = &mut self.action {
            *iterations = count;
        }
        self
    }

    /// Takes the password of `user` for this mechanism away. A user without a password for any mechanism is gone.
    pub fn delete(user: impl Into<String>, mechanism: ScramMechanism) -> Self {
        Self { user: user.into(), mechanism, action: Action::Delete }
    }
}

const MECHANISMS: [(ScramMechanism, i8, &str); 3] = [
    (ScramMechanism::Sha256, 1, "SCRAM-SHA-256"),
    (ScramMechanism::Sha512, 2, "SCRAM-SHA-512"),
    (ScramMechanism::Unknown, 0, "Unknown"),
];

impl ScramMechanism {
    /// Kafka's number.
    pub(super) fn number(self) -> i8 {
        MECHANISMS.iter().find(|(mechanism, _, _)| *mechanism == self).map_or(0, |(_, number, _)| *number)
    }

    pub(super) fn numbered(number: i8) -> Self {
        let found = MECHANISMS.iter().find(|(_, its, _)| *its == number);
        found.map_or(Self::Unknown, |(mechanism, _, _)| *mechanism)
    }

    pub(super) fn hash(self) -> Option<Hash> {
        match self {
            Self::Sha256 => Some(Hash::Sha256),
            Self::Sha512 => Some(Hash::Sha512),
            Self::Unknown => None,
        }
    }
}

impl FromStr for ScramMechanism {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut known = MECHANISMS.iter().filter(|(_, number, _)| *number > 0);
        let found = known.find(|(_, _, name)| name.eq_ignore_ascii_case(text));
        found
            .map(|(mechanism, _, _)| *mechanism)
            .ok_or_else(|| format!("{text:?} is none of SCRAM-SHA-256, SCRAM-SHA-512"))
    }
}

impl fmt::Display for ScramMechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = MECHANISMS.iter().find(|(mechanism, _, _)| mechanism == self);
        f.pad(found.map_or("Unknown", |(_, _, name)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanisms_have_kafkas_names_and_numbers() {
        for (mechanism, number, name) in MECHANISMS {
            assert_eq!((mechanism.to_string().as_str(), mechanism.number()), (name, number));
            assert_eq!(ScramMechanism::numbered(number), mechanism);
            assert_eq!(name.to_lowercase().parse().ok(), mechanism.hash().map(|_| mechanism));
        }
        assert_eq!(ScramMechanism::numbered(9), ScramMechanism::Unknown);
    }

    #[test]
    fn a_change_does_not_show_its_password() {
        let change = ScramChange::set("alice", ScramMechanism::Sha256, "hunter2").iterations(4096);
        let shown = format!("{change:?}");
        assert!(shown.contains("alice") && shown.contains("4096") && !shown.contains("hunter2"), "{shown}");
    }
}
