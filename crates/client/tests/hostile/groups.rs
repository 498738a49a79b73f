//! Brokers that do not answer about groups, or answer something else.

use std::time::Duration;

use milena::{Admin, Client, Error, ErrorKind, GroupFilter, Protocol};
use milena_messages::ApiKey;
use tokio::time::timeout;

use super::peer::{Behaviour, Peer};

const PATIENCE: Duration = Duration::from_secs(30);

/// The error of each call about group `g`.
async fn errors(admin: &Admin) -> Vec<(&'static str, Error)> {
    let calls = async {
        let listed = admin.list_group_offsets(["g"]).await.remove(0).1;
        let listed_of = admin.list_group_offsets_of("g", [("t", 0)]).await.and_then(|mut of| of.remove(0).1);
        let altered = admin.alter_group_offsets("g", [(("t", 0), 1)]).await.and_then(|mut of| of.remove(0).1);
        vec![
            ("describe", admin.describe_groups(["g"]).await.remove(0).1.err()),
            ("list", listed.err()),
            ("list of", listed_of.err()),
            ("alter", altered.err()),
            ("delete offsets", admin.delete_group_offsets("g", [("t", 0)]).await.remove(0).1.err()),
            ("delete", admin.delete_groups(["g"]).await.remove(0).1.err()),
            ("remove", admin.remove_members("g", ["i"]).await.remove(0).1.err()),
        ]
    };
    let errors = timeout(PATIENCE, calls).await.expect("nothing hangs");
    errors.into_iter().filter_map(|(call, error)| Some((call, error?))).collect()
}

#[tokio::test]
async fn a_broker_that_does_not_list_its_groups_is_named_beside_the_groups_of_the_other() {
    let silent = Peer::start(Behaviour::Silent).await;
    let peer = Peer::start_in(Behaviour::Broker, "127.0.0.1", vec![silent.socket_address()]).await;
    let client = Client::connect(&peer.address()).await.expect("connected");
    let admin = client.admin().timeout(Duration::from_secs(3));
    let listing = timeout(PATIENCE, admin.list_groups(&GroupFilter::all())).await.expect("in time");
    let listing = listing.expect("one broker answers");
    assert!(matches!(&listing.groups[..], [group] if group.group == "g"), "{listing:?}");
    let [(2, error)] = &listing.failed[..] else { panic!("{listing:?}") };
    assert!(error.to_string().starts_with("listing the groups of broker 2: "), "{error}");
}

#[tokio::test]
async fn an_answer_that_leaves_out_what_was_asked_is_the_brokers_fault() {
    let peer = Peer::start(Behaviour::Broker).await;
    let client = Client::connect(&peer.address()).await.expect("connected");
    let errors = errors(&client.admin()).await;
    // Of all partitions nothing can be left out.
    let calls: Vec<_> = errors.iter().map(|(call, _)| *call).collect();
    assert_eq!(calls, ["describe", "list of", "alter", "delete offsets", "delete", "remove"]);
    for (call, error) in errors {
        assert_eq!(error.kind(), ErrorKind::Protocol, "{call}: {error}");
        let is_order = !matches!(call, "describe" | "list of");
        assert_eq!(error.maybe_written(), is_order, "{call}: {error}");
    }
}

#[tokio::test]
async fn garbage_about_groups_fails_its_call_alone() {
    const ABOUT_GROUPS: &[ApiKey] = &[
        ApiKey::DescribeGroups,
        ApiKey::OffsetFetch,
        ApiKey::OffsetCommit,
        ApiKey::OffsetDelete,
        ApiKey::DeleteGroups,
        ApiKey::LeaveGroup,
    ];
    // Two billion groups in an answer of a few bytes; lengths that are negative; an end within the first field.
    for body in [&[0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x07][..], &[0xff; 40], &[0]] {
        let peer = Peer::start(Behaviour::BrokerButBody(ABOUT_GROUPS, body)).await;
        let client = Client::connect(&peer.address()).await.expect("connected");
        let errors = errors(&client.admin().timeout(Duration::from_secs(5))).await;
        assert_eq!(errors.len(), 7, "{errors:?}");
        client.admin().topics().await.expect("the client goes on");
    }
}

#[tokio::test]
async fn a_member_that_is_answered_with_garbage_says_so_and_can_be_closed() {
    const OF_MEMBERS: &[ApiKey] = &[
        ApiKey::JoinGroup,
        ApiKey::SyncGroup,
        ApiKey::Heartbeat,
        ApiKey::ConsumerGroupHeartbeat,
        ApiKey::OffsetFetch,
        ApiKey::LeaveGroup,
    ];
    for protocol in [Protocol::Classic, Protocol::Consumer] {
        for body in [&[0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x07][..], &[0xff; 40], &[0]] {
            let peer = Peer::start(Behaviour::BrokerButBody(OF_MEMBERS, body)).await;
            let builder =
                Client::builder().bootstrap(&peer.address()).request_timeout(Duration::from_secs(2));
            let client = builder.connect().await.expect("connected");
            let mut member =
                client.consumer("g").subscribe(["t"]).protocol(protocol).build().await.expect("built");
            let error = timeout(PATIENCE, member.next()).await.expect("it is told").expect_err("no batch");
            assert_eq!(error.kind(), ErrorKind::Protocol, "{protocol:?}, {body:?}: {error}");
            let asked: usize = OF_MEMBERS.iter().map(|key| peer.requests(*key)).sum();
            assert!((1..=4).contains(&asked), "{protocol:?}, {body:?}: {asked} requests");
            client.admin().topics().await.expect("the client goes on");
            let _ = timeout(PATIENCE, member.close()).await.expect("closing does not hang");
            assert!(matches!(timeout(PATIENCE, member.next()).await, Ok(Ok(None))), "{protocol:?}, {body:?}");
        }
    }
}
