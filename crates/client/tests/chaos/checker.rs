//! Compares what writers and readers were told with the logs. It knows nothing of the client.

use std::collections::BTreeMap;

use crate::log::{Content, Log};
use crate::network::lock;
use crate::plan::ProducerPlan;
use crate::reader::{Run, digest};
use crate::world::World;
use crate::writer::{Id, Ledger, Sent, Told};

/// All logs, by topic and partition.
pub(crate) type Logs = BTreeMap<(usize, i32), Log>;

/// The places of each record: the partition and offset of every copy.
type Places = BTreeMap<(usize, usize), Vec<(i32, i64)>>;

/// Checks the results that writers got. The plan of a writer's producer is at the producer's index.
pub(crate) fn check_written(world: &World, logs: &Logs, ledgers: &[Ledger], plans: &[ProducerPlan]) {
    let ledgers: Vec<Vec<Sent>> = ledgers.iter().map(|ledger| lock(ledger).clone()).collect();
    let places = find(world, logs, &ledgers);
    for (writer, ledger) in ledgers.iter().enumerate() {
        let plan = &plans[writer];
        for (sequence, sent) in ledger.iter().enumerate() {
            let id = Id { writer, sequence };
            let at = places.get(&(writer, sequence)).map_or(&[][..], Vec::as_slice);
            check_one(world, logs, plan, id, sent, at);
        }
        if plan.is_idempotent() {
            check_order(world, logs, writer);
        }
    }
}

fn check_one(world: &World, logs: &Logs, plan: &ProducerPlan, id: Id, sent: &Sent, at: &[(i32, i64)]) {
    let wrong = |why: &str| {
        let Sent { topic, told, .. } = sent;
        let idempotent = if plan.is_idempotent() { "idempotent" } else { "other" };
        world.violate(format_args!(
            "a record {why}: {id:?} for topic {topic}, told {told:?}, is at {at:?} ({idempotent})"
        ));
    };
    if plan.is_idempotent() && at.len() > 1 {
        wrong("is there more than once");
    }
    // Records of a topic that was deleted later are gone.
    let lasts = sent.incarnation == world.incarnation(sent.topic);
    match &sent.told {
        Told::NotTaken if !at.is_empty() => wrong("is there"),
        Told::Failed { maybe_written: false, .. } if !at.is_empty() => wrong("is there"),
        Told::Flushed if lasts && at.is_empty() => wrong("is not there"),
        Told::Written { partition, offset: Some(offset), timestamp_ms } if lasts => {
            match at.iter().find(|place| **place == (*partition, *offset)) {
                None => wrong("is not there"),
                Some((partition, offset)) => {
                    let content = &logs[&(sent.topic, *partition)][*offset as usize];
                    if content.timestamp_ms != *timestamp_ms {
                        wrong(&format!("has the timestamp {}", content.timestamp_ms));
                    }
                }
            }
        }
        Told::Taken if plan.patient && plan.is_idempotent() && lasts && at.is_empty() => {
            wrong("was taken and is not there");
        }
        _ => {}
    }
}

/// Finds every record, and checks that it is unchanged.
fn find(world: &World, logs: &Logs, ledgers: &[Vec<Sent>]) -> Places {
    let mut places = Places::new();
    for ((topic, partition), log) in logs {
        for (offset, content) in log.iter().enumerate() {
            let wrong = |why: &str| {
                world
                    .violate(format_args!("offset {offset} of partition {partition} of topic {topic} {why}"));
            };
            let Some((writer, sequence)) = identity(content) else {
                wrong("holds what nobody sent");
                continue;
            };
            match ledgers.get(writer).and_then(|ledger| ledger.get(sequence)) {
                Some(sent) if is_same(sent, *topic, *partition, content) => {}
                _ => wrong(&format!("differs from what writer {writer} sent as {sequence}")),
            }
            places.entry((writer, sequence)).or_default().push((*partition, offset as i64));
        }
    }
    places
}

fn is_same(sent: &Sent, topic: usize, partition: i32, content: &Content) -> bool {
    let headers = sent.headers.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone()));
    sent.topic == topic
        && sent.partition.is_none_or(|chosen| chosen == partition)
        && sent.timestamp_ms.is_none_or(|timestamp_ms| timestamp_ms == content.timestamp_ms)
        && sent.key == content.key
        && content.value.as_deref() == Some(&sent.value)
        && headers.eq(content.headers.iter().cloned())
}

/// The writer and the sequence at the beginning of a record's value.
fn identity(content: &Content) -> Option<(usize, usize)> {
    let mut words = content.value.as_deref()?.splitn(3, |byte| *byte == b':');
    let mut number = || std::str::from_utf8(words.next()?).ok()?.parse().ok();
    Some((number()?, number()?))
}

/// Checks that a writer's records of a partition are in the order of its calls.
fn check_order(world: &World, logs: &Logs, writer: usize) {
    for ((topic, partition), log) in logs {
        let own =
            log.iter().filter_map(identity).filter(|(of, _)| *of == writer).map(|(_, sequence)| sequence);
        let own: Vec<usize> = own.collect();
        if let Some(pair) = own.windows(2).find(|pair| pair[0] > pair[1]) {
            world.violate(format_args!(
                "writer {writer}'s {} is before its {} in partition {partition} of topic {topic}",
                pair[0], pair[1]
            ));
        }
    }
}

/// Checks that a reader saw the records of the log.
pub(crate) fn check_run(world: &World, logs: &Logs, run: &Run) {
    let Some(log) = logs.get(&(run.topic, run.partition)) else { return };
    for (offset, seen) in &run.seen {
        let is_there = log.get(*offset as usize).is_some_and(|content| digest(content) == *seen);
        if !is_there && !world.is_fleeting() {
            world.violate(format_args!(
                "reader {} saw something else than what is at offset {offset} of partition {} of topic {}",
                run.reader, run.partition, run.topic
            ));
            return;
        }
    }
}
