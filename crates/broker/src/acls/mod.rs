//! Access control lists, as Kafka's `StandardAuthorizer` has them: who may do what.
//!
//! ```text
//!  super user ─▶ yes
//!  an ACL that denies, literal, prefixed or for "*" ─▶ no
//!  one that allows ─▶ yes
//!  neither ─▶ no; or allow.everyone.if.no.acl.found, if there is no ACL for the resource at all
//! ```
//!
//! It must not know requests.

mod filter;
mod names;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Bound;

pub(crate) use filter::Filter;
pub(crate) use names::{Operation, Pattern, Permission, Resource};

use crate::error::Error;
use crate::kept::{Kept, Words};

/// Turns authorization on: clients may do only what ACLs allow, as with Kafka's `StandardAuthorizer`.
///
/// ```
/// use milena_broker::{Authorizer, Broker, Listener};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), milena_broker::Error> {
/// let cluster = Broker::builder()
///     .listener(Listener::sasl_plaintext())
///     .user("admin", "secret")
///     .authorizer(Authorizer::new().super_user("User:admin"))
///     .start()
///     .await?;
/// cluster.shutdown().await
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "it is given to `Builder::authorizer`"]
pub struct Authorizer {
    super_users: Vec<String>,
    allows_without_acl: bool,
}

impl Authorizer {
    /// Nobody may do anything yet, and nobody can change that: there has to be a super user.
    pub fn new() -> Self {
        Self::default()
    }

    /// A principal that may do everything (`super.users`), such as `User:admin`; may be repeated.
    pub fn super_user(mut self, principal: impl Into<String>) -> Self {
        self.super_users.push(principal.into());
        self
    }

    /// Whether everyone may do everything with a resource for which there is no ACL
    /// (`allow.everyone.if.no.acl.found`). Default false.
    pub fn allow_everyone_if_no_acl_found(mut self, allow: bool) -> Self {
        self.allows_without_acl = allow;
        self
    }
}

/// The name of the only resource of the type cluster.
pub(crate) const CLUSTER: &str = "kafka-cluster";

/// The resource name, host or user that stands for all.
pub(crate) const WILDCARD: &str = "*";

/// The principal that stands for all.
const ANYONE: &str = "User:*";

/// The first line of the file.
pub(crate) const HEADER: &str = "milena-acls 1";

/// The most ACLs of a cluster.
pub(crate) const ACLS_MAX: usize = 50_000;

/// The ACLs of a cluster, and who is above them.
#[derive(Debug)]
pub(crate) struct Acls {
    authorizer: Authorizer,
    of_types: BTreeMap<Resource, OfType>,
    count: usize,
    kept: Kept,
}

/// The ACLs of one type of resources, by the resources' names.
#[derive(Debug, Clone, Default)]
struct OfType {
    literal: BTreeMap<String, Vec<Entry>>,
    prefixed: BTreeMap<String, Vec<Entry>>,
}

/// One ACL, without its resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) principal: String,
    pub(crate) host: String,
    pub(crate) operation: Operation,
    pub(crate) permission: Permission,
}

/// One ACL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Acl {
    pub(crate) resource: Resource,
    pub(crate) pattern: Pattern,
    pub(crate) name: String,
    pub(crate) entry: Entry,
}

/// Who asks, and from where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub(crate) principal: &'a str,
    pub(crate) address: IpAddr,
}

/// What the ACLs looked at so far say.
#[derive(Debug, Default)]
struct Verdict {
    has_acls: bool,
    allows: bool,
    denies: bool,
}

impl Acls {
    /// The ACLs that were kept.
    pub(crate) fn open(authorizer: Authorizer, kept: Kept) -> Result<Self, Error> {
        let mut acls = Self { authorizer, of_types: BTreeMap::new(), count: 0, kept };
        for words in acls.kept.load()? {
            let acl = read(&words).ok_or_else(|| acls.kept.damaged("an ACL is not understood"))?;
            acls.insert(acl);
        }
        Ok(acls)
    }

    /// Whether `who` may do this.
    pub(crate) fn allows(&self, who: Who<'_>, operation: Operation, resource: Resource, name: &str) -> bool {
        if self.is_super(who) {
            return true;
        }
        let mut verdict = Verdict::default();
        if let Some(of_type) = self.of_types.get(&resource) {
            for entries in [of_type.literal.get(name), of_type.literal.get(WILDCARD)].into_iter().flatten() {
                verdict.look_at(entries, who, operation);
            }
            for_prefixes(&of_type.prefixed, name, |entries| verdict.look_at(entries, who, operation));
        }
        if verdict.denies || verdict.allows {
            return !verdict.denies;
        }
        !verdict.has_acls && self.authorizer.allows_without_acl
    }

