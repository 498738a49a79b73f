//! Consumer groups through the binary: listed, described, and their committed offsets changed.

mod harness;

use harness::{Cluster, Run, assert_fails, milena};

/// A cluster with topic `t` of two partitions: ten records in partition 0, five in partition 1.
fn start() -> Cluster {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    let lines: String = (0..10)
        .map(|i| {
            format!("{{\"partition\":0,\"timestamp\":{},\"value\":\"{i}\"}}\n", 1_700_000_000_000_i64 + i)
        })
        .collect();
    cluster.ok(&["produce", "t", "--json"], lines);
    cluster.ok(&["produce", "t", "-p", "1"], "a\nb\nc\nd\ne\n");
    cluster
}

fn offsets(cluster: &Cluster, verb: &str, args: &[&str]) -> Run {
    cluster.run(&[&["groups", "offsets", verb, "g"], args].concat(), "")
}

/// Resets offsets of group `g`; returns what it has committed then.
fn reset(cluster: &Cluster, args: &[&str]) -> String {
    let run = offsets(cluster, "reset", &[args, &["--yes"]].concat());
    assert_eq!(run.code, Some(0), "{args:?}: {}", run.stderr);
    exported(cluster)
}

fn exported(cluster: &Cluster) -> String {
    let run = offsets(cluster, "export", &["--csv"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    String::from_utf8(run.stdout).expect("text").trim_end().replace('\n', " ")
}

#[test]
fn offsets_are_reset_to_each_target() {
    let cluster = start();
    for (args, expect) in [
        (&["--topic", "t", "--to-latest"][..], "t,0,10 t,1,5"),
        (&["--topic", "t", "--to-earliest"], "t,0,0 t,1,0"),
        (&["--topic", "t:0", "--to-offset", "7"], "t,0,7 t,1,0"),
        (&["--all-topics", "--shift", "2"], "t,0,9 t,1,2"),
        (&["--all-topics", "--shift", "-100"], "t,0,0 t,1,0"),
        (&["--topic", "t:0", "--to-time", "1700000000003"], "t,0,3 t,1,0"),
        (&["--topic", "t:0", "--to-time", "2023-11-14T22:13:20.004Z"], "t,0,4 t,1,0"),
        (&["--topic", "t:1", "--to-time", "now"], "t,0,4 t,1,5"),
        (&["--topic", "t", "--by-duration", "1h"], "t,0,10 t,1,0"),
        (&["--topic", "t:0", "--topic", "t:1", "--to-offset", "3"], "t,0,3 t,1,3"),
    ] {
        assert_eq!(reset(&cluster, args), expect, "{args:?}");
    }
}

#[test]
fn without_yes_the_plan_is_shown_and_nothing_is_changed() {
    let cluster = start();
    reset(&cluster, &["--topic", "t", "--to-offset", "3"]);
    let run = offsets(&cluster, "reset", &["--topic", "t", "--to-offset", "8"]);
    let expect = "\
topic  partition  committed  new  change
t              0          3    8      +5
t              1          3    5      +2  the nearest to 8
";
    assert_eq!(
        (run.code, String::from_utf8_lossy(&run.stdout).as_ref()),
        (Some(0), expect),
        "{}",
        run.stderr
    );
    assert_eq!(run.stderr, "Nothing was changed: --yes sets these 2 offsets.\n");
    assert_eq!(exported(&cluster), "t,0,3 t,1,3");
    let run = offsets(&cluster, "reset", &["--topic", "t:0", "--to-earliest", "--json"]);
    let expect = "{\"topic\":\"t\",\"partition\":0,\"current_offset\":3,\"new_offset\":0}\n";
    assert_eq!(String::from_utf8_lossy(&run.stdout), expect);
    let run = offsets(&cluster, "reset", &["--topic", "t", "--to-offset", "3", "--yes"]);
    assert_eq!(run.stderr, "There is nothing to change.\n");
}

#[test]
fn what_is_exported_can_be_read_again() {
    let cluster = start();
    reset(&cluster, &["--topic", "t", "--to-offset", "3"]);
    let directory = tempfile::tempdir().expect("made");
    let path = |name: &str| directory.path().join(name).to_str().expect("text").to_owned();
    for (name, args) in [("csv", &["--csv"][..]), ("json", &[])] {
        std::fs::write(path(name), offsets(&cluster, "export", args).stdout).expect("written");
        reset(&cluster, &["--topic", "t", "--to-latest"]);
        assert_eq!(reset(&cluster, &["--from-file", &path(name)]), "t,0,3 t,1,3", "{name}");
    }
    // Of a file some partitions, from stdin, as Java's tool writes several groups.
    let args = ["groups", "offsets", "reset", "g", "--topic", "t:1", "--from-file", "-", "--yes"];
    cluster.ok(&args, "\"g\",\"t\",0,9\n\"g\",\"t\",1,4\n\"h\",\"t\",1,0\n");
    assert_eq!(exported(&cluster), "t,0,3 t,1,4");
    std::fs::write(path("wrong"), "t,0,1\nt,0\n").expect("written");
    assert_fails(&offsets(&cluster, "reset", &["--from-file", &path("wrong")]), 2, "wrong: line 2");
    assert_fails(&offsets(&cluster, "reset", &["--from-file", &path("missing")]), 4, "missing");
}

#[test]
fn offsets_and_groups_are_deleted() {
    let cluster = start();
    reset(&cluster, &["--topic", "t", "--to-offset", "3"]);
    let deleted = offsets(&cluster, "delete", &["--topic", "t:1"]);
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    assert_eq!(exported(&cluster), "t,0,3");
    assert_fails(
        &cluster.run(&["groups", "delete", "g", "nowhere"], ""),
        3,
        "group \"nowhere\" does not exist",
    );
    assert_fails(&cluster.run(&["groups", "delete", "g"], ""), 4, "group \"g\" does not exist");
    cluster.ok(&["groups", "delete", "g", "--if-exists"], "");
    assert!(cluster.ok(&["groups", "list"], "").is_empty());
}

#[test]
fn groups_are_listed_and_described() {
    let cluster = start();
    reset(&cluster, &["--topic", "t:0", "--to-offset", "3"]);
    let list = |args: &[&str]| {
        let listed = cluster.ok(&[&["groups", "list"], args].concat(), "");
        String::from_utf8(listed).expect("text")
    };
    let all = "group  state  type     protocol  coordinator\ng      Empty  Classic  -                   1\n";
    assert_eq!(list(&[]), all);
    assert_eq!(list(&["--state", "empty,stable", "--type", "classic"]), all);
    assert_eq!(list(&["--state", "stable"]), "");
    let json = r#"{"group":"g","state":"Empty","type":"Classic","protocol_type":"","coordinator":1}"#;
    assert_eq!(list(&["--json"]).trim_end(), json);

    let described = String::from_utf8(cluster.ok(&["groups", "describe", "g"], "")).expect("text");
    let lines: Vec<_> = described.lines().collect();
    assert_eq!(lines[..2], ["g", "  state Empty, type Classic"]);
    assert!(
        lines[2].starts_with("  coordinator 1 (127.0.0.1:") && lines[2].contains("lag 7, at 20"),
        "{}",
        lines[2]
    );
    let expect = [
        "  topic  partition  committed  end  lag  read/s  written/s  caught up  member",
        "  t              0          3   10    7       -          -          ?  -",
    ];
    assert_eq!(lines[3..], expect);
    let json = String::from_utf8(cluster.ok(&["groups", "describe", "g", "-J"], "")).expect("text");
    let expect = concat!(
        r#""lag":7,"members":[],"partitions":[{"topic":"t","partition":0,"committed_offset":3,"leader_epoch":null,"#,
        r#""metadata":null,"end_offset":10,"lag":7,"consumed_per_second":null,"produced_per_second":null,"#,
        r#""catch_up_seconds":null,"member_id":null}]}"#,
        "\n"
    );
    assert!(json.ends_with(expect), "{json}");
    let run = cluster.run(&["groups", "describe", "nowhere", "g"], "");
    assert_eq!(run.code, Some(3));
    assert!(run.stderr.contains("group \"nowhere\" does not exist"), "{}", run.stderr);
}

#[test]
fn what_makes_no_sense_is_wrong_usage() {
    for (args, says) in [
        (&["list", "--state", "sleeping"][..], "PreparingRebalance"),
        (&["list", "--type", "x"], "Streams"),
        (&["describe"], "<GROUPS>"),
        (&["describe", "g", "--watch", "--interval", "0"], "--interval"),
        (&["offsets", "reset", "g", "--topic", "t"], "--to-earliest"),
        (&["offsets", "reset", "g", "--to-earliest", "--to-latest"], "--to-latest"),
        (&["offsets", "reset", "g", "--topic", "t", "--all-topics", "--to-latest"], "--all-topics"),
        (&["offsets", "reset", "g", "--topic", "t:x", "--to-latest"], "x"),
        (&["offsets", "reset", "g", "--topic", "t", "--to-offset", "-1"], "-1"),
        (&["offsets", "reset", "g", "--topic", "t", "--to-time", "1700000000"], "2023-11-14T22:13:20Z"),
        (&["offsets", "reset", "g", "--topic", "t", "--by-duration", "yesterday"], "yesterday"),
        (&["offsets", "delete", "g"], "--topic"),
    ] {
        assert_fails(&milena(&[&["groups"], args].concat()), 2, says);
    }
    let cluster = start();
    assert_fails(&offsets(&cluster, "reset", &["--to-latest"]), 2, "--all-topics");
    assert_fails(
        &offsets(&cluster, "reset", &["--all-topics", "--to-latest"]),
        4,
        "group \"g\" does not exist",
    );
    assert_fails(&offsets(&cluster, "reset", &["--topic", "nowhere", "--to-latest"]), 4, "nowhere");
    assert_fails(&offsets(&cluster, "reset", &["--topic", "t:7", "--to-latest"]), 4, "no partition 7");
    assert_fails(&offsets(&cluster, "reset", &["--topic", "t", "--shift", "1"]), 4, "no committed offset");
    assert_fails(&offsets(&cluster, "export", &[]), 4, "group \"g\" does not exist");
}
