//! What `cargo xtask kills` runs.

use std::process::ExitCode;
use std::time::Duration;

use lexopt::{Arg, ValueExt as _};
use milena_interop::brokers::{Brokers, Setting};
use milena_interop::kills::{self, Plan};

fn main() -> anyhow::Result<ExitCode> {
    let mut setting = Setting::default();
    let mut plan = Plan {
        records: 2_000_000,
        rate: 5000,
        kills: 20,
        is_transactional: false,
        partitions: 12,
        away: Duration::from_secs(4),
        seed: 0,
    };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("target") => setting.is_kafka = args.value()?.parse_with(Setting::is_kafka)?,
            Arg::Long("transaction-version") => setting.transaction_version = args.value()?.parse()?,
            Arg::Long("records") => plan.records = args.value()?.parse()?,
            Arg::Long("rate") => plan.rate = args.value()?.parse()?,
            Arg::Long("kills") => plan.kills = args.value()?.parse()?,
            Arg::Long("seed") => plan.seed = args.value()?.parse()?,
            Arg::Long("transactions") => plan.is_transactional = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let report = kills::run(&mut Brokers::start(setting)?, "kills", &plan)?;
    print!("{}", report.text);
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
