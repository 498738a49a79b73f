//! A flight of `data/` as a record in each format: 19 fields, of which six may be missing and five are text.

use std::fs;
use std::path::Path;

use milena_registry::Schema;
use prost::Message;
use serde::{Deserialize, Serialize};

use crate::codecs::flights;

/// A flight, whose texts may be parts of what it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flight<'a> {
    pub(crate) year: i32,
    pub(crate) month: i32,
    pub(crate) day: i32,
    pub(crate) dep_time: Option<i32>,
    pub(crate) sched_dep_time: i32,
    pub(crate) dep_delay: Option<i32>,
    pub(crate) arr_time: Option<i32>,
    pub(crate) sched_arr_time: i32,
    pub(crate) arr_delay: Option<i32>,
    pub(crate) carrier: &'a str,
    pub(crate) flight: i32,
    #[serde(borrow)]
    pub(crate) tailnum: Option<&'a str>,
    pub(crate) origin: &'a str,
    pub(crate) dest: &'a str,
    pub(crate) air_time: Option<i32>,
    pub(crate) distance: i32,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) time_hour: &'a str,
}

/// The same as serde's crates read it that borrow nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename = "Flight")] // apache-avro compares names
pub(crate) struct OwnedFlight {
    pub(crate) year: i32,
    pub(crate) month: i32,
    pub(crate) day: i32,
    pub(crate) dep_time: Option<i32>,
    pub(crate) sched_dep_time: i32,
    pub(crate) dep_delay: Option<i32>,
    pub(crate) arr_time: Option<i32>,
    pub(crate) sched_arr_time: i32,
    pub(crate) arr_delay: Option<i32>,
    pub(crate) carrier: String,
    pub(crate) flight: i32,
    pub(crate) tailnum: Option<String>,
    pub(crate) origin: String,
    pub(crate) dest: String,
    pub(crate) air_time: Option<i32>,
    pub(crate) distance: i32,
    pub(crate) hour: i32,
    pub(crate) minute: i32,
    pub(crate) time_hour: String,
}

/// The same as a message of prost's.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FlightMessage {
    #[prost(int32, tag = "1")]
    pub(crate) year: i32,
    #[prost(int32, tag = "2")]
    pub(crate) month: i32,
    #[prost(int32, tag = "3")]
    pub(crate) day: i32,
    #[prost(int32, optional, tag = "4")]
    pub(crate) dep_time: Option<i32>,
    #[prost(int32, tag = "5")]
    pub(crate) sched_dep_time: i32,
    #[prost(int32, optional, tag = "6")]
    pub(crate) dep_delay: Option<i32>,
    #[prost(int32, optional, tag = "7")]
    pub(crate) arr_time: Option<i32>,
    #[prost(int32, tag = "8")]
    pub(crate) sched_arr_time: i32,
    #[prost(int32, optional, tag = "9")]
    pub(crate) arr_delay: Option<i32>,
    #[prost(string, tag = "10")]
    pub(crate) carrier: String,
    #[prost(int32, tag = "11")]
    pub(crate) flight: i32,
    #[prost(string, optional, tag = "12")]
    pub(crate) tailnum: Option<String>,
    #[prost(string, tag = "13")]
    pub(crate) origin: String,
    #[prost(string, tag = "14")]
    pub(crate) dest: String,
    #[prost(int32, optional, tag = "15")]
    pub(crate) air_time: Option<i32>,
    #[prost(int32, tag = "16")]
    pub(crate) distance: i32,
    #[prost(int32, tag = "17")]
    pub(crate) hour: i32,
    #[prost(int32, tag = "18")]
    pub(crate) minute: i32,
    #[prost(string, tag = "19")]
    pub(crate) time_hour: String,
}

impl prost::Name for FlightMessage {
    const NAME: &'static str = "Flight";
    const PACKAGE: &'static str = "bench";
}

/// Whether a field is there always, and whether it is text, in the order of the columns.
const FIELDS: [(&str, bool, bool); 19] = [
    ("year", true, false),
    ("month", true, false),
    ("day", true, false),
    ("dep_time", false, false),
    ("sched_dep_time", true, false),
    ("dep_delay", false, false),
    ("arr_time", false, false),
    ("sched_arr_time", true, false),
    ("arr_delay", false, false),
    ("carrier", true, true),
    ("flight", true, false),
    ("tailnum", false, true),
    ("origin", true, true),
    ("dest", true, true),
    ("air_time", false, false),
    ("distance", true, false),
    ("hour", true, false),
    ("minute", true, false),
    ("time_hour", true, true),
];

