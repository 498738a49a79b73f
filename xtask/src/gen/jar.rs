//! Schemas out of Kafka's jars, which Maven fetches once; kept under `.kafka/jars`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use super::schema::Schema;

/// A jar from Maven Central, fetched on first use.
pub(crate) fn fetch(group: &str, artifact: &str, version: &str) -> Result<PathBuf> {
    let kept = crate::root().join(".kafka/jars");
    let jar = kept.join(format!("{artifact}-{version}.jar"));
    if jar.exists() {
        return Ok(jar);
    }
    eprintln!("fetching {artifact} {version} from Maven Central");
    let directory = Scratch::new()?;
    let mut maven = Command::new("mvn");
    maven.args(["--batch-mode", "--quiet", "-Dstyle.color=never", "dependency:copy"]);
    maven.arg(format!("-Dartifact={group}:{artifact}:{version}"));
    // Outside the repository, so that Maven looks for no project here.
    let output = format!("-DoutputDirectory={}", directory.path().display());
    run(maven.arg(output).current_dir(directory.path()))?;
    fs::create_dir_all(&kept)?;
    // Under another name first: whoever sees the jar sees all of it.
    let arriving = kept.join(format!("{artifact}-{version}.{}.part", std::process::id()));
    fs::copy(directory.path().join(jar.file_name().unwrap_or_default()), &arriving)?;
    fs::rename(arriving, &jar)?;
    Ok(jar)
}

/// All message schemas in a jar, by file name.
pub(crate) fn schemas(jar: &Path) -> Result<Vec<Schema>> {
    let directory = Scratch::new()?;
    run(Command::new("jar").arg("xf").arg(jar).arg("common/message").current_dir(directory.path()))?;
    let mut files: Vec<PathBuf> = fs::read_dir(directory.path().join("common/message"))
        .context("no schemas in the jar")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let json = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    json.map(|path| Schema::parse(&fs::read_to_string(path)?)).collect()
}

/// A directory of our own, removed on drop.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("milena-gen-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
        Ok(Self(directory))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a command to its end; its failure is ours, with what it said.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(
        output.status.success(),
        "{program}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&said).trim_end()
    );
    Ok(())
}
