//! The clippy rules of `crates/core` fire: each thing that core must not do is done by a crate made up for this, under
//! core's rules, and clippy must name every one of them.

use std::fs;
use std::process::Command;

const FORBIDDEN: &[(&str, &str)] = &[
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

#[test]
fn clippy_names_everything_core_must_not_do() {
    let rules = fs::read_to_string(xtask::root().join("crates/core/clippy.toml")).unwrap();
    let ruled = rules.matches("{ path = ").count();
    assert_eq!(ruled, FORBIDDEN.len(), "a rule without a line here, or the other way round");

    let dir = xtask::root().join("target/core-is-closed");
    fs::create_dir_all(dir.join("src")).unwrap();
    fs::write(dir.join("Cargo.toml"), "[workspace]\n[package]\nname = \"closed\"\nedition = \"2024\"\n")
        .unwrap();
    let mut source = String::from("//! Everything core must not do.\n");
    for (index, (_, line)) in FORBIDDEN.iter().enumerate() {
        source += &format!("/// Forbidden.\npub fn forbidden_{index}() {{ {line} }}\n");
    }
    fs::write(dir.join("src/lib.rs"), source).unwrap();

    let output = Command::new(env!("CARGO"))
        .args(["clippy", "--quiet", "--offline", "--", "-D", "warnings"])
        .current_dir(&dir)
        .env("CLIPPY_CONF_DIR", xtask::root().join("crates/core"))
        .env("CARGO_TARGET_DIR", dir.join("target"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "clippy found nothing");
    for (path, line) in FORBIDDEN {
        assert!(said.contains(&format!("`{path}`")), "{path} is not caught in {line:?}:\n{said}");
    }
    assert!(!said.contains("does not refer to"), "a rule names something that is not there:\n{said}");
}
