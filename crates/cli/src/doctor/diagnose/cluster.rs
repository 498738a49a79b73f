//! What the cluster says of its brokers, of a topic, and of the principal's rights.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use milena::ErrorCode;

use super::{Place, dns, place, unreached};
use crate::doctor::seen::{Broker, Clock, Cluster, Endpoint, Partition, Seen, Topic};
use crate::doctor::{Finding, Layer};
use crate::units::Ranges;

/// A certificate that ends sooner is to be renewed.
const DAYS_LEFT_MIN: u64 = 21;
/// Clocks that differ by more are a fault: tokens and certificates of minutes are not valid then.
const CLOCK_SKEW_MAX_MS: i64 = 5_000;
/// What a program that produces and consumes cannot do without.
const NEEDED: [&str; 5] = ["Produce", "Fetch", "Metadata", "ListOffsets", "InitProducerId"];
const NEEDED_BY_GROUPS: [&str; 5] =
    ["FindCoordinator", "JoinGroup", "Heartbeat", "OffsetCommit", "OffsetFetch"];
const NEEDED_BY_TRANSACTIONS: [&str; 4] =
    ["FindCoordinator", "AddPartitionsToTxn", "EndTxn", "TxnOffsetCommit"];

pub(super) fn findings(seen: &Seen, cluster: &Cluster) -> Vec<Finding> {
    let mut findings = certificates(seen, cluster);
    findings.extend(overview(cluster));
    findings.extend(cluster.brokers.iter().map(|broker| of_broker(seen, cluster, broker)));
    findings.extend(cluster.missing.iter().map(|(broker, replicas)| {
        let are = if *replicas == 1 { "replica is" } else { "replicas are" };
        let detail = format!("broker {broker} is down, and {replicas} {are} on it");
        Finding::warn(Layer::Brokers, detail, "start it; until then its partitions have fewer copies")
    }));
    findings.extend(versions(seen, cluster));
    findings.extend(topic(seen, cluster));
    findings.extend(group(seen, cluster));
    findings.extend(transactions(seen, cluster));
    findings.push(clock(seen, cluster));
    findings
}

fn certificates(seen: &Seen, cluster: &Cluster) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut check = |whose: String, until: SystemTime| {
        let left = until.duration_since(seen.now).unwrap_or(Duration::ZERO).as_secs() / 86_400;
        findings.push(if left < DAYS_LEFT_MIN {
            let fix = "renew it; connections that are open then stay open, new ones fail";
            Finding::warn(Layer::Tls, format!("{whose} ends in {left} days"), fix)
        } else {
            Finding::ok(Layer::Tls, format!("{whose} is valid for {left} more days"))
        });
    };
    for (address, until) in &cluster.certificates {
        check(format!("the certificate of {address}"), *until);
    }
    if let Some(until) = cluster.own_certificate {
        check("the client's own certificate".into(), until);
    }
    findings
}

fn overview(cluster: &Cluster) -> Vec<Finding> {
    let layer = Layer::Brokers;
    let Cluster { id, controller, brokers, .. } = cluster;
    if let Some(trouble) = &cluster.unlisted {
        let fix =
            "the server let the client in and does not answer: look into its log, and at the load on it";
        return vec![Finding::fail(layer, trouble.text.clone(), fix)];
    }
    if brokers.is_empty() {
        let fix = "no broker is registered yet, or the answer did not come: look into the brokers' logs";
        return vec![Finding::fail(layer, "the cluster names no brokers", fix)];
    }
    let id = id.as_deref().map_or_else(String::new, |id| format!("cluster {id}: "));
    let count = if brokers.len() == 1 { "1 broker".to_owned() } else { format!("{} brokers", brokers.len()) };
    match controller {
        Some(controller) => vec![Finding::ok(layer, format!("{id}{count}, controller {controller}"))],
        None => vec![Finding::warn(
            layer,
            format!("{id}{count}, and no controller"),
            "topics cannot be created or deleted: look into the logs of the controllers",
        )],
    }
}

