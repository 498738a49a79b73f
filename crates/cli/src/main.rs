//! The `milena` binary: reads the command line, runs one command, ends with its exit code.
//!
//! The crate is a set of thin commands over pure parts: what is parsed, formatted, verified and reported lives in
//! modules that do no I/O ([`offsets`], [`format`], [`json`], `demo::ledger`), and the commands only connect them to
//! the client. Nothing here knows the protocol.
#![allow(dead_code)]

mod args;
mod commands;
mod demo;
mod escape;
mod exit;
mod format;
mod input;
mod interrupt;
mod json;
mod memory;
mod offsets;
mod output;
mod progress;
mod units;
mod view;

use clap::Parser as _;

fn main() {
    let _ = args::Cli::parse();
}
