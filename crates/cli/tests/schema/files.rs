//! Without a registry.

use super::harness::{milena, milena_in};
use super::*;

#[test]
fn files_are_checked_against_earlier_ones() {
    let files = Files::new();
    let v1 = files.write("v1.avsc", &order(""));
    let v2 = files.write("v2.avsc", &order(WITHOUT_DEFAULT));
    let v3 = files.write("v3.avsc", &order(WITH_DEFAULT));
    let check = |args: &[&str]| milena(&[&["schema", "check"], args].concat());
    assert_eq!(text(check(&["--against", &v1, &v3])), format!("compatible with {v1} at level BACKWARD\n"));
    let found = failed(check(&["--against", &v1, &v2]), CHECK_FAILED, "at level BACKWARD");
    let (rule, place) = ("READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1: ", "give the field a default");
    assert!(found.starts_with(rule) && found.trim_end().ends_with(place), "{found}");
    assert_eq!(
        text(check(&["--against", &v1, &v2, "-c", "forward"])),
        format!("compatible with {v1} at level FORWARD\n")
    );
    // The level decides how many versions count.
    let older = ["--against", &*v1, "--against", &v3, &v2];
    text(check(&older));
    failed(check(&[&older[..], &["-c", "backward_transitive"]].concat()), CHECK_FAILED, &v1);
    let json = failed(check(&["--against", &v1, &v2, "--json", "-c", "FULL"]), CHECK_FAILED, "FULL");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["is_compatible"], false);
    let finding = &json["findings"][0];
    assert_eq!((&finding["path"], &finding["direction"]), (&"/fields/1".into(), &"backward".into()));
}

#[test]
fn files_of_all_formats_may_use_others() {
    let files = Files::new();
    let avro = files.write("money.avsc", r#"{"type":"fixed","name":"Money","namespace":"shop","size":8}"#);
    let old = files.write("a.avsc", &order(r#",{"name":"sum","type":"shop.Money"}"#));
    let new = files.write("b.avsc", &order(r#",{"name":"sum","type":["null","shop.Money"],"default":null}"#));
    let check = |args: &[&str]| milena(&[&["schema", "check"], args].concat());
    text(check(&["--against", &old, &new, "-r", &format!("shop.Money={avro}")]));
    failed(check(&["--against", &old, &new]), USAGE, "shop.Money");

    let money =
        files.write("money.proto", "syntax = \"proto3\"; package shop; message Money { int64 n = 1; }");
    let of = |rest: &str| {
        format!(
            "syntax = \"proto3\"; package shop; import \"money.proto\"; message Order {{ Money sum = 1; {rest} }}"
        )
    };
    let (old, new) = (files.write("a.proto", &of("")), files.write("b.proto", &of("string note = 2;")));
    let reference = format!("money.proto={money}");
    text(check(&["--against", &old, &new, "-r", &reference, "-c", "full"]));
    let diff = text(milena(&["schema", "diff", &old, &new, "-r", &reference]));
    assert!(diff.starts_with("+ #/Order/2: string note\n"), "{diff}");

    let money = files.write("money.json", r#"{"type":"integer"}"#);
    let of = |kind: &str| {
        format!(
            r#"{{"type":"object","properties":{{"sum":{{"$ref":"money.json"}},"x":{{"type":"{kind}"}}}}}}"#
        )
    };
    let (old, new) = (files.write("a.json", &of("integer")), files.write("b.json", &of("number")));
    let reference = format!("money.json={money}");
    text(check(&["--against", &old, &new, "-r", &reference]));
    let found = failed(check(&["--against", &new, &old, "-r", &reference]), CHECK_FAILED, "not compatible");
    assert!(found.contains("TYPE_NARROWED at #/properties/x"), "{found}");
}

#[test]
fn differences_are_told_part_by_part_and_by_who_reads_what() {
    let files = Files::new();
    let old = files.write("old.avsc", &order(r#",{"name":"gone","type":"int"}"#));
    let new = files.write("new.avsc", &order(WITH_DEFAULT).replace("long", "string"));
    let diff = text(milena(&["schema", "diff", &old, &new]));
    let expect = format!(
        "~ shop.Order.id: long -> string\n- shop.Order.gone: int\n+ shop.Order.note: string, default \"\"\n\n\
         {new} does not read the data of {old}: not BACKWARD compatible\n  TYPE_MISMATCH at /fields/0/type"
    );
    assert!(diff.starts_with(&expect), "{diff}");
    assert!(
        diff.contains(&format!("{old} does not read the data of {new}: not FORWARD compatible\n")),
        "{diff}"
    );
    assert!(diff.contains("READER_FIELD_MISSING_DEFAULT_VALUE at /fields/1: "), "{diff}");
    let same = text(milena(&["schema", "diff", &old, &old]));
    assert!(same.starts_with("no difference\n") && same.contains("reads the data of"), "{same}");
    let json = text(milena_in(&["schema", "diff", "-", &new, "-J", "-t", "avro"], &order("")));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["from"], &json["is_backward"]), (&"stdin".into(), &false.into()));
    let change =
        serde_json::json!({"path": "shop.Order.note", "before": null, "after": "string, default \"\""});
    assert_eq!(json["changes"][1], change);
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let files = Files::new();
    let good = files.write("good.avsc", &order(""));
    let check = |args: &[&str]| milena(&[&["schema", "check"], args].concat());
    for (file, content, says) in [
        ("broken.avsc", "{\"type\":", "broken.avsc: invalid AVRO schema"),
        ("unknown.avsc", "\"Nothing\"", "Nothing"),
        ("broken.proto", "message {", "broken.proto: invalid PROTOBUF schema"),
        ("broken.json", "[]", "broken.json: invalid JSON schema"),
        ("empty.avsc", " \n", "empty.avsc is empty"),
        ("order.txt", "\"int\"", "--type"),
    ] {
        let path = files.write(file, content);
        assert!(failed(check(&["--against", &path, &path]), USAGE, says).is_empty());
    }
    failed(check(&["--against", "/no/such/file.avsc", &good]), NOT_FOUND, "/no/such/file.avsc");
    let large = files.write("large.json", &" ".repeat((1 << 20) + 1));
    failed(check(&["--against", &good, &large]), USAGE, "longer than 1048576 bytes");
    failed(check(&["--against", &good, &good, &good]), USAGE, "there is one FILE");
    failed(check(&[&good]), USAGE, "--against OLDFILE");
    failed(check(&["--against", "-", "-", "-t", "avro"]), USAGE, "stdin can be read once");
    failed(check(&["--against", &good, &good, "-c", "sideways"]), USAGE, "BACKWARD_TRANSITIVE");
    // Formats are not compared.
    let other = files.write("other.json", "{}");
    let found = failed(check(&["--against", &good, &other]), CHECK_FAILED, "not compatible");
    assert!(found.starts_with("SCHEMA_TYPE_CHANGED"), "{found}");
}
