//! Judges what was seen. Pure: the same sight gives the same findings. A function for each layer, and [`cluster`] for what only
//! a client that was let in can see.

mod cluster;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use milena::{Cause, ErrorCode, ErrorKind, Obstacle};

use super::seen::{Endpoint, Seen, Setup, Trouble, Unreached};
use super::{Finding, Layer, Status};

/// What is wrong, from the bottom up.
pub(crate) fn diagnose(seen: &Seen) -> Vec<Finding> {
    let mut findings = configuration(seen);
    if seen.setup.refused.is_some() {
        findings.push(Finding::skip(Layer::Dns, "nothing else was looked at: the client cannot be set up"));
        return findings;
    }
    findings.extend(seen.proxy.iter().flat_map(proxy));
    // Through a proxy nothing can be said of names and ports behind it.
    if seen.proxy.is_none() {
        let is_alone = !seen.bootstrap.iter().any(Endpoint::is_reached);
        findings.extend(seen.bootstrap.iter().filter_map(|endpoint| dns(endpoint, is_alone)));
        findings.extend(seen.bootstrap.iter().flat_map(|endpoint| tcp(endpoint, is_alone)));
    }
    findings.extend(talks(seen));
    match &seen.cluster {
        Some(cluster) => findings.extend(cluster::findings(seen, cluster)),
        None => findings.push(Finding::skip(
            Layer::Brokers,
            "nothing further was looked at: no bootstrap server let the client in",
        )),
    }
    // In one layer as it was found, and layers in their order.
    findings.sort_by_key(|finding| finding.layer);
    findings
}

fn configuration(seen: &Seen) -> Vec<Finding> {
    let (setup, layer) = (&seen.setup, Layer::Configuration);
    let whence =
        setup.profile.as_ref().map_or_else(String::new, |profile| format!(", with the profile {profile}"));
    if let Some(why) = &setup.refused {
        let fix = match &setup.profile {
            Some(profile) => format!(
                "change the setting where it is: -X, -F, or `milena profile set {profile} NAME=VALUE`"
            ),
            None => "change the setting where it is: -X or -F".into(),
        };
        return vec![Finding::fail(layer, why.clone(), fix)];
    }
    let protocol = match (setup.has_tls, &setup.sasl) {
        (false, None) => "PLAINTEXT".to_owned(),
        (true, None) => "SSL".to_owned(),
        (has_tls, Some((mechanism, user))) => {
            let protocol = if has_tls { "SASL_SSL" } else { "SASL_PLAINTEXT" };
            let user = user.as_ref().map_or_else(String::new, |user| format!(" as {user:?}"));
            format!("{protocol}, {mechanism}{user}")
        }
    };
    let mut findings = vec![Finding::ok(layer, format!("{protocol}{whence}"))];
    for (name, why) in &setup.ignored {
        findings.push(Finding::warn(layer, format!("{name} has no effect: {why}"), "remove it"));
    }
    if setup.has_tls && !setup.checks_certificates {
        findings.push(Finding::warn(
            layer,
            "certificates are not checked: whoever is on the way to a broker can read everything",
            "remove enable.ssl.certificate.verification=false, and name the authority in ssl.truststore.location",
        ));
    }
    let zookeeper = seen.bootstrap.iter().filter(|endpoint| endpoint.port == 2181);
    findings.extend(zookeeper.map(|endpoint| {
        let detail = format!("{} has ZooKeeper's port", endpoint.address());
        Finding::warn(layer, detail, "name the brokers' port, which is 9092 unless it was changed")
    }));
    findings
}

fn dns(endpoint: &Endpoint, is_alone: bool) -> Option<Finding> {
    let (layer, host) = (Layer::Dns, &endpoint.host);
    Some(match endpoint.addresses.as_ref()? {
        Ok(addresses) if matches!(addresses[..], [one] if *host == one.to_string()) => return None,
        Ok(addresses) if addresses.is_empty() => {
            named(is_alone, layer, format!("{host} stands for no address"), fix_of_name(host))
        }
        Ok(addresses) => {
            let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            Finding::ok(layer, format!("{host} is {}", addresses.join(", ")))
        }
        Err(why) => named(is_alone, layer, format!("{host} does not resolve: {why}"), fix_of_name(host)),
    })
}

