//! How a command reaches a schema registry: the options that commands share, and the client of a registry that they make.
//!
//! ```text
//! options, -X and -F, MILENA_REGISTRY, a profile ─▶ plan (pure) ─▶ secrets are read ─▶ SchemaRegistry
//! ```

mod plan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use milena::oauth::{ClientCredentials, Endpoint};
use milena::{Secret, Tls, read_secret};
use milena_registry::{RegistryError, RegistryErrorKind, SchemaRegistry, SchemaRegistryBuilder};

use self::plan::{Login, Own, Plan, Roots, Text};
use crate::cluster::{Resolved, Settings, seconds};
use crate::config;
use crate::exit::{Exit, Failure};
use crate::password::from_source;

/// Where the registry's addresses are if the command line does not say.
const VARIABLE: &str = "MILENA_REGISTRY";

const HEADING: &str = "Schema registry";

/// The schema registry, and how to log in there. Commands that connect to a cluster too have these beside
/// [`Cluster`](crate::cluster::Cluster); those that do not have [`Registry`].
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct RegistryOptions {
    /// The schema registry, http://HOST:PORT or https://HOST; several are separated by commas, and the next one is asked when one
    /// does not answer. Default: schema.registry.url in -X or -F, else that of --profile, else $MILENA_REGISTRY, else that of
    /// the current profile
    #[arg(long = "registry", value_name = "URL", value_delimiter = ',')]
    urls: Vec<String>,

    /// Log in to the registry as this user, with --registry-password
    #[arg(long, value_name = "NAME", requires = "registry_password", conflicts_with = "registry_token")]
    registry_user: Option<String>,

    /// The user's password: env:NAME, file:PATH or command:PROGRAM ARGS
    #[arg(long, value_name = "SOURCE", requires = "registry_user")]
    registry_password: Option<String>,

    /// A bearer token for the registry: env:NAME, file:PATH or command:PROGRAM ARGS
    #[arg(long, value_name = "SOURCE")]
    registry_token: Option<String>,

    /// Trust only the authorities in this file, or directory, for the registry's certificate: PEM, PKCS#12 or JKS
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,

    /// The certificate to show to the registry: PEM with --registry-key, or else a store with its key (PKCS#12, JKS, PEM)
    #[arg(long, value_name = "FILE")]
    registry_certificate: Option<PathBuf>,

    /// The private key of --registry-certificate
    #[arg(long, value_name = "FILE", requires = "registry_certificate")]
    registry_key: Option<PathBuf>,

    /// The password of the key or the store: env:NAME, file:PATH or command:PROGRAM ARGS
    #[arg(long, value_name = "SOURCE", requires = "registry_certificate")]
    registry_key_password: Option<String>,

    /// Let --registry be http:// on another machine. Everyone on the way reads what is sent, passwords too
    #[arg(long)]
    registry_plaintext: bool,
}

impl RegistryOptions {
    /// The registry that the command line, the environment or the profile of `resolved` names; none if nothing names one. Secrets are
    /// read where they are, which may run a command and block.
    ///
    /// The credentials of the current profile go to its own registry only; those of a profile that was asked for by name go to the
    /// registry that the command line names, as with clusters.
    pub(crate) fn client(&self, resolved: &Resolved) -> Result<Option<SchemaRegistry>, Failure> {
        Ok(self.builder(resolved)?.map(SchemaRegistryBuilder::build).transpose()?)
    }

    /// As [`client`](Self::client); it is an error if nothing names a registry.
    pub(crate) fn required(&self, resolved: &Resolved) -> Result<SchemaRegistry, Failure> {
        self.client(resolved)?.ok_or_else(unnamed)
    }

    /// As [`client`](Self::client), for further settings.
    pub(crate) fn builder(&self, resolved: &Resolved) -> Result<Option<SchemaRegistryBuilder>, Failure> {
        let variable = config::variable(VARIABLE)?;
        let Some(plan) = Plan::of(self, resolved, variable.as_deref()).map_err(Failure::usage)? else {
            return Ok(None);
        };
        Ok(Some(build(plan)?))
    }

    /// Whether the command line or the environment names a registry by other means than a property.
    fn is_named(&self) -> Result<bool, Failure> {
        Ok(!self.urls.is_empty() || config::variable(VARIABLE)?.is_some())
    }
}

fn unnamed() -> Failure {
    Failure::usage("no schema registry is named").hint(format!(
        "Name it with --registry http://127.0.0.1:8081 (where `milena dev` has one), with {VARIABLE}, or with \
         schema.registry.url in -X, -F or a profile."
    ))
}

