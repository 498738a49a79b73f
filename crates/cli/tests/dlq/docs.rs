//! docs/dlq.md: its commands run, and its table has the dialects.

use std::path::Path;

use super::harness::Cluster;
use super::{EPOCH_MS, block_on, connect, write};

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/dlq.md");
    std::fs::read_to_string(path).expect("the page")
}

/// The arguments of a line, without the comment after two spaces or more. Single quotes are the shell's.
fn arguments(line: &str) -> Vec<String> {
    let (mut arguments, mut word, mut is_quoted, mut spaces) = (Vec::new(), String::new(), false, 0);
    for c in line.chars() {
        match c {
            '\'' => is_quoted = !is_quoted,
            ' ' if !is_quoted => {
                spaces += 1;
                if spaces > 1 {
                    break;
                }
                arguments.push(std::mem::take(&mut word));
                continue;
            }
            c => word.push(c),
        }
        spaces = 0;
    }
    arguments.push(word);
    arguments.retain(|argument| !argument.is_empty());
    arguments
}

#[test]
fn the_commands_of_the_page_run() {
    block_on(async {
        let cluster =
            Cluster::start(&["--topic", "orders.dlq:2", "--topic", "orders:3", "--topic", "orders-again:1"]);
        let client = connect(&cluster).await;
        for n in 0..20_u8 {
            let (key, partition) = (n.to_string(), [b'0' + n % 3]);
            let headers: &[(&str, &[u8])] = &[
                ("milena.dlq.topic", b"orders"),
                ("milena.dlq.partition", &partition),
                ("milena.dlq.reason", b"no such customer"),
            ];
            let partition = i32::from(n % 2);
            let value = format!(r#"{{"amount": {n}}}"#);
            write(&client, "orders.dlq", partition, (&key, &value), headers, EPOCH_MS).await;
        }
        let directory = tempfile::tempdir().expect("made");
        let page = page();
        let lines = page.lines().filter_map(|line| line.strip_prefix("    milena "));
        let mut count = 0;
        for line in lines {
            let mut arguments = arguments(line);
            if let Some(file) = arguments.iter_mut().find(|argument| *argument == "replay.jsonl") {
                *file = directory.path().join("replay.jsonl").display().to_string();
            }
            let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
            let run = cluster.run(&arguments, "");
            assert_eq!(run.code, Some(0), "milena {line}: {}", run.stderr);
            count += 1;
        }
        assert!(count > 10, "{count}");
    });
}

#[test]
fn the_page_names_every_dialect() {
    let page = page();
    for dialect in milena_pipeline::dead_letters::Dialect::ALL {
        assert!(page.contains(&format!("| `{dialect}` |")), "{dialect}");
    }
}
