//! `milena tune`: answers that are measured on the user's own records.

mod codec;
mod file;
mod format_report;
mod formats;
mod measure;
mod report;
mod sample;
mod topic;

use clap::Subcommand;

use crate::exit::Failure;
use crate::interrupt::Interrupt;

/// Find good settings by measuring them on your own records
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Compare codecs, levels and formats on the records of a topic or a file, and choose
    Codec(codec::Args),
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    match args.action {
        Action::Codec(args) => codec::run(&args, interrupt).await,
    }
}
