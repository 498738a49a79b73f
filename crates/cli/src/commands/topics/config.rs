//! `milena topics config`: shows and changes the settings of topics.

use clap::Subcommand;
use milena::{Admin, ConfigChange, ConfigEntry, ConfigResource};
use serde::Serialize;

use super::no_topic;
use crate::cluster::{Cluster, property};
use crate::exit::{Failure, summary};
use crate::output::{to_json, write_out};
use crate::table::{Align, Table};

const EXAMPLES: &str = "\
Examples:
  milena topics config show orders                                     what differs from the defaults
  milena topics config alter orders --set retention.ms=86400000        one day
  milena topics config alter orders --unset retention.ms               the default again
  milena topics config alter orders --append cleanup.policy=compact    one more word of a list";

/// Show and change settings of topics.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the settings that are not defaults
    Show {
        #[arg(required = true)]
        topics: Vec<String>,
        /// Show all settings, also those with default values
        #[arg(short, long)]
        all: bool,
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// Change settings, without confirmation. Of each topic all changes are made or none
    #[command(after_help = EXAMPLES)]
    Alter {
        #[arg(required = true)]
        topics: Vec<String>,
        #[command(flatten)]
        changes: Changes,
        #[command(flatten)]
        cluster: Cluster,
    },
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
struct Changes {
    /// Give a setting this value; may be repeated
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = property)]
    set: Vec<(String, String)>,
    /// Give a setting its default value again; may be repeated
    #[arg(short, long, value_name = "NAME")]
    unset: Vec<String>,
    /// Add words, separated by commas, to a setting that is a list; may be repeated
    #[arg(long, value_name = "NAME=WORDS", value_parser = property)]
    append: Vec<(String, String)>,
    /// Take words, separated by commas, away from a setting that is a list; may be repeated
    #[arg(long, value_name = "NAME=WORDS", value_parser = property)]
    subtract: Vec<(String, String)>,
}

impl Args {
    pub(super) fn cluster(&self) -> &Cluster {
        match &self.command {
            Command::Show { cluster, .. } | Command::Alter { cluster, .. } => cluster,
        }
    }

    /// Whether the command may change something.
    pub(super) fn changes(&self) -> bool {
        matches!(self.command, Command::Alter { .. })
    }
}

impl Changes {
    fn all(self) -> Vec<ConfigChange> {
        let Self { set, unset, append, subtract } = self;
        let set = set.into_iter().map(|(name, value)| ConfigChange::set(name, value));
        let unset = unset.into_iter().map(ConfigChange::delete);
        let append = append.into_iter().map(|(name, words)| ConfigChange::append(name, words));
        let subtract = subtract.into_iter().map(|(name, words)| ConfigChange::subtract(name, words));
        set.chain(unset).chain(append).chain(subtract).collect()
    }
}

pub(super) async fn run(args: Args, admin: &Admin) -> Result<(), Failure> {
    match args.command {
        Command::Show { topics, all, json, .. } => {
            let mut results = Vec::with_capacity(topics.len());
            for topic in topics {
                let shown = show(admin, &topic, all, json).await;
                results.push((topic, shown));
            }
            summary("shown", results)
        }
        Command::Alter { topics, changes, .. } => {
            let changes = changes.all();
            let mut results = Vec::with_capacity(topics.len());
            for topic in topics {
                let altered =
                    admin.alter_configs(&ConfigResource::Topic(topic.clone()), changes.clone()).await;
                let altered = altered.map_err(|error| no_topic(&topic, error));
                results.push((topic, altered));
            }
            summary("changed", results)
        }
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    topic: &'a str,
    name: &'a str,
    value: Option<&'a str>,
    is_default: bool,
}

async fn show(admin: &Admin, topic: &str, all: bool, json: bool) -> Result<(), Failure> {
    let described = admin.describe_configs(&ConfigResource::Topic(topic.to_owned())).await;
    let mut configs = described.map_err(|error| no_topic(topic, error))?;
    configs.retain(|config| all || !config.is_default);
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    let columns =
        [("topic", Align::Left), ("setting", Align::Left), ("value", Align::Left), ("", Align::Left)];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for ConfigEntry { name, value, is_default, is_sensitive, .. } in &configs {
        if json {
            let (value, is_default) = (value.as_deref(), *is_default);
            lines += &to_json(&Shown { topic, name, value, is_default })?;
            lines.push('\n');
            continue;
        }
        let hidden = if *is_sensitive { "(secret)" } else { "" };
        let value = value.clone().unwrap_or_else(|| hidden.to_owned());
        let origin = if *is_default { "default" } else { "" };
        table.row([topic.to_owned(), name.clone(), value, origin.to_owned()]);
    }
    write_out(&if json { lines } else { table.text(0) })
}
