//! The two ways to a broker, and which partition takes which.
//!
//! ```text
//!  lane 0, the long one   everything, as a rule; the broker may hold its fetch back for `fetch_wait`
//!  lane 1, the quick one  what became wanted meanwhile; never held for longer than QUIET_WAIT_MAX
//! ```
//!
//! So whatever becomes wanted is on its way to the broker at once, or as soon as a quick fetch was answered. When the
//! quick lane has brought nothing, its partitions go back to the long one with that lane's next fetch; until then the
//! quick lane goes on asking.

use std::collections::BTreeSet;
use std::time::Duration;

use milena_messages::fetch::FetchRequest;

use super::appetite::Appetite;
use super::partition::{Partition, Reader};
use super::session::{self, Member, Session};
use super::{LaneId, ROOM_MIN, Settings, Slot, Source, THROTTLE_MAX};
use crate::backoff::Retry;
use crate::{BrokerId, Instant};

/// The lane that a broker may hold.
pub(super) const LONG: u8 = 0;
/// The lane that no broker holds.
pub(super) const QUICK: u8 = 1;

/// What a broker without records waits on the quick lane: at first this long, and twice as long after each empty answer.
/// Not zero, which Redpanda answers without a look at the log.
const QUICK_WAIT_MIN: Duration = Duration::from_millis(1);
/// And no longer than this, as another partition may be waiting for the lane.
const QUICK_WAIT_MAX: Duration = Duration::from_millis(10);
/// After so many empty answers in a row records are not expected soon, and the wait doubles further, to a tenth of
/// `fetch_wait` and no longer than [`QUIET_WAIT_MAX`]: a long `fetch_wait` is not to cost thousands of requests in vain.
const QUICK_EMPTY_MAX: u32 = 8;
const QUIET_WAIT_MAX: Duration = Duration::from_millis(50);

/// A lane's session and the fetch in flight.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub session: Session,
    pub appetite: Appetite,
    pub in_flight: Option<InFlight>,
    pub retry: Retry,
    pub muted_until: Option<Instant>,
    /// Of its partitions that are to be fetched: the application will take them, and more can wait until then.
    pub buffered_bytes: usize,
    /// As many of these are of partitions that have a reader of their own.
    pub own_bytes: usize,
    /// Answers in a row without a record.
    pub empty_answers: u32,
}

/// A fetch in flight, and what was asked of each partition named in it.
#[derive(Debug)]
pub(super) struct InFlight {
    pub number: u64,
    pub sent: session::Sent,
    /// It names all it asks for and is no part of the lane's session.
    pub is_ration: bool,
    pub asked: usize,
    pub at: Instant,
}

