//! `DeleteAcls`: removes the access control lists that match filters.

use milena_core::Failure;
use milena_core::calls::{DELETE_ACLS, Row};
use milena_messages::delete_acls::{
    DeleteAclsFilter, DeleteAclsFilterResult, DeleteAclsMatchingAcl, DeleteAclsRequest, DeleteAclsResponse,
};

use super::{Acl, AclFilter, Admin};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DeleteAcls;

/// A filter and its numbers.
type Wanted = (AclFilter, [i8; 4]);
/// What became of each ACL that matched a filter.
type Removed = Vec<(Acl, Result<(), Failure>)>;

impl ApiCall for DeleteAcls {
    const ROW: &'static Row = &DELETE_ACLS;
    type Request = DeleteAclsRequest;
    /// All filters of a call: an answer names its results by their order alone, so a request is never divided.
    type Item = Vec<Wanted>;
    type Key = ();
    type Found = Vec<Result<Removed, Failure>>;

    fn key(&self, _: &Vec<Wanted>) {}

    fn request(&self, filters: &[&Vec<Wanted>]) -> DeleteAclsRequest {
        let filter = |(filter, numbers): &Wanted| {
            let [resource_type_filter, pattern_type_filter, operation, permission_type] = *numbers;
            DeleteAclsFilter {
                resource_type_filter,
                resource_name_filter: filter.name.as_deref().map(Into::into),
                pattern_type_filter,
                principal_filter: filter.principal.as_deref().map(Into::into),
                host_filter: filter.host.as_deref().map(Into::into),
                operation,
                permission_type,
                ..Default::default()
            }
        };
        let filters = filters.iter().flat_map(|filters| filters.iter()).map(filter).collect();
        DeleteAclsRequest { filters, ..Default::default() }
    }

    fn answers(&self, response: DeleteAclsResponse) -> Answers<(), Self::Found> {
        let of_filter = |result: &DeleteAclsFilterResult| {
            Failure::check(result.error_code, result.error_message.as_deref())?;
            Ok(result.matching_acls.iter().map(removed).collect())
        };
        vec![((), Ok(response.filter_results.iter().map(of_filter).collect()))]
    }
}

fn removed(of: &DeleteAclsMatchingAcl) -> (Acl, Result<(), Failure>) {
    let numbers = [of.resource_type, of.pattern_type, of.operation, of.permission_type];
    let acl = Acl::of_answer(numbers, &of.resource_name, &of.principal, &of.host);
    (acl, Failure::check(of.error_code, of.error_message.as_deref()))
}

/// What became of each ACL that matched a filter, or why the filter was refused.
pub type DeletedAcls = Result<Vec<(Acl, Result<(), Error>)>, Error>;

impl Admin {
    /// Removes the access control lists that match filters. There is one result per filter, in the order given, and in it one
    /// per ACL that matched. A filter that matches nothing is no error. [`describe_acls`](Self::describe_acls) shows beforehand
    /// what a filter matches.
    ///
    /// ```
    /// # use milena_broker::{Authorizer, Broker, Listener};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("admin", "secret");
    /// # let cluster = broker.authorizer(Authorizer::new().super_user("User:admin")).start().await?;
    /// # let sasl = milena::Sasl::scram_sha_256("admin", "secret");
    /// # let client = milena::Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect().await?;
    /// # use milena::{Acl, AclOperation, AclResource};
    /// # client.admin().create_acls([Acl::allow("User:bob", AclOperation::All, AclResource::group("g"))]).await?;
    /// use milena::AclFilter;
    ///
    /// let of_bob = AclFilter::all().principal("User:bob");
    /// for deleted in client.admin().delete_acls([of_bob]).await? {
    ///     for (acl, deleted) in deleted? {
    ///         deleted?;
    ///         println!("deleted: {acl}");
    ///     }
    /// }
    /// # assert!(client.admin().describe_acls(&AclFilter::all()).await?.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the request as a whole failed; [`Error::maybe_written`] tells whether ACLs may have been removed although it did. When
    /// the brokers have no authorizer or this principal may not alter the cluster, each result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn delete_acls(
        &self,
        filters: impl IntoIterator<Item = AclFilter>,
    ) -> Result<Vec<DeletedAcls>, Error> {
        const DOING: &str = "deleting ACLs";
        let numbered = filters.into_iter().map(|filter| match filter.numbers() {
            Ok(numbers) => Ok((filter, numbers)),
            Err(failure) => Err(Error::harmless(DOING, failure)),
        });
        let wanted = numbered.collect::<Result<Vec<Wanted>, Error>>()?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let count = wanted.len();
        let deleted = self.call_one(&DeleteAcls, wanted).await;
        let deleted = deleted.map_err(|failure| Error::new(DOING, failure))?;
        // The answer may have fewer results than there are filters.
        let rest = std::iter::repeat_with(|| Err(Failure::incomplete()));
        let refused = |failure: Failure| self.client.named(failure.of(DELETE_ACLS.api));
        let of_acl = |(acl, deleted): (Acl, Result<(), Failure>)| {
            let deleted =
                deleted.map_err(|failure| Error::new(format!("deleting the ACL {acl}"), refused(failure)));
            (acl, deleted)
        };
        let of_filter = |deleted: Result<Removed, Failure>| {
            let deleted = deleted.map_err(|failure| Error::new(DOING, refused(failure)))?;
            Ok(deleted.into_iter().map(of_acl).collect())
        };
        Ok(deleted.into_iter().chain(rest).take(count).map(of_filter).collect())
    }
}
