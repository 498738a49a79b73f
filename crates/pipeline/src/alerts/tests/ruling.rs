//! When alerts open and are resolved.

use super::*;
use crate::Stall;

/// One rule, and the snapshots that it sees once a second.
struct Watch {
    rules: Rules,
    snapshot: Snapshot,
    second: u64,
}

impl Watch {
    fn new(rule: Rule) -> Self {
        let mut it = Self {
            rules: Rules::new("billing".into(), epoch(), vec![rule]),
            snapshot: Snapshot::default(),
            second: 0,
        };
        assert_eq!(it.look(), []);
        it
    }

    fn look(&mut self) -> Vec<(u64, &'static str)> {
        let mut changes = Vec::new();
        self.rules.evaluate(self.second.s(), &self.snapshot, &mut changes);
        changes.iter().map(|alert| (self.second, alert.status())).collect()
    }

    /// Lets a second pass, after `change`.
    fn pass(&mut self, change: impl FnOnce(&mut Snapshot)) -> Vec<(u64, &'static str)> {
        change(&mut self.snapshot);
        self.second += 1;
        self.look()
    }

    fn pass_all(&mut self, seconds: u64, change: impl Fn(&mut Snapshot)) -> Vec<(u64, &'static str)> {
        (0..seconds).flat_map(|_| self.pass(&change)).collect()
    }

    fn summary(&self) -> String {
        self.rules.open().map(|alert| alert.summary.clone()).collect()
    }
}

fn dead(count: u64) -> impl Fn(&mut Snapshot) {
    move |snapshot| {
        snapshot.records_total += count;
        snapshot.dead_letters_total += count;
    }
}

fn processed(count: u64) -> impl Fn(&mut Snapshot) {
    move |snapshot| snapshot.records_total += count
}

fn nothing(_: &mut Snapshot) {}

fn stall(offset: i64, in_work: Duration) -> Stall {
    let (waiting_for_its_key, unstarted_of_its_partition) = (3, 7);
    Stall {
        topic: "orders".into(),
        partition: 1,
        offset,
        attempt: 2,
        in_work,
        waiting_for_its_key,
        unstarted_of_its_partition,
    }
}

#[test]
fn a_rate_above_the_limit_opens_one_alert_and_closes_it_once() {
    let mut watch = Watch::new(Rule::dead_letter_rate(10));
    assert_eq!(watch.pass(dead(10)), [], "the limit itself is allowed");
    assert_eq!(watch.pass(dead(1)), [(2, "firing")]);
    assert_eq!(watch.summary(), "11 records went to the dead letters within a minute; the limit is 10");
    // They count for a minute. Then 8 would be well, and stay so for three seconds.
    assert_eq!(watch.pass_all(100, nothing), [(64, "resolved")]);
    assert_eq!(watch.pass_all(1000, nothing), []);
    // What was counted before the rules looked is not news.
    let mut late = Rules::new("billing".into(), epoch(), vec![Rule::dead_letter_rate(0)]);
    let mut changes = Vec::new();
    let old = Snapshot { dead_letters_total: 1000, ..Snapshot::default() };
    late.evaluate(0.s(), &old, &mut changes);
    late.evaluate(1.s(), &old, &mut changes);
    assert_eq!(changes, []);
    // Nor is a pipeline that begins to count anew.
    late.evaluate(2.s(), &Snapshot::default(), &mut changes);
    assert_eq!(changes, []);
    late.evaluate(3.s(), &Snapshot { dead_letters_total: 1, ..Snapshot::default() }, &mut changes);
    assert_eq!(changes.len(), 1);
}

#[test]
fn an_alert_says_when_it_began_when_it_was_seen_and_when_it_ended() {
    let mut rules = Rules::new("billing".into(), epoch(), vec![Rule::retry_backlog(10).named("Backlog")]);
    let mut changes = Vec::new();
    for (second, retry_backlog) in [(0, 0), (1, 20), (2, 9), (3, 5), (6, 4)] {
        rules.evaluate(second.s(), &Snapshot { retry_backlog, ..Snapshot::default() }, &mut changes);
        if second == 3 {
            assert_eq!(rules.open().map(|alert| alert.seen_at).collect::<Vec<_>>(), [epoch() + 2.s()]);
        }
    }
    let opened = Alert {
        name: "Backlog".into(),
        pipeline: "billing".into(),
        severity: Severity::Warning,
        summary: "20 records wait for another attempt; the limit is 10".into(),
        value: 20.0,
        limit: 10.0,
        starts_at: epoch() + 1.s(),
        seen_at: epoch() + 1.s(),
        ends_at: None,
    };
    let end = epoch() + 6.s();
    let closed = Alert { value: 4.0, seen_at: end, ends_at: Some(end), ..opened.clone() };
    assert_eq!(changes, [opened, closed]);
    assert_eq!(rules.open().count(), 0);
}

#[test]
fn a_figure_that_stays_near_its_limit_is_one_alert() {
    let mut watch = Watch::new(Rule::retry_backlog(100));
    let mut changes = Vec::new();
    for second in 0..600 {
        changes
            .extend(watch.pass(|snapshot| snapshot.retry_backlog = if second % 2 == 0 { 101 } else { 81 }));
    }
    assert_eq!(changes, [(1, "firing")]);
    assert_eq!(watch.pass_all(4, |snapshot| snapshot.retry_backlog = 80), [(604, "resolved")]);
}

