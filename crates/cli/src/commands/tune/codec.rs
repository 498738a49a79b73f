//! `milena tune codec`: takes a sample, measures, and answers within its time.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use milena::{Compression, ProducerSettings, Properties};
use milena_registry::SchemaRegistry;
use tokio::task::{JoinHandle, spawn_blocking};

use super::format_report::FormatReport;
use super::formats::{Formats, Given};
use super::measure::{self, Results};
use super::report::Report;
use super::sample::{Sample, Stored};
use super::topic::Limits;
use super::{file, formats, topic};
use crate::cluster::{Cluster, seconds};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};
use crate::progress::{Progress, TICK};
use crate::registry_options::RegistryOptions;
use crate::tune::advice::advise;
use crate::tune::candidate::Candidate;
use crate::tune::figures::figures;
use crate::tune::schedule::Schedule;

const HELP: &str = "\
The batches are made as the producer makes them and compressed by the client's own codecs, in turns, and times are what the
measuring thread has had of the processor. Nothing is written to the cluster.

Examples:
  milena tune codec --topic orders
  milena tune codec --topic orders --network 100Mbit/s --batch-bytes 16384
  milena tune codec --file records.jsonl --codec lz4 --codec zstd:-5..9
  milena consume orders -e --json | milena tune codec --file - -o json";

/// Compare codecs, levels and formats on the records of a topic or a file, and choose.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// Take the last records of this topic
    #[arg(short, long, required_unless_present = "file", conflicts_with = "file")]
    topic: Option<String>,

    /// Take the first lines of this file, or of stdin if it is -: each is a value, or a record as `milena consume --json`
    /// writes it
    #[arg(short, long)]
    file: Option<PathBuf>,

    /// Take at most N records
    #[arg(short = 'n', long, value_name = "N", default_value = "100000", value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,

    /// Take at most BYTES of keys, values and headers
    #[arg(long, value_name = "BYTES", default_value = "8000000", value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    sample_bytes: u32,

    /// The size of a batch before compression. Default: what the topic's batches have on average; of a file, what the
    /// producer's setting batch.size has by default, 1000000
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=1 << 30))]
    batch_bytes: Option<u32>,

    /// Compare this codec, with some levels or with these, as in zstd:1,3,19 or zstd:-5..9; may be repeated. Default: all codecs
    #[arg(short, long = "codec", value_name = "CODEC[:LEVELS]")]
    codecs: Vec<String>,

    /// What the network carries, in bit/s, as in 100Mbit/s
    #[arg(long, value_name = "RATE", default_value = "1Gbit/s", value_parser = network)]
    network: f64,

    /// Measure formats with this Avro schema or .proto file. Records that name a schema in Confluent's way are read with it.
    /// Default: the schema that records name, if a schema registry is named; else one that is inferred from the sample, if its
    /// values are JSON objects
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,

    /// Measure for SECONDS. To take the sample may last a quarter of that
    #[arg(long, value_name = "SECONDS", default_value = "8", value_parser = seconds)]
    time: Duration,

    /// Write one JSON object
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<OutputFormat>,

    /// The same as -o json
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    registry: RegistryOptions,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OutputFormat {
    /// One JSON object
    Json,
}

/// Bits per second.
fn network(text: &str) -> Result<f64, String> {
    let wrong = || "write bits per second, as in 1Gbit/s, 100Mbit/s or 250000".to_owned();
    let bare = text.trim();
    let bare = bare.strip_suffix("bit/s").or_else(|| bare.strip_suffix("bps")).unwrap_or(bare).trim();
    let (number, scale) = match bare.char_indices().last() {
        Some((at, 'k')) => (&bare[..at], 1e3),
        Some((at, 'M')) => (&bare[..at], 1e6),
        Some((at, 'G')) => (&bare[..at], 1e9),
        _ => (bare, 1.0),
    };
    let bits = number.trim().parse::<f64>().map_err(|_| wrong())? * scale;
    if bits.is_finite() && bits >= 1.0 { Ok(bits) } else { Err(wrong()) }
}

