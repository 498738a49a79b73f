use proptest::prelude::*;

use super::import::{Format, detect, name_of, read};
use super::*;

const FILE: &str = "\
# mine
current = \"prod\"   # for now

[profiles.dev]
\"bootstrap.servers\" = [\"a:1\", \"b:2\"]
linger.ms = 5

[profiles.prod]
protected = true
bootstrap.servers = \"kafka:9093\" # three of them
security.protocol = \"SSL\"
";

#[test]
fn properties_are_read_under_their_full_names_however_they_are_written() {
    let profiles = Profiles::parse(FILE).expect("read");
    assert_eq!(profiles.current(), Some("prod"));
    let property = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let [dev, prod] = &profiles.all().expect("read")[..] else { panic!("two") };
    assert_eq!(dev.properties, [property("bootstrap.servers", "a:1,b:2"), property("linger.ms", "5")]);
    assert_eq!(
        prod.properties,
        [property("bootstrap.servers", "kafka:9093"), property("security.protocol", "SSL")]
    );
    assert_eq!((dev.is_protected, prod.is_protected), (false, true));
    assert_eq!((dev.bootstrap(), prod.value("security.protocol")), (Some("a:1,b:2"), Some("SSL")));
}

#[test]
fn a_change_keeps_comments_and_order() {
    let mut profiles = Profiles::parse(FILE).expect("read");
    profiles.set("prod", "bootstrap.servers", "other:1").expect("set");
    profiles.set("prod", "sasl.username", "alice").expect("set");
    profiles.set("dev", "linger.ms", "7").expect("set");
    assert!(profiles.unset("dev", "bootstrap.servers").expect("unset"));
    assert!(!profiles.unset("dev", "bootstrap.servers").expect("unset"));
    profiles.protect("dev", true).expect("set");
    profiles.select(Some("dev"));
    let expect = "\
# mine
current = \"dev\"   # for now

[profiles.dev]
linger.ms = \"7\"
protected = true

[profiles.prod]
protected = true
bootstrap.servers = \"other:1\" # three of them
security.protocol = \"SSL\"
\"sasl.username\" = \"alice\"
";
    assert_eq!(profiles.text(), expect);
    assert!(profiles.remove("dev") && !profiles.remove("dev"));
    assert_eq!(profiles.current(), None);
    assert!(profiles.unset("prod", "security.protocol").expect("unset"));
    assert!(!profiles.text().contains("security"), "{}", profiles.text());
}

#[test]
fn the_first_profile_makes_the_file() {
    let mut profiles = Profiles::default();
    profiles.set("prod", "bootstrap.servers", "a:1").expect("set");
    profiles.select(Some("prod"));
    let text = profiles.text();
    assert_eq!(text, "current = \"prod\"\n\n[profiles.prod]\n\"bootstrap.servers\" = \"a:1\"\n");
    assert!(Profiles::parse(&text).is_ok());
}

