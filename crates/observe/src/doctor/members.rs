//! Faults of members: they come and go, wait for each other, or finish nothing.

use std::collections::{BTreeMap, BTreeSet};

use milena::GroupState;

use super::diagnose::{Fault, Finding};
use super::observation::{MemberSeen, Observation, Partition, Sample};
use super::partitions::{self, name};

/// A process, as far as it can be told from outside: its `client.id` and its host.
type Process = (String, String);

pub(super) fn findings(seen: &Observation) -> Vec<Finding> {
    // With two samples chance could be taken for a rule.
    if seen.samples.len() < SAMPLES_MIN {
        return Vec::new();
    }
    if let Some(zombie) = zombie(seen) {
        return vec![zombie];
    }
    let still = Still::of(seen);
    let coming_and_going = Churn::of(seen);
    let mut findings = Vec::new();
    if let Some(finding) = max_poll(seen, &still, &coming_and_going) {
        findings.push(finding);
    } else if let Some(finding) = still.poison(seen, &coming_and_going) {
        findings.push(finding);
    } else if let Some(finding) = rebalance_loop(seen, &coming_and_going) {
        findings.push(finding);
    } else {
        findings.extend(still.stuck(seen));
    }
    findings
}

const SAMPLES_MIN: usize = 3;

fn is_unsettled(sample: &Sample) -> bool {
    use GroupState::{Assigning, CompletingRebalance, PreparingRebalance, Reconciling};
    matches!(sample.state, Assigning | CompletingRebalance | PreparingRebalance | Reconciling)
}

fn ids(sample: &Sample) -> BTreeSet<&str> {
    sample.members.iter().map(|member| member.id.as_str()).collect()
}

/// A member that the others wait for: it does not take over its new assignment, or does not join again.
fn zombie(seen: &Observation) -> Option<Finding> {
    let last = seen.last()?;
    let is_behind = |sample: &Sample, id: &str| {
        let member = sample.members.iter().find(|member| member.id == id)?;
        Some(member.epoch? < sample.epoch?)
    };
    // In most samples, because the first may be of before the newest assignment.
    let never_follows = |member: &&MemberSeen| {
        let behind = seen.samples.iter().filter(|sample| is_behind(sample, &member.id) == Some(true)).count();
        behind >= SAMPLES_MIN && behind + 1 >= seen.samples.len()
    };
    let unlike = |zombie: &MemberSeen| last.members.iter().any(|member| member.id != zombie.id);
    if let Some(member) = last.members.iter().find(never_follows).filter(|member| unlike(member)) {
        let (epoch, of_group) = (member.epoch.unwrap_or(-1), last.epoch.unwrap_or(-1));
        let detail = format!(
            "member {} of client {:?} at {} does not take part any more, and holds {}",
            member.id,
            member.client_id,
            member.host,
            partitions::list(member.partitions.iter()),
        );
        let evidence = vec![format!(
            "it stays at epoch {epoch}, and the group is at {of_group}: it does not give its partitions up"
        )];
        return Some(gone(seen, member, detail, evidence));
    }
    let waits = seen
        .samples
        .iter()
        .all(|sample| sample.state == GroupState::PreparingRebalance && !sample.members.is_empty());
    let same = seen.samples.windows(2).all(|pair| ids(&pair[0]) == ids(&pair[1]));
    if !(waits && same) {
        return None;
    }
    let member = last.members.first()?;
    let all = last
        .members
        .iter()
        .map(|member| format!("{} ({:?} at {})", member.id, member.client_id, member.host));
    let detail = "the group waits for a member that does not join again".to_owned();
    let evidence = vec![
        "it prepared a rebalance in every sample, with the same members".to_owned(),
        format!("the members are {}", all.collect::<Vec<_>>().join(", ")),
    ];
    Some(gone(seen, member, detail, evidence))
}

