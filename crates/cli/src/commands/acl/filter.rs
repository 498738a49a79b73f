//! Which resources, principals and operations a command line means, and the filters that follow from it.

use milena::{AclFilter, AclOperation, AclPermission, AclResource, PatternFilter, ResourceType};

use crate::exit::Failure;

/// Resources by type and name. The flags are those of `kafka-acls`.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Resources")]
pub(super) struct Resources {
    /// A topic, * for all; may be repeated
    #[arg(long = "topic", value_name = "NAME")]
    pub(super) topics: Vec<String>,

    /// A group, * for all; may be repeated
    #[arg(long = "group", value_name = "NAME")]
    pub(super) groups: Vec<String>,

    /// The cluster
    #[arg(long = "cluster", id = "of_cluster")]
    pub(super) cluster: bool,

    /// A transactional id, * for all; may be repeated
    #[arg(long = "transactional-id", value_name = "ID")]
    pub(super) transactional_ids: Vec<String>,

    /// A delegation token by its id, * for all; may be repeated
    #[arg(long = "delegation-token", value_name = "ID")]
    pub(super) delegation_tokens: Vec<String>,

    /// A user for whom delegation tokens are made, by its principal; may be repeated
    #[arg(long = "user", visible_alias = "user-principal", value_name = "PRINCIPAL", value_parser = principal)]
    pub(super) users: Vec<String>,
}

impl Resources {
    /// The resources, by literal names.
    pub(super) fn all(&self) -> Vec<AclResource> {
        let Self { topics, groups, cluster, transactional_ids, delegation_tokens, users } = self;
        let mut all: Vec<AclResource> = topics.iter().map(AclResource::topic).collect();
        all.extend(groups.iter().map(AclResource::group));
        all.extend(cluster.then(AclResource::cluster));
        all.extend(transactional_ids.iter().map(AclResource::transactional_id));
        all.extend(delegation_tokens.iter().map(AclResource::delegation_token));
        all.extend(users.iter().map(AclResource::user));
        all
    }
}

/// Which ACLs are meant.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Filter {
    #[command(flatten)]
    resources: Resources,

    /// Resources of this type, whatever their names
    #[arg(long = "type", value_name = "TYPE", help_heading = "Resources")]
    resource_type: Option<ResourceType>,

    /// Only ACLs whose name is a prefix
    #[arg(long, conflicts_with = "literal", help_heading = "Resources")]
    prefixed: bool,

    /// Only ACLs whose name is literal
    #[arg(long, help_heading = "Resources")]
    literal: bool,

    /// ACLs that hold for a resource of this name: by the name itself, a prefix of it, or *
    #[arg(long = "match", conflicts_with_all = ["prefixed", "literal"], help_heading = "Resources")]
    matches: bool,

    /// ACLs that allow this principal, as in User:alice or alice; may be repeated
    #[arg(long, visible_alias = "allow-principal", value_name = "PRINCIPAL", value_parser = principal)]
    allow: Vec<String>,

    /// ACLs that deny this principal; may be repeated
    #[arg(long, visible_alias = "deny-principal", value_name = "PRINCIPAL", value_parser = principal)]
    deny: Vec<String>,

    /// ACLs about this principal, whether they allow or deny; may be repeated
    #[arg(long, value_name = "PRINCIPAL", value_parser = principal)]
    principal: Vec<String>,

    /// ACLs with this host
    #[arg(long, value_name = "ADDRESS")]
    host: Option<String>,

    /// ACLs about these operations, as in read,write
    #[arg(long = "operation", value_name = "LIST", value_delimiter = ',')]
    operations: Vec<AclOperation>,
}

impl Filter {
    /// Whether all ACLs match.
    pub(super) fn is_empty(&self) -> bool {
        self.filters().is_ok_and(|filters| filters == [AclFilter::all()])
    }

