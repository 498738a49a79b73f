//! What was fetched of one partition and not taken yet, and whether more is fetched before it is.

/// Bytes that the application has not taken, with hysteresis: at its limit a buffer is full, and it stays so until half
/// of the limit was taken, so that a slow reader is sent a few large fetches and not many small ones.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: usize,
    is_full: bool,
}

impl Buffer {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Whether batches are to be taken before more are fetched.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// A fetch brought `bytes`.
    pub(super) fn fill(&mut self, bytes: usize, bytes_max: usize) {
        self.bytes += bytes;
        self.is_full = self.bytes >= bytes_max;
    }

    /// The application took `bytes`. Answers whether the buffer has become one to be filled.
    pub(super) fn take(&mut self, bytes: usize, bytes_max: usize) -> bool {
        self.bytes = self.bytes.saturating_sub(bytes);
        let is_drained = self.is_full && self.bytes <= bytes_max / 2;
        self.is_full &= !is_drained;
        is_drained
    }

    /// Memory is short: no more is fetched before the application has taken something.
    pub(super) fn hold_back(&mut self) {
        self.is_full = true;
    }

    /// A reader waits for the first batch, or another reader comes: an empty buffer is not held back any more. Answers whether
    /// it was.
    pub(super) fn release(&mut self) -> bool {
        let was_held = self.is_full && self.is_empty();
        self.is_full &= !was_held;
        was_held
    }

    /// The batches are of no use any more: the partition was sought or given up.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
