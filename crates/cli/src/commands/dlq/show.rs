//! `milena dlq show`: dead letters with what is known of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use milena::OwnedRecord;
use milena_pipeline::dead_letters::Letter;
use serde_json::{Map, Value, json};

use super::reader::{Reader, held, spans};
use super::selection::Select;
use super::{date, one_line, preview};
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::json;
use crate::output::write_out;
use crate::view::View;

const EXAMPLES: &str = "\
Examples:
  milena dlq show orders.dlq                            the ten newest letters
  milena dlq show orders.dlq --error Timeout -n 100     of those with this error
  milena dlq show orders.dlq -p 3 --offset 42           one letter, with its whole value and stack trace
  milena dlq show orders.dlq --since -1h --json         as JSON lines";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// The topic of dead letters
    topic: String,

    #[command(flatten)]
    select: Select,

    /// The letter at this offset, with its whole value and its stack trace; -p says of which partition
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(0..), requires = "partitions")]
    offset: Option<i64>,

    /// The N newest letters
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10, conflicts_with = "offset")]
    newest: usize,

    /// One JSON object a line, with whole values
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// Letters that are kept at the same time.
const NEWEST_MAX: usize = 100_000;

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let wanted = args.select.parse(Timestamp::now()).map_err(Failure::usage)?;
    if args.newest > NEWEST_MAX {
        return Err(Failure::usage(format!(
            "-n can be {NEWEST_MAX} at most; `milena consume` writes whole topics"
        )));
    }
    let cluster = args.cluster.connect().await?;
    let spans = match args.offset {
        None => spans(&cluster, &args.topic, &wanted).await?,
        Some(offset) => {
            let mut held = held(&cluster, &args.topic, &wanted).await?;
            for ((_, partition), span) in &mut held {
                if !span.contains(&offset) {
                    let message =
                        format!("partition {partition} of topic {:?} has no offset {offset}", args.topic);
                    let hint = format!("It has offsets {} to {}.", span.start, span.end);
                    return Err(Failure::not_found(message).hint(hint));
                }
                *span = offset..offset + 1;
            }
            held
        }
    };
    // The newest by time. Letters of the same time are told apart by their place.
    let mut newest: BTreeMap<(Option<i64>, i32, i64), OwnedRecord> = BTreeMap::new();
    let mut reader = Reader::open(&cluster, spans).await?;
    while let Some((batch, stop)) = reader.next().await? {
        for record in batch.iter().filter(|record| record.offset() < stop) {
            // After compaction a batch may begin before the one offset that is wanted.
            if args.offset.is_some_and(|offset| record.offset() != offset) {
                continue;
            }
            let place = (record.timestamp_ms(), record.partition(), record.offset());
            let is_full = newest.len() == args.newest;
            if is_full && newest.first_key_value().is_none_or(|(oldest, _)| place <= *oldest) {
                continue;
            }
            if wanted.wants(&record, wanted.letter(&record).as_ref()) {
                if is_full {
                    newest.pop_first();
                }
                newest.insert(place, record.to_owned());
            }
        }
    }
    let mut text = String::new();
    for record in newest.values() {
        let headers =
            || record.headers.iter().map(|(key, value)| milena::Header { key, value: value.as_deref() });
        let letter = match wanted.dialect() {
            Some(dialect) => Letter::read_as(dialect, headers()),
            None => Letter::read(headers()),
        };
        if args.json {
            text += &json_line(record, letter.as_ref())?;
        } else {
            if !text.is_empty() {
                text.push('\n');
            }
            push_text(&mut text, record, letter.as_ref(), args.offset.is_some());
        }
    }
    write_out(&text)
}

/// Characters of a key, a value or a header that are shown.
const PREVIEW_CHARS: usize = 200;