    /// Whether there may be a resource of this type with which `who` may do this.
    pub(crate) fn allows_any(&self, who: Who<'_>, operation: Operation, resource: Resource) -> bool {
        // A name that no ACL is about, as in Kafka.
        if self.allows(who, operation, resource, "hardcode") {
            return true;
        }
        let Some(of_type) = self.of_types.get(&resource) else { return false };
        let has = |entries: &[Entry], permission| {
            let is_exact =
                |entry: &&Entry| matches!(entry.operation, Operation::All) || entry.operation == operation;
            let mut meant = entries.iter().filter(|entry| entry.is_about(who)).filter(is_exact);
            meant.any(|entry| entry.permission == permission)
        };
        let denies = |entries: &Vec<Entry>| has(entries, Permission::Deny);
        if of_type.literal.get(WILDCARD).is_some_and(denies) {
            return false;
        }
        let is_denied = |name: &str, pattern| {
            let mut is_denied = pattern == Pattern::Literal && of_type.literal.get(name).is_some_and(denies);
            for_prefixes(&of_type.prefixed, name, |entries| is_denied |= denies(entries));
            is_denied
        };
        let literal = of_type.literal.iter().map(|of_name| (Pattern::Literal, of_name));
        let prefixed = of_type.prefixed.iter().map(|of_name| (Pattern::Prefixed, of_name));
        literal
            .chain(prefixed)
            .any(|(pattern, (name, entries))| has(entries, Permission::Allow) && !is_denied(name, pattern))
    }

    fn is_super(&self, who: Who<'_>) -> bool {
        self.authorizer.super_users.iter().any(|user| user == who.principal)
    }

    /// Whether there is room for more ACLs. One request may exceed it by as many as it has.
    pub(crate) fn has_room(&self) -> bool {
        self.count < ACLS_MAX
    }

    /// Adds ACLs and keeps them, all or none. One that is there already stays as it is.
    pub(crate) fn add(&mut self, acls: Vec<Acl>) -> Result<(), Error> {
        let before = (self.of_types.clone(), self.count);
        acls.into_iter().for_each(|acl| self.insert(acl));
        self.save(before)
    }

    /// Removes the ACLs that match a filter. Returns them.
    pub(crate) fn remove(&mut self, filters: &[Filter]) -> Result<Vec<Vec<Acl>>, Error> {
        let before = (self.of_types.clone(), self.count);
        let matching: Vec<Vec<Acl>> = filters.iter().map(|filter| self.matching(filter)).collect();
        for acl in matching.iter().flatten() {
            let Some(names) = self.names_mut(acl.resource, acl.pattern) else { continue };
            let Some(entries) = names.get_mut(&acl.name) else { continue };
            let count = entries.len();
            entries.retain(|entry| *entry != acl.entry);
            let removed = count - entries.len();
            if entries.is_empty() {
                names.remove(&acl.name);
            }
            self.count -= removed;
        }
        self.save(before)?;
        Ok(matching)
    }

    fn save(&mut self, before: (BTreeMap<Resource, OfType>, usize)) -> Result<(), Error> {
        let lines = self.all().map(|acl| write(&acl));
        let saved = self.kept.save(lines);
        saved.inspect_err(|_| (self.of_types, self.count) = before)
    }

    /// The ACLs that match a filter, in order.
    pub(crate) fn matching(&self, filter: &Filter) -> Vec<Acl> {
        self.all().filter(|acl| filter.matches(acl)).collect()
    }

    fn all(&self) -> impl Iterator<Item = Acl> {
        self.of_types.iter().flat_map(|(&resource, of_type)| {
            let patterns = [(Pattern::Literal, &of_type.literal), (Pattern::Prefixed, &of_type.prefixed)];
            patterns.into_iter().flat_map(move |(pattern, names)| {
                names.iter().flat_map(move |(name, entries)| {
                    let acl = move |entry: &Entry| Acl {
                        resource,
                        pattern,
                        name: name.clone(),
                        entry: entry.clone(),
                    };
                    entries.iter().map(acl)
                })
            })
        })
    }

    fn insert(&mut self, acl: Acl) {
        self.of_types.entry(acl.resource).or_default();
        let Some(names) = self.names_mut(acl.resource, acl.pattern) else { return };
        let entries = names.entry(acl.name).or_default();
        if !entries.contains(&acl.entry) {
            entries.push(acl.entry);
            self.count += 1;
        }
    }

