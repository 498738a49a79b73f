//! A sample of a file: its first lines, each of which is a record.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::sample::{Sample, Sampled};
use super::topic::Limits;
use crate::exit::Failure;
use crate::input::Cutter;
use crate::json::Line;

/// What the lines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lines {
    /// Records as `milena consume --json` writes them.
    Consumed,
    /// The values of records.
    Values,
}

/// The longest line.
const LINE_BYTES_MAX: usize = 16 << 20;

/// The first records of a file, or of stdin if it is `-`.
///
/// # Errors
/// When the file cannot be read or has no line.
pub(super) fn take(path: &Path, limits: Limits) -> Result<Sample, Failure> {
    if path.as_os_str() == "-" {
        return read(io::stdin().lock(), "stdin", limits);
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| {
        let message = format!("cannot open {name}: {error}");
        match error.kind() {
            io::ErrorKind::NotFound => Failure::not_found(message),
            _ => Failure::failed(message),
        }
    })?;
    read(file, &name, limits)
}

fn read(reader: impl Read, name: &str, limits: Limits) -> Result<Sample, Failure> {
    let mut cutter = Cutter::new(reader, b"\n", LINE_BYTES_MAX);
    let (mut sample, mut bytes, mut form) = (Sample::default(), 0, None);
    let wrong = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData => Failure::usage(format!("{name}: {error}")),
        _ => Failure::failed(format!("cannot read {name}: {error}")),
    };
    'all: while let Some(block) = cutter.next_block().map_err(wrong)? {
        for (number, line) in block.records() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            if bytes >= limits.bytes_max || sample.records.len() as u64 >= limits.records_max {
                let limit = if bytes >= limits.bytes_max { "--sample-bytes" } else { "--records" };
                sample.end = Some(format!("{limit} takes no more"));
                break 'all;
            }
            let form =
                *form.get_or_insert_with(|| if is_consumed(line) { Lines::Consumed } else { Lines::Values });
            let record = match form {
                Lines::Values => Sampled {
                    // A hundred thousand records a second.
                    timestamp: BEGIN_MS + number as i64 / 100,
                    value: Some(line.into()),
                    ..Sampled::default()
                },
                Lines::Consumed => {
                    consumed(line).map_err(|why| Failure::usage(why).at(&format!("{name}, line {number}")))?
                }
            };
            bytes += record.bytes();
            sample.records.push(record);
        }
    }
    if sample.records.is_empty() {
        return Err(Failure::usage(format!("{name} has no line to measure")));
    }
    // A batch has records of one partition.
    sample.records.sort_by_key(|record| record.partition);
    let lines = match form {
        Some(Lines::Consumed) => "records as milena consume --json writes them",
        _ => "each line is a value",
    };
    sample.source = format!("{name}: {lines}");
    Ok(sample)
}

/// When records without a time were written: any time is as good.
const BEGIN_MS: i64 = 1_700_000_000_000;

/// Whether a line is one of `milena consume --json`, and not a user's JSON with a field `value`.
fn is_consumed(line: &[u8]) -> bool {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "that they are there is all that counts")]
    struct Place {
        topic: String,
        partition: i32,
        offset: i64,
        timestamp: IgnoredAny,
    }
    serde_json::from_slice::<Place>(line).is_ok() && Line::parse(line).is_ok()
}

fn consumed(line: &[u8]) -> Result<Sampled, String> {
    let line = Line::parse(line)?;
    Ok(Sampled {
        partition: line.partition.unwrap_or(0),
        timestamp: line.timestamp.unwrap_or(BEGIN_MS),
        key: line.key.map(|key| key.as_ref().into()),
        value: line.value.map(|value| value.as_ref().into()),
        headers: line
            .headers
            .iter()
            .map(|(key, value)| (key.as_ref().into(), value.as_ref().map(|value| value.as_ref().into())))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: Limits = Limits { records_max: 100, bytes_max: 1000, time: Duration::MAX };

    fn check(text: &str, limits: Limits) -> Result<Sample, String> {
        read(text.as_bytes(), "f", limits).map_err(|failure| failure.to_string())
    }

    #[test]
    fn lines_are_values_unless_consume_wrote_them() {
        let sample = check("{\"value\":1}\r\n\ntext\n", LIMITS).expect("read");
        let values: Vec<_> = sample.records.iter().map(|record| record.value.as_deref()).collect();
        assert_eq!(values, [Some(&b"{\"value\":1}"[..]), Some(b"text")]);
        assert_eq!((sample.source.as_str(), sample.end), ("f: each line is a value", None));

        let line = |partition, value| {
            format!(
                r#"{{"topic":"t","partition":{partition},"offset":7,"timestamp":5,"key":"k","value":{value},"headers":[{{"key":"h","value":null}}]}}"#
            )
        };
        let text = [line(2, "\"v\""), line(1, "null")].join("\n");
        let sample = check(&text, LIMITS).expect("read");
        let [first, second] = &sample.records[..] else { panic!("{sample:?}") };
        assert_eq!((first.partition, first.value.as_deref()), (1, None));
        assert_eq!((second.partition, second.value.as_deref()), (2, Some(&b"v"[..])));
        assert_eq!((second.timestamp, second.key.as_deref()), (5, Some(&b"k"[..])));
        assert_eq!(second.headers, [(b"h"[..].into(), None)]);
        assert!(sample.source.contains("consume --json"), "{}", sample.source);

        let error = check(&[line(0, "1"), "text".into()].join("\n"), LIMITS).expect_err("is no record");
        assert!(error.starts_with("f, line 2: "), "{error}");
    }

    #[test]
    fn a_sample_has_limits() {
        let text = "0123456789\n".repeat(1000);
        let sample = check(&text, Limits { records_max: 7, ..LIMITS }).expect("read");
        assert_eq!((sample.records.len(), sample.end.as_deref()), (7, Some("--records takes no more")));
        let sample = check(&text, Limits { records_max: 1000, ..LIMITS }).expect("read");
        assert_eq!(
            (sample.records.len(), sample.end.as_deref()),
            (100, Some("--sample-bytes takes no more"))
        );
        for empty in ["", "\n\r\n"] {
            assert_eq!(check(empty, LIMITS).expect_err("empty"), "f has no line to measure");
        }
    }
}
