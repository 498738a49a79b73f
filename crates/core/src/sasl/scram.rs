//! SCRAM (RFC 5802, RFC 7677): the client proves that it knows the password without sending it, and the broker that it knows
//! what was made of it.
//!
//! ```text
//!  n,,n=user,r=nonce ─▶            ◀─ r=nonce+theirs,s=salt,i=iterations
//!  c=biws,r=…,p=proof ─▶           ◀─ v=signature, or e=error
//! ```

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Nonce, Password, Refusal, Turn, Work, printable};
use crate::Secret;

/// The hash that SCRAM uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// The client's side of an exchange.
#[derive(Debug, Clone)]
pub(super) struct Scram {
    hash: Hash,
    /// Our nonce, as it is sent.
    nonce: String,
    step: Step,
}

#[derive(Clone)]
enum Step {
    /// The broker's salt is to come.
    Begun,
    /// The key is being derived. `signed` is what both sides sign, and `last` the client's last message without its proof.
    Deriving { signed: String, last: String },
    /// The broker's signature is to come, and must be this one.
    Proven { expected: Vec<u8> },
    /// The broker has shown that it knows the user's keys.
    Done,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Begun => "Begun",
            Self::Deriving { .. } => "Deriving",
            Self::Proven { .. } => "Proven",
            Self::Done => "Done",
        })
    }
}

/// A broker's message is a nonce, a salt and a number.
const MESSAGE_BYTES_MAX: usize = 4096;
/// RFC 7677's least. With fewer iterations who sees an exchange can try many passwords.
const ITERATIONS_MIN: u32 = 4096;
/// With more, a broker, or who poses as one, could keep a processor busy as long as it likes.
const ITERATIONS_MAX: u32 = 1_000_000;
/// `n,,` in base64: there is no channel binding.
const NO_BINDING: &str = "biws";

impl Scram {
    pub(super) fn new(hash: Hash, nonce: &Nonce) -> Self {
        Self { hash, nonce: BASE64.encode(nonce), step: Step::Begun }
    }

    /// The client's first message.
    pub(super) fn first(&self, of: &Password) -> Bytes {
        format!("n,,{}", self.first_bare(of)).into()
    }

    fn first_bare(&self, of: &Password) -> String {
        let user = of.user.replace('=', "=3D").replace(',', "=2C");
        // KIP-48: the broker looks the user up among its delegation tokens.
        let extension = if of.is_delegation_token { ",tokenauth=true" } else { "" };
        format!("n={user},r={}{extension}", self.nonce)
    }

