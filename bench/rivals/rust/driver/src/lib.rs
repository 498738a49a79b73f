//! What the drivers of other clients share: arguments, the shape of every mode, latencies, counted allocations, the
//! line of results. A driver is one [`Client`]; this crate must not know which.
//!
//! ```text
//! arguments ──▶ Job ──▶ modes (produce, send, pace, consume, latency) ──▶ Outcome ──▶ one line of JSON
//!                          │  asks a Client for a Producer, a Consumer, or to produce at its best
//! ```

mod allocations;
mod arguments;
mod client;
mod deliveries;
mod kafka_names;
mod latencies;
mod modes;
mod outcome;
mod payload;
mod reading;
mod schedule;
mod version;

use std::process::ExitCode;

pub use arguments::{Acks, Codec, Consume, Fetching, Job, Producing, Work};
pub use client::{Client, Consumer, Producer, Settings};
pub use deliveries::Deliveries;
pub use outcome::{Measured, Measuring, Results, Unsupported};
pub use payload::{Lines, Record, Records};
pub use reading::Sink;

/// The whole of a driver's `main`: 0 with a line of results, 1 for a failure, 2 for arguments that make no sense,
/// 3 for an option that the client cannot honour.
pub fn run<C: Client>() -> ExitCode {
    let job = match arguments::parse() {
        Ok(job) => job,
        Err(error) => return fail(&error, 2),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into(), 1),
    };
    match runtime.block_on(modes::run::<C>(&job)) {
        Ok(outcome) => {
            println!("{}", outcome.line(C::NAME, &version::of::<C>(), job.work.name()));
            ExitCode::SUCCESS
        }
        Err(error) if error.is::<Unsupported>() => fail(&error, 3),
        Err(error) => fail(&error, 1),
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("{error:#}");
    ExitCode::from(code)
}
