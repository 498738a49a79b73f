//! Tasks and timers on virtual time, on one thread, from a seed.
//!
//! ```text
//!  ready tasks ─▶ one of them, by the seed ─▶ poll ─▶ wakers put tasks among the ready ones
//!       │ none
//!       ▼
//!  the next timer: time jumps to it
//! ```
//!
//! It must not know networks, brokers or clients.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use milena::Runtime;
use milena_core::Rng;

/// A runtime whose order of tasks and whose time follow from a seed. Clones are the same runtime.
///
/// Of the tasks that can run, one chosen by the seed runs next, so that different seeds try different interleavings. When
/// none can run, time jumps to the next timer. Now and then time passes between two polls, as it does for a program
/// that has to wait for a processor.
#[derive(Clone)]
pub struct Sim(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// It has a lock of its own, because wakers add to it while the state is locked.
    ready: Arc<Mutex<BTreeSet<TaskId>>>,
}

type TaskId = u64;
type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

struct State {
    rng: Rng,
    now: Duration,
    /// All tasks but the one that is being polled.
    tasks: BTreeMap<TaskId, Task>,
    next_task: TaskId,
    timers: BTreeMap<(Duration, u64), Waker>,
    next_timer: u64,
    steps: u64,
    /// The main task is finished, so no task is started any more.
    is_over: bool,
}

/// Why a simulation did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// At this time no task can run and no timer is set.
    Deadlock(Duration),
    /// There were more than [`STEPS_MAX`] polls until this time: a task spins.
    Steps(Duration),
    /// The simulation is longer than [`TIME_MAX`].
    Time,
}

/// The most polls in one simulation. The longest round of the tests takes less than a tenth of it.
pub const STEPS_MAX: u64 = 5_000_000;
/// The longest simulation, in virtual time. The longest timeouts of the tests are a third of it.
pub const TIME_MAX: Duration = Duration::from_secs(3600);
/// The time of day when a simulation begins, in milliseconds since 1970.
const STARTED_UNIX_MS: i64 = 1_700_000_000_000;
/// After this many of a thousand polls time passes, as it does for a program that must wait for a processor.
const HICCUPS_PERMILLE: u32 = 5;
/// The longest of these pauses.
const HICCUP_MAX: Duration = Duration::from_millis(3);
/// The longest time that blocking work takes.
const WORK_MAX: Duration = Duration::from_millis(2);

