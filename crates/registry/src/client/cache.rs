//! What a registry has answered, within bounds. It has no clock: times are arguments.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::RegistryError;

/// How much is remembered, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) entries_max: usize,
    pub(crate) bytes_max: usize,
    /// How long an answer counts as fresh. None: for ever, because it cannot change.
    pub(crate) ttl: Option<Duration>,
    /// How long it is believed that something does not exist.
    pub(crate) absent_ttl: Duration,
}

/// Answers by what was asked.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    limits: Limits,
    entries: HashMap<K, Entry<V>>,
    bytes: usize,
    /// Counts uses: the entry whose last one is longest ago is dropped first.
    uses: u64,
}

#[derive(Debug)]
struct Entry<V> {
    answer: Result<V, RegistryError>,
    since: Duration,
    used: u64,
    bytes: usize,
}

/// What is remembered.
#[derive(Debug)]
pub(crate) enum Found<V> {
    /// The answer, or the error that says that there is none.
    Fresh(Result<V, RegistryError>),
    /// An answer that may have changed since. It is used if the registry cannot be asked.
    Stale(V),
    Unknown,
}

/// What an answer takes of the memory, about.
pub(crate) trait Weigh {
    fn bytes(&self) -> usize;
}

impl<K: Hash + Eq + Clone, V: Clone + Weigh> Cache<K, V> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, entries: HashMap::new(), bytes: 0, uses: 0 }
    }

    pub(crate) fn find(&mut self, key: &K, now: Duration) -> Found<V> {
        self.uses += 1;
        let Some(entry) = self.entries.get_mut(key) else { return Found::Unknown };
        entry.used = self.uses;
        let age = now.saturating_sub(entry.since);
        match &entry.answer {
            Ok(value) if self.limits.ttl.is_none_or(|ttl| age < ttl) => Found::Fresh(Ok(value.clone())),
            Ok(value) => Found::Stale(value.clone()),
            Err(error) if age < self.limits.absent_ttl => Found::Fresh(Err(error.clone())),
            Err(_) => {
                self.forget(key);
                Found::Unknown
            }
        }
    }

    /// Remembers an answer, or that there is none. Other errors are not remembered.
    pub(crate) fn put(&mut self, key: K, answer: Result<V, RegistryError>, now: Duration) {
        if answer.as_ref().is_err_and(|error| !error.is_not_found()) {
            return;
        }
        self.forget(&key);
        let bytes = answer.as_ref().map_or(0, Weigh::bytes).saturating_add(ENTRY_BYTES);
        if bytes > self.limits.bytes_max || self.limits.entries_max == 0 {
            return;
        }
        while self.entries.len() >= self.limits.entries_max || self.bytes + bytes > self.limits.bytes_max {
            // Linear, but only when something new comes while all room is taken.
            let oldest = self.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            let Some(oldest) = oldest else { break };
            self.forget(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.entries.insert(key, Entry { answer, since: now, used: self.uses, bytes });
    }

    pub(crate) fn forget(&mut self, key: &K) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= entry.bytes;
        }
    }

    pub(crate) fn forget_if(&mut self, is_meant: impl Fn(&K) -> bool) {
        let mut freed = 0;
        self.entries.retain(|key, entry| {
            let is_kept = !is_meant(key);
            freed += if is_kept { 0 } else { entry.bytes };
            is_kept
        });
        self.bytes -= freed;
    }
}

/// What an entry takes beside its answer, about.
const ENTRY_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RegistryErrorKind;

    impl Weigh for &'static str {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn cache(ttl: Option<u64>) -> Cache<u32, &'static str> {
        Cache::new(Limits { entries_max: 3, bytes_max: 1000, ttl: ttl.map(at), absent_ttl: at(60) })
    }

    fn absent() -> RegistryError {
        RegistryError::new(RegistryErrorKind::NotFound, "no such schema")
    }

    #[test]
    fn what_cannot_change_is_fresh_for_ever_and_the_rest_grows_stale() {
        let mut forever = cache(None);
        forever.put(1, Ok("a"), at(0));
        assert!(matches!(forever.find(&1, at(1 << 40)), Found::Fresh(Ok("a"))));
        let mut cache = cache(Some(10));
        cache.put(1, Ok("a"), at(0));
        assert!(matches!(cache.find(&1, at(9)), Found::Fresh(Ok("a"))));
        assert!(matches!(cache.find(&1, at(10)), Found::Stale("a")));
        cache.put(1, Ok("b"), at(10));
        assert!(matches!(cache.find(&1, at(11)), Found::Fresh(Ok("b"))));
    }

    #[test]
    fn what_does_not_exist_is_asked_again_after_a_while_and_other_errors_at_once() {
        let mut cache = cache(None);
        cache.put(1, Err(absent()), at(0));
        assert!(matches!(cache.find(&1, at(59)), Found::Fresh(Err(_))));
        assert!(matches!(cache.find(&1, at(60)), Found::Unknown));
        cache.put(2, Err(RegistryError::new(RegistryErrorKind::Unavailable, "down")), at(0));
        assert!(matches!(cache.find(&2, at(0)), Found::Unknown));
    }

    #[test]
    fn entries_and_bytes_are_bounded_and_the_least_used_one_goes_first() {
        let mut cache = cache(None);
        for key in 0..3 {
            cache.put(key, Ok("a"), at(0));
        }
        assert!(matches!(cache.find(&0, at(0)), Found::Fresh(_)));
        cache.put(3, Ok("a"), at(0));
        assert!(matches!(cache.find(&1, at(0)), Found::Unknown));
        assert!(matches!(cache.find(&0, at(0)), Found::Fresh(_)));
        // One that takes nearly all bytes drops the others, and one that takes more is not kept.
        const LONG: &str = match str::from_utf8(&[b'x'; 700]) {
            Ok(text) => text,
            Err(_) => "",
        };
        cache.put(4, Ok(LONG), at(0));
        assert_eq!((cache.entries.len(), cache.bytes), (1, 900));
        const TOO_LONG: &str = match str::from_utf8(&[b'x'; 900]) {
            Ok(text) => text,
            Err(_) => "",
        };
        cache.put(5, Ok(TOO_LONG), at(0));
        assert!(matches!(cache.find(&5, at(0)), Found::Unknown));
        cache.forget_if(|key| *key == 4);
        assert_eq!((cache.entries.len(), cache.bytes), (0, 0));
    }
}
