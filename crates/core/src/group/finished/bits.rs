//! Bits in bytes, the highest bit of a number and of a byte first, and Exp-Golomb codes: numbers that say their own length, short
//! for small ones. Order `k` suits numbers around 2^k.

/// Writes bits.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Bits that do not fill a byte yet, fewer than 8, in the lowest places.
    open: u64,
    open_bits: u32,
}

/// Reads bits.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The bits that [`Writer::golomb`] writes.
pub(super) fn golomb_bits(value: u64, order: u32) -> u64 {
    let value = u128::from(value) + (1_u128 << order);
    u64::from(2 * value.ilog2() + 1 - order)
}

impl Writer {
    /// The lowest `count` bits of `value`, 56 at most.
    pub(super) fn bits(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 56, "the open bits have to fit beside them");
        self.open = self.open << count | value & ((1 << count) - 1);
        self.open_bits += count;
        while self.open_bits >= 8 {
            self.open_bits -= 8;
            self.bytes.push((self.open >> self.open_bits) as u8);
        }
        self.open &= (1 << self.open_bits) - 1;
    }

    /// The same bit `count` times.
    pub(super) fn repeat(&mut self, bit: bool, mut count: u64) {
        let all = if bit { u64::MAX } else { 0 };
        while count > 0 {
            let part = count.min(32) as u32;
            self.bits(all, part);
            count -= u64::from(part);
        }
    }

    /// A number, in the Exp-Golomb code of this order: as many zeros as the number plus 2^order has bits more than the order,
    /// less one, and then that sum.
    pub(super) fn golomb(&mut self, value: u64, order: u32) {
        let value = u128::from(value) + (1_u128 << order);
        let bits = value.ilog2() + 1;
        self.repeat(false, u64::from(bits - 1 - order));
        if bits > 32 {
            self.bits((value >> 32) as u64, bits - 32);
        }
        self.bits(value as u64, bits.min(32));
    }

    /// How many bits were written.
    pub(super) fn written(&self) -> u64 {
        self.bytes.len() as u64 * 8 + u64::from(self.open_bits)
    }

    /// The bits, and zeros up to a whole byte.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        if self.open_bits > 0 {
            self.bits(0, 8 - self.open_bits);
        }
        self.bytes
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn bits_left(&self) -> u64 {
        (self.bytes.len() * 8 - self.at) as u64
    }

    /// The next `count` bits, 64 at most.
    pub(super) fn bits(&mut self, count: u32) -> Option<u64> {
        if u64::from(count) > self.bits_left() {
            return None;
        }
        let (mut value, mut left) = (0_u64, count);
        while left > 0 {
            let (byte, within) = (self.bytes[self.at / 8], (self.at % 8) as u32);
            let part = left.min(8 - within);
            let bits = u64::from(byte) >> (8 - within - part) & ((1 << part) - 1);
            value = value << part | bits;
            left -= part;
            self.at += part as usize;
        }
        Some(value)
    }

    /// What [`Writer::golomb`] has written.
    pub(super) fn golomb(&mut self, order: u32) -> Option<u64> {
        let mut zeros = 0;
        while self.bits(1)? == 0 {
            zeros += 1;
            if zeros > 64 {
                return None;
            }
        }
        let rest = zeros + order;
        // No order and number of zeros that is written together has more.
        let low = if rest > 64 { return None } else { self.bits(rest)? };
        let value = (1_u128 << rest) + u128::from(low) - (1_u128 << order);
        u64::try_from(value).ok()
    }
}
