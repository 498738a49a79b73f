//! One call: its items, what has become of each, and when it is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::table::{Route, Row, Split};
use crate::metadata::{Broker, Coordinated, Destination, Snapshot};
use crate::{Backoff, BrokerId, Failure, Instant, Rng};

/// A call under way. `T` is what an answer tells of an item.
///
/// The contract: [`poll_parts`](Self::poll_parts) says which requests to send. The outcome of each part is handed in once: by
/// [`handle_item`](Self::handle_item) for each of its items if there is an answer, by
/// [`handle_failure`](Self::handle_failure) if there is none. After any `handle_*`, and when
/// [`poll_timeout`](Self::poll_timeout) has passed, [`poll_metadata_outdated`](Self::poll_metadata_outdated) and then
/// `poll_parts` are polled again, until the call [is done](Self::is_done). Then [`finish`](Self::finish) it.
///
/// After `poll_parts`, [`poll_lookups`](Self::poll_lookups) says which coordinators are to be looked up.
/// [`handle_coordinator`](Self::handle_coordinator) is called once for each of them.
///
/// An item is named by its index among the destinations that the call began with.
#[derive(Debug)]
pub struct Run<T> {
    row: &'static Row,
    items: Vec<Item<T>>,
    deadline: Instant,
    backoff: Backoff,
    rng: Rng,
    is_metadata_outdated: bool,
    /// Those that are known, as far as no answer said otherwise. None for one that is being looked up.
    coordinators: BTreeMap<Coordinated, Option<Broker>>,
    /// Those to look up, that `poll_lookups` has not told yet.
    lookups: Vec<Coordinated>,
}

/// A request to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The broker to send it to; any if none is named.
    pub broker: Option<BrokerId>,
    /// The items to ask for, ascending.
    pub items: Vec<usize>,
}

#[derive(Debug)]
struct Item<T> {
    destination: Destination,
    /// How often it has failed.
    attempts: u32,
    state: State<T>,
}

#[derive(Debug)]
enum State<T> {
    /// It is to be asked for from this time on.
    Due(Instant),
    /// Its coordinator is being looked up.
    Sought,
    /// It is in a part that is under way.
    Asked,
    /// It has its result. `is_answered` says whether a broker's answer to its request gave it.
    Done { result: Result<T, Failure>, is_answered: bool },
}

impl<T> Run<T> {
    /// A call for items that go to these destinations. No request begins after `deadline`.
    pub fn new(
        row: &'static Row,
        destinations: impl IntoIterator<Item = Destination>,
        deadline: Instant,
        backoff: Backoff,
        rng: Rng,
    ) -> Self {
        let item = |destination| {
            debug_assert!(row.route.allows(&destination), "{} to {destination:?}", row.api.name());
            Item { destination, attempts: 0, state: State::Due(Instant::ORIGIN) }
        };
        let items = destinations.into_iter().map(item).collect();
        let (coordinators, lookups) = (BTreeMap::new(), Vec::new());
        Self { row, items, deadline, backoff, rng, is_metadata_outdated: false, coordinators, lookups }
    }

