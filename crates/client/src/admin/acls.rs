//! The public types of access control lists: what an ACL is about, whom it allows or denies what, and which ACLs are meant.

use std::fmt;
use std::str::FromStr;

use milena_core::Failure;

/// An access control list entry: it allows or denies a principal an operation on a resource.
///
/// What no ACL allows is denied, and an ACL that denies goes before those that allow.
///
/// ```
/// use milena::{Acl, AclOperation, AclResource};
///
/// let acl = Acl::allow("User:alice", AclOperation::Read, AclResource::topic("orders"));
/// assert_eq!(acl.to_string(), "allow User:alice from * Read on topic \"orders\"");
///
/// let all_topics_of_billing = AclResource::topic("billing-").prefixed();
/// let acl = Acl::deny("User:*", AclOperation::Write, all_topics_of_billing).host("10.0.0.7");
/// assert_eq!(acl.to_string(), "deny User:* from 10.0.0.7 Write on topics with the prefix \"billing-\"");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Acl {
    /// What it is about.
    pub resource: AclResource,
    /// Whom it is about, as in `User:alice`. `User:*` is everybody.
    pub principal: String,
    /// The IP address from which it holds; `*` is any. Kafka does not take host names.
    pub host: String,
    /// What is allowed or denied.
    pub operation: AclOperation,
    /// Whether it allows or denies.
    pub permission: AclPermission,
}

/// What an ACL is about: one resource, or all whose names have a prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclResource {
    /// What kind of resource it is.
    pub resource_type: ResourceType,
    /// Its name or the prefix of its name. The literal name `*` is all resources of the type.
    pub name: String,
    /// How the name is meant.
    pub pattern: PatternType,
}

/// Kinds of resources that ACLs are about (`ResourceType`). [`FromStr`] reads Kafka's names in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ResourceType {
    /// A topic.
    Topic,
    /// A group, of whatever type.
    Group,
    /// The cluster. Its only name is `kafka-cluster`.
    Cluster,
    /// A transactional id.
    TransactionalId,
    /// A delegation token, by its id.
    DelegationToken,
    /// A user, by its principal as in `User:alice` (KIP-373).
    User,
    /// A kind that this release does not know.
    Unknown,
}

/// How the name of a resource in an ACL is meant (KIP-290). [`FromStr`] reads Kafka's names in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PatternType {
    /// The resource has this name, or any if the name is `*`.
    Literal,
    /// The resource's name begins with this.
    Prefixed,
    /// A pattern that this release does not know.
    Unknown,
}

/// How the name in an [`AclFilter`] is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[non_exhaustive]
pub enum PatternFilter {
    /// ACLs with this name, literal or as a prefix.
    #[default]
    Any,
    /// ACLs that hold for a resource of this name: its literal name, `*` and its prefixes.
    Match,
    /// ACLs with this literal name.
    Literal,
    /// ACLs with this prefix.
    Prefixed,
}

/// What is done with a resource (`AclOperation`). [`FromStr`] reads Kafka's names in any case, also with underscores.
///
/// `Read`, `Write`, `Delete` and `Alter` allow `Describe` too, and `AlterConfigs` allows `DescribeConfigs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AclOperation {
    /// All of them.
    All,
    /// Reading a topic; joining a group and committing its offsets.
    Read,
    /// Writing to a topic, or with a transactional id.
    Write,
    /// Creating topics, at the topic or the cluster.
    Create,
    /// Deleting topics, records and groups.
    Delete,
    /// Adding partitions to a topic; changing ACLs, users, quotas and features of the cluster.
    Alter,
    /// Seeing that a resource exists.
    Describe,
    /// What brokers do with each other.
    ClusterAction,
    /// Seeing configurations.
    DescribeConfigs,
    /// Changing configurations.
    AlterConfigs,
    /// Writing with idempotence. Kafka since 2.8 does not need it: `Write` on any topic will do (KIP-679).
    IdempotentWrite,
    /// Creating delegation tokens for a user (KIP-373).
    CreateTokens,
    /// Seeing the delegation tokens of a user (KIP-373).
    DescribeTokens,
    /// Taking part in two-phase commit (KIP-939).
    TwoPhaseCommit,
    /// An operation that this release does not know.
    Unknown,
}

/// Whether an ACL allows or denies. [`FromStr`] reads Kafka's names in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AclPermission {
    /// It denies, which goes before all that allow.
    Deny,
    /// It allows.
    Allow,
    /// A permission that this release does not know.
    Unknown,
}

