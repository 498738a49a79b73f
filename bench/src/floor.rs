//! The cost of moving the bytes only: copy, CRC-32C and send, or receive, CRC-32C and touch, with the codec if there is one; or
//! one round trip for all waiting tasks. It does not speak Kafka's protocol: the sink drops what it gets and sends prepared
//! bytes.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use milena_wire::codec::{Compression, Compressor, Decompressor};
use serde_json::json;

use crate::histogram::Histogram;
use crate::options::{Failure, Options};
use crate::outcome::{Outcome, touch};
use crate::payload::Lines;
use crate::sink::raw;

/// Runs one mode.
pub(crate) fn run(options: &Options) -> Result<Outcome, Failure> {
    match options.mode.as_str() {
        "produce" => Ok(produce(options)?),
        "consume" => Ok(consume(options)?),
        "send" => Ok(send(options)?),
        mode => Err(Failure::Lacks(format!("the floor does not {mode}"))),
    }
}

/// A connection to a sink.
struct Link(TcpStream);

impl Link {
    fn connect(bootstrap: &str) -> Result<Self, String> {
        let first = bootstrap.split(',').next().unwrap_or(bootstrap);
        let stream = TcpStream::connect(first).map_err(|error| format!("{first}: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        Ok(Self(stream))
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), String> {
        self.0.write_all(frame).map_err(|error| error.to_string())
    }

    /// The body of the next frame.
    fn receive(&mut self, body: &mut Vec<u8>) -> Result<(), String> {
        let mut size = [0; 4];
        self.0.read_exact(&mut size).map_err(|error| error.to_string())?;
        body.resize(u32::from_be_bytes(size) as usize, 0);
        self.0.read_exact(body).map_err(|error| error.to_string())
    }
}

/// A frame's size, key, version and correlation id.
const HEAD_BYTES: usize = 12;

fn put_head(frame: &mut Vec<u8>, key: i16) {
    frame.clear();
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&[0; 6]);
}

fn put_size(frame: &mut [u8]) {
    let size = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&size.to_be_bytes());
}

fn produce(options: &Options) -> Result<Outcome, String> {
    let path = options.values.as_ref().ok_or("--values is needed")?;
    let (values, keys) = (Lines::read(path)?, options.keys.as_deref().map(Lines::read).transpose()?);
    let mut link = Link::connect(&options.bootstrap)?;
    let mut compressor = Compressor::new();
    let (mut framed, mut compressed) = (Vec::with_capacity(options.batch_bytes + 1024), Vec::new());
    let mut keys = keys.as_ref().map(|keys| keys.cycle());
    let mut bytes = 0;
    let start = Instant::now();
    put_head(&mut framed, raw::DISCARD);
    for value in values.cycle().take(options.records as usize) {
        if framed.len() + raw::FRAME_BYTES + value.len() > options.batch_bytes {
            flush(&mut link, &mut compressor, options.codec, &mut framed, &mut compressed)?;
        }
        if let Some(key) = keys.as_mut().and_then(Iterator::next) {
            framed.extend_from_slice(key);
        }
        raw::put(&mut framed, value);
        bytes += value.len() as u64;
    }
    flush(&mut link, &mut compressor, options.codec, &mut framed, &mut compressed)?;
    put_head(&mut framed, raw::SYNC);
    put_size(&mut framed);
    link.send(&framed)?;
    link.receive(&mut compressed)?;
    let seconds = start.elapsed().as_secs_f64();
    let settings = json!({ "codec": options.codec.name(), "buffer_bytes": options.batch_bytes });
    Ok(Outcome { records: options.records, bytes, seconds, settings, ..Default::default() })
}

fn flush(
    link: &mut Link,
    compressor: &mut Compressor,
    codec: Compression,
    framed: &mut Vec<u8>,
    compressed: &mut Vec<u8>,
) -> Result<(), String> {
    let frame = if codec == Compression::None {
        &mut *framed
    } else {
        put_head(compressed, raw::DISCARD);
        compressor
            .compress(codec, None, &framed[HEAD_BYTES..], compressed)
            .map_err(|error| error.to_string())?;
        compressed
    };
    black_box(crc32c::crc32c(&frame[HEAD_BYTES..]));
    put_size(frame);
    link.send(frame)?;
    put_head(framed, raw::DISCARD);
    Ok(())
}

