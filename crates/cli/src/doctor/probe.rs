//! Looks: names, ports, the client's own handshake, and what the cluster says. It judges nothing, and changes nothing unless it
//! was asked to write a record. Every look has a limit of its own within that of all.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use milena::{Admin, Client, ClientBuilder, ConfigResource, ErrorKind, Record};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::seen::{
    Asked, Broker, Clock, Cluster, Endpoint, Partition, Rights, Seen, Setup, Topic, Trouble, Unreached,
};

/// More bootstrap servers, addresses of a name and brokers than these are not looked at, each.
const SERVERS_MAX: usize = 16;
const ADDRESSES_MAX: usize = 8;
const BROKERS_MAX: usize = 200;
/// A server that has said nothing for this long probably hangs, so the next one is asked beside it.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// When looking ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The end of everything.
    pub(crate) end: Instant,
    /// The most time for one look.
    pub(crate) step: Duration,
}

impl Limits {
    fn step(&self) -> Instant {
        self.end.min(Instant::now() + self.step)
    }
}

/// Looks at everything that can be looked at. `servers` are the bootstrap servers, and `proxy` the one that connections go
/// through.
pub(crate) async fn look(
    builder: ClientBuilder,
    setup: Setup,
    servers: Vec<(String, u16)>,
    proxy: Option<(String, u16)>,
    asked: Asked,
    limits: Limits,
) -> Seen {
    let servers: Vec<_> =
        servers.iter().take(SERVERS_MAX).map(|(host, port)| Endpoint::new(host, *port)).collect();
    // Behind a proxy, names and ports are the proxy's business.
    let (proxy, mut bootstrap) = match proxy {
        Some((host, port)) => (reach(vec![Endpoint::new(&host, port)], limits).await.pop(), servers),
        None => (None, reach(servers, limits).await),
    };
    let step = limits.step;
    let builder = builder.settings(|settings| {
        settings.connect_timeout = settings.connect_timeout.min(step);
        settings.connect_timeout_max = settings.connect_timeout;
        settings.request_timeout = settings.request_timeout.min(step);
        settings.api_timeout = settings.api_timeout.min(step);
    });
    let through_proxy = proxy.as_ref().is_some_and(Endpoint::is_reached);
    let client = talk(&builder, &mut bootstrap, through_proxy, setup.sasl.is_some(), limits).await;
    let cluster = match client {
        Some(client) => Some(of_cluster(&client, &asked, &bootstrap, proxy.is_some(), limits).await),
        None => None,
    };
    Seen { now: SystemTime::now(), setup, proxy, bootstrap, cluster, asked }
}

/// Looks names up, and connects to each address that they stand for.
async fn reach(endpoints: Vec<Endpoint>, limits: Limits) -> Vec<Endpoint> {
    let mut looking = JoinSet::new();
    let count = endpoints.len();
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        looking.spawn(async move { (index, reach_one(endpoint, limits).await) });
    }
    let mut found: Vec<Option<Endpoint>> = vec![None; count];
    while let Some(Ok((index, endpoint))) = looking.join_next().await {
        found[index] = Some(endpoint);
    }
    found.into_iter().flatten().collect()
}

async fn reach_one(mut endpoint: Endpoint, limits: Limits) -> Endpoint {
    let until = limits.step();
    let addresses = match endpoint.host.parse::<IpAddr>() {
        Ok(address) => Ok(vec![address]),
        Err(_) => match timeout_at(until, lookup_host((endpoint.host.as_str(), endpoint.port))).await {
            Ok(Ok(found)) => {
                let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
                addresses.sort();
                addresses.dedup();
                Ok(addresses)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("there was no answer within {:?}", limits.step)),
        },
    };
    let mut connecting = JoinSet::new();
    for (index, address) in addresses.iter().flatten().take(ADDRESSES_MAX).enumerate() {
        let at = SocketAddr::new(*address, endpoint.port);
        connecting.spawn(async move {
            let outcome = match timeout_at(until, TcpStream::connect(at)).await {
                Ok(Ok(stream)) => Ok(is_here(&stream)),
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Err(Unreached::Refused)
                }
                Ok(Err(error)) if error.kind() == std::io::ErrorKind::TimedOut => Err(Unreached::TimedOut),
                Ok(Err(error)) => Err(Unreached::Other(error.to_string())),
                Err(_) => Err(Unreached::TimedOut),
            };
            (index, at, outcome)
        });
    }
    endpoint.addresses = Some(addresses);
    let mut reached = Vec::new();
    while let Some(Ok(outcome)) = connecting.join_next().await {
        reached.push(outcome);
    }
    reached.sort_by_key(|(index, ..)| *index);
    endpoint.is_here = reached.iter().any(|(.., outcome)| matches!(outcome, Ok(true)));
    endpoint.reached = reached.into_iter().map(|(_, at, outcome)| (at, outcome.map(drop))).collect();
    endpoint
}

/// Whether both ends have the same address.
fn is_here(stream: &TcpStream) -> bool {
    let of = |address: std::io::Result<SocketAddr>| address.ok().map(|address| address.ip());
    of(stream.local_addr()).is_some_and(|own| Some(own) == of(stream.peer_addr()))
}

