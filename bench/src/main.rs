//! Measures what Milena and other clients cost. `README.md` says what each command prints.

#[cfg(feature = "drivers")]
mod batches;
#[cfg(feature = "codecs")]
mod codecs;
#[cfg(feature = "drivers")]
mod embedded;
mod figures;
#[cfg(feature = "drivers")]
mod fill;
#[cfg(feature = "drivers")]
mod floor;
#[cfg(feature = "drivers")]
mod histogram;
mod instructions;
#[cfg(feature = "drivers")]
mod measure;
#[cfg(feature = "drivers")]
mod milena;
#[cfg(feature = "drivers")]
mod options;
#[cfg(feature = "drivers")]
mod outcome;
#[cfg(feature = "drivers")]
mod payload;
#[cfg(feature = "drivers")]
mod payload_files;
#[cfg(feature = "serdes")]
mod serdes;
#[cfg(feature = "drivers")]
mod sink;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "drivers")]
mod topic_spec;
mod wire;

use std::process::ExitCode;

const USAGE: &str = "\
milena-bench COMMAND

  wire [--rounds N]          append and read record batches, beside a copying loop and kafka-protocol
  codecs [--seconds S]       codecs on batches of flights (--features codecs, or candidates to compare crates)
  tls                        providers of TLS's cryptography (--features tls)
  instructions [--record]    instructions per record of the hot functions (valgrind), against instructions.txt

With --features serdes:

  serdes [--rounds N]        one record in each format through a registry's serde, beside the plain crates
  flights produce|consume    Milena's driver of `cargo xtask bench serdes`

With --features drivers, what `cargo xtask bench` runs:

  sink OPTION...             a broker that drops what is produced and serves what was made before
  broker [--nodes N] [--move-leader TOPIC]
                             the embedded broker; a partition's leader may move every second
  fill OPTION...             makes topics, and writes prepared batches into them
  payloads DIR               writes the files of values and keys
  measure SECONDS COMMAND    runs a command for no longer than that, and says what it cost
  milena MODE OPTION...      the driver of Milena
  floor MODE OPTION...       what moving the same bytes costs
";

fn main() -> ExitCode {
    #[cfg(feature = "drivers")]
    if let Some(code) = run_driver() {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["wire"] => wire::run(wire::ROUNDS),
        ["wire", "--rounds", rounds] => match rounds.parse() {
            Ok(rounds) => wire::run(rounds),
            Err(error) => Err(format!("--rounds {rounds}: {error}")),
        },
        #[cfg(feature = "codecs")]
        ["codecs"] => codecs::run(codecs::SECONDS),
        #[cfg(feature = "codecs")]
        ["codecs", "--seconds", seconds] => match seconds.parse() {
            Ok(seconds) => codecs::run(seconds),
            Err(error) => Err(format!("--seconds {seconds}: {error}")),
        },
        #[cfg(feature = "tls")]
        ["tls"] => tls::run(),
        ["instructions"] => instructions::compare(),
        ["instructions", "--record"] => instructions::record(),
        // What `instructions` runs under valgrind.
        ["workload", name] => wire::workload(name),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprint!("{}", reason.trim_end());
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

/// The sink and the drivers, whose arguments are options.
#[cfg(feature = "drivers")]
fn run_driver() -> Option<ExitCode> {
    use options::Failure;
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next()?.into_string().ok()?;
    if name == "measure" {
        return Some(ended(measure::run(arguments)));
    }
    let arguments = lexopt::Parser::from_args(arguments);
    let outcome = match name.as_str() {
        "sink" => sink::run(arguments).map_err(Failure::from).map(|()| None),
        "broker" => embedded::run(arguments).map(|()| None),
        #[cfg(feature = "serdes")]
        "serdes" => serdes::cost(arguments).map(|()| None),
        #[cfg(feature = "serdes")]
        "flights" => serdes::flow(arguments).map(|()| None),
        "payloads" => payloads(arguments).map(|()| None),
        "fill" => fill::run(arguments).map(|()| None),
        "milena" | "floor" => options::Options::parse(arguments).and_then(|options| {
            let is_milena = name == "milena";
            let outcome = if is_milena { milena::run(&options) } else { floor::run(&options) };
            let version = if is_milena { milena::version() } else { env!("CARGO_PKG_VERSION").to_owned() };
            outcome.map(|outcome| Some(outcome.to_json(&name, &version, &options.mode)))
        }),
        _ => return None,
    };
    Some(ended(outcome.map(|line| {
        line.inspect(|line| println!("{line}"));
    })))
}

#[cfg(feature = "drivers")]
fn ended(outcome: Result<(), options::Failure>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.text());
            ExitCode::from(failure.exit_code())
        }
    }
}

#[cfg(feature = "drivers")]
fn payloads(mut args: lexopt::Parser) -> Result<(), options::Failure> {
    match args.next()? {
        Some(lexopt::Arg::Value(dir)) => Ok(payload_files::write(dir.as_ref())?),
        _ => Err(options::Failure::Usage("payloads DIR".into())),
    }
}
