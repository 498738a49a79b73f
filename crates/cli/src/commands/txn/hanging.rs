//! `milena txn abort-hanging`: finds transactions that are open at partitions and that no coordinator knows, and aborts them
//! there (KIP-664).
//!
//! ```text
//!  partitions: open transactions ─▶ coordinators: which producer ids they know, and with which partitions ─▶ partitions: open still?
//! ```
//!
//! Partitions are asked again at the end, because a transaction that ended while the coordinators were asked is unknown to
//! them, too. A coordinator forgets a partition only when its marker is written, so what is open still hangs.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use milena::{Admin, OpenTransaction, ProducerDescription, TransactionDescription, TransactionFilter};
use serde::Serialize;

use super::describe::{span, time};
use super::{duration, listed};
use crate::cluster::Cluster;
use crate::commands::chosen::{Chosen, Partition, chosen, name, partitions};
use crate::exit::{Exit, Failure, summary};
use crate::output::{tell, to_json, write_out};
use crate::table::{Align, Table};

const EXAMPLES: &str = "\
Examples:
  milena txn abort-hanging --topic orders              the plan
  milena txn abort-hanging --topic orders --yes        what the plan says
  milena txn abort-hanging --all-topics --older-than 0 also what was written to a moment ago

A transaction hangs if a partition has it open and its coordinator does not know of it. Nothing ends
it then, and consumers that read only what is committed wait before it for ever. An abort writes a
marker to the partition, and needs the right to change the cluster. Transactions that a coordinator
knows are never aborted: their timeout ends them.
A principal that may not see all transactional ids takes live transactions for hanging ones. That is
why those which were written to within Kafka's longest transaction timeout are left out.";

/// Abort transactions that are open at partitions and that no coordinator knows. Shows the plan; only --yes changes something
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Look at this topic, or at some of its partitions, as in orders:0,2,5-7; may be repeated
    #[arg(
        short,
        long = "topic",
        value_name = "TOPIC[:LIST]",
        value_parser = chosen,
        required_unless_present = "all_topics"
    )]
    topics: Vec<Chosen>,

    /// Look at all topics, Kafka's internal ones included
    #[arg(short, long, conflicts_with = "topics")]
    all_topics: bool,

    /// Leave out transactions that were written to less than DURATION ago; 0 leaves none out
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = duration)]
    older_than: Duration,

    /// Do what the plan says
    #[arg(short, long)]
    yes: bool,

    /// Write the plan as JSON lines
    #[arg(short = 'J', long)]
    json: bool,

    #[command(flatten)]
    cluster: Cluster,
}

impl Args {
    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Whether the command may change something.
    pub(super) fn changes(&self) -> bool {
        self.yes
    }
}

pub(super) async fn run(args: &Args) -> Result<(), Failure> {
    let cluster = args.cluster.connect().await?;
    let admin = cluster.admin();
    let partitions = match args.all_topics {
        true => all_partitions(&admin).await?,
        false => partitions(&cluster, &args.topics).await?,
    };
    let (hanging, unseen) = find(&admin, &partitions).await?;
    let now = Timestamp::now().as_millisecond();
    let age_min = i64::try_from(args.older_than.as_millis()).unwrap_or(i64::MAX);
    let is_old = |of: &Hanging| of.age_ms(now).is_none_or(|age| age >= age_min);
    let (hanging, young): (Vec<_>, Vec<_>) = hanging.into_iter().partition(is_old);
    show(&hanging, now, args.json)?;
    if !young.is_empty() {
        let count = counted(young.len());
        tell(format_args!(
            "{count} that no coordinator knows left out: written to less than {} ago. --older-than 0 takes them in.",
            span(age_min)
        ));
    }
    match (hanging.len(), args.yes) {
        (0, _) => tell("There is nothing to abort."),
        (count, false) => tell(format_args!("Nothing was aborted: --yes aborts {}.", counted(count))),
        (count, true) => {
            let mut results = Vec::new();
            for of in &hanging {
                let at = format!("{} (producer {})", name(&of.partition), of.producer.producer_id);
                results.push((at, abort(&admin, of).await));
            }
            summary("aborted", results)?;
            tell(format_args!("Aborted {}.", counted(count)));
        }
    }
    unseen.map_or(Ok(()), Err)
}

