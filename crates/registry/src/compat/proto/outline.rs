//! A file as a list: messages and their fields by number, enums and their constants, services and their calls.

use super::{
    Constant, Enum, Extend, Field, Group, Message, Proto, Ranges, Service, Type,
    canonical::{bracketed, ranges, setting, sides},
};
use crate::compat::diff::Outline;

/// The file's own parts; imports are named.
pub(in crate::compat) fn outline(proto: &Proto) -> Outline {
    let file = &proto.file;
    let mut outline = Outline::new();
    outline.extend(file.syntax.map(|syntax| ("syntax".to_owned(), syntax.to_owned())));
    outline.extend(file.package.iter().map(|package| ("package".to_owned(), package.clone())));
    let import = |path: &String, word: &str| (format!("import \"{path}\""), word.to_owned());
    outline.extend(file.imports.iter().map(|path| import(path, "import")));
    outline.extend(file.public_imports.iter().map(|path| import(path, "import public")));
    outline.extend(file.options.iter().map(|option| (format!("option {}", option.name), setting(option))));
    types("", &file.types, &mut outline);
    extends("#", &file.extends, &mut outline);
    file.services.iter().for_each(|found| service(found, &mut outline));
    outline
}

/// Types within others have the names of both, as `Order.Line`. The parser limits the nesting.
fn types(within: &str, types: &[Type], outline: &mut Outline) {
    for found in types {
        match found {
            Type::Message(found) => message(&format!("{within}{}", found.name), found, outline),
            Type::Enum(found) => enumeration(&format!("{within}{}", found.name), found, outline),
        }
    }
}

fn message(name: &str, message: &Message, outline: &mut Outline) {
    let path = format!("#/{name}");
    outline.push((path.clone(), "message".into()));
    statements(&path, "reserved", &message.reserved, outline);
    statements(&path, "extensions", &message.extensions, outline);
    outline.extend(
        message.options.iter().map(|option| (format!("{path} option {}", option.name), setting(option))),
    );
    members(&path, &message.fields, &message.groups, "", outline);
    for oneof in &message.oneofs {
        let options: Vec<_> = oneof.options.iter().map(setting).collect();
        let text = [vec!["oneof".to_owned()], options].concat().join(", ");
        members(&path, &oneof.fields, &oneof.groups, &format!(", in oneof {}", oneof.name), outline);
        outline.push((format!("{path}/oneof {}", oneof.name), text));
    }
    extends(&path, &message.extends, outline);
    types(&format!("{name}."), &message.types, outline);
}

fn members(path: &str, fields: &[Field], groups: &[Group], within: &str, outline: &mut Outline) {
    outline.extend(fields.iter().map(|field| (format!("{path}/{}", field.number), told(field) + within)));
    for group in groups {
        let label = group.label.map(|label| format!("{} ", label.word())).unwrap_or_default();
        outline.push((format!("{path}/{}", group.number), format!("{label}group {}{within}", group.name)));
        members(&format!("{path}.{}", group.name), &group.fields, &[], "", outline);
    }
}

/// The field without its number.
fn told(field: &Field) -> String {
    let label = field.label.map(|label| format!("{} ", label.word())).unwrap_or_default();
    // Options are written over several lines where there are more than one.
    let options = bracketed(&field.all_options()).split_whitespace().collect::<Vec<_>>().join(" ");
    let space = if options.is_empty() { "" } else { " " };
    format!("{label}{} {}{space}{options}", field.r#type, field.name)
}

fn enumeration(name: &str, found: &Enum, outline: &mut Outline) {
    let path = format!("#/{name}");
    outline.push((path.clone(), "enum".into()));
    statements(&path, "reserved", &found.reserved, outline);
    outline.extend(
        found.options.iter().map(|option| (format!("{path} option {}", option.name), setting(option))),
    );
    for Constant { name, number, options } in &found.constants {
        let options = bracketed(options).split_whitespace().collect::<Vec<_>>().join(" ");
        let space = if options.is_empty() { "" } else { " " };
        outline.push((format!("{path}/{name}"), format!("{number}{space}{options}")));
    }
}

fn statements(path: &str, word: &str, found: &[Ranges], outline: &mut Outline) {
    let text = |found: &Ranges| ranges("", found).trim().trim_end_matches(';').to_owned();
    let texts: Vec<_> = found.iter().map(text).collect();
    if !texts.is_empty() {
        outline.push((format!("{path} {word}"), texts.join(", ")));
    }
}

fn extends(path: &str, found: &[Extend], outline: &mut Outline) {
    for extend in found {
        members(&format!("{path}/extend {}", extend.name), &extend.fields, &[], "", outline);
    }
}

fn service(service: &Service, outline: &mut Outline) {
    let path = format!("#/{}", service.name);
    outline.push((path.clone(), "service".into()));
    outline.extend(
        service.options.iter().map(|option| (format!("{path} option {}", option.name), setting(option))),
    );
    for call in &service.calls {
        let options: String = call.options.iter().map(|option| format!(", {}", setting(option))).collect();
        outline.push((format!("{path}/{}", call.name), format!("{}{options}", sides(call))));
    }
}
