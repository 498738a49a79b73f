//! Kafka's own command line tools, by the names their scripts have. Knows in which class each lives, release by release.

use std::process::{Command, Output};
use std::time::Duration;

use super::dist::Dist;
use super::{node, process};

/// A command line tool of Kafka's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are Kafka's")]
pub enum Tool {
    Topics,
    Configs,
    ConsoleProducer,
    ConsoleConsumer,
    GetOffsets,
    ConsumerGroups,
    DeleteRecords,
    BrokerApiVersions,
    Cluster,
    DumpLog,
    ProducerPerf,
    ConsumerPerf,
    VerifiableConsumer,
    VerifiableProducer,
    Transactions,
    Features,
    Acls,
    DelegationTokens,
}

impl Tool {
    /// All of them, with the names of their scripts and their main classes: in Kafka 4, and in 3 where it differs.
    const TABLE: &[(Self, &str, &str, &str)] = &[
        (Self::Topics, "kafka-topics", "org.apache.kafka.tools.TopicCommand", ""),
        (Self::Configs, "kafka-configs", "kafka.admin.ConfigCommand", ""),
        (
            Self::ConsoleProducer,
            "kafka-console-producer",
            "org.apache.kafka.tools.ConsoleProducer",
            "kafka.tools.ConsoleProducer",
        ),
        (
            Self::ConsoleConsumer,
            "kafka-console-consumer",
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            "",
        ),
        (Self::GetOffsets, "kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell", ""),
        (
            Self::ConsumerGroups,
            "kafka-consumer-groups",
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            "",
        ),
        (Self::DeleteRecords, "kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand", ""),
        (
            Self::BrokerApiVersions,
            "kafka-broker-api-versions",
            "org.apache.kafka.tools.BrokerApiVersionsCommand",
            "kafka.admin.BrokerApiVersionsCommand",
        ),
        (Self::Cluster, "kafka-cluster", "org.apache.kafka.tools.ClusterTool", ""),
        (
            Self::DumpLog,
            "kafka-dump-log",
            "org.apache.kafka.tools.DumpLogSegments",
            "kafka.tools.DumpLogSegments",
        ),
        (Self::ProducerPerf, "kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance", ""),
        (Self::ConsumerPerf, "kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance", ""),
        (
            Self::VerifiableConsumer,
            "kafka-verifiable-consumer",
            "org.apache.kafka.tools.VerifiableConsumer",
            "",
        ),
        (
            Self::VerifiableProducer,
            "kafka-verifiable-producer",
            "org.apache.kafka.tools.VerifiableProducer",
            "",
        ),
        (Self::Transactions, "kafka-transactions", "org.apache.kafka.tools.TransactionsCommand", ""),
        (Self::Features, "kafka-features", "org.apache.kafka.tools.FeatureCommand", ""),
        (Self::Acls, "kafka-acls", "org.apache.kafka.tools.AclCommand", "kafka.admin.AclCommand"),
        (
            Self::DelegationTokens,
            "kafka-delegation-tokens",
            "org.apache.kafka.tools.DelegationTokenCommand",
            "",
        ),
    ];

    /// The tool whose script is `name`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.strip_suffix(".sh").unwrap_or(name);
        Self::TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// The names of all tools' scripts.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::TABLE.iter().map(|row| row.1)
    }

    /// A `java` that runs this tool of Kafka `version`; the caller adds arguments.
    ///
    /// # Errors
    /// Java or Maven is missing, or there is no such version.
    pub fn command(self, version: &str, tethered: bool) -> anyhow::Result<Command> {
        let dist = Dist::tools(version)?;
        let mut command = node::java(&dist, "-Xmx256m")?;
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]);
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error");
        if tethered {
            command.arg("Tether");
        }
        command.arg(self.class(dist.version()));
        Ok(command)
    }

    /// Runs the tool against the brokers at `bootstrap`, to its end.
    ///
    /// # Errors
    /// The tool does not start or takes longer than a minute. Its exit status is the caller's to judge.
    pub fn run(
        self,
        version: &str,
        bootstrap: &str,
        args: &[&str],
        stdin: Option<&[u8]>,
    ) -> anyhow::Result<Output> {
        let mut command = self.command(version, stdin.is_none())?;
        command.args(args).args(["--bootstrap-server", bootstrap]);
        process::run(command, stdin, Duration::from_secs(60))
    }

    fn class(self, version: &str) -> &'static str {
        let old = version.starts_with("3.");
        let row = Self::TABLE.iter().find(|row| row.0 == self);
        row.map_or("", |(_, _, four, three)| if old && !three.is_empty() { three } else { four })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_are_found_by_the_names_of_their_scripts() {
        assert_eq!(Tool::named("kafka-topics"), Some(Tool::Topics));
        assert_eq!(Tool::named("kafka-topics.sh"), Some(Tool::Topics));
        assert_eq!(Tool::named("kafka-nothing"), None);
        assert_eq!(Tool::ConsoleProducer.class("3.9.1"), "kafka.tools.ConsoleProducer");
        assert_eq!(Tool::ConsoleProducer.class("4.3.1"), "org.apache.kafka.tools.ConsoleProducer");
        for name in Tool::names() {
            assert!(!Tool::named(name).unwrap().class("4.4.0").is_empty(), "{name}");
        }
    }
}
