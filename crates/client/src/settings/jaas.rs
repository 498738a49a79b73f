//! Java's syntax for `sasl.jaas.config`: a class, a flag, and options.
//!
//! ```text
//! org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="pen\"cil";
//! ```
//!
//! No class is run: the last part of its name says what the options mean. No error has a value.

use zeroize::Zeroizing;

/// What such a text says.
#[derive(Clone)]
pub(super) struct Entry {
    /// The last part of the class's name.
    module: String,
    options: Vec<(String, Zeroizing<String>)>,
}

/// Values are secrets, and names may be parts of them if quotes are missing.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("module", &self.module).finish_non_exhaustive()
    }
}

/// A piece of the text.
enum Token {
    /// With or without quotes.
    Text {
        text: Zeroizing<String>,
        is_quoted: bool,
    },
    Equals,
    Semicolon,
}

const FLAGS: [&str; 4] = ["required", "requisite", "sufficient", "optional"];

/// Parses a text with one entry.
pub(super) fn parse(text: &str) -> Result<Entry, String> {
    let mut tokens = tokens(text)?.into_iter();
    let Some(Token::Text { text: class, is_quoted: false }) = tokens.next() else {
        return Err("it does not begin with the name of a login module".into());
    };
    let module = class.rsplit('.').next().unwrap_or_default().to_owned();
    match tokens.next() {
        Some(Token::Text { text, .. }) if FLAGS.iter().any(|flag| flag.eq_ignore_ascii_case(&text)) => {}
        _ => return Err(format!("after the login module {module} the word \"required\" is missing")),
    }
    let mut options: Vec<(String, Zeroizing<String>)> = Vec::new();
    loop {
        let name = match tokens.next() {
            Some(Token::Semicolon) => break,
            Some(Token::Text { text, is_quoted: false }) => text.to_string(),
            None => return Err("the semicolon at its end is missing".into()),
            // A quote within a value that was not escaped ends the value, and the rest looks like this.
            Some(_) => return Err(format!("there is no option's name after {}", after(&options))),
        };
        // What follows a value that was cut short may be a part of a secret, so it is not named.
        let no_value = || format!("an option after {} is not NAME=\"VALUE\"", after(&options));
        let Some(Token::Equals) = tokens.next() else { return Err(no_value()) };
        let Some(Token::Text { text: value, .. }) = tokens.next() else { return Err(no_value()) };
        options.push((name, value));
    }
    if tokens.next().is_some() {
        return Err("it has more than one login module".into());
    }
    Ok(Entry { module, options })
}

/// Where something is wrong.
fn after(options: &[(String, Zeroizing<String>)]) -> String {
    options.last().map_or_else(|| "\"required\"".into(), |(name, _)| format!("the option {name:?}"))
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '=' | ';' => {
                tokens.push(if first == '=' { Token::Equals } else { Token::Semicolon });
                &rest[1..]
            }
            '"' | '\'' => {
                let (text, after) = quoted(&rest[1..], first)?;
                tokens.push(Token::Text { text, is_quoted: true });
                after
            }
            _ if rest.starts_with("//") => rest.split_once('\n').map_or("", |(_, after)| after),
            _ if rest.starts_with("/*") => {
                rest.split_once("*/").map(|(_, after)| after).ok_or("a comment is not closed")?
            }
            _ => {
                let is_end = |character: char| character.is_whitespace() || "=;\"'".contains(character);
                let (word, after) = rest.split_at(rest.find(is_end).unwrap_or(rest.len()));
                tokens.push(Token::Text { text: Zeroizing::new(word.to_owned()), is_quoted: false });
                after
            }
        }
        .trim_start();
    }
    Ok(tokens)
}

