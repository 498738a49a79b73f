//! The token or the temporary keys of a client, which all its connections use: when they are fetched, who may use them, and when not
//! to ask again.

use std::sync::Arc;
use std::time::Duration;

use super::Credentials;
use crate::backoff::{Backoff, Retry};
use crate::{Instant, Rng};

/// Keeps one token, and says when to fetch the next one. Keys of AWS are kept in the same way, and called a token here.
///
/// The driver tells when somebody [wants](Self::handle_wanted) a token and gets none from [`usable`](Self::usable). After
/// that, and at [`poll_timeout`](Self::poll_timeout), it asks [`poll_fetch`](Self::poll_fetch), and hands over what came of a
/// fetch: only one is under way at a time, however many wait.
///
/// A token is fetched again when 75 to 80 % of its life have passed. If that fails it is tried again and again, and the token
/// is used until it ends. Keys without an end are looked up again every ten minutes: they may have been replaced.
#[derive(Debug)]
pub struct TokenKeeper {
    token: Option<Arc<Credentials>>,
    /// When the token is fetched anew.
    refresh_at: Option<Instant>,
    is_wanted: bool,
    is_fetching: bool,
    retry: Retry,
    rng: Rng,
}

/// What a token is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A new connection takes a token that is about to end rather than none.
    Connect,
    /// A session goes on with a token that has a good part of its life before it: [`Token::is_old`](super::Token::is_old).
    Renew,
}

/// Java's `sasl.login.retry.backoff.ms` and its maximum.
const BACKOFF: Backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };
/// When part of a token's life has passed, it is fetched again: at most 80 %, so that it is there when sessions are renewed.
const REFRESH_PERCENT_MIN: u32 = 75;
const REFRESH_PERCENT_SPREAD: u32 = 6;
/// Tokens that end at once must not make a storm of fetches.
const REFRESH_AFTER_MIN: Duration = Duration::from_secs(1);
/// Somebody who wants to connect waits this long for a fetch if the one before it failed: an issuer that is down, or hangs, must
/// not hold up whoever can do something else. A caller's error comes within a second, and an issuer on the way up still has time.
const PATIENCE: Duration = Duration::from_millis(500);
/// Keys without an end are looked up again after this long.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(600);

impl TokenKeeper {
    /// Without a token.
    pub fn new(rng: Rng) -> Self {
        Self {
            token: None,
            refresh_at: None,
            is_wanted: false,
            is_fetching: false,
            retry: Retry::default(),
            rng,
        }
    }

    /// The token, if it may be used so.
    pub fn usable(&self, purpose: Use, now: Instant) -> Option<&Arc<Credentials>> {
        self.token.as_ref().filter(|credentials| match &***credentials {
            Credentials::Token(token) => now < token.until && (purpose == Use::Connect || !token.is_old(now)),
            // A broker lets a session with keys live as long as the keys do, so it is worth its while to the end.
            Credentials::Aws(keys) => keys.until.is_none_or(|until| now < until),
            Credentials::Password(_) | Credentials::Custom(_) => false,
        })
    }

    /// Somebody waits for a token.
    pub fn handle_wanted(&mut self) {
        self.is_wanted = true;
    }

    /// Whether to fetch a token now.
    pub fn poll_fetch(&mut self, now: Instant) -> bool {
        let is_due = self.is_wanted || self.refresh_at.is_some_and(|at| at <= now);
        let begins = is_due && !self.is_fetching && self.retry.is_ready(now);
        self.is_fetching |= begins;
        begins
    }

    /// A token was fetched. The request for it began at `since`.
    pub fn handle_fetched(&mut self, token: Credentials, since: Instant) {
        let percent = REFRESH_PERCENT_MIN + self.rng.below(REFRESH_PERCENT_SPREAD);
        let life = token.until().map(|until| until - since);
        let after = life.map_or(LOOK_AGAIN_AFTER, |life| (life / 100 * percent).max(REFRESH_AFTER_MIN));
        self.refresh_at = Some(since + after);
        self.token = Some(Arc::new(token));
        self.is_fetching = false;
        self.is_wanted = false;
        self.retry.succeeded();
    }

    /// No token could be fetched. Those who wait for one to connect are told. `is_wanted` says whether somebody goes on
    /// waiting.
    pub fn handle_failure(&mut self, is_wanted: bool, now: Instant) {
        self.is_fetching = false;
        self.is_wanted = is_wanted;
        self.retry.failed(now, &BACKOFF, &mut self.rng);
        // Without a token no connection is served, so there is nothing to be kept going. The next one to connect asks again.
        if self.usable(Use::Connect, now).is_none() {
            self.token = None;
            self.refresh_at = None;
        }
    }

    /// Whether the last fetch failed so short a time ago that the next one has to wait.
    pub fn is_backing_off(&self, now: Instant) -> bool {
        !self.is_fetching && !self.retry.is_ready(now)
    }

    /// Until when somebody who wants to connect waits, and is then told why the last fetch failed, while the next one goes on. None:
    /// until the fetch ends, because none has failed since the last token came, and there is nothing to tell.
    pub fn patience(&self, now: Instant) -> Option<Instant> {
        match self.retry.failures() {
            0 => None,
            _ if self.is_backing_off(now) => Some(now),
            _ => Some(now + PATIENCE),
        }
    }

    /// How many fetches have failed since the last token came.
    pub fn failures(&self) -> u32 {
        self.retry.failures()
    }

