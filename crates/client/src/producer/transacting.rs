//! The transactions of a transactional producer, as its driver runs them.
//!
//! ```text
//!  begin, offsets, commit, abort ─▶ core::Transaction ─ requests ─▶ coordinators
//!                                    │ ▲
//!    added, purge, begin ────────────▼ │ partitions, sent, failed, unsure, settled
//!                                 core::Producer
//! ```
//!
//! The machines decide; this carries what each of them says to the other one, and tells the application. It must not know what an
//! error code means.

use std::collections::BTreeMap;
use std::future::pending;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use milena_core::group::TopicPartition;
use milena_core::metadata::Coordinated;
use milena_core::producer::{Producer as Records, Slot};
use milena_core::transaction::terms::{identity_at, offsets_at};
use milena_core::transaction::{
    Ask, Event, Fate, Offsets, Request, Response, Settings, Ticket, Transaction as Machine, Version,
};
use milena_core::{Failure, Instant};
use milena_messages::ErrorCode;
use milena_messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use milena_messages::add_partitions_to_txn::AddPartitionsToTxnRequest;
use milena_messages::end_txn::EndTxnRequest;
use milena_messages::init_producer_id::InitProducerIdRequest;
use milena_messages::txn_offset_commit::TxnOffsetCommitRequest;
use tokio::sync::oneshot;

use super::driver::{Driver, Tag};
use super::inbox::{Event as InboxEvent, Inbox};
use super::seal::Parcel;
use crate::brokers::address_of;
use crate::connection::{Answer, ByVersion, Typed};
use crate::coordinator::Coordinator;
use crate::report::report;
use crate::requests::{RequestKind, Role};
use crate::runtime::Together;
use crate::trace::Committing;
use crate::{Client, Error};

/// A request to a coordinator, which the machine knows by this number.
pub(super) struct Asking<R> {
    number: u64,
    request: PhantomData<fn() -> R>,
}

impl<R: milena_messages::Request + Send + Sync + 'static> RequestKind for Asking<R> {
    type Request = R;
}

/// The kinds of requests of a transaction.
pub(super) enum TransactionTag {
    Identity(Asking<InitProducerIdRequest>),
    Partitions(Asking<AddPartitionsToTxnRequest>),
    Group(Asking<AddOffsetsToTxnRequest>),
    Offsets(Asking<TxnOffsetCommitRequest>),
    End(Asking<EndTxnRequest>),
}

macro_rules! tags {
    ($($variant:ident: $request:ty,)+) => {
        $(impl From<Asking<$request>> for Tag {
            fn from(asking: Asking<$request>) -> Self {
                Self::Transaction(TransactionTag::$variant(asking))
            }
        })+
    };
}

tags! {
    Identity: InitProducerIdRequest,
    Partitions: AddPartitionsToTxnRequest,
    Group: AddOffsetsToTxnRequest,
    Offsets: TxnOffsetCommitRequest,
    End: EndTxnRequest,
}

/// Where the outcome of a call goes.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// How long a call may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) deadline: Instant,
    /// The time from the call to the deadline, for its error to name.
    pub(super) after: Duration,
}

/// Something for the transaction.
pub(super) enum Command {
    /// Tell when a transaction can begin, and how the last one ended.
    Settle { limit: Limit, reply: Reply<Option<Fate>> },
    /// Begin a transaction.
    Begin { limit: Limit, reply: Reply<Open> },
    /// Commit offsets in the transaction.
    Offsets { what: Offsets, limit: Limit, reply: Reply<()> },
    /// The transaction cannot be committed, because something for it has failed.
    Doom(Failure),
    /// Commit the transaction.
    Commit { limit: Limit, reply: Reply<()> },
    /// Tell why the transaction cannot be committed.
    TellDoom { reply: Reply<Option<Failure>> },
    /// Abort the transaction.
    Abort { limit: Limit, reply: Reply<()> },
    /// Abort the transaction, which was dropped.
    Dropped,
}

/// A transaction is open. If this is dropped, the driver hears that the transaction is to be aborted, wherever it is: a future
/// that was dropped while its transaction began has it too.
pub(super) struct Open {
    inbox: Arc<Inbox>,
    is_ended: bool,
}

impl Open {
    /// The application ends the transaction itself.
    pub(super) fn end(mut self) {
        self.is_ended = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_ended {
            self.inbox.push(InboxEvent::Transaction(Command::Dropped));
        }
    }
}

