//! Patterns for the names of topics and for transactional ids, in the syntax of RE2 as Kafka's coordinators read them (RE2/J).
//!
//! The `regex` crate is RE2's cousin: matching takes linear time, and what RE2 lacks it lacks too. Where their syntaxes
//! differ this file makes up for it: RE2 quotes with `\Q…\E`, and it does not know the flags `x`, `R` and `u`.

use std::fmt::Write;

use regex::Regex;

/// A pattern that matches whole names.
#[derive(Debug)]
pub(crate) struct Pattern(Regex);

/// The most bytes of a pattern: its length is an int16 in the group's records.
const BYTES_MAX: usize = i16::MAX as usize;
/// The most bytes of a compiled pattern.
const COMPILED_BYTES_MAX: usize = 10 << 20;

impl Pattern {
    /// The error says what is wrong with the pattern.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > BYTES_MAX {
            return Err(format!("it is longer than {BYTES_MAX} bytes"));
        }
        let pattern = unquoted(pattern);
        if let Some(flag) = foreign_flag(&pattern) {
            return Err(format!("RE2 has no flag {flag:?}"));
        }
        let compile = |pattern: &str| {
            let compiled = regex::RegexBuilder::new(pattern).size_limit(COMPILED_BYTES_MAX).build();
            compiled.map_err(|error| error.to_string())
        };
        // Alone first: `a)|(b` would be valid between the parentheses.
        compile(&pattern)?;
        Ok(Self(compile(&format!(r"\A(?:{pattern})\z"))?))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.is_match(name)
    }
}

/// The pattern with `\Q…\E` replaced by escapes.
fn unquoted(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(quoted) = rest.strip_prefix(r"\Q") {
            let (text, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
            plain.push_str(&regex::escape(text));
            rest = after;
        } else {
            let escape = rest.chars().take(2).map(char::len_utf8).sum();
            let _ = write!(plain, "{}", &rest[..escape]);
            rest = &rest[escape..];
        }
    }
    plain.push_str(rest);
    plain
}

/// A flag that RE2 does not have, if a group sets one.
fn foreign_flag(pattern: &str) -> Option<char> {
    let mut rest = pattern;
    while let Some(at) = rest.find(['\\', '(']) {
        if rest[at..].starts_with('\\') {
            let escape: usize = rest[at..].chars().take(2).map(char::len_utf8).sum();
            rest = &rest[at + escape..];
            continue;
        }
        rest = &rest[at + 1..];
        let Some(flags) = rest.strip_prefix('?') else { continue };
        let flags = flags.chars().take_while(|&flag| flag.is_ascii_alphabetic() || flag == '-');
        // `(?P<name>…)` names a group.
        if let Some(flag) = flags.take_while(|&flag| flag != 'P').find(|flag| !"imsU-".contains(*flag)) {
            return Some(flag);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names_in_the_syntax_of_re2() {
        let check = |pattern: &str, names: &[&str], others: &[&str]| {
            let compiled = Pattern::new(pattern).expect(pattern);
            names.iter().for_each(|name| assert!(compiled.matches(name), "{pattern} {name}"));
            others.iter().for_each(|name| assert!(!compiled.matches(name), "{pattern} {name}"));
        };
        check("orders", &["orders"], &["orders-1", "my-orders", ""]);
        check("orders|bills", &["orders", "bills"], &["orders-1", "mybills"]);
        check("orders-.*", &["orders-", "orders-1"], &["orders"]);
        check("(?i)ORDERS", &["orders"], &["orders1"]);
        check("(?P<kind>a+)b", &["aab"], &["aabb"]);
        check(r"\Qa.b\E.", &["a.bc"], &["axbc", "a.b"]);
        check(r"\Qa.b", &["a.b"], &["axb"]);
        check(r"\\Q.", &[r"\Qx"], &["Qx"]);
        check(r"[[:alpha:]]\d", &["a1"], &["aa"]);
        check(r"^a$", &["a"], &["b"]);
        for invalid in ["(", "a)|(b", "*", r"(?=a)", r"(a)\1", "(?x)a # b", "a{1001,}b{1000}{1000}", "[a"] {
            assert!(Pattern::new(invalid).is_err(), "{invalid}");
        }
        assert!(
            Pattern::new(&"a".repeat(BYTES_MAX)).is_ok() && Pattern::new(&"a".repeat(BYTES_MAX + 1)).is_err()
        );
    }
}
