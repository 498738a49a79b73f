//! The subject of a certificate, written as Java writes it (`X500Principal.getName()`, RFC 2253): `CN=alice,OU=dev,O=Org`.

/// The subject of an X.509 certificate in DER. `None` if it cannot be read.
pub(crate) fn subject(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = Element::read(certificate)?;
    let (body, _) = Element::read(certificate.of(SEQUENCE)?)?;
    let mut rest = body.of(SEQUENCE)?;
    let (first, after) = Element::read(rest)?;
    // The version is left out in version 1.
    if first.tag == VERSION {
        rest = after;
    }
    // Serial number, signature algorithm, issuer, validity.
    for _ in 0..4 {
        rest = Element::read(rest)?.1;
    }
    let (name, _) = Element::read(rest)?;
    let mut parts = Vec::new();
    for set in Elements(name.of(SEQUENCE)?) {
        let mut attributes = Vec::new();
        for attribute in Elements(set?.of(SET)?) {
            attributes.push(written(attribute?.of(SEQUENCE)?)?);
        }
        parts.push(attributes.join("+"));
    }
    // The name is encoded from its root on, and written from its leaf on.
    parts.reverse();
    Some(parts.join(","))
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const OBJECT_ID: u8 = 0x06;

/// One element of DER.
struct Element<'a> {
    tag: u8,
    /// Tag, length and content.
    raw: &'a [u8],
    content: &'a [u8],
}

impl<'a> Element<'a> {
    /// The first element of `bytes`, and what follows it.
    fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&tag, rest) = bytes.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit)), rest)
            }
            _ => return None,
        };
        let (content, after) = rest.split_at_checked(length)?;
        Some((Self { tag, raw: &bytes[..bytes.len() - after.len()], content }, after))
    }

    fn of(self, tag: u8) -> Option<&'a [u8]> {
        (self.tag == tag).then_some(self.content)
    }
}

/// The elements one after another; `None` once where one cannot be read.
struct Elements<'a>(&'a [u8]);

impl<'a> Iterator for Elements<'a> {
    type Item = Option<Element<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let read = Element::read(self.0);
        self.0 = read.as_ref().map_or(&[], |(_, after)| after);
        Some(read.map(|(element, _)| element))
    }
}

/// Type and value of an attribute.
fn written(attribute: &[u8]) -> Option<String> {
    let (kind, rest) = Element::read(attribute)?;
    let (value, _) = Element::read(rest)?;
    let kind = kind.of(OBJECT_ID)?;
    match (keyword(kind), text(&value)) {
        (Some(keyword), Some(text)) => Some(format!("{keyword}={}", escaped(&text))),
        (keyword, _) => {
            let name = keyword.map_or_else(|| dotted(kind), str::to_owned);
            let hex: String = value.raw.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(format!("{name}=#{hex}"))
        }
    }
}

/// The types that RFC 2253 names.
fn keyword(kind: &[u8]) -> Option<&'static str> {
    Some(match kind {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "STREET",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        _ => return None,
    })
}

/// An object id as numbers with dots.
fn dotted(id: &[u8]) -> String {
    let mut numbers: Vec<u64> = Vec::new();
    let mut number = 0_u64;
    for byte in id {
        number = number.wrapping_shl(7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            match numbers.is_empty() {
                true => numbers.extend([(number / 40).min(2), number - (number / 40).min(2) * 40]),
                false => numbers.push(number),
            }
            number = 0;
        }
    }
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

/// The text of a value, if it is one of the string types.
fn text(value: &Element<'_>) -> Option<String> {
    const UTF8: u8 = 12;
    const PRINTABLE: u8 = 19;
    const T61: u8 = 20;
    const IA5: u8 = 22;
    const BMP: u8 = 30;
    match value.tag {
        UTF8 | PRINTABLE | IA5 => Some(std::str::from_utf8(value.content).ok()?.to_owned()),
        T61 => Some(value.content.iter().map(|&byte| char::from(byte)).collect()),
        BMP => {
            let units: Vec<u16> =
                value.content.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

fn escaped(text: &str) -> String {
    let last = text.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(text.len());
    for (index, character) in text.chars().enumerate() {
        let is_special = match character {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            '#' => index == 0,
            ' ' => index == 0 || index == last,
            _ => false,
        };
        if is_special {
            escaped.push('\\');
        }
        match character {
            '\0' => escaped.push_str("\\00"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag, content.len() as u8];
        bytes.extend_from_slice(content);
        bytes
    }

    fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        element(SEQUENCE, &[element(OBJECT_ID, kind), element(tag, value)].concat())
    }

    fn certificate(sets: &[Vec<u8>], has_version: bool) -> Vec<u8> {
        let name: Vec<u8> = sets.iter().flat_map(|set| element(SET, set)).collect();
        let mut body = if has_version { element(VERSION, &[2, 1, 2]) } else { Vec::new() };
        for other in
            [element(2, &[1]), element(SEQUENCE, &[]), element(SEQUENCE, &[]), element(SEQUENCE, &[])]
        {
            body.extend(other);
        }
        body.extend(element(SEQUENCE, &name));
        element(SEQUENCE, &element(SEQUENCE, &body))
    }

    #[test]
    fn names_are_written_as_java_writes_them() {
        let mail = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1];
        let sets = [
            attribute(&[0x55, 4, 10], 12, b"Acme, Inc."),
            [attribute(&[0x55, 4, 11], 19, b"dev"), attribute(&[0x55, 4, 7], 30, &[0, b'K', 0, 0xf6])]
                .concat(),
            attribute(&mail, 22, b"a@b"),
            attribute(&[0x55, 4, 3], 12, b" #alice "),
        ];
        let expected = r"CN=\ #alice\ ,1.2.840.113549.1.9.1=#1603614062,OU=dev+L=Kö,O=Acme\, Inc.";
        for has_version in [true, false] {
            assert_eq!(subject(&certificate(&sets, has_version)).as_deref(), Some(expected));
        }
        assert_eq!(subject(&certificate(&[], true)).as_deref(), Some(""));
    }

    #[test]
    fn what_is_cut_off_or_changed_does_no_harm() {
        let whole = certificate(&[attribute(&[0x55, 4, 3], 12, b"alice")], true);
        for end in 0..whole.len() {
            assert_eq!(subject(&whole[..end]), None, "{end}");
        }
        for at in 0..whole.len() {
            for bits in [1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= bits;
                let _ = subject(&changed);
            }
        }
    }
}
