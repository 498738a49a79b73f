//! The finished offsets above a committed one, as a text that is stored beside it as metadata.
//!
//! ```text
//!  base 100, finished 103..110 and 112..113 ─▶ encode ─▶ "ᛗ…" ─▶ OffsetCommit
//!  OffsetFetch ─▶ "ᛗ…", or a text of Confluent's Parallel Consumer ─▶ decode ─▶ 103..110, 112..113
//! ```
//!
//! A commit says only that everything below its offset is finished. With this text beside it, a restart runs again only what
//! was not finished above.
//!
//! # The text
//!
//! The first character says how bits are packed into the ones after it (`packing.rs`): `ᛗ` for 15 bits in a character, `~` for
//! 6 bits in a byte. The bits are, each number with its highest bit first:
//!
//! | bits | content |
//! |---|---|
//! | 4 | the version, 1 |
//! | 1 | the form: 0 for one bit per offset, 1 for run lengths |
//! | 25 | a checksum of the base and of everything else |
//! | | one bit per offset: the number of offsets, in an Exp-Golomb code of order 12; then a bit for each from the base on, set if it is finished |
//! | | run lengths: in 5 bits each, the orders of the codes for gaps and for lengths; the number of runs, of order 8; then of each run the gap before it and its length, both less 1. The first gap begins at the offset before the base. |
//!
//! The checksum covers the base, because programs that move committed offsets (MirrorMaker 2, reset tools) may carry the
//! metadata along, and at another base the text would name records that nobody has processed.
//!
//! This must not know partitions, requests or what is delivered.

mod bits;
mod packing;
mod parallel_consumer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

use self::bits::{Reader, Writer, golomb_bits};
pub use self::packing::Packing;

/// The longest text that is stored: the default of Kafka's `offset.metadata.max.bytes`, which counts UTF-16 units.
pub const CHARS_MAX: usize = 4096;
/// A longer text is not read. A broker may allow more than 4 096, and Parallel Consumer uses it.
const TEXT_BYTES_MAX: usize = 1 << 20;
/// Of a text with more runs the first ones are kept. It is half of what a partition may have before no more of it is
/// delivered, and more than fits into 4 096 characters.
pub const RUNS_MAX: usize = super::ledger::RUNS_MAX / 2;

const VERSION: u64 = 1;
const VERSION_BITS: u32 = 4;
const FORM_BITS: u32 = 1;
const CHECK_BITS: u32 = 25;
const HEADER_BITS: u64 = (VERSION_BITS + FORM_BITS + CHECK_BITS) as u64;
/// Of the first four bytes.
const CHECK_SHIFT: u32 = 32 - HEADER_BITS as u32;
const ORDER_BITS: u32 = 5;
const ORDER_MAX: u32 = (1 << ORDER_BITS) - 1;
/// The order of the code for the number of offsets: most maps have some thousands.
const SPAN_ORDER: u32 = 12;
/// The order of the code for the number of runs.
const COUNT_ORDER: u32 = 8;

/// A text to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The metadata.
    pub text: String,
    /// Whether all runs are in it. Otherwise those nearest to the base are.
    pub is_whole: bool,
}

/// What a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// Nothing of ours: it is empty, or another program's, or a person's.
    NotAMap,
    /// It was written by this program or by Parallel Consumer: these offsets are finished, ascending. No two runs touch.
    Finished(Vec<Range<i64>>),
    /// It looks like a map and is none that can be believed.
    Refused(Refusal),
}

/// Why a map is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(&'static str);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The text that says that `runs` are finished, although everything is committed only up to `base`. It has `chars_max`
/// characters at most. None if nothing above the base is finished, or nothing of it fits.
///
/// `runs` are ascending and do not overlap. Offsets below the base are left out.
pub fn encode(
    base: i64,
    runs: impl Iterator<Item = Range<i64>>,
    packing: Packing,
    chars_max: usize,
) -> Option<Encoded> {
    if base < 0 {
        return None;
    }
    let mut joined = Runs::new(usize::MAX);
    for run in runs {
        joined.push(run.start.max(base)..run.end);
    }
    let runs = joined.runs;
    let bits_max = packing.bits_in(chars_max);
    let steps = Steps::of(base, &runs);
    let span = runs.last()?.end.abs_diff(base);
    let as_bits = HEADER_BITS + golomb_bits(span - 1, SPAN_ORDER) + span;
    let is_whole = as_bits.min(steps.bits) <= bits_max;
    let writer = if is_whole {
        if as_bits <= steps.bits { write_bits(base, &runs, span) } else { steps.write(steps.pairs.len()) }
    } else {
        let count = steps.count_within(bits_max);
        let of_steps: u64 = runs[..count].iter().map(|run| run.end.abs_diff(run.start)).sum();
        // A shorter span has no longer code.
        let room = bits_max.saturating_sub(HEADER_BITS + golomb_bits(span - 1, SPAN_ORDER));
        let end = base.saturating_add_unsigned(room);
        let kept = runs.iter().map(|run| run.start.min(end)..run.end.min(end)).filter(|run| !run.is_empty());
        let kept: Vec<_> = kept.collect();
        let of_bits: u64 = kept.iter().map(|run| run.end.abs_diff(run.start)).sum();
        if of_bits > of_steps {
            let span = kept.last()?.end.abs_diff(base);
            write_bits(base, &kept, span)
        } else if count > 0 {
            steps.write(count)
        } else {
            return None;
        }
    };
    let bits = writer.written();
    let mut bytes = writer.into_bytes();
    put_check(base, &mut bytes);
    Some(Encoded { text: packing.pack(&bytes, bits), is_whole })
}

