//! From single measurements to figures that can be compared.
//!
//! Times are medians over turns, per byte of uncompressed batch. Sizes do not vary, but a slow candidate has seen only a part of the
//! sample: what it would make of the rest follows from a candidate that has seen all of it.

use std::collections::BTreeMap;

use crate::tune::candidate::Candidate;

/// What one turn measured: one candidate on one chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) chunk: usize,
    pub(crate) record_count: u64,
    pub(crate) batch_count: u64,
    /// The batches before compression, with their headers.
    pub(crate) plain_bytes: u64,
    /// The batches as they are sent.
    pub(crate) encoded_bytes: u64,
    /// Of the thread, to put records into batches.
    pub(crate) encode_ns: u64,
    /// Of the thread, to compress the batches and compute their checksums.
    pub(crate) compress_ns: u64,
    /// Of the thread, to check and decompress them.
    pub(crate) decompress_ns: u64,
}

/// The figures of one candidate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) candidate: Candidate,
    pub(crate) turn_count: usize,
    /// Which part of the sample it has seen, up to 1.
    pub(crate) seen: f64,
    /// Bytes before compression for each byte after it.
    pub(crate) ratio: f64,
    /// As they are sent, with their share of the batch's header.
    pub(crate) record_bytes: f64,
    /// Nanoseconds per record.
    pub(crate) compress_ns: f64,
    pub(crate) decompress_ns: f64,
    /// Megabytes of uncompressed batches per second.
    pub(crate) compress_mb_s: f64,
    pub(crate) decompress_mb_s: f64,
    /// Records per second that one core compresses and sends.
    pub(crate) core_rate: f64,
    /// Records per second that the network carries.
    pub(crate) network_rate: f64,
    /// Microseconds that a batch of the sample's mean size spends in compression, on the network and in decompression.
    pub(crate) batch_us: f64,
}

/// What all candidates have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Basis {
    /// Nanoseconds per record to put it into a batch.
    pub(crate) encode_ns: f64,
    /// Bytes per record before compression, with its share of the batch's header.
    pub(crate) record_bytes: f64,
    pub(crate) batch_records: f64,
    pub(crate) batch_bytes: f64,
}

/// What the producer spends on a record besides encoding and compressing it, in nanoseconds: finding its partition, its place in
/// memory, its receipt. `cargo xtask bench produce-sink-100B-none`: 66 ns, of which encoding is 25.
pub(crate) const PRODUCER_NS: f64 = 40.0;

impl Figures {
    /// Records per second, by whichever of the core and the network ends first.
    pub(crate) fn rate(&self) -> f64 {
        self.core_rate.min(self.network_rate)
    }
}

/// The figures of all candidates that had a turn, in their order. `network_bits` are those per second.
pub(crate) fn figures(
    candidates: &[Candidate],
    measured: &[Vec<Measured>],
    chunk_count: usize,
    network_bits: f64,
) -> Option<(Basis, Vec<Figures>)> {
    let basis = basis(measured)?;
    let sizes: Vec<_> = measured.iter().map(|turns| sizes(turns)).collect();
    // The one that has seen the most; of several the one that compresses best.
    let reference = sizes.iter().max_by_key(|sizes| {
        let encoded: u64 = sizes.values().map(|(_, encoded)| encoded).sum();
        (sizes.len(), std::cmp::Reverse(encoded))
    })?;
    let all = candidates.iter().zip(measured).zip(&sizes).filter(|((_, turns), _)| !turns.is_empty());
    let figures = all.map(|((candidate, turns), sizes)| {
        let ratio = ratio(sizes, reference);
        let record_bytes = basis.record_bytes / ratio;
        let per_record = |ns: fn(&Measured) -> u64| per_byte(turns, ns) * basis.record_bytes;
        let (compress_ns, decompress_ns) =
            (per_record(|turn| turn.compress_ns), per_record(|turn| turn.decompress_ns));
        let mb_s = |ns: f64| basis.record_bytes * 1e3 / ns.max(1e-3);
        let network_rate = network_bits / 8.0 / record_bytes;
        Figures {
            candidate: *candidate,
            turn_count: turns.len(),
            seen: sizes.len() as f64 / chunk_count.max(1) as f64,
            ratio,
            record_bytes,
            compress_ns,
            decompress_ns,
            compress_mb_s: mb_s(compress_ns),
            decompress_mb_s: mb_s(decompress_ns),
            core_rate: 1e9 / (PRODUCER_NS + basis.encode_ns + compress_ns),
            network_rate,
            batch_us: basis.batch_records * (compress_ns + decompress_ns + 1e9 / network_rate) / 1e3,
        }
    });
    Some((basis, figures.collect()))
}

/// Bytes before and after compression, by chunk.
type Sizes = BTreeMap<usize, (u64, u64)>;