pub(crate) fn avro() -> Schema {
    let fields = FIELDS.map(|(name, is_always, is_text)| {
        let kind = if is_text { r#""string""# } else { r#""int""# };
        let (kind, default) = match is_always {
            true => (kind.to_owned(), ""),
            false => (format!(r#"["null",{kind}]"#), r#","default":null"#),
        };
        format!(r#"{{"name":"{name}","type":{kind}{default}}}"#)
    });
    let fields = fields.join(",");
    Schema::avro(format!(r#"{{"type":"record","name":"Flight","namespace":"bench","fields":[{fields}]}}"#))
}

pub(crate) fn json() -> Schema {
    let properties = FIELDS.map(|(name, is_always, is_text)| {
        let kind = if is_text { r#""string""# } else { r#""integer""# };
        let kind = if is_always { kind.to_owned() } else { format!(r#"["null",{kind}]"#) };
        format!(r#""{name}":{{"type":{kind}}}"#)
    });
    let required: Vec<_> =
        FIELDS.iter().filter(|field| field.1).map(|(name, ..)| format!("\"{name}\"")).collect();
    let (properties, required) = (properties.join(","), required.join(","));
    Schema::json(format!(
        r#"{{"$schema":"http://json-schema.org/draft-07/schema#","title":"Flight","type":"object","properties":{{{properties}}},"required":[{required}]}}"#
    ))
}

pub(crate) fn protobuf() -> Schema {
    let mut number = 0;
    let fields = FIELDS.map(|(name, is_always, is_text)| {
        number += 1;
        let (label, kind) =
            (if is_always { "" } else { "optional " }, if is_text { "string" } else { "int32" });
        format!("{label}{kind} {name} = {number};")
    });
    let fields = fields.join(" ");
    Schema::protobuf(format!(r#"syntax = "proto3"; package bench; message Flight {{ {fields} }}"#))
}

/// One line of the sample. `NA` and nothing stand for a missing value.
fn parsed(line: &str) -> Option<Flight<'_>> {
    let mut fields = line.split(',').map(|field| Some(field).filter(|field| !matches!(*field, "" | "NA")));
    let mut next = || fields.next().flatten();
    let number = |field: Option<&str>| field.and_then(|field| field.parse().ok());
    Some(Flight {
        year: number(next())?,
        month: number(next())?,
        day: number(next())?,
        dep_time: number(next()),
        sched_dep_time: number(next())?,
        dep_delay: number(next()),
        arr_time: number(next()),
        sched_arr_time: number(next())?,
        arr_delay: number(next()),
        carrier: next()?,
        flight: number(next())?,
        tailnum: next(),
        origin: next()?,
        dest: next()?,
        air_time: number(next()),
        distance: number(next())?,
        hour: number(next())?,
        minute: number(next())?,
        time_hour: next()?,
    })
}

/// The flights of the sample, in their order. The text lives as long as the process.
pub(crate) fn all() -> Vec<Flight<'static>> {
    let text: &'static str = flights::csv().leak();
    text.lines().skip(1).map(|line| parsed(line).expect("our own sample")).collect()
}

/// Writes the flights as lines of JSON, and the schema of each format, for the drivers of other clients.
pub(crate) fn write_files(dir: &Path) -> Result<(), String> {
    let wrong = |error: std::io::Error| format!("{}: {error}", dir.display());
    fs::create_dir_all(dir).map_err(wrong)?;
    let mut lines = Vec::new();
    for flight in all() {
        serde_json::to_writer(&mut lines, &flight).map_err(|error| error.to_string())?;
        lines.push(b'\n');
    }
    fs::write(dir.join("flights.jsonl"), lines).map_err(wrong)?;
    for (format, schema) in [("avro", avro()), ("json", json()), ("protobuf", protobuf())] {
        fs::write(dir.join(format), schema.text()).map_err(wrong)?;
    }
    Ok(())
}

impl From<Flight<'_>> for OwnedFlight {
    fn from(flight: Flight<'_>) -> Self {
        let Flight { year, month, day, dep_time, sched_dep_time, dep_delay, .. } = flight;
        let Flight { arr_time, sched_arr_time, arr_delay, flight: number, air_time, .. } = flight;
        Self {
            year,
            month,
            day,
            dep_time,
            sched_dep_time,
            dep_delay,
            arr_time,
            sched_arr_time,
            arr_delay,
            carrier: flight.carrier.into(),
            flight: number,
            tailnum: flight.tailnum.map(Into::into),
            origin: flight.origin.into(),
            dest: flight.dest.into(),
            air_time,
            distance: flight.distance,
            hour: flight.hour,
            minute: flight.minute,
            time_hour: flight.time_hour.into(),
        }
    }
}

impl From<Flight<'_>> for FlightMessage {
    fn from(flight: Flight<'_>) -> Self {
        let owned = OwnedFlight::from(flight);
        Self {
            year: owned.year,
            month: owned.month,
            day: owned.day,
            dep_time: owned.dep_time,
            sched_dep_time: owned.sched_dep_time,
            dep_delay: owned.dep_delay,
            arr_time: owned.arr_time,
            sched_arr_time: owned.sched_arr_time,
            arr_delay: owned.arr_delay,
            carrier: owned.carrier,
            flight: owned.flight,
            tailnum: owned.tailnum,
            origin: owned.origin,
            dest: owned.dest,
            air_time: owned.air_time,
            distance: owned.distance,
            hour: owned.hour,
            minute: owned.minute,
            time_hour: owned.time_hour,
        }
    }
}
