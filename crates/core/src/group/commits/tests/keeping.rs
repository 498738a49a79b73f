//! What is finished above a committed offset, stored beside it: when it is committed, how much of it, and what a restart makes of it.

#![allow(clippy::single_range_in_vec_init, reason = "one run is meant")]

use super::super::super::finished::{self, CHARS_MAX, Decoded, Packing};
use super::*;

fn keeping(interval: Option<Duration>) -> Settings {
    Settings { keeps_finished: true, ..settings(interval) }
}

/// One partition from offset 0, of which the group has stored that.
fn rig(interval: Option<Duration>) -> Rig {
    let mut rig = Rig::with(keeping(interval));
    rig.assign(&[0]);
    rig
}

/// The offset and metadata of each partition in the request that goes out now.
fn sent(rig: &mut Rig) -> Vec<(i64, String)> {
    match rig.request() {
        Some(Request::Commit { request, .. }) => {
            let all = request.topics.into_iter().flat_map(|topic| topic.partitions);
            all.map(|of| (of.committed_offset, of.committed_metadata.unwrap_or_default().to_string()))
                .collect()
        }
        None => Vec::new(),
        Some(other) => panic!("{other:?}"),
    }
}

fn sent_one(rig: &mut Rig) -> (i64, Vec<Range<i64>>) {
    let [(offset, text)] = &sent(rig)[..] else { panic!("one partition is committed") };
    (*offset, runs(*offset, text))
}

fn runs(offset: i64, text: &str) -> Vec<Range<i64>> {
    match finished::decode(offset, text) {
        Decoded::Finished(runs) => runs,
        Decoded::NotAMap if text.is_empty() => Vec::new(),
        other => panic!("{text:?}: {other:?}"),
    }
}

fn warnings(rig: &mut Rig) -> Vec<String> {
    std::iter::from_fn(|| rig.commits.poll_warning()).collect()
}

fn stored(offset: i64, text: &str) -> StoredOffset {
    StoredOffset { metadata: Some(text.into()), ..StoredOffset::at(offset) }
}

/// Every other offset up to `end` is done.
fn half(rig: &mut Rig, end: i64) {
    rig.deliver(0, 0..end);
    (1..end).step_by(2).for_each(|at| rig.done(0, at..at + 1));
}

#[test]
fn a_commit_is_due_when_only_what_is_above_its_offset_has_changed() {
    let mut rig = rig(Some(INTERVAL));
    rig.deliver(0, 0..10);
    rig.done(0, 5..7);
    rig.pass(INTERVAL);
    assert_eq!(sent_one(&mut rig), (0, vec![5..7]));
    rig.done(0, 8..9);
    rig.take(&[(0, OK)]);
    rig.pass(INTERVAL);
    assert_eq!(sent_one(&mut rig), (0, vec![5..7, 8..9]), "what was done while it was in flight");
    rig.take(&[(0, OK)]);
    rig.pass(ms(5_000));
    assert_eq!(sent(&mut rig), [], "nothing has changed");
    assert_eq!(rig.commits.poll_timeout(), None);
    rig.done(0, 0..5);
    rig.pass(INTERVAL);
    assert_eq!(sent_one(&mut rig), (7, vec![8..9]));
    rig.take(&[(0, OK)]);
    rig.done(0, 7..10);
    let ticket = rig.commit();
    assert_eq!(sent(&mut rig), [(10, String::new())]);
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
}

#[test]
fn without_the_setting_only_offsets_are_committed() {
    let mut rig = Rig::automatic();
    rig.deliver(0, 0..10);
    rig.done(0, 5..7);
    rig.pass(INTERVAL);
    assert_eq!(sent(&mut rig), []);
    rig.done(0, 0..3);
    rig.pass(INTERVAL);
    assert_eq!(sent(&mut rig), [(3, String::new())]);
    let text = Packing::Wide;
    let text = finished::encode(50, std::iter::once(55..60), text, CHARS_MAX).unwrap().text;
    rig.commits.assign(&at(1), None, E, &stored(50, &text), true, rig.now);
    assert!(rig.commits.ledger(&at(1)).unwrap().restored().is_empty());
}

