//! An incremental fetch session (KIP-227): the broker remembers what is wanted, and we remember what it remembers.
//!
//! The memory is only changed when an answer proves that the broker heard us. After anything else the session begins
//! anew with a full request.

use std::collections::{BTreeMap, BTreeSet};

use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use milena_wire::Uuid;

use super::appetite::whole_batches;
use super::partition::Partition;
use super::{Epoch, LaneId, Settings, Slot};
use crate::Instant;

#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    /// The epoch of the next request; 0 asks for a new session.
    epoch: i32,
    /// What the broker believes we want.
    members: BTreeMap<Slot, Member>,
    /// How many of them have no topic id.
    without_id: usize,
    /// Partitions for which that may not be true any more.
    touched: BTreeSet<Slot>,
}

/// What was last told of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub offset: i64,
    pub epoch: Epoch,
    leader_epoch: i32,
    topic_id: Uuid,
    bytes_max: i32,
}

/// What a request tells the broker, to be remembered when it is answered.
#[derive(Debug, Default)]
pub(super) struct Sent {
    named: Vec<(Slot, Member)>,
    forgotten: Vec<Slot>,
}

impl Sent {
    /// What the request says of `slot`: a member, that it is forgotten (none inside), or nothing.
    pub(super) fn says(&self, slot: Slot) -> Option<Option<Member>> {
        let named = self.named.iter().find(|(named, _)| *named == slot).map(|(_, member)| Some(*member));
        named.or_else(|| self.forgotten.contains(&slot).then_some(None))
    }
}

impl Session {
    /// What is wanted of `slot` may have changed.
    pub(super) fn touch(&mut self, slot: Slot) {
        self.touched.insert(slot);
    }

    /// The next request, unless nothing is wanted. Also tells whether all its topics have ids.
    pub(super) fn request(
        &mut self,
        lane: LaneId,
        partitions: &[Partition],
        settings: &Settings,
        now: Instant,
    ) -> Option<(Sent, FetchRequest, bool)> {
        if self.epoch == 0 {
            self.clear();
        }
        let mut sent = Sent::default();
        let mut request =
            FetchRequest { session_id: self.id, session_epoch: self.epoch, ..Default::default() };
        let mut has_ids = true;
        self.touched.retain(|slot| {
            let partition = &partitions[slot.0 as usize];
            let known = self.members.get(slot);
            match partition.wanted(lane, now) {
                Some(offset) => {
                    // Brokers that wait for `fetch_bytes_min` count no more of a partition than its limit.
                    let bytes_max = whole_batches(settings.partition_bytes_max, partition.batch_bytes)
                        .max(settings.fetch_bytes_min.min(settings.partition_bytes_max));
                    let member = Member {
                        offset,
                        epoch: partition.epoch,
                        leader_epoch: partition.leader_epoch.map_or(-1, |epoch| epoch.0),
                        topic_id: partition.topic_id.unwrap_or_default(),
                        bytes_max: i32::try_from(bytes_max).unwrap_or(i32::MAX),
                    };
                    if known != Some(&member) {
                        name(&mut request, partition, &member);
                        sent.named.push((*slot, member));
                    }
                }
                None if known.is_some() => {
                    forget(&mut request, partition);
                    sent.forgotten.push(*slot);
                }
                None => {}
            }
            // One that waits out a backoff is looked at again when it may be wanted.
            !partition.retry.is_ready(now) && partition.lane() == Some(lane)
        });
        let remaining = self.members.len()
            + sent.named.iter().filter(|(slot, _)| !self.members.contains_key(slot)).count();
        if remaining == sent.forgotten.len() {
            // Nothing is wanted: what the broker remembers can stay, it costs nothing.
            self.touched.extend(sent.forgotten);
            return None;
        }
        for (slot, _) in &sent.named {
            has_ids &= partitions[slot.0 as usize].topic_id.is_some();
        }
        has_ids &= self.without_id == 0;
        Some((sent, request, has_ids))
    }

    /// The request was answered: the broker knows what we told it.
    pub(super) fn commit(&mut self, sent: &Sent, session_id: i32) {
        for slot in &sent.forgotten {
            self.replace(*slot, None);
        }
        for (slot, member) in &sent.named {
            self.replace(*slot, Some(*member));
        }
        self.id = session_id;
        // 0 is no session: the broker has no room, and every request is a full one.
        self.epoch = match (session_id, self.epoch) {
            (0, _) => 0,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
    }

    /// The broker does not know the session, or nobody knows what it knows: begin anew.
    pub(super) fn reset(&mut self, sent: &Sent) {
        self.id = 0;
        self.epoch = 0;
        self.clear();
        self.touched.extend(sent.named.iter().map(|(slot, _)| *slot));
    }

    /// Remembers nothing of what the broker was told.
    fn clear(&mut self) {
        self.touched.extend(std::mem::take(&mut self.members).into_keys());
        self.without_id = 0;
    }

    fn replace(&mut self, slot: Slot, member: Option<Member>) {
        let has_no_id = |member: &Member| usize::from(member.topic_id == Uuid::default());
        self.without_id += member.as_ref().map_or(0, has_no_id);
        let old = match member {
            Some(member) => self.members.insert(slot, member),
            None => self.members.remove(&slot),
        };
        self.without_id -= old.as_ref().map_or(0, has_no_id);
    }

    /// What the answered request asked of `slot`.
    pub(super) fn member(&self, slot: Slot) -> Option<Member> {
        self.members.get(&slot).copied()
    }

    /// When the partitions that wait out a backoff may be wanted again.
    pub(super) fn delayed<'a>(
        &'a self,
        partitions: &'a [Partition],
    ) -> impl Iterator<Item = Option<Instant>> + 'a {
        self.touched.iter().map(|slot| partitions[slot.0 as usize].retry.not_before())
    }
}

fn name(request: &mut FetchRequest, partition: &Partition, member: &Member) {
    let wanted = FetchPartition {
        partition: partition.index,
        current_leader_epoch: member.leader_epoch,
        fetch_offset: member.offset,
        log_start_offset: -1,
        partition_max_bytes: member.bytes_max,
        ..Default::default()
    };
    match request.topics.last_mut().filter(|topic| topic.topic == partition.topic_name) {
        Some(topic) => topic.partitions.push(wanted),
        None => request.topics.push(FetchTopic {
            topic: partition.topic_name.clone(),
            topic_id: partition.topic_id.unwrap_or_default(),
            partitions: vec![wanted],
            ..Default::default()
        }),
    }
}

fn forget(request: &mut FetchRequest, partition: &Partition) {
    match request.forgotten_topics_data.last_mut().filter(|topic| topic.topic == partition.topic_name) {
        Some(topic) => topic.partitions.push(partition.index),
        None => request.forgotten_topics_data.push(ForgottenTopic {
            topic: partition.topic_name.clone(),
            topic_id: partition.topic_id.unwrap_or_default(),
            partitions: vec![partition.index],
            ..Default::default()
        }),
    }
}
