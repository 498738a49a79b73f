//! The producers and consumers of a client, as its metrics tell of them: the resource labels of KIP-714.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::points::Has;

/// A producer or a consumer that lives.
#[derive(Debug)]
pub(crate) struct Enrolled {
    is_producer: bool,
    labels: Mutex<Labels>,
}

type Labels = BTreeMap<&'static str, String>;

/// Those of one client.
#[derive(Debug)]
pub(crate) struct Roll {
    rack: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    enrolled: Vec<Weak<Enrolled>>,
    /// What the client has or has had.
    has: Has,
    /// The labels when one of them lived last.
    last: Labels,
}

const GROUP_ID: &str = "group_id";
const GROUP_INSTANCE_ID: &str = "group_instance_id";
const GROUP_MEMBER_ID: &str = "group_member_id";
const TRANSACTIONAL_ID: &str = "transactional_id";
const CLIENT_RACK: &str = "client_rack";

impl Enrolled {
    /// A producer, with its transactional id if it has one.
    pub(crate) fn producer(transactional_id: Option<&str>) -> Self {
        Self::new(true, [(TRANSACTIONAL_ID, transactional_id)])
    }

    /// A consumer, with its rack.
    pub(crate) fn consumer(rack: &str) -> Self {
        Self::new(false, [(CLIENT_RACK, Some(rack))])
    }

    fn new<const N: usize>(is_producer: bool, labels: [(&'static str, Option<&str>); N]) -> Self {
        let enrolled = Self { is_producer, labels: Mutex::default() };
        labels.into_iter().for_each(|(name, value)| enrolled.set(name, value));
        enrolled
    }

    /// The consumer is a member of a group.
    pub(crate) fn in_group(self, group: &str) -> Self {
        self.set(GROUP_ID, Some(group));
        self
    }

    /// The coordinator knows the member by this id, and by the name of a static member if it has one.
    pub(crate) fn note_member(&self, member_id: &str, instance: Option<&str>) {
        self.set(GROUP_MEMBER_ID, Some(member_id));
        self.set(GROUP_INSTANCE_ID, instance);
    }

    fn set(&self, name: &'static str, value: Option<&str>) {
        let mut labels = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        match value.filter(|value| !value.is_empty()) {
            Some(value) => drop(labels.insert(name, value.to_owned())),
            None => drop(labels.remove(name)),
        }
    }
}

impl Roll {
    /// Nobody yet. `rack` is the client's.
    pub(super) fn new(rack: &str) -> Self {
        Self { rack: rack.to_owned(), state: Mutex::default() }
    }

    pub(super) fn add(&self, enrolled: Enrolled) -> Arc<Enrolled> {
        let enrolled = Arc::new(enrolled);
        let mut state = self.state();
        state.has.producers |= enrolled.is_producer;
        state.has.consumers |= !enrolled.is_producer;
        state.enrolled.retain(|known| known.strong_count() > 0);
        state.enrolled.push(Arc::downgrade(&enrolled));
        enrolled
    }

    /// What the client says of itself, and what it has. A label that two of its producers and consumers have with different values says
    /// nothing of the client, and is left out. When all of them are gone, the last ones count: the last push is about them.
    pub(super) fn describe(&self) -> (Vec<(&'static str, String)>, Has) {
        let mut state = self.state();
        let alive: Vec<_> = state.enrolled.iter().filter_map(Weak::upgrade).collect();
        if !alive.is_empty() {
            let mut joined: BTreeMap<&'static str, Option<String>> = BTreeMap::new();
            for enrolled in &alive {
                let labels = enrolled.labels.lock().unwrap_or_else(PoisonError::into_inner);
                for (name, value) in &*labels {
                    let held = joined.entry(name).or_insert_with(|| Some(value.clone()));
                    if held.as_ref().is_some_and(|held| held != value) {
                        *held = None;
                    }
                }
            }
            state.last = joined.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        }
        let mut labels = state.last.clone();
        if !self.rack.is_empty() {
            labels.entry(CLIENT_RACK).or_insert_with(|| self.rack.clone());
        }
        (labels.into_iter().collect(), state.has)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_on_which_all_agree_and_the_last_ones_stay() {
        let roll = Roll::new("north");
        let told = || {
            let (labels, has) = roll.describe();
            let labels: Vec<_> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            (labels.join(" "), has)
        };
        assert_eq!(told(), ("client_rack=north".to_owned(), Has::default()));
        let producer = roll.add(Enrolled::producer(Some("tx")));
        assert_eq!(told().0, "client_rack=north transactional_id=tx");
        let consumer = roll.add(Enrolled::consumer("").in_group("g"));
        consumer.note_member("m", Some("static"));
        let all =
            "client_rack=north group_id=g group_instance_id=static group_member_id=m transactional_id=tx";
        assert_eq!(told(), (all.to_owned(), Has { producers: true, consumers: true }));
        let other = roll.add(Enrolled::consumer("").in_group("h"));
        assert!(!told().0.contains("group_id="), "{}", told().0);
        drop(other);
        assert_eq!(told().0, all);
        drop((producer, consumer));
        assert_eq!(told(), (all.to_owned(), Has { producers: true, consumers: true }));
    }
}
