//! An incremental fetch session (KIP-227): the broker remembers the partitions that we want, and we remember what it
//! remembers, so that a request names only those that have changed. 10 000 idle partitions cost nothing per request.
//!
//! ```text
//!  touched ─ request: named, forgotten ─▶ broker
//!     ▲                  │
//!     │ reset: it failed ├─ commit: it was answered ─▶ members
//!     └──────────────────┘
//! ```
//!
//! What we remember changes only when an answer proves that the broker heard us. After a failure the session begins
//! anew with a full request.

use std::collections::{BTreeMap, BTreeSet};

use milena_messages::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use milena_wire::{Lists, Uuid};

use super::appetite::whole_batches;
use super::partition::{Partition, Reader};
use super::{Epoch, LaneId, Settings, Slot};
use crate::Instant;

#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    /// The epoch of the next request; [`INITIAL`] asks for a new session.
    epoch: i32,
    /// What the broker remembers of each partition.
    members: BTreeMap<Slot, Member>,
    /// How many of the members have no topic id.
    without_id: usize,
    /// Partitions of which something else may be wanted than what the broker remembers.
    touched: BTreeSet<Slot>,
    /// No partition was wanted when that was looked at last, and none was touched since.
    is_idle: bool,
    /// What an answered request had said, emptied: its memory serves the next one.
    spare: Sent,
}

/// What a request says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    pub offset: i64,
    pub epoch: Epoch,
    leader_epoch: i32,
    topic_id: Uuid,
    bytes_max: i32,
}

/// What a request tells the broker to remember. It counts once the request is answered.
#[derive(Debug, Default)]
pub(super) struct Sent {
    named: Vec<(Slot, Member)>,
    forgotten: Vec<Slot>,
}

/// A request that says more than this is rare: the first one names all partitions. Its memory is not kept.
const SPARE_MAX: usize = 256;

impl Sent {
    /// What the request says of `slot`: nothing, that it is forgotten (an inner none), or what is wanted of it.
    pub(super) fn says(&self, slot: Slot) -> Option<Option<Member>> {
        // Both are in the order of slots.
        let named = self.named.binary_search_by_key(&slot, |(named, _)| *named);
        let named = named.ok().map(|at| Some(self.named[at].1));
        named.or_else(|| self.forgotten.binary_search(&slot).is_ok().then_some(None))
    }

    /// The partitions that the request names.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.named.iter().map(|(slot, _)| *slot).collect()
    }

    fn has_ids(&self) -> bool {
        self.named.iter().all(|(_, member)| member.topic_id != Uuid::default())
    }
}

impl Session {
    /// Whether `slot` is wanted, or from which offset, may have changed.
    pub(super) fn touch(&mut self, slot: Slot) {
        self.touched.insert(slot);
        self.is_idle = false;
    }

    /// Whether no partition is known to be wanted.
    pub(super) fn is_idle(&self) -> bool {
        self.is_idle
    }

    /// The next request, unless no partition is wanted, and whether all topics of the session have ids.
    pub(super) fn request(
        &mut self,
        lane: LaneId,
        partitions: &[Partition],
        limits: &Limits<'_>,
        lists: &mut Lists,
        now: Instant,
    ) -> Option<(Sent, FetchRequest, bool)> {
        if self.is_idle {
            return None;
        }
        let wanted = |slot: Slot| {
            let partition = &partitions[slot.0 as usize];
            let is_wanted = partition.lane() == Some(lane) && partition.is_wanted(now);
            is_wanted.then(|| Member::new(partition, limits)).flatten()
        };
        // A topic that was made again has another id. Up to v12 a request names topics by name: it would name the
        // partition and forget it in one, Kafka would obey the latter, and the partition would never be read. The
        // session begins anew.
        let is_remade = |slot: &Slot| {
            let known = self.members.get(slot);
            known.is_some_and(|known| wanted(*slot).is_some_and(|member| member.topic_id != known.topic_id))
        };
        if self.touched.iter().any(is_remade) {
            self.epoch = INITIAL;
        }
        if self.epoch == INITIAL {
            self.clear();
        }
        let mut sent = std::mem::take(&mut self.spare);
        // With the initial epoch the id names the session that this one replaces, so that the broker drops it.
        let mut request =
            FetchRequest { session_id: self.id, session_epoch: self.epoch, ..Default::default() };
        // Taken one by one, the set keeps its memory for the next request.
        while let Some(slot) = self.touched.pop_first() {
            let partition = &partitions[slot.0 as usize];
            let known = self.members.get(&slot);
            match (wanted(slot), known) {
                // Touched, and wanted as before: the broker knows.
                (Some(member), known) => {
                    if known != Some(&member) {
                        name(&mut request, partition, &member, lists);
                        sent.named.push((slot, member));
                    }
                }
                (None, Some(known)) => {
                    forget(&mut request, partition, known, lists);
                    sent.forgotten.push(slot);
                }
                (None, None) => {}
            }
        }
        let remaining = self.members.len()
            + sent.named.iter().filter(|(slot, _)| !self.members.contains_key(slot)).count();
        if remaining == sent.forgotten.len() {
            // A request without partitions would be a round trip for nothing. What the broker remembers can stay: it
            // does not look at it before the next request, which says then what to forget.
            self.touched.extend(sent.forgotten.iter().copied());
            self.is_idle = true;
            self.recycle(sent);
            recycle(request, lists);
            return None;
        }
        let has_ids = self.without_id == 0 && sent.has_ids();
        Some((sent, request, has_ids))
    }