fn gone(seen: &Observation, member: &MemberSeen, detail: String, evidence: Vec<String>) -> Finding {
    let group = word(&seen.group);
    let command = match &member.instance {
        Some(instance) => format!("milena groups remove-members {group} --instance {}", word(instance)),
        None => format!("milena groups remove-members {group} --all"),
    };
    Finding {
        fault: Fault::ZombieMember,
        detail,
        evidence,
        fix: format!(
            "end the old process at {}; the members that live join again at once when all are removed, and without that the \
             coordinator waits for the session timeout",
            member.host
        ),
        command,
    }
}

/// How members came and went.
struct Churn {
    /// How often members of a process were replaced by others with new ids.
    replaced: usize,
    /// How often a process was away and came back or left.
    changes: usize,
    /// Samples in which no member was there, of a group that has members at times.
    absent: usize,
    /// New assignments.
    epochs: usize,
    unsettled: usize,
    processes: Vec<Process>,
}

impl Churn {
    fn of(seen: &Observation) -> Self {
        let mut by_process: BTreeMap<Process, Vec<BTreeSet<&str>>> = BTreeMap::new();
        for (index, sample) in seen.samples.iter().enumerate() {
            for member in &sample.members {
                let process = (member.client_id.clone(), member.host.clone());
                let of_process =
                    by_process.entry(process).or_insert_with(|| vec![BTreeSet::new(); seen.samples.len()]);
                of_process[index].insert(&member.id);
            }
        }
        let mut churn =
            Self { replaced: 0, changes: 0, absent: 0, epochs: 0, unsettled: 0, processes: Vec::new() };
        for (process, samples) in by_process {
            let most = samples.iter().map(BTreeSet::len).max().unwrap_or(0);
            let all: BTreeSet<_> = samples.iter().flatten().collect();
            let replaced = all.len().saturating_sub(most);
            let changes = samples.windows(2).filter(|pair| pair[0].len() != pair[1].len()).count();
            churn.replaced += replaced;
            churn.changes += changes;
            if replaced + changes > 0 {
                churn.processes.push(process);
            }
        }
        let had_members = seen.samples.iter().any(|sample| !sample.members.is_empty());
        let absent = seen.samples.iter().filter(|sample| sample.members.is_empty()).count();
        churn.absent = if had_members { absent } else { 0 };
        churn.epochs = seen.samples.windows(2).filter(|pair| pair[0].epoch != pair[1].epoch).count();
        churn.unsettled = seen.samples.iter().filter(|sample| is_unsettled(sample)).count();
        churn
    }

    /// Once is an ordinary rebalance.
    fn is_loop(&self, samples: usize) -> bool {
        self.replaced + self.changes >= 3 || self.epochs >= 3 || self.unsettled * 2 > samples
    }

    fn evidence(&self, samples: usize) -> Vec<String> {
        let mut evidence = vec![format!(
            "in {samples} samples members left or came {} times, and {} came back with new ids",
            self.changes, self.replaced
        )];
        if self.unsettled > 0 {
            evidence
                .push(format!("the group was within a rebalance in {} of {samples} samples", self.unsettled));
        }
        if self.epochs > 0 {
            evidence.push(format!("it had {} new assignments", self.epochs));
        }
        let named = self.processes.iter().map(|(client, host)| format!("{client:?} at {host}"));
        if !self.processes.is_empty() {
            evidence.push(format!("these are members of {}", named.collect::<Vec<_>>().join(", ")));
        }
        evidence
    }
}

fn rebalance_loop(seen: &Observation, churn: &Churn) -> Option<Finding> {
    let samples = seen.samples.len();
    churn.is_loop(samples).then(|| Finding {
        fault: Fault::RebalanceLoop,
        detail: "the group rebalances again and again".into(),
        evidence: churn.evidence(samples),
        fix: "keep the members that come and go alive: look into their logs for restarts, crashes and session timeouts; static \
              membership (group.instance.id) spares rebalances when they restart"
            .into(),
        command: format!("milena groups describe {} --watch", word(&seen.group)),
    })
}

