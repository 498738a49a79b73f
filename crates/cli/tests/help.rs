//! The help texts of the commands that produce, of transactions and of security, as they are. `UPDATE_HELP=1 cargo test` writes them anew.

mod harness;

use std::path::Path;

use harness::milena;

#[test]
fn help_texts_are_as_they_were_read() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    for command in [
        &["demo"][..],
        &["demo", "pipeline"],
        &["produce"],
        &["txn"],
        &["txn", "list"],
        &["txn", "describe"],
        &["txn", "abort-hanging"],
        &["dashboards"],
        &["dev"],
        &["registry"],
        &["schema"],
        &["schema", "ls"],
        &["schema", "get"],
        &["schema", "register"],
        &["schema", "check"],
        &["schema", "diff"],
        &["schema", "delete"],
        &["schema", "compatibility"],
        &["dlq"],
        &["dlq", "ls"],
        &["dlq", "show"],
        &["dlq", "stats"],
        &["dlq", "replay"],
        &["dlq", "purge"],
        &["doctor"],
        &["groups", "doctor"],
        &["groups", "remove-members"],
        &["exporter"],
        &["top"],
        &["tune"],
        &["tune", "codec"],
        &["profile"],
        &["profile", "set"],
        &["profile", "import"],
        &["acl"],
        &["acl", "list"],
        &["acl", "create"],
        &["acl", "delete"],
        &["user"],
        &["user", "list"],
        &["user", "create"],
        &["user", "set-password"],
        &["user", "delete"],
        &["quota"],
        &["quota", "list"],
        &["quota", "set"],
        &["quota", "delete"],
        &["client-metrics"],
        &["client-metrics", "list"],
        &["client-metrics", "set"],
        &["client-metrics", "delete"],
        &["token"],
        &["token", "create"],
        &["token", "list"],
        &["token", "renew"],
        &["token", "expire"],
    ] {
        let run = milena(&[command, &["--help"]].concat());
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let text = String::from_utf8(run.stdout).expect("text");
        let path = directory.join(format!("{}.txt", command.join("-")));
        if std::env::var_os("UPDATE_HELP").is_some() {
            std::fs::create_dir_all(&directory).expect("made");
            std::fs::write(&path, &text).expect("written");
        }
        let expect = std::fs::read_to_string(&path).expect("a text that was read");
        assert_eq!(text, expect, "{}", path.display());
    }
}
