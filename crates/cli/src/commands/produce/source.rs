//! What `milena produce` reads: stdin or files, once or again and again, cut into records.
//!
//! A thread of its own reads, because a read from a pipe or a terminal cannot be cancelled. One block is sent while the next
//! one is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, thread};

use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};
use crate::input::{Block, Cutter};

/// The bytes of inputs other than files that `--repeat` keeps to send them again.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Where a record is in the input: which file, and which line or record of it, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) number: u64,
}

/// How often the input is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounds {
    Times(u64),
    Forever,
}

/// Reads `--repeat`.
pub(crate) fn rounds(text: &str) -> Result<Rounds, String> {
    match text {
        "forever" => Ok(Rounds::Forever),
        _ => match text.parse() {
            Ok(times) if times > 0 => Ok(Rounds::Times(times)),
            _ => Err("write how often, from 1, or forever".into()),
        },
    }
}

impl Rounds {
    fn has(self, round: u64) -> bool {
        match self {
            Self::Times(times) => round < times,
            Self::Forever => true,
        }
    }
}

/// The inputs, by name; - is stdin.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) files: Vec<PathBuf>,
    pub(super) rounds: Rounds,
    pub(super) delimiter: Vec<u8>,
    /// The most bytes of a record in the input.
    pub(super) text_bytes_max: usize,
}

/// A block of the file of this index.
pub(super) type Chunk = (usize, Arc<Block>);

impl Source {
    /// Fails if an input cannot be read, before anything is sent. Named pipes are not opened: that would wait for their writers.
    pub(super) fn check(&self) -> Result<(), Failure> {
        for file in self.files.iter().filter(|file| !is_stdin(file)) {
            let metadata = file.metadata().map_err(|error| cannot_read(file, &error))?;
            if metadata.is_dir() {
                return Err(Failure::usage(format!("cannot read {}: it is a directory", file.display())));
            }
            if metadata.is_file() {
                File::open(file).map_err(|error| cannot_read(file, &error))?;
            }
        }
        Ok(())
    }

    /// Names a place. With one input the number is enough.
    pub(super) fn name(&self, places: impl fmt::Display, file: usize, is_one: bool) -> String {
        let lines = if is_one { "line" } else { "lines" };
        match self.files.get(file).filter(|_| self.files.len() > 1) {
            Some(path) => format!("{} {lines} {places}", path.display()),
            None => format!("{lines} {places}"),
        }
    }

    /// Starts to read.
    pub(super) fn read(self) -> mpsc::Receiver<Result<Chunk, Failure>> {
        let (send, chunks) = mpsc::channel(1);
        thread::spawn(move || {
            let ended = self.read_rounds(&mut |chunk| send.blocking_send(Ok(chunk)).is_ok());
            if let Err(failure) = ended {
                // Without a receiver nobody sends any more.
                let _ = send.blocking_send(Err(failure));
            }
        });
        chunks
    }

    /// Gives each block to `take` until that says that it takes no more.
    fn read_rounds(&self, take: &mut dyn FnMut(Chunk) -> bool) -> Result<(), Failure> {
        // What cannot be read again is kept for the next rounds.
        let is_kept = |file: &Path| is_stdin(file) || !file.is_file();
        let repeats = self.rounds.has(1);
        let mut kept: Vec<Vec<Arc<Block>>> = vec![Vec::new(); self.files.len()];
        let mut kept_bytes = 0;
        let mut round = 0;
        while self.rounds.has(round) {
            let mut is_empty = true;
            for (index, file) in self.files.iter().enumerate() {
                if round > 0 && is_kept(file) {
                    for block in &kept[index] {
                        is_empty = false;
                        if !take((index, Arc::clone(block))) {
                            return Ok(());
                        }
                    }
                    continue;
                }
                let mut cutter = Cutter::new(open(file)?, &self.delimiter, self.text_bytes_max);
                while let Some(block) = cutter.next_block().map_err(|error| self.failed(index, &error))? {
                    is_empty = false;
                    let block = Arc::new(block);
                    if repeats && is_kept(file) {
                        kept_bytes += block.bytes();
                        if kept_bytes > KEPT_BYTES_MAX {
                            let most = KEPT_BYTES_MAX >> 20;
                            return Err(Failure::usage(format!(
                                "--repeat keeps at most {most} MiB of an input that is not a file"
                            )));
                        }
                        kept[index].push(Arc::clone(&block));
                    }
                    if !take((index, block)) {
                        return Ok(());
                    }
                }
            }
            if is_empty {
                break;
            }
            round += 1;
        }
        Ok(())
    }