/// Partitions with records to read whose committed offsets do not move.
struct Still {
    partitions: Vec<Partition>,
    /// Those where records above the committed offset are finished meanwhile.
    held: Vec<Partition>,
    /// Partitions that do move.
    moving: BTreeSet<Partition>,
}

impl Still {
    fn of(seen: &Observation) -> Self {
        let mut still = Self { partitions: Vec::new(), held: Vec::new(), moving: BTreeSet::new() };
        let Some(last) = seen.last() else { return still };
        for partition in last.looks.keys() {
            let looks: Vec<_> = seen.looks(partition).collect();
            let Some(first) = looks.first() else { continue };
            if looks.iter().any(|look| look.committed != first.committed) {
                still.moving.insert(partition.clone());
                continue;
            }
            let has_records =
                looks.iter().all(|look| look.end > look.committed.unwrap_or(look.start).max(look.start));
            if looks.len() < SAMPLES_MIN || !has_records || partitions::is_explained(seen, partition) {
                continue;
            }
            if looks.iter().any(|look| look.finished != first.finished) || first.finished > 0 {
                still.held.push(partition.clone());
            }
            still.partitions.push(partition.clone());
        }
        still
    }

    fn poison(&self, seen: &Observation, churn: &Churn) -> Option<Finding> {
        let is_poison = |partition: &&Partition| {
            let unreadable = seen.records.get(*partition).is_some_and(|record| record.error.is_some());
            let owner = seen.owner(partition);
            let process = |member: &MemberSeen| (member.client_id.clone(), member.host.clone());
            let restarts =
                owner.is_some_and(|owner| churn.processes.contains(&process(owner))) && churn.replaced > 0;
            let goes_on =
                owner.is_some_and(|owner| owner.partitions.iter().any(|other| self.moving.contains(other)));
            unreadable || self.held.contains(partition) || restarts || goes_on
        };
        let partition = self.partitions.iter().find(is_poison)?;
        let look = *seen.last()?.looks.get(partition)?;
        let offset = look.unfinished.or(look.committed).unwrap_or(look.start);
        let mut evidence = vec![format!(
            "{} stays at offset {offset} with {} records to read",
            name(partition),
            look.end - offset
        )];
        if self.held.contains(partition) {
            evidence.push(format!("{} records above it are finished", look.finished));
        }
        if churn.replaced > 0 {
            evidence.extend(churn.evidence(seen.samples.len()));
        } else if let Some(owner) = seen.owner(partition) {
            let moving = owner.partitions.iter().filter(|other| self.moving.contains(*other));
            let moving: Vec<_> = moving.collect();
            if !moving.is_empty() {
                evidence.push(format!(
                    "its member {} goes on with {}",
                    owner.id,
                    partitions::list(moving.into_iter())
                ));
            }
        }
        evidence.extend(record(seen, partition));
        Some(Finding {
            fault: Fault::PoisonRecord,
            detail: format!("the record at offset {offset} of {} cannot be processed", name(partition)),
            evidence,
            fix: "look at the record and the member's log; put it aside (dead letters), or pass it while no member runs".into(),
            command: pass(seen, partition, offset),
        })
    }

