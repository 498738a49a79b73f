//! `milena broker`: the embedded broker in the foreground.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use milena::oauth::Endpoint;
use milena_broker::{Authority, Authorizer, Broker, Builder, Listener, OauthValidator, SaslMechanism, Tls};
use tokio::net::lookup_host;

use super::pushed;
use crate::cluster::{property, seconds};
use crate::exit::{Exit, Failure};
use crate::interrupt::Interrupt;
use crate::output::{Reader, print, tell};

const EXAMPLES: &str = "\
Examples:
  milena broker                                     one node on 127.0.0.1:9092, in memory
  milena broker --nodes 3 --port 0                  three nodes on free ports
  milena broker --data-dir ./data --topic orders:12 on disk, with a topic of 12 partitions
  milena broker -c group.consumer.heartbeat.interval.ms=500
                                                    groups that notice changes sooner
  milena broker --sasl scram --users users.txt      users with passwords: lines such as alice:secret
  milena broker --oauth-jwks https://issuer/jwks --oauth-audience kafka
                                                    clients log in by tokens of this issuer
  milena broker --tls ca.pem                        TLS; clients trust the certificate in ca.pem
  milena broker --sasl plain --users users.txt --acl --super-user User:admin
                                                    clients do only what ACLs allow
  milena broker --host 0.0.0.0 --advertised-host me --sasl scram --users users.txt
                                                    for other machines, which reach this one as me

The first line on stdout is the bootstrap address; it is printed when the broker accepts connections.
The broker is for development and tests. All its nodes are this one process.";

/// Serves the Kafka protocol until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The number of nodes; each has its own port
    #[arg(short, long, default_value = "1", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub(crate) nodes: u16,

    /// The first node's port; the next nodes take the next ports. 0 takes free ports
    #[arg(short, long, default_value = "9092")]
    pub(crate) port: u16,

    /// The address or host name to listen on. One that is not loopback needs --sasl, --oauth-jwks,
    /// --tls-clients or --allow-anyone
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,

    /// The host name or address that clients connect to. Default: the address of --host, or loopback if that is all
    /// addresses
    #[arg(long, value_name = "HOST", value_parser = advertised_host)]
    pub(crate) advertised_host: Option<String>,

    /// Let everyone who can reach --host read, write and delete everything
    #[arg(long)]
    pub(crate) allow_anyone: bool,

    /// Have clients log in by these SASL mechanisms: plain, scram (both of them), scram-sha-256 or scram-sha-512, separated by
    /// commas
    #[arg(long, value_name = "MECHANISMS", value_delimiter = ',', value_parser = mechanisms)]
    pub(crate) sasl: Vec<Mechanisms>,

    /// The file with the users of --sasl, one NAME:PASSWORD per line. Default: the lines of the environment variable
    /// MILENA_BROKER_USERS
    #[arg(long, value_name = "FILE", requires = "sasl")]
    pub(crate) users: Option<PathBuf>,

    /// Have clients log in by OAUTHBEARER, with tokens that one of these keys signed: a JSON Web Key Set in a file, or at a URL of
    /// https or, on this machine, of http. It is read again each minute
    #[arg(long, value_name = "FILE|URL")]
    pub(crate) oauth_jwks: Option<String>,

    /// The issuer that tokens must name (iss). Default: any
    #[arg(long, value_name = "ISSUER", requires = "oauth_jwks")]
    pub(crate) oauth_issuer: Option<String>,

    /// An audience of which tokens must name one (aud); may be repeated. Default: tokens name none
    #[arg(long, value_name = "AUDIENCE", requires = "oauth_jwks")]
    pub(crate) oauth_audience: Vec<String>,

    /// Speak TLS with a certificate made at the start, and write that of its authority to FILE, by which clients trust it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["tls_certificate", "tls_key"])]
    pub(crate) tls: Option<PathBuf>,

    /// Speak TLS with the certificate chain in this PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,

    /// The PEM file with the private key of --tls-certificate
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Take only clients with a certificate of the authorities in this PEM file; its subject is their principal
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_clients: Option<PathBuf>,

    /// Let clients do only what ACLs allow
    #[arg(long, requires = "super_users")]
    pub(crate) acl: bool,

    /// A principal that may do everything under --acl, such as User:admin; may be repeated
    #[arg(long = "super-user", value_name = "PRINCIPAL", requires = "acl", value_parser = principal)]
    pub(crate) super_users: Vec<String>,

    /// The directory for records, in Kafka's segment format. Default: records are kept in memory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Create a topic if it does not exist, with one partition by default; may be repeated
    #[arg(short, long = "topic", value_name = "NAME[:PARTITIONS]", value_parser = topic)]
    pub(crate) topics: Vec<Topic>,

    /// Set a broker config by Kafka's name, such as group.min.session.timeout.ms or log.retention.ms; may be repeated
    #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = property)]
    pub(crate) configs: Vec<(String, String)>,

    /// Ask all clients for all their metrics (KIP-714) at this interval, from 0.1 to 3600 seconds, and print each push as a line of
    /// JSON
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) client_metrics: Option<Duration>,
}

