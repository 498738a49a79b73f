//! `DescribeUserScramCredentials`: who can log in with SCRAM, and by which mechanisms.

use std::collections::BTreeSet;

use milena_core::Failure;
use milena_core::calls::{DESCRIBE_USER_SCRAM_CREDENTIALS, Row};
use milena_messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult, UserName,
};

use super::{Admin, ScramCredential, ScramMechanism};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DescribeUsers;

/// A user, and what is kept of it.
type Described = (String, Result<Vec<ScramCredential>, Failure>);

impl ApiCall for DescribeUsers {
    const ROW: &'static Row = &DESCRIBE_USER_SCRAM_CREDENTIALS;
    type Request = DescribeUserScramCredentialsRequest;
    /// The users to describe; none for all. There is one such item.
    type Item = Option<BTreeSet<String>>;
    type Key = ();
    type Found = Vec<Described>;

    fn key(&self, _: &Self::Item) {}

    fn request(&self, items: &[&Self::Item]) -> DescribeUserScramCredentialsRequest {
        let name = |user: &String| UserName { name: user.as_str().into(), ..Default::default() };
        let users = items[0].as_ref().map(|users| users.iter().map(name).collect());
        DescribeUserScramCredentialsRequest { users, ..Default::default() }
    }

    fn answers(&self, response: DescribeUserScramCredentialsResponse) -> Answers<(), Vec<Described>> {
        let found = Failure::check(response.error_code, response.error_message.as_deref());
        vec![((), found.map(|()| response.results.iter().map(described).collect()))]
    }
}

fn described(of: &DescribeUserScramCredentialsResult) -> Described {
    let found = Failure::check(of.error_code, of.error_message.as_deref());
    let credentials = of.credential_infos.iter().map(|credential| ScramCredential {
        mechanism: ScramMechanism::numbered(credential.mechanism),
        iterations: u32::try_from(credential.iterations).unwrap_or(0),
    });
    let mut credentials: Vec<_> = credentials.collect();
    credentials.sort();
    (of.user.to_string(), found.map(|()| credentials))
}

fn doing(user: &str) -> String {
    format!("describing user {user:?}")
}

impl Admin {
    /// Lists all users that can log in with SCRAM, sorted by name. Users of other mechanisms are not known to the brokers in this way.
    ///
    /// # Errors
    /// When this principal may not describe the cluster, or no broker answers. If one user cannot be described, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn list_scram_users(
        &self,
    ) -> Result<Vec<(String, Result<Vec<ScramCredential>, Error>)>, Error> {
        let found = self.call_one(&DescribeUsers, None).await;
        let mut found = found.map_err(|failure| Error::harmless("listing users", failure))?;
        found.sort_by(|(one, _), (other, _)| one.cmp(other));
        let result = |(user, found): Described| {
            let found = found.map_err(|failure| Error::harmless(doing(&user), failure));
            (user, found)
        };
        Ok(found.into_iter().map(result).collect())
    }

    /// Shows by which mechanisms of SCRAM users can log in. There is one result per user, in the order given.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use milena_broker::{Broker, Listener};
    /// # let cluster = Broker::builder().listener(Listener::sasl_plaintext()).user("admin", "secret").start().await?;
    /// # let sasl = milena::Sasl::scram_sha_256("admin", "secret");
    /// # let client = milena::Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect().await?;
    /// use milena::ErrorCode;
    ///
    /// for (user, described) in client.admin().describe_scram_users(["admin", "mallory"]).await {
    ///     match described {
    ///         Ok(credentials) => println!("{user}: {credentials:?}"),
    ///         Err(error) => assert_eq!(
    ///             (user.as_str(), error.code()),
    ///             ("mallory", Some(ErrorCode::RESOURCE_NOT_FOUND))
    ///         ),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a user does not exist, this principal may not describe the cluster or no broker answers, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_scram_users<T: AsRef<str>>(
        &self,
        users: impl IntoIterator<Item = T>,
    ) -> Vec<(String, Result<Vec<ScramCredential>, Error>)> {
        let users: Vec<String> = users.into_iter().map(|user| user.as_ref().to_owned()).collect();
        // To name no user would ask for all, and one that is named twice is refused.
        let wanted: BTreeSet<String> = users.iter().cloned().collect();
        if wanted.is_empty() {
            return Vec::new();
        }
        let found = self.call_one(&DescribeUsers, Some(wanted)).await;
        let of_user = |user: &String| match &found {
            Ok(found) => {
                let its = found.iter().find(|(described, _)| described == user);
                its.map_or_else(|| Err(Failure::incomplete()), |(_, found)| found.clone())
            }
            Err(failure) => Err(failure.clone()),
        };
        let result = |user: String| {
            let found = of_user(&user).map_err(|failure| Error::harmless(doing(&user), failure));
            (user, found)
        };
        users.into_iter().map(result).collect()
    }
}
