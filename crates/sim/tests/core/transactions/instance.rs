//! An instance of a transactional producer: core's two machines, tied together as the client's driver ties them, and an
//! application that begins one transaction after the other.

use std::sync::Arc;
use std::time::Duration;

use milena_core::group::commits::StoredOffset;
use milena_core::group::{MemberIdentity, TopicPartition};
use milena_core::metadata::Snapshot;
use milena_core::producer::{Acks, Order, Producer, Slot};
use milena_core::transaction::{Event, Fate, Offsets, Request, Ticket, Transaction, Version};
use milena_core::{Backoff, BrokerId, Failure, Instant, Rng};

use super::judge::{Judge, Told};
use super::network::{Address, Answer, Call, Key, Lane, Network, REQUEST_TIMEOUT};
use super::{IDS, PARTITIONS, READ, TIMEOUT, group};
use crate::batch::Batch;
use crate::brokers::TOPIC;

/// How long records may wait, in half of the rounds. In the others a transaction may time out before its records do.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) struct Instance {
    /// Which transactional id it has.
    pub(super) id: usize,
    number: usize,
    records: Producer<Batch>,
    transaction: Transaction,
    open: Vec<Vec<Batch>>,
    phase: Phase,
    wants_begin: bool,
    /// The transaction that is open or ending.
    current: Option<usize>,
    offsets: Option<Ticket>,
    pub(super) version: Version,
    /// Whether it commits whatever it begins, at once.
    pub(super) is_calm: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No transaction is open.
    Between,
    /// One is open, and the application still does this many things in it.
    Open(u32),
    /// The application has ended it.
    Ending,
    /// The producer can do nothing more, or was killed.
    Gone,
}

impl Instance {
    pub(super) fn new(seed: u64, number: usize, id: usize, version: Version) -> Self {
        let backoff = Backoff { min: Duration::from_millis(50), max: Duration::from_millis(400) };
        let name: Arc<str> = IDS[id].into();
        let of_records = milena_core::producer::Settings {
            acks: Acks::All,
            idempotent: true,
            transactional_id: Some(Arc::clone(&name)),
            linger: Duration::from_millis(5),
            delivery_timeout: if seed.is_multiple_of(2) { DELIVERY_TIMEOUT } else { TIMEOUT * 2 },
            request_timeout: REQUEST_TIMEOUT,
            request_bytes_max: 1 << 20,
            in_flight_max: 5,
            backoff,
        };
        let settings = milena_core::transaction::Settings {
            transactional_id: name,
            timeout: TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            backoff,
        };
        let seed = seed ^ ((number as u64 + 1) << 32);
        let mut records = Producer::new(of_records, Rng::seeded(seed));
        for partition in 0..PARTITIONS {
            records.register(Arc::from(TOPIC), partition as i32);
        }
        let mut transaction = Transaction::new(settings, Rng::seeded(seed ^ 0x7a));
        transaction.handle_wanted();
        Self {
            id,
            number,
            records,
            transaction,
            open: (0..PARTITIONS).map(|_| Vec::new()).collect(),
            phase: Phase::Between,
            wants_begin: false,
            current: None,
            offsets: None,
            version,
            is_calm: false,
        }
    }

    pub(super) fn is_gone(&self) -> bool {
        self.phase == Phase::Gone
    }

