//! Random schedules by seed, against a coordinator that loses answers, moves, rebalances and applies what it gets: what it has
//! stored never passes an unfinished record, never goes back within an assignment, and at rest is all that is done.

use super::*;

const PARTITIONS: i32 = 3;

/// A partition as its log and the application know it.
#[derive(Default)]
struct Truth {
    /// By offset, from the log's beginning: whether there is a record, and whether it was ever processed.
    log: Vec<Offset>,
    /// What the coordinator has stored.
    stored: Option<i64>,
    held: Option<Held>,
}

#[derive(Clone, Copy, Default)]
struct Offset {
    is_record: bool,
    is_processed: bool,
}

/// An assignment.
struct Held {
    epoch: Epoch,
    position: i64,
    /// Ranges that were delivered and are not done, and the epochs in which they were.
    open: Vec<(Epoch, Range<i64>)>,
    /// The stored offset may not go below this one while the assignment lasts.
    floor: i64,
}

struct World {
    seed: u64,
    is_automatic: bool,
    rng: Rng,
    commits: Commits,
    now: Instant,
    partitions: Vec<Truth>,
    epochs: u64,
    generation: i32,
    /// The coordinator is between two generations: it takes no commits.
    is_rebalancing: bool,
    commit: Option<(OffsetCommitRequest, Instant)>,
    lookup: Option<Instant>,
    looked_up: Vec<i32>,
    looks_for_coordinator: bool,
    tickets: BTreeMap<Ticket, Promise>,
    applied: usize,
    lost: usize,
}

/// A call that waits: by when it is to be answered, and what must be stored if it succeeds.
struct Promise {
    deadline: Instant,
    wants: BTreeMap<i32, i64>,
}

impl World {
    fn new(seed: u64, interval: Option<Duration>) -> Self {
        let mut commits = Commits::new(settings(interval), Rng::seeded(seed));
        commits.handle_identity(Some(member(1)));
        let partitions = (0..PARTITIONS).map(|_| Truth::default()).collect();
        Self {
            seed,
            is_automatic: interval.is_some(),
            rng: Rng::seeded(seed ^ 0x5eed),
            commits,
            now: Instant::ORIGIN,
            partitions,
            epochs: 0,
            generation: 1,
            is_rebalancing: false,
            commit: None,
            lookup: None,
            looked_up: Vec::new(),
            looks_for_coordinator: false,
            tickets: BTreeMap::new(),
            applied: 0,
            lost: 0,
        }
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.rng.below(count) == 0
    }

    fn epoch(&mut self) -> Epoch {
        self.epochs += 1;
        Epoch(self.epochs)
    }

    /// The driver's turn after any input.
    fn drain(&mut self) {
        self.commits.handle_timeout(self.now);
        while let Some(request) = self.commits.poll_request(self.now) {
            match request {
                Request::Commit { request, deadline, .. } => {
                    assert!(self.commit.is_none(), "seed {}: two commits in flight", self.seed);
                    self.check_truth(&request);
                    self.commit = Some((request, deadline));
                }
                Request::Lookup { lookup, deadline, .. } => {
                    assert!(self.lookup.is_none(), "seed {}: two lookups in flight", self.seed);
                    let asked = lookup.request(9).groups.remove(0).topics.unwrap_or_default();
                    self.looked_up = asked.into_iter().flat_map(|topic| topic.partition_indexes).collect();
                    self.lookup = Some(deadline);
                }
            }
        }
        while let Some(event) = self.commits.poll_event() {
            match event {
                Event::Settled(ticket, result) => {
                    self.settled(
                        ticket,
                        result.err().map_or(Vec::new(), |error| error.partitions).as_slice(),
                    );
                }
                Event::Found(of, found) => {
                    let found = found.expect("the coordinator refuses nothing");
                    let index = of.partition as usize;
                    assert_eq!(found.as_ref().map(|of| of.offset), self.partitions[index].stored);
                    let from = found.clone().unwrap_or(StoredOffset::at(0));
                    let epoch = self.epoch();
                    self.commits.assign(&of, None, epoch, &from, found.is_some(), self.now);
                    self.partitions[index].held =
                        Some(Held { epoch, position: from.offset, open: Vec::new(), floor: from.offset });
                }
                Event::Rejoin { .. } => self.rejoin(false),
                Event::Fenced(failure) => panic!("seed {}: {failure}", self.seed),
            }
        }
        self.looks_for_coordinator |= self.commits.poll_coordinator_wanted(self.now);
    }

