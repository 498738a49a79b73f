//! Many readers of their own while memory is short: how much of it they hold when each takes one batch and stops.

use std::collections::VecDeque;

use milena_messages::fetch::FetchRequest;

use super::*;
use crate::source::ROOM_MIN;

const READERS: usize = 200;
const BUDGET: usize = 256 << 10;
/// How many records a batch has, and their size: three batches are what a fetch asks for while memory is short.
const COUNT: i64 = 4;
const VALUE_BYTES: usize = 4000;

/// What is read in turns beside the partitions with readers of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    Nothing,
    /// A partition without records.
    Empty,
    /// A partition with records, which no reader takes.
    Stuck,
}

/// A partition named in a request: its index, the offset and the limit in bytes.
type Named = (i32, i64, usize);

/// Partitions with endless logs at one broker, and a reader for each. Every reader waits for a batch.
struct Crowd {
    source: Source,
    shared: Shared,
    template: Vec<u8>,
    /// By lane: what the broker remembers, in the order of turns.
    sessions: [Vec<Named>; 2],
    flying: VecDeque<Fetch>,
    /// The size of each answer of which something was not taken, and the partitions of its batches.
    frames: Vec<(usize, Vec<usize>)>,
    waiting: Vec<bool>,
    fetches: usize,
    held_max: usize,
}

impl Crowd {
    fn new(settings: Settings, shared: Shared) -> Self {
        let mut builder = BatchBuilder::new(&Pool::unpooled());
        for _ in 0..COUNT {
            builder.append(0, None, Some(&[7; VALUE_BYTES]), &[]).expect("fits");
        }
        let mut source = Source::new(settings, Rng::seeded(1));
        for index in 0..=READERS {
            let slot = source.assign(&Arc::from("t"), index as i32, Epoch(0), Position::Offset(0));
            source.set_paused(slot, index == READERS && shared == Shared::Nothing);
            source.set_own_reader(slot, index < READERS);
        }
        source.handle_metadata(&snapshot("t", &[(1, 0); READERS + 1]), Instant::ORIGIN);
        let mut crowd = Self {
            source,
            shared,
            template: builder.seal().into_bytes().to_vec(),
            sessions: Default::default(),
            flying: VecDeque::new(),
            frames: Vec::new(),
            waiting: vec![false; READERS],
            fetches: 0,
            held_max: 0,
        };
        crowd.wait();
        crowd
    }

    /// Every reader waits.
    fn wait(&mut self) {
        self.waiting = vec![true; READERS];
        (0..READERS).for_each(|index| self.source.handle_awaited(Slot(index as u32)));
    }

    fn held(&self) -> usize {
        let expected = self.flying.iter().map(|fetch| fetch.bytes_expected).sum::<usize>();
        self.frames.iter().map(|(bytes, _)| bytes).sum::<usize>() + expected
    }

    fn poll_fetch(&mut self) -> Option<Fetch> {
        let room = BUDGET.saturating_sub(self.held());
        self.source.poll_fetch(Instant::ORIGIN, room)
    }

    /// Runs until every reader has taken one batch.
    fn run(&mut self) {
        while self.waiting.iter().any(|waits| *waits) {
            self.turn();
        }
    }

    /// Sends all fetches that there are, and delivers one answer.
    fn turn(&mut self) {
        while let Some(fetch) = self.poll_fetch() {
            self.flying.push_back(fetch);
            self.fetches += 1;
        }
        self.held_max = self.held_max.max(self.held());
        // A fetch for which there is nothing is held back by the broker.
        let answer = (0..self.flying.len()).find_map(|at| Some((at, self.answer(at)?)));
        let Some((at, response)) = answer else {
            panic!("{:?}: no answer comes, and {:?} wait", self.shared, self.waiting)
        };
        let fetch = self.flying.remove(at).expect("it was answered");
        self.deliver(&fetch, response);
    }

    /// What the broker answers, if there is something.
    fn answer(&mut self, at: usize) -> Option<FetchResponse> {
        let Fetch { lane: LaneId { lane, .. }, request, .. } = &self.flying[at];
        let is_ration = request.session_epoch < 0;
        // A ration has a session of its own, for one request.
        let mut of_ration = Vec::new();
        let session = if is_ration { &mut of_ration } else { &mut self.sessions[*lane as usize] };
        if request.session_epoch == 0 {
            session.clear();
        }
        update(session, request);
        let mut left = request.max_bytes as usize;
        let mut answers: Vec<PartitionData> = Vec::new();
        for (index, offset, bytes_max) in session.iter() {
            let is_endless = (*index as usize) < READERS || self.shared == Shared::Stuck;
            let (mut records, mut base) = (Vec::new(), *offset);
            let fits =
                |records: &[u8]| self.template.len() <= left.min(*bytes_max).saturating_sub(records.len());
            while is_endless && (fits(&records) || answers.is_empty() && records.is_empty()) {
                records.extend(placed(&self.template, base));
                base += COUNT;
            }
            left = left.saturating_sub(records.len());
            if !records.is_empty() || is_ration {
                answers.push(data(*index, records));
            }
        }
        let has_records =
            |data: &PartitionData| data.records.as_ref().is_some_and(|records| !records.is_empty());
        if !answers.iter().any(has_records) {
            return None;
        }
        if !is_ration {
            // Partitions that were served come last next time.
            session.sort_by_key(|(index, ..)| answers.iter().any(|data| data.partition_index == *index));
        }
        Some(response(if is_ration { 0 } else { 1 + i32::from(*lane) }, answers))
    }

