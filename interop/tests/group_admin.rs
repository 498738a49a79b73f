//! Milena's admin calls for groups whose member is Java's consumer: described, refused while it runs, changed afterwards; and a
//! Milena consumer that commits to such a group without being its member. The embedded broker and real Kafka, old and new, must
//! say the same.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use milena::{Admin, Client, ErrorCode, GroupFilter, GroupState, GroupType, Position, Record, Reset};
use milena_interop::embedded::Embedded;
use milena_interop::letter::{self, Letter};
use milena_interop::raw::Raw;
use milena_interop::{ours, real};
use xtask::kafka::{NEWEST, Tool};

const PARTITIONS: i32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// Java's VerifiableConsumer. Dropped, it leaves its group and ends.
struct Java {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Java {
    fn start(version: &str, args: &[&str]) -> Self {
        let mut command = Tool::VerifiableConsumer.command(version, true).unwrap();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line of this event.
    fn next(&mut self, event: &str) -> String {
        let name = format!("\"name\":\"{event}\"");
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "it ended before {event}");
            if line.contains(&name) {
                return line;
            }
        }
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        drop(std::process::Command::new("kill").args(["-TERM", &pid]).status());
        let until = Instant::now() + PATIENCE;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        // It has ended, or has to.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

async fn admin_calls(bootstrap: &str, version: &str, protocol: &str) {
    let (topic, group) = (format!("groups-{protocol}"), format!("java-{protocol}"));
    let client = Client::connect(bootstrap).await.unwrap();
    let admin = client.admin();
    let mut args = vec!["--bootstrap-server", bootstrap, "--topic", &topic, "--group-id", &group];
    if protocol == "consumer" {
        args.extend(["--group-protocol", "consumer"]);
    }
    let mut java = Java::start(version, &args);
    let assigned = java.next("partitions_assigned");
    assert_eq!(assigned.matches("\"partition\":").count() as i32, PARTITIONS, "{assigned}");

    let described = admin.describe_groups([&group]).await.remove(0).1.unwrap();
    let is_new = protocol == "consumer";
    let expected = if is_new { GroupType::Consumer } else { GroupType::Classic };
    let assignor = if is_new { "uniform" } else { "range" };
    assert_eq!((described.group_type, described.state), (expected, GroupState::Stable), "{described:?}");
    assert_eq!(
        (described.protocol_type.as_str(), described.assignor.as_deref()),
        ("consumer", Some(assignor))
    );
    assert_eq!((described.epoch.is_some(), described.assignment_epoch.is_some()), (is_new, is_new));
    assert_eq!(admin.group_coordinator(&group).await.unwrap().id, described.coordinator.id);
    let [member] = &described.members[..] else { panic!("{described:?}") };
    let all = BTreeMap::from([(topic.clone(), (0..PARTITIONS).collect::<Vec<_>>())]);
    assert_eq!(member.assignment.as_ref(), Some(&all));
    assert_eq!(member.target.as_ref(), Some(&all).filter(|_| is_new));
    assert_eq!((&member.topics[..], member.host.as_str()), (&[topic.clone()][..], "127.0.0.1"));
    let listed = admin.list_groups(&GroupFilter::all().states([GroupState::Stable])).await.unwrap();
    let listed = listed.groups.into_iter().find(|listed| listed.group == group).unwrap();
    assert_eq!((listed.state, listed.coordinator), (Some(GroupState::Stable), described.coordinator.id));

    // Its own commits are seen, and while it runs nobody else's are taken.
    java.next("offsets_committed");
    let committed = admin.list_group_offsets([&group]).await.remove(0).1.unwrap();
    assert!(committed.values().any(|at| at.offset > 0), "{committed:?}");
    let refused =
        admin.alter_group_offsets(&group, [((&topic, 0), 1)]).await.unwrap().remove(0).1.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID), "{refused}");
    assert!(refused.to_string().contains("the group has members"), "{refused}");
    let refused = admin.delete_group_offsets(&group, [(&topic, 0)]).await.remove(0).1.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC), "{refused}");
    let refused = admin.delete_groups([&group]).await.remove(0).1.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::NON_EMPTY_GROUP), "{refused}");

    drop(java);
    until_empty(&admin, &group).await;
    for (partition, set) in
        admin.alter_group_offsets(&group, [((&topic, 0), 1), ((&topic, 3), 2)]).await.unwrap()
    {
        set.unwrap_or_else(|error| panic!("{partition:?}: {error}"));
    }
    let found = admin.list_group_offsets_of(&group, [(&topic, 3), (&topic, 0)]).await.unwrap();
    let offsets: Vec<_> = found.into_iter().map(|(_, at)| at.unwrap().map(|at| at.offset)).collect();
    assert_eq!(offsets, [Some(2), Some(1)]);
    admin.delete_group_offsets(&group, [(&topic, 3)]).await.remove(0).1.unwrap();
    let found = admin.list_group_offsets_of(&group, [(&topic, 3)]).await.unwrap().remove(0).1.unwrap();
    assert_eq!(found, None);
    admin.delete_groups([&group]).await.remove(0).1.unwrap();
    let missing = admin.describe_groups([&group]).await.remove(0).1.unwrap_err();
    assert_eq!(missing.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND), "{missing}");
    assert!(admin.remove_all_members(&group).await.is_err());
}