/// What a word of --sasl means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mechanisms(Vec<SaslMechanism>);

fn mechanisms(text: &str) -> Result<Mechanisms, String> {
    let word = text.trim().to_ascii_uppercase();
    let all = match word.as_str() {
        "SCRAM" => vec![SaslMechanism::ScramSha256, SaslMechanism::ScramSha512],
        "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512" => word.parse().into_iter().collect(),
        _ => return Err("write plain, scram, scram-sha-256 or scram-sha-512".into()),
    };
    Ok(Mechanisms(all))
}

fn principal(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("User", name)) if !name.is_empty() => Ok(text.into()),
        _ => Err("write User: and a name, as in User:admin".into()),
    }
}

/// The users in a text with a NAME:PASSWORD in each line. The error does not show the text.
fn users(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| match line.split_once(':') {
            Some((name, password)) if !name.is_empty() && !password.is_empty() => Ok((name, password)),
            _ => Err(format!("line {} is not NAME:PASSWORD", number + 1)),
        })
        .collect()
}

/// A topic to start with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Topic {
    name: String,
    partitions: i32,
}

pub(super) fn topic(text: &str) -> Result<Topic, String> {
    let (name, partitions) = text.split_once(':').unwrap_or((text, "1"));
    match partitions.parse() {
        Ok(partitions) if partitions > 0 && !name.is_empty() => Ok(Topic { name: name.into(), partitions }),
        _ => Err("write NAME or NAME:PARTITIONS, as in orders:12".into()),
    }
}

fn advertised_host(text: &str) -> Result<String, String> {
    let is_wrong = |c: char| c.is_whitespace() || c.is_control() || ['/', ',', '[', ']'].contains(&c);
    // A colon is allowed in an IPv6 address only. A port is refused, because each node has its own.
    let has_port = text.contains(':') && text.parse::<Ipv6Addr>().is_err();
    if text.is_empty() || text.len() > 255 || has_port || text.contains(is_wrong) {
        return Err("write a host name or an address, without a port".into());
    }
    Ok(text.into())
}

/// The address to listen on: `host` itself, or an address of that name, IPv4 if there is one.
async fn address(host: &str) -> Result<IpAddr, Failure> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let wrong = |why: &str| Failure::usage(format!("--host {host}: {why}"));
    let found = lookup_host((host, 0)).await.map_err(|error| wrong(&error.to_string()))?;
    let mut addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.sort_by_key(IpAddr::is_ipv6);
    addresses.first().copied().ok_or_else(|| wrong("the name has no address"))
}

/// The environment variable with the users of --sasl.
const USERS: &str = "MILENA_BROKER_USERS";

fn read(option: &str, path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("{option} {}: {error}", path.display())))
}

/// The TLS that the options ask for.
fn tls(args: &Args) -> Result<Option<Tls>, Failure> {
    let refused = |error: milena_broker::Error| Failure::usage(error.to_string());
    let tls = match (&args.tls, &args.tls_certificate, &args.tls_key) {
        (Some(path), ..) => {
            let authority = Authority::new().map_err(refused)?;
            let names = ["localhost", "127.0.0.1", "::1"].into_iter();
            let names = names.chain(args.advertised_host.as_deref()).chain([args.host.as_str()]);
            let names =
                names.filter(|name| !name.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()));
            let identity = authority.server(names).map_err(refused)?;
            std::fs::write(path, authority.certificate_pem())
                .map_err(|error| Failure::failed(format!("--tls {}: {error}", path.display())))?;
            Tls::of(&identity)
        }
        (None, Some(certificate), Some(key)) => {
            let chain = read("--tls-certificate", certificate)?;
            Tls::pem(chain, read("--tls-key", key)?).map_err(refused)?
        }
        (None, ..) if args.tls_clients.is_some() => {
            return Err(Failure::usage("--tls-clients needs --tls or --tls-certificate"));
        }
        (None, ..) => return Ok(None),
    };
    match &args.tls_clients {
        Some(path) => tls.require_clients(read("--tls-clients", path)?).map(Some).map_err(refused),
        None => Ok(Some(tls)),
    }
}

