//! The brokers of a snapshot, and how one of them, or one after another, is asked one request.
//!
//! This must not know what a request means, and tries nothing again.

use std::time::Duration;

use milena_core::metadata::{Broker, Snapshot};
use milena_core::{BrokerId, Failure, Instant, Rng};
use milena_messages::Request;

use crate::Address;
use crate::clock::Clock;
use crate::connection::{Answer, Call, Link, Links, Reply, Typed};
use crate::runtime::Together;

/// A request that can be sent to several brokers.
pub(crate) trait Question: Request<Response: Send + 'static> + Clone + Send + Sync + 'static {}

impl<R: Request<Response: Send + 'static> + Clone + Send + Sync + 'static> Question for R {}

/// How long after a deadline the connection may take to report that it has passed.
const GRACE: Duration = Duration::from_millis(100);
/// A broker that has not answered for this long is probably down, so the next one is asked.
const SILENCE_MAX: Duration = Duration::from_secs(1);

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

/// The addresses to ask, in this order, if any broker can answer: the known brokers from a random one on, then the bootstrap
/// servers, which may know other brokers if all known ones are gone (KIP-899).
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

/// Sends one request over one link, and waits for its answer until `deadline`.
pub(crate) async fn ask_on<R: Request + Send + Sync + 'static>(
    link: &Link,
    clock: &Clock,
    request: Typed<R>,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let (reply, outcome) = Reply::channel();
    let timeout = deadline - clock.now();
    let call = Call::new(request, deadline, timeout, reply);
    let claim = call.claim();
    link.send(call);
    // The connection watches the deadline too, and its error says more. This timer counts while there is no connection yet.
    match clock.timeout_at(deadline + GRACE, outcome).await {
        Some(outcome) => outcome.unwrap_or(Err(Failure::Closed)),
        // What no connection has begun with is taken back, and was not sent.
        None => Err(Failure::TimedOut { peer: link.peer(), after: timeout, sent: !claim.recall() }),
    }
}

/// Asks one broker after another until one answers, for a request that any broker can answer. If a broker is silent for
/// [`SILENCE_MAX`], the next one is asked as well, and the first answer counts. A broker that was silent or failed is asked
/// after all other brokers for a while, see [`Links::in_turn`]. `deadline` turns the time at which a broker is asked into the
/// time until which it may answer. An answer that `read` refuses counts as a failure of its broker. If a broker refuses the
/// client's credentials, or the client has none at present, no other one is asked.
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
    // The brokers asked since the last one was found silent. When the next timer ends, they have
    // all been silent that long, or have failed.
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
                // No broker has anything to do with it.
                Err(failure) if failure.is_want_of_credentials() => return Err(failure),
                Err(failure) => {
                    links.note_failure(address);
                    if failure.is_refusal_of_credentials() {
                        return Err(failure);
                    }
                    failures.push(failure);
                }
            },
            () = clock.sleep_until(patience) => waited_for.drain(..).for_each(|silent| links.note_failure(silent)),
        }
    }
}
