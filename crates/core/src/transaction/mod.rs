//! A transactional producer's dealings with coordinators: its identity, which partitions and offsets are in the transaction, and
//! how it ends.
//!
//! ```text
//!  begin, commit, abort ─▶ ┌─────────────┐ ── InitProducerId, AddPartitions, AddOffsets, EndTxn ─▶ transaction coordinator
//!  producer machine ─────▶ │ Transaction │ ── TxnOffsetCommit ─────────────────────────────▶ group's coordinator
//!   (partitions, failures) └─────────────┘ ── added, purge, ended ─▶ driver, producer machine
//! ```
//!
//! The rules it keeps:
//! - A transaction is committed only if everything in it was acknowledged. A part that failed dooms it.
//! - Nothing happens before the end of the last transaction is known: an EndTxn whose answer is lost is sent again until the
//!   coordinator says what has become of it.
//! - No request of one transaction can count in a later one. Where one may still reach a broker, or a sequence is missing, the
//!   epoch is raised before the next transaction begins (KIP-360, KAFKA-17754). With [`Version::Two`] every end raises it.
//! - What another instance has fenced does nothing more.
//!
//! Where it stands is a table, `state.rs`; what each code means, `verdict.rs`. Records are the
//! [producer](crate::producer)'s: this must not know batches.

mod spacing;
mod state;
pub mod terms;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use milena_messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use milena_messages::add_partitions_to_txn::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, AddPartitionsToTxnTopic,
};
use milena_messages::end_txn::{EndTxnRequest, EndTxnResponse};
use milena_messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use milena_messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    TxnOffsetCommitResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use self::spacing::Spacing;
use self::state::{Action, Event as Input, State, Trace, next};
pub use self::terms::{Ask, Event, Fate, Offsets, Request, Response, Settings, Ticket, Version};
use self::verdict::{Question, Verdict, verdict};
pub use self::verdict::{may_be_repeated, moved_on};
use crate::backoff::Retry;
use crate::coordinator::Coordinator;
use crate::group::TopicPartition;
use crate::metadata::Coordinated;
use crate::rights::Resource;
use crate::{Backoff, BrokerId, Failure, Instant, Notice, ProducerId, ProducerIdentity, Rng};

/// The machine of a transactional producer: the [module](self) has the rules that it keeps.
///
/// # A turn
///
/// 1. Tell it what the application did: [`handle_wanted`](Self::handle_wanted), [`handle_begin`](Self::handle_begin) when it
///    [is ready](Self::is_ready), [`handle_offsets`](Self::handle_offsets), [`handle_commit`](Self::handle_commit),
///    [`handle_abort`](Self::handle_abort).
/// 2. Tell it what the producer machine says: [`handle_partition`](Self::handle_partition), [`handle_sent`](Self::handle_sent),
///    [`handle_taken`](Self::handle_taken), [`handle_unsure`](Self::handle_unsure),
///    [`handle_failed`](Self::handle_failed), and while the transaction
///    [drains](Self::is_draining), [`handle_settled`](Self::handle_settled) once no record is outstanding.
/// 3. Tell it what arrived: [`handle_coordinator`](Self::handle_coordinator), [`handle_response`](Self::handle_response),
///    [`handle_lost`](Self::handle_lost).
/// 4. [`handle_timeout`](Self::handle_timeout).
/// 5. [`poll_event`](Self::poll_event) until there is none, and carry the events out in their order.
/// 6. [`poll_lookup`](Self::poll_lookup) and [`poll_request`](Self::poll_request) until there is none, then
///    [`poll_notice`](Self::poll_notice).
///
/// Then sleep until something happens, or until [`poll_timeout`](Self::poll_timeout).
///
/// # Inputs
///
/// Every [`Ask`] is answered by `handle_response` or `handle_lost` with its number, once, by its deadline. Each look-up is
/// answered by `handle_coordinator`.
///
/// # Between calls
///
/// One request at most is under way to the transaction coordinator, and one to a group's.
#[derive(Debug)]
pub struct Transaction {
    settings: Settings,
    rng: Rng,
    state: State,
    identity: Option<ProducerIdentity>,
    /// The version of the transaction that is open, or of the last one. None before the first one.
    version: Option<Version>,
    coordinator: Coordinator,
    /// The request that is under way to the transaction coordinator.
    flight: Option<Flight>,
    retry: Retry,
    spacing: Spacing,
    /// Partitions that are to be added to the transaction.
    wanted: BTreeSet<TopicPartition>,
    /// Groups that are in the transaction.
    groups: BTreeSet<Arc<str>>,
    offsets: Committing,
    /// Whether all records of a transaction that drains are settled.
    is_settled: bool,
    /// Whether records or offsets of the transaction were written, so that its coordinator has it.
    is_taken: bool,
    /// Whether an attempt to end the transaction has an unknown fate.
    is_end_unsure: bool,
    /// Why the transaction cannot be committed, or why the producer can do nothing more.
    cause: Option<Failure>,
    /// Why the request that is sent again has not succeeded yet.
    trouble: Option<Failure>,
    events: VecDeque<Event>,
    notices: VecDeque<Notice>,
    numbers: u64,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    broker: BrokerId,
    question: Question,
    /// The partitions that it adds.
    partitions: BTreeSet<TopicPartition>,
    /// The group that it adds.
    group: Option<Arc<str>>,
}

