//! What was measured, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::format_report::{FormatReport, ShownFormats};
use super::measure::OfSize;
use super::sample::{Sample, Stored};
use crate::table::{Align, Table};
use crate::tune::advice::{self, Advice, Goal, Saving, bytes, micros, rate, time};
use crate::tune::candidate::Candidate;
use crate::tune::figures::{Basis, Figures};
use crate::units::{Bytes, Count, Scaled};

/// All that is told.
pub(super) struct Report {
    pub(super) sample: Arc<Sample>,
    pub(super) batch_bytes: usize,
    /// Bits per second.
    pub(super) network: f64,
    pub(super) basis: Basis,
    pub(super) figures: Vec<Figures>,
    pub(super) not_measured: Vec<Candidate>,
    pub(super) advice: Vec<Advice>,
    pub(super) sizes: Vec<OfSize>,
    pub(super) formats: FormatReport,
    pub(super) took: Duration,
}

/// A debug build's codecs are many times slower.
const IS_DEBUG: bool = cfg!(debug_assertions);

impl Report {
    /// Bytes per record as the topic's batches have them now.
    fn now(&self) -> Option<f64> {
        let (stored, plain) = self
            .sample
            .stored
            .iter()
            .fold((0, 0), |sum, one| (sum.0 + one.bytes, sum.1 + one.plain_bytes + one.batch_count * 61));
        (plain > 0).then(|| self.basis.record_bytes * stored as f64 / plain as f64)
    }

    fn saving(&self, candidate: Candidate) -> Option<Saving> {
        let then = self.figures.iter().find(|one| one.candidate == candidate)?.record_bytes;
        Some(Saving { now: self.now()?, then })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if IS_DEBUG {
            text += "This is a debug build: times are many times longer than those of a release build. Sizes are right.\n\n";
        }
        self.push_sample(&mut text);
        text.push('\n');
        text += &self.table();
        self.push_sizes(&mut text);
        text.push('\n');
        self.push_advice(&mut text);
        self.formats.push_text(&mut text);
        self.push_notes(&mut text);
        text
    }

    fn push_sample(&self, text: &mut String) {
        let Self { sample, basis, .. } = self;
        let count = sample.records.len() as u64;
        let s = if count == 1 { "" } else { "s" };
        let end = sample.end.as_ref().map_or(String::new(), |end| format!("; {end}"));
        let _ = writeln!(
            text,
            "{}: {} record{s}, {}{end}",
            sample.source,
            Count(count),
            Bytes(sample.bytes() as u64)
        );
        let of_topic = if sample.stored.is_empty() { "" } else { " (the topic's are of this size)" };
        let of_topic =
            if Stored::batch_bytes(&sample.stored) == Some(self.batch_bytes) { of_topic } else { "" };
        let _ = writeln!(
            text,
            "batches of {:.0} records, {} before compression{of_topic}",
            basis.batch_records.max(1.0),
            Bytes(basis.batch_bytes as u64)
        );
        for stored in &sample.stored {
            let plain = stored.plain_bytes + stored.batch_count * 61;
            let _ = writeln!(
                text,
                "now: {} in {} batch{} of {} before compression, ratio {:.2}",
                stored.codec,
                Count(stored.batch_count),
                if stored.batch_count == 1 { "" } else { "es" },
                Bytes(plain / stored.batch_count.max(1)),
                plain as f64 / stored.bytes.max(1) as f64
            );
        }
    }

