//! The demo's records: flights from a CSV file, each as one JSON object keyed by the aircraft's tail number.
//!
//! The whole text is held in memory (31 MB for all of 2013), so that reading and inflating do not count in the measured
//! time. Each record is built in the caller's buffer. This file knows CSV and JSON, and nothing of topics.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use memchr::{memchr, memchr_iter};

use crate::exit::{Exit, Failure};

/// Where the file of the full year may be, relative to the working directory. Without it the built-in sample is used.
const FULL_YEAR: [&str; 2] = ["data/flights.csv.gz", "../shared/data/flights.csv.gz"];
const SAMPLE: &[u8] = include_bytes!("../../../../data/flights-sample.csv.gz");

/// The largest file in bytes, as it is on disk.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// The largest text in bytes after inflating: far more than a year of flights, far less than a decompression bomb.
const TEXT_BYTES_MAX: u64 = 1 << 30;

const KEY_COLUMN: &str = "tailnum";
/// Columns that are written as JSON strings even if they look like numbers.
const TEXT_COLUMNS: [&str; 5] = ["carrier", "tailnum", "origin", "dest", "time_hour"];

/// All flights of one file.
#[derive(Debug)]
pub(crate) struct Flights {
    text: String,
    columns: Vec<Column>,
    first_row: usize,
    row_count: usize,
    origin: String,
}

#[derive(Debug)]
struct Column {
    /// `{"name":` or `,"name":`, as in every record.
    label: String,
    is_text: bool,
    is_key: bool,
}

impl Flights {
    /// Reads `file`, else the file of the full year, else the built-in sample.
    pub(crate) fn open(file: Option<&Path>) -> Result<Self, Failure> {
        let full_year = || FULL_YEAR.iter().map(PathBuf::from).find(|path| path.is_file());
        match file.map(Path::to_owned).or_else(full_year) {
            Some(path) => {
                let origin = path.display().to_string();
                let mut bytes = Vec::new();
                let read =
                    File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
                let read = read.map_err(|error| {
                    let exit = if error.kind() == ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
                    Failure::new(exit, format!("cannot read {origin}: {error}"))
                })?;
                if read as u64 > FILE_BYTES_MAX {
                    return Err(Failure::usage(format!(
                        "{origin} is not a flights file: it is larger than 1 GiB"
                    )));
                }
                Self::parse(&bytes, origin)
            }
            None => Self::parse(SAMPLE, "the built-in sample".into()),
        }
    }

    fn parse(bytes: &[u8], origin: String) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::usage(format!("{origin} is not a flights file: {what}"));
        let mut text = String::new();
        let read = if bytes.starts_with(&[0x1f, 0x8b]) {
            MultiGzDecoder::new(bytes).take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)
        } else {
            bytes.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text)
        };
        if read.map_err(|e| wrong(&e.to_string()))? as u64 > TEXT_BYTES_MAX {
            return Err(wrong("it has more than 1 GiB of text"));
        }
        if memchr(b'"', text.as_bytes()).is_some() || memchr(b'\\', text.as_bytes()).is_some() {
            return Err(wrong("it has quotes or backslashes, which are not supported"));
        }
        let header = text.lines().next().unwrap_or_default();
        let columns: Vec<_> = header.split(',').enumerate().map(|(i, name)| Column::new(i, name)).collect();
        if !columns.iter().any(|c| c.is_key) {
            return Err(wrong("its first line has no column tailnum"));
        }
        let first_row = (header.len() + 1).min(text.len());
        let row_count = rows(&text[first_row..]).count();
        if row_count == 0 {
            return Err(wrong("it has no rows"));
        }
        Ok(Self { first_row, row_count, columns, text, origin })
    }

    pub(crate) fn row_count(&self) -> usize {
        self.row_count
    }

    /// Where the flights came from, for the report.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// The rows, again and again.
    pub(crate) fn cycle(&self) -> impl Iterator<Item = &str> {
        std::iter::repeat_with(|| rows(&self.text[self.first_row..])).flatten()
    }

    /// Writes `row` into `json` (cleared first) and returns its key: the tail number, if there is one.
    pub(crate) fn encode<'a>(&self, row: &'a str, json: &mut Vec<u8>) -> Option<&'a str> {
        json.clear();
        let mut key = None;
        let mut rest = row;
        for column in &self.columns {
            let end = memchr(b',', rest.as_bytes()).unwrap_or(rest.len());
            let field = Some(&rest[..end]).filter(|f| !f.is_empty() && *f != "NA");
            rest = rest.get(end + 1..).unwrap_or_default();
            json.extend_from_slice(column.label.as_bytes());
            match field {
                None => json.extend_from_slice(b"null"),
                Some(number) if !column.is_text && is_number(number) => {
                    json.extend_from_slice(number.as_bytes());
                }
                Some(text) => {
                    json.push(b'"');
                    json.extend_from_slice(text.as_bytes());
                    json.push(b'"');
                }
            }
            if column.is_key {
                key = field;
            }
        }
        json.push(b'}');
        key
    }

    /// Only the key of a row.
    pub(crate) fn key<'a>(&self, row: &'a str) -> Option<&'a str> {
        let at = self.columns.iter().position(|c| c.is_key)?;
        row.split(',').nth(at).filter(|f| !f.is_empty() && *f != "NA")
    }
}

