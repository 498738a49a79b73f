//! `--dry-run`: what a replay would write, letter by letter, as a diff.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use milena::Header;
use serde_json::{Value, json};

use super::outgoing::{Item, Outgoing};
use super::{Args, Planned, Planner, audit, position};
use crate::commands::dlq::reader::held;
use crate::commands::dlq::{letters, preview, replay_name};
use crate::exit::Failure;
use crate::output::{Output, Reader, tell};
use crate::units::Count;

/// Characters of a key, a value or a header that are shown.
const PREVIEW_CHARS: usize = 200;

pub(super) async fn run(args: &Args, planner: &mut Planner<'_>) -> Result<(), Failure> {
    let group = replay_name(&args.topic, args.name.as_deref());
    let held = held(planner.cluster, &args.topic, &planner.wanted).await?;
    let partitions = held.keys().map(|(topic, partition)| (topic.as_str(), *partition));
    let found = planner.cluster.admin().list_group_offsets_of(&group, partitions).await?;
    let mut positions = BTreeMap::new();
    for (partition, committed) in found {
        let Some(held) = held.get(&partition) else { continue };
        positions.insert(partition.1, position(&partition, committed?.as_ref(), held, &group)?);
    }
    let mut reader = planner.open(&args.topic, &positions).await?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let (mut count, mut failed_count) = (0, 0);
    let mut by_topic: BTreeMap<String, u64> = BTreeMap::new();
    let mut output = Output::new();
    'reading: while let Some((batch, stop)) = reader.next().await? {
        for record in batch.share().records() {
            if record.offset() >= stop || left == 0 {
                break;
            }
            let Some(planned) = planner.plan(record, &positions).await? else { continue };
            left -= 1;
            count += 1;
            let text = match planned {
                Planned::Item(item) => {
                    for outgoing in &item.outgoing {
                        *by_topic.entry(outgoing.topic.to_string()).or_default() += 1;
                    }
                    if args.json { json_lines(&item) } else { diff(&item) }
                }
                Planned::Failed(record, why) => {
                    failed_count += 1;
                    if args.json {
                        json!({ "from": audit::from(&record), "error": why }).to_string() + "\n"
                    } else {
                        format!(
                            "{}/{}@{} cannot be replayed: {why}\n",
                            record.topic(),
                            record.partition(),
                            record.offset()
                        )
                    }
                }
            };
            output.buffer().extend_from_slice(text.as_bytes());
            if output.flush_when_full().await? == Reader::Gone {
                break 'reading;
            }
        }
        reader.rested();
        if left == 0 {
            break;
        }
    }
    let (Reader::Listening | Reader::Gone) = output.flush().await?;
    let parts: Vec<_> =
        by_topic.iter().map(|(topic, count)| format!("{} to {topic}", Count(*count))).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    let failed =
        if failed_count == 0 { String::new() } else { format!(" {} cannot be.", letters(failed_count)) };
    tell(format_args!(
        "Nothing was written. {} would be replayed{parts}.{failed}",
        letters(count - failed_count)
    ));
    Ok(())
}

/// Where the record goes.
fn target(outgoing: &Outgoing) -> String {
    match outgoing.partition {
        Some(partition) => format!("{}/{partition}", outgoing.topic),
        None => format!("{} (the key decides the partition)", outgoing.topic),
    }
}

fn diff(item: &Item) -> String {
    let letter = &item.record;
    let place = format!("{}/{}@{}", letter.topic(), letter.partition(), letter.offset());
    if item.outgoing.is_empty() {
        return format!("{place} is dropped by --map\n");
    }
    let mut text = String::new();
    for outgoing in &item.outgoing {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "{place} -> {}", target(outgoing));
        let mut both = |name: &str, before: Option<&[u8]>, after: Option<&[u8]>| {
            let (is_same, before, after) =
                (before == after, preview(before, PREVIEW_CHARS), preview(after, PREVIEW_CHARS));
            let _ = if is_same {
                writeln!(text, "  {name:<7} {before}")
            } else {
                writeln!(text, "- {name:<7} {before}\n+ {name:<7} {after}")
            };
        };
        both("key", letter.key(), outgoing.key(letter));
        both("value", letter.value(), outgoing.value(letter));
        let view = letter.view();
        let (before, after): (Vec<_>, _) = (view.headers().collect(), outgoing.headers(letter));
        for (sign, header) in changes(&before, &after) {
            let (name, value) =
                (preview(Some(header.key), PREVIEW_CHARS), preview(header.value, PREVIEW_CHARS));
            let _ = writeln!(text, "{sign} header  {name} = {value}");
        }
    }
    text
}

/// Headers that stay, go and come.
fn changes<'h>(before: &[Header<'h>], after: &[Header<'h>]) -> Vec<(char, Header<'h>)> {
    let mut left = after.to_vec();
    let mut changes = Vec::with_capacity(before.len() + after.len());
    for header in before {
        match left.iter().position(|other| other == header) {
            Some(at) => {
                left.remove(at);
                changes.push((' ', *header));
            }
            None => changes.push(('-', *header)),
        }
    }
    changes.extend(left.into_iter().map(|header| ('+', header)));
    changes
}

fn json_lines(item: &Item) -> String {
    let letter = &item.record;
    let from = audit::from(letter);
    let text = |bytes: Option<&[u8]>| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let mut lines = String::new();
    for outgoing in &item.outgoing {
        let headers = |sign| -> Vec<Value> {
            let view = letter.view();
            let before: Vec<_> = view.headers().collect();
            let after = outgoing.headers(letter);
            let all = changes(&before, &after).into_iter().filter(|(of, _)| *of == sign);
            all.map(|(_, header)| json!({ "key": text(Some(header.key)), "value": text(header.value) }))
                .collect()
        };
        let mut line = json!({
            "from": from,
            "to": { "topic": &*outgoing.topic, "partition": outgoing.partition },
            "removed_headers": headers('-'),
            "added_headers": headers('+'),
        });
        let both =
            [("key", letter.key(), outgoing.key(letter)), ("value", letter.value(), outgoing.value(letter))];
        for (name, before, after) in both.into_iter().filter(|(_, before, after)| before != after) {
            line[name] = json!({ "before": text(before), "after": text(after) });
        }
        lines += &line.to_string();
        lines.push('\n');
    }
    if item.outgoing.is_empty() {
        lines = json!({ "from": from, "to": null }).to_string() + "\n";
    }
    lines
}
