//! Connections through a proxy: SOCKS5 (RFC 1928, RFC 1929) and HTTP CONNECT (RFC 9110).

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use milena_core::Obstacle;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

use crate::connect::{Connect, ConnectError, Connecting, Naming, Resolving, Tcp, Transport};
use crate::{Address, Error, Secret};

/// A proxy that connects to the brokers for the client. It also looks up their names, which the client's network need not
/// know. TLS goes through it from end to end.
///
/// It is a [`Connect`], for [`ClientBuilder::connector`](crate::ClientBuilder::connector).
///
/// ```
/// use milena::{Client, Proxy};
///
/// let proxy = Proxy::parse("socks5://alice:pencil@proxy.example:1080")?.except("localhost,.internal.example");
/// assert_eq!(format!("{proxy:?}"), "socks5://alice:***@proxy.example:1080");
/// let builder = Client::builder().bootstrap("kafka-1:9092").connector(proxy);
/// # Ok::<(), milena::Error>(())
/// ```
#[derive(Clone)]
pub struct Proxy {
    kind: Kind,
    address: Address,
    user: Option<(Arc<str>, Secret)>,
    except: Arc<[Box<str>]>,
    tcp: Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Socks5,
    Http,
}

impl Proxy {
    /// Reads `socks5://HOST:PORT` or `http://HOST:PORT`, with `USER:PASSWORD@` before the host if the proxy asks for them. In user
    /// and password, `%` and two hexadecimal digits stand for a byte. `socks5h` is the same as `socks5`.
    ///
    /// # Errors
    /// When it is another kind of proxy, or no address.
    pub fn parse(url: &str) -> Result<Self, Error> {
        // The text has a password in it, so the error does not repeat it.
        let wrong = |why: &str| Error::caller("reading the address of the proxy", why);
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| wrong("write socks5://HOST:PORT or http://HOST:PORT"))?;
        let (kind, port) = match scheme.to_ascii_lowercase().as_str() {
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            "http" => (Kind::Http, 80),
            _ => return Err(wrong("it is neither a SOCKS5 proxy (socks5://) nor an HTTP proxy (http://)")),
        };
        let rest = rest.trim_end_matches('/');
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        let user = user.map(|user| {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            let name = decoded(name).and_then(|name| String::from_utf8(name).ok());
            Some((Arc::from(name?), Secret::from(decoded(password)?)))
        });
        let user = match user {
            Some(None) => return Err(wrong("its user or password has a wrong % escape")),
            Some(user) => user,
            None => None,
        };
        let has_port =
            address.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
                && !address.ends_with(']');
        let address = if has_port { address.to_owned() } else { format!("{address}:{port}") };
        let address = address.parse().map_err(|_| wrong("its host or port is wrong"))?;
        Ok(Self { kind, address, user, except: Arc::default(), tcp: Tcp::default() })
    }

    /// The proxy that the environment's `ALL_PROXY` or `all_proxy` names, if one does, except for the hosts of `NO_PROXY` or
    /// `no_proxy`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn from_env() -> Result<Option<Self>, Error> {
        Self::of_env([("ALL_PROXY", "all_proxy")])
    }

    /// The proxy that the first of these variables names that is set.
    fn of_env<'a>(names: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Option<Self>, Error> {
        let of = |upper: &str, lower: &str| std::env::var(upper).or_else(|_| std::env::var(lower)).ok();
        let mut urls = names.into_iter().filter_map(|(upper, lower)| of(upper, lower));
        let Some(url) = urls.find(|url| !url.is_empty()) else { return Ok(None) };
        let proxy = Self::parse(&url)?;
        Ok(Some(match of("NO_PROXY", "no_proxy") {
            Some(hosts) => proxy.except(&hosts),
            None => proxy,
        }))
    }

    /// The proxy for requests to web servers over TLS: that of `HTTPS_PROXY` or `https_proxy`, or else of
    /// [`from_env`](Self::from_env).
    #[cfg(feature = "http")]
    pub(crate) fn from_env_for_https() -> Result<Option<Self>, Error> {
        Self::of_env([("HTTPS_PROXY", "https_proxy"), ("ALL_PROXY", "all_proxy")])
    }

    /// Where the proxy listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Connects to these hosts without the proxy. The list has commas; a host stands for its subdomains too, and `*` for
    /// everything.
    pub fn except(mut self, hosts: &str) -> Self {
        let hosts = hosts.split(',').map(|host| host.trim().trim_start_matches("*.").trim_start_matches('.'));
        self.except =
            hosts.filter(|host| !host.is_empty()).map(|host| host.to_ascii_lowercase().into()).collect();
        self
    }

    /// Connects to the proxy, and to excepted hosts, with these options of sockets.
    pub fn with_tcp(mut self, tcp: Tcp) -> Self {
        self.tcp = tcp;
        self
    }

    fn is_for(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let is_within =
            |of: &str| host.strip_suffix(of).is_some_and(|before| before.is_empty() || before.ends_with('.'));
        !self.except.iter().any(|except| &**except == "*" || is_within(except))
    }

    /// An error of the proxy, or on the way to it.
    fn error(&self, obstacle: Obstacle, why: impl fmt::Display) -> ConnectError {
        ConnectError::new(obstacle, format!("the proxy {} {why}", self.address))
    }

    async fn connected(&self, broker: &Address) -> Result<Box<dyn Transport>, ConnectError> {
        let unreachable =
            |error: ConnectError| self.error(error.obstacle(), format_args!("cannot be reached: {error}"));
        let mut stream = self.tcp.connect(&self.address, None).await.map_err(unreachable)?;
        let spoken = match self.kind {
            Kind::Socks5 => self.socks5(&mut *stream, broker).await,
            Kind::Http => self.http(&mut *stream, broker).await,
        };
        spoken.map_err(|failed| match failed {
            Failed::Refused(error) => error,
            Failed::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.error(Obstacle::Network, "closed the connection")
            }
            Failed::Io(error) => self.error(Obstacle::Network, format_args!("failed: {error}")),
        })?;
        Ok(stream)
    }

    async fn socks5(&self, stream: &mut dyn Transport, broker: &Address) -> Result<(), Failed> {
        let refused = |obstacle, why: String| Err(Failed::Refused(self.error(obstacle, why)));
        const NO_AUTHENTICATION: u8 = 0;
        const PASSWORD: u8 = 2;
        let greeting: &[u8] = if self.user.is_some() {
            &[5, 2, NO_AUTHENTICATION, PASSWORD]
        } else {
            &[5, 1, NO_AUTHENTICATION]
        };
        stream.write_all(greeting).await?;
        let mut chosen = [0; 2];
        stream.read_exact(&mut chosen).await?;
        match (chosen, &self.user) {
            ([5, NO_AUTHENTICATION], _) => {}
            ([5, PASSWORD], Some((name, password))) => {
                let (name, password) = (name.as_bytes(), password.expose());
                let (Ok(name_bytes), Ok(password_bytes)) =
                    (u8::try_from(name.len()), u8::try_from(password.len()))
                else {
                    return refused(
                        Obstacle::Configuration,
                        "takes no user or password of more than 255 bytes".into(),
                    );
                };
                let request = Zeroizing::new([&[1, name_bytes], name, &[password_bytes], password].concat());
                stream.write_all(&request).await?;
                let mut answer = [0; 2];
                stream.read_exact(&mut answer).await?;
                if answer[1] != 0 {
                    return refused(Obstacle::Credentials, "refuses the user or the password".into());
                }
            }
            ([5, _], user) => {
                let given = if user.is_some() { "a password" } else { "no password" };
                return refused(Obstacle::Credentials, format!("does not let anybody in with {given}"));
            }
            _ => return refused(Obstacle::Peer, "does not speak SOCKS5".into()),
        }
        let mut request = vec![5, 1, 0];
        match broker.host().parse() {
            Ok(IpAddr::V4(ip)) => {
                request.push(1);
                request.extend_from_slice(&ip.octets());
            }
            Ok(IpAddr::V6(ip)) => {
                request.push(4);
                request.extend_from_slice(&ip.octets());
            }
            Err(_) => {
                let Ok(bytes) = u8::try_from(broker.host().len()) else {
                    return refused(
                        Obstacle::Configuration,
                        "takes no host name of more than 255 bytes".into(),
                    );
                };
                request.extend_from_slice(&[3, bytes]);
                request.extend_from_slice(broker.host().as_bytes());
            }
        }
        request.extend_from_slice(&broker.port().to_be_bytes());
        stream.write_all(&request).await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        let why = match answer[1] {
            0 => None,
            2 => Some((Obstacle::Configuration, "does not allow connections to it")),
            3 => Some((Obstacle::Network, "cannot connect to it: the network is unreachable")),
            4 => Some((
                Obstacle::Network,
                "cannot connect to it: the host is unreachable, or its name is unknown",
            )),
            5 => Some((Obstacle::Network, "cannot connect to it: the connection was refused")),
            6 => Some((Obstacle::Network, "cannot connect to it: nobody answered in time")),
            7 | 8 => Some((Obstacle::Configuration, "does not support such a connection")),
            _ => Some((Obstacle::Network, "cannot connect to it")),
        };
        if let Some((obstacle, why)) = why {
            return refused(obstacle, why.into());
        }
        // The address that it connects from, which is of no use.
        let bytes = match answer[3] {
            1 => 4,
            4 => 16,
            3 => usize::from(stream.read_u8().await?),
            _ => return refused(Obstacle::Peer, "does not speak SOCKS5".into()),
        };
        stream.read_exact(&mut [0; 257][..bytes + 2]).await?;
        Ok(())
    }

    async fn http(&self, stream: &mut dyn Transport, broker: &Address) -> Result<(), Failed> {
        let refused = |obstacle, why: String| Err(Failed::Refused(self.error(obstacle, why)));
        // A name with a space or a line break in it would change the request.
        if broker.host().bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return refused(Obstacle::Configuration, "cannot be asked for a host name with spaces".into());
        }
        let mut request = Zeroizing::new(format!("CONNECT {broker} HTTP/1.1\r\nHost: {broker}\r\n"));
        if let Some((name, password)) = &self.user {
            let pair = Zeroizing::new([name.as_bytes(), b":", password.expose()].concat());
            let pair = Zeroizing::new(STANDARD.encode(&*pair));
            request.push_str("Proxy-Authorization: Basic ");
            request.push_str(&pair);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        // Brokers do not speak first, so that what follows the head is part of it, or of an error page.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= HEAD_BYTES_MAX {
                return refused(Obstacle::Peer, format!("answers with more than {HEAD_BYTES_MAX} bytes"));
            }
            head.push(stream.read_u8().await?);
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let status = line
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|code| code.parse().ok());
        let line: String = line.chars().filter(|char| !char.is_control()).take(100).collect();
        match status {
            Some(200..300) => Ok(()),
            Some(407) if self.user.is_some() => {
                refused(Obstacle::Credentials, "refuses the user or the password".into())
            }
            Some(407) => refused(Obstacle::Credentials, "does not let anybody in with no password".into()),
            Some(401 | 403 | 405) => {
                refused(Obstacle::Configuration, format!("does not allow connections to it: {line}"))
            }
            Some(_) => refused(Obstacle::Network, format!("cannot connect to it: {line}")),
            None => refused(Obstacle::Peer, "does not speak HTTP".into()),
        }
    }
}