    /// What a request says is finished now, although more may be done before it arrives.
    fn check_truth(&self, request: &OffsetCommitRequest) {
        for (partition, offset) in offsets(request) {
            let below = &self.partitions[partition as usize].log[..offset as usize];
            let unfinished = below.iter().position(|of| of.is_record && !of.is_processed);
            assert_eq!(unfinished, None, "seed {}: offset {offset} of partition {partition}", self.seed);
        }
    }

    fn settled(&mut self, ticket: Ticket, failed: &[Uncommitted]) {
        let promise = self.tickets.remove(&ticket).expect("it waits, and is settled once");
        assert!(self.now <= promise.deadline, "seed {}: late", self.seed);
        for (partition, offset) in promise.wants {
            let stored = self.partitions[partition as usize].stored;
            let is_failed = failed.iter().any(|of| of.partition.partition == partition);
            if self.is_automatic && !is_failed {
                assert!(stored >= Some(offset), "seed {}: {stored:?} of {partition} for {offset}", self.seed);
            }
        }
    }

    /// The member is in the next generation. It may have lost all partitions.
    fn rejoin(&mut self, keeps: bool) {
        self.generation += 1;
        self.is_rebalancing = false;
        self.commits.handle_identity(None);
        for partition in 0..PARTITIONS {
            if !keeps && self.rng.below(2) == 0 {
                self.give_up(partition);
            }
        }
        self.commits.handle_identity(Some(member(self.generation)));
    }

    fn give_up(&mut self, partition: i32) {
        self.commits.give_up(&at(partition), &Failure::Ended("revoked"));
        self.partitions[partition as usize].held = None;
    }

    fn deliver(&mut self, partition: i32) {
        let (gap, count) = (self.rng.below(3) as usize, 1 + self.rng.below(6) as usize);
        let truth = &mut self.partitions[partition as usize];
        let Some(held) = &mut truth.held else { return };
        // What the log has from the position on is read first.
        let start = held.position;
        let first = if start as usize == truth.log.len() {
            truth.log.extend(vec![Offset::default(); gap]);
            truth.log.extend(vec![Offset { is_record: true, is_processed: false }; count]);
            start + gap as i64
        } else {
            let rest = &truth.log[start as usize..];
            start + rest.iter().position(|of| of.is_record).unwrap_or(rest.len()) as i64
        };
        let run = truth.log[first as usize..].iter().take_while(|of| of.is_record).count();
        let end = first + run.min(count) as i64;
        if end == first {
            self.commits.handle_passed(&at(partition), held.epoch, first, self.now);
        } else {
            assert!(self.commits.handle_delivered(&at(partition), held.epoch, first..end, None, self.now));
            held.open.push((held.epoch, first..end));
        }
        held.position = end;
    }

    /// Finishes a batch, or one record of it.
    fn done(&mut self, partition: i32) {
        let (pick, is_whole, is_first) = (self.rng.next_u64(), self.one_in(2), self.one_in(2));
        let truth = &mut self.partitions[partition as usize];
        let Some(held) = truth.held.as_mut().filter(|held| !held.open.is_empty()) else { return };
        let (epoch, open) = held.open.swap_remove(pick as usize % held.open.len());
        let (done, rest) = match (is_whole, is_first) {
            (true, _) => (open.clone(), open.end..open.end),
            (_, true) => (open.start..open.start + 1, open.start + 1..open.end),
            _ => (open.end - 1..open.end, open.start..open.end - 1),
        };
        if !rest.is_empty() {
            held.open.push((epoch, rest));
        }
        truth.log[done.start as usize..done.end as usize].iter_mut().for_each(|of| of.is_processed = true);
        assert_eq!(self.commits.handle_done(&at(partition), epoch, done.clone(), self.now), Marked::New);
        // Marks of another assignment have no effect, nor have those that come twice.
        let other = Epoch(0);
        assert_eq!(self.commits.handle_done(&at(partition), other, done.clone(), self.now), Marked::Stale);
        assert_ne!(self.commits.handle_done(&at(partition), epoch, done, self.now), Marked::New);
    }

