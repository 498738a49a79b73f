//! Looks at a group several times. It asks only, and changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use milena::{
    Admin, Client, CommittedOffset, ConfigResource, Error, ErrorCode, GroupState, Isolation,
    MemberDescription, OffsetAt, Position, QuotaFilter, Reset, TransactionFilter,
};

use super::observation::{
    Denied, KeyCount, Keys, MemberSeen, Observation, OpenAt, Partition, Quota, Reader, RecordSeen, Sample,
    TopicSeen,
};
use crate::lag::Look;

/// How a group is looked at.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How often. Default 6.
    pub samples: usize,
    /// The time between two looks, which should be longer than that between two commits. Default 2 s.
    pub interval: Duration,
    /// Topics that the group should read, beside those of which it has committed offsets or members that subscribe. Default: none.
    pub topics: Vec<String>,
    /// Of how many of the last records of a topic the keys are counted. 0 reads no records at all. Default 1 000.
    pub records: usize,
    /// The settings of the group's consumers, if they are known.
    pub reader: Option<Reader>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { samples: 6, interval: Duration::from_secs(2), topics: Vec::new(), records: 1000, reader: None }
    }
}

/// Reading the records of a topic takes no longer.
const READ_MAX: Duration = Duration::from_secs(5);
/// The most frequent keys that are kept.
const KEYS_TOP: usize = 5;
/// Longer keys are cut.
const KEY_CHARS: usize = 100;
/// The records at which partitions stay are read for this many partitions.
const STUCK_MAX: usize = 3;

/// Looks at a group. It takes about `plan.samples * plan.interval`.
///
/// What this client may not see is left out, and the rights that the group's members need are checked for its principal.
///
/// # Errors
/// When the group does not exist, or its coordinator or the leaders of its partitions do not answer.
///
/// # Cancel safety
/// Nothing is changed, so that it may be dropped at any time.
pub async fn examine(client: &Client, group: &str, plan: &Plan) -> Result<Observation, Error> {
    let admin = client.admin();
    let mut seen = Observation { group: group.to_owned(), reader: plan.reader, ..Observation::default() };
    let mut subscribed: BTreeSet<String> = plan.topics.iter().cloned().collect();
    if let Err(error) = admin.check_group(group).await {
        if !is_denied(&error) {
            return Err(error);
        }
        seen.denied.push(Denied::Group);
    }
    for turn in 0..plan.samples.max(1) {
        if turn > 0 {
            tokio::time::sleep(plan.interval).await;
        }
        match sample(&admin, group, &mut subscribed).await {
            Ok(sample) => seen.samples.push(sample),
            // The group cannot be described without the right to.
            Err(error) if is_denied(&error) => break,
            Err(error) => return Err(error),
        }
        answers(&admin, &mut seen.answers).await;
    }
    if let Some(last) = seen.samples.last() {
        subscribed.extend(last.looks.keys().map(|(topic, _)| topic.clone()));
    }
    for topic in &subscribed {
        let (denied, found) = of_topic(client, &admin, topic, &seen, plan).await?;
        seen.denied.extend(denied);
        seen.topics.insert(topic.clone(), found);
    }
    let retention: BTreeMap<_, _> =
        seen.topics.iter().map(|(topic, found)| (topic.clone(), found.retention_ms)).collect();
    for sample in &mut seen.samples {
        for ((topic, _), look) in &mut sample.looks {
            look.retention_ms = retention.get(topic).copied().flatten();
        }
    }
    seen.open = open(&admin, &seen).await;
    seen.quotas = quotas(&admin).await;
    if plan.records > 0 {
        seen.records = records(client, &seen).await;
    }
    Ok(seen)
}

