//! SCRAM (RFC 5802, RFC 7677): client and server prove to each other that they know a password, and neither sends it.
//!
//! ```text
//!  n,,n=user,r=nonce ─▶ r=nonce+ours,s=salt,i=iterations ─▶ c=biws,r=nonce+ours,p=proof ─▶ v=signature
//! ```
//!
//! A client with a delegation token (KIP-48) says `tokenauth=true`, and the user is the token's id.
//!
//! An unknown user gets a salt like anyone else and fails at the proof: the answers do not tell which users exist.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::{Failure, OTHER_AUTHORIZATION_ID, SaslMechanism, Step};
use crate::hash::Hash;
use crate::now::Now;
use crate::secret::Secret;
use crate::users::Users;

/// The fewest iterations of PBKDF2, as in Kafka.
pub(crate) const ITERATIONS_MIN: u32 = 4096;

/// The most iterations, as in Kafka.
pub(crate) const ITERATIONS_MAX: u32 = 16_384;

/// What the broker keeps of a user's password for one mechanism.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    pub(crate) stored_key: Secret,
    pub(crate) server_key: Secret,
    /// Whether it stands for a user that does not exist.
    pub(crate) is_decoy: bool,
}

impl Credential {
    /// The credential of a password.
    pub(crate) fn of_password(hash: Hash, password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let salted = Secret::from(hash.pbkdf2(password, &salt, iterations));
        Self::of_salted(hash, &salted, salt, iterations)
    }

    /// The credential of a password after PBKDF2.
    pub(crate) fn of_salted(hash: Hash, salted: &Secret, salt: Vec<u8>, iterations: u32) -> Self {
        let client_key = Secret::from(hash.hmac(salted.bytes(), &[b"Client Key"]));
        let stored_key = hash.digest(&[client_key.bytes()]).into();
        let server_key = hash.hmac(salted.bytes(), &[b"Server Key"]).into();
        Self { salt, iterations, stored_key, server_key, is_decoy: false }
    }
}

/// The exchange, from the server's side.
#[derive(Debug, Clone)]
pub(super) struct Scram {
    mechanism: SaslMechanism,
    challenged: Option<Challenged>,
}

/// What was said when the client was asked for its proof.
#[derive(Debug, Clone)]
struct Challenged {
    user: String,
    gs2_header: String,
    nonce: String,
    /// The client's first message without the header and the server's first message, with commas.
    said: String,
    credential: Credential,
    delegated: Option<Delegated>,
}

/// What a delegation token stands for.
#[derive(Debug, Clone)]
struct Delegated {
    owner: String,
    expires_ms: i64,
}

impl Scram {
    pub(super) fn new(mechanism: SaslMechanism) -> Self {
        Self { mechanism, challenged: None }
    }

    /// Takes the client's next message.
    pub(super) fn step(&mut self, token: &[u8], users: &mut Users, now: Now) -> Result<Step, Failure> {
        let message = std::str::from_utf8(token).map_err(|_| Failure::Hidden("a message is not UTF-8"))?;
        let Some(hash) = self.mechanism.scram() else {
            return Err(Failure::Hidden("the mechanism is not SCRAM"));
        };
        match self.challenged.take() {
            None => self.challenge(message, hash, users, now),
            Some(challenged) => challenged.verify(message, hash),
        }
    }

    fn challenge(&mut self, message: &str, hash: Hash, users: &mut Users, now: Now) -> Result<Step, Failure> {
        let first =
            ClientFirst::parse(message).ok_or(Failure::Hidden("the first message has another form"))?;
        let user = user_name(first.user).ok_or(Failure::Hidden("the user's name has another form"))?;
        if first.authorization_id.is_some_and(|id| user_name(id).is_none_or(|id| id != user)) {
            return Err(OTHER_AUTHORIZATION_ID);
        }
        let (credential, delegated) = match first.is_token {
            false => (users.scram(hash, &user), None),
            // The user is the token's id. A token that does not exist is treated as a user that does not.
            true => match users.tokens.login(hash, &user, now.unix_ms) {
                Some((owner, expires_ms, credential)) => (credential, Some(Delegated { owner, expires_ms })),
                None => (users.decoy(hash, &user), None),
            },
        };
        let nonce = format!("{}{}", first.nonce, users.nonce());
        let salt = STANDARD.encode(&credential.salt);
        let answer = format!("r={nonce},s={salt},i={}", credential.iterations);
        let said = format!("{},{answer}", first.bare);
        let gs2_header = first.gs2_header.to_owned();
        self.challenged = Some(Challenged { user, gs2_header, nonce, said, credential, delegated });
        Ok(Step::Challenge(answer.into_bytes()))
    }
}

