//! Quotas of clients: which there are (KIP-546), and which one holds for a client (KIP-13, KIP-55, KIP-257).
//!
//! ```text
//!  alter ─▶ entity (user, client id, both, or an address; each named or the default) ─▶ key ─▶ value
//!  user and client id of a request ─▶ the first entity that has a value, from the most specific one on ─▶ its rate
//!                                                            └ above the value: how long the client has to wait
//! ```
//!
//! Clients for whom the same entity holds share a rate, except that a default holds for each user or client id by itself. It
//! must not know requests.

mod entity;
mod rate;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
pub(crate) use entity::{Entity, Kind, Name};

use crate::error::Error;
use crate::hash::Hash;
use crate::kept::{Kept, Words};
use rate::{Rate, SAMPLE, SAMPLES};

/// The quotas of a cluster.
#[derive(Debug)]
pub(crate) struct Quotas {
    of_entities: BTreeMap<Entity, BTreeMap<Key, f64>>,
    rates: BTreeMap<Meter, Rate>,
    kept: Kept,
}

/// Whose rate is measured: what for, and the user, the client id, or the address. Names are [`brief`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Meter {
    key: Key,
    user: String,
    client_id: String,
}

/// Who asks, as far as quotas are concerned. A client without an id has an empty one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) user: &'a str,
    pub(crate) id: &'a str,
}

/// What a quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    /// Connections a second from an address.
    Connections,
    /// Bytes a second that are fetched.
    ConsumerBytes,
    /// Partitions a second that are created or deleted (KIP-599). It is kept and has no effect.
    ControllerMutations,
    /// Bytes a second that are produced.
    ProducerBytes,
    /// The percentage of a thread's time that requests take.
    RequestPercentage,
}

/// A change of one quota of an entity; `None` removes it.
pub(crate) type Change = (Key, Option<f64>);

/// The first line of the file.
pub(crate) const HEADER: &str = "milena-quotas 1";

/// The most rates that are measured at a time, and the longest name that is kept with one.
const RATES_MAX: usize = 10_000;
const METER_BYTES_MAX: usize = 64;

/// How often rates are forgotten that are over.
pub(crate) const RATES_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The longest name that may have a quota. Kafka has no limit.
pub(crate) const NAME_BYTES_MAX: usize = 1024;

/// No address and no request time is delayed longer at a time, as in Kafka.
const DELAY_MAX: Duration = SAMPLE;

/// The most entities that have quotas. Kafka has no limit.
const ENTITIES_MAX: usize = 10_000;

/// A name that is kept for each client: itself, or its hash if it has more than `bytes_max` bytes. A client chooses its id, of up to
/// 32 KiB, as it likes, so one that sends the hash of another id gains nothing.
pub(crate) fn brief(name: &str, bytes_max: usize) -> Cow<'_, str> {
    if name.len() <= bytes_max {
        return Cow::Borrowed(name);
    }
    Cow::Owned(STANDARD_NO_PAD.encode(Hash::Sha256.digest(&[name.as_bytes()])))
}

/// An address as entities have it: in the one form that those of connections have, too. `None` if it is no address.
pub(crate) fn address(text: &str) -> Option<String> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical().to_string())
}

impl Key {
    const ALL: [Self; 5] = [
        Self::Connections,
        Self::ConsumerBytes,
        Self::ControllerMutations,
        Self::ProducerBytes,
        Self::RequestPercentage,
    ];

    /// Kafka's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connections => "connection_creation_rate",
            Self::ConsumerBytes => "consumer_byte_rate",
            Self::ControllerMutations => "controller_mutation_rate",
            Self::ProducerBytes => "producer_byte_rate",
            Self::RequestPercentage => "request_percentage",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// Whether it is a quota of addresses, and not of users and client ids.
    pub(crate) fn is_of_addresses(self) -> bool {
        self == Self::Connections
    }

    /// The largest value, if values must be whole numbers.
    fn whole_max(self) -> Option<f64> {
        match self {
            Self::Connections => Some(f64::from(i32::MAX)),
            Self::ConsumerBytes | Self::ProducerBytes => Some(i64::MAX as f64),
            Self::ControllerMutations | Self::RequestPercentage => None,
        }
    }

