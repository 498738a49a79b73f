//! Measures formats of values: the same records as JSON, Avro and Protobuf. It decides nothing.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use milena::Header;
use milena_registry::framing::{self, Part};
use milena_registry::{
    AvroSchema, Decode as _, DynamicMessage, DynamicProtobuf, DynamicSchema, Encode as _, Format as _,
    ProtobufSchema, Reference, Schema, SchemaRegistry, SchemaType,
};

use super::measure::{record_bytes, thread_ns};
use super::sample::{Sample, Sampled};
use crate::exit::Failure;
use crate::tune::candidate::Candidate;
use crate::tune::figures::median;
use crate::tune::formats::{FormatFigures, JSON};
use crate::tune::infer::Inference;
use crate::tune::schedule::{Schedule, Turn};

/// What was measured of formats.
#[derive(Clone, Debug)]
pub(super) struct Formats {
    /// How many values were measured, and how many of the sample are no such values.
    pub(super) value_count: usize,
    pub(super) left_out: usize,
    pub(super) figures: Vec<FormatFigures>,
    /// The schemas by format, and whether they were inferred.
    pub(super) schemas: Vec<(&'static str, String, bool)>,
    /// Formats that were not measured, and why.
    pub(super) not_measured: Vec<(&'static str, String)>,
}

/// Enough for medians and sizes.
const VALUES_MAX: usize = 20_000;
const BYTES_MAX: usize = 4 << 20;
/// Values that are measured in one turn.
const TURN_VALUES: usize = 200;
/// If more than one of so many values is of another kind, the formats are not those of the topic.
const LEFT_OUT_MAX: usize = 10;

const AVRO: &str = "Avro";
const PROTOBUF: &str = "Protobuf";

/// The schema of the values, of a file or of a registry.
#[derive(Clone, Debug)]
pub(super) struct Given {
    schema: Schema,
    /// What it refers to, each before those that use it.
    needed: Vec<(Reference, Schema)>,
}

impl Given {
    fn compiled(&self) -> Result<DynamicSchema, String> {
        DynamicSchema::compile(&self.schema, &self.needed).map_err(|error| error.to_string())
    }
}

/// The schema that the first value with one names.
///
/// # Errors
/// Why the registry does not say it.
pub(super) async fn named_by(sample: &Sample, registry: &SchemaRegistry) -> Result<Option<Given>, String> {
    let framed = sample.records.iter().find_map(|record| {
        let headers = record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
        framing::detect(Part::Value, record.value.as_deref()?, headers)
    });
    let Some(framed) = framed else { return Ok(None) };
    let schema = registry.schema(framed.schema()).await.map_err(|error| error.to_string())?;
    let needed = registry.resolve(&schema).await.map_err(|error| error.to_string())?;
    Ok(Some(Given { schema, needed }))
}

/// The schema in a file: Avro or Protobuf, by its ending or else by how it begins.
///
/// # Errors
/// When the file cannot be read, or is neither.
pub(super) fn read_schema(path: &Path) -> Result<Given, Failure> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read {name}: {error}");
        match error.kind() {
            std::io::ErrorKind::NotFound => Failure::not_found(message),
            _ => Failure::failed(message),
        }
    })?;
    let is_proto = path.extension().is_some_and(|ending| ending == "proto");
    let schema = match text.trim_start().chars().next() {
        _ if is_proto => Schema::protobuf(text),
        Some('{' | '[' | '"') => Schema::avro(text),
        _ => Schema::protobuf(text),
    };
    let given = Given { schema, needed: Vec::new() };
    given.compiled().map_err(|error| {
        Failure::usage(format!("{name}: {error}"))
            .hint("--schema takes an Avro schema or a .proto file without imports.")
    })?;
    Ok(given)
}

/// Whether there is something to measure.
pub(super) fn may_have(sample: &Sample, given: Option<&Given>) -> bool {
    let first = sample.records.iter().find_map(|record| record.value.as_deref());
    given.is_some() || first.is_some_and(|value| value.trim_ascii_start().first() == Some(&b'{'))
}

