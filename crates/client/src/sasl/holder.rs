//! Gives a client's connections what they authenticate with. Tokens are kept by one task per client.

use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use milena_core::lifecycle::Need;
use milena_core::sasl::{Credentials, Custom, Fresh, Password, Token as CoreToken, TokenKeeper, Use, Worked};
use milena_core::{Failure, Instant, Obstacle, Rng};
use tokio::sync::{mpsc, oneshot};

use super::{Login, Nonces, ProvideToken, Providing, Sasl, Source, Token};
use crate::ConnectError;
use crate::clock::Clock;
use crate::runtime::Executor;

/// What all connections of a client authenticate with. The task that keeps the token ends when this is dropped.
pub(crate) struct Holder {
    sasl: Sasl,
    nonces: Nonces,
    runtime: Executor,
    clock: Clock,
    /// How long a provider may take.
    timeout: Duration,
    /// To the task that keeps the token, if the mechanism has one.
    wants: Option<mpsc::UnboundedSender<Want>>,
    /// Whose the last credentials are, for errors.
    principal: Mutex<Option<Arc<str>>>,
}

/// Somebody who waits for a token.
struct Want {
    purpose: Use,
    /// When it is told the last error, if no fetch has ended by then.
    until: Option<Instant>,
    reply: oneshot::Sender<Result<Arc<Credentials>, ConnectError>>,
}

/// What was done for a connection.
pub(crate) enum Assistance {
    /// Credentials for its next session, with what is new in it, or none at present.
    Credentials(Option<(Arc<Credentials>, Fresh)>),
    /// The result of its work. None if the client's runtime has ended.
    Worked(Option<Worked>),
}

/// Something that is being done for a connection.
pub(crate) type Assisting = Pin<Box<dyn Future<Output = Assistance> + Send>>;

impl Holder {
    pub(crate) fn start(
        sasl: Sasl,
        nonces: Nonces,
        runtime: &Executor,
        clock: &Clock,
        timeout: Duration,
        rng: Rng,
    ) -> Self {
        let provider = match &sasl.source {
            Source::Logins { .. } | Source::Custom(_) => None,
            Source::Tokens(provider) => Some(Provider::Tokens(Arc::clone(provider))),
            #[cfg(feature = "aws-msk-iam")]
            Source::Aws(provider) => Some(Provider::Aws(Arc::clone(provider))),
        };
        let wants = provider.map(|provider| {
            // Each of them is a connection that is being made or renewed, so their number is bounded.
            let (wants, inbox) = mpsc::unbounded_channel();
            let (clock, keeper) = (clock.clone(), TokenKeeper::new(rng));
            runtime.spawn_here(Task { provider, clock, timeout, keeper, waiting: Vec::new() }.run(inbox));
            wants
        });
        Self {
            sasl,
            nonces,
            runtime: runtime.clone(),
            clock: clock.clone(),
            timeout,
            wants,
            principal: Mutex::default(),
        }
    }

