//! Answers fetches: each partition's records within the limits (KIP-74), and how long the answer waits for more.
//!
//! No records arrive while a fetch waits, so looking at the partitions once is enough.

use std::time::Duration;

use milena_messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::{EncodeError, Str, Uuid};

use super::response::{Blank, Response};
use super::sessions::{Session, Wanted};
use super::topics::{Slice, Topics};
use crate::batches::Batches;

/// The input of an answer.
pub(super) struct Source<'a> {
    pub(super) topics: &'a Topics,
    pub(super) batches: Option<&'a Batches>,
    pub(super) node: i32,
}

/// What a look at a session's partitions found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Where in the session, what is told, and its records.
    partitions: Vec<(usize, PartitionData, Vec<Slice>)>,
    pub(super) bytes: usize,
    has_error: bool,
}

/// Looks at every partition of the session that may have news once, the one whose turn it is first.
pub(super) fn look(
    session: &mut Session,
    request: &FetchRequest,
    source: &Source<'_>,
    blank: &Blank,
) -> Found {
    let mut found = Found::default();
    let bytes_max = usize::try_from(request.max_bytes).unwrap_or(0).min(blank.bytes_max());
    let start = session.start;
    let lively: Vec<usize> =
        session.lively.range(start..).chain(session.lively.range(..start)).copied().collect();
    for at in lively {
        let wanted = &mut session.wanted[at];
        let (mut data, slices) =
            read(wanted, source, bytes_max - found.bytes.min(bytes_max), found.bytes == 0);
        let bytes: usize = slices.iter().map(|slice| slice.bytes.len()).sum();
        let is_error = data.error_code != ErrorCode::NONE;
        let is_news = bytes > 0 || is_error || wanted.told != Some(data.high_watermark);
        wanted.told = Some(data.high_watermark);
        if bytes > 0 {
            session.start = at + 1;
        } else if !is_error && wanted.offset == data.high_watermark {
            session.lively.remove(&at);
        }
        if session.is_full || is_news {
            data.records = Some(blank.for_slices(&slices));
            found.partitions.push((at, data, slices));
        }
        found.bytes += bytes;
        found.has_error |= is_error;
    }
    found
}

/// How long the answer is delayed.
pub(super) fn wait(session: &Session, request: &FetchRequest, found: &Found) -> Option<Duration> {
    let is_enough = found.bytes >= usize::try_from(request.min_bytes).unwrap_or(0);
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    (!is_enough && !found.has_error && !session.wanted.is_empty()).then_some(wait)
}

