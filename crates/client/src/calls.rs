//! The loop that every admin and coordinator request goes through.
//!
//! ```text
//!  Admin::list_offsets ─▶ Client::call(&ListOffsets, items) ─┬─ Run: which items to ask for, of which broker, when
//!   (its ApiCall: request and answer, item by item)          └─ Client::ask: one request, one answer
//! ```
//!
//! A file of its own says for each API how a request is made of items and what an answer says of each item
//! ([`ApiCall`]). The table in [`milena_core::calls`] says where requests go and what is tried again, and its [`Run`] keeps
//! what has become of each item. This loop sends the requests, waits for the answers and sleeps.
//!
//! This must not know what is in a request or a response, nor what an error code means.

use std::collections::BTreeMap;
use std::sync::Arc;

use milena_core::calls::{Nature, Part, Row, Run};
use milena_core::metadata::Destination;
use milena_core::{Failure, Instant};
use milena_messages::Request;

use crate::Client;
use crate::brokers::Question;
use crate::connection::Typed;
use crate::runtime::Together;
use crate::topics::Known;

/// One API: how its requests are made, and how its answers are read.
pub(crate) trait ApiCall: Sync {
    /// The API's row of the table.
    const ROW: &'static Row;

    type Request: Question;
    /// What a request asks for several of: a topic, a partition, a group.
    type Item: Sync;
    /// What identifies an item in an answer.
    type Key: Ord;
    /// What an answer tells of an item.
    type Found: Clone + Send;

    /// Where the item's request goes. A call whose row has [`Route::Named`](milena_core::calls::Route::Named),
    /// [`Route::Leader`](milena_core::calls::Route::Leader) or
    /// [`Route::Coordinator`](milena_core::calls::Route::Coordinator) says it; for other rows the table does.
    fn destination(&self, _item: &Self::Item) -> Destination {
        Self::ROW.route.destination()
    }

    /// What identifies `item` in an answer.
    fn key(&self, item: &Self::Item) -> Self::Key;

    /// One request for all of `items`, among which an item may be twice.
    fn request(&self, items: &[&Self::Item]) -> Self::Request;

    /// What `response` says of each item that it mentions. An item that it does not mention fails.
    fn answers(&self, response: <Self::Request as Request>::Response) -> Answers<Self::Key, Self::Found>;
}

/// What an answer says of each item that it mentions.
pub(crate) type Answers<K, F> = Vec<(K, Result<F, Failure>)>;

impl Client {
    /// Makes the call for `items`, until each has its answer or has failed. The caller then finishes the run that comes back,
    /// as a whole or item by item.
    ///
    /// # Cancel safety
    /// Dropping the future does not take requests back: brokers may act on them, and their answers are thrown away.
    pub(crate) async fn call<C: ApiCall>(
        &self,
        call: &C,
        items: &[C::Item],
        deadline: Instant,
    ) -> Run<C::Found> {
        let clock = &self.0.clock;
        let destinations: Vec<_> = items.iter().map(|item| call.destination(item)).collect();
        let mut run =
            Run::new(C::ROW, destinations.iter().cloned(), deadline, self.retry_backoff(), self.rng());
        // The topics stay in the metadata for as long as their leaders are asked.
        let _known = self.learn_leaders_of(&destinations, &mut run, deadline).await;
        let (mut under_way, mut lookups) = (Together::new(), Together::new());
        loop {
            for part in run.poll_parts(&self.snapshot(), clock.now()) {
                let asked: Vec<_> = part.items.iter().map(|index| &items[*index]).collect();
                let request = Typed { request: call.request(&asked), version_max: C::ROW.version_max };
                under_way.push(async move {
                    let outcome = self.ask(part.broker, request, deadline).await;
                    (part, outcome)
                });
            }
            for of in run.poll_lookups() {
                lookups.push(async move {
                    let found = self.look_up_coordinator(of.clone(), deadline).await;
                    (of, found)
                });
            }
            if run.is_done() {
                if let Some(principal) = self.principal() {
                    run.name_principal(&principal);
                }
                return run;
            }
            if run.poll_metadata_outdated() {
                match C::ROW.nature {
                    Nature::Question => self.metadata_is_outdated(),
                    // Without the metadata's backoff: each attempt has a backoff already, and needs the present controller.
                    Nature::Order => self.cluster_changed(),
                }
            }
            tokio::select! {
                // An answer that is there counts, however late it is looked at.
                biased;
                Some((part, outcome)) = under_way.next() => {
                    let outcome = outcome.map(|response| call.answers(response));
                    settle(call, items, &mut run, &part, outcome, clock.now());
                }
                Some((of, found)) = lookups.next() => run.handle_coordinator(&of, found, clock.now()),
                () = clock.sleep_until(run.poll_timeout()) => {}
            }
        }
    }

    /// Makes the call for one item.
    pub(crate) async fn call_one<C: ApiCall>(
        &self,
        call: &C,
        item: C::Item,
        deadline: Instant,
    ) -> Result<C::Found, Failure> {
        let run = self.call(call, std::slice::from_ref(&item), deadline).await;
        run.finish().pop().unwrap_or(Err(Failure::Closed))
    }

    /// Looks up the topics whose leaders are to be asked. An item whose topic or partition is not there is refused: the look-up
    /// has waited for it already.
    async fn learn_leaders_of<T>(
        &self,
        destinations: &[Destination],
        run: &mut Run<T>,
        deadline: Instant,
    ) -> Vec<Known> {
        let mut topics: BTreeMap<&Arc<str>, Vec<(i32, usize)>> = BTreeMap::new();
        for (index, destination) in destinations.iter().enumerate() {
            if let Destination::Leader { topic, partition } = destination {
                topics.entry(topic).or_default().push((*partition, index));
            }
        }
        // All interests are taken before the first topic is waited for, so that one metadata request describes all topics.
        let _interests: Vec<_> = topics.keys().map(|topic| self.interest_in(topic)).collect();
        let mut known = Vec::with_capacity(topics.len());
        for (topic, partitions) in topics {
            let last = partitions.iter().map(|(partition, _)| *partition).max();
            let found = self.topic(topic, last, deadline).await;
            for (partition, index) in partitions {
                let there = found.as_ref().map_err(Failure::clone);
                if let Err(failure) = there.and_then(|found| found.topic.find(partition)) {
                    run.refuse(index, failure);
                }
            }
            known.extend(found.ok());
        }
        known
    }
}

/// Tells the run what came of the request for `part`.
fn settle<C: ApiCall>(
    call: &C,
    items: &[C::Item],
    run: &mut Run<C::Found>,
    part: &Part,
    outcome: Result<Answers<C::Key, C::Found>, Failure>,
    now: Instant,
) {
    let answers: BTreeMap<_, _> = match outcome {
        Ok(answers) => answers.into_iter().collect(),
        Err(failure) => return run.handle_failure(part, &failure, now),
    };
    for index in &part.items {
        run.handle_item(*index, answers.get(&call.key(&items[*index])).cloned(), now);
    }
}