    /// Who the client is to the brokers, as in `User:alice`. None before the first connection, and if the credentials do not tell.
    pub(crate) fn principal(&self) -> Option<Arc<str>> {
        self.principal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a new connection to `peer`, a broker at `host`, begins with.
    pub(crate) async fn for_connection(
        &self,
        peer: &Arc<str>,
        host: &str,
    ) -> Result<(Arc<Credentials>, Fresh), Failure> {
        let found = self.credentials(Use::Connect).await;
        let found = found.and_then(|credentials| {
            check_region(&credentials, host)?;
            Ok((credentials, self.fresh()?))
        });
        found.map_err(|error| {
            let (mechanism, obstacle) = (self.sasl.mechanism(), error.obstacle());
            let reason = error.to_string().into();
            Failure::Unauthenticated { peer: Arc::clone(peer), mechanism, code: None, obstacle, reason }
        })
    }

    /// Does what a connection needs.
    pub(crate) fn assist(self: &Arc<Self>, need: Need) -> Assisting {
        let this = Arc::clone(self);
        match need {
            Need::Credentials => Box::pin(async move {
                let found = this.credentials(Use::Renew).await;
                let found = found.and_then(|credentials| Ok((credentials, this.fresh()?)));
                if let Err(error) = &found {
                    tracing::warn!(target: "milena", "a session cannot be renewed: {error}; trying again");
                }
                Assistance::Credentials(found.ok())
            }),
            // It takes milliseconds, which is too long for a task that others wait behind, or it may block.
            Need::Work(work) => Box::pin(async move {
                let (done, worked) = oneshot::channel();
                this.runtime.spawn_blocking(move || drop(done.send(work.run())));
                Assistance::Worked(worked.await.ok())
            }),
        }
    }

    /// What is new in the next exchange.
    fn fresh(&self) -> Result<Fresh, ConnectError> {
        Ok(Fresh { nonce: self.nonces.next()?, unix_seconds: self.clock.unix_ms() / 1000 })
    }

    pub(super) async fn credentials(&self, purpose: Use) -> Result<Arc<Credentials>, ConnectError> {
        let credentials = match (&self.sasl.source, &self.wants) {
            (Source::Logins { scram, provider }, _) => {
                let what = "the password";
                let Login { user, password, is_delegation_token } =
                    provided(&self.clock, self.timeout, what, || provider.login()).await?;
                let scram = *scram;
                Arc::new(Credentials::Password(Password { scram, user, password, is_delegation_token }))
            }
            (Source::Custom(mechanism), _) => Arc::new(Credentials::Custom(Custom(Arc::clone(mechanism)))),
            (_, Some(wants)) => {
                let (reply, answer) = oneshot::channel();
                // If the task has ended, so has the client's runtime, and this future with it.
                let _ = wants.send(Want { purpose, until: None, reply });
                match answer.await {
                    Ok(answer) => answer?,
                    Err(_) => pending().await,
                }
            }
            (_, None) => pending().await,
        };
        credentials.check().map_err(|why| ConnectError::new(Obstacle::Configuration, why))?;
        *self.principal.lock().unwrap_or_else(PoisonError::into_inner) = credentials.principal();
        Ok(credentials)
    }
}

/// What the application's provider says, within `timeout`. If it panics, its error says so: the panic must not end the task
/// that others wait for.
async fn provided<T>(
    clock: &Clock,
    timeout: Duration,
    what: &str,
    ask: impl FnOnce() -> Providing<T>,
) -> Result<T, ConnectError> {
    let panicked = || ConnectError::new(Obstacle::Configuration, format!("the provider of {what} panicked"));
    let providing = catch_unwind(AssertUnwindSafe(ask)).map_err(|_| panicked())?;
    let mut providing = pin!(providing);
    let guarded = std::future::poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| providing.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(Err(panicked())))
    });
    let late = || {
        ConnectError::new(Obstacle::Network, format!("the provider did not give {what} within {timeout:?}"))
    };
    clock.timeout_at(clock.after(timeout), guarded).await.unwrap_or_else(|| Err(late()))
}

/// Refuses keys of AWS for a broker whose region is not known.
fn check_region(credentials: &Credentials, host: &str) -> Result<(), ConnectError> {
    match credentials {
        Credentials::Aws(keys) if keys.region_of(host).is_none() => {
            let why = format!(
                "the AWS region of the broker is not known: its host name {host:?} does not have it; set AWS_REGION, or \
                 with_region of the credentials"
            );
            Err(ConnectError::new(Obstacle::Configuration, why))
        }
        _ => Ok(()),
    }
}

/// Where the credentials come from that are kept.
#[derive(Clone)]
enum Provider {
    Tokens(Arc<dyn ProvideToken>),
    #[cfg(feature = "aws-msk-iam")]
    Aws(Arc<dyn crate::aws::ProvideCredentials>),
}

impl Provider {
    fn has_changed(&self) -> bool {
        match self {
            Self::Tokens(provider) => provider.has_changed(),
            // Keys that end are fetched before that, and other ones are looked up again after a while.
            #[cfg(feature = "aws-msk-iam")]
            Self::Aws(_) => false,
        }
    }
}

