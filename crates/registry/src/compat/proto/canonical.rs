//! The text that Confluent's registry makes of a Protobuf schema, without comments: what it stores, compares and returns.

use std::fmt::Write as _;

use super::{
    Call, Constant, Enum, Extend, Field, File, Group, Message, OneOf, Proto, Range, Ranges, Service, Setting,
    Term, Type,
};

impl Proto {
    /// The canonical text.
    pub(in crate::compat) fn canonical(&self) -> String {
        file(&self.file)
    }

    /// The canonical text after normalization.
    pub(in crate::compat) fn normalized(&self) -> String {
        file(&self.names.normalize(&self.file))
    }
}

pub(super) fn file(file: &File) -> String {
    let mut out = String::new();
    if let Some(syntax) = file.syntax {
        line(&mut out, format_args!("syntax = \"{syntax}\";"));
    }
    if let Some(package) = &file.package {
        line(&mut out, format_args!("package {package};"));
    }
    if !file.imports.is_empty() || !file.public_imports.is_empty() {
        out.push('\n');
    }
    for import in &file.imports {
        line(&mut out, format_args!("import \"{import}\";"));
    }
    for import in &file.public_imports {
        line(&mut out, format_args!("import public \"{import}\";"));
    }
    paragraph(&mut out, &file.options, option_statement);
    types(&mut out, &file.types, false);
    paragraph(&mut out, &file.extends, extend);
    paragraph(&mut out, &file.services, service);
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").unwrap_or_default();
}

/// A blank line and then each element.
fn paragraph<T>(out: &mut String, elements: &[T], text: impl Fn(&T) -> String) {
    if !elements.is_empty() {
        out.push('\n');
    }
    for element in elements {
        out.push_str(&text(element));
    }
}

/// Like [`paragraph`], inside braces.
fn inner<T>(out: &mut String, elements: &[T], text: impl Fn(&T) -> String) {
    if !elements.is_empty() {
        out.push('\n');
    }
    for element in elements {
        indented(out, &text(element));
    }
}

/// Messages come before enums, whatever their places in the text are.
fn types(out: &mut String, types: &[Type], indent: bool) {
    if !types.is_empty() {
        out.push('\n');
    }
    let mut add = |text: &str| if indent { indented(out, text) } else { out.push_str(text) };
    for found in types {
        if let Type::Message(found) = found {
            add(&message(found));
        }
    }
    for found in types {
        if let Type::Enum(found) = found {
            add(&enumeration(found));
        }
    }
}

/// Adds lines with two spaces before each, before empty ones too.
fn indented(out: &mut String, text: &str) {
    for line in text.trim_end_matches('\n').split('\n') {
        out.push_str("  ");
        out.push_str(line);
        out.push('\n');
    }
}

fn message(message: &Message) -> String {
    let mut out = format!("message {} {{", message.name);
    inner(&mut out, &message.reserved, |found| ranges("reserved", found));
    inner(&mut out, &message.options, option_statement);
    inner(&mut out, &message.fields, field);
    inner(&mut out, &message.oneofs, oneof);
    if message.gap {
        out.push('\n');
    }
    inner(&mut out, &message.groups, group);
    inner(&mut out, &message.extensions, |found| ranges("extensions", found));
    inner(&mut out, &message.extends, extend);
    types(&mut out, &message.types, true);
    out.push_str("}\n");
    out
}

fn oneof(oneof: &OneOf) -> String {
    let mut out = format!("oneof {} {{", oneof.name);
    inner(&mut out, &oneof.options, option_statement);
    inner(&mut out, &oneof.fields, field);
    inner(&mut out, &oneof.groups, group);
    out.push_str("}\n");
    out
}

fn group(group: &Group) -> String {
    let label = group.label.map(|label| format!("{} ", label.word())).unwrap_or_default();
    let mut out = format!("{label}group {} = {} {{", group.name, group.number);
    inner(&mut out, &group.fields, field);
    out.push_str("}\n");
    out
}

fn extend(extend: &Extend) -> String {
    let mut out = format!("extend {} {{", extend.name);
    inner(&mut out, &extend.fields, field);
    out.push_str("}\n");
    out
}

