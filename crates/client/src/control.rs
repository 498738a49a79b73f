//! The control task, one per client: keeps the metadata fresh and publishes each snapshot.

use std::sync::Arc;
use std::time::Duration;

use milena_core::backoff::Backoff;
use milena_core::metadata::{LeaderHint, Refresh, RefreshSettings, Snapshot, drop_unreliable_epochs};
use milena_core::{Failure, Rng};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use milena_wire::pool::Pool;
use tokio::sync::{mpsc, watch};

use crate::Address;
use crate::brokers::{anybody, ask_any, is_up};
use crate::clock::Clock;
use crate::connection::{Answer, Links, Typed};
use crate::interest::Concern;
use crate::report::report;
use crate::runtime::Together;
use crate::settings::ClientSettings;

/// What others tell the control task, besides what concerns topics ([`Concern`]).
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody met an answer that does not fit the metadata.
    Outdated,
    /// Answers named new leaders.
    Hints(Vec<LeaderHint>),
}

/// The control task, before it runs.
pub(crate) struct Control {
    settings: ClientSettings,
    clock: Clock,
    links: Arc<Links>,
    rng: Rng,
}

/// How often the buffer pools are trimmed. A buffer that nothing asked for between two trims is given back to the system: a busy
/// client asks for its buffers many times a second, and an idle one keeps none.
const TRIM_INTERVAL: Duration = Duration::from_secs(5);

impl Control {
    pub(crate) fn new(settings: ClientSettings, clock: Clock, links: Arc<Links>, rng: Rng) -> Self {
        Self { settings, clock, links, rng }
    }

    /// Asks the bootstrap servers, each once, for the first snapshot.
    pub(crate) async fn bootstrap(&self) -> Result<Snapshot, Failure> {
        let asked = self.ask(self.settings.bootstrap.clone(), &[]).await;
        let response = match asked {
            // A listener that requires SASL says nothing and hangs up. The next connection learns why.
            Err(failure) if failure.is_retriable() && self.links.peers().may_require_sasl() => {
                self.ask(self.settings.bootstrap.clone(), &[]).await
            }
            asked => asked,
        }?;
        let first = Snapshot::default().merge(&response, false);
        self.note_advertised(&first);
        Ok(first)
    }

    /// Keeps the metadata fresh until the last handle of the client is dropped, which closes `events`.
    pub(crate) async fn run(
        mut self,
        publish: watch::Sender<Arc<Snapshot>>,
        mut events: mpsc::Receiver<Event>,
        mut concerns: mpsc::UnboundedReceiver<Concern>,
        pools: [Pool; 2],
    ) {
        let settings = RefreshSettings {
            age_max: self.settings.metadata_age_max,
            backoff: Backoff { min: self.settings.retry_backoff, max: self.settings.retry_backoff_max },
        };
        let mut refresh = Refresh::new(settings, Rng::seeded(self.rng.next_u64()), self.clock.now());
        // Holds one request at most, because the machine sends none before the last one is answered.
        let mut asking = Together::new();
        let mut trim_at = self.clock.after(TRIM_INTERVAL);
        loop {
            // All concerns that are there are handled before anything is decided, so that a topic is not forgotten whose new
            // interest is waiting here.
            while let Ok(concern) = concerns.try_recv() {
                self.handle_concern(&mut refresh, concern);
            }
            if let Some(notice) = refresh.poll_notice() {
                report(&notice);
            }
            let forgotten = refresh.poll_forgotten(self.clock.now());
            if !forgotten.is_empty() {
                let next = publish.borrow().without(&forgotten);
                publish.send_replace(Arc::new(next));
            }
            if let Some(ask) = refresh.poll_ask(self.clock.now()) {
                asking.push(self.begin(&publish.borrow(), ask.topics));
            }
            let now = self.clock.now();
            if trim_at <= now {
                pools.iter().for_each(Pool::trim);
                trim_at = now + TRIM_INTERVAL;
            }
            let wake = refresh.poll_timeout().map_or(trim_at, |at| at.min(trim_at));
            tokio::select! {
                // The answer comes first because events may come without end. Events come before concerns, because all
                // concerns were handled above. The timer comes last, because what is due is done above at every turn.
                biased;
                Some(outcome) = asking.next() => match outcome {
                    Ok(response) => {
                        let mut next = publish.borrow().merge(&response, false);
                        refresh.handle_answer(&mut next, self.clock.now());
                        self.note_advertised(&next);
                        self.forget_links(&next);
                        publish.send_replace(Arc::new(next));
                    }
                    Err(failure) => {
                        let next = publish.borrow().with_trouble(failure.clone());
                        publish.send_replace(Arc::new(next));
                        refresh.handle_failure(failure, self.clock.now());
                    }
                },
                event = events.recv() => match event {
                    Some(Event::Outdated) => refresh.handle_outdated(),
                    Some(Event::Hints(hints)) => {
                        let next = publish.borrow().with_hints(&hints);
                        if let Some(next) = next {
                            publish.send_replace(Arc::new(next));
                        }
                    }
                    None => return,
                },
                Some(concern) = concerns.recv() => self.handle_concern(&mut refresh, concern),
                () = self.clock.sleep_until(Some(wake)) => {}
            }
        }
    }

    fn handle_concern(&self, refresh: &mut Refresh, concern: Concern) {
        match concern {
            Concern::Taken(topic) => refresh.handle_interest(&topic),
            Concern::GivenBack(topic) => refresh.handle_given_back(&topic, self.clock.now()),
            Concern::Doubt => refresh.handle_doubt(self.clock.now()),
            Concern::Changed => refresh.handle_changed(),
        }
    }

    fn begin(
        &mut self,
        snapshot: &Snapshot,
        topics: Vec<Arc<str>>,
    ) -> impl Future<Output = Result<MetadataResponse, Failure>> + Send + use<> {
        let addresses = anybody(snapshot, &self.settings.bootstrap, &mut self.rng);
        let control = Self {
            settings: self.settings.clone(),
            clock: self.clock.clone(),
            links: Arc::clone(&self.links),
            rng: self.rng.clone(),
        };
        async move { control.ask(addresses, &topics).await }
    }

    async fn ask(&self, addresses: Vec<Address>, topics: &[Arc<str>]) -> Result<MetadataResponse, Failure> {
        let topic =
            |topic: &Arc<str>| MetadataRequestTopic { name: Some((&**topic).into()), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(topics.iter().map(topic).collect()),
            allow_auto_topic_creation: self.settings.auto_create_topics,
            ..Default::default()
        };
        let request = Typed { request, version_max: i16::MAX };
        let limit = self.settings.connect_timeout.min(self.settings.request_timeout);
        let read = |answer: Answer| {
            let version = answer.version;
            let mut response = answer.decode()?;
            drop_unreliable_epochs(&mut response, version);
            Ok(response)
        };
        ask_any(&self.links, &self.clock, addresses, &request, |now| now + limit, read).await
    }

    /// Notes which broker advertises which address, so that an error about an address that is in no setting of the user's can
    /// say where it comes from.
    fn note_advertised(&self, snapshot: &Snapshot) {
        let brokers = snapshot.brokers.values().map(|broker| (Address::of(broker), broker.id));
        self.links.peers().note_advertised(brokers, |address| self.settings.bootstrap.contains(address));
    }

    /// Closes links to brokers that are not in `snapshot` any more, but for the bootstrap servers.
    fn forget_links(&self, snapshot: &Snapshot) {
        let is_current =
            |address: &Address| self.settings.bootstrap.contains(address) || is_up(snapshot, address);
        self.links.retain(is_current);
        self.links.peers().retain(is_current);
    }
}
