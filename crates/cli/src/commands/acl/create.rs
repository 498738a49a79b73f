//! `milena acl create`: the ACLs that a command line asks for, with the bundles of `kafka-acls`.

use milena::{Acl, AclOperation, AclPermission, AclResource, ResourceType};

use super::filter::{Resources, principal};
use super::{JSON, show};
use crate::cluster::Cluster;
use crate::exit::{Exit, Failure, summary};

const EXAMPLES: &str = "\
Examples:
  milena acl create --allow alice --topic orders --operation read,describe
  milena acl create --allow alice --topic billing- --prefixed --producer
  milena acl create --allow billing --topic orders --group billing --consumer
  milena acl create --allow shop --topic orders --transactional-id shop- --prefixed --producer
  milena acl create --deny mallory --topic '*' --operation all --host 10.0.0.7";

/// Create ACLs, and show them
#[derive(Debug, clap::Args)]
#[command(after_help = [EXAMPLES, JSON].join("\n\n"))]
pub(super) struct Args {
    #[command(flatten)]
    resources: Resources,

    /// The names are prefixes: the ACLs are about all resources whose names begin so
    #[arg(long, help_heading = "Resources")]
    prefixed: bool,

    /// Allow this principal, as in User:alice or alice, * for everybody; may be repeated
    #[arg(long, visible_alias = "allow-principal", value_name = "PRINCIPAL", value_parser = principal)]
    allow: Vec<String>,

    /// Deny this principal, whatever else allows it; may be repeated
    #[arg(long, visible_alias = "deny-principal", value_name = "PRINCIPAL", value_parser = principal)]
    deny: Vec<String>,

    /// Only from this IP address; may be repeated. Default: from any
    #[arg(long = "host", value_name = "ADDRESS")]
    hosts: Vec<String>,

    /// These operations, as in read,describe
    #[arg(long = "operation", value_name = "LIST", value_delimiter = ',')]
    operations: Vec<AclOperation>,

    /// What a producer needs: Write, Describe and Create on topics, Write and Describe on transactional ids
    #[arg(long, help_heading = "Bundles")]
    producer: bool,

    /// With --producer: IdempotentWrite on the cluster, which brokers before Kafka 2.8 need
    #[arg(long, requires = "producer", help_heading = "Bundles")]
    idempotent: bool,

    /// What a consumer needs: Read and Describe on topics, Read on groups
    #[arg(long, help_heading = "Bundles")]
    consumer: bool,

    /// Show the ACLs and create none
    #[arg(long)]
    dry_run: bool,

    /// Show the ACLs as JSON lines
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

impl Args {
    /// Whether the command may change something.
    pub(super) fn changes(&self) -> bool {
        !self.dry_run
    }

