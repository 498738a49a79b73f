//! `AlterUserScramCredentials`: gives users passwords for SCRAM, and takes them away. A password is salted and hashed here, so
//! that brokers never see it (KIP-554).

use bytes::Bytes;
use milena_core::Failure;
use milena_core::calls::{ALTER_USER_SCRAM_CREDENTIALS, Row};
use milena_core::sasl::{Credentials, Derivation, Password, SaltedPassword};
use milena_messages::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, ScramCredentialDeletion,
    ScramCredentialUpsertion,
};
use tokio::sync::oneshot;

use super::scram_users::Action;
use super::{Admin, ScramChange};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct AlterUsers;

/// A change as it is sent.
struct Prepared {
    user: String,
    mechanism: i8,
    /// None for a password that is taken away.
    salted: Option<Salted>,
}

struct Salted {
    iterations: i32,
    salt: Bytes,
    /// Its memory is overwritten when the last clone is dropped.
    password: Bytes,
}

impl ApiCall for AlterUsers {
    const ROW: &'static Row = &ALTER_USER_SCRAM_CREDENTIALS;
    type Request = AlterUserScramCredentialsRequest;
    type Item = Prepared;
    type Key = String;
    type Found = ();

    fn key(&self, change: &Prepared) -> String {
        change.user.clone()
    }

    fn request(&self, changes: &[&Prepared]) -> AlterUserScramCredentialsRequest {
        let mut request = AlterUserScramCredentialsRequest::default();
        for Prepared { user, mechanism, salted } in changes {
            let (name, mechanism) = (user.as_str().into(), *mechanism);
            match salted {
                None => {
                    let deletion = ScramCredentialDeletion { name, mechanism, ..Default::default() };
                    request.deletions.push(deletion);
                }
                Some(Salted { iterations, salt, password }) => {
                    request.upsertions.push(ScramCredentialUpsertion {
                        name,
                        mechanism,
                        iterations: *iterations,
                        salt: salt.clone(),
                        salted_password: password.clone(),
                        ..Default::default()
                    });
                }
            }
        }
        request
    }

    fn answers(&self, response: AlterUserScramCredentialsResponse) -> Answers<String, ()> {
        let results = response.results.iter();
        let answer = results
            .map(|of| (of.user.to_string(), Failure::check(of.error_code, of.error_message.as_deref())));
        answer.collect()
    }
}

/// With more, a processor would be busy for seconds; no client of ours would log in with them either.
const ITERATIONS_MAX: u32 = 1_000_000;
/// As many bytes as Java's tools take.
const SALT_BYTES: usize = 24;