/// Measures the formats within `time`.
///
/// # Errors
/// Why there is nothing to compare.
pub(super) fn measure(
    sample: &Sample,
    given: Option<&Given>,
    batch_bytes: usize,
    codecs: &[Candidate],
    time: Duration,
) -> Result<Formats, String> {
    let begin = Instant::now();
    let texts = Texts::of(sample, given, time / 4)?;
    let mut formats = Formats {
        value_count: texts.all.len(),
        left_out: texts.left_out,
        figures: Vec::new(),
        schemas: Vec::new(),
        not_measured: Vec::new(),
    };
    let inferred = texts.inferred();
    let mut kinds = vec![Measurable::json(&texts)];
    for kind in [SchemaType::Avro, SchemaType::Protobuf] {
        let name = if kind == SchemaType::Avro { AVRO } else { PROTOBUF };
        let made = match given.filter(|given| *given.schema.kind() == kind) {
            Some(given) if !given.needed.is_empty() => Err("its schema refers to others".to_owned()),
            Some(given) => Ok((given.schema.text().to_owned(), false)),
            None => inferred.clone().and_then(|inferred| {
                let text = if kind == SchemaType::Avro { inferred.avro() } else { inferred.protobuf() };
                text.map(|text| (text, true))
            }),
        };
        let made = made.and_then(|(text, is_inferred)| {
            let schema = Schema::new(kind.clone(), text.as_str());
            let measurable = Measurable::new(name, &schema, &texts)?;
            formats.schemas.push((name, text, is_inferred));
            Ok(measurable)
        });
        match made {
            Ok(measurable) => kinds.push(measurable),
            Err(why) => formats.not_measured.push((name, why)),
        }
    }
    let json = texts.sample(sample, &kinds[0]);
    let chunks = json.chunks(batch_bytes);
    let mut sizes = Vec::new();
    for kind in &kinds {
        let as_kind = texts.sample(sample, kind);
        let all = std::iter::once(&Candidate::NONE).chain(codecs);
        let size = |codec: &Candidate| {
            let left = (time * 3 / 4).saturating_sub(begin.elapsed());
            // Other formats may take more than JSON.
            Some((*codec, record_bytes(&as_kind, &chunks, *codec, batch_bytes.saturating_mul(2), left)?))
        };
        sizes.push(all.filter_map(size).collect());
    }
    let times = times(&kinds, time.saturating_sub(begin.elapsed()))?;
    for ((kind, record_bytes), (encode_ns, decode_ns)) in kinds.iter().zip(sizes).zip(times) {
        let bytes: usize = kind.bodies.iter().map(|body| body.len() + kind.frame.len()).sum();
        let value_bytes = bytes as f64 / kind.bodies.len().max(1) as f64;
        formats.figures.push(FormatFigures {
            name: kind.name,
            value_bytes,
            record_bytes,
            encode_ns,
            decode_ns,
        });
    }
    Ok(formats)
}

/// The values of the sample as JSON, with the index of each one's record.
struct Texts {
    all: Vec<(usize, String)>,
    left_out: usize,
}

impl Texts {
    fn of(sample: &Sample, given: Option<&Given>, time: Duration) -> Result<Self, String> {
        let begin = Instant::now();
        let schema = given.map(Given::compiled).transpose()?;
        let (mut all, mut left_out, mut bytes) = (Vec::new(), 0, 0);
        for (index, record) in sample.records.iter().enumerate() {
            if all.len() >= VALUES_MAX || bytes >= BYTES_MAX || begin.elapsed() >= time {
                break;
            }
            let Some(value) = record.value.as_deref() else { continue };
            match text_of(record, value, schema.as_ref()) {
                Some(text) => {
                    bytes += text.len();
                    all.push((index, text));
                }
                None => left_out += 1,
            }
        }
        if all.is_empty() || left_out * LEFT_OUT_MAX > all.len() {
            let count = all.len() + left_out;
            let what =
                if given.is_some() { "JSON objects, or records of the schema" } else { "JSON objects" };
            return Err(format!("{} of {count} values are {what}", all.len()));
        }
        Ok(Self { all, left_out })
    }

    fn inferred(&self) -> Result<Inference, String> {
        let mut inference = Inference::default();
        for (_, text) in &self.all {
            let value = serde_json::from_str(text).map_err(|error| error.to_string())?;
            inference.add(&value)?;
        }
        Ok(inference)
    }

    /// The records with their values in another format.
    fn sample(&self, of: &Sample, kind: &Measurable) -> Sample {
        let records = self.all.iter().zip(&kind.bodies).map(|((index, _), body)| {
            let Sampled { partition, timestamp, key, headers, .. } = &of.records[*index];
            let value = Some([kind.frame, &**body].concat().into());
            Sampled {
                partition: *partition,
                timestamp: *timestamp,
                key: key.clone(),
                value,
                headers: headers.clone(),
            }
        });
        Sample { records: records.collect(), ..Sample::default() }
    }
}

/// A value as JSON: it is a JSON object, or names a schema that the given one can read.
fn text_of(record: &Sampled, value: &[u8], schema: Option<&DynamicSchema>) -> Option<String> {
    if value.trim_ascii_start().first() == Some(&b'{') {
        let text = std::str::from_utf8(value).ok()?;
        return serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok().then(|| text.to_owned());
    }
    let schema = schema?;
    let headers = record.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
    let framed = framing::read(Part::Value, value, headers).ok()?;
    let body = match schema.kind() {
        SchemaType::Protobuf => framed.message().ok()?.1,
        _ => framed.body(),
    };
    Some(schema.decode(None, body).ok()?.json().to_owned())
}

