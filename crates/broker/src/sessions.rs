//! Incremental fetch sessions (KIP-227): what a consumer asks of each partition, so that it need not say it again.
//!
//! ```text
//!  epoch −1  no session; ends the one it names       ─▶ Plan of the request's own partitions, all answered
//!  epoch  0  a new session with these partitions     ─▶ Plan of the session, all answered
//!  epoch  n  the session's partitions, with changes  ─▶ Plan of the session, only news answered
//! ```
//!
//! It owns which partitions and what their client was told of them. It must not read logs or know time but for eviction.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchPartition, FetchRequest, PartitionData};
use milena_wire::{Str, Uuid};

use crate::partition::Partition;
use crate::random::Random;

/// How long a session must have been unused to give way to a new one
/// (`min.incremental.fetch.session.eviction.ms`).
const EVICTION_AGE: Duration = Duration::from_secs(120);

/// Partitions in all sessions of a node. What does not fit is answered without a session, which always works.
const PARTITIONS_MAX: usize = 1_000_000;

/// A topic as the request named it: by name up to version 12, by id from 13 on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Name(Str),
    Id(Uuid),
}

/// What a consumer wants of one partition, and what it knows of it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) topic: TopicKey,
    pub(crate) index: i32,
    /// Found before; it may be gone since.
    pub(crate) partition: Weak<Partition>,
    pub(crate) fetch_offset: i64,
    pub(crate) bytes_max: usize,
    pub(crate) current_epoch: Option<i32>,
    pub(crate) last_fetched_epoch: Option<i32>,
    /// The partition's count of changes when it was read last.
    pub(crate) seen_changes: u64,
    told: Option<Told>,
}

/// What the client was told of a partition, in the session it is told news of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

/// A consumer's partitions, in order.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// 0 when there is no session behind it.
    pub(crate) id: i32,
    pub(crate) wanted: Vec<Wanted>,
    /// Where the next pass over the partitions begins: behind the last one that had records, so that none starves.
    pub(crate) start: usize,
    epoch: i32,
    by_key: HashMap<(TopicKey, i32), usize>,
}

/// How a request is to be answered.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) session: Arc<Mutex<Session>>,
    /// All partitions are answered, not only those with news.
    pub(crate) is_full: bool,
}

/// The sessions of one node.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_id: HashMap<i32, Slot>,
    sessions_max: usize,
    random: Random,
}

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    partitions: usize,
    last_used: Instant,
}

impl Sessions {
    pub(crate) fn new(sessions_max: usize, seed: u64) -> Self {
        Self { by_id: HashMap::new(), sessions_max, random: Random::new(seed) }
    }

    /// Finds, makes or ends the session that a request is about.
    pub(crate) fn plan(
        &mut self,
        request: &FetchRequest,
        version: i16,
        now: Instant,
    ) -> Result<Plan, ErrorCode> {
        if request.session_epoch > 0 {
            return self.resume(request, version, now);
        }
        // Both −1 and 0 end the session they name.
        self.by_id.remove(&request.session_id);
        let mut session = Session::default();
        session.update(request, version);
        let count = session.wanted.len();
        if request.session_epoch == 0 && self.make_room(count, now) {
            session.id = self.new_id();
            session.epoch = 1;
        }
        let id = session.id;
        let session = Arc::new(Mutex::new(session));
        if id != 0 {
            let slot = Slot { session: Arc::clone(&session), partitions: count, last_used: now };
            self.by_id.insert(id, slot);
        }
        Ok(Plan { session, is_full: true })
    }

