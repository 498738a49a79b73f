//! What `cargo xtask registry-outage` runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use lexopt::{Arg, ValueExt as _};
use milena_interop::outage::{self, Plan};

fn main() -> anyhow::Result<ExitCode> {
    let (mut seconds, mut window, mut rate, mut unknown_every) = (60.0, 5.0, 2000, 100);
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("seconds") => seconds = args.value()?.parse()?,
            Arg::Long("window") => window = args.value()?.parse()?,
            Arg::Long("rate") => rate = args.value()?.parse()?,
            Arg::Long("unknown-every") => unknown_every = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    let plan = Plan {
        time: Duration::try_from_secs_f64(seconds)?,
        window: Duration::try_from_secs_f64(window)?,
        rate,
        unknown_every,
        // The registry client's own default.
        retry_wait: Duration::from_secs(1),
    };
    outage::check(&plan)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(outage::run(&plan))?;
    print!("{}", report.text);
    if !report.faults.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if report.rate_percent_min < 95 {
        bail!("the records whose schema is known did not keep their rate");
    }
    Ok(ExitCode::SUCCESS)
}
