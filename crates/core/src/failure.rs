//! Why a request, a batch or a partition failed, in terms of the protocol. A failure is cheap to clone, because one cause may
//! fail many batches.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use milena_messages::Fault;
use milena_messages::{ApiKey, ErrorCode};

use crate::ErrorKind;
use crate::rights::{Resource, Right};

/// Why something failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Failure {
    /// A broker answered with an error.
    Answer {
        /// The broker's code.
        code: ErrorCode,
        /// The broker's own message, if it sent one.
        message: Option<Arc<str>>,
        /// What the principal must be allowed, if that is why.
        needs: Option<Box<Right>>,
    },
    /// No connection could be made, so nothing was sent.
    Unreachable {
        /// `host:port`, and the broker's id when it is known.
        peer: Arc<str>,
        /// What stands in the way. It tells whether trying again can help, and whose fault it is.
        obstacle: Obstacle,
        /// What exactly, where it is known.
        cause: Option<Cause>,
        /// What happened.
        reason: Arc<str>,
    },
    /// A broker and the client did not come to know each other, so nothing was sent.
    Unauthenticated {
        /// `host:port`, and the broker's id when it is known.
        peer: Arc<str>,
        /// The SASL mechanism; empty if the client has no credentials.
        mechanism: &'static str,
        /// The broker's code, if it sent one.
        code: Option<ErrorCode>,
        /// Whether the credentials, the settings or the broker stand in the way.
        obstacle: Obstacle,
        /// What happened.
        reason: Arc<str>,
    },
    /// The connection was lost or given up while the request was under way on it.
    Lost {
        /// `host:port`, and the broker's id when it is known.
        peer: Arc<str>,
        /// What happened.
        reason: Arc<str>,
        /// Whether the request was handed to the network, so that the broker may have acted on it.
        sent: bool,
    },
    /// No answer came by the deadline.
    TimedOut {
        /// The peer that did not answer.
        peer: Arc<str>,
        /// How long we waited.
        after: Duration,
        /// Whether the request was handed to the network.
        sent: bool,
    },
    /// The peer sent something that does not follow the protocol.
    Malformed {
        /// The peer.
        peer: Arc<str>,
        /// What is wrong with its answer.
        reason: Arc<str>,
    },
    /// The peer announced a response that is larger than a setting of ours allows. It was not read.
    OverLimit {
        /// The peer.
        peer: Arc<str>,
        /// How many bytes the peer announced.
        announced: usize,
        /// How many bytes are allowed.
        limit: usize,
        /// The name of the setting.
        setting: &'static str,
    },
    /// Broker and client have no version of a request in common.
    NoCommonVersion {
        /// The broker.
        peer: Arc<str>,
        /// The request.
        api: ApiKey,
        /// The request, and the versions of both sides.
        reason: Arc<str>,
    },
    /// The caller asked for something that cannot be done. The text is a clause that says why.
    Caller(Arc<str>),
    /// A record was not delivered within its delivery timeout.
    Undelivered {
        /// The timeout.
        after: Duration,
        /// What it waited for before it could be sent, if that is known to have taken the time: a clause that follows "waiting for".
        waited_for: Option<&'static str>,
        /// The last failure, if there was one.
        last: Option<Box<Failure>>,
    },
    /// The broker expects another sequence than this producer has, and an earlier attempt may have been appended.
    SequenceLost {
        /// The code of the broker's answer that showed it.
        code: Option<ErrorCode>,
    },
    /// The metadata has no such topic, partition or broker, or no leader for the partition.
    NoRoute(Arc<str>),
    /// There was no room for a record in the producer's memory in time.
    NoRoom {
        /// How long its caller waited.
        after: Duration,
    },
    /// The program gave up what it had produced before.
    Purged,
    /// A record is larger than our own settings allow.
    TooLarge(Arc<str>),
    /// A record or a batch of the log cannot be read.
    Unreadable {
        /// "the record" or "the batch".
        what: &'static str,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// A transaction cannot be committed any more.
    Doomed {
        /// Why.
        cause: Box<Failure>,
        /// Whether the producer can do nothing more. Otherwise it can go on once the transaction is aborted.
        is_fatal: bool,
    },
    /// The client's runtime has ended, and with it the tasks that drive the client.
    Closed,
    /// The producer or consumer has ended. The text is a clause, such as "the producer was closed".
    Ended(&'static str),
}

/// What stands in the way of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// The network, or a broker that is down or starting. It may pass.
    Network,
    /// The host's name does not resolve. It may pass, because in many places names appear late. A misspelt name never resolves,
    /// so a warning is logged the first time.
    Name,
    /// The client's own settings: an address that is not possible, a file that cannot be read. It stays until somebody changes
    /// them.
    Configuration,
    /// The broker refuses the credentials. It stays until somebody changes them, and asking again may lock the account.
    Credentials,
    /// One side does not trust the other side's certificate. It stays until somebody changes it.
    Certificate,
    /// The server at the address is not a Kafka broker, or not one that this client can talk to. It stays.
    Peer,
}