impl Sim {
    /// Makes a runtime without tasks, at time zero.
    pub fn new(seed: u64) -> Self {
        let state = State {
            rng: Rng::seeded(seed),
            now: Duration::ZERO,
            tasks: BTreeMap::new(),
            next_task: 0,
            timers: BTreeMap::new(),
            next_timer: 0,
            steps: 0,
            is_over: false,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), ready: Arc::default() }))
    }

    /// Runs `main` and all other tasks until `main` is finished, and then drops the tasks that are left.
    ///
    /// # Errors
    /// When `main` cannot finish, or exceeds [`STEPS_MAX`] or [`TIME_MAX`].
    ///
    /// # Panics
    /// When a task panics.
    pub fn block_on<T: Send + 'static>(
        &self,
        main: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Stuck> {
        let result = self.spawn(main);
        // Each simulation has a thread of its own. Codecs keep their contexts in thread-local storage and learn there how
        // well data compresses, which decides how large buffers are: a simulation would depend on those that ran on the
        // thread before it.
        let outcome = std::thread::scope(|scope| scope.spawn(|| self.run(&result)).join());
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn run<T>(&self, result: &Joined<T>) -> Result<T, Stuck> {
        let outcome = loop {
            if let Some(output) = lock(&result.0).output.take() {
                break Ok(output);
            }
            if let Err(stuck) = self.step() {
                break Err(stuck);
            }
        };
        self.end();
        outcome
    }

    /// Polls one task, or jumps to the next timer.
    fn step(&self) -> Result<(), Stuck> {
        let Some(id) = self.choose() else { return self.jump() };
        let Some(mut task) = self.state().tasks.remove(&id) else { return Ok(()) };
        let waker = Waker::from(Arc::new(TaskWaker { id, ready: Arc::clone(&self.0.ready) }));
        let is_finished = task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        if is_finished {
            // This is outside the lock, because dropping what the task holds may wake and start other tasks.
            drop(task);
        } else {
            self.state().tasks.insert(id, task);
        }
        let mut state = self.state();
        state.steps += 1;
        if state.rng.below(1000) < HICCUPS_PERMILLE {
            let hiccup = up_to(&mut state.rng, HICCUP_MAX);
            state.pass(hiccup);
        }
        match state.steps {
            STEPS_MAX.. => Err(Stuck::Steps(state.now)),
            _ => Ok(()),
        }
    }

    fn choose(&self) -> Option<TaskId> {
        let mut ready = lock(&self.0.ready);
        let index = self.state().rng.below(ready.len() as u32);
        let id = *ready.iter().nth(index as usize)?;
        ready.remove(&id);
        Some(id)
    }

    fn jump(&self) -> Result<(), Stuck> {
        let mut state = self.state();
        let Some(((next, _), _)) = state.timers.first_key_value() else {
            return Err(Stuck::Deadlock(state.now));
        };
        let by = next.saturating_sub(state.now);
        if state.now + by > TIME_MAX {
            return Err(Stuck::Time);
        }
        state.pass(by);
        Ok(())
    }

    /// Drops all tasks. Without this they would never be freed: they hold the runtime, and it holds them.
    fn end(&self) {
        self.state().is_over = true;
        while let Some((_, task)) = { self.state().tasks.pop_first() } {
            drop(task);
        }
        self.state().timers.clear();
    }

    /// The time since the simulation began.
    pub fn now(&self) -> Duration {
        self.state().now
    }

    /// A generator of its own, seeded by the simulation's.
    pub fn rng(&self) -> Rng {
        Rng::seeded(self.state().rng.next_u64())
    }

    /// Starts a task.
    pub fn spawn<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Joined<T> {
        let result = Arc::new(Mutex::new(Finished { output: None, waker: None }));
        let told = Arc::clone(&result);
        self.start(Box::pin(async move {
            let output = task.await;
            let mut told = lock(&told);
            told.output = Some(output);
            if let Some(waker) = told.waker.take() {
                waker.wake();
            }
        }));
        Joined(result)
    }

    fn start(&self, task: Task) {
        let mut state = self.state();
        if state.is_over {
            drop(state);
            return drop(task);
        }
        let id = state.next_task;
        state.next_task += 1;
        state.tasks.insert(id, task);
        drop(state);
        lock(&self.0.ready).insert(id);
    }

    /// A future that is ready after `duration`.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep { sim: self.clone(), at: self.now() + duration, timer: None }
    }

    /// The output of `future`, or none if it is not finished after `duration`.
    ///
    /// # Cancel safety
    /// Dropped, `future` is dropped.
    pub async fn timeout<F: Future>(&self, duration: Duration, future: F) -> Option<F::Output> {
        let mut future = Box::pin(future);
        let mut sleep = self.sleep(duration);
        std::future::poll_fn(move |cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Pin::new(&mut sleep).poll(cx).map(|()| None),
        })
        .await
    }

    /// Calls `waker` at `at`. This cannot be taken back, so it is for tasks that may be woken in vain.
    pub(crate) fn wake_at(&self, at: Duration, waker: &Waker) {
        let mut state = self.state();
        let timer = (at, state.next_timer);
        state.next_timer += 1;
        state.timers.insert(timer, waker.clone());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.0.state)
    }
}

impl State {
    /// Moves the time on, and wakes the tasks whose timers it passes.
    fn pass(&mut self, by: Duration) {
        self.now += by;
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= self.now
        {
            entry.remove().wake();
        }
    }
}

impl Runtime for Sim {
    fn spawn(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.start(task);
    }

