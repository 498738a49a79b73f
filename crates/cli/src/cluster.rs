//! How a command reaches a cluster: the options that commands share, and connecting.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use clap::Args;
use milena::{Admin, Client, ClientBuilder, Properties};

use crate::config::{self, By, Chosen};
use crate::exit::{Exit, Failure};
use crate::profiles::registry;

/// Client settings, by name.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Settings {
    /// A client setting by its Java or librdkafka name, as in -X client.id=me; may be repeated. Passwords may be
    /// env:NAME, file:PATH or command:PROGRAM ARGS, so that no list of processes has them
    #[arg(short = 'X', long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,

    /// A file of client settings: Java's .properties or a kcat configuration. -X overrides it
    #[arg(short = 'F', long = "properties-file", value_name = "FILE")]
    properties_file: Option<PathBuf>,

    /// What the file says. It is read once: a pipe has nothing for a second reader, and a file that changed meanwhile could
    /// have a command act on another cluster than the one that was checked.
    #[arg(skip)]
    of_file: OnceLock<Properties>,

    /// The profile whose settings count where -b, -X, -F and the environment have none. Default: $MILENA_PROFILE; else, if
    /// nothing else names a cluster, the current one of `milena profile use`
    #[arg(short = 'P', long, value_name = "NAME")]
    profile: Option<String>,
}

/// What a command line, the environment and a profile say together.
pub(crate) struct Resolved {
    pub(crate) properties: Properties,
    /// Those of them that the command line gives, itself or in a file.
    pub(crate) given: Properties,
    /// The cluster, unless the properties name it.
    pub(crate) bootstrap: Option<String>,
    /// The profile whose properties are among these.
    pub(crate) chosen: Option<Chosen>,
}

/// What names the cluster if the command line does not.
pub(crate) enum Otherwise {
    /// The environment, and then the current profile.
    Environment,
    /// The command's own cluster, if it has one. Only `--profile` chooses a profile then.
    Own(Option<String>),
}

impl Settings {
    /// The settings on the command line, and in the file that it names.
    fn given(&self) -> Result<Properties, Failure> {
        let mut properties = Properties::new();
        if let Some(file) = &self.properties_file {
            let read = match self.of_file.get() {
                Some(read) => read,
                None => {
                    let read = Properties::read(file).map_err(|error| {
                        let exit = if file.exists() { Exit::Usage } else { Exit::NotFound };
                        Failure::from(error).with_exit(exit)
                    })?;
                    self.of_file.get_or_init(|| read)
                }
            };
            properties.extend(read.clone());
        }
        for (name, value) in &self.properties {
            properties.set(name, value);
        }
        Ok(properties)
    }

    /// All settings. `others` are the values of settings that nothing else names.
    ///
    /// The current profile is for its own cluster: a command line or an environment that names another cluster does not get
    /// its credentials. A profile that was asked for by name gives all that the command line leaves out.
    pub(crate) fn resolve(
        &self,
        others: Properties,
        bootstrap: Option<&str>,
        otherwise: Otherwise,
    ) -> Result<Resolved, Failure> {
        let given = self.given()?;
        let is_named = bootstrap.is_some() || given.names("bootstrap");
        let (variable, asks) = match otherwise {
            Otherwise::Environment => {
                (config::variable(VARIABLE)?, config::is_asked(self.profile.as_deref())?)
            }
            Otherwise::Own(own) => (own, self.profile.is_some()),
        };
        let chosen = match asks || !(is_named || variable.is_some()) {
            true => config::chosen(self.profile.as_deref())?,
            false => None,
        };
        let properties = together(others, chosen.as_ref(), &given);
        let of_flag = chosen
            .as_ref()
            .is_some_and(|chosen| chosen.by == By::Flag && chosen.profile.bootstrap().is_some());
        let bootstrap = match bootstrap {
            Some(bootstrap) => Some(bootstrap.to_owned()),
            None if is_named || of_flag => None,
            None => variable,
        };
        Ok(Resolved { properties, given, bootstrap, chosen })
    }

    /// All settings of a command that talks to a schema registry only. `is_named` is whether something else than properties names
    /// the registry: then the current profile is not asked, as with a cluster that is named.
    pub(crate) fn resolve_registry(&self, is_named: bool) -> Result<Resolved, Failure> {
        let given = self.given()?;
        let is_named = is_named || given.iter().any(|(name, _)| name == registry::URL);
        let chosen = match config::is_asked(self.profile.as_deref())? || !is_named {
            true => config::chosen(self.profile.as_deref())?,
            false => None,
        };
        let properties = together(Properties::new(), chosen.as_ref(), &given);
        Ok(Resolved { properties, given, bootstrap: None, chosen })
    }

    /// Whether the command line names the cluster, by a property or a profile.
    pub(crate) fn name_a_cluster(&self) -> Result<bool, Failure> {
        let resolved = self.resolve(Properties::new(), None, Otherwise::Own(None))?;
        Ok(resolved.properties.names("bootstrap"))
    }
}

/// The settings of the command line, then those of a profile, then the others.
fn together(others: Properties, chosen: Option<&Chosen>, given: &Properties) -> Properties {
    let mut properties = others;
    for (name, value) in chosen.iter().flat_map(|chosen| &chosen.profile.properties) {
        properties.set(name, value);
    }
    properties.extend(given.clone());
    properties
}