    /// Whether the command takes rights away.
    pub(super) fn denies(&self) -> bool {
        self.changes() && !self.deny.is_empty()
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What is to be allowed or denied on which resources.
    fn rights(&self) -> Result<Vec<(AclResource, AclOperation)>, Failure> {
        let resources = self.resources.all();
        let of_type = |wanted: ResourceType| {
            resources.iter().filter(move |resource| resource.resource_type == wanted).cloned()
        };
        let has = |wanted| of_type(wanted).next().is_some();
        let is_bundle = self.producer || self.consumer;
        if self.operations.is_empty() && !is_bundle {
            return Err(Failure::usage("say what: --operation LIST, --producer or --consumer"));
        }
        if resources.is_empty() {
            return Err(Failure::usage("say on what: --topic, --group, --cluster, --transactional-id ..."));
        }
        if self.producer && !has(ResourceType::Topic) {
            return Err(Failure::usage("--producer needs a --topic"));
        }
        if self.consumer && !(has(ResourceType::Topic) && has(ResourceType::Group)) {
            return Err(Failure::usage("--consumer needs a --topic and a --group"));
        }
        if self.prefixed && self.resources.cluster {
            return Err(Failure::usage("--prefixed is for names, and the cluster has none"));
        }
        let mut bundles = Vec::new();
        if self.producer {
            use AclOperation::{Create, Describe, Write};
            bundles.extend([Write, Describe, Create].map(|operation| (ResourceType::Topic, operation)));
            bundles.extend([Write, Describe].map(|operation| (ResourceType::TransactionalId, operation)));
        }
        if self.consumer {
            use AclOperation::{Describe, Read};
            bundles.extend([Read, Describe].map(|operation| (ResourceType::Topic, operation)));
            bundles.push((ResourceType::Group, Read));
        }
        let bundled = bundles.into_iter().flat_map(|(wanted, operation)| {
            of_type(wanted).map(move |resource| (resource, operation)).collect::<Vec<_>>()
        });
        let named = resources
            .iter()
            .flat_map(|resource| self.operations.iter().map(|operation| (resource.clone(), *operation)));
        let mut rights: Vec<_> = bundled.chain(named).collect();
        if self.prefixed {
            rights.iter_mut().for_each(|(resource, _)| *resource = resource.clone().prefixed());
        }
        if self.idempotent {
            rights.push((AclResource::cluster(), AclOperation::IdempotentWrite));
        }
        Ok(rights)
    }

    /// The ACLs, each once.
    fn acls(&self) -> Result<Vec<Acl>, Failure> {
        if self.allow.is_empty() && self.deny.is_empty() {
            return Err(Failure::usage("say whom: --allow PRINCIPAL or --deny PRINCIPAL"));
        }
        let allowed = self.allow.iter().map(|principal| (AclPermission::Allow, principal));
        let denied = self.deny.iter().map(|principal| (AclPermission::Deny, principal));
        let any = ["*".to_owned()];
        let hosts = if self.hosts.is_empty() { &any[..] } else { &self.hosts };
        let mut acls = Vec::new();
        for (permission, principal) in allowed.chain(denied) {
            for (resource, operation) in self.rights()? {
                for host in hosts {
                    let acl = match permission {
                        AclPermission::Deny => Acl::deny(principal, operation, resource.clone()),
                        _ => Acl::allow(principal, operation, resource.clone()),
                    };
                    acls.push(acl.host(host));
                }
            }
        }
        acls.sort();
        acls.dedup();
        Ok(acls)
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let acls = args.acls()?;
    if args.dry_run {
        return show(&acls, args.json);
    }
    let created = args.cluster.connect().await?.admin().create_acls(acls).await?;
    let (done, failed): (Vec<_>, Vec<_>) = created.into_iter().partition(|(_, created)| created.is_ok());
    show(done.iter().map(|(acl, _)| acl), args.json)?;
    let count = failed.len();
    let results = failed.into_iter().map(|(acl, created)| (acl.to_string(), created.map_err(Failure::from)));
    summary("created", results.collect()).map_err(|failure| match done.len() {
        0 => failure,
        created => {
            failure.with_exit(Exit::Partial).hint(format!("{created} of {} created.", created + count))
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    /// The ACLs of a command line, as text.
    fn acls(line: &str) -> Result<Vec<String>, String> {
        let words = ["acl"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let acls = line.args.acls().map_err(|failure| failure.to_string())?;
        Ok(acls.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn bundles_are_those_of_kafka_acls() {
        let check = |line: &str, expected: &[&str]| {
            assert_eq!(acls(line).expect("right"), expected, "{line}");
        };
        check(
            "--allow alice --topic orders --producer",
            &[
                "allow User:alice from * Write on topic \"orders\"",
                "allow User:alice from * Create on topic \"orders\"",
                "allow User:alice from * Describe on topic \"orders\"",
            ],
        );
        check(
            "--allow shop --topic o- --transactional-id s- --prefixed --producer --idempotent",
            &[
                "allow User:shop from * Write on topics with the prefix \"o-\"",
                "allow User:shop from * Create on topics with the prefix \"o-\"",
                "allow User:shop from * Describe on topics with the prefix \"o-\"",
                "allow User:shop from * IdempotentWrite on the cluster",
                "allow User:shop from * Write on transactional ids with the prefix \"s-\"",
                "allow User:shop from * Describe on transactional ids with the prefix \"s-\"",
            ],
        );
        check(
            "--allow b --topic orders --group g --consumer",
            &[
                "allow User:b from * Read on topic \"orders\"",
                "allow User:b from * Describe on topic \"orders\"",
                "allow User:b from * Read on group \"g\"",
            ],
        );
        check(
            "--deny * --topic t --operation read,Read --host 10.0.0.7 --host 10.0.0.8",
            &[
                "deny User:* from 10.0.0.7 Read on topic \"t\"",
                "deny User:* from 10.0.0.8 Read on topic \"t\"",
            ],
        );
        check(
            "--allow a --cluster --operation alter_configs",
            &["allow User:a from * AlterConfigs on the cluster"],
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (line, says) in [
            ("--topic t --operation read", "--allow PRINCIPAL"),
            ("--allow a --topic t", "--operation LIST"),
            ("--allow a --operation read", "--topic"),
            ("--allow a --topic t --consumer", "--group"),
            ("--allow a --group g --producer", "--topic"),
            ("--allow a --cluster --prefixed --operation alter", "the cluster has none"),
            ("--allow a --topic t --operation fly", "is none of All, Read"),
            ("--allow a --topic t --idempotent --operation read", "--producer"),
        ] {
            let error = acls(line).expect_err(line);
            assert!(error.contains(says), "{line}: {error}");
        }
    }
}
