//! Schemas out of Kafka's jars, which Maven fetches (and keeps).

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::schema::Schema;

/// A jar from Maven's local repository, fetched on first use.
pub(crate) fn fetch(group: &str, artifact: &str, release: &str) -> Result<PathBuf> {
    let jar = repository()?
        .join(group.replace('.', "/"))
        .join(artifact)
        .join(release)
        .join(format!("{artifact}-{release}.jar"));
    if !jar.exists() {
        run(Command::new("mvn").args([
            "--batch-mode",
            "--quiet",
            "dependency:get",
            "-Dtransitive=false",
            &format!("-Dartifact={group}:{artifact}:{release}"),
        ]))?;
    }
    ensure!(jar.exists(), "Maven did not leave {}", jar.display());
    Ok(jar)
}

/// All message schemas in a jar, by file name.
pub(crate) fn schemas(jar: &Path) -> Result<Vec<Schema>> {
    let directory = scratch()?;
    run(Command::new("jar").arg("xf").arg(jar).arg("common/message").current_dir(&directory))?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory.join("common/message"))
        .context("no schemas in the jar")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let json = files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let schemas = json.map(|path| Schema::parse(&std::fs::read_to_string(path)?)).collect();
    std::fs::remove_dir_all(&directory)?;
    schemas
}

/// A new empty directory.
pub(crate) fn scratch() -> Result<PathBuf> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("milena-gen-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    Ok(directory)
}

/// Runs a command to its end; its failure is ours.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    ensure!(status.success(), "{:?}: {status}", command.get_program());
    Ok(())
}

fn repository() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".m2/repository"))
}