    /// Each reader that waits takes the first batch that it is given, and drops it.
    fn deliver(&mut self, fetch: &Fetch, response: FetchResponse) {
        let now = Instant::ORIGIN;
        self.source.handle_fetched(fetch.lane, fetch.number, Ok(response), now, now, now);
        let (mut bytes, mut left) = (0, Vec::new());
        while let Some(event) = self.source.poll_event() {
            let Event::Batch { slot, epoch, batch, .. } = event else { panic!("{event:?}") };
            bytes += batch.bytes().len();
            let index = slot.0 as usize;
            if self.waiting.get_mut(index).is_some_and(std::mem::take) {
                self.source.handle_taken(slot, epoch, super::super::amount_of(&batch));
            } else {
                left.push(index);
            }
        }
        if !left.is_empty() {
            self.frames.push((bytes, left));
        }
    }
}

/// Adds what the request names, and removes what it forgets.
fn update(session: &mut Vec<Named>, request: &FetchRequest) {
    for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
        let named = (partition.partition, partition.fetch_offset, partition.partition_max_bytes as usize);
        match session.iter_mut().find(|(known, ..)| *known == named.0) {
            Some(known) => *known = named,
            None => session.push(named),
        }
    }
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions);
    forgotten.for_each(|index| session.retain(|(known, ..)| known != index));
}

fn large() -> Settings {
    Settings {
        partition_bytes_max: 1 << 20,
        partition_watermarks: Watermarks::new(1 << 20, usize::MAX, 50),
        ..settings()
    }
}

#[test]
fn readers_that_take_one_batch_and_stop_leave_nothing_else_while_memory_is_short() {
    for shared in [Shared::Nothing, Shared::Empty, Shared::Stuck] {
        let mut crowd = Crowd::new(large(), shared);
        crowd.run();
        // What is on its way to the broker's two lanes may go beyond the budget.
        let most = BUDGET + 2 * ROOM_MIN;
        assert!(crowd.held_max <= most, "{shared:?}: {} of {most}", crowd.held_max);
        assert!(crowd.fetches <= READERS + 10, "{shared:?}: {} fetches", crowd.fetches);
    }
}

#[test]
fn one_answer_has_a_batch_for_each_of_several_readers_once_their_size_is_known() {
    let mut crowd = Crowd::new(large(), Shared::Nothing);
    crowd.run();
    // What they have left is taken, and the memory is held by something else from now on.
    for (_, left) in std::mem::take(&mut crowd.frames) {
        for index in left {
            let amount = Amount { bytes: crowd.template.len(), records: COUNT as usize };
            crowd.source.handle_taken(Slot(index as u32), Epoch(0), amount);
        }
    }
    crowd.frames.push((BUDGET, Vec::new()));
    crowd.wait();
    crowd.fetches = 0;
    crowd.run();
    assert!(crowd.fetches <= READERS / 3 + 5, "{} fetches", crowd.fetches);
    assert_eq!(crowd.frames.len(), 1, "every reader was given the batch that it took, and no more");
}

#[test]
fn readers_that_come_back_at_once_are_not_served_before_those_that_still_wait() {
    let mut crowd = Crowd::new(large(), Shared::Stuck);
    // Something else holds the memory.
    crowd.frames.push((BUDGET, Vec::new()));
    let mut served = [false; READERS];
    for _ in 0..READERS + 10 {
        crowd.turn();
        for (index, waits) in crowd.waiting.iter_mut().enumerate().filter(|(_, waits)| !**waits) {
            served[index] = true;
            *waits = true;
            crowd.source.handle_awaited(Slot(index as u32));
        }
    }
    let count = served.iter().filter(|is_served| **is_served).count();
    assert_eq!(count, READERS);
}

#[test]
fn few_readers_are_given_many_small_batches_at_once_while_memory_is_short() {
    let mut lab = Lab::new(large(), Position::Offset(0));
    for slot in [Slot(0), Slot(1)] {
        lab.source.set_own_reader(slot, true);
        lab.source.handle_awaited(slot);
    }
    let fetch = lab.source.poll_fetch(lab.now, 0).expect("both wait");
    let limits = fetch.request.topics[0].partitions.iter().map(|partition| partition.partition_max_bytes);
    assert_eq!(limits.collect::<Vec<_>>(), [ROOM_MIN as i32 / 2; 2]);
}

#[test]
fn a_broker_is_not_made_to_wait_for_more_than_the_limits_allow() {
    let check = |fetch_bytes_min: usize, named_again: usize| {
        let mut crowd = Crowd::new(Settings { fetch_bytes_min, ..large() }, Shared::Nothing);
        let limits = |fetch: &Fetch| -> Vec<_> {
            let partitions = fetch.request.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.map(|partition| partition.partition_max_bytes as usize).collect()
        };
        let short = crowd.source.poll_fetch(Instant::ORIGIN, 0).expect("all wait");
        assert!(limits(&short) == [ROOM_MIN / READERS; READERS], "{short:?}");
        assert_eq!(short.request.min_bytes, 1);
        crowd.deliver(&short, response(1, vec![]));
        let fetch = crowd.source.poll_fetch(Instant::ORIGIN, ROOM).expect("all wait");
        assert_eq!(fetch.request.min_bytes as usize, fetch_bytes_min);
        assert!(limits(&fetch) == vec![1 << 20; named_again], "{fetch:?}");
    };
    check(9_000, READERS);
    // The small limits do no harm, and cost a request for one batch at most.
    check(1, 0);
}
