//! The push of the client's metrics to brokers (KIP-714): the task that asks and pushes, and what a client tells of itself.
//!
//! ```text
//!  core's Telemetry ─ what is due ─▶ Task ─ GetTelemetrySubscriptions, PushTelemetry ─▶ one broker
//!                                     ├─ Registry ─ snapshots ─▶ points.rs, java.rs ─▶ otlp.rs ─▶ compressed
//!                                     └─ the client's id ─▶ Client::client_instance_id
//! ```
//!
//! There is a task only if the client counts in a registry. It shares the client's own links, holds no handle of the client, and ends
//! with the last of them, after a last push. Nothing waits for it.

mod enrolled;
mod java;
mod otlp;
mod points;
mod push;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use milena_core::metadata::Snapshot;
use milena_core::telemetry::{Ask, Instance, Push, Telemetry};
use milena_core::{Failure, Rng};
use milena_messages::Request;
use milena_messages::get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest;
use milena_messages::push_telemetry::PushTelemetryRequest;
use milena_wire::codec::Compression;
use tokio::sync::{oneshot, watch};

pub(crate) use self::enrolled::{Enrolled, Roll};
use self::push::Counted;
use crate::brokers::{anybody, ask_on, is_up};
use crate::clock::Clock;
use crate::connection::{Links, Typed};
use crate::metrics::Registry;
use crate::runtime::Executor;
use crate::settings::ClientSettings;
use crate::{Address, Client, Consumer, Error, Producer};

/// How long the last push may take after the last handle of a client was dropped, and at most otherwise.
const LAST_PUSH_MAX: Duration = Duration::from_secs(5);

/// The client's side of the task.
pub(crate) struct Pushing {
    instance: watch::Receiver<Instance>,
    /// True when the client is to push for the last time. Dropping it means the same.
    ending: watch::Sender<bool>,
    pub(crate) roll: Arc<Roll>,
}

/// The task.
struct Task {
    machine: Telemetry,
    settings: ClientSettings,
    clock: Clock,
    runtime: Executor,
    links: Arc<Links>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    rng: Rng,
    counted: Arc<Mutex<Counted>>,
    roll: Arc<Roll>,
    /// The broker that answered last. Kafka knows a client by its connection, so another broker is asked only if it must be.
    broker: Option<Address>,
    instance: watch::Sender<Instance>,
    ending: watch::Receiver<bool>,
}

/// What the task needs of a client that is being made.
pub(crate) struct Parts<'a> {
    pub(crate) settings: &'a ClientSettings,
    pub(crate) rack: &'a str,
    pub(crate) clock: &'a Clock,
    pub(crate) runtime: &'a Executor,
    pub(crate) links: &'a Arc<Links>,
    pub(crate) snapshot: &'a watch::Receiver<Arc<Snapshot>>,
}

impl Pushing {
    /// Starts the task.
    pub(crate) fn start(parts: &Parts<'_>, registry: &Registry, mut rng: Rng) -> Self {
        let (told, instance) = watch::channel(Instance::Unknown);
        let (ending, ended) = watch::channel(false);
        let roll = Arc::new(Roll::new(parts.rack));
        let now = parts.clock.now();
        let codecs = Compression::ALL.into_iter().filter(|codec| codec.is_built_in()).collect();
        let task = Task {
            machine: Telemetry::new(codecs, Rng::seeded(rng.next_u64()), now),
            settings: parts.settings.clone(),
            clock: parts.clock.clone(),
            runtime: parts.runtime.clone(),
            links: Arc::clone(parts.links),
            snapshot: parts.snapshot.clone(),
            rng,
            counted: Arc::new(Mutex::new(Counted::new(registry.clone(), now, parts.clock.unix_ms()))),
            roll: Arc::clone(&roll),
            broker: None,
            instance: told,
            ending: ended,
        };
        parts.runtime.spawn_here(task.run());
        Self { instance, ending, roll }
    }
}

impl Task {
    async fn run(mut self) {
        loop {
            if let Some(ask) = self.machine.poll_ask(self.clock.now()) {
                self.ask(ask).await;
                self.tell();
                continue;
            }
            if self.machine.has_ended() {
                return self.tell();
            }
            tokio::select! {
                // What is due may be due all the time; the end must not wait for it.
                biased;
                () = ended(&mut self.ending) => self.machine.handle_close(),
                () = self.clock.sleep_until(self.machine.poll_timeout()) => {}
            }
        }
    }

