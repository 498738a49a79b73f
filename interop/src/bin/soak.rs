//! What `cargo xtask soak` runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use lexopt::{Arg, ValueExt as _};
use milena_interop::brokers::{Brokers, Setting};
use milena_interop::soak::{self, Plan};

fn main() -> anyhow::Result<ExitCode> {
    let mut setting = Setting { is_kafka: true, ..Setting::default() };
    let (mut minutes, mut window, mut rate) = (30.0, 30.0, 2000);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("target") => setting.is_kafka = args.value()?.parse_with(Setting::is_kafka)?,
            Arg::Long("minutes") => minutes = args.value()?.parse()?,
            Arg::Long("window") => window = args.value()?.parse()?,
            Arg::Long("rate") => rate = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let plan = Plan {
        time: Duration::try_from_secs_f64(minutes * 60.0)?,
        window: Duration::try_from_secs_f64(window)?,
        rate,
    };
    soak::check(&plan)?;
    let brokers = Brokers::start(setting)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(soak::run(&brokers.bootstrap(), "soak", &plan))?;
    print!("{}", report.text);
    if !report.faults.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if report.rate_percent_min < 95 || (setting.is_kafka && report.memory_growth_percent > 10) {
        bail!("the records without faults did not keep their rate, or memory grew");
    }
    Ok(ExitCode::SUCCESS)
}
