//! The two lanes to a broker, and which of them fetches a partition.
//!
//! ```text
//!  lane 0, the long one   all partitions, as a rule; the broker may hold its fetch back for `fetch_wait`
//!  lane 1, the quick one  partitions that became wanted meanwhile; the broker holds it for QUIET_WAIT_MAX at most
//! ```
//!
//! A broker answers the requests of one connection in order, and an idle partition's fetch is held back for half a
//! second. With one lane a partition that is resumed or sought would wait that long for other partitions' records. With
//! two, it is asked for at once, or as soon as a quick fetch is answered. Partitions for which the quick lane brings
//! nothing go back to the long one, at a moment when no quick fetch is in flight: if both lanes asked for a partition at
//! once, what comes meanwhile would come twice. So that there is such a moment, the long lane's next fetch is held for
//! [`QUICK_WAIT_MAX`] only, and the quick lane waits for its answer. Until then the quick lane goes on asking.

use std::collections::BTreeSet;
use std::time::Duration;

use milena_messages::fetch::FetchRequest;

use super::appetite::Appetite;
use super::buffer::Amount;
use super::partition::{Partition, Reader};
use super::session::{self, Limits, Member, Session};
use super::{LaneId, ROOM_MIN, Settings, Slot, Source, THROTTLE_MAX};
use crate::backoff::Retry;
use crate::{BrokerId, Instant};

/// The lane whose fetch a broker may hold back for `fetch_wait`.
pub(super) const LONG: u8 = 0;
/// The lane whose fetch a broker holds back for a short time only.
pub(super) const QUICK: u8 = 1;

/// How long a broker without records may hold a fetch of the quick lane: at first this long, and twice as long after
/// each empty answer. It is not zero, because Redpanda answers a fetch that may not wait without a look at the log.
const QUICK_WAIT_MIN: Duration = Duration::from_millis(1);
/// The longest that a broker may hold it, as another partition may be waiting for the lane.
const QUICK_WAIT_MAX: Duration = Duration::from_millis(10);
/// After this many empty answers in a row records are not expected soon, and the wait doubles further, up to a tenth of
/// `fetch_wait` and to [`QUIET_WAIT_MAX`]. Otherwise a `fetch_wait` of a minute would cost thousands of requests in
/// vain.
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
    /// Bytes buffered of its partitions that may be fetched. The application will take them, and while memory is short
    /// the lane waits for that.
    pub buffered_bytes: usize,
    /// The part of `buffered_bytes` that belongs to partitions with a reader of their own.
    pub own_bytes: usize,
    /// How many answers in a row brought no record.
    pub empty_answers: u32,
    /// Of the quick lane: a fetch of the long one is in flight that is answered soon, and then takes its partitions over
    /// unless records have come.
    pub yields: bool,
}

/// A fetch in flight, and what was asked of each partition named in it.
#[derive(Debug)]
pub(super) struct InFlight {
    pub number: u64,
    pub sent: session::Sent,
    /// It names every partition that it asks for, and is outside of the lane's session.
    pub is_ration: bool,
    /// It asks for a new session.
    pub opens_session: bool,
    /// The number of bytes it asks for.
    pub asked: usize,
    /// When it was sent.
    pub at: Instant,
}

