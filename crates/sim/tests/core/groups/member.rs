//! One member: the machines of membership, commits and fetching, the driver between them, and an application.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use milena_core::group::TopicPartition;
use milena_core::group::commits::{
    Commits, Event as CommitEvent, Request as CommitRequest, StoredOffset, Ticket,
};
use milena_core::group::commits::{Kind as CommitKind, Settings as CommitSettings};
use milena_core::group::ledger::Marked;
use milena_core::group::{
    Event as GroupEvent, Goodbye, Membership, Protocol, Settings as GroupSettings, Subscription,
};
use milena_core::metadata::Snapshot;
use milena_core::source::{Amount, Epoch, Event, Position, Settings, Slot, Source, Watermarks, amount_of};
use milena_core::{Backoff, BrokerId, Failure, Instant, LeaderEpoch, Rng};
use milena_messages::ErrorCode;
use milena_wire::{Str, Uuid};

use super::judge::Judge;
use super::wire::{Answer, COMMIT, Call, FETCH, Key, Letter, lost};
use super::{GROUP, REQUEST_TIMEOUT};
use crate::brokers::TOPIC;

const BACKOFF: Backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_millis(500) };
const ROOM: usize = 1 << 20;
/// How often it looks for added partitions.
const METADATA_AGE_MAX: Duration = Duration::from_secs(20);
/// The last version of FetchRequest that names topics by name.
const FETCH_BY_NAME: i16 = 12;
/// How long an application waits for a commit.
const CALL_TIMEOUT: Duration = Duration::from_secs(12);
/// How many batches an application works on at a time.
const HANDS: usize = 3;

pub(super) struct Member {
    pub(super) number: usize,
    pub(super) membership: Membership,
    subscription: Subscription,
    commits: Commits,
    source: Source,
    snapshot: Arc<Snapshot>,
    topic: Arc<str>,
    topic_id: Option<Uuid>,
    rng: Rng,
    /// What it owns, and where each stands.
    parts: BTreeMap<i32, Part>,
    by_slot: BTreeMap<Slot, i32>,
    next_epoch: u64,
    releases: VecDeque<Release>,
    hands: Vec<Hand>,
    /// Requests that were sent, and until when each is waited for.
    open: BTreeMap<Key, Instant>,
    next_key: u64,
    is_asking_for_coordinator: bool,
    wants: Wants,
    pub(super) is_closing: bool,
    /// Whether it takes its time.
    pub(super) is_slow: bool,
    /// Until when its process is stopped.
    pub(super) stopped_until: Option<Instant>,
    /// Commits that its application waits for: until when, and what is to be stored.
    calls: BTreeMap<Ticket, (Instant, BTreeMap<i32, i64>)>,
    /// When it brings the metadata again although nobody wants it.
    metadata_at: Instant,
    /// Whether another member has taken its name.
    pub(super) is_fenced: bool,
}

/// Which machine waits for the coordinator.
#[derive(Default)]
struct Wants {
    membership: bool,
    commits: bool,
}

/// A partition that it owns.
#[derive(Default)]
struct Part {
    reading: Option<(Slot, Epoch)>,
    queue: VecDeque<Batch>,
    /// It is about to be given up: nothing more is delivered.
    is_leaving: bool,
    is_paused: bool,
}

struct Batch {
    offsets: Range<i64>,
    leader_epoch: Option<LeaderEpoch>,
    amount: Amount,
}

/// A batch that the application works on.
struct Hand {
    partition: i32,
    epoch: Epoch,
    offsets: Range<i64>,
    until: Instant,
}

struct Release {
    partitions: Vec<TopicPartition>,
    deadline: Instant,
    ticket: Option<Ticket>,
    is_settled: bool,
}

