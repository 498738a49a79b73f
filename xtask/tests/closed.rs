//! The clippy rules of `crates/core`, `crates/client` and `crates/broker` fire: each thing that they must not do is done by
//! a crate made up for this, under their rules, and clippy must name every one of them.

use std::fs;
use std::process::Command;

const CORE: &[(&str, &str)] = &[
    ("std::time::Instant::now", "let _ = std::time::Instant::now();"),
    ("std::time::Instant::elapsed", "let _ = |at: std::time::Instant| at.elapsed();"),
    ("std::time::SystemTime::now", "let _ = std::time::SystemTime::now();"),
    ("std::time::SystemTime::elapsed", "let _ = std::time::UNIX_EPOCH.elapsed();"),
    ("std::thread::spawn", "let _ = std::thread::spawn(|| ());"),
    ("std::thread::scope", "std::thread::scope(|_| ());"),
    ("std::thread::sleep", "std::thread::sleep(std::time::Duration::ZERO);"),
    ("std::env::var", "let _ = std::env::var(\"HOME\");"),
    ("std::fs::read", "let _ = std::fs::read(\"file\");"),
    ("std::fs::write", "let _ = std::fs::write(\"file\", \"\");"),
    ("std::io::stdin", "let _ = std::io::stdin();"),
    (
        "std::collections::hash_map::RandomState::new",
        "let _ = std::collections::hash_map::RandomState::new();",
    ),
    ("std::net::TcpStream", "let _ = std::net::TcpStream::connect(\"127.0.0.1:1\");"),
    ("std::net::TcpListener", "let _ = std::net::TcpListener::bind(\"127.0.0.1:0\");"),
    ("std::net::UdpSocket", "let _ = std::net::UdpSocket::bind(\"127.0.0.1:0\");"),
    ("std::fs::File", "let _ = std::fs::File::open(\"file\");"),
    ("std::thread::Builder", "let _ = std::thread::Builder::new();"),
    ("std::thread::JoinHandle", "let _: Option<std::thread::JoinHandle<()>> = None;"),
    ("std::collections::HashMap", "let _: std::collections::HashMap<u8, u8> = Default::default();"),
    ("std::collections::HashSet", "let _: std::collections::HashSet<u8> = Default::default();"),
];

const CLIENT: &[(&str, &str)] = &[
    ("std::time::Instant::now", "let _ = std::time::Instant::now();"),
    ("std::time::SystemTime::now", "let _ = std::time::SystemTime::now();"),
    ("std::thread::spawn", "let _ = std::thread::spawn(|| ());"),
    ("std::thread::sleep", "std::thread::sleep(std::time::Duration::ZERO);"),
    (
        "std::collections::hash_map::RandomState::new",
        "let _ = std::collections::hash_map::RandomState::new();",
    ),
    ("tokio::spawn", "let _ = tokio::spawn(async {});"),
    ("tokio::task::spawn_blocking", "let _ = tokio::task::spawn_blocking(|| ());"),
    ("tokio::runtime::Handle::current", "let _ = tokio::runtime::Handle::current();"),
    ("tokio::runtime::Handle::try_current", "let _ = tokio::runtime::Handle::try_current();"),
    ("tokio::time::Instant::now", "let _ = tokio::time::Instant::now();"),
    ("tokio::time::sleep", "drop(tokio::time::sleep(std::time::Duration::ZERO));"),
    ("tokio::time::sleep_until", "let _ = |at| tokio::time::sleep_until(at);"),
    ("tokio::time::timeout", "drop(tokio::time::timeout(std::time::Duration::ZERO, async {}));"),
    ("tokio::time::timeout_at", "let _ = |at| tokio::time::timeout_at(at, async {});"),
    ("tokio::time::interval", "let _ = tokio::time::interval(std::time::Duration::ZERO);"),
    ("tokio::time::interval_at", "let _ = |at| tokio::time::interval_at(at, std::time::Duration::ZERO);"),
    ("tokio::task::JoinSet", "let _: tokio::task::JoinSet<()> = Default::default();"),
    ("std::collections::HashMap", "let _: std::collections::HashMap<u8, u8> = Default::default();"),
    ("std::collections::HashSet", "let _: std::collections::HashSet<u8> = Default::default();"),
];

const BROKER: &[(&str, &str)] = &[
    ("std::time::Instant::now", "let _ = std::time::Instant::now();"),
    ("std::time::Instant::elapsed", "let _ = |at: std::time::Instant| at.elapsed();"),
    ("std::time::SystemTime::now", "let _ = std::time::SystemTime::now();"),
    ("std::time::SystemTime::elapsed", "let _ = std::time::UNIX_EPOCH.elapsed();"),
    (
        "std::collections::hash_map::RandomState::new",
        "let _ = std::collections::hash_map::RandomState::new();",
    ),
    ("std::collections::HashMap", "let _: std::collections::HashMap<u8, u8> = Default::default();"),
    ("std::collections::HashSet", "let _: std::collections::HashSet<u8> = Default::default();"),
];

#[test]
fn clippy_names_everything_core_must_not_do() {
    check("core", CORE, "");
}

#[test]
fn clippy_names_everything_the_client_must_not_do() {
    check("client", CLIENT, "tokio = { version = \"1\", features = [\"rt\", \"time\"] }\n");
}

#[test]
fn clippy_names_everything_the_broker_must_not_do() {
    check("broker", BROKER, "");
}

fn check(of: &str, forbidden: &[(&str, &str)], dependencies: &str) {
    let rules = fs::read_to_string(xtask::root().join("crates").join(of).join("clippy.toml")).expect("rules");
    let ruled = rules.matches("{ path = ").count();
    assert_eq!(ruled, forbidden.len(), "a rule without a line here, or the other way round");

    let dir = xtask::root().join("target").join(format!("{of}-is-closed"));
    fs::create_dir_all(dir.join("src")).expect("a directory");
    let manifest = format!(
        "[workspace]\n[package]\nname = \"closed\"\nedition = \"2024\"\n[dependencies]\n{dependencies}"
    );
    fs::write(dir.join("Cargo.toml"), manifest).expect("written");
    // The versions that are on this machine already, so that nothing is downloaded.
    fs::copy(xtask::root().join("Cargo.lock"), dir.join("Cargo.lock")).expect("copied");
    let mut source = String::from("//! Everything that must not be done.\n");
    for (index, (_, line)) in forbidden.iter().enumerate() {
        source += &format!("/// Forbidden.\npub fn forbidden_{index}() {{ {line} }}\n");
    }
    fs::write(dir.join("src/lib.rs"), source).expect("written");

    let output = Command::new(env!("CARGO"))
        .args(["clippy", "--quiet", "--offline", "--", "-D", "warnings"])
        .current_dir(&dir)
        .env("CLIPPY_CONF_DIR", xtask::root().join("crates").join(of))
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .output()
        .expect("clippy ran");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "clippy found nothing");
    for (path, line) in forbidden {
        assert!(said.contains(&format!("`{path}`")), "{path} is not caught in {line:?}:\n{said}");
    }
    assert!(!said.contains("does not refer to"), "a rule names something that is not there:\n{said}");
}
