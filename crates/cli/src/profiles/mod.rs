//! Profiles: clusters with names, and the client's properties for each. This is the text of the profiles file and the files of
//! other programs, without I/O; [`config`](crate::config) reads and writes files.
//!
//! ```text
//! current = "prod"
//!
//! [profiles.prod]
//! protected = true
//! bootstrap.servers = "kafka-1:9093"      the same as "bootstrap.servers" = "kafka-1:9093"
//! sasl.password = "command:pass show kafka/prod"
//! ```
//!
//! The file is the user's: a change keeps comments, order and everything that is not understood here. It must not know the
//! rest of this crate, because a fuzz target has it as a module of its own.

pub(crate) mod import;
pub(crate) mod registry;
pub(crate) mod secrets;
#[cfg(test)]
mod tests;
mod yaml;

use std::fmt;

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

/// A longer file is hardly one of profiles.
pub(crate) const TEXT_BYTES_MAX: u64 = 1 << 20;
/// Names of properties have fewer parts than this. A file with more is refused, because its tables are read recursively.
const DEPTH_MAX: usize = 16;
/// The name of a profile is part of commands and of names of environment variables.
const NAME_BYTES_MAX: usize = 64;
const PROTECTED: &str = "protected";
const PROFILES: &str = "profiles";
const CURRENT: &str = "current";

/// The profiles file.
#[derive(Clone, Default)]
pub(crate) struct Profiles {
    document: DocumentMut,
}

/// A profile: a cluster's name and how to reach it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) name: String,
    /// Commands that delete something ask for the profile's name.
    pub(crate) is_protected: bool,
    /// The client's properties, in the order of the file.
    pub(crate) properties: Vec<(String, String)>,
}

/// Values are not printed: some are secrets.
impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("Profile").field("name", &self.name).field("properties", &names).finish()
    }
}

impl Profiles {
    /// Reads the text of a profiles file. Errors name the place and have no value.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let document: DocumentMut = toml(text)?;
        let profiles = Self { document };
        profiles.all()?;
        match profiles.document.get(CURRENT) {
            Some(item) if item.as_str().is_none() => {
                Err(format!("{CURRENT} is not the name of a profile in quotes"))
            }
            _ => Ok(profiles),
        }
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        self.document.to_string()
    }

    /// The name of the current profile.
    pub(crate) fn current(&self) -> Option<&str> {
        self.document.get(CURRENT)?.as_str().filter(|name| !name.is_empty())
    }

    /// All profiles, in the order of the file.
    pub(crate) fn all(&self) -> Result<Vec<Profile>, String> {
        let Some(item) = self.document.get(PROFILES) else { return Ok(Vec::new()) };
        let table = item.as_table_like().ok_or_else(|| format!("{PROFILES} is not a table"))?;
        table.iter().map(|(name, item)| read(name, item)).collect()
    }

    /// The profile of this name.
    pub(crate) fn profile(&self, name: &str) -> Option<Profile> {
        let item = self.document.get(PROFILES)?.as_table_like()?.get(name)?;
        read(name, item).ok()
    }

    /// Makes a profile the current one, or none.
    pub(crate) fn select(&mut self, name: Option<&str>) {
        match (name, self.document.get_mut(CURRENT).and_then(Item::as_value_mut)) {
            (Some(name), Some(value)) => replace(value, name.into()),
            (Some(name), None) => drop(self.document.insert(CURRENT, Item::Value(name.into()))),
            // Not removed: comments before it are often those of the whole file.
            (None, Some(value)) => replace(value, "".into()),
            (None, None) => {}
        }
    }

    /// Sets a property of a profile, which is made if there is none of the name.
    pub(crate) fn set(&mut self, profile: &str, name: &str, value: &str) -> Result<(), String> {
        if name == PROTECTED {
            return Err(format!("{PROTECTED} is not a setting of the client; write --protected true"));
        }
        let table = self.table(profile)?;
        match find(table, name, DEPTH_MAX) {
            Some(old) => replace(old, value.into()),
            None => drop(table.insert(name, Item::Value(value.into()))),
        }
        Ok(())
    }

    /// Removes a property of a profile. Returns whether it was there.
    pub(crate) fn unset(&mut self, profile: &str, name: &str) -> Result<bool, String> {
        Ok(take(self.table(profile)?, name, DEPTH_MAX))
    }

    /// Has commands that delete something ask first, or not.
    pub(crate) fn protect(&mut self, profile: &str, is_protected: bool) -> Result<(), String> {
        let table = self.table(profile)?;
        match table.get_mut(PROTECTED).and_then(Item::as_value_mut) {
            Some(old) => replace(old, is_protected.into()),
            None => drop(table.insert(PROTECTED, Item::Value(is_protected.into()))),
        }
        Ok(())
    }

    /// Removes a profile. Returns whether it was there. If it was the current one, there is no current one.
    pub(crate) fn remove(&mut self, profile: &str) -> bool {
        if self.current() == Some(profile) {
            self.select(None);
        }
        let table = self.document.get_mut(PROFILES).and_then(Item::as_table_like_mut);
        table.is_some_and(|table| table.remove(profile).is_some())
    }

    /// Removes all properties of a profile, which stays what else it is: protected, and the current one.
    pub(crate) fn remove_properties(&mut self, profile: &str) {
        let profiles = self.document.get_mut(PROFILES).and_then(Item::as_table_like_mut);
        let Some(table) = profiles.and_then(|table| table.get_mut(profile)?.as_table_like_mut()) else {
            return;
        };
        let keys: Vec<_> =
            table.iter().map(|(key, _)| key.to_owned()).filter(|key| key != PROTECTED).collect();
        keys.iter().for_each(|key| drop(table.remove(key)));
    }

    /// The table of a profile, which is made if there is none.
    fn table(&mut self, profile: &str) -> Result<&mut dyn TableLike, String> {
        check_name(profile)?;
        let item = self.document.entry(PROFILES).or_insert_with(|| {
            let mut table = Table::new();
            // Without a heading of its own above those of the profiles.
            table.set_implicit(true);
            Item::Table(table)
        });
        let profiles = item.as_table_like_mut().ok_or_else(|| format!("{PROFILES} is not a table"))?;
        let item = profiles.entry(profile).or_insert_with(|| Item::Table(Table::new()));
        item.as_table_like_mut().ok_or_else(|| format!("{PROFILES}.{profile} is not a table"))
    }
}

