//! Ctrl-C and SIGTERM. The first signal asks the command to end well, the second to end at once. If the command does not
//! end in time, the process exits.

use std::time::Duration;
use std::{io, process};

use tokio::sync::watch;
use tokio::time::sleep;

use crate::exit::{Exit, Failure};

/// A request to stop that any number of tasks can wait for.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    /// How many signals came.
    asked: watch::Receiver<u32>,
}

/// How long a command waits after the first signal for acknowledgements, so that it can print final counts.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// How long after the first signal, and after the second, the process exits if the command has not ended.
const LIMITS: [Duration; 2] = [GRACE.saturating_add(Duration::from_secs(2)), Duration::from_secs(1)];

impl Interrupt {
    /// Starts to listen for signals. Call it once, on the runtime. If `is_limited` is false, the command may take as long
    /// as it needs after the first signal.
    pub(crate) fn listen(is_limited: bool) -> Result<Self, Failure> {
        let mut signals =
            Signals::open().map_err(|e| Failure::failed(format!("cannot listen for Ctrl-C: {e}")))?;
        let (ask, asked) = watch::channel(0);
        tokio::spawn(async move {
            signals.next().await;
            ask.send_replace(1);
            tokio::select! {
                () = signals.next() => {}
                () = sleep(LIMITS[0]), if is_limited => process::exit(Exit::Interrupted as i32),
            }
            ask.send_replace(2);
            sleep(LIMITS[1]).await;
            process::exit(Exit::Interrupted as i32);
        });
        Ok(Self { asked })
    }

    /// Completes when the command is asked to stop. Cancel safe.
    pub(crate) async fn asked(&self) {
        self.asked_times(1).await;
    }

    /// Completes when the command is asked to stop a second time. Cancel safe.
    pub(crate) async fn asked_again(&self) {
        self.asked_times(2).await;
    }

    /// The result of `work`, or a failure if the command is asked to stop first.
    pub(crate) async fn or<T, E: Into<Failure>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = work => done.map_err(Into::into),
            () = self.asked() => Err(Failure::interrupted()),
        }
    }

    async fn asked_times(&self, times: u32) {
        let mut asked = self.asked.clone();
        // The sender lives as long as the runtime. Without it no signal can come.
        if asked.wait_for(|asked| *asked >= times).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The signals. They are opened once, so that a signal between two waits is not missed.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn open() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn open() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        drop(tokio::signal::ctrl_c().await);
    }
}
