//! How a registry is named and logged in to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;

use super::harness::{milena, milena_with};
use super::*;

/// Answers one request, and returns its head.
fn listen(answer: &'static str) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let head = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let lines = BufReader::new(stream.try_clone().expect("the same")).lines();
        let head: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let answer = answer.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        stream.write_all(answer.as_bytes()).expect("is written");
        head.join("\n").to_ascii_lowercase()
    });
    (url, head)
}

/// No subjects.
const NONE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]";

/// What `schema ls` sends as its authorization.
#[track_caller]
fn authorization(
    args: &[&str],
    variables: &[(&str, &str)],
    url_as: impl FnOnce(&str) -> Vec<String>,
) -> String {
    let (url, head) = listen(NONE);
    let own = url_as(&url);
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let run = milena_with(&[&["schema", "ls"], args, &own].concat(), variables);
    assert_eq!((run.code, &*run.stderr), (Some(0), ""));
    let head = head.join().expect("a head");
    let line = head.lines().find_map(|line| line.strip_prefix("authorization: "));
    line.unwrap_or("none").to_owned()
}

#[test]
fn logins_come_from_options_and_properties_and_never_from_arguments() {
    let secret = [("LOGIN", "hunter2")];
    let option = |url: &str| vec!["--registry".to_owned(), url.to_owned()];
    let property = |url: &str| vec!["-X".to_owned(), format!("schema.registry.url={url}")];
    // alice:hunter2
    let basic = "basic ywxpy2u6ahvudgvymg==";
    assert_eq!(authorization(&[], &[], option), "none");
    let user = ["--registry-user", "alice", "--registry-password", "env:LOGIN"];
    assert_eq!(authorization(&user, &secret, option), basic);
    assert_eq!(authorization(&["--registry-token", "env:LOGIN"], &secret, property), "bearer hunter2");
    let info = ["-X", "basic.auth.credentials.source=USER_INFO", "-X", "basic.auth.user.info=env:INFO"];
    assert_eq!(authorization(&info, &[("INFO", "alice:hunter2")], property), basic);
    let inherits = [
        "-X",
        "basic.auth.credentials.source=SASL_INHERIT",
        "-X",
        "sasl.username=alice",
        "-X",
        "sasl.password=env:LOGIN",
    ];
    assert_eq!(authorization(&inherits, &secret, property), basic);
    let of_env = |url: &str| url.replacen("http://", "http://alice:hunter2@", 1);
    let (url, head) = listen(NONE);
    let run = milena_with(&["schema", "ls"], &[("MILENA_REGISTRY", &of_env(&url))]);
    assert_eq!((run.code, &*run.stderr), (Some(0), ""));
    assert!(head.join().expect("a head").contains(basic));

    for (args, says) in [
        (&["--registry-token", "hunter2"][..], "--registry-token is env:NAME"),
        (&["--registry-user", "alice"], "--registry-password"),
        (&["--registry-user", "alice", "--registry-password", "hunter2"], "--registry-password is env:NAME"),
        (&["--registry-token", "env:NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE"),
        (&["-X", "schema.registry.nonsense=hunter2"], "schema.registry.nonsense"),
    ] {
        let run = milena(&[&["schema", "ls", "--registry", "http://127.0.0.1:1"], args].concat());
        assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
        failed(run, USAGE, says);
    }
}

#[test]
fn the_next_address_is_asked_when_one_does_not_answer() {
    let stage = Stage::start();
    let file = stage.files.write("a.avsc", &order(""));
    stage.ok(&["register", "orders", &file]);
    let urls = format!("http://127.0.0.1:1,{}", stage.url);
    let listed = text(milena(&["schema", "ls", "--registry", &urls]));
    assert!(listed.contains("orders"), "{listed}");
    let run = milena(&["schema", "ls", "--registry", "http://127.0.0.1:1", "--timeout", "5"]);
    failed(run, UNREACHABLE, "127.0.0.1:1");
}

#[test]
fn a_registry_has_to_be_named_and_plain_text_to_be_meant() {
    failed(milena(&["schema", "ls"]), USAGE, "no schema registry is named");
    failed(
        milena(&["schema", "ls", "--registry", "http://registry.example:8081"]),
        USAGE,
        "--registry-plaintext",
    );
    failed(milena(&["schema", "ls", "--registry", "registry:8081"]), USAGE, "it is no URL");
    failed(milena(&["schema", "ls", "--registry-ca", "ca.pem"]), USAGE, "none is named");
    let (url, head) = listen("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n");
    failed(milena(&["schema", "ls", "--registry", &url]), AUTH, "wants other credentials");
    head.join().expect("a head");
}

#[test]
fn profiles_name_registries_and_protect_them() {
    let stage = Stage::start();
    let file = stage.files.write("a.avsc", &order(""));
    let config = stage.files.write(
        "config.toml",
        &format!(
            "current = \"prod\"\n[profiles.prod]\nprotected = true\nschema.registry.url = \"{}\"\n",
            stage.url
        ),
    );
    let run = |args: &[&str]| milena_with(&[&["schema"], args].concat(), &[("MILENA_CONFIG", &config)]);
    assert_eq!(text(run(&["register", "orders", &file])), "orders version 1 id 1\n");
    failed(run(&["delete", "orders"]), USAGE, "the profile prod is protected, and this deletes schemas");
    // However the registry is named.
    failed(run(&["delete", "orders", "--registry", &stage.url]), USAGE, "--yes-i-mean prod");
    failed(run(&["compatibility", "orders", "none"]), USAGE, "changes which schemas are allowed");
    assert_eq!(text(run(&["compatibility", "orders"])), "BACKWARD\n");
    assert_eq!(text(run(&["delete", "orders", "--yes-i-mean", "prod"])), "orders@1\n");
}

#[test]
fn registries_are_taken_over_from_the_files_of_other_programs() {
    let files = Files::new();
    let config = files.write("config.toml", "");
    let run = |args: &[&str]| milena_with(args, &[("MILENA_CONFIG", &config)]);
    let java = files.write(
        "client.properties",
        "bootstrap.servers=kafka:9092\nschema.registry.url=https://registry\nbasic.auth.credentials.source=USER_INFO\n\
         basic.auth.user.info=alice:hunter2\nschema.registry.subject.ttl=1\n",
    );
    let imported = run(&["profile", "import", &java]);
    assert!(imported.stderr.contains("schema.registry.subject.ttl was not taken"), "{}", imported.stderr);
    assert!(
        !imported.stderr.contains("hunter2")
            && !std::fs::read_to_string(&config).expect("there").contains("hunter2")
    );
    let shown = text(run(&["profile", "show", "client"]));
    assert!(shown.contains("schema.registry.url=https://registry\n"), "{shown}");
    assert!(shown.contains("basic.auth.user.info=env:KAFKA_CLIENT_BASIC_AUTH_USER_INFO\n"), "{shown}");
    let kaf = files.write(
        "kaf",
        "clusters:\n- name: dev\n  brokers:\n  - kafka:9092\n  schema-registry-url: https://registry\n  \
         schema-registry-credentials:\n    username: alice\n    password: hunter2\n",
    );
    assert_eq!(run(&["profile", "import", &kaf, "--with-secrets"]).code, Some(0));
    let text_of = std::fs::read_to_string(&config).expect("there");
    assert!(
        text_of.contains("\"basic.auth.user.info\" = \"alice:hunter2\"") || text_of.contains("alice:hunter2"),
        "{text_of}"
    );
    let rpk = files.write(
        "rpk.yaml",
        "profiles:\n- name: cloud\n  kafka_api:\n    brokers:\n    - kafka:9092\n    sasl:\n      user: alice\n      password: env:X\n  \
         schema_registry:\n    addresses:\n    - registry:8081\n    tls: {}\n",
    );
    assert_eq!(run(&["profile", "import", &rpk, "--with-secrets"]).code, Some(0));
    // It says that others can read the secrets.
    let shown = String::from_utf8(run(&["profile", "show", "cloud"]).stdout).expect("text");
    assert!(shown.contains("schema.registry.url=https://registry:8081\n"), "{shown}");
    assert!(shown.contains("basic.auth.credentials.source=SASL_INHERIT\n"), "{shown}");
}