impl Admin {
    /// Gives users passwords for SCRAM, and takes them away. There is one result per change, in the order given. The password is
    /// hashed with a random salt on a thread of its own, and only the result of that is sent. In Java:
    /// `alterUserScramCredentials` (KIP-554).
    ///
    /// The connection should be encrypted all the same: with what is sent one can log in as this user.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use milena_broker::{Broker, Listener};
    /// # let cluster = Broker::builder().listener(Listener::sasl_plaintext()).user("admin", "secret").start().await?;
    /// # let bootstrap = cluster.bootstrap();
    /// # let sasl = milena::Sasl::scram_sha_256("admin", "secret");
    /// # let client = milena::Client::builder().bootstrap(bootstrap).sasl(sasl).connect().await?;
    /// use milena::{Client, Sasl, ScramChange, ScramMechanism, Secret};
    ///
    /// let password = Secret::from("correct horse battery staple"); // of a vault
    /// let change = ScramChange::set("alice", ScramMechanism::Sha512, password.clone());
    /// for (_, changed) in client.admin().alter_scram_users([change]).await {
    ///     changed?;
    /// }
    /// Client::builder().bootstrap(bootstrap).sasl(Sasl::scram_sha_512("alice", password)).connect().await?;
    ///
    /// let gone = ScramChange::delete("alice", ScramMechanism::Sha256);
    /// let (_, deleted) = client.admin().alter_scram_users([gone]).await.remove(0);
    /// assert_eq!(deleted.unwrap_err().code_name(), Some("RESOURCE_NOT_FOUND")); // she has one for SHA-512 only
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a change was not made, because its user does not exist, its password is empty, its iterations are not those that Kafka
    /// accepts, this principal may not alter the cluster or no broker answers, its result says so; [`Error::maybe_written`] tells
    /// whether it may have been made all the same.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn alter_scram_users(
        &self,
        changes: impl IntoIterator<Item = ScramChange>,
    ) -> Vec<(String, Result<(), Error>)> {
        let deadline = self.deadline();
        let changes: Vec<ScramChange> = changes.into_iter().collect();
        let mut results = Vec::with_capacity(changes.len());
        let preparing: Vec<_> = changes.iter().map(|change| self.prepare(change)).collect();
        let mut wanted = Vec::new();
        for (index, (preparing, change)) in preparing.into_iter().zip(&changes).enumerate() {
            let prepared = match preparing {
                Ok(preparing) => self.within(preparing.finish()).await,
                Err(failure) => Err(failure),
            };
            match prepared {
                Ok(prepared) => {
                    wanted.push((index, prepared));
                    // Replaced by what the broker says.
                    results.push(Err(Failure::Closed));
                }
                Err(failure) => results.push(Err(failure)),
            }
            debug_assert_eq!(results.len(), index + 1, "{}", change.user);
        }
        // A broker refuses a request that names a user twice, and its answer could not tell the two changes apart.
        while !wanted.is_empty() {
            let (mut round, mut later): (Vec<(usize, Prepared)>, Vec<_>) = (Vec::new(), Vec::new());
            for (index, prepared) in wanted {
                let is_there = round.iter().any(|(_, earlier)| earlier.user == prepared.user);
                if is_there { later.push((index, prepared)) } else { round.push((index, prepared)) }
            }
            let (indices, items): (Vec<usize>, Vec<Prepared>) = round.into_iter().unzip();
            let altered = self.call(&AlterUsers, &items, deadline).await.finish();
            for (index, altered) in indices.into_iter().zip(altered) {
                results[index] = altered;
            }
            wanted = later;
        }
        let result = |(change, altered): (ScramChange, Result<(), Failure>)| {
            let altered = altered.map_err(|failure| {
                let ScramChange { user, mechanism, action } = &change;
                let doing = match action {
                    Action::Set { .. } => format!("setting the password of user {user:?} for {mechanism}"),
                    Action::Delete => format!("deleting the password of user {user:?} for {mechanism}"),
                };
                Error::new(doing, failure)
            });
            (change.user, altered)
        };
        changes.into_iter().zip(results).map(result).collect()
    }

    /// Begins to hash the password of a change that sets one.
    fn prepare(&self, change: &ScramChange) -> Result<Preparing, Failure> {
        let refused = |why: String| Failure::Caller(why.into());
        let ScramChange { user, mechanism, action } = change;
        let hash = mechanism.hash().ok_or_else(|| refused("the mechanism is unknown".to_owned()))?;
        let (user, mechanism) = (user.clone(), mechanism.number());
        let Action::Set { password, iterations } = action else {
            return Ok(Preparing { user, mechanism, salting: None });
        };
        let iterations = i32::try_from(*iterations).ok().filter(|count| *count > 0);
        let iterations = iterations.filter(|count| count.unsigned_abs() <= ITERATIONS_MAX);
        let iterations = iterations.ok_or_else(|| {
            refused(format!("the iterations are not 1 to {ITERATIONS_MAX}; Kafka accepts 4096 to 16384"))
        })?;
        let password = Password {
            scram: Some(hash),
            user: user.as_str().into(),
            password: password.clone(),
            is_delegation_token: false,
        };
        let credentials = Credentials::Password(password.clone());
        // What nobody could log in with.
        credentials.check().map_err(refused)?;
        let salt = self.salt();
        let derivation = Derivation::new(hash, password.password, salt.to_vec(), iterations.unsigned_abs());
        let (done, salted) = oneshot::channel();
        // It takes milliseconds, which is too long for a task that others wait behind.
        self.client.0.runtime.spawn_blocking(move || drop(done.send(derivation.run())));
        Ok(Preparing { user, mechanism, salting: Some(Salting { iterations, salt, salted }) })
    }

    /// A salt is another one each time, and need not be secret.
    fn salt(&self) -> Bytes {
        let mut rng = self.client.rng();
        let mut salt = [0; SALT_BYTES];
        salt.chunks_exact_mut(8).for_each(|part| part.copy_from_slice(&rng.next_u64().to_be_bytes()));
        Bytes::copy_from_slice(&salt)
    }
}

/// A change whose password is being hashed.
struct Preparing {
    user: String,
    mechanism: i8,
    salting: Option<Salting>,
}

struct Salting {
    iterations: i32,
    salt: Bytes,
    salted: oneshot::Receiver<SaltedPassword>,
}

impl Preparing {
    async fn finish(self) -> Result<Prepared, Failure> {
        let Self { user, mechanism, salting } = self;
        let salted = match salting {
            None => None,
            Some(Salting { iterations, salt, salted }) => {
                let salted = salted.await.map_err(|_| Failure::Closed)?;
                Some(Salted { iterations, salt, password: Bytes::from_owner(salted) })
            }
        };
        Ok(Prepared { user, mechanism, salted })
    }
}