/// Offsets on their way into the transaction, one request at a time.
#[derive(Debug, Default)]
struct Committing {
    queue: VecDeque<Pending>,
    /// The number of the request for the first of the queue, and the coordinator that has it.
    flight: Option<(u64, BrokerId)>,
    coordinators: BTreeMap<Arc<str>, Coordinator>,
    retry: Retry,
    next: u64,
}

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    what: Offsets,
    deadline: Instant,
    /// How long the caller waits until the deadline.
    after: Duration,
    /// Why it was given up while its request is under way.
    given_up: Option<Failure>,
}

/// The last transaction is being completed: markers take the coordinator some milliseconds.
const SOON: Duration = Duration::from_millis(20);
/// So often a coordinator that completes the last transaction may refuse to abort the next one: some five seconds.
const COMPLETING_MAX: u32 = 10;
/// A request adds this many partitions at most.
const PARTITIONS_MAX: usize = 5_000;

impl Transaction {
    /// A producer without an identity.
    pub fn new(settings: Settings, rng: Rng) -> Self {
        Self {
            settings,
            rng,
            state: State::New,
            identity: None,
            version: None,
            coordinator: Coordinator::of_transactions(),
            flight: None,
            retry: Retry::default(),
            spacing: Spacing::default(),
            wanted: BTreeSet::new(),
            groups: BTreeSet::new(),
            offsets: Committing::default(),
            is_settled: false,
            is_taken: false,
            is_end_unsure: false,
            cause: None,
            trouble: None,
            events: VecDeque::new(),
            notices: VecDeque::new(),
            numbers: 0,
        }
    }

    // What the application does.

    /// The application wants an identity. It fences earlier instances of the same name. [`is_ready`](Self::is_ready) says when it
    /// is there, and [`Event::Unstarted`] that there is none.
    pub fn handle_wanted(&mut self) {
        self.step(Input::Wanted);
    }

    /// Whether a transaction can begin.
    pub fn is_ready(&self) -> bool {
        self.state == State::Ready && self.spacing.poll_timeout().is_none()
    }

