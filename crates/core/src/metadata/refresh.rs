//! When to ask for metadata, and for which topics: one request at a time, at once when something has changed, and at
//! longer and longer intervals while something stays amiss.
//!
//! ```text
//!           want           ask           settled
//!  Fresh ────────▶ Wanted ─────▶ Asked ──────────▶ Fresh
//!                    ▲             │
//!                    └─────────────┘ failed, or a topic or a leader is missing
//! ```
//!
//! Interest in topics is counted. A topic is asked about while anything holds an interest in it, and kept for [`KEPT`]
//! afterwards, so that calls one after another do not each look it up. Then it is forgotten. A caller whose look-up
//! fails gives back its own interest only, so other callers keep the topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Snapshot;
use crate::backoff::Retry;
use crate::{Backoff, Failure, Instant, Notice, Rng};

/// How metadata is kept fresh.
#[derive(Debug, Clone)]
pub struct RefreshSettings {
    /// Metadata is asked for at least this often, and [`AGE_MIN`] at most. `metadata.max.age.ms`.
    pub age_max: Duration,
    /// Between two requests while something is amiss.
    pub backoff: Backoff,
}

/// A request for metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The topics to describe.
    pub topics: Vec<Arc<str>>,
}

/// Decides when metadata is asked for. It neither sends requests nor keeps the answers: its caller does, and shows it
/// each new [`Snapshot`].
///
/// # A turn
///
/// After any `handle_*`, and at [`poll_timeout`](Self::poll_timeout), drain [`poll_notice`](Self::poll_notice), then
/// [`poll_forgotten`](Self::poll_forgotten), whose topics the caller takes out of its snapshot, then
/// [`poll_ask`](Self::poll_ask): the other way round, a topic that is about to be forgotten is asked for once more.
///
/// # Inputs
///
/// Each [`Ask`] is answered by [`handle_answer`](Self::handle_answer) or [`handle_failure`](Self::handle_failure),
/// once; until then there is no other. Every interest that is taken ([`handle_interest`](Self::handle_interest)) is
/// given back ([`handle_given_back`](Self::handle_given_back)), or its topic is asked about for ever. `now` never goes
/// back.
///
/// # Cost
///
/// `handle_answer` and `poll_ask` go through all topics. Everything else takes the logarithm of their number.
#[derive(Debug)]
pub struct Refresh {
    settings: RefreshSettings,
    rng: Rng,
    interests: BTreeMap<Arc<str>, Interest>,
    /// Topics without holders, by when the last one gave them back. Each is here once, however often it is taken and
    /// given back.
    idle: BTreeSet<(Instant, Arc<str>)>,
    state: State,
    /// When the last request went out.
    asked_at: Option<Instant>,
    /// When the last answer came.
    answered_at: Instant,
    /// When to ask again for topics that have been missing for long. They have a timer of their own: with one backoff
    /// for all a deleted topic that is held would slow the search for every new leader.
    look_at: Option<Instant>,
    /// The last request failed for a reason that only people can mend, and none goes out before this.
    paused_until: Option<Instant>,
    retry: Retry,
    notice: Option<Notice>,
}

/// Whether metadata is wanted, and whether a request for it is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No reason to ask, until the metadata is old or it is time to ask for a missing topic again.
    Fresh,
    /// A request goes out as soon as the backoff allows it.
    Wanted,
    /// A request is on its way.
    Asked,
    /// A request is on its way, and another one follows it: a reason arose after it went out, and its answer may be
    /// older.
    AskedAndWanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The metadata lacks something, or looks outdated.
    Want,
    /// A request goes out.
    Ask,
    /// The request was answered, and every topic that is held can be used.
    Settled,
    /// The request failed, or its answer leaves something open: a topic just made, a partition without a leader.
    Unsettled,
}

