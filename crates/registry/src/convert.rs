//! From what a registry's client knows to what the local checks take, and back.

use crate::compat::{self, Format, Level, SchemaError};
use crate::{CompatibilityLevel, Reference, Schema, SchemaType};

impl Schema {
    /// The schema, read for the local checks of [`compat`]. `others` are all schemas that it needs, each before those that use it, as
    /// [`SchemaRegistry::resolve`](crate::SchemaRegistry::resolve) gives them.
    ///
    /// ```
    /// use milena_registry::compat::{Level, check};
    /// use milena_registry::{Reference, Schema};
    ///
    /// let customer = Schema::avro(r#"{"type": "record", "name": "Customer", "fields": []}"#);
    /// let reference = Reference::new("Customer", "customers-value", 1);
    /// let order = Schema::avro(r#"{"type": "record", "name": "Order", "fields": [{"name": "of", "type": "Customer"}]}"#)
    ///     .reference(reference.clone());
    /// let order = order.parsed(&[(reference, customer)])?;
    /// assert!(check(Level::Full, &order, &[]).is_ok());
    /// # Ok::<(), milena_registry::compat::SchemaError>(())
    /// ```
    ///
    /// # Errors
    /// When it or one of the others is no valid schema, or its type is none that can be checked here.
    pub fn parsed(&self, others: &[(Reference, Schema)]) -> Result<compat::Schema, SchemaError> {
        let format = Format::try_from(self.kind())?;
        let other = |(reference, schema): &(Reference, Schema)| compat::Reference {
            name: reference.name.clone(),
            schema: schema.text().to_owned(),
        };
        let others: Vec<_> = others.iter().map(other).collect();
        compat::Schema::parse(format, self.text(), &others)
    }
}

impl TryFrom<&SchemaType> for Format {
    type Error = SchemaError;

    fn try_from(kind: &SchemaType) -> Result<Self, SchemaError> {
        kind.name().parse()
    }
}

impl From<Format> for SchemaType {
    fn from(format: Format) -> Self {
        Self::named(format.name())
    }
}

impl From<Level> for CompatibilityLevel {
    fn from(level: Level) -> Self {
        match level {
            Level::None => Self::None,
            Level::Backward => Self::Backward,
            Level::BackwardTransitive => Self::BackwardTransitive,
            Level::Forward => Self::Forward,
            Level::ForwardTransitive => Self::ForwardTransitive,
            Level::Full => Self::Full,
            Level::FullTransitive => Self::FullTransitive,
        }
    }
}

impl From<CompatibilityLevel> for Level {
    fn from(level: CompatibilityLevel) -> Self {
        match level {
            CompatibilityLevel::None => Self::None,
            CompatibilityLevel::Backward => Self::Backward,
            CompatibilityLevel::BackwardTransitive => Self::BackwardTransitive,
            CompatibilityLevel::Forward => Self::Forward,
            CompatibilityLevel::ForwardTransitive => Self::ForwardTransitive,
            CompatibilityLevel::Full => Self::Full,
            CompatibilityLevel::FullTransitive => Self::FullTransitive,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_types_have_the_same_names_on_both_sides() {
        for level in Level::ALL {
            let of_client = CompatibilityLevel::from(level);
            assert_eq!(Level::from(of_client), level);
            assert_eq!(serde_json::to_value(of_client).expect("text"), level.name());
        }
        for format in [Format::Avro, Format::Protobuf, Format::Json] {
            assert_eq!(Format::try_from(&SchemaType::from(format)), Ok(format));
        }
        assert!(Format::try_from(&SchemaType::named("XSD")).is_err());
    }
}
