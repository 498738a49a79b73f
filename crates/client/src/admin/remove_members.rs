//! `LeaveGroup`: removes members from a group.

use milena_core::Failure;
use milena_core::calls::{LEAVE_GROUP, Row};
use milena_core::metadata::Destination;
use milena_messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};

use super::Admin;
use super::partitions::coordinator_of;
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct LeaveGroup<'a> {
    group: &'a str,
    members: &'a [Member],
}

/// A member by its member id, or by its group instance id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Member {
    Dynamic(String),
    Static(String),
}

impl ApiCall for LeaveGroup<'_> {
    const ROW: &'static Row = &LEAVE_GROUP;
    type Request = LeaveGroupRequest;
    type Item = Member;
    type Key = Member;
    type Found = ();

    fn destination(&self, _member: &Member) -> Destination {
        coordinator_of(self.group)
    }

    fn key(&self, member: &Member) -> Member {
        member.clone()
    }

    fn request(&self, members: &[&Member]) -> LeaveGroupRequest {
        let reason = Some("removed by an admin client".into());
        let member = |member: &&Member| match member {
            Member::Dynamic(id) => {
                MemberIdentity { member_id: id.as_str().into(), reason: reason.clone(), ..Default::default() }
            }
            Member::Static(id) => {
                let group_instance_id = Some(id.as_str().into());
                MemberIdentity { group_instance_id, reason: reason.clone(), ..Default::default() }
            }
        };
        let members = members.iter().map(member).collect();
        LeaveGroupRequest { group_id: self.group.into(), members, ..Default::default() }
    }

    fn answers(&self, response: LeaveGroupResponse) -> Answers<Member, ()> {
        // A code for the group as a whole comes without members.
        if let Err(failure) = Failure::check(response.error_code, None) {
            return self.members.iter().map(|member| (member.clone(), Err(failure.clone()))).collect();
        }
        let answer = |member: &milena_messages::leave_group::MemberResponse| {
            let removed = Failure::check(member.error_code, None);
            match &member.group_instance_id {
                Some(id) => (Member::Static(id.to_string()), removed),
                None => (Member::Dynamic(member.member_id.to_string()), removed),
            }
        };
        response.members.iter().map(answer).collect()
    }
}

impl Admin {
    /// Removes static members from a group by their group instance ids, so that their partitions go to other members before
    /// their sessions end (KIP-345). There is one result per member, in the order given. A member that runs is fenced.
    ///
    /// # Errors
    /// If a member was not removed, its result says so. Brokers before Kafka 2.4 refuse it.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn remove_members<T: AsRef<str>>(
        &self,
        group: &str,
        instances: impl IntoIterator<Item = T>,
    ) -> Vec<(String, Result<(), Error>)> {
        self.remove(group, instances.into_iter().map(|id| Member::Static(id.as_ref().to_owned())).collect())
            .await
    }

    /// Removes all members from a group. There is one result per member, by its group instance id if it has one, else by its
    /// member id. A dynamic member that runs joins again.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.admin().alter_group_offsets("billing", [(("orders", 0), 17)]).await?;
    /// for (member, removed) in client.admin().remove_all_members("billing").await? {
    ///     removed?;
    ///     println!("{member} is removed");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the group cannot be described. If a member was not removed, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn remove_all_members(&self, group: &str) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let described = self.describe_groups([group]).await.remove(0).1?;
        let members = described.members.into_iter().map(|member| match member.instance_id {
            Some(id) => Member::Static(id),
            None => Member::Dynamic(member.member_id),
        });
        Ok(self.remove(group, members.collect()).await)
    }

    async fn remove(&self, group: &str, members: Vec<Member>) -> Vec<(String, Result<(), Error>)> {
        let call = LeaveGroup { group, members: &members };
        let removed = self.call(&call, &members, self.deadline()).await.finish();
        let result = |(member, removed): (&Member, Result<(), Failure>)| {
            let (Member::Dynamic(id) | Member::Static(id)) = member;
            let doing = || format!("removing member {id:?} from group {group:?}");
            (id.clone(), removed.map_err(|failure| Error::new(doing(), failure)))
        };
        members.iter().zip(removed).map(result).collect()
    }
}
