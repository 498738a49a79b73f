//! Fetching from the closest replica, and going back to the leader (KIP-392).

use super::*;

const LEADER: BrokerId = BrokerId(1);
const NEAR: BrokerId = BrokerId(2);

/// Broker 1 leads both partitions, and brokers 0 to 3 are up.
fn lab() -> Lab {
    let settings = Settings { rack: "here".into(), reset: Some(Position::Latest), ..settings() };
    Lab::new(settings, Position::Offset(5))
}

/// The answer that names `replica` for a partition, in place of records.
fn see(partition_index: i32, replica: i32) -> PartitionData {
    PartitionData {
        partition_index,
        high_watermark: 1000,
        preferred_read_replica: replica,
        ..Default::default()
    }
}

impl Lab {
    /// All fetches that go out now.
    fn fetches(&mut self) -> Vec<Fetch> {
        std::iter::from_fn(|| self.source.poll_fetch(self.now, ROOM)).collect()
    }

    fn fetch_from(&mut self, broker: BrokerId) -> Fetch {
        let fetches = self.fetches();
        let found = fetches.into_iter().find(|fetch| fetch.lane.broker == broker);
        found.unwrap_or_else(|| panic!("no fetch from broker {broker}"))
    }

    /// Partition 0 is fetched from the follower, whose fetch is under way.
    fn referred() -> (Self, Fetch) {
        let mut lab = lab();
        let first = lab.fetch_from(LEADER);
        assert_eq!(first.request.rack_id, "here");
        lab.answer(&first, response(7, vec![see(0, NEAR.0)]));
        let fetches = lab.fetches();
        let of = |broker| fetches.iter().find(|fetch| fetch.lane.broker == broker).map(named);
        assert_eq!(of(NEAR), Some((vec![(0, 5)], vec![])));
        assert_eq!(of(LEADER), Some((vec![], vec![0])), "the leader's session forgets it");
        let of_follower = fetches.into_iter().find(|fetch| fetch.lane.broker == NEAR).expect("seen");
        (lab, of_follower)
    }
}

#[test]
fn a_partition_is_fetched_from_the_replica_that_its_leader_names() {
    let (mut lab, fetch) = Lab::referred();
    assert_eq!(lab.answer(&fetch, response(9, vec![data(0, batch(5, 3))])), ["0:5..8"]);
    let next = lab.fetch_from(NEAR);
    assert_eq!(named(&next), (vec![(0, 8)], vec![]));
}

#[test]
fn without_a_rack_leaders_are_not_told_any() {
    let mut lab = Lab::new(settings(), Position::Offset(5));
    assert_eq!(lab.fetch().request.rack_id, "");
}

#[test]
fn errors_of_a_follower_lead_back_to_the_leader_and_reset_nothing() {
    for code in [
        ErrorCode::OFFSET_OUT_OF_RANGE,
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
    ] {
        let (mut lab, fetch) = Lab::referred();
        assert_eq!(lab.answer(&fetch, response(9, vec![refused(0, code)])), [""; 0], "{code}");
        assert!(lab.source.poll_lookup(lab.now, UNIX_MS).is_none(), "{code}: it is no reset");
        let back = lab.fetch_from(LEADER);
        assert_eq!(named(&back).0, [(0, 5)], "{code}: at once");
        // It would name the same follower again.
        assert_eq!(back.request.rack_id, "", "{code}");
        // What the leader says counts.
        if code == ErrorCode::OFFSET_OUT_OF_RANGE {
            lab.answer(&back, response(7, vec![refused(0, code)]));
            assert!(lab.source.poll_lookup(lab.now, UNIX_MS).is_some(), "the reset policy");
        }
    }
}

#[test]
fn what_a_follower_says_after_it_was_left_does_not_count() {
    let (mut lab, fetch) = Lab::referred();
    lab.source.handle_metadata(&snapshot("t", &[(3, 1), (1, 0)]), lab.now);
    assert_eq!(lab.answer(&fetch, response(9, vec![refused(0, ErrorCode::OFFSET_OUT_OF_RANGE)])), [""; 0]);
    assert!(lab.source.poll_lookup(lab.now, UNIX_MS).is_none(), "it is no reset");
    assert_eq!(named(&lab.fetch_from(BrokerId(3))).0, [(0, 5)], "from the new leader");
}

