//! The memory budget of the server: requests that are being read and responses that are being written.
//!
//! ```text
//!  lease.hold(bytes).await ─▶ there is room: returns at once
//!                          └▶ there is none: sheds the connection that has stalled longest, and takes its room
//!  lease.hold_now(bytes)   ─▶ the same for bytes that are in memory already: returns at once, with or without room
//! ```
//!
//! So hundreds of peers that send half a request and fall silent, or never read their answers, cost no more than the
//! budget, and connections that make progress get their room. It must not know sockets: shedding sets a flag for which
//! the connection waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::PROGRESS_BYTES;

/// Every connection holds this much without counting, so that small requests never wait. The limit of connections
/// bounds them.
pub(super) const FREE_BYTES: usize = 16 * 1024;

/// A connection that claims this many times more than another one gives way to it at once: a peer that announces 99 MB
/// gives way to one that announces 1 MB.
const LARGER: usize = 2;

/// Bytes that are in memory already may exceed the budget by one part in this many.
const OVERDRAFT: usize = 8;

/// A connection that made progress within this time is shed only for one that claims much less.
const STALL: Duration = Duration::from_millis(500);

/// A connection that waits for memory for its answer counts as stalled only after this much longer, because other
/// connections make it wait.
const EXCUSE: Duration = Duration::from_secs(5);

/// How long a connection waits for room before it looks for another connection to shed.
const RETRY: Duration = Duration::from_millis(50);

/// The memory of all connections of a cluster.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    state: Mutex<State>,
    freed: Notify,
    started: Instant,
}

#[derive(Debug, Default)]
struct State {
    held: usize,
    leases: usize,
    holders: BTreeMap<u64, Held>,
    /// Bytes of connections that were shed and have not given them back yet.
    condemned: usize,
    next_id: u64,
}

/// The bytes that a lease holds, and its connection.
#[derive(Debug)]
struct Held {
    bytes: usize,
    /// The bytes that it will need in all, as it announced.
    claim: usize,
    is_condemned: bool,
    holder: Arc<Holder>,
}

#[derive(Debug)]
struct Holder {
    /// The time of its last progress, in milliseconds since the budget was made.
    progress_ms: AtomicU64,
    shed: Notify,
}

/// The part of the budget that one connection holds.
#[derive(Debug)]
pub(super) struct Lease {
    budget: Arc<Budget>,
    id: u64,
    holder: Arc<Holder>,
    held: usize,
    /// Bytes moved since the last mark of progress.
    moved: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, state: Mutex::default(), freed: Notify::new(), started: Instant::now() })
    }

    /// Bytes held now.
    pub(crate) fn held(&self) -> usize {
        crate::lock(&self.state).held
    }

    /// A new lease, which holds nothing yet.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        let holder = Arc::new(Holder { progress_ms: AtomicU64::new(self.now_ms()), shed: Notify::new() });
        let mut state = crate::lock(&self.state);
        let id = state.next_id;
        state.next_id += 1;
        state.leases += 1;
        drop(state);
        Lease { budget: Arc::clone(self), id, holder, held: 0, moved: 0 }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Takes `bytes` for `lease` if they fit. If they do not it sheds the connection that has stalled longest. The
    /// budget may be exceeded by `overdraft` bytes. Returns whether the bytes were taken.
    fn take(&self, lease: &Lease, bytes: usize, claim: usize, overdraft: usize) -> bool {
        let mut state = crate::lock(&self.state);
        if state.holders.get(&lease.id).is_some_and(|held| held.is_condemned) {
            return false;
        }
        let share = self.share(&state);
        let fits = |held: usize| {
            let total = held + bytes;
            let is_within_share = lease.held + bytes <= share && total <= self.bytes_max;
            // A single request may be larger than the whole budget when no other connection holds anything.
            held == lease.held || total <= self.bytes_max / 2 || is_within_share
        };
        // If a connection was shed already and its room is enough, no other one is shed.
        if !fits(state.held - state.condemned) {
            self.shed_one(&mut state, lease.id, claim);
        }
        let is_overdrawn = overdraft > 0 && state.held + bytes <= self.bytes_max + overdraft;
        if !fits(state.held) && !is_overdrawn {
            return false;
        }
        state.held += bytes;
        let holder = || Held { bytes: 0, claim, is_condemned: false, holder: Arc::clone(&lease.holder) };
        let held = state.holders.entry(lease.id).or_insert_with(holder);
        held.bytes += bytes;
        held.claim = claim;
        true
    }

    /// Sheds one connection, other than `spared`, to make room for that.
    fn shed_one(&self, state: &mut State, spared: u64, claim: usize) {
        let stalled_before = self.now_ms().checked_sub(STALL.as_millis() as u64);
        let progress = |held: &Held| held.holder.progress_ms.load(Ordering::Relaxed);
        let is_stalled = |held: &Held| stalled_before.is_some_and(|before| progress(held) <= before);
        let others = || state.holders.iter().filter(|(id, held)| **id != spared && !held.is_condemned);
        let largest = others().max_by_key(|(_, held)| held.claim);
        let largest = largest.filter(|(_, held)| held.claim / LARGER >= claim);
        let oldest = others().filter(|(_, held)| is_stalled(held)).min_by_key(|(_, held)| progress(held));
        let Some(id) = largest.or(oldest).map(|(&id, _)| id) else { return };
        if let Some(victim) = state.holders.get_mut(&id) {
            victim.is_condemned = true;
            victim.holder.shed.notify_one();
            state.condemned += victim.bytes;
        }
    }

    /// The bytes that each lease may hold when half of the budget is taken.
    fn share(&self, state: &State) -> usize {
        self.bytes_max / 2 / state.leases.max(1)
    }

    fn give_back(&self, id: u64, bytes: usize) {
        let mut state = crate::lock(&self.state);
        state.held -= bytes;
        if let Some(held) = state.holders.get_mut(&id) {
            held.bytes -= bytes;
            let (is_condemned, is_last) = (held.is_condemned, held.bytes == 0);
            if is_condemned {
                state.condemned -= bytes;
            }
            if is_last {
                state.holders.remove(&id);
            }
        }
        drop(state);
        self.freed.notify_waiters();
    }
}

