//! Committed offsets in a file: what `groups offsets export` writes and `groups offsets reset --from-file` reads.
//!
//! A line is a JSON object, or a row as Java's kafka-consumer-groups has it. It is pure: others read and write the file.

use std::collections::BTreeMap;

use milena::CommittedOffset;
use serde::{Deserialize, Serialize};

/// The two forms, for `--help`.
pub(crate) const HELP: &str = "\
Files of offsets:
  {\"topic\":\"orders\",\"partition\":0,\"offset\":17}   JSON lines, also with leader_epoch and metadata
  orders,0,17                                    as Java's kafka-consumer-groups writes and reads it (--csv)";

/// Offsets by topic and partition.
pub(crate) type Stored = BTreeMap<(String, i32), CommittedOffset>;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader_epoch: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<String>,
}

/// The offsets as JSON lines.
pub(crate) fn json_lines(offsets: &Stored) -> Result<String, serde_json::Error> {
    let mut text = String::new();
    for ((topic, partition), at) in offsets {
        let line = Line {
            topic: topic.clone(),
            partition: *partition,
            offset: at.offset,
            leader_epoch: at.leader_epoch,
            metadata: at.metadata.clone(),
        };
        text += &serde_json::to_string(&line)?;
        text.push('\n');
    }
    Ok(text)
}

/// The offsets as Java's tool writes them. A topic's name has no character that would need quotes.
pub(crate) fn csv(offsets: &Stored) -> String {
    offsets.iter().map(|((topic, partition), at)| format!("{topic},{partition},{}\n", at.offset)).collect()
}

/// Reads a file of either form, for `group`. Java's tool writes the group first if it was asked for several groups: rows of
/// other groups are left out.
///
/// # Errors
///
/// The error names the line.
pub(crate) fn parse(text: &str, group: &str) -> Result<Stored, String> {
    let mut offsets = Stored::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let parsed = if line.starts_with('{') { json_line(line).map(Some) } else { csv_line(line, group) };
        let at = |error| format!("line {}: {error}", index + 1);
        let Some((partition, offset)) = parsed.map_err(at)? else { continue };
        if offset.offset < 0 || partition.1 < 0 {
            return Err(at("partitions and offsets are not negative".to_owned()));
        }
        if offsets.contains_key(&partition) {
            return Err(at(format!("partition {} of topic {:?} is there twice", partition.1, partition.0)));
        }
        offsets.insert(partition, offset);
    }
    Ok(offsets)
}

type Entry = ((String, i32), CommittedOffset);

fn json_line(line: &str) -> Result<Entry, String> {
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let Line { topic, partition, offset, leader_epoch, metadata } = line;
    Ok(((topic, partition), CommittedOffset { offset, leader_epoch, metadata }))
}

fn csv_line(line: &str, group: &str) -> Result<Option<Entry>, String> {
    let wrong = || format!("{line:?} is neither JSON nor TOPIC,PARTITION,OFFSET");
    let fields: Vec<_> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
    let (of, topic, partition, offset) = match fields[..] {
        [topic, partition, offset] => (group, topic, partition, offset),
        [of, topic, partition, offset] => (of, topic, partition, offset),
        _ => return Err(wrong()),
    };
    let partition = partition.parse().map_err(|_| wrong())?;
    let offset: i64 = offset.parse().map_err(|_| wrong())?;
    Ok((of == group).then(|| ((topic.to_owned(), partition), offset.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Stored {
        let with_all =
            CommittedOffset { offset: 18, leader_epoch: Some(3), metadata: Some("a \"b\"\n".into()) };
        Stored::from([(("t".into(), 0), 17.into()), (("t".into(), 1), with_all), (("u".into(), 0), 0.into())])
    }

    #[test]
    fn json_lines_read_back_and_csv_keeps_the_offsets() {
        let text = json_lines(&stored()).unwrap();
        assert_eq!(text.lines().next(), Some(r#"{"topic":"t","partition":0,"offset":17}"#));
        assert_eq!(parse(&text, "g"), Ok(stored()));
        assert_eq!(csv(&stored()), "t,0,17\nt,1,18\nu,0,0\n");
        let offsets: Vec<_> = parse(&csv(&stored()), "g").unwrap().values().map(|at| at.offset).collect();
        assert_eq!(offsets, [17, 18, 0]);
    }

    #[test]
    fn what_javas_tool_writes_is_read() {
        let text = "\"g\",\"t\",0,17\n\"h\",\"t\",0,99\n\n";
        assert_eq!(parse(text, "g"), Ok(Stored::from([(("t".into(), 0), 17.into())])));
        assert_eq!(parse("\"t\",0,17\r\n", "g"), Ok(Stored::from([(("t".into(), 0), 17.into())])));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, says) in [
            ("t,0,17\nt,0", "line 2: \"t,0\" is neither"),
            ("t,x,17", "line 1"),
            ("t,0,-1", "not negative"),
            ("t,0,1\nt,0,2", "line 2: partition 0 of topic \"t\" is there twice"),
            (r#"{"topic":"t","partition":0}"#, "missing field `offset`"),
            (r#"{"topic":"t","partition":0,"offset":1,"lag":2}"#, "unknown field `lag`"),
        ] {
            let error = parse(text, "g").unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
