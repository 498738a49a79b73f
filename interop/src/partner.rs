//! Clients of other projects as test partners. Small programs in `java/` and `go/`, which are built once, produce letters that
//! they read as lines, print consumed letters as lines, and create, describe and delete a topic. `letter` has the lines.
//!
//! - `produce BOOTSTRAP TOPIC CODEC` writes, for each letter in order, `partition <tab> offset`.
//! - `consume BOOTSTRAP TOPIC PARTITIONS COUNT` reads assigned partitions from their beginning until it has seen COUNT
//!   records, then writes `end <tab> partition <tab> offset` for each partition.
//! - `consume-committed` is the same under `isolation.level=read_committed`, and
//!   `transact BOOTSTRAP INPUT OUTPUT ID COUNT` copies records within transactions; Java and librdkafka have them.
//! - `values BOOTSTRAP TOPIC ISOLATION` prints, for each record that the topic has now, `partition <tab> offset <tab> value`,
//!   and the ends as `consume` does; Java has it.
//! - `admin BOOTSTRAP TOPIC` prints the result of each step.
//!
//! More lines of BOOTSTRAP are settings, as `name=value` by Java's or librdkafka's names: `login` has those for logging in.
//! franz-go takes librdkafka's names for the ones that it needs.
//!
//! Every partner uses its library's defaults if they matter: all three produce idempotently with acks=all.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use xtask::kafka::{Dist, NEWEST, process};

use crate::letter::{Letter, Received};

/// A client of another project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partner {
    /// Apache Kafka's own, of the newest release.
    Java,
    /// Java's of Kafka 3.9.
    OldJava,
    /// github.com/twmb/franz-go.
    FranzGo,
    /// librdkafka, through confluent-kafka-go, which contains it as a static library.
    Librdkafka,
    /// github.com/IBM/sarama; it only produces.
    Sarama,
}

/// The result of consuming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumed {
    /// The records, in the order they came.
    pub received: Vec<Received>,
    /// The end offset of each partition.
    pub ends: Vec<i64>,
}

impl Partner {
    /// The partners that have all operations.
    pub const ALL: [Self; 4] = [Self::Java, Self::OldJava, Self::FranzGo, Self::Librdkafka];

    /// Whether its language is installed here. If not, prints that the test is skipped (`real::skip`).
    #[must_use]
    pub fn is_here(self) -> bool {
        let programs: &[&str] = match self {
            Self::Java | Self::OldJava => &["java", "javac", "mvn"],
            Self::FranzGo | Self::Sarama => &["go"],
            Self::Librdkafka => &["go", "cc"],
        };
        are_here(programs)
    }

    /// Produces `letters`, each to its own partition; returns the offset of each.
    ///
    /// # Errors
    /// The partner failed; the error has its output.
    pub fn produce(
        self,
        bootstrap: &str,
        topic: &str,
        codec: &str,
        letters: &[Letter],
    ) -> anyhow::Result<Vec<(i32, i64)>> {
        let lines: String = letters.iter().map(Letter::to_line).collect();
        let said = self.run(&["produce", bootstrap, topic, codec], Some(lines.as_bytes()))?;
        said.lines()
            .map(|line| {
                let (partition, offset) =
                    line.split_once('\t').with_context(|| format!("no offset: {line:?}"))?;
                Ok((partition.parse()?, offset.parse()?))
            })
            .collect()
    }

    /// Consumes `partitions` partitions from their beginnings until `count` records have come.
    ///
    /// # Errors
    /// The partner failed, or did not see that many; the error has its output.
    pub fn consume(
        self,
        bootstrap: &str,
        topic: &str,
        partitions: usize,
        count: usize,
    ) -> anyhow::Result<Consumed> {
        self.consume_as("consume", bootstrap, topic, partitions, count)
    }

    /// Copies `count` records of `input` to `output` within transactions, as the group and transactional id `id`. Each third
    /// transaction is aborted, and what it read is copied again.
    ///
    /// # Errors
    /// The partner failed, or did not copy that many; the error has its output.
    pub fn transact(
        self,
        bootstrap: &str,
        input: &str,
        output: &str,
        id: &str,
        count: usize,
    ) -> anyhow::Result<()> {
        let said = self.run(&["transact", bootstrap, input, output, id, &count.to_string()], None)?;
        ensure!(said.trim() == format!("copied\t{count}"), "{self:?} {said}");
        Ok(())
    }