    fn table(&self) -> String {
        let columns = [
            ("codec", Align::Left),
            ("ratio", Align::Right),
            ("record", Align::Right),
            ("compress", Align::Right),
            ("MB/s", Align::Right),
            ("decompress", Align::Right),
            ("MB/s", Align::Right),
            ("one core", Align::Right),
            ("network", Align::Right),
            ("batch", Align::Right),
            ("seen", Align::Right),
        ];
        let mut table = Table::new(&columns);
        for one in &self.figures {
            table.row([
                one.candidate.to_string(),
                advice::ratio(one),
                bytes(one.record_bytes),
                time(one.compress_ns),
                megabytes(one.compress_mb_s),
                time(one.decompress_ns),
                megabytes(one.decompress_mb_s),
                format!("{}/s", rate(one.core_rate)),
                format!("{}/s", rate(one.network_rate)),
                micros(one.batch_us),
                format!("{:.0} %", one.seen * 100.0),
            ]);
        }
        let network = Scaled(self.network);
        table.text(0)
            + &format!(
                "compress, decompress: per record, with checksums. one core: records that the producer encodes and compresses.\n\
                 network: records at {network}bit/s. batch: to compress, send and decompress one. seen: of the sample.\n"
            )
    }

    /// What other sizes of batches would do.
    fn push_sizes(&self, text: &mut String) {
        let mut by_size: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for one in &self.sizes {
            let ratio = format!("{} {:.2}", one.candidate, one.ratio);
            by_size.entry(one.batch_bytes).or_default().push(ratio);
        }
        if by_size.is_empty() {
            return;
        }
        let all: Vec<_> = by_size
            .iter()
            .map(|(size, ratios)| format!("{}: {}", Bytes(*size as u64), ratios.join(", ")))
            .collect();
        let _ = writeln!(text, "\nratios by the size of batches: {}", all.join("; "));
    }

    fn push_advice(&self, text: &mut String) {
        for Advice { goal, candidate, reason } in &self.advice {
            let saved = match self.saving(*candidate).map(Saving::part) {
                Some(part) if part.abs() < 0.005 => "; as many bytes as the topic has now".to_owned(),
                Some(part) if part < 0.0 => {
                    format!("; {:.0} % more bytes than the topic has now", -part * 100.0)
                }
                Some(part) => format!("; {:.0} % fewer bytes than the topic has now", part * 100.0),
                None => String::new(),
            };
            let _ = writeln!(text, "For {}: {candidate}. {}{saved}.", said(*goal), capital(reason));
            let properties = candidate.properties();
            let lines = properties.iter().map(|(name, value)| format!("    {name}={value}\n"));
            lines.for_each(|line| text.push_str(&line));
        }
    }

    fn push_notes(&self, text: &mut String) {
        if !self.not_measured.is_empty() {
            let all: Vec<_> = self.not_measured.iter().map(ToString::to_string).collect();
            let _ = writeln!(text, "\nNot measured in this time: {}.", all.join(", "));
        }
        text.push_str(
            "\nThese are this client's codecs. Those of other clients are as fast or faster, and their sizes differ by some per cent;\n\
             lz4's levels above the default, which Java's client has, were not measured.\n",
        );
    }

    /// For programs.
    pub(super) fn shown(&self) -> Shown<'_> {
        let Self { sample, basis, .. } = self;
        Shown {
            is_debug_build: IS_DEBUG,
            source: &sample.source,
            record_count: sample.records.len(),
            bytes: sample.bytes(),
            sample_end: sample.end.as_deref(),
            batch_bytes_max: self.batch_bytes,
            batch_bytes: basis.batch_bytes,
            batch_records: basis.batch_records,
            encode_ns: basis.encode_ns,
            network_bits_per_second: self.network,
            now: sample.stored.iter().map(ShownStored::from).collect(),
            now_record_bytes: self.now(),
            codecs: self.figures.iter().map(ShownFigures::from).collect(),
            not_measured: self.not_measured.iter().map(ShownCandidate::from).collect(),
            batch_sizes: self.sizes.iter().map(ShownSize::from).collect(),
            advice: self.advice.iter().map(|advice| self.shown_advice(advice)).collect(),
            formats: self.formats.shown(),
            seconds: self.took.as_secs_f64(),
        }
    }

    fn shown_advice<'a>(&self, advice: &'a Advice) -> ShownAdvice<'a> {
        ShownAdvice {
            goal: advice.goal.name(),
            codec: (&advice.candidate).into(),
            settings: advice.candidate.properties().into_iter().collect(),
            saved_of_now: self.saving(advice.candidate).map(Saving::part),
            reason: &advice.reason,
        }
    }
}

