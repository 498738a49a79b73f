//! Confluent's normalization of Protobuf schemas: full names of types, and everything whose order means nothing sorted.

use super::names::{Named, Names};
use super::{
    Call, Constant, Enum, Extend, Field, FieldType, File, Group, Message, OneOf, Range, Ranges, Service,
    Setting, Term, Type,
};
use crate::compat::value::utf16;

impl Names {
    /// The file as the registry writes it with `normalize=true`.
    pub(super) fn normalize(&self, file: &File) -> File {
        let scope = file.package.as_deref().unwrap_or_default();
        let imports = |imports: &[String]| {
            let mut imports = imports.to_vec();
            imports.sort_by(|a, b| utf16(a).cmp(utf16(b)));
            imports.dedup();
            imports
        };
        File {
            // A file without a syntax is proto2.
            syntax: file.syntax.filter(|syntax| *syntax == "proto3"),
            package: file.package.clone(),
            imports: imports(&file.imports),
            public_imports: imports(&file.public_imports),
            options: self.options(scope, &file.options),
            types: self.types_of(scope, &file.types),
            extends: self.extends_of(scope, &file.extends),
            services: file.services.iter().map(|service| self.service(scope, service)).collect(),
        }
    }

    fn types_of(&self, scope: &str, types: &[Type]) -> Vec<Type> {
        let kept = types.iter().filter(|found| match found {
            // A map is written as a map.
            Type::Message(message) => message.map_entry().is_none(),
            Type::Enum(_) => true,
        });
        kept.map(|found| match found {
            Type::Message(message) => Type::Message(self.message(scope, message)),
            Type::Enum(found) => Type::Enum(self.enumeration(&inner(scope, &found.name), found)),
        })
        .collect()
    }

    fn message(&self, scope: &str, message: &Message) -> Message {
        let scope = &inner(scope, &message.name);
        let mut groups: Vec<Group> = message.groups.iter().map(|group| self.group(scope, group)).collect();
        groups.sort_by_key(|group| group.number);
        let mut oneofs: Vec<OneOf> = message
            .oneofs
            .iter()
            .filter(|oneof| !oneof.fields.is_empty())
            .map(|oneof| self.oneof(scope, oneof))
            .collect();
        oneofs.sort_by_key(|oneof| oneof.fields.first().map(|field| field.number));
        Message {
            name: message.name.clone(),
            reserved: self.ranges(scope, &message.reserved),
            options: self.options(scope, &message.options),
            fields: self.fields_of(scope, &message.fields),
            // Confluent leaves the blank line of oneofs that it leaves out.
            gap: oneofs.is_empty() && !message.oneofs.is_empty(),
            oneofs,
            groups,
            extensions: self.ranges(scope, &message.extensions),
            extends: self.extends_of(scope, &message.extends),
            types: self.types_of(scope, &message.types),
        }
    }

    fn oneof(&self, scope: &str, oneof: &OneOf) -> OneOf {
        let mut groups: Vec<Group> = oneof.groups.iter().map(|group| self.group(scope, group)).collect();
        groups.sort_by_key(|group| group.number);
        let options = self.options(scope, &oneof.options);
        OneOf { name: oneof.name.clone(), options, fields: self.fields_of(scope, &oneof.fields), groups }
    }

    fn group(&self, scope: &str, group: &Group) -> Group {
        Group { fields: self.fields_of(scope, &group.fields), ..group.clone() }
    }

    fn enumeration(&self, scope: &str, found: &Enum) -> Enum {
        let constant = |constant: &Constant| Constant {
            options: self.options(scope, &constant.options),
            ..constant.clone()
        };
        let mut constants: Vec<Constant> = found.constants.iter().map(constant).collect();
        constants.sort_by(|a, b| a.number.cmp(&b.number).then_with(|| a.name.cmp(&b.name)));
        Enum {
            name: found.name.clone(),
            reserved: self.ranges(scope, &found.reserved),
            options: self.options(scope, &found.options),
            constants,
        }
    }

    fn service(&self, scope: &str, service: &Service) -> Service {
        let side = |(stream, name): &(bool, String)| (*stream, self.full(scope, name));
        let call = |call: &Call| Call {
            name: call.name.clone(),
            request: side(&call.request),
            response: side(&call.response),
            options: self.options(scope, &call.options),
        };
        Service {
            name: service.name.clone(),
            options: self.options(scope, &service.options),
            calls: service.calls.iter().map(call).collect(),
        }
    }

    /// Extensions of one message come together.
    fn extends_of(&self, scope: &str, extends: &[Extend]) -> Vec<Extend> {
        let mut found: Vec<Extend> = Vec::new();
        for extend in extends {
            let name = self.full(scope, &extend.name);
            match found.iter_mut().find(|known| known.name == name) {
                Some(known) => known.fields.extend(extend.fields.iter().cloned()),
                None => found.push(Extend { name, fields: extend.fields.clone() }),
            }
        }
        for extend in &mut found {
            extend.fields = self.fields_of(scope, &extend.fields);
        }
        found
    }

    fn fields_of(&self, scope: &str, fields: &[Field]) -> Vec<Field> {
        let mut fields: Vec<Field> = fields.iter().map(|field| self.field(scope, field)).collect();
        fields.sort_by_key(|field| field.number);
        fields
    }

