//! `milena topics config` and `milena topics truncate`, as processes.

mod harness;

use harness::{Cluster, Run, assert_fails, milena};

/// A cluster with topic `t` of two partitions: ten records in partition 0, one each millisecond, and five in partition 1.
fn start() -> Cluster {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    let lines: String = (0..10)
        .map(|i| {
            format!("{{\"partition\":0,\"timestamp\":{},\"value\":\"{i}\"}}\n", 1_700_000_000_000_i64 + i)
        })
        .collect();
    // Records of 2023 are older than a topic keeps them by default.
    cluster.ok(&["topics", "config", "alter", "t", "--set", "retention.ms=-1"], "");
    cluster.ok(&["produce", "t", "--json"], lines);
    cluster.ok(&["produce", "t", "-p", "1"], "a\nb\nc\nd\ne\n");
    cluster
}

fn config(cluster: &Cluster, verb: &str, args: &[&str]) -> Run {
    cluster.run(&[&["topics", "config", verb], args].concat(), "")
}

fn truncate(cluster: &Cluster, args: &[&str]) -> Run {
    cluster.run(&[&["topics", "truncate"], args].concat(), "")
}

fn text(run: &Run) -> String {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    String::from_utf8(run.stdout.clone()).expect("text")
}

/// Where the partitions of `t` begin.
fn beginnings(cluster: &Cluster) -> Vec<i64> {
    let described = cluster.ok(&["topics", "describe", "t", "--json"], "");
    let described: serde_json::Value = serde_json::from_slice(&described).expect("JSON");
    let partitions = described["partitions"].as_array().expect("partitions");
    partitions.iter().map(|partition| partition["beginning_offset"].as_i64().expect("an offset")).collect()
}

#[test]
fn sizes_are_shown() {
    let cluster = start();
    let list: serde_json::Value =
        serde_json::from_slice(&cluster.ok(&["topics", "ls", "--sizes", "-J"], "")).expect("JSON");
    let bytes = list["bytes"].as_u64().expect("a number");
    assert!(bytes > 15 * 10, "{list}");
    let listed = text(&cluster.run(&["topics", "ls", "-s"], ""));
    assert!(listed.starts_with("t  partitions 2  replicas 1  size ") && listed.ends_with("B\n"), "{listed}");
    let without: serde_json::Value =
        serde_json::from_slice(&cluster.ok(&["topics", "ls", "-J"], "")).expect("JSON");
    assert_eq!(without.get("bytes"), None);
    let dirs: serde_json::Value =
        serde_json::from_slice(&cluster.ok(&["topics", "log-dirs", "-J"], "")).expect("JSON");
    let expect = serde_json::json!({
        "broker": 1, "path": "memory", "is_online": true, "replica_count": 2, "bytes": bytes, "usable_bytes": null,
        "total_bytes": null,
    });
    assert_eq!(dirs, expect);
    let shown = text(&cluster.run(&["topics", "log-dirs"], ""));
    assert!(shown.starts_with("broker  directory  replicas") && shown.contains("memory"), "{shown}");
}

#[test]
fn settings_are_shown_and_changed() {
    let cluster = Cluster::start(&["--topic", "t", "--topic", "u"]);
    assert_eq!(text(&config(&cluster, "show", &["t"])), "", "all are defaults");
    let changes = ["t", "--set", "retention.ms=1000", "-s", "max.message.bytes=5000"];
    assert_eq!(
        text(&config(&cluster, "alter", &[&changes[..], &["--append", "cleanup.policy=compact"]].concat())),
        ""
    );
    let shown = "\
topic  setting            value
t      cleanup.policy     delete,compact
t      max.message.bytes  5000
t      retention.ms       1000
";
    assert_eq!(text(&config(&cluster, "show", &["t", "u"])), shown);
    let args = ["t", "--unset", "retention.ms", "--subtract", "cleanup.policy=delete"];
    text(&config(&cluster, "alter", &args));
    let json = text(&config(&cluster, "show", &["t", "--json"]));
    let expect = "\
{\"topic\":\"t\",\"name\":\"cleanup.policy\",\"value\":\"compact\",\"is_default\":false}
{\"topic\":\"t\",\"name\":\"max.message.bytes\",\"value\":\"5000\",\"is_default\":false}
";
    assert_eq!(json, expect);
    let all = text(&config(&cluster, "show", &["t", "--all"]));
    assert!(
        all.lines().any(|line| line.starts_with("t      retention.ms") && line.ends_with("default")),
        "{all}"
    );
    // Several topics at once.
    text(&config(&cluster, "alter", &["t", "u", "--set", "segment.ms=60000"]));
    let shown = text(&config(&cluster, "show", &["u"]));
    assert_eq!(shown, "topic  setting     value\nu      segment.ms  60000\n");
}

#[test]
fn settings_that_are_wrong_change_nothing() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let wrong = config(&cluster, "alter", &["t", "--set", "segment.ms=60000", "--set", "retention.ms=soon"]);
    assert_fails(&wrong, 2, "Not a number of type LONG");
    assert_eq!(text(&config(&cluster, "show", &["t"])), "", "of a topic all changes are made or none");
    assert_fails(&config(&cluster, "alter", &["t", "--set", "no.such.setting=1"]), 2, "no.such.setting");
    assert_fails(&config(&cluster, "show", &["nowhere"]), 4, "topic \"nowhere\" does not exist");
    let partly = config(&cluster, "alter", &["nowhere", "t", "--set", "segment.ms=60000"]);
    assert_fails(&partly, 3, "topic \"nowhere\" does not exist");
    assert!(partly.stderr.contains("1 of 2 changed: t."), "{}", partly.stderr);
}

