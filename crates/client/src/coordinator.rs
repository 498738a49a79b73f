//! Which broker coordinates a group or a transactional producer.
//!
//! Nobody keeps what is found but the one who asked: a coordinator moves whenever its broker does, and whoever talks to it
//! learns that first.

use milena_core::calls::{FIND_COORDINATOR, Row};
use milena_core::metadata::{Broker, Coordinated};
use milena_core::{BrokerId, Failure, Instant};
use milena_messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::calls::{Answers, ApiCall};
use crate::{Address, Client};

/// The broker that coordinates something, and where it listens. The metadata may not know it yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coordinator {
    pub(crate) broker: BrokerId,
    pub(crate) address: Address,
}

/// The look-up.
struct Find;

impl ApiCall for Find {
    const ROW: &'static Row = &FIND_COORDINATOR;
    type Request = FindCoordinatorRequest;
    type Item = Coordinated;
    /// One request asks for one coordinator, and its answer does not repeat for what.
    type Key = ();
    type Found = Broker;

    fn key(&self, _of: &Coordinated) {}

    fn request(&self, items: &[&Coordinated]) -> FindCoordinatorRequest {
        items.first().map(|of| of.request()).unwrap_or_default()
    }

    fn answers(&self, response: FindCoordinatorResponse) -> Answers<(), Broker> {
        vec![((), Coordinated::coordinator(&response))]
    }
}

impl Client {
    /// The coordinator of a group or a transactional producer, asked for until there is one: the first group of a cluster
    /// waits for a topic to be made.
    ///
    /// # Cancel safety
    /// Dropping the future is harmless.
    pub(crate) async fn find_coordinator(
        &self,
        of: Coordinated,
        deadline: Instant,
    ) -> Result<Coordinator, Failure> {
        let broker = self.call_one(&Find, of, deadline).await?;
        Ok(Coordinator { broker: broker.id, address: Address::of(&broker) })
    }
}