/// A broker at the address that it advertises. Clients reach brokers there, and nowhere else.
fn of_broker(seen: &Seen, cluster: &Cluster, broker: &Broker) -> Finding {
    const ADVERTISED: &str =
        "the broker tells clients this address; set its advertised.listeners to one that they can reach";
    let layer = Layer::Brokers;
    let Broker { id, at, .. } = broker;
    let address = at.address();
    let fail = |what: String, fix: &str| {
        Finding::fail(layer, format!("broker {id} is advertised at {address}, {what}"), fix)
    };
    let same = |other: &&Broker| other.id != *id && (&other.at.host, other.at.port) == (&at.host, at.port);
    if let Some(other) = cluster.brokers.iter().find(same) {
        let what = format!("as broker {} is", other.id);
        return fail(
            what,
            "each broker needs an address of its own in advertised.listeners, behind a load balancer too",
        );
    }
    if is_everywhere(&at.host) {
        return fail("which is no address to connect to".into(), ADVERTISED);
    }
    let is_remote = |server: &Endpoint| {
        let is_reached =
            |(at, reached): &(SocketAddr, Result<(), _>)| reached.is_ok() && !at.ip().is_loopback();
        !server.is_here && server.reached.iter().any(is_reached)
    };
    if is_loopback(&at.host) && seen.bootstrap.iter().any(is_remote) {
        return fail("which is this machine, while the cluster is on another".into(), ADVERTISED);
    }
    match (&at.addresses, &at.talked) {
        (Some(Err(_)), _) => {
            let why = dns(at, true);
            let detail = why.as_ref().map_or(String::new(), |why| why.detail.clone());
            let hint = why.and_then(|why| why.fix).unwrap_or_default();
            Finding { fix: Some(format!("{ADVERTISED}; {hint}")), ..fail(format!("and {detail}"), "") }
        }
        (_, Some(Ok(()))) => Finding::ok(layer, format!("broker {id} answers at {address}")),
        (_, Some(Err(trouble))) => {
            let Place { layer: of, fix } = place(trouble, &seen.setup, &at.host);
            fail(format!("where the client fails ({}): {}", of.name(), trouble.text), &fix)
        }
        (_, None) => {
            let first = at.reached.iter().find_map(|(at, outcome)| Some((at, outcome.as_ref().err()?)));
            let detail = first.map_or_else(
                || "and was not looked at".to_owned(),
                |(at, why)| format!("and {}", unreached(&at.to_string(), at.ip(), why).0),
            );
            let port = match seen
                .bootstrap
                .iter()
                .any(|server| server.host == at.host && server.port != at.port)
            {
                true => {
                    "; the bootstrap server has another port, so a published port may differ from the advertised one"
                }
                false => "",
            };
            fail(detail, &format!("start the broker if it is down, or change its advertised.listeners{port}"))
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_everywhere(host: &str) -> bool {
    host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

fn versions(seen: &Seen, cluster: &Cluster) -> Vec<Finding> {
    let mut needed = NEEDED.to_vec();
    if seen.asked.group.is_some() {
        needed.extend(NEEDED_BY_GROUPS);
    }
    if seen.asked.transactional_id.is_some() {
        needed.extend(NEEDED_BY_TRANSACTIONS);
    }
    let missing = |broker: &Broker| {
        let missing: Vec<_> = needed.iter().filter(|api| !broker.apis.contains(*api)).copied().collect();
        let detail = format!("broker {} has no {} that this client speaks", broker.id, missing.join(", "));
        let fix = "the broker is older than this client supports, or much newer: compare their versions, and update one";
        (!missing.is_empty()).then(|| Finding::fail(Layer::Protocol, detail, fix))
    };
    let answered = cluster.brokers.iter().filter(|broker| matches!(broker.at.talked, Some(Ok(()))));
    answered.filter_map(missing).collect()
}

fn topic(seen: &Seen, cluster: &Cluster) -> Vec<Finding> {
    let (Some(name), Some(topic)) = (&seen.asked.topic, &cluster.topic) else {
        return vec![Finding::skip(Layer::Topic, "name a topic with --topic to look at it")];
    };
    let partitions = match &topic.described {
        Ok(partitions) => partitions,
        Err(trouble) => {
            let denied = trouble.code.is_some_and(ErrorCode::is_authorization);
            let (layer, fix) = match trouble.code {
                Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => (
                    Layer::Topic,
                    format!("create it with `milena topics create {name}`, or correct the name"),
                ),
                _ if denied => (Layer::Acl, grant("DESCRIBE", &format!("the topic {name}"))),
                _ => (Layer::Topic, "look into the brokers' logs".into()),
            };
            let detail = match trouble.code {
                Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => format!("the topic {name} does not exist"),
                _ if denied => format!("seeing the topic {name} is not allowed"),
                _ => trouble.text.clone(),
            };
            return vec![Finding::fail(layer, detail, fix)];
        }
    };
    let mut findings = health(seen, name, topic, partitions);
    if findings.is_empty() {
        let count = if partitions.len() == 1 {
            "1 partition has".to_owned()
        } else {
            format!("{} partitions have", partitions.len())
        };
        findings.push(Finding::ok(Layer::Topic, format!("{name}: {count} leaders and all replicas in sync")));
    }
    match topic.rights {
        None => {
            findings.push(Finding::skip(Layer::Acl, "the broker does not tell what is allowed for topics"));
        }
        Some(rights) => {
            let resource = format!("the topic {name}");
            let right = |has: bool, operation: &str, what: &str| match has {
                true => Finding::ok(Layer::Acl, format!("{what} {name} is allowed")),
                false => Finding::fail(
                    Layer::Acl,
                    format!("{what} {name} is not allowed"),
                    grant(operation, &resource),
                ),
            };
            findings.push(right(rights.write, "WRITE", "producing to"));
            findings.push(right(rights.read, "READ", "consuming from"));
        }
    }
    findings
}

fn grant(operation: &str, resource: &str) -> String {
    format!("an administrator must allow this principal {operation} on {resource} (`milena acl`, kafka-acls)")
}

/// What is wrong with the topic's replicas and sizes.
fn health(seen: &Seen, name: &str, topic: &Topic, partitions: &[Partition]) -> Vec<Finding> {
    let layer = Layer::Topic;
    let mut findings = Vec::new();
    let config = |wanted: &str| {
        let configs = topic.configs.iter().flatten();
        configs.filter(|(name, _)| name == wanted).find_map(|(_, value)| value.parse::<usize>().ok())
    };
    let list = |is: &dyn Fn(&Partition) -> bool| {
        let found: Vec<_> =
            partitions.iter().filter(|partition| is(partition)).map(|partition| partition.index).collect();
        let are = if found.len() == 1 { ("partition", "has") } else { ("partitions", "have") };
        (!found.is_empty()).then(|| format!("{} {} {}", are.0, Ranges(&found), are.1))
    };
    if let Some(headless) = list(&|partition| partition.leader.is_none()) {
        findings.push(Finding::fail(
            layer,
            format!("{name}: {headless} no leader"),
            "start the brokers that hold their replicas",
        ));
    }
    let min = config("min.insync.replicas").unwrap_or(1);
    if let Some(below) = list(&|partition| partition.leader.is_some() && partition.in_sync < min) {
        findings.push(Finding::fail(
            layer,
            format!("{name}: {below} fewer replicas in sync than min.insync.replicas={min}, so acks=all is refused"),
            "start the brokers that are down; or lower min.insync.replicas, which must not be above the number of replicas",
        ));
    } else if let Some(behind) =
        list(&|partition| partition.leader.is_some() && partition.in_sync < partition.replicas)
    {
        findings.push(Finding::warn(
            layer,
            format!("{name}: {behind} replicas that are not in sync"),
            "start the brokers that are down, or wait until they have caught up",
        ));
    }
    if let Some(limit) = config("max.message.bytes").filter(|limit| *limit < seen.setup.batch_bytes_max) {
        findings.push(Finding::warn(
            layer,
            format!(
                "{name}: max.message.bytes={limit} is less than the client's largest batch, {} bytes: batches are refused and split",
                seen.setup.batch_bytes_max
            ),
            format!("set batch.size={limit} or less, or raise the topic's limit"),
        ));
    }
    findings
}

fn group(seen: &Seen, cluster: &Cluster) -> Option<Finding> {
    let (name, outcome) = (seen.asked.group.as_ref()?, cluster.group.as_ref()?);
    Some(match outcome {
        Ok(()) => Finding::ok(Layer::Group, format!("joining {name} and committing for it is allowed")),
        Err(trouble) if trouble.code.is_some_and(ErrorCode::is_authorization) => {
            let detail = format!("joining {name} and committing for it is not allowed");
            Finding::fail(Layer::Acl, detail, grant("READ", &format!("the group {name}")))
        }
        Err(trouble) => Finding::fail(
            Layer::Group,
            trouble.text.clone(),
            "the group's coordinator does not answer: look at the replicas of __consumer_offsets",
        ),
    })
}

fn transactions(seen: &Seen, cluster: &Cluster) -> Option<Finding> {
    let (id, outcome) = (seen.asked.transactional_id.as_ref()?, cluster.transactions.as_ref()?);
    Some(match outcome {
        // Whether it may be written with shows only when a producer begins, which ends the transaction of another one.
        Ok(()) => Finding::ok(
            Layer::Transactions,
            format!("{id} has a coordinator (WRITE on {id} cannot be tried without harm)"),
        ),
        Err(trouble) if trouble.code.is_some_and(ErrorCode::is_authorization) => {
            let detail = format!("the transactional id {id} is not allowed");
            Finding::fail(
                Layer::Acl,
                detail,
                grant("WRITE and DESCRIBE", &format!("the transactional id {id}")),
            )
        }
        Err(trouble) => Finding::fail(
            Layer::Transactions,
            trouble.text.clone(),
            "the coordinator does not answer: look at the replicas of __transaction_state",
        ),
    })
}

fn clock(seen: &Seen, cluster: &Cluster) -> Finding {
    let layer = Layer::Clock;
    match &cluster.clock {
        None if seen.asked.writes => Finding::skip(layer, "--write needs a --topic"),
        None => {
            Finding::skip(layer, "brokers tell their time only when a record is written: --topic and --write")
        }
        Some(Clock::NotTold) => Finding::skip(
            layer,
            "a record was written, and the topic keeps the times of producers (message.timestamp.type=CreateTime)",
        ),
        Some(Clock::NotWritten(trouble)) => Finding::fail(
            layer,
            format!("a record could not be written: {}", trouble.text),
            "see the checks of the topic",
        ),
        Some(Clock::Differs { by_ms, round_trip_ms }) if by_ms.abs() > CLOCK_SKEW_MAX_MS + round_trip_ms => {
            Finding::warn(
                layer,
                format!(
                    "the broker's clock is {} ms {} this machine's",
                    by_ms.abs(),
                    if *by_ms < 0 { "before" } else { "after" }
                ),
                "let both follow NTP: tokens, certificates and timestamps are judged by these clocks",
            )
        }
        Some(Clock::Differs { .. }) => Finding::ok(layer, "the broker's clock and this machine's agree"),
    }
}
