//! What was measured of formats, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::formats::Formats;
use super::report::{ShownCandidate, capital};
use crate::table::{Align, Table};
use crate::tune::advice::{bytes, time};
use crate::tune::candidate::Candidate;
use crate::tune::formats::{FormatAdvice, FormatFigures, Need};
use crate::units::Count;

/// Formats and the choice among them, or why there is none.
pub(super) struct FormatReport(pub(super) Result<(Formats, Vec<FormatAdvice>), String>);

impl FormatReport {
    /// For people.
    pub(super) fn push_text(&self, text: &mut String) {
        let (formats, advice) = match &self.0 {
            Ok(told) => told,
            Err(why) => {
                let _ = writeln!(text, "\nFormats were not compared: {why}.");
                return;
            }
        };
        let inferred: Vec<_> = of_origin(formats, true).collect();
        let given: Vec<_> = of_origin(formats, false).collect();
        let _ = write!(text, "\nformats of {} values", Count(formats.value_count as u64));
        if !given.is_empty() {
            let _ = write!(text, "; {} by the schema of --schema", given.join(", "));
        }
        if !inferred.is_empty() {
            let _ = write!(text, "; {} by a schema that was inferred from these values", inferred.join(", "));
        }
        if formats.left_out > 0 {
            let _ = write!(text, "; {} are of another kind and left out", Count(formats.left_out as u64));
        }
        text.push('\n');
        text.push_str(&table(&formats.figures));
        for (name, why) in &formats.not_measured {
            let _ = writeln!(text, "{name} was not measured: {why}.");
        }
        for FormatAdvice { need, format, codec, reason } in advice {
            let _ = writeln!(text, "For {}: {format}, {codec}. {}.", said(*need), capital(reason));
        }
        if !inferred.is_empty() {
            text.push_str(
                "An inferred schema knows no times, symbols and decimals: one that you write may take fewer bytes. -o json has its text.\n",
            );
        }
    }

    /// For programs.
    pub(super) fn shown(&self) -> ShownFormats<'_> {
        match &self.0 {
            Err(why) => ShownFormats { not_compared: Some(why), ..ShownFormats::default() },
            Ok((formats, advice)) => ShownFormats {
                not_compared: None,
                value_count: formats.value_count,
                left_out_count: formats.left_out,
                formats: formats.figures.iter().map(ShownFormat::from).collect(),
                schemas: formats
                    .schemas
                    .iter()
                    .map(|(name, text, is_inferred)| (*name, ShownSchema { is_inferred: *is_inferred, text }))
                    .collect(),
                not_measured: formats.not_measured.iter().map(|(name, why)| (*name, why.as_str())).collect(),
                advice: advice.iter().map(ShownFormatAdvice::from).collect(),
            },
        }
    }
}

fn of_origin(formats: &Formats, wanted: bool) -> impl Iterator<Item = &'static str> {
    formats.schemas.iter().filter(move |(_, _, is_inferred)| *is_inferred == wanted).map(|(name, ..)| *name)
}

fn table(figures: &[FormatFigures]) -> String {
    let columns = [
        ("format", Align::Left),
        ("value", Align::Right),
        ("record, by codec", Align::Left),
        ("encode", Align::Right),
        ("decode", Align::Right),
    ];
    let mut table = Table::new(&columns);
    for one in figures {
        let sizes: Vec<_> =
            one.record_bytes.iter().map(|(codec, size)| format!("{codec} {}", bytes(*size))).collect();
        table.row([
            one.name.to_owned(),
            bytes(one.value_bytes),
            sizes.join(", "),
            time(one.encode_ns),
            time(one.decode_ns),
        ]);
    }
    table.text(0)
        + "value: with the 5 or 6 bytes that name its schema. encode, decode: from and to values whose type is known at run time\n\
           only; types that the compiler knows are faster in every format.\n"
}

fn said(need: Need) -> &'static str {
    match need {
        Need::Readability => "records that people and every tool can read",
        Need::Latency => "the lowest latency",
        Need::Size => "the fewest bytes",
    }
}

#[derive(Default, Serialize)]
pub(super) struct ShownFormats<'a> {
    /// Why there is nothing else.
    not_compared: Option<&'a str>,
    value_count: usize,
    left_out_count: usize,
    formats: Vec<ShownFormat>,
    schemas: BTreeMap<&'static str, ShownSchema<'a>>,
    not_measured: BTreeMap<&'static str, &'a str>,
    advice: Vec<ShownFormatAdvice<'a>>,
}

#[derive(Serialize)]
struct ShownFormat {
    format: &'static str,
    value_bytes: f64,
    record_bytes: Vec<ShownSize>,
    encode_ns: f64,
    decode_ns: f64,
}

#[derive(Serialize)]
struct ShownSize {
    #[serde(flatten)]
    codec: ShownCandidate,
    bytes: f64,
}

impl From<&FormatFigures> for ShownFormat {
    fn from(one: &FormatFigures) -> Self {
        let size = |(codec, bytes): &(Candidate, f64)| ShownSize {
            codec: ShownCandidate::from(codec),
            bytes: *bytes,
        };
        Self {
            format: one.name,
            value_bytes: one.value_bytes,
            record_bytes: one.record_bytes.iter().map(size).collect(),
            encode_ns: one.encode_ns,
            decode_ns: one.decode_ns,
        }
    }
}

#[derive(Serialize)]
struct ShownSchema<'a> {
    is_inferred: bool,
    text: &'a str,
}

#[derive(Serialize)]
struct ShownFormatAdvice<'a> {
    need: &'static str,
    format: &'static str,
    #[serde(flatten)]
    codec: ShownCandidate,
    reason: &'a str,
}

impl<'a> From<&'a FormatAdvice> for ShownFormatAdvice<'a> {
    fn from(one: &'a FormatAdvice) -> Self {
        Self { need: one.need.name(), format: one.format, codec: (&one.codec).into(), reason: &one.reason }
    }
}
