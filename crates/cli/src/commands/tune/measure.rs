//! Measures codecs on a sample: the producer's batches, and the codecs as the client has them. It decides nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use milena_wire::Limits;
use milena_wire::batch::{RawBatch, SealedBatch};
use milena_wire::codec::{Compressor, Decompressor};
use milena_wire::pool::Pool;

use super::formats::Formats;
use super::sample::{Chunk, Sample, new_batch};
use crate::tune::candidate::Candidate;
use crate::tune::figures::Measured;
use crate::tune::schedule::{Schedule, Turn};

/// What was measured so far, which can be looked at while it goes on.
#[derive(Clone, Default)]
pub(super) struct Results(Arc<Mutex<Measurements>>);

#[derive(Clone, Default)]
pub(super) struct Measurements {
    /// The turns of each candidate.
    pub(super) turns: Vec<Vec<Measured>>,
    /// The ratios of batches of other sizes.
    pub(super) sizes: Vec<OfSize>,
    /// Other formats of the values, or why there are none. None while they are measured.
    pub(super) formats: Option<Result<Formats, Trouble>>,
}

/// What a codec makes of batches of another size.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfSize {
    pub(super) batch_bytes: usize,
    pub(super) candidate: Candidate,
    pub(super) ratio: f64,
}

/// Why a candidate could not be measured.
pub(super) type Trouble = String;

impl Results {
    pub(super) fn new(candidates: usize) -> Self {
        let turns = vec![Vec::new(); candidates];
        Self(Arc::new(Mutex::new(Measurements { turns, ..Measurements::default() })))
    }

    pub(super) fn set_formats(&self, formats: Result<Formats, Trouble>) {
        self.lock().formats = Some(formats);
    }

    pub(super) fn so_far(&self) -> Measurements {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Measurements> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures the candidates on batches of `batch_bytes` until the schedule ends, on this thread.
///
/// # Errors
/// When a batch cannot be made or read, which says what the codec answered.
pub(super) fn run(
    sample: &Sample,
    chunks: &[Chunk],
    candidates: &[Candidate],
    batch_bytes: usize,
    mut schedule: Schedule,
    results: &Results,
) -> Result<(), Trouble> {
    let mut bench = Bench::new(sample, batch_bytes, candidates.len());
    let begin = Instant::now();
    while let Some(turn) = schedule.next(begin.elapsed()) {
        let Turn { candidate, chunk } = turn;
        let at = Instant::now();
        let mut measured = bench.turn(&chunks[chunk], candidate, candidates[candidate])?;
        measured.chunk = chunk;
        schedule.note(turn, at.elapsed());
        results.lock().turns[candidate].push(measured);
    }
    Ok(())
}

/// Measures what the candidates make of batches of other sizes, from the smallest on, until `time` is over.
pub(super) fn sizes(sample: &Sample, candidates: &[Candidate], time: Duration, results: &Results) {
    let begin = Instant::now();
    for batch_bytes in SIZES {
        let chunks = sample.chunks(batch_bytes);
        for candidate in candidates {
            let mut bench = Bench::new(sample, batch_bytes, 1);
            let (mut plain, mut encoded) = (0, 0);
            for chunk in &chunks {
                if begin.elapsed() >= time {
                    return;
                }
                let Ok(measured) = bench.turn(chunk, 0, *candidate) else { return };
                plain += measured.plain_bytes;
                encoded += measured.encoded_bytes;
                if plain >= SIZES_BYTES {
                    break;
                }
            }
            let ratio = plain as f64 / encoded.max(1) as f64;
            results.lock().sizes.push(OfSize { batch_bytes, candidate: *candidate, ratio });
        }
    }
}

/// The bytes per record of a sample with this codec. None if it takes longer than `time`, or cannot be measured.
pub(super) fn record_bytes(
    sample: &Sample,
    chunks: &[Chunk],
    candidate: Candidate,
    batch_bytes: usize,
    time: Duration,
) -> Option<f64> {
    let begin = Instant::now();
    let mut bench = Bench::new(sample, batch_bytes, 1);
    let (mut records, mut bytes) = (0, 0);
    for chunk in chunks {
        if begin.elapsed() >= time {
            return None;
        }
        let measured = bench.turn(chunk, 0, candidate).ok()?;
        records += measured.record_count;
        bytes += measured.encoded_bytes;
    }
    (records > 0).then(|| bytes as f64 / records as f64)
}

/// From batches of a few records to those of a busy producer. 16 KiB is Java's default.
const SIZES: [usize; 5] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 1_000_000];
/// The ratio of batches of each size is taken of as much of the sample.
const SIZES_BYTES: u64 = 1 << 20;

/// The contexts that a producer and a consumer keep.
struct Bench<'a> {
    sample: &'a Sample,
    batch_bytes: usize,
    pool: Pool,
    /// One of each candidate: changing a level makes its tables anew.
    compressors: Vec<Compressor>,
    decompressor: Decompressor,
}

