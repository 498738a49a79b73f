//! `cargo xtask bench rebalance`: whether a rebalance takes longer if a member has more bytes buffered.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::brokers::{Brokers, Target};
use super::drivers::{self, MILENA};
use super::scenario;
use crate::kafka::process;

const PROTOCOLS: [&str; 3] = ["eager", "cooperative", "consumer"];
const FEW: u64 = 1 << 20;
const MANY: u64 = 256 << 20;
const ROUNDS: u32 = 9;
/// With many bytes buffered, a rebalance may take this many times as long as with few, and [`NOISE_MS`] more.
const RATIO_MAX: f64 = 1.5;
const NOISE_MS: f64 = 10.0;
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// The medians of some rebalances.
#[derive(Debug, Clone, Copy)]
struct Figures {
    to_record_ms: f64,
    to_free_ms: f64,
    cpu_ms: f64,
    allocations: f64,
    give_up_ms: f64,
}

/// Rebalances with few and with many bytes buffered, by each protocol.
///
/// # Errors
/// Rebalances take longer with many bytes, or something could not be measured.
pub(super) fn run(rounds: Option<u32>) -> anyhow::Result<()> {
    let program = drivers::bench_program()?;
    let payloads = crate::root().join("target/bench/payloads");
    super::brokers::write_payloads(&program, &payloads)?;
    let mut brokers = Brokers::new(&program, &payloads);
    let targets = [FEW, MANY].map(|bytes| brokers.target(&scenario::rebalance(bytes), false));
    let [few, many] = targets;
    let targets = [(FEW, few?), (MANY, many?)];
    let mut failed = Vec::new();
    for protocol in PROTOCOLS {
        let measured = |(bytes, target): &(u64, Target)| {
            let figures = measure(&program, target, protocol, *bytes, rounds.unwrap_or(ROUNDS))?;
            let Figures { to_record_ms, to_free_ms, cpu_ms, allocations, give_up_ms } = figures;
            println!(
                "{protocol}, {:3} MiB buffered: {to_record_ms:.1} ms to the second member's first record \
                 ({cpu_ms:.1} ms of CPU, {allocations:.0} allocations by both members), {to_free_ms:.1} ms until half of \
                 the memory was free; giving all up takes {give_up_ms:.1} ms",
                bytes >> 20,
            );
            anyhow::Ok(figures)
        };
        let [few, many] = [measured(&targets[0])?, measured(&targets[1])?];
        let ratio = many.to_record_ms / few.to_record_ms;
        println!("{protocol}: {ratio:.2} times as long with {} MiB as with {} MiB", MANY >> 20, FEW >> 20);
        if many.to_record_ms > few.to_record_ms * RATIO_MAX + NOISE_MS {
            failed.push(protocol);
        }
    }
    for (_, target) in targets {
        brokers.finish(target, true)?;
    }
    ensure!(failed.is_empty(), "a rebalance takes longer the more is buffered: {}", failed.join(", "));
    Ok(())
}

fn measure(
    program: &Path,
    target: &Target,
    protocol: &str,
    bytes: u64,
    rounds: u32,
) -> anyhow::Result<Figures> {
    let mut command = Command::new(program);
    command.args([MILENA, "rebalance", "--bootstrap", &target.bootstrap, "--topic", &target.topic]);
    command.args(["--threads", "2", "--protocol", protocol, "--tasks", &rounds.to_string()]);
    command.args(["--buffer-bytes", &bytes.to_string()]);
    let output = process::run(command, None, RUN_LIMIT)?;
    ensure!(output.status.success(), "{protocol}: {}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout).context("the driver's line")?;
    let figure = |what: &str| {
        line["settings"][what].as_f64().with_context(|| format!("the driver does not say {what}"))
    };
    Ok(Figures {
        to_record_ms: figure("to_record_ms")?,
        to_free_ms: figure("to_free_ms")?,
        cpu_ms: figure("cpu_ms")?,
        allocations: figure("rebalance_allocations")?,
        give_up_ms: figure("give_up_ms")?,
    })
}
