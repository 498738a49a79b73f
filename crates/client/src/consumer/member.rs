//! Sets a group's member up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use milena_core::group::assignors::Assignor;
use milena_core::group::commits::Settings as CommitSettings;
use milena_core::group::{Protocol, Settings as MemberSettings, offer};

use super::commands::Subscribed;
use super::group::Setup;
use super::handle::{ConsumerHandle, ToAssign, owned};
use super::hooks::{Hook, Hooks};
use super::naming::Pattern;
use super::stalls::{OnStall, PartitionStall};
use super::{Consumer, Reset, consumer};
use crate::settings::{ConsumerSettings, GroupSettings, Isolation, Settings};
use crate::{Client, Error};

/// Sets up a consumer that is a member of a group; see [`Client::consumer`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct GroupConsumerBuilder {
    client: Client,
    group: Arc<str>,
    settings: ConsumerSettings,
    of_group: GroupSettings,
    topics: BTreeSet<Arc<str>>,
    pattern: Option<String>,
    is_at_most_once: bool,
    hooks: Hooks,
    on_stall: Option<OnStall>,
    /// The settings that were given, of those that only one protocol has.
    named: Vec<&'static str>,
    /// The partitions to read outside of the group.
    assigned: Option<Vec<ToAssign>>,
    /// The methods that were called of those that only a member needs.
    of_member: Vec<&'static str>,
}

impl Client {
    /// Sets up a consumer that is a member of the group `group`: the group assigns to each member a part of the partitions of
    /// the topics that it subscribes to, and remembers what of them is done.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").key("42").value("created")).await?;
    /// let mut consumer = client.consumer("billing").subscribe(["orders"]).build().await?;
    /// while let Some(batch) = consumer.next().await? {
    ///     for record in &batch {
    ///         println!("charge for {:?}", record.key());
    ///     }
    ///     consumer.done(&batch); // committed in the background, and before its partition is given up
    ///     # break;
    /// }
    /// consumer.close().await?; // commits, and leaves the group, so that other members take over at once
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// What is not marked as [done](Consumer::done) is read again after a restart, so each record is processed at least once.
    pub fn consumer(&self, group: impl Into<Arc<str>>) -> GroupConsumerBuilder {
        GroupConsumerBuilder {
            client: self.clone(),
            group: group.into(),
            settings: self.0.settings.consumer.clone(),
            of_group: self.0.settings.group.clone(),
            topics: BTreeSet::new(),
            pattern: None,
            is_at_most_once: false,
            hooks: Hooks::default(),
            on_stall: None,
            named: Vec::new(),
            assigned: None,
            of_member: Vec::new(),
        }
    }

    /// The group that the client's properties name (`group.id`), if they name one.
    pub fn group_id(&self) -> Option<&str> {
        self.0.settings.group.id.as_deref()
    }
}