    /// Whether the application has ended the transaction, and it waits until all its records are settled.
    pub fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining(..))
    }

    /// Why the producer can do nothing more.
    pub fn death(&self) -> Option<&Failure> {
        self.cause.as_ref().filter(|_| self.state == State::Dead)
    }

    /// Why the transaction that is open cannot be committed.
    pub fn doom(&self) -> Option<&Failure> {
        self.cause.as_ref().filter(|_| matches!(self.state, State::Doomed(_)))
    }

    /// Whether no transaction is open or ending.
    pub fn is_idle(&self) -> bool {
        !matches!(self.state, State::Open(_) | State::Doomed(_) | State::Draining(..) | State::Ending(..))
    }

    /// Why the request that is sent again and again has not succeeded yet.
    pub fn trouble(&self) -> Option<&Failure> {
        self.trouble.as_ref()
    }

    /// Begins a transaction of `version`, if the producer is ready: the identity that its records go out under. None if it is not
    /// ready, or if the epoch has to be raised first because the version is another one than before.
    pub fn handle_begin(&mut self, version: Version) -> Option<ProducerIdentity> {
        if !self.is_ready() {
            return None;
        }
        if self.version.replace(version).is_some_and(|before| before < version) {
            self.step(Input::Upgraded);
            return None;
        }
        self.step(Input::Begun);
        self.groups.clear();
        (self.is_settled, self.is_taken, self.is_end_unsure) = (false, false, false);
        self.cause = None;
        self.trouble = None;
        self.identity
    }

    /// Commits offsets as a part of the transaction by `deadline`, which is `after` so long.
    pub fn handle_offsets(&mut self, what: Offsets, deadline: Instant, after: Duration) -> Ticket {
        let ticket = Ticket(self.offsets.next);
        self.offsets.next += 1;
        match self.refusal() {
            None => {
                self.offsets.queue.push_back(Pending { ticket, what, deadline, after, given_up: None });
            }
            Some(failure) => self.events.push_back(Event::Committed(ticket, Err(failure))),
        }
        ticket
    }

    /// Why nothing more can be added to the transaction.
    fn refusal(&self) -> Option<Failure> {
        match self.state {
            State::Open(_) => None,
            State::Dead | State::Doomed(_) => self.cause.clone(),
            _ => Some(Failure::Ended("no transaction is open")),
        }
    }

    /// The application commits. [`Event::Ended`] or [`Event::Refused`] answers.
    pub fn handle_commit(&mut self) {
        self.step(Input::Commit);
        self.settle();
    }

    /// The application aborts. [`Event::Ended`] answers.
    pub fn handle_abort(&mut self) {
        if matches!(self.state, State::Open(_)) {
            self.cause = Some(doomed(&Failure::Ended("the transaction was aborted")));
        }
        self.step(Input::Abort);
        self.settle();
    }

    // What the producer machine says.

    /// Batches of this partition wait until it is in the transaction. [`Event::Added`] answers.
    pub fn handle_partition(&mut self, partition: TopicPartition) {
        self.want([partition]);
    }

    fn want(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) {
        if self.may_grow() {
            self.wanted.extend(partitions);
        }
    }

    /// A request with records goes out, which makes its broker add their partitions to the transaction.
    pub fn handle_sent(&mut self, now: Instant) {
        self.spacing.handle_sent(now);
        self.step(Input::Sent);
    }

    /// Records of the transaction were written.
    pub fn handle_taken(&mut self, now: Instant) {
        self.spacing.handle_written(now);
        self.is_taken = true;
    }

    /// Records may be written although they were given up, or a sequence is missing in a partition.
    pub fn handle_unsure(&mut self) {
        self.step(Input::Unsure);
    }

    /// Records of the transaction were not written.
    pub fn handle_failed(&mut self, failure: &Failure) {
        if failure.is_fatal() {
            self.die(failure);
        } else {
            self.spoil(failure);
        }
        self.settle();
    }

    /// All records of the transaction are settled, and no more come.
    pub fn handle_settled(&mut self) {
        self.is_settled = true;
        self.settle();
    }

    // What arrives.

    /// The answer to a look-up.
    pub fn handle_coordinator(&mut self, of: &Coordinated, found: Result<BrokerId, Failure>, now: Instant) {
        let Self { settings, rng, coordinator, offsets, .. } = self;
        let coordinator = match of {
            Coordinated::Transaction(_) => coordinator,
            Coordinated::Group(group) => match offsets.coordinators.get_mut(group) {
                Some(coordinator) => coordinator,
                None => return,
            },
        };
        if let Err(failure) = &found {
            self.trouble = Some(failure.clone());
        }
        match coordinator.handle(found, now, &settings.backoff, rng) {
            Ok(notice) => self.notices.extend(notice),
            Err(failure) => match of {
                Coordinated::Transaction(_) => self.refuse_or_die(&failure),
                Coordinated::Group(_) => self.spoil(&failure),
            },
        }
        self.settle();
    }

    /// The answer to the request with this number.
    pub fn handle_response(&mut self, number: u64, response: &Response, now: Instant) {
        if self.offsets.flight.is_some_and(|(flying, _)| flying == number) {
            if let Response::Offsets(response) = response {
                self.handle_committed(response, now);
            }
        } else if let Some(flight) = self.flight.take_if(|flight| flight.number == number) {
            match response {
                Response::Identity(response) => self.handle_identity(&flight, response, now),
                Response::Partitions(response) => self.handle_added(flight, response, now),
                Response::Group(response) => self.handle_group(flight, response.error_code, now),
                Response::End(response) => self.handle_ended(&flight, response, now),
                Response::Offsets(_) => {}
            }
        }
        self.settle();
    }

    /// The request with this number has no answer, and will have none. If no connection `has_begun` to write it, no broker has it.
    pub fn handle_lost(&mut self, number: u64, failure: &Failure, has_begun: bool, now: Instant) {
        let is_unsure = has_begun && failure.may_have_acted();
        self.trouble = Some(failure.clone());
        if let Some((_, broker)) = self.offsets.flight.take_if(|(flying, _)| *flying == number) {
            if is_unsure {
                self.step(Input::Unsure);
            }
            let group = self.offsets.queue.front().map(|pending| Arc::clone(&pending.what.group));
            if let Some(coordinator) = group.and_then(|group| self.offsets.coordinators.get_mut(&group)) {
                coordinator.lost(broker);
            }
            if self.drop_given_up() {
                return self.settle();
            }
            if !self.delay_offsets(failure, now) {
                self.fail_offsets(failure);
            }
        } else if let Some(flight) = self.flight.take_if(|flight| flight.number == number) {
            // A second identity does no harm: it is only asked for while nothing else is under way.
            if is_unsure && flight.question != Question::Identity {
                self.is_end_unsure |= flight.question == Question::End;
                self.step(Input::Unsure);
            }
            self.coordinator.lost(flight.broker);
            self.ask_again(flight, failure, now);
        }
        self.settle();
    }

    fn handle_identity(&mut self, flight: &Flight, response: &InitProducerIdResponse, now: Instant) {
        let InitProducerIdResponse { error_code, producer_id, producer_epoch, .. } = *response;
        let failure = Failure::answer(error_code, None)
            .of(ApiKey::InitProducerId)
            .on(Resource::TransactionalId, &self.settings.transactional_id);
        match verdict(flight.question, error_code) {
            Verdict::Done => match identity(producer_id, producer_epoch) {
                // Under the epoch that it has it must not go on.
                Some(identity) if self.state != State::Raising || is_raised(self.identity, identity) => {
                    self.identity = Some(identity);
                    self.succeeded();
                    self.step(Input::Granted);
                }
                _ => {
                    let before = match self.identity {
                        Some(of) => {
                            format!(" to one that has producer id {} with epoch {}", of.id.0, of.epoch)
                        }
                        None => String::new(),
                    };
                    let reason =
                        format!("it granted producer id {producer_id} with epoch {producer_epoch}{before}");
                    let failure =
                        Failure::Malformed { peer: "the coordinator".into(), reason: reason.into() };
                    self.ask_again_alike(&failure, now);
                }
            },
            Verdict::Fenced => self.die(&fenced()),
            Verdict::Refused | Verdict::Fatal => self.refuse_or_die(&failure),
            again => self.go_on(again, flight.broker, &failure, now),
        }
    }

    fn handle_added(&mut self, flight: Flight, response: &AddPartitionsToTxnResponse, now: Instant) {
        let mut codes = BTreeMap::new();
        for topic in &response.results_by_topic_v3_and_below {
            let name: Arc<str> = Arc::from(&*topic.name);
            for of in &topic.results_by_partition {
                codes.insert(TopicPartition::new(&name, of.partition_index), of.partition_error_code);
            }
        }
        let (mut added, mut worst) = (Vec::new(), None::<(Verdict, Failure)>);
        for at in flight.partitions {
            let code = codes.get(&at).copied();
            let verdict = code.map_or(Verdict::Unsure, |code| verdict(flight.question, code));
            if verdict == Verdict::Done {
                added.push(at);
                continue;
            }
            // OPERATION_NOT_ATTEMPTED only says that another partition was refused.
            let says_more = code != Some(ErrorCode::OPERATION_NOT_ATTEMPTED);
            let refused = |code| {
                Failure::answer(code, None).of(ApiKey::AddPartitionsToTxn).on(Resource::Topic, &at.topic)
            };
            let failure = code.map_or_else(Failure::incomplete, refused);
            if worst.as_ref().is_none_or(|(known, _)| severity(*known) < severity(verdict) || says_more) {
                worst = Some((verdict, failure));
            }
            self.want([at]);
        }
        if !added.is_empty() {
            self.events.push_back(Event::Added(added));
        }
        match worst {
            None => self.succeeded(),
            Some((verdict, failure)) => self.handle_verdict(verdict, flight.broker, &failure, now),
        }
    }

    fn handle_group(&mut self, flight: Flight, code: ErrorCode, now: Instant) {
        match verdict(flight.question, code) {
            Verdict::Done => {
                self.groups.extend(flight.group);
                self.succeeded();
            }
            verdict => {
                let failure = Failure::answer(code, None)
                    .of(ApiKey::AddOffsetsToTxn)
                    .on(Resource::TransactionalId, &self.settings.transactional_id);
                self.handle_verdict(verdict, flight.broker, &failure, now);
            }
        }
    }

    fn handle_ended(&mut self, flight: &Flight, response: &EndTxnResponse, now: Instant) {
        let failure = Failure::answer(response.error_code, None)
            .of(ApiKey::EndTxn)
            .on(Resource::TransactionalId, &self.settings.transactional_id);
        match verdict(flight.question, response.error_code) {
            Verdict::Done => {
                self.succeeded();
                self.spacing.handle_ended(now);
                match identity(response.producer_id, response.producer_epoch) {
                    Some(raised) if self.version == Some(Version::Two) => {
                        self.identity = Some(raised);
                        self.step(Input::EndedAndRaised);
                    }
                    // A coordinator that does not raise the epoch, although the cluster has it finalised.
                    _ if self.version == Some(Version::Two) => {
                        self.step(Input::Unsure);
                        self.step(Input::Ended);
                    }
                    _ => self.step(Input::Ended),
                }
            }
            // An attempt of unknown fate may have committed the transaction, and a late copy of a request for a higher epoch made
            // the coordinator forget that. With version two such a copy has an epoch that is too old.
            Verdict::Refused
                if self.is_end_unsure
                    && self.version == Some(Version::One)
                    && response.error_code != ErrorCode::TRANSACTION_ABORTABLE
                    && matches!(self.state, State::Ending(Fate::Commit, _)) =>
            {
                self.die(&failure);
            }
            Verdict::Refused => {
                self.cause = Some(doomed(&failure));
                self.retry.succeeded();
                self.step(Input::Refused);
            }
            // A coordinator of version two also says so while it completes the last transaction, if nothing of this one has
            // reached it. Asking for a higher epoch would tell that from a producer that was fenced, and would abort the
            // transaction of the instance that has taken over: Kafka compares no epochs while one is open. So it is asked again
            // for a while.
            Verdict::Fenced
                if self.version == Some(Version::Two)
                    && !self.is_taken
                    && matches!(self.state, State::Ending(Fate::Abort, _))
                    && self.retry.failures() < COMPLETING_MAX =>
            {
                self.go_on(Verdict::Soon, flight.broker, &failure, now);
            }
            verdict => {
                // A coordinator that has moved answers so as well when it wrote the end and its log did not confirm that.
                if matches!(verdict, Verdict::Moved | Verdict::Unsure) {
                    self.is_end_unsure = true;
                    self.step(Input::Unsure);
                }
                self.handle_verdict(verdict, flight.broker, &failure, now);
            }
        }
    }

    fn handle_committed(&mut self, response: &TxnOffsetCommitResponse, now: Instant) {
        let Some((_, broker)) = self.offsets.flight.take() else { return };
        if self.drop_given_up() {
            return;
        }
        let Some(pending) = self.offsets.queue.front() else { return };
        let group = Arc::clone(&pending.what.group);
        let mut codes = BTreeMap::new();
        for topic in &response.topics {
            let name: Arc<str> = Arc::from(&*topic.name);
            for of in &topic.partitions {
                codes.insert(TopicPartition::new(&name, of.partition_index), of.error_code);
            }
        }
        let mut worst = None::<(Verdict, Failure)>;
        for (at, _) in &pending.what.offsets {
            let code = codes.get(at).copied();
            let verdict = code.map_or(Verdict::Unsure, |code| verdict(Question::Offsets, code));
            if worst.as_ref().is_none_or(|(known, _)| severity(*known) < severity(verdict)) {
                let refused = |code| {
                    Failure::answer(code, None).of(ApiKey::TxnOffsetCommit).on(Resource::Topic, &at.topic)
                };
                let failure = code.map_or_else(Failure::incomplete, refused);
                worst = Some((verdict, failure));
            }
        }
        let (verdict, failure) = worst.unwrap_or((Verdict::Done, Failure::incomplete()));
        match verdict {
            Verdict::Done => {
                self.offsets.retry.succeeded();
                self.is_taken = true;
                self.trouble = None;
                if let Some(pending) = self.offsets.queue.pop_front() {
                    self.events.push_back(Event::Committed(pending.ticket, Ok(())));
                }
            }
            // The epoch was raised because the transaction was open for too long, or by another instance. With version two the
            // producer may go on after the first (KAFKA-19367): the answer to its abort tells the two apart.
            Verdict::Fenced if self.version == Some(Version::Two) => self.fail_offsets(&failure),
            Verdict::Fenced => self.die(&fenced()),
            Verdict::Fatal => self.die(&failure),
            Verdict::Refused => self.fail_offsets(&failure),
            Verdict::Moved | Verdict::Again | Verdict::Soon | Verdict::Unsure => {
                self.trouble = Some(failure.clone());
                if verdict == Verdict::Moved
                    && let Some(coordinator) = self.offsets.coordinators.get_mut(&group)
                {
                    coordinator.lost(broker);
                }
                if verdict == Verdict::Unsure {
                    self.step(Input::Unsure);
                }
                if verdict == Verdict::Soon {
                    self.spacing.handle_early();
                    let backoff = Backoff { min: SOON, ..self.settings.backoff };
                    self.offsets.retry.failed(now, &backoff, &mut self.rng);
                } else {
                    self.delay_offsets(&failure, now);
                }
            }
        }
    }

    /// What any verdict but success means for the transaction.
    fn handle_verdict(&mut self, verdict: Verdict, broker: BrokerId, failure: &Failure, now: Instant) {
        match verdict {
            Verdict::Done => self.succeeded(),
            Verdict::Fenced => self.die(&fenced()),
            Verdict::Fatal => self.die(failure),
            Verdict::Refused => self.spoil(failure),
            again => self.go_on(again, broker, failure, now),
        }
    }

    /// The request is sent again.
    fn go_on(&mut self, verdict: Verdict, broker: BrokerId, failure: &Failure, now: Instant) {
        self.trouble = Some(failure.clone());
        match verdict {
            Verdict::Moved => self.coordinator.lost(broker),
            Verdict::Unsure => self.step(Input::Unsure),
            _ => {}
        }
        if verdict == Verdict::Soon {
            if matches!(self.state, State::Open(_)) {
                self.spacing.handle_early();
            }
            // Each attempt waits twice as long as the one before, from a delay that is shorter than that after a failure.
            let backoff = Backoff { min: SOON, ..self.settings.backoff };
            self.retry.failed(now, &backoff, &mut self.rng);
        } else {
            self.note_failed(failure, now);
        }
    }

    fn note_failed(&mut self, failure: &Failure, now: Instant) {
        self.retry.failed_by(failure, now, &self.settings.backoff, &mut self.rng);
        if self.retry.is_notable(failure) {
            let doing = match self.state {
                State::New | State::Starting => "asking for the producer's identity",
                State::Raising => "raising the producer's epoch",
                State::Ending(Fate::Commit, _) => "committing the transaction",
                State::Ending(Fate::Abort, _) => "aborting the transaction",
                _ => "adding to the transaction",
            };
            let doing = format!("{doing} of {:?}", self.settings.transactional_id).into();
            let failures = self.retry.failures();
            self.notices.push_back(Notice { doing, failure: failure.clone(), failures });
        }
    }

    /// The request of `flight` met a failure. What it was about is asked again, unless that is in vain.
    fn ask_again(&mut self, flight: Flight, failure: &Failure, now: Instant) {
        self.want(flight.partitions);
        self.ask_again_alike(failure, now);
    }

    fn ask_again_alike(&mut self, failure: &Failure, now: Instant) {
        self.trouble = Some(failure.clone());
        self.note_failed(failure, now);
        if !self.retry.may_pass(failure) {
            self.refuse_or_die(failure);
        }
    }

    /// The coordinator will not do what the state is about.
    fn refuse_or_die(&mut self, failure: &Failure) {
        match self.state {
            State::Starting => {
                self.cause = Some(failure.clone());
                self.retry.succeeded();
                self.step(Input::Refused);
            }
            State::Open(_) | State::Doomed(_) | State::Draining(..) if !failure.is_final() => {
                self.spoil(failure);
            }
            _ => self.die(failure),
        }
    }

    fn succeeded(&mut self) {
        self.retry.succeeded();
        self.trouble = None;
    }

    /// The transaction cannot be committed.
    fn spoil(&mut self, failure: &Failure) {
        if matches!(self.state, State::Open(_) | State::Draining(Fate::Commit, _)) {
            self.cause = Some(doomed(failure));
        }
        self.step(Input::Spoilt);
    }

    fn die(&mut self, failure: &Failure) {
        if self.state != State::Dead {
            self.cause = Some(Failure::Doomed { cause: Box::new(failure.clone()), is_fatal: true });
        }
        self.step(Input::Fatal);
    }

    fn step(&mut self, input: Input) {
        let may_be_committed = self.state == State::Ending(Fate::Commit, Trace::Unknown);
        let (state, action) = next(self.state, input);
        self.state = state;
        let cause = || self.cause.clone().unwrap_or(Failure::Closed);
        match action {
            Action::Nothing => {}
            Action::Purge => {
                let cause = cause();
                self.drop_offsets(&cause);
                self.events.push_back(Event::Purge(cause));
            }
            Action::Refuse => {
                let cause = cause();
                self.drop_offsets(&cause);
                self.events.extend([Event::Purge(cause.clone()), Event::Refused(cause)]);
            }
            Action::Tell(fate) => self.events.push_back(Event::Ended(fate)),
            Action::Fail => {
                let cause = cause();
                self.events.push_back(Event::Unstarted(cause));
            }
            Action::Die => {
                let cause = cause();
                self.flight = None;
                self.offsets.flight = None;
                self.drop_offsets(&cause);
                self.events.push_back(Event::Dead { failure: cause, may_be_committed });
            }
        }
    }

    /// Nothing more is added to the transaction.
    fn drop_offsets(&mut self, cause: &Failure) {
        self.wanted.clear();
        let is_flying = self.offsets.flight.is_some();
        let kept = if is_flying { self.offsets.queue.pop_front() } else { None };
        for pending in self.offsets.queue.drain(..) {
            self.events.push_back(Event::Committed(pending.ticket, Err(cause.clone())));
        }
        // Its request may still be carried out, so that its answer is waited for.
        if let Some(mut pending) = kept {
            if pending.given_up.is_none() {
                self.events.push_back(Event::Committed(pending.ticket, Err(cause.clone())));
            }
            pending.given_up = Some(cause.clone());
            self.offsets.queue.push_front(pending);
        }
    }

    /// Whether the first offsets were given up while their request was under way, which has landed now.
    fn drop_given_up(&mut self) -> bool {
        self.offsets.queue.pop_front_if(|pending| pending.given_up.is_some()).is_some()
    }

    /// The first offsets cannot be committed, and with them the transaction.
    fn fail_offsets(&mut self, failure: &Failure) {
        self.offsets.retry.succeeded();
        if let Some(pending) = self.offsets.queue.pop_front() {
            self.events.push_back(Event::Committed(pending.ticket, Err(doomed(failure))));
        }
        self.spoil(failure);
    }

    /// Answers whether the request for offsets may succeed later.
    fn delay_offsets(&mut self, failure: &Failure, now: Instant) -> bool {
        let retry = &mut self.offsets.retry;
        retry.failed_by(failure, now, &self.settings.backoff, &mut self.rng);
        if retry.is_notable(failure) {
            let doing =
                format!("committing offsets in the transaction of {:?}", self.settings.transactional_id);
            let failures = retry.failures();
            self.notices.push_back(Notice { doing: doing.into(), failure: failure.clone(), failures });
        }
        retry.may_pass(failure)
    }

    /// Goes on when nothing of a transaction that is to end is under way any more.
    fn settle(&mut self) {
        let is_drained = self.is_settled
            && self.is_draining()
            && self.flight.is_none()
            && self.wanted.is_empty()
            && self.offsets.queue.is_empty();
        if is_drained {
            self.retry.hurry();
            self.step(Input::Drained);
        }
    }

    // Time.

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.spacing.handle_timeout(now);
        let is_overdue = |pending: &Pending| pending.given_up.is_none() && pending.deadline <= now;
        if let Some(overdue) = self.offsets.queue.iter().find(|pending| is_overdue(pending)) {
            let group = &overdue.what.group;
            let text = format!("offsets of group {group:?} were not committed in time");
            let failure = match &self.trouble {
                Some(trouble) => {
                    let last = Some(Box::new(trouble.clone()));
                    Failure::Undelivered { after: overdue.after, waited_for: None, last }
                }
                None => Failure::NoRoute(text.into()),
            };
            self.spoil(&failure);
            self.settle();
        }
    }

    /// When to poll again although nothing happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.state == State::Dead {
            return None;
        }
        let offsets = &self.offsets;
        // While a coordinator is looked up there is nothing to do before the answer, whenever the retry is due.
        let own = (self.flight.is_none() && self.question().is_some() && !self.coordinator.is_asked())
            .then(|| self.coordinator.poll_timeout().max(self.retry.not_before()));
        let is_waiting = offsets.flight.is_none() && self.may_grow();
        let first = offsets.queue.front().filter(|pending| is_waiting && self.is_added(&pending.what.group));
        let of_group = first.map(|pending| {
            let coordinator = offsets.coordinators.get(&pending.what.group);
            if coordinator.is_some_and(Coordinator::is_asked) {
                return None;
            }
            coordinator.and_then(Coordinator::poll_timeout).max(offsets.retry.not_before())
        });
        let deadlines = offsets.queue.iter().filter(|pending| pending.given_up.is_none());
        let deadline = deadlines.map(|pending| pending.deadline).min();
        [own.flatten(), of_group.flatten(), deadline, self.spacing.poll_timeout()].into_iter().flatten().min()
    }

    // What it wants.

    /// Something that the driver carries out or tells.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Something to log.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// A coordinator to look up.
    pub fn poll_lookup(&mut self, now: Instant) -> Option<Coordinated> {
        if self.flight.is_none() && self.question().is_some() && self.coordinator.poll_wanted(now) {
            return Some(Coordinated::Transaction(Arc::clone(&self.settings.transactional_id)));
        }
        if self.offsets.flight.is_some() || !self.may_grow() {
            return None;
        }
        let group = Arc::clone(&self.offsets.queue.front()?.what.group);
        let coordinators = &mut self.offsets.coordinators;
        let coordinator = coordinators.entry(Arc::clone(&group)).or_insert_with(Coordinator::of_group);
        coordinator.poll_wanted(now).then_some(Coordinated::Group(group))
    }

    /// What the transaction coordinator is to be asked.
    fn question(&self) -> Option<Question> {
        match self.state {
            State::Starting | State::Raising => Some(Question::Identity),
            State::Open(_) | State::Draining(Fate::Commit, _) => {
                if !self.wanted.is_empty() {
                    return Some(Question::Partitions);
                }
                let first = self.offsets.queue.front()?;
                (!self.is_added(&first.what.group)).then_some(Question::Group)
            }
            State::Ending(..) => Some(Question::End),
            State::New | State::Ready | State::Doomed(_) | State::Draining(Fate::Abort, _) | State::Dead => {
                None
            }
        }
    }

    /// Whether offsets of this group can be committed in the transaction: brokers add the groups of version two themselves.
    fn is_added(&self, group: &Arc<str>) -> bool {
        self.version != Some(Version::One) || self.groups.contains(group)
    }

    /// Whether partitions and offsets still come into the transaction.
    fn may_grow(&self) -> bool {
        matches!(self.state, State::Open(_) | State::Draining(Fate::Commit, _))
    }

    /// The next request to send.
    pub fn poll_request(&mut self, now: Instant) -> Option<Ask> {
        self.poll_own_request(now).or_else(|| self.poll_offsets(now))
    }

    fn poll_own_request(&mut self, now: Instant) -> Option<Ask> {
        if self.flight.is_some() || !self.retry.is_ready(now) {
            return None;
        }
        let question = self.question()?;
        let broker = self.coordinator.broker()?;
        let transactional_id = Str::from(&*self.settings.transactional_id);
        let (producer_id, producer_epoch) = self.identity.map_or((-1, -1), |of| (of.id.0, of.epoch));
        let (mut partitions, mut group) = (BTreeSet::new(), None);
        let request = match question {
            Question::Identity => Request::Identity(InitProducerIdRequest {
                transactional_id: Some(transactional_id),
                transaction_timeout_ms: i32::try_from(self.settings.timeout.as_millis()).unwrap_or(i32::MAX),
                // With the identity that it has, only the instance that has it is given a higher epoch (KIP-360).
                producer_id,
                producer_epoch,
                ..Default::default()
            }),
            Question::Partitions => {
                while partitions.len() < PARTITIONS_MAX
                    && let Some(at) = self.wanted.pop_first()
                {
                    partitions.insert(at);
                }
                Request::Partitions(AddPartitionsToTxnRequest {
                    v3_and_below_transactional_id: transactional_id,
                    v3_and_below_producer_id: producer_id,
                    v3_and_below_producer_epoch: producer_epoch,
                    v3_and_below_topics: by_topic(&partitions),
                    ..Default::default()
                })
            }
            Question::Group => {
                let first = Arc::clone(&self.offsets.queue.front()?.what.group);
                let group_id = Str::from(&*first);
                group = Some(first);
                Request::Group(AddOffsetsToTxnRequest {
                    transactional_id,
                    producer_id,
                    producer_epoch,
                    group_id,
                    ..Default::default()
                })
            }
            Question::End => Request::End(EndTxnRequest {
                transactional_id,
                producer_id,
                producer_epoch,
                committed: matches!(self.state, State::Ending(Fate::Commit, _)),
                ..Default::default()
            }),
            Question::Offsets => return None,
        };
        if matches!(question, Question::Partitions | Question::Group) {
            self.step(Input::Sent);
        }
        let number = self.number();
        self.flight = Some(Flight { number, broker, question, partitions, group });
        Some(self.ask(number, broker, request, now))
    }

    fn poll_offsets(&mut self, now: Instant) -> Option<Ask> {
        let offsets = &self.offsets;
        if offsets.flight.is_some() || !self.may_grow() || !offsets.retry.is_ready(now) {
            return None;
        }
        let Pending { what, .. } = offsets.queue.front()?;
        if !self.is_added(&what.group) {
            return None;
        }
        let broker = offsets.coordinators.get(&what.group)?.broker()?;
        let identity = self.identity?;
        let request = Request::Offsets(TxnOffsetCommitRequest {
            transactional_id: Str::from(&*self.settings.transactional_id),
            group_id: Str::from(&*what.group),
            producer_id: identity.id.0,
            producer_epoch: identity.epoch,
            generation_id_or_member_epoch: what.member.generation_or_epoch,
            member_id: Str::from(&*what.member.member_id),
            group_instance_id: what.member.instance_id.as_deref().map(Str::from),
            topics: offsets_by_topic(what),
            ..Default::default()
        });
        if self.version == Some(Version::Two) {
            self.step(Input::Sent);
        }
        let number = self.number();
        self.offsets.flight = Some((number, broker));
        Some(self.ask(number, broker, request, now))
    }

    fn ask(&self, number: u64, broker: BrokerId, request: Request, now: Instant) -> Ask {
        let version_max = request.version_max(self.version.unwrap_or(Version::One));
        Ask { number, broker, request, version_max, deadline: now + self.settings.request_timeout }
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

/// A failure for which the transaction has to be aborted.
fn doomed(failure: &Failure) -> Failure {
    match failure {
        Failure::Doomed { .. } => failure.clone(),
        failure => Failure::Doomed { cause: Box::new(failure.clone()), is_fatal: false },
    }
}

/// Old coordinators have another code for it.
fn fenced() -> Failure {
    Failure::answer(ErrorCode::PRODUCER_FENCED, None)
}

fn identity(producer_id: i64, epoch: i16) -> Option<ProducerIdentity> {
    let id = ProducerId::known(producer_id).filter(|_| epoch >= 0)?;
    Some(ProducerIdentity { id, epoch })
}

/// Whether brokers refuse what comes under `before` once they have seen `after`.
fn is_raised(before: Option<ProducerIdentity>, after: ProducerIdentity) -> bool {
    before.is_none_or(|before| before.id != after.id || before.epoch < after.epoch)
}

/// Of several verdicts in one answer the most severe one counts.
fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Done => 0,
        Verdict::Soon => 1,
        Verdict::Again => 2,
        Verdict::Moved => 3,
        Verdict::Unsure => 4,
        Verdict::Refused => 5,
        Verdict::Fatal => 6,
        Verdict::Fenced => 7,
    }
}

fn by_topic(partitions: &BTreeSet<TopicPartition>) -> Vec<AddPartitionsToTxnTopic> {
    let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
    for at in partitions {
        match topics.last_mut().filter(|topic| *topic.name == *at.topic) {
            Some(topic) => topic.partitions.push(at.partition),
            None => topics.push(AddPartitionsToTxnTopic {
                name: Str::from(&*at.topic),
                partitions: vec![at.partition],
                ..Default::default()
            }),
        }
    }
    topics
}

fn offsets_by_topic(what: &Offsets) -> Vec<TxnOffsetCommitRequestTopic> {
    let mut topics: BTreeMap<&str, Vec<TxnOffsetCommitRequestPartition>> = BTreeMap::new();
    for (at, stored) in &what.offsets {
        topics.entry(&at.topic).or_default().push(TxnOffsetCommitRequestPartition {
            partition_index: at.partition,
            committed_offset: stored.offset,
            committed_leader_epoch: stored.leader_epoch.map_or(-1, |epoch| epoch.0),
            committed_metadata: stored.metadata.as_deref().map(Str::from),
            ..Default::default()
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| TxnOffsetCommitRequestTopic {
        name: Str::from(name),
        partitions,
        ..Default::default()
    });
    topics.collect()
}