    pub(super) fn handle(&mut self, of: &Password, message: &[u8]) -> Result<Turn, Refusal> {
        let garbled = |why: &str| Refusal::of_peer(format!("its SCRAM message {why}"));
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(garbled(&format!(
                "has {} bytes, and {MESSAGE_BYTES_MAX} is the most",
                message.len()
            )));
        }
        let text = std::str::from_utf8(message).map_err(|_| garbled("is not UTF-8"))?;
        if let Some(error) = text.strip_prefix("e=") {
            return Err(refused(of, error));
        }
        match &self.step {
            Step::Begun => self.handle_salt(of, text, garbled),
            Step::Proven { expected } => {
                let given = text.strip_prefix("v=").and_then(|given| given.split(',').next());
                let given = given.ok_or_else(|| garbled("has no signature"))?;
                let given =
                    BASE64.decode(given).map_err(|_| garbled("has a signature that is not base64"))?;
                if !bool::from(given.ct_eq(expected)) {
                    let why = "it does not know the user's keys: its signature is wrong, so it may be another server that \
                               poses as the broker";
                    return Err(Refusal::of_peer(why));
                }
                self.step = Step::Done;
                Ok(Turn::Done)
            }
            Step::Deriving { .. } | Step::Done => Err(garbled("is one more than the exchange has")),
        }
    }

    fn handle_salt(
        &mut self,
        of: &Password,
        text: &str,
        garbled: impl Fn(&str) -> Refusal,
    ) -> Result<Turn, Refusal> {
        if text.starts_with("m=") {
            return Err(Refusal::of_peer("it demands an extension of SCRAM that this client does not have"));
        }
        // Extensions may follow.
        let mut parts = text.split(',');
        let mut part = |prefix: &str| parts.next()?.strip_prefix(prefix);
        let (nonce, salt, iterations) = (part("r="), part("s="), part("i="));
        let nonce = nonce.ok_or_else(|| garbled("has no nonce"))?;
        // The whole of our nonce is compared: an answer to an earlier exchange must not pass.
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&*self.nonce) {
            return Err(Refusal::of_peer(
                "its nonce does not continue the client's: it may repeat an earlier exchange",
            ));
        }
        if !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(garbled("has a nonce of other characters than printable ASCII"));
        }
        let salt = salt.and_then(|salt| BASE64.decode(salt).ok()).filter(|salt| !salt.is_empty());
        let salt = salt.ok_or_else(|| garbled("has no salt in base64"))?;
        let iterations = iterations.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let iterations: u32 = match iterations.map(str::parse) {
            Some(Ok(iterations)) => iterations,
            // No digits, or more than a u32 has.
            Some(Err(_)) => return Err(garbled("has a number of iterations that is no number of 32 bits")),
            None => return Err(garbled("has no number of iterations")),
        };
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            let range = format!("this client accepts {ITERATIONS_MIN} to {ITERATIONS_MAX}");
            return Err(Refusal::of_peer(format!("it asks for {iterations} iterations, and {range}")));
        }
        let last = format!("c={NO_BINDING},r={nonce}");
        self.step = Step::Deriving { signed: format!("{},{text},{last}", self.first_bare(of)), last };
        let derivation = Derivation { hash: self.hash, password: of.password.clone(), salt, iterations };
        Ok(Turn::Work(Work::Derive(derivation)))
    }

    pub(super) fn handle_derived(&mut self, salted: &SaltedPassword) -> Option<Bytes> {
        let Step::Deriving { signed, last } = &self.step else { return None };
        let hash = self.hash;
        let client_key = Zeroizing::new(hash.mac(&salted.0, b"Client Key"));
        let stored_key = Zeroizing::new(hash.digest(&client_key));
        let signature = Zeroizing::new(hash.mac(&stored_key, signed.as_bytes()));
        let proof = client_key.iter().zip(signature.iter()).map(|(left, right)| left ^ right);
        let proof = BASE64.encode(proof.collect::<Vec<_>>());
        let server_key = Zeroizing::new(hash.mac(&salted.0, b"Server Key"));
        let message = format!("{last},p={proof}").into();
        self.step = Step::Proven { expected: hash.mac(&server_key, signed.as_bytes()) };
        Some(message)
    }
}

/// The errors of RFC 5802, in words.
fn refused(of: &Password, error: &str) -> Refusal {
    let error = error.split(',').next().unwrap_or_default();
    let why = match error {
        "invalid-proof" => "the password is wrong",
        "unknown-user" => "it does not know the user",
        "invalid-username-encoding" | "invalid-encoding" => "it cannot read the user name",
        "no-resources" => "it has no resources for it",
        "channel-binding-not-supported"
        | "channel-bindings-dont-match"
        | "server-does-support-channel-binding"
        | "unsupported-channel-binding-type" => "it wants a channel binding, which Kafka does not have",
        "extensions-not-supported" => "it does not know an extension of the client's",
        _ => "it gives no reason",
    };
    Refusal::of_credentials(format!(
        "the broker refused the credentials of user {:?}: {why} ({})",
        of.user,
        printable(&of.password.hide_in(error))
    ))
}

/// The costly part of an exchange: the password is salted and hashed many times (PBKDF2). It runs for milliseconds, or for a
/// second or two with the most iterations.
#[derive(Clone)]
pub struct Derivation {
    hash: Hash,
    password: Secret,
    salt: Vec<u8>,
    iterations: u32,
}

