//! Which format of values to take for which goal, and why, from measured figures.

use crate::tune::advice::{bytes, rate, time};
use crate::tune::candidate::Candidate;

/// A format that was measured on the same records as the others.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FormatFigures {
    pub(crate) name: &'static str,
    /// Of a value, with the bytes that name its schema.
    pub(crate) value_bytes: f64,
    /// Bytes per record in batches, with its key and headers: without compression first, then with each codec.
    pub(crate) record_bytes: Vec<(Candidate, f64)>,
    /// Nanoseconds per value, from and to values whose type is known at run time only.
    pub(crate) encode_ns: f64,
    pub(crate) decode_ns: f64,
}

/// What the choice of a format begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// People and every tool read the records as they are.
    Readability,
    /// The least time to encode, send and decode a record.
    Latency,
    /// The fewest bytes.
    Size,
}

/// The format for a need.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FormatAdvice {
    pub(crate) need: Need,
    pub(crate) format: &'static str,
    pub(crate) codec: Candidate,
    /// One sentence.
    pub(crate) reason: String,
}

/// The format that needs no schema to be read.
pub(crate) const JSON: &str = "JSON";
/// A schema to keep is worth at least this part of the bytes.
const WORTH: f64 = 0.15;

impl Need {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Readability => "readability",
            Self::Latency => "latency",
            Self::Size => "size",
        }
    }
}

impl FormatFigures {
    /// The codec with which it is smallest, and its bytes per record.
    fn smallest(&self) -> Option<(Candidate, f64)> {
        self.record_bytes.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Nanoseconds to encode, send and decode a record that is not compressed.
    fn latency_ns(&self, network_bits: f64) -> f64 {
        let bytes = self.record_bytes.first().map_or(0.0, |(_, bytes)| *bytes);
        self.encode_ns + self.decode_ns + bytes * 8e9 / network_bits
    }
}

/// One format for each need. Empty if JSON was not measured, or nothing else was.
pub(crate) fn advise(all: &[FormatFigures], network_bits: f64) -> Vec<FormatAdvice> {
    let json = all.iter().find(|one| one.name == JSON);
    let small = all.iter().filter_map(|one| Some((one, one.smallest()?)));
    let small = small.min_by(|a, b| a.1.1.total_cmp(&b.1.1));
    let fast = all.iter().min_by(|a, b| a.latency_ns(network_bits).total_cmp(&b.latency_ns(network_bits)));
    let (Some(json), Some((small, (small_codec, small_bytes))), Some(fast)) = (json, small, fast) else {
        return Vec::new();
    };
    let Some((json_codec, json_bytes)) = json.smallest().filter(|_| all.len() > 1) else { return Vec::new() };
    let more = (json_bytes / small_bytes - 1.0) * 100.0;
    let readable =
        format!("every tool reads it; with {json_codec} it takes {} per record", bytes(json_bytes));
    let readable = match small.name {
        JSON => format!("{readable}, and no other format takes fewer"),
        name => format!("{readable}, {more:.0} % more than {name}"),
    };
    let latency = format!(
        "to encode, send and decode a record takes {}, of which encoding is {} and decoding {}{}",
        time(fast.latency_ns(network_bits)),
        time(fast.encode_ns),
        time(fast.decode_ns),
        match fast.name {
            JSON => String::new(),
            _ => format!("; with JSON {}", time(json.latency_ns(network_bits))),
        }
    );
    let size = match small.name {
        JSON => format!(
            "with {small_codec} it takes {} per record, and no other format takes fewer",
            bytes(small_bytes)
        ),
        _ if small_bytes > json_bytes * (1.0 - WORTH) => format!(
            "with {small_codec} {} takes {} per record and JSON {}: too little is gained for a schema to keep",
            small.name,
            bytes(small_bytes),
            bytes(json_bytes)
        ),
        _ => format!(
            "with {small_codec} it takes {} per record, {:.0} % fewer than JSON with {json_codec}, and one core decodes {} a second",
            bytes(small_bytes),
            (1.0 - small_bytes / json_bytes) * 100.0,
            rate(1e9 / small.decode_ns.max(1.0))
        ),
    };
    let is_worth = small_bytes <= json_bytes * (1.0 - WORTH);
    let (size_format, size_codec) = if is_worth { (small.name, small_codec) } else { (JSON, json_codec) };
    vec![
        FormatAdvice { need: Need::Readability, format: JSON, codec: json_codec, reason: readable },
        FormatAdvice { need: Need::Latency, format: fast.name, codec: Candidate::NONE, reason: latency },
        FormatAdvice { need: Need::Size, format: size_format, codec: size_codec, reason: size },
    ]
}

#[cfg(test)]
mod tests {
    use milena::Compression;

    use super::*;

    const ZSTD: Candidate = Candidate { codec: Compression::Zstd, level: Some(3) };

    fn one(name: &'static str, bytes: (f64, f64), ns: (f64, f64)) -> FormatFigures {
        FormatFigures {
            name,
            value_bytes: bytes.0,
            record_bytes: vec![(Candidate::NONE, bytes.0), (ZSTD, bytes.1)],
            encode_ns: ns.0,
            decode_ns: ns.1,
        }
    }

    fn check(all: &[FormatFigures]) -> Vec<(&'static str, String)> {
        advise(all, 1e9)
            .into_iter()
            .map(|one| (one.format, format!("{} {}", one.codec, one.reason)))
            .collect()
    }

    #[test]
    fn each_need_has_a_format() {
        let all = [
            one(JSON, (400.0, 60.0), (900.0, 2500.0)),
            one("Avro", (150.0, 40.0), (300.0, 700.0)),
            one("Protobuf", (160.0, 42.0), (250.0, 500.0)),
        ];
        let expect = [
            (JSON, "zstd 3 every tool reads it; with zstd 3 it takes 60.0 B per record, 50 % more than Avro"),
            (
                "Protobuf",
                "none to encode, send and decode a record takes 2030 ns, of which encoding is 250 ns and decoding 500 ns; with \
                 JSON 6600 ns",
            ),
            (
                "Avro",
                "zstd 3 with zstd 3 it takes 40.0 B per record, 33 % fewer than JSON with zstd 3, and one core decodes 1.43 M a \
                 second",
            ),
        ];
        let all = check(&all);
        assert_eq!(all.iter().map(|(format, reason)| (*format, reason.as_str())).collect::<Vec<_>>(), expect);
    }

    #[test]
    fn a_few_bytes_are_not_worth_a_schema() {
        let all = [one(JSON, (400.0, 44.0), (900.0, 2500.0)), one("Avro", (150.0, 40.0), (300.0, 700.0))];
        let size = &check(&all)[2];
        assert_eq!(size.0, JSON);
        assert!(size.1.ends_with("too little is gained for a schema to keep"), "{}", size.1);
        let all = [one(JSON, (40.0, 30.0), (10.0, 10.0)), one("Avro", (50.0, 40.0), (300.0, 700.0))];
        assert!(check(&all).iter().all(|(format, _)| *format == JSON));
        assert!(check(&all)[0].1.ends_with("and no other format takes fewer"));
    }

    #[test]
    fn one_format_alone_is_no_choice() {
        assert_eq!(check(&[one(JSON, (400.0, 44.0), (900.0, 2500.0))]), []);
        assert_eq!(check(&[one("Avro", (400.0, 44.0), (900.0, 2500.0))]), []);
    }
}
