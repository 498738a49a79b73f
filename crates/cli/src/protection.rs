//! Whether a command may take something away from a cluster: the only place that knows which commands do, and what a profile
//! that is protected asks for.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use milena::Properties;

use crate::args::Command;
use crate::cluster::{Cluster, Resolved};
use crate::config::Config;
use crate::exit::Failure;
use crate::profiles::Profile;

impl Command {
    /// The cluster that the command takes something away from, and what; none if it only looks or adds.
    fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match self {
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
        }
    }
}

/// Fails unless the command may go on. Asks if the cluster is that of a protected profile.
pub(crate) fn check(command: &Command) -> Result<(), Failure> {
    let Some((cluster, what)) = command.destroys() else { return Ok(()) };
    let resolved = cluster.resolve(Properties::new())?;
    let known = match Config::read()? {
        Some(config) => config.profiles.all().map_err(Failure::usage)?,
        None => Vec::new(),
    };
    let Some(name) = protector(&resolved, &known) else { return Ok(()) };
    if cluster.meant() == Some(name) {
        return Ok(());
    }
    let why = format!("the profile {name} is protected, and this {what}");
    if let Some(meant) = cluster.meant() {
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

/// The protected profile whose cluster this is: the one in use, or one with a bootstrap server in common, however the command
/// line names it.
fn protector<'a>(resolved: &'a Resolved, known: &'a [Profile]) -> Option<&'a str> {
    let of_use =
        resolved.chosen.as_ref().map(|chosen| &chosen.profile).filter(|profile| profile.is_protected);
    let bootstrap = resolved.bootstrap();
    let shares = |profile: &&Profile| {
        profile.is_protected
            && profile
                .bootstrap()
                .is_some_and(|of| addresses(of).any(|a| addresses(&bootstrap).any(|b| a == b)))
    };
    of_use.or_else(|| known.iter().find(shares)).map(|profile| &*profile.name)
}

/// The addresses of a list, in one form.
fn addresses(list: &str) -> impl Iterator<Item = String> {
    list.split(',').map(str::trim).filter(|text| !text.is_empty()).map(|text| {
        let bare = text.split_once("://").map_or(text, |(_, bare)| bare);
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
