//! Any bytes as a script for a batch builder: lengths and timestamps of the script's choosing.

use milena_wire::Limits;
use milena_wire::batch::{BatchBuilder, Header, RawBatch};
use milena_wire::codec::{Compression, Compressor, Decompressor};
use milena_wire::pool::Pool;

/// What goes in comes out, and sizes are as foretold.
pub(crate) fn run(data: &[u8]) {
    let mut script = Script(data);
    let compression = Compression::ALL[usize::from(script.byte()) % Compression::ALL.len()];
    let pool = Pool::default();
    let mut builder = BatchBuilder::new(&pool).bytes_max(1 << 16);
    let mut appended = Vec::new();
    while !script.0.is_empty() {
        let timestamp = script.timestamp();
        let (key, value) = (script.nullable(), script.nullable());
        let header_count = usize::from(script.byte() % 4);
        let headers: Vec<_> =
            (0..header_count).map(|_| (script.nullable().unwrap_or_default(), script.nullable())).collect();
        let borrowed: Vec<_> =
            headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let before = builder.bytes();
        let foretold = builder.encoded_bytes(timestamp, key.as_deref(), value.as_deref(), &borrowed);
        if builder.append(timestamp, key.as_deref(), value.as_deref(), &borrowed).is_err() {
            assert!(before + foretold > 1 << 16 && builder.bytes() == before);
            break;
        }
        assert_eq!(builder.bytes(), before + foretold);
        appended.push((timestamp, key, value, headers));
    }
    let compression = if compression.is_built_in() { compression } else { Compression::None };
    let mut sealed = builder.seal_compressed(&mut Compressor::new(), compression, None).expect("is built in");
    sealed.stamp(4001, 1, 17);

    let raw = RawBatch::parse(&sealed.into_bytes()).expect("just sealed");
    raw.check_crc().expect("just stamped");
    let limits = Limits::default();
    let batch = raw.decompress(&mut Decompressor::new(), &pool, &limits).expect("just compressed");
    assert_eq!(batch.header().record_count as usize, appended.len());
    assert_eq!(batch.records().count(), appended.len());
    for (record, (timestamp, key, value, headers)) in batch.records().zip(&appended) {
        let record = record.expect("just written");
        assert_eq!(
            (record.timestamp, record.key, record.value),
            (*timestamp, key.as_deref(), value.as_deref())
        );
        let read = record.headers().map(|header| header.expect("just written"));
        assert!(read.eq(headers.iter().map(|(key, value)| Header { key, value: value.as_deref() })));
    }
}

struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// Of every magnitude.
    fn timestamp(&mut self) -> i64 {
        let shift = self.byte();
        let byte = i64::from(self.byte());
        (byte << (shift % 64)).wrapping_mul(if shift >= 128 { -1 } else { 1 })
    }

    /// Null, some of the script, or a run whose length is near where its varint gets longer.
    fn nullable(&mut self) -> Option<Vec<u8>> {
        match self.byte() {
            0 => None,
            length @ 1..=200 => {
                let (taken, rest) = self.0.split_at(self.0.len().min(usize::from(length - 1)));
                self.0 = rest;
                Some(taken.to_vec())
            }
            length => Some(vec![length; [60, 8185][usize::from(length % 2)] + usize::from(self.byte() % 16)]),
        }
    }
}