/// The keys of --oauth-jwks.
async fn keys(from: &str) -> Result<String, String> {
    if from.contains("://") {
        let keys = Endpoint::new(from).allow_loopback_http();
        return keys.fetch_keys().await.map_err(|error| error.to_string());
    }
    std::fs::read_to_string(from).map_err(|error| format!("{from}: {error}"))
}

/// How often keys are read again. Issuers announce new ones earlier than that.
const KEYS_EVERY: Duration = Duration::from_secs(60);

/// The rules for tokens that the options ask for.
async fn tokens(args: &Args) -> Result<Option<OauthValidator>, Failure> {
    let Some(from) = &args.oauth_jwks else { return Ok(None) };
    let wrong = |why: String| Failure::failed(format!("--oauth-jwks: {why}"));
    let text = keys(from).await.map_err(wrong)?;
    let mut validator = OauthValidator::jwks(&text).map_err(|error| wrong(format!("{from}: {error}")))?;
    if let Some(issuer) = &args.oauth_issuer {
        validator = validator.issuer(issuer);
    }
    validator = args.oauth_audience.iter().fold(validator, OauthValidator::audience);
    let (follower, from) = (validator.clone(), from.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(KEYS_EVERY).await;
            let read = keys(&from).await;
            let read = read.and_then(|text| follower.set_jwks(&text).map_err(|error| error.to_string()));
            if let Err(why) = read {
                tell(format_args!("--oauth-jwks: the keys stay as they were: {why}"));
            }
        }
    });
    Ok(Some(validator))
}

/// Has the builder let in those whom the options let in.
async fn secure(mut builder: Builder, args: &Args) -> Result<Builder, Failure> {
    let (tls, tokens) = (tls(args)?, tokens(args).await?);
    let mut mechanisms: Vec<_> = args.sasl.iter().flat_map(|Mechanisms(all)| all.iter().copied()).collect();
    if tokens.is_some() {
        mechanisms.push(SaslMechanism::OauthBearer);
    }
    let listener = match (tls, mechanisms.is_empty()) {
        (None, true) => Listener::plaintext(),
        (None, false) => Listener::sasl_plaintext(),
        (Some(tls), true) => Listener::ssl(tls),
        (Some(tls), false) => Listener::sasl_ssl(tls),
    };
    builder = builder.listener(listener).allow_anyone(args.allow_anyone);
    if !args.sasl.is_empty() {
        let (place, text) = match &args.users {
            Some(path) => (format!("--users {}", path.display()), read("--users", path)?),
            None => (USERS.to_owned(), std::env::var(USERS).unwrap_or_default()),
        };
        let users = users(&text).map_err(|error| Failure::usage(format!("{place}: {error}")))?;
        if users.is_empty() {
            return Err(Failure::usage(format!("--sasl needs users: set --users or {USERS}")));
        }
        builder = users.into_iter().fold(builder, |builder, (name, password)| builder.user(name, password));
    }
    if !mechanisms.is_empty() {
        builder = builder.sasl_mechanisms(mechanisms);
    }
    if let Some(validator) = tokens {
        builder = builder.oauth(validator);
    }
    if args.acl {
        let users = args.super_users.iter();
        let authorizer = users.fold(Authorizer::new(), Authorizer::super_user);
        builder = builder.authorizer(authorizer);
    }
    Ok(builder)
}

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let cluster = start(args, interrupt).await?;
    // A closed stdout does not stop the broker: a program that started it with a fixed port need not read the line.
    let (Reader::Listening | Reader::Gone) = print(&format!("{}\n", cluster.bootstrap()))?;
    match args.client_metrics {
        None => interrupt.asked().await,
        Some(interval) => {
            tokio::select! {
                () = interrupt.asked() => {}
                // When nobody reads it any more the broker goes on.
                printed = pushed::print_all(&cluster, interval) => {
                    printed?;
                    interrupt.asked().await;
                }
            }
        }
    }
    cluster.shutdown().await.map_err(|error| Failure::failed(error.to_string()))
}