fn counted(count: usize) -> String {
    if count == 1 { "1 transaction".into() } else { format!("{count} transactions") }
}

async fn abort(admin: &Admin, of: &Hanging) -> Result<(), Failure> {
    let (topic, partition) = of.partition.clone();
    let ProducerDescription { producer_id, producer_epoch, coordinator_epoch, .. } = of.producer;
    let producer_epoch = i16::try_from(producer_epoch)
        .map_err(|_| Failure::failed(format!("{producer_epoch} is not the epoch of a producer")))?;
    let open = OpenTransaction { topic, partition, producer_id, producer_epoch, coordinator_epoch };
    admin.abort_transaction(&open).await.map_err(Failure::from)
}

/// A transaction that is open at a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hanging {
    partition: Partition,
    producer: ProducerDescription,
}

impl Hanging {
    /// How long ago it was written to. Records may have any timestamps, so this may be wrong.
    fn age_ms(&self, now: i64) -> Option<i64> {
        self.producer.last_timestamp_ms.map(|at| now.saturating_sub(at).max(0))
    }

    /// Whether the coordinator of this transactional id has the partition in a transaction of this producer.
    fn is_known_as(&self, known: &TransactionDescription) -> bool {
        let (topic, partition) = &self.partition;
        let partitions = known.partitions.get(topic);
        known.producer_id == self.producer.producer_id
            && partitions.is_some_and(|partitions| partitions.contains(partition))
    }

    /// Whether this is the same transaction, seen again.
    fn is_same_as(&self, now: &Self) -> bool {
        let of = |hanging: &Self| {
            let ProducerDescription { producer_id, producer_epoch, transaction_start, .. } = hanging.producer;
            (hanging.partition.clone(), producer_id, producer_epoch, transaction_start)
        };
        of(self) == of(now)
    }
}

async fn all_partitions(admin: &Admin) -> Result<BTreeSet<Partition>, Failure> {
    let of_topic = admin.topics().await?.into_iter().flat_map(|topic| {
        let partitions = topic.partitions.into_iter();
        partitions.map(move |partition| (topic.name.clone(), partition.index)).collect::<Vec<_>>()
    });
    Ok(of_topic.collect())
}

/// The transactions that hang at these partitions, and a failure that names the partitions that could not be looked at.
async fn find(
    admin: &Admin,
    partitions: &BTreeSet<Partition>,
) -> Result<(Vec<Hanging>, Option<Failure>), Failure> {
    let (open, unseen) = open_transactions(admin, partitions).await;
    if open.is_empty() {
        return Ok((open, unseen));
    }
    let ids: BTreeSet<_> = open.iter().map(|of| of.producer.producer_id).collect();
    let (transactions, incomplete) = listed(admin, &TransactionFilter::all().producer_ids(ids)).await?;
    if let Some(failure) = incomplete {
        return Err(
            failure.hint("Nothing was aborted: brokers that did not answer may know the transactions.")
        );
    }
    let ids = transactions.iter().map(|of| &of.transactional_id);
    let mut known = Vec::new();
    for (_, described) in admin.describe_transactions(ids).await {
        match described {
            Ok(described) => known.push(described),
            // It was forgotten since it was listed.
            Err(error) if error.code_name() == Some("TRANSACTIONAL_ID_NOT_FOUND") => {}
            Err(error) => return Err(error.into()),
        }
    }
    let unknown: Vec<_> =
        open.into_iter().filter(|of| !known.iter().any(|known| of.is_known_as(known))).collect();
    let partitions = unknown.iter().map(|of| of.partition.clone()).collect();
    let (still, _) = open_transactions(admin, &partitions).await;
    Ok((unknown.into_iter().filter(|of| still.iter().any(|now| of.is_same_as(now))).collect(), unseen))
}