/// Which ACLs are meant. Default: all.
///
/// ```
/// use milena::{AclFilter, PatternFilter, ResourceType};
///
/// // What holds for alice at topic orders, whether by its name, by a prefix of it or by `*`.
/// let filter = AclFilter::all()
///     .resource_type(ResourceType::Topic)
///     .name("orders")
///     .pattern(PatternFilter::Match)
///     .principal("User:alice");
/// # assert_ne!(filter, AclFilter::all());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AclFilter {
    pub(super) resource_type: Option<ResourceType>,
    pub(super) name: Option<String>,
    pub(super) pattern: PatternFilter,
    pub(super) principal: Option<String>,
    pub(super) host: Option<String>,
    pub(super) operation: Option<AclOperation>,
    pub(super) permission: Option<AclPermission>,
}

/// The name of the only resource of the type cluster.
const CLUSTER: &str = "kafka-cluster";
/// The name, host or user that stands for all.
const WILDCARD: &str = "*";

impl Acl {
    /// Allows `principal` (as in `User:alice`) an operation on a resource, from any host.
    pub fn allow(principal: impl Into<String>, operation: AclOperation, resource: AclResource) -> Self {
        Self::new(principal.into(), operation, resource, AclPermission::Allow)
    }

    /// Denies `principal` (as in `User:alice`) an operation on a resource, from any host.
    pub fn deny(principal: impl Into<String>, operation: AclOperation, resource: AclResource) -> Self {
        Self::new(principal.into(), operation, resource, AclPermission::Deny)
    }

    fn new(
        principal: String,
        operation: AclOperation,
        resource: AclResource,
        permission: AclPermission,
    ) -> Self {
        Self { resource, principal, host: WILDCARD.to_owned(), operation, permission }
    }

    /// The same from one IP address only.
    #[must_use]
    pub fn host(self, address: impl Into<String>) -> Self {
        Self { host: address.into(), ..self }
    }

    /// The numbers of an ACL in requests: resource type, pattern type, operation and permission.
    ///
    /// # Errors
    /// When one of them is `Unknown`: the request would mean something else.
    pub(super) fn numbers(&self) -> Result<[i8; 4], Failure> {
        let numbers = [
            number(RESOURCES, self.resource.resource_type),
            number(PATTERNS, self.resource.pattern),
            number(OPERATIONS, self.operation),
            number(PERMISSIONS, self.permission),
        ];
        if numbers.contains(&UNKNOWN) {
            let why = "a part of the ACL is Unknown: this release cannot name it to a broker";
            return Err(Failure::Caller(why.into()));
        }
        Ok(numbers)
    }

    /// An ACL in an answer, by these numbers and texts.
    pub(super) fn of_answer(numbers: [i8; 4], name: &str, principal: &str, host: &str) -> Self {
        let [resource_type, pattern, operation, permission] = numbers;
        let resource = AclResource {
            resource_type: value(RESOURCES, resource_type).unwrap_or(ResourceType::Unknown),
            name: name.to_owned(),
            pattern: value(PATTERNS, pattern).unwrap_or(PatternType::Unknown),
        };
        Self {
            resource,
            principal: principal.to_owned(),
            host: host.to_owned(),
            operation: value(OPERATIONS, operation).unwrap_or(AclOperation::Unknown),
            permission: value(PERMISSIONS, permission).unwrap_or(AclPermission::Unknown),
        }
    }
}

impl AclResource {
    /// A topic; `*` is all topics.
    pub fn topic(name: impl Into<String>) -> Self {
        Self::literal(ResourceType::Topic, name)
    }

    /// A group; `*` is all groups.
    pub fn group(name: impl Into<String>) -> Self {
        Self::literal(ResourceType::Group, name)
    }

    /// The cluster.
    pub fn cluster() -> Self {
        Self::literal(ResourceType::Cluster, CLUSTER)
    }

    /// A transactional id; `*` is all transactional ids.
    pub fn transactional_id(id: impl Into<String>) -> Self {
        Self::literal(ResourceType::TransactionalId, id)
    }

    /// A delegation token, by its id; `*` is all delegation tokens.
    pub fn delegation_token(id: impl Into<String>) -> Self {
        Self::literal(ResourceType::DelegationToken, id)
    }

    /// A user, by its principal as in `User:alice`.
    pub fn user(principal: impl Into<String>) -> Self {
        Self::literal(ResourceType::User, principal)
    }

    fn literal(resource_type: ResourceType, name: impl Into<String>) -> Self {
        Self { resource_type, name: name.into(), pattern: PatternType::Literal }
    }

    /// All resources of the type whose names begin with this one's name.
    #[must_use]
    pub fn prefixed(self) -> Self {
        Self { pattern: PatternType::Prefixed, ..self }
    }
}