/// The head of an answer is short.
const HEAD_BYTES_MAX: usize = 8 << 10;

/// Why a proxy made no connection.
enum Failed {
    Refused(ConnectError),
    Io(std::io::Error),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl Connect for Proxy {
    fn resolve(&self, address: &Address) -> Resolving {
        // The proxy looks names up.
        if self.is_for(address.host()) {
            Box::pin(async { Ok(Vec::new()) })
        } else {
            self.tcp.resolve(address)
        }
    }

    fn name_of(&self, ip: IpAddr) -> Naming {
        self.tcp.name_of(ip)
    }

    fn connect(&self, address: &Address, at: Option<SocketAddr>) -> Connecting {
        if !self.is_for(address.host()) {
            return self.tcp.connect(address, at);
        }
        let (proxy, address) = (self.clone(), address.clone());
        Box::pin(async move { proxy.connected(&address).await })
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            Kind::Socks5 => "socks5",
            Kind::Http => "http",
        };
        write!(f, "{scheme}://")?;
        if let Some((name, _)) = &self.user {
            write!(f, "{name}:***@")?;
        }
        write!(f, "{}", self.address)
    }
}

/// The bytes of a part of a URL.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them_and_passwords_are_not_printed() {
        let check = |url: &str, expected: &str| {
            let read = Proxy::parse(url).map(|proxy| format!("{proxy:?}"));
            assert_eq!(read.unwrap_or_else(|error| error.to_string()), expected, "{url}");
        };
        check("socks5://proxy:1081", "socks5://proxy:1081");
        check("SOCKS5H://proxy", "socks5://proxy:1080");
        check("http://proxy/", "http://proxy:80");
        check("http://[::1]:3128", "http://[::1]:3128");
        check("socks5://[::1]", "socks5://[::1]:1080");
        check("socks5://al%40ice:hunter2@proxy", "socks5://al@ice:***@proxy:1080");
        let wrong = |why: &str| format!("reading the address of the proxy: {why}");
        check("proxy:1080", &wrong("write socks5://HOST:PORT or http://HOST:PORT"));
        check(
            "https://a:hunter2@proxy",
            &wrong("it is neither a SOCKS5 proxy (socks5://) nor an HTTP proxy (http://)"),
        );
        check("socks5://a:hunter%2@proxy", &wrong("its user or password has a wrong % escape"));
        check("socks5://", &wrong("its host or port is wrong"));
        let proxy = Proxy::parse("http://a:p%3ass@proxy").expect("read");
        assert_eq!(proxy.user.expect("a user").1.expose(), b"p:ss");
    }

    #[test]
    fn excepted_hosts_are_reached_without_the_proxy() {
        let check = |except: &str, host: &str, expected: bool| {
            let proxy = Proxy::parse("http://proxy").expect("read").except(except);
            assert_eq!(proxy.is_for(host), expected, "{host} with {except:?}");
        };
        check("", "kafka", true);
        check("localhost, .example.org", "localhost", false);
        check("localhost, .example.org", "a.Example.org.", false);
        check("example.org", "example.org", false);
        check("*.example.org", "a.example.org", false);
        check("example.org", "notexample.org", true);
        check("10.0.0.1,::1", "::1", false);
        check("*", "kafka", false);
    }
}