/// A failure, or a warning if the client has another way.
fn named(is_alone: bool, layer: Layer, detail: String, fix: String) -> Finding {
    if is_alone { Finding::fail(layer, detail, fix) } else { Finding::warn(layer, detail, fix) }
}

fn fix_of_name(host: &str) -> String {
    if host.contains('.') || host == "localhost" {
        return "check the spelling, and that this machine's DNS server knows the name (a VPN may be needed)"
            .into();
    }
    // Container names have no dots, and are known to containers of the same network only.
    "a name without dots is often a container's, which only containers of the same network can resolve: from here use the \
     host's name and the published port"
        .into()
}

fn tcp(endpoint: &Endpoint, is_alone: bool) -> Vec<Finding> {
    let layer = Layer::Tcp;
    let reaches = endpoint.is_reached();
    let finding = |(at, outcome): &(std::net::SocketAddr, Result<(), Unreached>)| match outcome {
        Ok(()) => Finding::ok(layer, format!("{at} takes connections")),
        Err(why) => {
            let (detail, fix) = unreached(&at.to_string(), at.ip(), why);
            named(is_alone && !reaches, layer, detail, fix)
        }
    };
    endpoint.reached.iter().map(finding).collect()
}

/// What happened at an address, and what to do.
fn unreached(at: &str, ip: IpAddr, why: &Unreached) -> (String, String) {
    match why {
        Unreached::Refused if ip.is_loopback() => (
            format!("{at} refuses connections"),
            "nothing on this machine listens there: start the broker, or name the machine and the port where it is".into(),
        ),
        Unreached::Refused => (
            format!("{at} refuses connections"),
            "the machine is there and nothing listens on the port, or a firewall rejects it: check the port of the listener, and \
             that the broker listens on this address (listeners)"
                .into(),
        ),
        Unreached::TimedOut => (
            format!("{at} does not answer"),
            "packets are lost on the way: check the address, and that firewalls, security groups and VPN let this machine through"
                .into(),
        ),
        Unreached::Other(why) => (
            format!("{at} cannot be reached: {why}"),
            "check that this machine has a route to the address".into(),
        ),
    }
}

fn proxy(proxy: &Endpoint) -> Vec<Finding> {
    let (layer, address) = (Layer::Proxy, proxy.address());
    let fix = "check the property `proxy`, and that the proxy runs";
    if let Some(Err(why)) = &proxy.addresses {
        return vec![Finding::fail(layer, format!("the proxy {address} does not resolve: {why}"), fix)];
    }
    if proxy.is_reached() {
        return vec![Finding::ok(layer, format!("the proxy {address} takes connections"))];
    }
    let first = proxy.reached.iter().find_map(|(at, outcome)| Some((at, outcome.as_ref().err()?)));
    let detail = first.map_or_else(
        || format!("{address} has no address"),
        |(at, why)| unreached(&at.to_string(), at.ip(), why).0,
    );
    vec![Finding::fail(layer, format!("the proxy {detail}"), fix)]
}