impl GroupConsumerBuilder {
    /// The client that it is of.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The topics that were [named](Self::subscribe).
    pub fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(|topic| &**topic)
    }

    /// Adds topics to subscribe to. One that does not exist yet is read once it does.
    pub fn subscribe<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics.extend(topics.into_iter().map(|topic| Arc::from(topic.as_ref())));
        self
    }

    /// Subscribes to all topics whose whole names match a regular expression, in addition to those
    /// [named](Self::subscribe), but not to Kafka's own topics.
    ///
    /// With [`Protocol::Consumer`] the coordinator resolves it, in the syntax of RE2. With [`Protocol::Classic`] the client
    /// does, in the syntax of the [`regex`](https://docs.rs/regex) crate, which differs little, and looks for new topics when
    /// it starts and each [`metadata_age_max`](crate::ClientSettings::metadata_age_max).
    pub fn subscribe_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }

    /// Reads these partitions, as Java's `assign` with a `group.id` does: the consumer is no member of its group, and nothing
    /// takes the partitions from it. It goes on at the offsets that the group has committed, or where [`reset`](Self::reset)
    /// says, and what is [done](Consumer::done) is committed for the group.
    ///
    /// Kafka takes such commits only while the group has no members. Otherwise they are refused with `UNKNOWN_MEMBER_ID`:
    /// [`Consumer::commit`] and [`Consumer::close`] return the error, and the log warns of automatic commits that are refused.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").partition(1).value("created")).await?;
    /// let mut consumer = client.consumer("billing").assign([("orders", 0), ("orders", 1)]).build().await?;
    /// let batch = consumer.next().await?.expect("partitions are assigned");
    /// consumer.done(&batch);
    /// consumer.close().await?; // commits
    ///
    /// let again = client.consumer("billing").assign([("orders", 1)]).build().await?;
    /// let committed = again.committed([("orders", 1)]).await?.remove(0).1;
    /// assert_eq!(committed.expect("an offset").offset, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn assign<T: AsRef<str>>(mut self, partitions: impl IntoIterator<Item = (T, i32)>) -> Self {
        self.assigned.get_or_insert_default().extend(owned(partitions, None));
        self
    }

    /// Sets the name of a static member (`group.instance.id`, KIP-345): it keeps its partitions when it is closed and comes
    /// back within the [session timeout](Self::session_timeout). Default: none.
    pub fn instance_id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.of_member.push("instance_id");
        self.of_group.instance_id = Some(id.into());
        self
    }

    /// Sets the protocol by which the group assigns partitions (`group.protocol`). Default [`Protocol::Automatic`].
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.of_member.push("protocol");
        self.of_group.protocol = protocol;
        self
    }

    /// Sets how partitions may be divided among the members of a classic group, best first
    /// (`partition.assignment.strategy`). Members agree on an assignor that all of them offer. Default: as Java's client,
    /// [`Range`](crate::assignors::Range) and [`CooperativeSticky`](crate::assignors::CooperativeSticky).
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Arc<dyn Assignor>>) -> Self {
        self.of_member.push("assignors");
        self.named.push("assignors");
        self.of_group.assignors = assignors.into_iter().collect();
        self
    }

    /// Sets the coordinator's assignor, for [`Protocol::Consumer`] (`group.remote.assignor`). Default: the coordinator's
    /// choice.
    pub fn server_assignor(mut self, name: impl Into<Arc<str>>) -> Self {
        self.of_member.push("server_assignor");
        self.named.push("server_assignor");
        self.of_group.server_assignor = Some(name.into());
        self
    }

    /// Sets after how long without a heartbeat the coordinator gives the member's partitions to other members
    /// (`session.timeout.ms`). Heartbeats go out whatever the application does. Default 45 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.of_member.push("session_timeout");
        self.named.push("session_timeout");
        self.of_group.session_timeout = timeout;
        self
    }

    /// Sets the time between two heartbeats (`heartbeat.interval.ms`). Default 3 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.of_member.push("heartbeat_interval");
        self.named.push("heartbeat_interval");
        self.of_group.heartbeat_interval = interval;
        self
    }

    /// Sets how long the application may take no batch although there are some (`max.poll.interval.ms`). Then the member
    /// leaves the group, so that its partitions are read by other members. Default 5 min.
    pub fn max_poll_interval(mut self, interval: Duration) -> Self {
        self.of_member.push("max_poll_interval");
        self.of_group.max_poll_interval = interval;
        self
    }

    /// Sets how long the member may take to finish partitions that the group takes back. Default:
    /// [`max_poll_interval`](Self::max_poll_interval), as in Java's client.
    pub fn rebalance_timeout(mut self, timeout: Duration) -> Self {
        self.of_member.push("rebalance_timeout");
        self.of_group.rebalance_timeout = Some(timeout);
        self
    }

    /// Sets how long what is done waits until it is committed in the background (`auto.commit.interval.ms`). Default 1 s.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.of_group.commit_interval = interval;
        self
    }

    /// Commits nothing by itself (`enable.auto.commit=false`): only [`Consumer::commit`] and
    /// [`Consumer::commit_offsets`] commit.
    pub fn manual_commits(mut self) -> Self {
        self.of_group.auto_commit = false;
        self
    }

    /// Commits the offset after each batch before the batch is returned, so that each record is processed at most once: one
    /// that is being processed when the program crashes is not read again. Each batch waits for its commit, so this is slow.
    /// Marks of what is done count nothing.
    ///
    /// When a partition is given up, a batch of it that was committed and not returned is left to the next owner: the offset
    /// before it is committed again. If the program crashes or the partition is lost, such a batch is read by no one.
    ///
    /// Kafka does not order commits: a copy of one that got no answer and that the coordinator carries out after a later one takes the
    /// offset back. The next owner then reads again what lies between. It takes a coordinator that stands still for longer than the
    /// request timeout while this member goes on with the coordinator.
    pub fn at_most_once(mut self) -> Self {
        self.is_at_most_once = true;
        self
    }

    /// Stores beside each committed offset which records after it are done, as the offset's metadata. A member that begins there
    /// does not get these again: batches leave them out, and batches without any other record are passed over. So after a crash
    /// only what was not done at the last commit is processed again, however long one record holds the offset back. Use it if
    /// records are done in another order than that of their offsets. Default off; `keep_finished=true` in properties.
    ///
    /// All members should have it. One without it returns these records again, and its commits store no such metadata.
    ///
    /// A commit is made as well when only this has changed. The text takes at most 4 096 characters (the default of the broker's
    /// `offset.metadata.max.bytes`), which is room for 60 000 offsets of which any are done, or for some 6 000 single records that are
    /// not. Before it is full no more batches of the partition are returned until records at its beginning are done. To brokers that
    /// take less, less is sent: of what does not fit, the records with the highest offsets are processed again after a crash. In a
    /// transaction this is learned from one that has to be aborted.
    ///
    /// Maps that Confluent's Parallel Consumer has stored are read too, so that a group can move from it. Other metadata is left
    /// alone until the next commit. A map is not believed, and a warning says so, if it is damaged, was made for another offset, or
    /// reaches past the end of the log. After a [seek](Consumer::seek) back, everything from the new position on is returned.
    ///
    /// A text that the program gives to [`commit_offsets`](Consumer::commit_offsets) is stored as it is, and the next automatic
    /// commit takes its place.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().group_initial_rebalance_delay(std::time::Duration::ZERO).start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = client.producer().build().await?;
    /// # for key in ["slow", "quick", "quick"] {
    /// #     producer.send(milena::Record::to("orders").key(key).value("created")).await?;
    /// # }
    /// let mut consumer = client.consumer("billing").subscribe(["orders"]).keep_finished().build().await?;
    /// let (mut returned, mut quick) = (0, 0);
    /// while returned < 3 {
    ///     let Some(batch) = consumer.next().await? else { break };
    ///     for record in &batch {
    ///         returned += 1;
    ///         if record.key() == Some(b"quick") {
    ///             quick += 1;
    ///             consumer.done_record(&record);
    ///         } // The first one takes its time.
    ///     }
    /// }
    /// consumer.close().await?;
    ///
    /// let mut consumer = client.consumer("billing").subscribe(["orders"]).keep_finished().build().await?;
    /// let batch = consumer.next().await?.expect("the first record is not done");
    /// assert_eq!((quick, batch.iter().count()), (2, 1));
    /// # consumer.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn keep_finished(mut self) -> Self {
        self.of_group.keep_finished = true;
        self
    }

    /// Sets where a partition is read from of which the group has committed nothing, or whose committed offset does not exist
    /// any more (`auto.offset.reset`). Default [`Reset::Earliest`], so that no record is skipped; in Java's client it is
    /// `latest`.
    pub fn reset(mut self, reset: Reset) -> Self {
        self.settings.reset = Some(reset);
        self
    }

    /// Fetches ahead up to this many bytes, as they come from brokers, also of a single partition: the buffer that a program would
    /// otherwise put between itself and the consumer. It counts in the client's memory budget, is given back batch by batch, is
    /// kept while partitions are paused or a rebalance leaves them here, and shows in [`Consumer::flow`]. The last fetch may exceed
    /// it. Sets [`buffer_bytes_max`](ConsumerSettings::buffer_bytes_max) and
    /// [`partition_buffer_bytes_max`](ConsumerSettings::partition_buffer_bytes_max). Default: one
    /// [`fetch_partition_bytes_max`](ConsumerSettings::fetch_partition_bytes_max) of each partition, within the budget.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").value("created")).await?;
    /// let builder = client.consumer("billing").subscribe(["orders"]).buffered(64 << 20);
    /// let mut consumer = builder.build().await?;
    /// let batch = consumer.next().await?.expect("a partition is assigned");
    /// println!("{} bytes are ahead", consumer.flow().buffered_bytes);
    /// # Ok(())
    /// # }
    /// ```
    pub fn buffered(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes_max = Some(bytes);
        self.settings.partition_buffer_bytes_max = Some(bytes);
        self
    }

    /// Sets which records of transactions are read (`isolation.level`). Default [`Isolation::ReadUncommitted`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Runs `hook` when partitions are assigned, before they are read: it may seek in them.
    ///
    /// It runs in a task of its own, after the hooks that were called before it. The partitions are not read before it has
    /// finished.
    pub fn on_assigned<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Vec<(String, i32)>, ConsumerHandle) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.of_member.push("on_assigned");
        Hook::add(&mut self.hooks.assigned, hook);
        self
    }

    /// Runs `hook` when the group takes partitions back, or the consumer is closed. No batch of them is returned any more, and
    /// what is marked as done until `hook` has finished is committed before they are given up.
    ///
    /// It runs in a task of its own, until the [rebalance timeout](Self::rebalance_timeout) at the latest: then the partitions
    /// are given up all the same. It may commit. It must not wait for [`close`](ConsumerHandle::close), which waits for it.
    pub fn on_revoked<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Vec<(String, i32)>, ConsumerHandle) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.of_member.push("on_revoked");
        Hook::add(&mut self.hooks.revoked, hook);
        self
    }

    /// Runs `hook` when partitions were lost: the coordinator has removed the member, or was silent for too long. Other members
    /// may read them already, and nothing of them can be committed.
    pub fn on_lost<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Vec<(String, i32)>, ConsumerHandle) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.of_member.push("on_lost");
        Hook::add(&mut self.hooks.lost, hook);
        self
    }

    /// Calls `tell` when a partition has stood still for longer than [`stall_after`](ConsumerSettings::stall_after) (default 60 s),
    /// and once more when it does so no more, or is given up; see [`ConsumerBuilder::on_stall`](crate::ConsumerBuilder::on_stall).
    /// A pipeline tells more of its own: single records that are in work for long.
    pub fn on_stall(mut self, tell: impl Fn(&PartitionStall) + Send + Sync + 'static) -> Self {
        self.on_stall = Some(OnStall::new(tell));
        self
    }

    /// Changes any other setting of reading.
    pub fn settings(mut self, change: impl FnOnce(&mut ConsumerSettings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Changes any setting of the member.
    pub fn group_settings(mut self, change: impl FnOnce(&mut GroupSettings)) -> Self {
        change(&mut self.of_group);
        self
    }

    /// Starts the consumer. A member joins the group in the background; [`Consumer::next`] waits for the first batch.
    ///
    /// # Errors
    /// When a setting is wrong, or there is no group id. When there is neither a subscription nor an
    /// [assignment](Self::assign), or both. When a topic or partition that is assigned does not exist.
    ///
    /// # Cancel safety
    /// If the future is dropped, no consumer was started.
    pub async fn build(self) -> Result<Consumer, Error> {
        let Self { client, group, settings, of_group, topics, pattern, is_at_most_once, hooks, .. } = self;
        let Self { named, assigned, of_member, on_stall, .. } = self;
        let settings = client.0.settings.with_member(settings, of_group, &named)?;
        let doing = if assigned.is_some() { "reading with the offsets of" } else { "joining" };
        let wrong = |why: &str| Err(Error::caller(format!("{doing} group {group:?}"), why));
        if group.is_empty() {
            return wrong("the group id is empty");
        }
        if settings.group.instance_id.as_ref().is_some_and(|id| id.is_empty()) {
            return wrong("the instance id is empty");
        }
        let is_subscribed = !topics.is_empty() || pattern.is_some();
        match (&assigned, of_member.first()) {
            (None, _) if !is_subscribed => return wrong("it subscribes to no topic"),
            (Some(_), _) if is_subscribed => {
                return wrong(
                    "subscribe() and assign() do not go together: a member reads what its group assigns",
                );
            }
            (Some(_), Some(method)) => {
                let why = "is for a member of the group, and assign() makes the consumer none";
                return wrong(&format!("{method}() {why}"));
            }
            _ => {}
        }
        if is_at_most_once && !settings.group.auto_commit {
            return wrong("at_most_once commits each batch by itself, which auto_commit=false forbids");
        }
        if is_at_most_once && settings.group.keep_finished {
            return wrong(
                "at_most_once commits each batch before it is returned, so that keep_finished has nothing to keep",
            );
        }
        let pattern = match pattern.map(|pattern| Pattern::new(&pattern)).transpose() {
            Ok(pattern) => pattern,
            Err(why) => return wrong(&format!("the pattern of topics cannot be read: {why}")),
        };
        let (of_client, of_group) = (&settings.client, &settings.group);
        let membership = match &assigned {
            Some(_) => None,
            None => match offer(&of_group.assignors) {
                Some(assignors) => Some(member_settings(&client, &group, &settings, assignors)),
                None => return wrong("the assignors have no rebalance protocol in common"),
            },
        };
        let commits = CommitSettings {
            group,
            interval: of_group.auto_commit.then_some(of_group.commit_interval),
            is_before_delivery: is_at_most_once,
            keeps_finished: of_group.keep_finished,
            require_stable: settings.consumer.isolation == Isolation::ReadCommitted,
            request_timeout: of_client.request_timeout,
            backoff: client.retry_backoff(),
        };
        let reset = settings.consumer.reset.unwrap_or(Reset::Earliest);
        let subscribed = Subscribed { topics, pattern };
        let setup = Setup { membership, commits, reset: reset.position(), hooks, subscribed };
        let runtime = client.0.runtime.clone();
        let (consumer, driver) =
            consumer(client, &settings.consumer, Some(reset), false, Some(setup), on_stall);
        // As without a group, everything is assigned before the first fetch.
        if let Some(assigned) = assigned {
            consumer.shared.assign_all(assigned).await?;
        }
        runtime.spawn(driver.run());
        Ok(consumer)
    }
}

fn member_settings(
    client: &Client,
    group: &Arc<str>,
    settings: &Settings,
    assignors: Vec<Arc<dyn milena_core::group::Assignor>>,
) -> MemberSettings {
    let (of_client, of_group) = (&settings.client, &settings.group);
    let max_poll_interval = of_group.max_poll_interval;
    MemberSettings {
        group_id: Arc::clone(group),
        instance_id: of_group.instance_id.clone(),
        rack: Some(&settings.consumer.rack).filter(|rack| !rack.is_empty()).cloned(),
        protocol: of_group.protocol,
        session_timeout: of_group.session_timeout,
        heartbeat_interval: of_group.heartbeat_interval,
        rebalance_timeout: of_group.rebalance_timeout.unwrap_or(max_poll_interval),
        max_poll_interval,
        request_timeout: of_client.request_timeout,
        backoff: client.retry_backoff(),
        assignors,
        server_assignor: of_group.server_assignor.clone(),
    }
}
