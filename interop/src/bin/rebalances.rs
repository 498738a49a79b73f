//! What `cargo xtask rebalances` runs.

use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, ValueExt as _};
use milena_interop::brokers::{Brokers, Setting};
use milena_interop::rebalances::{self, Plan, Way};

fn main() -> anyhow::Result<ExitCode> {
    // No member is silent here, so no session has to end, however slow the machine is.
    let (session, heartbeat) = (Duration::from_secs(45), Duration::from_millis(300));
    let mut setting = Setting { session, heartbeat, ..Setting::default() };
    let mut plan = Plan {
        changes: 500,
        rate: 1000,
        way: Way::Consumer,
        drain: Duration::from_secs(10),
        hurries: false,
        seed: 0,
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("target") => setting.is_kafka = args.value()?.parse_with(Setting::is_kafka)?,
            Arg::Long("protocol") => plan.way = args.value()?.parse_with(Way::of)?,
            Arg::Long("changes") => plan.changes = args.value()?.parse()?,
            Arg::Long("rate") => plan.rate = args.value()?.parse()?,
            Arg::Long("drain") => plan.drain = Duration::from_millis(args.value()?.parse()?),
            Arg::Long("hurry") => plan.hurries = true,
            Arg::Long("seed") => plan.seed = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let brokers = Brokers::start(setting)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(rebalances::run(&brokers.bootstrap(), "rebalances", &plan))?;
    print!("{}", report.text);
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
