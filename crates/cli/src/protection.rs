//! Whether a command may take something away from a cluster: the only place that knows which commands do, and what a profile
//! that is protected asks for.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use milena::Properties;

use crate::args::Command;
use crate::cluster::{Cluster, Resolved};
use crate::config::Config;
use crate::exit::Failure;
use crate::profiles::{Profile, registry};
use crate::registry_options::Registry;

/// What a command takes something away from.
enum Place<'a> {
    Cluster(&'a Cluster),
    Registry(&'a Registry),
}

impl Place<'_> {
    fn resolve(&self) -> Result<Resolved, Failure> {
        match self {
            Self::Cluster(cluster) => cluster.resolve(Properties::new()),
            Self::Registry(registry) => registry.resolve(),
        }
    }

    /// The addresses, as they are written.
    fn addresses(&self, resolved: &Resolved) -> Result<String, Failure> {
        match self {
            Self::Cluster(_) => Ok(resolved.bootstrap()),
            Self::Registry(registry) => registry.urls(resolved),
        }
    }

    /// The addresses that a profile has for such a place.
    fn of_profile<'a>(&self, profile: &'a Profile) -> Option<&'a str> {
        match self {
            Self::Cluster(_) => profile.bootstrap(),
            Self::Registry(_) => profile.value(registry::URL),
        }
    }

    fn meant(&self) -> Option<&str> {
        match self {
            Self::Cluster(cluster) => cluster.meant(),
            Self::Registry(registry) => registry.meant(),
        }
    }
}

impl Command {
    /// The cluster or registry that the command takes something away from, and what; none if it only looks or adds.
    fn destroys(&self) -> Option<(Place<'_>, &'static str)> {
        let cluster = match self {
            Self::Schema(args) => {
                return args.destroys().map(|(registry, what)| (Place::Registry(registry), what));
            }
            Self::Topics(args) => args.destroys(),
            Self::Groups(args) => args.destroys(),
            Self::Txn(args) => args.destroys(),
            Self::Dlq(args) => args.destroys(),
            Self::Acl(args) => args.destroys(),
            Self::User(args) => args.destroys(),
            Self::Quota(args) => args.destroys(),
            Self::ClientMetrics(args) => args.destroys(),
            Self::Token(args) => args.destroys(),
            Self::Demo(_)
            | Self::Broker(_)
            | Self::Dev(_)
            | Self::Registry(_)
            | Self::Dashboards(_)
            | Self::Doctor(_)
            | Self::Exporter(_)
            | Self::Top(_)
            | Self::Tune(_)
            | Self::Produce(_)
            | Self::Consume(_)
            | Self::Profile(_)
            | Self::VerifiableConsumer(_)
            | Self::VerifiableProducer(_) => None,
        };
        cluster.map(|(cluster, what)| (Place::Cluster(cluster), what))
    }
}

/// Fails unless the command may go on. Asks if the cluster is that of a protected profile.
pub(crate) fn check(command: &Command) -> Result<(), Failure> {
    let Some((place, what)) = command.destroys() else { return Ok(()) };
    let resolved = place.resolve()?;
    let known = match Config::read()? {
        Some(config) => config.profiles.all().map_err(Failure::usage)?,
        None => Vec::new(),
    };
    let Some(name) = protector(&place, &resolved, &known)? else { return Ok(()) };
    if place.meant() == Some(name) {
        return Ok(());
    }
    let why = format!("the profile {name} is protected, and this {what}");
    if let Some(meant) = place.meant() {
        return Err(Failure::usage(format!("{why}; --yes-i-mean has {meant:?}")));
    }
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(Failure::usage(why).hint(format!("Add --yes-i-mean {name} if that is what you mean.")));
    }
    match ask(&format!("{why}. Type the profile's name to go on: ")) {
        Some(answer) if answer.trim() == name => Ok(()),
        _ => Err(Failure::usage(format!("{why}; nothing was done"))),
    }
}

/// The protected profile whose cluster or registry this is: the one in use, or one with an address in common, however the command
/// line names it.
fn protector<'a>(
    place: &Place<'_>,
    resolved: &'a Resolved,
    known: &'a [Profile],
) -> Result<Option<&'a str>, Failure> {
    let of_use =
        resolved.chosen.as_ref().map(|chosen| &chosen.profile).filter(|profile| profile.is_protected);
    let named = place.addresses(resolved)?;
    let shares = |profile: &&Profile| {
        profile.is_protected
            && place
                .of_profile(profile)
                .is_some_and(|of| addresses(of).any(|a| addresses(&named).any(|b| a == b)))
    };
    Ok(of_use.or_else(|| known.iter().find(shares)).map(|profile| &*profile.name))
}

/// The addresses of a list, in one form.
fn addresses(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(|text| {
        let bare = text.split_once("://").map_or(text, |(_, bare)| bare);
        // That of a registry may have a path, and a user in it.
        let bare = bare.split('/').next().unwrap_or_default();
        let bare = bare.rsplit_once('@').map_or(bare, |(_, bare)| bare);
        bare.parse::<milena::Address>()
            .map_or_else(|_| bare.to_ascii_lowercase(), |a| a.to_string().to_ascii_lowercase())
    })
}

fn ask(question: &str) -> Option<String> {
    let mut stderr = anstream::stderr();
    write!(stderr, "{question}").and_then(|()| stderr.flush()).ok()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).ok()?;
    Some(answer)
}