/// TLS, SASL and the protocol of each bootstrap server that was talked to.
fn talks(seen: &Seen) -> Vec<Finding> {
    let setup = &seen.setup;
    let is_alone = seen.cluster.is_none();
    let mut findings = Vec::new();
    for endpoint in &seen.bootstrap {
        let address = endpoint.address();
        match &endpoint.talked {
            None => {}
            Some(Ok(())) => findings.extend(passed(setup, &address, None)),
            Some(Err(trouble)) => {
                let Place { layer, fix } = place(trouble, setup, &endpoint.host);
                findings.extend(passed(setup, &address, Some(layer)));
                // A mistake in the settings is the same for all servers.
                let detail = match layer {
                    Layer::Configuration => trouble.text.trim_start_matches("connecting: ").to_owned(),
                    _ => at(&address, &trouble.text),
                };
                let finding = named(is_alone, layer, detail, fix);
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    }
    findings
}

/// What worked at a server below the layer that failed, or everything.
fn passed(setup: &Setup, address: &str, failed: Option<Layer>) -> Vec<Finding> {
    let is_below = |layer: Layer| failed.is_none_or(|failed| layer < failed);
    let mut findings = Vec::new();
    if setup.has_tls && is_below(Layer::Tls) {
        let detail = match setup.checks_certificates {
            true => format!("{address} has a certificate that is trusted, for its host name"),
            false => format!("{address} speaks TLS"),
        };
        findings.push(Finding::ok(Layer::Tls, detail));
    }
    if let (Some((mechanism, _)), true) = (&setup.sasl, is_below(Layer::Sasl)) {
        findings.push(Finding::ok(Layer::Sasl, format!("{address} lets the client in by {mechanism}")));
    }
    if is_below(Layer::Protocol) {
        findings.push(Finding::ok(Layer::Protocol, format!("{address} is a Kafka broker")));
    }
    findings
}

/// What happened at an address, without a beginning that repeats it.
fn at(address: &str, text: &str) -> String {
    let beginnings =
        ["cannot reach", "lost the connection to", "cannot authenticate with", "cannot authenticate to"];
    let is_beginning = |(before, _): &(&str, &str)| {
        beginnings.iter().any(|beginning| before.starts_with(beginning)) && before.ends_with(address)
    };
    let text = text.split_once(": ").filter(is_beginning).map_or(text, |(_, rest)| rest);
    let text = text.replace("the broker closed it", "the broker closed the connection");
    if text.starts_with(address) { text } else { format!("{address}: {text}") }
}

/// The layer that an error belongs to, and what to do.
pub(super) struct Place {
    pub(super) layer: Layer,
    pub(super) fix: String,
}

/// Finds the layer of an error that a client got from `host`.
pub(super) fn place(trouble: &Trouble, setup: &Setup, host: &str) -> Place {
    let at = |layer, fix: &str| Place { layer, fix: fix.to_owned() };
    if let Some(cause) = trouble.cause {
        return of_cause(cause, setup, host);
    }
    match (trouble.code, trouble.obstacle) {
        (Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM), _) if setup.sasl.is_none() => {
            let protocol = if setup.has_tls { "SASL_SSL" } else { "SASL_PLAINTEXT" };
            let fix =
                format!("set security.protocol={protocol}, sasl.mechanism, sasl.username and sasl.password");
            Place { layer: Layer::Sasl, fix }
        }
        (Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM), _) => at(
            Layer::Sasl,
            "set sasl.mechanism to one that the broker has, or enable this one (sasl.enabled.mechanisms)",
        ),
        (Some(ErrorCode::ILLEGAL_SASL_STATE), _) => {
            let other = if setup.has_tls { "SSL" } else { "PLAINTEXT" };
            Place {
                layer: Layer::Sasl,
                fix: format!("set security.protocol={other}, or connect to the port of a listener with SASL"),
            }
        }
        (Some(ErrorCode::SASL_AUTHENTICATION_FAILED), _) | (_, Some(Obstacle::Credentials)) => {
            at(Layer::Sasl, fix_of_login(setup))
        }
        (_, Some(Obstacle::Certificate)) => {
            at(Layer::Tls, "look at the certificates of both sides, and into the broker's log")
        }
        (_, Some(Obstacle::Name)) => Place { layer: Layer::Dns, fix: fix_of_name(host) },
        _ if trouble.text.starts_with("cannot authenticate with") => at(Layer::Sasl, fix_of_source(setup)),
        _ => match trouble.kind {
            ErrorKind::InvalidInput => at(Layer::Configuration, "change the setting that the error names"),
            ErrorKind::Authentication if setup.sasl.is_some() => at(Layer::Sasl, fix_of_login(setup)),
            // Metadata is what a controller does not have, and every broker has.
            ErrorKind::Protocol if trouble.text.contains("does not know Metadata requests") => at(
                Layer::Protocol,
                "a controller's port (KRaft) has no such requests: connect to the port of a broker's listener",
            ),
            ErrorKind::Timeout => at(
                Layer::Protocol,
                "something takes connections there and does not speak: a broker that hangs, a load balancer without a backend, or \
                 the port of another program",
            ),
            _ if trouble.code.is_some_and(ErrorCode::is_authorization) => {
                at(Layer::Acl, "an administrator must grant this principal the right (`milena acl`)")
            }
            ErrorKind::Network if setup.sasl.is_none() => at(
                Layer::Protocol,
                "if the listener demands SASL, set security.protocol=SASL_PLAINTEXT or SASL_SSL; else the broker is stopping, or the \
                 port is another program's",
            ),
            _ => at(Layer::Protocol, "check that the port is a broker's, and look into the broker's log"),
        },
    }
}

