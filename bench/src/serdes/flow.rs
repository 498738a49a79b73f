//! The driver of Milena's serdes: writes flights to a topic with their schema, or reads them.

use std::time::Instant;

use lexopt::{Arg, ValueExt as _};
use milena::{Client, Consumer, Record};
use milena_registry::{
    Avro, JsonSchema, Protobuf, RecordEncoder, RegistrySerde, SchemaRegistry, TypedBatch as _,
    TypedTopic as _,
};
use serde_json::json;

use super::flight::{self, Flight, FlightMessage};
use crate::milena::version;
use crate::options::Failure;
use crate::outcome::{Allocations, Outcome};

struct Flow {
    is_produce: bool,
    bootstrap: String,
    registry: String,
    topic: String,
    format: String,
    records: u64,
}

pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    let text = String::new;
    let (mut mode, format) = (text(), "avro".into());
    let (is_produce, bootstrap, registry, topic) = (false, text(), text(), text());
    let mut flow = Flow { is_produce, bootstrap, registry, topic, format, records: 100_000 };
    while let Some(arg) = args.next()? {
        match arg {
            Arg::Value(value) => mode = value.string()?,
            Arg::Long("bootstrap") => flow.bootstrap = args.value()?.string()?,
            Arg::Long("registry") => flow.registry = args.value()?.string()?,
            Arg::Long("topic" | "dir") => flow.topic = args.value()?.string()?,
            Arg::Long("format") => flow.format = args.value()?.string()?,
            Arg::Long("records") => flow.records = args.value()?.parse()?,
            other => return Err(other.unexpected().into()),
        }
    }
    flow.is_produce = match mode.as_str() {
        "produce" => true,
        "consume" => false,
        // The other clients' drivers read them.
        "files" => return Ok(flight::write_files(flow.topic.as_ref())?),
        other => {
            return Err(Failure::Usage(format!("no mode is called {other:?}: produce, consume or files")));
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(|error| error.to_string())?.block_on(flow.run())?;
    println!("{}", outcome.to_json("milena", &version(), &mode));
    Ok(())
}

/// Reads as many records as the flow says. A macro, because values of different types borrow a batch.
macro_rules! consume {
    ($flow:expr, $serde:expr, $value:ty) => {{
        let serde = $serde;
        let counting = Allocations::start();
        let start = Instant::now();
        let mut consumer = $flow.consumer().await?;
        let (mut records, mut bytes, mut distance) = (0, 0, 0);
        while records < $flow.records {
            let Some(batch) = consumer.next().await? else { break };
            for flight in batch.typed::<$value, _>(&serde).await {
                if records == $flow.records {
                    break;
                }
                let value = flight.value.map_err(|error| error.to_string())?.ok_or_else(|| String::from("a value is null"))?;
                distance += i64::from(value.distance) + value.carrier.len() as i64;
                bytes += flight.record.value().map_or(0, |value| value.len() as u64);
                records += 1;
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let settings = json!({ "distance": distance });
        let allocations = Some(counting.count());
        Outcome { records, bytes, seconds, allocations, settings, ..Default::default() }
    }};
}

impl Flow {
    async fn run(&self) -> Result<Outcome, Failure> {
        let registry = SchemaRegistry::new(self.registry.as_str()).map_err(|error| error.to_string())?;
        let flights = flight::all();
        Ok(match self.format.as_str() {
            "avro" => {
                let serde = RegistrySerde::new(&registry, Avro).schema(flight::avro()).auto_register(true);
                match self.is_produce {
                    true => self.produce(serde, &flights).await?,
                    false => consume!(self, serde, Flight<'_>),
                }
            }
            "json" => {
                let serde = RegistrySerde::new(&registry, JsonSchema::new());
                let serde = serde.schema(flight::json()).auto_register(true);
                match self.is_produce {
                    true => self.produce(serde, &flights).await?,
                    false => consume!(self, serde, Flight<'_>),
                }
            }
            "protobuf" => {
                let serde = RegistrySerde::new(&registry, Protobuf::of::<FlightMessage>());
                let serde = serde.schema(flight::protobuf()).auto_register(true);
                let messages: Vec<FlightMessage> = flights.iter().map(|flight| (*flight).into()).collect();
                match self.is_produce {
                    true => self.produce(serde, &messages).await?,
                    false => consume!(self, serde, FlightMessage),
                }
            }
            other => {
                return Err(Failure::Usage(format!("no format is called {other:?}: avro, json or protobuf")));
            }
        })
    }

    async fn produce<T, S: RecordEncoder<T>>(&self, serde: S, values: &[T]) -> Result<Outcome, Failure> {
        let client = Client::connect(&self.bootstrap).await?;
        let producer = client.producer().build().await?;
        let topic = producer.topic(&self.topic).await?.typed::<T, S>(serde);
        let (start, counting) = (Instant::now(), Allocations::start());
        for value in values.iter().cycle().take(self.records as usize) {
            topic.post(Record::new(), value).await.map_err(|error| error.to_string())?;
        }
        producer.flush().await?;
        let (seconds, allocations) = (start.elapsed().as_secs_f64(), Some(counting.count()));
        Ok(Outcome { records: self.records, seconds, allocations, ..Default::default() })
    }

    async fn consumer(&self) -> Result<Consumer, Failure> {
        let client = Client::connect(&self.bootstrap).await?;
        Ok(client.consumer_direct().topic(&self.topic).build().await?)
    }
}