    /// Refuses a value that the quota cannot have. The error is a sentence of Kafka's.
    pub(crate) fn check(self, value: f64) -> Result<(), String> {
        let name = self.name();
        if value <= 0.0 {
            return Err(format!("Quota {name} must be greater than 0"));
        }
        let Some(max) = self.whole_max() else { return Ok(()) };
        if value > max {
            let kind = if self == Self::Connections { "an INT" } else { "a LONG" };
            return Err(format!("Proposed value for {name} is too large for {kind}."));
        }
        match (value % 1.0).abs() > FRACTION_MAX {
            true => Err(format!("{name} cannot be a fractional value.")),
            false => Ok(()),
        }
    }
}

/// A number with a smaller fraction counts as whole, as in Kafka.
const FRACTION_MAX: f64 = 1e-6;

impl Quotas {
    /// The quotas that were kept.
    pub(crate) fn open(kept: Kept) -> Result<Self, Error> {
        let mut quotas = Self { of_entities: BTreeMap::new(), rates: BTreeMap::new(), kept };
        for words in quotas.kept.load()? {
            let (entity, key, value) =
                read(&words).ok_or_else(|| quotas.kept.damaged("a quota is not understood"))?;
            quotas.of_entities.entry(entity).or_default().insert(key, value);
        }
        Ok(quotas)
    }

    /// All entities with their quotas, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Entity, &BTreeMap<Key, f64>)> {
        self.of_entities.iter()
    }

    /// Whether there are no quotas.
    pub(crate) fn is_empty(&self) -> bool {
        self.of_entities.is_empty()
    }

    /// Notes what a client has taken of a quota. Returns how long it has to wait: until its rate is within its quota.
    pub(crate) fn take(&mut self, key: Key, client: Client<'_>, amount: f64, now: Instant) -> Duration {
        let Some((limit, meter)) = self.find(key, client) else { return Duration::ZERO };
        let rate = self.rate(meter, now);
        rate.add(amount, now);
        let wait = rate.excess(limit, now);
        if key == Key::RequestPercentage { wait.min(DELAY_MAX) } else { wait }
    }

    /// Takes back what [`take`](Self::take) has noted.
    pub(crate) fn put_back(&mut self, key: Key, client: Client<'_>, amount: f64, now: Instant) {
        if let Some((_, meter)) = self.find(key, client) {
            self.rate(meter, now).add(-amount, now);
        }
    }

    /// The most that a client can take at once and not wait, if nothing was taken before.
    pub(crate) fn at_once(&self, key: Key, client: Client<'_>) -> Option<f64> {
        let (limit, _) = self.find(key, client)?;
        Some(limit * f64::from(SAMPLES - 1) * SAMPLE.as_secs_f64())
    }

    /// Notes a connection of an address. If the address has to wait, the connection does not count; that is how long.
    pub(crate) fn connect(&mut self, address: IpAddr, now: Instant) -> Option<Duration> {
        let ip = address.to_canonical().to_string();
        let named = self.limit(Key::Connections, &[(Kind::Ip, Name::Is(ip.clone()))]);
        let limit = named.or_else(|| self.limit(Key::Connections, &[(Kind::Ip, Name::Default)]))?;
        let meter = Meter { key: Key::Connections, user: String::new(), client_id: ip };
        let rate = self.rate(meter, now);
        rate.add(1.0, now);
        let wait = rate.excess(limit, now).min(DELAY_MAX);
        if wait.is_zero() {
            return None;
        }
        rate.add(-1.0, now);
        Some(wait)
    }

    /// The quota that holds for a client, and its rate.
    fn find(&self, key: Key, client: Client<'_>) -> Option<(f64, Meter)> {
        let user = Name::Is(client.user.to_owned());
        let id = Name::Is(client.id.to_owned());
        let of = |user: &Name, id: &Name| {
            let parts = [(Kind::User, user.clone()), (Kind::ClientId, id.clone())];
            // An empty client id is none.
            self.limit(key, &parts).filter(|_| !client.id.is_empty())
        };
        let of_user = |user: &Name| self.limit(key, &[(Kind::User, user.clone())]);
        let of_id =
            |id: &Name| self.limit(key, &[(Kind::ClientId, id.clone())]).filter(|_| !client.id.is_empty());
        let default = &Name::Default;
        let meter = |user: &str, id: &str| Meter {
            key,
            user: brief(user, METER_BYTES_MAX).into_owned(),
            client_id: brief(id, METER_BYTES_MAX).into_owned(),
        };
        let both = || meter(client.user, client.id);
        let by_user = || meter(client.user, "");
        let (limit, meter) = None
            .or_else(|| Some((of(&user, &id).or_else(|| of(&user, default))?, both())))
            .or_else(|| Some((of_user(&user)?, by_user())))
            .or_else(|| Some((of(default, &id).or_else(|| of(default, default))?, both())))
            .or_else(|| Some((of_user(default)?, by_user())))
            .or_else(|| Some((of_id(&id).or_else(|| of_id(default))?, meter("", client.id))))?;
        Some((limit, meter))
    }

    fn limit(&self, key: Key, parts: &[(Kind, Name)]) -> Option<f64> {
        let mut entity = Entity::default();
        for (kind, name) in parts {
            entity.set(*kind, name.clone());
        }
        self.of_entities.get(&entity)?.get(&key).copied()
    }

    /// Forgets the rates that are over: they say no more than new ones.
    pub(crate) fn forget_rates(&mut self, now: Instant) {
        self.rates.retain(|_, rate| !rate.is_over(now));
    }

    #[cfg(test)]
    pub(crate) fn rates(&self) -> usize {
        self.rates.len()
    }

    fn rate(&mut self, meter: Meter, now: Instant) -> &mut Rate {
        if self.rates.len() >= RATES_MAX && !self.rates.contains_key(&meter) {
            // If none is over, the one that was used least recently goes.
            self.forget_rates(now);
            let oldest = self.rates.iter().min_by_key(|(_, rate)| rate.touched());
            if let Some(oldest) = oldest.map(|(meter, _)| meter.clone())
                && self.rates.len() >= RATES_MAX
            {
                self.rates.remove(&oldest);
            }
        }
        self.rates.entry(meter).or_default()
    }

    /// Whether there is room for more entities. One request may exceed it by as many as it has.
    pub(crate) fn has_room(&self) -> bool {
        self.of_entities.len() < ENTITIES_MAX
    }

    /// Whether an entity has quotas.
    pub(crate) fn has(&self, entity: &Entity) -> bool {
        self.of_entities.contains_key(entity)
    }

    /// Changes quotas and keeps them, all or none.
    pub(crate) fn alter(&mut self, changes: Vec<(Entity, Vec<Change>)>) -> Result<(), Error> {
        let before = self.of_entities.clone();
        for (entity, changes) in changes {
            let of_entity = self.of_entities.entry(entity.clone()).or_default();
            for (key, value) in changes {
                match value {
                    Some(value) => drop(of_entity.insert(key, value)),
                    None => drop(of_entity.remove(&key)),
                }
            }
            if of_entity.is_empty() {
                self.of_entities.remove(&entity);
            }
        }
        let lines = self.of_entities.iter().flat_map(|(entity, of_entity)| {
            of_entity.iter().map(move |(&key, &value)| write(entity, key, value))
        });
        self.kept.save(lines).inspect_err(|_| self.of_entities = before)?;
        if self.is_empty() {
            self.rates.clear();
        }
        Ok(())
    }
}

