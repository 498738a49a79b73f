//! Delegation tokens (KIP-48): short-lived stand-ins for a user's own credentials.
//!
//! ```text
//!  create ─▶ id and HMAC of the id under the cluster's key ─▶ SCRAM with the id as user and the HMAC as password
//!            └ ends at its expiry; renew and expire move that, up to its longest life
//! ```
//!
//! The HMAC is the token's secret. It is made again from the key at each start, so the file does not have it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use milena_messages::ErrorCode;

use crate::error::Error;
use crate::hash::Hash;
use crate::kept::{Kept, Words};
use crate::sasl::{Credential, ITERATIONS_MIN};
use crate::secret::Secret;

/// The tokens of a cluster.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// `None` when there are no tokens (`delegation.token.secret.key`).
    key: Option<Secret>,
    lifetimes: Lifetimes,
    by_id: BTreeMap<String, Token>,
    kept: Kept,
}

/// How long tokens live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetimes {
    /// Nobody can renew a token that is older (`delegation.token.max.lifetime.ms`).
    pub(crate) longest: Duration,
    /// Until when it must be renewed (`delegation.token.expiry.time.ms`).
    pub(crate) unless_renewed: Duration,
    /// How often tokens are removed whose time is over (`delegation.token.expiry.check.interval.ms`).
    pub(crate) check_interval: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        let days = |days: u64| Duration::from_secs(days * 24 * 3600);
        Self { longest: days(7), unless_renewed: days(1), check_interval: Duration::from_secs(3600) }
    }
}

/// One token.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) facts: Facts,
    pub(crate) hmac: Secret,
    /// What SCRAM needs of the HMAC, by hash. Each is made at the first login.
    credentials: BTreeMap<Hash, Credential>,
}

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) id: String,
    /// The user that a client with the token is.
    pub(crate) owner: Principal,
    /// Who has asked for it.
    pub(crate) requester: Principal,
    /// Who may renew it, beside its owner.
    pub(crate) renewers: Vec<Principal>,
    /// Times in milliseconds since 1970.
    pub(crate) issued_ms: i64,
    pub(crate) expires_ms: i64,
    pub(crate) max_ms: i64,
}

/// A user, by its type and its name (`KafkaPrincipal`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Principal {
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// The type of principals that tokens may name as renewers.
pub(crate) const USER: &str = "User";

/// The first line of the file.
pub(crate) const HEADER: &str = "milena-tokens 1";

/// The most tokens of a cluster. Kafka has no limit.
const TOKENS_MAX: usize = 10_000;

/// The most renewers of a token, and the longest name of a principal. Kafka has no limit.
pub(crate) const RENEWERS_MAX: usize = 100;
pub(crate) const NAME_BYTES_MAX: usize = 1024;

