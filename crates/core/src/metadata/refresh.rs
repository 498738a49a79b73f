//! When to ask for metadata, and for which topics: one request at a time, at once when something changed, more and more
//! slowly while nothing does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Snapshot;
use crate::backoff::Retry;
use crate::{Backoff, Failure, Instant, Notice, Rng};

/// How metadata is kept fresh.
#[derive(Debug, Clone)]
pub struct RefreshSettings {
    /// Metadata is asked for at least this often. `metadata.max.age.ms`.
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

/// See the module's documentation.
#[derive(Debug)]
pub struct Refresh {
    settings: RefreshSettings,
    rng: Rng,
    /// The topics someone uses.
    topics: BTreeSet<Arc<str>>,
    /// Something was asked for since the last request went out.
    wanted: bool,
    asking: bool,
    retry: Retry,
    last: Option<Instant>,
    notice: Option<Notice>,
}

impl Refresh {
    /// Knows no topic yet; the brokers were asked for just `now`.
    pub fn new(settings: RefreshSettings, rng: Rng, now: Instant) -> Self {
        Self {
            settings,
            rng,
            topics: BTreeSet::new(),
            wanted: false,
            asking: false,
            retry: Retry::default(),
            last: Some(now),
            notice: None,
        }
    }

    /// Someone needs `topic`. The first time it is asked for at once, as no backoff concerns it yet.
    pub fn handle_topic(&mut self, topic: &Arc<str>) {
        if self.topics.insert(Arc::clone(topic)) {
            self.wanted = true;
            self.retry.hurry();
        }
    }

    /// Nobody waits for `topic` any more.
    pub fn handle_forgotten(&mut self, topic: &str) {
        self.topics.remove(topic);
    }

    /// Someone found the metadata outdated.
    pub fn handle_outdated(&mut self) {
        self.wanted = true;
    }

    /// The request was answered, and `snapshot` is what is known now.
    pub fn handle_answer(&mut self, snapshot: &Snapshot, now: Instant) {
        self.asking = false;
        self.last = Some(now);
        let amiss = self.topics.iter().find_map(|topic| Some((topic, snapshot.routable(topic).err()?)));
        match amiss {
            None => {
                self.retry.succeeded();
                // Whoever finds it outdated right away waits a little: the brokers learn of changes one after another.
                self.retry.failed(now, &self.settings.backoff, &mut self.rng);
            }
            Some((topic, failure)) => {
                // Not yet created, not yet elected: look again soon, then more and more slowly.
                let doing = format!("looking topic {topic:?} up").into();
                self.look_again(doing, failure, now);
            }
        }
    }

    /// The request failed.
    pub fn handle_failure(&mut self, failure: Failure, now: Instant) {
        self.asking = false;
        self.look_again("asking for metadata".into(), failure, now);
    }

    fn look_again(&mut self, doing: Arc<str>, failure: Failure, now: Instant) {
        self.wanted = true;
        self.retry.failed(now, &self.settings.backoff, &mut self.rng);
        if self.retry.is_notable(&failure) {
            self.notice = Some(Notice { doing, failure, failures: self.retry.failures() });
        }
    }

    /// What has failed several times and is still being tried.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// The request to send now, if any.
    pub fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        if self.asking || self.poll_timeout().is_some_and(|at| at > now) {
            return None;
        }
        self.asking = true;
        self.wanted = false;
        Some(Ask { topics: self.topics.iter().cloned().collect() })
    }

    /// When to call [`poll_ask`](Self::poll_ask) again; none while a request is under way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.asking {
            return None;
        }
        let stale = self.last.map_or(Instant::ORIGIN, |last| last + self.settings.age_max);
        let soon = self.retry.not_before().unwrap_or(Instant::ORIGIN);
        Some(if self.wanted { soon } else { stale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::snapshot;

    const SETTINGS: RefreshSettings = RefreshSettings {
        age_max: Duration::from_secs(300),
        backoff: Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) },
    };

    fn at(ms: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(ms)
    }

    #[test]
    fn one_request_at_a_time_at_once_for_a_new_topic_and_in_time_for_old_ones() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        assert_eq!(refresh.poll_ask(at(0)), None, "the brokers were asked for just now");
        refresh.handle_topic(&Arc::from("t"));
        assert_eq!(refresh.poll_ask(at(0)), Some(Ask { topics: vec![Arc::from("t")] }));
        refresh.handle_topic(&Arc::from("u"));
        assert_eq!((refresh.poll_ask(at(0)), refresh.poll_timeout()), (None, None), "one is under way");
        refresh.handle_answer(&snapshot("t", &[(1, 0)]), at(10));
        let ask = refresh.poll_ask(at(200)).expect("the other topic");
        assert_eq!(ask.topics.len(), 2);
        let both = snapshot("t", &[(1, 0)]).merge(&crate::metadata::tests::response("u", &[(1, 0)]), false);
        refresh.handle_answer(&both, at(210));
        assert_eq!(refresh.poll_timeout(), Some(at(210) + SETTINGS.age_max));
        assert!(refresh.poll_ask(at(300_210)).is_some());
    }

    #[test]
    fn what_is_amiss_is_asked_about_more_and_more_slowly() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_topic(&Arc::from("t"));
        let mut now = at(0);
        let mut asked = Vec::new();
        while now < at(10_000) {
            if refresh.poll_ask(now).is_some() {
                asked.push(now);
                // The partition has no leader.
                refresh.handle_answer(&snapshot("t", &[(-1, 0)]), now);
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
        refresh.handle_topic(&Arc::from("t"));
        let mut asked = 0;
        for ms in 0..1000 {
            refresh.handle_outdated();
            if refresh.poll_ask(at(ms)).is_some() {
                asked += 1;
                refresh.handle_answer(&snapshot("t", &[(1, 0)]), at(ms));
            }
        }
        assert!((8..=13).contains(&asked), "{asked} in a second");
    }

    #[test]
    fn what_stays_amiss_is_told() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_topic(&Arc::from("t"));
        for _ in 0..2 {
            refresh.handle_answer(&snapshot("t", &[(-1, 0)]), at(0));
            assert!(refresh.poll_notice().is_none());
        }
        refresh.handle_answer(&snapshot("t", &[(-1, 0)]), at(0));
        let notice = refresh.poll_notice().expect("the third time");
        let text = format!("{}: {}", notice.doing, notice.failure);
        assert_eq!(text, "looking topic \"t\" up: partition 0 of topic \"t\" has no leader at present");
        assert!(refresh.poll_notice().is_none(), "once");
    }

    #[test]
    fn a_failure_is_repeated_with_patience() {
        let mut refresh = Refresh::new(SETTINGS, Rng::seeded(1), at(0));
        refresh.handle_topic(&Arc::from("t"));
        assert!(refresh.poll_ask(at(0)).is_some());
        refresh.handle_failure(Failure::Closed, at(5));
        assert!(refresh.poll_ask(at(50)).is_none() && refresh.poll_ask(at(130)).is_some());
        refresh.handle_forgotten("t");
        refresh.handle_answer(&Snapshot::default(), at(140));
        assert_eq!(refresh.poll_timeout(), Some(at(140) + SETTINGS.age_max));
    }
}