    /// Whether it has no transaction.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Between && !self.wants_begin && self.transaction.is_ready()
    }

    /// Its process ends.
    pub(super) fn kill(&mut self, judge: &mut Judge) {
        self.phase = Phase::Gone;
        if let Some(current) = self.current.take() {
            judge.abandoned(current);
        }
    }

    pub(super) fn handle_metadata(&mut self, snapshot: &Snapshot, now: Instant) {
        self.records.handle_metadata(snapshot, now);
    }

    pub(super) fn handle_answer(&mut self, key: Key, answer: Answer, now: Instant) {
        match (key, answer) {
            (Key::Records(id), Answer::Records(response)) => self.records.handle_response(id, &response, now),
            (Key::Ask(number), Answer::Ask(response)) => {
                self.transaction.handle_response(number, &response, now);
            }
            (Key::LookUp(of), Answer::LookUp(found)) => self.transaction.handle_coordinator(&of, found, now),
            _ => panic!("an answer of another kind"),
        }
    }

    pub(super) fn handle_lost(&mut self, key: Key, has_begun: bool, now: Instant) {
        let failure = if has_begun {
            Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true }
        } else {
            Failure::unreachable("b", "refused")
        };
        match key {
            Key::Records(id) => self.records.handle_lost(id, &failure, has_begun, now),
            Key::Ask(number) => self.transaction.handle_lost(number, &failure, has_begun, now),
            Key::LookUp(of) => self.transaction.handle_coordinator(&of, Err(failure), now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_gone() {
            return None;
        }
        self.records.poll_timeout().into_iter().chain(self.transaction.poll_timeout()).min()
    }

    /// The application goes on. Answers when it does the next time, unless something else happens before.
    pub(super) fn live(&mut self, judge: &mut Judge, network: &mut Network) -> Option<Duration> {
        match self.phase {
            Phase::Between => self.wants_begin = true,
            Phase::Open(0) => self.end(judge, network),
            Phase::Open(steps) => {
                self.phase = Phase::Open(steps - 1);
                self.step(judge, network);
                let most = if network.chance(2) { 2 * TIMEOUT.as_millis() as u32 } else { 25 };
                return Some(network.millis(most));
            }
            Phase::Ending | Phase::Gone => {}
        }
        None
    }

    fn step(&mut self, judge: &mut Judge, network: &mut Network) {
        let Some(current) = self.current else { return };
        match network.below(10) {
            0 | 1 if self.offsets.is_none() => {
                let offset = StoredOffset::at(current as i64 + 1);
                // A partition that no other transaction has, and one that they all have.
                let topic: Arc<str> = READ.into();
                let offsets =
                    [current as i32 + 1, 0].map(|at| (TopicPartition::new(&topic, at), offset.clone()));
                let what = Offsets {
                    group: group(self.id).into(),
                    member: MemberIdentity::outside(),
                    offsets: offsets.to_vec(),
                };
                judge.offsets_added(current);
                let after = Duration::from_secs(4);
                self.offsets = Some(self.transaction.handle_offsets(what, network.now + after, after));
            }
            2 => drop(self.records.handle_flush()),
            _ => {
                let partition = network.below(PARTITIONS as u32) as usize;
                let count = 1 + network.below(3);
                let number = judge.appended(current, partition, count);
                let values = (number..number + count).map(|number| number.to_be_bytes().to_vec());
                self.records.handle_opened(Slot(partition as u32), network.now);
                self.open[partition].push(Batch::new(number, values.collect(), true));
                if network.below(3) > 0 {
                    self.close(partition, network.now);
                }
            }
        }
    }

    fn end(&mut self, judge: &mut Judge, network: &mut Network) {
        let Some(current) = self.current else { return };
        self.phase = Phase::Ending;
        let chosen = if self.is_calm { 0 } else { network.below(10) };
        if chosen < 5 {
            judge.commit_wanted(current);
            self.records.handle_flush();
            self.hear(network.now);
            self.transaction.handle_commit();
        } else {
            self.hear(network.now);
            self.transaction.handle_abort();
            // A transaction that is dropped: the next one is wanted at once.
            self.wants_begin = chosen < 8;
        }
    }

    fn close(&mut self, partition: usize, now: Instant) {
        let slot = Slot(partition as u32);
        for batch in std::mem::take(&mut self.open[partition]) {
            let ticket = self.records.handle_closed(slot, now);
            self.records.handle_sealed(ticket, batch, now);
        }
        self.records.handle_emptied(slot);
    }

    /// Does what the machines say until they say nothing more. Answers whether its application has something to do soon.
    pub(super) fn turn(&mut self, judge: &mut Judge, network: &mut Network, up: &[i32]) -> bool {
        if self.is_gone() {
            return false;
        }
        let now = network.now;
        self.records.handle_timeout(now);
        let before = self.phase;
        loop {
            self.act_on_records(judge, network);
            if !self.act_on_transaction(judge, network, up) {
                break;
            }
        }
        self.phase != before && matches!(self.phase, Phase::Between | Phase::Open(_))
    }

    fn act_on_records(&mut self, judge: &mut Judge, network: &mut Network) {
        let now = network.now;
        while let Some(order) = self.records.poll_order(now) {
            match order {
                Order::Close(slot) => self.close(slot.0 as usize, now),
                Order::Split(..) => panic!("no batch is too large"),
                Order::Recall(id) => {
                    let key = Key::Records(id);
                    let mut brokers = network.addresses(|of| of.producer == self.number).into_iter();
                    if brokers.any(|of| network.recall(self.number, of.broker, &key)) {
                        self.handle_lost(key, false, now);
                    } else {
                        self.records.handle_begun(id, now);
                    }
                }
                Order::Transmit(transmit) => {
                    let address =
                        Address { producer: self.number, broker: transmit.broker.0, lane: Lane::Records };
                    network.send(address, Key::Records(transmit.id), Call::Records(transmit));
                }
            }
        }
        while let Some(settled) = self.records.poll_settled() {
            judge.settled(settled.batch.numbers(), &settled.outcome);
        }
        while self.records.poll_flushed().is_some() {}
        if self.records.poll_metadata_wanted() {
            network.after(Duration::from_millis(50), super::network::Event::Metadata(self.number));
        }
        drop(self.records.poll_hints());
    }

    fn hear(&mut self, now: Instant) {
        if self.records.poll_sent() {
            self.transaction.handle_sent(now);
        }
        if self.records.poll_taken() {
            self.transaction.handle_taken(now);
        }
        if self.records.poll_unsure() {
            self.transaction.handle_unsure();
        }
        if let Some(failure) = self.records.poll_failed() {
            self.transaction.handle_failed(&failure);
        }
    }

    /// Answers whether the machine of records has something to do afterwards.
    fn act_on_transaction(&mut self, judge: &mut Judge, network: &mut Network, up: &[i32]) -> bool {
        self.hear(network.now);
        while let Some(slot) = self.records.poll_wanted() {
            self.transaction.handle_partition(TopicPartition::new(&TOPIC.into(), slot.0 as i32));
        }
        if self.transaction.is_draining() && self.records.outstanding() == 0 {
            self.transaction.handle_settled();
        }
        self.transaction.handle_timeout(network.now);
        let mut goes_on = false;
        while let Some(event) = self.transaction.poll_event() {
            goes_on |= self.handle_event(event, judge, network.now);
        }
        self.records.handle_unadded(self.transaction.trouble());
        if self.wants_begin
            && self.transaction.is_ready()
            && let Some(identity) = self.transaction.handle_begin(self.version)
        {
            self.records.handle_begin(identity, self.version);
            self.wants_begin = false;
            self.current = Some(judge.begun(self.number, self.id, network.now));
            self.offsets = None;
            self.phase = Phase::Open(network.below(7));
            goes_on = true;
        }
        while let Some(of) = self.transaction.poll_lookup(network.now) {
            let broker = up[network.below(up.len() as u32) as usize];
            let address = Address { producer: self.number, broker, lane: Lane::LookUps };
            network.send(address, Key::LookUp(of.clone()), Call::LookUp(of));
        }
        while let Some(ask) = self.transaction.poll_request(network.now) {
            let BrokerId(broker) = ask.broker;
            if let Request::Identity(request) = &ask.request
                && request.producer_id >= 0
            {
                judge.seen.raised += 1;
            }
            let address = Address { producer: self.number, broker, lane: Lane::Transaction };
            network.send(address, Key::Ask(ask.number), Call::Ask(ask));
        }
        while self.transaction.poll_notice().is_some() {}
        goes_on
    }

    fn handle_event(&mut self, event: Event, judge: &mut Judge, now: Instant) -> bool {
        match event {
            Event::Added(partitions) => {
                for at in partitions {
                    self.records.handle_added(Slot(at.partition as u32));
                }
            }
            Event::Committed(ticket, result) => {
                if Some(ticket) == self.offsets
                    && let (Some(current), Err(failure)) = (self.current, result)
                {
                    judge.offsets_failed(current, &failure);
                }
                return false;
            }
            Event::Purge(failure) => self.records.handle_purge(&failure),
            Event::Refused(failure) => {
                judge.refused(self.current, &failure);
                return false;
            }
            Event::Ended(fate) => {
                let told = if fate == Fate::Commit { Told::Committed } else { Told::Aborted };
                if let Some(current) = self.current.take() {
                    judge.told(current, told);
                }
                if self.phase == Phase::Ending {
                    self.phase = Phase::Between;
                }
                return false;
            }
            Event::Unstarted(failure) => panic!("{}: there is no identity: {failure}", judge.round()),
            Event::Dead { failure, may_be_committed } => {
                self.records.handle_purge(&failure);
                judge.died(self.number, self.current.take(), &failure, may_be_committed, now);
                self.phase = Phase::Gone;
            }
        }
        true
    }

    /// What it waits for.
    pub(super) fn standing(&self) -> String {
        let trouble = self.transaction.trouble().map(ToString::to_string);
        format!(
            "{} of {:?}: {:?}, transaction {:?}, {} batches outstanding, {trouble:?}",
            self.number,
            IDS[self.id],
            self.phase,
            self.current,
            self.records.outstanding()
        )
    }
}