impl Member {
    pub(super) fn new(
        number: usize,
        mut settings: GroupSettings,
        pattern: Option<&str>,
        seed: u64,
        snapshot: Arc<Snapshot>,
        now: Instant,
    ) -> Self {
        let mut rng = Rng::seeded(seed);
        settings.backoff = BACKOFF;
        let mut membership = Membership::new(settings, Rng::seeded(rng.next_u64()));
        let commits = CommitSettings {
            group: GROUP.into(),
            interval: Some(Duration::from_millis(500)),
            is_before_delivery: false,
            keeps_finished: false,
            require_stable: false,
            request_timeout: REQUEST_TIMEOUT,
            backoff: BACKOFF,
        };
        let commits = Commits::new(commits, Rng::seeded(rng.next_u64()));
        let source = Settings {
            fetch_bytes_max: 1 << 20,
            partition_bytes_max: 10_000,
            fetch_bytes_min: 1,
            fetch_wait: Duration::from_millis(500),
            partition_watermarks: Watermarks::new(2_000, usize::MAX, 50),
            watermarks: Watermarks::NONE,
            reset: Some(Position::Earliest),
            rack: Str::default(),
            read_committed: false,
            tells_ends: false,
            request_timeout: REQUEST_TIMEOUT,
            backoff: BACKOFF,
        };
        let source = Source::new(source, Rng::seeded(rng.next_u64()));
        let topic: Arc<str> = TOPIC.into();
        membership.handle_metadata(&snapshot, now);
        membership.handle_waiting(true, now);
        // The members of a classic group find the topics themselves.
        let finds_topics = pattern.is_none() || membership.protocol() == Protocol::Classic;
        let topics = finds_topics.then(|| Arc::clone(&topic)).into_iter().collect();
        let subscription = Subscription { topics, pattern: pattern.map(Arc::from) };
        membership.handle_subscription(subscription.clone(), now);
        let topic_id = snapshot.topic(TOPIC).ok().and_then(|topic| topic.id);
        Self {
            number,
            membership,
            subscription,
            commits,
            source,
            snapshot,
            topic,
            topic_id,
            rng,
            parts: BTreeMap::new(),
            by_slot: BTreeMap::new(),
            next_epoch: 0,
            releases: VecDeque::new(),
            hands: Vec::new(),
            open: BTreeMap::new(),
            next_key: 0,
            is_asking_for_coordinator: false,
            wants: Wants::default(),
            is_closing: false,
            is_slow: false,
            stopped_until: None,
            calls: BTreeMap::new(),
            metadata_at: now + METADATA_AGE_MAX,
            is_fenced: false,
        }
    }

    pub(super) fn id(&self) -> Option<String> {
        self.membership.identity().map(|identity| identity.member_id.to_string())
    }

    pub(super) fn close(&mut self, how: Goodbye, now: Instant) {
        self.is_closing = true;
        self.membership.handle_close(how, now);
    }

    /// The application pauses a partition, or resumes it.
    pub(super) fn flip(&mut self, index: i32) {
        let Some(part) = self.parts.get_mut(&index) else { return };
        part.is_paused = !part.is_paused;
        if let Some((slot, _)) = part.reading {
            self.source.set_paused(slot, part.is_paused);
        }
    }

    pub(super) fn resume_all(&mut self) {
        let paused: Vec<_> =
            self.parts.iter().filter(|(_, part)| part.is_paused).map(|(index, _)| *index).collect();
        paused.into_iter().for_each(|index| self.flip(index));
    }

    /// The application goes back to `offset`, if it has read as far.
    pub(super) fn seek(&mut self, index: i32, back: i64, judge: &mut Judge, now: Instant) {
        let epoch = self.epoch();
        let of = TopicPartition::new(&self.topic, index);
        let Some(part) = self.parts.get_mut(&index).filter(|part| !part.is_leaving) else { return };
        let (Some((slot, _)), Some(ledger)) = (part.reading, self.commits.ledger(&of)) else { return };
        // Where the application stands: the batches that it has not taken are delivered as well.
        let position = part.queue.front().map_or(ledger.delivered(), |batch| batch.offsets.start);
        let offset = (position - back).max(0);
        part.queue.clear();
        part.reading = Some((slot, epoch));
        self.source.seek(slot, epoch, Position::Offset(offset));
        self.commits.seek(&of, epoch, offset, now);
        judge.sought(self.number, index, offset);
    }

    /// The application commits, and waits.
    pub(super) fn commit(&mut self, judge: &mut Judge, now: Instant) {
        let deadline = now + CALL_TIMEOUT;
        let done = self.parts.keys().filter_map(|index| {
            let ledger = self.commits.ledger(&TopicPartition::new(&self.topic, *index))?;
            Some((*index, ledger.committable().offset))
        });
        let done = done.collect();
        let ticket = self.commits.commit(deadline, now);
        judge.seen.calls += 1;
        self.calls.insert(ticket, (deadline, done));
    }

    /// Whether it is closed and waits for nothing.
    pub(super) fn is_gone(&self) -> bool {
        self.membership.is_closed()
    }