impl Column {
    fn new(index: usize, name: &str) -> Self {
        let name = name.trim();
        Self {
            label: format!("{}\"{name}\":", if index == 0 { '{' } else { ',' }),
            is_text: TEXT_COLUMNS.contains(&name),
            is_key: name == KEY_COLUMN,
        }
    }
}

fn rows(text: &str) -> impl Iterator<Item = &str> {
    let ends = memchr_iter(b'\n', text.as_bytes()).chain(std::iter::once(text.len()));
    let mut start = 0;
    ends.map(move |end| {
        let row = &text[start.min(end)..end];
        start = end + 1;
        row.strip_suffix('\r').unwrap_or(row)
    })
    .filter(|row| !row.is_empty())
}

/// Whether `text` is a valid JSON number.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole) && all_digits(fraction) && (whole == "0" || !whole.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Flights, Failure> {
        Flights::parse(text.as_bytes(), "test".into())
    }

    #[test]
    fn the_sample_is_inside() {
        let flights = Flights::parse(SAMPLE, "sample".into()).unwrap();
        assert_eq!(flights.row_count(), 9906);
        let mut json = Vec::new();
        for row in flights.cycle().take(flights.row_count()) {
            let key = flights.encode(row, &mut json);
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(value.as_object().unwrap().len(), 19);
            assert_eq!(value["tailnum"].as_str(), key);
            assert_eq!(value["year"], 2013);
            assert_eq!(flights.key(row), key);
        }
    }

    #[test]
    fn a_row_becomes_an_object() {
        let flights = parse("tailnum,dep_delay,carrier,x\nN1,-2,9E,1.5\nNA,NA,,007\nN2\n").unwrap();
        let mut json = Vec::new();
        let encoded: Vec<_> = flights
            .cycle()
            .take(4)
            .map(|row| (flights.encode(row, &mut json), String::from_utf8(json.clone()).unwrap()))
            .collect();
        assert_eq!(
            encoded[0],
            (Some("N1"), r#"{"tailnum":"N1","dep_delay":-2,"carrier":"9E","x":1.5}"#.into())
        );
        assert_eq!(
            encoded[1],
            (None, r#"{"tailnum":null,"dep_delay":null,"carrier":null,"x":"007"}"#.into())
        );
        assert_eq!(
            encoded[2],
            (Some("N2"), r#"{"tailnum":"N2","dep_delay":null,"carrier":null,"x":null}"#.into())
        );
        assert_eq!(encoded[3], encoded[0], "after the last row comes the first");
    }

    #[test]
    fn line_ends_do_not_matter() {
        for text in ["tailnum\r\nN1\r\nN2\r\n", "tailnum\nN1\nN2", "tailnum\n\nN1\n\nN2\n\n"] {
            let flights = parse(text).unwrap();
            assert_eq!(flights.cycle().take(3).collect::<Vec<_>>(), ["N1", "N2", "N1"], "{text:?}");
        }
    }

    #[test]
    fn what_is_no_flights_file_is_named() {
        for (text, says) in [
            ("", "tailnum"),
            ("a,b\n1,2\n", "tailnum"),
            ("tailnum\n", "no rows"),
            ("tailnum\n\"x\"\n", "quotes"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
        assert!(Flights::parse(&[0x1f, 0x8b, 0, 0], "test".into()).is_err());
    }

    #[test]
    fn numbers_are_jsons() {
        for (text, expect) in [
            ("0", true),
            ("-2", true),
            ("1.50", true),
            ("0.5", true),
            ("007", false),
            ("-", false),
            ("1.", false),
            ("1e5", false),
            ("9E", false),
        ] {
            assert_eq!(is_number(text), expect, "{text}");
        }
    }
}
