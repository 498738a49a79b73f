//! `milena dlq stats`: how many dead letters there are, by what tells them apart.

use std::collections::BTreeMap;

use jiff::Timestamp;
use milena_pipeline::dead_letters::Letter;
use serde_json::json;

use super::reader::{Reader, spans};
use super::selection::{Select, original_key};
use super::{date, one_line, preview};
use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::output::write_out;
use crate::table::{Align, Table};
use crate::units::Count;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  milena dlq stats orders.dlq --since -24h --origin orders")]
pub(super) struct Args {
    /// The topic of dead letters
    topic: String,

    #[command(flatten)]
    select: Select,

    /// Show the N most frequent errors, origins and keys, and the N newest hours
    #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
    top: usize,

    /// One JSON object
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// Different errors, origins or keys that are counted one by one; those that come later are counted together.
const KINDS_MAX: usize = 100_000;
/// Characters of an error or a key that tell it from others.
const KIND_CHARS: usize = 120;
const HOUR_MS: i64 = 3_600_000;

/// Counts by name.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<String, u64>,
    others: u64,
}

impl Tally {
    fn add(&mut self, name: String) {
        if let Some(count) = self.counts.get_mut(&name) {
            *count += 1;
        } else if self.counts.len() < KINDS_MAX {
            self.counts.insert(name, 1);
        } else {
            self.others += 1;
        }
    }

    /// The most frequent, and how many the others are.
    fn top(&self, n: usize) -> (Vec<(&str, u64)>, u64) {
        let mut counts: Vec<_> = self.counts.iter().map(|(name, count)| (name.as_str(), *count)).collect();
        counts.sort_by(|(a, x), (b, y)| y.cmp(x).then(a.cmp(b)));
        let rest: u64 = counts.iter().skip(n).map(|(_, count)| count).sum();
        counts.truncate(n);
        (counts, rest + self.others)
    }

    /// The last by name, and how many the others are.
    fn last(&self, n: usize) -> (Vec<(&str, u64)>, u64) {
        let skipped = self.counts.len().saturating_sub(n);
        let rest: u64 = self.counts.values().take(skipped).sum();
        let last = self.counts.iter().skip(skipped).map(|(name, count)| (name.as_str(), *count));
        (last.collect(), rest + self.others)
    }
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let wanted = args.select.parse(Timestamp::now()).map_err(Failure::usage)?;
    let cluster = args.cluster.connect().await?;
    let mut reader = Reader::open(&cluster, spans(&cluster, &args.topic, &wanted).await?).await?;
    let mut letters = 0;
    let [mut errors, mut origins, mut hours, mut keys, mut dialects] = [(); 5].map(|()| Tally::default());
    while let Some((batch, stop)) = reader.next().await? {
        for record in batch.iter().filter(|record| record.offset() < stop) {
            let letter = wanted.letter(&record);
            if !wanted.wants(&record, letter.as_ref()) {
                continue;
            }
            letters += 1;
            errors.add(letter.as_ref().map_or_else(|| "-".into(), kind));
            origins.add(letter.as_ref().map_or_else(|| "-".into(), |letter| origin(letter)));
            hours.add(
                record.timestamp_ms().map_or_else(|| "-".into(), |ms| date(ms - ms.rem_euclid(HOUR_MS))),
            );
            keys.add(preview(original_key(&record, letter.as_ref()), KIND_CHARS));
            dialects.add(letter.map_or_else(|| "-".into(), |letter| letter.dialect.name().into()));
        }
    }
    let parts = [
        ("errors", "error", errors.top(args.top)),
        ("origins", "origin", origins.top(args.top)),
        ("hours", "hour", hours.last(args.top)),
        ("keys", "key", keys.top(args.top)),
        ("dialects", "dialect", dialects.top(args.top)),
    ];
    if args.json {
        let mut all = serde_json::Map::new();
        all.insert("topic".into(), args.topic.into());
        all.insert("letters".into(), letters.into());
        for (name, what, (counts, others)) in &parts {
            let counts: Vec<_> =
                counts.iter().map(|(of, count)| json!({ *what: of, "letters": count })).collect();
            all.insert((*name).into(), json!({ "top": counts, "others": others }));
        }
        return write_out(&(serde_json::Value::from(all).to_string() + "\n"));
    }
    let mut text = format!("{}\n", super::letters(letters));
    for (_, what, (counts, others)) in &parts {
        if counts.is_empty() {
            continue;
        }
        let mut table = Table::new(&[("letters", Align::Right), (what, Align::Left)]);
        for (name, count) in counts {
            table.row([Count(*count).to_string(), (*name).to_owned()]);
        }
        if *others > 0 {
            table.row([Count(*others).to_string(), "(others)".into()]);
        }
        text.push('\n');
        text += &table.text(0);
    }
    write_out(&text)
}

/// What letters of the same error have in common: the class and the text, without the numbers in it.
fn kind(letter: &Letter<'_>) -> String {
    let mut parts: Vec<String> = letter.class.iter().map(|class| one_line(class, KIND_CHARS)).collect();
    if let Some(reason) = &letter.reason {
        parts.push(without_numbers(&one_line(reason, KIND_CHARS)));
    }
    if parts.is_empty() { "-".into() } else { parts.join(": ") }
}

/// Ids and sizes would make each error one of its own.
fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_number = false;
    for c in text.chars() {
        if c.is_ascii_digit() {
            if !in_number {
                out.push('N');
            }
            in_number = true;
        } else {
            in_number = false;
            out.push(c);
        }
    }
    out
}

fn origin(letter: &Letter<'_>) -> String {
    let topic = letter.topic.as_deref().map_or("-".into(), |topic| one_line(topic, KIND_CHARS));
    letter.partition.map_or_else(|| topic.clone(), |partition| format!("{topic}/{partition}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_differ_in_numbers_only_are_one_kind() {
        assert_eq!(without_numbers("no customer 42 in 3.5 ms"), "no customer N in N.N ms");
        assert_eq!(without_numbers(""), "");
    }

    #[test]
    fn the_most_frequent_come_first_and_the_others_are_counted() {
        let mut tally = Tally::default();
        for name in ["b", "a", "c", "b", "a", "d"] {
            tally.add(name.into());
        }
        assert_eq!(tally.top(3), (vec![("a", 2), ("b", 2), ("c", 1)], 1));
        assert_eq!(tally.last(2), (vec![("c", 1), ("d", 1)], 4));
    }
}