/// The bits that a map needs at most, without making it: `runs` runs above `base` with `offsets` offsets, the last of which ends
/// at `end`.
pub fn bits_at_most(base: i64, end: i64, runs: usize, offsets: i64) -> u64 {
    let Ok(runs) = u64::try_from(runs) else { return u64::MAX };
    if runs == 0 {
        return 0;
    }
    let span = end.abs_diff(base);
    let as_bits = golomb_bits(span, SPAN_ORDER) + span;
    // With the order of the mean, no code is longer on average than the order and 5 bits, because the code's length grows as
    // the logarithm.
    let per_run = |of: u64| {
        let order = (of / runs).checked_ilog2().unwrap_or(0);
        u64::from(order + order.saturating_sub(ORDER_MAX)) + 5
    };
    let finished = offsets.unsigned_abs();
    let as_runs = runs.saturating_mul(per_run(finished) + per_run(span.saturating_sub(finished)));
    HEADER_BITS
        + as_bits.min(as_runs.saturating_add(golomb_bits(runs, COUNT_ORDER) + 2 * u64::from(ORDER_BITS)))
}

/// What a committed text says of the offsets above `base`, the offset that it was committed with.
pub fn decode(base: i64, text: &str) -> Decoded {
    if text.len() > TEXT_BYTES_MAX || base < 0 {
        return Decoded::NotAMap;
    }
    let Some((packing, packed)) = Packing::of(text) else {
        return parallel_consumer::decode(base, text);
    };
    // A person's text may begin with the same character. What cannot be unpacked is not ours.
    let Some(bytes) = packing.unpack(packed) else { return Decoded::NotAMap };
    match read(base, bytes) {
        Ok(runs) => Decoded::Finished(runs),
        Err(refusal) => Decoded::Refused(refusal),
    }
}

const CUT_OFF: Refusal = Refusal("it is cut off");
const TOO_LARGE: Refusal = Refusal("it names offsets that no log has");

fn read(base: i64, mut bytes: Vec<u8>) -> Result<Vec<Range<i64>>, Refusal> {
    let mut header = Reader::new(&bytes);
    let version = header.bits(VERSION_BITS).ok_or(CUT_OFF)?;
    if version != VERSION {
        return Err(Refusal("it is of a version that this program does not know"));
    }
    let is_steps = header.bits(FORM_BITS).ok_or(CUT_OFF)? == 1;
    let stored = header.bits(CHECK_BITS).ok_or(CUT_OFF)?;
    if stored != take_check(base, &mut bytes) {
        return Err(Refusal("it was not made for this offset, or is damaged"));
    }
    let mut reader = Reader::new(&bytes);
    reader.bits(HEADER_BITS as u32).ok_or(CUT_OFF)?;
    let mut runs = Runs::new(RUNS_MAX);
    if is_steps {
        let gap_order = reader.bits(ORDER_BITS).ok_or(CUT_OFF)? as u32;
        let length_order = reader.bits(ORDER_BITS).ok_or(CUT_OFF)? as u32;
        let count = reader.golomb(COUNT_ORDER).ok_or(CUT_OFF)?;
        let mut at = base - 1;
        for _ in 0..count {
            let gap = reader.golomb(gap_order).ok_or(CUT_OFF)?;
            let length = reader.golomb(length_order).ok_or(CUT_OFF)?;
            let start = at.checked_add(1).and_then(|at| at.checked_add_unsigned(gap)).ok_or(TOO_LARGE)?;
            let end = start.checked_add(1).and_then(|at| at.checked_add_unsigned(length)).ok_or(TOO_LARGE)?;
            if !runs.push(start..end) {
                break;
            }
            at = end;
        }
    } else {
        let span = reader.golomb(SPAN_ORDER).and_then(|span| span.checked_add(1)).ok_or(CUT_OFF)?;
        if span > reader.bits_left() {
            return Err(CUT_OFF);
        }
        base.checked_add_unsigned(span).ok_or(TOO_LARGE)?;
        for index in 0..span {
            let at = base.saturating_add_unsigned(index);
            if reader.bits(1) == Some(1) && !runs.push(at..at + 1) {
                break;
            }
        }
    }
    Ok(runs.runs)
}

fn header(form: u64) -> Writer {
    let mut writer = Writer::default();
    writer.bits(VERSION, VERSION_BITS);
    writer.bits(form, FORM_BITS);
    writer.bits(0, CHECK_BITS);
    writer
}