fn said(goal: Goal) -> &'static str {
    match goal {
        Goal::Size => "the fewest bytes",
        Goal::Throughput => "the most records per second",
        Goal::Latency => "the lowest latency",
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

fn megabytes(mb_s: f64) -> String {
    if mb_s < 99.95 { format!("{mb_s:.1}") } else { Count(mb_s.round() as u64).to_string() }
}

#[derive(Serialize)]
pub(super) struct Shown<'a> {
    is_debug_build: bool,
    source: &'a str,
    record_count: usize,
    /// Of keys, values and headers.
    bytes: usize,
    /// Why there are not more records.
    sample_end: Option<&'a str>,
    batch_bytes_max: usize,
    batch_bytes: f64,
    batch_records: f64,
    /// Nanoseconds per record.
    encode_ns: f64,
    network_bits_per_second: f64,
    /// The batches that the topic has.
    now: Vec<ShownStored>,
    now_record_bytes: Option<f64>,
    codecs: Vec<ShownFigures>,
    not_measured: Vec<ShownCandidate>,
    batch_sizes: Vec<ShownSize>,
    advice: Vec<ShownAdvice<'a>>,
    formats: ShownFormats<'a>,
    seconds: f64,
}

#[derive(Serialize)]
pub(super) struct ShownCandidate {
    codec: &'static str,
    level: Option<i32>,
}

impl From<&Candidate> for ShownCandidate {
    fn from(candidate: &Candidate) -> Self {
        Self { codec: candidate.codec.name(), level: candidate.level }
    }
}

#[derive(Serialize)]
struct ShownStored {
    codec: &'static str,
    batch_count: u64,
    bytes: u64,
    uncompressed_bytes: u64,
}

impl From<&Stored> for ShownStored {
    fn from(stored: &Stored) -> Self {
        let Stored { codec, batch_count, bytes, plain_bytes } = *stored;
        Self { codec: codec.name(), batch_count, bytes, uncompressed_bytes: plain_bytes + batch_count * 61 }
    }
}

#[derive(Serialize)]
struct ShownFigures {
    #[serde(flatten)]
    candidate: ShownCandidate,
    ratio: f64,
    record_bytes: f64,
    compress_ns: f64,
    compress_mb_per_second: f64,
    decompress_ns: f64,
    decompress_mb_per_second: f64,
    records_per_second_and_core: f64,
    records_per_second_of_network: f64,
    batch_us: f64,
    seen: f64,
    turn_count: usize,
}

impl From<&Figures> for ShownFigures {
    fn from(one: &Figures) -> Self {
        Self {
            candidate: (&one.candidate).into(),
            ratio: one.ratio,
            record_bytes: one.record_bytes,
            compress_ns: one.compress_ns,
            compress_mb_per_second: one.compress_mb_s,
            decompress_ns: one.decompress_ns,
            decompress_mb_per_second: one.decompress_mb_s,
            records_per_second_and_core: one.core_rate,
            records_per_second_of_network: one.network_rate,
            batch_us: one.batch_us,
            seen: one.seen,
            turn_count: one.turn_count,
        }
    }
}

#[derive(Serialize)]
struct ShownSize {
    batch_bytes: usize,
    #[serde(flatten)]
    candidate: ShownCandidate,
    ratio: f64,
}

impl From<&OfSize> for ShownSize {
    fn from(one: &OfSize) -> Self {
        Self { batch_bytes: one.batch_bytes, candidate: (&one.candidate).into(), ratio: one.ratio }
    }
}

#[derive(Serialize)]
struct ShownAdvice<'a> {
    goal: &'static str,
    #[serde(flatten)]
    codec: ShownCandidate,
    /// The producer's, by their names in Java's client, which this client knows too.
    settings: BTreeMap<String, String>,
    saved_of_now: Option<f64>,
    reason: &'a str,
}