#[test]
fn a_follower_that_cannot_be_reached_is_left_at_once() {
    let (mut lab, fetch) = Lab::referred();
    let lost = Failure::Lost { peer: "b".into(), reason: "cut".into(), sent: true };
    lab.source.handle_fetched(fetch.lane, fetch.number, Err(lost), lab.now, Instant::ORIGIN, lab.now);
    assert!(lab.source.poll_metadata_wanted());
    assert_eq!(named(&lab.fetch_from(LEADER)).0, [(0, 5)]);
}

#[test]
fn a_follower_that_is_not_in_the_metadata_is_not_fetched_from_and_stops_nothing() {
    let mut lab = lab();
    let first = lab.fetch_from(LEADER);
    lab.answer(&first, response(7, vec![see(0, 19)]));
    assert!(lab.source.poll_metadata_wanted(), "it may be new");
    let again = lab.fetch_from(LEADER);
    assert_eq!(again.request.rack_id, "", "it would name broker 19 again, as fast as it answers");
    assert_eq!(lab.answer(&again, response(7, vec![data(0, batch(5, 3))])), ["0:5..8"]);
    // Later it is asked again.
    lab.wait(30_000);
    let later = lab.fetch_from(LEADER);
    assert_eq!(later.request.rack_id, "here");
    lab.answer(&later, response(7, vec![see(0, NEAR.0)]));
    assert_eq!(named(&lab.fetch_from(NEAR)).0, [(0, 8)]);
}

#[test]
fn a_follower_that_goes_down_is_left() {
    let (mut lab, _) = Lab::referred();
    let mut snapshot = snapshot("t", &[(1, 0), (1, 0)]);
    snapshot.brokers.remove(&NEAR);
    lab.source.handle_metadata(&snapshot, lab.now);
    assert_eq!(named(&lab.fetch_from(LEADER)).0, [(0, 5)]);
}

#[test]
fn after_five_minutes_the_leader_is_asked_anew() {
    let (mut lab, fetch) = Lab::referred();
    lab.answer(&fetch, response(9, vec![data(0, batch(5, 3))]));
    lab.wait(299_000);
    assert_eq!(named(&lab.fetch_from(NEAR)).0, [(0, 8)], "not earlier");
    assert_eq!(lab.source.poll_timeout(lab.now), Some(Instant::ORIGIN + Duration::from_secs(300)));
    lab.wait(1000);
    let asked = lab.fetch_from(LEADER);
    assert_eq!((named(&asked).0, &*asked.request.rack_id), (vec![(0, 8)], "here"));
    // There is a nearer one by now.
    lab.answer(&asked, response(7, vec![see(0, 3)]));
    assert_eq!(named(&lab.fetch_from(BrokerId(3))).0, [(0, 8)]);
}

#[test]
fn a_leader_that_names_itself_or_a_follower_that_names_another_changes_nothing() {
    let mut lab = lab();
    let first = lab.fetch_from(LEADER);
    assert_eq!(
        lab.answer(
            &first,
            response(7, vec![PartitionData { preferred_read_replica: 1, ..data(0, batch(5, 3)) }])
        ),
        ["0:5..8"]
    );
    assert_eq!(named(&lab.fetch_from(LEADER)).0, [(0, 8)]);
    let (mut lab, fetch) = Lab::referred();
    let answer = PartitionData { preferred_read_replica: 3, ..data(0, batch(5, 3)) };
    assert_eq!(lab.answer(&fetch, response(9, vec![answer])), ["0:5..8"]);
    assert_eq!(named(&lab.fetch_from(NEAR)).0, [(0, 8)]);
}

#[test]
fn a_partition_that_is_assigned_again_begins_at_its_leader() {
    let (mut lab, _) = Lab::referred();
    lab.source.unassign(Slot(0), Epoch(1));
    let slot = lab.source.assign(&"t".into(), 0, Epoch(2), Position::Offset(5));
    assert_eq!(slot, Slot(0));
    assert_eq!(named(&lab.fetch_from(LEADER)).0, [(0, 5)]);
}