/// A text until its closing quote, and what follows it. A backslash escapes as in Java's `StreamTokenizer`.
fn quoted(text: &str, quote: char) -> Result<(Zeroizing<String>, &str), String> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        match character {
            _ if character == quote => return Ok((value, &text[index + character.len_utf8()..])),
            '\n' | '\r' => break,
            '\\' => {
                let Some((_, escaped)) = characters.next() else { break };
                value.push(match escaped {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'f' => '\u{c}',
                    'b' => '\u{8}',
                    'a' => '\u{7}',
                    'v' => '\u{b}',
                    '0'..='7' => {
                        let mut code = escaped.to_digit(8).unwrap_or_default();
                        let digits_max = if escaped <= '3' { 2 } else { 1 };
                        for _ in 0..digits_max {
                            let next = characters.next_if(|(_, digit)| digit.is_digit(8));
                            let Some(digit) = next.and_then(|(_, digit)| digit.to_digit(8)) else { break };
                            code = code * 8 + digit;
                        }
                        char::from(code as u8)
                    }
                    other => other,
                });
            }
            other => value.push(other),
        }
    }
    Err("a quote is not closed; a quote within a value is written \\\"".into())
}

impl Entry {
    /// The options, in their order.
    pub(super) fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(name, value)| (&**name, &***value))
    }

    /// Refuses an entry for another mechanism.
    pub(super) fn is_of(&self, module: &str, mechanism: &str) -> Result<(), String> {
        if self.module == module {
            return Ok(());
        }
        Err(format!(
            "sasl.jaas.config has the login module {:?}, and {mechanism} needs {module}",
            self.module
        ))
    }

    /// The error for an option that has no effect.
    pub(super) fn unknown(&self, name: &str) -> String {
        format!("sasl.jaas.config has the option {name:?}, which is not supported for {}", self.module)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_java_reads_them() {
        let check = |text: &str, module: &str, options: &[(&str, &str)]| {
            let entry = parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(
                (&*entry.module, entry.options().collect::<Vec<_>>()),
                (module, options.to_vec()),
                "{text}"
            );
        };
        check(
            "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"alice\" password=\"pencil\";",
            "PlainLoginModule",
            &[("username", "alice"), ("password", "pencil")],
        );
        check(
            " ScramLoginModule\n  REQUIRED\n  username = 'al ice'  // who\n  /* how */ password=\"a=b;c\" tokenauth=true ; ",
            "ScramLoginModule",
            &[("username", "al ice"), ("password", "a=b;c"), ("tokenauth", "true")],
        );
        check("X required;", "X", &[]);
        check(r#"X required p="a\"b\\c\td\101\0\'\z" q='"';"#, "X", &[("p", "a\"b\\c\tdA\0'z"), ("q", "\"")]);
        check("X required p=\"p\u{e4}ss \u{1f512}\";", "X", &[("p", "p\u{e4}ss \u{1f512}")]);
        check(r#"X required p="\777";"#, "X", &[("p", "?7")]);
    }

    #[test]
    fn what_is_wrong_is_named_without_a_value() {
        let check = |text: &str, expected: &str| {
            let why = parse(text).err().unwrap_or_else(|| panic!("{text} is taken"));
            assert_eq!(why, expected, "{text}");
        };
        check("", "it does not begin with the name of a login module");
        check("\"X\" required;", "it does not begin with the name of a login module");
        check("a.X", "after the login module X the word \"required\" is missing");
        check("X username=\"a\";", "after the login module X the word \"required\" is missing");
        check("X required", "the semicolon at its end is missing");
        check("X required user=\"a\" password=\"hunter2\"", "the semicolon at its end is missing");
        check(
            "X required user=\"a\" password=\"hunter2;",
            "a quote is not closed; a quote within a value is written \\\"",
        );
        check("X required user=\"a\" hunter2;", "an option after the option \"user\" is not NAME=\"VALUE\"");
        check("X required p=;", "an option after \"required\" is not NAME=\"VALUE\"");
        check("X required p=\"hun\"ter2\";", "a quote is not closed; a quote within a value is written \\\"");
        check("X required p=\"hun\"\"ter2\";", "there is no option's name after the option \"p\"");
        check("X required; Y required;", "it has more than one login module");
        check("X required /* ;", "a comment is not closed");
        assert!(!format!("{:?}", parse("X required p=\"hunter2\";")).contains("hunter2"));
    }
}
