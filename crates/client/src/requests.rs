//! The requests that one driver has under way, and the connections that they go over.
//!
//! ```text
//!  driver ── send(role, address, request, kind) ─▶ the role's link to that broker ─▶ connection
//!         ── ask_any(request, kind) ────────────▶ one broker after another, over the client's own links
//!         ◀─ landed() = Landed { tag, outcome } ◀───────────────────────────────────┘
//! ```
//!
//! Each kind of request is a type that implements [`RequestKind`] and holds what its driver needs to know when the
//! answer is there. The kinds of one driver are the variants of one closed enum, its tag. The driver matches on the
//! tag of what landed, and the kind in it decodes the answer as the response to its own request. To send a new kind of
//! request, a driver adds the type, a variant, and a [`Role`] if the request must not wait for those of other roles.
//!
//! Nothing here runs in a task of its own: the driver's task sends, and waits in [`Requests::landed`], which the
//! links' tasks wake. This must not know what a request means, when it is sent again, or what its answer changes.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use milena_core::metadata::Snapshot;
use milena_core::{Failure, Instant};
use milena_messages::Request;
use milena_wire::Lists;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::brokers::{Question, is_up};
use crate::connection::{Answer, AnyRequest, Call, Claim, Landing, Links, Reply, Sendable, Typed};
use crate::runtime::Together;
use crate::{Address, Client};

/// What a connection is for. A broker answers the requests of one connection in order, and one that waits holds up
/// those after it. So each role has a connection of its own to each broker that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Batches to write.
    Produce,
    /// Fetches of one lane, by its index. The broker may hold each of them until records arrive.
    Fetch(u8),
    /// Offsets that a consumer looks up, for which its fetches need not return first.
    LookUp,
    /// Joining a group, which takes as long as its rebalance.
    Join,
    /// Heartbeats and leaving, which wait for nothing.
    Coordinator,
    /// Offsets that a group's member commits, and those that it asks for.
    Commit,
    /// What a transactional producer asks coordinators.
    Transaction,
}

/// One kind of request, with what its driver needs to know when the answer is there.
pub(crate) trait RequestKind {
    type Request: Request + Send + Sync + 'static;

    /// Whether the broker answers it. One without an answer lands when it has been written.
    fn is_answered(&self) -> bool {
        true
    }

    /// For how many bytes of answer there is room. A longer answer gets its memory only as it arrives.
    fn answer_bytes_expected(&self) -> usize {
        0
    }

    /// Whether the broker answers as soon as it has done what is asked. Then the answer may be waited for awake.
    fn is_quick(&self) -> bool {
        false
    }

    /// Whether slices of the answer outlive its decoding.
    fn keeps_answer(&self) -> bool {
        true
    }

    /// The response in what landed.
    fn response(
        &self,
        outcome: Result<Answer, Failure>,
    ) -> Result<<Self::Request as Request>::Response, Failure> {
        outcome?.decode()
    }

    /// As [`response`](Self::response); its lists get the memory that `lists` keeps.
    fn response_into(
        &self,
        outcome: Result<Answer, Failure>,
        lists: &mut Lists,
    ) -> Result<<Self::Request as Request>::Response, Failure> {
        outcome?.decode_into(lists)
    }
}

/// A request that is no longer under way.
pub(crate) struct Landed<T> {
    pub(crate) tag: T,
    /// The answer, for the kind in `tag` to decode, or why there is none.
    pub(crate) outcome: Result<Answer, Failure>,
    /// Whether a connection had begun to write it: only then the broker may have seen it.
    pub(crate) has_begun: bool,
    /// What is left of the request, for [`Requests::spent`].
    pub(crate) rest: Option<Claim>,
}

/// One driver's requests, tagged with `T`. Their number is bounded by the driver's machine alone.
pub(crate) struct Requests<T> {
    client: Client,
    /// For each role that a request was sent in.
    links: Vec<(Role, Links)>,
    under_way: FxHashMap<u64, UnderWay<T>>,
    next_number: u64,
    arrived: mpsc::UnboundedReceiver<(u64, Result<Answer, Failure>)>,
    landing: Landing,
    questions: Together<'static, Landed<T>>,
    /// Places for the next requests of the kinds that are sent all the time.
    spare: Vec<Claim>,
}

/// More places are not kept. A driver has about five requests under way to each broker.
const SPARE_MAX: usize = 32;

struct UnderWay<T> {
    tag: T,
    /// None if it was refused for lack of an address.
    to: Option<Address>,
    claim: Claim,
}

impl<T> Requests<T> {
    pub(crate) fn new(client: &Client) -> Self {
        // Not bounded here: each request that is under way lands once, and the machine bounds those.
        let (landing, arrived) = mpsc::unbounded_channel();
        Self {
            client: client.clone(),
            links: Vec::new(),
            under_way: FxHashMap::default(),
            next_number: 0,
            arrived,
            landing,
            questions: Together::new(),
            spare: Vec::new(),
        }
    }

    /// Hands `request` to the link to `to` in this role. It lands with a failure when there is no answer by
    /// `deadline`, and at once when `to` is a failure: the broker has no address.
    pub(crate) fn send<K: RequestKind + Into<T>>(
        &mut self,
        role: Role,
        to: Result<Address, Failure>,
        request: impl Sendable<K::Request>,
        deadline: Instant,
        kind: K,
    ) {
        let number = self.next_number;
        self.next_number += 1;
        let timeout = deadline - self.client.0.clock.now();
        let call = self.call(request, deadline, timeout, number);
        let call = call.expecting(kind.answer_bytes_expected(), kind.keeps_answer());
        let call = if kind.is_answered() { call.quick(kind.is_quick()) } else { call.unanswered() };
        let (tag, claim) = (kind.into(), call.claim());
        let to = match to {
            Ok(address) => {
                self.links(role).to(&address).send(call);
                Some(address)
            }
            // It lands like any other request, so that the driver handles failures in one place.
            Err(failure) => {
                call.refuse(failure);
                None
            }
        };
        self.under_way.insert(number, UnderWay { tag, to, claim });
    }

