//! Which dead letters a command is about: the options that its subcommands share. Pure, but for the look-up of times.

use jiff::Timestamp;
use milena::RecordView;
use milena_pipeline::dead_letters::{Dialect, Letter};
use regex::Regex;

use crate::offsets::{parse_partitions, parse_time_near};

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Select {
    /// Only letters whose error matches PATTERN, a regular expression: the error's class, its text and its causes
    #[arg(long, value_name = "PATTERN", help_heading = "Which letters")]
    error: Option<String>,

    /// Only letters with this key
    #[arg(long, value_name = "KEY", help_heading = "Which letters")]
    key: Option<String>,

    /// Only letters that were written at or after TIME: milliseconds since 1970, a date as 2023-11-14T22:13Z, or -1h
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Which letters")]
    since: Option<String>,

    /// Only letters that were written before TIME
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, help_heading = "Which letters")]
    until: Option<String>,

    /// Only letters that came from this topic, or from one of its partitions, as in orders/3
    #[arg(long, value_name = "TOPIC[/P]", help_heading = "Which letters")]
    origin: Option<String>,

    /// Read the letters' headers as those of one writer, and only letters that have them: milena, spring, connect, streams,
    /// share-group, smallrye, karafka, watermill or x-dlq. Default: the writer of the last such header
    #[arg(long, value_name = "DIALECT", help_heading = "Which letters")]
    dialect: Option<Dialect>,

    /// Only these partitions of the topic of dead letters, as in 0,2,5-7
    #[arg(short, long, value_name = "LIST", help_heading = "Which letters")]
    partitions: Option<String>,
}

/// The parsed options.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    error: Option<Regex>,
    key: Option<Vec<u8>>,
    origin: Option<(String, Option<i32>)>,
    dialect: Option<Dialect>,
    pub(super) since: Option<i64>,
    pub(super) until: Option<i64>,
    pub(super) partitions: Option<Vec<i32>>,
}

impl Select {
    pub(super) fn parse(&self, now: Timestamp) -> Result<Wanted, String> {
        let error = self.error.as_deref().map(Regex::new).transpose();
        let time = |text: &Option<String>| {
            let time =
                text.as_deref().map(|text| parse_time_near(text.strip_prefix('@').unwrap_or(text), now));
            time.transpose()
        };
        Ok(Wanted {
            error: error.map_err(|error| format!("--error is not a regular expression: {error}"))?,
            key: self.key.as_ref().map(|key| key.as_bytes().to_vec()),
            origin: self.origin.as_deref().map(origin).transpose()?,
            dialect: self.dialect,
            since: time(&self.since)?,
            until: time(&self.until)?,
            partitions: self.partitions.as_deref().map(parse_partitions).transpose()?,
        })
    }
}

fn origin(text: &str) -> Result<(String, Option<i32>), String> {
    match text.split_once('/') {
        None => Ok((text.to_owned(), None)),
        Some((topic, partition)) => match partition.parse() {
            Ok(partition) if partition >= 0 && !topic.is_empty() => Ok((topic.to_owned(), Some(partition))),
            _ => Err(format!("--origin {text:?}: write TOPIC or TOPIC/PARTITION")),
        },
    }
}

impl Wanted {
    /// The dialect that the headers are to be read as.
    pub(super) fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// What the headers of a record say, as `--dialect` wants them read.
    pub(super) fn letter<'a>(&self, record: &RecordView<'a>) -> Option<Letter<'a>> {
        match self.dialect {
            Some(dialect) => Letter::read_as(dialect, record.headers()),
            None => Letter::read(record.headers()),
        }
    }

    /// Whether a record is one of those that are wanted.
    pub(super) fn wants(&self, record: &RecordView<'_>, letter: Option<&Letter<'_>>) -> bool {
        if self.dialect.is_some() && letter.is_none() {
            return false;
        }
        let at = record.timestamp_ms().unwrap_or(i64::MIN);
        if self.since.is_some_and(|since| at < since) || self.until.is_some_and(|until| at >= until) {
            return false;
        }
        if let Some(wanted) = &self.key
            && original_key(record, letter) != Some(wanted)
        {
            return false;
        }
        if let Some((topic, partition)) = &self.origin {
            let Some(letter) = letter else { return false };
            let is_its = letter.topic.as_deref() == Some(topic)
                && partition.is_none_or(|partition| letter.partition == Some(partition));
            if !is_its {
                return false;
            }
        }
        self.error.as_ref().is_none_or(|pattern| letter.is_some_and(|letter| matches(pattern, letter)))
    }
}

fn matches(pattern: &Regex, letter: &Letter<'_>) -> bool {
    let texts = [&letter.class, &letter.reason].into_iter().flatten().chain(&letter.causes);
    let mut texts = texts.map(|text| &**text);
    texts.any(|text| pattern.is_match(text))
}

/// The key that the record had where it came from: Karafka puts another into the letter.
pub(super) fn original_key<'a>(record: &RecordView<'a>, letter: Option<&Letter<'a>>) -> Option<&'a [u8]> {
    match letter.and_then(|letter| letter.key) {
        // Karafka writes a null key as an empty text.
        Some([]) => None,
        Some(key) => Some(key),
        None => record.key(),
    }
}
