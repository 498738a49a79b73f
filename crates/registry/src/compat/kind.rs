//! The kinds of incompatibilities: their names in a registry's answers, and what to do.

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $advice:literal,)*) => {
        /// What makes a schema incompatible. The names are those of Confluent's registry.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// The name in the answers of Confluent's registry, such as `READER_FIELD_MISSING_DEFAULT_VALUE`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$kind => $name,)*
                }
            }

            /// What to do, as a sentence without its full stop.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self {
                    $(Kind::$kind => $advice,)*
                }
            }
        }
    };
}

kinds! {
    /// The schemas have different formats.
    FormatChanged "SCHEMA_TYPE_CHANGED"
        "keep the format of the subject, or register under another subject",
    /// The check gave up, because the schemas are too large together.
    TooComplex "TOO_COMPLEX"
        "split the schema into smaller ones, or check with level NONE",

    /// Avro: the types differ and the written one does not become the read one.
    TypeMismatch "TYPE_MISMATCH"
        "keep the type, promote it (int to long, float, double; string and bytes), or add a new field",
    /// Avro: a named type is called otherwise.
    NameMismatch "NAME_MISMATCH"
        "keep the name, or give the old full name as an alias",
    /// Avro: a fixed type has another size.
    FixedSizeMismatch "FIXED_SIZE_MISMATCH"
        "keep the size, or add a new field",
    /// Avro: an enum was written with symbols that the reader has not.
    MissingEnumSymbols "MISSING_ENUM_SYMBOLS"
        "keep the symbols, or give the enum a default",
    /// Avro: no branch of a union reads what was written.
    MissingUnionBranch "MISSING_UNION_BRANCH"
        "keep the branch in the union",
    /// Avro: a field was not written and has no default.
    FieldWithoutDefault "READER_FIELD_MISSING_DEFAULT_VALUE"
        "give the field a default",
    /// Avro: aliases match more than one written field.
    AmbiguousAlias "READER_FIELD_AMBIGUOUS_ALIAS"
        "remove an alias, so that one written field matches",

    /// Protobuf: the package has another name.
    PackageChanged "PACKAGE_CHANGED"
        "keep the package, or register under another subject",
    /// Protobuf: a message was removed.
    MessageRemoved "MESSAGE_REMOVED"
        "keep the message, even when no field uses it",
    /// Protobuf: a field is scalar, message or map, and was another of them.
    KindChanged "FIELD_KIND_CHANGED"
        "keep the type, and add the new one under a new number",
    /// Protobuf: a scalar has another form on the wire.
    ScalarKindChanged "FIELD_SCALAR_KIND_CHANGED"
        "keep the type or one with the same form on the wire, and add the new one under a new number",
    /// Protobuf: a field has another message as its type.
    NamedTypeChanged "FIELD_NAMED_TYPE_CHANGED"
        "keep the message, and add the new one under a new number",
    /// Protobuf: a number became repeated, or no longer is.
    NumericLabelChanged "FIELD_NUMERIC_LABEL_CHANGED"
        "keep the label, and add the new field under a new number",
    /// Protobuf: a required field was added.
    RequiredFieldAdded "REQUIRED_FIELD_ADDED"
        "make the field optional",
    /// Protobuf: a required field was removed.
    RequiredFieldRemoved "REQUIRED_FIELD_REMOVED"
        "keep the field",
    /// Protobuf: a field was removed from a oneof that is still there.
    OneOfFieldRemoved "ONEOF_FIELD_REMOVED"
        "keep the field, and mark it deprecated",
    /// Protobuf: fields that could be set together were moved into one oneof.
    FieldsMovedToOneOf "MULTIPLE_FIELDS_MOVED_TO_ONEOF"
        "leave the fields where they are, and add new ones to the oneof",
    /// Protobuf: a field was moved into a oneof with other fields.
    FieldMovedToOneOf "FIELD_MOVED_TO_EXISTING_ONEOF"
        "leave the field where it is, and add a new one to the oneof",

    /// JSON Schema: the type changed.
    TypeChanged "TYPE_CHANGED"
        "keep the type, or allow the old one too by anyOf",
    /// JSON Schema: numbers became integers.
    TypeNarrowed "TYPE_NARROWED"
        "keep number",
    /// JSON Schema: a schema was added where there was none.
    SchemaAdded "SCHEMA_ADDED"
        "remove it",
    /// JSON Schema: a limit was added.
    MaxLengthAdded "MAX_LENGTH_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MaxLengthDecreased "MAX_LENGTH_DECREASED"
        "keep the old limit",
    /// JSON Schema: a limit was added.
    MinLengthAdded "MIN_LENGTH_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MinLengthIncreased "MIN_LENGTH_INCREASED"
        "keep the old limit",
    /// JSON Schema: a pattern was added.
    PatternAdded "PATTERN_ADDED"
        "remove it",
    /// JSON Schema: a pattern changed.
    PatternChanged "PATTERN_CHANGED"
        "keep the pattern",
    /// JSON Schema: a limit was added.
    MaximumAdded "MAXIMUM_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MaximumDecreased "MAXIMUM_DECREASED"
        "keep the old limit",
    /// JSON Schema: a limit was added.
    ExclusiveMaximumAdded "EXCLUSIVE_MAXIMUM_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    ExclusiveMaximumDecreased "EXCLUSIVE_MAXIMUM_DECREASED"
        "keep the old limit",
    /// JSON Schema: a limit was added.
    MinimumAdded "MINIMUM_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MinimumIncreased "MINIMUM_INCREASED"
        "keep the old limit",
    /// JSON Schema: a limit was added.
    ExclusiveMinimumAdded "EXCLUSIVE_MINIMUM_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    ExclusiveMinimumIncreased "EXCLUSIVE_MINIMUM_INCREASED"
        "keep the old limit",
    /// JSON Schema: `multipleOf` was added.
    MultipleOfAdded "MULTIPLE_OF_ADDED"
        "remove it",
    /// JSON Schema: `multipleOf` is a multiple of what it was.
    MultipleOfExpanded "MULTIPLE_OF_EXPANDED"
        "keep the old number",
    /// JSON Schema: `multipleOf` changed.
    MultipleOfChanged "MULTIPLE_OF_CHANGED"
        "keep the old number",
    /// JSON Schema: a property became required.
    RequiredAttributeAdded "REQUIRED_ATTRIBUTE_ADDED"
        "leave it optional, or give it a default",
    /// JSON Schema: a property needs others.
    DependencyArrayAdded "DEPENDENCY_ARRAY_ADDED"
        "remove the dependency",
    /// JSON Schema: a property needs more others.
    DependencyArrayExtended "DEPENDENCY_ARRAY_EXTENDED"
        "keep the old dependency",
    /// JSON Schema: a property needs different others.
    DependencyArrayChanged "DEPENDENCY_ARRAY_CHANGED"
        "keep the old dependency",
    /// JSON Schema: a property brings a schema.
    DependencySchemaAdded "DEPENDENCY_SCHEMA_ADDED"
        "remove the dependency",
    /// JSON Schema: a limit was added.
    MaxPropertiesAdded "MAX_PROPERTIES_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MaxPropertiesDecreased "MAX_PROPERTIES_DECREASED"
        "keep the old limit",
    /// JSON Schema: a limit was added.
    MinPropertiesAdded "MIN_PROPERTIES_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MinPropertiesIncreased "MIN_PROPERTIES_INCREASED"
        "keep the old limit",
    /// JSON Schema: other properties are not allowed any more.
    AdditionalPropertiesRemoved "ADDITIONAL_PROPERTIES_REMOVED"
        "leave additionalProperties out",
    /// JSON Schema: other properties have a schema.
    AdditionalPropertiesNarrowed "ADDITIONAL_PROPERTIES_NARROWED"
        "leave additionalProperties out",
    /// JSON Schema: other properties are not allowed any more.
    UnevaluatedPropertiesRemoved "UNEVALUATED_PROPERTIES_REMOVED"
        "leave unevaluatedProperties out",
    /// JSON Schema: other properties have a schema.
    UnevaluatedPropertiesNarrowed "UNEVALUATED_PROPERTIES_NARROWED"
        "leave unevaluatedProperties out",
    /// JSON Schema: a required property was added where others were allowed.
    RequiredPropertyAddedToOpen "REQUIRED_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL"
        "close the old schema (additionalProperties: false) and give the property a default",
    /// JSON Schema: a required property with a default was added where others were allowed.
    RequiredPropertyWithDefaultAddedToOpen "REQUIRED_PROPERTY_WITH_DEFAULT_ADDED_TO_OPEN_CONTENT_MODEL"
        "close the old schema (additionalProperties: false)",
    /// JSON Schema: an optional property was added where others were allowed.
    OptionalPropertyAddedToOpen "OPTIONAL_PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL"
        "close the old schema (additionalProperties: false), or use level FORWARD",
    /// JSON Schema: a required property was added.
    RequiredPropertyAddedToUnopen "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL"
        "make it optional, or give it a default",
    /// JSON Schema: a property was removed where others are not allowed.
    PropertyRemovedFromClosed "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"
        "keep the property, or allow others",
    /// JSON Schema: a removed property is not taken by what others may be.
    RemovedPropertyNotCovered "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL"
        "keep the property, or widen what others may be",
    /// JSON Schema: an added property does not take what others could be.
    AddedPropertyNotCovered "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL"
        "widen the property",
    /// JSON Schema: a limit was added.
    MaxItemsAdded "MAX_ITEMS_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MaxItemsDecreased "MAX_ITEMS_DECREASED"
        "keep the old limit",
    /// JSON Schema: a limit was added.
    MinItemsAdded "MIN_ITEMS_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MinItemsIncreased "MIN_ITEMS_INCREASED"
        "keep the old limit",
    /// JSON Schema: a limit was added.
    MaxContainsAdded "MAX_CONTAINS_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MaxContainsDecreased "MAX_CONTAINS_DECREASED"
        "keep the old limit",
    /// JSON Schema: a limit was added.
    MinContainsAdded "MIN_CONTAINS_ADDED"
        "remove it",
    /// JSON Schema: a limit became stricter.
    MinContainsIncreased "MIN_CONTAINS_INCREASED"
        "keep the old limit",
    /// JSON Schema: items have to be different.
    UniqueItemsAdded "UNIQUE_ITEMS_ADDED"
        "leave uniqueItems out",
    /// JSON Schema: other items are not allowed any more.
    AdditionalItemsRemoved "ADDITIONAL_ITEMS_REMOVED"
        "leave additionalItems out",
    /// JSON Schema: other items have a schema.
    AdditionalItemsNarrowed "ADDITIONAL_ITEMS_NARROWED"
        "leave additionalItems out",
    /// JSON Schema: other items are not allowed any more.
    UnevaluatedItemsRemoved "UNEVALUATED_ITEMS_REMOVED"
        "leave unevaluatedItems out",
    /// JSON Schema: other items have a schema.
    UnevaluatedItemsNarrowed "UNEVALUATED_ITEMS_NARROWED"
        "leave unevaluatedItems out",
    /// JSON Schema: an item was added where others were allowed.
    ItemAddedToOpen "ITEM_ADDED_TO_OPEN_CONTENT_MODEL"
        "close the old schema (additionalItems: false)",
    /// JSON Schema: an item was removed where others are not allowed.
    ItemRemovedFromClosed "ITEM_REMOVED_FROM_CLOSED_CONTENT_MODEL"
        "keep the item, or allow others",
    /// JSON Schema: a removed item is not taken by what others may be.
    RemovedItemNotCovered "ITEM_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL"
        "keep the item, or widen what others may be",
    /// JSON Schema: an added item does not take what others could be.
    AddedItemNotCovered "ITEM_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL"
        "widen the item",
    /// JSON Schema: values were removed.
    EnumNarrowed "ENUM_ARRAY_NARROWED"
        "keep the values",
    /// JSON Schema: values were exchanged.
    EnumChanged "ENUM_ARRAY_CHANGED"
        "keep the old values beside the new ones",
    /// JSON Schema: allOf, anyOf or oneOf became another of them.
    CombinedTypeChanged "COMBINED_TYPE_CHANGED"
        "keep it, or use anyOf",
    /// JSON Schema: an allOf got a part.
    ProductTypeExtended "PRODUCT_TYPE_EXTENDED"
        "remove the part",
    /// JSON Schema: an anyOf or oneOf lost a part.
    SumTypeNarrowed "SUM_TYPE_NARROWED"
        "keep the part",
    /// JSON Schema: parts of a combination changed.
    CombinedSubschemasChanged "COMBINED_TYPE_SUBSCHEMAS_CHANGED"
        "keep each part, or widen it",
    /// JSON Schema: a not excludes more.
    NotExtended "NOT_TYPE_EXTENDED"
        "exclude what was excluded before",
}