fn is_denied(error: &Error) -> bool {
    error.code().is_some_and(ErrorCode::is_authorization)
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

async fn sample(admin: &Admin, group: &str, subscribed: &mut BTreeSet<String>) -> Result<Sample, Error> {
    let described = admin.describe_groups([group]).await.into_iter().next();
    let mut committed: BTreeMap<Partition, CommittedOffset> = BTreeMap::new();
    for (_, offsets) in admin.list_group_offsets([group]).await {
        committed.extend(offsets?);
    }
    let described = match described {
        Some((_, Ok(described))) => Some(described),
        // Offsets that were committed without members are no group to every broker.
        Some((_, Err(error))) if error.code_name() != Some("GROUP_ID_NOT_FOUND") || committed.is_empty() => {
            return Err(error);
        }
        _ => None,
    };
    let members: Vec<_> =
        described.iter().flat_map(|described| &described.members).map(MemberSeen::from).collect();
    for member in described.iter().flat_map(|described| &described.members) {
        subscribed.extend(member.topics.iter().cloned());
    }
    let assigned = members.iter().flat_map(|member| member.partitions.iter().cloned());
    let partitions: BTreeSet<Partition> = committed.keys().cloned().chain(assigned).collect();
    let named = || partitions.iter().map(|(topic, partition)| (topic, *partition));
    let starts = known(admin.list_offsets(named(), OffsetAt::Earliest).await?)?;
    let read = admin.clone().isolation(Isolation::ReadCommitted);
    let stable = known(read.list_offsets(named(), OffsetAt::Latest).await?)?;
    let ends = known(admin.list_offsets(named(), OffsetAt::Latest).await?)?;
    let at_ms = now_ms();
    let look = |partition: &Partition| {
        let look = Look {
            start: starts.get(partition).copied().unwrap_or(0),
            ..Look::at(at_ms, *ends.get(partition)?)
        };
        Some(match committed.get(partition) {
            Some(committed) => look.committed(committed),
            None => look,
        })
    };
    Ok(Sample {
        at_ms,
        state: described.as_ref().map_or(GroupState::Empty, |described| described.state),
        epoch: described.as_ref().and_then(|described| described.epoch),
        members,
        looks: partitions
            .iter()
            .filter_map(|partition| Some((partition.clone(), look(partition)?)))
            .collect(),
        stable,
    })
}

/// Offsets of partitions that exist and have leaders. What the principal may not see is left out.
fn known(found: Vec<(Partition, Result<Option<i64>, Error>)>) -> Result<BTreeMap<Partition, i64>, Error> {
    let mut known = BTreeMap::new();
    for (partition, offset) in found {
        if let Ok(Some(offset)) = offset {
            known.insert(partition, offset);
        }
    }
    Ok(known)
}

impl From<&MemberDescription> for MemberSeen {
    fn from(member: &MemberDescription) -> Self {
        let by_topic = member.assignment.iter().flatten();
        let partitions =
            by_topic.flat_map(|(topic, partitions)| partitions.iter().map(|at| (topic.clone(), *at)));
        Self {
            id: member.member_id.clone(),
            instance: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            host: member.host.clone(),
            epoch: member.epoch,
            partitions: partitions.collect(),
        }
    }
}

/// Asks each broker for its versions, which is as small as requests are.
async fn answers(admin: &Admin, answers: &mut BTreeMap<i32, Vec<Duration>>) {
    let Ok(cluster) = admin.describe_cluster().await else { return };
    for broker in cluster.brokers {
        let began = Instant::now();
        if admin.api_versions(broker.id).await.is_ok() {
            answers.entry(broker.id).or_default().push(began.elapsed());
        }
    }
}

async fn of_topic(
    client: &Client,
    admin: &Admin,
    topic: &str,
    seen: &Observation,
    plan: &Plan,
) -> Result<(Option<Denied>, TopicSeen), Error> {
    let denied = || Some(Denied::Topic(topic.to_owned()));
    match admin.topic_rights(topic).await {
        Ok(Some(rights)) if !rights.read => return Ok((denied(), TopicSeen::default())),
        Err(error) if is_denied(&error) => return Ok((denied(), TopicSeen::default())),
        // A topic that was deleted is no concern of the group any more.
        Err(_) => return Ok((None, TopicSeen::default())),
        Ok(_) => {}
    }
    let configs = admin.describe_configs(&ConfigResource::Topic(topic.to_owned())).await.unwrap_or_default();
    let value =
        |name: &str| configs.iter().find(|entry| entry.name == name).and_then(|entry| entry.value.clone());
    let is_deleted = value("cleanup.policy").is_none_or(|policy| policy.contains("delete"));
    let retention_ms = value("retention.ms").and_then(|text| text.parse().ok()).filter(|_| is_deleted);
    let keys = match plan.records {
        0 => Keys::default(),
        count => keys(client, topic, seen, count).await.unwrap_or_default(),
    };
    Ok((None, TopicSeen { retention_ms, keys }))
}

/// Counts the keys of the last records of a topic.
async fn keys(client: &Client, topic: &str, seen: &Observation, count: usize) -> Result<Keys, Error> {
    let looks = seen.samples.last().into_iter().flat_map(|last| &last.looks);
    let looks: Vec<_> = looks.filter(|((of, _), look)| of == topic && look.end > look.start).collect();
    let mut found = Keys::default();
    if looks.is_empty() {
        return Ok(found);
    }
    // As many of each partition as it has of the topic's offsets, so that a key does not seem rare because its partition is large.
    let all: i64 = looks.iter().map(|(_, look)| look.end - look.start).sum();
    let mut builder = client.consumer_direct().reset(Reset::Earliest).until_end();
    for ((_, partition), look) in looks {
        let part = (count as f64 * (look.end - look.start) as f64 / all as f64).ceil() as i64;
        builder = builder.assign([(topic, *partition)], Position::Offset((look.end - part).max(look.start)));
    }
    let mut consumer = builder.build().await?;
    let mut counts: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    let reading = async {
        while found.records < count * 2 {
            let Some(batch) = consumer.next().await? else { break };
            for record in &batch {
                found.records += 1;
                found.bytes += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len);
                if let Some(key) = record.key() {
                    *counts.entry(key[..key.len().min(KEY_CHARS * 4)].to_vec()).or_default() += 1;
                }
            }
        }
        Ok::<_, Error>(())
    };
    // What was read by then is enough.
    let _ = tokio::time::timeout(READ_MAX, reading).await;
    let mut top: Vec<_> = counts.into_iter().collect();
    top.sort_by_key(|(_, records)| std::cmp::Reverse(*records));
    top.truncate(KEYS_TOP);
    found.top = top.into_iter().map(|(key, records)| KeyCount { key: text(&key), records }).collect();
    Ok(found)
}

