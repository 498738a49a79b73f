//! The users that may log in, and what the broker keeps of their passwords.
//!
//! ```text
//!  PLAIN   a salted hash of the password          given at the start
//!  SCRAM   salt, iterations, stored and server key per mechanism, of the same password
//! ```

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use milena_wire::{Str, Uuid};

use crate::entropy::Entropy;
use crate::error::Error;
use crate::hash::Hash;
use crate::kept::{Kept, Words};
use crate::oauth::OauthValidator;
use crate::sasl::{Credential, ITERATIONS_MIN, SaslMechanism};
use crate::secret::Secret;
use crate::tokens::Tokens;

/// The users of a cluster.
#[derive(Debug)]
pub(crate) struct Users {
    /// The mechanisms that are enabled.
    mechanisms: Vec<SaslMechanism>,
    passwords: BTreeMap<String, Password>,
    scram: BTreeMap<String, BTreeMap<Hash, Held>>,
    entropy: Entropy,
    /// The rules for tokens, if there are any.
    oauth: Option<OauthValidator>,
    /// Delegation tokens, by which clients log in as their owners.
    pub(crate) tokens: Tokens,
    kept: Kept,
}

/// A credential, and whether a client made it. Those of clients are kept on disk.
#[derive(Debug, Clone)]
struct Held {
    credential: Credential,
    is_kept: bool,
}

/// A change of a user's credential for one hash.
#[derive(Debug)]
pub(crate) enum Change {
    Set(Credential),
    Remove,
}

/// A user and a password, given at the start.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: Secret,
}

/// A hash of a password with a salt, so that comparing takes as long for every password.
#[derive(Debug)]
struct Password {
    salt: Vec<u8>,
    hash: Secret,
}

/// The first line of the file.
pub(crate) const HEADER: &str = "milena-users 1";

/// The most users that can log in by SCRAM.
const USERS_MAX: usize = 10_000;

/// The bytes of a salt, as many as Kafka's tools make.
const SALT_BYTES: usize = 24;

impl Password {
    fn new(salt: Vec<u8>, password: &[u8]) -> Self {
        let hash = Hash::Sha256.digest(&[&salt, password]).into();
        Self { salt, hash }
    }

    fn is(&self, password: &[u8]) -> bool {
        self.hash.is_equal(&Hash::Sha256.digest(&[&self.salt, password]))
    }
}

impl Users {
    /// The users that were kept, and those given at the start, which go before them.
    pub(crate) fn open(
        mechanisms: Vec<SaslMechanism>,
        logins: &[Login],
        oauth: Option<OauthValidator>,
        tokens: Tokens,
        entropy: Entropy,
        kept: Kept,
    ) -> Result<Self, Error> {
        let (passwords, scram) = (BTreeMap::new(), BTreeMap::new());
        let mut users = Self { mechanisms, passwords, scram, entropy, oauth, tokens, kept };
        for words in users.kept.load()? {
            let read = read(&words).ok_or_else(|| users.kept.damaged("a user is not understood"))?;
            let (user, hash, credential) = read;
            users.hold(user, hash, credential, true);
        }
        for login in logins {
            users.add(login);
        }
        Ok(users)
    }

    fn hold(&mut self, user: String, hash: Hash, credential: Credential, is_kept: bool) {
        self.scram.entry(user).or_default().insert(hash, Held { credential, is_kept });
    }

    fn add(&mut self, login: &Login) {
        for mechanism in self.mechanisms.clone() {
            let (user, salt) = (login.user.clone(), self.salt());
            let password = login.password.bytes();
            match mechanism.scram() {
                Some(hash) => {
                    let credential = Credential::of_password(hash, password, salt, ITERATIONS_MIN);
                    self.hold(user, hash, credential, false);
                }
                None if mechanism == SaslMechanism::Plain => {
                    self.passwords.insert(user, Password::new(salt, password));
                }
                None => {}
            }
        }
    }

    /// The enabled mechanism of this name.
    pub(crate) fn mechanism(&self, name: &str) -> Option<SaslMechanism> {
        self.mechanisms.iter().copied().find(|mechanism| mechanism.name() == name)
    }

    /// The names of the mechanisms that are enabled.
    pub(crate) fn mechanisms(&self) -> Vec<Str> {
        self.mechanisms.iter().map(|mechanism| Str::from_static(mechanism.name())).collect()
    }

    /// The rules for tokens of OAUTHBEARER.
    pub(crate) fn oauth(&self) -> Option<&OauthValidator> {
        self.oauth.as_ref()
    }

    /// Gives tokens other rules.
    pub(crate) fn set_oauth(&mut self, validator: OauthValidator) {
        self.oauth = Some(validator);
    }

