//! The places where AWS's own clients look for credentials, in their order.

use std::sync::Arc;

use milena_core::{Obstacle, Secret};

use super::environment::Environment;
use super::profile::{self, Kind, Profile};
use super::remote::{self, WebIdentity};
use super::{Credentials, ProvideCredentials};
use crate::ConnectError;
use crate::sasl::Providing;

/// AWS credentials from where AWS's own clients find them. The first of these places that has any, or is configured to, counts:
///
/// 1. the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`;
/// 2. a web identity, as in EKS: `AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`. The token service of the region gives credentials
///    for it;
/// 3. a profile in `~/.aws/credentials` and `~/.aws/config` (`AWS_PROFILE`, `AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE`), with
///    keys, or with a role and the file of a web identity. Profiles that assume a role from other credentials, log in by SSO or run a
///    program are refused with an error that says so;
/// 4. a container's service, as in ECS and with EKS Pod Identity: `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` or
///    `AWS_CONTAINER_CREDENTIALS_FULL_URI`, with `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE` or `AWS_CONTAINER_AUTHORIZATION_TOKEN`;
/// 5. the metadata service of an EC2 instance, version 2 (`AWS_EC2_METADATA_SERVICE_ENDPOINT`, `AWS_EC2_METADATA_DISABLED`).
///
/// The variables and files are read anew each time, so that files which change are noticed. The region of brokers whose host name
/// has none is that of `AWS_REGION`, `AWS_DEFAULT_REGION` or the profile.
///
/// ```
/// use milena::{Sasl, aws};
///
/// let sasl = Sasl::aws_msk_iam(aws::Chain::profile("staging").with_region("eu-west-1"));
/// assert_eq!(sasl.mechanism(), "AWS_MSK_IAM");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Chain {
    profile: Option<Arc<str>>,
    region: Option<Arc<str>>,
}

impl Chain {
    /// The profile of this name and no other place. In Java: `awsProfileName` in `sasl.jaas.config`.
    pub fn profile(name: impl Into<Arc<str>>) -> Self {
        Self { profile: Some(name.into()), region: None }
    }

    /// The same for brokers in this region. Default: the one in a broker's host name, then `AWS_REGION`, `AWS_DEFAULT_REGION` and
    /// the profile's.
    #[must_use]
    pub fn with_region(self, region: impl Into<Arc<str>>) -> Self {
        Self { region: Some(region.into()), ..self }
    }

    /// The credentials that there are with these variables.
    pub(super) async fn found(self, environment: Environment) -> Result<Credentials, ConnectError> {
        let (profile, is_named) = match self.profile.as_deref().or_else(|| environment.profile()) {
            Some(name) => (name.to_owned(), true),
            None => ("default".to_owned(), false),
        };
        let configuration = |why: String| ConnectError::new(Obstacle::Configuration, why);
        // Files that cannot be read do not matter if the credentials are elsewhere.
        let read = read(&environment, &profile);
        let of_files = || read.as_ref().ok().and_then(|(settings, _)| settings.get("region"));
        let region = environment.region().or_else(of_files).map(str::to_owned);
        let only = self.profile.is_some();
        let found = if let Some(keys) = keys_of_environment(&environment).filter(|_| !only) {
            keys.map_err(configuration)
        } else if let Some(identity) = WebIdentity::of_environment(&environment).filter(|_| !only) {
            let identity = identity.map_err(configuration)?;
            remote::web_identity(&environment, &identity, region.as_deref()).await
        } else if let Some(found) =
            of_profile(read, &profile, is_named, only, &environment).map_err(configuration)?
        {
            match found {
                Found::Keys(keys) => Ok(keys),
                Found::Identity(identity) => {
                    remote::web_identity(&environment, &identity, region.as_deref()).await
                }
            }
        } else if let Some(container) = remote::Container::of_environment(&environment) {
            remote::container(&container.map_err(configuration)?).await
        } else if environment.is_true("AWS_EC2_METADATA_DISABLED") {
            let why = "AWS_EC2_METADATA_DISABLED says not to ask an instance's metadata service";
            Err(configuration(nowhere(&environment, &profile, why)))
        } else {
            let outcome = remote::instance(&environment).await;
            outcome.map_err(|error| match error.obstacle() {
                // Elsewhere than on EC2 nothing answers, and that is no reason to go on trying.
                Obstacle::Network | Obstacle::Name => {
                    let why = format!("no instance's metadata service answers ({error})");
                    configuration(nowhere(&environment, &profile, &why))
                }
                _ => error,
            })
        };
        let mut credentials = found?;
        credentials.region = self.region;
        credentials.region_default = region.map(Arc::from);
        Ok(credentials)
    }
}

impl ProvideCredentials for Chain {
    fn credentials(&self) -> Providing<Credentials> {
        let chain = self.clone();
        Box::pin(async move { chain.found(Environment::of_process()).await })
    }
}

