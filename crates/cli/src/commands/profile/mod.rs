//! `milena profile`: lists, shows, makes, changes, removes and imports profiles, and chooses the current one.

mod import;

use std::fmt::Write as _;

use clap::Subcommand;
use milena::Properties;
use serde::Serialize;

use crate::cluster::property;
use crate::config::Config;
use crate::exit::Failure;
use crate::output::{tell, to_json, write_out};
use crate::profiles::{Profile, check_name, secrets};
use crate::table::{Align, Table};

const HELP: &str = "\
A profile has the client's settings for one cluster, under their Java or librdkafka names. Of each setting the first
that is there counts:
  1. the command line: -b, -X, then -F
  2. the environment: MILENA_BOOTSTRAP
  3. the profile: that of --profile, else of MILENA_PROFILE, else the current one
  4. the client's default
A profile that --profile names goes before MILENA_BOOTSTRAP. The current profile is used only if nothing else names a
cluster, so that its credentials go nowhere else.

Profiles are in $MILENA_CONFIG, else $XDG_CONFIG_HOME/milena/config.toml, else ~/.config/milena/config.toml:

  current = \"prod\"

  [profiles.prod]
  protected = true                                 commands that delete something ask for the profile's name
  bootstrap.servers = \"kafka-1:9093,kafka-2:9093\"
  security.protocol = \"SASL_SSL\"
  sasl.mechanism = \"SCRAM-SHA-512\"
  sasl.username = \"alice\"
  sasl.password = \"command:secret-tool lookup kafka prod\"

A password need not be in the file. It may be env:NAME, file:PATH or command:PROGRAM ARGUMENTS:
  command:secret-tool lookup kafka prod                           GNOME's keyring, KWallet
  command:security find-generic-password -s kafka-prod -w         macOS
  command:pass show kafka/prod                                    pass";

/// Keep clusters under names, with their settings.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true, after_help = HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

const SET_EXAMPLES: &str = "\
Examples:
  milena profile set dev bootstrap.servers=localhost:9092 --use
  milena profile set prod bootstrap.servers=kafka-1:9093 security.protocol=SASL_SSL sasl.mechanism=SCRAM-SHA-512 \\
      sasl.username=alice 'sasl.password=command:pass show kafka/prod' --protected true
  milena profile set prod --unset client.id";