fn fix_of_login(setup: &Setup) -> &'static str {
    match setup.sasl.as_ref().map(|(mechanism, _)| mechanism.as_str()) {
        Some("OAUTHBEARER") => {
            "look at the token's issuer, audience and expiry, and at the broker's sasl.oauthbearer.expected.* settings"
        }
        Some(mechanism) if mechanism.starts_with("SCRAM") => {
            "check sasl.username and sasl.password; the broker has a password for each SCRAM mechanism of its own, and answers \
             alike for unknown users and wrong passwords"
        }
        _ => {
            "check sasl.username and sasl.password; a broker answers alike for unknown users and wrong passwords"
        }
    }
}

/// What to do when the client has nothing to log in with, or the connection ended while it did.
fn fix_of_source(setup: &Setup) -> &'static str {
    match setup.sasl.as_ref().map(|(mechanism, _)| mechanism.as_str()) {
        Some("OAUTHBEARER") => {
            "the issuer (sasl.oauthbearer.token.endpoint.url) must be up, and this machine must reach it; the broker is not to blame"
        }
        _ => "look into the broker's log: it ended the connection while the client logged in",
    }
}

fn of_cause(cause: Cause, setup: &Setup, host: &str) -> Place {
    let fix = match cause {
        Cause::CertificateExpired => "renew the broker's certificate; if it is not expired, set this machine's clock".to_owned(),
        Cause::CertificateNotYetValid => {
            "set this machine's clock if it is slow; else the certificate was issued for later".to_owned()
        }
        Cause::CertificateOfAnotherHost => format!(
            "connect under a name that the certificate has, or issue one with {host} among its alternative names (the broker \
             must advertise such a name too)"
        ),
        Cause::CertificateUntrusted => {
            "name the authority that signed it in ssl.truststore.location or ssl.ca.location; the broker must send the \
             certificates between, and `openssl s_client -showcerts` shows what it sends"
                .to_owned()
        }
        Cause::CertificateRevoked => "get the broker another certificate, or the list another date (ssl.crl.location)".to_owned(),
        Cause::ClientCertificateRequired => {
            "set ssl.keystore.location, or ssl.certificate.location and ssl.key.location".to_owned()
        }
        Cause::ClientCertificateRefused => {
            "use a certificate that is valid and signed by an authority in the broker's ssl.truststore".to_owned()
        }
        Cause::NoCommonTls => "allow TLS 1.2 or 1.3 at the broker (ssl.enabled.protocols, ssl.cipher.suites)".to_owned(),
        Cause::PeerIsPlain => {
            let other = if setup.sasl.is_some() { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
            format!("connect to the port of the listener with TLS, or set security.protocol={other} if plain text is meant")
        }
        Cause::PeerIsTls => {
            let other = if setup.sasl.is_some() { "SASL_SSL" } else { "SSL" };
            format!("set security.protocol={other}, or connect to the port of a listener without TLS")
        }
        Cause::PeerIsForeign => {
            let fix = "the port is another program's: name the port of the broker's listener".to_owned();
            return Place { layer: Layer::Protocol, fix };
        }
        _ => "look into the broker's log".to_owned(),
    };
    Place { layer: Layer::Tls, fix }
}

/// How many failed, and the lowest layer of them.
pub(crate) fn failed(findings: &[Finding]) -> Option<(usize, Layer)> {
    let failed = findings.iter().filter(|finding| finding.status == Status::Fail);
    Some((failed.clone().count(), failed.map(|finding| finding.layer).min()?))
}
