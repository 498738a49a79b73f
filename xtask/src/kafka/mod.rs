//! `cargo xtask kafka`: runs Apache Kafka from Maven Central, with one or three KRaft nodes on loopback.
//!
//! All files are in `.kafka` at the root of the repository: the jars in `dist`, and a folder for each cluster in `clusters`,
//! which is removed with the cluster. Brokers are tied to the process that started them (`Tether.java`): they end when it
//! ends, even if it crashes, unless it has released them, which `start` does as its last step.

mod cluster;
mod dist;
mod node;
mod probe;
pub mod process;
mod state;
mod tool;

use std::path::PathBuf;

use anyhow::{bail, ensure};
use lexopt::{Arg, ValueExt as _};

pub use cluster::Cluster;
pub use dist::{Dist, NEWEST, missing_program};
pub(crate) use node::tether;
pub use tool::Tool;

use state::State;

/// What `cargo xtask kafka help` prints.
const HELP: &str = "\
Usage: cargo xtask kafka start [--brokers 1|3] [--version V] [--name N] [--set NAME=VALUE]...
       cargo xtask kafka status [--name N]
       cargo xtask kafka stop [--name N]
       cargo xtask kafka tool [--version V] TOOL [ARGUMENT]...

start   fetches Apache Kafka (default: 4.4.0) with Maven, starts it on free ports of the loopback interface, waits
        until every broker is ready, and prints the bootstrap addresses as its last line. --set adds a broker setting,
        in which {broker}, {controller} and {sasl} stand for the broker's ports.
        Two settings differ from Kafka's defaults: records are not deleted because of their age, and topics are not
        created automatically (--set auto.create.topics.enable=true changes that).
status  lists clusters with their addresses; fails if there is no cluster, or none with that name.
stop    ends a cluster's processes and removes its data.
tool    runs one of Kafka's tools by the name of its script, such as kafka-topics.
";

/// The command line.
///
/// # Errors
/// The command failed; the error is for the user of the terminal.
pub fn run(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let word = match args.next()? {
        Some(Arg::Value(word)) => word.string()?,
        Some(Arg::Short('h') | Arg::Long("help")) | None => "help".into(),
        Some(other) => return Err(other.unexpected().into()),
    };
    match word.as_str() {
        "start" => start(args),
        "status" => status(args),
        "stop" => stop(args),
        "tool" => tool(args),
        "help" => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("there is no command {word:?}\n\n{HELP}"),
    }
}

fn start(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let (mut brokers, mut version, mut name) = (1, NEWEST.to_owned(), DEFAULT_NAME.to_owned());
    let mut settings = Vec::new();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("brokers") => brokers = args.value()?.parse()?,
            Arg::Long("version") => version = args.value()?.string()?,
            Arg::Long("name") => name = cluster_name(args.value()?.string()?)?,
            Arg::Long("set") => settings.push(args.value()?.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let cluster = Cluster::start_named(&name, brokers, &version, &settings)?;
    let bootstrap = cluster.bootstrap();
    cluster.release()?;
    eprintln!("Apache Kafka {version}, cluster {name}: ready");
    println!("{bootstrap}");
    Ok(())
}

fn status(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let mut wanted = None;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("name") => wanted = Some(cluster_name(args.value()?.string()?)?),
            other => return Err(other.unexpected().into()),
        }
    }
    let mut found = false;
    for (name, state) in state::all() {
        if wanted.as_ref().is_none_or(|wanted| *wanted == name) {
            let (alive, nodes) = (state.alive(&clusters().join(&name)), state.pids.len());
            println!(
                "{name}: Apache Kafka {}, {alive} of {nodes} brokers alive, {}",
                state.version, state.bootstrap
            );
            found |= alive == nodes;
        }
    }
    match wanted {
        Some(name) if !found => bail!("cluster {name} does not run"),
        None if !found => bail!("no cluster runs"),
        _ => Ok(()),
    }
}

fn stop(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let mut name = DEFAULT_NAME.to_owned();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("name") => name = cluster_name(args.value()?.string()?)?,
            other => return Err(other.unexpected().into()),
        }
    }
    let Some(state) = State::read(&clusters().join(&name)) else { bail!("cluster {name} does not run") };
    cluster::stop(&name, &state)?;
    eprintln!("cluster {name}: stopped");
    Ok(())
}

fn tool(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let mut version = NEWEST.to_owned();
    let name = loop {
        match args.next()? {
            Some(Arg::Long("version")) => version = args.value()?.string()?,
            Some(Arg::Value(name)) => break name.string()?,
            Some(other) => return Err(other.unexpected().into()),
            None => bail!("which tool? One of: {}", Tool::names().collect::<Vec<_>>().join(", ")),
        }
    };
    let Some(tool) = Tool::named(&name) else {
        bail!("no tool {name:?}; there are: {}", Tool::names().collect::<Vec<_>>().join(", "));
    };
    let status = tool.command(&version, false)?.args(args.raw_args()?).status()?;
    ensure!(status.success(), "{name} ended with {status}");
    Ok(())
}

/// Checks a cluster's name, which is also the name of a folder.
fn cluster_name(name: String) -> anyhow::Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    ensure!(
        !name.is_empty() && name.len() <= 40 && name.chars().all(plain),
        "{name:?} is not a cluster's name: letters, digits, - and _ are"
    );
    Ok(name)
}

pub(crate) fn home() -> PathBuf {
    crate::root().join(".kafka")
}

fn clusters() -> PathBuf {
    home().join("clusters")
}

const DEFAULT_NAME: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_name_stays_in_its_folder() {
        for bad in ["", "..", "a/b", "a b", "\0"] {
            assert!(cluster_name(bad.into()).is_err(), "{bad:?}");
        }
        assert_eq!(cluster_name("ci-3_9".into()).unwrap(), "ci-3_9");
    }
}
