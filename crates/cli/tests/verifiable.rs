//! The tools for Kafka's system tests: their lines, and the order of the lines.

mod harness;

use harness::{Cluster, Process};
use serde_json::{Value, json};

/// The event without its timestamp.
fn event(line: &str) -> Value {
    let mut event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let timestamp = event.as_object_mut().expect("an object").remove("timestamp");
    assert!(timestamp.and_then(|at| at.as_i64()).is_some_and(|at| at > 1_700_000_000_000), "{line}");
    event
}

fn next(process: &mut Process) -> Value {
    event(&process.stdout_line())
}

fn rest(process: Process) -> Vec<Value> {
    let run = process.wait();
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    String::from_utf8(run.stdout).expect("text").lines().map(event).collect()
}

fn consumer(cluster: &Cluster, args: &[&str]) -> Process {
    let common =
        ["verifiable-consumer", "--topic", "t", "--group-id", "g", "--bootstrap-server", &cluster.bootstrap];
    Process::spawn(&[&common, args].concat(), "")
}

fn partitions(partitions: &[i32]) -> Value {
    partitions.iter().map(|at| json!({"topic": "t", "partition": at})).collect()
}

#[test]
fn a_producer_tells_each_acknowledgement() {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    let args = ["--max-messages", "3", "--value-prefix", "7", "--repeating-keys", "2", "--acks", "1"];
    let common = ["verifiable-producer", "--topic", "t", "--bootstrap-server", &cluster.bootstrap];
    let events = rest(Process::spawn(&[&common[..], &args].concat(), ""));
    assert_eq!(events[0], json!({"name": "startup_complete"}));
    for (number, event) in events[1..4].iter().enumerate() {
        let (key, value) = ((number % 2).to_string(), format!("7.{number}"));
        let expect = json!({"name": "producer_send_success", "key": key, "value": value, "topic": "t", "partition": 0, "offset": number});
        assert_eq!(*event, expect);
    }
    assert_eq!(events[4], json!({"name": "shutdown_complete"}));
    let tool = &events[5];
    assert_eq!((&tool["name"], &tool["sent"], &tool["acked"]), (&json!("tool_data"), &json!(3), &json!(3)));
    assert!(tool["target_throughput"] == -1 && tool["avg_throughput"].as_f64().is_some(), "{tool}");
}

#[test]
fn a_producer_goes_on_until_it_is_stopped_and_tells_what_failed() {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    let args = ["verifiable-producer", "--topic", "t", "--throughput", "1000", "--bootstrap-server"];
    let mut producer = Process::spawn(&[&args[..], &[&cluster.bootstrap]].concat(), "");
    assert_eq!(next(&mut producer)["name"], "startup_complete");
    assert_eq!(next(&mut producer)["value"], "0");
    producer.terminate();
    let events = rest(producer);
    let names: Vec<_> = events.iter().rev().take(2).map(|event| event["name"].clone()).collect();
    assert_eq!(names, ["tool_data", "shutdown_complete"]);
    assert_eq!(events.last().expect("events")["sent"], events.last().expect("events")["acked"]);

    let args = ["verifiable-producer", "--topic", "nowhere", "--max-messages", "1", "--bootstrap-server"];
    let events = rest(Process::spawn(&[&args[..], &[&cluster.bootstrap]].concat(), ""));
    let failed = &events[1];
    assert_eq!((&failed["name"], &failed["value"]), (&json!("producer_send_error"), &json!("0")));
    assert!(failed["message"].as_str().expect("text").contains("nowhere"), "{failed}");
}

#[test]
fn a_consumer_tells_what_it_does_in_order() {
    for protocol in ["classic", "consumer"] {
        let cluster = Cluster::start(&["--topic", "t:2"]);
        cluster.ok(&["produce", "t", "-p", "0"], "a\nb\nc\n");
        let mut member = consumer(&cluster, &["--group-protocol", protocol, "--verbose"]);
        assert_eq!(next(&mut member), json!({"name": "startup_complete"}));
        let assigned = json!({"name": "partitions_assigned", "partitions": partitions(&[0, 1])});
        // A member of the consumer protocol may get its partitions one by one.
        let first = next(&mut member);
        assert_eq!(first["name"], "partitions_assigned");
        if protocol == "classic" {
            assert_eq!(first, assigned);
        }
        let mut data = next(&mut member);
        while data["name"] == "partitions_assigned" {
            data = next(&mut member);
        }
        let expect = json!({"name": "record_data", "key": null, "value": "a", "topic": "t", "partition": 0, "offset": 0});
        assert_eq!(data, expect, "{protocol}");
        // The records may have been written in several batches: each is told before it is counted, and counted before it is
        // committed.
        let (mut values, mut consumed, mut committed) = (vec![data["value"].clone()], 0, 0);
        while committed < 3 {
            let event = next(&mut member);
            match event["name"].as_str().expect("a name") {
                "record_data" => values.push(event["value"].clone()),
                "records_consumed" => {
                    let told = values.len() as i64;
                    let part = json!({"topic": "t", "partition": 0, "count": told - consumed, "minOffset": consumed, "maxOffset": told - 1});
                    assert_eq!(
                        event,
                        json!({"name": "records_consumed", "count": told - consumed, "partitions": [part]})
                    );
                    consumed = told;
                }
                "offsets_committed" => {
                    committed = event["offsets"][0]["offset"].as_i64().expect("an offset");
                    assert!(committed <= consumed, "{event}");
                    let offsets = json!([{"topic": "t", "partition": 0, "offset": committed}]);
                    assert_eq!(
                        event,
                        json!({"name": "offsets_committed", "offsets": offsets, "success": true})
                    );
                }
                _ => panic!("{event}"),
            }
        }
        assert_eq!(values, [json!("a"), json!("b"), json!("c")]);
        member.terminate();
        let revoked = json!({"name": "partitions_revoked", "partitions": partitions(&[0, 1])});
        let requested = json!({"name": "shutdown_requested"});
        assert_eq!(rest(member), [requested, revoked, json!({"name": "shutdown_complete"})]);
    }
}

