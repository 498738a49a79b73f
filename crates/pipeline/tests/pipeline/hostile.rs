//! Handlers that hang, block, compute or never give way, and programs that drop a pipeline: what others have of it stays theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use milena_pipeline::{
    Failure, Order, Pipeline, Record, RecordService, Retry, RetryTopics, Together, blocking, service,
};
use tower_service::Service;

use crate::world::{Counter, LIMIT, Log, World, until};

fn pipeline(world: &World) -> Pipeline {
    Pipeline::new(world.client.consumer("billing").subscribe(["orders"])).drain(Duration::from_millis(10))
}

/// Each worker has one partition. The records of one hang.
#[tokio::test]
async fn a_partition_that_hangs_leaves_permits_to_those_of_other_workers() {
    let world = World::new(2).await;
    world.write(2_000, |number| (Some(number.to_string()), number as i32 % 2)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                if record.partition() == 1 {
                    std::future::pending::<()>().await;
                }
                done.add();
            }
        }
    };
    for order in [Order::Key, Order::None] {
        let (before, running) = (done.now(), pipeline(&world).order(order).concurrency(16).workers(2));
        let report = running.run(handler.clone(), done.reach(before + 1_000)).await.expect("succeeds");
        assert!(report.left.len() <= 12, "{} of the partition that hangs were in work", report.left.len());
        world.write(2_000, |number| (Some(number.to_string()), number as i32 % 2)).await;
    }
}

/// A worker that always has something to start would use each of its permits again as soon as a record ends.
#[tokio::test]
async fn a_busy_partition_leaves_permits_to_those_of_other_workers() {
    let world = World::new(2).await;
    world.write(20_000, |number| (Some(number.to_string()), 0)).await;
    let (busy, other) = (Counter::new(), Counter::new());
    let handler = {
        let (busy, other) = (busy.clone(), other.clone());
        move |record: Record| {
            let of = if record.partition() == 0 { busy.clone() } else { other.clone() };
            async move {
                tokio::task::yield_now().await;
                of.add();
            }
        }
    };
    let stop = async {
        // It has all permits by now.
        busy.reach(100).await;
        world.write(100, |number| (Some(number.to_string()), 1)).await;
        other.reach(100).await;
        assert!(
            busy.now() < 20_000,
            "the other partition had to wait until the busy one was read to its end"
        );
    };
    pipeline(&world).concurrency(4).workers(2).run(handler, stop).await.expect("succeeds");
}

