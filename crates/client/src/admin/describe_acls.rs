//! `DescribeAcls`: the access control lists that match a filter.

use milena_core::Failure;
use milena_core::calls::{DESCRIBE_ACLS, Row};
use milena_messages::describe_acls::{DescribeAclsRequest, DescribeAclsResource, DescribeAclsResponse};

use super::{Acl, AclFilter, Admin};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DescribeAcls;

/// What is sent: the filter, and its numbers.
type Wanted = (AclFilter, [i8; 4]);

impl ApiCall for DescribeAcls {
    const ROW: &'static Row = &DESCRIBE_ACLS;
    type Request = DescribeAclsRequest;
    /// There is one.
    type Item = Wanted;
    type Key = ();
    type Found = Vec<Acl>;

    fn key(&self, _: &Wanted) {}

    fn request(&self, filters: &[&Wanted]) -> DescribeAclsRequest {
        let (filter, [resource_type, pattern_type, operation, permission_type]) = filters[0];
        DescribeAclsRequest {
            resource_type_filter: *resource_type,
            resource_name_filter: filter.name.as_deref().map(Into::into),
            pattern_type_filter: *pattern_type,
            principal_filter: filter.principal.as_deref().map(Into::into),
            host_filter: filter.host.as_deref().map(Into::into),
            operation: *operation,
            permission_type: *permission_type,
            ..Default::default()
        }
    }

    fn answers(&self, response: DescribeAclsResponse) -> Answers<(), Vec<Acl>> {
        let found = Failure::check(response.error_code, response.error_message.as_deref());
        vec![((), found.map(|()| response.resources.iter().flat_map(acls).collect()))]
    }
}

fn acls(of: &DescribeAclsResource) -> impl Iterator<Item = Acl> {
    of.acls.iter().map(|acl| {
        let numbers = [of.resource_type, of.pattern_type, acl.operation, acl.permission_type];
        Acl::of_answer(numbers, &of.resource_name, &acl.principal, &acl.host)
    })
}

impl Admin {
    /// Shows the access control lists that match `filter`, sorted by resource. A change takes a moment until all brokers know it.
    ///
    /// ```
    /// # use milena_broker::{Authorizer, Broker, Listener};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("admin", "secret");
    /// # let cluster = broker.authorizer(Authorizer::new().super_user("User:admin")).start().await?;
    /// # let sasl = milena::Sasl::scram_sha_256("admin", "secret");
    /// # let client = milena::Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect().await?;
    /// use milena::{Acl, AclFilter, AclOperation, AclResource};
    ///
    /// let orders = AclResource::topic("orders");
    /// let acl = Acl::allow("User:alice", AclOperation::Read, orders);
    /// for (acl, created) in client.admin().create_acls([acl]).await? {
    ///     created?;
    ///     println!("there is now: {acl}");
    /// }
    /// for acl in client.admin().describe_acls(&AclFilter::all().principal("User:alice")).await? {
    ///     println!("{acl}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the brokers have no authorizer ([`ErrorCode::SECURITY_DISABLED`](crate::ErrorCode::SECURITY_DISABLED)), this principal
    /// may not describe the cluster, or no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, Error> {
        let doing = "listing ACLs";
        let failed = |failure| Error::harmless(doing, failure);
        let wanted = (filter.clone(), filter.numbers().map_err(failed)?);
        let mut acls = self.call_one(&DescribeAcls, wanted).await.map_err(failed)?;
        acls.sort();
        Ok(acls)
    }
}
