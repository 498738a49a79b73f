//! The characters of a `.proto` text: blanks, comments, words, numbers and strings.

/// Bytes of a name. Full names are made of many, so that longer ones would need far more memory than their text.
const WORD_BYTES_MAX: usize = 512;

/// Reads a text from its start.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Reader<'a> {
        Reader { text, at: 0 }
    }

    pub(super) fn error(&self, what: impl std::fmt::Display) -> String {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("{what} at line {line}, column {column}")
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn blank(&mut self) -> Result<(), String> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{b}', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if let Some(comment) = trimmed.strip_prefix("/*") {
                let end = comment.find("*/").ok_or_else(|| self.error("a comment has no end"))?;
                self.at += end + 4;
            } else if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else {
                return Ok(());
            }
        }
    }

    /// The next character, which is not taken.
    pub(super) fn peek(&mut self) -> Result<Option<char>, String> {
        self.blank()?;
        Ok(self.rest().chars().next())
    }

    /// Takes this character if it comes next.
    pub(super) fn take(&mut self, c: char) -> Result<bool, String> {
        let found = self.peek()? == Some(c);
        if found {
            self.at += c.len_utf8();
        }
        Ok(found)
    }

    pub(super) fn expect(&mut self, c: char) -> Result<(), String> {
        if self.take(c)? { Ok(()) } else { Err(self.error(format!("'{c}' is missing"))) }
    }

    /// A word, which may be a qualified name or a number.
    pub(super) fn word(&mut self) -> Result<&'a str, String> {
        self.blank()?;
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '.')));
        let word = &rest[..end.unwrap_or(rest.len())];
        if word.is_empty() {
            return Err(self.error("a word is missing"));
        }
        if word.len() > WORD_BYTES_MAX {
            return Err(
                self.error(format!("a word of {} bytes, and {WORD_BYTES_MAX} are allowed", word.len()))
            );
        }
        self.at += word.len();
        Ok(word)
    }

    /// Takes this word if it comes next.
    pub(super) fn take_word(&mut self, word: &str) -> Result<bool, String> {
        let before = self.at;
        if self.peek()?.is_some_and(|c| c.is_ascii_alphabetic()) && self.word()? == word {
            return Ok(true);
        }
        self.at = before;
        Ok(false)
    }

    /// The name of a message, field or the like.
    pub(super) fn name(&mut self) -> Result<String, String> {
        let word = self.word()?;
        let good = word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !good || word.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.error(format!("'{word}' is no name")));
        }
        Ok(word.to_owned())
    }

    /// A whole number. A leading zero does not make it octal, as in the parser of Confluent's registry.
    pub(super) fn number(&mut self) -> Result<i64, String> {
        let word = self.word()?;
        let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
        let number = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => digits.parse(),
        };
        let number = number.ok().filter(|number| i32::try_from(*number).is_ok());
        number
            .map(|number| number * sign)
            .ok_or_else(|| self.error(format!("'{word}' is no number of 32 bits")))
    }

    /// One or more strings in quotes, which are one.
    pub(super) fn string(&mut self) -> Result<String, String> {
        let mut out = String::new();
        while let Some(quote @ ('"' | '\'')) = self.peek()? {
            self.at += 1;
            self.quoted(quote, &mut out)?;
        }
        Ok(out)
    }

    fn quoted(&mut self, quote: char, out: &mut String) -> Result<(), String> {
        loop {
            let Some(c) = self.rest().chars().next() else { return Err(self.error("a string has no end")) };
            self.at += c.len_utf8();
            match c {
                '\n' => return Err(self.error("a string has no end")),
                '\\' => out.push(self.escape()?),
                c if c == quote => return Ok(()),
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let Some(c) = self.rest().chars().next() else { return Err(self.error("a string has no end")) };
        self.at += c.len_utf8();
        Ok(match c {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' | 'X' => self.digits(16, 2)?,
            '0'..='7' => {
                self.at -= 1;
                self.digits(8, 3)?
            }
            other => other,
        })
    }

    fn digits(&mut self, radix: u32, most: usize) -> Result<char, String> {
        let rest = self.rest();
        let count = rest.chars().take(most).take_while(|c| c.is_digit(radix)).count();
        let code = u32::from_str_radix(&rest[..count], radix).ok().and_then(char::from_u32);
        self.at += count;
        code.ok_or_else(|| self.error("no escape is written like this"))
    }
}
