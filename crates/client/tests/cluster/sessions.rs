//! Fetch sessions (KIP-227): what brokers remember of consumers, and what is left of it when a consumer ends.

use milena_messages::fetch::FetchRequest;

use super::limits::Wire;
use super::members::{WAYS, next, start_grouping, until};
use super::*;

/// Waits until the cluster's brokers have as many sessions as `is_right` wants.
async fn sessions(cluster: &Cluster, is_right: impl Fn(usize) -> bool) {
    let counted = async {
        while !is_right(cluster.stats().fetch_sessions) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let outcome = timeout(PATIENCE, counted).await;
    assert!(outcome.is_ok(), "{} sessions", cluster.stats().fetch_sessions);
}

#[tokio::test]
async fn a_consumer_that_ends_closes_its_sessions_at_every_broker() {
    let (cluster, client) = start_grouping(3, &[("t", 6)]).await;
    members::fill(&client, "t", 6, 1).await;
    let mut by_position = consumer(&client, "t", 6).await;
    read(&mut by_position, 6).await;
    sessions(&cluster, |count| count >= 3).await;
    // A partition that was taken from its consumer goes on, and so do the sessions.
    let mut taken = by_position.partitions();
    taken.truncate(1);
    drop(by_position);
    members::fill(&client, "t", 6, 1).await;
    timeout(PATIENCE, taken[0].next()).await.expect("in time").expect("read").expect("assigned");
    assert!(cluster.stats().fetch_sessions > 0);
    drop(taken);
    sessions(&cluster, |count| count == 0).await;

    for way in WAYS {
        for is_closed in [true, false] {
            let mut member = way.member(&client, &["t"]).manual_commits().build().await.expect("built");
            for _ in 0..6 {
                next(&mut member).await;
            }
            sessions(&cluster, |count| count > 0).await;
            if is_closed {
                timeout(PATIENCE, member.close()).await.expect("in time").expect("closed");
            } else {
                drop(member);
            }
            sessions(&cluster, |count| count == 0).await;
        }
    }
}

#[tokio::test]
async fn a_consumer_that_ends_before_it_is_answered_leaves_no_session() {
    let (cluster, _client) = start(3, &[("t", 6)]).await;
    let wire = Wire::default();
    let builder = Client::builder().bootstrap(cluster.bootstrap()).connector(wire.clone());
    let client = builder.connect().await.expect("connected");
    let fetches =
        |is_one: fn(&FetchRequest) -> bool| wire.fetches().iter().filter(|fetch| is_one(fetch)).count();
    let opening = || fetches(|fetch| fetch.session_epoch == 0);
    let mut idle = Vec::new();
    for number in 1..=20 {
        idle.push(consumer(&client, "t", 6).await);
        // Each asks all three brokers, which hold the fetches, because there is no record.
        let asked = async {
            while opening() < 3 * number {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, asked).await.expect("asked in time");
    }
    drop(idle);
    let closed = async {
        while fetches(|fetch| fetch.session_epoch == -1 && fetch.session_id != 0) < opening() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("closed in time");
    sessions(&cluster, |count| count == 0).await;
}

/// The answer to a fetch and the end of the consumer may be found in one turn of its driver.
#[tokio::test]
async fn a_consumer_that_ends_while_it_is_answered_leaves_no_connection() {
    let (cluster, writer) = start(1, &[("t", 1)]).await;
    members::fill(&writer, "t", 1, 1).await;
    drop(writer);
    let idle = || cluster.stats().connections == 0;
    until("the writer is gone", idle).await;
    for turns in 0..100 {
        let client = Client::connect(cluster.bootstrap()).await.expect("connected");
        let consumer = consumer(&client, "t", 1).await;
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        drop((consumer, client));
        until("no connection is left", idle).await;
    }
}

#[tokio::test]
async fn a_broker_that_answers_no_fetch_does_not_delay_closing() {
    for way in WAYS {
        let (cluster, writer) = start_grouping(1, &[("t", 1)]).await;
        members::fill(&writer, "t", 1, 1).await;
        let wire = Wire::default();
        // The answers would be waited for beyond the test's patience.
        let builder = Client::builder().bootstrap(cluster.bootstrap()).request_timeout(PATIENCE * 2);
        let client = builder.connector(wire.clone()).connect().await.expect("connected");
        let mut member = way.member(&client, &["t"]).build().await.expect("built");
        next(&mut member).await;
        sessions(&cluster, |count| count > 0).await;
        wire.silence_fetches();
        timeout(PATIENCE, member.close()).await.expect("closing waits for no fetch").expect("closed");
        let has_ended = async {
            while !wire.fetches().iter().any(|fetch| fetch.session_epoch == -1 && fetch.session_id != 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, has_ended).await.expect("it was told all the same");
    }
}
