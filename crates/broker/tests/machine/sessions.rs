//! Incremental fetch sessions (KIP-227): which partitions an answer has, and when.

use std::time::Duration;

use milena_messages::ErrorCode;
use milena_messages::fetch::{FetchRequest, FetchResponse, ForgottenTopic};

use crate::rig::{FETCH, Outcome, Rig, batch, fetch, is_due};

fn rig() -> Rig {
    let rig = Rig::new(1);
    rig.create("t", 4, &[]);
    rig
}

fn request(session_id: i32, session_epoch: i32, wanted: &[(i32, i64)]) -> FetchRequest {
    let mut request = FetchRequest { session_id, session_epoch, ..fetch("t", wanted) };
    request.topics.retain(|topic| !topic.partitions.is_empty());
    request
}

fn told(response: &FetchResponse) -> Vec<i32> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|data| data.partition_index).collect()
}

const ALL: [(i32, i64); 4] = [(0, 0), (1, 0), (2, 0), (3, 0)];

/// A session over all four partitions.
fn open(rig: &Rig) -> i32 {
    let response = rig.ask(1, FETCH, &request(0, 0, &ALL));
    assert_ne!(response.session_id, 0);
    assert_eq!(told(&response), [0, 1, 2, 3], "a new session is answered with all partitions");
    response.session_id
}

#[test]
fn a_session_is_told_only_news() {
    let rig = rig();
    let id = open(&rig);
    assert!(told(&rig.ask(1, FETCH, &request(id, 1, &[]))).is_empty());
    rig.produce("t", 2, batch(&["a"], None));
    assert_eq!(told(&rig.ask(1, FETCH, &request(id, 2, &[]))), [2]);
    assert_eq!(told(&rig.ask(1, FETCH, &request(id, 3, &[]))), [2], "its position did not move");
    assert!(told(&rig.ask(1, FETCH, &request(id, 4, &[(2, 1)]))).is_empty());
}

#[test]
fn partitions_join_and_leave() {
    let rig = rig();
    let id = open(&rig);
    let mut leave = request(id, 1, &[]);
    leave.forgotten_topics_data =
        vec![ForgottenTopic { topic: "t".into(), partitions: vec![0, 2, 7], ..Default::default() }];
    assert!(told(&rig.ask(1, FETCH, &leave)).is_empty());
    for index in 0..4 {
        rig.produce("t", index, batch(&["a"], None));
    }
    let mut heard = told(&rig.ask(1, FETCH, &request(id, 2, &[(1, 0)])));
    heard.sort_unstable();
    assert_eq!(heard, [1, 3]);
    let mut heard = told(&rig.ask(1, FETCH, &request(id, 3, &[(0, 1), (1, 1), (3, 1)])));
    heard.sort_unstable();
    assert_eq!(
        heard,
        [0],
        "a partition that was added is answered with its high watermark, even without records"
    );
}

#[test]
fn wrong_epochs_and_ids_are_refused_and_minus_one_ends_a_session() {
    let rig = rig();
    let id = open(&rig);
    let code = |id, epoch| {
        let response = rig.ask(1, FETCH, &request(id, epoch, &[]));
        (response.error_code, response.session_id)
    };
    assert_eq!(code(id, 2), (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 0));
    assert_eq!(code(id, 1), (ErrorCode::NONE, id));
    assert_eq!(code(id, 1), (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 0));
    assert_eq!(code(id ^ 1, 2), (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0));
    assert_eq!(code(id, 2), (ErrorCode::NONE, id), "a refused request changes nothing");
    assert_eq!(code(id, -1), (ErrorCode::NONE, 0));
    assert_eq!(code(id, 3), (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0));
}

#[test]
fn a_session_does_not_change_between_names_and_ids() {
    let rig = rig();
    let id = open(&rig);
    let response = rig.ask(1, 13, &request(id, 1, &[]));
    assert_eq!(response.error_code, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
}

#[test]
fn an_unknown_topic_is_told_until_it_exists() {
    let rig = Rig::new(1);
    let id = rig.ask(1, FETCH, &request(0, 0, &ALL)).session_id;
    let response = rig.ask(1, FETCH, &request(id, 1, &[]));
    assert_eq!(told(&response), [0, 1, 2, 3]);
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    rig.create("t", 4, &[]);
    let response = rig.ask(1, FETCH, &request(id, 2, &[]));
    assert_eq!(told(&response), [0, 1, 2, 3], "the end of an error is news");
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::NONE);
    assert!(told(&rig.ask(1, FETCH, &request(id, 3, &[]))).is_empty());
}

