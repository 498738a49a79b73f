//! Addresses of web servers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// `https://HOST:PORT/PATH?QUERY`, or the same with `http`. It is parsed from text, and shown without its query.
///
/// ```
/// use milena::http::Url;
///
/// let url: Url = "https://hooks.example/services/T0/secret".parse()?;
/// assert_eq!(url.to_string(), "https://hooks.example/services/T0/secret");
/// assert_eq!(url.with_hidden_path().to_string(), "https://hooks.example/…");
/// assert!("hooks.example/services".parse::<Url>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    is_encrypted: bool,
    is_path_hidden: bool,
    /// Without brackets.
    host: Box<str>,
    port: u16,
    /// The path and the query.
    target: Box<str>,
}

/// A longer one is hardly an address.
const URL_BYTES_MAX: usize = 8 << 10;

impl Url {
    /// The same, shown without its path: that of a web hook is a secret.
    pub fn with_hidden_path(self) -> Self {
        Self { is_path_hidden: true, ..self }
    }

    /// The same with this path and query, which begins with a slash, after its own path. Its own query is left out.
    ///
    /// # Errors
    /// When it cannot be a part of an address.
    pub fn joined(&self, path: &str) -> Result<Self, String> {
        let own = self.target.split('?').next().unwrap_or_default().trim_end_matches('/');
        let scheme = if self.is_encrypted { "https" } else { "http" };
        let joined: Self = format!("{scheme}://{}{own}{path}", self.authority()).parse()?;
        Ok(Self { is_path_hidden: self.is_path_hidden, ..joined })
    }

    pub(crate) fn is_encrypted(&self) -> bool {
        self.is_encrypted
    }

    /// The host's name or address; that of IPv6 is without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, also if the text has none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The path and the query, as a request has them.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// The host and the port, as a request names them.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.to_string() };
        let default = if self.is_encrypted { 443 } else { 80 };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// Whether the host is this machine, by its name or address.
    pub(crate) fn is_loopback(&self) -> bool {
        let name = self.host.trim_end_matches('.');
        name.eq_ignore_ascii_case("localhost")
            || self.host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    }
}

impl FromStr for Url {
    type Err = String;

    /// The error says what is wrong, and does not repeat the text, which may have a secret in it.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > URL_BYTES_MAX {
            return Err(format!("the URL has more than {URL_BYTES_MAX} bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the URL has a space or a character that must be written with %".into());
        }
        let (scheme, rest) = text.split_once("://").ok_or("it is no URL: write https://HOST/PATH")?;
        let is_encrypted = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err("the URL does not begin with https:// or http://".into()),
        };
        if rest.contains('#') {
            return Err("the URL has a fragment (#), which is never sent".into());
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        if authority.contains('@') {
            return Err("the URL has a user or a password in it; give them apart".into());
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or("the URL has a bracket that is not closed")?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err("the URL has no IPv6 address between its brackets".into());
                }
                match port {
                    "" => (host, None),
                    port => {
                        (host, Some(port.strip_prefix(':').ok_or("the URL has no port after its bracket")?))
                    }
                }
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let is_of_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if host.is_empty() || !(authority.starts_with('[') || host.bytes().all(is_of_host)) {
            return Err("the URL has no valid host".into());
        }
        let port = match port {
            None => {
                if is_encrypted {
                    443
                } else {
                    80
                }
            }
            Some(port) => {
                let digits = port.bytes().all(|byte| byte.is_ascii_digit()).then_some(port);
                let port = digits.and_then(|port| port.parse().ok()).filter(|port| *port != 0);
                port.ok_or("the URL has a port that is not a number from 1 to 65535")?
            }
        };
        let target = match target {
            target if target.starts_with('/') => target.into(),
            target => format!("/{target}").into(),
        };
        Ok(Self { is_encrypted, is_path_hidden: false, host: host.into(), port, target })
    }
}

/// Without the query, which may have secrets in it.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_encrypted { "https" } else { "http" };
        let path =
            if self.is_path_hidden { "/…" } else { self.target.split('?').next().unwrap_or_default() };
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them_and_shown_without_their_query() {
        let check = |text: &str, shown: &str, host: &str, port: u16, target: &str| {
            let url: Url = text.parse().unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!((url.host(), url.port(), url.target()), (host, port, target), "{text}");
            assert_eq!(url.to_string(), shown);
        };
        check("https://issuer/token", "https://issuer/token", "issuer", 443, "/token");
        check("HTTPS://issuer.example:8443", "https://issuer.example:8443/", "issuer.example", 8443, "/");
        check("http://[::1]:8080/a?b=hunter2", "http://[::1]:8080/a", "::1", 8080, "/a?b=hunter2");
        check("http://127.0.0.1", "http://127.0.0.1/", "127.0.0.1", 80, "/");
        check("https://issuer?x=1", "https://issuer/", "issuer", 443, "/?x=1");
        check("https://issuer:443/", "https://issuer/", "issuer", 443, "/");
    }

    #[test]
    fn a_path_is_joined_and_may_be_hidden() {
        let joined = |text: &str| text.parse::<Url>().expect(text).joined("/api/v2/alerts").expect("a path");
        assert_eq!(joined("http://am:9093").to_string(), "http://am:9093/api/v2/alerts");
        assert_eq!(joined("https://[::1]/prefix/?x=1").target(), "/prefix/api/v2/alerts");
        let hidden = "https://hooks/hunter2".parse::<Url>().expect("a URL").with_hidden_path();
        let shown = format!("{hidden} {hidden:?} {}", hidden.joined("/x").expect("a path"));
        assert_eq!(shown, "https://hooks/… https://hooks/… https://hooks/…");
        assert!(hidden.joined("/a b").is_err());
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        for text in [
            "",
            "issuer/token",
            "ftp://issuer",
            "file:///etc/hunter2",
            "https://",
            "https:///hunter2",
            "https://a b/",
            "https://user:hunter2@issuer/",
            "https://issuer/#hunter2",
            "https://issuer:0/",
            "https://issuer:70000/",
            "https://issuer:+443/",
            "https://issuer:/",
            "https://[::1",
            "https://[hunter2]/",
            "https://[::1]8080/",
            "https://a\nb/",
            "https://héte/",
            "https://iss%75er/",
            "https://a,hunter2/",
        ] {
            let why = text.parse::<Url>().expect_err(text);
            assert!(!why.contains("hunter2"), "{why}");
        }
        assert!("https://a/".repeat(1000).parse::<Url>().is_err());
    }

    #[test]
    fn this_machine_is_known_by_name_and_address() {
        let check = |text: &str, expected: bool| {
            assert_eq!(text.parse::<Url>().expect(text).is_loopback(), expected, "{text}");
        };
        check("http://localhost/", true);
        check("http://LOCALHOST./", true);
        check("http://127.8.9.1/", true);
        check("http://[::1]/", true);
        check("http://localhost.example/", false);
        check("http://10.0.0.1/", false);
    }
}
