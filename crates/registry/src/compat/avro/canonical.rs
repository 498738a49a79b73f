//! The texts by which a registry tells whether two Avro schemas are the same.

use std::collections::HashSet;

use super::default::java_double;
use super::{Avro, Field, Id, Named, Shape, Type};
use crate::compat::value::{Object, Value, quote, utf16};

impl Avro {
    /// What `Schema.toString` of Avro writes: each member in Avro's order, each named type once.
    pub(in crate::compat) fn canonical(&self) -> String {
        self.text(false)
    }

    /// The canonical form after Confluent's normalization: properties and aliases sorted, empty documentation left out,
    /// defaults written as values of their types.
    pub(in crate::compat) fn normalized(&self) -> String {
        self.text(true)
    }

    /// The definition of one type, for comparison with another one.
    pub(super) fn definition(&self, id: Id) -> String {
        let mut printer = Printer { avro: self, normalize: true, known: HashSet::new(), out: String::new() };
        printer.schema(id, None);
        printer.out
    }

    fn text(&self, normalize: bool) -> String {
        let mut printer =
            Printer { avro: self, normalize, known: self.referenced.clone(), out: String::new() };
        printer.schema(self.root, None);
        printer.out
    }
}

struct Printer<'a> {
    avro: &'a Avro,
    normalize: bool,
    known: HashSet<String>,
    out: String,
}

