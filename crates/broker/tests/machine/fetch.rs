//! The broker as a consumer sees it: limits, waiting, epochs.

use std::time::Duration;

use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchRequest, FetchResponse};

use crate::rig::{FETCH, Outcome, Rig, base_offsets, batch, fetch, is_due};

/// A topic of three partitions, ten batches of 1000-byte records in each.
fn filled() -> Rig {
    let rig = Rig::new(1);
    rig.create("t", 3, &[]);
    let value = "x".repeat(1000);
    for index in 0..3 {
        for _ in 0..10 {
            rig.produce("t", index, batch(&[&value], None));
        }
    }
    rig
}

fn counts(response: &FetchResponse) -> Vec<usize> {
    response.responses[0].partitions.iter().map(|data| base_offsets(data).len()).collect()
}

#[test]
fn the_limits_of_partition_and_response_hold_and_the_first_batch_always_comes() {
    let rig = filled();
    let ask = |partition_max: i32, max: i32| {
        let mut request = fetch("t", &[(0, 0), (1, 0), (2, 9)]);
        request.max_bytes = max;
        request.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = partition_max);
        counts(&rig.ask(1, FETCH, &request))
    };
    assert_eq!(ask(1 << 20, 1 << 20), [10, 10, 1]);
    assert_eq!(ask(3500, 1 << 20), [3, 3, 1], "a batch has 1071 bytes");
    assert_eq!(ask(1 << 20, 12_000), [10, 1, 0]);
    assert_eq!(ask(3500, 5500), [3, 2, 0]);
    assert_eq!(ask(1, 1 << 20), [1, 0, 0], "the first batch of all comes whatever its size (KIP-74)");
    assert_eq!(ask(0, 0), [1, 0, 0]);
    assert_eq!(ask(-1, -1), [1, 0, 0]);
}

#[test]
fn the_broker_has_a_limit_of_its_own() {
    let rig = Rig::with(milena_broker::Broker::builder().fetch_bytes_max(2500));
    rig.create("t", 1, &[]);
    for _ in 0..10 {
        rig.produce("t", 0, batch(&[&"x".repeat(1000)], None));
    }
    assert_eq!(base_offsets(&rig.fetch("t", 0, 3)), [3, 4]);
}

fn waiting(offset: i64, bytes_min: i32, wait_ms: i32) -> FetchRequest {
    FetchRequest { min_bytes: bytes_min, max_wait_ms: wait_ms, ..fetch("t", &[(0, offset), (1, 10)]) }
}

#[test]
fn a_fetch_waits_until_enough_was_appended_anywhere() {
    let mut rig = filled();
    let Ok(Outcome::Parked(parked)) = rig.try_send(1, FETCH, &waiting(10, 2000, 500)) else {
        panic!("nothing is there to answer with");
    };
    assert_eq!(parked.deadline(), rig.now.instant + Duration::from_millis(500));
    assert!(!is_due(&parked));
    rig.produce("t", 0, batch(&[&"x".repeat(1000)], None));
    rig.produce("t", 2, batch(&[&"x".repeat(5000)], None));
    assert!(!is_due(&parked), "1071 of 2000 bytes; partition 2 was not asked for");
    rig.produce("t", 1, batch(&[&"x".repeat(1000)], None));
    assert!(is_due(&parked));
    rig.pass(Duration::from_millis(100));
    let Outcome::Answered(response) = rig.resume::<FetchRequest>(FETCH, parked) else {
        panic!("it has enough");
    };
    assert_eq!(counts(&response), [1, 1]);
}

#[test]
fn at_the_deadline_a_fetch_is_answered_with_what_there_is() {
    let mut rig = filled();
    let Ok(Outcome::Parked(parked)) = rig.try_send(1, FETCH, &waiting(9, 5000, 500)) else {
        panic!("one batch is too little");
    };
    // Woken too early, by whatever cause, it parks again with the same deadline.
    rig.pass(Duration::from_millis(499));
    let deadline = parked.deadline();
    let Outcome::Parked(parked) = rig.resume::<FetchRequest>(FETCH, parked) else {
        panic!("too early");
    };
    assert_eq!(parked.deadline(), deadline);
    rig.pass(Duration::from_millis(1));
    let Outcome::Answered(response) = rig.resume::<FetchRequest>(FETCH, parked) else {
        panic!("time is up");
    };
    assert_eq!(counts(&response), [1, 0]);
}

#[test]
fn errors_and_little_wishes_do_not_wait() {
    let rig = filled();
    for request in [waiting(10, 0, 500), waiting(10, 1, 0), waiting(99, 1, 500), waiting(9, 1, 500)] {
        assert!(matches!(rig.try_send(1, FETCH, &request), Ok(Outcome::Answered(_))), "{request:?}");
    }
    let nothing = FetchRequest { topics: Vec::new(), ..waiting(0, 1, 500) };
    assert!(rig.ask(1, FETCH, &nothing).responses.is_empty());
}

