//! The embedded broker in a process of its own, as `milena broker` runs it, in memory.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lexopt::Arg;
use milena_broker::{Authority, Broker, Cluster, Listener, Tls};
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

/// The server's half of TLS. The certificate of its authority is written to that file.
fn tls(path: &Path) -> Result<Tls, String> {
    let authority = Authority::new().map_err(|error| error.to_string())?;
    fs::write(path, authority.certificate_pem()).map_err(|error| format!("{}: {error}", path.display()))?;
    let identity = authority.server(["localhost", "127.0.0.1"]).map_err(|error| error.to_string())?;
    Ok(Tls::of(&identity).only_1_3())
}

/// Serves until standard input ends. The first line says where, and the last one how many bytes it has sent.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    let (mut nodes, mut moved, mut authority) = (1, None, None);
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Long("nodes") => nodes = lexopt::ValueExt::parse(&args.value()?)?,
            Arg::Long("move-leader") => moved = Some(lexopt::ValueExt::string(args.value()?)?),
            // The address of a second listener comes first; its authority's certificate is written there.
            Arg::Long("tls") => authority = Some(PathBuf::from(args.value()?)),
            other => return Err(other.unexpected().into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        // Groups wait for nothing but their members, and those hear soon that there is a rebalance.
        let builder = Broker::builder().nodes(nodes).port(0).group_initial_rebalance_delay(Duration::ZERO);
        let mut builder = builder.group_consumer_heartbeat_interval(HEARTBEAT_INTERVAL);
        if let Some(path) = &authority {
            builder = builder.listener(Listener::ssl(tls(path)?)).listener(Listener::plaintext());
        }
        let cluster = Arc::new(builder.start().await.map_err(|error| error.to_string())?);
        let plain = cluster.bootstrap_of("PLAINTEXT");
        println!("{}", json!({ "bootstrap": cluster.bootstrap(), "plain": plain }));
        if let Some(topic) = moved {
            tokio::spawn(move_leader(Arc::clone(&cluster), topic, MOVE_EVERY));
        }
        let ended = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        let _ = ended.await;
        println!("{}", json!({ "sent_bytes": cluster.stats().sent_bytes }));
        Ok(())
    })
}