    /// What a closed member must not have left. Requests that are on their way were given up: they bring nothing any more.
    pub(super) fn leftovers(&self) -> Option<String> {
        let is_clean = self.parts.is_empty() && self.releases.is_empty();
        (!is_clean).then(|| format!("partitions {:?}, {} releases", self.parts.keys(), self.releases.len()))
    }

    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        if self.stopped_until.is_some() {
            return self.stopped_until;
        }
        let machines =
            [self.membership.poll_timeout(), self.commits.poll_timeout(), self.source.poll_timeout(now)];
        let hands = self.hands.iter().map(|hand| hand.until);
        let releases = self.releases.iter().map(|release| release.deadline);
        let open = self.open.values().copied().chain([self.metadata_at]);
        machines.into_iter().flatten().chain(hands).chain(releases).chain(open).min()
    }

    /// An answer, or the news that there will be none.
    pub(super) fn hear(&mut self, key: Key, answer: Option<Answer>, now: Instant) {
        // Given up at its deadline.
        if self.open.remove(&key).is_none() {
            return;
        }
        let none = lost();
        match (key, answer) {
            (Key::Fetch(lane, number), answer) => {
                let answer = match answer {
                    Some(Answer::Fetch(response)) => Ok(response),
                    _ => Err(none),
                };
                self.source.handle_fetched(lane, number, answer, now, Instant::ORIGIN, now);
            }
            (Key::LookUp(number), Some(Answer::LookUp(response))) => {
                self.source.handle_lookup(number, Ok(response), now);
            }
            (Key::LookUp(number), _) => self.source.handle_lookup(number, Err(none), now),
            (Key::Validate(number), Some(Answer::Validate(response))) => {
                self.source.handle_validation(number, Ok(response), now);
            }
            (Key::Validate(number), _) => self.source.handle_validation(number, Err(none), now),
            (Key::Group(number), Some(Answer::Group(response))) => {
                self.membership.handle_response(number, response, now);
            }
            (Key::Group(number), _) => self.membership.handle_lost(number, &none, now),
            (Key::Commit(_), Some(Answer::Commit(response))) => self.commits.handle_committed(&response, now),
            (Key::Commit(_), _) => self.commits.handle_lost(CommitKind::Commit, &none, now),
            (Key::Offsets(_), Some(Answer::Offsets(response))) => self.commits.handle_offsets(&response, now),
            (Key::Offsets(_), _) => self.commits.handle_lost(CommitKind::Lookup, &none, now),
            (Key::Coordinator(_), answer) => {
                self.is_asking_for_coordinator = false;
                let found = match answer {
                    Some(Answer::Coordinator(found)) if found.error_code == ErrorCode::NONE => {
                        Ok(BrokerId(found.node_id))
                    }
                    Some(Answer::Coordinator(found)) => Err(Failure::answer(found.error_code, None)),
                    _ => Err(none),
                };
                let wants = std::mem::take(&mut self.wants);
                if wants.membership {
                    self.membership.handle_coordinator(found.clone(), now);
                }
                if wants.commits {
                    self.commits.handle_coordinator(found, now);
                }
            }
        }
    }

    pub(super) fn handle_metadata(&mut self, snapshot: &Arc<Snapshot>, now: Instant) {
        self.snapshot = Arc::clone(snapshot);
        self.metadata_at = now + METADATA_AGE_MAX;
        self.membership.handle_metadata(snapshot, now);
        self.source.handle_metadata(snapshot, now);
    }

    /// A turn of the driver, and of its application. Answers with the requests to send, and whether the metadata is to be
    /// brought.
    pub(super) fn turn(&mut self, judge: &mut Judge, now: Instant) -> (Vec<Letter>, bool) {
        let late: Vec<_> = self.open.iter().filter(|(_, at)| **at <= now).map(|(key, _)| *key).collect();
        for key in late {
            self.hear(key, None, now);
        }
        self.finish_hands(judge, now);
        self.take_batches(judge, now);
        self.membership.handle_timeout(now);
        self.commits.handle_timeout(now);
        self.source.handle_timeout(now);
        let mut letters = Vec::new();
        loop {
            let mut is_quiet = true;
            while let Some(event) = self.membership.poll_event() {
                is_quiet = false;
                self.carry_out(event, judge, now);
            }
            self.commits.handle_identity(self.membership.identity());
            is_quiet &= !self.release(judge, now);
            while let Some(request) = self.commits.poll_request(now) {
                letters.push(self.commit_letter(request));
            }
            while let Some(event) = self.commits.poll_event() {
                is_quiet = false;
                self.handle_commits(event, judge, now);
            }
            while let Some(event) = self.source.poll_event() {
                is_quiet = false;
                self.handle_source(event, judge, now);
            }
            if is_quiet {
                break;
            }
        }
        self.wants.membership |= self.membership.poll_coordinator_wanted(now);
        self.wants.commits |= self.commits.poll_coordinator_wanted(now);
        if (self.wants.membership || self.wants.commits) && !self.is_asking_for_coordinator {
            self.is_asking_for_coordinator = true;
            let key = Key::Coordinator(self.next_key());
            letters.push(Letter {
                key,
                node: None,
                call: Call::Coordinator,
                deadline: now + REQUEST_TIMEOUT,
            });
        }
        while let Some(ask) = self.membership.poll_request(now) {
            let (key, node) = (Key::Group(ask.number), Some(ask.broker.0));
            letters.push(Letter { key, node, call: Call::Group(ask.request), deadline: ask.deadline });
        }
        self.poll_source(&mut letters, now);
        if let Some((ticket, (deadline, _))) = self.calls.iter().find(|(_, (deadline, _))| *deadline < now) {
            panic!("member {} waits for {ticket:?} since before {deadline:?}, at {now:?}", self.number);
        }
        let wants = self.membership.poll_metadata_wanted().is_some() | (self.metadata_at <= now);
        let wants = self.source.poll_metadata_wanted() | self.commits.poll_metadata_wanted() | wants;
        while self.membership.poll_notice().is_some() || self.commits.poll_notice().is_some() {}
        while self.source.poll_notice().is_some() {}
        self.source.poll_hints();
        self.open.extend(letters.iter().map(|letter| (letter.key, letter.deadline)));
        (letters, wants)
    }

    fn poll_source(&mut self, letters: &mut Vec<Letter>, now: Instant) {
        while let Some(lookup) = self.source.poll_lookup(now, 0) {
            let (key, node) = (Key::LookUp(lookup.number), Some(lookup.broker.0));
            letters.push(Letter { key, node, call: Call::LookUp(lookup.request), deadline: lookup.deadline });
        }
        while let Some(asked) = self.source.poll_validation(now) {
            let (key, node) = (Key::Validate(asked.number), Some(asked.broker.0));
            letters.push(Letter { key, node, call: Call::Validate(asked.request), deadline: asked.deadline });
        }
        while let Some(fetch) = self.source.poll_fetch(now, ROOM) {
            let (key, node) = (Key::Fetch(fetch.lane, fetch.number), Some(fetch.lane.broker.0));
            let version =
                if fetch.version_max > FETCH_BY_NAME { FETCH.min(fetch.version_max) } else { FETCH_BY_NAME };
            let call = Call::Fetch(fetch.request, version);
            letters.push(Letter { key, node, call, deadline: fetch.deadline });
        }
    }

    fn next_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    fn commit_letter(&mut self, request: CommitRequest) -> Letter {
        match request {
            CommitRequest::Commit { broker, request, version_max, deadline } => {
                let call = Call::Commit(request, COMMIT.min(version_max));
                Letter { key: Key::Commit(self.next_key()), node: Some(broker.0), call, deadline }
            }
            CommitRequest::Lookup { broker, lookup, version_max, deadline } => {
                let call = Call::Offsets(lookup, COMMIT.min(version_max));
                Letter { key: Key::Offsets(self.next_key()), node: Some(broker.0), call, deadline }
            }
        }
    }

    fn carry_out(&mut self, event: GroupEvent, judge: &mut Judge, now: Instant) {
        match event {
            GroupEvent::Assign { partitions } => {
                for partition in partitions {
                    judge.assigned(self.number, partition.partition);
                    self.parts.insert(partition.partition, Part::default());
                    self.commits.look_up(partition, self.topic_id);
                }
            }
            GroupEvent::Revoke { partitions, deadline } => {
                for partition in &partitions {
                    if let Some(part) = self.parts.get_mut(&partition.partition) {
                        part.is_leaving = true;
                    }
                }
                let partitions = partitions.into_iter().collect();
                self.releases.push_back(Release { partitions, deadline, ticket: None, is_settled: false });
            }
            GroupEvent::Lost { partitions, failure } => {
                self.releases.clear();
                judge.seen.losses += partitions.len();
                for partition in partitions {
                    self.give_up(&partition, judge, &failure);
                }
            }
            GroupEvent::Slow { .. } => {}
            GroupEvent::Left(_) => judge.seen.left += 1,
            // A request of the one that was killed has arrived after those of the one that came in its place.
            GroupEvent::Failed(failure) if failure.code() == Some(ErrorCode::FENCED_INSTANCE_ID) => {
                self.is_fenced = true;
            }
            // The session of one that was killed begins anew with each coordinator: the application waits for longer.
            GroupEvent::Failed(failure) if failure.code() == Some(ErrorCode::UNRELEASED_INSTANCE_ID) => {
                self.membership.handle_subscription(self.subscription.clone(), now);
            }
            GroupEvent::Failed(failure) => panic!("member {} fails: {failure}", self.number),
        }
    }

    fn give_up(&mut self, partition: &TopicPartition, judge: &mut Judge, why: &Failure) {
        judge.given_up(self.number, partition.partition);
        self.commits.give_up(partition, why);
        let part = self.parts.remove(&partition.partition);
        if let Some((slot, _)) = part.and_then(|part| part.reading) {
            let epoch = self.epoch();
            self.source.unassign(slot, epoch);
            self.by_slot.remove(&slot);
        }
    }

    fn epoch(&mut self) -> Epoch {
        self.next_epoch += 1;
        Epoch(self.next_epoch)
    }

    /// Goes on with the oldest release. Answers whether something happened.
    fn release(&mut self, judge: &mut Judge, now: Instant) -> bool {
        let Some(release) = self.releases.front() else { return false };
        let is_late = release.deadline <= now;
        let is_named = |partition: i32| release.partitions.iter().any(|of| of.partition == partition);
        match release.ticket {
            None if self.hands.iter().any(|hand| is_named(hand.partition)) && !is_late => false,
            None => {
                let ticket = self.commits.release(&release.partitions, release.deadline, now);
                if let Some(release) = self.releases.front_mut() {
                    release.ticket = Some(ticket);
                }
                true
            }
            Some(_) if release.is_settled || is_late => {
                let Some(release) = self.releases.pop_front() else { return false };
                for partition in &release.partitions {
                    self.give_up(partition, judge, &Failure::Ended("it was revoked"));
                }
                self.membership.handle_released(now);
                true
            }
            Some(_) => false,
        }
    }

    fn handle_commits(&mut self, event: CommitEvent, judge: &mut Judge, now: Instant) {
        match event {
            CommitEvent::Settled(ticket, result) => {
                if let Some((_, done)) = self.calls.remove(&ticket) {
                    match result {
                        Ok(()) => judge.told(self.number, &done),
                        Err(_) => judge.seen.calls_failed += 1,
                    }
                }
                let release = self.releases.iter_mut().find(|release| release.ticket == Some(ticket));
                if let Some(release) = release {
                    release.is_settled = true;
                }
            }
            CommitEvent::Found(partition, found) => {
                let found = found.unwrap_or_else(|failure| panic!("member {}: {failure}", self.number));
                let index = partition.partition;
                if self.parts.get(&index).is_none_or(|part| part.reading.is_some()) {
                    return;
                }
                let epoch = self.epoch();
                let position = match &found {
                    None => Position::Earliest,
                    Some(StoredOffset { offset, leader_epoch: Some(LeaderEpoch(leader_epoch)), .. }) => {
                        Position::OffsetInEpoch { offset: *offset, leader_epoch: *leader_epoch }
                    }
                    Some(StoredOffset { offset, .. }) => Position::Offset(*offset),
                };
                let topic = Arc::clone(&self.topic);
                let slot = self.source.assign(&topic, index, epoch, position);
                let is_paused = self.parts.get(&index).is_some_and(|part| part.is_paused);
                self.source.set_paused(slot, is_paused);
                self.by_slot.insert(slot, index);
                if let Some(part) = self.parts.get_mut(&index) {
                    part.reading = Some((slot, epoch));
                }
                if let Some(stored) = found {
                    judge.begins(self.number, index, stored.offset);
                    self.commits.assign(&partition, self.topic_id, epoch, &stored, true, now);
                }
                // Partitions that are assigned are routed by the metadata at hand.
                let snapshot = Arc::clone(&self.snapshot);
                self.source.handle_metadata(&snapshot, now);
            }
            CommitEvent::Rejoin { failure, generation_or_epoch } => {
                let code = failure.code().unwrap_or(ErrorCode::UNKNOWN_MEMBER_ID);
                self.membership.handle_commit_refused(code, generation_or_epoch, now);
            }
            CommitEvent::Fenced(failure) => {
                let generation =
                    self.membership.identity().map_or(-1, |identity| identity.generation_or_epoch);
                let code = failure.code().unwrap_or(ErrorCode::FENCED_INSTANCE_ID);
                self.membership.handle_commit_refused(code, generation, now);
            }
        }
    }

    fn handle_source(&mut self, event: Event, judge: &mut Judge, now: Instant) {
        let (Event::Batch { slot, epoch, .. }
        | Event::Passed { slot, epoch, .. }
        | Event::Positioned { slot, epoch, .. }
        | Event::Truncated { slot, epoch, .. }
        | Event::AtEnd { slot, epoch, .. }
        | Event::Stopped { slot, epoch, .. }) = event;
        let Some(index) = self.by_slot.get(&slot).copied() else { return };
        let Some(part) = self.parts.get_mut(&index).filter(|part| part.reading == Some((slot, epoch))) else {
            return;
        };
        match event {
            Event::Batch { batch, from, .. } => {
                let leader_epoch = batch.header.partition_leader_epoch.map(LeaderEpoch);
                let offsets = from..batch.header.next_offset();
                part.queue.push_back(Batch { offsets, leader_epoch, amount: amount_of(&batch) });
            }
            Event::Positioned { offset, .. } => {
                judge.begins(self.number, index, offset);
                let partition = TopicPartition::new(&self.topic, index);
                let from = StoredOffset::at(offset);
                self.commits.assign(&partition, self.topic_id, epoch, &from, false, now);
            }
            Event::Stopped { failure, .. } => {
                panic!("member {} stops reading {index}: {failure}", self.number)
            }
            Event::Truncated { .. } => panic!("member {}: no log is cut off", self.number),
            Event::Passed { .. } | Event::AtEnd { .. } => panic!("there is nothing to pass in {index}"),
        }
    }

    /// The application finishes what it has worked on for long enough.
    fn finish_hands(&mut self, judge: &mut Judge, now: Instant) {
        while let Some(at) = self.hands.iter().position(|hand| hand.until <= now) {
            let Hand { partition, epoch, offsets, .. } = self.hands.swap_remove(at);
            // In one piece, or in two in any order.
            let cut = offsets.start + i64::from(self.rng.below((offsets.end - offsets.start) as u32));
            let mut pieces = vec![offsets.start..cut, cut..offsets.end];
            if self.rng.below(2) == 0 {
                pieces.reverse();
            }
            for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                judge.processed(partition, piece.clone());
                let of = TopicPartition::new(&self.topic, partition);
                // After a seek it counts below the position.
                let marked = self.commits.handle_done(&of, epoch, piece, now);
                assert_ne!(marked, Marked::NotDelivered, "member {}: it was delivered", self.number);
            }
        }
    }

    /// The application takes what there is, a batch at a time.
    fn take_batches(&mut self, judge: &mut Judge, now: Instant) {
        // It is stuck in one of its batches.
        let is_stuck = self.hands.iter().any(|hand| hand.until > now + Duration::from_secs(5));
        while self.hands.len() < HANDS && !self.is_closing && !is_stuck {
            let may_take = |part: &Part| !part.is_leaving && !part.is_paused && !part.queue.is_empty();
            let ready = self.parts.iter().filter(|(_, part)| may_take(part));
            let ready: Vec<_> = ready.map(|(index, _)| *index).collect();
            self.membership.handle_waiting(ready.is_empty(), now);
            if ready.is_empty() {
                return;
            }
            let index = ready[self.rng.below(ready.len() as u32) as usize];
            let Some(part) = self.parts.get_mut(&index) else { return };
            let (Some((slot, epoch)), Some(batch)) = (part.reading, part.queue.pop_front()) else { return };
            let of = TopicPartition::new(&self.topic, index);
            judge.delivered(self.number, index, &batch.offsets);
            self.membership.handle_progress(now);
            self.source.handle_taken(slot, epoch, batch.amount);
            let is_current =
                self.commits.handle_delivered(&of, epoch, batch.offsets.clone(), batch.leader_epoch, now);
            assert!(is_current, "member {}: partition {index} is its own", self.number);
            let work = match self.rng.below(20) {
                0 if self.is_slow => 40_000,
                1 if self.is_slow => 12_000,
                more => u64::from(more) * 5,
            };
            let until = now + Duration::from_millis(work);
            self.hands.push(Hand { partition: index, epoch, offsets: batch.offsets, until });
        }
        // It works, and does not wait.
        self.membership.handle_waiting(false, now);
    }
}
