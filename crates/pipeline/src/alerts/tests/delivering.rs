//! Queues to receivers that fail, on a clock that stands still.

use std::collections::VecDeque;

use super::*;

/// Remembers what it got and when, and fails as it is told.
#[derive(Debug, Default)]
struct Receiver {
    answers: Mutex<VecDeque<Result<(), Failure>>>,
    got: Mutex<Vec<(u64, String)>>,
    takes: Duration,
    begun: Mutex<Option<Instant>>,
    repeat: Option<Duration>,
}

impl Receiver {
    fn got(&self) -> Vec<(u64, String)> {
        self.got.lock().expect("no panic").clone()
    }
}

impl Sink for &'static Receiver {
    fn name(&self) -> String {
        "a receiver".into()
    }

    fn deliver<'a>(&'a self, alert: &'a Alert) -> Delivering<'a> {
        let begun = *self.begun.lock().expect("no panic").get_or_insert_with(Instant::now);
        Box::pin(async move {
            tokio::time::sleep(self.takes).await;
            let seconds = begun.elapsed().as_secs();
            self.got.lock().expect("no panic").push((seconds, format!("{} {}", alert.name, alert.status())));
            self.answers.lock().expect("no panic").pop_front().unwrap_or(Ok(()))
        })
    }

    fn repeat_every(&self) -> Option<Duration> {
        self.repeat
    }
}

/// A snapshot that a test changes.
fn snapshot() -> (&'static Mutex<Snapshot>, impl Fn() -> Snapshot + Send + 'static) {
    let shared: &'static Mutex<Snapshot> = Box::leak(Box::default());
    (shared, move || shared.lock().expect("no panic").clone())
}

fn receiver(receiver: Receiver) -> &'static Receiver {
    let receiver = Box::leak(Box::new(receiver));
    *receiver.begun.lock().expect("no panic") = Some(Instant::now());
    receiver
}