/// A quota as a line of the file.
fn write(entity: &Entity, key: Key, value: f64) -> Words {
    let mut words = vec![key.name().to_owned(), value.to_string()];
    for (kind, name) in entity.iter() {
        words.push(kind.name().to_owned());
        words.push(match name {
            Name::Default => "default".to_owned(),
            Name::Is(name) => format!("={name}"),
        });
    }
    words
}

fn read(words: &[String]) -> Option<(Entity, Key, f64)> {
    let [key, value, parts @ ..] = words else { return None };
    let (parts, []) = parts.as_chunks::<2>() else { return None };
    let mut entity = Entity::default();
    for [kind, name] in parts {
        let name = match name.strip_prefix('=') {
            Some(name) => Name::Is(name.to_owned()),
            None if name == "default" => Name::Default,
            None => return None,
        };
        entity.set(Kind::named(kind)?, name);
    }
    (entity != Entity::default()).then_some(())?;
    Some((entity, Key::named(key)?, value.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_there_after_the_next_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || Quotas::open(Kept::new(HEADER, Some(dir.path().join("milena.quotas"))));
        let mut quotas = open().expect("opens");
        let mut both = Entity::default();
        both.set(Kind::User, Name::Is("a b".to_owned()));
        both.set(Kind::ClientId, Name::Default);
        let mut named = Entity::default();
        named.set(Kind::ClientId, Name::Is("default".to_owned()));
        let changes = vec![
            (both.clone(), vec![(Key::ProducerBytes, Some(1e15)), (Key::RequestPercentage, Some(0.1))]),
            (named.clone(), vec![(Key::ConsumerBytes, Some(1024.0))]),
        ];
        quotas.alter(changes).expect("kept");
        let all = |quotas: &Quotas| quotas.of_entities.clone();
        assert_eq!(all(&open().expect("opens")), all(&quotas));
        assert_eq!(quotas.of_entities[&both][&Key::RequestPercentage], 0.1);
        quotas.alter(vec![(named, vec![(Key::ConsumerBytes, None)])]).expect("kept");
        assert_eq!(open().expect("opens").of_entities.len(), 1);
    }

    /// Quotas of users, client ids and addresses in this form: `alice,app=1`, where `*` is the default.
    fn quotas(key: Key, of: &[(Kind, &str, f64)], both: &[(&str, &str, f64)]) -> Quotas {
        let mut quotas = Quotas::open(Kept::new(HEADER, None)).expect("in memory");
        let name = |name: &str| Name::of(Some(name).filter(|name| *name != "*"));
        let mut changes = Vec::new();
        for &(kind, of, value) in of {
            let mut entity = Entity::default();
            entity.set(kind, name(of));
            changes.push((entity, vec![(key, Some(value))]));
        }
        for &(user, id, value) in both {
            let mut entity = Entity::default();
            entity.set(Kind::User, name(user));
            entity.set(Kind::ClientId, name(id));
            changes.push((entity, vec![(key, Some(value))]));
        }
        quotas.alter(changes).expect("in memory");
        quotas
    }

    #[test]
    fn the_most_specific_quota_holds() {
        let of = [
            (Kind::User, "alice", 3.0),
            (Kind::User, "*", 6.0),
            (Kind::ClientId, "app", 7.0),
            (Kind::ClientId, "*", 8.0),
        ];
        let both = [("alice", "app", 1.0), ("alice", "*", 2.0), ("*", "app", 4.0), ("*", "*", 5.0)];
        let expect = |quotas: &Quotas, user, id, expected: Option<(f64, &str, &str)>| {
            let found = quotas.find(Key::ProducerBytes, Client { user, id });
            let found = found.map(|(limit, meter)| (limit, meter.user, meter.client_id));
            let expected = expected.map(|(limit, user, id)| (limit, user.to_owned(), id.to_owned()));
            assert_eq!(found, expected, "{user} {id}");
        };
        let all = quotas(Key::ProducerBytes, &of, &both);
        expect(&all, "alice", "app", Some((1.0, "alice", "app")));
        expect(&all, "alice", "other", Some((2.0, "alice", "other")));
        expect(&all, "alice", "", Some((3.0, "alice", "")));
        expect(&all, "bob", "app", Some((4.0, "bob", "app")));
        expect(&all, "bob", "other", Some((5.0, "bob", "other")));
        expect(&all, "bob", "", Some((6.0, "bob", "")));
        let singles = quotas(Key::ProducerBytes, &of, &[]);
        expect(&singles, "alice", "app", Some((3.0, "alice", "")));
        expect(&singles, "bob", "app", Some((6.0, "bob", "")));
        let ids = quotas(Key::ProducerBytes, &of[2..], &[]);
        expect(&ids, "alice", "app", Some((7.0, "", "app")));
        expect(&ids, "alice", "other", Some((8.0, "", "other")));
        expect(&ids, "alice", "", None);
        assert!(all.find(Key::ConsumerBytes, Client { user: "alice", id: "app" }).is_none(), "another key");
    }

    #[test]
    fn clients_of_one_quota_share_its_rate() {
        let mut quotas =
            quotas(Key::ConsumerBytes, &[(Kind::User, "alice", 100.0), (Kind::ClientId, "*", 100.0)], &[]);
        let now = Instant::now();
        let mut take = |user, id| quotas.take(Key::ConsumerBytes, Client { user, id }, 600.0, now);
        assert_eq!(take("alice", "one"), Duration::ZERO);
        assert_eq!(take("alice", "two"), Duration::from_secs(2));
        assert_eq!((take("bob", "one"), take("bob", "two")), (Duration::ZERO, Duration::ZERO));
        assert_eq!(take("carol", "one"), Duration::from_secs(2), "client ids share theirs among users");
        let alice = Client { user: "alice", id: "one" };
        assert_eq!(quotas.at_once(Key::ConsumerBytes, alice), Some(1000.0));
        quotas.put_back(Key::ConsumerBytes, alice, 600.0, now);
        assert_eq!(quotas.take(Key::ConsumerBytes, alice, 400.0, now), Duration::ZERO);
    }

    #[test]
    fn an_address_that_connects_too_often_waits_and_does_not_count() {
        let of = [(Kind::Ip, "127.0.0.1", 1.0), (Kind::Ip, "*", 2.0)];
        let mut quotas = quotas(Key::Connections, &of, &[]);
        let now = Instant::now();
        let count = |quotas: &mut Quotas, address: &str, now| {
            let address = address.parse().expect("an address");
            (0..100).filter(|_| quotas.connect(address, now).is_none()).count()
        };
        assert_eq!(count(&mut quotas, "127.0.0.1", now), 10);
        assert_eq!(count(&mut quotas, "::ffff:127.0.0.1", now), 0, "the same address");
        assert_eq!(count(&mut quotas, "127.0.0.1", now + SAMPLE * 12), 10);
        assert_eq!(count(&mut quotas, "127.0.0.2", now), 20);
        let wait = quotas.connect("127.0.0.2".parse().expect("an address"), now);
        assert_eq!(wait, Some(Duration::from_millis(500)));
    }

    #[test]
    fn the_rates_that_are_measured_are_bounded() {
        let mut quotas = quotas(Key::ProducerBytes, &[(Kind::ClientId, "*", 1.0)], &[]);
        let now = Instant::now();
        for n in 0..RATES_MAX + 10 {
            let id = n.to_string();
            quotas.take(
                Key::ProducerBytes,
                Client { user: "", id: &id },
                1.0,
                now + Duration::from_nanos(n as u64),
            );
        }
        assert_eq!(quotas.rates.len(), RATES_MAX);
        quotas.take(Key::ProducerBytes, Client { user: "", id: "x" }, 1.0, now + SAMPLE * 12);
        assert_eq!(quotas.rates.len(), 1);
    }

    #[test]
    fn a_rate_keeps_no_long_name_and_goes_with_the_last_quota() {
        let mut quotas = quotas(Key::ProducerBytes, &[], &[("*", "*", 1.0)]);
        let now = Instant::now();
        let long = "x".repeat(30_000);
        let other = format!("{}y", &long[1..]);
        let mut take = |user, id| quotas.take(Key::ProducerBytes, Client { user, id }, 11.0, now);
        for (user, id) in [(long.as_str(), "a"), ("a", long.as_str()), ("a", other.as_str())] {
            assert_eq!(take(user, id), Duration::from_secs(1), "a rate of its own");
        }
        assert_eq!(take("a", &long), Duration::from_secs(12));
        for Meter { user, client_id, .. } in quotas.rates.keys() {
            assert!(user.len().max(client_id.len()) <= METER_BYTES_MAX);
        }
        quotas.forget_rates(now + SAMPLE);
        assert_eq!(quotas.rates.len(), 3);
        let mut both = Entity::default();
        both.set(Kind::User, Name::Default);
        both.set(Kind::ClientId, Name::Default);
        quotas.alter(vec![(both, vec![(Key::ProducerBytes, None)])]).expect("in memory");
        assert_eq!(quotas.rates.len(), 0);
    }

    #[test]
    fn values_are_checked_as_kafka_does() {
        for (key, value, expected) in [
            (Key::ProducerBytes, 1.0, true),
            (Key::ProducerBytes, 0.0, false),
            (Key::ProducerBytes, -1.0, false),
            (Key::ProducerBytes, 1.5, false),
            (Key::ConsumerBytes, 1e19, false),
            (Key::ConsumerBytes, 1e18, true),
            (Key::RequestPercentage, 0.5, true),
            (Key::RequestPercentage, 0.0, false),
            (Key::Connections, 2_147_483_648.0, false),
            (Key::Connections, 5.0, true),
        ] {
            assert_eq!(key.check(value).is_ok(), expected, "{} {value}", key.name());
        }
    }
}