    fn call(
        &mut self,
        request: impl AnyRequest + 'static,
        deadline: Instant,
        timeout: Duration,
        number: u64,
    ) -> Call {
        let reply = Reply::to(&self.landing, number);
        let Some(mut claim) = self.spare.pop() else { return Call::new(request, deadline, timeout, reply) };
        match claim.hold(request) {
            Ok(()) => Call::claimed(&claim, deadline, timeout, reply),
            // It is a place for requests of another kind.
            Err(request) => {
                self.spare.push(claim);
                Call::new(request, deadline, timeout, reply)
            }
        }
    }

    /// The lists of a request of type `Q` that has landed, if a connection had begun with it. Its place is used again.
    pub(crate) fn spent<Q: AnyRequest + 'static>(&mut self, rest: Option<Claim>) -> Option<Q> {
        let rest = rest?;
        let spent = rest.take_spent();
        if spent.is_some() && self.spare.len() < SPARE_MAX {
            self.spare.push(rest);
        }
        spent
    }

    fn links(&mut self, role: Role) -> &Links {
        let index = match self.links.iter().position(|(of, _)| *of == role) {
            Some(index) => index,
            None => {
                self.links.push((role, self.client.new_links()));
                self.links.len() - 1
            }
        };
        &self.links[index].1
    }

    /// Asks one broker after another until one answers, each until `deadline` at the latest. This is for what any
    /// broker can answer; it goes over the client's own links, where it is known which brokers were silent of late.
    pub(crate) fn ask_any<K>(&mut self, request: Typed<K::Request>, deadline: Instant, kind: K)
    where
        K: RequestKind<Request: Question> + Into<T>,
        T: Send + 'static,
    {
        let (client, tag) = (self.client.clone(), kind.into());
        self.questions.push(async move {
            let outcome = client.answer_from_any(request, deadline).await;
            Landed { tag, outcome, has_begun: true, rest: None }
        });
    }

    /// The next request that is no longer under way; pending while none is.
    ///
    /// # Cancel safety
    /// Dropped, nothing has landed.
    pub(crate) fn landed(&mut self) -> impl Future<Output = Landed<T>> {
        poll_fn(|cx| self.poll_landed(cx))
    }

    pub(crate) fn poll_landed(&mut self, cx: &mut Context<'_>) -> Poll<Landed<T>> {
        // Questions come first: answers of other requests may come without end, and `try_landed` takes those too.
        if let Poll::Ready(Some(landed)) = self.questions.poll_next(cx) {
            return Poll::Ready(landed);
        }
        while let Poll::Ready(Some((number, outcome))) = self.arrived.poll_recv(cx) {
            if let Some(landed) = self.land(number, outcome) {
                return Poll::Ready(landed);
            }
        }
        Poll::Pending
    }

    /// The next request that has landed already. A driver takes them all before it acts on any.
    pub(crate) fn try_landed(&mut self) -> Option<Landed<T>> {
        while let Ok((number, outcome)) = self.arrived.try_recv() {
            if let Some(landed) = self.land(number, outcome) {
                return Some(landed);
            }
        }
        None
    }

    /// Takes request `number` out of those under way. None if it was recalled and has landed then.
    fn land(&mut self, number: u64, outcome: Result<Answer, Failure>) -> Option<Landed<T>> {
        let UnderWay { tag, claim, .. } = self.under_way.remove(&number)?;
        Some(Landed { tag, outcome, has_begun: claim.has_begun(), rest: Some(claim) })
    }

    /// Takes back the request whose tag `is_it` accepts: nothing of it will be written. None if a connection has begun
    /// with it, or if it has landed.
    pub(crate) fn recall(&mut self, is_it: impl Fn(&T) -> bool) -> Option<Landed<T>> {
        let (&number, _) = self.under_way.iter().find(|(_, sent)| is_it(&sent.tag))?;
        self.recall_number(number)
    }

    /// Takes back every request that no connection has begun with, in the order in which they were sent.
    pub(crate) fn recall_all(&mut self) -> Vec<Landed<T>> {
        let mut numbers: Vec<_> = self.under_way.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| self.recall_number(number)).collect()
    }

    fn recall_number(&mut self, number: u64) -> Option<Landed<T>> {
        if !self.under_way.get(&number)?.claim.recall() {
            return None;
        }
        let UnderWay { tag, to, .. } = self.under_way.remove(&number)?;
        let peer = to.map_or_else(|| "a broker without an address".into(), |address| address.to_string());
        let failure = Failure::unreachable(Arc::from(peer), "no connection was there in time");
        Some(Landed { tag, outcome: Err(failure), has_begun: false, rest: None })
    }

    /// Closes the links to brokers that `snapshot` has no more, but for the one at `kept`: a coordinator may be a broker that
    /// the metadata lacks. What is under way there still lands.
    pub(crate) fn retain_links(&self, snapshot: &Snapshot, kept: Option<&Address>) {
        for (_, links) in &self.links {
            links.retain(|address| kept == Some(address) || is_up(snapshot, address));
        }
    }
}

#[cfg(test)]
mod tests;