#[test]
fn calls_releases_and_the_end_carry_it_too() {
    let mut rig = rig(Some(INTERVAL));
    rig.deliver(0, 0..10);
    rig.done(0, 5..7);
    let ticket = rig.commit();
    assert_eq!(sent_one(&mut rig), (0, vec![5..7]));
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
    rig.done(0, 8..9);
    let ticket = rig.commits.release(&[at(0)], rig.now + ms(5_000), rig.now);
    assert_eq!(sent_one(&mut rig), (0, vec![5..7, 8..9]));
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
    rig.done(0, 2..3);
    let ticket = rig.commits.close(rig.now + ms(5_000), rig.now);
    assert_eq!(sent_one(&mut rig), (0, vec![2..3, 5..7, 8..9]));
    rig.take(&[(0, OK)]);
    assert!(rig.is_committed(ticket));
}

#[test]
fn a_transaction_carries_it_and_so_does_the_next_one() {
    let mut rig = rig(None);
    rig.deliver(0, 0..10);
    rig.done(0, 5..7);
    let given = rig.commits.done();
    assert_eq!(given.len(), 1);
    assert_eq!(runs(0, given[0].1.metadata.as_deref().unwrap()), [5..7]);
    rig.done(0, 8..9);
    rig.commits.handle_stored(&given, rig.now);
    let given = rig.commits.done();
    assert_eq!(runs(0, given[0].1.metadata.as_deref().unwrap()), [5..7, 8..9]);
    rig.commits.handle_stored(&given, rig.now);
    assert_eq!(rig.commits.done(), []);
    // The coordinator of the transaction counts bytes.
    rig.done(0, 2..3);
    let given = rig.commits.done();
    rig.commits.handle_not_stored(&given, &answer(ErrorCode::REBALANCE_IN_PROGRESS));
    assert_eq!(warnings(&mut rig), [] as [String; 0]);
    let given = rig.commits.done();
    assert!(!given[0].1.metadata.as_deref().unwrap().is_ascii());
    rig.commits.handle_not_stored(&given, &answer(ErrorCode::OFFSET_METADATA_TOO_LARGE));
    assert_eq!(warnings(&mut rig).len(), 1);
    let given = rig.commits.done();
    assert!(given[0].1.metadata.as_deref().unwrap().is_ascii());
}

#[test]
fn what_the_application_gives_is_stored_as_it_is() {
    let mut rig = rig(Some(INTERVAL));
    rig.deliver(0, 0..10);
    rig.done(0, 5..7);
    rig.commits.commit_offsets([(at(0), stored(2, "by hand"))], rig.now + ms(5_000), rig.now);
    assert_eq!(sent(&mut rig), [(2, "by hand".to_string())]);
    rig.take(&[(0, OK)]);
    rig.pass(ms(5_000));
    assert_eq!(sent(&mut rig), [], "until something is done, the text stays");
    rig.done(0, 8..9);
    rig.pass(INTERVAL);
    assert_eq!(sent_one(&mut rig), (2, vec![5..7, 8..9]));
    rig.take(&[(0, OK)]);
    rig.commits.commit_offsets([(at(0), StoredOffset::at(3))], rig.now + ms(5_000), rig.now);
    assert_eq!(sent_one(&mut rig), (3, vec![5..7, 8..9]), "an offset without a text gets one");
    rig.take(&[(0, OK)]);
    rig.commits.commit_offsets([(at(0), StoredOffset::at(1))], rig.now + ms(5_000), rig.now);
    assert_eq!(sent(&mut rig), [(1, String::new())], "after an earlier offset all is wanted again");
}

