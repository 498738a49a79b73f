//! Every error code a broker can answer with, as Apache Kafka 4.4.0 numbers them.
//!
//! Names, numbers, retriability and the three classes are Kafka's, and a test checks the first three against its client;
//! whose fault a code is and the sentences are ours. What to do about a code is no fact of it, and is decided in `core`.

use std::fmt;

/// The code with which a broker answers a request, or one topic or partition of a request.
///
/// Codes of newer releases are kept as numbers: [`name`](Self::name) calls them `UNKNOWN_CODE`.
///
/// ```
/// use milena_messages::ErrorCode;
///
/// let code = ErrorCode::from_i16(6);
/// assert_eq!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER);
/// assert!(code.is_retriable());
/// assert_eq!(code.to_string(), "NOT_LEADER_OR_FOLLOWER (6)");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ErrorCode(i16);

impl ErrorCode {
    /// The code of a number on the wire.
    pub const fn from_i16(code: i16) -> Self {
        Self(code)
    }

    /// The number on the wire.
    pub const fn as_i16(self) -> i16 {
        self.0
    }

    /// Whether this is success.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Success as `Ok`, anything else as the error.
    ///
    /// # Errors
    /// The code itself, unless it is [`NONE`](Self::NONE).
    pub const fn ok(self) -> Result<(), Self> {
        if self.is_none() { Ok(()) } else { Err(self) }
    }

    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        self.facts().map_or("UNKNOWN_CODE", |facts| facts.name)
    }

    /// Whether Kafka's own client tries again after it. Codes that this release does not know are not retriable.
    pub fn is_retriable(self) -> bool {
        self.facts().is_some_and(|facts| facts.is_retriable)
    }

    /// Whose fault it is. None for [`NONE`](Self::NONE), and for codes that this release does not know.
    ///
    /// ```
    /// use milena_messages::{ErrorCode, Fault};
    ///
    /// assert_eq!(ErrorCode::INVALID_CONFIG.fault(), Some(Fault::Caller));
    /// assert_eq!(ErrorCode::NOT_ENOUGH_REPLICAS.fault(), Some(Fault::Broker));
    /// ```
    pub fn fault(self) -> Option<Fault> {
        self.facts().and_then(|facts| facts.fault)
    }

    /// Whether the principal lacks a right: Java's `AuthorizationException`.
    pub fn is_authorization(self) -> bool {
        self.class() == Some(Class::Authorization)
    }

    /// Whether the broker does not accept who the client says it is: Java's `AuthenticationException`.
    pub fn is_authentication(self) -> bool {
        self.class() == Some(Class::Authentication)
    }

    /// Whether another instance has taken over the transactional id or the place in the group, or the coordinator has
    /// removed this one.
    pub fn is_fenced(self) -> bool {
        self.class() == Some(Class::Fenced)
    }

    /// Its meaning, in one sentence.
    pub fn description(self) -> &'static str {
        self.facts().map_or("A code newer than this release of Milena.", |facts| facts.description)
    }

    fn class(self) -> Option<Class> {
        self.facts().and_then(|facts| facts.class)
    }

    fn facts(self) -> Option<&'static Facts> {
        // The table starts at −1 and has no holes (asserted by a test).
        let index = usize::try_from(i32::from(self.0) + 1).ok()?;
        FACTS.get(index)
    }
}

impl std::error::Error for ErrorCode {}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Whose fault a failure is: who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The caller asked for something that cannot be done.
    Caller,
    /// A broker refuses, or does not follow the protocol.
    Broker,
    /// Something between the client and the broker.
    Network,
}

struct Facts {
    name: &'static str,
    is_retriable: bool,
    fault: Option<Fault>,
    class: Option<Class>,
    description: &'static str,
}

/// Classes of codes that programs treat alike.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Authorization,
    Authentication,
    Fenced,
}