    /// An ACL is meant if one of these matches it.
    pub(super) fn filters(&self) -> Result<Vec<AclFilter>, Failure> {
        let resources = self.resources.all();
        if self.matches && resources.is_empty() {
            return Err(Failure::usage("--match needs a resource by its name, as in --topic orders"));
        }
        let pattern = match (self.prefixed, self.literal, self.matches) {
            (true, _, _) => PatternFilter::Prefixed,
            (_, true, _) => PatternFilter::Literal,
            (_, _, true) => PatternFilter::Match,
            _ => PatternFilter::Any,
        };
        let common = AclFilter::all().pattern(pattern);
        let common = self.host.iter().fold(common, AclFilter::host);
        let named = resources
            .iter()
            .map(|resource| common.clone().resource_type(resource.resource_type).name(&resource.name));
        let typed = self.resource_type.map(|resource_type| common.clone().resource_type(resource_type));
        let mut filters: Vec<AclFilter> = named.chain(typed).collect();
        if filters.is_empty() {
            filters.push(common);
        }
        let about = |permission| move |filter: AclFilter| filter.permission(permission);
        let (allow, deny) = (about(AclPermission::Allow), about(AclPermission::Deny));
        if !(self.allow.is_empty() && self.deny.is_empty() && self.principal.is_empty()) {
            filters = each(&filters, |filter| {
                let of = |principal: &String| filter.clone().principal(principal);
                let either = self.principal.iter().map(of);
                let allowed = self.allow.iter().map(of).map(allow);
                either.chain(allowed).chain(self.deny.iter().map(of).map(deny)).collect()
            });
        }
        if !self.operations.is_empty() {
            filters = each(&filters, |filter| {
                let of = |operation: &AclOperation| filter.clone().operation(*operation);
                self.operations.iter().map(of).collect()
            });
        }
        Ok(filters)
    }
}

/// What `by` makes of each filter.
fn each(filters: &[AclFilter], by: impl Fn(&AclFilter) -> Vec<AclFilter>) -> Vec<AclFilter> {
    filters.iter().flat_map(by).collect()
}

/// A principal; one without a type is a user.
pub(crate) fn principal(text: &str) -> Result<String, String> {
    let is_type = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    match text.split_once(':') {
        Some((kind, name)) if is_type(kind) && !name.is_empty() => Ok(text.to_owned()),
        Some((kind, "")) if is_type(kind) => Err("write TYPE:NAME, as in User:alice".into()),
        _ if text.is_empty() => Err("write TYPE:NAME, as in User:alice".into()),
        _ => Ok(format!("User:{text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_without_a_type_is_a_user() {
        for (text, expected) in [
            ("alice", "User:alice"),
            ("User:alice", "User:alice"),
            ("*", "User:*"),
            ("Group:ops", "Group:ops"),
            ("CN=a,OU=b:c", "User:CN=a,OU=b:c"),
        ] {
            assert_eq!(principal(text).as_deref(), Ok(expected));
        }
        assert!(principal("").is_err() && principal("User:").is_err());
    }

    #[test]
    fn filters_are_all_combinations() {
        let filter = Filter {
            resources: Resources { topics: vec!["a".into(), "b".into()], ..Default::default() },
            allow: vec!["User:x".into()],
            principal: vec!["User:y".into()],
            operations: vec![AclOperation::Read, AclOperation::Write],
            ..Default::default()
        };
        let filters = filter.filters().expect("right");
        assert_eq!(filters.len(), 2 * 2 * 2);
        let one = AclFilter::all().resource_type(ResourceType::Topic).name("b").principal("User:x");
        assert!(filters.contains(&one.permission(AclPermission::Allow).operation(AclOperation::Write)));
        assert!(!filter.is_empty() && Filter::default().is_empty());
        assert!(!Filter { prefixed: true, ..Default::default() }.is_empty());
        assert!(Filter { matches: true, ..Default::default() }.filters().is_err());
    }
}