    /// As [`consume`](Self::consume), under `isolation.level=read_committed`.
    ///
    /// # Errors
    /// As [`consume`](Self::consume).
    pub fn consume_committed(
        self,
        bootstrap: &str,
        topic: &str,
        partitions: usize,
        count: usize,
    ) -> anyhow::Result<Consumed> {
        self.consume_as("consume-committed", bootstrap, topic, partitions, count)
    }

    fn consume_as(
        self,
        command: &str,
        bootstrap: &str,
        topic: &str,
        partitions: usize,
        count: usize,
    ) -> anyhow::Result<Consumed> {
        let (partitions, count) = (partitions.to_string(), count.to_string());
        let said = self.run(&[command, bootstrap, topic, &partitions, &count], None)?;
        let (mut received, mut ends) = (Vec::new(), Vec::new());
        for line in said.lines() {
            match line.strip_prefix("end\t").and_then(|rest| rest.split_once('\t')) {
                Some((_, offset)) => ends.push(offset.parse()?),
                None => received.push(Received::from_line(line)?),
            }
        }
        Ok(Consumed { received, ends })
    }

    /// Shows all records that a topic has now, in the order of each partition: partition, offset and value, which is text. Returns
    /// the end offset of each partition. However much the topic has, it takes no memory.
    ///
    /// # Errors
    /// The partner failed, or `see` did.
    pub fn values(
        self,
        bootstrap: &str,
        topic: &str,
        isolation: &str,
        mut see: impl FnMut(usize, i64, &str) -> anyhow::Result<()>,
    ) -> anyhow::Result<Vec<i64>> {
        let mut command = self.command()?;
        command.args(["values", bootstrap, topic, isolation]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut ends = Vec::new();
        for line in child.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines) {
            let line = line?;
            let mut fields = line.splitn(3, '\t');
            let (Some(first), Some(second), Some(third)) = (fields.next(), fields.next(), fields.next())
            else {
                bail!("no record: {line:?}")
            };
            if first == "end" {
                ends.push(third.parse()?);
            } else {
                see(first.parse()?, second.parse()?, third)?;
            }
        }
        let status = process::wait(&mut child, Duration::from_secs(30))?;
        ensure!(status.success(), "{self:?} reads {topic}: {status}");
        Ok(ends)
    }

    /// Creates, describes and deletes `topic`; returns the result of each step.
    ///
    /// # Errors
    /// The partner failed; the error has its output.
    pub fn admin(self, bootstrap: &str, topic: &str) -> anyhow::Result<Vec<(String, String)>> {
        let said = self.run(&["admin", bootstrap, topic], None)?;
        let pair =
            |line: &str| line.split_once('\t').map(|(step, answer)| (step.to_owned(), answer.to_owned()));
        said.lines().map(|line| pair(line).with_context(|| format!("no answer: {line:?}"))).collect()
    }

    fn run(self, args: &[&str], stdin: Option<&[u8]>) -> anyhow::Result<String> {
        let mut command = self.command()?;
        command.args(args);
        // Each operation of a partner has a deadline of 30 s; this one is for a partner that hangs.
        let output = process::run(command, stdin, Duration::from_secs(90))?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{self:?} {}: {}\n{out}{err}", args[0], output.status);
        Ok(out.into_owned())
    }

    fn command(self) -> anyhow::Result<Command> {
        let version = match self {
            Self::Java => NEWEST,
            Self::OldJava => crate::real::OLD,
            Self::FranzGo => return go("franz"),
            Self::Librdkafka => return go("rdkafka"),
            Self::Sarama => return go("sarama"),
        };
        java("Partner", version)
    }
}

/// One of the programs in `java/`, to be run with the jars of that release of Kafka.
///
/// # Errors
/// It does not build, or the jars cannot be fetched.
pub fn java(program: &str, version: &str) -> anyhow::Result<Command> {
    let dist = Dist::broker(version)?;
    let mut java = Command::new("java");
    java.arg("-cp").arg(format!("{}:{}", java_programs()?.display(), dist.classpath()));
    java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
    java.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", program]);
    Ok(java)
}

