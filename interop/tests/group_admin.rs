//! Milena's admin calls for groups whose member is Java's consumer: described, refused while it runs, changed afterwards. The
//! embedded broker and real Kafka, old and new, must say the same.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use milena::{Admin, Client, ErrorCode, GroupFilter, GroupState, GroupType};
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
