//! The head of a request, as far as it matters here.

/// The method of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Without the query.
    pub(super) path: &'a str,
    /// The header `Accept`; empty if there is none.
    pub(super) accept: &'a str,
    /// The header `Accept-Encoding`; empty if there is none.
    pub(super) accept_encoding: &'a str,
}

/// Whether the empty line has come.
pub(super) fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|four| four == b"\r\n\r\n")
}

impl<'a> Request<'a> {
    /// None if it is no HTTP/1.0 or HTTP/1.1.
    pub(super) fn read(head: &'a [u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let method = match words.next()? {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            _ => Method::Other,
        };
        let target = words.next()?;
        let is_http = words.next()?.starts_with("HTTP/1.") && words.next().is_none();
        let path = target.split('?').next().unwrap_or_default();
        let (mut accept, mut accept_encoding) = (None, None);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let header = match name {
                name if name.eq_ignore_ascii_case("accept") => &mut accept,
                name if name.eq_ignore_ascii_case("accept-encoding") => &mut accept_encoding,
                _ => continue,
            };
            header.get_or_insert(value.trim());
        }
        let (accept, accept_encoding) = (accept.unwrap_or_default(), accept_encoding.unwrap_or_default());
        (is_http && path.starts_with('/')).then_some(Self { method, path, accept, accept_encoding })
    }
}