impl Lane {
    /// Whether it may fetch.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        let is_muted = self.muted_until.is_some_and(|until| until > now);
        let is_resting = self.yields && self.empty_answers > 0;
        self.in_flight.is_none() && !is_muted && !is_resting && self.retry.is_ready(now)
    }

    /// How large its next answer may be when there are `room` bytes of memory. None while it must not fetch.
    ///
    /// While memory is short it must not fetch as long as its readers have something to take. A lane whose readers have nothing
    /// is given [`ROOM_MIN`] even then: the batches that hold the memory may be those of paused partitions, or of
    /// another consumer, and may never be taken. All partitions without a reader of their own are read by one reader in
    /// turns, so that one has something as soon as any of them does. Readers of their own are [`Source::ration`]'s
    /// business.
    pub(super) fn room(&self, room: usize, now: Instant) -> Option<usize> {
        let may = self.is_ready(now) && (room >= ROOM_MIN || self.buffered_bytes == self.own_bytes);
        may.then_some(room.max(ROOM_MIN))
    }

    /// How long a broker that has less than `fetch_bytes_min` may hold the next fetch.
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

    /// What `in_flight` asks of `slot`: what it says itself, or what the session says if it says nothing.
    pub(super) fn asked(&self, in_flight: &InFlight, slot: Slot) -> Option<Member> {
        match in_flight.sent.says(slot) {
            Some(said) => said,
            None if in_flight.is_ration => None,
            None => self.session.member(slot),
        }
    }

    /// Whether the fetch in flight asks for `partition` at the offset where it stands.
    pub(super) fn covers(&self, slot: Slot, partition: &Partition) -> bool {
        let asked = self.in_flight.as_ref().and_then(|in_flight| self.asked(in_flight, slot));
        asked.is_some_and(|member| partition.is_at(member.epoch, member.offset))
    }

    /// `in_flight` failed, so it is not known what the broker remembers; `may_exist` says whether it may still have the
    /// session. A ration told it nothing to remember.
    pub(super) fn reset(&mut self, in_flight: &InFlight, may_exist: bool) {
        if !in_flight.is_ration {
            self.session.reset(&in_flight.sent, may_exist);
        }
    }

    /// Whether the broker may believe that `slot` is wanted, now or when the fetch in flight arrives.
    fn mentions(&self, slot: Slot) -> bool {
        let is_sent =
            self.in_flight.as_ref().is_some_and(|in_flight| in_flight.sent.says(slot).flatten().is_some());
        is_sent || self.session.member(slot).is_some()
    }

    /// The broker asks for no request before its throttle is over (KIP-219).
    pub(super) fn mute(&mut self, throttle_time_ms: i32, now: Instant) {
        let throttle = Duration::from_millis(u64::try_from(throttle_time_ms).unwrap_or(0)).min(THROTTLE_MAX);
        self.muted_until = (throttle > Duration::ZERO).then(|| now + throttle);
    }
}

impl Source {
    /// The next fetch of its lane looks at `slot`: whether it is wanted, or from which offset, may have changed.
    pub(super) fn touch(&mut self, slot: Slot) {
        if let Some(lane) = self.at(slot).lane() {
            self.lanes.entry(lane).or_default().session.touch(slot);
        }
        self.is_fed = false;
        self.recount(slot);
    }

    /// As [`touch`](Self::touch). In addition, if its lane is busy with a fetch that does not ask for it, `slot` takes
    /// the lane that is free, or the quick one, which will soon be.
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

    /// Moves `slot` to `lane`. The quick lane then asks for other partitions than before, so that its empty answers say
    /// nothing of what comes, and its next wait is short again.
    fn reroute(&mut self, slot: Slot, lane: u8) {
        if self.at(slot).lane == lane {
            return;
        }
        // The session of the lane it leaves forgets it, and that of the other one names it.
        self.touch(slot);
        self.at(slot).lane = lane;
        self.touch(slot);
        let quick = self.at(slot).source().map(|broker| LaneId { broker, lane: QUICK });
        if let Some(quick) = quick.and_then(|quick| self.lanes.get_mut(&quick)) {
            quick.empty_answers = 0;
        }
    }

    /// How long the broker may hold the next fetch of a lane. The quick lane is told if it is to yield to it.
    pub(super) fn wait(&mut self, id: LaneId) -> Duration {
        let wait = self.lanes.entry(id).or_default().wait(id.lane, &self.settings);
        if id.lane != LONG {
            return wait;
        }
        match self.lanes.get_mut(&LaneId { lane: QUICK, ..id }) {
            Some(quick) if quick.in_flight.is_some() && quick.empty_answers > 0 => {
                quick.yields = true;
                wait.min(QUICK_WAIT_MAX)
            }
            _ => wait,
        }
    }

    /// After an answer of `broker`: partitions for which the quick lane asks in vain go to the long one, if that can
    /// fetch now.
    pub(super) fn settle(&mut self, broker: BrokerId, now: Instant) {
        let long = self.lanes.get(&LaneId { broker, lane: LONG });
        let (is_ready, is_answered) =
            (long.is_none_or(|long| long.is_ready(now)), long.is_none_or(|long| long.in_flight.is_none()));
        let Some(quick) = self.lanes.get_mut(&LaneId { broker, lane: QUICK }) else { return };
        quick.yields &= !is_answered;
        if !is_ready || quick.in_flight.is_some() || quick.empty_answers == 0 || quick.session.is_idle() {
            return;
        }
        // Partitions that have left the quick lane already may still be in its session.
        for slot in quick.session.slots() {
            let partition = &self.partitions[slot.0 as usize];
            if partition.lane() == Some(LaneId { broker, lane: QUICK }) {
                self.reroute(slot, LONG);
            }
        }
    }

    /// While memory is short, a partition with a reader of its own counts as full unless that reader waits for it. Otherwise
    /// readers that take nothing would hold the memory, and no other reader would get any. If only those counted that
    /// have something, each of thousands of readers would be given something before it asks, whatever the memory.
    pub(super) fn hold_back(&mut self) {
        for slot in std::mem::take(&mut self.own_unawaited) {
            self.at(slot).buffer.hold_back();
            self.touch(slot);
        }
    }

