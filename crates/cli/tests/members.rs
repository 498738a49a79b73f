//! The binary as a member of a group: what was written is committed, and nothing else.

mod harness;

use harness::{Cluster, Process, assert_fails};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

/// A cluster with topic `t` of two partitions, and records 0 to 9 in each.
fn start() -> Cluster {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    for partition in ["0", "1"] {
        let lines: String = (0..10).map(|i| format!("{i}\n")).collect();
        cluster.ok(&["produce", "t", "-p", partition], lines);
    }
    cluster
}

fn committed(cluster: &Cluster) -> String {
    let run = cluster.run(&["groups", "offsets", "export", "g", "--csv"], "");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    text(run.stdout).trim_end().replace('\n', " ")
}

/// Reads `count` lines, sorted.
fn lines(process: &mut Process, count: usize) -> Vec<String> {
    let mut lines: Vec<_> = (0..count).map(|_| process.stdout_line()).collect();
    lines.sort();
    lines
}

const FORMAT: [&str; 4] = ["-g", "g", "-f", "%p:%o\\n"];

fn consume(cluster: &Cluster, args: &[&str]) -> Process {
    cluster.spawn(&[&["consume", "t"], &FORMAT[..], args].concat(), "")
}

#[test]
fn what_was_written_is_committed_when_it_ends() {
    let cluster = start();
    for args in [&[][..], &["--commit", "flushed"]] {
        let mut member = consume(&cluster, args);
        let all: Vec<_> = (0..20).map(|i| format!("{}:{}", i / 10, i % 10)).collect();
        assert_eq!(lines(&mut member, 20), all);
        member.interrupt();
        let run = member.wait();
        assert_eq!((run.code, run.stderr.as_str()), (Some(130), ""));
        assert_eq!(committed(&cluster), "t,0,10 t,1,10");
        cluster.ok(&["groups", "offsets", "reset", "g", "--all-topics", "--to-earliest", "--yes"], "");
    }
}

#[test]
fn a_count_commits_as_many_records_as_it_wrote() {
    let cluster = start();
    let run = consume(&cluster, &["-c", "7"]).wait();
    assert_eq!((run.code, run.stdout.iter().filter(|byte| **byte == b'\n').count()), (Some(0), 7));
    let sum = |committed: &str| {
        let offsets = committed.split(' ').map(|row| row.rsplit(',').next().expect("an offset"));
        offsets.map(|offset| offset.parse::<i64>().expect("a number")).sum::<i64>()
    };
    assert_eq!(sum(&committed(&cluster)), 7, "{}", committed(&cluster));
    // The next one goes on there: each record is written once. Of those that a filter leaves out none comes again.
    let rest = consume(&cluster, &["-c", "13"]).wait();
    let mut both: Vec<_> = text([run.stdout, rest.stdout].concat()).lines().map(str::to_owned).collect();
    both.sort();
    assert_eq!(both, (0..20).map(|i| format!("{}:{}", i / 10, i % 10)).collect::<Vec<_>>());
    assert_eq!(sum(&committed(&cluster)), 20);
}

#[test]
fn without_commits_the_same_records_come_again() {
    let cluster = start();
    for _ in 0..2 {
        let mut member = consume(&cluster, &["--commit", "none"]);
        assert_eq!(lines(&mut member, 20).len(), 20);
        member.terminate();
        assert_eq!(member.wait().code, Some(130));
        assert_eq!(committed(&cluster), "");
    }
}

#[test]
fn a_reader_that_goes_away_loses_nothing_that_was_committed() {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    let lines: String = (0..200_000).map(|i| format!("line {i:06}\n")).collect();
    cluster.ok(&["produce", "t"], lines);
    let mut member = cluster.spawn(&["consume", "t", "-g", "g"], "");
    assert_eq!(member.stdout_line(), "line 000000");
    member.close_stdout();
    assert_eq!(member.wait_unread(), Some(0));
    // More was written to the pipe than was read there, but never less than was committed.
    let offset: usize = committed(&cluster).rsplit(',').next().and_then(|at| at.parse().ok()).unwrap_or(0);
    assert!(offset < 200_000, "{offset}");
    let next = text(cluster.ok(&["consume", "t", "-g", "g", "-c", "1"], ""));
    assert_eq!(next, format!("line {offset:06}\n"));
}

