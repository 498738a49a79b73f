//! Which records are written: by their keys, values and headers.
//!
//! It is pure, copies nothing, and looks at a record before the record is formatted.

use regex::bytes::Regex;

/// A record is wanted if it meets all that is given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// Matches somewhere in the key or in the value.
    grep: Option<Regex>,
    key: Option<Vec<u8>>,
    /// Names, each with the value that the header must have if one is given.
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Filter {
    /// `headers` are `NAME=VALUE`, or `NAME` for a header with any value.
    ///
    /// # Errors
    ///
    /// When the pattern is not a regular expression, or a header has no name.
    pub(crate) fn new(grep: Option<&str>, key: Option<&str>, headers: &[String]) -> Result<Self, String> {
        let grep = grep.map(|pattern| {
            let pattern = Regex::new(pattern);
            pattern.map_err(|error| format!("--grep is not a regular expression: {error}"))
        });
        let header = |text: &String| {
            let (name, value) = match text.split_once('=') {
                Some((name, value)) => (name, Some(value.as_bytes().to_vec())),
                None => (text.as_str(), None),
            };
            if name.is_empty() {
                Err(format!("--header {text:?} has no name"))
            } else {
                Ok((name.into(), value))
            }
        };
        Ok(Self {
            grep: grep.transpose()?,
            key: key.map(|key| key.as_bytes().to_vec()),
            headers: headers.iter().map(header).collect::<Result<_, _>>()?,
        })
    }

    /// Whether the record is wanted. `decoded_key` is the JSON of a key that has a schema, which is meant as well. `headers` is called for as many headers as are asked for.
    pub(crate) fn wants<'a, H>(
        &self,
        key: Option<&[u8]>,
        decoded_key: Option<&str>,
        value: Option<&[u8]>,
        headers: impl Fn() -> H,
    ) -> bool
    where
        H: Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    {
        let has_header = |(name, wanted): &(Vec<u8>, Option<Vec<u8>>)| {
            headers().any(|(its, value)| {
                its == name.as_slice() && (wanted.is_none() || value == wanted.as_deref())
            })
        };
        let is_key = |wanted: &[u8]| {
            let text = |json: &str| serde_json::from_str::<String>(json).ok();
            let is_text = |json: &str| text(json).is_some_and(|text| text.as_bytes() == wanted);
            key == Some(wanted) || decoded_key.is_some_and(|json| json.as_bytes() == wanted || is_text(json))
        };
        let shown_key = decoded_key.map(str::as_bytes).or(key);
        self.key.as_deref().is_none_or(is_key)
            && self.headers.iter().all(has_header)
            && self.grep.as_ref().is_none_or(|pattern| {
                [shown_key, value].into_iter().flatten().any(|bytes| pattern.is_match(bytes))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: [(&[u8], Option<&[u8]>); 3] = [(b"a", Some(b"1")), (b"a", Some(b"2")), (b"null", None)];

    #[track_caller]
    fn check(grep: Option<&str>, key: Option<&str>, headers: &[&str], expect: bool) {
        let headers: Vec<_> = headers.iter().map(ToString::to_string).collect();
        let filter = Filter::new(grep, key, &headers).unwrap();
        let value = b"{\"city\":\"Praha\",\xff}".as_slice();
        assert_eq!(
            filter.wants(Some(b"k1"), None, Some(value), || HEADERS.into_iter()),
            expect,
            "{filter:?}"
        );
    }

    #[test]
    fn a_record_meets_all_that_is_given() {
        check(None, None, &[], true);
        check(Some("Pra.a"), None, &[], true);
        check(Some("^k1$"), None, &[], true);
        check(Some("praha"), None, &[], false);
        check(Some("(?i)praha"), None, &[], true);
        check(None, Some("k1"), &[], true);
        check(None, Some("k"), &[], false);
        check(None, None, &["a=1"], true);
        check(None, None, &["a=2", "null"], true);
        check(None, None, &["a=3"], false);
        check(None, None, &["null="], false);
        check(None, None, &["b"], false);
        check(Some("Praha"), Some("k1"), &["a=2"], true);
        check(Some("Praha"), Some("k2"), &["a=2"], false);
        check(Some("Brno"), Some("k1"), &["a=2"], false);
    }

    #[test]
    fn a_decoded_key_is_meant_by_its_json_and_by_its_text() {
        let wants = |filter: Option<&str>, grep: Option<&str>| {
            let filter = Filter::new(grep, filter, &[]).unwrap();
            filter.wants(Some(b"\0\0\0\0\x07\x04k1"), Some("\"k1\""), None, || HEADERS[..0].iter().copied())
        };
        assert!(wants(Some("k1"), None) && wants(Some("\"k1\""), Some("^\"k1")));
        assert!(!wants(Some("k2"), None) && !wants(None, Some("\\x00")));
    }

    #[test]
    fn a_record_without_key_and_value_matches_no_pattern_and_no_key() {
        let none = || HEADERS[..0].iter().copied();
        let wants = |filter: Filter| filter.wants(None, None, None, none);
        assert!(wants(Filter::default()));
        assert!(!wants(Filter::new(Some(""), None, &[]).unwrap()));
        assert!(!wants(Filter::new(None, Some(""), &[]).unwrap()));
    }

    #[test]
    fn what_is_no_filter_is_named() {
        assert!(Filter::new(Some("("), None, &[]).unwrap_err().contains("--grep"));
        assert!(Filter::new(None, None, &["=v".into()]).unwrap_err().contains("\"=v\""));
    }
}