impl Lane {
    /// Whether it may fetch.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        let is_muted = self.muted_until.is_some_and(|until| until > now);
        self.in_flight.is_none() && !is_muted && self.retry.is_ready(now)
    }

    /// What its next answer may take, where there are `room` bytes; none when it is not its turn.
    ///
    /// However little room there is, a reader that has nothing gets [`ROOM_MIN`]: what holds the memory may never be
    /// taken. Partitions without a reader of their own have one in common.
    pub(super) fn room(&self, room: usize, now: Instant) -> Option<usize> {
        let may = self.is_ready(now) && (room >= ROOM_MIN || self.buffered_bytes == self.own_bytes);
        may.then_some(room.max(ROOM_MIN))
    }

    /// How long a broker that has too little may hold the next fetch.
    pub(super) fn wait(&self, lane: u8, settings: &Settings) -> Duration {
        if lane == LONG {
            return settings.fetch_wait;
        }
        let wait = match self.empty_answers.checked_sub(QUICK_EMPTY_MAX) {
            None => (QUICK_WAIT_MIN * 2u32.pow(self.empty_answers)).min(QUICK_WAIT_MAX),
            Some(more) => {
                let most = (settings.fetch_wait / 10).clamp(QUICK_WAIT_MAX, QUIET_WAIT_MAX);
                (QUICK_WAIT_MAX * 2u32.pow(more.min(9) + 1)).min(most)
            }
        };
        wait.min(settings.fetch_wait)
    }

    /// What `in_flight` asks of `slot`, which may have been answered.
    pub(super) fn asked(&self, in_flight: &InFlight, slot: Slot) -> Option<Member> {
        match in_flight.sent.says(slot) {
            Some(said) => said,
            None if in_flight.is_ration => None,
            None => self.session.member(slot),
        }
    }

    /// Whether the fetch in flight asks for what `partition` wants.
    pub(super) fn covers(&self, slot: Slot, partition: &Partition) -> bool {
        let asked = self.in_flight.as_ref().and_then(|in_flight| self.asked(in_flight, slot));
        asked.is_some_and(|member| partition.is_at(member.epoch, member.offset))
    }

    /// `in_flight` failed, and what the broker knows with it.
    pub(super) fn reset(&mut self, in_flight: &InFlight) {
        if !in_flight.is_ration {
            self.session.reset(&in_flight.sent);
        }
    }

    /// Whether a broker may believe that `slot` is wanted.
    fn mentions(&self, slot: Slot) -> bool {
        let is_sent =
            self.in_flight.as_ref().is_some_and(|in_flight| in_flight.sent.says(slot).flatten().is_some());
        is_sent || self.session.member(slot).is_some()
    }

    /// The broker asks to be left alone (KIP-219).
    pub(super) fn mute(&mut self, throttle_time_ms: i32, now: Instant) {
        let throttle = Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0)).min(THROTTLE_MAX);
        self.muted_until = (throttle > Duration::ZERO).then(|| now + throttle);
    }
}

impl Source {
    /// What is wanted of `slot` may have changed.
    pub(super) fn touch(&mut self, slot: Slot) {
        if let Some(lane) = self.at(slot).lane() {
            self.lanes.entry(lane).or_default().session.touch(slot);
        }
        self.is_fed = false;
        self.recount(slot);
    }

    /// As [`touch`](Self::touch), and if its lane is busy with a fetch that does not ask for it, `slot` takes the other
    /// one if that is free, or else the one that soon will be.
    pub(super) fn hasten(&mut self, slot: Slot) {
        self.touch(slot);
        let partition = &self.partitions[slot.0 as usize];
        let Some(id) = partition.lane().filter(|_| partition.may_be_fetched()) else { return };
        let is_free =
            |lane: u8| self.lanes.get(&LaneId { lane, ..id }).is_none_or(|lane| lane.in_flight.is_none());
        if is_free(id.lane) || self.lanes.get(&id).is_some_and(|lane| lane.covers(slot, partition)) {
            return;
        }
        let lane = if is_free(LONG) { LONG } else { QUICK };
        self.reroute(slot, lane);
    }

    /// The quick lane's next wait is as short as its first: what it asks for has changed.
    fn reroute(&mut self, slot: Slot, lane: u8) {
        if self.at(slot).lane == lane {
            return;
        }
        self.touch(slot);
        self.at(slot).lane = lane;
        self.touch(slot);
        let quick = self.at(slot).leader.map(|broker| LaneId { broker, lane: QUICK });
        if let Some(quick) = quick.and_then(|quick| self.lanes.get_mut(&quick)) {
            quick.empty_answers = 0;
        }
    }

    /// After an answer of `broker`: what the quick lane asks for in vain is for the long one, if that can ask now.
    pub(super) fn settle(&mut self, broker: BrokerId, now: Instant) {
        let is_ready = self.lanes.get(&LaneId { broker, lane: LONG }).is_none_or(|long| long.is_ready(now));
        let Some(quick) = self.lanes.get(&LaneId { broker, lane: QUICK }) else { return };
        if !is_ready || quick.empty_answers == 0 || quick.session.is_idle() {
            return;
        }
        for slot in quick.session.slots() {
            let partition = &self.partitions[slot.0 as usize];
            if partition.lane() == Some(LaneId { broker, lane: QUICK }) {
                self.reroute(slot, LONG);
            }
        }
    }