fn write_bits(base: i64, runs: &[Range<i64>], span: u64) -> Writer {
    let mut writer = header(0);
    writer.golomb(span - 1, SPAN_ORDER);
    let mut at = base;
    for run in runs {
        writer.repeat(false, run.start.abs_diff(at));
        writer.repeat(true, run.end.abs_diff(run.start));
        at = run.end;
    }
    writer
}

/// Runs as gaps and lengths, each less 1.
struct Steps {
    pairs: Vec<(u64, u64)>,
    gap_order: u32,
    length_order: u32,
    /// What they need together, with the header.
    bits: u64,
}

impl Steps {
    fn of(base: i64, runs: &[Range<i64>]) -> Self {
        // The first run may begin at the base itself.
        let mut at = base - 1;
        let mut pairs = Vec::with_capacity(runs.len());
        for run in runs {
            pairs.push((run.start.abs_diff(at) - 1, run.end.abs_diff(run.start) - 1));
            at = run.end;
        }
        let gap_order = best_order(&pairs, |(gap, _)| *gap);
        let length_order = best_order(&pairs, |(_, length)| *length);
        let mut steps = Self { pairs, gap_order, length_order, bits: 0 };
        let of_pairs: u64 = steps.pairs.iter().map(|pair| steps.bits_of(*pair)).sum();
        steps.bits = steps.bits_before(steps.pairs.len()) + of_pairs;
        steps
    }

    fn bits_before(&self, count: usize) -> u64 {
        HEADER_BITS + 2 * u64::from(ORDER_BITS) + golomb_bits(count as u64, COUNT_ORDER)
    }

    fn bits_of(&self, (gap, length): (u64, u64)) -> u64 {
        golomb_bits(gap, self.gap_order) + golomb_bits(length, self.length_order)
    }

    /// How many of the first runs fit.
    fn count_within(&self, bits_max: u64) -> usize {
        let mut bits = self.bits_before(self.pairs.len());
        let fits = |pair: &&(u64, u64)| {
            bits += self.bits_of(**pair);
            bits <= bits_max
        };
        self.pairs.iter().take_while(fits).count()
    }

    fn write(&self, count: usize) -> Writer {
        let mut writer = header(1);
        writer.bits(u64::from(self.gap_order), ORDER_BITS);
        writer.bits(u64::from(self.length_order), ORDER_BITS);
        writer.golomb(count as u64, COUNT_ORDER);
        for (gap, length) in &self.pairs[..count] {
            writer.golomb(*gap, self.gap_order);
            writer.golomb(*length, self.length_order);
        }
        writer
    }
}

/// The order whose codes are shortest for these values, of the three around their mean.
fn best_order(pairs: &[(u64, u64)], value: impl Fn(&(u64, u64)) -> u64) -> u32 {
    let sum = pairs.iter().map(&value).fold(0_u64, u64::saturating_add);
    let of_mean = (sum / (pairs.len() as u64).max(1)).checked_ilog2().unwrap_or(0).min(ORDER_MAX - 1);
    let bits = |order: u32| pairs.iter().map(|pair| golomb_bits(value(pair), order)).sum::<u64>();
    (of_mean.saturating_sub(1)..=of_mean + 1).min_by_key(|order| bits(*order)).unwrap_or(0)
}

/// Runs that are joined where they touch.
struct Runs {
    runs: Vec<Range<i64>>,
    count_max: usize,
}

impl Runs {
    fn new(count_max: usize) -> Self {
        Self { runs: Vec::new(), count_max }
    }

    /// Adds a run that begins at or after the end of the last one. Answers false if there is no room for more.
    fn push(&mut self, run: Range<i64>) -> bool {
        if run.is_empty() {
            return true;
        }
        let has_room = self.runs.len() < self.count_max;
        match self.runs.last_mut() {
            Some(last) if last.end >= run.start => last.end = last.end.max(run.end),
            _ if has_room => self.runs.push(run),
            _ => return false,
        }
        true
    }
}

fn put_check(base: i64, bytes: &mut [u8]) {
    let check = take_check(base, bytes);
    if let Some(first) = bytes.first_chunk_mut::<4>() {
        *first = (u32::from_be_bytes(*first) | (check as u32) << CHECK_SHIFT).to_be_bytes();
    }
}

/// Clears the checksum in `bytes` and answers with what it should be: FNV-1a of the base and all bytes, folded. It tells
/// accidents, not forgeries: who may commit offsets may commit wrong ones.
fn take_check(base: i64, bytes: &mut [u8]) -> u64 {
    if let Some(first) = bytes.first_chunk_mut::<4>() {
        let mask = ((1_u32 << CHECK_BITS) - 1) << CHECK_SHIFT;
        *first = (u32::from_be_bytes(*first) & !mask).to_be_bytes();
    }
    // Zeros at the end are padding.
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let all = base.to_be_bytes();
    let hash = all.iter().chain(&bytes[..end]).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> CHECK_BITS ^ hash >> (2 * CHECK_BITS)) & ((1 << CHECK_BITS) - 1)
}
