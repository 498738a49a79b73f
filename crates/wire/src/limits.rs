//! What bytes from outside may cost.

/// Limits on what one record batch may turn into.
///
/// Both bound what is *made* from a batch; what arrives is bounded by the frame that carried it. Memory is reserved as
/// content appears, never ahead by what a batch announces.
///
/// ```
/// use milena_wire::Limits;
///
/// let strict = Limits { decompressed_bytes_max: 1 << 20, ..Limits::default() };
/// assert!(strict.decompressed_bytes_max < Limits::default().decompressed_bytes_max);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that the records of one batch may take once decompressed. Default 64 MiB: a batch of Kafka's default
    /// `message.max.bytes` (1 MiB) reaches that only at 64:1, and topics that carry more know it.
    pub decompressed_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { decompressed_bytes_max: 64 << 20 }
    }
}
