//! Batches that tests make, of records whose values begin with their numbers.

use bytes::Bytes;
use milena_core::ProducerIdentity;
use milena_core::producer::SealedBatch;
use milena_wire::batch::BatchBuilder;
use milena_wire::pool::Pool;

use crate::brokers::UNIX_MS;

#[derive(Debug)]
pub(crate) struct Batch {
    /// The number of its first record.
    pub(crate) number: u32,
    values: Vec<Vec<u8>>,
    sealed: milena_wire::batch::SealedBatch,
}

impl Batch {
    pub(crate) fn new(number: u32, values: Vec<Vec<u8>>, is_transactional: bool) -> Self {
        let mut builder = BatchBuilder::new(&Pool::unpooled()).transactional(is_transactional);
        for value in &values {
            builder.append(UNIX_MS + i64::from(number), None, Some(value), &[]).expect("fits");
        }
        Self { number, values, sealed: builder.seal() }
    }

    pub(crate) fn halves(mut self) -> [Self; 2] {
        let is_transactional = self.sealed.header().attributes.is_transactional();
        let rest = self.values.split_off(self.values.len() / 2);
        let second = self.number + self.values.len() as u32;
        [Self::new(self.number, self.values, is_transactional), Self::new(second, rest, is_transactional)]
    }

    pub(crate) fn numbers(&self) -> std::ops::Range<u32> {
        self.number..self.number + self.values.len() as u32
    }
}

/// The number in a record's value.
pub(crate) fn number(value: &[u8]) -> u32 {
    u32::from_be_bytes(value[..4].try_into().expect("four bytes"))
}

impl SealedBatch for Batch {
    fn record_count(&self) -> i32 {
        self.values.len() as i32
    }

    fn bytes(&self) -> usize {
        self.sealed.encoded_bytes()
    }

    fn max_timestamp_ms(&self) -> i64 {
        self.sealed.header().max_timestamp
    }

    fn stamped(&mut self, identity: Option<(ProducerIdentity, i32)>) -> Bytes {
        if let Some((identity, sequence)) = identity {
            self.sealed.stamp(identity.id.0, identity.epoch, sequence);
        }
        self.sealed.bytes()
    }
}
