//! The syntax of properties files, as Java and kcat write them: `name=value`, `name: value` or `name value`, one per line.
//!
//! `#` and `!` begin a comment. A backslash at the end of a line continues it on the next. In names and values
//! `\t \n \r \f \uXXXX` mean the same as in Java; any other character after a backslash stands for itself. This file does
//! not know which names exist.

/// One property, and the number of the line in which it begins, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) value: String,
}

/// Decodes `bytes` as UTF-8, or as ISO 8859-1, which Java reads, if they are not UTF-8.
pub(super) fn decode(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

/// The properties in `text`, or the number of the first wrong line and what is wrong with it.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines = text.split('\n').zip(1..);
    let mut entries = Vec::new();
    while let Some((begin, line)) = lines.next() {
        let begin = begin.trim_start_matches(BLANK);
        if begin.is_empty() || begin.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = begin.to_owned();
        while continues(&logical) {
            logical.pop();
            let Some((next, _)) = lines.next() else { break };
            logical.push_str(next.trim_start_matches(BLANK));
        }
        let (name, value) = split(&logical);
        let unescape = |text| unescape(text).map_err(|why| (line, why));
        let (name, value) = (unescape(name)?, unescape(value)?);
        if name.is_empty() {
            return Err((line, "there is no name; write NAME=VALUE".into()));
        }
        entries.push(Entry { line, name, value });
    }
    Ok(entries)
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

/// Whether the line ends in a backslash that is not itself escaped.
fn continues(line: &str) -> bool {
    let backslashes = line.bytes().rev().take_while(|byte| *byte == b'\\').count();
    !backslashes.is_multiple_of(2)
}

/// Splits a line into name and value at the first `=`, `:` or blank that does not follow a backslash.
fn split(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let ends = |c: char| {
        let ends = !is_escaped && (c == '=' || c == ':' || BLANK.contains(&c));
        is_escaped = c == '\\' && !is_escaped;
        ends
    };
    let Some(end) = line.find(ends) else { return (line, "") };
    let (name, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (name, rest.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    // Java writes a character of more than 16 bits as two \u escapes.
    let mut units: Vec<u16> = Vec::new();
    let mut rest = text;
    loop {
        if let Some(hex) = rest.strip_prefix("\\u") {
            let digits = hex.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
            units.push(unit.ok_or("\\u needs four hexadecimal digits, as in \\u00e9")?);
            rest = &hex[4..];
            continue;
        }
        for c in char::decode_utf16(units.drain(..)) {
            plain.push(
                c.map_err(|_| "a \\u escape is one half of a character, and the other half is missing")?,
            );
        }
        let mut chars = rest.chars();
        match chars.next() {
            None => return Ok(plain),
            Some('\\') => match chars.next() {
                Some('t') => plain.push('\t'),
                Some('n') => plain.push('\n'),
                Some('r') => plain.push('\r'),
                Some('f') => plain.push('\u{c}'),
                Some(other) => plain.push(other),
                None => {}
            },
            Some(c) => plain.push(c),
        }
        rest = chars.as_str();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(usize, String, String)> {
        parse(text).expect("well-formed").into_iter().map(|e| (e.line, e.name, e.value)).collect()
    }

    #[test]
    fn lines_are_read_as_java_reads_them() {
        // Each was given to java.util.Properties, which says the same.
        let check = |text: &str, name: &str, value: &str| {
            assert_eq!(pairs(text), [(1, name.to_owned(), value.to_owned())], "{text:?}");
        };
        check("linger.ms=5", "linger.ms", "5");
        check("linger.ms = 5", "linger.ms", "5");
        check("linger.ms:5", "linger.ms", "5");
        check("linger.ms : 5", "linger.ms", "5");
        check("linger.ms 5", "linger.ms", "5");
        check("\t linger.ms\t5", "linger.ms", "5");
        check("linger.ms", "linger.ms", "");
        check("a=b=c", "a", "b=c");
        check("a==b", "a", "=b");
        check("a=b  ", "a", "b  ");
        check("bootstrap.servers=a\\:1, b\\:2", "bootstrap.servers", "a:1, b:2");
        check("a\\ b\\=c=d", "a b=c", "d");
        check("a=b,\\\n   c", "a", "b,c");
        check("a=b,\\\r\n   c\r\n", "a", "b,c");
        check("a=b\\\\", "a", "b\\");
        check("a=b\\", "a", "b");
        check("a=b\\\n# no comment", "a", "b# no comment");
        check("a=\\u00e9\\t\\n\\q\\u0041", "a", "é\t\nqA");
        check("a=\\ud83d\\ude00", "a", "😀");
        check("a=C:\\\\kafka", "a", "C:\\kafka");
    }

    #[test]
    fn comments_and_blank_lines_are_passed_over_and_lines_counted() {
        let text = "# one\n! two\n\n  \t\n  # three\na=1\\\n\n!x\nb=2 # not a comment\rc=3";
        assert_eq!(
            pairs(text),
            [
                (6, "a".to_owned(), "1".to_owned()),
                (9, "b".to_owned(), "2 # not a comment".to_owned()),
                (10, "c".to_owned(), "3".to_owned())
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, says) in [
            ("a=1\n=2", 2, "no name"),
            ("a=\\u00g0", 1, "four hexadecimal"),
            ("a=\\u12", 1, "four hexadecimal"),
            ("a=\\u00é0", 1, "four hexadecimal"),
            ("\n\na=\\ud83d", 3, "half of a character"),
        ] {
            let (at, why) = parse(text).expect_err(text);
            assert_eq!(at, line, "{text:?}");
            assert!(why.contains(says), "{text:?}: {why}");
        }
    }

    #[test]
    fn bytes_are_utf_8_or_else_latin_1() {
        assert_eq!(decode("a=é".as_bytes()), "a=é");
        assert_eq!(decode(b"a=\xe9"), "a=é");
        assert_eq!(decode(b"\xef\xbb\xbfa=b"), "a=b");
    }
}
