//! A consumer group in the hands of the coordinator: heartbeats, members that leave and members whose time is over.
//!
//! Each of them makes the changes first and looks at nothing that it has changed, then it writes them, and then the group
//! takes them. So nothing has happened when the disk fails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use milena_messages::ErrorCode;
use milena_messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatRequestTopicPartitions,
    ConsumerGroupHeartbeatResponse, ConsumerGroupHeartbeatResponseTopicPartitions,
};
use milena_wire::{Str, Uuid};

use super::assignor::{Assignor, Candidate};
use super::reconcile::Step;
use super::{AWAY, Change, Consumer, Held, Member, MemberState, Partitions, Resolved};
use super::{epoch_change, target_change, target_epoch_change};
use crate::groups::classic::owned;
use crate::groups::record::Record;
use crate::groups::topics::Topics;
use crate::groups::{Due, Shared};
use crate::now::Now;
use crate::pattern::Pattern;

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

/// A heartbeat and where it comes from.
#[derive(Debug)]
pub(crate) struct Beat<'a> {
    pub(crate) request: &'a ConsumerGroupHeartbeatRequest,
    pub(crate) client_id: Str,
    pub(crate) client_host: String,
}

/// A group in the hands of the coordinator.
#[derive(Debug)]
pub(in crate::groups) struct Turn<'a> {
    id: &'a Str,
    group: &'a mut Consumer,
    shared: &'a mut Shared,
    now: Now,
}

/// What becomes of a member and its group.
#[derive(Debug)]
pub(super) struct Plan {
    changes: Vec<Change>,
    id: Str,
    before: Member,
    after: Member,
    /// The static member whose place this one takes.
    replaced: Option<Str>,
    needs_patterns: bool,
}

impl Plan {
    /// The member's epoch.
    pub(super) fn epoch(&self) -> i32 {
        self.after.epoch
    }
}

/// Patterns are not looked at more often than this (Kafka's constant).
const PATTERNS_INTERVAL_MS: i64 = 10_000;
/// Patterns are looked at after this time even if no topic was created (Kafka's internal
/// `group.consumer.regex.refresh.interval.ms`).
const PATTERNS_REFRESH_MS: i64 = 10 * 60 * 1000;

/// The member epoch of a member that leaves.
const LEAVES: i32 = -1;
/// From this version on members choose their ids themselves.
const MEMBER_ID_FROM: i16 = 1;

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Checks what can be said of a heartbeat without its group.
pub(crate) fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::INVALID_REQUEST, message));
    let is_blank = |text: &Option<Str>| text.as_ref().is_some_and(|text| text.trim().is_empty());
    let epoch = request.member_epoch;
    if (version >= MEMBER_ID_FROM || epoch > 0 || epoch == LEAVES) && request.member_id.trim().is_empty() {
        return invalid("the member id is empty");
    }
    if request.group_id.trim().is_empty() {
        return invalid("the group id is empty");
    }
    if is_blank(&request.instance_id) {
        return invalid("the group instance id is empty");
    }
    if is_blank(&request.rack_id) {
        return invalid("the rack id is empty");
    }
    match epoch {
        0 => {
            if request.rebalance_timeout_ms == -1 {
                return invalid("the first heartbeat of a member must have a rebalance timeout");
            }
            if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
                return invalid("a member that joins owns no partitions, and must say so");
            }
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                return invalid("the first heartbeat of a member must have a subscription");
            }
        }
        AWAY if request.instance_id.is_none() => {
            return invalid("only a member with a group instance id can leave for a while");
        }
        ..AWAY => return invalid("there is no such member epoch"),
        _ => {}
    }
    match &request.server_assignor {
        Some(name) if Assignor::named(name).is_none() => {
            let known = Assignor::ALL.map(Assignor::name).join(", ");
            let message = format!("there is no assignor {name}, but {known}");
            Err(Refusal::new(ErrorCode::UNSUPPORTED_ASSIGNOR, message))
        }
        _ => Ok(()),
    }
}

