//! `DescribeTransactions`: transactional producers, as their coordinators know them (KIP-664).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use milena_core::Failure;
use milena_core::calls::{DESCRIBE_TRANSACTIONS, Row};
use milena_core::metadata::{Broker, Coordinated, Destination};
use milena_messages::describe_transactions::{
    self as wire, DescribeTransactionsRequest, DescribeTransactionsResponse,
};

use super::{Admin, BrokerDescription, TransactionDescription, TransactionState};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DescribeTransactions;

impl ApiCall for DescribeTransactions {
    const ROW: &'static Row = &DESCRIBE_TRANSACTIONS;
    type Request = DescribeTransactionsRequest;
    type Item = String;
    type Key = String;
    type Found = wire::TransactionState;

    fn destination(&self, id: &String) -> Destination {
        Destination::Coordinator(Coordinated::Transaction(Arc::from(id.as_str())))
    }

    fn key(&self, id: &String) -> String {
        id.clone()
    }

    fn request(&self, ids: &[&String]) -> DescribeTransactionsRequest {
        let transactional_ids = ids.iter().map(|id| id.as_str().into()).collect();
        DescribeTransactionsRequest { transactional_ids, ..Default::default() }
    }

    fn answers(&self, response: DescribeTransactionsResponse) -> Answers<String, Self::Found> {
        let answer = |of: Self::Found| {
            let id = of.transactional_id.to_string();
            (id, Failure::check(of.error_code, None).map(|()| of))
        };
        response.transaction_states.into_iter().map(answer).collect()
    }
}

impl Admin {
    /// Describes transactional producers: their states, and the partitions of their open transactions. There is one result per
    /// transactional id, in the order given.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// use milena::{ErrorCode, Record, TransactionState};
    ///
    /// let mut producer = client.transactional("billing-1").build().await?;
    /// let transaction = producer.begin().await?;
    /// transaction.send(Record::to("orders").value("created")).await?;
    ///
    /// for (id, described) in client.admin().describe_transactions(["billing-1", "no-such-id"]).await {
    ///     match described {
    ///         Ok(of) => {
    ///             assert_eq!((of.state, &of.partitions["orders"][..]), (TransactionState::Ongoing, &[0][..]));
    ///         }
    ///         Err(error) => {
    ///             assert_eq!((&id[..], error.code()), ("no-such-id", Some(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND)));
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no such id, this principal may not see it or its coordinator does not answer, its result says so.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_transactions<T: AsRef<str>>(
        &self,
        ids: impl IntoIterator<Item = T>,
    ) -> Vec<(String, Result<TransactionDescription, Error>)> {
        let ids: Vec<String> = ids.into_iter().map(|id| id.as_ref().to_owned()).collect();
        let described = self.call(&DescribeTransactions, &ids, self.deadline()).await;
        let result = |(id, found): (String, Result<(wire::TransactionState, Broker), Failure>)| {
            let doing = || format!("describing the transactional id {id:?}");
            let described = found
                .map(|(of, coordinator)| description(&of, &coordinator))
                .map_err(|failure| Error::harmless(doing(), failure));
            (id, described)
        };
        ids.into_iter().zip(described.finish_with_coordinators()).map(result).collect()
    }
}

fn description(of: &wire::TransactionState, coordinator: &Broker) -> TransactionDescription {
    let mut partitions: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for topic in &of.topics {
        partitions.entry(topic.topic.to_string()).or_default().extend(&topic.partitions);
    }
    partitions.values_mut().for_each(|partitions| partitions.sort_unstable());
    TransactionDescription {
        transactional_id: of.transactional_id.to_string(),
        state: TransactionState::of(&of.transaction_state),
        producer_id: of.producer_id,
        producer_epoch: of.producer_epoch,
        timeout: Duration::from_millis(u64::try_from(of.transaction_timeout_ms).unwrap_or(0)),
        started_ms: Some(of.transaction_start_time_ms).filter(|ms| *ms >= 0),
        partitions,
        coordinator: BrokerDescription::from(coordinator),
    }
}
