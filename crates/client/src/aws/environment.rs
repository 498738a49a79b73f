//! The environment variables that AWS's own clients read.

use std::collections::BTreeMap;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// The variables, as they were at one time. Some of them are secrets.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<&'static str, Zeroizing<String>>);

const NAMES: [&str; 25] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_CONFIG_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
    "AWS_CA_BUNDLE",
    "HOME",
    "USERPROFILE",
    "AWS_DEFAULT_PROFILE",
];

impl Environment {
    /// That of this process.
    pub(super) fn of_process() -> Self {
        let read = |name| Some((name, Zeroizing::new(std::env::var(name).ok()?)));
        Self(NAMES.into_iter().filter_map(read).collect())
    }

    #[cfg(test)]
    pub(super) fn of(variables: &[(&'static str, &str)]) -> Self {
        assert!(variables.iter().all(|(name, _)| NAMES.contains(name)), "a variable that is not read");
        Self(variables.iter().map(|(name, value)| (*name, Zeroizing::new((*value).to_owned()))).collect())
    }

    /// A variable that is set to something.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(NAMES.contains(&name), "{name} is read from the process");
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub(super) fn region(&self) -> Option<&str> {
        self.get("AWS_REGION").or_else(|| self.get("AWS_DEFAULT_REGION"))
    }

    /// The profile that is asked for by name.
    pub(super) fn profile(&self) -> Option<&str> {
        self.get("AWS_PROFILE").or_else(|| self.get("AWS_DEFAULT_PROFILE"))
    }

    /// The file of profiles that `variable` names, or the usual one in the user's directory.
    pub(super) fn file(&self, variable: &str, usual: &str) -> Option<PathBuf> {
        let home = || self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from);
        match self.get(variable) {
            Some(path) => match path.strip_prefix("~/") {
                Some(rest) => Some(home()?.join(rest)),
                None => Some(PathBuf::from(path)),
            },
            None => Some(home()?.join(".aws").join(usual)),
        }
    }
}
