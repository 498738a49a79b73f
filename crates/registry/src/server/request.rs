//! A request as the routes see it: decoded, with contexts and aliases resolved.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fault::Fault;
use super::state::{Deleted, Page};
use super::subject::{context_prefix, normalized};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Put,
    Delete,
}

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The path's parts, decoded.
    pub(super) path: Vec<String>,
    query: Vec<(String, String)>,
    body: Vec<u8>,
}

/// A path has at most this many parts, and a query this many parameters. More is no request of a client.
const PARTS_MAX: usize = 64;

impl Request {
    /// Reads the target of a request.
    ///
    /// # Errors
    /// When it is no text in UTF-8, or has too many parts.
    pub(super) fn new(method: Method, path: &str, query: &str, body: Vec<u8>) -> Result<Self, Fault> {
        let parts = path.split('/').filter(|part| !part.is_empty());
        let path =
            parts.take(PARTS_MAX + 1).map(|part| decoded(part, false)).collect::<Result<Vec<_>, _>>()?;
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(PARTS_MAX + 1);
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decoded(name, true)?, decoded(value, true)?))
        };
        let query = pairs.map(pair).collect::<Result<Vec<_>, Fault>>()?;
        if path.len() > PARTS_MAX || query.len() > PARTS_MAX {
            return Err(Fault::bad_request("the target has too many parts"));
        }
        let mut request = Self { method, path, query, body };
        request.enter_context()?;
        Ok(request)
    }

    /// `/contexts/.eu/subjects/a` means `/subjects/:.eu:a`, and so with all other paths: a client may have a context in its URL.
    fn enter_context(&mut self) -> Result<(), Fault> {
        let mut prefix = String::new();
        if self.path.first().is_some_and(|first| first == "contexts") && self.path.len() > 2 {
            prefix = context_prefix(&self.path[1]).ok_or_else(|| Fault::invalid_subject(&self.path[1]))?;
            self.path.drain(..2);
        }
        let in_context =
            |name: &str| if has_context(name) { name.to_owned() } else { format!("{prefix}{name}") };
        let parts: Vec<_> = self.path.iter().map(String::as_str).collect();
        match parts.as_slice() {
            ["schemas", "ids", ..] => self.set("subject", |subject| in_context(subject.unwrap_or_default())),
            ["schemas"] | ["subjects"] => {
                self.set("subjectPrefix", |subject| in_context(subject.unwrap_or_default()));
            }
            ["associations", ..] => self.set("context", |_| prefix.clone()),
            ["subjects", ..] | ["config" | "mode", _, ..] => {
                self.path[1] = normalized(&in_context(&self.path[1]));
            }
            ["compatibility", "subjects", _, ..] => self.path[2] = normalized(&in_context(&self.path[2])),
            ["config" | "mode"] if !prefix.is_empty() => self.path.push(prefix),
            _ => {}
        }
        Ok(())
    }

    fn set(&mut self, name: &str, with: impl FnOnce(Option<&str>) -> String) {
        let value = with(self.text(name));
        self.query.retain(|(known, _)| known != name);
        self.query.push((name.into(), value));
    }

    /// A parameter of the query.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A parameter that is not empty.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        self.text(name).filter(|value| !value.is_empty())
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.text(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// The part of a list that is asked for; without a limit `most`.
    pub(super) fn page(&self, most: usize) -> Page {
        let number = |name| self.text(name).and_then(|value| value.parse::<usize>().ok());
        let limit = number("limit").filter(|limit| (1..=most).contains(limit));
        Page { offset: number("offset").unwrap_or(0), limit: limit.unwrap_or(most) }
    }

    pub(super) fn deleted(&self) -> Deleted {
        if self.flag("deletedAsNegative") {
            Deleted::Negative
        } else if self.flag("deletedOnly") {
            Deleted::Only
        } else if self.flag("deleted") {
            Deleted::Included
        } else {
            Deleted::Hidden
        }
    }

    /// # Errors
    /// When there is no body, or it is not the JSON that is wanted.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        if self.body.is_empty() {
            return Err(Fault::unprocessable("The request has no body"));
        }
        // Serde would read a struct from an array, too.
        let object: Result<Map<String, Value>, _> = serde_json::from_slice(&self.body);
        object
            .and_then(|object| serde_json::from_value(object.into()))
            .map_err(|error| Fault::bad_request(&error.to_string()))
    }
}

fn has_context(name: &str) -> bool {
    name.starts_with(":.") || name.starts_with(super::subject::ALL_CONTEXTS)
}

/// Decodes %41 to A, and in a query a plus to a space.
fn decoded(text: &str, plus_is_space: bool) -> Result<String, Fault> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let digits =
                    digit().zip(digit()).ok_or_else(|| Fault::bad_request("% without two digits"))?;
                u8::try_from(digits.0 * 16 + digits.1).unwrap_or_default()
            }
            b'+' if plus_is_space => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| Fault::bad_request("the target is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Vec<String> {
        Request::new(Method::Get, path, "", Vec::new()).expect("a request").path
    }

    #[test]
    fn parts_are_decoded_and_a_slash_in_a_name_stays() {
        assert_eq!(path("/subjects/a%2Fb%20c+d/versions/"), ["subjects", "a/b c+d", "versions"]);
        let request =
            Request::new(Method::Get, "/", "key=a+b%2B&key=c&empty", Vec::new()).expect("a request");
        assert_eq!(request.all("key").collect::<Vec<_>>(), ["a b+", "c"]);
        assert_eq!((request.text("empty"), request.filled("empty")), (Some(""), None));
    }

    #[test]
    fn a_context_in_the_path_is_one_of_the_names() {
        assert_eq!(path("/contexts/.eu/subjects/a/versions"), ["subjects", ":.eu:a", "versions"]);
        assert_eq!(path("/contexts/:.eu:/subjects/:.us:a"), ["subjects", ":.us:a"]);
        assert_eq!(path("/contexts/eu/config"), ["config", ":.eu:"]);
        assert_eq!(path("/contexts/eu/compatibility/subjects/a/versions")[2], ":.eu:a");
        assert_eq!(path("/contexts/.eu"), ["contexts", ".eu"]);
        assert_eq!(path("/subjects/:.:a"), ["subjects", "a"]);
        let request =
            Request::new(Method::Get, "/contexts/eu/schemas/ids/1", "", Vec::new()).expect("a request");
        assert_eq!(request.text("subject"), Some(":.eu:"));
        let request =
            Request::new(Method::Get, "/subjects", "subjectPrefix=:*:", Vec::new()).expect("a request");
        assert_eq!(request.text("subjectPrefix"), Some(":*:"));
    }

    #[test]
    fn hostile_targets_are_refused() {
        for (path, query) in [
            ("/%", ""),
            ("/%4", ""),
            ("/%zz", ""),
            ("/%ff", ""),
            ("/", "a=%f"),
            (&"/a".repeat(100), ""),
            ("/", &"a&".repeat(100)),
        ] {
            assert!(Request::new(Method::Get, path, query, Vec::new()).is_err(), "{path} {query}");
        }
    }
}