impl Turn<'_> {
    pub(in crate::groups) fn new<'a>(
        id: &'a Str,
        group: &'a mut Consumer,
        shared: &'a mut Shared,
        now: Now,
    ) -> Turn<'a> {
        Turn { id, group, shared, now }
    }

    pub(in crate::groups) fn group(&self) -> &Consumer {
        self.group
    }

    /// A member joins, or says that it lives and what it has. `before` are the changes that made the group.
    pub(in crate::groups) fn heartbeat(
        &mut self,
        beat: &Beat<'_>,
        before: Vec<Record>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let request = beat.request;
        let id = if request.member_id.is_empty() { self.new_id() } else { owned(&request.member_id) };
        let owned_partitions = request.topic_partitions.as_deref().map(owned_partitions);
        self.check_room(&id, request.instance_id.as_ref())?;
        let (member, replaced) = self.member(request, &id, owned_partitions.as_ref())?;
        let mut after = member.clone();
        after.update(beat);
        let plan = self.plan(id.clone(), member, &after, replaced, owned_partitions.as_ref())?;
        let is_full = request.rebalance_timeout_ms != -1
            && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
            && request.topic_partitions.is_some();
        let tells = request.member_epoch == 0 || is_full || plan.after.assigned != plan.before.assigned;
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(id),
            member_epoch: plan.epoch(),
            heartbeat_interval_ms: self.shared.settings.consumer_heartbeat_interval.as_millis() as i32,
            assignment: tells.then(|| assignment(&plan.after.assigned)),
            ..Default::default()
        };
        self.enact(before, plan)?;
        Ok(response)
    }

    /// What becomes of the group when a member is `after` that was `before`: its subscription, the group's epoch, the
    /// target assignment, and the member's next step.
    pub(super) fn plan(
        &self,
        id: Str,
        before: Member,
        after: &Member,
        replaced: Option<Str>,
        owned: Option<&Partitions>,
    ) -> Result<Plan, Refusal> {
        let mut changes = Vec::new();
        if let Some(replaced) = &replaced {
            let none = Partitions::new();
            changes.extend(removal(replaced));
            changes.push(before.metadata_change(&id));
            changes.push(target_change(&id, self.group.targets.get(replaced).unwrap_or(&none)));
            changes.push(before.current_change(&id));
        }
        if *after != before {
            changes.push(after.metadata_change(&id));
        }
        let view = View { group: self.group, without: replaced.as_ref(), id: &id, member: after };
        let has_new_names = after.topics != before.topics;
        let (pattern, needs_patterns) = self.update_pattern(&before, &view, &mut changes)?;
        // Most heartbeats change nothing, and must not cost what the group has of members.
        let has_new_assignor = after.assignor != before.assignor
            && self.group.assignor(self.group.members.values()) != self.group.assignor(view.members());
        let is_new = has_new_names || pattern == PatternChange::Resolved || has_new_assignor;
        let mut epoch = self.group.epoch;
        if is_new || self.group.seen != Some(self.shared.topics.version()) {
            let hash = self.shared.topics.hash(view.topics().into_iter());
            if is_new || hash != self.group.metadata_hash {
                epoch += 1;
                changes.push(epoch_change(epoch, hash));
            }
        }
        let (target_epoch, target) = self.target(epoch, &view, replaced.as_ref(), &mut changes);
        let step = Step {
            target_epoch,
            target: &target,
            topics: self.shared.topics.ids(view.topics_of(after)),
            has_new_topics: has_new_names || pattern != PatternChange::None,
            owned,
            is_taken: &|topic, partition| self.group.owners.contains_key(&(topic, partition)),
        };
        let mut reconciled = after.clone();
        step.take(&mut reconciled);
        if reconciled != *after {
            changes.push(reconciled.current_change(&id));
        }
        Ok(Plan { changes, id, before, after: reconciled, replaced, needs_patterns })
    }

    /// Writes a plan after `records`, carries it out, and sets the member's timers.
    pub(super) fn enact(&mut self, records: Vec<Record>, plan: Plan) -> Result<(), Refusal> {
        let Plan { changes, id, before, after, replaced, needs_patterns } = plan;
        self.write(records, &changes)?;
        self.group.seen = Some(self.shared.topics.version());
        if let Some(replaced) = replaced {
            self.cancel(&replaced);
        }
        self.renew(&id);
        // Members of the classic protocol must join again in time, and that covers giving up.
        if after.state != MemberState::Unrevoked || after.classic.is_some() {
            self.cancel_due(Due::Revocation, &id);
        } else if after.state != before.state || after.revoking != before.revoking {
            self.set_due(Due::Revocation, &id, after.rebalance_timeout());
        }
        if needs_patterns {
            self.shared.set(Due::Patterns(self.id.clone()), self.now.instant);
        }
        Ok(())
    }

    /// An id for a member that does not choose it itself.
    pub(super) fn new_id(&mut self) -> Str {
        Str::from(self.shared.random.uuid().to_string())
    }

    pub(super) fn topics(&self) -> &Topics {
        &self.shared.topics
    }

    pub(super) fn check_room(&self, id: &Str, instance_id: Option<&Str>) -> Result<(), Refusal> {
        let is_known = self.group.members.contains_key(id)
            || instance_id.is_some_and(|instance_id| self.group.statics.contains_key(instance_id));
        let max = self.shared.settings.consumer_members_max;
        if is_known || self.group.members.len() < max {
            return Ok(());
        }
        Err(Refusal::new(ErrorCode::GROUP_MAX_SIZE_REACHED, format!("the group has {max} members already")))
    }

    /// The member as it was before the heartbeat, and the member whose place it takes.
    fn member(
        &self,
        request: &ConsumerGroupHeartbeatRequest,
        id: &Str,
        owned: Option<&Partitions>,
    ) -> Result<(Member, Option<Str>), Refusal> {
        let joins = request.member_epoch == 0;
        let Some(instance_id) = &request.instance_id else {
            let member = match self.group.members.get(id) {
                Some(member) => member.clone(),
                None if joins => Member::default(),
                None => return Err(self.unknown(id)),
            };
            member.check_epoch(request.member_epoch, owned)?;
            return Ok((member, None));
        };
        let Some(holder) = self.group.statics.get(instance_id) else {
            return if joins {
                Ok((self.group.members.get(id).cloned().unwrap_or_default(), None))
            } else {
                Err(Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, format!("nobody is {instance_id}")))
            };
        };
        let member = &self.group.members[holder];
        if !joins {
            self.check_instance(holder, id, instance_id)?;
            member.check_epoch(request.member_epoch, owned)?;
            return Ok((member.clone(), None));
        }
        if member.classic.is_none() && member.epoch != AWAY {
            let message = format!("member {holder} is {instance_id} and has not left");
            return Err(Refusal::new(ErrorCode::UNRELEASED_INSTANCE_ID, message));
        }
        let member = Member { epoch: 0, previous_epoch: 0, ..member.clone() };
        Ok((member, Some(holder.clone())))
    }

    fn unknown(&self, id: &Str) -> Refusal {
        let message = format!("group {} has no member {id}", self.id);
        Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, message)
    }

    fn check_instance(&self, holder: &Str, id: &Str, instance_id: &Str) -> Result<(), Refusal> {
        if holder == id {
            return Ok(());
        }
        let message = format!("member {holder} is {instance_id} now");
        Err(Refusal::new(ErrorCode::FENCED_INSTANCE_ID, message))
    }

    /// What a member's new pattern changes, and whether patterns must be looked at again.
    fn update_pattern(
        &self,
        before: &Member,
        view: &View<'_>,
        changes: &mut Vec<Change>,
    ) -> Result<(PatternChange, bool), Refusal> {
        let after = view.member;
        let (old, new) = (&before.pattern, &after.pattern);
        let (mut change, mut needs) = (PatternChange::None, false);
        if old.is_empty() && new.is_empty() && self.group.patterns.is_empty() {
            return Ok((change, needs));
        }
        let subscribers =
            |pattern: &Str| self.group.members.values().filter(|member| member.pattern == *pattern).count();
        if old != new {
            change = PatternChange::Changed;
            if !old.is_empty() && subscribers(old) == 1 {
                changes.push(Change::Pattern(old.clone(), None));
            }
            if new.is_empty() {
                change = PatternChange::Resolved;
            } else if subscribers(new) == 0 {
                let compiled = Pattern::new(new);
                compiled.map_err(|why| {
                    let message = format!("{new:?} is no regular expression: {why}");
                    Refusal::new(ErrorCode::INVALID_REGULAR_EXPRESSION, message)
                })?;
                needs = true;
            } else if self.group.patterns.contains_key(new) {
                change = PatternChange::Resolved;
            }
        }
        let patterns = view.patterns();
        let last = self.group.patterns.values().next();
        let since = last.map(|resolved| self.now.unix_ms - resolved.time_ms);
        if patterns.is_empty() || since.is_some_and(|since| since <= PATTERNS_INTERVAL_MS) {
            return Ok((change, false));
        }
        needs |= patterns.len() != self.group.patterns.len()
            || last.is_some_and(|resolved| resolved.version < self.shared.topics.created())
            || since.is_some_and(|since| since > PATTERNS_REFRESH_MS);
        Ok((change, needs))
    }

    /// The target epoch and what the member is to have in it. They are made anew when the group's epoch is higher.
    fn target(
        &self,
        epoch: i32,
        view: &View<'_>,
        replaced: Option<&Str>,
        changes: &mut Vec<Change>,
    ) -> (i32, Partitions) {
        let last = |id: &Str| self.group.targets.get(id).cloned().unwrap_or_default();
        let due_ms =
            self.group.target_time_ms + self.shared.settings.consumer_assignment_interval.as_millis() as i64;
        let is_early = self.group.target_time_ms != 0 && self.now.unix_ms < due_ms;
        if self.group.target_epoch >= epoch || is_early {
            return (self.group.target_epoch, last(replaced.unwrap_or(view.id)));
        }
        let mut targets = view.assign(&self.shared.topics);
        for (id, target) in &targets {
            let before = if id == view.id { replaced.unwrap_or(id) } else { id };
            if self.group.targets.get(before) != Some(target) {
                changes.push(target_change(id, target));
            }
        }
        changes.push(target_epoch_change(epoch, self.now.unix_ms));
        (epoch, targets.remove(view.id).unwrap_or_default())
    }

    /// A member leaves, for good or for a while. The answer is the member that is to be removed.
    pub(in crate::groups) fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
    ) -> Result<Option<Str>, Refusal> {
        let id = owned(&request.member_id);
        let Some(instance_id) = &request.instance_id else {
            return if self.group.members.contains_key(&id) { Ok(Some(id)) } else { Err(self.unknown(&id)) };
        };
        let Some(holder) = self.group.statics.get(instance_id) else {
            return Err(Refusal::new(ErrorCode::UNKNOWN_MEMBER_ID, format!("nobody is {instance_id}")));
        };
        self.check_instance(holder, &id, instance_id)?;
        if request.member_epoch != AWAY {
            return Ok(Some(id));
        }
        let away = Member { epoch: AWAY, revoking: Held::new(), ..self.group.members[&id].clone() };
        self.write(Vec::new(), &[away.current_change(&id)])?;
        Ok(None)
    }

    /// Whether a member's time is over that this timer is for.
    pub(in crate::groups) fn is_over(&self, due: &Due, id: &str) -> bool {
        let member = self.group.members.get(id);
        member.is_some_and(|member| {
            !matches!(due, Due::Revocation(..)) || member.state == MemberState::Unrevoked
        })
    }

    /// Members leave the group. The others get their partitions with their next heartbeats.
    pub(in crate::groups) fn remove(&mut self, ids: &[Str]) -> Result<(), Refusal> {
        let stay = || self.group.members.iter().filter(|(id, _)| !ids.contains(id)).map(|(_, member)| member);
        let mut changes: Vec<Change> = ids.iter().flat_map(removal).collect();
        let patterns: BTreeSet<&Str> = stay().map(|member| &member.pattern).collect();
        let gone = self.group.patterns.keys().filter(|pattern| !patterns.contains(pattern));
        changes.extend(gone.map(|pattern| Change::Pattern(pattern.clone(), None)));
        let topics: BTreeSet<&Str> = stay().flat_map(|member| self.group.topics_of(member)).collect();
        let epoch = self.group.epoch + 1;
        changes.push(epoch_change(epoch, self.shared.topics.hash(topics.into_iter())));
        if stay().next().is_none() {
            changes.push(target_epoch_change(epoch, 0));
        }
        self.write(Vec::new(), &changes)?;
        ids.iter().for_each(|id| self.cancel(id));
        Ok(())
    }

    /// Finds the topics that match the patterns of subscriptions.
    pub(in crate::groups) fn resolve_patterns(&mut self) {
        let patterns: BTreeSet<Str> = self
            .group
            .members
            .values()
            .map(|member| &member.pattern)
            .filter(|pattern| !pattern.is_empty())
            .cloned()
            .collect();
        if patterns.is_empty() {
            return;
        }
        let mut resolved = BTreeMap::new();
        for pattern in patterns {
            // Kafka, too, takes one that was written by a version with another syntax for one that matches nothing.
            let compiled = Pattern::new(&pattern).ok();
            let topics = Arc::clone(&self.shared.topics);
            let matching = topics
                .names()
                .filter(|name| compiled.as_ref().is_some_and(|compiled| compiled.matches(name)));
            let (version, time_ms) = (self.shared.topics.version(), self.now.unix_ms);
            resolved.insert(pattern, Resolved { topics: matching.cloned().collect(), version, time_ms });
        }
        let none = BTreeSet::new();
        let known =
            |pattern: &Str| self.group.patterns.get(pattern).map_or(&none, |resolved| &resolved.topics);
        let is_new = resolved.iter().any(|(pattern, resolved)| resolved.topics != *known(pattern));
        let mut changes: Vec<Change> =
            resolved.iter().map(|(pattern, resolved)| resolved.change(pattern)).collect();
        let members = self.group.members.values();
        let topics: BTreeSet<&Str> = members
            .flat_map(|member| {
                let matching = resolved.get(&member.pattern).map(|resolved| &resolved.topics);
                member.topics.iter().chain(matching.into_iter().flatten())
            })
            .collect();
        let hash = self.shared.topics.hash(topics.into_iter());
        if is_new || hash != self.group.metadata_hash {
            changes.push(epoch_change(self.group.epoch + 1, hash));
        }
        if self.write(Vec::new(), &changes).is_ok() {
            self.group.seen = Some(self.shared.topics.version());
        }
    }

    /// Starts the timers of a group that another coordinator had, or another process.
    pub(in crate::groups) fn start_timers(&mut self) {
        let members = self.group.members.iter();
        let members: Vec<(Str, Option<Duration>)> = members
            .map(|(id, member)| {
                let is_revoking = member.state == MemberState::Unrevoked && member.classic.is_none();
                (id.clone(), is_revoking.then(|| member.rebalance_timeout()))
            })
            .collect();
        for (id, revocation) in members {
            self.renew(&id);
            if let Some(timeout) = revocation {
                self.set_due(Due::Revocation, &id, timeout);
            }
        }
    }

    /// Writes changes, and has the group take them.
    fn write(&mut self, mut records: Vec<Record>, changes: &[Change]) -> Result<(), Refusal> {
        let record = |change: &Change| Record::Consumer { group: self.id.clone(), change: change.clone() };
        records.extend(changes.iter().map(record));
        if !self.shared.write(&records) {
            return Err(Refusal::new(ErrorCode::NOT_COORDINATOR, "the disk failed"));
        }
        changes.iter().for_each(|change| self.group.take(change));
        Ok(())
    }

    /// The member's session begins anew.
    pub(in crate::groups) fn renew(&mut self, id: &Str) {
        let classic = self.group.members.get(id).and_then(|member| member.classic.as_ref());
        let timeout = classic.map_or(self.shared.settings.consumer_session_timeout, |classic| {
            Duration::from_millis(classic.session_timeout_ms.max(0) as u64)
        });
        self.set_due(Due::Session, id, timeout);
    }

    fn cancel(&mut self, id: &Str) {
        Due::OF_MEMBERS.into_iter().for_each(|due| self.cancel_due(due, id));
    }

    pub(super) fn set_due(&mut self, due: fn(Str, Str) -> Due, id: &Str, timeout: Duration) {
        self.shared.set(due(self.id.clone(), id.clone()), self.now.instant + timeout);
    }

    pub(super) fn has_due(&self, due: fn(Str, Str) -> Due, id: &Str) -> bool {
        self.shared.queue.contains(&due(self.id.clone(), id.clone()))
    }

    pub(super) fn cancel_due(&mut self, due: fn(Str, Str) -> Due, id: &Str) {
        self.shared.queue.cancel(&due(self.id.clone(), id.clone()));
    }
}

