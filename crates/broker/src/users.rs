//! The users that may log in, and what the broker keeps of their passwords.
//!
//! ```text
//!  PLAIN   a salted hash of the password          given at the start
//!  SCRAM   salt, iterations, stored and server key per mechanism, of the same password
//! ```

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use milena_wire::Str;

use crate::entropy::Entropy;
use crate::hash::Hash;
use crate::sasl::{Credential, ITERATIONS_MIN, SaslMechanism};
use crate::secret::Secret;

/// The users of a cluster.
#[derive(Debug)]
pub(crate) struct Users {
    /// The mechanisms that are enabled.
    mechanisms: Vec<SaslMechanism>,
    passwords: BTreeMap<String, Password>,
    scram: BTreeMap<(Hash, String), Credential>,
    entropy: Entropy,
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
    pub(crate) fn new(mechanisms: Vec<SaslMechanism>, logins: &[Login], entropy: Entropy) -> Self {
        let mut users = Self { mechanisms, passwords: BTreeMap::new(), scram: BTreeMap::new(), entropy };
        for login in logins {
            users.add(login);
        }
        users
    }

    fn add(&mut self, login: &Login) {
        for mechanism in self.mechanisms.clone() {
            let (user, salt) = (login.user.clone(), self.salt());
            let password = login.password.bytes();
            match mechanism.scram() {
                Some(hash) => {
                    let credential = Credential::of_password(hash, password, salt, ITERATIONS_MIN);
                    self.scram.insert((hash, user), credential);
                }
                None => drop(self.passwords.insert(user, Password::new(salt, password))),
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
        if let Some(credential) = self.scram.get(&(hash, user.to_owned())) {
            return credential.clone();
        }
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
