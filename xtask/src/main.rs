//! The project's own commands. `cargo xtask help` lists them.

use std::process::ExitCode;

use anyhow::bail;
use lexopt::Arg;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  gen [--check]    write crates/messages/src/gen from Kafka's schemas; with --check, compare with the committed files
  edges            check that the crates depend on each other as ARCHITECTURE.md draws it
  kafka            run Apache Kafka from Maven Central on loopback: start, status, stop, tool
  bench            measure Milena and other clients on the same brokers: quick, full, or scenarios by name
  chaos            run the client against three brokers over a faulty network, by seed
  churn            let members of Milena, Java and librdkafka join a group, leave it and be killed, and check what they read
  crashes          kill a pipeline's process again and again, and judge what it runs again
  kills            kill and restart brokers while producers write, and read the logs back
  hops             kill members of three groups in a chain that processes exactly once, and compare its ends
  rebalances       let members that are pipelines join and leave a group, and count what is processed twice
  sim              run client and broker on virtual time, by seed
  registry-outage  end the schema registry for a minute under load, and look where each record is
  soak             run a pipeline with records that fail, hang and take long, for half an hour
  tokens           write and read while tokens and sessions of a minute end again and again
  oracle [--check] write the golden messages and batches with Kafka's encoder; with --check, compare with the committed ones
  help             print this text
";

fn main() -> ExitCode {
    match run(lexopt::Parser::from_env()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Dispatches on the first word; each command reads the rest.
fn run(mut args: lexopt::Parser) -> anyhow::Result<()> {
    let word = match args.next()? {
        Some(Arg::Value(word)) => word.to_string_lossy().into_owned(),
        Some(Arg::Short('h') | Arg::Long("help")) | None => "help".into(),
        Some(other) => return Err(other.unexpected().into()),
    };
    match word.as_str() {
        "gen" => xtask::r#gen::run(args),
        "bench" => xtask::bench::run(args),
        "chaos" => xtask::chaos::run(args),
        "churn" => xtask::churn::run(args),
        "crashes" => xtask::crashes::run(args),
        "edges" => xtask::edges::run(args),
        "hops" => xtask::hops::run(args),
        "kills" => xtask::kills::run(args),
        "kafka" => xtask::kafka::run(args),
        "sim" => xtask::sim::run(args),
        "registry-outage" => xtask::registry_outage::run(args),
        "soak" => xtask::soak::run(args),
        "tokens" => xtask::tokens::run(args),
        "rebalances" => xtask::rebalances::run(args),
        "oracle" => xtask::oracle::run(args),
        "help" => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("there is no command {word:?}\n\n{HELP}"),
    }
}
