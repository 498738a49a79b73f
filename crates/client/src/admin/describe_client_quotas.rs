//! `DescribeClientQuotas`: the quotas that match a filter.

use milena_core::Failure;
use milena_core::calls::{DESCRIBE_CLIENT_QUOTAS, Row};
use milena_messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntryData,
};

use super::quotas::Matches;
use super::{Admin, QuotaDescription, QuotaEntity, QuotaFilter};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DescribeQuotas;

impl ApiCall for DescribeQuotas {
    const ROW: &'static Row = &DESCRIBE_CLIENT_QUOTAS;
    type Request = DescribeClientQuotasRequest;
    /// There is one.
    type Item = QuotaFilter;
    type Key = ();
    type Found = Vec<QuotaDescription>;

    fn key(&self, _: &QuotaFilter) {}

    fn request(&self, filters: &[&QuotaFilter]) -> DescribeClientQuotasRequest {
        let QuotaFilter { components, is_strict } = filters[0];
        let component = |(entity_type, matches): (&&str, &Matches)| {
            // `ComponentData.MatchType`.
            let (match_type, name) = match matches {
                Matches::Name(name) => (0, Some(name.as_str().into())),
                Matches::Default => (1, None),
                Matches::Any => (2, None),
            };
            ComponentData {
                entity_type: (*entity_type).into(),
                match_type,
                r#match: name,
                ..Default::default()
            }
        };
        let components = components.iter().map(component).collect();
        DescribeClientQuotasRequest { components, strict: *is_strict, ..Default::default() }
    }

    fn answers(&self, response: DescribeClientQuotasResponse) -> Answers<(), Vec<QuotaDescription>> {
        let found = Failure::check(response.error_code, response.error_message.as_deref());
        let entries = response.entries.unwrap_or_default();
        vec![((), found.map(|()| entries.iter().map(description).collect()))]
    }
}

fn description(of: &EntryData) -> QuotaDescription {
    let parts = of
        .entity
        .iter()
        .map(|part| (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string)));
    let quotas = of.values.iter().map(|quota| (quota.key.to_string(), quota.value));
    QuotaDescription { entity: QuotaEntity { parts: parts.collect() }, quotas: quotas.collect() }
}

impl Admin {
    /// Shows the quotas that match `filter`, sorted by entity. In Java: `describeClientQuotas` (KIP-546).
    ///
    /// # Errors
    /// When this principal may not describe the cluster's configuration, the filter combines an IP address with a user or client id,
    /// or no broker answers.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn describe_quotas(&self, filter: &QuotaFilter) -> Result<Vec<QuotaDescription>, Error> {
        let found = self.call_one(&DescribeQuotas, filter.clone()).await;
        let mut found = found.map_err(|failure| Error::harmless("listing quotas", failure))?;
        found.sort_by(|one, other| one.entity.cmp(&other.entity));
        Ok(found)
    }
}