#[test]
fn without_yes_the_plan_is_shown_and_nothing_is_deleted() {
    let cluster = start();
    let run = truncate(&cluster, &["t", "--to-offset", "7"]);
    let expect = "\
topic  partition  beginning  new  deleted
t              0          0    7        7
t              1          0    5        5  the nearest to 7
";
    assert_eq!(text(&run), expect);
    assert_eq!(run.stderr, "Nothing was deleted: --yes deletes the records of 12 offsets for good.\n");
    assert_eq!(beginnings(&cluster), [0, 0]);
    let json = text(&truncate(&cluster, &["t:1", "--to-latest", "-J"]));
    let expect = "{\"topic\":\"t\",\"partition\":1,\"beginning_offset\":0,\"new_beginning_offset\":5}\n";
    assert_eq!(json, expect);
    assert_eq!(beginnings(&cluster), [0, 0]);
}

#[test]
fn records_are_deleted_up_to_each_kind_of_place() {
    let cluster = start();
    for (args, expect) in [
        (&["t:0", "--to-offset", "2"][..], [2, 0]),
        (&["t:0", "--to-time", "1700000000004"], [4, 0]),
        (&["t:0", "--to-time", "2023-11-14T22:13:20.006Z"], [6, 0]),
        // No record of partition 0 is of the last hour, and all of partition 1 are.
        (&["t", "--by-duration", "1h"], [10, 0]),
        (&["t", "--to-latest"], [10, 5]),
    ] {
        let run = truncate(&cluster, &[args, &["--yes"]].concat());
        assert_eq!(run.code, Some(0), "{args:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("Deleted the records of "), "{args:?}: {}", run.stderr);
        assert_eq!(beginnings(&cluster), expect, "{args:?}");
    }
    // It goes forward only.
    let run = truncate(&cluster, &["t", "--to-offset", "3", "--yes"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), "There is nothing to delete.\n"));
    assert_eq!(beginnings(&cluster), [10, 5]);
    cluster.ok(&["produce", "t", "-p", "0"], "new\n");
    assert_eq!(cluster.ok(&["consume", "t", "-e"], ""), b"new\n");
}

#[test]
fn records_of_a_compacted_topic_stay() {
    let cluster = start();
    text(&config(&cluster, "alter", &["t", "--set", "cleanup.policy=compact"]));
    let run = truncate(&cluster, &["t", "--to-latest", "--yes"]);
    // The plan was written before the brokers refused it.
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("POLICY_VIOLATION"), "{}", run.stderr);
    assert_eq!(beginnings(&cluster), [0, 0]);
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for (args, says) in [
        (&["config", "show"][..], "<TOPICS>"),
        (&["config", "alter", "t"], "--set"),
        (&["config", "alter", "t", "--set", "retention.ms"], "NAME=VALUE"),
        (&["truncate", "t"], "--to-latest"),
        (&["truncate", "--to-latest"], "<TOPIC[:LIST]>"),
        (&["truncate", "t", "--to-latest", "--to-offset", "3"], "--to-offset"),
        (&["truncate", "t:x", "--to-latest"], "x"),
        (&["truncate", "t", "--to-offset", "-1"], "-1"),
        (&["truncate", "t", "--by-duration", "yesterday"], "yesterday"),
        (&["truncate", "t", "--to-time", "1700000000"], "2023-11-14T22:13:20Z"),
    ] {
        assert_fails(&milena(&[&["topics"], args].concat()), 2, says);
    }
    let cluster = start();
    assert_fails(&truncate(&cluster, &["nowhere", "--to-latest"]), 4, "nowhere");
    assert_fails(&truncate(&cluster, &["t:7", "--to-latest"]), 4, "no partition 7");
}