/// The next state. Every pair is named, so that a new state or event does not compile before its row is written.
fn next(state: State, event: Event) -> State {
    match (state, event) {
        (State::Fresh | State::Wanted, Event::Want | Event::Unsettled) => State::Wanted,
        (State::Asked | State::AskedAndWanted, Event::Want) => State::AskedAndWanted,
        (State::Fresh | State::Wanted, Event::Ask) => State::Asked,
        (State::Asked | State::AskedAndWanted, Event::Ask) => state,
        (State::Fresh | State::Asked, Event::Settled) => State::Fresh,
        // The answer may be older than the reason to ask again.
        (State::Wanted | State::AskedAndWanted, Event::Settled) => State::Wanted,
        (State::Asked | State::AskedAndWanted, Event::Unsettled) => State::Wanted,
    }
}

/// The interest in a topic.
#[derive(Debug, Default)]
struct Interest {
    holders: u32,
    /// Since when it has had no holder. None while it has one.
    idle_since: Option<Instant>,
    /// Since when no broker has known the topic, or we may not see it.
    missing_since: Option<Instant>,
}

/// Metadata is not asked for more often than this only because of its age: `metadata.max.age.ms=0` is no storm.
pub const AGE_MIN: Duration = Duration::from_secs(1);
/// Metadata that was asked for this long ago still counts as the present state: a caller that does not find a topic or
/// a partition in it gets its error at once.
pub const FRESH: Duration = Duration::from_secs(1);
/// A topic without holders is remembered for this long.
pub const KEPT: Duration = Duration::from_secs(5);
/// A topic that has been missing for longer than this is probably not about to be created, and is asked about more
/// rarely.
const MISSING_YOUNG: Duration = Duration::from_secs(5);
/// A topic that is missing is asked about again after an eighth of the time it has been missing, up to this.
const MISSING_DELAY_MAX: Duration = Duration::from_secs(30);
/// The pause after a failure that stays until people change something ([`Failure::is_final`]): each attempt may count
/// as a failed log-in, and lock the account.
const FINAL_PAUSE: Duration = Duration::from_secs(10);

impl Refresh {
    /// No topics yet. `now` is when the brokers were asked for the first snapshot.
    pub fn new(settings: RefreshSettings, rng: Rng, now: Instant) -> Self {
        Self {
            settings,
            rng,
            interests: BTreeMap::new(),
            idle: BTreeSet::new(),
            state: State::Fresh,
            asked_at: None,
            answered_at: now,
            look_at: None,
            paused_until: None,
            retry: Retry::default(),
            notice: None,
        }
    }

    /// A caller takes an interest in `topic`. The first interest asks for it at once: the backoff is that of other
    /// topics.
    pub fn handle_interest(&mut self, topic: &Arc<str>) {
        if !self.interests.contains_key(topic) {
            self.step(Event::Want);
            self.retry.hurry();
        }
        let interest = self.interests.entry(Arc::clone(topic)).or_default();
        interest.holders += 1;
        if let Some(since) = interest.idle_since.take() {
            self.idle.remove(&(since, Arc::clone(topic)));
        }
    }

    /// A caller gives an interest in `topic` back.
    pub fn handle_given_back(&mut self, topic: &Arc<str>, now: Instant) {
        let Some(interest) = self.interests.get_mut(topic) else { return };
        interest.holders = interest.holders.saturating_sub(1);
        if interest.holders == 0 && interest.idle_since.is_none() {
            interest.idle_since = Some(now);
            self.idle.insert((now, Arc::clone(topic)));
        }
    }

    /// A request showed that the metadata is outdated.
    pub fn handle_outdated(&mut self) {
        self.step(Event::Want);
    }

    /// A caller misses a topic or a partition in the metadata. Metadata that was asked for within [`FRESH`] is
    /// believed.
    pub fn handle_doubt(&mut self, now: Instant) {
        if self.asked_at.is_none_or(|at| now - at > FRESH) {
            self.step(Event::Want);
        }
    }

    /// We changed the cluster ourselves, so there is something new to see: the backoff does not apply.
    pub fn handle_changed(&mut self) {
        self.step(Event::Want);
        self.retry.hurry();
    }

