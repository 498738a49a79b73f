//! The calls that wait for a connection. When there is one and it takes no calls, because its broker delays it, their deadlines are
//! watched here: nothing else ends them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use milena_core::{Failure, Instant};
use tokio::sync::mpsc;

use super::call::Call;

/// The calls of one link that no connection has begun with, in their order.
pub(super) struct Queue {
    incoming: mpsc::Receiver<Call>,
    /// Calls that were taken from `incoming` to watch their deadlines.
    watched: VecDeque<Call>,
    peer: Arc<str>,
}

/// Calls whose deadlines are watched. More of them stay with those that come in, whose number has a limit too.
const WATCHED_MAX: usize = 256;

impl Queue {
    pub(super) fn new(incoming: mpsc::Receiver<Call>, peer: Arc<str>) -> Self {
        Self { incoming, watched: VecDeque::new(), peer }
    }

    /// The next call. None if the last handle was dropped.
    pub(super) async fn recv(&mut self) -> Option<Call> {
        match self.watched.pop_front() {
            Some(call) => Some(call),
            None => self.incoming.recv().await,
        }
    }

    /// The next call, if there is one.
    pub(super) fn try_recv(&mut self) -> Option<Call> {
        self.watched.pop_front().or_else(|| self.incoming.try_recv().ok())
    }

    /// As [`recv`](Self::recv).
    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<Call>> {
        match self.watched.pop_front() {
            Some(call) => Poll::Ready(Some(call)),
            None => self.incoming.poll_recv(cx),
        }
    }

    /// No call starts at present. Those whose deadline has passed fail, and were not sent.
    pub(super) fn poll_overdue(&mut self, cx: &mut Context<'_>, now: Instant) {
        while self.watched.len() < WATCHED_MAX {
            let Poll::Ready(Some(call)) = self.incoming.poll_recv(cx) else { break };
            self.watched.push_back(call);
        }
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        for call in std::mem::take(&mut self.watched) {
            if call.deadline <= now {
                let (peer, after) = (Arc::clone(&self.peer), call.timeout);
                call.reply.send(Err(Failure::TimedOut { peer, after, sent: false }));
            } else {
                self.watched.push_back(call);
            }
        }
    }

    /// The next deadline of those that are watched.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.watched.iter().map(|call| call.deadline).min()
    }
}
