//! Letters: owned records that the tests compare byte for byte, and the lines that partners read and write for them. This
//! file knows nothing of brokers.

use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use milena_wire::batch::Record;

/// A record without its offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The partition.
    pub partition: i32,
    /// The timestamp in milliseconds since the epoch.
    pub timestamp: i64,
    /// Null and empty are different keys.
    pub key: Option<Vec<u8>>,
    /// Null and empty are different values.
    pub value: Option<Vec<u8>>,
    /// In order; names may repeat.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// A letter and its offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its offset in its partition.
    pub offset: i64,
    /// The record.
    pub letter: Letter,
}

impl Letter {
    /// A letter with a value only.
    #[must_use]
    pub fn value(partition: i32, value: &[u8]) -> Self {
        Self { partition, timestamp: TIME, key: None, value: Some(value.to_vec()), headers: Vec::new() }
    }

    /// A letter from a record of `milena_wire`.
    ///
    /// # Errors
    /// A header's name is not UTF-8.
    pub fn from_record(partition: i32, record: &Record<'_>) -> anyhow::Result<Self> {
        let mut headers = Vec::new();
        for header in record.headers() {
            let header = header?;
            let name = header.name().context("a header's name is not UTF-8")?;
            headers.push((name.to_owned(), header.value.map(<[u8]>::to_vec)));
        }
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        Ok(Self { partition, timestamp: record.timestamp, key, value, headers })
    }

    /// The line for a partner's `produce`: partition, timestamp, key, value and headers, separated by tabs. Bytes are
    /// hexadecimal, and `-` is null. Headers are `name=value`, both hexadecimal, separated by commas.
    #[must_use]
    pub fn to_line(&self) -> String {
        let headers: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{}={}", hex(Some(name.as_bytes())), hex(value.as_deref())))
            .collect();
        let (key, value) = (hex(self.key.as_deref()), hex(self.value.as_deref()));
        format!("{}\t{}\t{key}\t{value}\t{}\n", self.partition, self.timestamp, headers.join(","))
    }
}

impl Received {
    /// Parses a line of a partner's `consume`, which is that of [`Letter::to_line`] with the offset after the partition.
    ///
    /// # Errors
    /// It is not such a line.
    pub fn from_line(line: &str) -> anyhow::Result<Self> {
        let field: Vec<&str> = line.split('\t').collect();
        ensure!(field.len() == 6, "{} fields in {line:?}", field.len());
        let mut headers = Vec::new();
        for header in field[5].split(',').filter(|header| !header.is_empty()) {
            let (name, value) = header.split_once('=').with_context(|| format!("no header: {header:?}"))?;
            headers.push((String::from_utf8(unhex(name)?.unwrap_or_default())?, unhex(value)?));
        }
        let (key, value) = (unhex(field[3])?, unhex(field[4])?);
        let letter =
            Letter { partition: field[0].parse()?, timestamp: field[2].parse()?, key, value, headers };
        Ok(Self { offset: field[1].parse()?, letter })
    }
}

