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
}