#[test]
fn what_is_wrong_is_told_without_a_value() {
    let check = |text: &str, expected: &str| {
        let why = Profiles::parse(text).err().unwrap_or_else(|| panic!("{text} is taken"));
        assert!(why.contains(expected), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
    };
    check("[profiles.a]\nsasl.password = \"hunter2", "line 2: ");
    check("[profiles.a]\nsasl.password = hunter2", "line 2: ");
    check("profiles = 5", "profiles is not a table");
    check("profiles.a = 5", "profile a: it is not a table");
    check("[profiles.\"a b\"]", "\"a b\" is no name for a profile");
    check("[profiles.a]\nprotected = \"yes\"", "protected is not true or false");
    check("[profiles.a]\nx = 2026-11-29", "x is no text");
    check("[[profiles.a.b]]\nx = 1", "b is a list of tables");
    check("current = 5", "current is not the name of a profile");
    check(&format!("[profiles.a]\n{}x = 1", "a.".repeat(20)), "has too many parts");
    check(&format!("[profiles.a]\n{}x = 1", "a.".repeat(200_000)), "line 2: a name has too many parts");
    check(&format!("[profiles.a]\n{}x = 1", "\"a\".".repeat(100_000)), "line 2: a name has too many parts");
    // Neither the names nor the brackets alone are too deep.
    let nested = format!("{}={{", ["a"; 60].join(".")).repeat(70);
    check(&format!("[profiles.a]\n{nested}x=1{}", "}".repeat(70)), "has too many parts");
    check(&format!("[profiles.a]\n{nested}"), "has too many parts");
    check(&format!("[profiles.a]\n{}", nested.replace('{', "{]")), "has too many parts");
    check(&"#".repeat(2 << 20), "longer than 1048576 bytes");
}

/// Twelve brokers of a cloud have more dots than a name may have.
#[test]
fn dots_in_texts_and_comments_are_no_parts_of_names() {
    let dots = "b-1.a.b.kafka.example.com:9098,".repeat(40);
    let mut profiles = Profiles::default();
    let values =
        [("bootstrap.servers", &*dots), (&*dots, "x"), ("", "a\n.\"'".trim_end()), ("a.", &"\n.".repeat(99))];
    for (name, value) in values {
        profiles.set("a", name, value).expect("set");
    }
    let text =
        format!("# {dots}\n{}literal = '{dots}'\nfloats = [{}]\n", profiles.text(), "1.5, ".repeat(99));
    let read = Profiles::parse(&text).expect("read").profile("a").expect("there");
    for (name, value) in values.into_iter().chain([("literal", &*dots)]) {
        assert_eq!(read.value(name), Some(value), "{name}");
    }
    assert_eq!(read.properties.len(), 6);
}

#[test]
fn secrets_are_not_shown() {
    let check =
        |name: &str, value: &str, shown: &str| assert_eq!(secrets::shown(name, value), shown, "{name}");
    check("sasl.password", "hunter2", "(hidden)");
    check("sasl.password", "env:PASSWORD", "env:PASSWORD");
    check("sasl.password", "command:pass show kafka", "command:pass show kafka");
    check("sasl.jaas.config", "X required password=\"hunter2\";", "(hidden)");
    check("ssl.keystore.key", "-----BEGIN", "(hidden)");
    check("sasl.pasword", "hunter2", "(hidden)");
    check("proxy", "socks5://me:hunter2@proxy:1080", "socks5://me:(hidden)@proxy:1080");
    check("proxy", "socks5://me:hun@ter2@proxy:1080", "socks5://me:(hidden)@proxy:1080");
    check("sasl.password", "a://b:c@hunter2", "(hidden)");
    check("sasl.jaas.config", "X required password=\"hunter2\" url=\"a://b:c@d\";", "(hidden)");
    check("sasl.pasword", "a://b:c@hunter2", "(hidden)");
    check("bootstrap.servers", "a:1", "a:1");
    check("linger.ms", "5", "5");
    check("sasl.username", "alice", "alice");
    assert_eq!(secrets::placeholder("my-prod", "sasl.password"), "env:KAFKA_MY_PROD_SASL_PASSWORD");
    assert!(
        !format!("{:?}", Profiles::parse("[profiles.a]\nx = \"hunter2\"").expect("read").all())
            .contains("hunter2")
    );
}

/// The clusters of a file with their properties and notes, as text.
fn imported(file: &str) -> String {
    let text = std::fs::read_to_string(format!("{}/tests/imports/{file}", env!("CARGO_MANIFEST_DIR")))
        .expect("there");
    let format = detect(&text);
    let imported = read(format, &text).unwrap_or_else(|why| panic!("{file}: {why}"));
    let mut told = format!("{format:?}, current {:?}\n", imported.current);
    imported.notes.iter().for_each(|note| told += &format!("  # {note}\n"));
    for mut imports in imported.clusters {
        told += &format!("[{}]\n", imports.name);
        let name = name_of(&imports.name);
        imports.leave_out_secrets(&name);
        imports.properties.iter().for_each(|(name, value)| told += &format!("  {name}={value}\n"));
        imports.notes.iter().for_each(|note| told += &format!("  # {note}\n"));
    }
    assert!(!told.contains("hunter2"), "{told}");
    told
}

#[test]
fn files_of_other_programs_become_profiles() {
    let files = [
        "java.properties",
        "librdkafka.conf",
        "kcl.toml",
        "kcl-flat.toml",
        "rpk.yaml",
        "redpanda.yaml",
        "kaf.yaml",
    ];
    for file in files {
        let told = imported(file);
        let path = format!("{}/tests/imports/{file}.expect", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_IMPORTS").is_some() {
            std::fs::write(&path, &told).expect("written");
        }
        assert_eq!(told, std::fs::read_to_string(&path).expect("a text that was read"), "{file}");
    }
}

#[test]
fn yaml_that_grows_or_nests_is_refused() {
    let check = |text: &str, expected: &str| {
        let why = read(Format::Rpk, text).err().unwrap_or_else(|| panic!("it is taken"));
        assert!(why.contains(expected), "{why}");
    };
    check("a: &x [1, 2]\nb: *x", "aliases are not supported");
    check(&"[".repeat(100_000), "recursion limit");
    check(&format!("{}1", "- ".repeat(40)), "more than 32 levels");
    check(&format!("profiles: [{}]", "1,".repeat(50_000)), "more than 20000 values");
    check("? [1]\n: 2", "a key is not a text");
    check("", "it is empty");
    check("profiles: []", "it names no cluster");
    check("profiles: [\n\t\"hunter2", "line ");
}

#[test]
fn any_text_can_name_a_profile() {
    for (text, name) in
        [("prod", "prod"), ("My Cluster", "My-Cluster"), ("", "imported"), ("../x", "x"), ("ä", "imported")]
    {
        assert_eq!(name_of(text), name);
        assert!(check_name(name).is_ok());
    }
}

/// The body of the fuzz target, which the module is a part of.
#[path = "../../../../fuzz/bodies/profiles.rs"]
mod body;

#[test]
fn every_fuzz_input_is_survived() {
    let folder = format!("{}/../../fuzz/corpus/profiles", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        body::run(&std::fs::read(entry.expect("a file").path()).expect("read"));
        count += 1;
    }
    assert!(count > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_survived(text in "\\PC*") {
        body::run(text.as_bytes());
    }

    /// Pieces of all formats in any order come further than any text.
    #[test]
    fn any_mixture_is_survived(parts in prop::collection::vec(prop::sample::select(vec![
        "[profiles.a]\n", "profiles", "current", ":", "=", " ", "\n", "  - ", "\"", "'", "{", "}", "[", "]", "a", "a.b", ".", ",",
        "protected = true\n", "\"a.b\" = 1\n", "a.b = \"x\"\n", "kafka_api:", "brokers", "sasl", "tls", "seed_brokers = [\"x\"]\n",
        "clusters:\n", "name: x\n", "&x", "*x", "!!str", "|\n", "#", "é", "\t", "\\u0041", "1", "true", "~", "---\n", "...\n",
    ]), 0..40)) {
        body::run(parts.concat().as_bytes());
    }
}
