//! Asking brokers: one request, one answer. Where it goes, what is asked of several brokers, and what is tried again.

use std::time::Duration;

use milena_core::metadata::{Broker, Destination, Snapshot};
use milena_core::{BrokerId, Failure, Instant, Rng};
use milena_messages::Request;

use crate::clock::Clock;
use crate::connection::{Answer, Call, Link, Links, Reply, Typed};
use crate::runtime::Together;
use crate::{Address, Client};

/// A request that can be asked of several brokers.
pub(crate) trait Question: Request<Response: Send + 'static> + Clone + Send + Sync + 'static {}

impl<R: Request<Response: Send + 'static> + Clone + Send + Sync + 'static> Question for R {}

/// How long a connection may take to say that a deadline has passed.
const GRACE: Duration = Duration::from_millis(100);
/// A broker that has not answered for this long is probably down, and another may know.
const SILENCE_MAX: Duration = Duration::from_secs(1);

impl Client {
    /// One request and its answer. A request for any broker is asked of the next one as well when the first is silent
    /// for a second; any other goes out once.
    ///
    /// # Cancel safety
    /// The request may have been sent and acted upon; its answer is thrown away when it comes.
    pub(crate) async fn ask<R: Question>(
        &self,
        destination: &Destination,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, Failure> {
        self.ask_up_to(i16::MAX, destination, request, deadline).await
    }

    /// As [`ask`](Self::ask), for a request that cannot be written at versions above `version_max`.
    pub(crate) async fn ask_up_to<R: Question>(
        &self,
        version_max: i16,
        destination: &Destination,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, Failure> {
        let snapshot = self.snapshot();
        let deadline = deadline.min(self.0.clock.after(self.0.settings.client.request_timeout));
        let request = Typed { request: request.clone(), version_max };
        match snapshot.route(destination)? {
            Some(broker) => {
                let link = self.0.links.to(&address_of(&snapshot, broker)?);
                ask_on(&link, &self.0.clock, request, deadline).await?.decode()
            }
            None => self.read_from_any(&request, deadline, |answer| answer.decode()).await,
        }
    }

    /// The answer of any broker that has answered by `deadline` with what decodes.
    ///
    /// # Cancel safety
    /// As [`ask`](Self::ask).
    pub(crate) async fn answer_from_any<R: Question>(
        &self,
        request: Typed<R>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let deadline = deadline.min(self.0.clock.after(self.0.settings.client.request_timeout));
        let check = |answer: Answer| answer.decode::<R::Response>().map(|_| answer);
        self.read_from_any(&request, deadline, check).await
    }

    async fn read_from_any<R: Question, T>(
        &self,
        request: &Typed<R>,
        deadline: Instant,
        read: impl Fn(Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let addresses = anybody(&self.snapshot(), &self.0.settings.client.bootstrap, &mut self.rng());
        ask_any(&self.0.links, &self.0.clock, addresses, request, |_| deadline, read).await
    }
}

/// Where `broker` listens.
pub(crate) fn address_of(snapshot: &Snapshot, broker: BrokerId) -> Result<Address, Failure> {
    let found = snapshot.brokers.get(&broker);
    let found = found.ok_or_else(|| Failure::NoRoute(format!("broker {broker} is not up").into()))?;
    Ok(Address::of(found))
}

/// Whether a broker in `snapshot` listens on `address`.
pub(crate) fn is_up(snapshot: &Snapshot, address: &Address) -> bool {
    let listens = |broker: &Broker| (&*broker.host, broker.port) == (address.host(), address.port());
    snapshot.brokers.values().any(listens)
}

/// Whom to ask what any broker can answer, in this order. When all known brokers are gone, the bootstrap servers may know
/// others (KIP-899).
pub(crate) fn anybody(snapshot: &Snapshot, bootstrap: &[Address], rng: &mut Rng) -> Vec<Address> {
    let mut addresses: Vec<_> = snapshot.brokers.values().map(Address::of).collect();
    let first = rng.below(addresses.len() as u32);
    addresses.rotate_left(first as usize);
    for address in bootstrap {
        if !addresses.contains(address) {
            addresses.push(address.clone());
        }
    }
    addresses
}

/// One request on one link.
pub(crate) async fn ask_on<R: Request + Send + Sync + 'static>(
    link: &Link,
    clock: &Clock,
    request: Typed<R>,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let (reply, outcome) = Reply::channel();
    let timeout = deadline - clock.now();
    link.send(Call::new(request, deadline, timeout, reply));
    // The connection watches the deadline too and knows better what happened; this is for when there is none yet.
    match clock.timeout_at(deadline + GRACE, outcome).await {
        Some(outcome) => outcome.unwrap_or(Err(Failure::Closed)),
        None => Err(Failure::TimedOut { peer: link.peer(), after: timeout, sent: true }),
    }
}

/// One request that any broker can answer. The brokers are asked one after another until one answers. One that stays
/// silent does not hold the others up: the next is asked meanwhile, and the first answer counts. A broker that was silent
/// or failed is asked after the other brokers for a while, see [`Links::in_turn`]. `deadline` tells, from the time of
/// asking, until when a broker may answer. An answer that `read` refuses is a failure of its broker.
pub(crate) async fn ask_any<R: Question, T>(
    links: &Links,
    clock: &Clock,
    addresses: Vec<Address>,
    request: &Typed<R>,
    deadline: impl Fn(Instant) -> Instant,
    read: impl Fn(Answer) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut addresses = links.in_turn(addresses).into_iter();
    let mut asked = Together::new();
    // Those asked since a pause last ended.
    let mut waited_for = Vec::new();
    let mut failures = Vec::new();
    loop {
        match addresses.next() {
            Some(address) => {
                let (link, request, until) = (links.to(&address), request.clone(), deadline(clock.now()));
                waited_for.push(address.clone());
                asked.push(async move { (address, ask_on(&link, clock, request, until).await) });
            }
            None if asked.is_empty() => return Err(Failure::all(failures)),
            None => {}
        }
        let patience = (addresses.len() > 0).then(|| clock.after(SILENCE_MAX));
        tokio::select! {
            // An answer that is there counts, however late it is looked at.
            biased;
            Some((address, outcome)) = asked.next() => match outcome.and_then(&read) {
                Ok(response) => {
                    links.note_answer(&address);
                    return Ok(response);
                }
                Err(failure) => {
                    links.note_failure(address);
                    failures.push(failure);
                }
            },
            () = clock.sleep_until(patience) => waited_for.drain(..).for_each(|silent| links.note_failure(silent)),
        }
    }
}
