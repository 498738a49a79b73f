//! With a registry.

use super::*;

#[test]
fn schemas_of_all_formats_are_registered_listed_and_shown() {
    let stage = Stage::start();
    let files = &stage.files;
    let customer =
        files.write("customer.avsc", r#"{"type":"record","name":"Customer","namespace":"shop","fields":[]}"#);
    let of = files.write("order.avsc", &order(r#",{"name":"of","type":"shop.Customer"}"#));
    assert_eq!(stage.ok(&["ls"]), "");
    assert_eq!(stage.ok(&["register", "customers-value", &customer]), "customers-value version 1 id 1\n");
    let reference = "shop.Customer=customers-value@latest";
    assert_eq!(
        stage.ok(&["register", "orders-value", &of, "-r", reference]),
        "orders-value version 1 id 2\n"
    );
    // The same again is the same.
    assert_eq!(
        stage.ok(&["register", "orders-value", &of, "-r", reference]),
        "orders-value version 1 id 2\n"
    );
    let proto = "syntax = \"proto3\";\npackage shop;\n\nmessage Line {\n  int64 id = 1;\n}\n";
    let json = r#"{"type":"object","properties":{"id":{"type":"integer"}}}"#;
    let run = stage.run_in(&["register", "lines-value", "-", "--type", "protobuf", "-J"], proto);
    let registered: serde_json::Value = serde_json::from_str(&text(run)).expect("JSON");
    assert_eq!((&registered["version"], &registered["id"]), (&1.into(), &3.into()));
    assert_eq!(registered["guid"].as_str().map(str::len), Some(36), "{registered}");
    stage.ok(&["register", "events", &files.write("event.json", json)]);

    let squeezed = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(
        squeezed(&stage.ok(&["ls"])),
        [
            "subject version id type compatibility",
            "customers-value 1 1 AVRO BACKWARD",
            "events 1 4 JSON BACKWARD",
            "lines-value 1 3 PROTOBUF BACKWARD",
            "orders-value 1 2 AVRO BACKWARD",
        ]
    );
    let listed = stage.ok(&["ls", "orders", "--json"]);
    let expect = r#"{"subject":"orders-value","version":1,"id":2,"type":"AVRO","compatibility":"BACKWARD","is_deleted":false}"#;
    assert_eq!(listed, format!("{expect}\n"));

    assert_eq!(stage.ok(&["get", "lines-value"]), proto);
    assert_eq!(stage.ok(&["get", "--id", "4", "--raw"]), json);
    let guid = registered["guid"].as_str().expect("text");
    assert_eq!(stage.ok(&["get", "--guid", guid]), proto);
    let shown = stage.ok(&["get", "orders-value@1", "--references"]);
    let begins =
        "# shop.Customer: customers-value@1\n{\n  \"type\": \"record\",\n  \"name\": \"Customer\",\n";
    assert!(shown.starts_with(begins) && shown.contains("# orders-value@1\n{\n"), "{shown}");
    let shown: serde_json::Value =
        serde_json::from_str(&stage.ok(&["get", "orders-value", "-J"])).expect("JSON");
    assert_eq!(shown["references"], serde_json::json!({"shop.Customer": "customers-value@1"}));
    assert_eq!((&shown["id"], &shown["version"]), (&2.into(), &1.into()));

    // References of the other two formats.
    let uses =
        "syntax = \"proto3\"; package shop; import \"line.proto\"; message Bill { repeated Line lines = 1; }";
    let uses = files.write("bill.proto", uses);
    let line = stage.ok(&["register", "bills-value", &uses, "-r", "line.proto=lines-value@1"]);
    assert_eq!(line, "bills-value version 1 id 5\n");
    let uses = files.write("batch.json", r#"{"type":"array","items":{"$ref":"event.json"}}"#);
    assert_eq!(
        stage.ok(&["register", "batches", &uses, "-r", "event.json=events@1"]),
        "batches version 1 id 6\n"
    );
}

#[test]
fn a_schema_in_another_order_is_the_same_once_it_is_normalized() {
    let stage = Stage::start();
    let files = &stage.files;
    let one = files
        .write("one.json", r#"{"type":"object","properties":{"a":{"type":"string"},"b":{"type":"number"}}}"#);
    let other = files.write(
        "other.json",
        r#"{"properties":{"b":{"type":"number"},"a":{"type":"string"}},"type":"object"}"#,
    );
    assert_eq!(stage.ok(&["register", "events", &one, "--normalize"]), "events version 1 id 1\n");
    assert_eq!(stage.ok(&["register", "events", &other, "--normalize"]), "events version 1 id 1\n");
    assert_eq!(stage.ok(&["register", "events", &other]), "events version 2 id 2\n");
}

#[test]
fn what_may_not_follow_is_refused_and_told() {
    let stage = Stage::start();
    let files = &stage.files;
    let (old, bad) = (files.write("a.avsc", &order("")), files.write("b.avsc", &order(WITHOUT_DEFAULT)));
    let good = files.write("c.avsc", &order(WITH_DEFAULT));
    assert_eq!(stage.ok(&["register", "orders", &old, "-n"]), "it would be a new version of orders\n");
    stage.ok(&["register", "orders", &old]);
    assert_eq!(stage.ok(&["register", "orders", &old, "-n"]), "it is registered: orders version 1 id 1\n");
    let rule = "READER_FIELD_MISSING_DEFAULT_VALUE";
    for dry in [&[][..], &["--dry-run"]] {
        let run = stage.run(&[&["register", "orders", &bad], dry].concat());
        assert!(run.stderr.contains(rule), "{}", run.stderr);
        failed(run, CHECK_FAILED, "is not compatible with subject \"orders\"");
    }
    let found = failed(
        stage.run(&["check", "orders", &bad]),
        CHECK_FAILED,
        "not compatible with orders at level BACKWARD",
    );
    assert!(found.contains(rule), "{found}");
    assert_eq!(stage.ok(&["check", "orders", &good]), "compatible with orders at level BACKWARD\n");
    assert_eq!(stage.ok(&["check", "orders", &good, "--version", "1"]), "compatible with orders@1\n");
    // Compared here, at another level than the registry's.
    assert_eq!(
        stage.ok(&["check", "orders", &bad, "-c", "forward"]),
        "compatible with orders@1 at level FORWARD\n"
    );
    failed(stage.run(&["check", "orders", &bad, "-c", "full"]), CHECK_FAILED, "orders@1 at level FULL");
    let json = failed(stage.run(&["check", "orders", &bad, "-J"]), CHECK_FAILED, "not compatible");
    assert!(json.contains("\"is_compatible\":false") && json.contains(rule), "{json}");

    assert_eq!(stage.ok(&["compatibility"]), "BACKWARD\n");
    assert_eq!(stage.ok(&["compatibility", "orders", "forward"]), "FORWARD\n");
    assert_eq!(stage.ok(&["register", "orders", &bad]), "orders version 2 id 2\n");
    assert_eq!(stage.ok(&["compatibility", "orders", "--reset"]), "BACKWARD\n");
    assert_eq!(stage.ok(&["compatibility", "--global", "full"]), "FULL\n");
    assert_eq!(
        stage.ok(&["compatibility", "orders", "-J"]),
        "{\"subject\":\"orders\",\"compatibility\":\"FULL\"}\n"
    );

    let diff = stage.ok(&["diff", "orders@1", "orders"]);
    let expect =
        "+ shop.Order.note: string\n\norders@2 does not read the data of orders@1: not BACKWARD compatible\n";
    assert!(diff.starts_with(expect), "{diff}");
    assert!(diff.ends_with("orders@1 reads the data of orders@2: FORWARD compatible\n"), "{diff}");
    let mixed = stage.ok(&["diff", "id:1", &good]);
    assert!(mixed.starts_with("+ shop.Order.note: string, default \"\"\n"), "{mixed}");
}

#[test]
fn what_is_deleted_softly_stays_readable_until_it_is_deleted_for_good() {
    let stage = Stage::start();
    let files = &stage.files;
    for (index, fields) in ["", WITH_DEFAULT].iter().enumerate() {
        stage.ok(&["register", "orders", &files.write(&format!("{index}.avsc"), &order(fields))]);
    }
    assert_eq!(stage.ok(&["delete", "orders@latest"]), "orders@2\n");
    let versions = |args: &[&str]| stage.ok(&[&["ls", "--versions", "-J"], args].concat()).lines().count();
    assert_eq!((versions(&[]), versions(&["--deleted"])), (1, 2));
    // Records that name it can be read.
    stage.ok(&["get", "--id", "2"]);
    let plan = stage.run(&["delete", "orders", "--permanent"]);
    assert!(
        plan.stderr.contains("orders@2, id 2, deleted softly") && plan.stderr.contains("--yes"),
        "{}",
        plan.stderr
    );
    assert_eq!((plan.code, versions(&["--deleted"])), (Some(0), 2));
    assert_eq!(stage.ok(&["delete", "orders@2", "--permanent", "--yes"]), "orders@2\n");
    failed(stage.run(&["get", "--id", "2"]), NOT_FOUND, "looking up schema 2");
    assert_eq!(stage.ok(&["delete", "orders"]), "orders@1\n");
    assert_eq!(stage.ok(&["ls"]), "");
    let deleted = stage.ok(&["ls", "--deleted"]);
    assert!(deleted.contains("orders") && deleted.trim_end().ends_with("deleted"), "{deleted}");
    assert_eq!(stage.ok(&["delete", "orders", "--permanent", "-y"]), "orders@1\n");
    assert_eq!(stage.ok(&["ls", "--deleted"]), "");
    failed(stage.run(&["delete", "orders"]), NOT_FOUND, "orders");
}

#[test]
fn contexts_have_subjects_of_their_own() {
    let stage = Stage::start();
    let file = stage.files.write("a.avsc", &order(""));
    stage.ok(&["register", ":.eu:orders", &file]);
    assert_eq!(stage.ok(&["ls"]), "");
    let listed = stage.ok(&["ls", "--context", "eu"]);
    assert!(listed.contains(":.eu:orders"), "{listed}");
    assert_eq!(stage.ok(&["ls", "x", "--context", ".eu"]), "");
}

#[test]
fn what_does_not_exist_or_is_wrong_is_named() {
    let stage = Stage::start();
    let file = stage.files.write("a.avsc", &order(""));
    failed(stage.run(&["get", "nothing"]), NOT_FOUND, "\"nothing\"");
    failed(stage.run(&["get", "--id", "7"]), NOT_FOUND, "schema 7");
    failed(stage.run(&["get", "--guid", "7"]), USAGE, "--guid");
    failed(stage.run(&["get"]), USAGE, "SUBJECT[@VERSION]");
    failed(stage.run(&["get", "orders@0"]), USAGE, "1 to 2147483647");
    failed(stage.run(&["diff", "nothing@1", &file]), NOT_FOUND, "nothing");
    let reference = ["-r", "shop.Customer=customers@1"];
    failed(
        stage.run(&[&["register", "a", &file], &reference[..]].concat()),
        NOT_FOUND,
        "the reference \"shop.Customer\"",
    );
    failed(stage.run(&["register", "a", &file, "-r", "customers@1"]), USAGE, "NAME=SUBJECT@VERSION");
    let broken = stage.files.write("b.avsc", "{\"type\":\"recor\"}");
    failed(stage.run(&["register", "a", &broken]), USAGE, "b.avsc: ");
    failed(stage.run(&["register", "a", &broken, "-n"]), USAGE, "b.avsc: invalid AVRO schema");
    assert_eq!(stage.ok(&["ls"]), "");
}
