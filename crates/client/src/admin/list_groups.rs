//! `ListGroups`: the groups of all brokers.

use milena_core::calls::{LIST_GROUPS, Row};
use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure};
use milena_messages::list_groups::{self as wire, ListGroupsRequest, ListGroupsResponse};

use super::{Admin, GroupFilter, GroupListing, GroupState, GroupType, ListedGroup};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct ListGroups<'a>(&'a GroupFilter);

impl ApiCall for ListGroups<'_> {
    const ROW: &'static Row = &LIST_GROUPS;
    type Request = ListGroupsRequest;
    type Item = BrokerId;
    /// An answer is about its broker alone.
    type Key = ();
    type Found = Vec<wire::ListedGroup>;

    fn destination(&self, broker: &BrokerId) -> Destination {
        Destination::Broker(*broker)
    }

    fn key(&self, _broker: &BrokerId) {}

    fn request(&self, _brokers: &[&BrokerId]) -> ListGroupsRequest {
        ListGroupsRequest {
            states_filter: self.0.states.iter().map(|state| state.to_string().into()).collect(),
            types_filter: self.0.types.iter().map(|kind| kind.to_string().into()).collect(),
            ..Default::default()
        }
    }

    fn answers(&self, response: ListGroupsResponse) -> Answers<(), Vec<wire::ListedGroup>> {
        vec![((), Failure::check(response.error_code, None).map(|()| response.groups))]
    }
}

impl Admin {
    /// Lists the groups of all brokers, as far as this principal may see them. A broker that does not answer is in
    /// [`GroupListing::failed`]: the groups that it coordinates may be missing then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.admin().alter_group_offsets("billing", [(("orders", 0), 0)]).await?;
    /// use milena::{GroupFilter, GroupState};
    ///
    /// let listing = client.admin().list_groups(&GroupFilter::all().states([GroupState::Empty])).await?;
    /// for group in &listing.groups {
    ///     println!("{} is coordinated by broker {}", group.group, group.coordinator);
    /// }
    /// for (broker, error) in &listing.failed {
    ///     eprintln!("the groups of broker {broker} are missing: {error}");
    /// }
    /// # assert!(listing.groups.iter().any(|group| group.group == "billing"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When no broker lists its groups.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn list_groups(&self, filter: &GroupFilter) -> Result<GroupListing, Error> {
        let (listed, failed) = self.call_all_brokers(&ListGroups(filter), "groups").await?;
        let groups =
            listed.iter().flat_map(|(broker, groups)| groups.iter().map(|group| of_broker(group, *broker)));
        let mut listing = GroupListing { groups: groups.collect(), failed };
        // A group that moves while brokers are asked may be listed by both.
        listing.groups.sort_by(|a, b| a.group.cmp(&b.group));
        listing.groups.dedup_by(|a, b| a.group == b.group);
        Ok(listing)
    }
}

fn of_broker(group: &wire::ListedGroup, broker: BrokerId) -> ListedGroup {
    let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    ListedGroup {
        group: group.group_id.to_string(),
        protocol_type: group.protocol_type.to_string(),
        state: given(&group.group_state).map(|state| GroupState::of(&state)),
        group_type: given(&group.group_type).map(|kind| GroupType::of(&kind)),
        coordinator: broker.0,
    }
}
