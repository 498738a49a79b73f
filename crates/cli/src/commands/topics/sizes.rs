//! `milena topics log-dirs`, and the sizes of `milena topics list --sizes`: what records take on the disks of brokers.

use std::collections::BTreeMap;

use milena::{Admin, LogDir};
use serde::Serialize;

use crate::exit::Failure;
use crate::output::{to_json, write_out};
use crate::table::{Align, Table};
use crate::units::{Bytes, Count};

#[derive(Serialize)]
struct Shown<'a> {
    broker: i32,
    path: &'a str,
    is_online: bool,
    replica_count: usize,
    /// Of the replicas.
    bytes: u64,
    /// Null if the broker does not tell.
    usable_bytes: Option<u64>,
    total_bytes: Option<u64>,
}

/// Shows the directories of all brokers.
pub(super) async fn log_dirs(admin: &Admin, json: bool) -> Result<(), Failure> {
    let (log_dirs, incomplete) = described(admin).await?;
    let columns = [
        ("broker", Align::Right),
        ("directory", Align::Left),
        ("replicas", Align::Right),
        ("size", Align::Right),
        ("free", Align::Right),
        ("volume", Align::Right),
        ("", Align::Left),
    ];
    let (mut table, mut lines) = (Table::new(&columns), String::new());
    for log_dir in &log_dirs {
        let shown = Shown {
            broker: log_dir.broker,
            path: &log_dir.path,
            is_online: log_dir.error.is_none(),
            replica_count: log_dir.replicas.len(),
            bytes: log_dir.replicas.iter().map(|replica| replica.bytes).sum(),
            usable_bytes: log_dir.usable_bytes,
            total_bytes: log_dir.total_bytes,
        };
        if json {
            lines += &to_json(&shown)?;
            lines.push('\n');
            continue;
        }
        let bytes =
            |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| Bytes(bytes).to_string());
        table.row([
            shown.broker.to_string(),
            shown.path.to_owned(),
            Count(shown.replica_count as u64).to_string(),
            bytes(Some(shown.bytes)),
            bytes(shown.usable_bytes),
            bytes(shown.total_bytes),
            if shown.is_online { String::new() } else { "offline".to_owned() },
        ]);
    }
    write_out(&if json { lines } else { table.text(0) })?;
    incomplete.map_or(Ok(()), Err)
}

/// The bytes of all replicas of topics, and why they are not all if a broker did not answer.
pub(super) async fn of_topics(admin: &Admin) -> Result<(BTreeMap<String, u64>, Option<Failure>), Failure> {
    let (log_dirs, incomplete) = described(admin).await?;
    let mut sizes = BTreeMap::new();
    for replica in log_dirs.iter().flat_map(|log_dir| &log_dir.replicas) {
        *sizes.entry(replica.topic.to_string()).or_default() += replica.bytes;
    }
    Ok((sizes, incomplete))
}

async fn described(admin: &Admin) -> Result<(Vec<LogDir>, Option<Failure>), Failure> {
    let listing = admin.describe_log_dirs().await?;
    let incomplete = listing.failed.first().map(|(_, first)| {
        let errors: Vec<_> = listing.failed.iter().map(|(_, error)| error.to_string()).collect();
        let exit = Failure::from(first.clone()).exit();
        Failure::new(exit, errors.join("\n       "))
            .hint("Replicas on these brokers are missing in the sizes.")
    });
    Ok((listing.log_dirs, incomplete))
}
