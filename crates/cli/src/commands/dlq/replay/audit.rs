//! `--audit`: a file that says of each letter what became of it.
//!
//! A line is a JSON object with `at` and `event`. The lines of a transaction's letters are on the disk before it is committed, and
//! the line that says so after that. If the process ends between the two, the next replay's `begin` tells: it has the positions
//! that are committed, and what is below or among them was written.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use jiff::Timestamp;
use milena::{Receipt, SharedRecord};
use serde_json::{Value, json};

use crate::exit::Failure;

/// The file, if there is one.
pub(super) struct Audit {
    file: Option<(File, String)>,
    lines: String,
}

impl Audit {
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let open = |path: &Path| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let name = path.display().to_string();
            let file = file.map_err(|error| Failure::failed(format!("cannot open {name}: {error}")));
            Ok::<_, Failure>((file?, name))
        };
        Ok(Self { file: path.map(open).transpose()?, lines: String::new() })
    }

    pub(super) fn is_on(&self) -> bool {
        self.file.is_some()
    }

    /// Adds a line, which [`sync`](Self::sync) writes. `fields` is an object.
    pub(super) fn note(&mut self, event: &str, fields: Value) {
        if !self.is_on() {
            return;
        }
        let mut line = json!({ "at": Timestamp::now().to_string(), "event": event });
        if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
            line.extend(fields);
        }
        self.lines += &line.to_string();
        self.lines.push('\n');
    }

    /// Returns when all lines are on the disk.
    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        let Some((file, name)) = &mut self.file else { return Ok(()) };
        let written = file.write_all(self.lines.as_bytes()).and_then(|()| file.sync_data());
        self.lines.clear();
        written.map_err(|error| Failure::failed(format!("cannot write to {name}: {error}")))
    }

    /// Forgets the lines that were not written.
    pub(super) fn forget(&mut self) {
        self.lines.clear();
    }
}

/// A letter's place.
pub(super) fn from(letter: &SharedRecord) -> Value {
    json!({ "topic": letter.topic(), "partition": letter.partition(), "offset": letter.offset() })
}

/// A written record's place.
pub(super) fn to(receipt: &Receipt) -> Value {
    json!({ "topic": receipt.topic(), "partition": receipt.partition(), "offset": receipt.offset() })
}
