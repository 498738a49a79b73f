//! What happens to records that were consumed: counted and touched, and some kept.

use std::hint::black_box;

/// Where a [`Consumer`](crate::Consumer) puts each record it is given.
pub trait Sink<K>: Send {
    /// A record of `partition`; `keep` makes what the caller may hold on to, as the client's documentation advises.
    fn take(&mut self, partition: i32, value: &[u8], keep: impl FnOnce() -> K);
}

/// What `consume` has read.
pub(crate) struct Reading<K> {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
    /// A partition whose records do not count towards the end.
    apart: Option<i32>,
    retain_every: u64,
    until_retained: u64,
    retained: Vec<K>,
}

impl<K> Reading<K> {
    pub(crate) fn new(retain_every: Option<u64>, apart: Option<i32>) -> Self {
        let retain_every = retain_every.unwrap_or(u64::MAX).max(1);
        Self { records: 0, bytes: 0, apart, retain_every, until_retained: retain_every, retained: Vec::new() }
    }
}

impl<K: Send> Sink<K> for Reading<K> {
    fn take(&mut self, partition: i32, value: &[u8], keep: impl FnOnce() -> K) {
        if Some(partition) == self.apart {
            return;
        }
        self.records += 1;
        self.bytes += value.len() as u64;
        black_box((value.first(), value.last()));
        self.until_retained -= 1;
        if self.until_retained == 0 {
            self.until_retained = self.retain_every;
            self.retained.push(keep());
        }
    }
}