/// The task that keeps the token.
struct Task {
    provider: Provider,
    clock: Clock,
    timeout: Duration,
    keeper: TokenKeeper,
    waiting: Vec<Want>,
}

impl Task {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Want>) {
        let mut fetching: Option<Providing<(Credentials, Instant)>> = None;
        let mut last_error = None;
        loop {
            if self.keeper.poll_fetch(self.clock.now()) {
                fetching = Some(Box::pin(fetch(self.provider.clone(), self.clock.clone(), self.timeout)));
            }
            let fetched = async {
                match &mut fetching {
                    Some(fetching) => fetching.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                // Whoever asks at the same time is told the same.
                biased;
                want = inbox.recv() => match want {
                    Some(want) => self.handle_want(want, last_error.as_ref()),
                    None => return,
                },
                outcome = fetched => {
                    fetching = None;
                    last_error = outcome.as_ref().err().cloned();
                    self.handle_fetched(outcome);
                }
                () = self.clock.sleep_until(self.wakes_at()) => self.tell_impatient(last_error.as_ref()),
            }
        }
    }

    fn wakes_at(&self) -> Option<Instant> {
        let impatient = self.waiting.iter().filter_map(|want| want.until);
        impatient.chain(self.keeper.poll_timeout()).min()
    }

    /// Tells those who have waited long enough for a fetch that is under way, which goes on for those who ask next.
    fn tell_impatient(&mut self, last_error: Option<&ConnectError>) {
        let (now, Some(error)) = (self.clock.now(), last_error) else { return };
        for want in self.waiting.extract_if(.., |want| want.until.is_some_and(|until| until <= now)) {
            drop(want.reply.send(Err(error.clone())));
        }
    }

    fn handle_want(&mut self, mut want: Want, last_error: Option<&ConnectError>) {
        let now = self.clock.now();
        // The provider is the application's, and may panic.
        let has_changed = || catch_unwind(AssertUnwindSafe(|| self.provider.has_changed())).unwrap_or(false);
        let is_outdated = want.purpose == Use::Connect && !self.keeper.is_backing_off(now) && has_changed();
        let token = self.keeper.usable(want.purpose, now).filter(|_| !is_outdated);
        if let Some(token) = token {
            // The connection may be gone.
            return drop(want.reply.send(Ok(Arc::clone(token))));
        }
        if let (Use::Connect, Some(until), Some(error)) =
            (want.purpose, self.keeper.patience(now), last_error)
        {
            // The issuer was asked a moment ago, and is not asked for each connection.
            if until <= now {
                return drop(want.reply.send(Err(error.clone())));
            }
            want.until = Some(until);
        }
        self.waiting.push(want);
        self.keeper.handle_wanted();
    }

    fn handle_fetched(&mut self, outcome: Result<(Credentials, Instant), ConnectError>) {
        let now = self.clock.now();
        match outcome {
            Ok((token, since)) => {
                self.keeper.handle_fetched(token, since);
                for want in self.waiting.drain(..) {
                    // It may have had a life too short to begin a session with, or a value that cannot be sent. The
                    // connection finds that out.
                    let token = self.keeper.usable(Use::Connect, now);
                    let token =
                        token.ok_or_else(|| ended("the token that the provider gave has ended already"));
                    drop(want.reply.send(token.cloned()));
                }
            }
            Err(error) => {
                // There is one if a newer one was wanted and is of no use.
                let present = self.keeper.usable(Use::Connect, now);
                for want in self.waiting.extract_if(.., |want| want.purpose == Use::Connect) {
                    let told = present.map_or_else(|| Err(error.clone()), |token| Ok(Arc::clone(token)));
                    drop(want.reply.send(told));
                }
                // A connection that is to be renewed goes on waiting, until its session ends. It is gone then.
                self.waiting.retain(|want| !want.reply.is_closed());
                self.keeper.handle_failure(!self.waiting.is_empty(), now);
                if self.keeper.usable(Use::Connect, now).is_some() {
                    let failures = self.keeper.failures();
                    tracing::warn!(target: "milena", "the token could not be fetched again ({failures} times): {error}");
                }
            }
        }
    }
}

