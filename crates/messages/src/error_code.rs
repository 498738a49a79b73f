//! Every error code a broker can answer with, as Apache Kafka 4.4.0 numbers them.
//!
//! Names, numbers and retriability are Kafka's and checked against its client by a test; the sentences are ours.

use std::fmt;

/// A broker's verdict on a request, or on one topic or partition of it.
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
    /// From the number on the wire.
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

    /// Whether Kafka's own client tries again after it. Codes it does not know are not retriable.
    pub fn is_retriable(self) -> bool {
        self.facts().is_some_and(|facts| facts.is_retriable)
    }

    /// What it means, in one sentence.
    pub fn description(self) -> &'static str {
        self.facts().map_or("A code newer than this release of Milena.", |facts| facts.description)
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

struct Facts {
    name: &'static str,
    is_retriable: bool,
    description: &'static str,
}

/// `retry`: the Java exception of this code is a `RetriableException`; `final`: it is not.
macro_rules! error_codes {
    ($($code:literal $name:ident $retry:tt $description:literal)*) => {
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
                description: $description,
            }
        ),*];
    };
    (@ retry) => { true };
    (@ final) => { false };
}

error_codes! {
    -1 UNKNOWN_SERVER_ERROR final "The broker failed in a way that has no code; its log says more."
    0 NONE final "Success."
    1 OFFSET_OUT_OF_RANGE final "The partition holds no such offset: it is before the log's start or past its end."
    2 CORRUPT_MESSAGE retry "A record batch failed its checksum or is malformed, or its key is null in a compacted topic."
    3 UNKNOWN_TOPIC_OR_PARTITION retry "The broker knows no such topic or partition; it may exist a moment later."
    4 INVALID_FETCH_SIZE final "A fetch asked for an impossible number of bytes."
    5 LEADER_NOT_AVAILABLE retry "The partition has no leader just now: an election runs, or all replicas are down."
    6 NOT_LEADER_OR_FOLLOWER retry "This broker leads (or, for reads from followers, holds) the partition no longer; refresh metadata."
    7 REQUEST_TIMED_OUT retry "The broker gave up before the request was done; a write may have happened."
    8 BROKER_NOT_AVAILABLE final "A broker that the request needs is not running."
    9 REPLICA_NOT_AVAILABLE retry "The broker is to hold a replica of the partition, but does not serve it yet."
    10 MESSAGE_TOO_LARGE final "The record batch is larger than the topic's max.message.bytes."
    11 STALE_CONTROLLER_EPOCH final "The request comes from a controller that has been replaced."
    12 OFFSET_METADATA_TOO_LARGE final "The text stored beside a committed offset is longer than offset.metadata.max.bytes."
    13 NETWORK_EXCEPTION retry "The connection was lost before an answer came; a write may have happened."
    14 COORDINATOR_LOAD_IN_PROGRESS retry "The coordinator is still reading its log."
    15 COORDINATOR_NOT_AVAILABLE retry "There is no coordinator just now, or its internal topic is not there yet."
    16 NOT_COORDINATOR retry "This broker is not the coordinator of that group or transactional id; look it up again."
    17 INVALID_TOPIC_EXCEPTION final "The topic's name is not allowed, or the topic may not be used so."
    18 RECORD_LIST_TOO_LARGE final "The record batch is larger than a whole segment."
    19 NOT_ENOUGH_REPLICAS retry "Fewer replicas are in sync than min.insync.replicas asks for; nothing was written."
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND retry "The batch was appended, but then too few replicas were in sync."
    21 INVALID_REQUIRED_ACKS final "acks is none of -1, 0 and 1."
    22 ILLEGAL_GENERATION final "The group has moved on to another generation."
    23 INCONSISTENT_GROUP_PROTOCOL final "The member shares no assignment protocol with the group, or named none."
    24 INVALID_GROUP_ID final "The group id is empty or not allowed."
    25 UNKNOWN_MEMBER_ID final "The group has no such member: it left, or was removed after its session timed out."
    26 INVALID_SESSION_TIMEOUT final "The session timeout is outside what the broker allows."
    27 REBALANCE_IN_PROGRESS final "The group is rebalancing: the member has to join again."
    28 INVALID_COMMIT_OFFSET_SIZE final "The offset commit does not fit into a record."
    29 TOPIC_AUTHORIZATION_FAILED final "The principal may not do this with the topic."
    30 GROUP_AUTHORIZATION_FAILED final "The principal may not do this with the group."
    31 CLUSTER_AUTHORIZATION_FAILED final "The principal may not do this with the cluster."
    32 INVALID_TIMESTAMP final "A record's timestamp is further from the broker's clock than the topic allows."
    33 UNSUPPORTED_SASL_MECHANISM final "The broker has not enabled this SASL mechanism; its answer lists those it has."
    34 ILLEGAL_SASL_STATE final "The request does not fit the state of the SASL exchange."
    35 UNSUPPORTED_VERSION final "The broker does not speak this version of the API, or lacks a feature the request needs."
    36 TOPIC_ALREADY_EXISTS final "A topic of this name exists."
    37 INVALID_PARTITIONS final "The number of partitions is not possible."
    38 INVALID_REPLICATION_FACTOR final "The replication factor is below 1 or above the number of brokers."
    39 INVALID_REPLICA_ASSIGNMENT final "The given assignment of replicas to brokers is not possible."
    40 INVALID_CONFIG final "A setting is unknown or its value is not allowed."
    41 NOT_CONTROLLER retry "This node is not the active controller."
    42 INVALID_REQUEST final "The request contradicts itself or the protocol."
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT final "The topic's record format is too old for this."
    44 POLICY_VIOLATION final "A policy configured on the brokers forbids it."
    45 OUT_OF_ORDER_SEQUENCE_NUMBER final "An idempotent producer's batch does not follow the one before it: there is a gap."
    46 DUPLICATE_SEQUENCE_NUMBER final "An idempotent producer's batch was written before, too long ago to say where."
    47 INVALID_PRODUCER_EPOCH final "A newer instance of the producer has taken over, or the transaction was aborted by its timeout."
    48 INVALID_TXN_STATE final "The transaction's state does not allow the operation."
    49 INVALID_PRODUCER_ID_MAPPING final "The transactional id belongs to another producer id; it may have expired."
    50 INVALID_TRANSACTION_TIMEOUT final "The transaction timeout is above transaction.max.timeout.ms."
    51 CONCURRENT_TRANSACTIONS retry "The previous transaction of this id is still being completed."
    52 TRANSACTION_COORDINATOR_FENCED final "The transaction marker comes from a coordinator that has been replaced."
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED final "The principal may not use the transactional id."
    54 SECURITY_DISABLED final "The brokers have no authorizer, so there are no ACLs."
    55 OPERATION_NOT_ATTEMPTED final "Another part of the same request failed first, so this part was not tried."
    56 KAFKA_STORAGE_ERROR retry "The broker's disk failed under the partition's log."
    57 LOG_DIR_NOT_FOUND final "The broker has no such log directory."
    58 SASL_AUTHENTICATION_FAILED final "The credentials were refused."
    59 UNKNOWN_PRODUCER_ID final "The partition remembers nothing of this producer: its records there have all been deleted."
    60 REASSIGNMENT_IN_PROGRESS final "The partition is being reassigned."
    61 DELEGATION_TOKEN_AUTH_DISABLED final "The brokers have delegation tokens switched off."
    62 DELEGATION_TOKEN_NOT_FOUND final "There is no such delegation token."
    63 DELEGATION_TOKEN_OWNER_MISMATCH final "The principal neither owns the delegation token nor may renew it."
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED final "Delegation tokens are not handed out over this kind of connection."
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED final "The principal may not do this with the delegation token."
    66 DELEGATION_TOKEN_EXPIRED final "The delegation token has expired."
    67 INVALID_PRINCIPAL_TYPE final "This type of principal is not supported here."
    68 NON_EMPTY_GROUP final "The group still has members."
    69 GROUP_ID_NOT_FOUND final "There is no such group."
    70 FETCH_SESSION_ID_NOT_FOUND retry "The broker has dropped the fetch session; start a new one with a full fetch."
    71 INVALID_FETCH_SESSION_EPOCH retry "The fetch session's epoch is not the next one; start a new session."
    72 LISTENER_NOT_FOUND retry "The leader has no listener of the kind this connection uses."
    73 TOPIC_DELETION_DISABLED final "The brokers do not allow topics to be deleted."
    74 FENCED_LEADER_EPOCH retry "The request's leader epoch is older than the partition's; refresh metadata."
    75 UNKNOWN_LEADER_EPOCH retry "The request's leader epoch is newer than this broker knows yet."
    76 UNSUPPORTED_COMPRESSION_TYPE final "This version of the API cannot carry the batch's compression."
    77 STALE_BROKER_EPOCH final "The broker has registered again since."
    78 OFFSET_NOT_AVAILABLE retry "A new leader cannot vouch for the offset until its high watermark has caught up."
    79 MEMBER_ID_REQUIRED final "Join again with the member id of this answer."
    80 PREFERRED_LEADER_NOT_AVAILABLE retry "The preferred leader cannot take over now."
    81 GROUP_MAX_SIZE_REACHED final "The group has as many members as the broker allows."
    82 FENCED_INSTANCE_ID final "Another consumer has taken over this group instance id."
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE retry "No replica may become leader."
    84 ELECTION_NOT_NEEDED retry "The partition has the leader that the election would give it."
    85 NO_REASSIGNMENT_IN_PROGRESS final "The partition is not being reassigned."
    86 GROUP_SUBSCRIBED_TO_TOPIC final "The group is subscribed to the topic, so its offsets there cannot be deleted."
    87 INVALID_RECORD final "A record was refused by the broker's checks; the answer says which."
    88 UNSTABLE_OFFSET_COMMIT retry "A transaction that is not complete yet has committed offsets of the group."
    89 THROTTLING_QUOTA_EXCEEDED retry "The quota for changes to topics is used up for now."
    90 PRODUCER_FENCED final "A newer producer has taken over the transactional id."
    91 RESOURCE_NOT_FOUND final "The request names a resource that does not exist."
    92 DUPLICATE_RESOURCE final "The request names a resource twice."
    93 UNACCEPTABLE_CREDENTIAL final "The credential does not meet the broker's requirements."
    94 INCONSISTENT_VOTER_SET final "Sender or receiver is not among the expected voters of the quorum."
    95 INVALID_UPDATE_VERSION final "The feature cannot be set to that level."
    96 FEATURE_UPDATE_FAILED final "The features could not be updated; the broker's log says why."
    97 PRINCIPAL_DESERIALIZATION_FAILURE final "A forwarded request's principal could not be read: the brokers' security settings disagree."
    98 SNAPSHOT_NOT_FOUND final "There is no such snapshot."
    99 POSITION_OUT_OF_RANGE final "The position is outside the snapshot."
    100 UNKNOWN_TOPIC_ID retry "The broker knows no topic of this id: it was deleted, or is not known here yet."
    101 DUPLICATE_BROKER_REGISTRATION final "A running broker has this id."
    102 BROKER_ID_NOT_REGISTERED final "No broker is registered under this id."
    103 INCONSISTENT_TOPIC_ID retry "The partition's log belongs to another topic id: the topic was created anew."
    104 INCONSISTENT_CLUSTER_ID final "The request is meant for another cluster."
    105 TRANSACTIONAL_ID_NOT_FOUND final "The coordinator knows no such transactional id."
    106 FETCH_SESSION_TOPIC_ID_ERROR retry "The fetch session mixes topic names and ids; start a new one."
    107 INELIGIBLE_REPLICA final "The proposed set of in-sync replicas contains one that may not be in it."
    108 NEW_LEADER_ELECTED final "The change was made, and has moved the partition's leader."
    109 OFFSET_MOVED_TO_TIERED_STORAGE final "The offset is now only in remote storage."
    110 FENCED_MEMBER_EPOCH final "The coordinator has fenced the member: it gives up all partitions and joins again."
    111 UNRELEASED_INSTANCE_ID final "Another member still uses this group instance id; it must leave first."
    112 UNSUPPORTED_ASSIGNOR final "The group does not know this assignor."
    113 STALE_MEMBER_EPOCH final "The member's epoch is behind; try again with that of the next heartbeat."
    114 MISMATCHED_ENDPOINT_TYPE final "A broker was asked what only controllers answer, or the reverse."
    115 UNSUPPORTED_ENDPOINT_TYPE final "This kind of endpoint is not supported."
    116 UNKNOWN_CONTROLLER_ID final "There is no controller of this id."
    117 UNKNOWN_SUBSCRIPTION_ID final "The telemetry subscription has changed; get it again."
    118 TELEMETRY_TOO_LARGE final "The pushed metrics are larger than the broker takes."
    119 INVALID_REGISTRATION final "The controller refused the broker's registration."
    120 TRANSACTION_ABORTABLE final "The transaction cannot be committed any more; after an abort the producer can go on."
    121 INVALID_RECORD_STATE final "The acquired record is in a state that this acknowledgement does not fit."
    122 SHARE_SESSION_NOT_FOUND retry "The broker has dropped the share session; start a new one."
    123 INVALID_SHARE_SESSION_EPOCH retry "The share session's epoch is not the next one; start a new session."
    124 FENCED_STATE_EPOCH final "The share coordinator has a newer state epoch."
    125 INVALID_VOTER_KEY final "The voter's directory id is not that of the node that got the request."
    126 DUPLICATE_VOTER final "The voter is in the quorum already."
    127 VOTER_NOT_FOUND final "The quorum has no such voter."
    128 INVALID_REGULAR_EXPRESSION final "The subscription's regular expression is not valid (RE2 syntax)."
    129 REBOOTSTRAP_REQUIRED final "The client's view of the cluster is too old; start again from the bootstrap servers."
    130 STREAMS_INVALID_TOPOLOGY final "The streams topology is not valid."
    131 STREAMS_INVALID_TOPOLOGY_EPOCH final "The streams topology's epoch is not valid."
    132 STREAMS_TOPOLOGY_FENCED final "The group has a newer streams topology."
    133 SHARE_SESSION_LIMIT_REACHED retry "The broker has as many share sessions as it allows."
    134 GROUP_DELETION_FAILED final "A group could not be deleted; its own result says why."
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED final "The streams topology's description was not taken; the message says why."
    136 CONTROLLER_ID_NOT_REGISTERED final "No controller is registered under this id."
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
            assert_eq!(ErrorCode::from_i16(code.as_i16()), code);
        }
    }
}
