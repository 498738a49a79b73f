//! `DeleteGroups`: deletes groups that have no members, with their committed offsets.

use milena_core::Failure;
use milena_core::calls::{DELETE_GROUPS, Row};
use milena_core::metadata::Destination;
use milena_messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};

use super::Admin;
use super::partitions::coordinator_of;
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DeleteGroups;

impl ApiCall for DeleteGroups {
    const ROW: &'static Row = &DELETE_GROUPS;
    type Request = DeleteGroupsRequest;
    type Item = String;
    type Key = String;
    type Found = ();

    fn destination(&self, group: &String) -> Destination {
        coordinator_of(group)
    }

    fn key(&self, group: &String) -> String {
        group.clone()
    }

    fn request(&self, groups: &[&String]) -> DeleteGroupsRequest {
        let groups_names = groups.iter().map(|group| group.as_str().into()).collect();
        DeleteGroupsRequest { groups_names, ..Default::default() }
    }

    fn answers(&self, response: DeleteGroupsResponse) -> Answers<String, ()> {
        let answer = |group: &DeletableGroupResult| {
            let deleted = Failure::check(group.error_code, group.error_message.as_deref());
            (group.group_id.to_string(), deleted)
        };
        response.results.iter().map(answer).collect()
    }
}

impl Admin {
    /// Deletes groups that have no members, with their committed offsets. There is one result per group, in the order given.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.admin().alter_group_offsets("billing", [(("orders", 0), 17)]).await?;
    /// for (group, deleted) in client.admin().delete_groups(["billing"]).await {
    ///     deleted?;
    ///     println!("{group} is deleted");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a group was not deleted, because it does not exist or has members, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn delete_groups<T: AsRef<str>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Vec<(String, Result<(), Error>)> {
        let groups: Vec<String> = groups.into_iter().map(|group| group.as_ref().to_owned()).collect();
        let deleted = self.call(&DeleteGroups, &groups, self.deadline()).await.finish();
        let result = |(group, deleted): (String, Result<(), Failure>)| {
            let deleted = deleted.map_err(|failure| Error::new(format!("deleting group {group:?}"), failure));
            (group, deleted)
        };
        groups.into_iter().zip(deleted).map(result).collect()
    }
}