    fn seek(&mut self, partition: i32) {
        let epoch = self.epoch();
        let pick = self.rng.next_u64();
        let truth = &mut self.partitions[partition as usize];
        let Some(held) = &mut truth.held else { return };
        // Only to where nothing is skipped that was not delivered: the application takes records again.
        let offset = (pick % (held.position as u64 + 1)) as i64;
        held.epoch = epoch;
        held.position = offset;
        // It goes on with what it has of the records before that, and drops the rest, which comes again.
        held.open.iter_mut().for_each(|(_, open)| open.end = open.end.min(offset));
        held.open.retain(|(_, open)| !open.is_empty());
        self.commits.seek(&at(partition), epoch, offset, self.now);
    }

    fn promise(&mut self) {
        let deadline = self.now + ms(1 + u64::from(self.rng.below(20_000)));
        let mut wants = BTreeMap::new();
        for partition in 0..PARTITIONS {
            if let Some(ledger) = self.commits.ledger(&at(partition)) {
                let done = ledger.committable().offset;
                // A seek back does not move the committed offset back.
                wants.insert(partition, done);
            }
        }
        let ticket = match self.rng.below(3) {
            0 if self.is_automatic => {
                let partition = self.rng.below(PARTITIONS as u32) as i32;
                wants.retain(|of, _| *of == partition);
                self.commits.release(&[at(partition)], deadline, self.now)
            }
            _ => self.commits.commit(deadline, self.now),
        };
        self.tickets.insert(ticket, Promise { deadline, wants });
    }

    /// The coordinator gets the commit in flight. Its answer may be lost, and so may the request.
    fn answer_commit(&mut self, is_calm: bool) {
        let Some((request, _)) = self.commit.take() else { return };
        let fate = if is_calm { 0 } else { self.rng.below(10) };
        if fate == 1 {
            self.lost += 1;
            self.commits.handle_lost(Kind::Commit, &silence(), self.now);
            return;
        }
        let code = match fate {
            2 => ErrorCode::NOT_COORDINATOR,
            3 => ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
            _ if request.generation_id_or_member_epoch != self.generation => ErrorCode::ILLEGAL_GENERATION,
            _ if self.is_rebalancing => ErrorCode::REBALANCE_IN_PROGRESS,
            _ => OK,
        };
        let mut codes = Vec::new();
        for (partition, offset) in offsets(&request) {
            let is_unknown = fate == 4 && self.rng.below(2) == 0;
            let code = if is_unknown { ErrorCode::UNKNOWN_TOPIC_OR_PARTITION } else { code };
            codes.push((partition, code));
            if code != OK {
                continue;
            }
            let truth = &mut self.partitions[partition as usize];
            // Without automatic commits the application may seek back and commit there.
            if self.is_automatic {
                let floor = truth.held.as_ref().map(|held| held.floor).max(truth.stored);
                assert!(Some(offset) >= floor, "seed {}: {offset} of {partition} goes back", self.seed);
            }
            truth.stored = Some(offset);
            self.applied += 1;
        }
        if fate == 5 {
            self.lost += 1;
            self.commits.handle_lost(Kind::Commit, &silence(), self.now);
            return;
        }
        let partitions = codes.iter().map(|(partition, code)| OffsetCommitResponsePartition {
            partition_index: *partition,
            error_code: *code,
            ..Default::default()
        });
        let topic = OffsetCommitResponseTopic {
            name: "orders".into(),
            partitions: partitions.collect(),
            ..Default::default()
        };
        let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        self.commits.handle_committed(&response, self.now);
    }

    fn answer_lookup(&mut self, is_calm: bool) {
        if self.lookup.take().is_none() {
            return;
        }
        // One connection is answered in order, and a commit that went out before is applied before.
        self.answer_commit(is_calm);
        let fate = if is_calm { 9 } else { self.rng.below(10) };
        if fate == 0 {
            self.commits.handle_lost(Kind::Lookup, &silence(), self.now);
            return;
        }
        let asked = std::mem::take(&mut self.looked_up);
        let one = |partition: i32| match fate {
            1 => (partition, -1, -1, ErrorCode::UNSTABLE_OFFSET_COMMIT),
            _ => (partition, self.partitions[partition as usize].stored.unwrap_or(-1), -1, OK),
        };
        let stored: Vec<_> = asked.into_iter().map(one).collect();
        self.commits.handle_offsets(&new_answer(OK, None, &stored), self.now);
    }

