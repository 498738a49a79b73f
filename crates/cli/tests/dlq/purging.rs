//! `purge`.

use super::harness::{Cluster, assert_fails};
use super::{EPOCH_MS, block_on, connect, numbers, text, write_many};

#[test]
fn only_letters_of_the_plan_are_deleted_and_only_when_it_is_confirmed() {
    block_on(async {
        let cluster = Cluster::start(&["--topic", "orders.dlq:2", "--topic", "orders:3"]);
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..10, "boom").await;
        let run = cluster.run(&["dlq", "purge", "orders.dlq", "--before", "0=2,1=end"], "");
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let plan = "\
topic       partition  beginning  new  deleted  left
orders.dlq          0          0    2        2     3
orders.dlq          1          0    5        5     0
";
        assert_eq!(text(run.stdout), plan);
        assert!(
            run.stderr.contains("Nothing was deleted: --yes deletes the letters of 7 offsets"),
            "{}",
            run.stderr
        );
        assert_eq!(numbers(&client, "orders.dlq").await.len(), 10);
        let before = (EPOCH_MS + 4).to_string();
        cluster.ok(&["dlq", "purge", "orders.dlq", "--before", &format!("@{before}"), "--yes"], "");
        assert_eq!(numbers(&client, "orders.dlq").await, [4, 5, 6, 7, 8, 9]);
        let run = cluster.run(&["dlq", "purge", "orders.dlq", "-p", "1", "--before", "0", "--yes"], "");
        assert!(run.stderr.contains("There is nothing to delete."), "{}", run.stderr);
        assert_fails(&cluster.run(&["dlq", "purge", "orders.dlq"], ""), 2, "--before");
        assert_fails(&cluster.run(&["dlq", "purge", "missing", "--before", "end"], ""), 4, "does not exist");
        assert_fails(
            &cluster.run(&["dlq", "purge", "orders.dlq", "-p", "7", "--before", "end"], ""),
            4,
            "no partition 7",
        );
    });
}

#[test]
fn what_was_replayed_is_deleted_up_to_the_first_letter_that_was_not() {
    block_on(async {
        let cluster = Cluster::start(&["--topic", "orders.dlq:2", "--topic", "orders:3"]);
        let client = connect(&cluster).await;
        write_many(&client, "orders.dlq", 0..6, "boom").await;
        write_many(&client, "orders.dlq", 6..10, "no such customer").await;
        let purge = ["dlq", "purge", "orders.dlq", "--replayed"];
        assert_fails(&cluster.run(&purge, ""), 4, "no letter of topic \"orders.dlq\" was replayed");
        cluster.ok(&["dlq", "replay", "orders.dlq", "--error", "boom"], "");
        // One more, above those that were left out.
        cluster.ok(&["dlq", "replay", "orders.dlq", "--key", "9"], "");
        let plan = text(cluster.ok(&[&purge[..], &["--json"]].concat(), ""));
        let expect = r#"{"topic":"orders.dlq","partition":0,"beginning_offset":0,"new_beginning_offset":3,"end_offset":5}
{"topic":"orders.dlq","partition":1,"beginning_offset":0,"new_beginning_offset":3,"end_offset":5}
"#;
        assert_eq!(plan, expect);
        cluster.ok(&[&purge[..], &["--yes"]].concat(), "");
        assert_eq!(numbers(&client, "orders.dlq").await, [6, 7, 8, 9]);
        // Those that are left are replayed once each.
        cluster.ok(&["dlq", "replay", "orders.dlq"], "");
        assert_eq!(numbers(&client, "orders").await, (0..10).collect::<Vec<_>>());
    });
}