impl Challenged {
    fn verify(self, message: &str, hash: Hash) -> Result<Step, Failure> {
        let other_form = Failure::Hidden("the last message has another form");
        let Some((without_proof, proof)) = message.rsplit_once(",p=") else { return Err(other_form) };
        let mut parts = without_proof.split(',');
        let channel = parts.next().and_then(|part| part.strip_prefix("c="));
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let (Some(channel), Some(nonce), Ok(proof)) = (channel, nonce, STANDARD.decode(proof)) else {
            return Err(other_form);
        };
        if STANDARD.decode(channel).ok().as_deref() != Some(self.gs2_header.as_bytes()) {
            return Err(Failure::Hidden("the channel binding differs"));
        }
        if !bool::from(nonce.as_bytes().ct_eq(self.nonce.as_bytes())) {
            return Err(Failure::Hidden("the nonce in the last message is another one"));
        }
        let said = [self.said.as_bytes(), b",", without_proof.as_bytes()];
        let signature = hash.hmac(self.credential.stored_key.bytes(), &said);
        if proof.len() != signature.len() {
            return Err(other_form);
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(one, other)| one ^ other).collect();
        let client_key = Secret::from(client_key);
        let is_right = self.credential.stored_key.is_equal(&hash.digest(&[client_key.bytes()]));
        let signature = hash.hmac(self.credential.server_key.bytes(), &said);
        if !is_right || self.credential.is_decoy {
            return Err(Failure::Hidden("the user is unknown or the proof is wrong"));
        }
        let token = format!("v={}", STANDARD.encode(signature)).into_bytes();
        Ok(match self.delegated {
            None => Step::Done { user: self.user, token, expires_ms: None, by_token: false },
            Some(Delegated { owner, expires_ms }) => {
                Step::Done { user: owner, token, expires_ms: Some(expires_ms), by_token: true }
            }
        })
    }
}

/// The client's first message.
#[derive(Debug, PartialEq, Eq)]
struct ClientFirst<'a> {
    gs2_header: &'a str,
    authorization_id: Option<&'a str>,
    /// What follows the header.
    bare: &'a str,
    user: &'a str,
    nonce: &'a str,
    /// Whether the user is the id of a delegation token.
    is_token: bool,
}

impl<'a> ClientFirst<'a> {
    fn parse(message: &'a str) -> Option<Self> {
        // Channel binding is not supported, and Kafka does not take "y" for that either.
        let rest = message.strip_prefix("n,")?;
        let (id, bare) = rest.split_once(',')?;
        let authorization_id = match id {
            "" => None,
            id => Some(id.strip_prefix("a=")?),
        };
        let mut parts = bare.split(',');
        let user = parts.next()?.strip_prefix("n=")?;
        let nonce = parts.next()?.strip_prefix("r=")?;
        let is_printable = |byte: u8| (0x21..=0x7e).contains(&byte);
        if user.is_empty() || nonce.is_empty() || !nonce.bytes().all(is_printable) {
            return None;
        }
        let is_token = parts.any(|part| part.eq_ignore_ascii_case("tokenauth=true"));
        let gs2_header = &message[..message.len() - bare.len()];
        Some(Self { gs2_header, authorization_id, bare, user, nonce, is_token })
    }
}

/// The name in a `saslname`, where `=2C` is a comma and `=3D` is an equals sign.
fn user_name(encoded: &str) -> Option<String> {
    let mut name = String::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((before, after)) = rest.split_once('=') {
        name.push_str(before);
        let (code, tail) = after.split_at_checked(2)?;
        name.push(match code {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        rest = tail;
    }
    name.push_str(rest);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_messages_are_read_as_the_rfc_has_them() {
        let plain = ClientFirst::parse("n,,n=user,r=rOprNGfwEbeRWgbNEkqO").expect("RFC 7677");
        assert_eq!((plain.gs2_header, plain.bare), ("n,,", "n=user,r=rOprNGfwEbeRWgbNEkqO"));
        assert_eq!((plain.user, plain.nonce, plain.is_token), ("user", "rOprNGfwEbeRWgbNEkqO", false));
        let other = ClientFirst::parse("n,a=x,n=a=2Cb,r=1,tokenauth=true").expect("extensions");
        assert_eq!((other.authorization_id, other.gs2_header, other.is_token), (Some("x"), "n,a=x,", true));
        for wrong in [
            "",
            "n",
            "n,,",
            "y,,n=u,r=1",
            "p=tls,,n=u,r=1",
            "n,,n=,r=1",
            "n,,n=u,r=",
            "n,,r=1,n=u",
            "n,,m=x,n=u,r=1",
            "n,,n=u,r=\u{e9}",
        ] {
            assert_eq!(ClientFirst::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn names_are_unescaped() {
        assert_eq!(user_name("a=2Cb=3Dc").as_deref(), Some("a,b=c"));
        for wrong in ["a=", "a=2", "a=2c", "a=é"] {
            assert_eq!(user_name(wrong), None, "{wrong}");
        }
    }

    /// The example of RFC 7677.
    #[test]
    fn the_example_of_the_rfc_comes_out() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let credential = Credential::of_password(Hash::Sha256, b"pencil", salt, 4096);
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let said = format!("n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096");
        let challenged = Challenged {
            user: "user".to_owned(),
            gs2_header: "n,,".to_owned(),
            nonce: nonce.to_owned(),
            said,
            credential,
            delegated: None,
        };
        let last = |proof: &str| format!("c=biws,r={nonce},p={proof}");
        let wrong =
            challenged.clone().verify(&last("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR="), Hash::Sha256);
        assert!(matches!(wrong, Err(Failure::Hidden(_))), "{wrong:?}");
        let right = challenged.verify(&last("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="), Hash::Sha256);
        let Ok(Step::Done { user, token, .. }) = right else { panic!("{right:?}") };
        assert_eq!(user, "user");
        assert_eq!(token, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}
