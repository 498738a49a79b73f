//! The sample of real flights, as record batches of JSON lines keyed by tail number.

use milena_wire::batch::{BatchBuilder, HEADER_BYTES};
use milena_wire::codec::{Compression, Decompressor};
use milena_wire::pool::Pool;

const SAMPLE: &[u8] = include_bytes!("../../../data/flights-sample.csv.gz");

/// The sample's lines, as text: the names of the columns, then the flights.
pub(crate) fn csv() -> String {
    let mut text = Vec::new();
    Decompressor::new().decompress(Compression::Gzip, 2, SAMPLE, &mut text, 1 << 24).expect("our own sample");
    String::from_utf8(text).expect("our own sample")
}

/// One flight as a line of JSON; numbers stay numbers.
fn json(columns: &[&str], line: &str) -> String {
    let field = |(name, value): (&&str, &str)| match value {
        "" => format!("\"{name}\":null"),
        _ if value.parse::<i64>().is_ok() => format!("\"{name}\":{value}"),
        _ => format!("\"{name}\":\"{value}\""),
    };
    let fields: Vec<String> = columns.iter().zip(line.split(',')).map(field).collect();
    format!("{{{}}}", fields.join(","))
}

/// Every flight, with its aircraft's tail number, which may be empty.
pub(crate) fn lines() -> Vec<(String, String)> {
    let text = csv();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().expect("a header line").split(',').collect();
    let tail_number = columns.iter().position(|name| *name == "tailnum").expect("a tail number");
    let of = |line: &str| line.split(',').nth(tail_number).unwrap_or_default().to_owned();
    lines.map(|line| (of(line), json(&columns, line))).collect()
}

/// The encoded records of uncompressed batches of about `bytes`, as the input of codecs.
pub(crate) fn batches(bytes: usize) -> Vec<Vec<u8>> {
    let pool = Pool::default();
    let mut batches = Vec::new();
    let mut open = BatchBuilder::new(&pool).bytes_max(bytes);
    for (index, (key, value)) in lines().into_iter().enumerate() {
        let timestamp = 1_357_000_000_000 + index as i64 * 250;
        let append = |open: &mut BatchBuilder| {
            open.append(timestamp, Some(key.as_bytes()), Some(value.as_bytes()), &[])
        };
        if append(&mut open).is_err() {
            let full = std::mem::replace(&mut open, BatchBuilder::new(&pool).bytes_max(bytes));
            batches.push(full.seal().into_bytes()[HEADER_BYTES..].to_vec());
            append(&mut open).expect("fits an empty batch");
        }
    }
    batches
}