#[tokio::test]
async fn a_future_that_wakes_itself_without_end_holds_up_no_other() {
    let world = World::new(1).await;
    world.write(500, |number| (Some(number.to_string()), 0)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |record: Record| {
            let done = done.clone();
            async move {
                while record.offset() == 3 {
                    tokio::task::yield_now().await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                done.add();
            }
        }
    };
    let report = pipeline(&world).workers(1).run(handler, done.reach(499)).await.expect("succeeds");
    assert_eq!(report.left.len(), 1);
}

/// The time of a turn is not that of each record which starts in it.
#[tokio::test]
async fn handlers_that_compute_before_they_wait_do_not_use_up_the_time_of_others() {
    let world = World::new(1).await;
    world.write(128, |number| (Some(number.to_string()), 0)).await;
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |_: Record| {
            let done = done.clone();
            async move {
                std::thread::sleep(Duration::from_millis(5));
                tokio::task::yield_now().await;
                done.add();
            }
        }
    };
    let pipeline = pipeline(&world).concurrency(128).workers(1).time_limit(Duration::from_millis(500));
    let watch = pipeline.watch();
    pipeline.run(handler, done.reach(128)).await.expect("succeeds");
    assert_eq!(watch.stats().expired, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_does_not_keep_the_pipeline_from_ending() {
    let world = World::new(1).await;
    world.write(1, |_| (None, 0)).await;
    let (begun, (release, released)) = (Counter::new(), std::sync::mpsc::channel::<()>());
    let released = Arc::new(std::sync::Mutex::new(released));
    let handler = {
        let begun = begun.clone();
        move |_: Record| {
            let (begun, released) = (begun.clone(), Arc::clone(&released));
            async move {
                begun.add();
                let _ = released.lock().unwrap().recv();
            }
        }
    };
    // The consumer waits for its batch as long as for an answer.
    let client = milena::Client::builder().bootstrap(world.cluster.bootstrap());
    let client = client.request_timeout(Duration::from_secs(1)).connect().await.expect("connects");
    let consumer = client.consumer("billing").subscribe(["orders"]);
    let running = Pipeline::new(consumer).drain(Duration::ZERO).run(handler, begun.reach(1));
    let ended = tokio::time::timeout(LIMIT, running).await;
    drop(release);
    ended.expect("ends").expect("what was done is committed");
}

#[tokio::test]
async fn tasks_of_handlers_learn_that_the_pipeline_was_dropped() {
    let world = World::new(1).await;
    world.write(1, |_| (None, 0)).await;
    let (begun, cancelled) = (Counter::new(), Counter::new());
    let handler = {
        let (begun, cancelled) = (begun.clone(), cancelled.clone());
        move |record: Record| {
            let (begun, cancelled) = (begun.clone(), cancelled.clone());
            async move {
                tokio::spawn(async move {
                    record.cancelled().await;
                    cancelled.add();
                });
                begun.add();
                std::future::pending::<()>().await;
            }
        }
    };
    let running = pipeline(&world).run(handler, std::future::pending());
    tokio::select! {
        _ = running => unreachable!("it runs on"),
        () = begun.reach(1) => {}
    }
    cancelled.reach(1).await;
}

#[tokio::test]
async fn what_waits_for_another_attempt_when_the_pipeline_stops_is_told() {
    let world = World::new(1).await;
    world.write(3, |number| (Some(number.to_string()), 0)).await;
    let tried = Counter::new();
    let handler = {
        let tried = tried.clone();
        move |record: Record| {
            let tried = tried.clone();
            async move {
                tried.add();
                if record.offset() == 1 { Err(Failure::retriable("not yet")) } else { Ok(()) }
            }
        }
    };
    let retry = Retry::fixed(Duration::from_secs(3_600));
    let report = pipeline(&world).retry(retry).run(handler, tried.reach(3)).await.expect("succeeds");
    let left: Vec<_> = report.left.iter().map(|left| left.offset).collect();
    assert_eq!((report.finished, left), (2, vec![1]));
    assert_eq!(world.committed("billing", 0).await, Some(1));
}

#[tokio::test]
async fn the_smallest_bound_of_bytes_holds_up_nothing() {
    let world = World::new(1).await;
    for _ in 0..5 {
        world.write(2, |number| (Some(number.to_string()), 0)).await;
    }
    let done = Counter::new();
    let handler = {
        let done = done.clone();
        move |_: Record| {
            done.add();
            std::future::ready(())
        }
    };
    let running = pipeline(&world).partition_bytes_max(1).run(handler, done.reach(10));
    let report = tokio::time::timeout(LIMIT, running).await.expect("ends").expect("succeeds");
    assert_eq!(report.finished, 10);
}

/// One place for all workers, which is taken when a service says that it is ready, as in tower's `ConcurrencyLimit`.
struct OnePlace<S> {
    service: S,
    place: Arc<AtomicUsize>,
    has_place: bool,
}

impl<S: Clone> Clone for OnePlace<S> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), place: Arc::clone(&self.place), has_place: false }
    }
}

impl<S> Drop for OnePlace<S> {
    fn drop(&mut self) {
        if self.has_place {
            self.place.store(0, Ordering::SeqCst);
        }
    }
}

impl<S: RecordService> Service<Record> for OnePlace<S> {
    type Response = ();
    type Error = Failure;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if !self.has_place && self.place.swap(1, Ordering::SeqCst) == 1 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.has_place = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, record: Record) -> S::Future {
        self.has_place = false;
        self.place.store(0, Ordering::SeqCst);
        self.service.call(record)
    }
}

#[tokio::test]
async fn a_worker_without_a_record_to_start_keeps_no_place_of_a_service() {
    let world = World::new(2).await;
    // The second record of the key waits for the first one, which hangs: its worker is ready and starts nothing.
    world.write(2, |_| (Some("stuck".to_owned()), 0)).await;
    let (begun, done) = (Counter::new(), Counter::new());
    let handler = {
        let (begun, done) = (begun.clone(), done.clone());
        move |record: Record| {
            let (begun, done) = (begun.clone(), done.clone());
            async move {
                begun.add();
                if record.partition() == 0 {
                    std::future::pending::<()>().await;
                }
                done.add();
            }
        }
    };
    let stop = async {
        begun.reach(1).await;
        world.write(100, |number| (Some(number.to_string()), 1)).await;
        done.reach(100).await;
    };
    let place = Arc::new(AtomicUsize::new(0));
    let service = OnePlace { service: service(handler), place, has_place: false };
    pipeline(&world).workers(2).run(service, stop).await.expect("succeeds");
}