impl Lease {
    /// Holds `bytes` in all from now on, without counting the first [`FREE_BYTES`]. If that is more than before it
    /// waits for room. `claim` is the number of bytes that the connection will need in the end, as far as it is known.
    ///
    /// # Cancel safety
    /// Cancelled, it holds what it held.
    pub(super) async fn hold(&mut self, bytes: usize, claim: usize) {
        if self.try_hold(bytes, claim) {
            return;
        }
        let budget = Arc::clone(&self.budget);
        loop {
            let freed = budget.freed.notified();
            if self.try_hold(bytes, claim) {
                return;
            }
            let _ = tokio::time::timeout(RETRY, freed).await;
        }
    }

    /// Holds `bytes` in all from now on if there is room for them. If there is not it holds as many as before, and a
    /// stalled connection is shed.
    pub(super) fn try_hold(&mut self, bytes: usize, claim: usize) -> bool {
        self.hold_or_not(bytes, claim, 0)
    }

    /// The same for `bytes` that are in memory already. The budget may be exceeded a little for them.
    pub(super) fn hold_now(&mut self, bytes: usize, claim: usize) -> bool {
        self.hold_or_not(bytes, claim, self.budget.bytes_max / OVERDRAFT)
    }

    fn hold_or_not(&mut self, bytes: usize, claim: usize, overdraft: usize) -> bool {
        let bytes = bytes.saturating_sub(FREE_BYTES);
        if bytes <= self.held {
            self.release_to(bytes);
            return true;
        }
        let is_taken = self.budget.take(self, bytes - self.held, claim, overdraft);
        if is_taken {
            self.held = bytes;
        }
        is_taken
    }

    /// Notes that `bytes` were read or written. Returns whether that is progress, together with those since the last
    /// mark.
    pub(super) fn moved(&mut self, bytes: usize) -> bool {
        self.moved += bytes;
        let is_progress = self.moved >= PROGRESS_BYTES;
        if is_progress {
            self.mark();
        }
        is_progress
    }

    /// Notes progress: a request or an answer was completed.
    pub(super) fn mark(&mut self) {
        self.moved = 0;
        self.holder.progress_ms.store(self.budget.now_ms(), Ordering::Relaxed);
    }

    /// As [`hold`](Self::hold), for an answer. While it waits, the connections that hold the memory are shed before it
    /// is.
    pub(super) async fn hold_for_answer(&mut self, bytes: usize, claim: usize) {
        if self.try_hold(bytes, claim) {
            return;
        }
        let excused_until = self.budget.now_ms() + EXCUSE.as_millis() as u64;
        self.holder.progress_ms.store(excused_until, Ordering::Relaxed);
        self.hold(bytes, claim).await;
        self.mark();
    }

    /// Ends when this connection is shed and must give its memory back.
    pub(super) fn shed(&self) -> impl Future<Output = ()> + use<> {
        let holder = Arc::clone(&self.holder);
        async move { holder.shed.notified().await }
    }