    /// The request was answered, and `snapshot` includes the answer. Topics that nothing is interested in are taken out
    /// of it, and it is noted there which topics are missing.
    pub fn handle_answer(&mut self, snapshot: &mut Snapshot, now: Instant) {
        self.answered_at = now;
        self.paused_until = None;
        snapshot.asked_at = self.asked_at;
        snapshot.topics.retain(|topic, _| self.interests.contains_key(topic));
        snapshot.missing_since.clear();
        let mut unsettled = None;
        let mut youngest: Option<Duration> = None;
        for (topic, interest) in &mut self.interests {
            let state = snapshot.topic_state(topic);
            let is_missing = state.is_err_and(|state| state.is_unknown || state.is_final);
            interest.missing_since = is_missing.then(|| interest.missing_since.unwrap_or(now));
            if let Some(since) = interest.missing_since {
                snapshot.missing_since.insert(Arc::clone(topic), since);
            }
            // A topic that is only kept is no reason to ask again.
            if interest.holders == 0 {
                continue;
            }
            let missing_for = interest.missing_since.map(|since| now - since);
            if let Some(age) = missing_for.filter(|age| *age >= MISSING_YOUNG) {
                youngest = Some(youngest.map_or(age, |least| least.min(age)));
            } else if let (None, Err(failure)) = (&unsettled, snapshot.routable(topic)) {
                unsettled = Some((Arc::clone(topic), failure));
            }
        }
        // Topics that have been missing for long do not count as unsettled: the backoff grows with every unsettled
        // answer, and would slow the search for the leaders of all other topics.
        self.look_at =
            youngest.map(|age| now + (age / 8).min(MISSING_DELAY_MAX).max(self.settings.backoff.max));
        match unsettled {
            None => {
                self.step(Event::Settled);
                self.retry.succeeded();
                // A request that finds it outdated right away waits for one backoff: the brokers learn of changes one
                // after another, and may all say the same as before.
                self.retry.failed(now, &self.settings.backoff, &mut self.rng);
            }
            Some((topic, failure)) => {
                // The topic is not created yet, or a leader not elected yet: ask again soon, then less and less often.
                let doing = format!("looking topic {topic:?} up").into();
                self.look_again(doing, failure, now);
            }
        }
    }

    /// The request failed. It goes out again after a backoff, or after a long pause if only people can mend the reason.
    pub fn handle_failure(&mut self, failure: Failure, now: Instant) {
        self.paused_until = failure.is_final().then(|| now + FINAL_PAUSE);
        self.look_again("asking for metadata".into(), failure, now);
    }

    fn look_again(&mut self, doing: Arc<str>, failure: Failure, now: Instant) {
        self.step(Event::Unsettled);
        self.retry.failed(now, &self.settings.backoff, &mut self.rng);
        if self.retry.is_notable(&failure) {
            self.notice = Some(Notice { doing, failure, failures: self.retry.failures() });
        }
    }

    /// Something that has failed several times and is still being tried, for people to know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// Topics that have had no holder for [`KEPT`], and are not asked for any more.
    pub fn poll_forgotten(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut forgotten = Vec::new();
        while self.idle.first().is_some_and(|(since, _)| *since + KEPT <= now)
            && let Some((_, topic)) = self.idle.pop_first()
        {
            self.interests.remove(&topic);
            forgotten.push(topic);
        }
        forgotten
    }

