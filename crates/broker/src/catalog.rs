//! The catalogue, the text form of the cluster's state: one line for each fact, readable by people.
//!
//! ```text
//! milena-catalog 1
//! cluster-id PfGoRs6ZRz-3QXqz9rGg7Q
//! producer-ids 1000
//! brokers log.roll.ms 60000       (a config of all brokers, and one of the only broker)
//! broker log.segment.bytes 1048576
//! topic orders 7rXk0m7vQ8mF0n3Yt8Vd1w
//! config segment.bytes 1048576
//! partition 3 1 1,2,3 1,2         (leader epoch, leader or "none", replicas, in-sync replicas)
//! end
//! ```
//!
//! It must not know files; [`storage`](crate::storage) reads the file and replaces it whole.

use std::fmt::Write;
use std::sync::Arc;

use milena_wire::{Str, Uuid};

use crate::configs::{BrokerConfigs, Overrides};
use crate::partition::Placement;
use crate::topic::Topic;

const HEADER: &str = "milena-catalog 1";

/// A catalogue as it was read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Catalog {
    pub(crate) cluster_id: Str,
    pub(crate) next_producer_id: i64,
    pub(crate) all_brokers: Overrides,
    pub(crate) one_broker: Overrides,
    pub(crate) topics: Vec<StoredTopic>,
}

/// A topic as it was read. Partition `n` is element `n`.
#[derive(Debug, PartialEq)]
pub(crate) struct StoredTopic {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
    pub(crate) overrides: Overrides,
    pub(crate) placements: Vec<Placement>,
}

/// The catalogue of a cluster.
pub(crate) fn write<'a>(
    cluster_id: &str,
    next_producer_id: i64,
    configs: &BrokerConfigs,
    topics: impl Iterator<Item = &'a Arc<Topic>>,
) -> String {
    let mut text = format!("{HEADER}\ncluster-id {cluster_id}\nproducer-ids {next_producer_id}\n");
    write_configs(&mut text, "brokers", &configs.all);
    write_configs(&mut text, "broker", &configs.one);
    for topic in topics {
        let _ = writeln!(text, "topic {} {}", topic.name, topic.id);
        write_configs(&mut text, "config", &topic.overrides);
        for partition in &topic.partitions {
            write_placement(&mut text, partition.lock().placement());
        }
    }
    text.push_str("end\n");
    text
}

fn write_configs(text: &mut String, word: &str, configs: &Overrides) {
    for (name, value) in configs {
        let _ = writeln!(text, "{word} {name} {}", value.escape_default());
    }
}

fn write_placement(text: &mut String, placement: &Placement) {
    let leader = placement.leader.map_or("none".to_owned(), |leader| leader.to_string());
    let list = |nodes: &[i32]| match nodes {
        [] => "none".to_owned(),
        nodes => nodes.iter().map(i32::to_string).collect::<Vec<_>>().join(","),
    };
    let (replicas, isr) = (list(&placement.replicas), list(&placement.isr));
    let _ = writeln!(text, "partition {} {leader} {replicas} {isr}", placement.leader_epoch);
}

/// Parses a catalogue. The error is a sentence.
pub(crate) fn parse(text: &str) -> Result<Catalog, String> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(format!("does not begin with {HEADER:?}"));
    }
    let mut catalog = Catalog::default();
    for (number, line) in lines.enumerate() {
        if line == "end" {
            let is_empty = |topic: &&StoredTopic| topic.placements.is_empty();
            return match catalog.topics.iter().find(is_empty) {
                None => Ok(catalog),
                Some(topic) => Err(format!("topic {} has no partitions", topic.name)),
            };
        }
        parse_line(&mut catalog, line).ok_or_else(|| format!("line {} is not understood", number + 2))?;
    }
    Err("ends too early".to_owned())
}