#[test]
fn a_parked_session_fetch_answers_with_the_partition_that_woke_it() {
    let mut rig = rig();
    let id = open(&rig);
    let wait = FetchRequest { min_bytes: 1, max_wait_ms: 500, ..request(id, 1, &[]) };
    let Ok(Outcome::Parked(parked)) = rig.try_send(1, FETCH, &wait) else { panic!("nothing is there") };
    rig.produce("t", 3, batch(&["a"], None));
    assert!(is_due(&parked));
    let Outcome::Answered(response) = rig.resume::<FetchRequest>(FETCH, parked) else {
        panic!("it has enough")
    };
    assert_eq!(told(&response), [3]);
    let wait = FetchRequest { min_bytes: 1, max_wait_ms: 500, ..request(id, 2, &[(3, 1)]) };
    let Ok(Outcome::Parked(parked)) = rig.try_send(1, FETCH, &wait) else { panic!("nothing is there") };
    rig.pass(Duration::from_millis(500));
    let Outcome::Answered(response) = rig.resume::<FetchRequest>(FETCH, parked) else { panic!("time is up") };
    assert!(told(&response).is_empty());
}

#[test]
fn no_partition_starves_behind_busy_ones() {
    let rig = rig();
    for index in 0..4 {
        for _ in 0..50 {
            rig.produce("t", index, batch(&[&"x".repeat(1000)], None));
        }
    }
    let first = FetchRequest { max_bytes: 1000, ..request(0, 0, &ALL) };
    let response = rig.ask(1, FETCH, &first);
    let id = response.session_id;
    let mut served = Vec::new();
    for epoch in 1..=8 {
        let next = FetchRequest { max_bytes: 1000, ..request(id, epoch, &[]) };
        let response = rig.ask(1, FETCH, &next);
        let with_records = response.responses[0].partitions.iter();
        let with_records = with_records.filter(|data| data.records.as_ref().is_some_and(|r| !r.is_empty()));
        served.extend(with_records.map(|data| data.partition_index));
    }
    assert_eq!(
        served,
        [0, 1, 2, 3, 0, 1, 2, 3],
        "the first, full answer leaves the order as it is, as in Kafka"
    );
}

#[test]
fn a_full_cache_evicts_only_sessions_that_were_unused_for_long() {
    let mut rig = rig();
    let mut ids: Vec<i32> = (0..1000).map(|_| open(&rig)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1000);
    let response = rig.ask(1, FETCH, &request(0, 0, &ALL));
    assert_eq!((response.session_id, told(&response)), (0, vec![0, 1, 2, 3]), "answered without a session");
    rig.pass(Duration::from_secs(121));
    for &id in &ids[1..] {
        rig.ask(1, FETCH, &request(id, 1, &[]));
    }
    open(&rig);
    let oldest = rig.ask(1, FETCH, &request(ids[0], 1, &[]));
    assert_eq!(oldest.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(
        rig.ask(1, FETCH, &request(0, 0, &ALL)).session_id,
        0,
        "the other sessions were used just now"
    );
    let more = [&ALL[..], &[(4, 0)]].concat();
    assert_ne!(rig.ask(1, FETCH, &request(0, 0, &more)).session_id, 0, "more partitions push out fewer");
}

#[test]
fn what_a_request_adds_and_forgets_is_forgotten() {
    let rig = rig();
    let id = open(&rig);
    for index in 0..4 {
        rig.produce("t", index, batch(&["a"], None));
    }
    let both = |epoch, index: i32| FetchRequest {
        forgotten_topics_data: vec![ForgottenTopic {
            topic: "t".into(),
            partitions: vec![index],
            ..Default::default()
        }],
        ..request(id, epoch, &[(index, 0)])
    };
    assert_eq!(told(&rig.ask(1, FETCH, &both(1, 1))), [0, 2, 3], "Kafka adds first and forgets then");
    assert_eq!(told(&rig.ask(1, FETCH, &request(id, 2, &[]))), [0, 2, 3]);
    assert_eq!(told(&rig.ask(1, FETCH, &both(3, 5))), [0, 2, 3], "one that was not there before");
    assert_eq!(told(&rig.ask(1, FETCH, &request(id, 4, &[]))), [0, 2, 3]);
}

#[test]
fn what_does_not_exist_comes_last_and_cuts_no_wait_short() {
    let rig = rig();
    let wait = FetchRequest { min_bytes: 1, max_wait_ms: 500, ..request(0, 0, &[(9, 0), (1, 0)]) };
    let Ok(Outcome::Parked(parked)) = rig.try_send(1, FETCH, &wait) else { panic!("it waits for a record") };
    rig.produce("t", 1, batch(&["a"], None));
    let Outcome::Answered(response) = rig.resume::<FetchRequest>(FETCH, parked) else {
        panic!("it is there")
    };
    assert_eq!(told(&response), [1, 9]);
    let alone = FetchRequest { min_bytes: 1, max_wait_ms: 500, ..request(0, 0, &[(9, 0)]) };
    assert_eq!(told(&rig.ask(1, FETCH, &alone)), [9], "there is nothing to wait for");
}
