//! Incremental fetch sessions (KIP-227): the broker remembers what a consumer asks of each partition, so that the
//! consumer's next request names only what changed.
//!
//! ```text
//!  epoch −1   ends the session that it names              ─▶ Answers::All: the request's own partitions
//!  epoch  0   the same, and the answer opens a new one    ─▶ Answers::AllOfNew
//!  any other  the session's partitions, with its changes  ─▶ Answers::News, or Answers::All when none is left
//! ```
//!
//! A faulty client gets Kafka's answers, because its faults would show only at Kafka otherwise. So a partition that one
//! request both adds and forgets is forgotten.
//!
//! This file owns which partitions a session has and what its client has been told about each. It must not read logs,
//! and it knows time only for eviction.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchPartition, FetchRequest, PartitionData};
use milena_wire::{Str, Uuid};

use crate::partition::Partition;
use crate::random::Random;

/// A new session may evict one that was unused for this long, and one that was opened this long ago and has fewer
/// partitions (`min.incremental.fetch.session.eviction.ms`).
const EVICTION_AGE: Duration = Duration::from_secs(120);

/// The most partitions that all sessions of a node may have together. A session that does not fit is not opened, and
/// one that grows beyond the limit ends. A client without a session can always send full requests.
const PARTITIONS_MAX: usize = 1_000_000;

/// A topic as the request named it: by name up to version 12, by id from 13 on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    Name(Str),
    Id(Uuid),
}

/// What a consumer asks of one partition, and what it has been told about it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) topic: TopicKey,
    pub(crate) index: i32,
    /// The partition as it was found last. It may be deleted by now.
    pub(crate) partition: Weak<Partition>,
    /// The name that the topic with this id had when it was found.
    pub(crate) found_name: Option<Str>,
    pub(crate) fetch_offset: i64,
    pub(crate) bytes_max: usize,
    pub(crate) current_epoch: Option<i32>,
    pub(crate) last_fetched_epoch: Option<i32>,
    /// The partition's count of changes when this fetch read it last.
    pub(crate) seen_changes: u64,
    told: Option<Told>,
}

/// What the client of a session was told about a partition. Only a change of it is news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    high_watermark: i64,
    log_start: i64,
}

/// A consumer's partitions, each with its turn. A fetch reads them in the order of their turns.
#[derive(Debug, Default)]
pub(crate) struct Session {
    /// 0 when these are the partitions of one request, without a session.
    pub(crate) id: i32,
    pub(crate) wanted: BTreeMap<Turn, Wanted>,
    epoch: i32,
    /// Whether its requests name topics by id.
    is_by_id: bool,
    turns: BTreeMap<(TopicKey, i32), Turn>,
    next_turn: Turn,
}

/// A place in a session's order.
pub(crate) type Turn = u64;

/// How a request is to be answered.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) session: Arc<Mutex<Session>>,
    pub(crate) answers: Answers,
}

/// Which of a plan's partitions are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answers {
    /// All, and there is no session.
    All,
    /// All, and the answer opens a session of them.
    AllOfNew,
    /// Those with news, as long as the session's epoch is this one.
    News { epoch: i32 },
}

impl Answers {
    /// Whether the answer has partitions without news, too.
    pub(crate) fn are_all(self) -> bool {
        !matches!(self, Self::News { .. })
    }
}

/// The sessions of one node.
#[derive(Debug)]
pub(crate) struct Sessions {
    by_id: BTreeMap<i32, Slot>,
    sessions_max: usize,
    random: Random,
}

#[derive(Debug)]
struct Slot {
    session: Arc<Mutex<Session>>,
    partitions: usize,
    created: Instant,
    last_used: Instant,
}

/// Ends the session that the request names, and opens none.
const FINAL_EPOCH: i32 = -1;

/// Ends the session that the request names, and opens a new one.
const INITIAL_EPOCH: i32 = 0;

impl Sessions {
    pub(crate) fn new(sessions_max: usize, seed: u64) -> Self {
        Self { by_id: BTreeMap::new(), sessions_max, random: Random::new(seed) }
    }

    /// How many sessions are open.
    pub(crate) fn count(&self) -> usize {
        self.by_id.len()
    }

    /// Finds or ends the session that a request names, and says how the request is to be answered.
    pub(crate) fn plan(
        &mut self,
        request: &FetchRequest,
        version: i16,
        now: Instant,
    ) -> Result<Plan, ErrorCode> {
        let answers = match request.session_epoch {
            FINAL_EPOCH => Answers::All,
            INITIAL_EPOCH => Answers::AllOfNew,
            _ => return self.resume(request, version, now),
        };
        self.by_id.remove(&request.session_id);
        Ok(Plan { session: Arc::new(Mutex::new(Session::of(request, version))), answers })
    }