fn sizes(turns: &[Measured]) -> Sizes {
    turns.iter().map(|turn| (turn.chunk, (turn.plain_bytes, turn.encoded_bytes))).collect()
}

/// The ratio over all chunks that `reference` has seen. Chunks that only it has seen count with its size, times how the two differ
/// in the chunks that both have seen.
fn ratio(own: &Sizes, reference: &Sizes) -> f64 {
    let (mut plain, mut encoded) = (0, 0);
    let (mut here, mut there, mut rest) = (0, 0, 0);
    for (chunk, (bytes, of_reference)) in reference {
        plain += bytes;
        match own.get(chunk) {
            Some((_, of_own)) => {
                encoded += of_own;
                here += of_own;
                there += of_reference;
            }
            None => rest += of_reference,
        }
    }
    let scaled = rest as f64 * here as f64 / (there as f64).max(1.0);
    plain as f64 / (encoded as f64 + scaled).max(1.0)
}

fn basis(measured: &[Vec<Measured>]) -> Option<Basis> {
    let all: Vec<_> = measured.iter().flatten().copied().collect();
    let mut chunks = BTreeMap::new();
    for turn in &all {
        chunks.insert(turn.chunk, (turn.record_count, turn.batch_count, turn.plain_bytes));
    }
    let sum = chunks.values().fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2));
    let (record_count, batch_count, bytes) = sum;
    if record_count == 0 {
        return None;
    }
    let record_bytes = bytes as f64 / record_count as f64;
    Some(Basis {
        encode_ns: per_byte(&all, |turn| turn.encode_ns) * record_bytes,
        record_bytes,
        batch_records: record_count as f64 / batch_count.max(1) as f64,
        batch_bytes: bytes as f64 / batch_count.max(1) as f64,
    })
}

/// The median of nanoseconds per uncompressed byte. The first turn makes the codec's tables, and does not count if there are others.
fn per_byte(turns: &[Measured], ns: fn(&Measured) -> u64) -> f64 {
    let counted = if turns.len() > 1 { &turns[1..] } else { turns };
    let mut all: Vec<f64> =
        counted.iter().map(|turn| ns(turn) as f64 / turn.plain_bytes.max(1) as f64).collect();
    median(&mut all)
}

/// The median, or 0 of nothing.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count.is_multiple_of(2) => f64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use milena::Compression;

    use super::*;

    fn turn(chunk: usize, plain: u64, encoded: u64, compress: u64) -> Measured {
        Measured {
            chunk,
            record_count: 10,
            batch_count: 2,
            plain_bytes: plain,
            encoded_bytes: encoded,
            encode_ns: plain / 10,
            compress_ns: compress,
            decompress_ns: 500,
        }
    }

    const LZ4: Candidate = Candidate { codec: Compression::Lz4, level: None };
    const ZSTD: Candidate = Candidate { codec: Compression::Zstd, level: Some(3) };

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-6 * b.abs().max(1.0), "{a} is not {b}");
    }

    #[test]
    fn sizes_of_the_whole_sample_follow_from_a_part_of_it() {
        // lz4 has seen two chunks, of which the second compresses badly. zstd has seen the first, and made half of lz4's size of it.
        let measured = [
            vec![],
            vec![turn(0, 1000, 200, 9000), turn(1, 1000, 800, 3000)],
            vec![turn(0, 1000, 100, 20_000)],
        ];
        let (basis, all) = figures(&[Candidate::NONE, LZ4, ZSTD], &measured, 2, 8e9).expect("measured");
        assert_eq!(all.len(), 2, "one had no turn");
        close(all[0].ratio, 2.0);
        close(all[1].ratio, 4.0);
        close(all[1].seen, 0.5);
        close(basis.record_bytes, 100.0);
        close(basis.batch_records, 5.0);
        close(all[0].record_bytes, 50.0);
        // The first turn does not count, if there is another: 3 ns per byte.
        close(all[0].compress_ns, 300.0);
        close(all[0].compress_mb_s, 1e9 * 100.0 / 300.0 / 1e6);
        close(all[1].compress_ns, 2000.0);
        // 40 ns of the producer, 10 of encoding, 300 of compression.
        close(basis.encode_ns, 10.0);
        close(all[0].core_rate, 1e9 / 350.0);
        close(all[0].network_rate, 1e9 / 50.0);
        // Five records: 300 ns, 50 ns to decompress, 50 ns on the network.
        close(all[0].batch_us, 5.0 * 400.0 / 1e3);
        close(all[1].rate(), 1e9 / 2050.0);
    }

    #[test]
    fn nothing_measured_has_no_figures() {
        assert_eq!(figures(&[LZ4], &[vec![]], 1, 1e9), None);
    }

    #[test]
    fn medians_do_not_follow_outliers() {
        close(median(&mut [9.0, 1.0, 1000.0]), 9.0);
        close(median(&mut [1.0, 3.0]), 2.0);
        close(median(&mut []), 0.0);
    }
}
