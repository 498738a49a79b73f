//! Milena is a Kafka client whose unit is the record batch.
//!
//! ```
//! use milena::{Client, Position, Record};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = milena_broker::Broker::builder().start().await?;
//! # cluster.create_topic("orders", 2)?;
//! # let bootstrap = cluster.bootstrap();
//! let client = Client::connect(bootstrap).await?; // "localhost:9092"
//!
//! let producer = client.producer().build().await?;
//! let receipt = producer.send(Record::to("orders").key("42").value("created")).await?;
//! println!("partition {}, offset {:?}", receipt.partition(), receipt.offset());
//!
//! let partition = ("orders", receipt.partition());
//! let mut consumer = client.consumer_direct().assign([partition], Position::Earliest).build().await?;
//! while let Some(batch) = consumer.next().await? {
//!     for record in &batch {
//!         assert_eq!((record.key(), record.value()), (Some(&b"42"[..]), Some(&b"created"[..])));
//!     }
//!     # break;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Runtime
//!
//! A client's connections and timers belong to the [tokio](https://docs.rs/tokio) runtime on which it was connected. That
//! runtime needs time and I/O enabled (`enable_all`); connecting outside of a runtime is an error. The futures of the
//! client, its producers and its consumers can be awaited anywhere, also on another executor, while that runtime runs. When
//! it ends, they fail with [`ErrorKind::Closed`].
//!
//! # Overview
//!
//! - A [`Client`] knows the cluster. [`Producer`]s, [`Consumer`]s and [`Admin`] come from it and share its metadata and
//!   memory.
//! - Every call that waits for the cluster has a deadline, except [`Consumer::next`], which waits for records. Every future
//!   may be dropped. Every [`Error`] says whether a record may have been written.
//! - A failure that may be temporary is retried: `send` retries until its delivery timeout, `next` without end. The third
//!   failure in a row, the sixth, the twelfth and so on are logged as warnings of the [`tracing`](https://docs.rs/tracing)
//!   target `milena`, and so is a request that was not answered by its deadline. A broker that breaks the protocol twice,
//!   without a good answer in between, is not asked a third time; the calls that wait for it fail with the error.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests run on tokio"))]

mod address;
mod admin;
mod ask;
#[cfg(feature = "aws-msk-iam")]
pub mod aws;
mod brokers;
mod budget;
mod builder;
mod calls;
mod canonical;
mod client;
mod clock;
mod connect;
mod connection;
mod consumer;
mod control;
mod coordinator;
mod error;
mod exactly_once;
#[cfg(feature = "http")]
pub mod http;
mod interest;
pub mod metrics;
#[cfg(feature = "oauth")]
pub mod oauth;
mod producer;
mod proxy;
mod record;
mod report;
mod requests;
mod runtime;
mod sasl;
mod settings;
mod telemetry;
#[cfg(feature = "tls")]
mod tls;
mod topics;
pub mod trace;

pub use address::Address;
pub use admin::{
    Acl, AclFilter, AclOperation, AclPermission, AclResource, Admin, ApiSupport, BrokerDescription,
    ClusterDescription, CommittedOffset, ConfigChange, ConfigEntry, ConfigResource, DelegationToken,
    DeletedAcls, GroupDescription, GroupFilter, GroupListing, GroupState, GroupType, ListedGroup,
    ListedTransaction, LogDir, LogDirListing, MemberDescription, NewDelegationToken, NewPartitions, NewTopic,
    OffsetAt, OpenTransaction, PartitionDescription, PatternFilter, PatternType, ProducerDescription,
    QuotaChange, QuotaDescription, QuotaEntity, QuotaFilter, ReplicaSize, ResourceType, ScramChange,
    ScramCredential, ScramMechanism, TopicDescription, TopicRights, TransactionDescription,
    TransactionFilter, TransactionListing, TransactionState,
};
pub use builder::ClientBuilder;
pub use client::Client;
pub use connect::{Cause, Connect, ConnectError, Connecting, Naming, Obstacle, Resolving, Tcp, Transport};
pub use consumer::{
    Batch, Consumer, ConsumerBuilder, ConsumerFlow, ConsumerHandle, ConsumerMemory, FetchStops,
    GroupConsumerBuilder, PartitionConsumer, PartitionHandle, PartitionStall, Position, RecordCursor,
    RecordViews, SharedBatch, SharedRecord, StallCause, TopicMemory,
};
pub use error::{Error, ErrorCode, ErrorKind, Fault, Uncommitted};
pub use exactly_once::{ExactlyOnce, Processing, exactly_once};
pub use milena_core::Secret;
/// How the members of a classic group divide partitions among themselves: the assignors of Java's client, and the trait for
/// others.
pub use milena_core::group::assignors;
pub use milena_core::group::{Goodbye, Protocol};
pub use milena_wire::batch::RecordPlace;
pub use milena_wire::pool::{BufferPool, PoolStats};
pub use producer::{
    ChoosePartition, Delivery, Interceptor, NotAllWritten, Partitioner, Producer, ProducerBuilder, Receipt,
    RecordSink, SettledBatch, TopicProducer, TopicSettings, Transaction, TransactionEnd,
    TransactionalProducer, TransactionalProducerBuilder,
};
pub use proxy::Proxy;
pub use record::{Header, OwnedRecord, Payload, Record, RecordView};
pub use runtime::Runtime;
pub use sasl::{
    Login, ProvideLogin, ProvideToken, Providing, Sasl, SaslExchange, SaslMechanism, SaslStep, Token,
};
pub use settings::{
    Acks, ClientSettings, Compression, ConsumerSettings, DnsLookup, GroupSettings, Isolation,
    ProducerSettings, Properties, Reset, SETTINGS, SettingDoc, Unit, read_secret,
};

#[cfg(feature = "tls")]
pub use tls::{Tls, TlsState, TlsVersion, Validity};

/// What a program that produces and consumes needs.
pub mod prelude {
    pub use crate::{Client, Consumer, Error, Position, Producer, Record};
}