/// What exactly stands in the way of a connection, where people can mend it in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// A certificate of the broker has expired.
    CertificateExpired,
    /// A certificate of the broker is not valid yet, or this machine's clock is slow.
    CertificateNotYetValid,
    /// The broker's certificate is for other host names.
    CertificateOfAnotherHost,
    /// No trusted root has signed the broker's certificate.
    CertificateUntrusted,
    /// The broker's certificate is revoked, or no revocation list says that it is not.
    CertificateRevoked,
    /// The broker requires a certificate of the client, which has none.
    ClientCertificateRequired,
    /// The broker refuses the client's certificate.
    ClientCertificateRefused,
    /// Client and broker have no TLS version and cipher suite in common.
    NoCommonTls,
    /// The broker speaks plain text on this port, and the client TLS.
    PeerIsPlain,
    /// The broker speaks TLS on this port, and the client plain text.
    PeerIsTls,
    /// The peer speaks another protocol, such as HTTP.
    PeerIsForeign,
}

impl Obstacle {
    /// Whether trying again is in vain until somebody changes something.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Network | Self::Name)
    }

    /// Whose fault it is.
    pub fn fault(self) -> Fault {
        match self {
            Self::Network | Self::Name => Fault::Network,
            Self::Configuration | Self::Credentials => Fault::Caller,
            Self::Certificate | Self::Peer => Fault::Broker,
        }
    }
}

impl Failure {
    /// A failure to connect to `peer`, for a reason that may pass.
    pub fn unreachable(peer: impl Into<Arc<str>>, reason: impl Into<Arc<str>>) -> Self {
        let (peer, reason) = (peer.into(), reason.into());
        Self::Unreachable { peer, obstacle: Obstacle::Network, cause: None, reason }
    }

    /// An answer with `code` and the broker's message. An empty message counts as none.
    pub fn answer(code: ErrorCode, message: Option<&str>) -> Self {
        let message = message.filter(|text| !text.is_empty()).map(Arc::from);
        Self::Answer { code, message, needs: None }
    }

    /// The same, as an answer to a request of this kind. A refusal for want of a right then names the right.
    #[must_use]
    pub fn of(mut self, api: ApiKey) -> Self {
        if let Self::Answer { code, needs, .. } = &mut self
            && needs.is_none()
        {
            *needs = Right::needed(api, *code).map(Box::new);
        }
        self
    }

    /// The same, of a question that was asked in order to send `api` next. The right for that implies the one to ask, so an
    /// administrator has to be told of one only.
    #[must_use]
    pub fn in_order_to(mut self, api: ApiKey) -> Self {
        if let Self::Answer { needs: Some(right), .. } = &mut self {
            **right = right.as_ref().clone().instead_for(api);
        }
        self
    }

    /// The same. A right that it names is one on this resource, if it is of this type.
    #[must_use]
    pub fn on(mut self, resource: Resource, name: &str) -> Self {
        if let Self::Answer { needs: Some(right), .. } = &mut self {
            **right = right.as_ref().clone().on(resource, name);
        }
        self
    }

