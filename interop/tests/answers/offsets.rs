//! Offsets by time and by leader epoch, coordinators, and requests that brokers do not know.

use milena_interop::letter::{Letter, TIME};
use milena_interop::raw;
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::describe_cluster::DescribeClusterRequest;
use milena_messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use milena_messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use milena_messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use milena_wire::codec::Compression;

use super::{Asker, compare};

/// Three batches: times 10, 20, 30; 40, 35 (compressed); 50, 50.
fn fill(asker: &mut Asker, topic: &str) {
    let times: [(&[i64], Compression); 3] =
        [(&[10, 20, 30], Compression::None), (&[40, 35], Compression::Gzip), (&[50, 50], Compression::None)];
    for (times, compression) in times {
        let letters: Vec<Letter> = times
            .iter()
            .map(|time| Letter { timestamp: TIME + time, ..Letter::value(0, &[b'x'; 50]) })
            .collect();
        let records = Some(raw::batch(&letters, compression).unwrap());
        let data = PartitionProduceData { index: 0, records, ..Default::default() };
        let data = TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 5_000, topic_data: vec![data], ..Default::default() };
        asker.raw.call(&request, 9).unwrap();
    }
}

fn list(asker: &mut Asker, what: &str, topic: &str, wanted: ListOffsetsPartition, version: i16) {
    let what = format!("{what} v{version}");
    let topic = ListOffsetsTopic { name: topic.into(), partitions: vec![wanted], ..Default::default() };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let Some(response) = asker.ask(&what, &request, version) else { return };
    for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
        asker.say(
            &what,
            (answer.partition_index, answer.error_code, answer.timestamp, answer.offset, answer.leader_epoch),
        );
    }
}

fn at(partition_index: i32, timestamp: i64) -> ListOffsetsPartition {
    ListOffsetsPartition { partition_index, timestamp, ..Default::default() }
}

#[test]
fn offsets_by_time_are_kafkas() {
    compare(|asker| {
        asker.create("times", 2);
        fill(asker, "times");
        for version in [1, 2, 4, 6, 7, 8, 9, 10] {
            for timestamp in [-1, -2, -3, -4, -5] {
                list(asker, &format!("special {timestamp}"), "times", at(0, timestamp), version);
                list(asker, &format!("special {timestamp}, empty"), "times", at(1, timestamp), version);
            }
        }
        for time in [0, 10, 11, 20, 30, 31, 35, 36, 40, 41, 50, 51] {
            list(asker, &format!("time {time}"), "times", at(0, TIME + time), 7);
        }
        list(asker, "time 0, empty", "times", at(1, TIME), 7);
        list(asker, "time zero", "times", at(0, 0), 7);
        list(asker, "unknown special", "times", at(0, -77), 7);
        list(asker, "unknown topic", "nowhere", at(0, -1), 7);
        list(asker, "unknown partition", "times", at(9, -1), 7);
        for current_leader_epoch in [-1, 0, 1] {
            let wanted = ListOffsetsPartition { current_leader_epoch, ..at(0, -1) };
            list(asker, &format!("leader epoch {current_leader_epoch}"), "times", wanted, 7);
        }
    });
}

#[test]
fn ends_of_leader_epochs_are_kafkas() {
    compare(|asker| {
        asker.create("epochs", 2);
        fill(asker, "epochs");
        for (topic, partition) in [("epochs", 0), ("epochs", 1), ("epochs", 9), ("nowhere", 0)] {
            for (leader_epoch, current_leader_epoch) in
                [(-1, -1), (0, -1), (1, -1), (9, -1), (0, 0), (0, 1), (0, 7)]
            {
                let wanted = OffsetForLeaderPartition {
                    partition,
                    leader_epoch,
                    current_leader_epoch,
                    ..Default::default()
                };
                let wanted = OffsetForLeaderTopic {
                    topic: topic.into(),
                    partitions: vec![wanted],
                    ..Default::default()
                };
                let request = OffsetForLeaderEpochRequest {
                    replica_id: -1,
                    topics: vec![wanted],
                    ..Default::default()
                };
                for version in [2, 4] {
                    let request = if version == 2 {
                        OffsetForLeaderEpochRequest { replica_id: -2, ..request.clone() }
                    } else {
                        request.clone()
                    };
                    let what = format!(
                        "{topic}-{partition} epoch {leader_epoch} current {current_leader_epoch} v{version}"
                    );
                    let Some(response) = asker.ask(&what, &request, version) else { continue };
                    for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
                        asker.say(&what, (answer.error_code, answer.leader_epoch, answer.end_offset));
                    }
                }
            }
        }
    });
}

#[test]
fn a_cluster_describes_itself_as_kafka_does() {
    compare(|asker| {
        for (what, endpoint_type, version) in
            [("brokers", 1, 0), ("brokers", 1, 2), ("controllers", 2, 1), ("nothing known", 9, 1)]
        {
            let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
            let Some(response) = asker.ask(what, &request, version) else { continue };
            let brokers: Vec<_> =
                response.brokers.iter().map(|broker| (broker.broker_id, broker.is_fenced)).collect();
            asker.say(what, (response.error_code, response.controller_id, brokers));
        }
    });
}

#[test]
fn versions_nobody_knows_are_answered_as_kafka_does() {
    compare(|asker| {
        let request = ApiVersionsRequest {
            client_software_name: "interop".into(),
            client_software_version: "1".into(),
            ..Default::default()
        };
        for version in [0, 3, 4] {
            let Some(response) = asker.ask("api versions", &request, version) else { continue };
            asker.say(&format!("v{version}"), response.error_code);
        }
        // Brokers close the connection on other APIs and versions that do not exist: an unknown key, a key that is gone with
        // ZooKeeper, and known keys in versions after the last one. A request begins with its key and version.
        for (key, version) in [(1234, 0), (-1, 0), (4, 0), (3, 99), (3, -1), (0, 99), (1, 3)] {
            let what = format!("key {key} version {version}");
            let mut frame = 14_i32.to_be_bytes().to_vec();
            frame.extend([i16::to_be_bytes(key), i16::to_be_bytes(version), [0; 2], [7; 2]].concat());
            frame.extend_from_slice(&[0, 3, b'a', b'b', b'c', 0]);
            let mut stream = std::net::TcpStream::connect(asker.address()).unwrap();
            stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            std::io::Write::write_all(&mut stream, &frame).unwrap();
            let answered = std::io::Read::read(&mut stream, &mut [0; 4]);
            asker.say(&what, answered.is_ok_and(|bytes| bytes > 0));
        }
        let odd = ApiVersionsRequest { client_software_name: "not allowed!".into(), ..request };
        let Some(response) = asker.ask("a bad name", &odd, 3) else { return };
        asker.say("a bad name", response.error_code);
    });
}
