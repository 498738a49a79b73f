//! What `cargo xtask tokens` runs.

use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, ValueExt as _};
use milena_interop::brokers::Setting;
use milena_interop::tokens::{self, Plan, Target};

fn main() -> anyhow::Result<ExitCode> {
    let seconds = Duration::from_secs;
    let mut plan = Plan { time: seconds(20 * 60), rate: 50_000, lifetime: seconds(60), partitions: 6 };
    let mut is_kafka = true;
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("target") => is_kafka = args.value()?.parse_with(Setting::is_kafka)?,
            Arg::Long("seconds") => plan.time = seconds(args.value()?.parse()?),
            Arg::Long("rate") => plan.rate = args.value()?.parse()?,
            Arg::Long("lifetime") => plan.lifetime = seconds(args.value()?.parse()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let target = Target::start(is_kafka, plan.lifetime)?;
    let report = tokens::run(&target.bootstrap(), &plan)?;
    print!("{}", report.text);
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