impl Principal {
    pub(crate) fn new(kind: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned() }
    }

    /// The principal in a text such as `User:alice`.
    pub(crate) fn parse(text: &str) -> Self {
        let (kind, name) = text.split_once(':').unwrap_or((USER, text));
        Self::new(kind, name)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

impl Facts {
    /// Whether its time is over.
    fn has_ended(&self, now_ms: i64) -> bool {
        self.expires_ms < now_ms || self.max_ms < now_ms
    }

    /// Whether this principal may renew the token, end it and see it.
    pub(crate) fn is_of(&self, principal: &Principal) -> bool {
        self.owner == *principal || self.renewers.contains(principal)
    }
}

impl Tokens {
    /// The tokens that were kept. Without a key there are none, and the file stays as it is.
    pub(crate) fn open(key: Option<Secret>, lifetimes: Lifetimes, kept: Kept) -> Result<Self, Error> {
        let mut tokens = Self { key, lifetimes, by_id: BTreeMap::new(), kept };
        if let Some(key) = &tokens.key {
            for words in tokens.kept.load()? {
                let facts = read(&words).ok_or_else(|| tokens.kept.damaged("a token is not understood"))?;
                tokens.by_id.insert(facts.id.clone(), Token::new(key, facts));
            }
        }
        Ok(tokens)
    }

    /// Whether there are tokens at all.
    pub(crate) fn is_enabled(&self) -> bool {
        self.key.is_some()
    }

    pub(crate) fn check_interval(&self) -> Duration {
        self.lifetimes.check_interval
    }

    /// Issues a token. `lifetime_ms` is the longest life that is asked for, if it is positive.
    pub(crate) fn create(
        &mut self,
        id: String,
        [owner, requester]: [Principal; 2],
        renewers: Vec<Principal>,
        lifetime_ms: i64,
        now_ms: i64,
    ) -> Result<Token, ErrorCode> {
        let Some(key) = self.key.clone() else { return Err(ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED) };
        if self.by_id.len() >= TOKENS_MAX {
            self.remove_ended(now_ms);
        }
        if self.by_id.len() >= TOKENS_MAX {
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        let longest = millis(self.lifetimes.longest);
        let longest = if lifetime_ms > 0 { longest.min(lifetime_ms) } else { longest };
        let max_ms = now_ms.saturating_add(longest);
        let expires_ms = max_ms.min(now_ms.saturating_add(millis(self.lifetimes.unless_renewed)));
        let facts = Facts { id, owner, requester, renewers, issued_ms: now_ms, expires_ms, max_ms };
        let token = Token::new(&key, facts);
        self.change(|by_id| drop(by_id.insert(token.facts.id.clone(), token.clone())))?;
        Ok(token)
    }

    /// Moves the expiry of the token with this HMAC. `period_ms` is how long it is to last, if that is positive. Returns the
    /// new expiry.
    pub(crate) fn renew(
        &mut self,
        hmac: &[u8],
        who: &Principal,
        period_ms: i64,
        now_ms: i64,
    ) -> Result<i64, ErrorCode> {
        let facts = self.find(hmac)?.facts.clone();
        if facts.has_ended(now_ms) {
            return Err(ErrorCode::DELEGATION_TOKEN_EXPIRED);
        }
        if !facts.is_of(who) {
            return Err(ErrorCode::DELEGATION_TOKEN_OWNER_MISMATCH);
        }
        let usual = millis(self.lifetimes.unless_renewed);
        let period = if period_ms > 0 { usual.min(period_ms) } else { usual };
        self.set_expiry(&facts.id, facts.max_ms.min(now_ms.saturating_add(period)))
    }

    /// Ends the token with this HMAC after `period_ms`, or at once if that is negative. Returns the new expiry.
    pub(crate) fn expire(
        &mut self,
        hmac: &[u8],
        who: &Principal,
        period_ms: i64,
        now_ms: i64,
    ) -> Result<i64, ErrorCode> {
        let facts = self.find(hmac)?.facts.clone();
        if !facts.is_of(who) {
            return Err(ErrorCode::DELEGATION_TOKEN_OWNER_MISMATCH);
        }
        if period_ms < 0 {
            self.change(|by_id| drop(by_id.remove(&facts.id)))?;
            return Ok(now_ms);
        }
        if facts.has_ended(now_ms) {
            return Err(ErrorCode::DELEGATION_TOKEN_EXPIRED);
        }
        self.set_expiry(&facts.id, facts.max_ms.min(now_ms.saturating_add(period_ms)))
    }

    /// All tokens in the order of their ids, with those whose time is over and that are not removed yet, as in Kafka.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Token> {
        self.by_id.values()
    }

    /// Removes the tokens whose time is over.
    pub(crate) fn remove_ended(&mut self, now_ms: i64) {
        if self.by_id.values().any(|token| token.facts.has_ended(now_ms)) {
            // When they cannot be removed from the file they are removed at the next check.
            let _ = self.change(|by_id| by_id.retain(|_, token| !token.facts.has_ended(now_ms)));
        }
    }

    /// The owner, the expiry and SCRAM's credential of the token with this id, if its time is not over.
    pub(crate) fn login(&mut self, hash: Hash, id: &str, now_ms: i64) -> Option<(String, i64, Credential)> {
        let key = self.key.as_ref()?;
        let token = self.by_id.get_mut(id).filter(|token| !token.facts.has_ended(now_ms))?;
        let credential = token.credentials.entry(hash).or_insert_with(|| {
            let mut salt = hash.hmac(key.bytes(), &[b"salt", id.as_bytes()]);
            salt.truncate(SALT_BYTES);
            let password = Secret::from(STANDARD.encode(token.hmac.bytes()).into_bytes());
            Credential::of_password(hash, password.bytes(), salt, ITERATIONS_MIN)
        });
        Some((token.facts.owner.name.clone(), token.facts.expires_ms, credential.clone()))
    }

    fn find(&self, hmac: &[u8]) -> Result<&Token, ErrorCode> {
        if !self.is_enabled() {
            return Err(ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED);
        }
        // All are compared, and none in less time than another: the time does not tell how much of a guess is right.
        let mut found = None;
        for token in self.by_id.values() {
            if token.hmac.is_equal(hmac) {
                found = Some(token);
            }
        }
        found.ok_or(ErrorCode::DELEGATION_TOKEN_NOT_FOUND)
    }

    fn set_expiry(&mut self, id: &str, expires_ms: i64) -> Result<i64, ErrorCode> {
        self.change(|by_id| {
            if let Some(token) = by_id.get_mut(id) {
                token.facts.expires_ms = expires_ms;
            }
        })?;
        Ok(expires_ms)
    }

    /// Changes the tokens and keeps them, or changes nothing.
    fn change(&mut self, change: impl FnOnce(&mut BTreeMap<String, Token>)) -> Result<(), ErrorCode> {
        let before = self.by_id.clone();
        change(&mut self.by_id);
        self.kept.save(self.by_id.values().map(|token| write(&token.facts))).map_err(|error| {
            tracing::error!(%error, "cannot keep the delegation tokens");
            self.by_id = before;
            ErrorCode::KAFKA_STORAGE_ERROR
        })
    }
}

/// The bytes of a salt, as many as those of users have.
const SALT_BYTES: usize = 24;

impl Token {
    fn new(key: &Secret, facts: Facts) -> Self {
        let hmac = Hash::Sha512.hmac(key.bytes(), &[facts.id.as_bytes()]).into();
        Self { facts, hmac, credentials: BTreeMap::new() }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A token as a line of the file.
fn write(facts: &Facts) -> Words {
    let Facts { id, owner, requester, renewers, issued_ms, expires_ms, max_ms } = facts;
    let mut words = vec![id.clone()];
    words.extend([issued_ms, expires_ms, max_ms].map(ToString::to_string));
    for Principal { kind, name } in [owner, requester].into_iter().chain(renewers) {
        words.extend([kind.clone(), name.clone()]);
    }
    words
}

fn read(words: &[String]) -> Option<Facts> {
    let [id, issued_ms, expires_ms, max_ms, principals @ ..] = words else { return None };
    let (pairs, []) = principals.as_chunks::<2>() else { return None };
    let mut principals = pairs.iter().map(|[kind, name]| Principal::new(kind, name));
    Some(Facts {
        id: id.clone(),
        owner: principals.next()?,
        requester: principals.next()?,
        renewers: principals.collect(),
        issued_ms: issued_ms.parse().ok()?,
        expires_ms: expires_ms.parse().ok()?,
        max_ms: max_ms.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_line_and_back() {
        let user = |name| Principal::new(USER, name);
        let mut facts = Facts {
            id: "x y".to_owned(),
            owner: user("alice"),
            requester: user("a:b"),
            renewers: Vec::new(),
            issued_ms: 1,
            expires_ms: 2,
            max_ms: i64::MAX,
        };
        assert_eq!(read(&write(&facts)), Some(facts.clone()));
        facts.renewers = vec![user(""), Principal::new("Group", "g")];
        let words = write(&facts);
        assert_eq!(read(&words), Some(facts));
        for end in 0..words.len() {
            assert_eq!(read(&words[..end]).is_some(), [8, 10].contains(&end), "{end} words");
        }
    }
}