    /// The requests to send now, with items routed by `snapshot`.
    pub fn poll_parts(&mut self, snapshot: &Snapshot, now: Instant) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut by_broker: BTreeMap<Option<BrokerId>, usize> = BTreeMap::new();
        for index in 0..self.items.len() {
            if !matches!(self.items[index].state, State::Due(at) if at <= now) {
                continue;
            }
            let Some(routed) = self.route(index, snapshot) else {
                self.items[index].state = State::Sought;
                continue;
            };
            let broker = match routed {
                Ok(broker) => broker,
                Err(failure) => {
                    self.fail(index, failure, now);
                    continue;
                }
            };
            self.items[index].state = State::Asked;
            let together = by_broker.get(&broker).copied().filter(|_| self.row.split == Split::ByBroker);
            let part = together.unwrap_or_else(|| {
                parts.push(Part { broker, items: Vec::new() });
                parts.len() - 1
            });
            by_broker.insert(broker, part);
            parts[part].items.push(index);
        }
        parts
    }

    /// The broker that the item goes to. None while its coordinator is being looked up.
    fn route(&mut self, index: usize, snapshot: &Snapshot) -> Option<Result<Option<BrokerId>, Failure>> {
        let destination = &self.items[index].destination;
        let Destination::Coordinator(of) = destination else { return Some(snapshot.route(destination)) };
        match self.coordinators.get(of) {
            Some(Some(broker)) => Some(snapshot.route(&Destination::Broker(broker.id))),
            Some(None) => None,
            None => {
                self.lookups.push(of.clone());
                self.coordinators.insert(of.clone(), None);
                None
            }
        }
    }

    /// The coordinators to look up now. Each is told once.
    pub fn poll_lookups(&mut self) -> Vec<Coordinated> {
        std::mem::take(&mut self.lookups)
    }

    /// The look-up of a coordinator has ended. It has tried for as long as it may, so that items fail with it.
    pub fn handle_coordinator(&mut self, of: &Coordinated, found: Result<Broker, Failure>, now: Instant) {
        for item in &mut self.items {
            if !matches!((&item.state, &item.destination), (State::Sought, Destination::Coordinator(its)) if its == of)
            {
                continue;
            }
            item.state = match &found {
                Ok(_) => State::Due(now),
                Err(failure) => {
                    // Who may do what the call is about may look up its coordinator, too.
                    let failure = failure.clone().in_order_to(self.row.api);
                    State::Done { result: Err(failure), is_answered: false }
                }
            };
        }
        match found {
            Ok(broker) => drop(self.coordinators.insert(of.clone(), Some(broker))),
            Err(_) => drop(self.coordinators.remove(of)),
        }
    }

    /// The answer to an item's request said this of the item, or did not mention it.
    pub fn handle_item(&mut self, index: usize, answer: Option<Result<T, Failure>>, now: Instant) {
        let answer = answer.unwrap_or_else(|| Err(Failure::incomplete()));
        match answer.map_err(|refusal| refusal.of(self.row.api)) {
            Err(refusal) if self.row.repeats_item(&refusal, self.items[index].attempts + 1) => {
                // A code of a broker that may be any says nothing about where to ask.
                self.is_metadata_outdated |= self.row.route != Route::Any;
                self.again(index, refusal, now);
            }
            result => self.items[index].state = State::Done { result, is_answered: true },
        }
    }

    /// The request for `part` failed as a whole.
    pub fn handle_failure(&mut self, part: &Part, failure: &Failure, now: Instant) {
        for index in &part.items {
            self.fail(*index, failure.clone(), now);
        }
    }

    /// The item cannot be asked for, and will not be.
    pub fn refuse(&mut self, index: usize, failure: Failure) {
        self.items[index].state = State::Done { result: Err(failure), is_answered: false };
    }

    fn fail(&mut self, index: usize, failure: Failure, now: Instant) {
        if self.row.repeats_request(&failure, self.items[index].attempts + 1) {
            self.is_metadata_outdated = true;
            self.again(index, failure, now);
        } else {
            self.refuse(index, failure);
        }
    }

    /// Makes the item due again after a backoff. If that is after the deadline, it has failed for this reason.
    fn again(&mut self, index: usize, failure: Failure, now: Instant) {
        let item = &mut self.items[index];
        if let Destination::Coordinator(of) = &item.destination {
            self.coordinators.retain(|known, broker| known != of || broker.is_none());
        }
        item.attempts += 1;
        let at = now + self.backoff.delay(item.attempts, &mut self.rng);
        if at < self.deadline {
            item.state = State::Due(at);
        } else {
            self.refuse(index, failure);
        }
    }

    /// Whether the metadata should be asked for anew, because items are about to be routed again. Each time is told once.
    pub fn poll_metadata_outdated(&mut self) -> bool {
        std::mem::take(&mut self.is_metadata_outdated)
    }

    /// When the next item is due; none if none will be.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let due = self.items.iter().filter_map(|item| match item.state {
            State::Due(at) => Some(at),
            State::Sought | State::Asked | State::Done { .. } => None,
        });
        due.min()
    }

    /// Whether all items have their results.
    pub fn is_done(&self) -> bool {
        self.items.iter().all(|item| matches!(item.state, State::Done { .. }))
    }

    /// Names who made the call in the results that were refused for want of a right.
    pub fn name_principal(&mut self, principal: &Arc<str>) {
        for item in &mut self.items {
            if let State::Done { result: Err(failure), .. } = &mut item.state
                && failure.needs().is_some()
            {
                *failure = failure.clone().by(principal);
            }
        }
    }

    /// The result of each item, in order.
    pub fn finish(self) -> Vec<Result<T, Failure>> {
        self.items.into_iter().map(|item| item.result().0).collect()
    }

    /// As [`finish`](Self::finish), with the coordinator that gave the answer.
    pub fn finish_with_coordinators(self) -> Vec<Result<(T, Broker), Failure>> {
        let coordinators = self.coordinators;
        let with_its_own = |item: Item<T>| {
            let coordinator = match &item.destination {
                Destination::Coordinator(of) => coordinators.get(of).cloned().flatten(),
                _ => None,
            };
            let nowhere = || Failure::NoRoute("the coordinator has moved".into());
            let result = item.result().0?;
            Ok((result, coordinator.ok_or_else(nowhere)?))
        };
        self.items.into_iter().map(with_its_own).collect()
    }

    /// As [`finish`](Self::finish), for a call that fails as a whole if no item was answered.
    ///
    /// # Errors
    /// The failure of the first item, if no item was answered.
    pub fn finish_whole(self) -> Result<Vec<Result<T, Failure>>, Failure> {
        let (results, answered): (Vec<_>, Vec<bool>) = self.items.into_iter().map(Item::result).unzip();
        match results.first() {
            Some(Err(failure)) if !answered.contains(&true) => Err(failure.clone()),
            _ => Ok(results),
        }
    }
}