impl AclFilter {
    /// All ACLs.
    pub fn all() -> Self {
        Self::default()
    }

    /// This one ACL.
    pub fn one(acl: &Acl) -> Self {
        let pattern = match acl.resource.pattern {
            PatternType::Literal => PatternFilter::Literal,
            PatternType::Prefixed => PatternFilter::Prefixed,
            PatternType::Unknown => PatternFilter::Any,
        };
        Self {
            resource_type: Some(acl.resource.resource_type),
            name: Some(acl.resource.name.clone()),
            pattern,
            principal: Some(acl.principal.clone()),
            host: Some(acl.host.clone()),
            operation: Some(acl.operation),
            permission: Some(acl.permission),
        }
    }

    /// Only those about resources of this type.
    #[must_use]
    pub fn resource_type(self, resource_type: ResourceType) -> Self {
        Self { resource_type: Some(resource_type), ..self }
    }

    /// Only those with this name, which [`pattern`](Self::pattern) says how to take.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// How the name is meant, and if no name is given, only ACLs of this pattern. Default: [`PatternFilter::Any`].
    #[must_use]
    pub fn pattern(self, pattern: PatternFilter) -> Self {
        Self { pattern, ..self }
    }

    /// Only those about exactly this principal. Those about `User:*` are not among them.
    #[must_use]
    pub fn principal(self, principal: impl Into<String>) -> Self {
        Self { principal: Some(principal.into()), ..self }
    }

    /// Only those with exactly this host. Those with `*` are not among them.
    #[must_use]
    pub fn host(self, host: impl Into<String>) -> Self {
        Self { host: Some(host.into()), ..self }
    }

    /// Only those about exactly this operation.
    #[must_use]
    pub fn operation(self, operation: AclOperation) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// Only those that allow, or that deny.
    #[must_use]
    pub fn permission(self, permission: AclPermission) -> Self {
        Self { permission: Some(permission), ..self }
    }

    /// The numbers of a filter in requests: resource type, pattern type, operation and permission.
    ///
    /// # Errors
    /// When one of them is `Unknown`: the broker would refuse the request.
    pub(super) fn numbers(&self) -> Result<[i8; 4], Failure> {
        let pattern = match self.pattern {
            PatternFilter::Any => ANY,
            PatternFilter::Match => 2,
            PatternFilter::Literal => number(PATTERNS, PatternType::Literal),
            PatternFilter::Prefixed => number(PATTERNS, PatternType::Prefixed),
        };
        let numbers = [
            self.resource_type.map_or(ANY, |wanted| number(RESOURCES, wanted)),
            pattern,
            self.operation.map_or(ANY, |wanted| number(OPERATIONS, wanted)),
            self.permission.map_or(ANY, |wanted| number(PERMISSIONS, wanted)),
        ];
        if numbers.contains(&UNKNOWN) {
            let why = "a part of the filter is Unknown: this release cannot name it to a broker";
            return Err(Failure::Caller(why.into()));
        }
        Ok(numbers)
    }
}

/// Kafka's number of a value that a release does not know.
const UNKNOWN: i8 = 0;
/// Kafka's number in filters that matches all.
const ANY: i8 = 1;

/// A value with its number in requests and its name.
type Names<T> = &'static [(T, i8, &'static str)];

const RESOURCES: Names<ResourceType> = &[
    (ResourceType::Topic, 2, "Topic"),
    (ResourceType::Group, 3, "Group"),
    (ResourceType::Cluster, 4, "Cluster"),
    (ResourceType::TransactionalId, 5, "TransactionalId"),
    (ResourceType::DelegationToken, 6, "DelegationToken"),
    (ResourceType::User, 7, "User"),
];

const PATTERNS: Names<PatternType> =
    &[(PatternType::Literal, 3, "Literal"), (PatternType::Prefixed, 4, "Prefixed")];

const OPERATIONS: Names<AclOperation> = &[
    (AclOperation::All, 2, "All"),
    (AclOperation::Read, 3, "Read"),
    (AclOperation::Write, 4, "Write"),
    (AclOperation::Create, 5, "Create"),
    (AclOperation::Delete, 6, "Delete"),
    (AclOperation::Alter, 7, "Alter"),
    (AclOperation::Describe, 8, "Describe"),
    (AclOperation::ClusterAction, 9, "ClusterAction"),
    (AclOperation::DescribeConfigs, 10, "DescribeConfigs"),
    (AclOperation::AlterConfigs, 11, "AlterConfigs"),
    (AclOperation::IdempotentWrite, 12, "IdempotentWrite"),
    (AclOperation::CreateTokens, 13, "CreateTokens"),
    (AclOperation::DescribeTokens, 14, "DescribeTokens"),
    (AclOperation::TwoPhaseCommit, 15, "TwoPhaseCommit"),
];