fn ended(why: &str) -> ConnectError {
    ConnectError::new(Obstacle::Credentials, why)
}

/// What the provider gives, and when it was asked.
async fn fetch(
    provider: Provider,
    clock: Clock,
    timeout: Duration,
) -> Result<(Credentials, Instant), ConnectError> {
    let since = clock.now();
    let fetched = match provider {
        Provider::Tokens(provider) => {
            let Token { value, lifetime, extensions, principal } =
                provided(&clock, timeout, "a token", || provider.token()).await?;
            if lifetime.is_zero() {
                return Err(ended("the token that the provider gave has ended already"));
            }
            Credentials::Token(CoreToken { value, extensions, principal, since, until: since + lifetime })
        }
        #[cfg(feature = "aws-msk-iam")]
        Provider::Aws(provider) => {
            let keys = provided(&clock, timeout, "AWS credentials", || provider.credentials()).await?;
            Credentials::Aws(keys.into_keys(since)?)
        }
    };
    Ok((fetched, since))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::watch;

    use super::*;

    const LIFE: Duration = Duration::from_secs(60);
    const TIMEOUT: Duration = Duration::from_secs(10);

    /// An issuer that hangs unless it is told otherwise, and counts who asks.
    #[derive(Clone)]
    struct Hangs {
        asked: Arc<AtomicUsize>,
        answers: Arc<watch::Sender<bool>>,
    }

    impl ProvideToken for Hangs {
        fn token(&self) -> Providing<Token> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let mut answers = self.answers.subscribe();
            Box::pin(async move {
                let _ = answers.wait_for(|answers| *answers).await;
                Ok(Token::new("t", LIFE))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_token_has_ended_callers_are_told_within_half_a_second_why_there_is_none() {
        let runtime = Executor::current().expect("a runtime");
        let clock = Clock::start(&runtime);
        let issuer = Hangs { asked: Arc::default(), answers: Arc::new(watch::channel(true).0) };
        let sasl = Sasl::oauth_bearer(issuer.clone());
        let rng = Rng::seeded(1);
        let holder = Holder::start(sasl, Nonces::System, &runtime, &clock, TIMEOUT, rng);
        let peer = Arc::from("b:1");
        let ask = async || {
            let since = clock.now();
            let outcome = holder.for_connection(&peer, "b").await;
            (clock.now() - since, outcome.map(drop))
        };
        assert!(ask().await.1.is_ok());
        issuer.answers.send_replace(false);
        tokio::time::sleep(LIFE).await;
        let asked = issuer.asked.load(Ordering::Relaxed);
        for _ in 0..20 {
            let (took, outcome) = ask().await;
            assert!(took <= Duration::from_millis(500), "{took:?}");
            let failure = outcome.expect_err("it hangs");
            assert!(failure.is_want_of_credentials() && failure.is_retriable(), "{failure}");
            let says = "the provider did not give a token within 10s";
            assert!(failure.to_string().ends_with(says), "{failure}");
        }
        let fetches = issuer.asked.load(Ordering::Relaxed) - asked;
        assert!(fetches <= 2, "{fetches} fetches for 20 callers within 10 s");
        // When no backoff is left, a caller begins a fetch. It goes on when the caller is told, and whoever asks next gains by it.
        tokio::time::sleep(TIMEOUT * 3).await;
        assert_eq!(ask().await.0, Duration::from_millis(500));
        let asked = issuer.asked.load(Ordering::Relaxed);
        issuer.answers.send_replace(true);
        let (took, outcome) = ask().await;
        assert!(outcome.is_ok(), "{outcome:?}");
        assert_eq!((took, issuer.asked.load(Ordering::Relaxed)), (Duration::ZERO, asked));
    }
}