/// Sends one value for each task and waits for one answer to all of them, again and again. So its rate is the highest that
/// the machine's round trip allows if each task waits for an answer before it sends more.
fn send(options: &Options) -> Result<Outcome, String> {
    let path = options.values.as_ref().ok_or("--values is needed")?;
    let values = Lines::read(path)?;
    let mut values = values.cycle();
    let mut link = Link::connect(&options.bootstrap)?;
    let (mut framed, mut sync, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    put_head(&mut sync, raw::SYNC);
    put_size(&mut sync);
    let (mut bytes, mut latency) = (0, Histogram::new());
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < options.seconds {
        let sent = Instant::now();
        put_head(&mut framed, raw::DISCARD);
        for value in values.by_ref().take(options.tasks) {
            raw::put(&mut framed, value);
            bytes += value.len() as u64;
        }
        black_box(crc32c::crc32c(&framed[HEAD_BYTES..]));
        put_size(&mut framed);
        framed.extend_from_slice(&sync);
        link.send(&framed)?;
        link.receive(&mut answer)?;
        let nanoseconds = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        (0..options.tasks).for_each(|_| latency.add(nanoseconds));
    }
    let seconds = start.elapsed().as_secs_f64();
    let settings = json!({ "tasks": options.tasks });
    Ok(Outcome {
        records: latency.count(),
        bytes,
        seconds,
        latency: Some(latency),
        settings,
        ..Default::default()
    })
}

fn consume(options: &Options) -> Result<Outcome, String> {
    let start = Instant::now();
    let mut link = Link::connect(&options.bootstrap)?;
    let mut request = Vec::new();
    put_head(&mut request, raw::READ);
    put_size(&mut request);
    let (mut buffer, mut decompressed) = (Vec::new(), Vec::new());
    let mut decompressor = Decompressor::new();
    let (mut records, mut bytes, mut sum) = (0, 0, 0);
    // One more request is always in flight.
    link.send(&request)?;
    while records < options.records {
        link.send(&request)?;
        link.receive(&mut buffer)?;
        let mut rest = &buffer[..];
        if rest.is_empty() {
            return Err("the sink has no values: --values".into());
        }
        while !rest.is_empty() {
            let (head, payload) = Head::split(&mut rest)?;
            let framed = head.open(payload, options.codec, &mut decompressor, &mut decompressed)?;
            let read = read(framed);
            records += u64::from(head.records);
            bytes += read.0;
            sum += read.1;
        }
    }
    black_box(sum);
    let seconds = start.elapsed().as_secs_f64();
    let settings = json!({ "codec": options.codec.name() });
    Ok(Outcome { records, bytes, seconds, settings, ..Default::default() })
}

/// The bytes before a batch.
struct Head {
    records: u32,
    framed_bytes: usize,
    crc: u32,
}

impl Head {
    /// Splits the first batch off.
    fn split<'a>(rest: &mut &'a [u8]) -> Result<(Self, &'a [u8]), String> {
        let (head, behind) = rest.split_first_chunk::<{ raw::HEAD_BYTES }>().ok_or("a batch is cut off")?;
        let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (payload, behind) = behind.split_at_checked(word(8) as usize).ok_or("a batch is cut off")?;
        *rest = behind;
        Ok((Self { records: word(0), framed_bytes: word(4) as usize, crc: word(12) }, payload))
    }

    fn open<'a>(
        &self,
        payload: &'a [u8],
        codec: Compression,
        decompressor: &mut Decompressor,
        decompressed: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], String> {
        if crc32c::crc32c(payload) != self.crc {
            return Err("a batch came damaged".into());
        }
        if codec == Compression::None {
            return Ok(payload);
        }
        let opened = decompressor.decompress(codec, 2, payload, decompressed, self.framed_bytes);
        opened.map_err(|error| error.to_string())?;
        Ok(decompressed)
    }
}

/// The bytes of the values, and the sum of the bytes that were touched.
fn read(mut framed: &[u8]) -> (u64, u64) {
    let (mut bytes, mut sum) = (0, 0);
    while let Some((frame, rest)) = framed.split_first_chunk::<{ raw::FRAME_BYTES }>() {
        let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
        let (value, rest) = rest.split_at(length.min(rest.len()));
        bytes += length as u64;
        sum += touch(value);
        framed = rest;
    }
    (bytes, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_found_again() {
        let lines = crate::batches::tests::lines(1024, 100);
        for codec in [Compression::None, Compression::Lz4] {
            let buffer = raw::buffer(&lines, codec, 10_000).expect("made");
            let (mut rest, mut batches, mut decompressed) = (&buffer[..], 0, Vec::new());
            while !rest.is_empty() {
                let (head, payload) = Head::split(&mut rest).expect("whole");
                let opened = head.open(payload, codec, &mut Decompressor::new(), &mut decompressed);
                assert_eq!(read(opened.expect("intact")).0, 91 * 100);
                batches += 1;
            }
            assert!(batches > 100);
        }
    }

    #[test]
    fn framed_values_are_found_again() {
        let mut framed = Vec::new();
        raw::put(&mut framed, b"ab");
        raw::put(&mut framed, b"x");
        raw::put(&mut framed, b"a...b");
        assert_eq!(framed.len(), 3 * raw::FRAME_BYTES + 8);
        assert_eq!(read(&framed), (8, 2 * (u64::from(b'a') + u64::from(b'b'))));
    }
}
