//! The form that a request for a token has as its body (`application/x-www-form-urlencoded`).

use zeroize::Zeroizing;

use crate::Secret;

/// Names and values. Some values are secrets, so no value is printed.
#[derive(Debug, Default)]
pub(super) struct Form {
    fields: Vec<(String, Secret)>,
    /// The header `Authorization`.
    pub(super) authorization: Option<Secret>,
    /// Other secrets that an issuer might repeat.
    pub(super) hidden: Vec<Secret>,
}

impl Form {
    pub(super) fn of_grant(grant: &str) -> Self {
        let mut form = Self::default();
        form.add("grant_type", grant);
        form
    }

    pub(super) fn add(&mut self, name: &str, value: impl Into<Secret>) {
        self.fields.push((name.to_owned(), value.into()));
    }

    pub(super) fn encoded(&self) -> Secret {
        let mut body =
            Vec::with_capacity(self.fields.iter().map(|(_, value)| 3 * value.expose().len() + 64).sum());
        for (name, value) in &self.fields {
            if !body.is_empty() {
                body.push(b'&');
            }
            encode(name.as_bytes(), &mut body);
            body.push(b'=');
            encode(value.expose(), &mut body);
        }
        Secret::from(body)
    }

    /// What an issuer might repeat, and errors must not.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Secret> {
        const PUBLIC: [&str; 4] = ["grant_type", "scope", "client_id", "client_assertion_type"];
        let fields = self.fields.iter().filter(|(name, _)| !PUBLIC.contains(&&**name));
        fields.map(|(_, value)| value).chain(&self.hidden)
    }
}

/// The percent-encoding of forms, as Java's `URLEncoder` writes it.
fn encode(text: &[u8], into: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => into.push(byte),
            b' ' => into.push(b'+'),
            _ => into.extend([b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]),
        }
    }
}

pub(super) fn encoded(text: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut into = Zeroizing::new(Vec::with_capacity(3 * text.len()));
    encode(text, &mut into);
    into
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_encoded_as_java_encodes_them() {
        let mut form = Form::of_grant("urn:ietf:x");
        form.add("scope", "a b*c~é+/=&");
        let body = form.encoded();
        assert_eq!(
            std::str::from_utf8(body.expose()),
            Ok("grant_type=urn%3Aietf%3Ax&scope=a+b*c%7E%C3%A9%2B%2F%3D%26")
        );
        assert!(!format!("{form:?}").contains("urn"));
    }
}