/// The client that a plan describes.
fn build(plan: Plan) -> Result<SchemaRegistryBuilder, Failure> {
    let Plan { urls, plain_hosts, login, roots, own, skips_host_name } = plan;
    let mut builder = SchemaRegistry::builder(urls);
    for host in plain_hosts {
        builder = builder.http_to(host);
    }
    if let Some(tls) = tls(roots, own, skips_host_name)? {
        builder = builder.tls(tls);
    }
    Ok(match login {
        Login::None => builder,
        Login::Basic { user, password } => builder.basic(&user, secret(&password)?),
        Login::UserInfo(info) => {
            let pair = secret(&info)?;
            let text = std::str::from_utf8(pair.expose()).ok();
            let pair = text.and_then(|text| text.split_once(':'));
            let what = || Failure::usage(format!("{} is not USER:PASSWORD", info.name));
            let (user, password) = pair.ok_or_else(what)?;
            builder.basic(user, password)
        }
        Login::Token(token) => builder.bearer(secret(&token)?),
        Login::OAuth { endpoint, id, secret: of_client, scope, headers } => {
            // As with the issuer of a cluster's tokens, http may go to this machine only.
            let endpoint = Endpoint::new(endpoint).allow_loopback_http();
            endpoint.check().map_err(|error| Failure::usage(error.to_string()))?;
            let mut tokens = ClientCredentials::new(endpoint, id, secret(&of_client)?);
            if let Some(scope) = scope {
                tokens = tokens.scope(scope);
            }
            headers
                .into_iter()
                .fold(builder.tokens(tokens), |builder, (name, value)| builder.header(name, value))
        }
    })
}

fn tls(roots: Roots, own: Own, skips_host_name: bool) -> Result<Option<Tls>, Failure> {
    if let (Roots::System, Own::None, false) = (&roots, &own, skips_host_name) {
        return Ok(None);
    }
    let mut tls = match roots {
        Roots::System => Tls::system_roots(),
        Roots::File(path, None) => Tls::roots_from_file(path),
        Roots::File(path, Some(password)) => Tls::roots_from_file(path).roots_password(secret(&password)?),
        Roots::Pem(pem) => Tls::roots_from_pem(pem),
    };
    tls = match own {
        Own::None => tls,
        Own::Store { path, password, key_password } => {
            let password = password.as_ref().map(secret).transpose()?;
            with_key_password(tls.client_store(path, password), key_password.as_ref())?
        }
        Own::Files { chain, key, key_password } => {
            with_key_password(tls.client_certificate_files(chain, key), key_password.as_ref())?
        }
    };
    if skips_host_name {
        tls = tls.danger_without_host_name_check();
    }
    // Its files are read here, so that an error names them before anything is asked.
    tls.check()?;
    Ok(Some(tls))
}

fn with_key_password(tls: Tls, password: Option<&Text>) -> Result<Tls, Failure> {
    Ok(match password {
        Some(password) => tls.key_password(secret(password)?),
        None => tls,
    })
}

/// The secret that a text is, or whose place it names. What options say must be a place.
fn secret(text: &Text) -> Result<Secret, Failure> {
    if text.is_option {
        return from_source(&text.name, &text.value, "");
    }
    read_secret(text.value.trim()).map_err(|error| Failure::from(error).at(&text.name))
}

/// How to reach a schema registry: the options of commands that talk to no cluster.
#[derive(Clone, Debug, Args)]
pub(crate) struct Registry {
    #[command(flatten)]
    options: RegistryOptions,

    #[command(flatten)]
    settings: Settings,

    /// Give up when the registry has not answered within SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = HEADING)]
    timeout: Duration,

    /// Delete from the registry of the protected profile NAME without asking. Without a terminal to ask on, it is needed
    #[arg(long, value_name = "NAME", help_heading = HEADING)]
    yes_i_mean: Option<String>,
}

impl Registry {
    /// A client of the registry. Nothing is asked yet.
    pub(crate) fn client(&self) -> Result<SchemaRegistry, Failure> {
        Ok(self.builder()?.build()?)
    }

    /// As [`client`](Self::client), for further settings.
    pub(crate) fn builder(&self) -> Result<SchemaRegistryBuilder, Failure> {
        let builder = self.options.builder(&self.resolve()?)?.ok_or_else(unnamed)?;
        // Somebody waits: one more round after a short wait is enough.
        let wait = Duration::from_millis(200);
        Ok(builder.timeout(self.timeout).request_timeout(self.timeout).retries(1).retry_wait(wait, wait))
    }

    /// All settings of the command.
    pub(crate) fn resolve(&self) -> Result<Resolved, Failure> {
        self.settings.resolve_registry(self.options.is_named()?)
    }

    /// The registry's addresses, as they are written, separated by commas. Empty if nothing names one.
    pub(crate) fn urls(&self, resolved: &Resolved) -> Result<String, Failure> {
        let variable = config::variable(VARIABLE)?;
        let plan = Plan::of(&self.options, resolved, variable.as_deref()).map_err(Failure::usage)?;
        Ok(plan.map(|plan| plan.urls.join(",")).unwrap_or_default())
    }

    /// The profile that the user means, if the command line says so.
    pub(crate) fn meant(&self) -> Option<&str> {
        self.yes_i_mean.as_deref()
    }
}

impl From<RegistryError> for Failure {
    /// The message of the registry's client, with the exit code for its cause.
    fn from(error: RegistryError) -> Self {
        let exit = match error.kind() {
            RegistryErrorKind::NotFound => Exit::NotFound,
            RegistryErrorKind::Incompatible => Exit::CheckFailed,
            RegistryErrorKind::Invalid | RegistryErrorKind::Configuration => Exit::Usage,
            RegistryErrorKind::Unauthorized => Exit::Auth,
            RegistryErrorKind::Unavailable => Exit::Unreachable,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}
