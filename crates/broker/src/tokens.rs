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

/// The most tokens of a cluster, and those of one owner, so that no user takes the room of all others. Kafka has no limit.
const TOKENS_MAX: usize = 10_000;
const TOKENS_OF_OWNER_MAX: usize = 100;

/// The most renewers of a token, the longest name of one, and the longest name of another principal. Kafka has no limit. All
/// tokens together have 60 MB of names at most, and those of one owner less than a megabyte.
pub(crate) const RENEWERS_MAX: usize = 16;
pub(crate) const RENEWER_BYTES_MAX: usize = 256;
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
        if !self.has_room(&owner) {
            self.remove_ended(now_ms);
        }
        if !self.has_room(&owner) {
            tracing::warn!(%owner, "there are too many delegation tokens, in all or of this owner");
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        let longest = millis(self.lifetimes.longest);
        let longest = if lifetime_ms > 0 { longest.min(lifetime_ms) } else { longest };
        let max_ms = now_ms.saturating_add(longest);
        let expires_ms = max_ms.min(now_ms.saturating_add(millis(self.lifetimes.unless_renewed)));
        let facts = Facts { id, owner, requester, renewers, issued_ms: now_ms, expires_ms, max_ms };
        let token = Token::new(&key, facts);
        self.set(&token.facts.id, Some(token.clone()))?;
        Ok(token)
    }

    /// Whether there is room for one more token of this owner.
    fn has_room(&self, owner: &Principal) -> bool {
        let of_owner = self.by_id.values().filter(|token| token.facts.owner == *owner).count();
        self.by_id.len() < TOKENS_MAX && of_owner < TOKENS_OF_OWNER_MAX
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
            self.set(&facts.id, None)?;
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
        let mut ended: BTreeMap<_, _> =
            self.by_id.extract_if(.., |_, token| token.facts.has_ended(now_ms)).collect();
        // When they cannot be removed from the file they are removed at the next check.
        if !ended.is_empty() && self.save().is_err() {
            self.by_id.append(&mut ended);
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
        let token = self.by_id.get(id).cloned();
        let moved = token.map(|token| Token { facts: Facts { expires_ms, ..token.facts }, ..token });
        self.set(id, moved)?;
        Ok(expires_ms)
    }

    /// Replaces one token, or removes it, and keeps that, or changes nothing.
    fn set(&mut self, id: &str, token: Option<Token>) -> Result<(), ErrorCode> {
        let before = self.put(id, token);
        self.save().inspect_err(|_| drop(self.put(id, before)))
    }

    fn put(&mut self, id: &str, token: Option<Token>) -> Option<Token> {
        match token {
            Some(token) => self.by_id.insert(id.to_owned(), token),
            None => self.by_id.remove(id),
        }
    }

    fn save(&self) -> Result<(), ErrorCode> {
        self.kept.save(self.by_id.values().map(|token| write(&token.facts))).map_err(|error| {
            tracing::error!(%error, "cannot keep the delegation tokens");
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
    fn a_change_that_cannot_be_kept_is_undone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("of tokens").join("milena.tokens");
        std::fs::create_dir(dir.path().join("of tokens")).expect("created");
        let key = Some(Secret::from(b"key".to_vec()));
        let mut tokens =
            Tokens::open(key, Lifetimes::default(), Kept::new(HEADER, Some(path))).expect("opens");
        let alice = Principal::new(USER, "alice");
        let create = |tokens: &mut Tokens, id: &str, now_ms| {
            tokens.create(id.to_owned(), [alice.clone(), alice.clone()], Vec::new(), -1, now_ms)
        };
        let hmac = create(&mut tokens, "one", 0).expect("kept").hmac;
        let all = |tokens: &Tokens| tokens.iter().map(|token| token.facts.clone()).collect::<Vec<_>>();
        let before = all(&tokens);
        std::fs::remove_dir_all(dir.path().join("of tokens")).expect("removed");
        let failed = ErrorCode::KAFKA_STORAGE_ERROR;
        assert_eq!(create(&mut tokens, "two", 0).err(), Some(failed));
        assert_eq!(tokens.renew(hmac.bytes(), &alice, -1, 1), Err(failed));
        assert_eq!(tokens.expire(hmac.bytes(), &alice, -1, 1), Err(failed));
        tokens.remove_ended(i64::MAX);
        assert_eq!(all(&tokens), before);
        std::fs::create_dir(dir.path().join("of tokens")).expect("created");
        tokens.remove_ended(i64::MAX);
        assert_eq!(all(&tokens), []);
    }

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