impl Printer<'_> {
    fn schema(&mut self, id: Id, namespace: Option<&str>) {
        let avro = self.avro;
        let r#type = &avro.types[id];
        match &r#type.shape {
            Shape::Union(branches) => {
                self.out.push('[');
                for (index, branch) in branches.iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.schema(*branch, namespace);
                }
                self.out.push(']');
            }
            Shape::Array(inner) | Shape::Map(inner) => {
                let member = if matches!(r#type.shape, Shape::Array(_)) { "items" } else { "values" };
                self.out.push_str("{\"type\":");
                quote(r#type.shape.kind(), &mut self.out);
                self.member(member);
                self.schema(*inner, namespace);
                self.props(r#type);
                self.out.push('}');
            }
            Shape::Fixed { name, .. } | Shape::Enum { name, .. } | Shape::Record { name, .. } => {
                self.named(r#type, name, namespace);
            }
            shape if r#type.props.is_empty() => quote(shape.kind(), &mut self.out),
            shape => {
                self.out.push_str("{\"type\":");
                quote(shape.kind(), &mut self.out);
                self.props(r#type);
                self.out.push('}');
            }
        }
    }

    fn named(&mut self, r#type: &Type, name: &Named, namespace: Option<&str>) {
        if !self.known.insert(name.full()) {
            let reference = qualified(&name.full(), namespace);
            quote(&reference, &mut self.out);
            return;
        }
        self.out.push_str("{\"type\":");
        let error = matches!(r#type.shape, Shape::Record { error: true, .. });
        // Confluent's normalization makes records of errors.
        quote(if error && self.normalize { "record" } else { r#type.shape.kind() }, &mut self.out);
        self.member("name");
        quote(&name.name, &mut self.out);
        if name.namespace.as_deref() != namespace {
            self.member("namespace");
            quote(name.namespace.as_deref().unwrap_or_default(), &mut self.out);
        }
        if let Some(doc) = name.doc.as_ref().filter(|doc| !self.normalize || !doc.is_empty()) {
            self.member("doc");
            quote(doc, &mut self.out);
        }
        match &r#type.shape {
            Shape::Fixed { size, .. } => {
                self.member("size");
                self.out.push_str(&size.to_string());
            }
            Shape::Enum { symbols, default, .. } => {
                self.member("symbols");
                self.strings(symbols.iter().map(String::as_str));
                if let Some(default) = default {
                    self.member("default");
                    quote(default, &mut self.out);
                }
            }
            Shape::Record { fields, .. } => {
                self.member("fields");
                self.out.push('[');
                for (index, field) in fields.iter().enumerate() {
                    if index > 0 {
                        self.out.push(',');
                    }
                    self.field(field, name.namespace.as_deref());
                }
                self.out.push(']');
            }
            _ => {}
        }
        self.props(r#type);
        let aliases: Vec<String> = self.sorted(&name.aliases);
        if !aliases.is_empty() {
            self.member("aliases");
            let aliases: Vec<String> =
                aliases.iter().map(|alias| qualified(alias, name.namespace.as_deref())).collect();
            self.strings(aliases.iter().map(String::as_str));
        }
        self.out.push('}');
    }

    fn field(&mut self, field: &Field, namespace: Option<&str>) {
        self.out.push_str("{\"name\":");
        quote(&field.name, &mut self.out);
        self.member("type");
        self.schema(field.r#type, namespace);
        if let Some(doc) = &field.doc {
            self.member("doc");
            quote(doc, &mut self.out);
        }
        let default = match &field.default {
            Some(default) if self.normalize => self.avro.typed_default(field.r#type, default),
            default => default.clone(),
        };
        if let Some(default) = default {
            self.member("default");
            self.value(&default);
        }
        if let Some(order) = &field.order {
            self.member("order");
            quote(order, &mut self.out);
        }
        let aliases = self.sorted(&field.aliases);
        if !aliases.is_empty() {
            self.member("aliases");
            self.strings(aliases.iter().map(String::as_str));
        }
        let props = if self.normalize { sorted(&field.props) } else { field.props.clone() };
        self.members(&props);
        self.out.push('}');
    }

    fn sorted(&self, names: &[String]) -> Vec<String> {
        let mut names = names.to_vec();
        if self.normalize {
            names.sort_by(|a, b| utf16(a).cmp(utf16(b)));
            names.dedup();
        }
        names
    }

    fn props(&mut self, r#type: &Type) {
        if !self.normalize {
            return self.members(&r#type.props);
        }
        // Confluent writes what makes a known logical type first, and everything else by name.
        let mut first = Vec::new();
        if let Some(known) = logical(r#type) {
            first.push(("logicalType".to_owned(), Value::String(known.to_owned())));
            if known == "decimal" {
                let number = |name: &str| super::value::get(&r#type.props, name).cloned();
                first.extend(number("precision").map(|value| ("precision".to_owned(), value)));
                first.extend(
                    number("scale")
                        .filter(|scale| scale.as_i64() != Some(0))
                        .map(|value| ("scale".to_owned(), value)),
                );
            }
        }
        let rest = sorted(&r#type.props)
            .into_iter()
            .filter(|(name, _)| first.iter().all(|(other, _)| other != name));
        let members: Object = first.iter().cloned().chain(rest).collect();
        self.members(&members);
    }

    fn members(&mut self, members: &Object) {
        for (name, value) in members {
            self.member(name);
            self.value(value);
        }
    }

    /// A value as Avro's parser keeps it: a number with a fraction is a double.
    fn value(&mut self, value: &Value) {
        doubles(value).write(&mut self.out);
    }

    fn member(&mut self, name: &str) {
        self.out.push(',');
        quote(name, &mut self.out);
        self.out.push(':');
    }

    fn strings<'s>(&mut self, strings: impl Iterator<Item = &'s str>) {
        self.out.push('[');
        for (index, string) in strings.enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            quote(string, &mut self.out);
        }
        self.out.push(']');
    }
}

fn doubles(value: &Value) -> Value {
    match value {
        Value::Number(_) if !value.is_integer() => {
            Value::Number(java_double(value.as_f64().unwrap_or_default()))
        }
        Value::Number(digits) if digits == "-0" => Value::Number("0".to_owned()),
        Value::Array(items) => Value::Array(items.iter().map(doubles).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, value)| (name.clone(), doubles(value))).collect())
        }
        other => other.clone(),
    }
}

fn sorted(props: &Object) -> Object {
    match Value::Object(props.clone()).sorted() {
        Value::Object(sorted) => sorted,
        _ => Vec::new(),
    }
}

/// A full name as it is written inside a namespace.
fn qualified(full: &str, namespace: Option<&str>) -> String {
    match full.rsplit_once('.') {
        // A name that a primitive type has keeps its namespace.
        Some((space, bare)) if Some(space) == namespace && Shape::primitive(bare).is_none() => {
            bare.to_owned()
        }
        _ => full.to_owned(),
    }
}

/// The logical type, where Avro knows it and its underlying type fits.
fn logical(r#type: &Type) -> Option<&str> {
    let name = super::value::get(&r#type.props, "logicalType")?.as_str()?;
    let number = |name: &str| super::value::get(&r#type.props, name).and_then(Value::as_i64);
    let fits = match name {
        "decimal" => {
            let precision = number("precision").filter(|precision| *precision > 0)?;
            let scale = number("scale").unwrap_or(0);
            let room = match &r#type.shape {
                Shape::Bytes => i64::MAX,
                Shape::Fixed { size, .. } => digits(*size),
                _ => return None,
            };
            precision <= room && (0..=precision).contains(&scale)
        }
        "big-decimal" => matches!(r#type.shape, Shape::Bytes),
        "uuid" => matches!(r#type.shape, Shape::String | Shape::Fixed { size: 16, .. }),
        "date" | "time-millis" => matches!(r#type.shape, Shape::Int),
        "time-micros"
        | "timestamp-millis"
        | "timestamp-micros"
        | "timestamp-nanos"
        | "local-timestamp-millis"
        | "local-timestamp-micros"
        | "local-timestamp-nanos" => matches!(r#type.shape, Shape::Long),
        "duration" => matches!(r#type.shape, Shape::Fixed { size: 12, .. }),
        _ => false,
    };
    fits.then_some(name)
}

/// The decimal digits that fit into a number of bytes.
fn digits(bytes: i64) -> i64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "a fixed type's size is an i32"
    )]
    let digits = (std::f64::consts::LOG10_2 * (8 * bytes - 1) as f64).floor() as i64;
    digits
}