    /// While memory is short, a partition that has a reader of its own and something for it to take counts as full.
    pub(super) fn hold_back(&mut self) {
        for slot in std::mem::take(&mut self.own_filled) {
            self.at(slot).buffer.hold_back();
            self.touch(slot);
        }
    }

    /// While memory is short and a lane waits for what it brought to be taken, a fetch for readers of their own that
    /// have nothing. It says all itself, so that the lane's session keeps what it has.
    pub(super) fn ration(&mut self, now: Instant) -> Option<(LaneId, session::Sent, FetchRequest, bool)> {
        if self.is_fed {
            return None;
        }
        let is_starving = |slot: &&Slot| {
            let partition = &self.partitions[slot.0 as usize];
            let Some(id) = partition.lane().filter(|_| partition.is_wanted(now)) else { return false };
            let is_asked = |lane: u8| {
                self.lanes.get(&LaneId { lane, ..id }).is_some_and(|lane| lane.covers(**slot, partition))
            };
            !is_asked(LONG) && !is_asked(QUICK)
        };
        let starving: Vec<_> = self.own_empty.iter().filter(is_starving).copied().collect();
        // A backoff that ends touches its partition, and a lane's answer every reader, so this holds until one of them.
        self.is_fed = starving.is_empty();
        let broker_of = |slot: &Slot| self.partitions[slot.0 as usize].leader;
        let broker = starving.iter().filter_map(broker_of).find(|broker| {
            let quick = self.lanes.get(&LaneId { broker: *broker, lane: QUICK });
            quick.is_none_or(|quick| quick.is_ready(now))
        })?;
        let slots = starving.iter().filter(|slot| broker_of(slot) == Some(broker)).copied();
        let (sent, request, has_ids) = session::ration(slots, &self.partitions, &self.settings);
        Some((LaneId { broker, lane: QUICK }, sent, request, has_ids))
    }

    /// What `slot` has buffered counts for the lane that is to fetch more of it, and for its own reader.
    pub(super) fn recount(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot.0 as usize];
        let (is_own, buffer) = (partition.reader == Reader::Own, &partition.buffer);
        if list(&mut self.own_empty, slot, is_own && buffer.is_empty()) {
            self.is_fed = false;
        }
        list(&mut self.own_filled, slot, is_own && !buffer.is_empty() && !buffer.is_full());
        let lane = partition.lane().filter(|_| !partition.is_paused && !buffer.is_full());
        let own_bytes = if is_own { buffer.bytes() } else { 0 };
        let counted = lane.map(|lane| (lane, buffer.bytes(), own_bytes));
        if partition.counted == counted {
            return;
        }
        if let Some((id, bytes, own)) = std::mem::replace(&mut partition.counted, counted)
            && let Some(lane) = self.lanes.get_mut(&id)
        {
            lane.buffered_bytes -= bytes;
            lane.own_bytes -= own;
        }
        if let Some((id, bytes, own)) = counted {
            let lane = self.lanes.entry(id).or_default();
            lane.buffered_bytes += bytes;
            lane.own_bytes += own;
        }
    }

    /// Makes the slots free of partitions that are not assigned and that no broker may believe to be wanted.
    pub(super) fn collect_slots(&mut self) {
        let Self { slots, partitions, lanes, .. } = self;
        slots.collect(partitions, |slot| lanes.values().any(|lane| lane.mentions(slot)));
    }

    /// Forgets brokers that are gone, and with them what they were told.
    pub(super) fn drop_lanes(&mut self, is_known: impl Fn(BrokerId) -> bool) {
        self.lanes.retain(|id, lane| lane.in_flight.is_some() || is_known(id.broker));
    }
}

/// Makes `slot` one of `slots`, or none of them. Answers whether that is new.
fn list(slots: &mut BTreeSet<Slot>, slot: Slot, is_one: bool) -> bool {
    if is_one { slots.insert(slot) } else { slots.remove(&slot) }
}