/// The number that this field of a line has.
fn number(json: &str, field: &str) -> i64 {
    let (_, value) = json.split_once(&format!("\"{field}\":")).unwrap();
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value[..end].parse().unwrap()
}

/// A consumer outside of the group reads and commits, Java's takes over as a member where it has stopped, and then the other way
/// round.
async fn taken_over(bootstrap: &str, version: &str, protocol: &str) {
    const WRITTEN: i64 = 10;
    let (topic, group) = (format!("outside-{protocol}"), format!("outside-{protocol}"));
    Raw::connect(bootstrap).unwrap().create_topic(&topic, PARTITIONS).unwrap();
    let client = Client::connect(bootstrap).await.unwrap();
    let producer = client.producer().build().await.unwrap();
    let write = async |count: i64| {
        for partition in (0..count).flat_map(|_| 0..PARTITIONS) {
            producer.post(Record::to(&topic).partition(partition).value("v")).await.unwrap();
        }
        producer.flush().await.unwrap();
    };
    write(WRITTEN).await;
    let outside =
        || client.consumer(group.as_str()).assign((0..PARTITIONS).map(|partition| (&topic, partition)));

    let mut first = outside().build().await.unwrap();
    let mut left = WRITTEN * i64::from(PARTITIONS);
    while left > 0 {
        let batch = tokio::time::timeout(PATIENCE, first.next()).await.unwrap().unwrap().unwrap();
        for record in &batch {
            left -= 1;
            // Each partition is done up to another offset.
            if record.offset() < 3 + i64::from(record.partition()) {
                first.done_record(&record);
            }
        }
    }
    first.close().await.unwrap();

    let mut args = vec!["--bootstrap-server", bootstrap, "--topic", &topic, "--group-id", &group];
    if protocol == "consumer" {
        args.extend(["--group-protocol", "consumer"]);
    }
    let mut java = Java::start(version, &args);
    let mut begins = BTreeMap::new();
    while begins.len() < PARTITIONS as usize {
        let event = java.next("records_consumed");
        for of in event.split("\"topic\":").skip(1) {
            begins.entry(number(of, "partition")).or_insert_with(|| number(of, "minOffset"));
        }
    }
    assert_eq!(begins, (0..i64::from(PARTITIONS)).map(|partition| (partition, 3 + partition)).collect());

    // While it runs, nothing is committed from outside.
    let mut second = outside().reset(Reset::Earliest).build().await.unwrap();
    second.seek(&topic, 0, Position::Offset(0)).unwrap();
    let batch = tokio::time::timeout(PATIENCE, second.next()).await.unwrap().unwrap().unwrap();
    second.done(&batch);
    let offsets = [((&topic, 0), 1)];
    let refused = second.commit_offsets(offsets).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID), "{refused}");
    assert!(refused.to_string().contains("the group has members"), "{refused}");
    assert_eq!(refused.uncommitted().len(), 1);
    drop(batch);
    drop(second);

    // It commits all when it ends, and a consumer outside of the group goes on there.
    java.next("offsets_committed");
    drop(java);
    until_empty(&client.admin(), &group).await;
    write(1).await;
    let mut third = outside().build().await.unwrap();
    let mut seen = BTreeMap::new();
    while seen.len() < PARTITIONS as usize {
        let batch = tokio::time::timeout(PATIENCE, third.next()).await.unwrap().unwrap().unwrap();
        seen.insert(batch.partition(), batch.first_offset());
        third.done(&batch);
    }
    assert_eq!(seen, (0..PARTITIONS).map(|partition| (partition, WRITTEN)).collect());
    third.commit().await.unwrap();
    third.close().await.unwrap();
}

async fn until_empty(admin: &Admin, group: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let described = admin.describe_groups([group]).await.remove(0).1.unwrap();
        if described.state == GroupState::Empty {
            return;
        }
        assert!(Instant::now() < until, "{described:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn check(bootstrap: &str, version: &str, protocols: &[&str]) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for protocol in protocols {
        let topic = format!("groups-{protocol}");
        Raw::connect(bootstrap).unwrap().create_topic(&topic, PARTITIONS).unwrap();
        let letters: Vec<Letter> = letter::awkward()
            .into_iter()
            .zip(0..)
            .map(|(letter, at)| Letter { partition: at % PARTITIONS, ..letter })
            .collect();
        ours::produce(bootstrap, &topic, milena::Compression::None, &letters).unwrap();
        runtime.block_on(admin_calls(bootstrap, version, protocol));
        runtime.block_on(taken_over(bootstrap, version, protocol));
    }
}

#[test]
fn on_the_embedded_broker() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("Java's consumer cannot be started: {program} is not installed"));
    }
    check(Embedded::start(3).bootstrap(), NEWEST, &["classic", "consumer"]);
}

#[test]
fn on_real_kafka() {
    let Some(kafka) = real::kafka() else { return };
    check(&kafka.bootstrap(), NEWEST, &["classic", "consumer"]);
}

#[test]
fn on_kafka_3() {
    let Some(kafka) = real::old() else { return };
    check(&kafka.bootstrap(), real::OLD, &["classic"]);
}
