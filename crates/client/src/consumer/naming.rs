//! Topics that a member does not know by name: those that match a pattern, which a classic member finds itself, and those of
//! which the coordinator names only the id.
//!
//! It asks any broker with a Metadata request of the consumer's own, because the client's metadata has only topics that
//! somebody named. What it finds is then kept there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use milena_core::{Failure, Instant};
use milena_messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use milena_wire::Uuid;
use regex::Regex;

/// A pattern of topics' names, which matches whole names.
#[derive(Debug, Clone)]
pub(super) struct Pattern {
    pub(super) text: Arc<str>,
    regex: Regex,
}

impl Pattern {
    /// # Errors
    /// What is wrong with `text`.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let regex = Regex::new(&format!("^(?:{text})$")).map_err(|error| error.to_string())?;
        Ok(Self { text: Arc::from(text), regex })
    }
}

/// What is looked for, and what was found.
#[derive(Debug)]
pub(super) struct Naming {
    pattern: Option<Pattern>,
    matched: BTreeSet<Arc<str>>,
    ids: BTreeSet<Uuid>,
    names: BTreeMap<Uuid, Arc<str>>,
    /// The request that is on its way: for all topics, or for the names of ids.
    asked: Option<Asked>,
    /// When the topics of the pattern are looked for.
    match_at: Option<Instant>,
    /// When the names of ids are looked for, if any is missing.
    name_at: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    All,
    Names,
}

/// A topic whose id no broker knows may have been deleted, or be too new for the broker that was asked.
const AGAIN: Duration = Duration::from_millis(500);

impl Naming {
    pub(super) fn new() -> Self {
        Self {
            pattern: None,
            matched: BTreeSet::new(),
            ids: BTreeSet::new(),
            names: BTreeMap::new(),
            asked: None,
            match_at: None,
            name_at: Instant::ORIGIN,
        }
    }

    /// The topics of this pattern are wanted.
    pub(super) fn set_pattern(&mut self, pattern: Option<Pattern>, now: Instant) {
        self.match_at = pattern.is_some().then_some(now);
        self.pattern = pattern;
        self.matched.clear();
    }

    /// The names of these topics are wanted.
    pub(super) fn set_ids(&mut self, ids: BTreeSet<Uuid>) {
        self.names.retain(|id, _| ids.contains(id));
        self.ids = ids;
    }

    pub(super) fn matched(&self) -> &BTreeSet<Arc<str>> {
        &self.matched
    }

    /// The names that were found of ids.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.values()
    }

    fn are_names_missing(&self) -> bool {
        self.names.len() < self.ids.len()
    }

    /// A request to send to any broker. `matches`: the topics of the pattern are this member's to find.
    pub(super) fn poll(&mut self, matches: bool, now: Instant) -> Option<MetadataRequest> {
        if self.asked.is_some() {
            return None;
        }
        let topics = if matches && self.match_at.is_some_and(|at| at <= now) {
            self.asked = Some(Asked::All);
            None
        } else if self.are_names_missing() && self.name_at <= now {
            let missing = self.ids.iter().filter(|id| !self.names.contains_key(*id));
            let topic = |id: &Uuid| MetadataRequestTopic { topic_id: *id, name: None, ..Default::default() };
            let topics = missing.map(topic).collect();
            self.asked = Some(Asked::Names);
            Some(topics)
        } else {
            return None;
        };
        Some(MetadataRequest { topics, allow_auto_topic_creation: false, ..Default::default() })
    }

    /// The answer. Topics of a pattern are looked for again after `age_max`.
    pub(super) fn handle(
        &mut self,
        answer: Result<MetadataResponse, Failure>,
        age_max: Duration,
        now: Instant,
    ) {
        let is_matching = self.asked.take() == Some(Asked::All);
        self.name_at = now + AGAIN;
        let Ok(response) = answer else {
            if is_matching {
                self.match_at = Some(now + AGAIN);
            }
            return;
        };
        let named = response.topics.iter().filter(|topic| topic.error_code.is_none());
        let named = named.filter_map(|topic| Some((topic, topic.name.as_deref()?)));
        let mut matched = BTreeSet::new();
        for (topic, name) in named {
            if self.ids.contains(&topic.topic_id) {
                self.names.insert(topic.topic_id, Arc::from(name));
            }
            let is_match = self.pattern.as_ref().is_some_and(|pattern| pattern.regex.is_match(name));
            if is_match && !topic.is_internal {
                matched.insert(Arc::from(name));
            }
        }
        if is_matching {
            self.matched = matched;
            self.match_at = Some(now + age_max);
        }
    }

    pub(super) fn poll_timeout(&self, matches: bool) -> Option<Instant> {
        if self.asked.is_some() {
            return None;
        }
        let match_at = self.match_at.filter(|_| matches);
        let name_at = self.are_names_missing().then_some(self.name_at);
        [match_at, name_at].into_iter().flatten().min()
    }
}