impl Profile {
    /// The brokers to connect to first, as the profile names them.
    pub(crate) fn bootstrap(&self) -> Option<&str> {
        const NAMES: [&str; 3] = ["bootstrap.servers", "bootstrap", "metadata.broker.list"];
        let is_named = |(name, _): &&(String, String)| NAMES.contains(&&**name);
        self.properties.iter().rfind(is_named).map(|(_, value)| &**value)
    }

    /// The value of a property.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.properties.iter().rfind(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

/// Refuses a name that cannot be written without quotes everywhere.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_fine) {
        return Err(format!(
            "{name:?} is no name for a profile; write up to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.'"
        ));
    }
    Ok(())
}

/// Reads TOML. The error names the place and what is wrong there, without the line, which may be a secret.
fn toml(text: &str) -> Result<DocumentMut, String> {
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(format!("it is longer than {TEXT_BYTES_MAX} bytes"));
    }
    if let Some(at) = too_deep(text) {
        return Err(format!(
            "line {}: a name has too many parts, or a bracket is not closed",
            line_at(text, at)
        ));
    }
    text.parse().map_err(|error: toml_edit::TomlError| {
        let at = error.span().map_or(0, |span| span.start);
        let line = line_at(text, at);
        let why = error.message().lines().next().unwrap_or("it is not TOML").to_owned();
        format!("line {line}: {why}")
    })
}

fn line_at(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count()
}

/// Where the text nests tables deeper than any file of profiles. The parser bounds the parts of a name and the brackets, but
/// not their product, and tables are dropped recursively.
///
/// Its own lexer is asked, because dots in texts, in quoted names and in comments mean nothing. A bracket that does not close
/// the innermost one closes nothing: of a file that is not TOML, rather too much is counted than too little.
fn too_deep(text: &str) -> Option<usize> {
    // Brackets that are open, each with the depth within it.
    let mut open: Vec<(TokenKind, usize)> = Vec::new();
    let (mut depth, mut is_line_start) = (0, true);
    for token in Source::new(text).lex() {
        let base = open.last().map_or(0, |(_, depth)| *depth);
        match token.kind() {
            TokenKind::Newline if open.is_empty() => depth = 0,
            TokenKind::Comma => depth = base,
            TokenKind::Dot => depth += 1,
            // The brackets of a heading hold a name, not a value.
            TokenKind::LeftSquareBracket if open.is_empty() && is_line_start => continue,
            kind @ (TokenKind::LeftSquareBracket | TokenKind::LeftCurlyBracket) => {
                depth += 1;
                open.push((kind, depth));
            }
            kind @ (TokenKind::RightSquareBracket | TokenKind::RightCurlyBracket) => {
                let opening = match kind {
                    TokenKind::RightSquareBracket => TokenKind::LeftSquareBracket,
                    _ => TokenKind::LeftCurlyBracket,
                };
                if open.pop_if(|(kind, _)| *kind == opening).is_some() {
                    depth = open.last().map_or(0, |(_, depth)| *depth);
                }
            }
            _ => {}
        }
        if depth > 4 * DEPTH_MAX {
            return Some(token.span().start());
        }
        let is_blank = token.kind() == TokenKind::Whitespace;
        is_line_start = token.kind() == TokenKind::Newline || (is_line_start && is_blank);
    }
    None
}

