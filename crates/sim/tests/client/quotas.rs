//! A client above its quotas: it waits, nothing of it fails, and no connection is lost.

use std::time::Duration;

use milena::{Client, Position, Record};
use milena_messages::ErrorCode;
use milena_messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntityData, AlterClientQuotasRequestEntryData, OpData,
};
use milena_sim::{Cluster, Sim, Trace};

const TOPIC: &str = "t";
/// Bytes a second.
const QUOTA: usize = 10_000;
const RECORDS: usize = 40;
const RECORD_BYTES: usize = 10_000;

/// Writes and reads four times what the quotas give in their whole time of ten seconds.
pub(crate) fn play() {
    let (sim, trace) = (Sim::new(1), Trace::default());
    let cluster = Cluster::start(&sim, 1, &trace);
    let operator = cluster.operator();
    operator.create_topic(TOPIC, 1, &[]);
    let op = |key: &str| OpData { key: key.into(), value: QUOTA as f64, ..Default::default() };
    // Every client id has its own.
    let of = AlterClientQuotasRequestEntityData {
        entity_type: "client-id".into(),
        entity_name: None,
        ..Default::default()
    };
    let entry = AlterClientQuotasRequestEntryData {
        entity: vec![of],
        ops: vec![op("producer_byte_rate"), op("consumer_byte_rate")],
        ..Default::default()
    };
    let request = AlterClientQuotasRequest { entries: vec![entry], ..Default::default() };
    assert_eq!(operator.ask(1, 1, &request).entries[0].error_code, ErrorCode::NONE);
    let ended = sim.block_on(work(sim.clone(), cluster));
    ended.unwrap_or_else(|stuck| panic!("{stuck:?}"));
    let counts = trace.counts();
    assert!(counts.get("a connection is muted").is_some_and(|count| *count > 10), "{counts:#?}");
}

async fn work(sim: Sim, cluster: Cluster) {
    let builder = Client::builder().bootstrap(&cluster.bootstrap()).seed(1);
    let builder = builder.runtime(sim.clone()).connector(cluster.connector());
    let client = builder.connect().await.expect("connected");
    // The first ten seconds' worth comes at once.
    let least = Duration::from_secs(((RECORDS * RECORD_BYTES) / QUOTA - 11) as u64);
    let began = sim.now();
    let producer = client.producer().build().await.expect("built");
    let value = vec![7; RECORD_BYTES];
    for offset in 0..RECORDS as i64 {
        let receipt = producer.send(Record::to(TOPIC).value(&value)).await.expect("written");
        assert_eq!(receipt.offset(), Some(offset));
    }
    assert!(sim.now() - began > least, "written within {:?}", sim.now() - began);
    let began = sim.now();
    let assigned = client.consumer_direct().assign([(TOPIC, 0)], Position::Earliest);
    let mut consumer = assigned.build().await.expect("built");
    let mut read = 0;
    while read < RECORDS {
        let batch = consumer.next().await.expect("read").expect("assigned");
        read += batch.iter().count();
    }
    assert!(sim.now() - began > least, "read within {:?}", sim.now() - began);
    assert_eq!(read, RECORDS);
}
