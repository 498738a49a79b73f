use milena_wire::batch::BatchHeader;

use super::super::Roll;
use super::super::testing::{batch, entry};
use super::*;

/// A log in a directory of its own, and every batch appended to it.
struct Rig {
    dir: tempfile::TempDir,
    batches: Vec<Vec<u8>>,
}

impl Rig {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), batches: Vec::new() }
    }

    fn open(&self, recovery_point: i64) -> Result<Log, OpenError> {
        Log::open(self.dir.path(), recovery_point, &mut |_, _| {})
    }

    fn fill(&mut self, log: &mut Log, segment_bytes: u64, count: i64, bytes: impl Fn(i64) -> usize) {
        let roll = Roll { bytes_max: segment_bytes, span_max_ms: i64::MAX };
        for index in 0..count {
            let raw = batch(log.end(), 10, bytes(index), index);
            log.append(&entry(&raw), roll, 0).expect("appended");
            self.batches.push(raw);
        }
    }

    /// Every offset reads back what was appended there.
    fn assert_reads(&self, log: &mut Log) {
        assert_eq!(log.end(), self.batches.len() as i64 * 10);
        for offset in 0..log.end() {
            let expected = &self.batches[(offset / 10) as usize];
            assert_eq!(log.read(offset, 1, true).expect("read"), expected, "offset {offset}");
        }
        assert!(log.read(log.end(), 1000, true).expect("read").is_empty());
    }

    fn files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.dir.path()).expect("listed");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == extension));
        paths.sort();
        paths
    }
}

#[test]
fn segments_roll_by_size_and_are_found_again() {
    let mut rig = Rig::new();
    let mut log = rig.open(0).expect("opened");
    rig.fill(&mut log, 5000, 100, |index| 100 + (index as usize * 131) % 900);
    rig.assert_reads(&mut log);
    assert!(rig.files("log").len() > 8, "{:?}", rig.files("log"));
    let bytes = log.bytes();
    drop(log);
    let mut log = rig.open(0).expect("opened");
    assert_eq!(log.bytes(), bytes);
    rig.assert_reads(&mut log);
    rig.fill(&mut log, 5000, 10, |_| 700);
    rig.assert_reads(&mut log);
}

#[test]
fn reads_are_whole_batches_within_the_limit() {
    let mut rig = Rig::new();
    let mut log = rig.open(0).expect("opened");
    rig.fill(&mut log, 1 << 30, 50, |_| 300);
    let all = rig.batches.concat();
    for (offset, bytes_max, at_least_one, expected) in [
        (0, 300, true, 0..300),
        (0, 299, true, 0..300),
        (0, 299, false, 0..0),
        (10, 899, true, 300..900),
        (499, 5000, true, 14_700..15_000),
        (0, usize::MAX, true, 0..15_000),
    ] {
        let read = log.read(offset, bytes_max, at_least_one).expect("read");
        assert_eq!(read, all[expected], "offset {offset}, {bytes_max} bytes");
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_the_log_goes_on() {
    let mut rig = Rig::new();
    let mut log = rig.open(0).expect("opened");
    rig.fill(&mut log, 4000, 12, |_| 333);
    drop(log);
    let path = rig.files("log").pop().expect("a segment");
    let whole = fs::read(&path).expect("read");
    let last = rig.batches.pop().expect("a batch");
    let sound = whole.len() - last.len();
    for cut in sound..whole.len() {
        fs::write(&path, &whole[..cut]).expect("torn");
        let mut log = rig.open(0).expect("opened");
        rig.assert_reads(&mut log);
        assert_eq!(fs::metadata(&path).expect("there").len(), sound as u64, "cut at {cut}");
    }
    let mut log = rig.open(0).expect("opened");
    rig.fill(&mut log, 4000, 3, |_| 200);
    rig.assert_reads(&mut log);
}

#[test]
fn a_flipped_bit_after_the_recovery_point_cuts_the_log_there_and_before_it_is_an_error() {
    let mut rig = Rig::new();
    let mut log = rig.open(0).expect("opened");
    rig.fill(&mut log, 1000, 12, |_| 300);
    drop(log);
    let paths = rig.files("log");
    assert_eq!(paths.len(), 4);
    let mut bytes = fs::read(&paths[1]).expect("read");
    bytes[300 + 200] ^= 1; // in the records of the second batch of the second segment: offsets 40 to 49
    fs::write(&paths[1], &bytes).expect("written");
    assert!(matches!(rig.open(50), Err(OpenError::Damaged { damage, .. }) if damage.position == 300));
    let mut log = rig.open(40).expect("opened");
    rig.batches.truncate(4);
    rig.assert_reads(&mut log);
    assert_eq!(rig.files("log").len(), 2, "segments after the damage are gone");
}

#[test]
fn a_log_that_ends_before_its_recovery_point_is_an_error() {
    let rig = Rig::new();
    assert!(matches!(rig.open(1), Err(OpenError::Damaged { .. })));
}

#[test]
fn time_finds_the_first_batch_that_reaches_it_in_any_segment() {
    let mut rig = Rig::new();
    let mut log = rig.open(0).expect("opened");
    rig.fill(&mut log, 5000, 60, |_| 400);
    assert_eq!(log.max_timestamp(), Some(59));
    for timestamp in 0..60 {
        let found = log.batch_by_time(timestamp, 0).expect("read").expect("found");
        assert_eq!(found, rig.batches[timestamp as usize], "time {timestamp}");
    }
    assert_eq!(log.batch_by_time(60, 0).expect("read"), None);
}

#[test]
fn index_files_are_in_kafkas_form() {
    let mut rig = Rig::new();
    let mut log = rig.open(0).expect("opened");
    rig.fill(&mut log, 1 << 20, 40, |_| 500);
    log.flush().expect("flushed");
    let log_bytes = fs::read(&rig.files("log")[0]).expect("read");
    let index = fs::read(&rig.files("index")[0]).expect("read");
    assert_eq!(index.len(), 8 * 4, "one entry for every nine batches");
    for entry in index.chunks(8) {
        let offset = i32::from_be_bytes(entry[..4].try_into().expect("four bytes"));
        let position = i32::from_be_bytes(entry[4..].try_into().expect("four bytes")) as usize;
        let header = BatchHeader::parse(&log_bytes[position..]).expect("a batch starts there");
        assert_eq!(header.last_offset(), i64::from(offset), "Kafka's dump tool checks this");
    }
    let times = fs::read(&rig.files("timeindex")[0]).expect("read");
    assert_eq!(times.len(), 12 * 5, "one for each index entry and the last batch");
    assert_eq!(times[48..], [&39_i64.to_be_bytes()[..], &399_i32.to_be_bytes()[..]].concat());
}