/// Runs the command.
pub(super) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let candidates = Candidate::parse_all(&args.codecs).map_err(Failure::usage)?;
    let given = args.schema.as_deref().map(formats::read_schema).transpose()?;
    let registry = match given {
        None => args.registry.client(&args.cluster.resolve(Properties::new())?)?,
        Some(_) => None,
    };
    let sample = Arc::new(interrupt.or(take(args)).await?);
    let given = match (given, registry) {
        (None, Some(registry)) => interrupt.or(named_by(&sample, &registry, args.time / 4)).await?,
        (given, _) => Ok(given),
    };
    let batch_bytes = args.batch_bytes(&sample);
    let report = interrupt.or(measured(args, sample, &candidates, batch_bytes, given)).await?;
    if args.json || args.output.is_some() {
        return write_out(&(to_json(&report.shown())? + "\n"));
    }
    write_out(&report.text())
}

/// The schema that records name, or why it is not known. A registry that does not answer does not delay the measuring.
async fn named_by(
    sample: &Sample,
    registry: &SchemaRegistry,
    time: Duration,
) -> Result<Result<Option<Given>, String>, Failure> {
    let named = tokio::time::timeout(time, formats::named_by(sample, registry)).await;
    Ok(named.unwrap_or_else(|_| Err("the schema registry has not answered in time".to_owned())))
}

async fn take(args: &Args) -> Result<Sample, Failure> {
    let limits =
        Limits { records_max: args.records, bytes_max: args.sample_bytes as usize, time: args.time / 4 };
    if let Some(path) = args.file.clone() {
        // A pipe may take any time.
        let read = spawn_blocking(move || file::take(&path, limits)).await;
        return read.map_err(|error| Failure::failed(format!("cannot read: {error}")))?;
    }
    let cluster = args.cluster.connect().await?;
    topic::take(&cluster, args.topic.as_deref().unwrap_or_default(), limits).await
}

impl Args {
    fn batch_bytes(&self, sample: &Sample) -> usize {
        let most = ProducerSettings::default().batch_bytes_max;
        match self.batch_bytes {
            Some(bytes) => bytes as usize,
            None => Stored::batch_bytes(&sample.stored).map_or(most, |bytes| bytes.min(most)),
        }
    }
}

/// Measures on a thread of its own, and reports what is known when the time is over: a codec that takes too long for its turn
/// does not delay the answer.
async fn measured(
    args: &Args,
    sample: Arc<Sample>,
    candidates: &[Candidate],
    batch_bytes: usize,
    given: Result<Option<Given>, String>,
) -> Result<Report, Failure> {
    let begin = Instant::now();
    let results = Results::new(candidates.len());
    let chunks = Arc::new(sample.chunks(batch_bytes));
    let work = {
        let (sample, candidates, results) = (Arc::clone(&sample), candidates.to_vec(), results.clone());
        let (chunks, time) = (Arc::clone(&chunks), args.time);
        spawn_blocking(move || {
            // The last turn may take a little longer than expected.
            let has_formats = given.as_ref().is_ok_and(|given| formats::may_have(&sample, given.as_ref()));
            let limit = if has_formats { time * 6 / 10 } else { time * 17 / 20 };
            let schedule = Schedule::new(&follows(&candidates), chunks.len(), limit);
            let done = measure::run(&sample, &chunks, &candidates, batch_bytes, schedule, &results);
            let two = usual_two(&candidates);
            measure::sizes(&sample, &two, time / 10, &results);
            results.set_formats(given.and_then(|given| match has_formats {
                true => formats::measure(&sample, given.as_ref(), batch_bytes, &two, time / 4),
                false => Err("the values are no JSON objects, and no schema is known: name it with --schema, or the \
                              registry with --registry"
                    .to_owned()),
            }));
            done
        })
    };
    wait(work, args.time).await?;
    let measured = results.so_far();
    let Some((basis, figures)) = figures(candidates, &measured.turns, chunks.len(), args.network) else {
        return Err(
            Failure::failed("nothing could be measured in this time").hint("Give it more with --time.")
        );
    };
    let not_measured = candidates.iter().zip(&measured.turns).filter(|(_, turns)| turns.is_empty());
    Ok(Report {
        not_measured: not_measured.map(|(candidate, _)| *candidate).collect(),
        advice: advise(&basis, &figures),
        sample,
        batch_bytes,
        network: args.network,
        basis,
        figures,
        sizes: measured.sizes,
        formats: format_report(measured.formats, args.network),
        took: begin.elapsed(),
    })
}