/// One partition's handlers hang before the others have records, and for as long as they have some.
#[tokio::test]
async fn a_partition_that_hangs_leaves_places_to_others_also_if_their_number_is_found() {
    let world = World::new(4).await;
    world.write(200, |number| (Some(number.to_string()), 0)).await;
    let (others, release) = (Counter::new(), tokio_util::sync::CancellationToken::new());
    let handler = {
        let (others, release) = (others.clone(), release.clone());
        move |record: Record| {
            let (others, release) = (others.clone(), release.clone());
            async move {
                if record.partition() == 0 {
                    return release.cancelled().await;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                others.add();
            }
        }
    };
    let pipeline = Pipeline::new(world.client.consumer("billing").subscribe(["orders"]))
        .adaptive_concurrency(64)
        .report_after(Duration::from_millis(20));
    let watch = pipeline.watch();
    let stop = async {
        // Three quarters of those that hang and of the eight places that there are beside them.
        until(|| watch.stats().stalls.len() == 24).await;
        world.write(600, |number| (Some(number.to_string()), 1 + number as i32 % 3)).await;
        others.reach(600).await;
        release.cancel();
        until(|| watch.stats().finished == 800).await;
    };
    let report = pipeline.run(handler, stop).await.expect("succeeds");
    assert_eq!(report.finished, 800);
}

/// Blocking calls that are given up go on. Their records are tried again when they have ended, and not before, also in a retry topic.
async fn runs_once_at_a_time(is_in_groups: bool, retry: Retry) {
    let world = World::new(1).await;
    world.write(3, |_| (Some("k".to_owned()), 0)).await;
    let running = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let (calls, twice) = (Counter::new(), Log::new());
    let (release, held) = std::sync::mpsc::channel::<()>();
    let held = Arc::new(std::sync::Mutex::new(held));
    let process = {
        let (calls, twice) = (calls.clone(), twice.clone());
        move |records: &[Record]| {
            let offsets: Vec<i64> = records.iter().map(|record| record.origin().offset).collect();
            for offset in &offsets {
                if !running.lock().unwrap().insert(*offset) {
                    twice.push(*offset);
                }
            }
            if calls.add() == 1 {
                held.lock().unwrap().recv_timeout(LIMIT).expect("is released");
            }
            for offset in &offsets {
                running.lock().unwrap().remove(offset);
            }
        }
    };
    let pipeline = pipeline(&world)
        .order(Order::Partition)
        .time_limit(Duration::from_millis(20))
        .retry(retry)
        .retry_topics(RetryTopics::tiers([1, 2, 3, 4].map(Duration::from_millis)).create(true).attempts(100))
        .skip_failed();
    let watch = pipeline.watch();
    let stop = async {
        until(|| watch.stats().expired >= 3).await;
        release.send(()).expect("it waits");
        until(|| watch.stats().finished == 3).await;
    };
    let report = if is_in_groups {
        let handler = blocking(move |records: Vec<Record>| process(&records));
        pipeline.run_together(Together::up_to(3), handler, stop).await
    } else {
        pipeline.run(blocking(move |record: Record| process(&[record])), stop).await
    };
    assert_eq!(report.expect("succeeds").finished, 3);
    assert!(calls.now() > 1);
    assert_eq!(twice.all(), [0_i64; 0], "these ran twice at the same time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_call_that_was_given_up_has_ended_before_its_record_is_tried_again() {
    runs_once_at_a_time(false, Retry::fixed(Duration::from_millis(1)).without_limit()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_call_that_was_given_up_has_ended_before_its_record_is_tried_in_a_retry_topic() {
    runs_once_at_a_time(false, Retry::fixed(Duration::from_millis(1)).attempts(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_call_with_a_group_has_ended_before_its_records_are_tried_one_by_one() {
    runs_once_at_a_time(true, Retry::fixed(Duration::from_millis(1)).without_limit()).await;
}