/// A format with the values in it.
struct Measurable {
    name: &'static str,
    coder: Coder,
    /// What goes before a body to name its schema.
    frame: &'static [u8],
    bodies: Vec<Vec<u8>>,
}

/// Reads and writes values whose type is known at run time only, so that the formats do the same work.
enum Coder {
    Json,
    Avro(AvroSchema),
    Protobuf(DynamicProtobuf, ProtobufSchema),
}

impl Measurable {
    fn json(texts: &Texts) -> Self {
        let bodies = texts.all.iter().map(|(_, text)| text.clone().into_bytes()).collect();
        Self { name: JSON, coder: Coder::Json, frame: &[], bodies }
    }

    fn new(name: &'static str, schema: &Schema, texts: &Texts) -> Result<Self, String> {
        let said = |error: milena_registry::SerdeError| error.to_string();
        let (coder, frame) = match schema.kind() {
            SchemaType::Avro => {
                (Coder::Avro(AvroSchema::parse(schema.text()).map_err(said)?), &[0, 0, 0, 0, 1][..])
            }
            _ => {
                let format = DynamicProtobuf::new();
                let compiled = format.compile(schema, &[]).map_err(said)?;
                (Coder::Protobuf(format, compiled), &[0, 0, 0, 0, 1, 0][..])
            }
        };
        let schema = DynamicSchema::compile(schema, &[]).map_err(said)?;
        let mut bodies = Vec::new();
        for (_, text) in &texts.all {
            let mut body = Vec::new();
            schema.encode(None, text, &mut body).map_err(said)?;
            bodies.push(body);
        }
        Ok(Self { name, coder, frame, bodies })
    }

    /// Decodes and encodes these values: nanoseconds to encode and to decode one.
    fn turn(&self, values: Range<usize>) -> Result<(f64, f64), String> {
        let bodies = &self.bodies[values];
        let count = bodies.len().max(1) as f64;
        let (encode, decode) = match &self.coder {
            Coder::Json => timed(
                bodies,
                |body| serde_json::from_slice::<serde_json::Value>(body).map_err(|error| error.to_string()),
                |value, into| serde_json::to_writer(into, value).map_err(|error| error.to_string()),
            )?,
            Coder::Avro(schema) => timed(
                bodies,
                |body| schema.read_value(body).map_err(|error| error.to_string()),
                |value, into| schema.write_value(value, into).map_err(|error| error.to_string()),
            )?,
            Coder::Protobuf(format, schema) => timed(
                bodies,
                |body| format.decode(schema, None, body).map_err(|error| error.to_string()),
                |value: &DynamicMessage, into| {
                    format.encode(schema, value, into).map_err(|error| error.to_string())
                },
            )?,
        };
        Ok((encode as f64 / count, decode as f64 / count))
    }
}

/// Nanoseconds to encode all, and to decode all.
fn timed<T>(
    bodies: &[Vec<u8>],
    decode: impl Fn(&[u8]) -> Result<T, String>,
    encode: impl Fn(&T, &mut Vec<u8>) -> Result<(), String>,
) -> Result<(u64, u64), String> {
    let begin = thread_ns();
    let values: Vec<T> = bodies.iter().map(|body| decode(body)).collect::<Result<_, _>>()?;
    let decoded = thread_ns();
    let mut into = Vec::with_capacity(bodies.iter().map(Vec::len).sum());
    let encoding = thread_ns();
    for value in &values {
        encode(value, &mut into)?;
    }
    Ok((thread_ns().saturating_sub(encoding), decoded.saturating_sub(begin)))
}

/// The medians of each format: nanoseconds to encode and to decode a value.
fn times(kinds: &[Measurable], time: Duration) -> Result<Vec<(f64, f64)>, String> {
    let count = kinds.iter().map(|kind| kind.bodies.len()).min().unwrap_or(0);
    let mut schedule = Schedule::new(&vec![false; kinds.len()], count.div_ceil(TURN_VALUES), time);
    let mut all = vec![(Vec::new(), Vec::new()); kinds.len()];
    let begin = Instant::now();
    while let Some(turn) = schedule.next(begin.elapsed()) {
        let Turn { candidate, chunk } = turn;
        let at = Instant::now();
        let first = chunk * TURN_VALUES;
        let (encode, decode) = kinds[candidate].turn(first..count.min(first + TURN_VALUES))?;
        schedule.note(turn, at.elapsed());
        all[candidate].0.push(encode);
        all[candidate].1.push(decode);
    }
    if all.iter().any(|(encode, _)| encode.is_empty()) {
        return Err("there was no time to measure them".to_owned());
    }
    Ok(all.iter_mut().map(|(encode, decode)| (median(encode), median(decode))).collect())
}
