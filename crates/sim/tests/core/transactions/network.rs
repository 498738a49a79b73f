//! The connections between producers and brokers. On each of them requests arrive in their order, and so do answers. A
//! connection takes a while to be made, stalls, loses its answers and is cut. What was under way on a connection that was cut
//! may arrive seconds later, when other requests have arrived on the next connection.

use std::collections::BTreeMap;
use std::time::Duration;

use milena_core::metadata::Coordinated;
use milena_core::producer::{RequestId, Transmit};
use milena_core::transaction::{Ask, Response};
use milena_core::{BrokerId, Failure, Instant, Rng};
use milena_messages::produce::ProduceResponse;

pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// Something that happens at a time.
pub(super) enum Event {
    /// A connection is made, or refused.
    Connected(Address, u64),
    /// A request reaches its broker.
    Arrives(Letter),
    /// An answer reaches its producer, if the connection is still there.
    Answered(Address, u64, Answer),
    /// This connection breaks, if it is still there.
    Breaks(Address, u64),
    /// A request has no answer by its deadline, which ends its connection.
    Overdue(Address, u64),
    /// A producer's client refreshes its metadata.
    Metadata(usize),
    /// A producer's application goes on.
    Live(usize),
    /// Another instance of a transactional id starts.
    Launch(usize),
    /// Something goes wrong.
    Fault,
    /// The node that is down comes back.
    Start,
}

/// A connection: the producer, the broker and what the connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) producer: usize,
    pub(super) broker: i32,
    pub(super) lane: Lane,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lane {
    Records,
    Transaction,
    LookUps,
}

/// What its producer knows a request by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    Records(RequestId),
    Ask(u64),
    LookUp(Coordinated),
}

#[derive(Debug)]
pub(super) enum Call {
    Records(Transmit),
    Ask(Ask),
    LookUp(Coordinated),
}

pub(super) enum Answer {
    Records(ProduceResponse),
    Ask(Response),
    LookUp(Result<BrokerId, Failure>),
}

pub(super) struct Letter {
    pub(super) number: u64,
    pub(super) address: Address,
    pub(super) call: Call,
    pub(super) sent_at: Instant,
}

/// A connection, from its first request on.
struct Link {
    /// Tells it from earlier and later connections of its address.
    number: u64,
    state: State,
    /// The requests that are not answered.
    under_way: BTreeMap<u64, Key>,
    arrives: Instant,
    answers: Instant,
}

enum State {
    /// It is being made: nothing is written yet.
    Connecting(Vec<Letter>),
    Up,
    /// What is written stays on the way.
    Stuck(Vec<Letter>),
    /// No answer comes.
    Mute,
}

pub(super) struct Network {
    pub(super) now: Instant,
    pub(super) has_faults: bool,
    rng: Rng,
    events: BTreeMap<(Instant, u64), Event>,
    links: BTreeMap<Address, Link>,
    numbers: u64,
}

impl Network {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            now: Instant::ORIGIN,
            has_faults: true,
            rng,
            events: BTreeMap::new(),
            links: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub(super) fn chance(&mut self, percent: u32) -> bool {
        self.has_faults && self.rng.below(100) < percent
    }

    pub(super) fn below(&mut self, bound: u32) -> u32 {
        self.rng.below(bound)
    }

    /// A random time below so many milliseconds.
    pub(super) fn millis(&mut self, below: u32) -> Duration {
        Duration::from_micros(u64::from(self.rng.below(below * 1000)))
    }

    pub(super) fn schedule(&mut self, at: Instant, event: Event) {
        self.numbers += 1;
        self.events.insert((at, self.numbers), event);
    }

    pub(super) fn after(&mut self, delay: Duration, event: Event) {
        self.schedule(self.now + delay, event);
    }

    pub(super) fn next_at(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next event that is due.
    pub(super) fn pop(&mut self) -> Option<Event> {
        let first = self.events.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove())
    }

    /// A producer writes a request.
    pub(super) fn send(&mut self, address: Address, key: Key, call: Call) {
        self.numbers += 1;
        let letter = Letter { number: self.numbers, address, call, sent_at: self.now };
        let number = letter.number;
        self.schedule(self.now + REQUEST_TIMEOUT, Event::Overdue(address, number));
        let Some(link) = self.links.get_mut(&address) else { return self.connect(key, letter) };
        link.under_way.insert(number, key);
        let link_number = link.number;
        match &mut link.state {
            State::Connecting(letters) | State::Stuck(letters) => letters.push(letter),
            State::Up if self.has_faults && self.rng.below(100) < 4 => {
                link.state = State::Stuck(vec![letter]);
                // Otherwise the request's deadline ends it.
                if self.rng.below(2) == 0 {
                    let delay = self.millis(200);
                    self.after(delay, Event::Breaks(address, link_number));
                }
            }
            State::Up | State::Mute => self.carry(letter),
        }
    }

