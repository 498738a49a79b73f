//! Connections as the machine sees them.

use std::net::SocketAddr;

use milena_broker::Peer;
use milena_messages::ErrorCode;
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::metadata::MetadataRequest;

use crate::rig::{Rig, frame};

fn address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 7], 40_000))
}

fn named(name: &str) -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: name.into(),
        client_software_version: "2.11.0".into(),
        ..Default::default()
    }
}

#[test]
fn every_connection_is_another_peer_of_a_node_that_is_up() {
    let rig = Rig::new(2);
    let (one, two) = (rig.connect(1), rig.connect(2));
    assert_ne!(one.connection(), two.connection());
    assert_eq!((one.node(), two.node()), (1, 2));
    rig.machine.stop_node(2).expect("there is a node 2");
    let refused = |node| rig.machine.connect(node, address(), rig.now).expect_err("refused").to_string();
    assert_eq!(refused(2), "node 2 is down");
    assert_eq!(refused(3), "there is no node 3");
    rig.machine.start_node(2).expect("there is a node 2");
    assert_ne!(rig.connect(2).connection(), two.connection());
}

#[test]
fn a_node_that_stops_gives_its_partitions_up_and_gets_none_back_by_itself() {
    let rig = Rig::with(milena_broker::Broker::builder().nodes(2).default_replication(2));
    rig.create("t", 2, &[]);
    let leaders = || {
        let response = rig.ask(1, 12, &MetadataRequest { topics: None, ..Default::default() });
        let partitions = response.topics[0].partitions.iter();
        partitions.map(|partition| partition.leader_id).collect::<Vec<_>>()
    };
    assert_eq!(leaders(), [1, 2]);
    rig.machine.stop_node(2).expect("there is a node 2");
    assert_eq!(leaders(), [1, 1]);
    rig.machine.start_node(2).expect("there is a node 2");
    assert_eq!(leaders(), [1, 1]);
}

#[test]
fn a_peer_learns_what_its_client_is_from_valid_names_only() {
    let rig = Rig::new(1);
    let mut peer = rig.machine.connect(1, address(), rig.now).expect("node 1 is up");
    let ask = |peer: &mut Peer, version, request: &ApiVersionsRequest| {
        let answer = rig.machine.handle(peer, &frame(version, request), rig.now, usize::MAX);
        Rig::outcome::<ApiVersionsRequest>(version, answer.expect("understood")).answered().error_code
    };
    // Version 0 has no names.
    assert_eq!(ask(&mut peer, 0, &ApiVersionsRequest::default()), ErrorCode::NONE);
    assert_eq!(ask(&mut peer, 3, &named("a b")), ErrorCode::INVALID_REQUEST);
    assert_eq!((peer.software(), peer.to_string().as_str()), (None, "10.0.0.7:40000"));
    assert_eq!(ask(&mut peer, 3, &named("librdkafka")), ErrorCode::NONE);
    assert_eq!(peer.software(), Some(("librdkafka", "2.11.0")));
    assert_eq!(peer.to_string(), "10.0.0.7:40000 (librdkafka 2.11.0)");
    assert_eq!(rig.connect(1).software(), None, "the next connection says it again");
}