    /// The same. A right that it names is one of this principal, as in `User:alice`.
    #[must_use]
    pub fn by(mut self, principal: &Arc<str>) -> Self {
        match &mut self {
            Self::Answer { needs: Some(right), .. } => {
                **right = right.as_ref().clone().of_principal(principal);
            }
            Self::Undelivered { last: Some(inner), .. } | Self::Doomed { cause: inner, .. } => {
                let failure = std::mem::replace(inner.as_mut(), Self::Closed);
                **inner = failure.by(principal);
            }
            _ => {}
        }
        self
    }

    /// What the principal must be allowed, if that is why a broker refused.
    pub fn needs(&self) -> Option<&Right> {
        match self {
            Self::Answer { needs, .. } => needs.as_deref(),
            Self::Undelivered { last, .. } => last.as_ref().and_then(|last| last.needs()),
            Self::Doomed { cause, .. } => cause.needs(),
            _ => None,
        }
    }

    /// Turns the code and the message of an answer into a result.
    ///
    /// # Errors
    /// When the code is an error.
    pub fn check(code: ErrorCode, message: Option<&str>) -> Result<(), Self> {
        code.ok().map_err(|code| Self::answer(code, message))
    }

    /// A broker's answer does not mention something that was asked for. If that was an order, it may have been carried out.
    pub fn incomplete() -> Self {
        Self::Malformed { peer: "the broker".into(), reason: "its answer does not mention it".into() }
    }

    /// One failure for several attempts at the same thing. It may pass if one of them may. A response above our limit is told
    /// alone: other brokers answer the same, so it neither passes nor is it a broker's fault.
    pub fn all(mut failures: Vec<Self>) -> Self {
        if let Some(index) = failures.iter().position(|failure| matches!(failure, Self::OverLimit { .. })) {
            return failures.swap_remove(index);
        }
        match failures.len() {
            0 => Self::NoRoute(Arc::from("no broker is known that could be asked")),
            1 => failures.remove(0),
            _ => {
                let reasons: Vec<_> = failures.iter().map(ToString::to_string).collect();
                let obstacle = match failures.iter().find(|failure| failure.is_retriable()) {
                    Some(failure) => failure.obstacle().unwrap_or(Obstacle::Network),
                    None => failures.iter().find_map(Self::obstacle).unwrap_or(Obstacle::Peer),
                };
                let cause = failures.iter().find_map(Self::cause);
                let reason = reasons.join("; ").into();
                Self::Unreachable { peer: "any of them".into(), obstacle, cause, reason }
            }
        }
    }

    /// The failure of the other requests that were under way on the connection which ended with this one. A response above our
    /// limit is an answer to one request, and says nothing of those after it.
    #[must_use]
    pub fn of_others(&self) -> Self {
        match self {
            Self::OverLimit { peer, setting, .. } => Self::Lost {
                peer: Arc::clone(peer),
                reason: format!("the answer to another request is larger than {setting} allows").into(),
                sent: true,
            },
            other => other.clone(),
        }
    }