    fn resume(&mut self, request: &FetchRequest, version: i16, now: Instant) -> Result<Plan, ErrorCode> {
        let Some(slot) = self.by_id.get_mut(&request.session_id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        slot.last_used = now;
        let shared = Arc::clone(&slot.session);
        // A parked fetch does not hold the session, and a connection has one request at a time: this does not wait.
        let mut session = crate::lock(&shared);
        if request.session_epoch != session.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        let by_id = version >= 13;
        if session.wanted.first().is_some_and(|wanted| matches!(wanted.topic, TopicKey::Id(_)) != by_id) {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
        session.forget(request, version);
        session.update(request, version);
        slot.partitions = session.wanted.len();
        if session.wanted.is_empty() {
            self.by_id.remove(&request.session_id);
            session.id = 0;
        }
        drop(session);
        Ok(Plan { session: shared, is_full: false })
    }

    /// Whether a session of `count` partitions may be made, after evicting one that nobody used for long.
    fn make_room(&mut self, count: usize, now: Instant) -> bool {
        if self.by_id.len() >= self.sessions_max {
            let oldest = self.by_id.iter().min_by_key(|(_, slot)| slot.last_used);
            let Some((&id, slot)) = oldest else { return false };
            if now.saturating_duration_since(slot.last_used) < EVICTION_AGE {
                return false;
            }
            self.by_id.remove(&id);
        }
        let held: usize = self.by_id.values().map(|slot| slot.partitions).sum();
        held + count <= PARTITIONS_MAX
    }

    fn new_id(&mut self) -> i32 {
        loop {
            let id = (self.random.next() & 0x7fff_ffff) as i32;
            if id != 0 && !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Session {
    /// Adds the request's partitions, or changes what is wanted of those that are here.
    fn update(&mut self, request: &FetchRequest, version: i16) {
        for topic in &request.topics {
            let key = TopicKey::new(&topic.topic, topic.topic_id, version);
            for asked in &topic.partitions {
                let slot = self.by_key.entry((key.clone(), asked.partition));
                let at = *slot.or_insert(self.wanted.len());
                if at == self.wanted.len() {
                    self.wanted.push(Wanted::new(key.clone(), asked.partition));
                }
                self.wanted[at].ask(asked);
            }
        }
    }

    /// Drops the partitions that the request names as forgotten.
    fn forget(&mut self, request: &FetchRequest, version: i16) {
        for topic in &request.forgotten_topics_data {
            let key = TopicKey::new(&topic.topic, topic.topic_id, version);
            for &index in &topic.partitions {
                let Some(at) = self.by_key.remove(&(key.clone(), index)) else { continue };
                self.wanted.swap_remove(at);
                if let Some(moved) = self.wanted.get(at) {
                    self.by_key.insert((moved.topic.clone(), moved.index), at);
                }
            }
        }
    }
}

impl Wanted {
    fn new(topic: TopicKey, index: i32) -> Self {
        Self {
            topic,
            index,
            partition: Weak::new(),
            fetch_offset: 0,
            bytes_max: 0,
            current_epoch: None,
            last_fetched_epoch: None,
            seen_changes: 0,
            told: None,
        }
    }

    fn ask(&mut self, asked: &FetchPartition) {
        self.fetch_offset = asked.fetch_offset;
        self.bytes_max = asked.partition_max_bytes.max(0) as usize;
        self.current_epoch = (asked.current_leader_epoch >= 0).then_some(asked.current_leader_epoch);
        self.last_fetched_epoch = (asked.last_fetched_epoch >= 0).then_some(asked.last_fetched_epoch);
    }

    /// Whether a client in a session must be told this.
    pub(crate) fn is_news(&self, data: &PartitionData) -> bool {
        !data.error_code.is_none()
            || data.records.as_ref().is_some_and(|records| !records.is_empty())
            || data.diverging_epoch.epoch >= 0
            || self.told != Some(Told::of(data))
    }

    /// The client is being told this. After an error it is told whatever comes next.
    pub(crate) fn tell(&mut self, data: &PartitionData) {
        self.told = data.error_code.is_none().then(|| Told::of(data));
    }
}

impl Told {
    fn of(data: &PartitionData) -> Self {
        Self { high_watermark: data.high_watermark, log_start: data.log_start_offset }
    }
}

impl TopicKey {
    fn new(name: &str, id: Uuid, version: i16) -> Self {
        // A copy: a slice of the request would keep all of its frame.
        if version >= 13 { Self::Id(id) } else { Self::Name(Str::from(name)) }
    }
}