impl<'a> Bench<'a> {
    fn new(sample: &'a Sample, batch_bytes: usize, candidates: usize) -> Self {
        Self {
            sample,
            batch_bytes,
            pool: Pool::default(),
            compressors: (0..candidates).map(|_| Compressor::new()).collect(),
            decompressor: Decompressor::new(),
        }
    }

    fn turn(&mut self, chunk: &Chunk, index: usize, candidate: Candidate) -> Result<Measured, Trouble> {
        let Candidate { codec, level } = candidate;
        let mut measured = Measured { batch_count: chunk.batches.len() as u64, ..Measured::default() };
        let mut headers = Vec::new();
        let (mut open, mut sealed) = (Vec::new(), Vec::new());
        // All batches of the chunk at a time, because to ask for the time is not free.
        let begin = thread_ns();
        for batch in &chunk.batches {
            let mut builder = new_batch(&self.pool, self.batch_bytes);
            for record in &self.sample.records[batch.clone()] {
                record.append(&mut builder, &mut headers).map_err(|error| error.to_string())?;
            }
            open.push(builder);
        }
        let encoded = thread_ns();
        for builder in open {
            let compressor = &mut self.compressors[index];
            let batch = builder.seal_compressed(compressor, codec, level);
            sealed.push(batch.map_err(|error| error.to_string())?);
        }
        let compressed = thread_ns();
        for batch in &sealed {
            measured.record_count += u64::from(batch.record_count());
            measured.plain_bytes += batch.uncompressed_bytes() as u64;
            measured.encoded_bytes += batch.encoded_bytes() as u64;
        }
        let sent: Vec<_> = sealed.into_iter().map(SealedBatch::into_bytes).collect();
        let arrived = thread_ns();
        for bytes in &sent {
            let raw = RawBatch::parse(bytes);
            let read = raw.and_then(|raw| {
                // As a consumer does.
                raw.check_crc()?;
                raw.decompress(&mut self.decompressor, &self.pool, &LIMITS).map(drop)
            });
            read.map_err(|error| format!("{candidate} cannot be read back: {error}"))?;
        }
        measured.decompress_ns = thread_ns().saturating_sub(arrived);
        measured.encode_ns = encoded.saturating_sub(begin);
        measured.compress_ns = compressed.saturating_sub(encoded);
        Ok(measured)
    }
}

/// The batches are our own.
const LIMITS: Limits = Limits { decompressed_bytes_max: usize::MAX };

/// What the thread has had of the processor, in nanoseconds. The time between two calls does not count what other programs did
/// meanwhile.
#[cfg(unix)]
pub(super) fn thread_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds since the first call: this system does not tell what a thread has had of the processor.
#[cfg(not(unix))]
pub(super) fn thread_ns() -> u64 {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    u64::try_from(BEGIN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}
