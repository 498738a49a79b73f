//! The parts of the broker that requests work on, each behind its own lock.
//!
//! ```text
//!  Parts ─▶ state          topics, nodes, producer ids: read by most requests, written by commands
//!        ├▶ groups         the group coordinator
//!        ├▶ transactions   the transaction coordinator
//!        ├▶ sessions       fetch sessions, one lock for each node
//!        ├▶ cleaner        the compaction that is going on
//!        ├▶ users          who may log in, what is kept of their passwords, and delegation tokens
//!        ├▶ acls           who may do what
//!        ├▶ quotas         how much clients may take, and how much they take
//!        ├▶ telemetry      metrics of clients: which ones are asked for, and what they have pushed
//!        ├▶ decompressors  contexts and memory for looking into compressed batches
//!        ├▶ timers         work that is due later
//!        └▶ unserved       warnings that are in the log already
//! ```
//!
//! A part must not know requests. No part takes another part's lock while it holds its own, with these exceptions: the
//! state and the cleaner lock partitions, one at a time, the cleaner reads the state, and the groups set their timer. The ACLs
//! take no other lock, so they are looked at under any.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use milena_messages::ErrorCode;
use milena_wire::Str;

use crate::acls::{self, Acls, Authorizer};
use crate::check::Decompressors;
use crate::cleaner::Cleaner;
use crate::configs::{Overrides, TopicRules};
use crate::entropy::Entropy;
use crate::error::Error;
use crate::groups::{ExpiredMember, GroupSettings, Groups};
use crate::journal::Journal;
use crate::kept::Kept;
use crate::listener::SecurityProtocol;
use crate::locked::Locked;
use crate::now::Now;
use crate::oauth::OauthValidator;
use crate::quotas::{self, Quotas};
use crate::random::Random;
use crate::sasl::SaslMechanism;
use crate::secret::Secret;
use crate::sessions::Sessions;
use crate::state::{Node, State};
use crate::storage::Storage;
use crate::telemetry::{self, Telemetry, TelemetrySettings};
use crate::timers::{Timer, Timers};
use crate::tokens::{self, Lifetimes, Tokens};
use crate::topic::Topic;
use crate::transactions::{Job, OFFSETS_TOPIC, Partitions, TransactionSettings, Transactions, VERSION_MAX};
use crate::unserved::Unserved;
use crate::users::{self, Login, Users};

/// Everything of a cluster that outlives a request.
#[derive(Debug)]
pub(crate) struct Parts {
    state: RwLock<State>,
    groups: Mutex<Groups>,
    transactions: Mutex<Transactions>,
    sessions: BTreeMap<i32, Mutex<Sessions>>,
    cleaner: Mutex<Cleaner>,
    users: Mutex<Users>,
    /// `None` when everyone may do everything.
    acls: Option<RwLock<Acls>>,
    quotas: Mutex<Quotas>,
    /// Whether there are quotas. Without any no request takes their lock.
    has_quotas: AtomicBool,
    /// How often to look for delegation tokens whose time is over; `None` without such tokens.
    pub(crate) token_check_interval: Option<Duration>,
    telemetry: Mutex<Telemetry>,
    pub(crate) decompressors: Decompressors,
    pub(crate) timers: Timers,
    pub(crate) unserved: Unserved,
}

/// The settings that decide how requests are handled.
#[derive(Debug, Clone)]
pub(crate) struct MachineSettings {
    pub(crate) partitions_default: i32,
    pub(crate) replication_default: i16,
    pub(crate) auto_create_topics: bool,
    /// The values of topic configs that a topic has when it does not set its own, where they are not Kafka's.
    pub(crate) topic_defaults: Overrides,
    /// How often to look for records that are too old (`log.retention.check.interval.ms`).
    pub(crate) retention_check_interval: Duration,
    /// How often to look for logs to compact (`log.cleaner.backoff.ms`).
    pub(crate) cleaner_backoff: Duration,
    pub(crate) fetch_bytes_max: usize,
    pub(crate) fetch_sessions_max: usize,
    pub(crate) seed: u64,
    pub(crate) groups: GroupSettings,
    pub(crate) transactions: TransactionSettings,
    /// How long an authenticated connection lasts (`connections.max.reauth.ms`); zero is for ever.
    pub(crate) session_lifetime_max: Duration,
    /// How long the answer to a failed authentication is held back (`connection.failed.authentication.delay.ms`).
    pub(crate) failed_authentication_delay: Duration,
    pub(crate) telemetry: TelemetrySettings,
}