fn field(field: &Field) -> String {
    let label = field.label.map(|label| format!("{} ", label.word())).unwrap_or_default();
    let options = bracketed(&field.all_options());
    format!("{label}{} {} = {}{options};\n", field.r#type, field.name, field.number)
}

impl Field {
    /// With those that have a place of their own.
    pub(super) fn all_options(&self) -> Vec<Setting> {
        let mut options = self.options.clone();
        let special =
            |name: &str, value: Term| Setting { name: name.to_owned(), parenthesized: false, value };
        options.extend(self.default.clone().map(|value| special("default", value)));
        options.extend(self.json_name.clone().map(|name| special("json_name", Term::String(name))));
        options
    }
}

fn enumeration(found: &Enum) -> String {
    let mut out = format!("enum {} {{", found.name);
    inner(&mut out, &found.reserved, |found| ranges("reserved", found));
    if found.reserved.is_empty() && !(found.options.is_empty() && found.constants.is_empty()) {
        out.push('\n');
    }
    for option in &found.options {
        indented(&mut out, &option_statement(option));
    }
    for Constant { name, number, options } in &found.constants {
        indented(&mut out, &format!("{name} = {number}{};\n", bracketed(options)));
    }
    out.push_str("}\n");
    out
}

fn service(service: &Service) -> String {
    let mut out = format!("service {} {{", service.name);
    inner(&mut out, &service.options, option_statement);
    inner(&mut out, &service.calls, call);
    out.push_str("}\n");
    out
}

fn call(call: &Call) -> String {
    let mut out = format!("rpc {} {}", call.name, sides(call));
    if !call.options.is_empty() {
        out.push_str(" {\n");
        for option in &call.options {
            indented(&mut out, &option_statement(option));
        }
        out.push('}');
    }
    out.push_str(";\n");
    out
}

/// What a call takes and gives.
pub(super) fn sides(call: &Call) -> String {
    let side = |(stream, name): &(bool, String)| format!("{}{name}", if *stream { "stream " } else { "" });
    format!("({}) returns ({})", side(&call.request), side(&call.response))
}

pub(super) fn ranges(word: &str, found: &Ranges) -> String {
    let text = |range: &Range| match range {
        Range::Name(name) => format!("\"{name}\""),
        Range::Number(number) => number.to_string(),
        Range::Numbers(first, last) if *last >= 536_870_911 => format!("{first} to max"),
        Range::Numbers(first, last) => format!("{first} to {last}"),
    };
    let list: Vec<String> = found.ranges.iter().map(text).collect();
    format!("{word} {}{};\n", list.join(", "), bracketed(&found.options))
}

fn option_statement(option: &Setting) -> String {
    format!("option {};\n", setting(option))
}

/// Options behind a field, with a space before them.
pub(super) fn bracketed(options: &[Setting]) -> String {
    let texts: Vec<String> = options.iter().map(setting).collect();
    if texts.is_empty() { String::new() } else { format!(" {}", list(&texts)) }
}

fn list(texts: &[String]) -> String {
    if let [text] = texts {
        return format!("[{text}]");
    }
    let mut out = "[\n".to_owned();
    commas(&mut out, texts);
    out.push(']');
    out
}

fn commas(out: &mut String, texts: &[String]) {
    for (index, text) in texts.iter().enumerate() {
        let comma = if index + 1 < texts.len() { "," } else { "" };
        indented(out, &format!("{text}{comma}"));
    }
}

pub(super) fn setting(option: &Setting) -> String {
    let name = if option.parenthesized { format!("({})", option.name) } else { option.name.clone() };
    match &option.value {
        Term::Inner(inner) => format!("{name}.{}", setting(inner)),
        Term::List(terms) => {
            let texts: Vec<String> = terms.iter().map(term).collect();
            format!("{name} = {}", list(&texts))
        }
        value => format!("{name} = {}", term(value)),
    }
}

fn term(value: &Term) -> String {
    match value {
        Term::String(text) => format!("\"{}\"", escaped(text)),
        Term::Word(text) | Term::Number(text) => text.clone(),
        Term::Map(members) => {
            let texts: Vec<String> =
                members.iter().map(|(name, value)| format!("{name}: {}", term(value))).collect();
            let mut out = "{\n".to_owned();
            commas(&mut out, &texts);
            out.push('}');
            out
        }
        Term::List(terms) => {
            let texts: Vec<String> = terms.iter().map(term).collect();
            let mut out = "[\n".to_owned();
            commas(&mut out, &texts);
            out.push(']');
            out
        }
        Term::Inner(inner) => setting(inner),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' | '\'' | '"' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
    out
}