    /// The request to send now, if any.
    pub fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        if self.ask_at().is_none_or(|at| at > now) {
            return None;
        }
        debug_assert!(self.asked_at.is_none_or(|at| at <= now), "time does not go back");
        self.step(Event::Ask);
        self.asked_at = Some(now);
        Some(Ask { topics: self.interests.keys().cloned().collect() })
    }

    /// When to poll again, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let forget_at = self.idle.first().map(|(since, _)| *since + KEPT);
        [forget_at, self.ask_at()].into_iter().flatten().min()
    }

    /// When the next request is due; none while one is on its way.
    fn ask_at(&self) -> Option<Instant> {
        let at = match self.state {
            State::Asked | State::AskedAndWanted => return None,
            State::Wanted => self.retry.not_before().unwrap_or(Instant::ORIGIN),
            State::Fresh => {
                let stale = self.answered_at + self.settings.age_max.max(AGE_MIN);
                self.look_at.map_or(stale, |at| at.min(stale))
            }
        };
        Some(self.paused_until.map_or(at, |until| at.max(until)))
    }

    fn step(&mut self, event: Event) {
        self.state = next(self.state, event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use milena_messages::ErrorCode;

    use crate::metadata::tests::{response, snapshot};
    use crate::{Obstacle, table};

    const SETTINGS: RefreshSettings = RefreshSettings {
        age_max: Duration::from_secs(300),
        backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) },
    };

    fn at(ms: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(ms)
    }

    #[test]
    fn the_table() {
        let states = [State::Fresh, State::Wanted, State::Asked, State::AskedAndWanted];
        let events = [Event::Want, Event::Ask, Event::Settled, Event::Unsettled];
        let table = table::print(&states, &events, |state, event| (next(state, event), ()));
        assert_eq!(table, TABLE, "\n{table}");
    }

    const TABLE: &str = "\
Fresh
  Want → Wanted
  Ask → Asked
  Unsettled → Wanted
  nothing on Settled
Wanted
  Ask → Asked
  nothing on Want, Settled, Unsettled
Asked
  Want → AskedAndWanted
  Settled → Fresh
  Unsettled → Wanted
  nothing on Ask
AskedAndWanted
  Settled → Wanted
  Unsettled → Wanted
  nothing on Want, Ask