fn push_text(text: &mut String, record: &OwnedRecord, letter: Option<&Letter<'_>>, is_whole: bool) {
    let chars_max = if is_whole { usize::MAX / 8 } else { PREVIEW_CHARS };
    let at = record.timestamp_ms.map_or("-".into(), date);
    let dialect = letter.map_or("no dead letter of a known dialect", |letter| letter.dialect.name());
    // Writing into a String cannot fail.
    let _ = writeln!(text, "{}/{}@{}  {at}  {dialect}", record.topic, record.partition, record.offset);
    let mut field = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<8} {value}");
    };
    if let Some(letter) = letter {
        push_letter(&mut field, letter, chars_max);
    }
    let key = letter.and_then(|letter| letter.key).or(record.key.as_deref());
    field("key", &preview(key, chars_max));
    let bytes = record.value.as_ref().map_or(0, Vec::len);
    let value = preview(record.value.as_deref(), chars_max);
    field("value", &if value.ends_with('…') { format!("{value} ({bytes} bytes)") } else { value });
    for (name, value) in &record.headers {
        if !letter.is_some_and(|letter| letter.dialect.owns(name)) {
            let (name, value) = (preview(Some(name), PREVIEW_CHARS), preview(value.as_deref(), chars_max));
            field("header", &format!("{name} = {value}"));
        }
    }
    if let Some(stack) = letter.and_then(|letter| letter.stack.as_deref()).filter(|_| is_whole) {
        let _ = writeln!(text, "  stack");
        for line in stack.lines() {
            let _ = writeln!(text, "    {}", one_line(line, usize::MAX));
        }
    }
}

fn push_letter(field: &mut impl FnMut(&str, &str), letter: &Letter<'_>, chars_max: usize) {
    field("origin", &origin(letter));
    let error: Vec<_> =
        [&letter.class, &letter.reason].into_iter().flatten().map(|text| one_line(text, chars_max)).collect();
    if !error.is_empty() {
        field("error", &error.join(": "));
    }
    for cause in &letter.causes {
        field("cause", &one_line(cause, chars_max));
    }
    let times = |count: u64| if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let mut tried: Vec<_> = letter.attempts.into_iter().map(times).collect();
    tried.extend(letter.first_ms.map(|ms| format!("first {}", date(ms))));
    tried.extend(letter.last_ms.map(|ms| format!("last {}", date(ms))));
    if !tried.is_empty() {
        field("tried", &tried.join(", "));
    }
    // Once is what every letter is.
    if let Some(letters) = letter.letters.filter(|letters| *letters > 1) {
        field("letters", &format!("{letters}, counting those before it was replayed"));
    }
    if let Some(replays) = letter.replays {
        field("replayed", &times(replays));
    }
    for (name, text) in [("group", &letter.group), ("handler", &letter.handler)] {
        if let Some(text) = text {
            field(name, &one_line(text, PREVIEW_CHARS));
        }
    }
}

/// As `orders/3@42`, with what is not known left out.
pub(super) fn origin(letter: &Letter<'_>) -> String {
    let mut text = letter.topic.as_deref().map_or("-".into(), |topic| one_line(topic, PREVIEW_CHARS));
    if let Some(partition) = letter.partition {
        let _ = write!(text, "/{partition}");
    }
    if let Some(offset) = letter.offset {
        let _ = write!(text, "@{offset}");
    }
    text
}

/// The record as `milena consume --json` writes it, with what its headers say.
fn json_line(record: &OwnedRecord, letter: Option<&Letter<'_>>) -> Result<String, Failure> {
    let headers: Vec<_> = record.headers.iter().map(|(key, value)| (&key[..], value.as_deref())).collect();
    let view = View {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp_ms.unwrap_or(-1),
        key: record.key.as_deref(),
        value: record.value.as_deref(),
        headers: &headers,
        key_seen: None,
        value_seen: None,
    };
    let mut line = Vec::new();
    json::write_line(&view, &mut line);
    let mut line: Map<String, Value> =
        serde_json::from_slice(&line).map_err(|error| Failure::failed(error.to_string()))?;
    if let Some(letter) = letter {
        line.insert("letter".into(), json_letter(letter));
    }
    Ok(Value::from(line).to_string() + "\n")
}

fn json_letter(letter: &Letter<'_>) -> Value {
    json!({
        "dialect": letter.dialect.name(),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp_ms,
        "class": letter.class,
        "reason": letter.reason,
        "causes": letter.causes,
        "stack": letter.stack,
        "attempts": letter.attempts,
        "letters": letter.letters,
        "replays": letter.replays,
        "first": letter.first_ms,
        "last": letter.last_ms,
        "group": letter.group,
        "handler": letter.handler,
    })
}
