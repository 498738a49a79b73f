//! What the fuzz target `aws` calls: the readers of what comes from outside, without I/O. It is in builds of tests and of cargo-fuzz
//! only.
#![allow(missing_docs, unreachable_pub, reason = "the library that users see does not have it")]

pub use super::Credentials;
use super::profile::{Kind, Profile};
use super::{answer, chain};

/// A container's or an instance's answer, which came at `now`.
pub fn json(body: &[u8], now: i64) -> Result<Credentials, String> {
    answer::json(body, now)
}

/// The token service's answer.
pub fn xml(body: &[u8], now: i64) -> Result<Credentials, String> {
    answer::xml(body, now)
}

/// The reasons in refusals of either kind.
pub fn reasons(body: &[u8]) -> Vec<String> {
    let told = answer::xml_reason(body).into_iter().flat_map(|(code, reason)| [code, reason]);
    told.chain(answer::json_reason(body)).collect()
}

/// The role that an instance's answer names.
pub fn role(body: &[u8]) -> Option<&str> {
    answer::role(body)
}

/// The keys of a profile in these files. None if it is not there, or has a web identity.
pub fn profile(credentials: &str, config: &str, name: &str) -> Option<Result<Credentials, String>> {
    let mut profile = Profile::default();
    let is_there =
        [profile.add(credentials, name, Kind::Credentials), profile.add(config, name, Kind::Config)];
    match chain::in_profile(&profile, name) {
        Ok(chain::Found::Keys(keys)) => Some(Ok(keys)),
        Ok(chain::Found::Identity(_)) => None,
        Err(why) => is_there.contains(&true).then_some(Err(why)),
    }
}

/// What is secret in the keys.
pub fn secrets(keys: &Credentials) -> Vec<Vec<u8>> {
    let secrets = [Some(&keys.secret), keys.session_token.as_ref()];
    secrets.into_iter().flatten().map(|secret| secret.expose().to_vec()).collect()
}

/// The request that the keys sign at `now`, as a token, or why there is none.
pub fn signed(keys: Credentials, region: &str, now: i64) -> Result<Vec<u8>, String> {
    let keys = keys.into_keys(milena_core::Instant::ORIGIN).map_err(|error| error.to_string())?;
    Ok(keys.token(region, now).expose().to_vec())
}
