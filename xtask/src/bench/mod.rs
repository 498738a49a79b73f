//! `cargo xtask bench`: Milena and widely used clients do the same work on the same brokers in the same run.
//!
//! ```text
//!  scenario (table) ─▶ run: rounds × drivers, on brokers, measured from outside ─▶ summary ─▶ report, targets
//! ```

mod brokers;
mod drivers;
mod figures;
mod gaps;
mod gate;
mod group;
mod pipeline;
mod plot;
mod rebalance;
mod report;
mod run;
mod scenario;
mod serdes;
mod stopped;
mod summary;
mod targets;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use lexopt::{Arg, ValueExt as _};

use self::brokers::Brokers;
use self::drivers::{CLIENTS, Client};
use self::report::Report;
use self::run::Plan;
use self::scenario::{Broker, Scenario};
use self::summary::Summary;

/// What `cargo xtask bench help` prints.
const HELP: &str = "\
Usage: cargo xtask bench [quick|full|writers|NAME...] [--rounds N] [--clients A,B] [--limit SECONDS] [--out DIR]
       cargo xtask bench gate [--record]
       cargo xtask bench gaps [--rounds N]
       cargo xtask bench group [--rounds N]
       cargo xtask bench stopped [--seconds N]
       cargo xtask bench rebalance [--rounds N]
       cargo xtask bench pipeline [--rounds N]
       cargo xtask bench serdes [--rounds N]
       cargo xtask bench list

Measures Milena and other clients, each with its own driver, on a sink that costs nearly nothing, on Apache Kafka and on
the embedded broker. Writes report.md and plots, and every figure of every client to target/bench/report.json.

quick      the main cells, with fewer records (the default)
full       all scenarios; the report goes to bench/results/DATE
writers    topics written by franz-go, librdkafka and Java, with each codec
NAME       the scenario with this name, or all scenarios whose names contain it, such as produce-sink or kafka-100B
--rounds   how often each client does each scenario (3; quick: 1)
--clients  which clients (all); the floor, which only moves the same bytes, counts as one
--limit    seconds that one run may take (60)
--out      the report's folder (target/bench/report; for full, bench/results/DATE)
gate       fails if allocations, requests, wire bytes or instructions per record exceed bench/allowance.txt and
           bench/instructions.txt; --record writes these files
gaps       fails if `next()` waits 100 ms or more while there are records to read, with the default fetch wait;
           8 rounds by default
group      fails if reading in a group costs over 3 % more instructions per record than reading by position (without
           valgrind: CPU), or 0.01 allocations per record; 7 rounds by default
stopped    fails if the application stops reading 10 000 partitions, and resident memory exceeds the budget by more
           than 48 MiB; it watches each way of reading for --seconds (10), and five of them at the same time
rebalance  fails if a rebalance takes longer while a member has 256 MiB buffered than with 1 MiB; eager, cooperative and
           by the consumer protocol (KIP-848), with --rounds rebalances each (9)
pipeline   records/s of a pipeline beside a plain loop and Confluent's Parallel Consumer on one Kafka: without work and with
           10 ms of it, by key and without an order, and latencies; --rounds of each in turn (5)
serdes     records/s and CPU of real flights that are written and read with their schema, in each format, beside Confluent's
           client for Python and Java's with Apicurio's serdes, on the embedded broker; --rounds of each in turn (3)
list       prints the scenarios and the clients
";

/// The command line.
struct Options {
    words: Vec<String>,
    rounds: Option<u32>,
    clients: Vec<Client>,
    limit: Duration,
    seconds: u64,
    out: Option<PathBuf>,
    is_record: bool,
}

/// The command line.
///
/// # Errors
/// The command failed; the error is for the user of the terminal.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let options = Options::parse(args)?;
    match options.words.first().map(String::as_str) {
        Some("help") => {
            print!("{HELP}");
            Ok(())
        }
        Some("list") => {
            scenario::table().iter().for_each(|scenario| println!("{}", scenario.name));
            println!("\n{}", CLIENTS.map(|client| client.name).join(" "));
            Ok(())
        }
        Some("gate") => gate::run(options.is_record),
        Some("gaps") => gaps::run(options.rounds),
        Some("group") => group::run(options.rounds),
        Some("stopped") => stopped::run(options.seconds),
        Some("rebalance") => rebalance::run(options.rounds),
        Some("serdes") => serdes::run(options.rounds),
        Some("pipeline") => pipeline::run(options.rounds),
        _ => measure(&options),
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let started = Instant::now();
    let (scenarios, is_full) = options.scenarios()?;
    let is_quick = options.words.is_empty() || options.words == ["quick"];
    let program = drivers::bench_program()?;
    let drivers = drivers::build(&program, &options.clients);
    let target = crate::root().join("target/bench");
    let payloads = target.join("payloads");
    brokers::write_payloads(&program, &payloads)?;
    let rounds = options.rounds.unwrap_or(if is_quick { 1 } else { 3 });
    let plan = Plan { program, payloads, rounds, limit: options.limit };
    let out = match &options.out {
        Some(out) => out.clone(),
        None if is_full => crate::root().join("bench/results").join(report::date()),
        None => target.join("report"),
    };
    let mut brokers = Brokers::new(&plan.program, &plan.payloads);
    let mut report = Report::new(rounds, options.limit);
    for scenario in scenarios {
        eprintln!("{}", scenario.name);
        let rounds = run::rounds(&plan, &mut brokers, &scenario, &drivers);
        let summary = Summary::of(scenario, rounds);
        print!("{}", report::table(&summary));
        report.summaries.push(summary);
        // The full set takes hours: an interrupted run leaves a report of the scenarios it did.
        report.write(&out, &target)?;
    }
    drop(brokers);
    print!("{}", targets::print(&report.summaries));
    eprintln!("{} after {} s", out.join("report.md").display(), started.elapsed().as_secs());
    let failed = report.failures_of(CLIENTS[0].name);
    ensure!(failed.is_empty(), "{} failed in {}", CLIENTS[0].name, failed.join(", "));
    Ok(())
}

