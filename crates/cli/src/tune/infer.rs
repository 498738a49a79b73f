//! A schema for JSON objects of which there is none: what they have in common, as Avro and as Protobuf.
//!
//! It is for an estimate. A schema that somebody writes knows more: that a text is a time or one of a few symbols, that a number has two
//! decimals.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// What the values at one place have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    is_nullable: bool,
    /// None if there was nothing but null.
    kind: Option<Kind>,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Boolean,
    Integer,
    /// Integers too, if some values have a fraction.
    Number,
    Text,
    Array(Box<Shape>),
    /// The fields in the order in which they came.
    Object(Vec<Field>),
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    name: String,
    /// Nullable if some objects do not have it.
    shape: Shape,
}

/// What the values of records have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inference {
    root: Shape,
}

/// Objects that have more fields are maps whose keys are data.
const FIELDS_MAX: usize = 200;
/// How deep objects and arrays may be in each other.
const DEPTH_MAX: usize = 32;

impl Inference {
    /// Takes a record's value into account.
    ///
    /// # Errors
    /// Why there is no schema for it and for those before.
    pub(crate) fn add(&mut self, value: &Value) -> Result<(), String> {
        if !value.is_object() {
            return Err("a value is no JSON object".to_owned());
        }
        self.root.add(value, "", 0)?;
        match self.root.field_count() {
            count if count > FIELDS_MAX => Err(format!(
                "the objects have over {FIELDS_MAX} different fields: their names look like data"
            )),
            _ => Ok(()),
        }
    }

    /// An Avro schema for all values.
    ///
    /// # Errors
    /// Why Avro has none.
    pub(crate) fn avro(&self) -> Result<String, String> {
        self.root.check_names("")?;
        Ok(self.root.avro("Inferred").to_string())
    }

    /// A file of Protobuf's whose first message is for all values.
    ///
    /// # Errors
    /// Why Protobuf has none.
    pub(crate) fn protobuf(&self) -> Result<String, String> {
        self.root.check_names("")?;
        let mut text = "syntax = \"proto3\";\n".to_owned();
        if let Some(Kind::Object(fields)) = &self.root.kind {
            push_message("Inferred", fields, 0, &mut text)?;
        }
        Ok(text)
    }
}

impl Shape {
    fn add(&mut self, value: &Value, place: &str, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("objects are nested over {DEPTH_MAX} levels deep"));
        }
        let is_new = self.kind.is_none();
        let kind = match value {
            Value::Null => {
                self.is_nullable = true;
                return Ok(());
            }
            Value::Bool(_) => Kind::Boolean,
            Value::Number(number) if number.as_i64().is_some() => Kind::Integer,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::Text,
            Value::Array(items) => {
                let shape = match self.kind.get_or_insert_with(|| Kind::Array(Box::default())) {
                    Kind::Array(shape) => shape,
                    other => return Err(mixed(place, other.name(), "an array")),
                };
                return items.iter().try_for_each(|item| shape.add(item, &format!("{place}[]"), depth + 1));
            }
            Value::Object(entries) => {
                let fields = match self.kind.get_or_insert_with(|| Kind::Object(Vec::new())) {
                    Kind::Object(fields) => fields,
                    other => return Err(mixed(place, other.name(), "an object")),
                };
                return add_fields(fields, entries, is_new, place, depth);
            }
        };
        match (&mut self.kind, kind) {
            (none @ None, kind) => *none = Some(kind),
            (Some(Kind::Number), Kind::Integer) => {}
            (Some(before @ Kind::Integer), Kind::Number) => *before = Kind::Number,
            (Some(before), kind) if *before == kind => {}
            (Some(before), kind) => return Err(mixed(place, before.name(), kind.name())),
        }
        Ok(())
    }

    fn field_count(&self) -> usize {
        match &self.kind {
            Some(Kind::Array(items)) => items.field_count(),
            Some(Kind::Object(fields)) => {
                fields.iter().fold(fields.len(), |sum, field| sum + field.shape.field_count())
            }
            _ => 0,
        }
    }

    fn check_names(&self, place: &str) -> Result<(), String> {
        match &self.kind {
            Some(Kind::Array(items)) => items.check_names(place),
            Some(Kind::Object(fields)) => fields.iter().try_for_each(|field| {
                let mut chars = field.name.chars();
                let is_first_good =
                    chars.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
                if !is_first_good || !chars.all(|char| char.is_ascii_alphanumeric() || char == '_') {
                    let name = at(place, &field.name);
                    return Err(format!("field {name:?} has a name that neither Avro nor Protobuf takes"));
                }
                field.shape.check_names(&at(place, &field.name))
            }),
            _ => Ok(()),
        }
    }

    fn avro(&self, name: &str) -> Value {
        let inner = match &self.kind {
            None => json!("null"),
            Some(Kind::Boolean) => json!("boolean"),
            Some(Kind::Integer) => json!("long"),
            Some(Kind::Number) => json!("double"),
            Some(Kind::Text) => json!("string"),
            Some(Kind::Array(items)) => json!({"type": "array", "items": items.avro(name)}),
            Some(Kind::Object(fields)) => {
                let fields: Vec<_> = fields.iter().map(|field| field.avro(name)).collect();
                json!({"type": "record", "name": name, "fields": fields})
            }
        };
        match self.is_nullable && self.kind.is_some() {
            true => json!(["null", inner]),
            false => inner,
        }
    }
}

