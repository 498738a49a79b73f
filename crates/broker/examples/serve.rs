//! Runs a cluster until it is killed: `cargo run -p milena-broker --example serve -- [NODES] [PORT] [DATA_DIR]`.
//!
//! Prints the bootstrap servers on the first line. The crash tests kill it.

use milena_broker::Broker;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let nodes = arguments.next().map_or(Ok(1), |nodes| nodes.parse())?;
    let port = arguments.next().map_or(Ok(0), |port| port.parse())?;
    let mut builder = Broker::builder().nodes(nodes).port(port).default_partitions(3);
    if let Some(dir) = arguments.next() {
        builder = builder.data_dir(dir);
    }
    let cluster = builder.start().await?;
    println!("{}", cluster.bootstrap());
    std::future::pending::<()>().await;
    cluster.shutdown().await?;
    Ok(())
}
