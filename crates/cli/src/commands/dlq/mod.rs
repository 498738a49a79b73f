//! `milena dlq`: finds, shows, counts, replays and deletes dead letters, whoever wrote them.
//!
//! ```text
//!  reader: the records of spans of partitions ─▶ selection: which letters ─▶ ls, show, stats, replay, purge
//! ```

mod ls;
mod purge;
mod reader;
mod replay;
mod selection;
mod show;
mod stats;

use clap::Subcommand;

pub(crate) use self::replay::redrive;

use crate::cluster::Cluster;
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::units::Count;

/// Find, show, count, replay and delete dead letters: those of Spring, Connect, Streams, share groups, SmallRye, Karafka,
/// Watermill and of Milena's pipelines.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the topics that have dead letters, by their names and their newest records
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Show dead letters with their origin, error, key and value
    Show(show::Args),
    /// Count dead letters by error, origin, hour and key
    Stats(stats::Args),
    /// Write dead letters to where they came from, each once
    Replay(replay::Args),
    /// Delete the oldest dead letters. Shows the plan; only --yes changes something
    Purge(purge::Args),
}

impl Args {
    /// The cluster that the command takes something away from, and what.
    pub(crate) fn destroys(&self) -> Option<(&Cluster, &'static str)> {
        match &self.command {
            Command::Purge(args) if args.changes() => Some((&args.cluster, "deletes dead letters")),
            Command::Ls(_)
            | Command::Show(_)
            | Command::Stats(_)
            | Command::Replay(_)
            | Command::Purge(_) => None,
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    match args.command {
        Command::Ls(args) => interrupt.or(ls::run(args)).await,
        Command::Show(args) => interrupt.or(show::run(args)).await,
        Command::Stats(args) => interrupt.or(stats::run(args)).await,
        Command::Replay(args) => replay::run(args, interrupt).await,
        Command::Purge(args) => interrupt.or(purge::run(args)).await,
    }
}

/// The name of a replay, its group and its transactional id, unless `--as` gives another.
pub(crate) fn replay_name(topic: &str, given: Option<&str>) -> String {
    given.map_or_else(|| format!("milena-dlq-replay-{topic}"), str::to_owned)
}

/// As `1 letter` or `2 000 letters`.
fn letters(count: u64) -> String {
    if count == 1 { "1 letter".into() } else { format!("{} letters", Count(count)) }
}

/// Milliseconds since the epoch as a date.
fn date(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

/// Bytes as a text on one line, cut after `chars_max`.
fn preview(bytes: Option<&[u8]>, chars_max: usize) -> String {
    let Some(bytes) = bytes else { return "null".into() };
    // Spring's numbers, for example.
    if bytes.len() <= 16 && (bytes.contains(&0) || std::str::from_utf8(bytes).is_err()) {
        return bytes.iter().fold("0x".into(), |text, byte| format!("{text}{byte:02x}"));
    }
    // A character has four bytes at most, so that what is cut here would be cut below.
    let head = &bytes[..bytes.len().min(chars_max.saturating_mul(4).saturating_add(4))];
    one_line(&String::from_utf8_lossy(head), chars_max)
}

/// A text on one line, cut after `chars_max`. It comes from others, and must not move the terminal's cursor.
fn one_line(text: &str, chars_max: usize) -> String {
    let mut line = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == chars_max {
            line.push('…');
            break;
        }
        match c {
            '\n' => line.push_str("\\n"),
            '\t' => line.push(' '),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}