/// The folder with the compiled programs of `java/`, for a broker that has one of them as a plugin.
///
/// # Errors
/// They do not build, or the jars cannot be fetched.
pub fn java_classes() -> anyhow::Result<&'static Path> {
    java_programs().map(PathBuf::as_path)
}

/// The program in `java/letters`, which writes dead letters by the classes of Spring Kafka and Kafka Streams.
///
/// # Errors
/// Their jars cannot be fetched, or it does not compile.
pub fn dead_letters() -> anyhow::Result<Command> {
    let folder = letter_programs()?.display();
    let mut java = Command::new("java");
    java.arg("-cp").arg(format!("{folder}/classes:{folder}/jars/*"));
    java.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "DeadLetters"]);
    Ok(java)
}

/// `java/Unordered.java`, which needs Confluent's Parallel Consumer.
///
/// # Errors
/// It does not build, or its jars cannot be fetched.
pub fn parallel_consumer() -> anyhow::Result<Command> {
    let folder = parallel_consumer_program()?;
    let mut java = Command::new("java");
    java.arg("-cp").arg(format!("{0}:{0}/jars/*", folder.display())).args(["-Xmx256m", "Unordered"]);
    Ok(java)
}

/// One of the programs in `go/`.
///
/// # Errors
/// It does not build.
pub fn go(program: &str) -> anyhow::Result<Command> {
    Ok(Command::new(go_programs()?.join(program)))
}

/// One of the programs in `python/`, with the packages that it needs.
///
/// # Errors
/// The packages cannot be installed.
pub fn python(program: &str) -> anyhow::Result<Command> {
    let mut python = Command::new(python_packages()?.join("bin/python"));
    python.arg(xtask::root().join("interop/python").join(program).with_extension("py"));
    Ok(python)
}

/// One of the programs in `js/`, with the packages that it needs.
///
/// # Errors
/// The packages cannot be installed.
pub fn node(program: &str) -> anyhow::Result<Command> {
    let mut node = Command::new("node");
    node.arg(node_packages()?.join(program).with_extension("mjs"));
    Ok(node)
}

/// Whether these programs are installed here. If one is not, prints that the test is skipped (`real::skip`).
#[must_use]
pub fn are_here(wanted: &[&str]) -> bool {
    let missing = wanted.iter().find(|program| !process::is_installed(program));
    if let Some(program) = missing {
        crate::real::skip(&format!("a client of another project is not tested: {program} is not installed"));
    }
    missing.is_none()
}

/// The folder with the Java programs.
fn java_programs() -> anyhow::Result<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(&BUILT, || {
        let dist = Dist::broker(NEWEST)?;
        let mut javac = Command::new("javac");
        javac
            .args(["-Xlint:all", "-Werror", "--release", "17", "-cp", &dist.classpath(), "-d"])
            .arg(programs());
        for program in ["Partner", "MessageSets", "Member", "Receiver", "Telemetry"] {
            javac.arg(xtask::root().join(format!("interop/java/{program}.java")));
        }
        run_build(javac)
    })
}

/// The folder with the program in `java/letters`, and the jars that its `pom.xml` names.
fn letter_programs() -> anyhow::Result<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built_in(&BUILT, programs().join("letters"), |folder| {
        let source = xtask::root().join("interop/java/letters");
        let (wanted, fetched) = (fs::read(source.join("pom.xml"))?, folder.join("pom.xml"));
        if fs::read(&fetched).ok().as_ref() != Some(&wanted) {
            let _ = fs::remove_dir_all(folder.join("jars"));
            let mut maven = Command::new("mvn");
            maven
                .current_dir(&source)
                .args(["--batch-mode", "--no-transfer-progress", "--quiet", "-Dstyle.color=never"])
                .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
                .arg(format!("-DoutputDirectory={}", folder.join("jars").display()));
            run_build(maven)?;
            // Last, so that half a download is not taken for a whole one.
            fs::write(&fetched, wanted)?;
        }
        let mut javac = Command::new("javac");
        javac
            .args(["-Xlint:all,-processing", "--release", "17", "-cp"])
            .arg(format!("{}/jars/*", folder.display()));
        javac.arg("-d").arg(folder.join("classes"));
        javac.args(["DeadLetters", "RetryableLetters"].map(|name| source.join(format!("{name}.java"))));
        run_build(javac)
    })
}

