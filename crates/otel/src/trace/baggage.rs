//! W3C's `baggage`: `user=42,shop=Kiel;metadata`. Values are percent-encoded.

use opentelemetry::KeyValue;
use opentelemetry::baggage::{Baggage, KeyValueMetadata};

/// W3C's limit.
const MEMBERS_MAX: usize = 64;

/// Empty if there is none.
pub(super) fn write(baggage: &Baggage) -> String {
    let mut text = String::new();
    for (key, (value, metadata)) in baggage.iter().take(MEMBERS_MAX) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(key.as_str());
        text.push('=');
        for byte in value.as_str().bytes() {
            let is_plain = matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'%' | b',' | b';' | b'\\');
            if is_plain {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
        if !metadata.as_str().is_empty() {
            text.push(';');
            text.push_str(metadata.as_str());
        }
    }
    text
}

/// Members that cannot be read are left out.
pub(super) fn read(text: &str) -> Vec<KeyValueMetadata> {
    text.split(',').take(MEMBERS_MAX).filter_map(member).collect()
}

fn member(text: &str) -> Option<KeyValueMetadata> {
    let (pair, metadata) = text.split_once(';').unwrap_or((text, ""));
    let (key, value) = pair.split_once('=')?;
    let (key, value) = (key.trim(), decoded(value.trim())?);
    let KeyValue { key, .. } = KeyValue::new(key.to_owned(), "");
    (!key.as_str().is_empty()).then(|| KeyValueMetadata::new(key, value, metadata.trim()))
}

fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use opentelemetry::StringValue;

    use super::*;

    #[test]
    fn baggage_is_read_as_it_is_written() {
        let mut baggage = Baggage::new();
        baggage.insert("user", "42, \"é\" 100%");
        let text = write(&baggage);
        assert_eq!(text, "user=42%2C%20%22%C3%A9%22%20100%25");
        let read = Baggage::from_iter(read(&text));
        assert_eq!(read.get("user").map(StringValue::as_str), Some("42, \"é\" 100%"));
    }

    #[test]
    fn what_strangers_write_is_left_out_where_it_cannot_be_read() {
        let count = |text: &str| read(text).len();
        assert_eq!(count("a=1, b = 2 ;meta=x"), 2);
        for bad in ["", "a", "=1", "a=%", "a=%zz", "a=%ff", ";,;="] {
            assert_eq!(count(bad), 0, "{bad}");
        }
        assert_eq!(count(&"a=1,".repeat(1000)), MEMBERS_MAX);
    }
}