    /// What is in flight is answered before the next event, except that requests may wait up to their deadline.
    fn step(&mut self) {
        let partition = self.rng.below(PARTITIONS as u32) as i32;
        match self.rng.below(20) {
            0..=4 => self.deliver(partition),
            5..=9 => self.done(partition),
            10 => self.promise(),
            11 | 12 => self.answer_commit(false),
            13 => self.answer_lookup(false),
            14 if self.looks_for_coordinator => {
                self.looks_for_coordinator = false;
                let found = if self.one_in(3) { Err(silence()) } else { Ok(BrokerId(1)) };
                self.commits.handle_coordinator(found, self.now);
            }
            15 if self.partitions[partition as usize].held.is_none() => {
                self.commits.look_up(at(partition), None);
            }
            16 if self.one_in(3) => self.give_up(partition),
            17 if self.one_in(3) => self.seek(partition),
            18 if self.one_in(3) => {
                if self.is_rebalancing {
                    self.rejoin(true);
                } else if self.one_in(2) {
                    self.is_rebalancing = true;
                } else {
                    // The coordinator went on without the member.
                    self.generation += 1;
                }
            }
            _ => self.wait(),
        }
        self.drain();
    }

    /// Time passes, at most to what the machine or a request waits for.
    fn wait(&mut self) {
        let far = self.now + ms(1 + u64::from(self.rng.below(700)));
        let until = self.commits.poll_timeout().map_or(far, |at| at.min(far));
        self.now = self.now.max(until);
        if self.commit.as_ref().is_some_and(|(_, deadline)| *deadline <= self.now) {
            self.commit = None;
            self.commits.handle_lost(Kind::Commit, &silence(), self.now);
        }
        if self.lookup.is_some_and(|deadline| deadline <= self.now) {
            self.lookup = None;
            self.commits.handle_lost(Kind::Lookup, &silence(), self.now);
        }
    }

    /// No more faults, and the application finishes all that it has.
    fn rest(&mut self) {
        if self.is_rebalancing {
            self.rejoin(true);
        }
        for round in 0..400 {
            // A commit under an old generation may still cost partitions in the first rounds.
            for partition in 0..PARTITIONS {
                if round % 100 == 0 && self.partitions[partition as usize].held.is_none() {
                    self.commits.look_up(at(partition), None);
                }
            }
            self.drain();
            for partition in 0..PARTITIONS {
                self.done(partition);
            }
            if round % 100 == 50 && !self.is_automatic {
                self.promise();
            }
            self.answer_commit(true);
            self.answer_lookup(true);
            if std::mem::take(&mut self.looks_for_coordinator) {
                self.commits.handle_coordinator(Ok(BrokerId(1)), self.now);
            }
            self.drain();
            self.wait();
        }
        self.drain();
        let seed = self.seed;
        assert!(self.tickets.is_empty(), "seed {seed}: a call waits");
        assert_eq!(self.commits.poll_timeout(), None, "seed {seed}: the machine is not at rest");
        for (partition, truth) in self.partitions.iter().enumerate() {
            let held = truth.held.as_ref().expect("it was looked up");
            assert!(held.open.is_empty());
            let done = held.position.max(held.floor);
            let is_right = match self.is_automatic {
                true => truth.stored >= Some(done),
                false => truth.stored == Some(held.position),
            };
            assert!(is_right, "seed {seed}: {partition}: {:?} {done}", truth.stored);
        }
    }
}

/// Runs seeds; answers how many offsets were stored and how many requests were lost.
fn run(seeds: u64, interval: Option<Duration>) -> (usize, usize) {
    let (mut applied, mut lost) = (0, 0);
    for seed in 0..seeds {
        let mut world = World::new(seed, interval);
        for partition in 0..PARTITIONS {
            world.commits.look_up(at(partition), None);
        }
        for _ in 0..400 {
            world.drain();
            world.step();
        }
        world.rest();
        applied += world.applied;
        lost += world.lost;
    }
    (applied, lost)
}

#[test]
fn whatever_happens_commits_never_pass_unfinished_records_and_catch_up_at_rest() {
    let (applied, lost) = run(300, Some(INTERVAL));
    assert!(applied > 2_000 && lost > 500, "{applied} offsets were stored, {lost} requests were lost");
}

#[test]
fn without_automatic_commits_the_last_commit_is_what_is_stored() {
    let (applied, lost) = run(300, None);
    assert!(applied > 1_000 && lost > 300, "{applied} offsets were stored, {lost} requests were lost");
}
