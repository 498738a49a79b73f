//! A client asks a broker: the one that is named, or any.

use milena_core::{BrokerId, Failure, Instant};

use crate::Client;
use crate::brokers::{Question, address_of, anybody, ask_any, ask_on};
use crate::connection::{Answer, Typed};

impl Client {
    /// One request and its answer. Without a broker, any is asked, and the next one as well when the first is silent for a
    /// second. The request may take the client's request timeout, and no longer than until `deadline`.
    ///
    /// # Cancel safety
    /// The request may have been sent and acted upon; its answer is thrown away when it comes.
    pub(crate) async fn ask<R: Question>(
        &self,
        broker: Option<BrokerId>,
        request: Typed<R>,
        deadline: Instant,
    ) -> Result<R::Response, Failure> {
        let deadline = self.deadline_of_request(deadline);
        match broker {
            Some(broker) => {
                let link = self.0.links.to(&address_of(&self.snapshot(), broker)?);
                ask_on(&link, &self.0.clock, request, deadline).await?.decode()
            }
            None => self.read_from_any(&request, deadline, |answer| answer.decode()).await,
        }
    }

    /// The answer of any broker that has answered by `deadline` with what decodes.
    ///
    /// # Cancel safety
    /// As [`ask`](Self::ask).
    pub(crate) async fn answer_from_any<R: Question>(
        &self,
        request: Typed<R>,
        deadline: Instant,
    ) -> Result<Answer, Failure> {
        let check = |answer: Answer| answer.decode::<R::Response>().map(|_| answer);
        self.read_from_any(&request, self.deadline_of_request(deadline), check).await
    }

    fn deadline_of_request(&self, deadline: Instant) -> Instant {
        deadline.min(self.0.clock.after(self.0.settings.client.request_timeout))
    }

    async fn read_from_any<R: Question, T>(
        &self,
        request: &Typed<R>,
        deadline: Instant,
        read: impl Fn(Answer) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let addresses = anybody(&self.snapshot(), &self.0.settings.client.bootstrap, &mut self.rng());
        ask_any(&self.0.links, &self.0.clock, addresses, request, |_| deadline, read).await
    }
}