#[test]
fn metadata_that_is_too_large_is_no_error_and_less_of_it_is_tried() {
    let mut rig = rig(Some(INTERVAL));
    half(&mut rig, 4_000);
    let ticket = rig.commit();
    let mut sizes = Vec::new();
    for _ in 0..10 {
        let [(0, text)] = &sent(&mut rig)[..] else { panic!() };
        sizes.push((text.encode_utf16().count(), text.len()));
        assert!(!runs(0, text).is_empty());
        rig.take(&[(0, ErrorCode::OFFSET_METADATA_TOO_LARGE)]);
        if rig.settled.contains_key(&ticket) {
            break;
        }
    }
    assert_eq!(sizes, [(271, 813), (676, 676), (512, 512)]);
    assert_eq!(sent(&mut rig), []);
    assert!(rig.is_committed(ticket), "the offset itself is stored already");
    let warned = warnings(&mut rig);
    assert!(warned.len() == 1 && warned[0].contains("orders-0") && warned[0].contains("813"), "{warned:?}");
    // Nothing above the offset is due any more, and offsets are.
    rig.done(0, 2..3);
    rig.pass(ms(5_000));
    assert_eq!(sent(&mut rig), []);
    assert!(!rig.commits.is_full(&at(0)));
    rig.done(0, 0..1);
    rig.pass(INTERVAL);
    assert_eq!(sent(&mut rig), [(4, String::new())]);
    rig.take(&[(0, OK)]);
    // Another coordinator may take more.
    rig.commits.handle_lost(Kind::Commit, &silence(), rig.now);
    rig.commits.handle_coordinator(Ok(BrokerId(1)), rig.now);
    rig.done(0, 4..5);
    rig.pass(INTERVAL);
    assert_eq!(sent(&mut rig), [(6, String::new())], "it is the same one");
    rig.take(&[(0, OK)]);
    rig.commits.handle_coordinator(Ok(BrokerId(2)), rig.now);
    rig.done(0, 8..9);
    rig.pass(INTERVAL);
    let [(6, text)] = &sent(&mut rig)[..] else { panic!() };
    assert!(text.starts_with('ᛗ'));
}

#[test]
fn a_text_of_the_application_that_is_too_large_is_its_error() {
    let mut rig = rig(Some(INTERVAL));
    rig.deliver(0, 0..10);
    let ticket = rig.commits.commit_offsets([(at(0), stored(2, "by hand"))], rig.now + ms(5_000), rig.now);
    sent(&mut rig);
    rig.take(&[(0, ErrorCode::OFFSET_METADATA_TOO_LARGE)]);
    assert_eq!(rig.code(ticket), Some(ErrorCode::OFFSET_METADATA_TOO_LARGE));
}

#[test]
fn a_partition_is_full_before_its_text_is() {
    let mut rig = rig(Some(INTERVAL));
    half(&mut rig, 40_000);
    assert!(!rig.commits.is_full(&at(0)));
    rig.deliver(0, 40_000..60_000);
    (40_001..50_000).step_by(2).for_each(|at| rig.done(0, at..at + 1));
    assert!(rig.commits.is_full(&at(0)));
    // What was in hand by then still fits.
    (50_001..60_000).step_by(2).for_each(|at| rig.done(0, at..at + 1));
    rig.pass(INTERVAL);
    let (offset, kept) = sent_one(&mut rig);
    assert_eq!((offset, kept.len()), (0, 30_000));
    rig.done(0, 0..20_000);
    assert!(!rig.commits.is_full(&at(0)), "it opens again");
}

#[test]
fn requests_stay_small_enough_for_the_coordinator_log() {
    let mut rig = Rig::with(keeping(Some(INTERVAL)));
    let partitions: Vec<i32> = (0..70).collect();
    rig.assign(&partitions);
    for partition in &partitions {
        rig.deliver(*partition, 0..40_000);
        let mut rng = Rng::seeded(1);
        (1..40_000).filter(|_| rng.below(2) == 0).for_each(|at| rig.done(*partition, at..at + 1));
    }
    rig.pass(INTERVAL);
    let (mut committed, mut requests) = (0, 0);
    loop {
        let request = sent(&mut rig);
        if request.is_empty() {
            break;
        }
        let bytes: usize = request.iter().map(|(_, text)| text.len()).sum();
        assert!(bytes < (1 << 20) / 3 * 2, "{bytes} bytes");
        let first = committed;
        committed += request.len() as i32;
        let taken: Vec<_> = (first..committed).map(|partition| (partition, OK)).collect();
        rig.take(&taken);
        requests += 1;
    }
    assert_eq!((committed, requests), (70, 2));
}