/// A coordinator was looked up.
pub(super) type Found = (Coordinated, Result<Coordinator, Failure>);

/// The driver's part of a transactional producer.
pub(super) struct Transacting {
    id: Arc<str>,
    client: Client,
    inbox: Arc<Inbox>,
    machine: Machine,
    coordinators: BTreeMap<Coordinated, Coordinator>,
    looking_up: Together<'static, Found>,
    /// The partitions that were asked to be added.
    slots: BTreeMap<TopicPartition, Slot>,
    waiting: Vec<Waiting>,
    ending: Option<Ending>,
    offsets: BTreeMap<Ticket, Reply<()>>,
    /// The offsets that are on their way, if the client has hooks.
    committing: Option<Committing>,
    /// How the last transaction ended.
    last: Option<Fate>,
    /// When the driver ends although the last transaction has not ended: the producer was dropped.
    leave_by: Option<Instant>,
}

/// A call that waits until a transaction can begin.
struct Waiting {
    limit: Limit,
    what: Wait,
}

enum Wait {
    Settle(Reply<Option<Fate>>),
    Begin(Reply<Open>),
}

impl Wait {
    /// Whether the future of the call was dropped.
    fn is_dropped(&self) -> bool {
        match self {
            Self::Settle(reply) => reply.is_closed(),
            Self::Begin(reply) => reply.is_closed(),
        }
    }
}

/// The call that ends the transaction.
struct Ending {
    limit: Limit,
    what: End,
}

enum End {
    /// With why it was refused, once it was: it fails when the transaction is aborted, so that the error says whether the
    /// producer can go on.
    Commit(Reply<()>, Option<Failure>),
    Abort(Reply<()>),
}

/// How long a producer that was dropped may take to abort its transaction.
const DROPPED_FOR: Duration = Duration::from_secs(5);

impl Transacting {
    pub(super) fn new(client: &Client, inbox: &Arc<Inbox>, id: Arc<str>, timeout: Duration) -> Self {
        let settings = Settings {
            transactional_id: Arc::clone(&id),
            timeout,
            request_timeout: client.0.settings.client.request_timeout,
            backoff: client.retry_backoff(),
        };
        Self {
            id,
            client: client.clone(),
            inbox: Arc::clone(inbox),
            machine: Machine::new(settings, client.rng()),
            coordinators: BTreeMap::new(),
            looking_up: Together::new(),
            slots: BTreeMap::new(),
            waiting: Vec::new(),
            ending: None,
            offsets: BTreeMap::new(),
            committing: None,
            last: None,
            leave_by: None,
        }
    }

    // What the application does.

    pub(super) fn handle_command(&mut self, command: Command, records: &mut Records<Parcel>, now: Instant) {
        match command {
            Command::Settle { limit, reply } => {
                self.machine.handle_wanted();
                self.wait(limit, Wait::Settle(reply));
            }
            Command::Begin { limit, reply } => self.wait(limit, Wait::Begin(reply)),
            Command::Offsets { what, limit, reply } => {
                let ticket = self.machine.handle_offsets(what, limit.deadline, limit.after);
                self.offsets.insert(ticket, reply);
            }
            Command::Doom(failure) => self.machine.handle_failed(&failure),
            Command::Commit { limit, reply } => {
                // What lingers is sent now.
                records.handle_flush();
                self.hear(records, now);
                self.last = None;
                self.ending = Some(Ending { limit, what: End::Commit(reply, None) });
                self.machine.handle_commit();
            }
            Command::TellDoom { reply } => {
                self.hear(records, now);
                let _ = reply.send(Ok(self.machine.doom().cloned()));
            }
            Command::Abort { limit, reply } => {
                self.ending = Some(Ending { limit, what: End::Abort(reply) });
                self.abort(records, now);
            }
            Command::Dropped => self.abort(records, now),
        }
    }

    fn abort(&mut self, records: &mut Records<Parcel>, now: Instant) {
        // What brokers may have of it is heard before it is aborted.
        self.hear(records, now);
        self.last = None;
        self.machine.handle_abort();
    }

    fn wait(&mut self, limit: Limit, what: Wait) {
        // A program that gives up soon and calls again leaves many calls behind while the coordinator is silent.
        self.waiting.retain(|of| !of.what.is_dropped());
        self.waiting.push(Waiting { limit, what });
    }

