//! Which ACLs a request is about (`AclBindingFilter`).

use super::{Acl, Operation, Pattern, Permission, Resource, WILDCARD};

/// A filter of ACLs. `None` matches all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Filter {
    pub(crate) resource: Option<Resource>,
    pub(crate) name: Option<String>,
    pub(crate) pattern: PatternFilter,
    pub(crate) principal: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) operation: Option<Operation>,
    pub(crate) permission: Option<Permission>,
}

/// How the name in a filter is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum PatternFilter {
    /// The ACL has this name, literal or as a prefix.
    #[default]
    Any,
    /// The ACL is about a resource of this name.
    Match,
    /// The ACL has this name in this form.
    Is(Pattern),
}

/// The numbers in requests that stand for no value of their own.
const ANY: i8 = 1;
const MATCH: i8 = 2;

/// The value of a number in a filter; `None` for numbers that mean nothing.
fn or_any<T>(number: i8, numbered: impl Fn(i8) -> Option<T>) -> Option<Option<T>> {
    if number == ANY { Some(None) } else { numbered(number).map(Some) }
}

impl Filter {
    /// A filter of a request: resource type, pattern type, operation and permission by their numbers. `None` when one of
    /// them means nothing.
    pub(crate) fn read(
        numbers: [i8; 4],
        name: Option<&str>,
        principal: Option<&str>,
        host: Option<&str>,
    ) -> Option<Self> {
        let [resource, pattern, operation, permission] = numbers;
        let pattern = match pattern {
            ANY => PatternFilter::Any,
            MATCH => PatternFilter::Match,
            number => PatternFilter::Is(Pattern::numbered(number)?),
        };
        Some(Self {
            resource: or_any(resource, Resource::numbered)?,
            name: name.map(str::to_owned),
            pattern,
            principal: principal.map(str::to_owned),
            host: host.map(str::to_owned),
            operation: or_any(operation, Operation::numbered)?,
            permission: or_any(permission, Permission::numbered)?,
        })
    }

    /// Whether an ACL matches.
    pub(crate) fn matches(&self, acl: &Acl) -> bool {
        let Self { resource, name: _, pattern: _, principal, host, operation, permission } = self;
        resource.is_none_or(|resource| resource == acl.resource)
            && self.matches_name(acl)
            && principal.as_ref().is_none_or(|principal| *principal == acl.entry.principal)
            && host.as_ref().is_none_or(|host| *host == acl.entry.host)
            && operation.is_none_or(|operation| operation == acl.entry.operation)
            && permission.is_none_or(|permission| permission == acl.entry.permission)
    }

    fn matches_name(&self, acl: &Acl) -> bool {
        if let PatternFilter::Is(pattern) = self.pattern
            && pattern != acl.pattern
        {
            return false;
        }
        let Some(name) = &self.name else { return true };
        match (self.pattern, acl.pattern) {
            (PatternFilter::Match, Pattern::Literal) => acl.name == *name || acl.name == WILDCARD,
            (PatternFilter::Match, Pattern::Prefixed) => name.starts_with(&acl.name),
            (PatternFilter::Any | PatternFilter::Is(_), _) => acl.name == *name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    fn acl(pattern: Pattern, name: &str) -> Acl {
        let entry = Entry {
            principal: "User:a".to_owned(),
            host: WILDCARD.to_owned(),
            operation: Operation::Read,
            permission: Permission::Allow,
        };
        Acl { resource: Resource::Topic, pattern, name: name.to_owned(), entry }
    }

    #[test]
    fn names_match_as_their_filter_means_them() {
        let acls = [
            acl(Pattern::Literal, "orders"),
            acl(Pattern::Prefixed, "ord"),
            acl(Pattern::Prefixed, "orders"),
            acl(Pattern::Literal, "*"),
            acl(Pattern::Literal, "ord"),
        ];
        for (pattern, expected) in [(1, &[0, 2][..]), (2, &[0, 1, 2, 3]), (3, &[0]), (4, &[2])] {
            let filter = Filter::read([2, pattern, 1, 1], Some("orders"), None, None).expect("valid");
            let matching: Vec<usize> = (0..acls.len()).filter(|&at| filter.matches(&acls[at])).collect();
            assert_eq!(matching, expected, "pattern type {pattern}");
        }
        let matches = |numbers, principal, host| {
            Filter::read(numbers, None, principal, host).expect("valid").matches(&acls[0])
        };
        assert!(matches([1, 1, 1, 1], None, None) && matches([2, 3, 3, 3], Some("User:a"), Some("*")));
        assert!(!matches([3, 1, 1, 1], None, None) && !matches([1, 1, 4, 1], None, None));
        assert!(!matches([1, 1, 1, 2], None, None) && !matches([1, 1, 1, 1], Some("User:b"), None));
        assert!(!matches([1, 1, 1, 1], None, Some("10.0.0.1")));
        assert_eq!(Filter::read([0, 1, 1, 1], None, None, None), None);
    }
}