    fn names_mut(
        &mut self,
        resource: Resource,
        pattern: Pattern,
    ) -> Option<&mut BTreeMap<String, Vec<Entry>>> {
        let of_type = self.of_types.get_mut(&resource)?;
        Some(match pattern {
            Pattern::Literal => &mut of_type.literal,
            Pattern::Prefixed => &mut of_type.prefixed,
        })
    }
}

/// The range of all names up to this one.
fn up_to(name: &str) -> (Bound<&str>, Bound<&str>) {
    (Bound::Unbounded, Bound::Included(name))
}

/// Calls `look_at` for the prefixes of `name` that are in the map, the longest one first.
fn for_prefixes<T>(map: &BTreeMap<String, T>, name: &str, mut look_at: impl FnMut(&T)) {
    let mut end = name;
    while let Some((prefix, value)) = map.range::<str, _>(up_to(end)).next_back() {
        let common = common_bytes(name, prefix);
        if common == prefix.len() {
            look_at(value);
            // The next one is shorter.
            let Some((last, _)) = prefix.char_indices().next_back() else { return };
            end = &name[..last];
        } else {
            // A prefix of the name that is longer than this would come after `prefix`.
            end = &name[..common];
        }
    }
}

/// The length of the longest common prefix, in bytes.
fn common_bytes(one: &str, other: &str) -> usize {
    let mut pairs = one.char_indices().zip(other.chars());
    let differs = pairs.find(|((_, one), other)| one != other);
    differs.map_or(one.len().min(other.len()), |((at, _), _)| at)
}

impl Verdict {
    fn look_at(&mut self, entries: &[Entry], who: Who<'_>, operation: Operation) {
        self.has_acls = true;
        for entry in entries.iter().filter(|entry| entry.is_about(who)) {
            match entry.permission {
                Permission::Deny => self.denies |= entry.operation.covers(operation),
                Permission::Allow => self.allows |= entry.operation.implies(operation),
            }
        }
    }
}

impl Entry {
    fn is_about(&self, who: Who<'_>) -> bool {
        let is_meant = self.principal == who.principal || self.principal == ANYONE;
        is_meant && (self.host == WILDCARD || self.host.parse() == Ok(who.address))
    }
}

/// An ACL as a line of the file.
fn write(acl: &Acl) -> Words {
    let Acl { resource, pattern, name, entry } = acl;
    let Entry { principal, host, operation, permission } = entry;
    let words = [resource.name(), pattern.name(), name, principal, host, operation.name(), permission.name()];
    words.map(str::to_owned).into()
}