    /// What stood in the way of a connection, if that was the cause.
    pub fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::Unreachable { obstacle, .. } | Self::Unauthenticated { obstacle, .. } => Some(*obstacle),
            Self::Undelivered { last, .. } => last.as_ref().and_then(|last| last.obstacle()),
            Self::Doomed { cause, .. } => cause.obstacle(),
            _ => None,
        }
    }

    /// What exactly stood in the way of a connection, where it is known.
    pub fn cause(&self) -> Option<Cause> {
        match self {
            Self::Unreachable { cause, .. } => *cause,
            Self::Undelivered { last, .. } => last.as_ref().and_then(|last| last.cause()),
            Self::Doomed { cause, .. } => cause.cause(),
            _ => None,
        }
    }

    /// The broker's code, if one was the cause.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Answer { code, .. } => Some(*code),
            Self::SequenceLost { code } | Self::Unauthenticated { code, .. } => *code,
            Self::Undelivered { last, .. } => last.as_ref().and_then(|last| last.code()),
            Self::Doomed { cause, .. } => cause.code(),
            _ => None,
        }
    }

    /// Whether the broker may have acted on the request, although no good answer came back.
    pub fn may_have_acted(&self) -> bool {
        match self {
            Self::Lost { sent, .. } | Self::TimedOut { sent, .. } => *sent,
            // The broker answered, so it had the request.
            Self::Malformed { .. } | Self::OverLimit { .. } => true,
            _ => false,
        }
    }

    /// The same failure, for a request that was handed to the network, or for one that was not.
    #[must_use]
    pub fn with_sent(mut self, is_sent: bool) -> Self {
        match &mut self {
            Self::Lost { sent, .. } | Self::TimedOut { sent, .. } => *sent = is_sent,
            _ => {}
        }
        self
    }

    /// Whether trying the same again later can succeed.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Answer { code, .. } => code.is_retriable(),
            Self::Unreachable { obstacle, .. } | Self::Unauthenticated { obstacle, .. } => {
                !obstacle.is_final()
            }
            Self::Lost { .. } | Self::TimedOut { .. } | Self::NoRoute(_) | Self::NoRoom { .. } => true,
            Self::Undelivered { last, .. } => last.as_ref().is_none_or(|last| last.is_retriable()),
            _ => false,
        }
    }

    /// Whether trying again is in vain until somebody changes settings, credentials, rights or software. A failure that is not
    /// retriable need not be final: another broker may do better, or the next answer may be good.
    pub fn is_final(&self) -> bool {
        let is_refused = self.kind() == ErrorKind::Authorization;
        let is_foreign = matches!(self, Self::NoCommonVersion { .. });
        is_refused || is_foreign || self.obstacle().is_some_and(Obstacle::is_final)
    }

    /// Whether one side does not accept the other's credentials or certificate, or they have no mechanism in common. It stays so
    /// until somebody changes something, and trying again and again may lock the account.
    pub fn is_authentication(&self) -> bool {
        self.kind() == ErrorKind::Authentication
    }

    /// Whether a broker refused the client's credentials. Others are not asked then: each refusal may count towards the
    /// locking of an account.
    pub fn is_refusal_of_credentials(&self) -> bool {
        matches!(self, Self::Unauthenticated { obstacle: Obstacle::Credentials, .. })
    }

    /// Whether the client has nothing to authenticate with at present, because whoever gives its tokens does not answer. All
    /// connections need the same token, and it is fetched again with a backoff of its own: a caller that asks again, or asks
    /// another broker, only learns it later.
    pub fn is_want_of_credentials(&self) -> bool {
        matches!(self, Self::Unauthenticated { obstacle, code: None, .. } if !obstacle.is_final())
    }

    /// Whether the peer's answer cannot be used: it breaks the protocol, or is larger than our setting allows. A peer may send
    /// such an answer once by accident; after the second in a row it is not asked again.
    pub fn is_unusable(&self) -> bool {
        matches!(self, Self::Malformed { .. } | Self::OverLimit { .. })
    }

    /// Whether a broker refuses this instance because it knows a newer one: another instance has taken over, or for a
    /// transactional producer a late request of its own has raised the epoch.
    pub fn is_fenced(&self) -> bool {
        self.code().is_some_and(ErrorCode::is_fenced)
    }

    /// Whether the producer or consumer that met it can do nothing more.
    pub fn is_fatal(&self) -> bool {
        if let Self::Doomed { is_fatal, .. } = self {
            return *is_fatal;
        }
        // With other credentials it can go on.
        if matches!(self, Self::Unauthenticated { .. }) {
            return false;
        }
        // If only a topic or a group is refused, the producer or consumer can go on with other topics.
        let refused = self.code().is_some_and(|code| {
            let is_of_everything = matches!(
                code,
                ErrorCode::CLUSTER_AUTHORIZATION_FAILED | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            );
            is_of_everything || code.is_authentication()
        });
        refused || self.is_fenced() || matches!(self, Self::Closed | Self::Ended(_))
    }

    /// Whether a transaction in which it happened has to be aborted: trying again does not help, and the producer can go on.
    pub fn requires_abort(&self) -> bool {
        !self.is_fatal() && !self.is_retriable()
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { obstacle, .. } | Self::Unauthenticated { obstacle, .. } => obstacle.fault(),
            Self::Lost { .. } | Self::TimedOut { .. } | Self::NoRoom { .. } => Fault::Network,
            Self::Undelivered { last, .. } => last.as_ref().map_or(Fault::Network, |last| last.fault()),
            Self::Doomed { cause, .. } => cause.fault(),
            Self::Malformed { .. }
            | Self::NoCommonVersion { .. }
            | Self::SequenceLost { .. }
            | Self::Unreadable { .. }
            | Self::NoRoute(_) => Fault::Broker,
            Self::Caller(_)
            | Self::TooLarge(_)
            | Self::OverLimit { .. }
            | Self::Purged
            | Self::Closed
            | Self::Ended(_) => Fault::Caller,
            // All that is known of a code which this release does not have is that a broker sent it.
            Self::Answer { code, .. } => code.fault().unwrap_or(Fault::Broker),
        }
    }

    /// What to do about it, if there is more to say than what happened.
    pub fn advice(&self) -> Option<Cow<'static, str>> {
        if let Some(right) = self.needs() {
            return Some(format!("an administrator must grant {} {right}", right.principal()).into());
        }
        self.advice_of_kind().map(Cow::Borrowed)
    }

    fn advice_of_kind(&self) -> Option<&'static str> {
        match self {
            Self::Undelivered { last: Some(last), .. } => return last.advice_of_kind(),
            Self::Doomed { cause, .. } => return cause.advice_of_kind(),
            Self::SequenceLost { .. } => {
                return Some("compare with what the topic holds before sending it again");
            }
            Self::OverLimit { .. } => return Some("raise the limit, or ask for less at a time"),
            Self::NoCommonVersion { api, .. } => return Some(needed(*api)),
            _ => {}
        }
        Some(match self.code()? {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => "create the topic, or check its name",
            code if code.is_authorization() => "an administrator must grant this principal the right",
            ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => {
                "raise the topic's max.message.bytes, or make the record smaller"
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                "the records there were deleted or never written: seek to another position, or set a reset policy"
            }
            ErrorCode::NOT_ENOUGH_REPLICAS | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND => {
                "brokers are down, or min.insync.replicas is above the replication factor"
            }
            ErrorCode::PRODUCER_FENCED => {
                "if no other producer has this transactional id, the transaction was open for longer than \
                 transaction.timeout.ms, or a request of this producer that had been lost was carried out late"
            }
            ErrorCode::INVALID_TRANSACTION_TIMEOUT => {
                "lower transaction.timeout.ms, or raise the brokers' transaction.max.timeout.ms"
            }
            ErrorCode::SECURITY_DISABLED => {
                "ACLs need an authorizer: set authorizer.class.name on the brokers and controllers"
            }
            ErrorCode::DELEGATION_TOKEN_AUTH_DISABLED => {
                "delegation tokens need a key: set delegation.token.secret.key on the brokers and controllers"
            }
            ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED => {
                "tokens are given only to who logged in by SASL or a client certificate, and not by a token"
            }
            ErrorCode::DELEGATION_TOKEN_OWNER_MISMATCH => {
                "only a token's owner and its renewers may change it"
            }
            ErrorCode::INVALID_REPLICATION_FACTOR => {
                "the cluster has fewer brokers than replicas were asked for"
            }
            _ => return None,
        })
    }
}

