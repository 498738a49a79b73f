//! What Milena costs, beside others, in the same run. See `README.md` for what each command prints.

#[cfg(feature = "codecs")]
mod codecs;
mod figures;
mod instructions;
mod wire;

use std::process::ExitCode;

const USAGE: &str = "\
milena-bench COMMAND

  wire [--rounds N]          append and read record batches, beside a copying loop and kafka-protocol
  codecs [--seconds S]       codecs on batches of flights (--features codecs, or candidates to compare crates)
  instructions [--record]    instructions per record of the hot functions (valgrind), against instructions.txt
";

fn main() -> ExitCode {
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
