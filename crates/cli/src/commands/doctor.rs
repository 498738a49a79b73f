//! `milena doctor`: says which layer stands between a client and its work, and what to do.

use std::io::IsTerminal as _;
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use milena::Properties;
use serde::Serialize;
use tokio::time::Instant;

use crate::cluster::{Cluster, Resolved, seconds};
use crate::doctor::diagnose::{diagnose, failed};
use crate::doctor::probe::{Limits, look};
use crate::doctor::seen::{Asked, Seen, Setup};
use crate::doctor::{Finding, Status};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::{to_json, write_out};

const HELP: &str = "\
Examples:
  milena doctor                                  can a client get in, and reach every broker?
  milena doctor -P prod --topic orders           may it produce and consume, are all replicas there?
  milena doctor --topic orders --group billing   may it read as a member of the group, and commit?
  milena doctor --topic orders --write           writes one record, and compares the clocks

It looks from the bottom up: configuration, names, ports, TLS, SASL, protocol, brokers at the
addresses that they advertise, topic, rights, group, transactions, clock. What fails in one layer
keeps those above it from being looked at, so mend the first failure first. Nothing is changed
unless --write is given.

Exit code: 0 if nothing fails (warnings do not count), 1 if a check fails.";

/// Find out why a client cannot connect, produce or consume.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Look at this topic too: its replicas, and whether producing and consuming is allowed
    #[arg(short, long)]
    topic: Option<String>,

    /// Look at this group too: its coordinator, and whether joining and committing is allowed
    #[arg(short, long)]
    group: Option<String>,

    /// Look at this transactional id too: its coordinator, and whether it may be seen
    #[arg(long, value_name = "ID")]
    transactional_id: Option<String>,

    /// Write one record to the topic
    #[arg(long, requires = "topic")]
    write: bool,

    /// End within SECONDS once secrets are read, whatever was looked at by then. Each look has a third of it, or --timeout
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    limit: Duration,

    /// One JSON object a line
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let seen = interrupt.or(see(args)).await?;
    let findings = diagnose(&seen);
    write_out(&if args.json { lines(&findings)? } else { text(&findings, std::io::stdout().is_terminal()) })?;
    match failed(&findings) {
        None => Ok(()),
        Some((1, layer)) => Err(Failure::failed(format!("1 check failed, in the layer {}", layer.name()))),
        Some((count, layer)) => {
            Err(Failure::failed(format!("{count} checks failed, the first in the layer {}", layer.name())))
        }
    }
}

async fn see(args: &Args) -> Result<Seen, Failure> {
    let asked = Asked {
        topic: args.topic.clone(),
        group: args.group.clone(),
        transactional_id: args.transactional_id.clone(),
        writes: args.write,
    };
    let resolved = args.cluster.resolve(Properties::new())?;
    let mut setup = setup(&resolved);
    let (mut servers, mut proxy) = (Vec::new(), None);
    // Secrets are read where they are, and a command for one may take its time. That is not the network's, whose time begins
    // afterwards.
    let properties = resolved.properties.clone();
    let reading = tokio::task::spawn_blocking(move || properties.client().map_err(|error| error.to_string()));
    let read = match tokio::time::timeout(args.limit, reading).await {
        Ok(read) => read.unwrap_or_else(|error| Err(error.to_string())),
        Err(_) => Err(format!(
            "reading the files and running the commands of the settings takes longer than {:?}",
            args.limit
        )),
    };
    let limits = Limits {
        end: Instant::now() + args.limit,
        step: args.cluster.timeout_asked().unwrap_or(args.limit / 3).min(args.limit),
    };
    let builder = match read {
        Ok(builder) => builder,
        Err(refused) => {
            setup.refused = Some(refused);
            return Ok(Seen {
                now: std::time::SystemTime::now(),
                setup,
                proxy: None,
                bootstrap: Vec::new(),
                cluster: None,
                asked,
            });
        }
    };
    let builder = match &resolved.bootstrap {
        Some(bootstrap) => builder.bootstrap(bootstrap),
        None => builder,
    };
    setup.ignored = builder.ignored().map(|(name, why)| (name.to_owned(), why.to_owned())).collect();
    let builder = builder.settings(|settings| {
        servers =
            settings.bootstrap.iter().map(|address| (address.host().to_owned(), address.port())).collect();
        proxy =
            settings.proxy.as_ref().map(|proxy| (proxy.address().host().to_owned(), proxy.address().port()));
    });
    // On the heap, because the futures of all commands would have room for it.
    Ok(Box::pin(look(builder, setup, servers, proxy, asked, limits)).await)
}

fn setup(resolved: &Resolved) -> Setup {
    let value = |names: &[&str]| {
        let found = resolved.properties.iter().filter(|(name, _)| names.contains(name)).last();
        found.map(|(_, value)| value.trim().to_owned())
    };
    let protocol = value(&["security.protocol"]).unwrap_or_default().to_ascii_uppercase();
    let sasl = protocol.starts_with("SASL_").then(|| {
        (
            value(&["sasl.mechanism", "sasl.mechanisms"]).unwrap_or_else(|| "GSSAPI".into()),
            value(&["sasl.username"]),
        )
    });
    let batch = milena::SETTINGS.iter().find(|setting| setting.name == "batch_bytes_max");
    let names: Vec<_> = batch.iter().flat_map(|setting| setting.names()).collect();
    let default = milena::ProducerSettings::default().batch_bytes_max;
    Setup {
        profile: resolved.chosen.as_ref().map(|chosen| chosen.profile.name.clone()),
        has_tls: protocol.ends_with("SSL"),
        sasl,
        checks_certificates: value(&["enable.ssl.certificate.verification"]).as_deref() != Some("false"),
        batch_bytes_max: value(&names).and_then(|text| text.parse().ok()).unwrap_or(default),
        ..Setup::default()
    }
}

#[derive(Serialize)]
struct Line<'a> {
    layer: crate::doctor::Layer,
    status: Status,
    detail: &'a str,
    fix: Option<&'a str>,
}

fn lines(findings: &[Finding]) -> Result<String, Failure> {
    let mut lines = String::new();
    for Finding { layer, status, detail, fix } in findings {
        lines += &to_json(&Line { layer: *layer, status: *status, detail, fix: fix.as_deref() })?;
        lines.push('\n');
    }
    Ok(lines)
}

/// A line for each check, and one below it for what to do.
fn text(findings: &[Finding], is_terminal: bool) -> String {
    let width = findings.iter().map(|finding| finding.layer.name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { layer, status, detail, fix } in findings {
        let color = match status {
            Status::Ok => Some(AnsiColor::Green),
            Status::Warn => Some(AnsiColor::Yellow),
            Status::Fail => Some(AnsiColor::Red),
            Status::Skip => None,
        };
        let style = color.filter(|_| is_terminal && std::env::var_os("NO_COLOR").is_none());
        let style = style.map_or_else(Style::new, AnsiColor::on_default);
        text += &format!("{style}{:<4}{style:#}  {:<width$}  {detail}\n", status.name(), layer.name());
        if let Some(fix) = fix {
            text += &format!("      {:<width$}  -> {fix}\n", "");
        }
    }
    text
}