    fn release_to(&mut self, bytes: usize) {
        if self.held > bytes {
            self.budget.give_back(self.id, self.held - bytes);
            self.held = bytes;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release_to(0);
        crate::lock(&self.budget.state).leases -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    async fn lease(budget: &Arc<Budget>, bytes: usize) -> Lease {
        let mut lease = budget.lease();
        lease.hold(bytes + FREE_BYTES, bytes).await;
        lease
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_stalled_longest_is_shed_for_the_one_that_needs_room_and_no_other() {
        let budget = Budget::new(6 * MIB);
        let first = lease(&budget, MIB).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (second, third) = (lease(&budget, MIB).await, lease(&budget, MIB).await);
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (shed, not_shed) = (first.shed(), second.shed());
        let victim = tokio::spawn(async move {
            shed.await;
            // Slow to let go: the newcomer asks several times meanwhile.
            tokio::time::sleep(RETRY * 10).await;
            drop(first);
        });
        let newcomer = lease(&budget, MIB).await;
        victim.await.expect("shed");
        assert!(tokio::time::timeout(RETRY, not_shed).await.is_err(), "one was enough");
        assert_eq!(budget.held(), 3 * MIB);
        drop((second, third, newcomer));
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_even_share_is_there_when_the_first_half_is_gone() {
        let budget = Budget::new(8 * MIB);
        let greedy = lease(&budget, 4 * MIB).await;
        let mut idle = Vec::new();
        idle.resize_with(98, || budget.lease());
        let mut modest = budget.lease();
        let at_once = tokio::time::timeout(Duration::ZERO, modest.hold(FREE_BYTES + 4 * MIB / 100, 4 * MIB));
        at_once.await.expect("its share is there");
        drop((greedy, idle));
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_announced_most_gives_way_at_once() {
        let budget = Budget::new(2 * MIB);
        let mut huge = budget.lease();
        huge.hold(MIB + FREE_BYTES, 99 * MIB).await;
        let started = Instant::now();
        let shed = huge.shed();
        tokio::spawn(async move {
            shed.await;
            drop(huge);
        });
        lease(&budget, MIB).await;
        assert!(started.elapsed() < STALL);
    }

    #[test]
    fn progress_is_more_than_a_byte_now_and_then() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let _context = runtime.enter();
        let mut lease = Budget::new(MIB).lease();
        assert!(!lease.moved(1) && !lease.moved(PROGRESS_BYTES - 2) && lease.moved(1) && !lease.moved(1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_shed_who_makes_progress() {
        let budget = Budget::new(2 * MIB);
        let mut busy = lease(&budget, MIB).await;
        let shed = busy.shed();
        tokio::pin!(shed);
        let mut newcomer = budget.lease();
        let waiting = newcomer.hold(MIB, MIB);
        tokio::pin!(waiting);
        for _ in 0..100 {
            busy.mark();
            tokio::select! {
                () = &mut shed => panic!("shed while busy"),
                () = &mut waiting => panic!("there was no room"),
                () = tokio::time::sleep(STALL / 2) => {}
            }
        }
        drop(busy);
        waiting.await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_room_for_an_answer_is_not_shed_for_it() {
        let budget = Budget::new(4 * MIB);
        let mut patient = lease(&budget, MIB).await;
        let stalled = lease(&budget, MIB).await;
        let (shed, not_shed) = (stalled.shed(), patient.shed());
        tokio::time::sleep(STALL / 2).await;
        stalled.holder.progress_ms.store(budget.now_ms(), Ordering::Relaxed);
        tokio::spawn(async move {
            shed.await;
            drop(stalled);
        });
        tokio::spawn(async move { patient.hold_for_answer(2 * MIB + FREE_BYTES, MIB).await });
        tokio::task::yield_now().await;
        let _newcomer = lease(&budget, MIB).await;
        assert!(tokio::time::timeout(RETRY, not_shed).await.is_err(), "the other one had stalled");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_already_is_held_at_once_or_not_at_all() {
        let budget = Budget::new(8 * MIB);
        let greedy = lease(&budget, 4 * MIB).await;
        let (mut second, mut third) = (budget.lease(), budget.lease());
        assert!(!second.try_hold(5 * MIB, 5 * MIB), "no more than its share");
        assert!(second.hold_now(5 * MIB, 5 * MIB), "a little more than there is");
        assert!(!third.hold_now(MIB, MIB), "that little is gone");
        assert_eq!(budget.held(), 9 * MIB - FREE_BYTES);
        drop(greedy);
        assert!(third.hold_now(MIB, MIB));
    }

    #[tokio::test(start_paused = true)]
    async fn small_requests_never_wait_and_one_may_exceed_the_budget() {
        let budget = Budget::new(MIB);
        let huge = lease(&budget, 9 * MIB).await;
        let mut small = budget.lease();
        small.hold(FREE_BYTES, 0).await;
        assert_eq!(budget.held(), 9 * MIB);
        drop((huge, small));
    }
}
