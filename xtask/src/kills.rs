//! `cargo xtask kills`: builds and runs the program `kills` of the crate `interop`.

use crate::programs::{Program, run_program};

const HELP: &str = "\
Usage: cargo xtask kills [OPTION]...

Three producers write to twelve partitions while each of three brokers in turn is killed and started again; some stand still
before. Then Java's consumer reads the logs back, and a judge that knows no client compares them with what the producers were
told: nothing that was acknowledged is lost, nothing is twice, each producer's records are in order and at the offsets of their
receipts, no record is there that was said not to be written. With --transactions the same of what was committed and aborted,
and a loop beside them copies a topic exactly once. One of the producers gives records up before a killed broker is missed.
Short forms are tests: cargo test -p milena-interop kills

  --target WHERE   embedded (default): three nodes in one process; kafka: real Kafka with three brokers
  --transactions   the records are written in transactions
  --transaction-version V
                   1 or 2 (default; KIP-890)
  --records N      until N records are sent (default 2000000)
  --rate N         N records are sent per second (default 5000)
  --kills N        brokers are killed N times (default 20)
  --seed S         what happens when follows from the seed (default 0)
  --release        build with optimizations
";

/// Runs it.
///
/// # Errors
/// When the judge has found a fault.
pub fn run(args: lexopt::Parser) -> anyhow::Result<()> {
    let values = &["target", "transaction-version", "records", "rate", "kills", "seed"];
    let failed = "the logs are not as the producers were told";
    run_program(Program { name: "kills", help: HELP, flags: &["transactions"], values, failed }, args)
}
