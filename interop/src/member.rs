//! Clients of other projects, and Milena, as members of consumer groups: each member is a process that can be told to leave
//! or be killed. The programs are in `java/`, `go/`, `js/`, `python/` and `src/bin/member.rs`.
//!
//! - Arguments: BOOTSTRAP GROUP TOPIC PROTOCOL SESSION_MS HEARTBEAT_MS INSTANCE. PROTOCOL has assignors, separated by commas,
//!   or is `consumer` for KIP-848. INSTANCE is `-` for a dynamic member.
//! - A member reads from the earliest offset where none is committed, prints what it read, and then commits it: at most 500
//!   records at a time. It leaves when its standard input ends.
//! - Lines have a time in microseconds since the epoch, a word, and fields, separated by tabs: `started`; `assigned`,
//!   `revoked` or `lost` and partitions separated by commas; `record PARTITION OFFSET VALUE`; `done PARTITION FIRST LAST`;
//!   `committed PARTITION OFFSET`; `error TEXT`; `closed`. Milena's also prints `fetched PARTITION FIRST NEXT BYTES ASKED`:
//!   which record batches came over its connections (`tap`).

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::sync::Notify;
use xtask::kafka::NEWEST;

use crate::journal::{Event, Journal, Saw, now};
use crate::partner;

/// A client that can be in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// Apache Kafka's own, of the newest release.
    Java,
    /// github.com/twmb/franz-go.
    FranzGo,
    /// librdkafka, through confluent-kafka-go.
    Librdkafka,
    /// confluent-kafka of PyPI: a newer librdkafka.
    Confluent,
    /// aiokafka of PyPI.
    Aiokafka,
    /// kafkajs of npm, with round robin whatever the protocol says.
    Kafkajs,
    /// This project's.
    Milena,
}

/// The group that a member joins.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The brokers' addresses.
    pub bootstrap: String,
    /// The group.
    pub group: String,
    /// The topic, whose records `Stream` produces.
    pub topic: String,
    /// Assignors, separated by commas, or `consumer`.
    pub protocol: String,
    /// How long the group waits for a member that does not speak; with KIP-848 the broker knows.
    pub session: Duration,
    /// How often the member speaks; with KIP-848 the broker knows.
    pub heartbeat: Duration,
    /// Only for Milena: the member finishes records in random order.
    pub by_done: bool,
}

/// A member: a process of its own.
#[derive(Debug)]
pub struct Member {
    /// Its number in the journal.
    pub number: usize,
    /// Its client.
    pub client: Client,
    journal: Arc<Journal>,
    child: Child,
    stdin: Option<ChildStdin>,
    reader: Option<JoinHandle<String>>,
}

impl Client {
    fn command(self) -> anyhow::Result<Command> {
        let go = |program| {
            partner::go(program).map(|mut go| {
                go.arg("member");
                go
            })
        };
        match self {
            Self::Java => partner::java("Member", NEWEST),
            Self::FranzGo => go("franz"),
            Self::Librdkafka => go("rdkafka"),
            Self::Confluent => partner::python("confluent_member"),
            Self::Aiokafka => partner::python("aiokafka_member"),
            Self::Kafkajs => partner::node("member"),
            Self::Milena => milena(),
        }
    }

    /// Whether its language is installed here. If not, prints that the test is skipped (`real::skip`).
    #[must_use]
    pub fn is_here(self) -> bool {
        partner::are_here(match self {
            Self::Java => &["java", "javac", "mvn"],
            Self::FranzGo => &["go"],
            Self::Librdkafka => &["go", "cc"],
            Self::Confluent | Self::Aiokafka => &["python3"],
            Self::Kafkajs => &["node", "npm"],
            Self::Milena => &[],
        })
    }
}

/// The program `member`, which cargo builds beside the program that runs.
fn milena() -> anyhow::Result<Command> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().map(|folder| folder.join("member")).find(|program| program.is_file());
    Ok(Command::new(found.with_context(|| format!("no program member beside {}", here.display()))?))
}

impl Member {
    /// Starts a process that joins. `instance` makes it a static member.
    ///
    /// # Errors
    /// Its program does not build or start.
    pub fn start(
        client: Client,
        number: usize,
        joining: &Joining,
        instance: Option<&str>,
        journal: &Arc<Journal>,
    ) -> anyhow::Result<Self> {
        let mut command = client.command()?;
        command.args([&joining.bootstrap, &joining.group, &joining.topic, &joining.protocol]);
        command.args([joining.session.as_millis().to_string(), joining.heartbeat.as_millis().to_string()]);
        command.arg(instance.unwrap_or("-"));
        if joining.by_done {
            command.arg(number.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{client:?} does not start"))?;
        let stdin = child.stdin.take();
        let (stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let complained = thread::spawn(move || {
            let mut text = String::new();
            // What can be read is for the test's own error.
            let _ = stderr.as_mut().map(|stderr| stderr.read_to_string(&mut text));
            text
        });
        let to = Arc::clone(journal);
        let said = thread::spawn(move || {
            let error = |text| Event { at: now(), member: number, saw: Saw::Error(text) };
            for line in
                stdout.map(BufReader::new).into_iter().flat_map(|out| out.lines().map_while(Result::ok))
            {
                // A process that is killed may leave half a line.
                to.add(Event::from_line(number, &line).unwrap_or_else(|why| error(format!("{why:#}"))));
            }
            let text = complained.join().unwrap_or_default();
            if !text.is_empty() {
                to.add(error(text.clone()));
            }
            text
        });
        Ok(Self { number, client, journal: Arc::clone(journal), child, stdin, reader: Some(said) })
    }

    /// Tells it to leave, and waits until it has.
    ///
    /// # Errors
    /// It did not end well within a minute; the error has its standard error.
    pub fn close(mut self) -> anyhow::Result<()> {
        drop(self.stdin.take());
        let started = Instant::now();
        let status = loop {
            match self.child.try_wait()? {
                Some(status) => break Some(status),
                None if started.elapsed() > Duration::from_secs(60) => break None,
                None => thread::sleep(Duration::from_millis(5)),
            }
        };
        if status.is_none() {
            self.child.kill()?;
        }
        let said = self.end()?.1;
        let client = self.client;
        ensure!(
            status.is_some_and(|status| status.success()),
            "{client:?} did not leave well: {status:?}\n{said}"
        );
        Ok(())
    }

    /// Kills it (SIGKILL), and notes in the journal that it is dead, after all that it said.
    ///
    /// # Errors
    /// It cannot be killed, or had ended before.
    pub fn kill(mut self) -> anyhow::Result<()> {
        let early = self.child.try_wait()?;
        self.child.kill()?;
        let (_, said) = self.end()?;
        ensure!(early.is_none(), "{:?} had ended before it was killed: {early:?}\n{said}", self.client);
        self.journal.add(Event { at: now(), member: self.number, saw: Saw::Killed });
        Ok(())
    }

    /// Waits until the process is gone and all that it said is read.
    fn end(&mut self) -> anyhow::Result<(ExitStatus, String)> {
        let status = self.child.wait()?;
        let said = self.reader.take().and_then(|reader| reader.join().ok()).unwrap_or_default();
        Ok((status, said))
    }
}

/// In the process of a member: notified when it is told to leave, which is when its standard input ends, however that comes.
#[must_use]
pub fn told() -> Arc<Notify> {
    let told = Arc::new(Notify::new());
    let tell = Arc::clone(&told);
    thread::spawn(move || {
        // An error is an end too.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        tell.notify_one();
    });
    told
}

impl Drop for Member {
    fn drop(&mut self) {
        // A test that failed leaves no process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
