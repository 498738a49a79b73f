//! Walks DER: tags, lengths and contents, and nothing that they mean. It allocates nothing and goes no deeper than its caller.

/// What is left of a sequence of DER values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'a>(&'a [u8]);

/// One value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// The value with its tag and length.
    pub(super) whole: &'a [u8],
}

/// The bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The tag of a value in brackets, as `[0]`.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next value.
    pub(super) fn peek(self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next value, whatever its tag is.
    pub(super) fn any(&mut self) -> Result<Value<'a>, Malformed> {
        let (&[tag, length], rest) = self.0.split_first_chunk::<2>().ok_or(Malformed)?;
        // A tag of several bytes occurs in nothing that is read here.
        if tag & 0x1f == 0x1f {
            return Err(Malformed);
        }
        let (length, rest) = match length {
            ..=0x7f => (usize::from(length), rest),
            0x81..=0x84 => {
                let count = usize::from(length & 0x7f);
                let (digits, rest) = rest.split_at_checked(count).ok_or(Malformed)?;
                (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
            }
            // BER's indefinite length, or more than 4 GiB.
            _ => return Err(Malformed),
        };
        let (content, rest) = rest.split_at_checked(length).ok_or(Malformed)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Ok(Value { tag, content, whole })
    }

    /// The next value, which must have this tag.
    pub(super) fn value(&mut self, tag: u8) -> Result<Value<'a>, Malformed> {
        match self.any()? {
            value if value.tag == tag => Ok(value),
            _ => Err(Malformed),
        }
    }

    /// The content of the next value, which must have this tag.
    pub(super) fn content(&mut self, tag: u8) -> Result<&'a [u8], Malformed> {
        Ok(self.value(tag)?.content)
    }

    /// The values within the next value, which must have this tag.
    pub(super) fn within(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.content(tag).map(Self)
    }

    /// The content of the next value if it has this tag.
    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Malformed> {
        if self.peek() == Some(tag) { self.content(tag).map(Some) } else { Ok(None) }
    }

    /// The next value, an integer from 0 to 2^32 - 1.
    pub(super) fn number(&mut self) -> Result<u32, Malformed> {
        let digits = self.content(INTEGER)?;
        match digits {
            [] => Err(Malformed),
            [first, ..] if *first >= 0x80 => Err(Malformed),
            [0, rest @ ..] if rest.len() <= 4 => Ok(fold(rest)),
            _ if digits.len() <= 4 => Ok(fold(digits)),
            _ => Err(Malformed),
        }
    }
}

fn fold(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |number, digit| number << 8 | u32::from(*digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_length_are_walked_and_what_is_cut_off_is_refused() {
        for length in [0usize, 1, 0x7f, 0x80, 0xff, 0x100, 0x1_0000] {
            let content = vec![7; length];
            let head = match length {
                ..=0x7f => vec![OCTETS, length as u8],
                0x80..=0xff => vec![OCTETS, 0x81, length as u8],
                _ => vec![OCTETS, 0x83, (length >> 16) as u8, (length >> 8) as u8, length as u8],
            };
            let bytes = [&head[..], &content].concat();
            let mut der = Der::new(&bytes);
            let value = der.value(OCTETS).expect("a value");
            assert_eq!((value.content, value.whole), (&content[..], &bytes[..]));
            assert!(der.is_empty());
            for cut in [0, 1, bytes.len() - 1] {
                let cut = &bytes[..cut.min(bytes.len() - 1)];
                assert_eq!(Der::new(cut).any().err(), Some(Malformed));
            }
        }
        for bytes in [&[0x30, 0x80, 0, 0][..], &[0x30, 0x85, 0, 0, 0, 0, 1, 0], &[0x1f, 1, 0], &[0x30, 0xff]]
        {
            assert_eq!(Der::new(bytes).any().err(), Some(Malformed), "{bytes:x?}");
        }
    }

    #[test]
    fn numbers_have_32_bits() {
        let check = |bytes: &[u8], expected: Option<u32>| {
            assert_eq!(Der::new(bytes).number().ok(), expected, "{bytes:x?}");
        };
        check(&[2, 1, 0], Some(0));
        check(&[2, 2, 0x27, 0x10], Some(10_000));
        check(&[2, 5, 0, 0xff, 0xff, 0xff, 0xff], Some(u32::MAX));
        check(&[2, 1, 0xff], None);
        check(&[2, 0], None);
        check(&[2, 5, 1, 0, 0, 0, 0], None);
    }
}
