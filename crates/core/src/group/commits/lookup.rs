//! Asking for committed offsets (`OffsetFetch`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use milena_messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Uuid;

use super::super::terms::{MemberIdentity, TopicPartition};
use super::terms::StoredOffset;
use super::verdict::{Verdict, verdict};
use crate::backoff::Retry;
use crate::{Backoff, Failure, Instant, LeaderEpoch, Rng};

/// A request for stored offsets, to be made for the version that the connection speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    group: Arc<str>,
    identity: MemberIdentity,
    require_stable: bool,
    topics: Vec<(Arc<str>, Option<Uuid>, Vec<i32>)>,
}

/// The first version that asks for several groups.
const GROUPS: i16 = 8;
/// The first version that can ask for stable offsets (KIP-447). An older coordinator has no transactions to wait for: it
/// answers with the last offset that was committed for good.
const STABLE: i16 = 7;
/// The last version that names topics by name.
const BY_NAME: i16 = 9;

impl Lookup {
    /// The request, as `version` has it.
    pub fn request(&self, version: i16) -> OffsetFetchRequest {
        let require_stable = self.require_stable && version >= STABLE;
        if version < GROUPS {
            let topic =
                |(name, _, partitions): &(Arc<str>, Option<Uuid>, Vec<i32>)| OffsetFetchRequestTopic {
                    name: (&**name).into(),
                    partition_indexes: partitions.clone(),
                    ..Default::default()
                };
            return OffsetFetchRequest {
                group_id: (&*self.group).into(),
                topics: Some(self.topics.iter().map(topic).collect()),
                require_stable,
                ..Default::default()
            };
        }
        let topic = |(name, id, partitions): &(Arc<str>, Option<Uuid>, Vec<i32>)| OffsetFetchRequestTopics {
            name: (&**name).into(),
            topic_id: id.unwrap_or(Uuid::ZERO),
            partition_indexes: partitions.clone(),
            ..Default::default()
        };
        let is_member = self.identity.is_member();
        let group = OffsetFetchRequestGroup {
            group_id: (&*self.group).into(),
            // KIP-848: the coordinator refuses a member that it has fenced. Outside any group these are null and -1.
            member_id: is_member.then(|| (&*self.identity.member_id).into()),
            member_epoch: if is_member { self.identity.generation_or_epoch } else { -1 },
            topics: Some(self.topics.iter().map(topic).collect()),
            ..Default::default()
        };
        OffsetFetchRequest {
            topics: Some(Vec::new()),
            groups: vec![group],
            require_stable,
            ..Default::default()
        }
    }
}

/// Partitions whose committed offsets are wanted.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    wanted: BTreeMap<TopicPartition, Wanted>,
    in_flight: Option<(MemberIdentity, BTreeMap<TopicPartition, Wanted>)>,
    retry: Retry,
    next: u64,
}

/// The number tells a partition that is wanted again, after it was given up, from what was asked for before: another member may
/// have committed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wanted {
    number: u64,
    topic_id: Option<Uuid>,
}

/// What an answer says beside the offsets that it brought.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) found: VecDeque<(TopicPartition, Found)>,
    /// The worst that was said of the request as a whole, and the failure.
    pub(super) verdict: Option<(Verdict, Failure)>,
}

impl Lookups {
    pub(super) fn want(&mut self, partition: TopicPartition, topic_id: Option<Uuid>) {
        self.next += 1;
        self.wanted.insert(partition, Wanted { number: self.next, topic_id });
        self.retry.hurry();
    }

    /// The partition's topic has this id now. If it had another one, what was asked by that one is asked again.
    pub(super) fn set_topic_id(&mut self, partition: &TopicPartition, topic_id: Uuid) {
        let Some(wanted) = self.wanted.get_mut(partition) else { return };
        if wanted.topic_id.is_some_and(|id| id != topic_id) {
            self.next += 1;
            wanted.number = self.next;
        }
        wanted.topic_id = Some(topic_id);
    }

    pub(super) fn forget(&mut self, partition: &TopicPartition) {
        self.wanted.remove(partition);
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// Whether a request may go out at some time without another input.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.retry.not_before().filter(|_| self.is_wanted() && self.in_flight.is_none())
    }

    pub(super) fn hurry(&mut self) {
        self.retry.hurry();
    }

    pub(super) fn retry(&self) -> &Retry {
        &self.retry
    }

