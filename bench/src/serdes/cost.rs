//! What reading and writing one record costs: through framing and registry serde, with its schema known, and by the format's plain code.

use std::fmt::Debug;
use std::hint::black_box;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use milena::Header;
use milena_registry::framing::{Guid, Part, SchemaId, VALUE_SCHEMA_ID_HEADER, header_value};
use milena_registry::{
    Avro, AvroSchema, Decode, Encode, Format, JsonSchema, Protobuf, RecordDecoder, RecordEncoder,
    RegistrySerde, Schema, SchemaMemory, SchemaRegistry,
};
use prost::Message as _;
use serde_json::Value;

use super::flight::{self, Flight, FlightMessage, OwnedFlight};
use crate::figures::{Contestant, compare};
use crate::options::Failure;
use crate::outcome::Allocations;

/// So few that they stay in the caches with what is made of them.
const RECORDS: usize = 256;
const ID: u32 = 7;

/// The flights in one format, as the registry's serde writes them.
struct Framed<'a, F: Format, T> {
    serde: RegistrySerde<F>,
    writer: std::sync::Arc<milena_registry::SchemaWriter<F>>,
    values: &'a [T],
    payloads: Vec<Vec<u8>>,
    /// The bytes before the body.
    prefix: usize,
}

impl<'a, F: Format + Clone + Encode<T>, T> Framed<'a, F, T> {
    async fn new(format: F, schema: Schema, values: &'a [T]) -> Result<Self, Failure> {
        let registry = SchemaRegistry::offline();
        registry.remember(SchemaId::Id(ID), schema);
        let serde = RegistrySerde::new(&registry, format).use_id(ID);
        serde.load(SchemaId::Id(ID)).await.map_err(|error| error.to_string())?;
        let writer = RecordEncoder::<T>::writer(&serde, "flights", Part::Value).await;
        let writer = writer.map_err(|error| error.to_string())?;
        let payloads = values.iter().map(|value| {
            let mut payload = Vec::new();
            serde.encode(&writer, value, &mut payload).expect("the value fits the schema");
            payload
        });
        let payloads = payloads.collect();
        // Protobuf's first message is one byte more.
        let prefix = if F::HAS_INDEXES { 6 } else { 5 };
        Ok(Self { serde, writer, values, payloads, prefix })
    }

    /// The payloads as the plain code of the format reads them.
    fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.payloads.iter().map(|payload| &payload[self.prefix..])
    }

    fn write(&'a self, name: &'static str) -> Contestant<'a> {
        let mut into = Vec::with_capacity(4096);
        job(name, move || {
            for value in self.values {
                into.clear();
                self.serde.encode(&self.writer, black_box(value), &mut into).expect("it fits");
                black_box(&into);
            }
        })
    }

    fn read<'de: 'a, U: 'de>(&'de self, name: &'static str) -> Contestant<'a>
    where
        F: Decode<'de, U>,
    {
        let mut memory = SchemaMemory::default();
        job(name, move || {
            for payload in &self.payloads {
                let none = [].into_iter();
                let value: U =
                    self.serde.decode(&mut memory, Part::Value, black_box(payload), none).expect("ours");
                black_box(&value);
            }
        })
    }
}

fn job<'a>(name: &'static str, job: impl FnMut() + 'a) -> Contestant<'a> {
    Contestant { name, job: Box::new(job) }
}

