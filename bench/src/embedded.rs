//! The embedded broker in a process of its own, as `milena broker` runs it, in memory.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use lexopt::Arg;
use milena_broker::{Broker, Cluster};
use serde_json::json;

use crate::options::Failure;

const MOVE_EVERY: Duration = Duration::from_secs(1);
/// Of the members of groups of the consumer protocol.
const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(20);

/// Moves the leader of partition 0 of a topic to the next node, again and again.
async fn move_leader(cluster: Arc<Cluster>, topic: String, pause: Duration) {
    let nodes: Vec<i32> = cluster.addresses().keys().copied().collect();
    for turn in 0.. {
        tokio::time::sleep(pause).await;
        if let Some(leader) = cluster.leader(&topic, 0) {
            let others: Vec<i32> = nodes.iter().copied().filter(|node| *node != leader).collect();
            let _ = cluster.move_leader(&topic, 0, others[turn % others.len()]);
        }
    }
}

/// Serves until standard input ends. The first line says where, and the last one how many bytes it has sent.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    let (mut nodes, mut moved) = (1, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("nodes") => nodes = lexopt::ValueExt::parse(&args.value()?)?,
            Arg::Long("move-leader") => moved = Some(lexopt::ValueExt::string(args.value()?)?),
            other => return Err(other.unexpected().into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        // Groups wait for nothing but their members, and those hear soon that there is a rebalance.
        let builder = Broker::builder().nodes(nodes).port(0).group_initial_rebalance_delay(Duration::ZERO);
        let builder = builder.group_consumer_heartbeat_interval(HEARTBEAT_INTERVAL);
        let cluster = Arc::new(builder.start().await.map_err(|error| error.to_string())?);
        println!("{}", json!({ "bootstrap": cluster.bootstrap() }));
        if let Some(topic) = moved {
            tokio::spawn(move_leader(Arc::clone(&cluster), topic, MOVE_EVERY));
        }
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ = ended.await;
        println!("{}", json!({ "sent_bytes": cluster.stats().sent_bytes }));
        Ok(())
    })
}