    /// The request was answered, so the broker remembers what it said.
    pub(super) fn commit(&mut self, sent: &Sent, session_id: i32) {
        for slot in &sent.forgotten {
            self.replace(*slot, None);
        }
        for (slot, member) in &sent.named {
            self.replace(*slot, Some(*member));
        }
        self.id = session_id;
        // Id 0 is no session: the broker has no room for one (`max.incremental.fetch.session.cache.slots`), and every
        // request is a full one. Epochs wrap to 1, as 0 asks for a new session.
        self.epoch = match (session_id, self.epoch) {
            (0, _) => INITIAL,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
    }

    /// Keeps the memory of `sent`, whose request was answered or is not sent.
    pub(super) fn recycle(&mut self, mut sent: Sent) {
        if sent.named.capacity().max(sent.forgotten.capacity()) > SPARE_MAX {
            return;
        }
        sent.named.clear();
        sent.forgotten.clear();
        self.spare = sent;
    }

    /// The next request is a full one: the broker does not know the session, or we do not know whether it heard the
    /// request. If `may_exist`, the full request names the session, so that the broker drops it.
    pub(super) fn reset(&mut self, sent: &Sent, may_exist: bool) {
        if !may_exist {
            self.id = 0;
        }
        self.epoch = INITIAL;
        self.clear();
        self.touched.extend(sent.named.iter().map(|(slot, _)| *slot));
        self.is_idle = false;
    }

    /// The request that ends the session (KIP-227: a final epoch), if the broker has one. It names no partition, so that the
    /// broker answers it at once.
    pub(super) fn close(&mut self) -> Option<FetchRequest> {
        let session_id = std::mem::take(&mut self.id);
        self.epoch = INITIAL;
        (session_id != 0).then(|| FetchRequest { session_id, session_epoch: FINAL, ..Default::default() })
    }

    /// The broker has opened a session of this id, or none if it is 0.
    pub(super) fn handle_opened(&mut self, id: i32) {
        self.id = id;
    }

    /// Forgets what the broker remembers. All of it is touched, to be named again if it is wanted.
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

    /// What the broker remembers of `slot`.
    pub(super) fn member(&self, slot: Slot) -> Option<Member> {
        self.members.get(&slot).copied()
    }

    /// The partitions that the broker remembers.
    pub(super) fn slots(&self) -> Vec<Slot> {
        self.members.keys().copied().collect()
    }
}

impl Member {
    /// What to say of `partition`, if it is being fetched.
    fn new(partition: &Partition, limits: &Limits<'_>) -> Option<Self> {
        let offset = partition.state.fetched()?;
        let bytes_max = limits.bytes_max(partition);
        Some(Self {
            offset,
            epoch: partition.epoch,
            leader_epoch: partition.leader_epoch.map_or(-1, |epoch| epoch.0),
            topic_id: partition.topic_id.unwrap_or_default(),
            bytes_max: i32::try_from(bytes_max).unwrap_or(i32::MAX),
        })
    }
}

/// How many bytes a request asks for of each partition.
#[derive(Debug)]
pub(super) struct Limits<'a> {
    pub settings: &'a Settings,
    /// While memory is short, the number of bytes for a partition with a reader of its own. None while it is not short.
    pub own_bytes: Option<usize>,
}

