//! What `cargo xtask hops` runs.

use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, ValueExt as _};
use milena_interop::brokers::{Brokers, Setting};
use milena_interop::hops::{self, Plan};

fn main() -> anyhow::Result<ExitCode> {
    let mut setting = Setting::default();
    let mut plan = Plan {
        records: 500_000,
        rate: 3000,
        partitions: 6,
        protocol: "classic".into(),
        session: setting.session,
        heartbeat: setting.heartbeat,
        pause: Duration::from_millis(1500),
        seed: 0,
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("target") => setting.is_kafka = args.value()?.parse_with(Setting::is_kafka)?,
            Arg::Long("transaction-version") => setting.transaction_version = args.value()?.parse()?,
            Arg::Long("protocol") => plan.protocol = args.value()?.parse_with(hops::protocol)?,
            Arg::Long("records") => plan.records = args.value()?.parse()?,
            Arg::Long("rate") => plan.rate = args.value()?.parse()?,
            Arg::Long("seed") => plan.seed = args.value()?.parse()?,
            Arg::Long("pause") => plan.pause = Duration::from_millis(args.value()?.parse()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let brokers = Brokers::start(setting)?;
    let report = hops::run(&brokers.bootstrap(), "hops", &plan)?;
    print!("{}", report.text);
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