/// One partition's part of the answer.
fn read(wanted: &Wanted, source: &Source<'_>, room: usize, must: bool) -> (PartitionData, Vec<Slice>) {
    let (topic, partition_index) = wanted.place;
    let failed = |error_code| {
        (PartitionData { partition_index, error_code, high_watermark: -1, ..Default::default() }, Vec::new())
    };
    let Some(topic) = topic.map(|index| &source.topics.all()[index]) else {
        return failed(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    };
    let partition = match topic.partition(partition_index) {
        Ok(partition) if partition.leader == source.node => partition,
        Ok(_) => return failed(ErrorCode::NOT_LEADER_OR_FOLLOWER),
        Err(code) => return failed(code),
    };
    let (start, end) = (partition.start(), partition.log().end);
    if !(start..=end).contains(&wanted.offset) {
        return failed(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let slices = source
        .batches
        .filter(|_| (wanted.offset as u64) < partition.records)
        .map(|batches| partition.slices(batches, wanted.offset as u64, wanted.bytes_max.min(room), must));
    let data = PartitionData {
        partition_index,
        high_watermark: end,
        last_stable_offset: end,
        log_start_offset: start,
        aborted_transactions: Some(Vec::new()),
        ..Default::default()
    };
    (data, slices.unwrap_or_default())
}

/// The answer's frame.
pub(super) fn respond(
    session: &Session,
    found: Found,
    topics: &Topics,
    blank: &Blank,
    (version, correlation_id): (i16, i32),
) -> Result<Response, EncodeError> {
    let mut responses: Vec<FetchableTopicResponse> = Vec::new();
    let mut records = Vec::new();
    let mut last = None;
    for (at, data, slices) in found.partitions {
        let topic = session.wanted[at].place.0;
        if last != Some(topic) {
            last = Some(topic);
            responses.push(name(topic, topics, version));
        }
        if data.records.as_ref().is_some_and(|records| blank.is_blank(records)) {
            records.push(slices);
        }
        if let Some(response) = responses.last_mut() {
            response.partitions.push(data);
        }
    }
    let message = FetchResponse { session_id: session.id, responses, ..Default::default() };
    Response::with_records(&message, ApiKey::Fetch, version, correlation_id, blank, records)
}

/// Topics have names up to version 12, and ids from version 13.
fn name(topic: Option<usize>, topics: &Topics, version: i16) -> FetchableTopicResponse {
    let (name, id) = topic.map_or_else(Default::default, |index| {
        let topic = &topics.all()[index];
        (topic.name.clone(), topic.id)
    });
    if version >= 13 {
        FetchableTopicResponse { topic: Str::default(), topic_id: id, ..Default::default() }
    } else {
        FetchableTopicResponse { topic: name, topic_id: Uuid::ZERO, ..Default::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::Shape;
    use crate::batches::tests::lines;
    use crate::sink::sessions::Sessions;
    use crate::sink::sessions::tests::request;
    use milena_wire::codec::Compression;

    /// Partitions of as many batches as [`BATCHES`] says, and a session that reads them.
    struct Reader {
        topics: Topics,
        batches: Batches,
        sessions: Sessions,
        id: i32,
        epoch: i32,
        bytes_max: i32,
    }

    const BATCHES: i64 = 2;

    impl Reader {
        fn new() -> Self {
            let shape = Shape { codec: Compression::None, batch_bytes: 1000 };
            let batches = Batches::make(lines(32, 100), None, shape).expect("made");
            let records = 3 * BATCHES * i64::from(batches.records_per_batch());
            let spec = format!("t:3:{records}").parse().expect("a topic");
            let topics = Topics::make(&[spec], 1, Some(&batches)).expect("made");
            Self { topics, batches, sessions: Sessions::default(), id: 0, epoch: 0, bytes_max: 1 << 20 }
        }

        /// Partitions that had records, and how many batches, when these are wanted from these batches on, and those
        /// are not wanted any more.
        fn fetch(&mut self, wanted: &[(i32, i64)], forgotten: &[i32]) -> Vec<(i32, usize)> {
            let per_batch = i64::from(self.batches.records_per_batch());
            let wanted: Vec<_> = wanted.iter().map(|(index, batch)| (*index, batch * per_batch)).collect();
            let mut request = request(self.id, self.epoch, &wanted, forgotten);
            request.max_bytes = self.bytes_max;
            let mut session = self.sessions.take(&request, &self.topics).expect("known");
            let source = Source { topics: &self.topics, batches: Some(&self.batches), node: 0 };
            let found = look(&mut session, &request, &source, &Blank::new(1 << 20));
            assert!(!found.has_error);
            (self.id, self.epoch) = (session.id, self.epoch + 1);
            self.sessions.put_back(session);
            let partitions = found.partitions.into_iter();
            let mut partitions: Vec<_> = partitions
                .map(|(_, data, slices)| (data.partition_index, slices.len()))
                .filter(|(_, batches)| *batches > 0)
                .collect();
            partitions.sort_unstable();
            partitions
        }
    }

    #[test]
    fn what_was_read_to_its_end_is_served_when_it_is_wanted_again() {
        let mut reader = Reader::new();
        let end = BATCHES;
        let all = [(0, 2), (1, 2), (2, 2)];
        assert_eq!(reader.fetch(&[(0, 0), (1, 0), (2, 0)], &[]), all);
        assert_eq!(reader.fetch(&[(0, end), (1, end), (2, end)], &[]), []);
        assert_eq!(reader.fetch(&[], &[]), [], "nothing comes to what was read");
        assert_eq!(reader.fetch(&[(1, 1)], &[]), [(1, 1)], "sought back");
        assert_eq!(reader.fetch(&[(1, end)], &[]), []);
        assert_eq!(reader.fetch(&[], &[0]), [], "paused");
        assert_eq!(reader.fetch(&[(0, end)], &[]), [], "resumed where it was");
        assert_eq!(reader.fetch(&[], &[0, 1]), []);
        assert_eq!(reader.fetch(&[(0, 1)], &[]), [(0, 1)], "sought while it was paused");
        assert_eq!(reader.fetch(&[(0, end), (1, 0), (2, 0)], &[]), [(1, 2), (2, 2)]);
    }

    #[test]
    fn forgetting_one_partition_leaves_the_others_their_turn() {
        let mut reader = Reader::new();
        reader.fetch(&[(0, 0), (1, 0), (2, 0)], &[]);
        assert_eq!(reader.fetch(&[(0, BATCHES), (1, BATCHES), (2, 1)], &[]), [(2, 1)]);
        // The partitions after the forgotten one move up in the session.
        assert_eq!(reader.fetch(&[], &[0]), [(2, 1)]);
        assert_eq!(reader.fetch(&[(1, 0)], &[]), [(1, 2), (2, 1)]);
        assert_eq!(reader.fetch(&[(2, BATCHES)], &[1]), []);
        assert_eq!(reader.fetch(&[(0, 0)], &[]), [(0, 2)]);
    }

    #[test]
    fn those_for_whom_there_was_no_room_have_their_turn() {
        let mut reader = Reader::new();
        reader.bytes_max = 1;
        assert_eq!(reader.fetch(&[(0, 0), (1, 0), (2, 0)], &[]), [(0, 1)]);
        assert_eq!(reader.fetch(&[(0, BATCHES)], &[]), [(1, 1)]);
        assert_eq!(reader.fetch(&[(1, 1)], &[]), [(2, 1)]);
        assert_eq!(reader.fetch(&[(2, BATCHES)], &[]), [(1, 1)]);
    }
}