    fn resume(&mut self, request: &FetchRequest, version: i16, now: Instant) -> Result<Plan, ErrorCode> {
        let Some(slot) = self.by_id.get_mut(&request.session_id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        let shared = Arc::clone(&slot.session);
        // Another fetch of this session holds the lock only while it reads partitions, not while it is parked.
        let mut session = crate::lock(&shared);
        if request.session_epoch != session.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        if session.is_by_id != is_by_id(version) {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        // Kafka's order: a partition in both lists is forgotten.
        session.update(request, version);
        session.forget(request, version);
        if session.wanted.is_empty() {
            self.by_id.remove(&request.session_id);
            // The request forgot the last partitions. Kafka still answers for those that the same request asked for.
            let session = Arc::new(Mutex::new(Session::of(request, version)));
            return Ok(Plan { session, answers: Answers::All });
        }
        session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
        slot.last_used = now;
        let has_grown = session.wanted.len() > slot.partitions;
        slot.partitions = session.wanted.len();
        let answers = Answers::News { epoch: session.epoch };
        drop(session);
        if has_grown && self.partitions() > PARTITIONS_MAX {
            self.by_id.remove(&request.session_id);
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        }
        Ok(Plan { session: shared, answers })
    }

    /// Opens a session of the partitions that were just answered, unless there is no room for it.
    pub(crate) fn open(&mut self, shared: &Arc<Mutex<Session>>, session: &mut Session, now: Instant) {
        let partitions = session.wanted.len();
        if !self.make_room(partitions, now) {
            return;
        }
        session.id = self.new_id();
        session.epoch = 1;
        let slot = Slot { session: Arc::clone(shared), partitions, created: now, last_used: now };
        self.by_id.insert(session.id, slot);
    }

    /// Whether a session of `count` partitions may be opened. Evicts another one for it if need be: the one that was
    /// unused for longest if that is long enough, or else the smallest of the old ones if it has fewer partitions.
    fn make_room(&mut self, count: usize, now: Instant) -> bool {
        if self.by_id.len() >= self.sessions_max {
            let is_long_ago = |time| now.saturating_duration_since(time) > EVICTION_AGE;
            let oldest = self.by_id.iter().min_by_key(|(_, slot)| slot.last_used);
            let stale = oldest.filter(|(_, slot)| is_long_ago(slot.last_used));
            let small = || {
                let old = self.by_id.iter().filter(|(_, slot)| is_long_ago(slot.created));
                let smallest = old.min_by_key(|(id, slot)| (slot.partitions, **id));
                smallest.filter(|(_, slot)| slot.partitions < count)
            };
            let Some((&id, _)) = stale.or_else(small) else { return false };
            self.by_id.remove(&id);
        }
        self.partitions() + count <= PARTITIONS_MAX
    }

    fn partitions(&self) -> usize {
        self.by_id.values().map(|slot| slot.partitions).sum()
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
    /// The partitions that a request names, and no others.
    fn of(request: &FetchRequest, version: i16) -> Self {
        let mut session = Self { is_by_id: is_by_id(version), ..Self::default() };
        session.update(request, version);
        session
    }

    /// The epoch that the session's next request must have.
    pub(crate) fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Adds the partitions that the request names, or changes what it asks of them when they are in the session
    /// already.
    fn update(&mut self, request: &FetchRequest, version: i16) {
        for topic in &request.topics {
            let key = TopicKey::new(&topic.topic, topic.topic_id, version);
            for asked in &topic.partitions {
                let turn = *self.turns.entry((key.clone(), asked.partition)).or_insert(self.next_turn);
                if turn == self.next_turn {
                    self.next_turn += 1;
                }
                let new = || Wanted::new(key.clone(), asked.partition);
                self.wanted.entry(turn).or_insert_with(new).ask(asked);
            }
        }
    }

    /// Drops the partitions that the request names as forgotten.
    fn forget(&mut self, request: &FetchRequest, version: i16) {
        for topic in &request.forgotten_topics_data {
            let key = TopicKey::new(&topic.topic, topic.topic_id, version);
            for &index in &topic.partitions {
                if let Some(turn) = self.turns.remove(&(key.clone(), index)) {
                    self.wanted.remove(&turn);
                }
            }
        }
    }

    /// Moves a partition to the end of the order.
    pub(crate) fn move_to_end(&mut self, turn: Turn) {
        let Some(wanted) = self.wanted.remove(&turn) else { return };
        self.turns.insert((wanted.topic.clone(), wanted.index), self.next_turn);
        self.wanted.insert(self.next_turn, wanted);
        self.next_turn += 1;
    }
}

/// Whether a Fetch of this version names topics by id.
fn is_by_id(version: i16) -> bool {
    version >= 13
}

impl Wanted {
    fn new(topic: TopicKey, index: i32) -> Self {
        Self {
            topic,
            index,
            partition: Weak::new(),
            found_name: None,
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

    /// Whether the answer to a session's client must contain this partition.
    pub(crate) fn is_news(&self, data: &PartitionData) -> bool {
        !data.error_code.is_none()
            || data.records.as_ref().is_some_and(|records| !records.is_empty())
            || data.diverging_epoch.epoch >= 0
            || data.preferred_read_replica >= 0
            || self.told != Some(Told::of(data))
    }

    /// Remembers what the client is told. After an error, whatever comes next is news.
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
        // A copy, because a slice of the request would keep the whole frame in memory.
        if is_by_id(version) { Self::Id(id) } else { Self::Name(Str::from(name)) }
    }
}
