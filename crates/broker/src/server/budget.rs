//! Memory that peers make a node hold: requests that are arriving, responses that are leaving.
//!
//! ```text
//!  lease.hold(bytes).await ─▶ there is room: at once
//!                          └▶ there is none: the holder that has stalled longest is shed, and its room is taken
//! ```
//!
//! Hundreds of peers that send half a request and fall silent, or never read, therefore cost the budget and nothing
//! else: whoever makes progress gets their room. It must not know sockets; shedding sets a flag that its owner awaits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::PROGRESS_BYTES;

/// Held for free by every connection, so that small requests never wait: their number is what bounds them.
pub(super) const FREE_BYTES: usize = 16 * 1024;

/// A holder that made progress within this is not shed.
const STALL: Duration = Duration::from_secs(1);

/// How long to wait for room before looking for someone to shed again.
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
    holders: HashMap<u64, Arc<Holder>>,
    next_id: u64,
}

#[derive(Debug)]
struct Holder {
    /// When it last made progress, in milliseconds since the budget was made.
    progress_ms: AtomicU64,
    shed: Notify,
}

/// One connection's part of the budget.
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

    /// A lease of nothing yet.
    pub(super) fn lease(self: &Arc<Self>) -> Lease {
        let holder = Arc::new(Holder { progress_ms: AtomicU64::new(self.now_ms()), shed: Notify::new() });
        let mut state = crate::lock(&self.state);
        let id = state.next_id;
        state.next_id += 1;
        drop(state);
        Lease { budget: Arc::clone(self), id, holder, held: 0, moved: 0 }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Takes `bytes` for `lease`, or sheds the one that has stalled longest and answers no.
    fn take(&self, lease: &Lease, bytes: usize) -> bool {
        let mut state = crate::lock(&self.state);
        if state.held + bytes <= self.bytes_max || state.held == lease.held {
            // A single request may be larger than the whole budget.
            state.held += bytes;
            state.holders.entry(lease.id).or_insert_with(|| Arc::clone(&lease.holder));
            return true;
        }
        let stalled_since = |holder: &Holder| holder.progress_ms.load(Ordering::Relaxed);
        let others = state.holders.iter().filter(|(id, _)| **id != lease.id);
        let oldest = others.min_by_key(|(_, holder)| stalled_since(holder)).map(|(&id, _)| id);
        if let Some(id) = oldest
            && stalled_since(&state.holders[&id]) + STALL.as_millis() as u64 <= self.now_ms()
            && let Some(holder) = state.holders.remove(&id)
        {
            holder.shed.notify_one();
        }
        false
    }

    fn give_back(&self, id: u64, bytes: usize, is_last: bool) {
        let mut state = crate::lock(&self.state);
        state.held -= bytes;
        if is_last {
            state.holders.remove(&id);
        }
        drop(state);
        self.freed.notify_waiters();
    }
}

impl Lease {
    /// Holds `bytes` in all from now on, beyond those that are free; waits for room when it takes more.
    ///
    /// # Cancel safety
    /// Cancelled, it holds what it held.
    pub(super) async fn hold(&mut self, bytes: usize) {
        let bytes = bytes.saturating_sub(FREE_BYTES);
        if bytes <= self.held {
            self.release_to(bytes);
            return;
        }
        let more = bytes - self.held;
        loop {
            let freed = self.budget.freed.notified();
            if self.budget.take(self, more) {
                self.held = bytes;
                return;
            }
            let _ = tokio::time::timeout(RETRY, freed).await;
        }
    }

    /// Notes bytes that moved; answers whether they amount to progress since it last did.
    pub(super) fn moved(&mut self, bytes: usize) -> bool {
        self.moved += bytes;
        let is_progress = self.moved >= PROGRESS_BYTES;
        if is_progress {
            self.mark();
        }
        is_progress
    }

    /// Progress: something was completed.
    pub(super) fn mark(&mut self) {
        self.moved = 0;
        self.holder.progress_ms.store(self.budget.now_ms(), Ordering::Relaxed);
    }

    /// Ends when this connection is to give its memory to others.
    pub(super) fn shed(&self) -> impl Future<Output = ()> + use<> {
        let holder = Arc::clone(&self.holder);
        async move { holder.shed.notified().await }
    }

    fn release_to(&mut self, bytes: usize) {
        if self.held > bytes {
            self.budget.give_back(self.id, self.held - bytes, bytes == 0);
            self.held = bytes;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.release_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    async fn lease(budget: &Arc<Budget>, bytes: usize) -> Lease {
        let mut lease = budget.lease();
        lease.hold(bytes + FREE_BYTES).await;
        lease
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_stalled_longest_is_shed_for_the_one_that_needs_room() {
        let budget = Budget::new(3 * MIB);
        let first = lease(&budget, MIB).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut second = lease(&budget, MIB).await;
        let mut third = lease(&budget, MIB).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(second.moved(PROGRESS_BYTES) && third.moved(PROGRESS_BYTES) && !third.moved(1));
        let shed = first.shed();
        let victim = tokio::spawn(async move {
            shed.await;
            drop(first);
        });
        let newcomer = lease(&budget, MIB).await;
        victim.await.expect("shed");
        assert_eq!(budget.held(), 3 * MIB);
        drop((second, third, newcomer));
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_shed_who_makes_progress() {
        let budget = Budget::new(MIB);
        let mut busy = lease(&budget, MIB).await;
        let shed = busy.shed();
        tokio::pin!(shed);
        let mut newcomer = budget.lease();
        let waiting = newcomer.hold(MIB);
        tokio::pin!(waiting);
        for _ in 0..100 {
            busy.mark();
            tokio::select! {
                () = &mut shed => panic!("shed while busy"),
                () = &mut waiting => panic!("there was no room"),
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
            }
        }
        drop(busy);
        waiting.await;
    }

    #[tokio::test(start_paused = true)]
    async fn small_requests_never_wait_and_one_may_exceed_the_budget() {
        let budget = Budget::new(MIB);
        let huge = lease(&budget, 9 * MIB).await;
        let mut small = budget.lease();
        small.hold(FREE_BYTES).await;
        assert_eq!(budget.held(), 9 * MIB);
        drop((huge, small));
    }
}
