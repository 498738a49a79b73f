//! Sends one request of the client's own to one broker, or to any.

use milena_core::{BrokerId, Failure, Instant};

use crate::Client;
use crate::brokers::{Question, address_of, anybody, ask_any, ask_on};
use crate::connection::{Answer, Typed};

impl Client {
    /// Sends `request` to `broker` and waits for its answer. Without a broker any one is asked, and the next one as well if it
    /// is silent for a second. The answer may take as long as the client's request timeout, and must come by `deadline`.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the request back: the broker may act on it, and its answer is thrown away.
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

    /// Asks any broker, and returns the first answer that decodes, which the caller decodes again.
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
