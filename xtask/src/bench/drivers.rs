//! The drivers of the clients: how each is built, and why it cannot be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::bail;

use crate::kafka::process;

/// A client, or the floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Client {
    /// The name in the report.
    pub(super) name: &'static str,
    /// How its driver is built.
    pub(super) kind: Kind,
}

/// Where a driver comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `bench/`: Milena and the floor.
    Own,
    /// `bench/rivals/rust`, with a package for each client.
    Rust,
    /// `bench/rivals/go`, with a command for each client.
    Go,
    /// `bench/rivals/java`.
    Java,
}

/// All clients, Milena and the floor first.
pub(super) const CLIENTS: [Client; 12] = [
    Client { name: MILENA, kind: Kind::Own },
    Client { name: FLOOR, kind: Kind::Own },
    Client { name: "franz-go", kind: Kind::Go },
    Client { name: "rdkafka", kind: Kind::Rust },
    Client { name: "kacrab", kind: Kind::Rust },
    Client { name: "confluent-kafka", kind: Kind::Rust },
    Client { name: "krafka", kind: Kind::Rust },
    Client { name: "rskafka", kind: Kind::Rust },
    Client { name: "sarama", kind: Kind::Go },
    Client { name: "kafka-go", kind: Kind::Go },
    Client { name: "confluent-kafka-go", kind: Kind::Go },
    Client { name: "kafka-clients", kind: Kind::Java },
];

/// The client that is compared with the other ones.
pub(super) const MILENA: &str = "milena";

/// The floor, which is not a client.
pub(super) const FLOOR: &str = "floor";

/// Clients without idempotence. They are measured without it, and their settings in the report say so.
pub(super) const NOT_IDEMPOTENT: [&str; 2] = ["kafka-go", "rskafka"];

/// Clients whose drivers have transactions.
pub(super) const TRANSACTIONAL: [&str; 4] = [MILENA, "franz-go", "confluent-kafka-go", "kafka-clients"];

/// Clients whose drivers speak TLS.
pub(super) const ENCRYPTED: [&str; 4] = [MILENA, "franz-go", "confluent-kafka-go", "kafka-clients"];

/// A driver that can be run, or why it cannot.
#[derive(Debug)]
pub(super) struct Driver {
    /// The client.
    pub(super) client: Client,
    /// The first words of its command.
    pub(super) command: Result<Vec<String>, String>,
}

/// librdkafka takes minutes on two cores.
const BUILD_DEADLINE: Duration = Duration::from_secs(1800);

/// Builds the drivers of these clients. If one cannot be built, its entry says why.
#[must_use]
pub(super) fn build(program: &Path, wanted: &[Client]) -> Vec<Driver> {
    let built = |client: &Client| {
        eprintln!("building the driver of {}", client.name);
        let command = command(program, *client).map_err(|error| format!("{error:#}"));
        if let Err(reason) = &command {
            eprintln!("{}: not built: {}", client.name, reason.lines().next().unwrap_or_default());
        }
        Driver { client: *client, command }
    };
    wanted.iter().map(built).collect()
}

/// The program of `bench/`, with the sink, two drivers and `measure`.
///
/// # Errors
/// It does not build.
pub(super) fn bench_program() -> anyhow::Result<PathBuf> {
    bench_program_with("drivers")
}

/// As [`bench_program`], with the formats of schema registries.
///
/// # Errors
/// As [`bench_program`].
pub(super) fn serdes_program() -> anyhow::Result<PathBuf> {
    bench_program_with("serdes")
}

fn bench_program_with(features: &str) -> anyhow::Result<PathBuf> {
    let bench = crate::root().join("bench");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--features", features, "--manifest-path"]);
    run(cargo.arg(bench.join("Cargo.toml")))?;
    Ok(bench.join("target/release/milena-bench"))
}