    /// The producer was dropped.
    pub(super) fn handle_released(&mut self, now: Instant) {
        self.leave_by = Some(now + DROPPED_FOR);
    }

    /// Whether nothing is left to do for a producer that was dropped.
    pub(super) fn is_ended(&self, now: Instant) -> bool {
        self.machine.is_idle() || self.leave_by.is_some_and(|by| by <= now)
    }

    // What arrives.

    /// The answer to a look-up; pending while there is none.
    ///
    /// # Cancel safety
    /// Dropped, nothing was answered.
    pub(super) async fn found_coordinator(of: &mut Option<Box<Self>>) -> Option<Found> {
        match of {
            Some(of) => of.looking_up.next().await,
            None => pending().await,
        }
    }

    pub(super) fn handle_coordinator(&mut self, (of, found): Found, now: Instant) {
        let found = found.map(|coordinator| {
            let broker = coordinator.broker;
            self.coordinators.insert(of.clone(), coordinator);
            broker
        });
        self.machine.handle_coordinator(&of, found, now);
    }

    pub(super) fn handle_landed(
        &mut self,
        tag: TransactionTag,
        outcome: Result<Answer, Failure>,
        has_begun: bool,
        now: Instant,
    ) {
        let are_offsets = matches!(tag, TransactionTag::Offsets(_));
        let (number, response) = match tag {
            TransactionTag::Identity(of) => (of.number, of.response(outcome).map(Response::Identity)),
            TransactionTag::Partitions(of) => (of.number, of.response(outcome).map(Response::Partitions)),
            TransactionTag::Group(of) => (of.number, of.response(outcome).map(Response::Group)),
            TransactionTag::Offsets(of) => (of.number, of.response(outcome).map(Response::Offsets)),
            TransactionTag::End(of) => (of.number, of.response(outcome).map(Response::End)),
        };
        if let Some(committing) = self.committing.take_if(|_| are_offsets) {
            let error = match &response {
                Err(failure) => Some(failure.label()),
                Ok(Response::Offsets(response)) => {
                    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
                    let mut codes = partitions.map(|partition| partition.error_code);
                    codes.find(|code| *code != ErrorCode::NONE).map(ErrorCode::name)
                }
                Ok(_) => None,
            };
            committing.tell(&self.client, error, now);
        }
        match response {
            Ok(response) => self.machine.handle_response(number, &response, now),
            Err(failure) => self.machine.handle_lost(number, &failure, has_begun, now),
        }
    }

    // The turn.

