//! The embedded broker in a process of its own, as `milena broker` runs it, in memory.

use std::io::Read as _;

use lexopt::Arg;
use milena_broker::Broker;

use crate::options::Failure;

/// Serves until standard input ends. The first line says where.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    let mut nodes = 1;
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("nodes") => nodes = lexopt::ValueExt::parse(&args.value()?)?,
            other => return Err(other.unexpected().into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let builder = Broker::builder().nodes(nodes).port(0);
        let cluster = builder.start().await.map_err(|error| error.to_string())?;
        println!("{}", serde_json::json!({ "bootstrap": cluster.bootstrap() }));
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ = ended.await;
        Ok(())
    })
}