    fn connect(&mut self, key: Key, letter: Letter) {
        let (address, number) = (letter.address, self.numbers);
        let link = Link {
            number,
            under_way: BTreeMap::from([(letter.number, key)]),
            state: State::Connecting(vec![letter]),
            arrives: self.now,
            answers: self.now,
        };
        self.links.insert(address, link);
        let most = if self.chance(5) { 3000 } else { 5 };
        let delay = self.millis(most);
        self.after(delay, Event::Connected(address, number));
    }

    /// Whether this connection is the one that is being made at this address.
    pub(super) fn is_connecting(&self, address: Address, number: u64) -> bool {
        let link = self.links.get(&address).filter(|link| link.number == number);
        link.is_some_and(|link| matches!(link.state, State::Connecting(_)))
    }

    /// Whether the connection of this address is that one.
    pub(super) fn is_there(&self, address: Address, number: u64) -> bool {
        self.links.get(&address).is_some_and(|link| link.number == number)
    }

    /// The connection is made: what waits for it is written.
    pub(super) fn establish(&mut self, address: Address) {
        let Some(link) = self.links.get_mut(&address) else { return };
        if let State::Connecting(letters) = std::mem::replace(&mut link.state, State::Up) {
            for letter in letters {
                self.carry(letter);
            }
        }
    }

    fn carry(&mut self, letter: Letter) {
        // A broker that is busy keeps what comes after it waiting too.
        let most = if self.chance(3) { 1500 } else { 10 };
        let at = self.now + self.millis(most);
        let Some(link) = self.links.get_mut(&letter.address) else { return };
        link.arrives = link.arrives.max(at);
        let at = link.arrives;
        self.schedule(at, Event::Arrives(letter));
    }

    /// A broker answers a request.
    pub(super) fn answer(&mut self, address: Address, number: u64, answer: Answer) {
        let is_lost = self.chance(4);
        let delay = self.millis(5);
        let Some(link) = self.links.get_mut(&address).filter(|link| link.under_way.contains_key(&number))
        else {
            return;
        };
        if is_lost && matches!(link.state, State::Up) {
            link.state = State::Mute;
            let (number, delay) = (link.number, self.millis(1000));
            return self.after(delay, Event::Breaks(address, number));
        }
        if !matches!(link.state, State::Mute) {
            link.answers = link.answers.max(self.now + delay);
            let at = link.answers;
            self.schedule(at, Event::Answered(address, number, answer));
        }
    }

    /// A producer hears an answer: what it knows the request by.
    pub(super) fn hear(&mut self, address: Address, number: u64) -> Option<Key> {
        let link = self.links.get_mut(&address)?;
        if matches!(link.state, State::Mute) { None } else { link.under_way.remove(&number) }
    }

    pub(super) fn is_under_way(&self, address: Address, number: u64) -> bool {
        self.links.get(&address).is_some_and(|link| link.under_way.contains_key(&number))
    }

    /// Takes a request back, if nothing of it is written.
    pub(super) fn recall(&mut self, producer: usize, broker: i32, key: &Key) -> bool {
        let address = Address { producer, broker, lane: Lane::Records };
        let Some(link) = self.links.get_mut(&address) else { return false };
        let State::Connecting(letters) = &mut link.state else { return false };
        let found = link.under_way.iter().find(|(_, of)| *of == key);
        let Some(number) = found.map(|(number, _)| *number) else { return false };
        link.under_way.remove(&number);
        letters.retain(|letter| letter.number != number);
        true
    }

    /// The connection ends. What was under way on it fails, and whether a connection had begun to write it.
    pub(super) fn cut(&mut self, address: Address) -> Vec<(Key, bool)> {
        let Some(link) = self.links.remove(&address) else { return Vec::new() };
        let has_begun = !matches!(link.state, State::Connecting(_));
        if let State::Stuck(letters) = link.state
            && self.chance(60)
        {
            let most = if self.rng.below(3) == 0 { 100 } else { 7000 };
            let at = self.now + self.millis(most);
            for letter in letters {
                self.schedule(at, Event::Arrives(letter));
            }
        }
        link.under_way.into_values().map(|key| (key, has_begun)).collect()
    }

    /// The addresses of connections that are there.
    pub(super) fn addresses(&self, is_wanted: impl Fn(&Address) -> bool) -> Vec<Address> {
        self.links.keys().copied().filter(is_wanted).collect()
    }
}