    /// Memory has become short, or is no longer short: the sessions are told other limits of the partitions whose own
    /// reader waits. Those of other readers of their own are held back while it is short, and named again afterwards.
    pub(super) fn limit_own(&mut self, own_bytes: Option<usize>) {
        let Self { settings, partitions, lanes, own_awaited, .. } = self;
        let limits = Limits { settings, own_bytes };
        for slot in own_awaited.iter().copied() {
            let partition = &partitions[slot.0 as usize];
            let Some(lane) = partition.lane().and_then(|id| lanes.get_mut(&id)) else { continue };
            let sent = lane.in_flight.as_ref().and_then(|in_flight| lane.asked(in_flight, slot));
            let told = [sent, lane.session.member(slot)];
            if told.iter().flatten().any(|member| limits.is_outdated(member, partition)) {
                lane.session.touch(slot);
            }
        }
    }

    /// The number of bytes to ask for of a partition with a reader of its own while memory is short. All of these readers
    /// together may leave [`ROOM_MIN`] of what they are given, and the batch that each of them waits for.
    pub(super) fn own_bytes(&self) -> usize {
        ROOM_MIN / self.own_readers.max(1)
    }

    /// While memory is short and lanes wait for readers to take what they have: a fetch for partitions whose own reader
    /// has nothing and waits. It is outside of the lane's session, which would otherwise have to forget all other partitions and
    /// name them again.
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
        let mut starving: Vec<_> = self.own_awaited.iter().filter(is_starving).copied().collect();
        // An answer may have a batch for the first of them only. Without turns, partitions whose readers come back at
        // once would be served again before those after them.
        let served = starving.partition_point(|slot| *slot <= self.last_rationed);
        starving.rotate_left(served);
        // This holds until a partition is touched, as it is when its backoff ends, or until an answer ends a fetch.
        self.is_fed = starving.is_empty();
        let broker_of = |slot: &Slot| self.partitions[slot.0 as usize].source();
        let broker = starving.iter().filter_map(broker_of).find(|broker| {
            let quick = self.lanes.get(&LaneId { broker: *broker, lane: QUICK });
            quick.is_none_or(|quick| quick.is_ready(now))
        })?;
        let slots = starving.iter().filter(|slot| broker_of(slot) == Some(broker)).copied();
        let limits = Limits { settings: &self.settings, own_bytes: Some(self.own_bytes()) };
        let (sent, request, has_ids) = session::ration(slots, &self.partitions, &limits, &mut self.lists);
        Some((LaneId { broker, lane: QUICK }, sent, request, has_ids))
    }

    /// Brings in step what depends on the buffer of `slot`: the lists of readers of their own, and the sums of its
    /// lane.
    pub(super) fn recount(&mut self, slot: Slot) {
        let partition = &mut self.partitions[slot.0 as usize];
        let (is_own, buffer) = (partition.reader == Reader::Own, &partition.buffer);
        let is_waiting = buffer.is_empty() && partition.is_awaited;
        if list(&mut self.own_awaited, slot, is_own && is_waiting) {
            self.is_fed = false;
        }
        list(&mut self.own_unawaited, slot, is_own && !is_waiting && !buffer.is_full());
        // Paused partitions do not count: their batches may never be taken, and no other partition waits for that.
        let in_all = if partition.is_paused { Amount::default() } else { buffer.amount() };
        self.total.replace(std::mem::replace(&mut partition.counted_in_all, in_all), in_all);
        if partition.full_since.is_some() != buffer.is_above_watermark() {
            // Noted with the time of this turn, which is known later.
            self.total.changed.push(slot);
        }
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

    /// Frees the slots of partitions that are not assigned, and that no broker may believe to be wanted.
    pub(super) fn collect_slots(&mut self) {
        let Self { slots, partitions, lanes, .. } = self;
        slots.collect(partitions, |slot| lanes.values().any(|lane| lane.mentions(slot)));
    }

    /// Forgets brokers that are gone. A lane with a fetch in flight stays until that is answered or fails.
    pub(super) fn drop_lanes(&mut self, is_known: impl Fn(BrokerId) -> bool) {
        self.lanes.retain(|id, lane| lane.in_flight.is_some() || is_known(id.broker));
    }
}

/// Adds `slot` to `slots` if `is_one`, or else removes it. Answers whether that changes anything.
fn list(slots: &mut BTreeSet<Slot>, slot: Slot, is_one: bool) -> bool {
    if is_one { slots.insert(slot) } else { slots.remove(&slot) }
}
