//! What this principal may do, as far as brokers tell without anything being changed: `Metadata` with the operations that are
//! allowed for topics (KIP-430), and `Heartbeat`.

use std::sync::Arc;

use milena_core::Failure;
use milena_core::calls::{HEARTBEAT, METADATA, Row, may_be_member};
use milena_core::metadata::Destination;
use milena_messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};

use super::Admin;
use super::partitions::coordinator_of;
use crate::Error;
use crate::calls::{Answers, ApiCall};

/// What this principal may do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicRights {
    /// Read its records.
    pub read: bool,
    /// Write records to it.
    pub write: bool,
    /// See its configuration.
    pub describe_configs: bool,
}

/// Kafka's numbers of the operations, which are bits of an answer.
const READ: i32 = 3;
const WRITE: i32 = 4;
const DESCRIBE_CONFIGS: i32 = 10;
/// The answer of a broker that does not tell.
const OMITTED: i32 = i32::MIN;

struct Topic(Arc<str>);

impl ApiCall for Topic {
    const ROW: &'static Row = &METADATA;
    type Request = MetadataRequest;
    type Item = ();
    type Key = ();
    type Found = Option<TopicRights>;

    fn key(&self, _item: &()) {}

    fn request(&self, _items: &[&()]) -> MetadataRequest {
        let topic = MetadataRequestTopic { name: Some((&*self.0).into()), ..Default::default() };
        MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            include_topic_authorized_operations: true,
            ..Default::default()
        }
    }

    fn answers(&self, response: MetadataResponse) -> Answers<(), Option<TopicRights>> {
        let topic = response.topics.iter().find(|topic| topic.name.as_deref() == Some(&*self.0));
        let rights = topic.map(|topic| {
            let bits = topic.topic_authorized_operations;
            let has = |operation: i32| bits & (1 << operation) != 0;
            let rights =
                TopicRights { read: has(READ), write: has(WRITE), describe_configs: has(DESCRIBE_CONFIGS) };
            Failure::check(topic.error_code, None).map(|()| (bits != OMITTED).then_some(rights))
        });
        rights.into_iter().map(|rights| ((), rights)).collect()
    }
}

struct Beat;

impl ApiCall for Beat {
    const ROW: &'static Row = &HEARTBEAT;
    type Request = HeartbeatRequest;
    type Item = String;
    /// A request is about one group, which the answer does not repeat.
    type Key = ();
    type Found = ();

    fn destination(&self, group: &String) -> Destination {
        coordinator_of(group)
    }

    fn key(&self, _group: &String) {}

    fn request(&self, groups: &[&String]) -> HeartbeatRequest {
        let group_id = groups.first().map(|group| group.as_str().into()).unwrap_or_default();
        HeartbeatRequest { group_id, generation_id: -1, ..Default::default() }
    }

    fn answers(&self, response: HeartbeatResponse) -> Answers<(), ()> {
        vec![((), may_be_member(response.error_code))]
    }
}

impl Admin {
    /// Tells what this principal may do with a topic; none if the broker does not tell (before Kafka 2.3).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// let rights = client.admin().topic_rights("orders").await?;
    /// assert!(rights.is_some_and(|rights| rights.read && rights.write));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the topic does not exist, this principal may not see it, or no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn topic_rights(&self, topic: &str) -> Result<Option<TopicRights>, Error> {
        let found = self.call_one(&Topic(Arc::from(topic)), ()).await;
        found.map_err(|failure| {
            Error::harmless(format!("asking what is allowed for topic {topic:?}"), failure)
        })
    }

    /// Checks that this principal may be a member of a group and commit offsets for it. It sends the heartbeat of a member that
    /// the group does not have, which changes nothing. The group need not exist.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// client.admin().check_group("billing").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When it may not, or the group's coordinator does not answer.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn check_group(&self, group: &str) -> Result<(), Error> {
        let found = self.call_one(&Beat, group.to_owned()).await;
        found.map_err(|failure| {
            Error::harmless(format!("asking what is allowed for group {group:?}"), failure)
        })
    }
}