    /// Gives all lookups up; answers with their partitions.
    pub(super) fn abandon(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.wanted).into_keys().collect()
    }

    pub(super) fn poll(
        &mut self,
        group: &Arc<str>,
        identity: &MemberIdentity,
        require_stable: bool,
        now: Instant,
    ) -> Option<(Lookup, i16)> {
        if self.in_flight.is_some() || self.wanted.is_empty() || !self.retry.is_ready(now) {
            return None;
        }
        let mut topics: Vec<(Arc<str>, Option<Uuid>, Vec<i32>)> = Vec::new();
        let asked: BTreeMap<_, _> =
            self.wanted.iter().take(PARTITIONS_MAX).map(|(at, of)| (at.clone(), *of)).collect();
        for (at, of) in &asked {
            match topics.last_mut().filter(|(name, ..)| *name == at.topic) {
                Some((_, _, partitions)) => partitions.push(at.partition),
                None => topics.push((Arc::clone(&at.topic), of.topic_id, vec![at.partition])),
            }
        }
        let has_ids = topics.iter().all(|(_, id, _)| id.is_some());
        self.in_flight = Some((identity.clone(), asked));
        let lookup = Lookup { group: Arc::clone(group), identity: identity.clone(), require_stable, topics };
        Some((lookup, if has_ids { i16::MAX } else { BY_NAME }))
    }

    pub(super) fn handle_response(
        &mut self,
        response: &OffsetFetchResponse,
        identity: Option<&MemberIdentity>,
        now: Instant,
        backoff: &Backoff,
        rng: &mut Rng,
    ) -> Heard {
        let Some((sent_as, asked)) = self.in_flight.take() else { return Heard::default() };
        let mut heard = Heard::default();
        let whole = whole_code(response);
        let answered = answers(response);
        for (at, of) in asked {
            if self.wanted.get(&at).is_none_or(|now| now.number != of.number) {
                continue;
            }
            let answer = match &answered {
                _ if !whole.is_none() => Err(Failure::answer(whole, None).of(ApiKey::OffsetFetch)),
                Some(answered) => answered.find(&at, of.topic_id),
                None => Err(Failure::incomplete()),
            };
            let failure = match answer {
                Ok(stored) => {
                    self.wanted.remove(&at);
                    heard.found.push_back((at, Ok(stored)));
                    continue;
                }
                Err(failure) => failure,
            };
            let verdict =
                match failure.code().map(verdict) {
                    Some(
                        Verdict::Rejoin | Verdict::Overtaken | Verdict::Fenced | Verdict::AfterRebalance,
                    ) if !sent_as.is_member() => Verdict::Refused,
                    // The member has joined again since: the request is made again.
                    Some(Verdict::Rejoin | Verdict::Overtaken | Verdict::Fenced)
                        if identity != Some(&sent_as) =>
                    {
                        Verdict::AfterRebalance
                    }
                    Some(verdict) => verdict,
                    // The answer leaves the partition out, which does not mean that there is no offset.
                    None if self.retry.may_pass(&failure) => Verdict::Again,
                    None => Verdict::Refused,
                };
            if verdict == Verdict::Refused {
                self.wanted.remove(&at);
                heard.found.push_back((at, Err(failure)));
            } else {
                heard.verdict = Some((verdict, failure));
            }
        }
        match &heard.verdict {
            Some((_, failure)) => {
                self.retry.failed_by(failure, now, backoff, rng);
            }
            None => self.retry.succeeded(),
        }
        heard
    }

    /// The request got no answer. Answers whether it is made again.
    pub(super) fn handle_lost(
        &mut self,
        failure: &Failure,
        now: Instant,
        backoff: &Backoff,
        rng: &mut Rng,
    ) -> bool {
        self.in_flight = None;
        let may_pass = self.retry.may_pass(failure);
        self.retry.failed_by(failure, now, backoff, rng);
        may_pass
    }
}

/// The code for the request as a whole.
fn whole_code(response: &OffsetFetchResponse) -> ErrorCode {
    let of_group = response.groups.first().map(|group| group.error_code);
    of_group.unwrap_or(response.error_code)
}

/// What the group has stored of a partition: none if it has no offset there.
type Found = Result<Option<StoredOffset>, Failure>;

/// What an answer says, by the topic's name, its id, and the index of the partition. One of name and id is empty.
struct Answered(BTreeMap<(Arc<str>, Uuid, i32), Found>);

impl Answered {
    fn find(&self, at: &TopicPartition, id: Option<Uuid>) -> Found {
        let by_name = self.0.get(&(Arc::clone(&at.topic), Uuid::ZERO, at.partition));
        let by_id = || id.and_then(|id| self.0.get(&(Arc::from(""), id, at.partition)));
        by_name.or_else(by_id).cloned().unwrap_or_else(|| Err(Failure::incomplete()))
    }
}

/// What the answer says, by topic. None if it mentions no topic and no group.
fn answers(response: &OffsetFetchResponse) -> Option<Answered> {
    let mut all = BTreeMap::new();
    for topic in &response.topics {
        for of in &topic.partitions {
            let (offset, epoch) = (of.committed_offset, of.committed_leader_epoch);
            let found = found(of.error_code, offset, epoch, of.metadata.as_deref());
            all.insert((Arc::from(&*topic.name), Uuid::ZERO, of.partition_index), found);
        }
    }
    for topic in response.groups.iter().flat_map(|group| &group.topics) {
        for of in &topic.partitions {
            let (offset, epoch) = (of.committed_offset, of.committed_leader_epoch);
            let found = found(of.error_code, offset, epoch, of.metadata.as_deref());
            all.insert((Arc::from(&*topic.name), topic.topic_id, of.partition_index), found);
        }
    }
    let is_mentioned = !response.topics.is_empty() || !response.groups.is_empty();
    is_mentioned.then_some(Answered(all))
}

/// What an answer says of a partition. An offset of -1 means that the group has none there.
fn found(code: ErrorCode, offset: i64, epoch: i32, text: Option<&str>) -> Found {
    Failure::check(code, None).map_err(|failure| failure.of(ApiKey::OffsetFetch))?;
    Ok((offset >= 0).then(|| StoredOffset {
        offset,
        leader_epoch: LeaderEpoch::known(epoch),
        metadata: text.filter(|text| !text.is_empty()).map(Arc::from),
    }))
}

/// One request asks for this many partitions at most; the next request asks for the rest.
const PARTITIONS_MAX: usize = 10_000;