fn text(key: &[u8]) -> String {
    let text = match std::str::from_utf8(key) {
        Ok(text) => text.to_owned(),
        Err(_) => key.escape_ascii().to_string(),
    };
    text.chars().take(KEY_CHARS).collect()
}

/// The transactions that are open at the partitions whose last stable offset is below their end.
async fn open(admin: &Admin, seen: &Observation) -> Vec<OpenAt> {
    let Some(last) = seen.samples.last() else { return Vec::new() };
    let is_open = |partition: &Partition| {
        let stable = last.stable.get(partition)?;
        (*stable < last.looks.get(partition)?.end).then(|| partition.clone())
    };
    let partitions: Vec<_> = last.looks.keys().filter_map(is_open).collect();
    if partitions.is_empty() {
        return Vec::new();
    }
    let named = partitions.iter().map(|(topic, partition)| (topic, *partition));
    let mut open = Vec::new();
    for (partition, producers) in admin.describe_producers(named).await {
        for producer in producers.unwrap_or_default() {
            if let Some(start) = producer.transaction_start {
                let (partition, producer_id) = (partition.clone(), producer.producer_id);
                open.push(OpenAt { partition, start, producer_id, transactional_id: None });
            }
        }
    }
    let ids = open.iter().map(|open| open.producer_id);
    if let Ok(listing) = admin.list_transactions(&TransactionFilter::all().producer_ids(ids)).await {
        for open in &mut open {
            let known = listing.transactions.iter().find(|known| known.producer_id == open.producer_id);
            open.transactional_id =
                known.filter(|known| known.state.is_open()).map(|known| known.transactional_id.clone());
        }
    }
    open
}

async fn quotas(admin: &Admin) -> Vec<Quota> {
    let described = admin.describe_quotas(&QuotaFilter::all()).await.unwrap_or_default();
    let quota = |described: milena::QuotaDescription| {
        let bytes_per_second = *described.quotas.get("consumer_byte_rate")?;
        let part = |kind: &str| {
            let mut parts = described.entity.parts();
            parts.find(|(of, _)| *of == kind).and_then(|(_, name)| name.map(str::to_owned))
        };
        Some(Quota { client_id: part("client-id"), user: part("user"), bytes_per_second })
    };
    described.into_iter().filter_map(quota).collect()
}

/// The records at which partitions did not move.
async fn records(client: &Client, seen: &Observation) -> BTreeMap<Partition, RecordSeen> {
    let mut records = BTreeMap::new();
    let (Some(first), Some(last)) = (seen.samples.first(), seen.samples.last()) else { return records };
    let stays = |(partition, look): &(&Partition, &Look)| {
        let before = first.looks.get(*partition);
        look.committed.is_some()
            && look.end > look.committed.unwrap_or(0)
            && before.map(|look| look.committed) == Some(look.committed)
    };
    for (partition, look) in last.looks.iter().filter(stays).take(STUCK_MAX) {
        let offset = look.unfinished.or(look.committed).unwrap_or(look.start).max(look.start);
        if let Some(record) = record(client, partition, offset).await {
            records.insert(partition.clone(), record);
        }
    }
    records
}

async fn record(client: &Client, (topic, partition): &Partition, offset: i64) -> Option<RecordSeen> {
    let builder =
        client.consumer_direct().assign([(topic, *partition)], Position::Offset(offset)).until_end();
    let mut consumer = builder.build().await.ok()?;
    let batch = match tokio::time::timeout(READ_MAX, consumer.next()).await.ok()? {
        Ok(batch) => batch?,
        Err(error) => {
            return Some(RecordSeen { offset, error: Some(error.to_string()), ..RecordSeen::default() });
        }
    };
    let record = batch.iter().next()?;
    Some(RecordSeen {
        offset: record.offset(),
        key: record.key().map(text),
        bytes: record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len),
        error: None,
    })
}