impl<T> Item<T> {
    /// The result, and whether an answer gave it. An item without a result is in a run that was finished too early.
    fn result(self) -> (Result<T, Failure>, bool) {
        match self.state {
            State::Done { result, is_answered } => (result, is_answered),
            State::Due(_) | State::Sought | State::Asked => (Err(Failure::Closed), false),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use milena_messages::ErrorCode;

    use super::*;
    use crate::calls::{CREATE_TOPICS, DESCRIBE_CONFIGS, DESCRIBE_GROUPS, FIND_COORDINATOR, LIST_OFFSETS};
    use crate::metadata::tests::snapshot;

    const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };

    fn at(ms: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(ms)
    }

    fn run(row: &'static Row, destinations: &[Destination]) -> Run<i64> {
        Run::new(row, destinations.to_vec(), at(30_000), BACKOFF, Rng::seeded(1))
    }

    fn leader(partition: i32) -> Destination {
        Destination::Leader { topic: Arc::from("t"), partition }
    }

    fn part(broker: i32, items: &[usize]) -> Part {
        Part { broker: Some(BrokerId(broker)), items: items.to_vec() }
    }

    fn code(code: ErrorCode) -> Option<Result<i64, Failure>> {
        Some(Err(Failure::answer(code, None)))
    }

    #[test]
    fn items_are_split_by_broker_and_only_one_that_moved_is_asked_for_again() {
        // Broker 1 leads partitions 0 and 2, broker 2 leads partition 1.
        let before = snapshot("t", &[(1, 0), (2, 0), (1, 0)]);
        let mut run = run(&LIST_OFFSETS, &[leader(2), leader(1), leader(0), leader(2)]);
        let parts = run.poll_parts(&before, at(0));
        assert_eq!(parts, [part(1, &[0, 2, 3]), part(2, &[1])]);
        assert!(
            run.poll_parts(&before, at(0)).is_empty() && run.poll_timeout().is_none(),
            "all are under way"
        );
        for (index, answer) in
            [(0, Some(Ok(20))), (2, code(ErrorCode::NOT_LEADER_OR_FOLLOWER)), (3, Some(Ok(20)))]
        {
            run.handle_item(index, answer, at(10));
        }
        assert!(run.poll_metadata_outdated() && !run.poll_metadata_outdated());
        // The item is due although the other broker has not answered.
        let again = run.poll_timeout().expect("again");
        assert!((at(90)..=at(130)).contains(&again), "{again:?}");
        let after = snapshot("t", &[(2, 1), (2, 0), (1, 0)]);
        assert_eq!(run.poll_parts(&after, again), [part(2, &[2])]);
        run.handle_item(2, Some(Ok(0)), again);
        assert!(!run.is_done());
        run.handle_item(1, code(ErrorCode::TOPIC_AUTHORIZATION_FAILED), again);
        assert!(run.is_done());
        let results = run.finish();
        let found: Vec<_> = results.iter().map(|result| result.as_ref().ok().copied()).collect();
        assert_eq!(found, [Some(20), None, Some(0), Some(20)]);
    }

    #[test]
    fn an_order_that_may_have_been_carried_out_is_not_given_again() {
        let known = |controller| {
            let mut known = snapshot("t", &[(1, 0), (2, 0)]);
            known.controller = controller;
            known
        };
        let controller = [Destination::Controller, Destination::Controller];
        let mut lost = run(&CREATE_TOPICS, &controller);
        let parts = lost.poll_parts(&known(Some(BrokerId(1))), at(0));
        assert_eq!(parts, [part(1, &[0, 1])]);
        let failure = Failure::Lost { peer: "b:1".into(), reason: "closed".into(), sent: true };
        lost.handle_failure(&parts[0], &failure, at(0));
        assert!(lost.is_done());
        assert!(lost.finish_whole().expect_err("not answered").may_have_acted());

        // The first item succeeds. The broker says of the second that it is not the controller, so it did nothing.
        let mut moved = run(&CREATE_TOPICS, &controller);
        moved.poll_parts(&known(Some(BrokerId(1))), at(0));
        moved.handle_item(0, Some(Ok(1)), at(0));
        moved.handle_item(1, code(ErrorCode::NOT_CONTROLLER), at(0));
        // While there is no controller, the call waits for one.
        let mut now = at(0);
        while now < at(20_000) {
            now = moved.poll_timeout().expect("again");
            assert!(moved.poll_parts(&known(None), now).is_empty() && !moved.is_done());
        }
        now = moved.poll_timeout().expect("again");
        assert_eq!(moved.poll_parts(&known(Some(BrokerId(2))), now), [part(2, &[1])]);
        moved.handle_item(1, code(ErrorCode::TOPIC_ALREADY_EXISTS), now);
        let results = moved.finish_whole().expect("answered");
        assert_eq!(results[1].as_ref().expect_err("refused").code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    }

    #[test]
    fn a_question_is_asked_a_few_times_and_never_beyond_the_deadline() {
        let nobody = Snapshot::default();
        let failure = Failure::unreachable("b:1", "refused");
        let tries = |mut run: Run<i64>| {
            let (mut tries, mut now) = (0, at(0));
            while let Some(due) = run.poll_timeout() {
                now = now.max(due);
                assert!(now < at(30_000));
                for part in run.poll_parts(&nobody, now) {
                    assert_eq!(part.broker, None);
                    tries += 1;
                    run.handle_failure(&part, &failure, now);
                }
            }
            assert!(run.is_done() && run.finish_whole().is_err());
            (tries, now)
        };
        let (few, until) = tries(run(&DESCRIBE_CONFIGS, &[Destination::Any]));
        assert_eq!(few, 4);
        assert!(until < at(1000), "{until:?}");
        let (many, until) = tries(run(&FIND_COORDINATOR, &[Destination::Any]));
        assert!((30..40).contains(&many), "{many}");
        assert!(until > at(28_000), "{until:?}");
    }

    fn group(id: &str) -> Coordinated {
        Coordinated::Group(Arc::from(id))
    }

    fn broker(id: i32) -> Broker {
        Broker { id: BrokerId(id), host: Arc::from("b"), port: 9092, rack: None }
    }

    #[test]
    fn each_coordinator_is_looked_up_once_and_again_when_it_has_moved() {
        let brokers = snapshot("t", &[(1, 0), (2, 0)]);
        let items = ["g", "h", "g"].map(|id| Destination::Coordinator(group(id)));
        let mut run = run(&DESCRIBE_GROUPS, &items);
        assert!(run.poll_parts(&brokers, at(0)).is_empty());
        assert_eq!(run.poll_lookups(), [group("g"), group("h")]);
        assert!(run.poll_parts(&brokers, at(1)).is_empty() && run.poll_lookups().is_empty());
        assert_eq!(run.poll_timeout(), None, "it waits for the look-ups");
        run.handle_coordinator(&group("g"), Ok(broker(1)), at(2));
        assert_eq!(run.poll_parts(&brokers, at(2)), [part(1, &[0, 2])]);
        run.handle_coordinator(&group("h"), Ok(broker(2)), at(3));
        assert_eq!(run.poll_parts(&brokers, at(3)), [part(2, &[1])]);
        run.handle_item(1, Some(Ok(1)), at(4));
        // Both items of the group learn that it has moved, and one look-up answers both.
        for index in [0, 2] {
            run.handle_item(index, code(ErrorCode::NOT_COORDINATOR), at(4));
        }
        let again = at(400);
        assert!(run.poll_parts(&brokers, again).is_empty());
        assert_eq!(run.poll_lookups(), [group("g")]);
        run.handle_coordinator(&group("g"), Ok(broker(2)), again);
        assert_eq!(run.poll_parts(&brokers, again), [part(2, &[0, 2])]);
        run.handle_item(0, Some(Ok(0)), again);
        run.handle_item(2, Some(Ok(2)), again);
        assert!(run.is_done());
        let results: Vec<_> = run.finish_with_coordinators().into_iter().map(Result::ok).collect();
        assert_eq!(results, [0, 1, 2].map(|found| Some((found, broker(2)))));
    }

    #[test]
    fn a_coordinator_that_is_gone_is_looked_up_until_the_deadline() {
        let brokers = snapshot("t", &[(1, 0)]);
        let mut run = run(&DESCRIBE_GROUPS, &[Destination::Coordinator(group("g"))]);
        let (mut now, mut lookups) = (at(0), 0);
        while !run.is_done() {
            for part in run.poll_parts(&brokers, now) {
                run.handle_failure(&part, &Failure::unreachable("b:1", "refused"), now);
            }
            for of in run.poll_lookups() {
                lookups += 1;
                // Each second time it is a broker that the metadata do not have.
                run.handle_coordinator(&of, Ok(broker(1 + lookups % 2 * 8)), now);
            }
            now = run.poll_timeout().unwrap_or(now);
            assert!(now < at(30_000), "{now:?}");
        }
        assert!(lookups > 20, "{lookups}");
        assert!(run.finish_whole().expect_err("gone").is_retriable());
    }

    #[test]
    fn a_look_up_that_failed_fails_the_items_of_its_coordinator_alone() {
        let brokers = snapshot("t", &[(1, 0)]);
        let mut run = run(&DESCRIBE_GROUPS, &["g", "h"].map(|id| Destination::Coordinator(group(id))));
        run.poll_parts(&brokers, at(0));
        run.poll_lookups();
        let denied = Failure::answer(ErrorCode::GROUP_AUTHORIZATION_FAILED, None);
        run.handle_coordinator(&group("g"), Err(denied), at(0));
        run.handle_coordinator(&group("h"), Ok(broker(1)), at(0));
        assert_eq!(run.poll_parts(&brokers, at(0)), [part(1, &[1])]);
        run.handle_item(1, Some(Ok(1)), at(0));
        let results = run.finish_whole().expect("answered");
        assert!(matches!(&results[..], [Err(_), Ok(1)]), "{results:?}");
    }

    #[test]
    fn what_has_no_request_together_goes_singly() {
        let mut run = run(&FIND_COORDINATOR, &[Destination::Any, Destination::Any]);
        let parts = run.poll_parts(&Snapshot::default(), at(0));
        assert_eq!(parts.iter().map(|part| part.items.len()).collect::<Vec<_>>(), [1, 1]);
    }

    #[test]
    fn an_item_that_the_answer_leaves_out_is_the_brokers_fault_and_told_alone() {
        let mut run = run(&DESCRIBE_CONFIGS, &[Destination::Any, Destination::Any]);
        run.poll_parts(&Snapshot::default(), at(0));
        run.handle_item(0, Some(Ok(1)), at(0));
        run.handle_item(1, None, at(0));
        let results = run.finish_whole().expect("answered");
        assert!(matches!(&results[..], [Ok(1), Err(Failure::Malformed { .. })]), "{results:?}");
    }
}