/// What [`Derivation::run`] makes of a password. Who has it can log in, so its memory is overwritten when it is dropped.
pub struct SaltedPassword(Zeroizing<Vec<u8>>);

impl Derivation {
    /// What an administrator sets as a user's password, with a salt that is another one each time (KIP-554).
    pub fn new(hash: Hash, password: Secret, salt: Vec<u8>, iterations: u32) -> Self {
        Self { hash, password, salt, iterations }
    }

    /// How many times the password is hashed.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// Does the work.
    pub fn run(self) -> SaltedPassword {
        let (password, iterations) = (self.password.expose(), self.iterations);
        let mut salted = Zeroizing::new(vec![0; self.hash.bytes()]);
        match self.hash {
            Hash::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, &self.salt, iterations, &mut salted),
            Hash::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, &self.salt, iterations, &mut salted),
        }
        SaltedPassword(salted)
    }
}

/// The bytes. Whoever calls this must neither print nor keep them.
impl AsRef<[u8]> for SaltedPassword {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derivation").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Debug for SaltedPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaltedPassword")
    }
}

impl Hash {
    /// The length of its digests.
    fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    /// HMAC (RFC 2104). A key may have any length.
    fn mac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(key).expect("any length of a key is good");
                mac.chain_update(data).finalize().into_bytes().to_vec()
            }
            Self::Sha512 => {
                let mac = Hmac::<Sha512>::new_from_slice(key).expect("any length of a key is good");
                mac.chain_update(data).finalize().into_bytes().to_vec()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Obstacle;

    fn password() -> Password {
        Password { scram: None, user: "user".into(), password: "pencil".into(), is_delegation_token: false }
    }

    /// An exchange whose nonce is this.
    fn begun(hash: Hash, nonce: &str) -> Scram {
        Scram { hash, nonce: nonce.into(), step: Step::Begun }
    }

    /// Runs an exchange with these messages of the broker, to its end.
    fn run(scram: &mut Scram, of: &Password, messages: &[&str]) -> Result<Vec<String>, Refusal> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).expect("text");
        let mut said = vec![text(scram.first(of))];
        for message in messages {
            match scram.handle(of, message.as_bytes())? {
                Turn::Work(Work::Derive(work)) => said.extend(scram.handle_derived(&work.run()).map(text)),
                Turn::Work(Work::Step(_)) => panic!("a key is derived"),
                Turn::Send(_) => panic!("everything but the first message needs the key"),
                Turn::Done => said.push("done".into()),
            }
        }
        Ok(said)
    }

    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SALTED: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const SIGNED: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    #[test]
    fn the_exchange_of_rfc_7677() {
        let said = run(&mut begun(Hash::Sha256, NONCE), &password(), &[SALTED, SIGNED]).expect("accepted");
        assert_eq!(
            said,
            [
                "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                 p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "done",
            ]
        );
    }

    #[test]
    fn an_exchange_with_sha_512_computed_by_python() {
        let salted = "r=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXtheirs,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let signed =
            "v=nnegGsqL0bxkznBX23f6anGWPBEZJg6ORKnDcSud/dawehY5nHU+OSNaQx5yKoALkRCkbKOETu9riBKhqbFaMQ==";
        let nonce: Nonce = std::array::from_fn(|index| index as u8);
        let said =
            run(&mut Scram::new(Hash::Sha512, &nonce), &password(), &[salted, signed]).expect("accepted");
        assert_eq!(
            said[1],
            "c=biws,r=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXtheirs,p=qJBJC03dLMrPWZaC3IN+vH9XOdzbju6cR7KdzGlhJombU30Dgk9xyk\
             LbksYp8P59YtyCBhJxoqYbwRsOAvVepQ=="
        );
    }

    #[test]
    fn a_user_name_is_escaped_and_a_delegation_token_is_named() {
        let of = Password { user: "a=b,c".into(), is_delegation_token: true, ..password() };
        let first = begun(Hash::Sha256, "n").first(&of);
        assert_eq!(first, "n,,n=a=3Db=2Cc,r=n,tokenauth=true".as_bytes());
    }

    #[test]
    fn a_broker_that_cannot_be_trusted_is_refused() {
        let check = |messages: &[&str], expected: &str| {
            let refusal = run(&mut begun(Hash::Sha256, NONCE), &password(), messages).expect_err("refused");
            assert_eq!(refusal.obstacle, Obstacle::Peer, "{refusal:?}");
            assert!(refusal.reason.contains(expected), "{}", refusal.reason);
            assert!(!refusal.reason.contains("pencil"));
        };
        let salted = |from: &str, to: &str| SALTED.replace(from, to);
        // Its nonce must begin with all of ours, and go on.
        check(&[&salted("r=rOpr", "r=rOpx")], "does not continue the client's");
        check(&[&salted("r=rOprNGfwEbeRWgbNEkqO%", "r=rOprNGfwEbeRWgbNEkq%")], "does not continue");
        check(&["r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096"], "does not continue the client's");
        check(&["r=,s=W22Z,i=4096"], "does not continue the client's");
        check(&[&salted("hvYD", "hv\u{7f}YD")], "other characters than printable ASCII");
        for (iterations, expected) in [
            ("4095", "asks for 4095 iterations, and this client accepts 4096 to 1000000"),
            ("1000001", "asks for 1000001 iterations"),
            ("4294967295", "asks for 4294967295 iterations"),
            ("4294967296", "no number of 32 bits"),
            ("-4096", "no number of iterations"),
            ("+4096", "no number of iterations"),
            ("", "no number of 32 bits"),
        ] {
            check(&[&salted("i=4096", &format!("i={iterations}"))], expected);
        }
        check(&[&salted("s=W22Z", "s=*")], "no salt in base64");
        check(&["r=rOprNGfwEbeRWgbNEkqO%x,s=,i=4096"], "no salt in base64");
        check(&[&format!("m=x,{SALTED}")], "demands an extension");
        check(&["hello"], "has no nonce");
        check(&[""], "has no nonce");
        check(&[&"x".repeat(5000)], "has 5000 bytes, and 4096 is the most");
        // What it signs with must come from the user's password.
        check(&[SALTED, &SIGNED.replace("6rri", "7rri")], "its signature is wrong");
        check(&[SALTED, "v="], "its signature is wrong");
        check(&[SALTED, "v=6rriTRBi"], "its signature is wrong");
        check(&[SALTED, "v=*"], "not base64");
        check(&[SALTED, ""], "has no signature");
        check(&[SALTED, SALTED], "has no signature");
        check(&[SALTED, SIGNED, SIGNED], "one more than the exchange has");
    }

    #[test]
    fn an_error_of_the_brokers_is_told_in_words() {
        let check = |messages: &[&str], expected: &str| {
            let refusal = run(&mut begun(Hash::Sha256, NONCE), &password(), messages).expect_err("refused");
            assert_eq!(refusal.obstacle, Obstacle::Credentials, "{refusal:?}");
            assert_eq!(refusal.reason, expected);
        };
        let whose = "the broker refused the credentials of user \"user\"";
        check(&["e=unknown-user"], &format!("{whose}: it does not know the user (unknown-user)"));
        check(&[SALTED, "e=invalid-proof"], &format!("{whose}: the password is wrong (invalid-proof)"));
        check(&[SALTED, "e=other-error,x=y"], &format!("{whose}: it gives no reason (other-error)"));
        check(&[SALTED, "e=not pencil"], &format!("{whose}: it gives no reason (not ***)"));
        check(&[SALTED, "e=a\nb"], &format!("{whose}: it gives no reason (a b)"));
    }
}