#[derive(Debug, Subcommand)]
enum Command {
    /// List all profiles; * is the current one
    #[command(visible_alias = "ls")]
    List {
        /// One JSON object a line
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Show the settings of a profile, without secrets
    Show {
        /// Default: the current one
        name: Option<String>,
        /// One JSON object
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Make a profile the current one
    Use {
        /// The profile
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Have no current profile
        #[arg(long, conflicts_with = "name")]
        none: bool,
    },
    /// Make a profile, or change settings of one
    #[command(after_help = SET_EXAMPLES)]
    Set {
        /// The profile
        name: String,
        /// Settings by their Java or librdkafka names
        #[arg(value_name = "NAME=VALUE", value_parser = property)]
        properties: Vec<(String, String)>,
        /// Remove a setting; may be repeated
        #[arg(short, long, value_name = "NAME")]
        unset: Vec<String>,
        /// Whether commands that delete something ask for the profile's name
        #[arg(long, value_name = "true|false")]
        protected: Option<bool>,
        /// Make it the current profile
        #[arg(long = "use")]
        select: bool,
    },
    /// Remove profiles
    #[command(visible_alias = "rm")]
    Remove {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Take clusters over from the configuration file of another client
    Import(import::Args),
}

/// Runs the command.
pub(crate) fn run(args: Args) -> Result<(), Failure> {
    match args.command {
        Command::List { json } => list(json),
        Command::Show { name, json } => show(name.as_deref(), json),
        Command::Use { name, .. } => select(name.as_deref()),
        Command::Set { name, properties, unset, protected, select } => {
            let mut config = Config::open()?;
            check_name(&name).map_err(Failure::usage)?;
            for (property, value) in &properties {
                config.profiles.set(&name, property, value).map_err(Failure::usage)?;
            }
            for property in &unset {
                if !config.profiles.unset(&name, property).map_err(Failure::usage)? {
                    return Err(Failure::not_found(format!("the profile {name} has no {property:?}")));
                }
            }
            if let Some(protected) = protected {
                config.profiles.protect(&name, protected).map_err(Failure::usage)?;
            }
            if properties.is_empty() && unset.is_empty() && protected.is_none() {
                config.profile(&name)?;
            }
            if select {
                config.profiles.select(Some(&name));
            }
            config.write()?;
            warn_of_mistakes(&config.profile(&name)?);
            Ok(())
        }
        Command::Remove { names } => {
            let mut config = Config::open()?;
            for name in &names {
                config.profile(name)?;
                config.profiles.remove(name);
            }
            config.write()
        }
        Command::Import(args) => import::run(&args),
    }
}

/// Says what the client would refuse. Secrets are not looked for where they are: a command may ask for a finger.
fn warn_of_mistakes(profile: &Profile) {
    // What such a text says cannot be known without looking for its secrets.
    if profile.properties.iter().any(|(name, value)| secrets::has_source_within(name, value)) {
        return;
    }
    let without = |value: &str| if secrets::is_source(value) { "x".to_owned() } else { value.to_owned() };
    let is_checked = |name: &str, value: &str| name != secrets::PROXY || !secrets::is_source(value);
    let properties: Properties = profile
        .properties
        .iter()
        .filter(|(name, value)| is_checked(name, value))
        .map(|(name, value)| (name.as_str(), without(value)))
        .collect();
    if let Err(error) = properties.client() {
        tell(format_args!("warning: the profile {} cannot be used as it is: {error}", profile.name));
    }
}

#[derive(Serialize)]
struct Listed<'a> {
    profile: &'a str,
    is_current: bool,
    is_protected: bool,
    bootstrap: Option<&'a str>,
    security_protocol: Option<&'a str>,
}

fn list(json: bool) -> Result<(), Failure> {
    let config = Config::open()?;
    let left = Align::Left;
    let columns = [("", left), ("profile", left), ("bootstrap", left), ("security", left), ("", left)];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for profile in config.profiles.all().map_err(Failure::usage)? {
        let is_current = config.profiles.current() == Some(&profile.name);
        let (bootstrap, security_protocol) = (profile.bootstrap(), profile.value("security.protocol"));
        if json {
            let is_protected = profile.is_protected;
            let listed =
                Listed { profile: &profile.name, is_current, is_protected, bootstrap, security_protocol };
            lines += &(to_json(&listed)? + "\n");
            continue;
        }
        let or = |text: Option<&str>, none: &str| text.unwrap_or(none).to_owned();
        table.row([
            if is_current { "*".into() } else { String::new() },
            profile.name.clone(),
            or(bootstrap, "localhost:9092"),
            or(security_protocol, "PLAINTEXT"),
            if profile.is_protected { "protected".into() } else { String::new() },
        ]);
    }
    write_out(&if json { lines } else { table.text(0) })
}

#[derive(Serialize)]
struct Shown<'a> {
    profile: &'a str,
    is_current: bool,
    is_protected: bool,
    properties: Vec<ShownProperty<'a>>,
}

#[derive(Serialize)]
struct ShownProperty<'a> {
    name: &'a str,
    /// Null if it is a secret.
    value: Option<String>,
}

fn show(name: Option<&str>, json: bool) -> Result<(), Failure> {
    let config = Config::open()?;
    let name = match name.or(config.profiles.current()) {
        Some(name) => name.to_owned(),
        None => {
            return Err(Failure::usage(
                "no profile is the current one; name one, or choose one with `milena profile use`",
            ));
        }
    };
    let profile = config.profile(&name)?;
    let is_current = config.profiles.current() == Some(&name);
    if json {
        let shown = |(name, value): &(String, String)| secrets::shown(name, value);
        let properties = profile.properties.iter().map(|property| ShownProperty {
            name: &property.0,
            value: Some(shown(property)).filter(|value| value != secrets::HIDDEN),
        });
        let properties = properties.collect();
        let shown = Shown { profile: &name, is_current, is_protected: profile.is_protected, properties };
        return write_out(&(to_json(&shown)? + "\n"));
    }
    let mut text = name;
    text += if is_current { " (current)" } else { "" };
    text += if profile.is_protected { " (protected)\n" } else { "\n" };
    for (name, value) in &profile.properties {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {name}={}", secrets::shown(name, value));
    }
    write_out(&text)
}

fn select(name: Option<&str>) -> Result<(), Failure> {
    let mut config = Config::open()?;
    if let Some(name) = name {
        config.profile(name)?;
    }
    config.profiles.select(name);
    config.write()
}
