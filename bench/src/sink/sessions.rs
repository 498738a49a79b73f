//! Incremental fetch sessions (KIP-227), which remember what a consumer wants from each partition.

use std::collections::{BTreeSet, HashMap};

use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchRequest, FetchTopic};

use super::topics::Topics;

/// The sessions of one node. A session is taken out while a request of it is answered.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    by_id: HashMap<i32, Session>,
    last_id: i32,
}

/// A consumer's partitions, in order.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// 0 if no request will use the session again.
    pub(super) id: i32,
    /// Whether the answer has all partitions, and not only changed ones.
    pub(super) is_full: bool,
    pub(super) wanted: Vec<Wanted>,
    /// The partition whose turn it is: the one after the last partition that had records.
    pub(super) start: usize,
    /// The partitions that may have changed, in order. A partition that was read to its end never does.
    pub(super) lively: BTreeSet<usize>,
    epoch: i32,
    places: HashMap<Place, usize>,
}

/// What a consumer wants from a partition.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) place: Place,
    pub(super) offset: i64,
    pub(super) bytes_max: usize,
    /// The high watermark that the client knows.
    pub(super) told: Option<i64>,
}

/// A topic by its index, if there is one, and a partition.
pub(super) type Place = (Option<usize>, i32);

impl Sessions {
    /// Takes the session of a request. [`put_back`](Self::put_back) returns it after the answer.
    pub(super) fn take(&mut self, request: &FetchRequest, topics: &Topics) -> Result<Session, ErrorCode> {
        if request.session_epoch <= 0 {
            self.by_id.remove(&request.session_id);
            let mut session = Session { is_full: true, ..Session::default() };
            session.want(&request.topics, topics);
            if request.session_epoch == 0 {
                self.last_id += 1;
                session.id = self.last_id;
                session.epoch = 1;
            }
            return Ok(session);
        }
        let Some(session) = self.by_id.get(&request.session_id) else {
            return Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        if session.epoch != request.session_epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        let mut session = self.by_id.remove(&request.session_id).unwrap_or_default();
        session.is_full = false;
        session.epoch = if session.epoch == i32::MAX { 1 } else { session.epoch + 1 };
        session.forget(request, topics);
        session.want(&request.topics, topics);
        Ok(session)
    }

    pub(super) fn put_back(&mut self, session: Session) {
        if session.id != 0 {
            self.by_id.insert(session.id, session);
        }
    }
}

impl Session {
    fn want(&mut self, wanted: &[FetchTopic], topics: &Topics) {
        for topic in wanted {
            let index = topics.index(&topic.topic, topic.topic_id);
            for partition in &topic.partitions {
                let place = (index, partition.partition);
                let wanted = Wanted {
                    place,
                    offset: partition.fetch_offset,
                    bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
                    told: None,
                };
                let at = *self.places.entry(place).or_insert(self.wanted.len());
                match self.wanted.get_mut(at) {
                    Some(known) => *known = Wanted { told: known.told, ..wanted },
                    None => self.wanted.push(wanted),
                }
                self.lively.insert(at);
            }
        }
    }

    fn forget(&mut self, request: &FetchRequest, topics: &Topics) {
        if request.forgotten_topics_data.is_empty() {
            return;
        }
        for topic in &request.forgotten_topics_data {
            let index = topics.index(&topic.topic, topic.topic_id);
            for partition in &topic.partitions {
                self.places.remove(&(index, *partition));
            }
        }
        let places = &self.places;
        self.wanted.retain(|wanted| places.contains_key(&wanted.place));
        self.places = self.wanted.iter().enumerate().map(|(at, wanted)| (wanted.place, at)).collect();
        self.lively = (0..self.wanted.len()).collect();
        self.start = 0;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use milena_messages::fetch::{FetchPartition, ForgottenTopic};

    pub(in crate::sink) fn request(
        session_id: i32,
        session_epoch: i32,
        partitions: &[(i32, i64)],
        forgotten: &[i32],
    ) -> FetchRequest {
        let partition = |&(partition, fetch_offset): &(i32, i64)| FetchPartition {
            partition,
            fetch_offset,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic {
            topic: "t".into(),
            partitions: partitions.iter().map(partition).collect(),
            ..Default::default()
        };
        let gone = ForgottenTopic { topic: "t".into(), partitions: forgotten.to_vec(), ..Default::default() };
        let gone = (!forgotten.is_empty()).then_some(gone);
        FetchRequest {
            session_id,
            session_epoch,
            topics: vec![topic],
            forgotten_topics_data: gone.into_iter().collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_session_remembers_what_was_wanted() {
        let topics = Topics::make(&["t:6".parse().expect("a topic")], 1, None).expect("made");
        let mut sessions = Sessions::default();
        let offsets = |session: &Session| {
            session.wanted.iter().map(|wanted| (wanted.place.1, wanted.offset)).collect::<Vec<_>>()
        };
        let first = sessions.take(&request(0, 0, &[(0, 0), (1, 0), (2, 0)], &[]), &topics).expect("new");
        assert!(first.is_full && first.id != 0);
        let id = first.id;
        sessions.put_back(first);
        let second = sessions.take(&request(id, 1, &[(1, 50), (5, 7)], &[0]), &topics).expect("known");
        assert_eq!(offsets(&second), [(1, 50), (2, 0), (5, 7)]);
        assert!(!second.is_full);
        sessions.put_back(second);
        let stale = sessions.take(&request(id, 1, &[], &[]), &topics).map(drop);
        assert_eq!(stale, Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH));
        let third = sessions.take(&request(id, 2, &[], &[1, 2]), &topics).expect("known");
        assert_eq!(offsets(&third), [(5, 7)]);
        sessions.put_back(third);
        let none = sessions.take(&request(id, -1, &[(3, 1)], &[]), &topics).expect("sessionless");
        assert_eq!((none.id, offsets(&none)), (0, vec![(3, 1)]));
        assert_eq!(
            sessions.take(&request(id, 3, &[], &[]), &topics).map(drop),
            Err(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)
        );
    }
}
