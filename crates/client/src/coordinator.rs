//! Looks up which broker coordinates a group or a transactional producer.
//!
//! The caller gets the coordinator, and nothing else keeps it: only the caller talks to it, so only the caller learns when
//! it has moved.

use std::pin::Pin;

use milena_core::calls::{FIND_COORDINATOR, Row};
use milena_core::metadata::{Broker, Coordinated};
use milena_core::{BrokerId, Failure, Instant};
use milena_messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};

use crate::calls::{Answers, ApiCall};
use crate::{Address, Client};

/// The broker that coordinates a group or a transactional producer, and where it listens. The metadata need not have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coordinator {
    pub(crate) broker: BrokerId,
    pub(crate) address: Address,
}

/// `FindCoordinator`, as a call.
struct Find;

impl ApiCall for Find {
    const ROW: &'static Row = &FIND_COORDINATOR;
    type Request = FindCoordinatorRequest;
    type Item = Coordinated;
    /// A request asks for one coordinator, and the answer does not repeat of what.
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
    /// Looks up the coordinator of a group or a transactional producer, until there is one or `deadline` has passed: before the
    /// first group of a cluster has one, brokers create an internal topic.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub(crate) async fn find_coordinator(
        &self,
        of: Coordinated,
        deadline: Instant,
    ) -> Result<Coordinator, Failure> {
        let broker = self.look_up_coordinator(of, deadline).await?;
        Ok(Coordinator { broker: broker.id, address: Address::of(&broker) })
    }

    /// As [`find_coordinator`](Self::find_coordinator), for a call to the coordinator. A look-up is a call itself, so its
    /// future is boxed: the type would contain itself otherwise.
    pub(crate) fn look_up_coordinator(
        &self,
        of: Coordinated,
        deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = Result<Broker, Failure>> + Send + '_>> {
        Box::pin(async move {
            let found = self.call_one(&Find, of.clone(), deadline).await;
            found.map_err(|failure| of.name(failure))
        })
    }
}
