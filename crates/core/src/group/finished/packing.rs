//! Bits as the characters of a text that passes through everything that handles text.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// How bits become characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// 15 bits in each, of 2^15 characters. Kafka counts a text's UTF-16 units, and each of these is one. In UTF-8 each takes
    /// three bytes.
    Wide,
    /// 6 bits in each, in base64, for brokers that count bytes.
    Narrow,
}

/// The characters of the wide packing, as first and last ones. They are 2^15 in total, all of Unicode 13 or older. None is a
/// surrogate, white space or a combining mark, none is written from right to left, and no normalisation changes a text of them.
const WIDE: [(u16, u16); 27] = [
    (0x1200, 0x123f),
    (0x13a0, 0x13df),
    (0x1400, 0x167f),
    (0x16a0, 0x16df),
    (0x1820, 0x185f),
    (0x2340, 0x241f),
    (0x2500, 0x29ff),
    (0x2a20, 0x2a5f),
    (0x2a80, 0x2abf),
    (0x2ae0, 0x2b5f),
    (0x2ba0, 0x2c5f),
    (0x2c80, 0x2cdf),
    (0x2e00, 0x2e3f),
    (0x2ea0, 0x2edf),
    (0x31a0, 0x31df),
    (0x3400, 0xa47f),
    (0xa4a0, 0xa4bf),
    (0xa4e0, 0xa61f),
    (0xa640, 0xa65f),
    (0xa6a0, 0xa6df),
    (0xa700, 0xa75f),
    (0xa780, 0xa7bf),
    (0xa840, 0xa85f),
    (0xa900, 0xa91f),
    (0xaa00, 0xaa1f),
    (0xaa80, 0xaa9f),
    (0xab80, 0xabdf),
];
const WIDE_BITS: u32 = 15;
/// Before a text of the wide packing: the rune of M.
const WIDE_MARK: char = 'ᛗ';
/// Before a text of the narrow packing. Base64, which other programs write, does not have it.
const NARROW_MARK: char = '~';
/// The last bits may be left over, so that padding is no part of it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

impl Packing {
    /// The packing that a text begins with, and the rest of the text.
    pub(super) fn of(text: &str) -> Option<(Self, &str)> {
        let wide = text.strip_prefix(WIDE_MARK).map(|rest| (Self::Wide, rest));
        wide.or_else(|| Some((Self::Narrow, text.strip_prefix(NARROW_MARK)?)))
    }

    /// How many bits fit into a text of `chars` characters.
    pub fn bits_in(self, chars: usize) -> u64 {
        let chars = chars.saturating_sub(1) as u64;
        match self {
            Self::Wide => chars * u64::from(WIDE_BITS),
            // Whole bytes.
            Self::Narrow => chars * 6 / 8 * 8,
        }
    }

    /// The text for the first `bits` bits of these bytes; the rest are zeros.
    pub(super) fn pack(self, bytes: &[u8], bits: u64) -> String {
        if self == Self::Narrow {
            return format!("{NARROW_MARK}{}", BASE64.encode(bytes));
        }
        let chars = bits.div_ceil(u64::from(WIDE_BITS)) as usize;
        let mut text = String::with_capacity(3 * (chars + 1));
        text.push(WIDE_MARK);
        let (mut open, mut open_bits, mut left) = (0_u32, 0, chars);
        for byte in bytes {
            (open, open_bits) = (open << 8 | u32::from(*byte), open_bits + 8);
            if open_bits >= WIDE_BITS {
                open_bits -= WIDE_BITS;
                text.push(wide_char(open >> open_bits));
                left -= 1;
                open &= (1 << open_bits) - 1;
            }
        }
        if left > 0 {
            text.push(wide_char(open << (WIDE_BITS - open_bits)));
        }
        text
    }

    /// The bytes of a text, without its mark. None if it has other characters. Zeros may follow what was packed.
    pub(super) fn unpack(self, packed: &str) -> Option<Vec<u8>> {
        if self == Self::Narrow {
            return BASE64.decode(packed).ok();
        }
        let mut bytes = Vec::with_capacity(packed.len() / 3 * 2);
        let (mut open, mut open_bits) = (0_u32, 0);
        for char in packed.chars() {
            (open, open_bits) = (open << WIDE_BITS | wide_index(char)?, open_bits + WIDE_BITS);
            while open_bits >= 8 {
                open_bits -= 8;
                bytes.push((open >> open_bits) as u8);
                open &= (1 << open_bits) - 1;
            }
        }
        if open_bits > 0 {
            bytes.push((open << (8 - open_bits)) as u8);
        }
        Some(bytes)
    }
}

fn wide_char(index: u32) -> char {
    let mut left = index;
    for (first, last) in WIDE {
        let count = u32::from(last - first) + 1;
        if left < count {
            return char::from_u32(u32::from(first) + left).unwrap_or(WIDE_MARK);
        }
        left -= count;
    }
    unreachable!("15 bits are the index of a character")
}

fn wide_index(char: char) -> Option<u32> {
    let code = u16::try_from(u32::from(char)).ok()?;
    let mut before = 0;
    for (first, last) in WIDE {
        if code < first {
            return None;
        }
        if code <= last {
            return Some(before + u32::from(code - first));
        }
        before += u32::from(last - first) + 1;
    }
    None
}