/// Connects as a client to each bootstrap server that can be reached. If the client has credentials, the next server is asked when
/// the one before has failed or has been silent for [`SILENCE_MAX`], and all of them when one has let the client in: if one refuses
/// the credentials, so would all others, and each refusal may count towards the locking of an account.
async fn talk(
    builder: &ClientBuilder,
    bootstrap: &mut [Endpoint],
    through_proxy: bool,
    has_credentials: bool,
    limits: Limits,
) -> Option<Client> {
    let is_there = |endpoint: &Endpoint| through_proxy || endpoint.is_reached();
    let there: Vec<_> = (0..bootstrap.len()).filter(|index| is_there(&bootstrap[*index])).collect();
    let mut next = there.into_iter();
    let mut asked = JoinSet::new();
    let mut client = None;
    loop {
        if let Some(index) = next.next() {
            let address = bootstrap[index].address();
            let connecting = connect(builder.clone().bootstrap(&address), address, limits);
            asked.spawn(async move { (index, connecting.await) });
        }
        if next.len() > 0 && (client.is_some() || !has_credentials) {
            continue;
        }
        let silence = async {
            match next.len() {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(SILENCE_MAX).await,
            }
        };
        tokio::select! {
            outcome = asked.join_next() => {
                let Some(outcome) = outcome else { return client };
                let Ok((index, outcome)) = outcome else { continue };
                let is_refused = matches!(&outcome, Err(trouble) if trouble.kind == ErrorKind::Authentication);
                bootstrap[index].talked = Some(match outcome {
                    Ok(connected) => {
                        client.get_or_insert(connected);
                        Ok(())
                    }
                    Err(trouble) => Err(trouble),
                });
                if is_refused && client.is_none() {
                    return None;
                }
            }
            () = silence => {}
        }
    }
}

async fn connect(builder: ClientBuilder, address: String, limits: Limits) -> Result<Client, Trouble> {
    let connected =
        within(limits, async { builder.connect().await.map_err(|error| Trouble::from(&error)) }).await;
    connected.map_err(|mut trouble| {
        // The finding names the address already.
        let doing = format!("connecting to {address}: ");
        if let Some(rest) = trouble.text.strip_prefix(&doing) {
            trouble.text = rest.to_owned();
        }
        trouble
    })
}

/// The outcome of a look, or that it took too long.
async fn within<T>(limits: Limits, looking: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    // The client's own timeouts end sooner, and say more.
    let until = limits.end.min(limits.step() + Duration::from_millis(500));
    timeout_at(until, looking).await.unwrap_or_else(|_| {
        let text = format!("there was no answer within {:?}", limits.step);
        Err(Trouble { text, kind: ErrorKind::Timeout, obstacle: None, cause: None, code: None })
    })
}

/// What the cluster says of itself and of what was asked for.
async fn of_cluster(
    client: &Client,
    asked: &Asked,
    bootstrap: &[Endpoint],
    through_proxy: bool,
    limits: Limits,
) -> Cluster {
    let admin = client.admin().timeout(limits.step);
    let (brokers, missing, topic, group, transactions) = tokio::join!(
        of_brokers(client, &admin, bootstrap, through_proxy, limits),
        of_replicas(&admin, limits),
        of_topic(&admin, asked.topic.as_deref(), limits),
        of_group(&admin, asked.group.as_deref(), limits),
        of_transactions(&admin, asked.transactional_id.as_deref(), limits),
    );
    let (described, brokers) = brokers;
    let (id, controller, unlisted) = match described {
        Ok((id, controller)) => (id, controller, None),
        Err(trouble) => (None, None, Some(trouble)),
    };
    let clock = match (&asked.topic, asked.writes) {
        (Some(name), true) => {
            let kind = "message.timestamp.type";
            let configs = topic.iter().filter_map(|topic: &Topic| topic.configs.as_ref()).flatten();
            let is_told = configs.into_iter().any(|(name, value)| name == kind && value == "LogAppendTime");
            Some(of_clock(client, name, is_told, limits).await)
        }
        _ => None,
    };
    let tls = client.tls();
    let until = |validity: &milena::Validity| validity.not_after;
    let certificates = tls
        .iter()
        .flat_map(|tls| &tls.brokers)
        .map(|(address, validity)| (address.to_string(), until(validity)))
        .collect();
    let own_certificate = tls.as_ref().and_then(|tls| tls.own.as_ref().map(until));
    Cluster {
        id,
        controller,
        unlisted,
        brokers,
        missing,
        certificates,
        own_certificate,
        topic,
        group,
        transactions,
        clock,
    }
}

