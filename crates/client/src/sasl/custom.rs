//! Mechanisms that are brought along, as core's exchanges take them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use milena_core::Obstacle;
use milena_core::sasl::{CustomExchange, CustomMechanism, Refusal};

use crate::ConnectError;

/// A mechanism of SASL that this crate does not have, such as GSSAPI. See [`Sasl::custom`](crate::Sasl::custom).
///
/// Its methods may block: they run on a thread for blocking work, and the connect timeout bounds how long the client waits for
/// them. When the client no longer waits, a method that has begun runs to its end, and its result is dropped.
pub trait SaslMechanism: Send + Sync {
    /// Its name in the protocol, such as `GSSAPI`.
    fn name(&self) -> &'static str;

    /// Whether its messages have something that whoever reads them could log in with. If so it is refused without TLS, as a
    /// password is. Default: yes.
    fn sends_secret(&self) -> bool {
        true
    }

    /// Begins an exchange for a new connection, or for the next session of one. `host` is the broker's name as it advertises it or
    /// as the bootstrap list has it, without the port. Answers with the exchange and the client's first message.
    ///
    /// # Errors
    /// When there is nothing to begin with. The error's [obstacle](crate::Obstacle) says whether to try again:
    /// [`Network`](crate::Obstacle::Network) if something else, such as a key distribution centre, is down.
    fn begin(&self, host: &str) -> Result<(Box<dyn SaslExchange>, Vec<u8>), ConnectError>;
}

/// One exchange of a [`SaslMechanism`].
pub trait SaslExchange: Send {
    /// The broker's answer to the last message. The session begins only when the exchange says that it is done, so a mechanism that
    /// checks who the broker is does so before.
    ///
    /// # Errors
    /// When the broker is not trusted or says what it should not: [`Obstacle::Peer`](crate::Obstacle::Peer). That is final.
    fn step(&mut self, challenge: &[u8]) -> Result<SaslStep, ConnectError>;
}

/// What follows from a broker's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaslStep {
    /// This message goes to the broker. Its memory is overwritten when it was sent.
    Send(Vec<u8>),
    /// The client has nothing more to say, and trusts the broker.
    Done,
}

/// A mechanism as core takes it.
pub(super) struct Brought(pub(super) Arc<dyn SaslMechanism>);

struct BroughtExchange {
    name: &'static str,
    exchange: Box<dyn SaslExchange>,
}

/// What the application's code answers. If it panics, the refusal says so.
fn guarded<T>(name: &str, ask: impl FnOnce() -> Result<T, ConnectError>) -> Result<T, Refusal> {
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(answer) => {
            answer.map_err(|error| Refusal { obstacle: error.obstacle(), reason: error.to_string() })
        }
        Err(_) => Err(Refusal {
            obstacle: Obstacle::Configuration,
            reason: format!("the mechanism {name} panicked"),
        }),
    }
}

impl CustomMechanism for Brought {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn sends_secret(&self) -> bool {
        self.0.sends_secret()
    }

    fn begin(&self, host: &str) -> Result<(Box<dyn CustomExchange>, Vec<u8>), Refusal> {
        let name = self.name();
        let (exchange, message) = guarded(name, || self.0.begin(host))?;
        Ok((Box::new(BroughtExchange { name, exchange }), message))
    }
}

impl CustomExchange for BroughtExchange {
    fn step(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        Ok(match guarded(self.name, || self.exchange.step(challenge))? {
            SaslStep::Send(message) => Some(message),
            SaslStep::Done => None,
        })
    }
}
