//! The driver of Milena. Each mode is written as an application would be.

mod churn;
mod consume;
mod flip;
mod follow;
mod gaps;
mod paced;
mod pipeline;
mod process;
mod produce;
mod rebalance;
mod resume;
mod stopped;

use std::fs;
use std::path::Path;
use std::time::Duration;

use milena::metrics::Registry;
use milena::{Client, Error, Tls};
use tokio::runtime::{Builder, Runtime};

use crate::options::{Acks, Failure, Options};
use crate::outcome::Outcome;

/// Runs one mode.
pub(crate) fn run(options: &Options) -> Result<Outcome, Failure> {
    let runtime = runtime(options).map_err(|error| Failure::Failed(error.to_string()))?;
    runtime.block_on(async {
        match options.mode.as_str() {
            "produce" => produce::run(options).await,
            "send" => produce::send(options).await,
            "pace" => paced::pace(options).await,
            "process" => process::run(options).await,
            "pipeline" => pipeline::run(options).await,
            "consume" => consume::run(&options.with_fetch_sizes()).await,
            "gaps" => gaps::run(options).await,
            "rebalance" => rebalance::run(options).await,
            "stopped" => stopped::run(options).await,
            "latency" => paced::latency(options).await,
            "flip" => flip::run(options).await,
            "resume" => resume::run(options).await,
            "follow" => follow::run(options).await,
            "write" => paced::write(options).await,
            "churn" => churn::run(options).await,
            mode => Err(Failure::Usage(format!("no mode is called {mode:?}"))),
        }
    })
}

/// The runtime: on the main thread, as in the examples, unless an option asks for worker threads.
fn runtime(options: &Options) -> std::io::Result<Runtime> {
    match options.threads {
        None => Builder::new_current_thread().enable_all().build(),
        Some(threads) => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

/// The client's version and, if it is known, the commit from which it is built.
pub(crate) fn version() -> String {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let text = fs::read_to_string(manifest).unwrap_or_default();
    let version = text.lines().find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
    version.unwrap_or("unknown").to_owned()
}

async fn connect(options: &Options) -> Result<Client, Failure> {
    let mut client = Client::builder().bootstrap(&options.bootstrap);
    if let Some(authority) = &options.authority {
        client = client.tls(Tls::roots_from_file(authority));
    }
    if options.metrics {
        client = client.metrics(&Registry::new());
    }
    Ok(client.connect().await?)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

fn acks(options: &Options) -> milena::Acks {
    match options.acks {
        Acks::All => milena::Acks::All,
        Acks::Leader => milena::Acks::Leader,
    }
}

fn linger(options: &Options) -> Duration {
    Duration::from_millis(options.linger_ms)
}
