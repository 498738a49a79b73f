//! Names the faults that explain what was seen. Pure: the same observation gives the same findings.

use std::fmt;

use super::observation::Observation;
use super::{members, partitions};

/// What can be wrong with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The client's principal lacks a right.
    AclMissing,
    /// A broker answers much later than others.
    SlowBroker,
    /// Members come and go, or the group never becomes stable.
    RebalanceLoop,
    /// Members leave while they process, because that takes longer than `max.poll.interval.ms`.
    MaxPollInterval,
    /// The group waits for a member that does not take part any more.
    ZombieMember,
    /// A member takes part in the group and finishes nothing.
    StuckHandler,
    /// One record holds up a partition while the member goes on with others, or restarts.
    PoisonRecord,
    /// The group waits at the first record of a transaction that does not end.
    OpenTransaction,
    /// Retention has removed records that the group has not read, or is about to.
    OffsetOutOfRetention,
    /// Brokers slow the group down, because a quota says so.
    QuotaThrottle,
    /// Most records have the same key.
    SkewedKeys,
    /// A partition gets most of the records.
    HotPartition,
}

impl Fault {
    /// Its name, such as `stuck-handler`.
    pub fn name(self) -> &'static str {
        match self {
            Self::AclMissing => "acl-missing",
            Self::SlowBroker => "slow-broker",
            Self::RebalanceLoop => "rebalance-loop",
            Self::MaxPollInterval => "max-poll-interval",
            Self::ZombieMember => "zombie-member",
            Self::StuckHandler => "stuck-handler",
            Self::PoisonRecord => "poison-record",
            Self::OpenTransaction => "open-transaction",
            Self::OffsetOutOfRetention => "offset-out-of-retention",
            Self::QuotaThrottle => "quota-throttle",
            Self::SkewedKeys => "skewed-keys",
            Self::HotPartition => "hot-partition",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault, why it is believed to be there, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The fault.
    pub fault: Fault,
    /// Where it is, in a sentence.
    pub detail: String,
    /// What was seen that says so.
    pub evidence: Vec<String>,
    /// What to do, in a sentence.
    pub fix: String,
    /// The command that does it, or its first step. Commands that change offsets show a plan until `--yes` is added.
    pub command: String,
}

/// What is wrong with a group. A group that does its work has no findings.
///
/// Partitions that wait for a transaction, or whose records are gone, are not looked at for slower explanations.
pub fn diagnose(seen: &Observation) -> Vec<Finding> {
    let mut findings = partitions::denied(seen);
    findings.extend(partitions::slow_brokers(seen));
    findings.extend(partitions::open_transactions(seen));
    findings.extend(partitions::out_of_retention(seen));
    findings.extend(members::findings(seen));
    findings.extend(partitions::throttled(seen));
    findings.extend(partitions::skewed_keys(seen));
    findings.extend(partitions::hot_partitions(seen));
    findings.sort_by_key(|finding| finding.fault);
    findings
}