    fn tell(&self) {
        let instance = self.machine.instance();
        self.instance.send_if_modified(|known| {
            let is_new = *known != instance;
            *known = instance;
            is_new
        });
    }

    async fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Get(client_instance_id) => {
                let request = GetTelemetrySubscriptionsRequest { client_instance_id, ..Default::default() };
                match self.send(request, self.settings.request_timeout).await {
                    None => {}
                    Some(Ok(response)) => {
                        self.machine.handle_subscription(&response, self.clock.now());
                        if self.machine.is_subscribed() {
                            self.counted().begin(self.clock.now());
                        }
                    }
                    Some(Err(failure)) => drop(self.machine.handle_failure(&failure, self.clock.now())),
                }
            }
            Ask::Push(push) => self.push(push).await,
        }
    }

    async fn push(&mut self, push: Push) {
        let (client_instance_id, subscription_id, is_last) =
            (push.client_instance_id, push.subscription_id, push.is_last);
        let made = self.make(push).await;
        self.machine.note_pushing(made.plain_bytes);
        let request = PushTelemetryRequest {
            client_instance_id,
            subscription_id,
            terminating: is_last,
            compression_type: made.compression.attributes() as i8,
            metrics: made.bytes,
            ..Default::default()
        };
        let within = if is_last { LAST_PUSH_MAX } else { self.settings.request_timeout };
        let has_arrived = match self.send(request, within).await {
            // The client has ended, and a last push follows or not.
            None => false,
            Some(Ok(response)) => self.machine.handle_pushed(response.error_code, self.clock.now()),
            Some(Err(failure)) => self.machine.handle_failure(&failure, self.clock.now()),
        };
        self.counted().settle(has_arrived);
    }

    /// Makes a payload on a thread for such work: it may have a megabyte to compress.
    async fn make(&self, push: Push) -> push::Made {
        let (made, waiting) = oneshot::channel();
        let counted = Arc::clone(&self.counted);
        let (labels, has) = self.roll.describe();
        let (now, now_ms) = (self.clock.now(), self.clock.unix_ms());
        self.runtime.spawn_blocking(move || {
            let mut counted = counted.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = made.send(counted.make(&push, &labels, has, now, now_ms));
        });
        // Without a runtime there is nothing to push from.
        waiting.await.unwrap_or_default()
    }

    /// Sends a request to the broker that answered last, or to another one if that is gone. None if the client ends meanwhile and
    /// does not need the answer.
    async fn send<R: Request<Response: Send> + Send + Sync + 'static>(
        &mut self,
        request: R,
        within: Duration,
    ) -> Option<Result<R::Response, Failure>> {
        let Some(address) = self.address() else {
            return Some(Err(Failure::NoRoute("the client knows no broker".into())));
        };
        let link = self.links.to(&address);
        let (clock, request) = (self.clock.clone(), Typed { request, version_max: i16::MAX });
        let asking = ask_on(&link, &clock, request, clock.after(within));
        let mut asking = std::pin::pin!(asking);
        // If the client has ended already this is its last push, which has a limit of its own.
        let mut hurry = has_ended(&self.ending).then(|| clock.after(within));
        let outcome = loop {
            tokio::select! {
                // An answer that is there counts, however late it is looked at.
                biased;
                outcome = &mut asking => break outcome,
                () = ended(&mut self.ending), if hurry.is_none() => {
                    self.machine.handle_close();
                    if self.machine.has_ended() {
                        return None;
                    }
                    hurry = Some(clock.after(LAST_PUSH_MAX));
                }
                () = clock.sleep_until(hurry), if hurry.is_some() => {
                    break Err(Failure::TimedOut { peer: link.peer(), after: LAST_PUSH_MAX, sent: true });
                }
            }
        };
        let outcome = outcome.and_then(|answer| answer.decode::<R::Response>());
        match &outcome {
            Ok(_) => self.broker = Some(address),
            Err(_) => {
                self.links.note_failure(address);
                self.broker = None;
            }
        }
        Some(outcome)
    }

    fn address(&mut self) -> Option<Address> {
        let snapshot = Arc::clone(&self.snapshot.borrow());
        if let Some(known) = self.broker.clone().filter(|known| is_up(&snapshot, known)) {
            return Some(known);
        }
        let addresses = anybody(&snapshot, &self.settings.bootstrap, &mut self.rng);
        self.links.in_turn(addresses).into_iter().next()
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_ended(ending: &watch::Receiver<bool>) -> bool {
    // A dropped sender means that the last handle of the client is gone.
    *ending.borrow() || ending.has_changed().is_err()
}

/// Ready when the client ends.
async fn ended(ending: &mut watch::Receiver<bool>) {
    let _ = ending.wait_for(|ending| *ending).await;
}

impl Client {
    /// The id by which brokers know this client when it pushes its metrics (KIP-714), as Kafka writes it; the broker that is asked
    /// first makes it. Java's `clientInstanceId(Duration)`.
    ///
    /// A client pushes if it counts in a registry ([`ClientBuilder::metrics`](crate::ClientBuilder::metrics)) and
    /// [`ClientSettings::metrics_push`] is not turned off, and then only what brokers ask for.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # let bootstrap = cluster.bootstrap();
    /// use std::time::Duration;
    ///
    /// use milena::{Client, metrics::Registry};
    ///
    /// let client = Client::builder().bootstrap(bootstrap).metrics(&Registry::new()).connect().await?;
    /// let id = client.client_instance_id(Duration::from_secs(10)).await?;
    /// assert_eq!(id.len(), 22);
    ///
    /// let silent = Client::connect(bootstrap).await?;
    /// assert!(silent.client_instance_id(Duration::ZERO).await.is_err(), "it has no registry");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the client pushes no metrics, when brokers do not take them, and when no broker has answered within `timeout`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn client_instance_id(&self, timeout: Duration) -> Result<String, Error> {
        let wrong = |why: &str| Error::caller("getting the client instance id", why);
        let Some(pushing) = &self.0.pushing else {
            return Err(wrong(
                "this client pushes no metrics: it needs a registry (ClientBuilder::metrics), and metrics_push must be on",
            ));
        };
        let mut instance = pushing.instance.clone();
        let clock = &self.0.clock;
        let known = instance.wait_for(|instance| *instance != Instance::Unknown);
        let waiting = self.0.runtime.entered(|| clock.timeout_at(clock.after(timeout), known));
        match waiting.await {
            Some(Ok(instance)) => match &*instance {
                Instance::Known(id) => Ok(id.to_string()),
                Instance::Refused(why) => Err(wrong(why)),
                Instance::Unknown => Err(wrong("it is not known")),
            },
            Some(Err(_)) => Err(Error::harmless("getting the client instance id", Failure::Closed)),
            None => {
                let late = format!("no broker has given one within {timeout:?}");
                Err(Error::harmless("getting the client instance id", Failure::NoRoute(late.into())))
            }
        }
    }

    /// Pushes the client's metrics for the last time, if brokers ask for them, and waits until that is done or `timeout` has passed.
    /// The client goes on and pushes no more.
    ///
    /// Without this call the last push is made when the last handle of the client is dropped, with its producers and consumers, if the
    /// runtime goes on for as long. A program that ends then loses it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # let bootstrap = cluster.bootstrap();
    /// use std::time::Duration;
    ///
    /// use milena::{Client, metrics::Registry};
    ///
    /// let client = Client::builder().bootstrap(bootstrap).metrics(&Registry::new()).connect().await?;
    /// // ... after all producers and consumers were closed:
    /// client.push_last_metrics(Duration::from_secs(1)).await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    /// If the future is dropped, the last push is made nevertheless.
    pub async fn push_last_metrics(&self, timeout: Duration) {
        let Some(pushing) = &self.0.pushing else { return };
        pushing.ending.send_replace(true);
        let clock = &self.0.clock;
        let gone = pushing.ending.closed();
        self.0.runtime.entered(|| clock.timeout_at(clock.after(timeout), gone)).await;
    }

    /// Notes a producer or consumer, for what metrics say of the client. None if no metrics are pushed.
    pub(crate) fn enrol(&self, enrolled: Enrolled) -> Option<Arc<Enrolled>> {
        Some(self.0.pushing.as_ref()?.roll.add(enrolled))
    }
}

impl Producer {
    /// The id by which brokers know this producer's client: [`Client::client_instance_id`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn client_instance_id(&self, timeout: Duration) -> Result<String, Error> {
        self.client().client_instance_id(timeout).await
    }
}

impl Consumer {
    /// The id by which brokers know this consumer's client: [`Client::client_instance_id`].
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn client_instance_id(&self, timeout: Duration) -> Result<String, Error> {
        self.client().client_instance_id(timeout).await
    }
}
