//! A small file of lines that is replaced whole at each change: users, ACLs, quotas.
//!
//! ```text
//! milena-users 1
//! scram 1 alice 4096 <salt> <stored key> <server key>
//! end
//! ```
//!
//! Words are separated by spaces; bytes that would break a line are written as `%20` and so on. Only the user whom the broker
//! runs as can read the file. Without a data directory there is no file, and nothing is written. It must not know what the
//! words mean.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::error::Error;
use crate::log::file;

/// The words of a line.
pub(crate) type Words = Vec<String>;

/// Where lines are kept.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The first line.
    header: &'static str,
    path: Option<PathBuf>,
}

impl Kept {
    pub(crate) fn new(header: &'static str, path: Option<PathBuf>) -> Self {
        Self { header, path }
    }

    /// Reads the lines.
    pub(crate) fn load(&self) -> Result<Vec<Words>, Error> {
        let Some(path) = &self.path else { return Ok(Vec::new()) };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(format!("cannot read {}", path.display()), error)),
        };
        self.parse(&text).ok_or_else(|| self.damaged("it does not begin or end as it should"))
    }

    /// An error about a line that is not understood.
    pub(crate) fn damaged(&self, reason: &str) -> Error {
        Error::damaged(self.path.as_deref().unwrap_or("".as_ref()), reason)
    }

    fn parse(&self, text: &str) -> Option<Vec<Words>> {
        let mut lines = text.strip_suffix("end\n")?.lines();
        if lines.next() != Some(self.header) {
            return None;
        }
        lines.map(|line| line.split(' ').map(unescape).collect()).collect()
    }

    /// Replaces all lines. When this has returned, a crash does not undo it.
    pub(crate) fn save(&self, lines: impl Iterator<Item = Words>) -> Result<(), Error> {
        let Some(path) = &self.path else { return Ok(()) };
        let mut text = format!("{}\n", self.header);
        for words in lines {
            let words: Vec<String> = words.iter().map(|word| escape(word)).collect();
            text.push_str(&words.join(" "));
            text.push('\n');
        }
        text.push_str("end\n");
        file::replace_private(path, text.as_bytes())
            .map_err(|error| Error::io(format!("cannot write {}", path.display()), error))
    }
}

/// The empty word.
const EMPTY: &str = "%";

fn escape(word: &str) -> String {
    if word.is_empty() {
        return EMPTY.to_owned();
    }
    let mut escaped = String::with_capacity(word.len());
    for character in word.chars() {
        match character {
            '%' | ' ' | '\u{0}'..='\u{1f}' | '\u{7f}' => {
                escaped.push_str(&format!("%{:02x}", u32::from(character)));
            }
            other => escaped.push(other),
        }
    }
    escaped
}

fn unescape(word: &str) -> Option<String> {
    if word == EMPTY {
        return Some(String::new());
    }
    let mut plain = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('%') {
        let (code, tail) = after.split_at_checked(2)?;
        plain.push_str(before);
        plain.push(char::from(u8::from_str_radix(code, 16).ok()?));
        rest = tail;
    }
    plain.push_str(rest);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_less_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("milena.users");
        let kept = Kept::new("milena-users 1", Some(path.clone()));
        assert_eq!(kept.load().expect("nothing yet"), Vec::<Words>::new());
        let line = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Words>();
        let lines = [line(&["a", "", "b c"]), line(&["%20\n\u{7f}", "ü\u{2028}"])];
        kept.save(lines.iter().cloned()).expect("written");
        assert_eq!(kept.load().expect("read"), lines);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        }
        let whole = fs::read(&path).expect("read");
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).expect("written");
            assert!(kept.load().is_err_and(|error| error.is_damaged() || error.is_io()), "cut at {end}");
        }
    }
}