#[test]
fn two_members_share_the_partitions_and_one_takes_over() {
    let cluster = start();
    let mut first = consume(&cluster, &[]);
    lines(&mut first, 20);
    let second = consume(&cluster, &[]);
    let described = || text(cluster.ok(&["groups", "describe", "g", "--interval", "0", "-J"], ""));
    let until = std::time::Instant::now() + harness::DEADLINE;
    let stable_with = |members: usize| {
        while std::time::Instant::now() < until {
            let described = described();
            let each_has_one = described.matches("\"assignment\":{\"t\":[").count() == members;
            if described.contains("\"state\":\"Stable\"") && each_has_one {
                return described;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        panic!("not {members} members with partitions: {}", described());
    };
    let both = stable_with(2);
    assert!(both.contains("\"committed_offset\":10") && both.contains("\"lag\":0"), "{both}");
    let table = text(cluster.ok(&["groups", "describe", "g", "--interval", "0.01"], ""));
    assert!(table.contains("t: 0") && table.contains("t: 1"), "{table}");
    // While there are members, offsets are theirs.
    let reset = ["groups", "offsets", "reset", "g", "--all-topics", "--to-earliest"];
    assert_fails_with_plan(&cluster.run(&[&reset[..], &["--yes"]].concat(), ""), "has 2 members");
    let plan = cluster.run(&reset, "");
    assert_eq!(plan.code, Some(0));
    assert!(plan.stderr.contains("has 2 members"), "{}", plan.stderr);
    assert_fails(&cluster.run(&["groups", "delete", "g"], ""), 1, "NON_EMPTY_GROUP");
    second.interrupt();
    assert_eq!(second.wait().code, Some(130));
    stable_with(1);
    cluster.ok(&["produce", "t", "-p", "0"], "x\n");
    cluster.ok(&["produce", "t", "-p", "1"], "y\n");
    assert_eq!(lines(&mut first, 2), ["0:10", "1:10"]);
}

/// The plan is on stdout, and the failure says this.
fn assert_fails_with_plan(run: &harness::Run, says: &str) {
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains(says), "{}", run.stderr);
    assert!(run.stdout.starts_with(b"topic"), "{:?}", run.stdout);
}

#[test]
fn where_a_group_begins_can_be_said() {
    let cluster = start();
    let run = consume(&cluster, &["--from", "-1h", "-c", "20"]).wait();
    assert_eq!(text(run.stdout).lines().count(), 20, "{}", run.stderr);
    for (args, says) in [
        (&["t", "u"][..], "--group"),
        (&["t", "-g", "g", "-o", "5"], "committed offsets"),
        (&["t", "-g", "g", "-p", "0"], "--partitions"),
        (&["t", "-g", "g", "-e"], "--exit-at-end"),
        (&["t", "--commit", "none"], "--group"),
        (&["t", "-g", ""], "empty"),
    ] {
        assert_fails(&cluster.run(&[&["consume"], args].concat(), ""), 2, says);
    }
    assert_fails(&cluster.run(&["consume", "nowhere", "-g", "g"], ""), 4, "nowhere");
}

#[test]
fn a_pattern_subscribes_to_all_topics_that_match() {
    let cluster = Cluster::start(&["--topic", "pay-a", "--topic", "pay-b", "--topic", "other"]);
    for topic in ["pay-a", "pay-b", "other"] {
        cluster.ok(&["produce", topic], format!("{topic}\n"));
    }
    let mut member = cluster.spawn(&["consume", "^pay-.*", "-g", "g"], "");
    assert_eq!(lines(&mut member, 2), ["pay-a", "pay-b"]);
    member.interrupt();
    assert_eq!(member.wait().code, Some(130));
    assert_eq!(committed(&cluster), "pay-a,0,1 pay-b,0,1");
}