";

    #[test]
    fn one_request_at_a_time_at_once_for_a_new_topic_and_in_time_for_old_ones() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        assert_eq!(refresh.poll_ask(at(0)), None, "the brokers were asked for just now");
        refresh.handle_interest(&Arc::from("t"));
        assert_eq!(refresh.poll_ask(at(0)), Some(Ask { topics: vec![Arc::from("t")] }));
        refresh.handle_interest(&Arc::from("u"));
        assert_eq!((refresh.poll_ask(at(0)), refresh.poll_timeout()), (None, None), "one is under way");
        refresh.handle_answer(&mut snapshot("t", &[(1, 0)]), at(10));
        let ask = refresh.poll_ask(at(200)).expect("the other topic");
        assert_eq!(ask.topics.len(), 2);
        let mut both = snapshot("t", &[(1, 0)]).merge(&response("u", &[(1, 0)]), false);
        refresh.handle_answer(&mut both, at(210));
        assert_eq!(refresh.poll_timeout(), Some(at(210) + SETTINGS.age_max));
        assert!(refresh.poll_ask(at(300_210)).is_some());
    }

    #[test]
    fn what_is_amiss_is_asked_about_more_and_more_slowly() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_interest(&Arc::from("t"));
        let mut now = at(0);
        let mut asked = Vec::new();
        while now < at(10_000) {
            if refresh.poll_ask(now).is_some() {
                asked.push(now);
                // The partition has no leader.
                refresh.handle_answer(&mut snapshot("t", &[(-1, 0)]), now);
            }
            // Complaints do not make it faster.
            refresh.handle_outdated();
            now = refresh.poll_timeout().expect("again").max(now + Duration::from_millis(1));
        }
        assert!((10..=16).contains(&asked.len()), "{asked:?}");
        assert!(asked[3] < at(900), "a topic just made is found soon: {asked:?}");
    }

    #[test]
    fn complaints_about_good_metadata_are_looked_into_but_not_in_a_storm() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_interest(&Arc::from("t"));
        let mut asked = 0;
        for ms in 0..1000 {
            refresh.handle_outdated();
            if refresh.poll_ask(at(ms)).is_some() {
                asked += 1;
                refresh.handle_answer(&mut snapshot("t", &[(1, 0)]), at(ms));
            }
        }
        assert!((8..=13).contains(&asked), "{asked} in a second");
    }

    #[test]
    fn what_stays_amiss_is_told() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_interest(&Arc::from("t"));
        for _ in 0..2 {
            refresh.handle_answer(&mut snapshot("t", &[(-1, 0)]), at(0));
            assert!(refresh.poll_notice().is_none());
        }
        refresh.handle_answer(&mut snapshot("t", &[(-1, 0)]), at(0));
        let notice = refresh.poll_notice().expect("the third time");
        let text = format!("{}: {}", notice.doing, notice.failure);
        assert_eq!(text, "looking topic \"t\" up: partition 0 of topic \"t\" has no leader at present");
        assert!(refresh.poll_notice().is_none(), "once");
    }

    #[test]
    fn a_failure_is_repeated_with_patience() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_interest(&Arc::from("t"));
        assert!(refresh.poll_ask(at(0)).is_some());
        refresh.handle_failure(Failure::Closed, at(5));
        assert!(refresh.poll_ask(at(50)).is_none() && refresh.poll_ask(at(130)).is_some());
        refresh.handle_given_back(&Arc::from("t"), at(135));
        refresh.handle_answer(&mut Snapshot::default(), at(140));
        assert_eq!(refresh.poll_forgotten(at(135) + KEPT), [Arc::from("t")]);
        assert_eq!(refresh.poll_timeout(), Some(at(140) + SETTINGS.age_max));
    }

    fn unknown(topic: &str) -> Snapshot {
        let mut response = response(topic, &[]);
        response.topics[0].error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        Snapshot::default().merge(&response, false)
    }

    /// Answers each request with what `answer` knows, for `ms` milliseconds, and tells when requests were sent.
    fn run(
        refresh: &mut Refresh,
        from: u64,
        ms: u64,
        mut answer: impl FnMut(&Ask, u64) -> Snapshot,
    ) -> Vec<u64> {
        let mut asked = Vec::new();
        for ms in from..from + ms {
            refresh.poll_forgotten(at(ms));
            if let Some(ask) = refresh.poll_ask(at(ms)) {
                asked.push(ms);
                refresh.handle_answer(&mut answer(&ask, ms), at(ms));
            }
        }
        asked
    }

    #[test]
    fn one_callers_failed_look_up_takes_no_topic_from_those_who_use_it() {
        let topic: Arc<str> = Arc::from("t");
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_interest(&topic);
        refresh.handle_interest(&topic);
        // One of the two gives up while the topic is missing.
        run(&mut refresh, 0, 1000, |_, _| unknown("t"));
        refresh.handle_given_back(&topic, at(1000));
        let mut found_at = None;
        run(&mut refresh, 1000, 3000, |ask, ms| {
            assert_eq!(ask.topics, [Arc::clone(&topic)], "the other one still uses it");
            found_at = found_at.or((ms >= 2000).then_some(ms));
            if ms >= 2000 { snapshot("t", &[(1, 0)]) } else { unknown("t") }
        });
        assert!(
            found_at.is_some_and(|ms| ms < 3300),
            "the topic came back at 2000 and was seen at {found_at:?}"
        );
    }

    #[test]
    fn a_topic_without_holders_is_forgotten_and_asked_about_no_more() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        let topics: Vec<Arc<str>> = (0..50).map(|index| Arc::from(format!("missing-{index}"))).collect();
        for topic in &topics {
            refresh.handle_interest(topic);
        }
        run(&mut refresh, 0, 100, |_, _| unknown("missing-0"));
        for topic in &topics {
            refresh.handle_given_back(topic, at(100));
        }
        let asked = run(&mut refresh, 100, 60_000, |_, _| unknown("missing-0"));
        assert!(asked.len() <= 2, "{asked:?}");
        assert!(refresh.interests.is_empty() && refresh.idle.is_empty());
        // An answer that was under way brings nothing back.
        let mut late = unknown("missing-0");
        refresh.handle_answer(&mut late, at(60_100));
        assert!(late.topics.is_empty() && late.missing_since.is_empty());
    }

    #[test]
    fn a_topic_that_is_taken_up_and_given_back_again_and_again_waits_once_to_be_forgotten() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        for ms in 0..1000 {
            // Each caller has a copy of the name.
            let topic = Arc::from("missing");
            refresh.handle_interest(&topic);
            assert!(refresh.idle.is_empty(), "a caller holds it");
            refresh.handle_given_back(&topic, at(ms));
            assert_eq!(refresh.idle.len(), 1);
        }
        // It is given back once more than it was taken.
        refresh.handle_given_back(&Arc::from("missing"), at(2000));
        assert_eq!(refresh.idle.len(), 1);
        assert!(refresh.poll_forgotten(at(5998)).is_empty());
        assert_eq!(refresh.poll_forgotten(at(5999)), [Arc::from("missing")]);
        assert!(refresh.interests.is_empty() && refresh.idle.is_empty());
    }

    #[test]
    fn a_topic_that_is_taken_up_again_in_time_is_kept() {
        let topic: Arc<str> = Arc::from("t");
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        for ms in [0, 1000, 5900] {
            refresh.handle_interest(&topic);
            refresh.handle_given_back(&topic, at(ms));
            assert!(refresh.poll_forgotten(at(ms + 4999)).is_empty());
        }
        assert_eq!(refresh.poll_timeout(), Some(at(0)), "it was never asked for");
        assert_eq!(refresh.poll_forgotten(at(10_900)), [topic]);
    }

    #[test]
    fn a_deleted_topic_that_is_held_is_asked_about_ever_more_rarely_and_slows_nothing_else() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_interest(&Arc::from("t"));
        let asked = run(&mut refresh, 0, 600_000, |_, _| unknown("t"));
        let within = |from: u64, to: u64| asked.iter().filter(|ms| (from..to).contains(*ms)).count();
        assert!(within(0, 1000) >= 4, "a topic just made is found soon: {asked:?}");
        assert!((5..=15).contains(&within(0, 10_000)), "{asked:?}");
        assert!((9..=11).contains(&within(300_000, 600_000)), "every 30 s: {asked:?}");
        // A request finds that another topic's leader has moved.
        refresh.handle_outdated();
        assert!(refresh.poll_timeout().is_some_and(|next| next <= at(600_000)));
    }

    #[test]
    fn doubts_about_what_was_just_asked_for_are_not_looked_into() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_interest(&Arc::from("t"));
        run(&mut refresh, 0, 1, |_, _| snapshot("t", &[(1, 0)]));
        let mut asked = 0;
        for ms in 1..10_000 {
            refresh.handle_doubt(at(ms));
            asked += run(&mut refresh, ms, 1, |_, _| snapshot("t", &[(1, 0)])).len();
        }
        assert_eq!(asked, 9, "once a second");
    }

    #[test]
    fn settings_of_zero_make_no_storm() {
        let zero = Backoff { min: Duration::ZERO, max: Duration::ZERO };
        let settings = RefreshSettings { age_max: Duration::ZERO, backoff: zero };
        for leader in [1, -1] {
            let mut refresh = Refresh::new(settings.clone(), Rng::seeded(1), at(0));
            refresh.handle_interest(&Arc::from("t"));
            let asked = run(&mut refresh, 0, 10_000, |_, _| snapshot("t", &[(leader, 0)])).len();
            assert!(asked <= if leader == 1 { 11 } else { 130 }, "{asked} in ten seconds");
        }
    }

    #[test]
    fn what_only_people_can_mend_is_not_tried_again_at_once() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_interest(&Arc::from("t"));
        assert!(refresh.poll_ask(at(0)).is_some());
        let refused = Failure::Unreachable {
            peer: "b:1".into(),
            obstacle: Obstacle::Credentials,
            cause: None,
            reason: "the password is wrong".into(),
        };
        assert!(!refused.is_retriable(), "callers that wait get the error");
        refresh.handle_failure(refused, at(0));
        refresh.handle_interest(&Arc::from("u"));
        assert_eq!(refresh.poll_timeout(), Some(at(0) + FINAL_PAUSE));
    }
}
