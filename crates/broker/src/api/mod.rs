//! One file per API: what it answers. Here: which there are, and how a request finds its file.
//!
//! A handler is a function from a decoded request to a response. It must not know frames or connections.

#![expect(
    clippy::needless_pass_by_value,
    reason = "handlers have one shape, whether they consume their request or not"
)]

pub(crate) mod api_versions;
mod create_partitions;
mod create_topics;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_topic_partitions;
pub(crate) mod fetch;
mod find_coordinator;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_for_leader_epoch;
mod produce;

use milena_messages::{ApiKey, Message, Request};
use milena_wire::{Reader, Str, WireFrame};

use crate::machine::{Envelope, Machine, Now, Refused};
use fetch::ParkedFetch;

/// One request being handled.
pub(crate) struct Call<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) envelope: Envelope,
    pub(crate) now: Now,
    /// What memory there is for the records of a fetch.
    pub(crate) fetch_bytes_max: usize,
    pub(crate) client_id: Option<Str>,
    pub(crate) effort: Effort,
}

/// How much work a request may be. What it is shows in some only when it is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What takes microseconds. More is left undone, and nothing has happened: [`Outcome::TooMuch`].
    Little,
    Any,
}

impl Call<'_> {
    /// Tells the log, once for each client, that it asks for something that is not there yet.
    pub(crate) fn tell_unserved(&self, what: &str) {
        self.machine.unserved.tell(&what, self.client_id.as_deref());
    }
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(WireFrame),
    Silent,
    Parked(ParkedFetch),
    /// More than [`Effort::Little`].
    TooMuch,
}

/// Every API that is served, in all its stable versions. Nothing else is advertised.
pub(crate) const SERVED: &[ApiKey] = &[
    ApiKey::Produce,
    ApiKey::Fetch,
    ApiKey::ListOffsets,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::ApiVersions,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::InitProducerId,
    ApiKey::OffsetForLeaderEpoch,
    ApiKey::DescribeConfigs,
    ApiKey::CreatePartitions,
    ApiKey::DescribeCluster,
    ApiKey::DescribeTopicPartitions,
];

/// Elements that the arrays of one request may have together. Each costs up to a hundred times its bytes in memory, and
/// is answered: a request of 5 MB that asks for the configs of one topic half a million times would cost gigabytes.
const ELEMENTS_MAX: usize = 250_000;

/// The same where an element is answered by a kilobyte and more.
const COSTLY_ELEMENTS_MAX: usize = 20_000;

pub(crate) fn elements_max(key: ApiKey) -> usize {
    match key {
        ApiKey::CreateTopics | ApiKey::DescribeConfigs => COSTLY_ELEMENTS_MAX,
        _ => ELEMENTS_MAX,
    }
}

/// A request that is longer may take milliseconds, however little it says per byte.
const HEAVY_BYTES: usize = 16 * 1024;

/// The same of requests that are mostly records, which are checked and stored at gigabytes a second.
const HEAVY_PRODUCE_BYTES: usize = 4 << 20;

/// The same where a few bytes are answered by a kilobyte and more.
const HEAVY_COSTLY_BYTES: usize = 1024;

/// A cluster of more partitions takes milliseconds to describe.
const HEAVY_PARTITIONS: usize = 2000;

/// Whether a request of so many bytes may keep a processor busy for more than a moment.
pub(crate) fn is_heavy(machine: &Machine, key: ApiKey, bytes: usize) -> bool {
    match key {
        ApiKey::Produce => bytes > HEAVY_PRODUCE_BYTES,
        ApiKey::CreateTopics | ApiKey::DescribeConfigs => bytes > HEAVY_COSTLY_BYTES,
        ApiKey::Metadata => bytes > HEAVY_BYTES || machine.state().partition_count() > HEAVY_PARTITIONS,
        _ => bytes > HEAVY_BYTES,
    }
}

/// Whether a request may be handled twice with the same effect as once, and the same answer.
pub(crate) fn is_repeatable(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::ListOffsets
            | ApiKey::Metadata
            | ApiKey::FindCoordinator
            | ApiKey::ApiVersions
            | ApiKey::OffsetForLeaderEpoch
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeCluster
            | ApiKey::DescribeTopicPartitions
    )
}

/// Whether a version of an API is served.
pub(crate) fn serves(key: ApiKey, version: i16) -> bool {
    SERVED.contains(&key) && key.versions().contains(&version)
}

/// Decodes the request behind the header, handles it, encodes the response.
pub(crate) fn dispatch(call: &Call<'_>, reader: &mut Reader<'_>) -> Result<Outcome, Refused> {
    match call.envelope.key {
        ApiKey::Produce => produce::respond(call, &decode(call, reader)?),
        ApiKey::Fetch => fetch::respond(call, &decode(call, reader)?),
        ApiKey::ListOffsets => answer(call, reader, list_offsets::handle),
        ApiKey::Metadata => answer(call, reader, metadata::handle),
        ApiKey::FindCoordinator => answer(call, reader, find_coordinator::handle),
        ApiKey::ApiVersions => answer(call, reader, api_versions::handle),
        ApiKey::CreateTopics => answer(call, reader, create_topics::handle),
        ApiKey::DeleteTopics => answer(call, reader, delete_topics::handle),
        ApiKey::InitProducerId => answer(call, reader, init_producer_id::handle),
        ApiKey::OffsetForLeaderEpoch => answer(call, reader, offset_for_leader_epoch::handle),
        ApiKey::DescribeConfigs => answer(call, reader, describe_configs::handle),
        ApiKey::CreatePartitions => answer(call, reader, create_partitions::handle),
        ApiKey::DescribeCluster => answer(call, reader, describe_cluster::handle),
        ApiKey::DescribeTopicPartitions => answer(call, reader, describe_topic_partitions::handle),
        key => unreachable!("{key} is not in SERVED, which was checked"),
    }
}

fn answer<R: Request>(
    call: &Call<'_>,
    reader: &mut Reader<'_>,
    handle: impl FnOnce(&Call<'_>, R) -> R::Response,
) -> Result<Outcome, Refused> {
    let request = decode(call, reader)?;
    Ok(Outcome::Answered(call.envelope.answer(&handle(call, request))?))
}

/// Bytes after a request are not looked at, as Kafka does not: librdkafka 2.11 asks for all topics in MetadataRequest v9+
/// with a null array of four bytes instead of one, and means what the first byte says.
fn decode<M: Message>(call: &Call<'_>, reader: &mut Reader<'_>) -> Result<M, Refused> {
    Ok(M::decode(reader, call.envelope.version)?)
}
