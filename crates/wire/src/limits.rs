//! Limits on the memory that bytes from outside may take.

/// Limits on the memory for one record batch.
///
/// They limit the memory that is allocated *for* a batch; its own bytes are limited by the frame in which it arrived. Memory is
/// reserved while content appears, and never because a batch announces a size.
///
/// ```
/// use milena_wire::Limits;
///
/// let strict = Limits { decompressed_bytes_max: 1 << 20, ..Limits::default() };
/// assert!(strict.decompressed_bytes_max < Limits::default().decompressed_bytes_max);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of the records of one batch after decompression. Default: 64 MiB, which a batch of Kafka's default
    /// `message.max.bytes` (1 MiB) reaches only at a ratio of 64:1.
    pub decompressed_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { decompressed_bytes_max: 64 << 20 }
    }
}