/// The transactions that are open at these partitions, and a failure that names the partitions that could not be looked at.
async fn open_transactions(
    admin: &Admin,
    partitions: &BTreeSet<Partition>,
) -> (Vec<Hanging>, Option<Failure>) {
    let (mut open, mut errors) = (Vec::new(), Vec::new());
    let asked = partitions.iter().map(|(topic, partition)| (topic, *partition));
    for (partition, producers) in admin.describe_producers(asked).await {
        match producers {
            Ok(producers) => {
                let is_open = |producer: &ProducerDescription| producer.transaction_start.is_some();
                let of = |producer| Hanging { partition: partition.clone(), producer };
                open.extend(producers.into_iter().filter(is_open).map(of));
            }
            Err(error) => errors.push(Failure::from(error)),
        }
    }
    let unseen = errors.first().map(|first| {
        let sentences: Vec<_> = errors.iter().map(ToString::to_string).collect();
        let exit = if errors.len() == partitions.len() { first.exit() } else { Exit::Partial };
        Failure::new(exit, sentences.join("\n       ")).hint("These partitions were not looked at.")
    });
    (open, unseen)
}

#[derive(Serialize)]
struct Planned<'a> {
    topic: &'a str,
    partition: i32,
    producer_id: i64,
    producer_epoch: i32,
    coordinator_epoch: Option<i32>,
    transaction_start_offset: Option<i64>,
    last_timestamp: Option<i64>,
}

fn show(hanging: &[Hanging], now: i64, json: bool) -> Result<(), Failure> {
    let right = Align::Right;
    let columns = [
        ("topic", Align::Left),
        ("partition", right),
        ("producer id", right),
        ("epoch", right),
        ("open from offset", right),
        ("last written", Align::Left),
    ];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for of in hanging {
        let Hanging { partition: (topic, partition), producer } = of;
        if json {
            lines += &to_json(&Planned {
                topic,
                partition: *partition,
                producer_id: producer.producer_id,
                producer_epoch: producer.producer_epoch,
                coordinator_epoch: producer.coordinator_epoch,
                transaction_start_offset: producer.transaction_start,
                last_timestamp: producer.last_timestamp_ms,
            })?;
            lines.push('\n');
            continue;
        }
        let written = producer.last_timestamp_ms.zip(of.age_ms(now));
        table.row([
            topic.clone(),
            partition.to_string(),
            producer.producer_id.to_string(),
            producer.producer_epoch.to_string(),
            producer.transaction_start.unwrap_or(-1).to_string(),
            written.map_or_else(|| "?".into(), |(at, age)| format!("{} ({} ago)", time(at), span(age))),
        ]);
    }
    write_out(&if json { lines } else { table.text(0) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use milena::{BrokerDescription, TransactionState};

    use super::*;

    fn open(producer_id: i64, producer_epoch: i32, start: i64) -> Hanging {
        let producer = ProducerDescription {
            producer_id,
            producer_epoch,
            last_sequence: Some(0),
            last_timestamp_ms: Some(1000),
            coordinator_epoch: None,
            transaction_start: Some(start),
        };
        Hanging { partition: ("t".into(), 0), producer }
    }

    #[test]
    fn a_transaction_is_known_if_its_producer_has_its_partition_at_the_coordinator() {
        let known = |producer_id, topic: &str, partition| TransactionDescription {
            transactional_id: "a".into(),
            state: TransactionState::Ongoing,
            producer_id,
            producer_epoch: 0,
            timeout: Duration::from_secs(60),
            started_ms: Some(0),
            partitions: BTreeMap::from([(topic.to_owned(), vec![partition, 7])]),
            coordinator: BrokerDescription { id: 1, host: "h".into(), port: 1, rack: None },
        };
        let of = open(5, 0, 10);
        assert!(of.is_known_as(&known(5, "t", 0)));
        for other in [known(6, "t", 0), known(5, "u", 0), known(5, "t", 1)] {
            assert!(!of.is_known_as(&other), "{other:?}");
        }
    }

    #[test]
    fn a_transaction_that_has_ended_since_is_another_one() {
        assert!(open(5, 0, 10).is_same_as(&open(5, 0, 10)));
        for now in [open(5, 0, 11), open(5, 1, 10), open(6, 0, 10)] {
            assert!(!open(5, 0, 10).is_same_as(&now), "{now:?}");
        }
        assert_eq!((open(5, 0, 10).age_ms(1500), open(5, 0, 10).age_ms(0)), (Some(500), Some(0)));
    }
}