const PERMISSIONS: Names<AclPermission> =
    &[(AclPermission::Deny, 2, "Deny"), (AclPermission::Allow, 3, "Allow")];

fn number<T: PartialEq + Copy>(names: Names<T>, value: T) -> i8 {
    names.iter().find(|(named, _, _)| *named == value).map_or(UNKNOWN, |(_, number, _)| *number)
}

fn value<T: Copy>(names: Names<T>, number: i8) -> Option<T> {
    names.iter().find(|(_, its, _)| *its == number).map(|(value, _, _)| *value)
}

fn name<T: PartialEq>(names: Names<T>, value: &T) -> &'static str {
    names.iter().find(|(named, _, _)| named == value).map_or("Unknown", |(_, _, name)| *name)
}

/// The value whose name is `text`, or why there is none.
fn named<T: Copy>(names: Names<T>, text: &str) -> Result<T, String> {
    let plain = text.replace(['_', '-'], "");
    let found = names.iter().find(|(_, _, name)| name.eq_ignore_ascii_case(&plain));
    found.map(|(value, _, _)| *value).ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|(_, _, name)| *name).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

macro_rules! names {
    ($($type:ident: $names:ident,)+) => {
        $(
            impl FromStr for $type {
                type Err = String;

                fn from_str(text: &str) -> Result<Self, String> {
                    named($names, text)
                }
            }

            impl fmt::Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.pad(name($names, self))
                }
            }
        )+
    };
}

names! {
    ResourceType: RESOURCES,
    PatternType: PATTERNS,
    AclOperation: OPERATIONS,
    AclPermission: PERMISSIONS,
}

impl fmt::Display for AclResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource_type, name, pattern } = self;
        let (one, several) = match resource_type {
            ResourceType::Topic => ("topic", "topics"),
            ResourceType::Group => ("group", "groups"),
            ResourceType::Cluster => return f.write_str("the cluster"),
            ResourceType::TransactionalId => ("transactional id", "transactional ids"),
            ResourceType::DelegationToken => ("delegation token", "delegation tokens"),
            ResourceType::User => ("user", "users"),
            ResourceType::Unknown => ("resource of an unknown type", "resources of an unknown type"),
        };
        match pattern {
            PatternType::Literal if name == WILDCARD => write!(f, "all {several}"),
            PatternType::Literal => write!(f, "{one} {name:?}"),
            PatternType::Prefixed => write!(f, "{several} with the prefix {name:?}"),
            PatternType::Unknown => write!(f, "{several} with an unknown pattern {name:?}"),
        }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { resource, principal, host, operation, permission } = self;
        let permission = match permission {
            AclPermission::Allow => "allow",
            AclPermission::Deny => "deny",
            AclPermission::Unknown => "unknown permission for",
        };
        write!(f, "{permission} {principal} from {host} {operation} on {resource}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: Copy + PartialEq + fmt::Debug + fmt::Display + FromStr<Err = String>>(
        names: Names<T>,
        numbers: std::ops::RangeInclusive<i8>,
    ) {
        let theirs: Vec<i8> = names.iter().map(|(_, number, _)| *number).collect();
        assert_eq!(theirs, numbers.collect::<Vec<_>>());
        for (value, number, name) in names {
            let upper = name.to_uppercase();
            assert_eq!((value.to_string().as_str(), upper.parse()), (*name, Ok(*value)));
            assert_eq!(super::number(names, *value), *number);
            assert_eq!(super::value(names, *number), Some(*value));
        }
    }

    #[test]
    fn names_and_numbers_are_kafkas() {
        check(RESOURCES, 2..=7);
        check(PATTERNS, 3..=4);
        check(OPERATIONS, 2..=15);
        check(PERMISSIONS, 2..=3);
        assert_eq!("DESCRIBE_CONFIGS".parse(), Ok(AclOperation::DescribeConfigs));
        assert_eq!(
            "grant".parse::<AclPermission>(),
            Err("\"grant\" is none of Deny, Allow".to_owned()),
            "the error names what there is"
        );
    }

    #[test]
    fn what_this_release_does_not_know_is_shown_and_never_sent() {
        let acl = Acl::of_answer([99, 98, 97, 96], "x", "User:a", "*");
        assert_eq!(
            acl.to_string(),
            "unknown permission for User:a from * Unknown on resources of an unknown type with an unknown pattern \"x\""
        );
        assert!(acl.numbers().is_err() && AclFilter::one(&acl).numbers().is_err());
    }
}
