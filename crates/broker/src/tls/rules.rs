//! The rules by which the subject of a client's certificate gives the name of its principal
//! (`ssl.principal.mapping.rules`, KIP-371).

use std::sync::Arc;

use regex::{Captures, Regex};

/// Rules, of which the first that matches holds.
#[derive(Debug, Clone)]
pub(crate) struct Rules(Arc<[Rule]>);

#[derive(Debug, Clone)]
enum Rule {
    /// The subject itself.
    Default,
    Replace {
        pattern: Regex,
        replacement: String,
        case: Case,
    },
}

#[derive(Debug, Clone, Copy)]
enum Case {
    Kept,
    Lower,
    Upper,
}

impl Default for Rules {
    fn default() -> Self {
        Self([Rule::Default].into())
    }
}

impl Rules {
    /// Reads rules that are separated by commas. The error is a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (rule, after) = rule(rest)?;
            rules.push(rule);
            let after = after.trim_start();
            rest = match after.strip_prefix(',') {
                Some(next) => next.trim_start(),
                None if after.is_empty() => after,
                None => {
                    return Err(format!("the principal mapping rule has a rest that is no rule: {after}"));
                }
            };
        }
        Ok(Self(rules.into()))
    }

    /// The name for a subject; `None` if no rule matches it.
    pub(crate) fn name(&self, subject: &str) -> Option<String> {
        self.0.iter().find_map(|rule| rule.name(subject))
    }
}

/// The first rule of `text`, and what follows it.
fn rule(text: &str) -> Result<(Rule, &str), String> {
    if let Some(rest) = text.strip_prefix("DEFAULT") {
        return Ok((Rule::Default, rest));
    }
    let invalid = || format!("this is no principal mapping rule: {text}");
    let rest = text.strip_prefix("RULE:").ok_or_else(invalid)?;
    let (pattern, rest) = until_slash(rest).ok_or_else(invalid)?;
    let (replacement, rest) = until_slash(rest).ok_or_else(invalid)?;
    let (case, rest) = match rest.as_bytes().first() {
        Some(b'L') => (Case::Lower, &rest[1..]),
        Some(b'U') => (Case::Upper, &rest[1..]),
        _ => (Case::Kept, rest),
    };
    let pattern = Regex::new(&format!("^(?:{pattern})$"))
        .map_err(|_| format!("the pattern of a principal mapping rule cannot be read: {pattern}"))?;
    Ok((Rule::Replace { pattern, replacement: replacement.to_owned(), case }, rest))
}

/// The text before the first slash that has no backslash before it, and the text after it.
fn until_slash(text: &str) -> Option<(&str, &str)> {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'/' => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

impl Rule {
    fn name(&self, subject: &str) -> Option<String> {
        match self {
            Self::Default => Some(subject.to_owned()),
            Self::Replace { pattern, replacement, case } => {
                let name = replaced(replacement, &pattern.captures(subject)?);
                Some(match case {
                    Case::Kept => name,
                    Case::Lower => name.to_lowercase(),
                    Case::Upper => name.to_uppercase(),
                })
            }
        }
    }
}

/// Puts groups in for `$1` and so on. `\` takes the meaning of the next character away, and a number beyond the groups is
/// shortened, as in Kafka, or stays as it is.
fn replaced(replacement: &str, captures: &Captures<'_>) -> String {
    let mut name = String::new();
    let mut rest = replacement;
    while let Some(at) = rest.find(['$', '\\']) {
        name.push_str(&rest[..at]);
        let (sign, after) = rest[at..].split_at(1);
        if sign == "\\" {
            let next = after.chars().next();
            name.extend(next);
            rest = &after[next.map_or(0, char::len_utf8)..];
            continue;
        }
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let group = |count: usize| {
            let index = after[..count].parse().ok().filter(|&index: &usize| index < captures.len())?;
            Some((index, count))
        };
        match (1..=digits).rev().find_map(group) {
            Some((index, count)) => {
                name.push_str(captures.get(index).map_or("", |found| found.as_str()));
                rest = &after[count..];
            }
            None => {
                name.push('$');
                rest = after;
            }
        }
    }
    name.push_str(rest);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: &str, subject: &str, name: Option<&str>) {
        let parsed = Rules::parse(rules).expect("valid");
        assert_eq!(parsed.name(subject).as_deref(), name, "{rules} for {subject}");
    }

    /// The examples of KIP-371 and of Kafka's documentation.
    #[test]
    fn the_first_rule_that_matches_gives_the_name() {
        let rules = "RULE:^CN=(.*?),OU=ServiceUsers.*$/$1/,\
                     RULE:^CN=(.*?),OU=(.*?),O=(.*?),L=(.*?),ST=(.*?),C=(.*?)$/$1@$2/L,\
                     RULE:^cn=(.*?),ou=(.*?),dc=(.*?),dc=(.*?)$/$1@$2/U,\
                     RULE:^.*[Cc][Nn]=([a-zA-Z0-9.]*).*$/$1/L, DEFAULT";
        check(rules, "CN=Duke,OU=ServiceUsers,O=Org,C=US", Some("Duke"));
        check(rules, "CN=Duke,OU=SME,O=mycp,L=Fulton,ST=MD,C=US", Some("duke@sme"));
        check(rules, "cn=duke,ou=sme,dc=mycp,dc=com", Some("DUKE@SME"));
        check(rules, "OU=SME,CN=Duke.A", Some("duke.a"));
        check(rules, "OU=SME", Some("OU=SME"));
        check("RULE:CN=(.*)/$1/", "O=x", None);
        check("", "O=x", None);
        check("DEFAULT", "O=x", Some("O=x"));
    }

    #[test]
    fn replacements_follow_javas_rules() {
        check(r"RULE:CN=(.)(.*)/$2-$1-$3-$12-\$1-a\/b/", "CN=abc", Some("bc-a-$3-a2-$1-a/b"));
        check(r"RULE:CN=a\/b/x/", "CN=a/b", Some("x"));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for text in ["x", "RULE:a", "RULE:a/b", "RULE:(/b/", "RULE:a/b/X", "DEFAULT DEFAULT", "RULE:a/b/L U"]
        {
            assert!(Rules::parse(text).is_err(), "{text}");
        }
    }
}
