//! The state of a cluster between two commands: a small file beside its data. This file owns its format, the claims of
//! names, and the removal of the files of dead clusters.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::{node, process};

/// The content of a cluster's state file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) version: String,
    pub(super) bootstrap: String,
    pub(super) pids: Vec<u32>,
}

impl State {
    pub(super) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let file = dir.join(FILE);
        fs::write(&file, self.to_text()).with_context(|| format!("writing {}", file.display()))
    }

    /// The cluster in that folder, if there is one.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        Self::from_text(&fs::read_to_string(dir.join(FILE)).ok()?)
    }

    /// How many of its processes run.
    pub(super) fn alive(&self, dir: &Path) -> usize {
        let mark = |index: usize| node::config_path(dir, index + 1).to_string_lossy().into_owned();
        self.pids.iter().enumerate().filter(|(index, pid)| process::is_ours(**pid, &mark(*index))).count()
    }

    fn to_text(&self) -> String {
        let mut text = format!("version={}\nbootstrap={}\n", self.version, self.bootstrap);
        for pid in &self.pids {
            text += &format!("pid={pid}\n");
        }
        text
    }

    fn from_text(text: &str) -> Option<Self> {
        let mut state = Self { version: String::new(), bootstrap: String::new(), pids: Vec::new() };
        for line in text.lines() {
            match line.split_once('=')? {
                ("version", version) => state.version = version.into(),
                ("bootstrap", bootstrap) => state.bootstrap = bootstrap.into(),
                ("pid", pid) => state.pids.push(pid.parse().ok()?),
                _ => return None,
            }
        }
        (!state.bootstrap.is_empty()).then_some(state)
    }
}

/// The names and states of all clusters, ordered by name.
pub(super) fn all() -> Vec<(String, State)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(super::clusters()).into_iter().flatten().flatten() {
        if let Some(state) = State::read(&entry.path()) {
            found.push((entry.file_name().to_string_lossy().into_owned(), state));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

/// The right to start a cluster of one name. No other process gets it until this is dropped or its owner ends.
#[derive(Debug)]
pub(super) struct Claim {
    _lock: fs::File,
}

/// Claims `name` for a cluster that is about to be started.
///
/// # Errors
/// A cluster of that name runs, or is being started.
pub(super) fn claim(name: &str) -> anyhow::Result<Claim> {
    let dir = super::clusters();
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let _registry = registry()?;
    sweep();
    if let Some(state) = State::read(&dir.join(name)) {
        bail!("cluster {name} runs already, at {}", state.bootstrap);
    }
    match try_claim(name)? {
        Some(claim) => Ok(claim),
        None => bail!("cluster {name} is being started by another command"),
    }
}

/// Removes the files of dead clusters. When a test program is killed, its brokers end, but their files stay.
fn sweep() {
    for entry in fs::read_dir(super::clusters()).into_iter().flatten().flatten() {
        let lock = entry.path();
        let name = lock.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let locked = lock.extension().is_some_and(|extension| extension == "lock");
        if !locked || name.is_empty() || !matches!(try_claim(&name), Ok(Some(_))) {
            continue;
        }
        let dir = super::clusters().join(&name);
        if State::read(&dir).is_none_or(|state| state.alive(&dir) == 0) {
            let _ = fs::remove_dir_all(&dir);
            let _ = fs::remove_file(&lock);
        }
    }
}

/// Serialises claims and removals, so that a lock file is not removed while another process claims it.
fn registry() -> anyhow::Result<fs::File> {
    let file = fs::File::create(super::home().join("registry"))?;
    file.lock()?;
    Ok(file)
}

fn try_claim(name: &str) -> anyhow::Result<Option<Claim>> {
    let file = fs::File::create(super::clusters().join(format!("{name}.lock")))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Claim { _lock: file })),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

const FILE: &str = "cluster";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let state =
            State { version: "4.4.0".into(), bootstrap: "127.0.0.1:1,127.0.0.1:2".into(), pids: vec![1, 22] };
        assert_eq!(State::from_text(&state.to_text()), Some(state));
    }

    #[test]
    fn half_a_state_is_none() {
        for text in
            ["", "version=4.4.0\n", "version=4.4.0\nbootstrap=a:1\npid=x", "garbage", "bootstrap=a\nother=1"]
        {
            assert_eq!(State::from_text(text), None, "{text:?}");
        }
    }
}