#[test]
fn what_an_earlier_owner_finished_is_restored() {
    let text = finished::encode(50, [55..60, 70..80].into_iter(), Packing::Wide, CHARS_MAX).unwrap().text;
    let mut rig = Rig::with(keeping(Some(INTERVAL)));
    rig.commits.assign(&at(0), None, E, &stored(50, &text), true, rig.now);
    assert!(rig.commits.check_restored(&at(0), 80, rig.now), "the log ends right after it");
    rig.deliver(0, 50..65);
    rig.pass(ms(5_000));
    assert_eq!(sent(&mut rig), [], "all of it is stored");
    rig.done(0, 51..52);
    rig.pass(INTERVAL);
    assert_eq!(sent_one(&mut rig), (50, vec![51..52, 55..60, 70..80]), "with what is not delivered yet");
    rig.take(&[(0, OK)]);
    rig.done(0, 50..65);
    rig.pass(INTERVAL);
    assert_eq!(sent_one(&mut rig), (65, vec![70..80]));
    assert_eq!(warnings(&mut rig), [] as [String; 0]);
}

#[test]
fn a_map_that_reaches_past_the_end_of_the_log_is_not_believed() {
    // Parallel Consumer's form of: one offset is unfinished, and two billion after it are finished.
    let mut rig = Rig::with(keeping(Some(INTERVAL)));
    rig.commits.assign(&at(0), None, E, &stored(50, "ZQAAAAF/////"), true, rig.now);
    assert_eq!(*rig.commits.ledger(&at(0)).unwrap().restored().to_vec(), [51..51 + 0x7fff_ffff]);
    assert!(!rig.commits.check_restored(&at(0), 100, rig.now));
    let warned = warnings(&mut rig);
    assert!(
        warned.len() == 1 && warned[0].contains("orders-0") && warned[0].contains("ends at offset 100"),
        "{warned:?}"
    );
    rig.deliver(0, 50..100);
    rig.pass(INTERVAL);
    assert_eq!(sent(&mut rig), [(50, String::new())], "the stored map is replaced");
    rig.take(&[(0, OK)]);
    rig.done(0, 50..100);
    rig.pass(INTERVAL);
    assert_eq!(sent(&mut rig), [(100, String::new())]);
}

#[test]
fn other_metadata_is_left_alone_and_a_damaged_map_is_named() {
    let mut rig = Rig::with(keeping(Some(INTERVAL)));
    rig.commits.assign(&at(0), None, E, &stored(50, "by the nightly job"), true, rig.now);
    assert_eq!(warnings(&mut rig), [] as [String; 0]);
    rig.deliver(0, 50..60);
    rig.pass(ms(5_000));
    assert_eq!(sent(&mut rig), []);
    let of_another_base =
        finished::encode(49, std::iter::once(55..60), Packing::Narrow, CHARS_MAX).unwrap().text;
    rig.commits.assign(&at(1), None, E, &stored(50, &of_another_base), true, rig.now);
    let warned = warnings(&mut rig);
    assert!(
        warned.len() == 1 && warned[0].contains("orders-1") && warned[0].contains("not made for this offset")
    );
}

#[test]
fn what_does_not_exist_any_more_is_forgotten() {
    let text = finished::encode(50, std::iter::once(55..60), Packing::Wide, CHARS_MAX).unwrap().text;
    let restored = |change: &dyn Fn(&mut Commits)| {
        let mut rig = Rig::with(keeping(Some(INTERVAL)));
        rig.commits.assign(&at(0), Some(Uuid::from_bytes([1; 16])), E, &stored(50, &text), true, rig.now);
        change(&mut rig.commits);
        rig.commits.ledger(&at(0)).unwrap().restored().len()
    };
    let now = Instant::ORIGIN;
    assert_eq!(restored(&|_| {}), 1);
    assert_eq!(restored(&|commits| commits.truncate(&at(0), Epoch(2), 52, now)), 0);
    assert_eq!(restored(&|commits| commits.reset(&at(0), Epoch(2), 52, now)), 0);
    assert_eq!(restored(&|commits| commits.set_topic_id(&at(0), Uuid::from_bytes([2; 16]))), 0);
    assert_eq!(restored(&|commits| commits.forget_restored(&at(0), now)), 0);
    // A record that cannot be read was skipped.
    assert_eq!(restored(&|commits| commits.seek(&at(0), Epoch(2), 51, now)), 1);
    // A transaction was aborted, and the application goes back to what is stored.
    let goes_back = |commits: &mut Commits| {
        commits.forget_restored(&at(0), now);
        commits.seek(&at(0), Epoch(2), 50, now);
        commits.restore(&at(0), &stored(50, &text));
    };
    assert_eq!(restored(&goes_back), 1);
}

