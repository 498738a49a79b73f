//! Milena: a Kafka client whose unit is the record batch.
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
//! A client lives on the [tokio](https://docs.rs/tokio) runtime it was connected on: its connections and timers are
//! there, so it needs one with time and I/O enabled (`enable_all`), and connecting outside of any is an error. What the
//! client, its producers and its consumers return can be awaited anywhere, on another executor too, as long as that
//! runtime runs. When it ends, whoever waits is told so ([`ErrorKind::Closed`]).
//!
//! # Overview
//!
//! - A [`Client`] knows the cluster. [`Producer`]s, [`Consumer`]s and [`Admin`] come from it and share it.
//! - Everything has a deadline, every future may be dropped, and every [`Error`] says whether something may have been
//!   written.
//! - What fails and may pass is tried again: `send` until its delivery timeout, `next` for ever. The third failure in a
//!   row, the sixth, the twelfth and so on are warnings of the [`tracing`](https://docs.rs/tracing) target `milena`, and
//!   so is a request that stayed unanswered until its deadline. A broker that breaks the protocol twice without a good
//!   answer between is not asked a third time; whoever waits gets the error.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests run on tokio"))]

mod address;
mod admin;
mod ask;
mod budget;
mod client;
mod clock;
mod connect;
mod connection;
mod consumer;
mod control;
mod error;
mod producer;
mod record;
mod requests;
mod runtime;
mod settings;
mod topics;

pub use address::Address;
pub use admin::{
    Admin, BrokerDescription, ClusterDescription, ConfigEntry, ConfigResource, NewTopic, OffsetAt,
    PartitionDescription, TopicDescription,
};
pub use client::{Client, ClientBuilder};
pub use connect::{Connect, ConnectError, Connecting, Obstacle, Resolving, Tcp, Transport};
pub use consumer::{
    Batch, Consumer, ConsumerBuilder, ConsumerHandle, PartitionConsumer, Position, RecordViews,
};
pub use error::{Error, ErrorCode, ErrorKind, Fault};
pub use milena_wire::pool::{BufferPool, PoolStats};
pub use producer::{Delivery, Producer, ProducerBuilder, Receipt};
pub use record::{Header, OwnedRecord, Payload, Record, RecordView};
pub use runtime::Runtime;
pub use settings::{
    Acks, ClientSettings, Compression, ConsumerSettings, Isolation, ProducerSettings, Properties, Reset,
    SETTINGS, SettingDoc, Unit,
};

/// What a program that produces and consumes needs.
pub mod prelude {
    pub use crate::{Client, Consumer, Error, Position, Producer, Record};
}