    fn field(&self, scope: &str, field: &Field) -> Field {
        let mut found = Field { options: self.options(scope, &field.options), ..field.clone() };
        found.default = found.default.map(number);
        found.r#type = match &field.r#type {
            FieldType::Map(key, value) => FieldType::Map(key.clone(), self.full(scope, value)),
            FieldType::Name(name) => match self.resolve(scope, name) {
                Some((full, Named::Message(place))) => match &self.messages[place].map {
                    Some((key, value)) => {
                        found.label = None;
                        FieldType::Map(key.clone(), self.full(&full, value))
                    }
                    None => FieldType::Name(format!(".{full}")),
                },
                _ => FieldType::Name(self.full(scope, name)),
            },
        };
        // `default` and `json_name` take their places among the options.
        let mut special = |name: &str, value: Option<Term>| {
            found.options.extend(value.map(|value| Setting {
                name: name.to_owned(),
                parenthesized: false,
                value,
            }));
        };
        special("default", found.default.take());
        special("json_name", found.json_name.take().map(Term::String));
        found.options.sort_by(|a, b| utf16(&a.name).cmp(utf16(&b.name)));
        found
    }

    /// The full name with a dot before it. A scalar has none.
    fn full(&self, scope: &str, name: &str) -> String {
        if super::is_scalar(name) {
            return name.to_owned();
        }
        self.resolve(scope, name).map_or_else(|| name.to_owned(), |(full, _)| format!(".{full}"))
    }

    /// One statement for each range, in order.
    fn ranges(&self, scope: &str, ranges: &[Ranges]) -> Vec<Ranges> {
        let each = ranges.iter().flat_map(|found| {
            let options = self.options(scope, &found.options);
            found
                .ranges
                .iter()
                .map(move |range| Ranges { ranges: vec![single(range)], options: options.clone() })
        });
        let mut found: Vec<Ranges> = each.collect();
        let key = |found: &Ranges| match found.ranges.first() {
            Some(Range::Number(number) | Range::Numbers(number, _)) => (*number, String::new()),
            Some(Range::Name(name)) => (i64::from(i32::MAX), name.clone()),
            None => (0, String::new()),
        };
        found.sort_by_key(key);
        found
    }

    fn options(&self, scope: &str, options: &[Setting]) -> Vec<Setting> {
        let mut found: Vec<(Setting, bool)> = Vec::new();
        for option in options {
            let extension = if option.parenthesized { self.extension(scope, &option.name) } else { None };
            let mut option = option.clone();
            let mut single = false;
            if let Some((full, repeated)) = extension {
                option.name = full;
                option.value = nested(option.value);
                single = !repeated;
            }
            option.value = self.term(scope, option.value);
            found.push((option, single));
        }
        found.sort_by(|a, b| utf16(&a.0.name).cmp(utf16(&b.0.name)));
        let mut merged: Vec<Setting> = Vec::new();
        for (option, single) in found {
            match merged.last_mut() {
                Some(last) if single && last.name == option.name => match (&mut last.value, option.value) {
                    (Term::Map(members), Term::Map(more)) => merge(members, more),
                    (value, other) => *value = other,
                },
                _ => merged.push(option),
            }
        }
        merged
    }

    fn term(&self, scope: &str, value: Term) -> Term {
        match value {
            Term::Map(members) => {
                let kept = members
                    .into_iter()
                    .filter(|(_, value)| !matches!(value, Term::List(terms) if terms.is_empty()));
                let mut members: Vec<(String, Term)> = kept
                    .map(|(name, value)| {
                        let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
                        let full = bare
                            .and_then(|bare| self.extension(scope, bare))
                            .map(|(full, _)| format!("[{full}]"));
                        (full.unwrap_or(name), self.term(scope, value))
                    })
                    .collect();
                members.sort_by(|a, b| utf16(&a.0).cmp(utf16(&b.0)));
                Term::Map(members)
            }
            Term::List(mut terms) => match terms.len() {
                1 => self.term(scope, terms.remove(0)),
                _ => Term::List(terms.into_iter().map(|term| self.term(scope, term)).collect()),
            },
            Term::Inner(mut inner) => {
                inner.value = self.term(scope, inner.value);
                Term::Inner(inner)
            }
            other => number(other),
        }
    }
}

fn inner(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}

fn single(range: &Range) -> Range {
    match range {
        Range::Numbers(first, last) if first == last => Range::Number(*first),
        other => other.clone(),
    }
}

/// `.a.b = 1` as `{ a: { b: 1 } }`.
fn nested(value: Term) -> Term {
    match value {
        Term::Inner(inner) => Term::Map(vec![(inner.name, nested(inner.value))]),
        other => other,
    }
}

fn merge(members: &mut Vec<(String, Term)>, more: Vec<(String, Term)>) {
    for (name, value) in more {
        match members.iter_mut().find(|(known, _)| *known == name) {
            None => members.push((name, value)),
            Some((_, known)) => match (known, value) {
                (Term::Map(known), Term::Map(value)) => merge(known, value),
                (Term::List(known), Term::List(value)) => known.extend(value),
                (Term::List(known), value) => known.push(value),
                (known, value) => {
                    let first = std::mem::replace(known, Term::List(Vec::new()));
                    *known = Term::List(vec![first, value]);
                }
            },
        }
    }
    members.sort_by(|a, b| utf16(&a.0).cmp(utf16(&b.0)));
}

/// A number in decimal digits, without zeros at its end. A longer fraction stays as it is: Confluent rounds it to three
/// digits, which would change a default.
fn number(value: Term) -> Term {
    let Term::Number(text) = &value else { return value };
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    if let Some(number) = hex.and_then(|digits| i64::from_str_radix(digits, 16).ok()) {
        return Term::Number(number.to_string());
    }
    match text.split_once('.') {
        Some((whole, fraction)) if fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit()) => {
            let whole =
                if whole.trim_start_matches('-').is_empty() { format!("{whole}0") } else { whole.to_owned() };
            let fraction = fraction.trim_end_matches('0');
            Term::Number(if fraction.is_empty() { whole } else { format!("{whole}.{fraction}") })
        }
        _ => value,
    }
}
