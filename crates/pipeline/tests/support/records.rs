// Records as a consumer gets them, for tests and for the examples in the documentation.

/// A key, a value and headers.
pub(crate) type Contents<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// A record with this key and value, of partition 0 of the topic "orders".
#[allow(dead_code)]
pub(crate) fn record(key: &str, value: &str) -> milena_pipeline::Record {
    record_with(key, value, &[])
}

/// A record with this key, value and headers.
#[allow(dead_code)]
pub(crate) fn record_with(key: &str, value: &str, headers: &[(&str, &str)]) -> milena_pipeline::Record {
    records(&[(key, value, headers)]).remove(0)
}

/// Records that were written to an embedded broker and read back, on a runtime of their own: that of a test may have a clock
/// that stands still.
pub(crate) fn records(contents: &[Contents<'_>]) -> Vec<milena_pipeline::Record> {
    let read = async {
        let cluster = milena_broker::Broker::builder().start().await.expect("started");
        cluster.create_topic("orders", 1).expect("created");
        let client = milena::Client::connect(cluster.bootstrap()).await.expect("connected");
        let producer = client.producer().build().await.expect("built");
        for (key, value, headers) in contents {
            let mut record = milena::Record::to("orders").key(*key).value(*value);
            for (name, value) in *headers {
                record = record.header(name, *value);
            }
            producer.send(record).await.expect("written");
        }
        let mut consumer = client
            .consumer_direct()
            .assign([("orders", 0)], milena::Position::Earliest)
            .build()
            .await
            .expect("built");
        let mut records = Vec::new();
        while records.len() < contents.len() {
            let batch = consumer.next().await.expect("read").expect("a batch").share();
            records.extend(batch.records().map(milena_pipeline::Record::from));
        }
        records
    };
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    std::thread::scope(|scope| scope.spawn(|| runtime().block_on(read)).join().expect("read"))
}