/// The folder with the program that needs Parallel Consumer, and with its jars.
fn parallel_consumer_program() -> anyhow::Result<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built_in(&BUILT, programs().join("parallel-consumer"), |folder| {
        let jars = folder.join("jars");
        let mut maven = Command::new("mvn");
        maven.args([
            "--batch-mode",
            "--no-transfer-progress",
            "--quiet",
            "dependency:copy-dependencies",
            "-f",
        ]);
        // Of the same versions as the one that it is measured beside.
        maven.arg(xtask::root().join("bench/rivals/parallel-consumer/pom.xml"));
        maven.arg(format!("-DoutputDirectory={}", jars.display()));
        run_build(maven)?;
        let mut javac = Command::new("javac");
        javac.args(["--release", "17", "-cp", &format!("{}/*", jars.display()), "-d"]).arg(folder);
        javac.arg(xtask::root().join("interop/java/Unordered.java"));
        run_build(javac)
    })
}

/// The folder with the Go programs.
fn go_programs() -> anyhow::Result<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built(&BUILT, || {
        let mut go = Command::new("go");
        go.current_dir(xtask::root().join("interop/go")).args(["build", "-o"]).arg(programs());
        go.args(["./franz", "./rdkafka", "./sarama"]);
        run_build(go)
    })
}

/// The folder of an environment with the packages of `python/requirements.txt`.
fn python_packages() -> anyhow::Result<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built_in(&BUILT, programs().join("python"), |folder| {
        let wanted = xtask::root().join("interop/python/requirements.txt");
        let installed = folder.join("requirements.txt");
        if fs::read(&installed).ok() == Some(fs::read(&wanted)?) {
            return Ok(());
        }
        let mut python = Command::new("python3");
        python.args(["-m", "venv", "--clear"]).arg(folder);
        run_build(python)?;
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--only-binary=:all:",
            "-r",
        ]);
        pip.arg(&wanted);
        run_build(pip)?;
        fs::copy(&wanted, &installed)?;
        Ok(())
    })
}

/// The folder with the programs of `js/` and the packages that they import.
fn node_packages() -> anyhow::Result<&'static PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    built_in(&BUILT, programs().join("js"), |folder| {
        let same = |file: &str| {
            let wanted = fs::read(xtask::root().join("interop/js").join(file))?;
            let same = fs::read(folder.join(file)).ok().as_ref() == Some(&wanted);
            fs::write(folder.join(file), wanted)?;
            anyhow::Ok(same)
        };
        same("member.mjs")?;
        same("package.json")?;
        if same("package-lock.json")? && folder.join("node_modules").is_dir() {
            return Ok(());
        }
        let mut npm = Command::new("npm");
        npm.current_dir(folder).args(["ci", "--no-audit", "--no-fund"]);
        run_build(npm)
    })
}

/// Builds once for the whole test program. If it fails, every test that needs it fails.
fn built(
    cell: &'static OnceLock<Result<PathBuf, String>>,
    build: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<&'static PathBuf> {
    built_in(cell, programs(), |_| build())
}

/// As `built`, in a folder of its own.
fn built_in(
    cell: &'static OnceLock<Result<PathBuf, String>>,
    folder: PathBuf,
    build: impl FnOnce(&PathBuf) -> anyhow::Result<()>,
) -> anyhow::Result<&'static PathBuf> {
    let result = cell.get_or_init(|| {
        let done = fs::create_dir_all(&folder).map_err(anyhow::Error::from).and_then(|()| build(&folder));
        done.map(|()| folder).map_err(|error| format!("{error:#}"))
    });
    result.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn run_build(command: Command) -> anyhow::Result<()> {
    // The first build compiles 200 000 lines of Go and downloads librdkafka: a minute on this kind of machine.
    let output = process::run(command, None, Duration::from_secs(600))?;
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("a partner does not build: {}\n{out}{err}", output.status);
    }
    Ok(())
}

fn programs() -> PathBuf {
    xtask::root().join("target/interop")
}