#[test]
fn a_consumer_ends_after_so_many_records_and_commits_no_more() {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    cluster.ok(&["produce", "t"], "a\nb\nc\nd\n");
    for (args, offset) in
        [(&["--max-messages", "3"][..], "t,0,3"), (&["--max-messages", "1", "--enable-autocommit"], "t,0,4")]
    {
        let events = rest(consumer(&cluster, args));
        assert_eq!(events.last(), Some(&json!({"name": "shutdown_complete"})));
        let is_told = events.iter().any(|event| event["name"] == "offsets_committed");
        assert_eq!(is_told, !args.contains(&"--enable-autocommit"));
        let committed = cluster.ok(&["groups", "offsets", "export", "g", "--csv"], "");
        assert_eq!(String::from_utf8_lossy(&committed).trim_end(), offset);
    }
}

/// What kafkatest's own handler asserts of the lines of each consumer.
#[test]
fn what_is_consumed_is_assigned_and_each_position_follows_the_last() {
    let cluster = Cluster::start(&["--topic", "t:4"]);
    let mut members: Vec<Process> = Vec::new();
    for turn in 0..3 {
        members.push(consumer(&cluster, &["--assignment-strategy", STRATEGIES[1]]));
        let lines: String =
            (0..2000).map(|i| format!("{{\"partition\":{},\"value\":\"{i}\"}}\n", i % 4)).collect();
        cluster.ok(&["produce", "t", "--json"], lines);
        assert_eq!(next(&mut members[turn])["name"], "startup_complete");
    }
    // Until all is committed. Then one after another leaves, and the others get its partitions.
    let until = std::time::Instant::now() + harness::DEADLINE;
    loop {
        let committed = cluster.run(&["groups", "offsets", "export", "g", "--csv"], "").stdout;
        if committed == b"t,0,1500\nt,1,1500\nt,2,1500\nt,3,1500\n" {
            break;
        }
        assert!(std::time::Instant::now() < until, "{}", String::from_utf8_lossy(&committed));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let mut total = 0;
    for member in members {
        member.terminate();
        let (mut assigned, mut positions) = (Vec::new(), std::collections::BTreeMap::new());
        for event in rest(member) {
            let of = |event: &Value| event["partitions"].as_array().expect("partitions").clone();
            let index = |of: &Value| of["partition"].as_i64().expect("a number");
            match event["name"].as_str().expect("a name") {
                "partitions_assigned" => {
                    for partition in of(&event).iter().map(index) {
                        assert!(!assigned.contains(&partition), "{event}");
                        assigned.push(partition);
                        positions.remove(&partition);
                    }
                }
                "partitions_revoked" => {
                    let revoked: Vec<_> = of(&event).iter().map(index).collect();
                    assigned.retain(|partition| !revoked.contains(partition));
                }
                "records_consumed" => {
                    for consumed in of(&event) {
                        let partition = index(&consumed);
                        assert!(assigned.contains(&partition), "{event} with {assigned:?}");
                        let (min, max) = (consumed["minOffset"].as_i64(), consumed["maxOffset"].as_i64());
                        let last = positions.insert(partition, max.expect("a number") + 1);
                        assert!(last.is_none() || last == min, "{event} after {last:?}");
                        total += consumed["count"].as_i64().expect("a number");
                    }
                }
                "offsets_committed" => {
                    for committed in event["offsets"].as_array().expect("offsets") {
                        assert!(assigned.contains(&index(committed)), "{event} with {assigned:?}");
                        assert_eq!(
                            committed["offset"].as_i64(),
                            positions.get(&index(committed)).copied(),
                            "{event}"
                        );
                    }
                }
                name => assert!(name.starts_with("shutdown_"), "{name}"),
            }
        }
        assert!(assigned.is_empty(), "{assigned:?} are not revoked");
    }
    assert!(total >= 6000, "{total}");
}

const STRATEGIES: [&str; 2] = [
    "org.apache.kafka.clients.consumer.RangeAssignor",
    "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
];
