//! `CreateAcls`: adds access control lists.

use milena_core::Failure;
use milena_core::calls::{CREATE_ACLS, Row};
use milena_messages::create_acls::{AclCreation, CreateAclsRequest, CreateAclsResponse};

use super::{Acl, Admin};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct CreateAcls;

/// An ACL and its numbers.
type Wanted = (Acl, [i8; 4]);

impl ApiCall for CreateAcls {
    const ROW: &'static Row = &CREATE_ACLS;
    type Request = CreateAclsRequest;
    /// All ACLs of a call: an answer names its results by their order alone, so a request is never divided.
    type Item = Vec<Wanted>;
    type Key = ();
    type Found = Vec<Result<(), Failure>>;

    fn key(&self, _: &Vec<Wanted>) {}

    fn request(&self, acls: &[&Vec<Wanted>]) -> CreateAclsRequest {
        let creation = |(acl, numbers): &Wanted| {
            let [resource_type, resource_pattern_type, operation, permission_type] = *numbers;
            AclCreation {
                resource_type,
                resource_name: acl.resource.name.as_str().into(),
                resource_pattern_type,
                principal: acl.principal.as_str().into(),
                host: acl.host.as_str().into(),
                operation,
                permission_type,
                ..Default::default()
            }
        };
        let creations = acls.iter().flat_map(|acls| acls.iter()).map(creation).collect();
        CreateAclsRequest { creations, ..Default::default() }
    }

    fn answers(&self, response: CreateAclsResponse) -> Answers<(), Self::Found> {
        let results = response.results.iter();
        let results = results.map(|one| Failure::check(one.error_code, one.error_message.as_deref()));
        vec![((), Ok(results.collect()))]
    }
}

impl Admin {
    /// Adds access control lists. There is one result per ACL, in the order given. To add one that is there already changes
    /// nothing and is no error.
    ///
    /// See [`describe_acls`](Self::describe_acls) for an example.
    ///
    /// # Errors
    /// When the request as a whole failed; [`Error::maybe_written`] tells whether ACLs may have been added although it did. When the
    /// brokers have no authorizer, this principal may not alter the cluster, or an ACL is not right, each result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn create_acls(
        &self,
        acls: impl IntoIterator<Item = Acl>,
    ) -> Result<Vec<(Acl, Result<(), Error>)>, Error> {
        let doing = |acl: &Acl| format!("creating the ACL {acl}");
        let numbered = acls.into_iter().map(|acl| match acl.numbers() {
            Ok(numbers) => Ok((acl, numbers)),
            Err(failure) => Err(Error::harmless(doing(&acl), failure)),
        });
        let wanted = numbered.collect::<Result<Vec<Wanted>, Error>>()?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let created = self.call_one(&CreateAcls, wanted.clone()).await;
        let created = created.map_err(|failure| Error::new("creating ACLs", failure))?;
        // The answer may have fewer results than there are ACLs.
        let rest = std::iter::repeat_with(|| Err(Failure::incomplete()));
        let result = |((acl, _), created): (Wanted, Result<(), Failure>)| {
            let refused = |failure: Failure| self.client.named(failure.of(CREATE_ACLS.api));
            let created = created.map_err(|failure| Error::new(doing(&acl), refused(failure)));
            (acl, created)
        };
        Ok(wanted.into_iter().zip(created.into_iter().chain(rest)).map(result).collect())
    }
}