impl Limits<'_> {
    fn bytes_max(&self, partition: &Partition) -> usize {
        let (settings, batch_bytes) = (self.settings, partition.batch_bytes);
        match self.own_bytes.filter(|_| partition.reader == Reader::Own) {
            // A reader may take one batch and stop, and the batches after that one would keep their memory. Brokers send
            // a first batch whole whatever the limit (KIP-74), but only the first one of the answer: with the size of
            // a batch as the limit, one answer has a batch for each of several readers.
            Some(own_bytes) => {
                let bytes = whole_batches(own_bytes, batch_bytes).max(batch_bytes);
                bytes.min(settings.partition_bytes_max).max(1)
            }
            None => whole_batches(settings.partition_bytes_max, batch_bytes).max(least(settings)),
        }
    }

    /// Whether `member`, a partition with a reader of its own, must be named again because memory has become short, or
    /// is no longer short.
    pub(super) fn is_outdated(&self, member: &Member, partition: &Partition) -> bool {
        let told = usize::try_from(member.bytes_max).unwrap_or(0);
        match self.own_bytes {
            Some(_) => told > self.bytes_max(partition),
            // Otherwise the small limit can stay until the partition is named for another reason.
            None => told < least(self.settings),
        }
    }
}

/// A broker that waits for `fetch_bytes_min` counts no more of a partition than its limit, so with a smaller limit than
/// this one partition full of records would be waited for until `fetch_wait` is over.
fn least(settings: &Settings) -> usize {
    settings.fetch_bytes_min.min(settings.partition_bytes_max)
}

/// `SessionEpoch` of a FetchRequest that asks for a new session.
pub(super) const INITIAL: i32 = 0;
/// `SessionEpoch` of a FetchRequest that ends the session it names and makes no other. A request with this epoch and without
/// a session is outside of any session, and names all that it wants.
pub(super) const FINAL: i32 = -1;

/// A request outside of any session for the partitions of `slots`, in this order: the broker begins with the first.
pub(super) fn ration(
    slots: impl Iterator<Item = Slot>,
    partitions: &[Partition],
    limits: &Limits<'_>,
    lists: &mut Lists,
) -> (Sent, FetchRequest, bool) {
    let mut sent = Sent::default();
    let mut request = FetchRequest { session_epoch: FINAL, ..Default::default() };
    for slot in slots {
        let partition = &partitions[slot.0 as usize];
        if let Some(member) = Member::new(partition, limits) {
            name(&mut request, partition, &member, lists);
            sent.named.push((slot, member));
        }
    }
    sent.named.sort_unstable_by_key(|(slot, _)| *slot);
    let has_ids = sent.has_ids();
    (sent, request, has_ids)
}

fn name(request: &mut FetchRequest, partition: &Partition, member: &Member, lists: &mut Lists) {
    let wanted = FetchPartition {
        partition: partition.index,
        current_leader_epoch: member.leader_epoch,
        fetch_offset: member.offset,
        log_start_offset: -1,
        partition_max_bytes: member.bytes_max,
        ..Default::default()
    };
    let is_same =
        |topic: &&mut FetchTopic| topic.topic == partition.topic_name && topic.topic_id == member.topic_id;
    match request.topics.last_mut().filter(is_same) {
        Some(topic) => topic.partitions.push(wanted),
        None => {
            let mut named = lists.take();
            named.push(wanted);
            push(
                &mut request.topics,
                FetchTopic {
                    topic: partition.topic_name.clone(),
                    topic_id: member.topic_id,
                    partitions: named,
                    ..Default::default()
                },
                lists,
            );
        }
    }
}

/// Forgets a partition under the id that it was named by: the topic may have been made again since.
fn forget(request: &mut FetchRequest, partition: &Partition, told: &Member, lists: &mut Lists) {
    let is_same =
        |topic: &&mut ForgottenTopic| topic.topic == partition.topic_name && topic.topic_id == told.topic_id;
    match request.forgotten_topics_data.last_mut().filter(is_same) {
        Some(topic) => topic.partitions.push(partition.index),
        None => {
            let mut forgotten = lists.take();
            forgotten.push(partition.index);
            push(
                &mut request.forgotten_topics_data,
                ForgottenTopic {
                    topic: partition.topic_name.clone(),
                    topic_id: told.topic_id,
                    partitions: forgotten,
                    ..Default::default()
                },
                lists,
            );
        }
    }
}

/// Appends to a list that gets the memory of an earlier one, unless it stays empty.
fn push<T: Send + Sync + 'static>(list: &mut Vec<T>, element: T, lists: &mut Lists) {
    if list.capacity() == 0 {
        *list = lists.take();
    }
    list.push(element);
}

/// Keeps the lists of a request that was sent or is not sent.
pub(super) fn recycle(mut request: FetchRequest, lists: &mut Lists) {
    request.topics.drain(..).for_each(|topic| lists.give(topic.partitions));
    lists.give(request.topics);
    request.forgotten_topics_data.drain(..).for_each(|topic| lists.give(topic.partitions));
    lists.give(request.forgotten_topics_data);
}
