//! Reads in a group with Kafka's console consumer, and looks at the group, resets its offsets and deletes it with
//! `kafka-consumer-groups`. The embedded broker must give the same results as real Kafka.

use milena_interop::embedded::Embedded;
use milena_interop::raw::Raw;
use milena_interop::real;
use xtask::kafka::{NEWEST, Tool};

const READ: Tool = Tool::ConsoleConsumer;
const GROUPS: Tool = Tool::ConsumerGroups;

/// The steps, each with its input. The topic has one partition, so that records have one order.
const STEPS: &[(Tool, &str, &str)] = &[
    (Tool::ConsoleProducer, "--topic tools-letters", "one\ntwo\nthree\nfour\nfive\n"),
    (READ, "--topic tools-letters --group tools-billing --from-beginning --max-messages 3", ""),
    (GROUPS, "--list", ""),
    (GROUPS, "--list --state", ""),
    (GROUPS, "--list --type", ""),
    (GROUPS, "--list --state stable", ""),
    (GROUPS, "--describe --group tools-billing", ""),
    (GROUPS, "--describe --group tools-billing --state", ""),
    (GROUPS, "--describe --group tools-billing --members", ""),
    (READ, "--topic tools-letters --group tools-billing --max-messages 2", ""),
    (GROUPS, "--describe --group tools-billing", ""),
    (GROUPS, "--reset-offsets --group tools-billing --topic tools-letters --to-offset 1 --dry-run", ""),
    (GROUPS, "--reset-offsets --group tools-billing --topic tools-letters --shift-by -3 --execute", ""),
    (READ, "--topic tools-letters --group tools-billing --max-messages 3", ""),
    (GROUPS, "--reset-offsets --group tools-billing --all-topics --to-earliest --execute", ""),
    (GROUPS, "--reset-offsets --group tools-other --topic tools-letters --to-latest --execute", ""),
    (GROUPS, "--describe --all-groups", ""),
    (GROUPS, "--delete-offsets --group tools-billing --topic tools-letters", ""),
    (GROUPS, "--describe --group tools-billing", ""),
    (GROUPS, "--delete --group tools-other", ""),
    (GROUPS, "--delete --group nowhere", ""),
    (GROUPS, "--describe --group nowhere", ""),
    (GROUPS, "--describe --group nowhere --state", ""),
    (GROUPS, "--list", ""),
];

/// The output of the tools, step by step.
fn transcript(bootstrap: &str) -> Vec<String> {
    Raw::connect(bootstrap).unwrap().create_topic("tools-letters", 1).unwrap();
    let mut said = Vec::new();
    for (tool, args, stdin) in STEPS {
        let words: Vec<&str> = args.split_whitespace().collect();
        let stdin = (!stdin.is_empty()).then_some(stdin.as_bytes());
        let output = tool.run(NEWEST, bootstrap, &words, stdin).unwrap();
        said.push(format!("--- {tool:?} {args}: {}", output.status));
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        // Other tests have groups in the same cluster.
        let all = args.starts_with("--list") || args.contains("--all-groups");
        let lines = text.lines().filter(|line| !all || line.contains("tools-"));
        said.extend(lines.filter_map(comparable));
    }
    said
}

/// A line without what may differ between two clusters: ports, and stack traces.
fn comparable(line: &str) -> Option<String> {
    if line.is_empty() || line.starts_with("\tat ") {
        return None;
    }
    let word = |word: &str| if word.starts_with("127.0.0.1:") { "ADDRESS".into() } else { word.to_owned() };
    Some(line.split_whitespace().map(word).collect::<Vec<String>>().join(" "))
}

#[test]
fn the_console_consumer_and_the_tool_for_groups_say_the_same_of_both() {
    let Some(kafka) = real::kafka() else { return };
    let (real, ours) = (transcript(&kafka.bootstrap()), transcript(Embedded::start(1).bootstrap()));
    assert_eq!(real, ours, "left is real Kafka's\n{}\n\nours\n{}", real.join("\n"), ours.join("\n"));
    assert!(ours.contains(&"three".into()), "{ours:#?}");
}
