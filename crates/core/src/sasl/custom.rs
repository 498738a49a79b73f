//! Mechanisms that are not here, such as GSSAPI: somebody else's code takes the steps of the exchange, where it may block.
//!
//! ```text
//!  CustomMechanism::begin(host) ─▶ the first message ─▶        ◀─ challenge
//!  CustomExchange::step(challenge) ─▶ the next message, or done
//! ```

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{Refusal, printable, secret_bytes};

/// A mechanism that core does not know.
pub trait CustomMechanism: Send + Sync {
    /// Its name in the protocol, such as `GSSAPI`.
    fn name(&self) -> &'static str;

    /// Whether what is sent is a secret that others could use, so that it must be encrypted.
    fn sends_secret(&self) -> bool;

    /// Begins an exchange with the broker at `host`. Answers with the exchange and the client's first message.
    ///
    /// # Errors
    /// When there is nothing to begin with.
    fn begin(&self, host: &str) -> Result<(Box<dyn CustomExchange>, Vec<u8>), Refusal>;
}

/// One exchange of a mechanism that core does not know.
pub trait CustomExchange: Send {
    /// The broker's answer to the last message. Answers with the next message, or with none if the exchange is done and the
    /// broker is trusted.
    ///
    /// # Errors
    /// When the broker refuses, or cannot be trusted.
    fn step(&mut self, challenge: &[u8]) -> Result<Option<Vec<u8>>, Refusal>;
}

/// What a client authenticates with by such a mechanism: the mechanism itself, which knows.
#[derive(Clone)]
pub struct Custom(pub Arc<dyn CustomMechanism>);

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Custom {}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Custom").field(&self.0.name()).finish()
    }
}

/// One step, which may block.
pub struct CustomStep {
    of: Of,
}

enum Of {
    Begin { mechanism: Arc<dyn CustomMechanism>, host: Arc<str> },
    Go { exchange: Box<dyn CustomExchange>, challenge: Bytes },
}

/// What came of a step.
pub struct Stepped {
    exchange: Option<Box<dyn CustomExchange>>,
    outcome: Result<Option<Bytes>, Refusal>,
}

/// The client's side of the exchange. The exchange itself is with whoever takes a step.
pub(super) struct Stepper {
    host: Arc<str>,
    exchange: Option<Box<dyn CustomExchange>>,
}

/// A longer message of a broker's is not handed to a mechanism: a ticket of Kerberos with all its groups has less.
const CHALLENGE_BYTES_MAX: usize = 256 << 10;

impl Stepper {
    pub(super) fn new(host: &Arc<str>) -> Self {
        Self { host: Arc::clone(host), exchange: None }
    }

    pub(super) fn begin(&self, mechanism: &Arc<dyn CustomMechanism>) -> CustomStep {
        CustomStep { of: Of::Begin { mechanism: Arc::clone(mechanism), host: Arc::clone(&self.host) } }
    }

    pub(super) fn handle(&mut self, challenge: &[u8]) -> Result<CustomStep, Refusal> {
        let wrong = |why: String| Refusal::of_peer(format!("its message {why}"));
        if challenge.len() > CHALLENGE_BYTES_MAX {
            let bytes = challenge.len();
            return Err(wrong(format!("has {bytes} bytes, and {CHALLENGE_BYTES_MAX} is the most")));
        }
        let exchange =
            self.exchange.take().ok_or_else(|| wrong("is one more than the exchange has".into()))?;
        Ok(CustomStep { of: Of::Go { exchange, challenge: Bytes::copy_from_slice(challenge) } })
    }

    /// The next message, or none if the exchange is done.
    pub(super) fn handle_stepped(&mut self, stepped: Stepped) -> Result<Option<Bytes>, Refusal> {
        let outcome =
            stepped.outcome.map_err(|refusal| Refusal { reason: printable(&refusal.reason), ..refusal })?;
        self.exchange = stepped.exchange.filter(|_| outcome.is_some());
        Ok(outcome)
    }
}

impl CustomStep {
    /// Takes the step.
    pub(super) fn run(self) -> Stepped {
        let hidden = |message: Vec<u8>| {
            let message = Zeroizing::new(message);
            secret_bytes([message.as_slice()].into_iter())
        };
        match self.of {
            Of::Begin { mechanism, host } => match mechanism.begin(&host) {
                Ok((exchange, message)) => {
                    Stepped { exchange: Some(exchange), outcome: Ok(Some(hidden(message))) }
                }
                Err(refusal) => Stepped { exchange: None, outcome: Err(refusal) },
            },
            Of::Go { mut exchange, challenge } => {
                let outcome = exchange.step(&challenge).map(|message| message.map(hidden));
                Stepped { exchange: Some(exchange), outcome }
            }
        }
    }
}

impl fmt::Debug for CustomStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomStep")
    }
}

impl fmt::Debug for Stepped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stepped")
    }
}

impl fmt::Debug for Stepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stepper")
    }
}
