//! `AlterClientQuotas`: sets quotas and takes them away.

use milena_core::Failure;
use milena_core::calls::{ALTER_CLIENT_QUOTAS, Row};
use milena_messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntityData, AlterClientQuotasRequestEntryData,
    AlterClientQuotasResponse, AlterClientQuotasResponseEntryData, OpData,
};

use super::{Admin, QuotaChange, QuotaEntity};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct AlterQuotas {
    validate_only: bool,
}

impl ApiCall for AlterQuotas {
    const ROW: &'static Row = &ALTER_CLIENT_QUOTAS;
    type Request = AlterClientQuotasRequest;
    type Item = (QuotaEntity, Vec<QuotaChange>);
    type Key = QuotaEntity;
    type Found = ();

    fn key(&self, (entity, _): &Self::Item) -> QuotaEntity {
        entity.clone()
    }

    fn request(&self, items: &[&Self::Item]) -> AlterClientQuotasRequest {
        let entry = |(entity, changes): &&Self::Item| {
            let part = |(entity_type, name): (&str, Option<&str>)| AlterClientQuotasRequestEntityData {
                entity_type: entity_type.into(),
                entity_name: name.map(Into::into),
                ..Default::default()
            };
            let op = |change: &QuotaChange| OpData {
                key: change.name.as_str().into(),
                value: change.value.unwrap_or(0.0),
                remove: change.value.is_none(),
                ..Default::default()
            };
            AlterClientQuotasRequestEntryData {
                entity: entity.parts().map(part).collect(),
                ops: changes.iter().map(op).collect(),
                ..Default::default()
            }
        };
        let entries = items.iter().map(entry).collect();
        AlterClientQuotasRequest { entries, validate_only: self.validate_only, ..Default::default() }
    }

    fn answers(&self, response: AlterClientQuotasResponse) -> Answers<QuotaEntity, ()> {
        let answer = |entry: &AlterClientQuotasResponseEntryData| {
            let parts = entry.entity.iter().map(|part| {
                (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string))
            });
            let entity = QuotaEntity { parts: parts.collect() };
            (entity, Failure::check(entry.error_code, entry.error_message.as_deref()))
        };
        response.entries.iter().map(answer).collect()
    }
}

impl Admin {
    /// Sets quotas and takes them away; those that are not named stay as they are. There is one result per entity, in the order
    /// given. In Java: `alterClientQuotas` (KIP-546).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// use milena::{QuotaChange, QuotaEntity, QuotaFilter};
    ///
    /// let alice = QuotaEntity::new().user("alice");
    /// let changes = [QuotaChange::set("producer_byte_rate", 1_048_576.0), QuotaChange::remove("request_percentage")];
    /// for (_, altered) in client.admin().alter_quotas([(alice, changes)]).await {
    ///     altered?;
    /// }
    /// for of in client.admin().describe_quotas(&QuotaFilter::all().any_user()).await? {
    ///     println!("{}: {:?}", of.entity, of.quotas);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a quota was not changed, because there is no limit of its name, its value is not right, this principal may not alter the
    /// cluster's configuration or no broker answers, the result of its entity says so; [`Error::maybe_written`] tells whether it may
    /// have been changed all the same.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn alter_quotas<C: IntoIterator<Item = QuotaChange>>(
        &self,
        changes: impl IntoIterator<Item = (QuotaEntity, C)>,
    ) -> Vec<(QuotaEntity, Result<(), Error>)> {
        self.quotas(AlterQuotas { validate_only: false }, changes).await
    }

    /// Asks whether [`alter_quotas`](Self::alter_quotas) would succeed, and changes nothing.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn validate_quotas<C: IntoIterator<Item = QuotaChange>>(
        &self,
        changes: impl IntoIterator<Item = (QuotaEntity, C)>,
    ) -> Vec<(QuotaEntity, Result<(), Error>)> {
        self.quotas(AlterQuotas { validate_only: true }, changes).await
    }

    async fn quotas<C: IntoIterator<Item = QuotaChange>>(
        &self,
        call: AlterQuotas,
        changes: impl IntoIterator<Item = (QuotaEntity, C)>,
    ) -> Vec<(QuotaEntity, Result<(), Error>)> {
        let changes = changes.into_iter().map(|(entity, changes)| (entity, changes.into_iter().collect()));
        let changes: Vec<(QuotaEntity, Vec<QuotaChange>)> = changes.collect();
        let altered = self.call(&call, &changes, self.deadline()).await.finish();
        let result = |((entity, _), altered): ((QuotaEntity, _), Result<(), Failure>)| {
            let doing = format!("changing the quotas of {entity}");
            let altered = altered.map_err(|failure| match call.validate_only {
                true => Error::harmless(doing, failure),
                false => Error::new(doing, failure),
            });
            (entity, altered)
        };
        changes.into_iter().zip(altered).map(result).collect()
    }
}