/// Builds a client's driver: the first words of its command.
///
/// # Errors
/// A tool for the build is missing, or the build fails.
pub(super) fn command(program: &Path, client: Client) -> anyhow::Result<Vec<String>> {
    let rivals = crate::root().join("bench/rivals");
    let text = |path: PathBuf| path.to_string_lossy().into_owned();
    match client.kind {
        Kind::Own => Ok(vec![text(program.to_owned()), client.name.into()]),
        Kind::Rust => Ok(vec![text(build_rust(&rivals.join("rust"), client.name)?)]),
        Kind::Go => Ok(vec![text(build_go(&rivals.join("go"), client.name)?)]),
        Kind::Java => build_java(&rivals.join("java")),
    }
}

fn build_rust(workspace: &Path, name: &str) -> anyhow::Result<PathBuf> {
    exists(&workspace.join(name))?;
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--release", "--quiet", "--package", &format!("{name}-driver"), "--manifest-path"]);
    run(cargo.arg(workspace.join("Cargo.toml")))?;
    Ok(workspace.join("target/release").join(name))
}

fn build_go(module: &Path, name: &str) -> anyhow::Result<PathBuf> {
    exists(&module.join("cmd").join(name))?;
    installed("go")?;
    let program = output().join(name);
    let mut go = Command::new("go");
    go.current_dir(module).arg("build").arg("-o").arg(&program).arg(format!("./cmd/{name}"));
    run(&mut go)?;
    Ok(program)
}

/// The command of the driver of Confluent's Parallel Consumer, which is not a client.
///
/// # Errors
/// As [`command`].
pub(super) fn parallel_consumer() -> anyhow::Result<Vec<String>> {
    build_java(&crate::root().join("bench/rivals/parallel-consumer"))
}

/// The command of the driver of Apicurio's serdes for Java, which has no other mode.
///
/// # Errors
/// As [`command`].
pub(super) fn java_serdes() -> anyhow::Result<Vec<String>> {
    build_java(&crate::root().join("bench/rivals/java-serdes"))
}

/// The command of the driver of Confluent's serdes for Python, with the packages that it needs.
///
/// # Errors
/// As [`command`].
pub(super) fn python_serdes() -> anyhow::Result<Vec<String>> {
    let sources = crate::root().join("bench/rivals/python");
    exists(&sources)?;
    installed("python3")?;
    let folder = output().join("python");
    let python = folder.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary=:all:", "-r"]);
    run(pip.arg(sources.join("requirements.txt")))?;
    Ok([python, sources.join("flights.py")].map(|path| path.to_string_lossy().into_owned()).to_vec())
}

/// Jars by Maven, classes by `javac`; both are kept.
fn build_java(sources: &Path) -> anyhow::Result<Vec<String>> {
    exists(sources)?;
    installed("javac")?;
    installed("mvn")?;
    let name = sources.file_name().unwrap_or_default();
    let (jars, classes) = (output().join(name).join("jars"), output().join(name).join("classes"));
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:copy-dependencies"]).arg("-f").arg(sources.join("pom.xml"));
    run(maven.arg(format!("-DoutputDirectory={}", jars.display())))?;
    let all_jars = jars.join("*");
    let mut javac = Command::new("javac");
    javac.arg("-d").arg(&classes).arg("-cp").arg(&all_jars);
    for source in fs::read_dir(sources.join("src"))? {
        javac.arg(source?.path());
    }
    run(&mut javac)?;
    let class_path = std::env::join_paths([classes, all_jars])?;
    let words = ["java", "-Xmx1g", "-cp", &class_path.to_string_lossy(), "Driver"];
    Ok(words.map(str::to_owned).to_vec())
}

/// The folder for drivers that Cargo does not build.
fn output() -> PathBuf {
    crate::root().join("bench/target/rivals")
}

fn exists(path: &Path) -> anyhow::Result<()> {
    match path.exists() {
        true => Ok(()),
        false => bail!("no driver yet"),
    }
}

fn installed(program: &str) -> anyhow::Result<()> {
    match process::is_installed(program) {
        true => Ok(()),
        false => bail!("{program} is not installed"),
    }
}

/// Runs one step of a build.
fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let command = std::mem::replace(command, Command::new(""));
    let output = process::run(command, None, BUILD_DEADLINE)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        // Maven writes its errors to standard output.
        bail!("{program}: {}{}", said.trim(), String::from_utf8_lossy(&output.stdout).trim());
    }
    Ok(())
}
