//! A member of a group that joins, gets a partition of the topic, leaves, and begins again, so that another member gives a
//! partition up and gets it back all the time. It reads nothing. Its process is ended from outside.

use std::time::Duration;

use tokio::time::sleep;

use super::{connect, consume};
use crate::options::{Failure, Options};
use crate::outcome::Outcome;

/// How often to look whether a partition is assigned.
const LOOK: Duration = Duration::from_millis(10);

pub(super) async fn run(options: &Options) -> Result<Outcome, Failure> {
    let client = connect(options).await?;
    let group = options.group.as_deref().unwrap_or_default();
    loop {
        let member = consume::cooperative(client.consumer(group).subscribe([&options.topic]));
        let mut consumer = member.build().await?;
        while consumer.assignment().is_empty() {
            // Only `next` learns that something failed, and there are no records.
            let _ = tokio::time::timeout(LOOK, consumer.next()).await;
        }
        sleep(LOOK).await;
        consumer.close().await?;
    }
}
