//! `ConsumerGroupDescribe` and `DescribeGroups`: groups with their members, whichever protocol they have.

use milena_core::Failure;
use milena_core::calls::{CONSUMER_GROUP_DESCRIBE, DESCRIBE_GROUPS, Row, is_of_another_protocol};
use milena_core::metadata::Destination;
use milena_messages::consumer_group_describe::{
    self, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse,
};
use milena_messages::describe_groups::{self, DescribeGroupsRequest, DescribeGroupsResponse};

use super::partitions::coordinator_of;
use super::{Admin, GroupDescription};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct OfConsumers;
struct OfClassic;

impl ApiCall for OfConsumers {
    const ROW: &'static Row = &CONSUMER_GROUP_DESCRIBE;
    type Request = ConsumerGroupDescribeRequest;
    type Item = String;
    type Key = String;
    type Found = consumer_group_describe::DescribedGroup;

    fn destination(&self, group: &String) -> Destination {
        coordinator_of(group)
    }

    fn key(&self, group: &String) -> String {
        group.clone()
    }

    fn request(&self, groups: &[&String]) -> ConsumerGroupDescribeRequest {
        let group_ids = groups.iter().map(|group| group.as_str().into()).collect();
        ConsumerGroupDescribeRequest { group_ids, ..Default::default() }
    }

    fn answers(&self, response: ConsumerGroupDescribeResponse) -> Answers<String, Self::Found> {
        let answer = |group: Self::Found| {
            let checked = Failure::check(group.error_code, group.error_message.as_deref());
            (group.group_id.to_string(), checked.map(|()| group))
        };
        response.groups.into_iter().map(answer).collect()
    }
}

impl ApiCall for OfClassic {
    const ROW: &'static Row = &DESCRIBE_GROUPS;
    type Request = DescribeGroupsRequest;
    type Item = String;
    type Key = String;
    type Found = describe_groups::DescribedGroup;

    fn destination(&self, group: &String) -> Destination {
        coordinator_of(group)
    }

    fn key(&self, group: &String) -> String {
        group.clone()
    }

    fn request(&self, groups: &[&String]) -> DescribeGroupsRequest {
        let groups = groups.iter().map(|group| group.as_str().into()).collect();
        DescribeGroupsRequest { groups, ..Default::default() }
    }

    fn answers(&self, response: DescribeGroupsResponse) -> Answers<String, Self::Found> {
        let answer = |group: Self::Found| {
            let checked = Failure::check(group.error_code, group.error_message.as_deref());
            (group.group_id.to_string(), checked.map(|()| group))
        };
        response.groups.into_iter().map(answer).collect()
    }
}

impl Admin {
    /// Describes groups: their states, their members and what each member reads. There is one result per group, in the order
    /// given. Groups of the consumer protocol (KIP-848) and of the classic protocol are told in the same form.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.admin().alter_group_offsets("billing", [(("orders", 0), 0)]).await?;
    /// use milena::{ErrorCode, GroupState};
    ///
    /// for (group, described) in client.admin().describe_groups(["billing", "no-such-group"]).await {
    ///     match described {
    ///         Ok(described) => {
    ///             assert_eq!((described.state, described.members.len()), (GroupState::Empty, 0));
    ///         }
    ///         Err(error) => {
    ///             assert_eq!((group.as_str(), error.code()), ("no-such-group", Some(ErrorCode::GROUP_ID_NOT_FOUND)));
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a group does not exist, this principal may not see it or its coordinator does not answer, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_groups<T: AsRef<str>>(
        &self,
        groups: impl IntoIterator<Item = T>,
    ) -> Vec<(String, Result<GroupDescription, Error>)> {
        let groups: Vec<String> = groups.into_iter().map(|group| group.as_ref().to_owned()).collect();
        let deadline = self.deadline();
        let described = self.call(&OfConsumers, &groups, deadline).await.finish_with_coordinators();
        let is_other = |found: &Result<_, Failure>| found.as_ref().is_err_and(is_of_another_protocol);
        let other = groups.iter().zip(&described).filter(|(_, found)| is_other(found));
        let other: Vec<String> = other.map(|(group, _)| group.clone()).collect();
        let classic = self.call(&OfClassic, &other, deadline).await.finish_with_coordinators();
        let mut classic = classic.into_iter();
        let result = |(group, found): (String, Result<_, Failure>)| {
            let described = match found {
                Err(failure) if is_of_another_protocol(&failure) => {
                    let found = classic.next().unwrap_or(Err(failure));
                    found.and_then(|(found, coordinator)| GroupDescription::of_classic(&found, &coordinator))
                }
                found => {
                    found.map(|(found, coordinator)| GroupDescription::of_consumers(&found, &coordinator))
                }
            };
            let doing = || format!("describing group {group:?}");
            let described = described.map_err(|failure| Error::harmless(doing(), failure));
            (group, described)
        };
        groups.into_iter().zip(described).map(result).collect()
    }
}