/// A row is: code, name, whether it is retriable, whose fault it is, its class if it has one, and what it means.
///
/// - `retry`: the Java exception of this code is a `RetriableException`; `final`: it is not.
/// - `caller`: the request names what is not there, may not be or is not allowed, and succeeds once the program, its
///   settings or its rights are changed. `broker`: the state or the settings of the cluster are in the way, however good
///   the request is. `network`: the way between them.
macro_rules! error_codes {
    ($($code:literal $name:ident $retry:tt $fault:tt $($class:ident)? $description:literal)*) => {
        impl ErrorCode {
            /// All codes that have a name, ascending.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            $(
                #[doc = $description]
                pub const $name: Self = Self($code);
            )*
        }

        static FACTS: &[Facts] = &[$(
            Facts {
                name: stringify!($name),
                is_retriable: error_codes!(@ $retry),
                fault: error_codes!(@ $fault),
                class: error_codes!(@ class $($class)?),
                description: $description,
            }
        ),*];
    };
    (@ retry) => { true };
    (@ final) => { false };
    (@ caller) => { Some(Fault::Caller) };
    (@ broker) => { Some(Fault::Broker) };
    (@ network) => { Some(Fault::Network) };
    (@ none) => { None };
    (@ class) => { None };
    (@ class authorization) => { Some(Class::Authorization) };
    (@ class authentication) => { Some(Class::Authentication) };
    (@ class fenced) => { Some(Class::Fenced) };
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR final broker "The broker failed in a way that has no code; its log says more."
    0 NONE final none "Success."
    1 OFFSET_OUT_OF_RANGE final caller "The partition holds no such offset: it is before the log's start or past its end."
    2 CORRUPT_MESSAGE retry broker "A record batch failed its checksum or is malformed, or its key is null in a compacted topic."
    3 UNKNOWN_TOPIC_OR_PARTITION retry caller "The broker knows no such topic or partition; it may exist a moment later."
    4 INVALID_FETCH_SIZE final caller "A fetch asked for an impossible number of bytes."
    5 LEADER_NOT_AVAILABLE retry broker "The partition has no leader just now: an election runs, or all replicas are down."
    6 NOT_LEADER_OR_FOLLOWER retry broker "This broker leads (or, for reads from followers, holds) the partition no longer; refresh metadata."
    7 REQUEST_TIMED_OUT retry broker "The broker gave up before the request was done; a write may have happened."
    8 BROKER_NOT_AVAILABLE final broker "A broker that the request needs is not running."
    9 REPLICA_NOT_AVAILABLE retry broker "The broker is to hold a replica of the partition, but does not serve it yet."
    10 MESSAGE_TOO_LARGE final caller "The record batch is larger than the topic's max.message.bytes."
    11 STALE_CONTROLLER_EPOCH final broker "The request comes from a controller that has been replaced."
    12 OFFSET_METADATA_TOO_LARGE final caller "The text stored beside a committed offset is longer than offset.metadata.max.bytes."
    13 NETWORK_EXCEPTION retry network "The connection was lost before an answer came; a write may have happened."
    14 COORDINATOR_LOAD_IN_PROGRESS retry broker "The coordinator is still reading its log."
    15 COORDINATOR_NOT_AVAILABLE retry broker "There is no coordinator just now, or its internal topic is not there yet."
    16 NOT_COORDINATOR retry broker "This broker is not the coordinator of that group or transactional id; look it up again."
    17 INVALID_TOPIC_EXCEPTION final caller "The topic's name is not allowed, or the topic may not be used so."
    18 RECORD_LIST_TOO_LARGE final caller "The record batch is larger than a whole segment."
    19 NOT_ENOUGH_REPLICAS retry broker "Fewer replicas are in sync than min.insync.replicas asks for; nothing was written."
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retry broker "The batch was appended, but then too few replicas were in sync."
    21 INVALID_REQUIRED_ACKS final caller "acks is none of -1, 0 and 1."
    22 ILLEGAL_GENERATION final broker "The group has moved on to another generation."
    23 INCONSISTENT_GROUP_PROTOCOL final caller "The member shares no assignment protocol with the group, or named none."
    24 INVALID_GROUP_ID final caller "The group id is empty or not allowed."
    25 UNKNOWN_MEMBER_ID final broker "The group has no such member: it left, or was removed after its session timed out."
    26 INVALID_SESSION_TIMEOUT final caller "The session timeout is outside what the broker allows."
    27 REBALANCE_IN_PROGRESS final broker "The group is rebalancing: the member has to join again."
    28 INVALID_COMMIT_OFFSET_SIZE final caller "The offset commit does not fit into a record."
    29 TOPIC_AUTHORIZATION_FAILED final caller authorization "The principal may not do this with the topic."
    30 GROUP_AUTHORIZATION_FAILED final caller authorization "The principal may not do this with the group."
    31 CLUSTER_AUTHORIZATION_FAILED final caller authorization "The principal may not do this with the cluster."
    32 INVALID_TIMESTAMP final caller "A record's timestamp is further from the broker's clock than the topic allows."
    33 UNSUPPORTED_SASL_MECHANISM final caller authentication "The broker has not enabled this SASL mechanism; its answer lists those it has."
    34 ILLEGAL_SASL_STATE final caller authentication "The request does not fit the state of the SASL exchange."
    35 UNSUPPORTED_VERSION final broker "The broker does not speak this version of the API, or lacks a feature the request needs."
    36 TOPIC_ALREADY_EXISTS final caller "A topic of this name exists."
    37 INVALID_PARTITIONS final caller "The number of partitions is not possible."
    38 INVALID_REPLICATION_FACTOR final caller "The replication factor is below 1 or above the number of brokers."
    39 INVALID_REPLICA_ASSIGNMENT final caller "The given assignment of replicas to brokers is not possible."
    40 INVALID_CONFIG final caller "A setting is unknown or its value is not allowed."
    41 NOT_CONTROLLER retry broker "This node is not the active controller."
    42 INVALID_REQUEST final caller "The request contradicts itself or the protocol."
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT final broker "The topic's record format is too old for this."
    44 POLICY_VIOLATION final caller "A policy configured on the brokers forbids it."
    45 OUT_OF_ORDER_SEQUENCE_NUMBER final broker "An idempotent producer's batch does not follow the one before it: there is a gap."
    46 DUPLICATE_SEQUENCE_NUMBER final broker "An idempotent producer's batch was written before, too long ago to say where."
    47 INVALID_PRODUCER_EPOCH final broker "The broker knows a newer epoch of this producer id: another instance has begun, the transaction was aborted by its timeout, or a late request of this producer was carried out."
    48 INVALID_TXN_STATE final broker "The transaction's state does not allow the operation."
    49 INVALID_PRODUCER_ID_MAPPING final broker "The transactional id belongs to another producer id; it may have expired."
    50 INVALID_TRANSACTION_TIMEOUT final caller "The transaction timeout is above transaction.max.timeout.ms."
    51 CONCURRENT_TRANSACTIONS retry broker "The previous transaction of this id is still being completed."
    52 TRANSACTION_COORDINATOR_FENCED final broker "The transaction marker comes from a coordinator that has been replaced."
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED final caller authorization "The principal may not use the transactional id."
    54 SECURITY_DISABLED final broker "The brokers have no authorizer, so there are no ACLs."
    55 OPERATION_NOT_ATTEMPTED final broker "Another part of the same request failed first, so this part was not tried."
    56 KAFKA_STORAGE_ERROR retry broker "The broker's disk failed under the partition's log."
    57 LOG_DIR_NOT_FOUND final caller "The broker has no such log directory."
    58 SASL_AUTHENTICATION_FAILED final caller authentication "The credentials were refused."
    59 UNKNOWN_PRODUCER_ID final broker "The partition remembers nothing of this producer: its records there have all been deleted."
    60 REASSIGNMENT_IN_PROGRESS final broker "The partition is being reassigned."
    61 DELEGATION_TOKEN_AUTH_DISABLED final broker "The brokers have delegation tokens switched off."
    62 DELEGATION_TOKEN_NOT_FOUND final caller "There is no such delegation token."
    63 DELEGATION_TOKEN_OWNER_MISMATCH final caller "The principal neither owns the delegation token nor may renew it."
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED final caller "Delegation tokens are not handed out over this kind of connection."
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED final caller authorization "The principal may not do this with the delegation token."
    66 DELEGATION_TOKEN_EXPIRED final caller "The delegation token has expired."
    67 INVALID_PRINCIPAL_TYPE final caller "This type of principal is not supported here."
    68 NON_EMPTY_GROUP final caller "The group still has members."
    69 GROUP_ID_NOT_FOUND final caller "There is no such group."
    70 FETCH_SESSION_ID_NOT_FOUND retry broker "The broker has dropped the fetch session; start a new one with a full fetch."
    71 INVALID_FETCH_SESSION_EPOCH retry broker "The fetch session's epoch is not the next one; start a new session."
    72 LISTENER_NOT_FOUND retry broker "The leader has no listener of the kind this connection uses."
    73 TOPIC_DELETION_DISABLED final broker "The brokers do not allow topics to be deleted."
    74 FENCED_LEADER_EPOCH retry broker "The request's leader epoch is older than the partition's; refresh metadata."
    75 UNKNOWN_LEADER_EPOCH retry broker "The request's leader epoch is newer than this broker knows yet."
    76 UNSUPPORTED_COMPRESSION_TYPE final caller "This version of the API cannot carry the batch's compression."
    77 STALE_BROKER_EPOCH final broker "The broker has registered again since."
    78 OFFSET_NOT_AVAILABLE retry broker "A new leader cannot vouch for the offset until its high watermark has caught up."
    79 MEMBER_ID_REQUIRED final broker "Join again with the member id of this answer."
    80 PREFERRED_LEADER_NOT_AVAILABLE retry broker "The preferred leader cannot take over now."
    81 GROUP_MAX_SIZE_REACHED final broker "The group has as many members as the broker allows."
    82 FENCED_INSTANCE_ID final caller fenced "Another consumer has taken over this group instance id."
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE retry broker "No replica may become leader."
    84 ELECTION_NOT_NEEDED retry broker "The partition has the leader that the election would give it."
    85 NO_REASSIGNMENT_IN_PROGRESS final caller "The partition is not being reassigned."
    86 GROUP_SUBSCRIBED_TO_TOPIC final caller "The group is subscribed to the topic, so its offsets there cannot be deleted."
    87 INVALID_RECORD final caller "A record was refused by the broker's checks; the answer says which."
    88 UNSTABLE_OFFSET_COMMIT retry broker "A transaction that is not complete yet has committed offsets of the group."
    89 THROTTLING_QUOTA_EXCEEDED retry broker "The quota for changes to topics is used up for now."
    90 PRODUCER_FENCED final caller fenced "The broker knows a newer epoch of the transactional id's producer: another instance has begun, or a late request of this one was carried out."
    91 RESOURCE_NOT_FOUND final caller "The request names a resource that does not exist."
    92 DUPLICATE_RESOURCE final caller "The request names a resource twice."
    93 UNACCEPTABLE_CREDENTIAL final caller "The credential does not meet the broker's requirements."
    94 INCONSISTENT_VOTER_SET final broker "Sender or receiver is not among the expected voters of the quorum."
    95 INVALID_UPDATE_VERSION final caller "The feature cannot be set to that level."
    96 FEATURE_UPDATE_FAILED final broker "The features could not be updated; the broker's log says why."
    97 PRINCIPAL_DESERIALIZATION_FAILURE final broker "A forwarded request's principal could not be read: the brokers' security settings disagree."
    98 SNAPSHOT_NOT_FOUND final broker "There is no such snapshot."
    99 POSITION_OUT_OF_RANGE final broker "The position is outside the snapshot."
    100 UNKNOWN_TOPIC_ID retry broker "The broker knows no topic of this id: it was deleted, or is not known here yet."
    101 DUPLICATE_BROKER_REGISTRATION final broker "A running broker has this id."
    102 BROKER_ID_NOT_REGISTERED final caller "No broker is registered under this id."
    103 INCONSISTENT_TOPIC_ID retry broker "The partition's log belongs to another topic id: the topic was created anew."
    104 INCONSISTENT_CLUSTER_ID final broker "The request is meant for another cluster."
    105 TRANSACTIONAL_ID_NOT_FOUND final caller "The coordinator knows no such transactional id."
    106 FETCH_SESSION_TOPIC_ID_ERROR retry broker "The fetch session mixes topic names and ids; start a new one."
    107 INELIGIBLE_REPLICA final broker "The proposed set of in-sync replicas contains one that may not be in it."
    108 NEW_LEADER_ELECTED final broker "The change was made, and has moved the partition's leader."
    109 OFFSET_MOVED_TO_TIERED_STORAGE final broker "The offset is now only in remote storage."
    110 FENCED_MEMBER_EPOCH final broker fenced "The coordinator has fenced the member: it gives up all partitions and joins again."
    111 UNRELEASED_INSTANCE_ID final caller "Another member still uses this group instance id; it must leave first."
    112 UNSUPPORTED_ASSIGNOR final caller "The group does not know this assignor."
    113 STALE_MEMBER_EPOCH final broker "The member's epoch is behind; try again with that of the next heartbeat."
    114 MISMATCHED_ENDPOINT_TYPE final caller "A broker was asked what only controllers answer, or the reverse."
    115 UNSUPPORTED_ENDPOINT_TYPE final caller "This kind of endpoint is not supported."
    116 UNKNOWN_CONTROLLER_ID final broker "There is no controller of this id."
    117 UNKNOWN_SUBSCRIPTION_ID final broker "The telemetry subscription has changed; get it again."
    118 TELEMETRY_TOO_LARGE final broker "The pushed metrics are larger than the broker takes."
    119 INVALID_REGISTRATION final broker "The controller refused the broker's registration."
    120 TRANSACTION_ABORTABLE final broker "The transaction cannot be committed any more; after an abort the producer can go on."
    121 INVALID_RECORD_STATE final caller "The acquired record is in a state that this acknowledgement does not fit."
    122 SHARE_SESSION_NOT_FOUND retry broker "The broker has dropped the share session; start a new one."
    123 INVALID_SHARE_SESSION_EPOCH retry broker "The share session's epoch is not the next one; start a new session."
    124 FENCED_STATE_EPOCH final broker "The share coordinator has a newer state epoch."
    125 INVALID_VOTER_KEY final caller "The voter's directory id is not that of the node that got the request."
    126 DUPLICATE_VOTER final caller "The voter is in the quorum already."
    127 VOTER_NOT_FOUND final caller "The quorum has no such voter."
    128 INVALID_REGULAR_EXPRESSION final caller "The subscription's regular expression is not valid (RE2 syntax)."
    129 REBOOTSTRAP_REQUIRED final broker "The client's view of the cluster is too old; start again from the bootstrap servers."
    130 STREAMS_INVALID_TOPOLOGY final caller "The streams topology is not valid."
    131 STREAMS_INVALID_TOPOLOGY_EPOCH final caller "The streams topology's epoch is not valid."
    132 STREAMS_TOPOLOGY_FENCED final caller "The group has a newer streams topology."
    133 SHARE_SESSION_LIMIT_REACHED retry broker "The broker has as many share sessions as it allows."
    134 GROUP_DELETION_FAILED final broker "A group could not be deleted; its own result says why."
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED final broker "The streams topology's description was not taken; the message says why."
    136 CONTROLLER_ID_NOT_REGISTERED final caller "No controller is registered under this id."
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_indexed_by_code() {
        for (code, expected) in ErrorCode::ALL.iter().zip(-1_i16..) {
            assert_eq!(code.as_i16(), expected, "{code}");
        }
        assert_eq!(FACTS.len(), ErrorCode::ALL.len());
        assert_eq!(ErrorCode::UNKNOWN_SERVER_ERROR.name(), "UNKNOWN_SERVER_ERROR");
    }

    #[test]
    fn codes_of_the_future_are_kept() {
        for code in [i16::MIN, -2, 137, i16::MAX] {
            let code = ErrorCode::from_i16(code);
            assert_eq!(code.name(), "UNKNOWN_CODE");
            assert!(!code.is_retriable());
            assert_eq!(code.fault(), None);
            assert_eq!(ErrorCode::from_i16(code.as_i16()), code);
        }
    }

    #[test]
    fn every_error_is_somebodys_fault() {
        for code in ErrorCode::ALL {
            assert_eq!(code.fault().is_none(), code.is_none(), "{code}");
        }
        for (code, fault) in [
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, Fault::Caller),
            (ErrorCode::GROUP_ID_NOT_FOUND, Fault::Caller),
            (ErrorCode::SASL_AUTHENTICATION_FAILED, Fault::Caller),
            (ErrorCode::PRODUCER_FENCED, Fault::Caller),
            (ErrorCode::UNKNOWN_SERVER_ERROR, Fault::Broker),
            (ErrorCode::KAFKA_STORAGE_ERROR, Fault::Broker),
            (ErrorCode::UNSUPPORTED_VERSION, Fault::Broker),
            (ErrorCode::NETWORK_EXCEPTION, Fault::Network),
        ] {
            assert_eq!(code.fault(), Some(fault), "{code}");
        }
    }

    /// A state that passes by itself is no mistake of the caller's. The exception is a topic, which may be about to be created.
    #[test]
    fn what_is_retriable_is_not_the_callers_fault() {
        let both =
            ErrorCode::ALL.iter().filter(|code| code.is_retriable() && code.fault() == Some(Fault::Caller));
        assert_eq!(both.collect::<Vec<_>>(), [&ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    }

    #[test]
    fn classes_are_by_javas_exceptions() {
        let named = |is: fn(ErrorCode) -> bool| {
            ErrorCode::ALL.iter().filter(|code| is(**code)).map(|code| code.name()).collect::<Vec<_>>()
        };
        let by_name = |end: &str| {
            ErrorCode::ALL
                .iter()
                .map(|code| code.name())
                .filter(|name| name.ends_with(end))
                .collect::<Vec<_>>()
        };
        assert_eq!(named(ErrorCode::is_authorization), by_name("_AUTHORIZATION_FAILED"));
        let authentication =
            ["UNSUPPORTED_SASL_MECHANISM", "ILLEGAL_SASL_STATE", "SASL_AUTHENTICATION_FAILED"];
        assert_eq!(named(ErrorCode::is_authentication), authentication);
        assert_eq!(
            named(ErrorCode::is_fenced),
            ["FENCED_INSTANCE_ID", "PRODUCER_FENCED", "FENCED_MEMBER_EPOCH"]
        );
    }
}