/// Letters of every kind with which some client has had a bug: null and empty keys, values and header values, repeated headers
/// and headers without a name, bytes that are not text, line ends, long and short ones, in three partitions. They repeat
/// enough that every codec can compress them.
#[must_use]
pub fn awkward() -> Vec<Letter> {
    let mut letters = Vec::new();
    let keys: [Option<&[u8]>; 5] = [None, Some(b""), Some(b"k"), Some(b"N14228"), Some(&[0, 255, 10, 13, 9])];
    let values: [Option<&[u8]>; 5] =
        [None, Some(b""), Some(b"v"), Some("привіт, Мілено".as_bytes()), Some(&[0; 300])];
    for (index, key) in keys.iter().enumerate() {
        for (number, value) in values.iter().enumerate() {
            letters.push(Letter {
                partition: i32::try_from((index * values.len() + number) % 3).unwrap_or(0),
                timestamp: TIME + i64::try_from(index * 1000 + number).unwrap_or(0),
                key: key.map(<[u8]>::to_vec),
                value: value.map(<[u8]>::to_vec),
                headers: headers(index + number),
            });
        }
    }
    for number in 0..200 {
        let text = format!("{{\"flight\":{number},\"carrier\":\"UA\",\"origin\":\"EWR\",\"dest\":\"IAH\"}}");
        letters
            .push(Letter { headers: headers(number), ..Letter::value((number % 3) as i32, text.as_bytes()) });
    }
    let noise = (0..70_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
    letters.push(Letter::value(1, &noise));
    letters
}

fn headers(number: usize) -> Vec<(String, Option<Vec<u8>>)> {
    match number % 5 {
        0 => vec![],
        1 => vec![("trace".into(), Some(b"7f".to_vec()))],
        2 => vec![("null".into(), None), ("empty".into(), Some(vec![]))],
        3 => vec![
            ("same".into(), Some(vec![1])),
            ("same".into(), Some(vec![2])),
            (String::new(), Some(vec![0, 255])),
        ],
        _ => vec![("довгий заголовок".into(), Some(vec![b'x'; 200]))],
    }
}

/// The letters of one partition, in order.
#[must_use]
pub fn of_partition(letters: &[Letter], partition: i32) -> Vec<Letter> {
    letters.iter().filter(|letter| letter.partition == partition).cloned().collect()
}

/// Fails when `received` is not exactly `sent`: partition by partition, in order, at offsets 0, 1, 2, ...
///
/// # Panics
/// The panic names the first difference.
pub fn assert_same(what: &str, sent: &[Letter], received: &[Received]) {
    assert_same_letters(what, sent, received);
    for partition in 0..3 {
        let got = received.iter().filter(|received| received.letter.partition == partition);
        for (index, got) in (0_i64..).zip(got) {
            assert_eq!(got.offset, index, "{what}: offset of letter {index} of partition {partition}");
        }
    }
}

/// Checks that every letter arrived once, at any offset, in the order of its partition.
///
/// # Panics
/// The panic names the first difference.
pub fn assert_same_letters(what: &str, sent: &[Letter], received: &[Received]) {
    for partition in 0..3 {
        let wanted = of_partition(sent, partition);
        let got: Vec<&Received> = received.iter().filter(|r| r.letter.partition == partition).collect();
        for (index, (wanted, got)) in wanted.iter().zip(&got).enumerate() {
            assert_eq!(&got.letter, wanted, "{what}: letter {index} of partition {partition}");
        }
        assert_eq!(got.len(), wanted.len(), "{what}: letters in partition {partition}");
    }
    assert_eq!(received.len(), sent.len(), "{what}: letters in all partitions");
}

fn hex(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "-".into() };
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> anyhow::Result<Option<Vec<u8>>> {
    if text == "-" {
        return Ok(None);
    }
    ensure!(text.len().is_multiple_of(2), "half a byte in {text:?}");
    let byte = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    Ok(Some(bytes.with_context(|| format!("not hexadecimal: {text:?}"))?))
}

/// When the letters were written.
pub const TIME: i64 = 1_700_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        for letter in awkward() {
            let line = letter.to_line();
            let (partition, rest) = line.trim_end_matches('\n').split_once('\t').unwrap();
            let received = Received::from_line(&format!("{partition}\t42\t{rest}")).unwrap();
            assert_eq!(received, Received { offset: 42, letter });
        }
    }

    #[test]
    fn a_missing_letter_is_noticed() {
        let sent = awkward();
        let mut next = [0; 3];
        let mut received: Vec<Received> = Vec::new();
        for letter in &sent {
            let offset = &mut next[letter.partition as usize];
            received.push(Received { offset: *offset, letter: letter.clone() });
            *offset += 1;
        }
        assert_same("whole", &sent, &received);
        received.pop();
        std::panic::catch_unwind(|| assert_same("cut", &sent, &received)).unwrap_err();
    }
}