/// The brokers that know a request.
fn needed(api: ApiKey) -> &'static str {
    match api {
        ApiKey::ConsumerGroupHeartbeat => {
            "the consumer protocol (KIP-848) needs brokers from Kafka 4.0 on, and the classic protocol works with all"
        }
        ApiKey::ConsumerGroupDescribe => "it needs brokers from Kafka 4.0 on (KIP-848)",
        ApiKey::IncrementalAlterConfigs => "it needs brokers from Kafka 2.3 on (KIP-339)",
        ApiKey::OffsetDelete => "it needs brokers from Kafka 2.4 on (KIP-496)",
        ApiKey::ListConfigResources => "it needs brokers from Kafka 3.7 on (KIP-714)",
        ApiKey::DescribeCluster => "it needs brokers from Kafka 2.8 on (KIP-700)",
        _ => "brokers from Kafka 2.1 on are supported",
    }
}

/// A warning to be logged: something has failed several times in a row and is still being tried.
#[derive(Debug, Clone)]
pub struct Notice {
    /// What is being tried.
    pub doing: Arc<str>,
    /// Why it failed last.
    pub failure: Failure,
    /// How many times in a row it has failed.
    pub failures: u32,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Message and description may end in a full stop, and the text goes on after them.
            Self::Answer { code, message, .. } => {
                let words = message.as_deref().unwrap_or(code.description()).trim_end_matches('.');
                write!(f, "{}: {words}", code.name())
            }
            Self::Unreachable { peer, reason, .. } => write!(f, "cannot reach {peer}: {reason}"),
            Self::Unauthenticated { peer, mechanism: "", reason, .. } => {
                write!(f, "cannot authenticate to {peer}: {reason}")
            }
            Self::Unauthenticated { peer, mechanism, reason, .. } => {
                write!(f, "cannot authenticate with {mechanism} to {peer}: {reason}")
            }
            Self::Lost { peer, reason, .. } => write!(f, "lost the connection to {peer}: {reason}"),
            Self::TimedOut { peer, after, .. } => write!(f, "{peer} did not answer within {:?}", rounded(*after)),
            Self::Malformed { peer, reason } => write!(f, "{peer} does not follow the Kafka protocol: {reason}"),
            Self::OverLimit { peer, announced, limit, setting } => {
                write!(f, "{peer} announced a response of {announced} bytes, and {setting} allows {limit}")
            }
            Self::NoCommonVersion { peer, reason, .. } => write!(f, "{peer}: {reason}"),
            Self::Caller(reason) => f.write_str(reason),
            Self::Undelivered { after, waited_for, last } => {
                write!(f, "not delivered within {:?}", rounded(*after))?;
                if let Some(what) = waited_for {
                    write!(f, ", waiting for {what}")?;
                }
                last.as_ref().map_or(Ok(()), |last| write!(f, "; the last attempt: {last}"))
            }
            Self::SequenceLost { .. } => f.write_str(
                "the broker lost track of this producer's sequence, so sending again could write the record twice",
            ),
            Self::NoRoute(reason) => f.write_str(reason),
            Self::NoRoom { after: Duration::ZERO } => {
                f.write_str("there is no room in the producer's memory: records come faster than they are written")
            }
            Self::NoRoom { after } => {
                write!(f, "no room came free in the producer's memory within {:?}: records come faster than they are written", rounded(*after))
            }
            Self::Purged => f.write_str("the program gave it up (purge)"),
            Self::TooLarge(reason) => f.write_str(reason),
            Self::Unreadable { what, reason } => write!(f, "{what} cannot be read: {reason}"),
            Self::Doomed { cause, is_fatal: false } => write!(f, "the transaction cannot be committed: {cause}"),
            Self::Doomed { cause, is_fatal: true } => {
                write!(f, "the transactional producer can do nothing more: {cause}")
            }
            Self::Closed => f.write_str("the runtime that drives the client has ended"),
            Self::Ended(what) => f.write_str(what),
        }
    }
}

/// Rounded to milliseconds, because what is left of a deadline is no round number.
fn rounded(after: Duration) -> Duration {
    Duration::from_millis(u64::try_from((after.as_micros() + 500) / 1000).unwrap_or(u64::MAX))
}

impl std::error::Error for Failure {}
