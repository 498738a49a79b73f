//! What `cargo xtask churn` runs.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use lexopt::{Arg, ValueExt as _};
use milena_broker::Broker;
use milena_interop::churn::{self, Plan};
use milena_interop::embedded::Embedded;
use milena_interop::group::Setup;
use xtask::kafka::{Cluster, NEWEST};

fn main() -> anyhow::Result<ExitCode> {
    let mut args = lexopt::Parser::from_env();
    let (mut kafka, mut bootstrap, mut crash) = (false, None, false);
    let mut setup = Setup { partitions: 12, rate: 2000, ..Setup::new("range,cooperative-sticky") };
    let (mut changes, mut records, mut seed, mut session) = (200, None, 0, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("target") => match args.value()?.string()?.as_str() {
                "kafka" => kafka = true,
                "embedded" => {}
                address => bootstrap = Some(address.to_owned()),
            },
            Arg::Long("protocol") => setup.protocol = args.value()?.string()?,
            Arg::Long("changes") => changes = args.value()?.parse()?,
            Arg::Long("records") => records = Some(args.value()?.parse()?),
            Arg::Long("rate") => setup.rate = args.value()?.parse()?,
            Arg::Long("seed") => seed = args.value()?.parse()?,
            Arg::Long("session") => session = Some(Duration::from_millis(args.value()?.parse()?)),
            Arg::Long("journal") => setup.journal = Some(args.value()?.into()),
            Arg::Long("crash") => crash = true,
            other => return Err(other.unexpected().into()),
        }
    }
    if crash {
        setup.session = Duration::from_millis(1500);
        setup.heartbeat = Duration::from_millis(300);
    }
    setup.session = session.unwrap_or(setup.session);
    // Crashes take as long as they take, whatever comes meanwhile.
    let records = records.unwrap_or(if crash { 0 } else { 1_000_000 });
    let (session, heartbeat) = (setup.session, setup.heartbeat);
    let (mut real, mut embedded) = (None, None);
    let bootstrap = match bootstrap {
        Some(bootstrap) => bootstrap,
        None if kafka => {
            let millis = |name: &str, time: Duration| format!("{name}={}", time.as_millis());
            let settings = [
                "group.initial.rebalance.delay.ms=0".to_owned(),
                millis("group.min.session.timeout.ms", session),
                millis("group.consumer.session.timeout.ms", session),
                millis("group.consumer.min.session.timeout.ms", session),
                millis("group.consumer.heartbeat.interval.ms", heartbeat),
                millis("group.consumer.min.heartbeat.interval.ms", heartbeat),
            ];
            let cluster = Cluster::start_with(3, NEWEST, &settings)?;
            real.insert(cluster).bootstrap()
        }
        None => {
            let builder = Broker::builder().nodes(3).group_session_timeout_min(session);
            let builder =
                builder.group_consumer_session_timeout(session).group_consumer_heartbeat_interval(heartbeat);
            embedded.insert(Embedded::build(builder)).bootstrap().to_owned()
        }
    };
    let plan = Plan { setup, changes, records, seed };
    let name = format!("churn-{}", milena_interop::journal::now());
    churn::warm_up(&bootstrap, &format!("{name}-first"), &plan.setup)?;
    let report =
        if crash { churn::crash(&bootstrap, &name, &plan)? } else { churn::run(&bootstrap, &name, &plan)? };
    print!("{}", report.text);
    if report.findings.records < records {
        bail!("only {} records", report.findings.records);
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