/// Formats, and which one to take; or why they were not compared.
fn format_report(measured: Option<Result<Formats, String>>, network_bits: f64) -> FormatReport {
    FormatReport(match measured {
        Some(measured) => measured.map(|formats| {
            let advice = crate::tune::formats::advise(&formats.figures, network_bits);
            (formats, advice)
        }),
        None => Err("there was no time for it, which --time gives".to_owned()),
    })
}

/// Of each candidate, whether the one before it is the same codec with less work.
fn follows(candidates: &[Candidate]) -> Vec<bool> {
    let before = std::iter::once(None).chain(candidates.iter().map(Some));
    let follows = |(candidate, before): (&Candidate, Option<&Candidate>)| {
        before.is_some_and(|before| before.codec == candidate.codec && before.level < candidate.level)
    };
    candidates.iter().zip(before).map(follows).collect()
}

/// Which candidates show what the size of batches does: a fast one and a strong one.
fn usual_two(candidates: &[Candidate]) -> Vec<Candidate> {
    let fast = candidates.iter().find(|one| one.codec == Compression::Lz4);
    let strong = candidates.iter().filter(|one| one.codec == Compression::Zstd);
    let strong = strong.min_by_key(|one| one.level.unwrap_or(0).abs_diff(3));
    let two: Vec<_> = fast.into_iter().chain(strong).copied().collect();
    match two.is_empty() {
        true => candidates.iter().filter(|one| **one != Candidate::NONE).take(1).copied().collect(),
        false => two,
    }
}

/// Waits for the measuring thread, and no longer than the time.
async fn wait(mut work: JoinHandle<Result<(), measure::Trouble>>, time: Duration) -> Result<(), Failure> {
    let progress = Progress::of(time.as_millis() as u64);
    let begin = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    while begin.elapsed() < time {
        tokio::select! {
            done = &mut work => {
                let done = done.map_err(|error| Failure::failed(format!("measuring ended: {error}")))?;
                return done.map_err(Failure::failed);
            }
            _ = tick.tick() => progress.show(begin.elapsed().as_millis() as u64, "measuring"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_in_bits() {
        for (text, expect) in
            [("1Gbit/s", 1e9), ("100 Mbit/s", 1e8), ("2.5Gbps", 2.5e9), ("64k", 64e3), ("250000", 250e3)]
        {
            assert_eq!(network(text), Ok(expect), "{text}");
        }
        for text in ["", "Gbit/s", "1GB/s", "-1", "0", "nan", "inf", "1Gbit/min"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn levels_of_one_codec_follow_each_other() {
        let all = Candidate::parse_all(&["lz4".into(), "zstd:3,1,5".into()]).expect("read");
        assert_eq!(follows(&all), [false, false, false, false, true]);
        let two: Vec<_> = usual_two(&all).iter().map(ToString::to_string).collect();
        assert_eq!(two, ["lz4", "zstd 3"]);
        let one = Candidate::parse_all(&["gzip:5".into()]).expect("read");
        assert_eq!(usual_two(&one).iter().map(ToString::to_string).collect::<Vec<_>>(), ["gzip 5"]);
        assert_eq!(usual_two(&[Candidate::NONE]), []);
    }
}