    fn spawn_blocking(&self, work: Box<dyn FnOnce() + Send>) {
        let duration = up_to(&mut self.state().rng, WORK_MAX);
        let sleep = self.sleep(duration);
        self.start(Box::pin(async move {
            sleep.await;
            work();
        }));
    }

    fn parallelism(&self) -> usize {
        2
    }

    fn now(&self) -> Duration {
        self.state().now
    }

    fn unix_ms(&self) -> i64 {
        STARTED_UNIX_MS + self.state().now.as_millis() as i64
    }

    fn sleep_until(&self, at: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Sleep { sim: self.clone(), at, timer: None })
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim").field("now", &self.now()).finish_non_exhaustive()
    }
}

struct TaskWaker {
    id: TaskId,
    ready: Arc<Mutex<BTreeSet<TaskId>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        lock(&self.ready).insert(self.id);
    }
}

/// A future of a task's output. Dropping it does not end the task.
#[derive(Debug)]
#[must_use = "a task's output tells whether it went well"]
pub struct Joined<T>(Arc<Mutex<Finished<T>>>);

#[derive(Debug)]
struct Finished<T> {
    output: Option<T>,
    waker: Option<Waker>,
}

impl<T> Future for Joined<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut finished = lock(&self.0);
        match finished.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                finished.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// See [`Sim::sleep`].
#[derive(Debug)]
pub struct Sleep {
    sim: Sim,
    at: Duration,
    timer: Option<(Duration, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let sim = self.sim.clone();
        let mut state = sim.state();
        if let Some(timer) = self.timer.take() {
            state.timers.remove(&timer);
        }
        if self.at <= state.now {
            return Poll::Ready(());
        }
        let timer = (self.at, state.next_timer);
        state.next_timer += 1;
        state.timers.insert(timer, cx.waker().clone());
        self.timer = Some(timer);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer {
            self.sim.state().timers.remove(&timer);
        }
    }
}

/// A random duration below `max`. Most are far shorter, because races happen between things that are close in time.
pub fn up_to(rng: &mut Rng, max: Duration) -> Duration {
    let part = f64::from(rng.below(1000)) / 1000.0;
    max.mul_f64(part * part * part)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn time_jumps_to_the_next_timer() {
        let sim = Sim::new(1);
        let own = sim.clone();
        let took = sim.block_on(async move {
            own.sleep(Duration::from_secs(100)).await;
            own.now()
        });
        assert!(took.expect("finished") >= Duration::from_secs(100));
    }

    #[test]
    fn what_can_never_finish_is_told() {
        let stuck = Sim::new(1).block_on(pending::<()>()).expect_err("stuck");
        assert!(matches!(stuck, Stuck::Deadlock(_)), "{stuck:?}");
        let sim = Sim::new(1);
        let own = sim.clone();
        let stuck = sim.block_on(async move {
            loop {
                own.sleep(Duration::from_secs(1)).await;
            }
        });
        let stuck: Result<(), _> = stuck;
        assert_eq!(stuck.expect_err("stuck"), Stuck::Time);
    }

    #[test]
    fn the_seed_decides_who_runs_next() {
        let order = |seed| {
            let sim = Sim::new(seed);
            let told = Arc::new(Mutex::new(Vec::new()));
            let tasks: Vec<_> = (0..10)
                .map(|index| {
                    let told = Arc::clone(&told);
                    sim.spawn(async move { lock(&told).push(index) })
                })
                .collect();
            let all = async move {
                for task in tasks {
                    task.await;
                }
            };
            sim.block_on(all).expect("finished");
            std::mem::take(&mut *lock(&told))
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn a_task_ends_with_its_simulation() {
        let sim = Sim::new(1);
        let held = Arc::new(());
        let weak = Arc::downgrade(&held);
        let own = sim.clone();
        let task = sim.spawn(async move {
            pending::<()>().await;
            drop((held, own));
        });
        sim.block_on(async {}).expect("finished");
        drop(task);
        assert!(weak.upgrade().is_none());
    }
}