    /// When to have a turn although nothing happens.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().map(|of| of.limit.deadline);
        let ending = self.ending.as_ref().map(|of| of.limit.deadline);
        waiting.chain(ending).chain(self.machine.poll_timeout()).chain(self.leave_by).min()
    }

    /// Does what the machine says. Answers whether the machine of records has something to do afterwards.
    pub(super) fn act(&mut self, driver: &mut Driver, now: Instant) -> bool {
        self.hear(&mut driver.machine, now);
        while let Some(slot) = driver.machine.poll_wanted() {
            let accumulator = &driver.accumulators[slot.0 as usize];
            let at = TopicPartition::new(&accumulator.topic, accumulator.partition);
            self.slots.insert(at.clone(), slot);
            self.machine.handle_partition(at);
        }
        if self.machine.is_draining() && driver.machine.outstanding() == 0 {
            self.machine.handle_settled();
        }
        self.machine.handle_timeout(now);
        let mut goes_on = false;
        while let Some(event) = self.machine.poll_event() {
            goes_on |= self.handle_event(event, &mut driver.machine);
        }
        driver.machine.handle_unadded(self.machine.trouble());
        goes_on |= self.begin(&mut driver.machine);
        self.send(driver, now);
        self.expire(now);
        while let Some(notice) = self.machine.poll_notice() {
            report(&notice);
        }
        goes_on
    }

    /// What the machine of records says of the transaction.
    fn hear(&mut self, records: &mut Records<Parcel>, now: Instant) {
        if records.poll_sent() {
            self.machine.handle_sent(now);
        }
        if records.poll_taken() {
            self.machine.handle_taken(now);
        }
        if records.poll_unsure() {
            self.machine.handle_unsure();
        }
        if let Some(failure) = records.poll_failed() {
            self.machine.handle_failed(&failure);
        }
    }

    /// Answers whether the machine of records was told something.
    fn handle_event(&mut self, event: Event, records: &mut Records<Parcel>) -> bool {
        match event {
            Event::Added(partitions) => {
                for slot in partitions.iter().filter_map(|at| self.slots.get(at)) {
                    records.handle_added(*slot);
                }
                return true;
            }
            Event::Committed(ticket, result) => {
                if let Some(reply) = self.offsets.remove(&ticket) {
                    let doing = || format!("committing offsets in the transaction of {:?}", self.id);
                    let _ = reply.send(result.map_err(|failure| Error::harmless(doing(), failure)));
                }
            }
            Event::Purge(failure) => {
                records.handle_purge(&failure);
                return true;
            }
            Event::Refused(failure) => {
                if let Some(Ending { what: End::Commit(_, refused), .. }) = &mut self.ending {
                    *refused = Some(failure);
                }
            }
            Event::Ended(fate) => {
                self.last = Some(fate);
                // The caller may have stopped waiting.
                match self.ending.take().map(|ending| ending.what) {
                    Some(End::Commit(reply, None)) => drop(reply.send(Ok(()))),
                    Some(End::Commit(reply, Some(refused))) => {
                        drop(reply.send(Err(Error::harmless(self.doing("committing"), refused))));
                    }
                    Some(End::Abort(reply)) => drop(reply.send(Ok(()))),
                    None => {}
                }
            }
            Event::Unstarted(failure) => self.fail_waiting(&failure),
            Event::Dead { failure, may_be_committed } => {
                self.fail_all(&failure, may_be_committed);
                records.handle_purge(&failure);
                return true;
            }
        }
        false
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} a transaction of {:?}", self.id)
    }

    /// The producer can do nothing more.
    fn fail_all(&mut self, failure: &Failure, may_be_committed: bool) {
        match self.ending.take().map(|ending| ending.what) {
            Some(End::Commit(reply, refused)) => {
                let doing = self.doing("committing");
                let may_be_committed = may_be_committed && refused.is_none();
                let error = Error::with_maybe_written(doing, failure.clone(), may_be_committed);
                let _ = reply.send(Err(error));
            }
            Some(End::Abort(reply)) => {
                let _ = reply.send(Err(Error::harmless(self.doing("aborting"), failure.clone())));
            }
            None => {}
        }
        self.fail_waiting(failure);
    }

    fn fail_waiting(&mut self, failure: &Failure) {
        for Waiting { what, .. } in std::mem::take(&mut self.waiting) {
            self.fail(what, failure, "");
        }
    }

    /// Answers a call that waits. `when` says by when it was to be answered, if that is why it fails.
    fn fail(&self, what: Wait, failure: &Failure, when: &str) {
        match what {
            Wait::Settle(reply) => {
                let doing = format!("making the transactional producer {:?} ready{when}", self.id);
                drop(reply.send(Err(Error::harmless(doing, failure.clone()))));
            }
            Wait::Begin(reply) => {
                let doing = format!("{}{when}", self.doing("beginning"));
                drop(reply.send(Err(Error::harmless(doing, failure.clone()))));
            }
        }
    }

    /// Answers the calls that wait until a transaction can begin, and begins one. Answers whether one has begun.
    fn begin(&mut self, records: &mut Records<Parcel>) -> bool {
        if let Some(failure) = self.machine.death().cloned() {
            // What came since.
            self.fail_all(&failure, false);
        }
        if !self.machine.is_ready() {
            return false;
        }
        let (mut begins, last) = (Vec::new(), self.last);
        for Waiting { limit, what } in std::mem::take(&mut self.waiting) {
            match what {
                Wait::Settle(reply) => drop(reply.send(Ok(last))),
                // Nobody waits for it any more.
                Wait::Begin(reply) if reply.is_closed() => {}
                Wait::Begin(reply) => begins.push((limit, reply)),
            }
        }
        let mut has_begun = false;
        for (limit, reply) in begins {
            let version = Version::of_feature(self.client.0.links.peers().features().transaction_version);
            let Some(identity) = self.machine.handle_begin(version) else {
                self.waiting.push(Waiting { limit, what: Wait::Begin(reply) });
                continue;
            };
            self.slots.clear();
            records.handle_begin(identity, version);
            has_begun = true;
            // If nobody waits for it, it is dropped here, which aborts it.
            drop(reply.send(Ok(Open { inbox: Arc::clone(&self.inbox), is_ended: false })));
        }
        has_begun
    }

    fn send(&mut self, driver: &mut Driver, now: Instant) {
        while let Some(of) = self.machine.poll_lookup(now) {
            let (client, deadline) =
                (self.client.clone(), now + self.client.0.settings.client.request_timeout);
            self.looking_up.push(async move {
                let found = client.find_coordinator(of.clone(), deadline).await;
                (of, found)
            });
        }
        while let Some(ask) = self.machine.poll_request(now) {
            self.ask(ask, driver, now);
        }
    }

    fn ask(&mut self, ask: Ask, driver: &mut Driver, now: Instant) {
        let Ask { number, broker, request, version_max, deadline } = ask;
        let known = self.coordinators.values().find(|coordinator| coordinator.broker == broker);
        let to = match known {
            Some(coordinator) => Ok(coordinator.address.clone()),
            None => address_of(&self.client.snapshot(), broker),
        };
        let (requests, role) = (&mut driver.requests, Role::Transaction);
        macro_rules! typed {
            ($request:expr) => {{
                let kind = Asking { number, request: PhantomData };
                requests.send(role, to, Typed { request: $request, version_max }, deadline, kind);
            }};
        }
        match request {
            Request::Identity(request) => {
                let make = Box::new(move |version| identity_at(&request, version));
                let kind = Asking::<InitProducerIdRequest> { number, request: PhantomData };
                requests.send(role, to, ByVersion { make, version_max }, deadline, kind);
            }
            Request::Offsets(request) => {
                if self.client.0.trace.is_some() {
                    self.committing = Some(committing(&request, now));
                }
                let make = Box::new(move |version| offsets_at(&request, version));
                let kind = Asking::<TxnOffsetCommitRequest> { number, request: PhantomData };
                requests.send(role, to, ByVersion { make, version_max }, deadline, kind);
            }
            Request::Partitions(request) => typed!(request),
            Request::Group(request) => typed!(request),
            Request::End(request) => typed!(request),
        }
    }

    /// Answers the calls whose time is over. What they wait for goes on.
    fn expire(&mut self, now: Instant) {
        let when = |limit: Limit| format!(" within {:?}", limit.after);
        if let Some(Ending { limit, what }) = self.ending.take_if(|ending| ending.limit.deadline <= now) {
            match what {
                End::Commit(reply, Some(refused)) => {
                    drop(reply.send(Err(Error::harmless(self.doing("committing"), refused))));
                }
                End::Commit(reply, None) => {
                    let doing = format!("{}{}", self.doing("committing"), when(limit));
                    let failure = self.obstacle(limit);
                    drop(reply.send(Err(Error::with_maybe_written(doing, failure, true))));
                }
                End::Abort(reply) => {
                    let doing = format!("{}{}", self.doing("aborting"), when(limit));
                    drop(reply.send(Err(Error::harmless(doing, self.obstacle(limit)))));
                }
            }
        }
        let (overdue, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|of| of.limit.deadline <= now);
        self.waiting = waiting;
        let overdue: Vec<Waiting> = overdue;
        for Waiting { limit, what } in overdue {
            self.fail(what, &self.obstacle(limit), &when(limit));
        }
    }

    /// Why what a call waits for has not happened yet.
    fn obstacle(&self, Limit { after, .. }: Limit) -> Failure {
        match self.machine.trouble() {
            Some(trouble) => trouble.clone(),
            // The coordinator is asked only once all records are settled.
            None if self.machine.is_draining() => {
                Failure::Undelivered { after, waited_for: None, last: None }
            }
            None => Failure::TimedOut { peer: "the transaction coordinator".into(), after, sent: true },
        }
    }
}

/// What the client's hooks are told of offsets that a transaction takes along.
#[cold]
fn committing(request: &TxnOffsetCommitRequest, now: Instant) -> Committing {
    let mut offsets = Vec::new();
    for topic in &request.topics {
        let name: Arc<str> = Arc::from(&*topic.name);
        let of_topic = topic.partitions.iter();
        offsets.extend(of_topic.map(|of| (Arc::clone(&name), of.partition_index, of.committed_offset)));
    }
    let (group, id) = (Arc::from(&*request.group_id), Arc::from(&*request.transactional_id));
    Committing { group, transactional_id: Some(id), offsets, began: now }
}