/// A log of one partition, what the application has processed, and what the coordinator has stored.
struct World {
    seed: u64,
    rng: Rng,
    now: Instant,
    commits: Commits,
    epoch: Epoch,
    generation: u64,
    /// By offset: whether there is a record, and whether it is processed.
    log: Vec<(bool, bool)>,
    /// Records that were handed out and are not processed, with their epochs.
    in_hand: Vec<(Epoch, i64)>,
    position: i64,
    /// What was processed and is not wanted again.
    known: BTreeSet<i64>,
    /// The offset, the text, and all that was known when it was made.
    stored: (i64, String, BTreeSet<i64>),
    in_flight: Option<(i64, String, BTreeSet<i64>)>,
    /// The longest metadata that the coordinator takes, and whether it counts bytes.
    limit: usize,
    counts_bytes: bool,
    restarts: usize,
    spared: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::seeded(seed);
        let (limit, counts_bytes) = match rng.below(4) {
            0 => (10 + rng.below(60) as usize, rng.below(2) == 0),
            1 => (200, true),
            _ => (4096, false),
        };
        let mut world = Self {
            seed,
            commits: Commits::new(keeping(Some(INTERVAL)), Rng::seeded(seed)),
            rng,
            now: Instant::ORIGIN,
            epoch: Epoch(0),
            generation: 0,
            log: Vec::new(),
            in_hand: Vec::new(),
            position: 0,
            known: BTreeSet::new(),
            stored: (0, String::new(), BTreeSet::new()),
            in_flight: None,
            limit,
            counts_bytes,
            restarts: 0,
            spared: 0,
        };
        world.restart();
        world.restarts = 0;
        world
    }

    fn next_epoch(&mut self) -> Epoch {
        self.generation += 1;
        self.epoch = Epoch(self.generation);
        self.epoch
    }

    /// The program was killed, and another one begins where the group has stored it.
    fn restart(&mut self) {
        self.commits = Commits::new(keeping(Some(INTERVAL)), Rng::seeded(self.seed));
        self.commits.handle_identity(Some(member(1)));
        self.commits.handle_coordinator(Ok(BrokerId(1)), self.now);
        (self.in_hand, self.in_flight) = (Vec::new(), None);
        let (offset, text, known) = self.stored.clone();
        let epoch = self.next_epoch();
        self.commits.assign(&at(0), None, epoch, &stored(offset, &text), true, self.now);
        self.position = offset;
        self.restarts += 1;
        assert!(self.commits.check_restored(&at(0), self.log.len() as i64, self.now), "seed {}", self.seed);
        let ledger = self.commits.ledger(&at(0)).unwrap();
        if self.limit == 4096 {
            for at in known.range(offset..) {
                let is_restored = ledger.restored().iter().any(|run| run.contains(at));
                assert!(
                    is_restored,
                    "seed {}: {at} was committed as processed and would come again",
                    self.seed
                );
            }
        }
        self.known = known;
    }

    fn deliver(&mut self) {
        let start = self.position;
        if start as usize == self.log.len() {
            let gap = self.rng.below(6).saturating_sub(3) as usize;
            self.log.extend(vec![(false, false); gap]);
            self.log.extend(vec![(true, false); 1 + self.rng.below(12) as usize]);
        }
        let first = self.log[start as usize..]
            .iter()
            .position(|(is_record, _)| *is_record)
            .map_or(0, |gap| gap as i64);
        let end = (start + first + 1 + i64::from(self.rng.below(12))).min(self.log.len() as i64);
        let batch = start + first..end;
        let restored = Arc::clone(self.commits.ledger(&at(0)).unwrap().restored());
        assert!(self.commits.handle_delivered(&at(0), self.epoch, batch.clone(), None, self.now));
        for offset in batch {
            if !self.log[offset as usize].0 {
                self.commits.handle_done(&at(0), self.epoch, offset..offset + 1, self.now);
            } else if restored.iter().any(|run| run.contains(&offset)) {
                self.spared += 1;
                assert!(self.log[offset as usize].1, "seed {}: {offset} is skipped unprocessed", self.seed);
            } else {
                self.in_hand.push((self.epoch, offset));
            }
        }
        self.position = end;
    }

    fn done(&mut self) {
        let count = self.in_hand.len() as u32;
        if count > 0 {
            let (epoch, offset) = self.in_hand.swap_remove(self.rng.below(count) as usize);
            self.log[offset as usize].1 = true;
            self.known.insert(offset);
            self.commits.handle_done(&at(0), epoch, offset..offset + 1, self.now);
        }
    }

    /// The application wants records again, or skips one that it cannot read.
    fn seek(&mut self, is_skip: bool) {
        let from = if is_skip {
            self.position.min(self.in_hand.iter().map(|(_, at)| *at + 1).min().unwrap_or(0))
        } else {
            0
        };
        let to = from + i64::from(self.rng.below((self.position - from) as u32 + 1));
        let epoch = self.next_epoch();
        if !is_skip {
            self.commits.forget_restored(&at(0), self.now);
        }
        self.commits.seek(&at(0), epoch, to, self.now);
        self.in_hand.retain(|(_, offset)| *offset < to);
        let restored = Arc::clone(self.commits.ledger(&at(0)).unwrap().restored());
        self.known.retain(|at| *at < to || restored.iter().any(|run| run.contains(at)));
        self.position = to;
    }

    fn drain(&mut self) {
        self.commits.handle_timeout(self.now);
        while let Some(request) = self.commits.poll_request(self.now) {
            let Request::Commit { request, .. } = request else { panic!("nothing is looked up") };
            let of = &request.topics[0].partitions[0];
            let text = of.committed_metadata.as_deref().unwrap_or_default().to_string();
            let mut known = self.known.clone();
            if of.committed_offset != self.commits.ledger(&at(0)).unwrap().committable().offset {
                // An earlier commit whose answer was lost is made sure of.
                known.retain(|at| *at < of.committed_offset);
            }
            self.check(of.committed_offset, &text);
            self.in_flight = Some((of.committed_offset, text, known));
        }
        while self.commits.poll_event().is_some() {}
        if self.commits.poll_coordinator_wanted(self.now) {
            self.commits.handle_coordinator(Ok(BrokerId(1)), self.now);
        }
    }

    /// A commit says nothing that is not so.
    fn check(&self, offset: i64, text: &str) {
        let said = runs(offset, text);
        for (index, (is_record, is_processed)) in self.log.iter().enumerate() {
            let index = index as i64;
            let is_said = index < offset || said.iter().any(|run| run.contains(&index));
            let is_so = !is_record || *is_processed;
            assert!(!is_said || is_so, "seed {}: {index} is said to be finished", self.seed);
        }
        assert!(said.last().is_none_or(|last| last.end <= self.log.len() as i64));
    }

    fn answer(&mut self) {
        let Some(sent) = self.in_flight.take() else { return };
        let size = if self.counts_bytes { sent.1.len() } else { sent.1.encode_utf16().count() };
        let fate = self.rng.below(8);
        let code = if size > self.limit { ErrorCode::OFFSET_METADATA_TOO_LARGE } else { OK };
        if code == OK && fate != 0 {
            self.stored = sent;
        }
        if fate < 2 {
            return self.commits.handle_lost(Kind::Commit, &silence(), self.now);
        }
        let partition = OffsetCommitResponsePartition { error_code: code, ..Default::default() };
        let topic = OffsetCommitResponseTopic {
            name: "orders".into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let response = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        self.commits.handle_committed(&response, self.now);
    }

    fn step(&mut self) {
        match self.rng.below(40) {
            0..=7 => self.deliver(),
            8..=23 => self.done(),
            24..=29 => self.answer(),
            30 if self.rng.below(4) == 0 => self.seek(false),
            31 if self.rng.below(3) == 0 => self.seek(true),
            32 => drop(self.commits.commit(self.now + ms(20_000), self.now)),
            33 if self.rng.below(2) == 0 => self.restart(),
            _ => self.now += ms(300),
        }
        self.drain();
    }
}

#[test]
fn a_restart_at_any_point_skips_nothing_unfinished_and_repeats_nothing_that_was_committed_as_finished() {
    let (mut restarts, mut spared) = (0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..600 {
            world.step();
        }
        restarts += world.restarts;
        spared += world.spared;
    }
    assert!(restarts > 2_000 && spared > 10_000, "{restarts} restarts, {spared} records did not come again");
}