fn read(words: &[String]) -> Option<Acl> {
    let [resource, pattern, name, principal, host, operation, permission] = words else { return None };
    let entry = Entry {
        principal: principal.clone(),
        host: host.clone(),
        operation: Operation::named(operation)?,
        permission: Permission::named(permission)?,
    };
    let (resource, pattern) = (Resource::named(resource)?, Pattern::named(pattern)?);
    Some(Acl { resource, pattern, name: name.clone(), entry })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(text: &str) -> Acl {
        let words: Words = text.split(' ').map(str::to_owned).collect();
        read(&words).unwrap_or_else(|| panic!("{text}"))
    }

    fn acls(authorizer: Authorizer, lines: &[&str]) -> Acls {
        let mut acls = Acls::open(authorizer, Kept::new(HEADER, None)).expect("in memory");
        acls.add(lines.iter().map(|line| acl(line)).collect()).expect("in memory");
        acls
    }

    const ALICE: Who<'_> =
        Who { principal: "User:alice", address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) };
    const BOB: Who<'_> = Who { principal: "User:bob", ..ALICE };

    fn reads(acls: &Acls, who: Who<'_>, topic: &str) -> bool {
        acls.allows(who, Operation::Read, Resource::Topic, topic)
    }

    #[test]
    fn what_is_denied_goes_before_what_is_allowed() {
        let acls = acls(
            Authorizer::new(),
            &[
                "topic literal a User:alice * read allow",
                "topic prefixed order User:* * read allow",
                "topic literal orders-secret User:alice * all deny",
                "topic literal * User:bob * read allow",
                "topic prefixed ordersx User:bob * read deny",
                "topic literal b User:alice 10.0.0.7 read allow",
                "topic literal c User:alice 127.0.0.1 read allow",
            ],
        );
        for (who, topic, expected) in [
            (ALICE, "a", true),
            (ALICE, "aa", false),
            (ALICE, "order", true),
            (ALICE, "orders", true),
            (ALICE, "orde", false),
            (ALICE, "orders-secret", false),
            (ALICE, "ordersx-1", true),
            (ALICE, "b", false),
            (ALICE, "c", true),
            (BOB, "anything", true),
            (BOB, "ordersx-1", false),
            (BOB, "orders-secret", true),
        ] {
            assert_eq!(reads(&acls, who, topic), expected, "{} {topic}", who.principal);
        }
        assert!(!acls.allows(ALICE, Operation::Read, Resource::Group, "a"), "another type");
    }

    #[test]
    fn some_operations_imply_others_when_allowed_and_none_when_denied() {
        let lines = [
            "topic literal w User:alice * write allow",
            "topic literal ac User:alice * alter_configs allow",
            "topic literal d User:alice * all allow",
            "topic literal d User:alice * read deny",
        ];
        let acls = acls(Authorizer::new(), &lines);
        let may = |operation, topic| acls.allows(ALICE, operation, Resource::Topic, topic);
        assert!(may(Operation::Write, "w") && may(Operation::Describe, "w") && !may(Operation::Read, "w"));
        assert!(may(Operation::DescribeConfigs, "ac") && !may(Operation::Describe, "ac"));
        assert!(may(Operation::Write, "d") && may(Operation::Describe, "d") && !may(Operation::Read, "d"));
    }

    #[test]
    fn super_users_may_do_everything_and_others_what_is_the_default() {
        let deny = "topic literal t User:* * all deny";
        let strict = acls(Authorizer::new().super_user("User:alice"), &[deny]);
        assert!(reads(&strict, ALICE, "t") && !reads(&strict, BOB, "t") && !reads(&strict, BOB, "u"));
        let loose = Authorizer::new().allow_everyone_if_no_acl_found(true);
        let loose = acls(loose, &["topic literal t User:alice * read allow"]);
        assert!(reads(&loose, BOB, "u") && !reads(&loose, BOB, "t"), "only where there is no ACL");
    }

    #[test]
    fn any_resource_of_a_type_may_do() {
        let check = |lines: &[&str], expected| {
            let acls = acls(Authorizer::new(), lines);
            assert_eq!(acls.allows_any(ALICE, Operation::Write, Resource::Topic), expected, "{lines:?}");
        };
        check(&[], false);
        check(&["topic literal t User:alice * write allow"], true);
        check(&["topic literal t User:alice * read allow"], false);
        check(&["topic literal t User:bob * write allow"], false);
        check(&["topic prefixed t User:alice * all allow"], true);
        check(&["topic literal * User:* * write allow"], true);
        check(
            &["topic literal t User:alice * write allow", "topic literal * User:alice * write deny"],
            false,
        );
        check(&["topic literal t User:alice * write allow", "topic literal t User:alice * all deny"], false);
        check(&["topic literal tt User:alice * write allow", "topic prefixed t User:* * write deny"], false);
        check(&["topic prefixed t User:alice * write allow", "topic literal t User:* * write deny"], true);
    }

    #[test]
    fn every_prefix_is_found() {
        let names = ["", "a", "ab", "abc", "abd", "b", "aé", "aéz", "aà"];
        let map: BTreeMap<String, &str> = names.map(|name| (name.to_owned(), name)).into();
        for name in ["", "a", "abc", "abcd", "abz", "b", "c", "aéx", "aézz", "aèx", "zzz"] {
            let mut found = Vec::new();
            for_prefixes(&map, name, |&prefix| found.push(prefix));
            let mut expected = names.to_vec();
            expected.retain(|prefix| name.starts_with(prefix));
            expected.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn what_is_kept_is_there_after_the_next_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || Acls::open(Authorizer::new(), Kept::new(HEADER, Some(dir.path().join("milena.acls"))));
        let mut acls = open().expect("opens");
        let lines = ["topic literal a User:alice * read allow", "group prefixed g User:bob * all deny"];
        acls.add(lines.map(acl).into()).expect("kept");
        acls.add(vec![acl(lines[0])]).expect("kept");
        let mut again = open().expect("opens");
        assert_eq!(again.matching(&Filter::default()), lines.map(acl));
        let removed = again.remove(&[Filter::default()]).expect("kept");
        assert_eq!(removed, [lines.map(acl).to_vec()]);
        assert_eq!(open().expect("opens").matching(&Filter::default()), []);
    }
}
