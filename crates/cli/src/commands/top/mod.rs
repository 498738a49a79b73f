//! `milena top`: groups by lag and rate, topics and hot partitions, live in the terminal.
//!
//! ```text
//!  Exporter (looks at the cluster each interval) ─▶ Facts ─▶ Sight (rows.rs, pure) ─▶ screen.rs, or JSON once
//!  a thread that reads keys ─▶ View (screen.rs) ─────────────────────────────────────▲
//! ```

mod rows;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::ValueEnum;
use milena_observe::exporter::{Exporter, Plan};
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::sync::mpsc;

use self::rows::Sight;
use self::screen::{Answer, View};
use crate::cluster::{Cluster, seconds};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};

const HELP: &str = "\
Keys: Tab or 1 2 3 for groups, topics and hot partitions; l r n to sort by lag, rate or name;
arrows and PageUp, PageDown to scroll; q to end.

Examples:
  milena top                       every 2 seconds
  milena top -o json | jq .groups  looks twice, and writes what is seen once";

/// Show groups by lag and rate, topics and hot partitions, live.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Look each SECONDS
    #[arg(short, long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    interval: Duration,

    /// Kafka's internal topics too
    #[arg(long)]
    internal: bool,

    /// Write it once, after two looks
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,

    /// The same as -o json
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// One JSON object
    Json,
}

/// Runs the command.
pub(crate) async fn run(args: Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let is_once = args.json || args.output.is_some();
    let has_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !is_once && !has_terminal {
        return Err(Failure::usage("top needs a terminal; -o json writes what is seen once"));
    }
    let connected = interrupt.or(args.cluster.connect()).await?;
    let plan = Plan { interval: args.interval, internal: args.internal, ..Plan::default() };
    let exporter = Exporter::new(connected.client, plan);
    if is_once {
        return interrupt.or(once(&exporter, args.interval)).await;
    }
    interrupt.or(live(&exporter, args.interval)).await
}

async fn once(exporter: &Exporter, interval: Duration) -> Result<(), Failure> {
    exporter.look().await?;
    let before = exporter.facts();
    tokio::time::sleep(interval).await;
    exporter.look().await?;
    write_out(&(to_json(&Sight::new(&exporter.facts(), Some(&before)))? + "\n"))
}

/// Gives the terminal back, however it ends.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Until the user ends it.
async fn live(exporter: &Exporter, interval: Duration) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::failed(format!("cannot use the terminal: {error}"));
    // The first look is before the screen is taken, so that its error stays readable.
    exporter.look().await?;
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let _restore = Restore;
    let mut keys = keys();
    let mut view = View::default();
    let mut sight = Sight::new(&exporter.facts(), None);
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        terminal.draw(|frame| screen::draw(frame, &sight, &mut view)).map_err(failed)?;
        tokio::select! {
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if view.key(key) == Answer::End {
                        return Ok(());
                    }
                }
                Some(_) => {}
                None => return Ok(()),
            },
            _ = tick.tick() => {
                let before = exporter.facts();
                match exporter.look().await {
                    Ok(()) => {
                        sight = Sight::new(&exporter.facts(), Some(&before));
                        view.trouble = None;
                    }
                    Err(error) => view.trouble = Some(error.to_string()),
                }
            }
        }
    }
}

/// A thread reads the terminal, because that blocks. It ends with the process.
fn keys() -> mpsc::Receiver<Event> {
    let (send, receive) = mpsc::channel(64);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if send.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receive
}