#[test]
fn an_alert_that_comes_and_goes_is_resolved_later_each_time() {
    let mut watch = Watch::new(Rule::records_stall());
    let mut opened_for = Vec::new();
    for _ in 0..9 {
        let begun = watch.pass(|snapshot| snapshot.stalls = vec![stall(1, 10.s())]);
        assert!(matches!(begun[..], [(_, "firing")]), "{begun:?}");
        let ended = watch.pass_all(301, |snapshot| snapshot.stalls.clear());
        let [(at, "resolved")] = ended[..] else { panic!("{ended:?}") };
        opened_for.push(at - begun[0].0 - 1);
    }
    assert_eq!(opened_for, [3, 6, 12, 24, 48, 96, 192, 300, 300]);
    // After ten quiet minutes it is as at first.
    watch.pass_all(600, nothing);
    watch.pass(|snapshot| snapshot.stalls = vec![stall(1, 10.s())]);
    assert_eq!(watch.pass_all(10, |snapshot| snapshot.stalls.clear()).len(), 1);
}

#[test]
fn a_ratio_needs_enough_records_and_counts_within_its_window() {
    let mut watch = Watch::new(Rule::dead_letter_ratio(5.0).window(60.s()).records_min(100));
    assert_eq!(watch.pass(dead(50)), [], "there are not enough records");
    assert_eq!(watch.pass(processed(49)), []);
    assert_eq!(watch.pass(processed(1)), [(3, "firing")]);
    assert_eq!(
        watch.summary(),
        "50.0 % of the records went to the dead letters within 60s; the limit is 5 %"
    );
    // 50 of 1250 is 4 %; three seconds later it is resolved.
    assert_eq!(watch.pass(processed(1149)), []);
    assert_eq!(watch.pass(processed(1)), []);
    assert_eq!(watch.pass_all(10, nothing), [(8, "resolved")]);
    assert_eq!(watch.pass_all(100, processed(10)), []);
    assert_eq!(watch.pass(dead(40)), [(116, "firing")], "40 of about 640");
    // A total of records that is a little behind.
    let mut watch = Watch::new(Rule::dead_letter_ratio(99.0).records_min(10));
    assert_eq!(watch.pass(|snapshot| snapshot.dead_letters_total += 10), [(1, "firing")]);
    // Limits that are none do not keep quiet what fails.
    let mut watch = Watch::new(Rule::dead_letter_ratio(f64::NAN));
    assert_eq!(watch.pass(dead(20)), [(1, "firing")]);
}

#[test]
fn facts_open_alerts_within_a_second() {
    let mut watch = Watch::new(Rule::oldest_dead_letter(1.hours()));
    assert_eq!(watch.pass(|snapshot| snapshot.oldest_dead_letter = Some(1.hours())), []);
    assert_eq!(watch.pass(|snapshot| snapshot.oldest_dead_letter = Some(3601.s())), [(2, "firing")]);
    assert_eq!(watch.summary(), "the oldest dead letter has waited for 3601 s; the limit is 3600 s");
    assert_eq!(
        watch.pass_all(9, |snapshot| snapshot.oldest_dead_letter = Some(59.minutes())),
        [(6, "resolved")]
    );

    let mut watch = Watch::new(Rule::dead_letter_writes_fail());
    assert_eq!(watch.pass(|snapshot| snapshot.dead_letter_writes_failed_total += 1), [(1, "firing")]);
    assert_eq!(watch.summary(), "a dead letter could not be written");
    assert_eq!(watch.pass_all(9, nothing), [(5, "resolved")]);
    assert_eq!(watch.pass(|snapshot| snapshot.is_held = true), [(11, "firing")]);
    assert_eq!(watch.summary(), "a dead letter cannot be written, and no records are started until it can");
    assert_eq!(watch.pass_all(100, nothing), [], "it is still so");

    let mut watch = Watch::new(Rule::records_stall());
    let stalls = vec![stall(4, 11.s()), stall(5, 12.s()), stall(6, 11.s())];
    assert_eq!(watch.pass(|snapshot| snapshot.stalls = stalls), [(1, "firing")]);
    let longest = stall(5, 12.s()).to_string();
    assert_eq!(watch.summary(), format!("{longest}; and 2 other records"));
    assert_eq!(watch.pass(|snapshot| snapshot.stalls.truncate(1)), [], "it is the same alert");
}

#[test]
fn alerts_of_several_rules_are_told_in_their_order() {
    let both = vec![Rule::retry_backlog(1), Rule::records_stall().severity(Severity::Critical)];
    let mut rules = Rules::new("billing".into(), epoch(), both);
    let mut changes = Vec::new();
    let bad = Snapshot { retry_backlog: 2, stalls: vec![stall(1, 10.s())], ..Snapshot::default() };
    rules.evaluate(0.s(), &bad, &mut changes);
    let keys: Vec<String> = changes.iter().map(Alert::key).collect();
    assert_eq!(keys, ["billing/RetryBacklog/warning", "billing/RecordsStall/critical"]);
    rules.evaluate(Duration::MAX, &Snapshot::default(), &mut changes);
    rules.evaluate(Duration::MAX, &Snapshot::default(), &mut changes);
}
