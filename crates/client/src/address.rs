//! `host:port`, and lists of them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use milena_core::metadata::Broker;

/// Where something listens: a host name or an IP address, and a port.
///
/// Read from text it may have `PLAINTEXT://` in front. Another security protocol is refused, because an address does not
/// choose it; in properties it may be the one that `security.protocol` has.
///
/// ```
/// use milena::Address;
///
/// let address: Address = "[::1]:9092".parse()?;
/// assert_eq!((address.host(), address.port()), ("::1", 9092));
/// assert_eq!("localhost".parse::<Address>()?.port(), 9092);
/// # Ok::<(), milena::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    host: Arc<str>,
    port: u16,
}

/// Where Kafka listens unless told otherwise.
const PORT_DEFAULT: u16 = 9092;
/// Kafka's security protocols that need TLS or SASL, as `security.protocol` and listeners name them.
const ENCRYPTED: [&str; 3] = ["SSL", "SASL_SSL", "SASL_PLAINTEXT"];

impl Address {
    /// An address out of its parts. An IPv6 address goes without brackets here.
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Where `broker` says that it listens.
    pub(crate) fn of(broker: &Broker) -> Self {
        Self::new(Arc::clone(&broker.host), broker.port)
    }

    /// The host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A list with commas, as `bootstrap.servers` has it.
    pub(crate) fn parse_list(list: &str) -> Result<Vec<Self>, crate::Error> {
        list.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
    }
}

impl FromStr for Address {
    type Err = crate::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| crate::Error::caller(format!("reading the address {text:?}"), why);
        // librdkafka and Java's listeners write a security protocol in front.
        let bare = match text.split_once("://") {
            None => text,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("PLAINTEXT") => rest,
            // Going on without what the name asks for would send records and passwords in plain text.
            Some((scheme, _)) => {
                let known = ENCRYPTED.iter().any(|known| known.eq_ignore_ascii_case(scheme));
                return Err(wrong(&if known {
                    format!(
                        "an address does not choose {scheme}; set security.protocol or ClientBuilder::tls"
                    )
                } else {
                    format!("{scheme:?} is no security protocol of Kafka's; write host:port")
                }));
            }
        };
        let (host, port) = match bare.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(|| wrong("the bracket is not closed"))?;
                (host, port.strip_prefix(':'))
            }
            // More than one colon is an IPv6 address without a port.
            None if bare.matches(':').count() > 1 => (bare, None),
            None => bare.split_once(':').map_or((bare, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err(wrong("it has no host; write host:port"));
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| wrong("the port is not a number from 0 to 65535"))?,
            None => PORT_DEFAULT,
        };
        Ok(Self::new(host, port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_people_write() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let address = text.parse::<Address>().ok();
            assert_eq!(address.as_ref().map(|address| (address.host(), address.port())), expected, "{text}");
        };
        check("localhost:9093", Some(("localhost", 9093)));
        check("localhost", Some(("localhost", 9092)));
        check("PLAINTEXT://10.0.0.1:1", Some(("10.0.0.1", 1)));
        check("[::1]:9092", Some(("::1", 9092)));
        check("[::1]", Some(("::1", 9092)));
        check("::1", Some(("::1", 9092)));
        check("", None);
        check(":9092", None);
        check("a:b", None);
        check("a:70000", None);
        check("[::1:9092", None);
        check("plaintext://a:1", Some(("a", 1)));
        check("PLAINTEXT://", None);
    }

    #[test]
    fn a_security_protocol_before_an_address_is_refused_and_named() {
        for scheme in ["SSL", "SASL_SSL", "SASL_PLAINTEXT", "ssl"] {
            let error = format!("{scheme}://a:1").parse::<Address>().expect_err("refused");
            let text = error.to_string();
            assert!(text.contains(&format!("an address does not choose {scheme}")), "{text}");
        }
        for scheme in ["https", "kafka", "PLAIN TEXT", ""] {
            let error = Address::parse_list(&format!("b:1,{scheme}://a:1")).expect_err("unknown");
            assert!(error.to_string().contains("no security protocol of Kafka's"), "{error}");
        }
    }
}