/// Prints nanoseconds and allocations for each record.
pub(crate) fn run(mut args: lexopt::Parser) -> Result<(), Failure> {
    let mut rounds = 41;
    while let Some(arg) = args.next()? {
        match arg {
            lexopt::Arg::Long("rounds") => rounds = lexopt::ValueExt::parse(&args.value()?)?,
            other => return Err(other.unexpected().into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.map_err(|error| error.to_string())?.block_on(async {
        let flights: Vec<_> = flight::all().into_iter().take(RECORDS).collect();
        avro(&flights, rounds).await?;
        protobuf(&flights, rounds).await?;
        json(&flights, rounds).await
    })
}

async fn avro(flights: &[Flight<'static>], rounds: usize) -> Result<(), Failure> {
    let schema = flight::avro();
    let text = schema.text().to_owned();
    let framed = Framed::new(Avro, schema, flights).await?;
    let plain = AvroSchema::parse(&text).map_err(|error| error.to_string())?;
    let theirs = apache_avro::Schema::parse_str(&text).map_err(|error| error.to_string())?;
    let reader = GenericDatumReader::builder(&theirs).build().map_err(|error| error.to_string())?;
    let writer = GenericDatumWriter::builder(&theirs).build().map_err(|error| error.to_string())?;
    let owned: Vec<OwnedFlight> = flights.iter().map(|flight| (*flight).into()).collect();

    let guid = Guid::from_bytes([7; 16]);
    framed.serde.registry().remember(SchemaId::Guid(guid), flight::avro());
    framed.serde.load(SchemaId::Guid(guid)).await.map_err(|error| error.to_string())?;
    let in_header = header_value(guid, None);
    let bodies: Vec<&[u8]> = framed.bodies().collect();
    check(&plain.read::<Flight<'_>>(bodies[0]).map_err(|error| error.to_string())?, &flights[0])?;
    let read = reader.read_deser::<OwnedFlight>(&mut &bodies[0][..]).map_err(|error| error.to_string())?;
    check(&read, &owned[0])?;

    let (serde, mut memory) = (&framed.serde, SchemaMemory::default());
    let mut reads = [
        job("plain: Milena's Avro", || {
            for body in &bodies {
                black_box(plain.read::<Flight<'_>>(black_box(body)).expect("ours"));
            }
        }),
        framed.read::<Flight<'_>>("with id and registry"),
        job("with GUID in a header", || {
            for body in &bodies {
                let headers = [Header::new(VALUE_SCHEMA_ID_HEADER, Some(&in_header[..]))].into_iter();
                let value: Flight<'_> =
                    serde.decode(&mut memory, Part::Value, black_box(body), headers).expect("ours");
                black_box(&value);
            }
        }),
        job("plain: Milena's Avro, owned", || {
            for body in &bodies {
                black_box(plain.read_owned::<OwnedFlight>(black_box(body)).expect("ours"));
            }
        }),
        job("plain: apache-avro, owned", || {
            for body in &bodies {
                black_box(reader.read_deser::<OwnedFlight>(&mut black_box(&body[..])).expect("ours"));
            }
        }),
    ];
    show("Avro, read", rounds, &mut reads);
    let (mut into, mut theirs) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    let mut writes = [
        job("plain: Milena's Avro", || {
            for flight in flights {
                into.clear();
                plain.write(black_box(flight), &mut into).expect("it fits");
                black_box(&into);
            }
        }),
        framed.write("with id and registry"),
        job("plain: apache-avro", || {
            for flight in flights {
                theirs.clear();
                writer.write_ser(&mut theirs, black_box(flight)).expect("it fits");
                black_box(&theirs);
            }
        }),
    ];
    show("Avro, write", rounds, &mut writes);
    Ok(())
}

async fn protobuf(flights: &[Flight<'static>], rounds: usize) -> Result<(), Failure> {
    let messages: Vec<FlightMessage> = flights.iter().map(|flight| (*flight).into()).collect();
    let framed = Framed::new(Protobuf::of::<FlightMessage>(), flight::protobuf(), &messages).await?;
    let bodies: Vec<&[u8]> = framed.bodies().collect();
    check(&FlightMessage::decode(bodies[0]).map_err(|error| error.to_string())?, &messages[0])?;
    let mut reads = [
        job("plain: prost", || {
            for body in &bodies {
                black_box(FlightMessage::decode(black_box(*body)).expect("ours"));
            }
        }),
        framed.read::<FlightMessage>("with id and registry"),
    ];
    show("Protobuf, read", rounds, &mut reads);
    let mut into = Vec::with_capacity(4096);
    let mut writes = [
        job("plain: prost", || {
            for message in &messages {
                into.clear();
                black_box(message).encode(&mut into).expect("there is room");
                black_box(&into);
            }
        }),
        framed.write("with id and registry"),
    ];
    show("Protobuf, write", rounds, &mut writes);
    Ok(())
}

async fn json(flights: &[Flight<'static>], rounds: usize) -> Result<(), Failure> {
    let schema = flight::json();
    let parsed: Value = serde_json::from_str(schema.text()).map_err(|error| error.to_string())?;
    let validator = jsonschema::validator_for(&parsed).map_err(|error| error.to_string())?;
    let unchecked = Framed::new(JsonSchema::new().check_when_read(false), schema.clone(), flights).await?;
    let checked = Framed::new(JsonSchema::new(), schema, flights).await?;
    let bodies: Vec<&[u8]> = checked.bodies().collect();
    let read: Flight<'_> = serde_json::from_slice(bodies[0]).map_err(|error| error.to_string())?;
    check(&read, &flights[0])?;
    let mut reads = [
        job("plain: serde_json", || {
            for body in &bodies {
                black_box(serde_json::from_slice::<Flight<'_>>(black_box(body)).expect("ours"));
            }
        }),
        unchecked.read::<Flight<'_>>("with id and registry"),
        job("plain: serde_json, jsonschema", || {
            for body in &bodies {
                let value: Value = serde_json::from_slice(black_box(body)).expect("ours");
                assert!(validator.is_valid(&value));
                black_box(serde_json::from_slice::<Flight<'_>>(black_box(body)).expect("ours"));
            }
        }),
        checked.read::<Flight<'_>>("with id and registry, checked"),
    ];
    show("JSON Schema, read", rounds, &mut reads);
    let (mut into, mut both) = (Vec::with_capacity(4096), Vec::with_capacity(4096));
    let mut writes = [
        job("plain: serde_json", || {
            for flight in flights {
                into.clear();
                serde_json::to_writer(&mut into, black_box(flight)).expect("there is room");
                black_box(&into);
            }
        }),
        job("plain: serde_json, jsonschema", || {
            for flight in flights {
                both.clear();
                assert!(validator.is_valid(&serde_json::to_value(black_box(flight)).expect("it fits")));
                serde_json::to_writer(&mut both, black_box(flight)).expect("there is room");
                black_box(&both);
            }
        }),
        checked.write("with id and registry, checked"),
    ];
    show("JSON Schema, write", rounds, &mut writes);
    Ok(())
}

/// The time of each, and how much it allocates.
fn show(title: &str, rounds: usize, contestants: &mut [Contestant<'_>]) {
    compare(title, RECORDS, rounds, contestants);
    for contestant in contestants {
        let counting = Allocations::start();
        (contestant.job)();
        let per_record = counting.count().0 as f64 / RECORDS as f64;
        println!("  {:<32} {per_record:8.2} allocations/record", contestant.name);
    }
}

fn check<T: PartialEq + Debug>(read: &T, expected: &T) -> Result<(), Failure> {
    match read == expected {
        true => Ok(()),
        false => Err(Failure::Failed(format!("{read:?} was read instead of {expected:?}"))),
    }
}