impl Field {
    fn avro(&self, parent: &str) -> Value {
        let Self { name, shape } = self;
        // The name of each record is that of its place, so that no two are the same.
        let kind = shape.avro(&format!("{parent}__{name}"));
        match shape.is_nullable {
            true => json!({"name": name, "type": kind, "default": null}),
            false => json!({"name": name, "type": kind}),
        }
    }
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Boolean => "true or false",
            Self::Integer | Self::Number => "a number",
            Self::Text => "text",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

fn add_fields(
    fields: &mut Vec<Field>,
    entries: &Map<String, Value>,
    is_first: bool,
    place: &str,
    depth: usize,
) -> Result<(), String> {
    for (name, value) in entries {
        let index = fields.iter().position(|field| field.name == *name).unwrap_or_else(|| {
            // Objects before this one did not have it.
            let shape = Shape { is_nullable: !is_first, kind: None };
            fields.push(Field { name: name.clone(), shape });
            fields.len() - 1
        });
        if fields.len() > FIELDS_MAX {
            return Err(format!(
                "the objects have over {FIELDS_MAX} different fields: their names look like data"
            ));
        }
        fields[index].shape.add(value, &at(place, name), depth + 1)?;
    }
    // What this object lacks is null.
    for field in fields.iter_mut().filter(|field| !entries.contains_key(&field.name)) {
        field.shape.is_nullable = true;
    }
    Ok(())
}

/// Appends a message with those in it.
fn push_message(name: &str, fields: &[Field], depth: usize, text: &mut String) -> Result<(), String> {
    let indent = "  ".repeat(depth);
    let _ = writeln!(text, "{indent}message {name} {{");
    for (index, field) in fields.iter().enumerate() {
        let (mut label, mut shape) = ("", &field.shape);
        if let Some(Kind::Array(items)) = &shape.kind {
            (label, shape) = ("repeated ", items);
            if matches!(shape.kind, Some(Kind::Array(_))) {
                return Err(format!(
                    "field {:?} has arrays in arrays, which Protobuf does not have",
                    field.name
                ));
            }
            if shape.is_nullable {
                return Err(format!(
                    "field {:?} has nulls in an array, which Protobuf does not have",
                    field.name
                ));
            }
        } else if shape.is_nullable {
            label = "optional ";
        }
        let kind = match &shape.kind {
            Some(Kind::Boolean) => "bool".to_owned(),
            Some(Kind::Integer) => "int64".to_owned(),
            Some(Kind::Number) => "double".to_owned(),
            // What is always null or empty is never written.
            Some(Kind::Text | Kind::Array(_)) | None => "string".to_owned(),
            Some(Kind::Object(inner)) => {
                let name = format!("Of_{}", field.name);
                push_message(&name, inner, depth + 1, text)?;
                name
            }
        };
        let _ = writeln!(text, "{indent}  {label}{kind} {} = {};", field.name, index + 1);
    }
    let _ = writeln!(text, "{indent}}}");
    Ok(())
}

fn at(place: &str, name: &str) -> String {
    if place.is_empty() { name.to_owned() } else { format!("{place}.{name}") }
}

fn mixed(place: &str, before: &str, now: &str) -> String {
    format!("field {place:?} is {before} in one record and {now} in another")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Inference, String> {
        let mut inference = Inference::default();
        for value in values {
            inference.add(&serde_json::from_str(value).expect("JSON"))?;
        }
        Ok(inference)
    }

    #[test]
    fn what_objects_have_in_common_is_a_schema() {
        let all = of(&[
            r#"{"id":1,"price":1,"tags":["a"],"who":{"name":"x","age":null},"old":true}"#,
            r#"{"id":2,"price":1.5,"tags":[],"who":{"name":"y","age":3},"note":"n","gone":null}"#,
        ])
        .expect("a shape");
        let avro: Value = serde_json::from_str(&all.avro().expect("Avro")).expect("JSON");
        assert_eq!(
            avro,
            json!({"type": "record", "name": "Inferred", "fields": [
                {"name": "id", "type": "long"},
                {"name": "old", "type": ["null", "boolean"], "default": null},
                {"name": "price", "type": "double"},
                {"name": "tags", "type": {"type": "array", "items": "string"}},
                {"name": "who", "type": {"type": "record", "name": "Inferred__who", "fields": [
                    {"name": "age", "type": ["null", "long"], "default": null},
                    {"name": "name", "type": "string"}]}},
                {"name": "gone", "type": "null", "default": null},
                {"name": "note", "type": ["null", "string"], "default": null}]})
        );
        let protobuf = all.protobuf().expect("Protobuf");
        for line in [
            "  int64 id = 1;\n",
            "  optional bool old = 2;\n",
            "  double price = 3;\n",
            "  repeated string tags = 4;\n",
            "  message Of_who {\n    optional int64 age = 1;\n    string name = 2;\n  }\n  Of_who who = 5;\n",
            "  optional string gone = 6;\n",
        ] {
            assert!(protobuf.contains(line), "{line} is not in {protobuf}");
        }
    }

    #[test]
    fn what_is_not_alike_has_no_schema() {
        for (values, says) in [
            (
                &["{\"a\":1}", "{\"a\":\"1\"}"][..],
                "field \"a\" is a number in one record and text in another",
            ),
            (
                &["{\"a\":{\"b\":[1]}}", "{\"a\":{\"b\":{}}}"],
                "field \"a.b\" is an array in one record and an object",
            ),
            (&["{\"a\":[1,true]}"], "field \"a[]\" is a number in one record and true or false"),
            (&["[1]"], "no JSON object"),
        ] {
            let error = of(values).expect_err(says);
            assert!(error.contains(says), "{error}");
        }
        let wide: String = (0..201).map(|n| format!("\"k{n}\":1,")).collect();
        assert!(
            of(&[&format!("{{{}}}", wide.trim_end_matches(','))]).expect_err("wide").contains("over 200")
        );
        let deep = "{\"a\":".repeat(40) + "1" + &"}".repeat(40);
        assert!(of(&[&deep]).expect_err("deep").contains("over 32 levels"));
    }

    #[test]
    fn what_one_format_does_not_have_the_other_may() {
        let nested = of(&["{\"a\":[[1],[2]]}"]).expect("a shape");
        assert!(nested.avro().is_ok());
        assert!(nested.protobuf().expect_err("none").contains("arrays in arrays"));
        let name = of(&["{\"a\":{\"b-c\":1}}"]).expect("a shape");
        assert!(name.avro().expect_err("none").contains("\"a.b-c\" has a name"));
        assert!(of(&["{\"1a\":1}"]).expect("a shape").protobuf().is_err());
    }
}
