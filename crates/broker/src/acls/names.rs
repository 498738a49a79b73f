//! What ACLs are about, by Kafka's names and the numbers in its requests.

use milena_messages::ErrorCode;

/// An enumeration with a name and a number for each value.
macro_rules! named {
    ($(#[$doc:meta])* $type:ident { $($value:ident = $number:literal $name:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $type {
            $($value,)+
        }

        impl $type {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$value,)+];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }

            pub(crate) fn number(self) -> i8 {
                match self {
                    $(Self::$value => $number,)+
                }
            }

            pub(crate) fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.name() == name)
            }

            pub(crate) fn numbered(number: i8) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.number() == number)
            }
        }
    };
}

named! {
    /// A type of resources (`ResourceType`).
    Resource {
        Topic = 2 "topic",
        Group = 3 "group",
        Cluster = 4 "cluster",
        TransactionalId = 5 "transactional_id",
        DelegationToken = 6 "delegation_token",
        User = 7 "user",
    }
}

named! {
    /// How the name of a resource in an ACL is meant (`PatternType`).
    Pattern {
        Literal = 3 "literal",
        Prefixed = 4 "prefixed",
    }
}

named! {
    /// What is done with a resource (`AclOperation`).
    Operation {
        All = 2 "all",
        Read = 3 "read",
        Write = 4 "write",
        Create = 5 "create",
        Delete = 6 "delete",
        Alter = 7 "alter",
        Describe = 8 "describe",
        ClusterAction = 9 "cluster_action",
        DescribeConfigs = 10 "describe_configs",
        AlterConfigs = 11 "alter_configs",
        IdempotentWrite = 12 "idempotent_write",
        CreateTokens = 13 "create_tokens",
        DescribeTokens = 14 "describe_tokens",
        TwoPhaseCommit = 15 "two_phase_commit",
    }
}

named! {
    /// Whether an ACL allows or denies (`AclPermissionType`).
    Permission {
        Deny = 2 "deny",
        Allow = 3 "allow",
    }
}

impl Resource {
    /// The code for a client that may not do something with such a resource.
    pub(crate) fn denial(self) -> ErrorCode {
        match self {
            Self::Topic => ErrorCode::TOPIC_AUTHORIZATION_FAILED,
            Self::Group => ErrorCode::GROUP_AUTHORIZATION_FAILED,
            Self::TransactionalId => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            Self::DelegationToken => ErrorCode::DELEGATION_TOKEN_AUTHORIZATION_FAILED,
            Self::Cluster | Self::User => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
        }
    }
}

impl Operation {
    /// Whether an ACL for this operation is about `other`.
    pub(crate) fn covers(self, other: Self) -> bool {
        self == Self::All || self == other
    }

    /// Whether an ACL that allows this operation allows `other`.
    pub(crate) fn implies(self, other: Self) -> bool {
        self.covers(other)
            || match other {
                Self::Describe => matches!(self, Self::Read | Self::Write | Self::Delete | Self::Alter),
                Self::DescribeConfigs => self == Self::AlterConfigs,
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found_again() {
        for &operation in Operation::ALL {
            assert_eq!(Operation::named(operation.name()), Some(operation));
            assert_eq!(Operation::numbered(operation.number()), Some(operation));
        }
        assert_eq!(Resource::ALL.len() + Pattern::ALL.len() + Permission::ALL.len(), 10);
        assert_eq!(
            (Operation::numbered(0), Operation::numbered(1), Resource::named("x")),
            (None, None, None)
        );
    }
}
