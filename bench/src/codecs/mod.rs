//! Compares codecs on record batches of real flights: Milena's codecs and, with `--features candidates`, the crates that we
//! could have used. Each line has the ratio and the MB/s of uncompressed bytes in both directions.

#[cfg(feature = "candidates")]
mod candidates;
pub(crate) mod flights;

use std::hint::black_box;
use std::time::{Duration, Instant};

use milena_wire::codec::{Compression, Compressor, Decompressor};

/// How long each figure is measured for.
pub(crate) const SECONDS: f64 = 0.3;

/// A codec that compresses and decompresses into buffers that are kept, in its best way.
pub(crate) trait Codec {
    /// Replaces `out` with `input`, compressed.
    fn compress(&mut self, input: &[u8], out: &mut Vec<u8>);
    /// Replaces `out` with the decompressed `input`, of `bytes`.
    fn decompress(&mut self, input: &[u8], bytes: usize, out: &mut Vec<u8>);
}

struct Ours {
    compression: Compression,
    level: Option<i32>,
    compressor: Compressor,
    decompressor: Decompressor,
}

impl Codec for Ours {
    fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) {
        out.clear();
        self.compressor.compress(self.compression, self.level, input, out).unwrap();
    }

    fn decompress(&mut self, input: &[u8], _: usize, out: &mut Vec<u8>) {
        self.decompressor.decompress(self.compression, 2, input, out, 1 << 26).unwrap();
    }
}

fn ours() -> Vec<(String, Box<dyn Codec>)> {
    let choices = [
        (Compression::None, None),
        (Compression::Gzip, Some(1)),
        (Compression::Gzip, None),
        (Compression::Snappy, None),
        (Compression::Lz4, None),
        (Compression::Zstd, Some(-1)),
        (Compression::Zstd, Some(1)),
        (Compression::Zstd, None),
        (Compression::Zstd, Some(9)),
    ];
    let boxed = |(compression, level): (Compression, Option<i32>)| {
        let level_name =
            level.or(compression.default_level()).map_or(String::new(), |level| format!(" {level}"));
        let codec: Box<dyn Codec> = Box::new(Ours {
            compression,
            level,
            compressor: Compressor::new(),
            decompressor: Decompressor::new(),
        });
        (format!("{compression}{level_name} milena"), codec)
    };
    choices.into_iter().map(boxed).collect()
}

/// Prints the table for small and large batches.
pub(crate) fn run(seconds: f64) -> Result<(), String> {
    let span = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    for batch_bytes in [16 << 10, 1 << 20] {
        let batches = flights::batches(batch_bytes);
        let input = batches.get(batches.len() / 2).ok_or("the sample fills no batch")?;
        println!("{} bytes of records, best call in {seconds} s", input.len());
        println!("  {:<30} {:>7} {:>9} {:>9}", "", "ratio", "in MB/s", "out MB/s");
        for (name, mut codec) in contestants() {
            report(&name, codec.as_mut(), input, span);
        }
    }
    Ok(())
}

/// All entries, with those of the same codec together.
fn contestants() -> Vec<(String, Box<dyn Codec>)> {
    let mut contestants = ours();
    #[cfg(feature = "candidates")]
    contestants.extend(candidates::all());
    contestants.sort_by_key(|(name, _)| name.split(' ').next().map(str::to_owned));
    contestants
}

fn report(name: &str, codec: &mut dyn Codec, input: &[u8], span: Duration) {
    let (mut compressed, mut restored) = (Vec::new(), Vec::new());
    let compress = best(span, || codec.compress(black_box(input), black_box(&mut compressed)));
    let decompress =
        best(span, || codec.decompress(black_box(&compressed), input.len(), black_box(&mut restored)));
    assert!(restored == input, "{name} does not restore what it compressed");
    let speed = |time: Duration| input.len() as f64 / time.as_secs_f64() / 1e6;
    let ratio = input.len() as f64 / compressed.len() as f64;
    println!("  {name:<30} {ratio:>7.2} {:>9.0} {:>9.0}", speed(compress), speed(decompress));
}

/// The least time of one call, of all calls during `span`: noise only makes a call slower.
fn best(span: Duration, mut call: impl FnMut()) -> Duration {
    let mut best = Duration::MAX;
    let start = Instant::now();
    while best == Duration::MAX || start.elapsed() < span {
        let one = Instant::now();
        call();
        best = best.min(one.elapsed());
    }
    best
}
