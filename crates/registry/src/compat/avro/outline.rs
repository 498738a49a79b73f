//! A schema as a list of its named types, their fields and their symbols.

use std::collections::HashSet;

use super::{Avro, Id, Shape, Type};
use crate::compat::diff::Outline;
use crate::compat::value::{Object, Value};

/// All named types that are reached from the root, each once, and the root if it has no name.
pub(in crate::compat) fn outline(avro: &Avro) -> Outline {
    let mut outline = Outline::new();
    let mut met = HashSet::new();
    // In the order of the text; a stack would turn it around.
    let mut waiting = vec![avro.root];
    if avro.shape(avro.root).named().is_none() {
        outline.push(("/".into(), avro.told(avro.root, false)));
    }
    let mut next = 0;
    while let Some(&id) = waiting.get(next) {
        next += 1;
        if !met.insert(id) {
            continue;
        }
        match avro.shape(id) {
            Shape::Array(inner) | Shape::Map(inner) => waiting.push(*inner),
            Shape::Union(branches) => waiting.extend(branches),
            Shape::Record { fields, .. } => waiting.extend(fields.iter().map(|field| field.r#type)),
            _ => {}
        }
        named(avro, &avro.types[id], &mut outline);
    }
    outline
}

fn named(avro: &Avro, r#type: &Type, outline: &mut Outline) {
    let Some(name) = r#type.shape.named() else { return };
    let full = name.full();
    let mut text = match &r#type.shape {
        Shape::Fixed { size, .. } => format!("fixed, {size} bytes"),
        Shape::Enum { default: Some(default), .. } => format!("enum, default {default}"),
        shape => shape.kind().to_owned(),
    };
    more(&mut text, &name.aliases, name.doc.as_deref(), &r#type.props);
    outline.push((full.clone(), text));
    match &r#type.shape {
        Shape::Enum { symbols, .. } => {
            outline.extend(symbols.iter().map(|symbol| (format!("{full}.{symbol}"), "symbol".to_owned())));
        }
        Shape::Record { fields, .. } => {
            for field in fields {
                let mut text = avro.told(field.r#type, false);
                if let Some(default) = &field.default {
                    text += &format!(", default {}", json(default));
                }
                if let Some(order) = &field.order {
                    text += &format!(", order {order}");
                }
                more(&mut text, &field.aliases, field.doc.as_deref(), &field.props);
                outline.push((format!("{full}.{}", field.name), text));
            }
        }
        _ => {}
    }
}

fn more(text: &mut String, aliases: &[String], doc: Option<&str>, props: &Object) {
    aliases.iter().for_each(|alias| *text += &format!(", alias {alias}"));
    props.iter().for_each(|(name, value)| *text += &format!(", {name} {}", json(value)));
    if let Some(doc) = doc {
        *text += &format!(", doc {}", json(&Value::String(doc.to_owned())));
    }
}

fn json(value: &Value) -> String {
    let mut text = String::new();
    value.write(&mut text);
    text
}

impl Avro {
    /// A type in a few words. Types without names are nested no deeper than the text, whose nesting is limited.
    fn told(&self, id: Id, is_inner: bool) -> String {
        let r#type = &self.types[id];
        let text = match &r#type.shape {
            Shape::Array(inner) => format!("array of {}", self.told(*inner, true)),
            Shape::Map(inner) => format!("map of {}", self.told(*inner, true)),
            Shape::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(|branch| self.told(*branch, true)).collect();
                let text = branches.join(" or ");
                return if is_inner && branches.len() > 1 { format!("({text})") } else { text };
            }
            shape => match shape.named() {
                // What else it says is in its own part.
                Some(name) => return name.full(),
                None => shape.kind().to_owned(),
            },
        };
        let mut text = text;
        more(&mut text, &[], None, &r#type.props);
        text
    }
}