fn got(of: &[(u64, &str)]) -> Vec<(u64, String)> {
    of.iter().map(|(second, what)| (*second, (*what).to_owned())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_fails_is_tried_again_and_the_next_one_waits() {
    let no = || Err(Failure::retriable("no"));
    let answers = Mutex::new([no(), no(), no(), Ok(()), Err(Failure::poison("never")), Ok(())].into());
    let receiver = receiver(Receiver { answers, ..Receiver::default() });
    let (now, look) = snapshot();
    let alerts = Alerts::of("billing").rule(Rule::retry_backlog(1)).rule(Rule::records_stall()).to(receiver);
    let retry = Retry::exponential(2.s(), 60.s()).no_jitter();
    let handle = alerts.retry(retry).watch_with(look).expect("rules");
    now.lock().expect("no panic").retry_backlog = 5;
    tokio::time::sleep(5.s()).await;
    now.lock().expect("no panic").retry_backlog = 0;
    tokio::time::sleep(60.s()).await;
    // The alert is resolved at second 8 or so, and has to wait for its opening, which takes until second 15.
    let opened = "RetryBacklog firing";
    let expected = [(1, opened), (3, opened), (7, opened), (15, opened), (15, "RetryBacklog resolved")];
    assert_eq!(receiver.got(), got(&expected));
    let stats = handle.stats();
    assert_eq!((stats.opened, stats.resolved, stats.delivered), (1, 1, 1));
    assert_eq!((stats.failed_attempts, stats.given_up, stats.dropped), (4, 1, 0));
    // What a receiver refuses for good does not stop what follows.
    now.lock().expect("no panic").retry_backlog = 5;
    tokio::time::sleep(2.s()).await;
    assert_eq!((receiver.got().len(), handle.stats().delivered), (6, 2));
    assert_eq!(handle.open().iter().map(Alert::key).collect::<Vec<_>>(), ["billing/RetryBacklog/warning"]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_never_answers_holds_up_nothing_and_is_given_up() {
    let stuck = receiver(Receiver { takes: 1.days(), ..Receiver::default() });
    let other = receiver(Receiver::default());
    let (now, look) = snapshot();
    let alerts = Alerts::of("billing").rule(Rule::retry_backlog(1)).to(stuck).to(other);
    let handle = alerts.retry(Retry::never()).watch_with(look).expect("rules");
    now.lock().expect("no panic").retry_backlog = 5;
    tokio::time::sleep(2.s()).await;
    assert_eq!(other.got(), got(&[(1, "RetryBacklog firing")]));
    tokio::time::sleep(60.s()).await;
    let stats = handle.stats();
    assert_eq!((stats.delivered, stats.given_up), (1, 1));
    // It goes on like this.
    for _ in 0..50 {
        now.lock().expect("no panic").retry_backlog = 0;
        tokio::time::sleep(302.s()).await;
        now.lock().expect("no panic").retry_backlog = 5;
        tokio::time::sleep(1.s()).await;
    }
    let stats = handle.stats();
    assert_eq!(stats.delivered, stats.opened + stats.resolved, "the other one got all");
    assert_eq!(stats.dropped, 0, "a minute each is time enough");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_into_the_queue_is_counted() {
    let stuck = receiver(Receiver { takes: 50.s(), ..Receiver::default() });
    let (now, look) = snapshot();
    let rules = (0..300).map(|number| Rule::retry_backlog(1).named(format!("Rule{number}")));
    let alerts = rules.fold(Alerts::of("billing"), Alerts::rule);
    let handle = alerts.to(stuck).watch_with(look).expect("rules");
    now.lock().expect("no panic").retry_backlog = 5;
    tokio::time::sleep(2.s()).await;
    let stats = handle.stats();
    // One is on its way.
    assert_eq!(stats.opened, 300);
    assert!((43..=44).contains(&stats.dropped), "{stats:?}");
}

#[tokio::test(start_paused = true)]
async fn open_alerts_are_repeated_for_receivers_that_want_it() {
    let receiver = receiver(Receiver { repeat: Some(60.s()), ..Receiver::default() });
    let (now, look) = snapshot();
    let handle =
        Alerts::of("billing").rule(Rule::retry_backlog(1)).to(receiver).watch_with(look).expect("rules");
    now.lock().expect("no panic").retry_backlog = 5;
    tokio::time::sleep(150_500.ms()).await;
    now.lock().expect("no panic").retry_backlog = 0;
    tokio::time::sleep(200.s()).await;
    let opened = "RetryBacklog firing";
    let expected = [(1, opened), (60, opened), (120, opened), (154, "RetryBacklog resolved")];
    assert_eq!(receiver.got(), got(&expected));
    assert_eq!(handle.stats().opened, 1);
}

#[tokio::test(start_paused = true)]
async fn closing_looks_once_more_and_waits_for_what_is_on_its_way() {
    let slow = receiver(Receiver { takes: 3.s(), ..Receiver::default() });
    let (now, look) = snapshot();
    let alerts = || Alerts::of("billing").rule(Rule::retry_backlog(1)).to(slow);
    let handle = alerts().watch_with(look).expect("rules");
    // Since the last look.
    tokio::time::sleep(100.ms()).await;
    now.lock().expect("no panic").retry_backlog = 5;
    let stats = handle.close(10.s()).await;
    assert_eq!((stats.opened, stats.delivered, slow.got().len()), (1, 1, 1));
    // No longer than it may.
    let (now, look) = snapshot();
    let handle = alerts().watch_with(look).expect("rules");
    now.lock().expect("no panic").retry_backlog = 5;
    let stats = handle.close(1.s()).await;
    assert_eq!((stats.opened, stats.delivered), (1, 0));
}

#[tokio::test]
async fn rules_that_could_not_be_told_apart_are_refused() {
    let alerts = || Alerts::of("billing").rule(Rule::retry_backlog(1));
    let error =
        alerts().rule(Rule::retry_backlog(2)).watch_with(Snapshot::default).expect_err("the same name");
    assert_eq!(error.to_string(), "two rules are named RetryBacklog with the severity warning: name one");
    let critical = Rule::retry_backlog(2).severity(Severity::Critical);
    alerts()
        .rule(critical)
        .rule(Rule::retry_backlog(3).named("B"))
        .watch_with(Snapshot::default)
        .expect("rules");
}
