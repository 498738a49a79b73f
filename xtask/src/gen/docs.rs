//! Our own sentences for fields and messages, kept in `docs.txt` and laid over the schemas.
//!
//! ```text
//! FetchRequest.MaxWaitMs: How long the broker may wait …      a field, by its path in the schema
//! FetchRequest: …                                             a message
//! *.ThrottleTimeMs: …                                         every field of that name without its own entry
//! ```
//!
//! Lines that start with a space continue the entry above them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

/// The overlay, and which of its entries were used.
pub(crate) struct Docs {
    entries: BTreeMap<String, String>,
    used: BTreeSet<String>,
}

impl Docs {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut entries: BTreeMap<String, String> = BTreeMap::new();
        let mut last = String::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if line.starts_with(' ') {
                let entry = entries.get_mut(&last).context("a continuation of nothing")?;
                *entry = format!("{entry} {}", line.trim());
                continue;
            }
            let (path, sentence) = line.split_once(": ").with_context(|| format!("no sentence: {line:?}"))?;
            last = path.to_owned();
            let before = entries.insert(last.clone(), sentence.trim().to_owned());
            ensure!(before.is_none(), "{path} is documented twice");
        }
        Ok(Self { entries, used: BTreeSet::new() })
    }

    /// The sentences for a message.
    pub(crate) fn message(&mut self, name: &str) -> Option<&str> {
        self.take(name)
    }

    /// The sentences for the field at `path`: its own, or those for every field of its name.
    pub(crate) fn field(&mut self, path: &str) -> Option<&str> {
        if self.entries.contains_key(path) {
            return self.take(path);
        }
        let name = path.rsplit('.').next().unwrap_or(path);
        self.take(&format!("*.{name}"))
    }

    fn take(&mut self, entry: &str) -> Option<&str> {
        let (key, sentences) = self.entries.get_key_value(entry)?;
        self.used.insert(key.clone());
        Some(sentences)
    }

    /// Fails when an entry names nothing that exists: it was misspelt, or the schema moved on.
    pub(crate) fn check_all_used(&self) -> Result<()> {
        let unused: Vec<&String> = self.entries.keys().filter(|path| !self.used.contains(*path)).collect();
        ensure!(unused.is_empty(), "docs.txt: nothing is called {unused:?}");
        Ok(())
    }
}
