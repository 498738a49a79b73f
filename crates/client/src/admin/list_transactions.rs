//! `ListTransactions`: the transactional producers of all brokers (KIP-664, KIP-994, KIP-1152).

use milena_core::calls::{LIST_TRANSACTIONS, Row};
use milena_core::metadata::Destination;
use milena_core::{BrokerId, Failure};
use milena_messages::list_transactions::{self as wire, ListTransactionsRequest, ListTransactionsResponse};

use super::{Admin, ListedTransaction, TransactionFilter, TransactionListing, TransactionState};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct ListTransactions<'a>(&'a TransactionFilter);

impl ApiCall for ListTransactions<'_> {
    const ROW: &'static Row = &LIST_TRANSACTIONS;
    type Request = ListTransactionsRequest;
    type Item = BrokerId;
    /// An answer is about its broker alone.
    type Key = ();
    type Found = Vec<wire::TransactionState>;

    fn destination(&self, broker: &BrokerId) -> Destination {
        Destination::Broker(*broker)
    }

    fn key(&self, _broker: &BrokerId) {}

    fn request(&self, _brokers: &[&BrokerId]) -> ListTransactionsRequest {
        let filter = self.0;
        let ms = |duration: std::time::Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        ListTransactionsRequest {
            state_filters: filter.states.iter().map(|state| state.to_string().into()).collect(),
            producer_id_filters: filter.producer_ids.clone(),
            duration_filter: filter.open_longer_than.map_or(-1, ms),
            transactional_id_pattern: filter.id_pattern.as_deref().map(Into::into),
            ..Default::default()
        }
    }

    fn answers(&self, response: ListTransactionsResponse) -> Answers<(), Self::Found> {
        vec![((), Failure::check(response.error_code, None).map(|()| response.transaction_states))]
    }
}

impl Admin {
    /// Lists the transactional producers that all brokers coordinate, as far as this principal may see them. A broker that does
    /// not answer is in [`TransactionListing::failed`]: the producers that it coordinates may be missing then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 1)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # let mut producer = client.transactional("billing-1").build().await?;
    /// # let transaction = producer.begin().await?;
    /// # transaction.send(milena::Record::to("orders").value("created")).await?;
    /// use milena::{TransactionFilter, TransactionState};
    ///
    /// let open = TransactionFilter::all().states([TransactionState::Ongoing]);
    /// let listing = client.admin().list_transactions(&open).await?;
    /// for of in &listing.transactions {
    ///     println!("{} has a transaction open, broker {} coordinates it", of.transactional_id, of.coordinator);
    /// }
    /// for (broker, error) in &listing.failed {
    ///     eprintln!("the transactions of broker {broker} are missing: {error}");
    /// }
    /// # assert_eq!(listing.transactions[0].transactional_id, "billing-1");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When no broker lists its transactions: brokers before Kafka 3.0 do not, and older ones refuse a filter that they do not have.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn list_transactions(&self, filter: &TransactionFilter) -> Result<TransactionListing, Error> {
        let (listed, failed) = self.call_all_brokers(&ListTransactions(filter), "transactions").await?;
        let transactions = listed.iter().flat_map(|(broker, of)| {
            of.iter().map(|of| ListedTransaction {
                transactional_id: of.transactional_id.to_string(),
                producer_id: of.producer_id,
                state: TransactionState::of(&of.transaction_state),
                coordinator: broker.0,
            })
        });
        // Brokers count the duration of a producer without a transaction from 1970 on, and list it.
        let is_wanted = |of: &ListedTransaction| filter.open_longer_than.is_none() || of.state.is_open();
        let mut transactions: Vec<_> = transactions.filter(is_wanted).collect();
        // A producer whose coordinator moves while brokers are asked may be listed by both.
        transactions.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        transactions.dedup_by(|a, b| a.transactional_id == b.transactional_id);
        Ok(TransactionListing { transactions, failed })
    }
}
