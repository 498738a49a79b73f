//! Random numbers that nobody can foresee, for SCRAM.

use std::sync::{Mutex, PoisonError};

use milena_core::sasl::Nonce;
use milena_core::{Obstacle, Rng};

use crate::ConnectError;

/// Where a client's nonces come from.
pub(crate) enum Nonces {
    /// The operating system.
    System,
    /// A seed, so that a simulation can be repeated.
    Seeded(Mutex<Rng>),
}

impl Nonces {
    pub(crate) fn next(&self) -> Result<Nonce, ConnectError> {
        let mut nonce = Nonce::default();
        match self {
            Self::System => getrandom::fill(&mut nonce).map_err(|error| {
                let why = format!("the system has no random numbers: {error}");
                ConnectError::new(Obstacle::Configuration, why)
            })?,
            Self::Seeded(rng) => {
                let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
                nonce
                    .chunks_exact_mut(8)
                    .for_each(|part| part.copy_from_slice(&rng.next_u64().to_be_bytes()));
            }
        }
        Ok(nonce)
    }
}