/// The group's members as they are with a heartbeat's member.
struct View<'a> {
    group: &'a Consumer,
    without: Option<&'a Str>,
    id: &'a Str,
    member: &'a Member,
}

/// What becomes of a member's pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PatternChange {
    None,
    /// It is another one, and its topics are not known yet.
    Changed,
    /// It is another one or none, and its topics are known.
    Resolved,
}

impl<'a> View<'a> {
    fn each(&self) -> impl Iterator<Item = (&'a Str, &'a Member)> {
        let (id, without) = (self.id, self.without);
        let others =
            self.group.members.iter().filter(move |(other, _)| *other != id && Some(*other) != without);
        others.chain([(id, self.member)])
    }

    fn members(&self) -> impl Iterator<Item = &'a Member> {
        self.each().map(|(_, member)| member)
    }

    fn patterns(&self) -> BTreeSet<&'a Str> {
        self.members().map(|member| &member.pattern).filter(|pattern| !pattern.is_empty()).collect()
    }

    fn topics_of(&self, member: &'a Member) -> impl Iterator<Item = &'a Str> {
        self.group.topics_of(member)
    }

    fn topics(&self) -> BTreeSet<&'a Str> {
        self.members().flat_map(|member| self.topics_of(member)).collect()
    }

    fn assign(&self, topics: &Topics) -> BTreeMap<Str, Partitions> {
        let none = Partitions::new();
        let target_of = |id: &Str| match self.without {
            Some(replaced) if id == self.id => self.group.targets.get(replaced),
            _ => self.group.targets.get(id),
        };
        let members: BTreeMap<&Str, Candidate<'_>> = self
            .each()
            .map(|(id, member)| {
                let topics = topics.ids(self.topics_of(member));
                let target = target_of(id).unwrap_or(&none);
                (id, Candidate { instance_id: member.instance_id.as_ref(), topics, target })
            })
            .collect();
        let subscribed: BTreeSet<Uuid> =
            members.values().flat_map(|member| member.topics.iter().copied()).collect();
        let counts = subscribed.into_iter().map(|topic| (topic, topics.partitions(topic))).collect();
        self.group.assignor(self.members()).assign(&members, &counts)
    }
}