fn parse_line(catalog: &mut Catalog, line: &str) -> Option<()> {
    let (word, rest) = line.split_once(' ')?;
    match word {
        "cluster-id" => catalog.cluster_id = Str::from(rest),
        "producer-ids" => catalog.next_producer_id = rest.parse().ok()?,
        "topic" => {
            let (name, id) = rest.split_once(' ')?;
            let (name, id) = (Str::from(name), id.parse().ok()?);
            let (overrides, placements) = (Overrides::new(), Vec::new());
            catalog.topics.push(StoredTopic { name, id, overrides, placements });
        }
        "config" | "brokers" | "broker" => {
            let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
            let configs = match word {
                "brokers" => &mut catalog.all_brokers,
                "broker" => &mut catalog.one_broker,
                _ => &mut catalog.topics.last_mut()?.overrides,
            };
            configs.insert(name.to_owned(), unescape(value)?);
        }
        "partition" => catalog.topics.last_mut()?.placements.push(parse_placement(rest)?),
        _ => return None,
    }
    Some(())
}

fn parse_placement(text: &str) -> Option<Placement> {
    let words: Vec<&str> = text.split(' ').collect();
    let &[epoch, leader, replicas, isr] = words.as_slice() else { return None };
    let list = |text: &str| match text {
        "none" => Some(Vec::new()),
        text => text.split(',').map(|node| node.parse().ok()).collect::<Option<Vec<i32>>>(),
    };
    Some(Placement {
        leader: if leader == "none" { None } else { Some(leader.parse().ok()?) },
        leader_epoch: epoch.parse().ok()?,
        replicas: list(replicas)?,
        isr: list(isr)?,
    })
}

/// Undoes `str::escape_default`.
fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character != '\\' {
            plain.push(character);
            continue;
        }
        plain.push(match rest.next()? {
            't' => '\t',
            'r' => '\r',
            'n' => '\n',
            quoted @ ('\'' | '"' | '\\') => quoted,
            'u' => {
                let (code, after) = rest.as_str().strip_prefix('{')?.split_once('}')?;
                rest = after.chars();
                char::from_u32(u32::from_str_radix(code, 16).ok()?)?
            }
            _ => return None,
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configs::TopicRules;
    use crate::partition::Partition;

    #[test]
    fn what_is_written_is_read_and_anything_less_is_refused() {
        let placement = |leader, isr: &[i32]| Placement {
            leader,
            leader_epoch: 7,
            replicas: vec![1, 2],
            isr: isr.to_vec(),
        };
        let placements = vec![placement(Some(2), &[2, 1]), placement(None, &[])];
        let overrides: Overrides =
            [("leader.replication.throttled.replicas", " a\n\"ü\\ "), ("retention.ms", "")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let id = Uuid::from_bytes([9; 16]);
        let partitions = (0..)
            .zip(&placements)
            .map(|(index, placement)| Arc::new(Partition::in_memory(index, placement.clone())));
        let topic = Arc::new(Topic {
            name: Str::from("a.b-c"),
            id,
            overrides: overrides.clone(),
            rules: TopicRules::new(&overrides, &Overrides::new()),
            partitions: partitions.collect(),
        });
        let mut configs = BrokerConfigs::new(crate::Broker::builder().settings().clone());
        configs.all.insert("log.roll.ms".to_owned(), "5".to_owned());
        configs.one.insert("log.cleanup.policy".to_owned(), String::new());
        let text = write("cluster", 3000, &configs, [topic].iter());
        let expected = Catalog {
            cluster_id: Str::from("cluster"),
            next_producer_id: 3000,
            all_brokers: configs.all,
            one_broker: configs.one,
            topics: vec![StoredTopic { name: Str::from("a.b-c"), id, overrides, placements }],
        };
        assert_eq!(parse(&text), Ok(expected));
        for end in 0..text.len() - "end\n".len() {
            if text.is_char_boundary(end) {
                assert!(parse(&text[..end]).is_err(), "cut at {end}");
            }
        }
    }
}