    /// A finding for each member none of whose partitions moves.
    fn stuck(&self, seen: &Observation) -> Vec<Finding> {
        let mut by_member: BTreeMap<&str, (&MemberSeen, Vec<&Partition>)> = BTreeMap::new();
        for partition in &self.partitions {
            let mut owners = seen.samples.iter().map(|sample| sample.owner(partition));
            let Some(Some(owner)) = owners.next() else { continue };
            if owners.all(|other| other.is_some_and(|other| other.id == owner.id)) {
                by_member.entry(&owner.id).or_insert_with(|| (owner, Vec::new())).1.push(partition);
            }
        }
        let finding = |(owner, partitions): (&MemberSeen, Vec<&Partition>)| {
            let first = partitions.first()?;
            let look = seen.last()?.looks.get(*first)?;
            let offset = look.committed.unwrap_or(look.start);
            let mut evidence = vec![
                format!("it was a member in all {} samples, and committed nothing", seen.samples.len()),
                format!("{} has {} records to read from offset {offset}", name(first), look.end - offset),
            ];
            evidence.extend(record(seen, first));
            Some(Finding {
                fault: Fault::StuckHandler,
                detail: format!(
                    "member {} of client {:?} at {} finishes nothing of {}",
                    owner.id,
                    owner.client_id,
                    owner.host,
                    partitions::list(partitions.iter().copied()),
                ),
                evidence,
                fix: format!(
                    "take a stack or task dump of the process at {} and restart it; its partitions go to other members when it is \
                     removed",
                    owner.host
                ),
                command: match &owner.instance {
                    Some(instance) => {
                        format!(
                            "milena groups remove-members {} --instance {}",
                            word(&seen.group),
                            word(instance)
                        )
                    }
                    None => format!("milena groups remove-members {} --all", word(&seen.group)),
                },
            })
        };
        by_member.into_values().filter_map(finding).collect()
    }
}

/// What is known of the record at which a partition stays.
fn record(seen: &Observation, partition: &Partition) -> Option<String> {
    let record = seen.records.get(partition)?;
    Some(match (&record.error, &record.key) {
        (Some(error), _) => format!("the record at offset {} cannot be read: {error}", record.offset),
        (None, Some(key)) => {
            format!("the record at offset {} has the key {key:?} and {} bytes", record.offset, record.bytes)
        }
        (None, None) => {
            format!("the record at offset {} has no key and {} bytes", record.offset, record.bytes)
        }
    })
}

fn pass(seen: &Observation, (topic, index): &Partition, offset: i64) -> String {
    format!(
        "milena groups offsets reset {} --topic {}:{index} --to-offset {}",
        word(&seen.group),
        word(topic),
        offset + 1
    )
}

fn max_poll(seen: &Observation, still: &Still, churn: &Churn) -> Option<Finding> {
    let samples = seen.samples.len();
    let finding = |evidence, fix: String| {
        Some(Finding {
            fault: Fault::MaxPollInterval,
            detail: "members leave the group while they process what they have polled".into(),
            evidence,
            fix,
            command: format!("milena groups describe {} --watch", word(&seen.group)),
        })
    };
    let fix = "set max.poll.interval.ms above the time that the records of one poll take, or max.poll.records lower";
    if let Some(reader) = seen.reader {
        let pace = partitions::paces(seen);
        let per_member = pace.consumed / seen.last()?.members.len().max(1) as f64;
        let poll = f64::from(reader.max_poll_records) / per_member;
        if per_member > 0.0 && poll > reader.max_poll_interval.as_secs_f64() && pace.lag > 0 {
            let evidence = vec![format!(
                "a member processes {per_member:.1} records a second, so that a poll of {} takes {poll:.0} s, and \
                 max.poll.interval.ms is {} s",
                reader.max_poll_records,
                reader.max_poll_interval.as_secs_f64(),
            )];
            return finding(evidence, format!("{fix}: {:.0} ms at least", poll * 1500.0));
        }
    }
    // Members that are thrown out go on processing, are away meanwhile, and cannot commit when they are done.
    let is_away = churn.absent * 3 >= samples && churn.changes >= 2;
    let nothing_moves = !still.partitions.is_empty() && still.moving.is_empty();
    if !(is_away && nothing_moves) {
        return None;
    }
    let mut evidence = churn.evidence(samples);
    evidence.push(format!("no member was there in {} of {samples} samples", churn.absent));
    evidence.push(format!("nothing of {} is committed meanwhile", partitions::list(still.partitions.iter())));
    finding(evidence, fix.to_owned())
}

/// A word of a command, quoted if a shell would read more into it.
pub(super) fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
