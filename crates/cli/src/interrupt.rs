//! Ctrl-C and SIGTERM: the first asks the command to end well, the second ends it.

use std::{io, process};

use tokio::sync::watch;

use crate::exit::{Exit, Failure};

/// A request to stop that any number of tasks can wait for.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    asked: watch::Receiver<bool>,
}

impl Interrupt {
    /// Starts listening. Must be called on the runtime, once.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let mut signals =
            Signals::open().map_err(|e| Failure::failed(format!("cannot listen for Ctrl-C: {e}")))?;
        let (ask, asked) = watch::channel(false);
        tokio::spawn(async move {
            signals.next().await;
            ask.send_replace(true);
            signals.next().await;
            process::exit(Exit::Interrupted as i32);
        });
        Ok(Self { asked })
    }

    /// Completes when the command is asked to stop. Cancel safe.
    pub(crate) async fn asked(&self) {
        let mut asked = self.asked.clone();
        // The sender lives as long as the runtime; were it gone, nobody could ask any more.
        if asked.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The signals that ask; opened once, so that none between two waits is missed.
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
