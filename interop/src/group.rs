//! A group whose members are processes of any client, with the topic that they read and the records that are produced to it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;

use crate::checker::{self, Findings};
use crate::journal::{Event, Journal, Saw, now};
use crate::member::{Client, Joining, Member};
use crate::raw::{self, Raw};
use crate::stream::Stream;

/// How a group is.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The topic's partitions. Default 6.
    pub partitions: i32,
    /// Assignors, separated by commas, or `consumer`.
    pub protocol: String,
    /// Records per second. Default 600.
    pub rate: u64,
    /// How long the group waits for a member that does not speak; with KIP-848 the broker knows. Default 6 s.
    pub session: Duration,
    /// How often a member speaks; with KIP-848 the broker knows. Default 1 s.
    pub heartbeat: Duration,
    /// Milena's members finish records in random order. Default no.
    pub by_done: bool,
    /// All that the members saw is written to this file, at the end. Default none.
    pub journal: Option<PathBuf>,
}

impl Setup {
    /// The defaults.
    #[must_use]
    pub fn new(protocol: &str) -> Self {
        let (session, heartbeat) = (Duration::from_secs(6), Duration::from_secs(1));
        let protocol = protocol.into();
        Self { partitions: 6, protocol, rate: 600, session, heartbeat, by_done: false, journal: None }
    }
}

/// A group and its topic.
#[derive(Debug)]
pub struct Group {
    /// What its members see.
    pub journal: Arc<Journal>,
    joining: Joining,
    partitions: i32,
    members: usize,
    stream: Stream,
    control: Option<Control>,
    written_to: Option<PathBuf>,
}

/// A reader by position of the group's topic, in a process like a member's, so that what the machine or the broker delays is
/// told apart from what the group delays.
#[derive(Debug)]
struct Control {
    member: Member,
    journal: Arc<Journal>,
}

/// Each wait ends long before, unless something hangs: a very busy machine takes 80 s to start a Java program.
const PATIENCE: Duration = Duration::from_secs(180);

impl Group {
    /// Creates the topic `name`, and begins to produce to it. The group has the topic's name.
    ///
    /// # Errors
    /// The topic cannot be created.
    pub fn start(bootstrap: &str, name: &str, setup: &Setup) -> anyhow::Result<Self> {
        Raw::connect(bootstrap)?.create_topic(name, setup.partitions)?;
        let joining = Joining {
            bootstrap: bootstrap.into(),
            group: name.into(),
            topic: name.into(),
            protocol: setup.protocol.clone(),
            session: setup.session,
            heartbeat: setup.heartbeat,
            by_done: setup.by_done,
        };
        // Real Kafka makes its coordinators when a group first asks for one, which is no wait of the group's own.
        raw::committed(bootstrap, name, name, setup.partitions)?;
        let stream = Stream::start(bootstrap, name, setup.partitions, setup.rate);
        Ok(Self {
            journal: Arc::default(),
            joining,
            partitions: setup.partitions,
            members: 0,
            stream,
            control: None,
            written_to: setup.journal.clone(),
        })
    }

    /// Starts the control: what it sees is in the findings.
    ///
    /// # Errors
    /// Its program does not start.
    pub fn watch(&mut self) -> anyhow::Result<()> {
        let (joining, journal) = (Joining { group: "-".into(), ..self.joining.clone() }, Arc::default());
        let member = Member::start(Client::Milena, 0, &joining, None, &journal)?;
        self.control = Some(Control { member, journal });
        Ok(())
    }

    /// A new member, which joins; `instance` makes it a static one.
    ///
    /// # Errors
    /// Its program does not start.
    pub fn join(&mut self, client: Client, instance: Option<&str>) -> anyhow::Result<Member> {
        self.members += 1;
        Member::start(client, self.members, &self.joining, instance, &self.journal)
    }

    /// A new member that joins by another protocol than the group began with.
    ///
    /// # Errors
    /// Its program does not start.
    pub fn join_by(&mut self, protocol: &str, client: Client) -> anyhow::Result<Member> {
        self.members += 1;
        let joining = Joining { protocol: protocol.into(), ..self.joining.clone() };
        Member::start(client, self.members, &joining, None, &self.journal)
    }

    /// Waits until `members` members own something, and each partition is owned once.
    ///
    /// # Errors
    /// Not by the deadline.
    pub fn settle(&self, members: usize) -> anyhow::Result<()> {
        let what = format!("{members} members share {} partitions", self.partitions);
        let shared =
            |state: &crate::journal::State| state.is_shared(self.partitions, members, 1).then_some(());
        self.journal.wait(&what, PATIENCE, shared)
    }

    /// Waits until `count` more records of each partition are read than now.
    ///
    /// # Errors
    /// Not by the deadline.
    pub fn flow(&self, count: i64) -> anyhow::Result<()> {
        let mut wanted: Option<BTreeMap<i32, i64>> = None;
        self.journal.wait(&format!("{count} more records in each partition"), PATIENCE, |state| {
            let seen = |partition: i32| state.seen.get(&partition).copied().unwrap_or_default();
            let wanted = wanted.get_or_insert_with(|| {
                (0..self.partitions).map(|partition| (partition, seen(partition) + count)).collect()
            });
            wanted.iter().all(|(partition, wanted)| seen(*partition) >= *wanted).then_some(())
        })
    }

    /// Kills a member, and notes which offsets the broker has.
    ///
    /// # Errors
    /// The member had ended before, or the broker does not answer.
    pub fn kill(&self, member: Member) -> anyhow::Result<()> {
        let number = member.number;
        member.kill()?;
        let saw = Saw::Stored(self.committed()?);
        self.journal.add(Event { at: now(), member: number, saw });
        Ok(())
    }

    /// The offsets that the broker has.
    ///
    /// # Errors
    /// It does not answer.
    pub fn committed(&self) -> anyhow::Result<Vec<(i32, i64)>> {
        let Joining { bootstrap, group, topic, .. } = &self.joining;
        raw::committed(bootstrap, group, topic, self.partitions)
    }

    /// Ends the records, waits until all are read, lets `members` leave, and judges.
    ///
    /// # Errors
    /// A record was not read, a member did not leave, or not all is committed after all have left.
    pub fn finish(self, members: Vec<Member>) -> anyhow::Result<Findings> {
        let Self { journal, joining, partitions, stream, control, written_to, .. } = self;
        let ends = stream.stop()?;
        let all_read = |journal: &Journal| {
            journal.wait(&format!("all of {ends:?} are read"), PATIENCE, |state| {
                let read = |(partition, end): (i32, &i64)| {
                    state.seen.get(&partition).copied().unwrap_or_default() >= *end
                };
                (0..).zip(&ends).all(read).then_some(())
            })
        };
        all_read(&journal)?;
        for member in members {
            member.close()?;
        }
        if let Some(path) = written_to {
            journal.write(&path)?;
        }
        let Joining { bootstrap, group, topic, .. } = &joining;
        let committed = raw::committed(bootstrap, group, topic, partitions)?;
        let all: Vec<(i32, i64)> = (0..).zip(ends.iter().copied()).collect();
        ensure!(committed == all, "{committed:?} is committed, and {all:?} was read");
        let mut findings = checker::check(journal.events(), &ends, joining.by_done);
        if let Some(Control { member, journal }) = control {
            all_read(&journal)?;
            member.close()?;
            findings.control = Some(Box::new(checker::check(journal.events(), &ends, false)));
        }
        Ok(findings)
    }
}