/// What a profile says.
pub(super) enum Found {
    Keys(Credentials),
    Identity(WebIdentity),
}

fn keys_of_environment(environment: &Environment) -> Option<Result<Credentials, String>> {
    let [key, secret] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].map(|name| environment.get(name));
    match (key, secret) {
        (None, None) => None,
        (Some(key), Some(secret)) => {
            let mut keys = Credentials::new(key, secret);
            keys.session_token = environment.get("AWS_SESSION_TOKEN").map(Secret::from);
            Some(Ok(keys))
        }
        (Some(_), None) => Some(Err("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not".into())),
        (None, Some(_)) => Some(Err("AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not".into())),
    }
}

/// The profile's settings from both files, and whether there is such a profile.
fn read(environment: &Environment, name: &str) -> Result<(Profile, bool), String> {
    let (mut settings, mut is_there) = (Profile::default(), false);
    for (variable, usual, kind) in [
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", Kind::Credentials),
        ("AWS_CONFIG_FILE", "config", Kind::Config),
    ] {
        let Some(path) = environment.file(variable, usual) else { continue };
        if let Some(text) = profile::read(&path)? {
            is_there |= settings.add(&text, name, kind);
        }
    }
    Ok((settings, is_there))
}

/// Settings of a profile that say where its credentials come from and that are not read here, and what each of them asks for.
const NOT_READ: [(&str, &str); 5] = [
    ("source_profile", "assumes a role with the credentials of another profile"),
    ("credential_source", "assumes a role with credentials from elsewhere"),
    ("sso_session", "logs in by SSO"),
    ("sso_start_url", "logs in by SSO"),
    ("credential_process", "runs a program"),
];

fn has_credentials(settings: &Profile) -> bool {
    let names = ["aws_access_key_id", "aws_secret_access_key", "role_arn"].into_iter();
    names.chain(NOT_READ.iter().map(|(name, _)| *name)).any(|name| settings.get(name).is_some())
}

/// The credentials of the profile `name`. None if it has none and another place may have some.
fn of_profile(
    read: Result<(Profile, bool), String>,
    name: &str,
    is_named: bool,
    only: bool,
    environment: &Environment,
) -> Result<Option<Found>, String> {
    let (settings, is_there) = read?;
    if is_there && has_credentials(&settings) {
        return in_profile(&settings, name).map(Some);
    }
    if is_named && !is_there {
        return Err(format!("there is no AWS profile {name:?} in {}", files(environment)));
    }
    if only {
        return Err(format!("the AWS profile {name:?} has no aws_access_key_id and aws_secret_access_key"));
    }
    Ok(None)
}

pub(super) fn in_profile(settings: &Profile, name: &str) -> Result<Found, String> {
    let given = |setting: &str| settings.get(setting);
    // A role goes before keys, as in AWS's own clients.
    if let (Some(role), Some(file)) = (given("role_arn"), given("web_identity_token_file")) {
        let session = given("role_session_name").map(str::to_owned);
        return Ok(Found::Identity(WebIdentity { role: role.into(), token_file: file.into(), session }));
    }
    let not_read = NOT_READ.iter().find(|(setting, _)| given(setting).is_some());
    if let Some((setting, what)) = not_read {
        return Err(format!(
            "the AWS profile {name:?} {what} ({setting}), which this client does not; give it keys, for example those of \
             `aws configure export-credentials --profile {name} --format env`"
        ));
    }
    if given("role_arn").is_some() {
        return Err(format!(
            "the AWS profile {name:?} has a role_arn, and no web_identity_token_file to get it with"
        ));
    }
    match (given("aws_access_key_id"), given("aws_secret_access_key")) {
        (Some(key), Some(secret)) => {
            let mut keys = Credentials::new(key, secret);
            keys.session_token = given("aws_session_token").map(Secret::from);
            Ok(Found::Keys(keys))
        }
        (None, _) => Err(format!("the AWS profile {name:?} has no aws_access_key_id")),
        (_, None) => Err(format!("the AWS profile {name:?} has no aws_secret_access_key")),
    }
}

/// The files of profiles, for errors.
fn files(environment: &Environment) -> String {
    let credentials = environment.file("AWS_SHARED_CREDENTIALS_FILE", "credentials");
    let paths = [credentials, environment.file("AWS_CONFIG_FILE", "config")].into_iter().flatten();
    let paths: Vec<_> = paths.map(|path| path.display().to_string()).collect();
    if paths.is_empty() { "any file, because HOME is not set".into() } else { paths.join(" and ") }
}

/// Where was looked in vain.
fn nowhere(environment: &Environment, profile: &str, last: &str) -> String {
    format!(
        "there are no AWS credentials: AWS_ACCESS_KEY_ID is not set; AWS_WEB_IDENTITY_TOKEN_FILE is not set; the profile {profile:?} \
         has none in {}; no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI is set; {last}",
        files(environment)
    )
}