    fn failed(&self, file: usize, error: &io::Error) -> Failure {
        let path = &self.files[file];
        match error.kind() {
            // The error names the line.
            io::ErrorKind::InvalidData if self.files.len() > 1 => {
                Failure::usage(format!("{} {error}", path.display()))
            }
            io::ErrorKind::InvalidData => Failure::usage(error.to_string()),
            _ if is_stdin(path) => Failure::failed(format!("cannot read the input: {error}")),
            _ => Failure::failed(format!("cannot read {}: {error}", path.display())),
        }
    }
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn open(file: &Path) -> Result<Box<dyn Read + Send>, Failure> {
    if is_stdin(file) {
        return Ok(Box::new(io::stdin()));
    }
    let opened = File::open(file).map_err(|error| cannot_read(file, &error))?;
    Ok(Box::new(opened))
}

fn cannot_read(file: &Path, error: &io::Error) -> Failure {
    let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
    Failure::new(exit, format!("cannot read {}: {error}", file.display()))
}

/// Records one by one, of the blocks that come.
pub(super) struct Pieces {
    chunks: mpsc::Receiver<Result<Chunk, Failure>>,
    chunk: Option<Chunk>,
    /// Where the next record begins in the block, and its number.
    at: usize,
    number: u64,
}

impl Pieces {
    pub(super) fn new(chunks: mpsc::Receiver<Result<Chunk, Failure>>) -> Self {
        Self { chunks, chunk: None, at: 0, number: 0 }
    }

    /// Waits until there is a record; false at the end of the input. Cancel safe.
    pub(super) async fn ready(&mut self) -> Result<bool, Failure> {
        loop {
            if let Some((_, block)) = &self.chunk {
                if block.has_record_at(self.at) {
                    return Ok(true);
                }
                self.chunk = None;
            }
            let Some(chunk) = self.chunks.recv().await.transpose()? else { return Ok(false) };
            (self.at, self.number) = (0, chunk.1.first_number());
            self.chunk = Some(chunk);
        }
    }

    /// The next record, if one is ready.
    pub(super) fn take(&mut self) -> Option<(Place, &[u8])> {
        let (file, block) = self.chunk.as_ref()?;
        let (record, next) = block.record_at(self.at)?;
        let place = Place { file: *file, number: self.number };
        (self.at, self.number) = (next, self.number + 1);
        Some((place, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(files: Vec<PathBuf>, rounds: Rounds) -> Source {
        Source { files, rounds, delimiter: b"\n".to_vec(), text_bytes_max: 1000 }
    }

    /// The records that `source` gives, each with its file and number, up to `most`.
    fn records(source: &Source, most: usize) -> Vec<(usize, u64, String)> {
        let mut records = Vec::new();
        let mut take = |(file, block): Chunk| {
            records.extend(
                block.records().map(|(number, r)| (file, number, String::from_utf8_lossy(r).into_owned())),
            );
            records.len() < most
        };
        source.read_rounds(&mut take).expect("read");
        records
    }

    #[test]
    fn files_are_read_in_turn_and_again() {
        let directory = tempfile::tempdir().expect("made");
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        std::fs::write(&paths[0], "1\n2\n").expect("written");
        std::fs::write(&paths[1], "3").expect("written");
        let twice = source(paths.to_vec(), Rounds::Times(2));
        let round = [(0, 1, "1".to_owned()), (0, 2, "2".to_owned()), (1, 1, "3".to_owned())];
        assert_eq!(records(&twice, usize::MAX), [&round[..], &round].concat());
        assert_eq!(records(&source(paths.to_vec(), Rounds::Forever), 100).len(), 101);
        assert_eq!(twice.name(2, 1, true), format!("{} line 2", paths[1].display()));
        assert_eq!(source(vec!["-".into()], Rounds::Times(1)).name("2-3", 0, false), "lines 2-3");
    }

    #[test]
    fn an_empty_input_ends_though_it_is_repeated_forever() {
        assert_eq!(records(&source(vec!["/dev/null".into()], Rounds::Forever), 1), []);
    }

    #[test]
    fn what_cannot_be_read_is_named_before_anything_is_sent() {
        let check = |file: &str| source(vec![file.into()], Rounds::Times(1)).check().expect_err(file);
        assert!(check("/").to_string().contains("directory"));
        assert_eq!(check("/no/such/file").exit(), Exit::NotFound);
    }

    #[test]
    fn rounds_are_a_number_or_forever() {
        assert_eq!((rounds("3"), rounds("forever")), (Ok(Rounds::Times(3)), Ok(Rounds::Forever)));
        for text in ["0", "-1", "", "x"] {
            assert!(rounds(text).is_err(), "{text}");
        }
    }
}