impl Resolved {
    /// A client with these settings.
    pub(crate) fn client(&self) -> Result<ClientBuilder, Failure> {
        let builder = self.properties.client().map_err(|error| {
            let failure = Failure::usage(error.to_string());
            match &self.chosen {
                Some(Chosen { profile, .. }) => {
                    failure.hint(format!("The profile {} is in use.", profile.name))
                }
                None => failure,
            }
        })?;
        Ok(match &self.bootstrap {
            Some(bootstrap) => builder.bootstrap(bootstrap),
            None => builder,
        })
    }

    /// The brokers to connect to first, as they are written.
    pub(crate) fn bootstrap(&self) -> String {
        if let Some(bootstrap) = &self.bootstrap {
            return bootstrap.clone();
        }
        let named = milena::SETTINGS.iter().find(|setting| setting.name == "bootstrap");
        let is_bootstrap =
            |name: &str| named.is_some_and(|setting| setting.names().any(|known| known == name));
        let value = self.properties.iter().filter(|(name, _)| is_bootstrap(name)).last();
        value.map_or_else(|| DEFAULT.to_owned(), |(_, value)| value.to_owned())
    }
}

/// How to reach the cluster: the options that all commands but `demo` and `broker` share.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Cluster {
    /// The brokers to connect to first, HOST:PORT[,HOST:PORT...]. Default: the setting in -X or -F, else that of --profile,
    /// else $MILENA_BOOTSTRAP, else that of the current profile, else localhost:9092
    #[arg(short, long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,

    #[command(flatten)]
    settings: Settings,

    /// Give up when the cluster has not answered a request for SECONDS (default: 10), or acknowledged no record for
    /// SECONDS (default: delivery.timeout.ms, 120 s)
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,

    /// Delete from the cluster of the protected profile NAME without asking. Without a terminal to ask on, it is needed
    #[arg(long, value_name = "NAME")]
    yes_i_mean: Option<String>,
}

/// A connected client, and how the command uses it.
pub(crate) struct Connected {
    pub(crate) client: Client,
    /// How long the cluster may take to answer a request.
    pub(crate) timeout: Duration,
    /// Whether a topic that does not exist is created when the command asks for it.
    pub(crate) creates_topics: bool,
}

impl Connected {
    /// Admin calls, each within the timeout.
    pub(crate) fn admin(&self) -> Admin {
        self.client.admin().timeout(self.timeout)
    }
}

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const VARIABLE: &str = "MILENA_BOOTSTRAP";
/// The client's own default.
const DEFAULT: &str = "localhost:9092";

impl Cluster {
    /// The same with another setting, which overrides those in -X and -F.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.settings.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// All settings. `others` are the values of settings that nothing else names.
    pub(crate) fn resolve(&self, others: Properties) -> Result<Resolved, Failure> {
        self.settings.resolve(others, self.bootstrap.as_deref(), Otherwise::Environment)
    }

    /// The profile that the user means, if the command line says so.
    pub(crate) fn meant(&self) -> Option<&str> {
        self.yes_i_mean.as_deref()
    }

    /// How long the cluster may take to answer a request.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT_DEFAULT)
    }

    /// `--timeout`, if it was given.
    pub(crate) fn timeout_asked(&self) -> Option<Duration> {
        self.timeout
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Connected, Failure> {
        // A setting in -X or -F overrides these two.
        let timeout = self.timeout();
        let millis = timeout.as_millis().max(1).to_string();
        let others = ["connect_timeout", "request_timeout"].map(|name| (name, &millis));
        let builder = self.resolve(Properties::from_iter(others))?.client()?;
        let mut creates_topics = false;
        let builder = builder.settings(|settings| creates_topics = settings.auto_create_topics);
        let client = connect(builder, self.timeout).await?;
        Ok(Connected { client, timeout, creates_topics })
    }
}

/// Connects, within `timeout` if there is one.
pub(crate) async fn connect(builder: ClientBuilder, timeout: Option<Duration>) -> Result<Client, Failure> {
    let mut bootstrap = String::new();
    let builder = builder.settings(|settings| {
        bootstrap = settings.bootstrap.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    });
    // The client's own timeouts apply to each server, and its errors say more: leave them a little more time.
    let limit = timeout.map_or(Duration::MAX, |timeout| timeout + Duration::from_millis(500));
    // On the heap, because the futures of all commands would have room for it.
    let connected = match tokio::time::timeout(limit, Box::pin(builder.connect())).await {
        Ok(connected) => connected.map_err(Failure::from),
        Err(_) => {
            let timeout = timeout.unwrap_or_default();
            let message = format!("connecting to {bootstrap}: no server answered within {timeout:?}");
            Err(Failure::new(Exit::Unreachable, message))
        }
    };
    connected.map_err(|failure| match failure.exit() {
        Exit::Unreachable => {
            failure.hint("Choose another cluster with -b, or start one here with `milena broker`.")
        }
        _ => failure,
    })
}

pub(crate) fn property(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().into(), value.into())),
        _ => Err("write NAME=VALUE".into()),
    }
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .filter(|d| (SECONDS_MIN..=SECONDS_MAX).contains(d))
        .ok_or_else(|| "write a number of seconds from 0.001 to 2147483, as in 5 or 0.5".into())
}

/// No cluster answers in less.
const SECONDS_MIN: Duration = Duration::from_millis(1);
/// The most milliseconds that Kafka's requests can express.
const SECONDS_MAX: Duration = Duration::from_millis(i32::MAX as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_and_seconds_are_read() {
        assert_eq!(property("a.b= c=d"), Ok(("a.b".into(), " c=d".into())));
        assert!(property("novalue").is_err());
        assert!(property("=x").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["", "0", "-1", "x", "inf", "nan", "1e300", "1e-9", "1e9"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