impl Member {
    /// How long it may take to give up partitions, or to join again.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        Duration::from_millis(self.rebalance_timeout_ms.max(0) as u64)
    }

    /// Takes over what a heartbeat says. What it leaves out has not changed.
    fn update(&mut self, beat: &Beat<'_>) {
        let request = beat.request;
        let update = |field: &mut Option<Str>, said: &Option<Str>| {
            if let Some(said) = said {
                *field = Some(owned(said));
            }
        };
        update(&mut self.instance_id, &request.instance_id);
        update(&mut self.rack_id, &request.rack_id);
        update(&mut self.assignor, &request.server_assignor);
        if request.rebalance_timeout_ms != -1 {
            self.rebalance_timeout_ms = request.rebalance_timeout_ms;
        }
        if let Some(names) = &request.subscribed_topic_names {
            self.topics = names.iter().map(owned).collect();
        }
        if let Some(pattern) = &request.subscribed_topic_regex {
            self.pattern = owned(pattern);
        }
        self.client_id = owned(&beat.client_id);
        self.client_host = Str::from(beat.client_host.as_str());
        self.classic = None;
    }

    /// Whether a heartbeat's epoch is the member's. The one before is good enough if the answer with the newer one can
    /// have been lost.
    fn check_epoch(&self, epoch: i32, owned: Option<&Partitions>) -> Result<(), Refusal> {
        let has = |topic: &Uuid, partition: &i32| {
            self.assigned.get(topic).is_some_and(|held| held.contains_key(partition))
        };
        let has_all = |owned: &Partitions| {
            owned.iter().all(|(topic, partitions)| partitions.iter().all(|partition| has(topic, partition)))
        };
        if epoch == 0
            || epoch == self.epoch
            || epoch < self.epoch && epoch == self.previous_epoch && owned.is_some_and(has_all)
        {
            return Ok(());
        }
        let message = format!("the member's epoch is {}, not {epoch}", self.epoch);
        Err(Refusal::new(ErrorCode::FENCED_MEMBER_EPOCH, message))
    }
}

/// The changes that end a member.
fn removal(id: &Str) -> [Change; 3] {
    [Change::Current(id.clone(), None), Change::Target(id.clone(), None), Change::Member(id.clone(), None)]
}

fn owned_partitions(topics: &[ConsumerGroupHeartbeatRequestTopicPartitions]) -> Partitions {
    let mut owned = Partitions::new();
    for topic in topics {
        owned.entry(topic.topic_id).or_default().extend(topic.partitions.iter().copied());
    }
    owned
}

fn assignment(held: &Held) -> Assignment {
    let topic =
        |(&topic_id, held): (&Uuid, &BTreeMap<i32, i32>)| ConsumerGroupHeartbeatResponseTopicPartitions {
            topic_id,
            partitions: held.keys().copied().collect(),
            ..Default::default()
        };
    Assignment { topic_partitions: held.iter().map(topic).collect(), ..Default::default() }
}
