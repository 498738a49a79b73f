//! What `cargo xtask crashes` runs.

use std::process::ExitCode;

use lexopt::{Arg, ValueExt as _};
use milena_interop::brokers::{Brokers, Setting};
use milena_interop::crashes::{self, Plan, SESSION};

fn main() -> anyhow::Result<ExitCode> {
    let mut setting = Setting { session: SESSION, ..Setting::default() };
    let protocol = "consumer".into();
    let mut plan = Plan { protocol, records: 40_000, after_commits: 2, in_the_middle: 2, seed: 0 };
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("target") => setting.is_kafka = args.value()?.parse_with(Setting::is_kafka)?,
            Arg::Long("protocol") => plan.protocol = args.value()?.string()?,
            Arg::Long("records") => plan.records = args.value()?.parse()?,
            Arg::Long("after-commits") => plan.after_commits = args.value()?.parse()?,
            Arg::Long("in-the-middle") => plan.in_the_middle = args.value()?.parse()?,
            Arg::Long("seed") => plan.seed = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let brokers = Brokers::start(setting)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(crashes::run(&brokers.bootstrap(), "crashes", &plan))?;
    print!("{}", report.text);
    Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
