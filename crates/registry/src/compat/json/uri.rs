//! References between schemas: how a relative one is read (RFC 3986, section 5).

/// `reference` as it is meant in a document at `base`.
pub(super) fn resolve(base: &str, reference: &str) -> String {
    if has_scheme(reference) || base.is_empty() {
        return reference.to_owned();
    }
    let base = base.split('#').next().unwrap_or_default();
    if reference.is_empty() {
        return base.to_owned();
    }
    if reference.starts_with('#') {
        return format!("{base}{reference}");
    }
    let (scheme, rest) = base.split_once(':').filter(|_| has_scheme(base)).unwrap_or(("", base));
    let prefix = if scheme.is_empty() { String::new() } else { format!("{scheme}:") };
    if reference.starts_with("//") {
        return format!("{prefix}{reference}");
    }
    let (authority, path) = match rest.strip_prefix("//") {
        Some(after) => {
            let end = after.find('/').unwrap_or(after.len());
            (&rest[..end + 2], &after[end..])
        }
        None => ("", rest),
    };
    let (reference, fragment) =
        reference.split_once('#').map_or((reference, None), |(path, fragment)| (path, Some(fragment)));
    let joined = if reference.starts_with('/') {
        reference.to_owned()
    } else {
        let folder = path.rfind('/').map_or("", |end| &path[..=end]);
        let folder = if folder.is_empty() && !authority.is_empty() { "/" } else { folder };
        format!("{folder}{reference}")
    };
    let fragment = fragment.map(|fragment| format!("#{fragment}")).unwrap_or_default();
    format!("{prefix}{authority}{}{fragment}", without_dots(&joined))
}

fn has_scheme(uri: &str) -> bool {
    let scheme = uri.split([':', '/', '#', '?']).next().unwrap_or_default();
    uri[scheme.len()..].starts_with(':') && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
}

fn without_dots(path: &str) -> String {
    if !path.contains('.') {
        return path.to_owned();
    }
    let mut parts: Vec<&str> = Vec::new();
    let count = path.split('/').count();
    for (index, part) in path.split('/').enumerate() {
        match part {
            "." | ".." => {
                if part == ".." && parts.last().is_some_and(|last| !last.is_empty() && *last != "..") {
                    parts.pop();
                }
                if index + 1 == count {
                    parts.push("");
                }
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The parts of a JSON pointer in a fragment.
pub(super) fn pointer(fragment: &str) -> impl Iterator<Item = String> + '_ {
    fragment.split('/').skip(1).map(|part| decode(part).replace("~1", "/").replace("~0", "~"))
}

fn decode(part: &str) -> String {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_relative_to_their_document() {
        for (base, reference, expect) in [
            ("", "a.json#/x", "a.json#/x"),
            ("http://e.org/s/r.json", "a.json", "http://e.org/s/a.json"),
            ("http://e.org/s/r.json#", "#/x", "http://e.org/s/r.json#/x"),
            ("http://e.org/s/r.json", "../a.json#q", "http://e.org/a.json#q"),
            ("http://e.org/s/r.json", "/a.json", "http://e.org/a.json"),
            ("http://e.org", "a.json", "http://e.org/a.json"),
            ("http://e.org/s/r.json", "//f.org/a", "http://f.org/a"),
            ("http://e.org/s/r.json", "urn:x:y", "urn:x:y"),
            ("r.json", "a.json", "a.json"),
            ("s/r.json", "./a.json", "s/a.json"),
        ] {
            assert_eq!(resolve(base, reference), expect, "{base} {reference}");
        }
    }

    #[test]
    fn pointers_are_decoded() {
        let parts: Vec<String> = pointer("/definitions/a~1b~0c%20d").collect();
        assert_eq!(parts, ["definitions", "a/b~c d"]);
    }
}