#[test]
fn what_the_limits_keep_back_is_not_waited_for() {
    let rig = filled();
    let is_answered = |partition_max: i32, max: i32, min: i32| {
        let mut request = FetchRequest { max_bytes: max, ..waiting(0, min, 500) };
        request.topics[0].partitions.iter_mut().for_each(|p| p.partition_max_bytes = partition_max);
        matches!(rig.try_send(1, FETCH, &request), Ok(Outcome::Answered(_)))
    };
    assert!(is_answered(1 << 20, 1 << 20, 10_000), "there are 10 710 bytes");
    assert!(!is_answered(1 << 20, 1 << 20, 11_000));
    assert!(is_answered(1 << 20, 5_000, 11_000), "no more may be sent, and four batches are 4284 bytes");
    assert!(is_answered(3_500, 1 << 20, 3_500), "three are 3213");
    assert!(!is_answered(3_500, 1 << 20, 3_501), "a partition counts no more than its limit");
}

#[test]
fn deleting_the_topic_wakes_who_waits_on_it() {
    use milena_messages::delete_topics::DeleteTopicsRequest;
    let rig = filled();
    let Ok(Outcome::Parked(parked)) = rig.try_send(1, FETCH, &waiting(10, 1, 500)) else {
        panic!("nothing is there to answer with");
    };
    rig.ask(1, 5, &DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() });
    assert!(is_due(&parked));
    let Outcome::Answered(response) = rig.resume::<FetchRequest>(FETCH, parked) else {
        panic!("an error does not wait");
    };
    let codes: Vec<_> = response.responses[0].partitions.iter().map(|data| data.error_code).collect();
    assert_eq!(codes, [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION; 2]);
}

#[test]
fn offsets_outside_the_log_and_other_epochs_are_refused() {
    let rig = filled();
    let ask = |offset: i64, epoch: i32| {
        let mut request = fetch("t", &[(0, offset)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        rig.ask(1, FETCH, &request).responses[0].partitions[0].error_code
    };
    let table = [
        (10, -1, ErrorCode::NONE),
        (10, 0, ErrorCode::NONE),
        (10, 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
        (11, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
        (-1, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
        (i64::MAX, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
        (i64::MIN, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
    ];
    for (offset, epoch, expected) in table {
        assert_eq!(ask(offset, epoch), expected, "offset {offset}, epoch {epoch}");
    }
}

#[test]
fn topics_can_be_fetched_by_id_and_unknown_ids_are_told() {
    use milena_messages::metadata::MetadataRequest;
    let rig = filled();
    let id = rig.ask(1, 13, &MetadataRequest { topics: None, ..Default::default() }).topics[0].topic_id;
    let mut request = fetch("ignored", &[(0, 0)]);
    request.topics[0].topic_id = id;
    let response = rig.ask(1, 17, &request);
    assert_eq!(response.responses[0].topic_id, id);
    assert_eq!(base_offsets(&response.responses[0].partitions[0]).len(), 10);
    request.topics[0].topic_id = milena_wire::Uuid::from_bytes([1; 16]);
    let response = rig.ask(1, 17, &request);
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
}

/// Three nodes in three racks, each with a replica of "t"; node 1 leads it.
fn racks() -> Rig {
    let rig =
        Rig::with(milena_broker::Broker::builder().nodes(3).racks(["a", "b", "c"]).default_replication(3));
    rig.create("t", 1, &[]);
    rig.machine.move_leader("t", 0, 1).expect("moved");
    rig.produce("t", 0, batch(&["1", "2", "3"], None));
    rig
}

#[test]
fn a_leader_names_the_replica_in_the_consumers_rack() {
    let rig = racks();
    let ask = |node, version, rack: &str, offset| {
        let request = FetchRequest { rack_id: rack.into(), max_wait_ms: 0, ..fetch("t", &[(0, offset)]) };
        let response = rig.ask(node, version, &request);
        let data = &response.responses[0].partitions[0];
        (data.error_code, data.preferred_read_replica, base_offsets(data).len())
    };
    const NONE: ErrorCode = ErrorCode::NONE;
    let table = [
        (1, 12, "b", 0, (NONE, 2, 0)),
        (1, 12, "c", 3, (NONE, 3, 0)),
        (1, 12, "a", 0, (NONE, -1, 1)),
        (1, 12, "elsewhere", 0, (NONE, -1, 1)),
        (1, 12, "", 0, (NONE, -1, 1)),
        // The followers answer.
        (2, 12, "b", 0, (NONE, -1, 1)),
        (2, 12, "", 0, (NONE, -1, 1)),
        (2, 12, "a", 0, (NONE, -1, 1)),
        // No follower has such an offset.
        (1, 12, "b", 9, (ErrorCode::OFFSET_OUT_OF_RANGE, -1, 0)),
        // Before v11 only leaders answer.
        (1, 10, "", 0, (NONE, -1, 1)),
        (2, 10, "", 0, (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1, 0)),
    ];
    for (node, version, rack, offset, expected) in table {
        assert_eq!(ask(node, version, rack, offset), expected, "node {node}, v{version}, {rack:?}, {offset}");
    }
    // A follower that is down is not named.
    rig.machine.stop_node(2).expect("stopped");
    assert_eq!(ask(1, 12, "b", 0), (NONE, -1, 1));
}

#[test]
fn a_consumer_in_another_rack_is_not_made_to_wait_for_the_name_of_its_replica() {
    let rig = racks();
    let request = FetchRequest { rack_id: "b".into(), max_wait_ms: 60_000, ..fetch("t", &[(0, 3)]) };
    let response = rig.ask(1, FETCH_BY_NAME, &request);
    assert_eq!(response.responses[0].partitions[0].preferred_read_replica, 2);
}

const FETCH_BY_NAME: i16 = 12;