/// Who may log in, and how.
#[derive(Debug)]
pub(crate) struct Security {
    /// The listeners' security protocols, by their indices.
    pub(crate) protocols: Vec<SecurityProtocol>,
    pub(crate) mechanisms: Vec<SaslMechanism>,
    pub(crate) logins: Vec<Login>,
    pub(crate) oauth: Option<OauthValidator>,
    pub(crate) authorizer: Option<Authorizer>,
    /// The key of delegation tokens.
    pub(crate) token_key: Option<Secret>,
    pub(crate) token_lifetimes: Lifetimes,
    pub(crate) entropy: Entropy,
}

impl MachineSettings {
    /// The largest batch that a topic takes unless it sets its own limit (`message.max.bytes`).
    pub(crate) fn batch_bytes_max(&self) -> usize {
        TopicRules::new(&Overrides::new(), &self.topic_defaults).batch_bytes_max
    }
}

impl Parts {
    /// The parts of a cluster. Its state is the one that was saved in `storage`, if any was.
    pub(crate) fn open(
        settings: MachineSettings,
        security: Security,
        nodes: Vec<Node>,
        storage: Option<Storage>,
    ) -> Result<Self, Error> {
        let new_sessions = |node: &Node| {
            let seed = settings.seed ^ (node.id as u64).rotate_left(32);
            (node.id, Mutex::new(Sessions::new(settings.fetch_sessions_max, seed)))
        };
        let sessions = nodes.iter().map(new_sessions).collect();
        let journal = storage.as_ref().map_or_else(|| Ok(Journal::in_memory()), Storage::open_groups)?;
        let ids = storage.as_ref().map_or_else(|| Ok(Journal::in_memory()), Storage::open_transactions)?;
        let transactions = Transactions::open(settings.transactions.clone(), ids);
        let random = Random::new(settings.seed.rotate_left(7));
        let authorizer = security.authorizer;
        let kept_acls = Kept::new(acls::HEADER, storage.as_ref().map(Storage::acls));
        let acls = authorizer.map(|authorizer| Acls::open(authorizer, kept_acls)).transpose()?;
        let kept = Kept::new(users::HEADER, storage.as_ref().map(Storage::users));
        let quotas = Quotas::open(Kept::new(quotas::HEADER, storage.as_ref().map(Storage::quotas)))?;
        let kept_telemetry = Kept::new(telemetry::HEADER, storage.as_ref().map(Storage::client_metrics));
        let telemetry = Telemetry::open(Random::new(settings.seed.rotate_left(11)), kept_telemetry)?;
        let kept_tokens = Kept::new(tokens::HEADER, storage.as_ref().map(Storage::tokens));
        let tokens = Tokens::open(security.token_key, security.token_lifetimes, kept_tokens)?;
        let token_check_interval = tokens.is_enabled().then(|| tokens.check_interval());
        let users = Users::open(
            security.mechanisms,
            &security.logins,
            security.oauth,
            tokens,
            security.entropy,
            kept,
        )?;
        let state = State::open(nodes, settings, storage)?;
        let mut groups = Groups::open(state.settings().groups.clone(), random, journal);
        groups
            .retain_topics(|name, id| state.topic(name).is_some_and(|topic| id.is_zero() || topic.id == id));
        Ok(Self {
            state: RwLock::new(state),
            groups: Mutex::new(groups),
            transactions: Mutex::new(transactions),
            sessions,
            cleaner: Mutex::new(Cleaner::default()),
            users: Mutex::new(users),
            acls: acls.map(RwLock::new),
            has_quotas: AtomicBool::new(!quotas.is_empty()),
            quotas: Mutex::new(quotas),
            token_check_interval,
            telemetry: Mutex::new(telemetry),
            decompressors: Decompressors::default(),
            timers: Timers::default(),
            unserved: Unserved::default(),
        })
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings that hold now.
    pub(crate) fn settings(&self) -> Arc<MachineSettings> {
        Arc::clone(self.state().settings())
    }

    /// Has the parts beside the state follow settings that clients have changed.
    pub(crate) fn settings_changed(&self, now: Now) {
        let settings = self.settings();
        self.timers.arm(Timer::Retain, now.instant + settings.retention_check_interval);
        self.timers.arm(Timer::Clean, now.instant + settings.cleaner_backoff);
        self.groups(now).configure(settings.groups.clone());
        self.transactions(now).configure(settings.transactions.clone());
    }

    pub(crate) fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The groups, for work at `now`.
    pub(crate) fn groups(&self, now: Now) -> Locked<'_, Groups> {
        let mut groups = Locked::new(crate::lock(&self.groups), &self.timers);
        groups.pass(now);
        groups
    }