/// The cluster's brokers, each looked at where it says that it is.
async fn of_brokers(
    client: &Client,
    admin: &Admin,
    bootstrap: &[Endpoint],
    through_proxy: bool,
    limits: Limits,
) -> (Result<(Option<String>, Option<i32>), Trouble>, Vec<Broker>) {
    let described =
        within(limits, async { admin.describe_cluster().await.map_err(|error| Trouble::from(&error)) });
    let described = match described.await {
        Ok(described) => described,
        Err(trouble) => return (Err(trouble), Vec::new()),
    };
    let mut looking = JoinSet::new();
    for broker in described.brokers.iter().take(BROKERS_MAX) {
        let (id, endpoint) = (broker.id, Endpoint::new(&broker.host, broker.port));
        let known = bootstrap
            .iter()
            .find(|known| known.host == endpoint.host && known.port == endpoint.port)
            .cloned();
        let admin = client.admin().timeout(limits.step);
        looking.spawn(async move {
            let mut at = match known {
                Some(known) => known,
                None if through_proxy => endpoint,
                None => reach_one(endpoint, limits).await,
            };
            let mut apis = Vec::new();
            if through_proxy || at.is_reached() {
                let asking = async { admin.api_versions(id).await.map_err(|error| Trouble::from(&error)) };
                let versions = within(limits, asking).await;
                at.talked = Some(versions.map(|versions| {
                    apis = versions.iter().filter(|api| api.is_common).filter_map(|api| api.name).collect();
                }));
            }
            Broker { id, at, apis }
        });
    }
    let mut brokers = Vec::new();
    while let Some(Ok(broker)) = looking.join_next().await {
        brokers.push(broker);
    }
    brokers.sort_by_key(|broker| broker.id);
    (Ok((described.cluster_id, described.controller)), brokers)
}

/// The brokers that are down although replicas are on them.
async fn of_replicas(admin: &Admin, limits: Limits) -> Vec<(i32, usize)> {
    let asking = async { admin.topics().await.map_err(|error| Trouble::from(&error)) };
    let mut missing = BTreeMap::new();
    for topic in within(limits, asking).await.unwrap_or_default() {
        for broker in topic.partitions.iter().flat_map(|partition| &partition.offline) {
            *missing.entry(*broker).or_insert(0) += 1;
        }
    }
    missing.into_iter().collect()
}

async fn of_topic(admin: &Admin, topic: Option<&str>, limits: Limits) -> Option<Topic> {
    let topic = topic?;
    let describing = async {
        let described = admin.describe_topics([topic]).await.and_then(|mut all| match all.pop() {
            Some((_, described)) => described,
            None => Ok(milena::TopicDescription {
                name: topic.into(),
                id: None,
                is_internal: false,
                partitions: Vec::new(),
            }),
        });
        described.map_err(|error| Trouble::from(&error))
    };
    let resource = ConfigResource::Topic(topic.to_owned());
    let configs = async { admin.describe_configs(&resource).await.map_err(|error| Trouble::from(&error)) };
    let rights = async { admin.topic_rights(topic).await.map_err(|error| Trouble::from(&error)) };
    let (described, configs, rights) =
        tokio::join!(within(limits, describing), within(limits, configs), within(limits, rights));
    let partition = |partition: &milena::PartitionDescription| Partition {
        index: partition.index,
        leader: partition.leader,
        replicas: partition.replicas.len(),
        in_sync: partition.isr.len(),
    };
    Some(Topic {
        described: described.map(|topic| topic.partitions.iter().map(partition).collect()),
        configs: configs.ok().map(|configs| {
            configs.into_iter().map(|config| (config.name, config.value.unwrap_or_default())).collect()
        }),
        rights: rights.ok().flatten().map(|rights| Rights { read: rights.read, write: rights.write }),
    })
}

async fn of_group(admin: &Admin, group: Option<&str>, limits: Limits) -> Option<Result<(), Trouble>> {
    let checking = admin.check_group(group?);
    Some(within(limits, async { checking.await.map_err(|error| Trouble::from(&error)) }).await)
}

async fn of_transactions(admin: &Admin, id: Option<&str>, limits: Limits) -> Option<Result<(), Trouble>> {
    let looking = admin.transaction_coordinator(id?);
    Some(within(limits, async { looking.await.map(drop).map_err(|error| Trouble::from(&error)) }).await)
}

/// Writes one record, and compares the time that the broker gave it with ours, if the topic keeps the broker's times.
async fn of_clock(client: &Client, topic: &str, is_told: bool, limits: Limits) -> Clock {
    let millis = || {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
    };
    let writing = async {
        let producer = client.producer().build().await.map_err(|error| Trouble::from(&error))?;
        let before = millis();
        let receipt = producer
            .send(Record::to(topic).value("milena doctor"))
            .await
            .map_err(|error| Trouble::from(&error))?;
        Ok((before, millis(), receipt))
    };
    match within(limits, writing).await {
        Err(trouble) => Clock::NotWritten(trouble),
        Ok((before, after, receipt)) if is_told => {
            let by_ms = receipt.timestamp_ms() - before.midpoint(after);
            Clock::Differs { by_ms, round_trip_ms: after - before }
        }
        Ok(_) => Clock::NotTold,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_on_this_machine_is_known_by_its_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("bound").port();
        let limits = Limits { end: Instant::now() + Duration::from_secs(60), step: Duration::from_secs(60) };
        let endpoint = reach_one(Endpoint::new("127.0.0.1", port), limits).await;
        assert!(endpoint.is_reached() && endpoint.is_here, "{endpoint:?}");
    }
}