fn read(name: &str, item: &Item) -> Result<Profile, String> {
    check_name(name)?;
    let wrong = |why: String| format!("profile {name}: {why}");
    let table = item.as_table_like().ok_or_else(|| wrong("it is not a table".into()))?;
    let is_protected = match table.get(PROTECTED) {
        None => false,
        Some(item) => item.as_bool().ok_or_else(|| wrong(format!("{PROTECTED} is not true or false")))?,
    };
    let mut properties = Vec::new();
    flatten(None, table, DEPTH_MAX, &mut properties).map_err(wrong)?;
    Ok(Profile { name: name.into(), is_protected, properties })
}

/// The values of a table and of those within it, under their full names.
fn flatten(
    within: Option<&str>,
    table: &dyn TableLike,
    depth: usize,
    found: &mut Vec<(String, String)>,
) -> Result<(), String> {
    for (key, item) in table.iter() {
        let name = within.map_or_else(|| key.to_owned(), |within| format!("{within}.{key}"));
        match item {
            Item::None => {}
            _ if within.is_none() && key == PROTECTED => {}
            Item::Value(value) if !value.is_inline_table() => {
                let text = text_of(value)
                    .ok_or_else(|| format!("{name} is no text, number, truth value or list of these"))?;
                found.push((name, text));
            }
            Item::ArrayOfTables(_) => return Err(format!("{name} is a list of tables")),
            item => match item.as_table_like() {
                Some(table) if depth > 0 => flatten(Some(&name), table, depth - 1, found)?,
                _ => return Err(format!("{name} has too many parts")),
            },
        }
    }
    Ok(())
}

/// A value as properties have it; a list is joined by commas.
fn text_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::String(text) => text.value().clone(),
        Value::Integer(number) => number.value().to_string(),
        Value::Float(number) => number.value().to_string(),
        Value::Boolean(is) => is.value().to_string(),
        Value::Array(values) => {
            let texts: Option<Vec<_>> =
                values.iter().map(|value| if value.is_array() { None } else { text_of(value) }).collect();
            texts?.join(",")
        }
        Value::Datetime(_) | Value::InlineTable(_) => return None,
    })
}

/// The value of a name, which may be one quoted key, or a path of tables, or a mixture.
fn find<'a>(table: &'a mut dyn TableLike, name: &str, depth: usize) -> Option<&'a mut Value> {
    if table.get(name).is_some_and(|item| item.as_value().is_some_and(|value| !value.is_inline_table())) {
        return table.get_mut(name)?.as_value_mut();
    }
    let (key, rest) = path(table, name, depth)?;
    find(table.get_mut(key)?.as_table_like_mut()?, rest, depth - 1)
}

/// Removes what [`find`] finds.
fn take(table: &mut dyn TableLike, name: &str, depth: usize) -> bool {
    if table.get(name).is_some_and(|item| !item.is_table_like()) {
        return table.remove(name).is_some();
    }
    let Some((key, rest)) = path(table, name, depth) else { return false };
    let Some(within) = table.get_mut(key).and_then(Item::as_table_like_mut) else { return false };
    let taken = take(within, rest, depth - 1);
    if taken && within.is_empty() {
        table.remove(key);
    }
    taken
}

/// The key of a table that may have `name`, and the rest of the name.
fn path<'a>(table: &dyn TableLike, name: &'a str, depth: usize) -> Option<(&'a str, &'a str)> {
    let has = |key: &str| depth > 0 && table.get(key).is_some_and(Item::is_table_like);
    name.match_indices('.').map(|(at, _)| (&name[..at], &name[at + 1..])).find(|(key, _)| has(key))
}

/// Replaces a value and keeps the spaces and the comment around it.
fn replace(old: &mut Value, new: Value) {
    let decor = old.decor().clone();
    *old = new;
    *old.decor_mut() = decor;
}
