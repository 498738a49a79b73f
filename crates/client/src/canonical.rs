//! `client.dns.lookup=resolve_canonical_bootstrap_servers_only` (KIP-235): the bootstrap servers under the names that their
//! addresses have. It knows no DNS: the connector looks names and addresses up.
//!
//! ```text
//!  kafka:9093 ─ resolve ─▶ 10.0.0.1, 10.0.0.2 ─ name_of ─▶ b-1.kafka:9093, b-2.kafka:9093
//! ```

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use milena_core::{Failure, Obstacle};

use crate::connect::{ConnectError, Connector};
use crate::runtime::Together;
use crate::{Address, Error};

/// The canonical names of `bootstrap`, each once, in the same order. A server whose name is unknown is left out, unless all are.
pub(crate) async fn canonical(connector: &Connector, bootstrap: &[Address]) -> Result<Vec<Address>, Error> {
    let mut looking = Together::new();
    for (index, address) in bootstrap.iter().enumerate() {
        looking.push(async move { (index, names(connector, address).await) });
    }
    let mut found = Vec::new();
    while let Some(one) = looking.next().await {
        found.push(one);
    }
    found.sort_by_key(|(index, _)| *index);
    let (mut addresses, mut first_error) = (Vec::new(), None);
    for (index, names) in found {
        match names {
            Ok(names) => {
                for name in names {
                    if !addresses.contains(&name) {
                        addresses.push(name);
                    }
                }
            }
            Err(error) => {
                let server = &bootstrap[index];
                tracing::warn!(target: "milena", "the bootstrap server {server} is left out: {error}");
                first_error.get_or_insert((server, error));
            }
        }
    }
    match first_error {
        Some((server, error)) if addresses.is_empty() => {
            let failure: Failure = error.into_failure(&server.to_string().into());
            Err(Error::harmless("looking up the canonical names of the bootstrap servers", failure))
        }
        _ => Ok(addresses),
    }
}

/// The names of all addresses of one server.
async fn names(connector: &Connector, server: &Address) -> Result<Vec<Address>, ConnectError> {
    let resolved = connector.resolve(server).await?;
    if resolved.is_empty() {
        let why = "its addresses are not known here, because a proxy or the connector itself looks names up; \
                   client.dns.lookup must be use_all_dns_ips";
        return Err(ConnectError::new(Obstacle::Configuration, why));
    }
    let mut names = Vec::with_capacity(resolved.len());
    for at in resolved {
        let name = name(connector, at.ip(), server.port()).await;
        names.push(Address::new(name.unwrap_or_else(|| at.ip().to_string().into()), at.port()));
    }
    Ok(names)
}

/// The name of `ip`, if that name stands for it: whoever has the addresses writes the names, and may write anybody's. Java's
/// `getCanonicalHostName` checks the same, and otherwise returns the address.
async fn name(connector: &Connector, ip: IpAddr, port: u16) -> Option<Arc<str>> {
    let name = connector.name_of(ip).await.ok().flatten()?;
    let name: Arc<str> = name.trim_end_matches('.').into();
    let back = connector.resolve(&Address::new(Arc::clone(&name), port)).await.ok()?;
    back.contains(&SocketAddr::new(ip, port)).then_some(name)
}