    /// The transactional ids, for work at `now`.
    pub(crate) fn transactions(&self, now: Now) -> Locked<'_, Transactions> {
        let mut transactions = Locked::new(crate::lock(&self.transactions), &self.timers);
        transactions.pass(now);
        transactions
    }

    /// The feature `transaction.version` that is finalized, and the number of its changes.
    pub(crate) fn transaction_version(&self) -> (i16, i64) {
        crate::lock(&self.transactions).version()
    }

    pub(crate) fn set_transaction_version(&self, version: i16) -> Result<(), Error> {
        if !(0..=VERSION_MAX).contains(&version) {
            return Err(Error::refused(format!("there is no transaction.version {version}")));
        }
        crate::lock(&self.transactions).set_version(version);
        Ok(())
    }

    /// The groups, and they know the topics. What a group of the consumer protocol does depends on them.
    pub(crate) fn groups_with_topics(&self, now: Now) -> Locked<'_, Groups> {
        let known = crate::lock(&self.groups).topics_version();
        let newer = {
            let state = self.state();
            (state.topics_version() != known).then(|| state.group_topics())
        };
        let mut groups = self.groups(now);
        if let Some(topics) = newer {
            groups.learn_topics(topics);
        }
        groups
    }

    /// Has the coordinators of groups and transactional ids changed by `change`. Groups that have another one now begin anew
    /// there.
    pub(crate) fn move_coordinators(
        &self,
        change: impl FnOnce(&mut State) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let groups: Vec<Str> = crate::lock(&self.groups).ids().cloned().collect();
        let ids: Vec<Str> = crate::lock(&self.transactions).iter().map(|(id, _)| id.clone()).collect();
        let mut state = self.state_mut();
        let of_group = |state: &State, group: &Str| state.coordinator(group).map(|node| node.id);
        let of_id = |state: &State, id: &Str| state.transaction_coordinator(id).map(|node| node.id);
        let before: Vec<Option<i32>> = groups.iter().map(|group| of_group(&state, group)).collect();
        let ids_before: Vec<Option<i32>> = ids.iter().map(|id| of_id(&state, id)).collect();
        change(&mut state)?;
        let moved = groups.into_iter().zip(before).filter(|(id, before)| of_group(&state, id) != *before);
        let moved: Vec<Str> = moved.map(|(group, _)| group).collect();
        let moved_ids = ids.into_iter().zip(ids_before).filter(|(id, before)| of_id(&state, id) != *before);
        let moved_ids: Vec<Str> = moved_ids.map(|(id, _)| id).collect();
        drop(state);
        Locked::new(crate::lock(&self.groups), &self.timers).reload(&moved);
        if !moved_ids.is_empty() {
            Locked::new(crate::lock(&self.transactions), &self.timers).moved(&moved_ids);
        }
        Ok(())
    }

    /// Does the work of the transaction coordinator that is due: transactions whose time is over are aborted, and the markers of
    /// those that have ended are written.
    pub(crate) fn end_transactions(&self, now: Now) {
        loop {
            // The coordinator is not locked while markers are written: partitions and groups have locks of their own.
            let Some(job) = self.transactions(now).next_job(now) else { return };
            let missing = self.write_markers(&job, now);
            self.transactions(now).finish(&job, missing, now);
        }
    }

    /// Writes the markers of a transaction. Returns the partitions that have no leader, or whose disk failed.
    fn write_markers(&self, job: &Job, now: Now) -> Partitions {
        let mut missing = Partitions::new();
        for (name, partitions) in &job.partitions {
            if name == OFFSETS_TOPIC {
                for &index in partitions {
                    let ended = self.groups(now).end_transaction(index, &job.marker, now);
                    if ended == Err(ErrorCode::KAFKA_STORAGE_ERROR) {
                        missing.entry(name.clone()).or_default().insert(index);
                    }
                }
                continue;
            }
            let Some(topic) = self.state().topic(name).cloned() else { continue };
            for &index in partitions {
                let Some(partition) = topic.partition(index) else { continue };
                let mut state = partition.lock();
                if state.placement().leader.is_some() {
                    match state.end_transaction(&job.marker, &topic.rules, now.unix_ms) {
                        Err(code) if code == ErrorCode::KAFKA_STORAGE_ERROR => {}
                        // A newer epoch of this producer has written there already, and its transaction is another one.
                        Ok(()) | Err(_) => continue,
                    }
                }
                missing.entry(name.clone()).or_default().insert(index);
            }
        }
        missing
    }

    /// The users that may log in.
    pub(crate) fn users(&self) -> MutexGuard<'_, Users> {
        crate::lock(&self.users)
    }

    /// The metrics of clients.
    pub(crate) fn telemetry(&self) -> MutexGuard<'_, Telemetry> {
        crate::lock(&self.telemetry)
    }

    /// The quotas of clients.
    pub(crate) fn quotas(&self) -> MutexGuard<'_, Quotas> {
        crate::lock(&self.quotas)
    }

    /// The same, to change them.
    pub(crate) fn alter_quotas<T>(&self, now: Instant, alter: impl FnOnce(&mut Quotas) -> T) -> T {
        let mut quotas = self.quotas();
        let altered = alter(&mut quotas);
        self.has_quotas.store(!quotas.is_empty(), Ordering::Relaxed);
        drop(quotas);
        self.watch_rates(now);
        altered
    }

    /// Has rates forgotten that are over, again and again, as long as there are quotas.
    pub(crate) fn watch_rates(&self, now: Instant) {
        if self.has_quotas() {
            self.timers.arm_if_idle(Timer::Rates, now + quotas::RATES_CHECK_INTERVAL);
        }
    }

    /// Whether there are quotas.
    pub(crate) fn has_quotas(&self) -> bool {
        self.has_quotas.load(Ordering::Relaxed)
    }

    /// Whether there is an authorizer.
    pub(crate) fn has_acls(&self) -> bool {
        self.acls.is_some()
    }

    /// The access control lists, if there is an authorizer.
    pub(crate) fn acls(&self) -> Option<RwLockReadGuard<'_, Acls>> {
        Some(self.acls.as_ref()?.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same, to change them.
    pub(crate) fn acls_mut(&self) -> Option<RwLockWriteGuard<'_, Acls>> {
        Some(self.acls.as_ref()?.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes all data durable.
    pub(crate) fn flush(&self) -> Result<(), Error> {
        crate::lock(&self.groups).flush()?;
        crate::lock(&self.transactions).flush()?;
        self.state().flush()
    }

    /// Has every partition forget the producers whose newest batch is too old.
    pub(crate) fn expire_producers(&self, now_ms: i64) {
        // There may be a hundred thousand partitions. Commands must not wait until all of them are done.
        let topics: Vec<Arc<Topic>> = self.state().topics().cloned().collect();
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            partition.lock().expire_producers(now_ms);
        }
    }

    /// Has every partition remove the segments that its topic's retention does not keep.
    pub(crate) fn retain(&self, now_ms: i64) {
        let topics: Vec<Arc<Topic>> = self.state().topics().cloned().collect();
        for topic in topics {
            topic.partitions.iter().for_each(|partition| partition.lock().retain(&topic.rules, now_ms));
        }
    }

    /// Compacts a piece of a log. Returns when to call this again.
    pub(crate) fn clean(&self, now: Now) -> Instant {
        let mut cleaner = crate::lock(&self.cleaner);
        if cleaner.is_idle() {
            cleaner.begin(self.state().topics().filter(|topic| topic.rules.is_compacted));
        }
        cleaner.step(now.unix_ms);
        // Between two pieces there is time for other timers, and a backoff of 0 must not keep a thread busy.
        let wait = if cleaner.is_idle() { self.settings().cleaner_backoff } else { Duration::ZERO };
        now.instant + wait.max(Duration::from_millis(1))
    }

    /// The members of groups that were removed without their doing.
    pub(crate) fn expired_members(&self) -> Vec<ExpiredMember> {
        crate::lock(&self.groups).expired()
    }

    /// How many fetch sessions all nodes have.
    pub(crate) fn fetch_session_count(&self) -> usize {
        self.sessions.values().map(|sessions| crate::lock(sessions).count()).sum()
    }

    /// The fetch sessions of a node. The node exists: it is that of a [`Peer`](crate::Peer).
    pub(crate) fn sessions(&self, node: i32) -> MutexGuard<'_, Sessions> {
        crate::lock(&self.sessions[&node])
    }
}
