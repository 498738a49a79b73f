//! What the probes have seen: plain data, without any judgement. Tests make it by hand.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use milena::{Cause, ErrorCode, ErrorKind, Obstacle};

/// Everything that was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) now: SystemTime,
    pub(crate) setup: Setup,
    /// The proxy's own name and port, if there is a proxy.
    pub(crate) proxy: Option<Endpoint>,
    /// The bootstrap servers, in the order of the settings.
    pub(crate) bootstrap: Vec<Endpoint>,
    /// None if no bootstrap server let the client in.
    pub(crate) cluster: Option<Cluster>,
    pub(crate) asked: Asked,
}

/// What the user wants to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) topic: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) transactional_id: Option<String>,
    /// Whether a record may be written to the topic.
    pub(crate) writes: bool,
}

/// What the settings say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    /// Why they are refused, if they are.
    pub(crate) refused: Option<String>,
    /// Properties without effect, and why.
    pub(crate) ignored: Vec<(String, String)>,
    /// The profile that they come from.
    pub(crate) profile: Option<String>,
    pub(crate) has_tls: bool,
    /// The mechanism and the user, if the client authenticates.
    pub(crate) sasl: Option<(String, Option<String>)>,
    /// Whether the certificates of brokers are looked at.
    pub(crate) checks_certificates: bool,
    /// The largest batch that a producer sends, in bytes.
    pub(crate) batch_bytes_max: usize,
}

/// A host and a port, and how far a connection to it came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// What the name stands for, or why it stands for nothing. None if it was not looked up.
    pub(crate) addresses: Option<Result<Vec<IpAddr>, String>>,
    /// What came of a connection to each address.
    pub(crate) reached: Vec<(SocketAddr, Result<(), Unreached>)>,
    /// Whether a connection began and ended at the same address, so that it is on this machine.
    pub(crate) is_here: bool,
    /// What came of talking to it as a client. None if that was not tried.
    pub(crate) talked: Option<Result<(), Trouble>>,
}

/// Why there is no TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unreached {
    Refused,
    TimedOut,
    Other(String),
}

/// An error of the client, in parts.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) text: String,
    pub(crate) kind: ErrorKind,
    pub(crate) obstacle: Option<Obstacle>,
    pub(crate) cause: Option<Cause>,
    pub(crate) code: Option<ErrorCode>,
}

/// What the cluster says of itself and of what was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cluster {
    pub(crate) id: Option<String>,
    pub(crate) controller: Option<i32>,
    /// Why the cluster does not say which brokers it has, if it does not.
    pub(crate) unlisted: Option<Trouble>,
    pub(crate) brokers: Vec<Broker>,
    /// Brokers that hold replicas and are not up, with the number of these replicas.
    pub(crate) missing: Vec<(i32, usize)>,
    /// Until when the certificates are valid that brokers have shown, by address.
    pub(crate) certificates: Vec<(String, SystemTime)>,
    /// Until when the client's own certificate is valid.
    pub(crate) own_certificate: Option<SystemTime>,
    pub(crate) topic: Option<Topic>,
    pub(crate) group: Option<Result<(), Trouble>>,
    pub(crate) transactions: Option<Result<(), Trouble>>,
    pub(crate) clock: Option<Clock>,
}

/// A broker that the cluster says is up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) at: Endpoint,
    /// The names of the requests that broker and client have in common.
    pub(crate) apis: Vec<&'static str>,
}

/// The topic that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) described: Result<Vec<Partition>, Trouble>,
    /// Its settings by name; none if they may not be seen.
    pub(crate) configs: Option<Vec<(String, String)>>,
    /// What the principal may do; none if the broker does not tell.
    pub(crate) rights: Option<Rights>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    pub(crate) leader: Option<i32>,
    pub(crate) replicas: usize,
    pub(crate) in_sync: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rights {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// What writing a record told of the broker's clock.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The broker's time less ours, in milliseconds, at most half a round trip wrong.
    Differs {
        by_ms: i64,
        round_trip_ms: i64,
    },
    /// The topic keeps the times of producers.
    NotTold,
    NotWritten(Trouble),
}

impl Endpoint {
    pub(crate) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port, ..Self::default() }
    }

    /// As `host:port`.
    pub(crate) fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Whether a TCP connection was made.
    pub(crate) fn is_reached(&self) -> bool {
        self.reached.iter().any(|(_, outcome)| outcome.is_ok())
    }
}

impl From<&milena::Error> for Trouble {
    fn from(error: &milena::Error) -> Self {
        let text = error.to_string();
        Self {
            text,
            kind: error.kind(),
            obstacle: error.obstacle(),
            cause: error.cause(),
            code: error.code(),
        }
    }
}