    /// When to ask again although nothing happened.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_fetching {
            return None;
        }
        let due = if self.is_wanted { Some(Instant::ORIGIN) } else { self.refresh_at };
        due.map(|at| self.retry.not_before().map_or(at, |not_before| at.max(not_before)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{AwsKeys, Token};
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ORIGIN + Duration::from_millis(ms)
    }

    fn fetched(keeper: &mut TokenKeeper, since: u64, until: u64) {
        let (since, until) = (at(since), at(until));
        let token = Token { value: "t".into(), extensions: Vec::new(), principal: None, since, until };
        keeper.handle_fetched(Credentials::Token(token), since);
    }

    #[test]
    fn keys_are_fetched_before_they_end_or_looked_up_again() {
        let keys = |until: Option<u64>| {
            Credentials::Aws(AwsKeys {
                access_key: "AKID".into(),
                secret: "s".into(),
                session_token: None,
                region: None,
                region_default: None,
                user_agent: "u".into(),
                until: until.map(at),
            })
        };
        let mut keeper = TokenKeeper::new(Rng::seeded(1));
        keeper.handle_fetched(keys(None), at(0));
        assert_eq!(keeper.poll_timeout(), Some(at(600_000)));
        assert!(keeper.usable(Use::Renew, Instant::NEVER).is_some());
        keeper.handle_fetched(keys(Some(3_600_000)), at(0));
        let due = keeper.poll_timeout().expect("refreshed").since_origin().as_secs();
        assert!((2700..=2880).contains(&due), "{due}");
        assert!(keeper.usable(Use::Renew, at(3_599_999)).is_some());
        assert!(keeper.usable(Use::Connect, at(3_600_000)).is_none());
    }

    #[test]
    fn one_token_is_fetched_however_many_want_it() {
        let mut keeper = TokenKeeper::new(Rng::seeded(1));
        assert!(!keeper.poll_fetch(at(0)) && keeper.poll_timeout().is_none(), "nobody wants one");
        keeper.handle_wanted();
        assert!(keeper.poll_fetch(at(0)) && !keeper.poll_fetch(at(0)));
        keeper.handle_wanted();
        assert!(!keeper.poll_fetch(at(1)));
        fetched(&mut keeper, 10, 60_010);
        assert!(!keeper.poll_fetch(at(10)) && keeper.usable(Use::Connect, at(10)).is_some());
    }

    #[test]
    fn a_token_is_fetched_again_at_80_percent_of_its_life_at_the_latest() {
        let refreshed = |seed| {
            let mut keeper = TokenKeeper::new(Rng::seeded(seed));
            fetched(&mut keeper, 0, 60_000);
            let due = keeper.poll_timeout().expect("refreshed");
            assert!(!keeper.poll_fetch(Instant::ORIGIN) && keeper.poll_fetch(due));
            due.since_origin().as_millis() / 600
        };
        let all: std::collections::BTreeSet<_> = (0..200).map(refreshed).collect();
        assert_eq!(all.into_iter().collect::<Vec<_>>(), [75, 76, 77, 78, 79, 80]);
    }

    #[test]
    fn an_issuer_that_is_down_is_asked_again_and_the_token_used_until_it_ends() {
        let mut keeper = TokenKeeper::new(Rng::seeded(1));
        fetched(&mut keeper, 0, 60_000);
        let mut fetches = 0;
        for ms in 0..90_000 {
            let now = at(ms);
            if keeper.poll_fetch(now) {
                fetches += 1;
                keeper.handle_failure(false, now);
            }
            assert_eq!(keeper.usable(Use::Connect, now).is_some(), ms < 60_000, "{ms}");
            assert_eq!(keeper.usable(Use::Renew, now).is_some(), ms <= 48_000, "{ms}");
        }
        assert!((5..15).contains(&fetches), "{fetches} within 13 s, and none after the token's end");
        assert!(keeper.poll_timeout().is_none());
    }

    #[test]
    fn after_a_failure_nobody_waits_for_an_issuer_that_hangs() {
        let mut keeper = TokenKeeper::new(Rng::seeded(1));
        keeper.handle_wanted();
        assert!(keeper.poll_fetch(at(0)));
        assert_eq!(keeper.patience(at(1)), None, "nothing is known of it");
        keeper.handle_failure(false, at(5000));
        assert_eq!(keeper.patience(at(5001)), Some(at(5001)), "it was asked a moment ago");
        keeper.handle_wanted();
        assert!(keeper.poll_fetch(at(6000)));
        assert_eq!(keeper.patience(at(6000)), Some(at(6500)));
        fetched(&mut keeper, 6000, 66_000);
        assert_eq!(keeper.patience(at(66_000)), None);
    }

    #[test]
    fn whoever_goes_on_waiting_is_waited_for() {
        let mut keeper = TokenKeeper::new(Rng::seeded(1));
        keeper.handle_wanted();
        assert!(keeper.poll_fetch(at(0)));
        keeper.handle_failure(true, at(5));
        assert!(keeper.is_backing_off(at(5)) && !keeper.poll_fetch(at(5)));
        let again = keeper.poll_timeout().expect("tried again");
        assert!(!keeper.is_backing_off(again) && keeper.poll_fetch(again));
        fetched(&mut keeper, 200, 300);
        assert_eq!(keeper.poll_timeout(), Some(at(1200)), "short lives make no storm");
    }
}