    /// Whether there is this user with this password. It takes as long for a user that does not exist.
    pub(crate) fn has_password(&self, user: &str, password: &[u8]) -> bool {
        match self.passwords.get(user) {
            Some(kept) => kept.is(password),
            None => {
                let nobody =
                    Password { salt: vec![0; SALT_BYTES], hash: vec![0; Hash::Sha256.bytes()].into() };
                // No password has this hash.
                nobody.is(password)
            }
        }
    }

    /// What proves that a client knows a user's password. A user that does not exist gets a decoy, which is the same each
    /// time.
    pub(crate) fn scram(&self, hash: Hash, user: &str) -> Credential {
        match self.scram.get(user).and_then(|of_user| of_user.get(&hash)) {
            Some(held) => held.credential.clone(),
            None => self.decoy(hash, user),
        }
    }

    /// A credential that no password fits, which is the same each time for a name.
    pub(crate) fn decoy(&self, hash: Hash, user: &str) -> Credential {
        let fixed = |what: &[u8]| self.entropy.fixed(&[what, &[hash.bytes() as u8], user.as_bytes()]);
        let key = |what| {
            let mut key = fixed(what);
            key.resize(hash.bytes(), 0);
            Secret::from(key)
        };
        let mut salt = fixed(b"salt");
        salt.truncate(SALT_BYTES);
        Credential {
            salt,
            iterations: ITERATIONS_MIN,
            stored_key: key(b"stored"),
            server_key: key(b"server"),
            is_decoy: true,
        }
    }

    /// The hashes for which a user has a credential, and their iterations; `None` if there is no such user.
    pub(crate) fn describe(&self, user: &str) -> Option<Vec<(Hash, u32)>> {
        let of_user = self.scram.get(user)?;
        Some(of_user.iter().map(|(&hash, held)| (hash, held.credential.iterations)).collect())
    }

    /// The names of the users that can log in by SCRAM.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.scram.keys().map(String::as_str)
    }

    /// Whether there is room for more users. One request may exceed it by as many as it has.
    pub(crate) fn has_room(&self) -> bool {
        self.scram.len() < USERS_MAX
    }

    /// Changes credentials and keeps them, all or none.
    pub(crate) fn alter(&mut self, changes: Vec<(String, Hash, Change)>) -> Result<(), Error> {
        let before = self.scram.clone();
        for (user, hash, change) in changes {
            match change {
                Change::Set(credential) => self.hold(user, hash, credential, true),
                Change::Remove => {
                    if let Some(of_user) = self.scram.get_mut(&user) {
                        of_user.remove(&hash);
                        if of_user.is_empty() {
                            self.scram.remove(&user);
                        }
                    }
                }
            }
        }
        let lines = self.scram.iter().flat_map(|(user, of_user)| {
            let kept = of_user.iter().filter(|(_, held)| held.is_kept);
            kept.map(move |(&hash, held)| write(user, hash, &held.credential))
        });
        self.kept.save(lines).inspect_err(|_| self.scram = before)
    }

    /// An id for a new delegation token.
    pub(crate) fn token_id(&mut self) -> String {
        let bytes = self.entropy.next();
        let id = bytes.first_chunk().copied().unwrap_or_default();
        Uuid::from_bytes(id).to_string()
    }

    /// The server's part of a nonce.
    pub(crate) fn nonce(&mut self) -> String {
        STANDARD_NO_PAD.encode(self.entropy.next())
    }

    fn salt(&mut self) -> Vec<u8> {
        let mut salt = self.entropy.next();
        salt.truncate(SALT_BYTES);
        salt
    }
}

/// A credential as a line of the file.
fn write(user: &str, hash: Hash, credential: &Credential) -> Words {
    let Credential { salt, iterations, stored_key, server_key, .. } = credential;
    let mut words =
        vec!["scram".to_owned(), hash.mechanism().to_string(), user.to_owned(), iterations.to_string()];
    words.extend(
        [salt.as_slice(), stored_key.bytes(), server_key.bytes()].map(|bytes| STANDARD.encode(bytes)),
    );
    words
}

fn read(words: &[String]) -> Option<(String, Hash, Credential)> {
    let [kind, mechanism, user, iterations, salt, stored_key, server_key] = words else { return None };
    let hash = Hash::of_mechanism(mechanism.parse().ok()?).filter(|_| kind == "scram")?;
    let bytes = |text: &str| STANDARD.decode(text).ok();
    let key = |text: &str| bytes(text).filter(|key| key.len() == hash.bytes());
    let credential = Credential {
        salt: bytes(salt)?,
        iterations: iterations.parse().ok()?,
        stored_key: key(stored_key)?.into(),
        server_key: key(server_key)?.into(),
        is_decoy: false,
    };
    Some((user.clone(), hash, credential))
}