impl Options {
    fn parse(mut args: lexopt::Parser) -> anyhow::Result<Self> {
        let limit = Duration::from_secs(60);
        let mut options = Self {
            words: Vec::new(),
            rounds: None,
            clients: CLIENTS.to_vec(),
            limit,
            seconds: 10,
            out: None,
            is_record: false,
        };
        while let Some(arg) = args.next()? {
            match arg {
                Arg::Value(word) => options.words.push(word.string()?),
                Arg::Short('h') | Arg::Long("help") => options.words = vec!["help".into()],
                Arg::Long("rounds") => options.rounds = Some(args.value()?.parse()?),
                Arg::Long("clients") => options.clients = clients(&args.value()?.string()?)?,
                Arg::Long("limit") => options.limit = Duration::from_secs(args.value()?.parse()?),
                Arg::Long("seconds") => options.seconds = args.value()?.parse()?,
                Arg::Long("record") => options.is_record = true,
                Arg::Long("out") => options.out = Some(args.value()?.into()),
                other => return Err(other.unexpected().into()),
            }
        }
        ensure!(options.rounds != Some(0), "--rounds: at least 1");
        Ok(options)
    }

    /// The chosen scenarios, ordered by broker, so that each cluster starts once; and whether these are all scenarios.
    fn scenarios(&self) -> anyhow::Result<(Vec<Scenario>, bool)> {
        let table = scenario::table().into_iter();
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        let mut chosen: Vec<Scenario> = match words[..] {
            [] | ["quick"] => table.filter(|scenario| scenario.is_quick).map(Scenario::shortened).collect(),
            ["full"] => table.collect(),
            ["writers"] => table.filter(|scenario| scenario.writer.is_some()).collect(),
            _ => table.filter(|scenario| words.iter().any(|word| is_meant(word, &scenario.name))).collect(),
        };
        if chosen.is_empty() {
            bail!("no scenario's name contains {}; `cargo xtask bench list` prints them", words.join(" or "));
        }
        chosen.sort_by_key(|scenario| match scenario.broker {
            Broker::Sink { .. } => 0,
            Broker::Embedded(_) => 1,
            Broker::Kafka(nodes) => 1 + nodes,
        });
        Ok((chosen, words == ["full"]))
    }
}

/// Whether `word` chooses the scenario `name`. A word that is a whole name chooses only that scenario.
fn is_meant(word: &str, name: &str) -> bool {
    let is_name = scenario::table().iter().any(|scenario| scenario.name == word);
    if is_name { name == word } else { name.contains(word) }
}

fn clients(list: &str) -> anyhow::Result<Vec<Client>> {
    let find = |name: &str| match CLIENTS.iter().find(|client| client.name == name) {
        Some(client) => Ok(*client),
        None => {
            bail!("no client is called {name:?}; there are {}", CLIENTS.map(|client| client.name).join(" "))
        }
    };
    list.split(',').map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(words: &[&str]) -> Vec<String> {
        let mut options = Options::parse(lexopt::Parser::from_args(words)).unwrap();
        options.rounds = None;
        options.scenarios().unwrap().0.into_iter().map(|scenario| scenario.name).collect()
    }

    #[test]
    fn a_whole_name_means_one_scenario_and_a_part_of_it_many() {
        assert_eq!(chosen(&["produce-sink-100B-none"]), ["produce-sink-100B-none"]);
        assert!(chosen(&["sink-100B"]).len() > 10);
        assert!(chosen(&[]).len() < 20);
        let words = ["no-such-scenario"];
        assert!(Options::parse(lexopt::Parser::from_args(words)).unwrap().scenarios().is_err());
    }

    #[test]
    fn clients_are_known_by_name() {
        assert_eq!(clients("milena,franz-go").unwrap().len(), 2);
        assert!(clients("mlena").unwrap_err().to_string().contains("franz-go"));
    }
}