/// Starts the cluster, with its topics.
pub(crate) async fn start(args: &Args, interrupt: &Interrupt) -> Result<milena_broker::Cluster, Failure> {
    if args.port != 0 && args.port.checked_add(args.nodes - 1).is_none() {
        let message = format!("{} nodes from port {} need ports above 65535", args.nodes, args.port);
        return Err(Failure::usage(message));
    }
    let host = interrupt.or(address(&args.host)).await?;
    let mut builder = Broker::builder()
        .nodes(args.nodes)
        .port(args.port)
        .host(host)
        .default_replication(args.nodes.min(REPLICAS_MAX) as i16);
    if let Some(host) = &args.advertised_host {
        builder = builder.advertised_host(host);
    }
    if let Some(dir) = &args.data_dir {
        builder = builder.data_dir(dir);
    }
    builder = interrupt.or(secure(builder, args)).await?;
    builder = args.configs.iter().fold(builder, |builder, (name, value)| builder.config(name, value));
    let start = async { builder.start().await.map_err(|error| start_failure(&error, args)) };
    let cluster = interrupt.or(start).await?;
    if host.is_unspecified() && args.advertised_host.is_none() {
        tell(format_args!(
            "clients will connect to {}, which only works on this machine; set --advertised-host for others",
            cluster.bootstrap()
        ));
    }
    if let Some(interval) = args.client_metrics {
        pushed::subscribe(&cluster, interval)?;
    }
    for Topic { name, partitions } in &args.topics {
        // With --data-dir it may exist from an earlier run.
        if cluster.leader(name, 0).is_none() {
            cluster.create_topic(name, *partitions).map_err(|error| {
                let exit = if error.is_io() || error.is_damaged() { Exit::Failed } else { Exit::Usage };
                Failure::new(exit, format!("--topic {name}: {error}"))
            })?;
        }
    }
    Ok(cluster)
}

/// The most replicas that a topic has by default. All nodes are one process, so more would not protect records.
const REPLICAS_MAX: u16 = 3;

fn start_failure(error: &milena_broker::Error, args: &Args) -> Failure {
    // What is left is a setting that it cannot have.
    let exit = if error.is_io() || error.is_damaged() { Exit::Failed } else { Exit::Usage };
    let failure = Failure::new(exit, format!("the broker cannot start: {error}"));
    if error.is_damaged() {
        return failure
            .hint("Nothing on disk was changed. Choose another --data-dir, or move the damaged file away.");
    }
    if args.port != 0 && error.is_io() {
        return failure.hint("If the port is taken, --port 0 takes a free one.");
    }
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advertised_hosts_have_no_port() {
        for text in ["kafka.lan", "10.0.0.1", "fe80::1", "localhost"] {
            assert_eq!(advertised_host(text).as_deref(), Ok(text));
        }
        for text in ["", "kafka:9092", "a b", "a,b", "[::1]", "http://a", "a\n"] {
            assert!(advertised_host(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn users_are_read_and_errors_do_not_show_them() {
        assert_eq!(users("alice:secret\n\nbob:a:b\n"), Ok(vec![("alice", "secret"), ("bob", "a:b")]));
        for text in ["alice", ":secret", "alice:", "a:b\nhunter2"] {
            let error = users(text).expect_err("refused");
            assert!(!error.contains("secret") && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn mechanisms_and_principals_are_read() {
        let read = |text| mechanisms(text).map(|Mechanisms(all)| all.len());
        assert_eq!((read("plain"), read("SCRAM"), read("scram-sha-512")), (Ok(1), Ok(2), Ok(1)));
        assert!(read("gssapi").is_err() && read("").is_err());
        assert_eq!(principal("User:admin").as_deref(), Ok("User:admin"));
        assert!(principal("admin").is_err() && principal("User:").is_err());
    }

    #[test]
    fn topics_are_read() {
        let expect = |name: &str, partitions| Ok(Topic { name: name.into(), partitions });
        assert_eq!(topic("a"), expect("a", 1));
        assert_eq!(topic("a:12"), expect("a", 12));
        for text in ["", ":1", "a:", "a:0", "a:-1", "a:x", "a:1:1"] {
            assert!(topic(text).is_err(), "{text}");
        }
    }
}
