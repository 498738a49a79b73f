//! No setting makes a storm of requests or connections, even if it is zero: neither with an idle broker nor with a broken one.

use std::time::Duration;

use milena::{Client, Position, Record, SETTINGS, Unit};
use milena_messages::ApiKey;
use tokio::time::{sleep, timeout};

use super::peer::{Behaviour, Peer};

const A_SECOND: Duration = Duration::from_secs(1);

/// Counts the requests and connections per second of a client with a producer and a consumer, with these properties.
async fn in_a_second(behaviour: Behaviour, properties: &[(&str, &str)]) -> (usize, usize) {
    let peer = Peer::start(behaviour).await;
    let mut builder = Client::from_properties(properties.iter().copied()).expect("taken");
    builder = builder.bootstrap(&peer.address());
    let Ok(Ok(client)) = timeout(A_SECOND, builder.connect()).await else {
        return (peer.all_requests(), peer.connections());
    };
    let producer = client.producer().build().await.expect("built");
    let sending = producer.send(Record::to("t").value("v"));
    let _ = timeout(A_SECOND, sending).await;
    let building = client.consumer_direct().assign([("t", 0)], Position::Earliest).build();
    let Ok(Ok(mut consumer)) = timeout(A_SECOND, building).await else {
        return (peer.all_requests(), peer.connections());
    };
    let (requests, connections) = (peer.all_requests(), peer.connections());
    // Somebody sends and reads on whatever comes.
    let send = async {
        loop {
            sleep(Duration::from_millis(50)).await;
            let _ = producer.send(Record::to("t").value("v")).await;
        }
    };
    let read = async {
        loop {
            let _ = consumer.next().await;
            sleep(Duration::from_millis(50)).await;
        }
    };
    let both = async { tokio::join!(send, read) };
    let _ = timeout(A_SECOND, both).await;
    (peer.all_requests() - requests, peer.connections() - connections)
}

async fn check(properties: &[(&str, &str)]) {
    let behaviours = [
        // Idle but for 20 records a second.
        Behaviour::Broker,
        Behaviour::BrokerThatCloses(ApiKey::Fetch),
        Behaviour::BrokerThatCloses(ApiKey::Produce),
        Behaviour::BrokerThatCloses(ApiKey::ListOffsets),
        Behaviour::BrokerThatCloses(ApiKey::InitProducerId),
    ];
    for behaviour in behaviours {
        let (requests, connections) = in_a_second(behaviour, properties).await;
        assert!(requests <= 220, "{requests} requests in a second of {behaviour:?} with {properties:?}");
        assert!(
            connections <= 80,
            "{connections} connections in a second of {behaviour:?} with {properties:?}"
        );
    }
}

#[tokio::test]
async fn no_duration_set_to_zero_makes_a_storm() {
    let mut taken = Vec::new();
    let durations = SETTINGS.iter().filter(|setting| setting.unit() == Unit::Milliseconds);
    for setting in durations {
        // Some cannot be zero.
        if Client::from_properties([(setting.name, "0")]).is_ok() {
            taken.push((setting.name, "0"));
        }
    }
    assert!(taken.len() > 4, "{taken:?}");
    let mut checks = tokio::task::JoinSet::new();
    for property in taken {
        checks.spawn(async move { check(&[property]).await });
    }
    while let Some(checked) = checks.join_next().await {
        checked.expect("no storm");
    }
}

#[tokio::test]
async fn all_backoffs_and_ages_set_to_zero_in_code_make_no_storm() {
    for behaviour in [Behaviour::Broker, Behaviour::BrokerThatCloses(ApiKey::Metadata)] {
        let peer = Peer::start(Behaviour::Broker).await;
        let connecting = Client::builder().bootstrap(&peer.address()).settings(|settings| {
            settings.metadata_age_max = Duration::ZERO;
            settings.retry_backoff = Duration::ZERO;
            settings.retry_backoff_max = Duration::ZERO;
            settings.reconnect_backoff = Duration::ZERO;
            settings.reconnect_backoff_max = Duration::ZERO;
            settings.unknown_topic_wait = Duration::ZERO;
        });
        let client = connecting.connect().await.expect("connected");
        let building =
            client.consumer_direct().assign([("t", 0)], Position::Earliest).fetch_wait(Duration::ZERO);
        let consumer = building.build().await.expect("built");
        peer.set_behaviour(behaviour);
        let before = peer.all_requests();
        sleep(A_SECOND).await;
        let requests = peer.all_requests() - before;
        assert!(requests <= 200, "{requests} requests in a second, nearly all of them fetches");
        assert!(
            peer.requests(ApiKey::Metadata) <= 40,
            "{} metadata requests",
            peer.requests(ApiKey::Metadata)
        );
        drop(consumer);
    }
}
