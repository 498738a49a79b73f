//! Files as descriptors: what Confluent's serializers for other languages than Java register is a `FileDescriptorProto` of Protobuf's, in
//! base64. It becomes the text of a file, which is what a registry keeps, and which is then read as any other.
//!
//! Names come from others and are checked here, because they become parts of a text. What else they say is checked where texts are. Options
//! that are defined by `extend` are left out, as by Confluent's registry: a descriptor does not say what they are called.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{
    Call, Constant, Enum, Extend, Field, FieldType, File, Label, Message, OneOf, Range, Ranges, Service,
    Setting, Term, Type, canonical,
};

/// Messages within messages. Texts nest less.
const DEPTH_MAX: usize = 32;

/// Fields, constants, types and calls together. Each takes some hundred bytes of memory and few of a descriptor.
const ELEMENTS_MAX: usize = 50_000;

/// Whether a text can be a descriptor. A file's text has spaces.
pub(super) fn is_descriptor(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

/// The text of a descriptor in base64.
///
/// # Errors
/// When it is none, or has what a text cannot say.
pub(super) fn text(base64: &str) -> Result<String, String> {
    let bytes = STANDARD.decode(base64.trim()).map_err(|_| "it is neither a file nor base64".to_owned())?;
    let file = Reading { elements: 0 }.file(&bytes).map_err(|why| format!("the descriptor: {why}"))?;
    Ok(canonical::file(&file))
}

/// A field of a message on the wire.
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// 32 or 64 bits, which descriptors do not use.
    Fixed,
}

/// The fields of a message, in their order.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Wire<'a>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let wire = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => self.take(8).map(|_| Wire::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| CUT.to_owned())?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed)?,
            _ => return Err("it has a field of no known form".into()),
        };
        Ok(Some((key >> 3, wire)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(CUT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("it has a number that is too long".into())
    }
}

const CUT: &str = "it ends in the middle";

/// What a descriptor's field has: a text, a number, or a message.
impl<'a> Wire<'a> {
    fn text(&self) -> Result<String, String> {
        match self {
            Wire::Bytes(bytes) => {
                let text = std::str::from_utf8(bytes).map_err(|_| "it has a text that is not UTF-8")?;
                Ok(text.to_owned())
            }
            _ => Err(FORM.into()),
        }
    }

    fn bytes(&self) -> Result<&'a [u8], String> {
        match self {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(FORM.into()),
        }
    }

    fn number(&self) -> Result<i64, String> {
        match self {
            // Negative numbers of 32 bits are extended to 64.
            Wire::Number(number) => Ok(*number as i64),
            _ => Err(FORM.into()),
        }
    }
}

const FORM: &str = "it has a field of another form than a FileDescriptorProto has";

fn fields(bytes: &[u8]) -> Fields<'_> {
    Fields { rest: bytes }
}

/// A name that may stand in a text.
fn name(wire: &Wire<'_>) -> Result<String, String> {
    let text = wire.text()?;
    check(&text)?;
    Ok(text)
}

fn check(name: &str) -> Result<(), String> {
    let is_fine = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.is_empty()
        && !name.as_bytes()[0].is_ascii_digit();
    if is_fine { Ok(()) } else { Err("it has a name that is none".into()) }
}

/// A name with dots, such as `.shop.Order`.
fn full_name(wire: &Wire<'_>) -> Result<String, String> {
    let text = wire.text()?;
    text.strip_prefix('.').unwrap_or(&text).split('.').try_for_each(check)?;
    Ok(text)
}

/// A path of an import, which stands between quotes.
fn path(wire: &Wire<'_>) -> Result<String, String> {
    let text = wire.text()?;
    let is_fine = |c: char| !c.is_control() && c != '"' && c != '\\';
    if text.chars().all(is_fine) { Ok(text) } else { Err("it has an import whose path is none".into()) }
}

/// A message while it is read: its types of map entries and groups, and its oneofs, are told by its fields.
#[derive(Default)]
struct Parts {
    message: Message,
    /// The entries of maps, by their names.
    entries: Vec<(String, String, String)>,
    is_entry: bool,
}

/// A field, and where it belongs.
struct Placed {
    field: Field,
    oneof: Option<usize>,
    is_synthetic: bool,
    extends: Option<String>,
}

struct Reading {
    elements: usize,
}

impl Reading {
    fn count(&mut self) -> Result<(), String> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX {
            return Err(format!("it has more than {ELEMENTS_MAX} elements"));
        }
        Ok(())
    }

    fn file(&mut self, bytes: &[u8]) -> Result<File, String> {
        let mut file = File { syntax: Some("proto2"), ..File::default() };
        let (mut public, mut all) = (Vec::new(), fields(bytes));
        // The fields of messages depend on it, and it comes last.
        while let Some((number, wire)) = all.next()? {
            match number {
                12 => match &*wire.text()? {
                    "proto2" | "" => {}
                    "proto3" => file.syntax = Some("proto3"),
                    _ => return Err("its syntax is neither proto2 nor proto3".into()),
                },
                14 => return Err("it is of an edition, and proto2 and proto3 are read".into()),
                _ => {}
            }
        }
        let proto3 = file.syntax == Some("proto3");
        let mut all = fields(bytes);
        let mut extensions = Vec::new();
        while let Some((number, wire)) = all.next()? {
            match number {
                2 if wire.text()?.is_empty() => {}
                2 => file.package = Some(full_name(&wire)?),
                3 => {
                    self.count()?;
                    file.imports.push(path(&wire)?);
                }
                4 => {
                    let parts = self.message(wire.bytes()?, proto3, 0)?;
                    file.types.push(Type::Message(parts.message));
                }
                5 => file.types.push(Type::Enum(self.enumeration(wire.bytes()?)?)),
                6 => file.services.push(self.service(wire.bytes()?)?),
                7 => extensions.push(self.field(wire.bytes()?, proto3)?),
                8 => file.options = options(wire.bytes()?, FILE_OPTIONS)?,
                10 => public.push(wire.number()?),
                _ => {}
            }
        }
        file.extends = extends(extensions);
        // The greatest first, so that places stay right.
        public.sort_unstable_by(|a, b| b.cmp(a));
        public.dedup();
        for place in public {
            let place = usize::try_from(place).ok().filter(|place| *place < file.imports.len());
            let place = place.ok_or("it makes an import public that it has not")?;
            file.public_imports.insert(0, file.imports.remove(place));
        }
        Ok(file)
    }

    fn message(&mut self, bytes: &[u8], proto3: bool, depth: usize) -> Result<Parts, String> {
        self.count()?;
        if depth > DEPTH_MAX {
            return Err(format!("messages are nested more than {DEPTH_MAX} deep"));
        }
        let mut parts = Parts::default();
        let (mut placed, mut extensions, mut oneofs) = (Vec::new(), Vec::new(), Vec::new());
        let mut names = Vec::new();
        let mut all = fields(bytes);
        while let Some((number, wire)) = all.next()? {
            match number {
                1 => parts.message.name = name(&wire)?,
                2 => placed.push(self.field(wire.bytes()?, proto3)?),
                3 => {
                    let inner = self.message(wire.bytes()?, proto3, depth + 1)?;
                    match inner.is_entry {
                        true => parts.entries.push(entry(&inner.message)?),
                        false => parts.message.types.push(Type::Message(inner.message)),
                    }
                }
                4 => parts.message.types.push(Type::Enum(self.enumeration(wire.bytes()?)?)),
                // The end is not in the range.
                5 => parts.message.extensions.push(one(self.range(wire.bytes()?, 1)?)),
                6 => extensions.push(self.field(wire.bytes()?, proto3)?),
                7 => {
                    let found = options(wire.bytes()?, MESSAGE_OPTIONS)?;
                    let is_true = |option: &Setting| option.value == Term::Word("true".into());
                    parts.is_entry = found.iter().any(|option| option.name == "map_entry" && is_true(option));
                    parts.message.options =
                        found.into_iter().filter(|option| option.name != "map_entry").collect();
                }
                8 => oneofs.push(self.oneof(wire.bytes()?)?),
                9 => parts.message.reserved.push(one(self.range(wire.bytes()?, 1)?)),
                10 => {
                    self.count()?;
                    names.push(Range::Name(name(&wire)?));
                }
                _ => {}
            }
        }
        check(&parts.message.name)?;
        if !names.is_empty() {
            parts.message.reserved.push(Ranges { ranges: names, options: Vec::new() });
        }
        parts.message.extends = extends(extensions);
        for Placed { mut field, oneof, is_synthetic, .. } in placed {
            if let (FieldType::Name(r#type), Some(Label::Repeated)) = (&field.r#type, field.label) {
                let of_type = r#type.rsplit('.').next().unwrap_or_default();
                let found = parts.entries.iter().find(|(name, ..)| name == of_type);
                // The entry of another message may have the same name.
                let is_own = r#type.rsplit('.').nth(1) == Some(&*parts.message.name);
                if let Some((_, key, value)) = found.filter(|_| is_own) {
                    field.r#type = FieldType::Map(key.clone(), value.clone());
                    field.label = None;
                }
            }
            match oneof.filter(|_| !is_synthetic) {
                Some(place) => {
                    let oneof = oneofs.get_mut(place).ok_or("a field is in a oneof that there is not")?;
                    field.label = None;
                    oneof.fields.push(field);
                }
                None => parts.message.fields.push(field),
            }
        }
        // Those of optional fields of proto3 are not written.
        parts.message.oneofs = oneofs.into_iter().filter(|oneof| !oneof.fields.is_empty()).collect();
        Ok(parts)
    }

    fn oneof(&mut self, bytes: &[u8]) -> Result<OneOf, String> {
        self.count()?;
        let mut all = fields(bytes);
        let mut oneof =
            OneOf { name: String::new(), options: Vec::new(), fields: Vec::new(), groups: Vec::new() };
        while let Some((number, wire)) = all.next()? {
            if number == 1 {
                oneof.name = name(&wire)?;
            }
        }
        check(&oneof.name)?;
        Ok(oneof)
    }

    fn field(&mut self, bytes: &[u8], proto3: bool) -> Result<Placed, String> {
        self.count()?;
        let r#type = FieldType::Name(String::new());
        let mut field = Field {
            label: None,
            r#type,
            name: String::new(),
            number: 0,
            options: Vec::new(),
            default: None,
            json_name: None,
        };
        let (mut label, mut kind, mut default) = (1, 0, None);
        let mut placed = (None, false, None);
        let mut all = fields(bytes);
        while let Some((number, wire)) = all.next()? {
            match number {
                1 => field.name = name(&wire)?,
                2 => placed.2 = Some(full_name(&wire)?),
                3 => field.number = wire.number()?,
                4 => label = wire.number()?,
                5 => kind = wire.number()?,
                6 => field.r#type = FieldType::Name(full_name(&wire)?),
                7 => default = Some(wire.text()?),
                8 => field.options = options(wire.bytes()?, FIELD_OPTIONS)?,
                9 => placed.0 = Some(usize::try_from(wire.number()?).map_err(|_| FORM)?),
                10 => field.json_name = Some(wire.text()?),
                17 => placed.1 = wire.number()? != 0,
                _ => {}
            }
        }
        check(&field.name)?;
        if kind == 10 {
            return Err(format!("the field '{}' is a group, which is read from a text only", field.name));
        }
        if let Some(scalar) =
            usize::try_from(kind).ok().and_then(|kind| KINDS.get(kind)).filter(|it| !it.is_empty())
        {
            field.r#type = FieldType::Name((*scalar).to_owned());
        }
        if field.r#type == FieldType::Name(String::new()) {
            return Err(format!("the field '{}' has no type", field.name));
        }
        field.label = match label {
            2 => Some(Label::Required),
            3 => Some(Label::Repeated),
            _ if proto3 && !placed.1 => None,
            _ => Some(Label::Optional),
        };
        // It is escaped, and would be once more.
        if kind == 12 && default.as_ref().is_some_and(|text| text.contains('\\')) {
            return Err(format!(
                "the field '{}' has bytes as its default, which are read from a text only",
                field.name
            ));
        }
        field.default = default.map(|text| match kind {
            9 | 12 => Term::String(text),
            8 | 14 => Term::Word(text),
            _ if text.bytes().all(|byte| byte.is_ascii_alphabetic()) => Term::Word(text),
            _ => Term::Number(text),
        });
        if let Some(Term::Word(word) | Term::Number(word)) = &field.default
            && !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(&byte))
        {
            return Err(format!("the field '{}' has a default that is none", field.name));
        }
        let own = field.json_name.take();
        field.json_name = own.filter(|own| *own != json_name(&field.name));
        let (oneof, is_synthetic, extends) = placed;
        Ok(Placed { field, oneof, is_synthetic, extends })
    }

    fn enumeration(&mut self, bytes: &[u8]) -> Result<Enum, String> {
        self.count()?;
        let mut found =
            Enum { name: String::new(), reserved: Vec::new(), options: Vec::new(), constants: Vec::new() };
        let mut names = Vec::new();
        let mut all = fields(bytes);
        while let Some((number, wire)) = all.next()? {
            match number {
                1 => found.name = name(&wire)?,
                2 => found.constants.push(self.constant(wire.bytes()?)?),
                3 => found.options = options(wire.bytes()?, ENUM_OPTIONS)?,
                4 => found.reserved.push(one(self.range(wire.bytes()?, 0)?)),
                5 => names.push(Range::Name(name(&wire)?)),
                _ => {}
            }
        }
        check(&found.name)?;
        if !names.is_empty() {
            found.reserved.push(Ranges { ranges: names, options: Vec::new() });
        }
        Ok(found)
    }

    fn constant(&mut self, bytes: &[u8]) -> Result<Constant, String> {
        self.count()?;
        let mut found = Constant { name: String::new(), number: 0, options: Vec::new() };
        let mut all = fields(bytes);
        while let Some((number, wire)) = all.next()? {
            match number {
                1 => found.name = name(&wire)?,
                2 => found.number = wire.number()?,
                3 => found.options = options(wire.bytes()?, &[(1, "deprecated", Kind::Flag)])?,
                _ => {}
            }
        }
        check(&found.name)?;
        Ok(found)
    }

    fn range(&mut self, bytes: &[u8], beyond: i64) -> Result<Range, String> {
        self.count()?;
        let (mut start, mut end) = (0, 0);
        let mut all = fields(bytes);
        while let Some((number, wire)) = all.next()? {
            match number {
                1 => start = wire.number()?,
                2 => end = wire.number()?,
                _ => {}
            }
        }
        let end = end.saturating_sub(beyond);
        Ok(if end <= start { Range::Number(start) } else { Range::Numbers(start, end) })
    }

    fn service(&mut self, bytes: &[u8]) -> Result<Service, String> {
        self.count()?;
        let mut service = Service { name: String::new(), options: Vec::new(), calls: Vec::new() };
        let mut all = fields(bytes);
        while let Some((number, wire)) = all.next()? {
            match number {
                1 => service.name = name(&wire)?,
                2 => service.calls.push(self.call(wire.bytes()?)?),
                3 => service.options = options(wire.bytes()?, &[(33, "deprecated", Kind::Flag)])?,
                _ => {}
            }
        }
        check(&service.name)?;
        Ok(service)
    }

    fn call(&mut self, bytes: &[u8]) -> Result<Call, String> {
        self.count()?;
        let none = || (false, String::new());
        let mut call = Call { name: String::new(), request: none(), response: none(), options: Vec::new() };
        let mut all = fields(bytes);
        while let Some((number, wire)) = all.next()? {
            match number {
                1 => call.name = name(&wire)?,
                2 => call.request.1 = full_name(&wire)?,
                3 => call.response.1 = full_name(&wire)?,
                4 => call.options = options(wire.bytes()?, METHOD_OPTIONS)?,
                5 => call.request.0 = wire.number()? != 0,
                6 => call.response.0 = wire.number()? != 0,
                _ => {}
            }
        }
        check(&call.name)?;
        if call.request.1.is_empty() || call.response.1.is_empty() {
            return Err(format!("the call '{}' has no type", call.name));
        }
        Ok(call)
    }
}

fn one(range: Range) -> Ranges {
    Ranges { ranges: vec![range], options: Vec::new() }
}

/// What a map has: the name of its entries, and the types of its keys and values.
fn entry(message: &Message) -> Result<(String, String, String), String> {
    let of = |number: i64| {
        let found = message.fields.iter().find(|field| field.number == number);
        found.map(|field| field.r#type.to_string())
    };
    match (of(1), of(2)) {
        (Some(key), Some(value)) => Ok((message.name.clone(), key, value)),
        _ => Err(format!("'{}' is the entry of a map, and has no key or no value", message.name)),
    }
}

/// Fields that extend other messages, by these.
fn extends(placed: Vec<Placed>) -> Vec<Extend> {
    let mut found: Vec<Extend> = Vec::new();
    for Placed { field, extends, .. } in placed {
        let name = extends.unwrap_or_default();
        match found.last_mut().filter(|last| last.name == name) {
            Some(last) => last.fields.push(field),
            None => found.push(Extend { name, fields: vec![field] }),
        }
    }
    found
}

/// The name in JSON that a field has unless it says another one.
fn json_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut is_next_upper = false;
    for c in name.chars() {
        match c {
            '_' => is_next_upper = true,
            c if is_next_upper => {
                out.push(c.to_ascii_uppercase());
                is_next_upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

/// The scalars by their numbers; a group, a message and an enum have names.
const KINDS: [&str; 19] = [
    "", "double", "float", "int64", "uint64", "int32", "fixed64", "fixed32", "bool", "string", "", "",
    "bytes", "uint32", "", "sfixed32", "sfixed64", "sint32", "sint64",
];

/// How the value of an option is written.
#[derive(Clone, Copy)]
enum Kind {
    Flag,
    Text,
    /// A constant, by its number.
    Word(&'static [&'static str]),
}

type Known = (u64, &'static str, Kind);

const FILE_OPTIONS: &[Known] = &[
    (1, "java_package", Kind::Text),
    (8, "java_outer_classname", Kind::Text),
    (9, "optimize_for", Kind::Word(&["", "SPEED", "CODE_SIZE", "LITE_RUNTIME"])),
    (10, "java_multiple_files", Kind::Flag),
    (11, "go_package", Kind::Text),
    (16, "cc_generic_services", Kind::Flag),
    (17, "java_generic_services", Kind::Flag),
    (18, "py_generic_services", Kind::Flag),
    (20, "java_generate_equals_and_hash", Kind::Flag),
    (23, "deprecated", Kind::Flag),
    (27, "java_string_check_utf8", Kind::Flag),
    (31, "cc_enable_arenas", Kind::Flag),
    (36, "objc_class_prefix", Kind::Text),
    (37, "csharp_namespace", Kind::Text),
    (39, "swift_prefix", Kind::Text),
    (40, "php_class_prefix", Kind::Text),
    (41, "php_namespace", Kind::Text),
    (44, "php_metadata_namespace", Kind::Text),
    (45, "ruby_package", Kind::Text),
];
const MESSAGE_OPTIONS: &[Known] = &[
    (1, "message_set_wire_format", Kind::Flag),
    (2, "no_standard_descriptor_accessor", Kind::Flag),
    (3, "deprecated", Kind::Flag),
    (7, "map_entry", Kind::Flag),
];
const FIELD_OPTIONS: &[Known] = &[
    (1, "ctype", Kind::Word(&["STRING", "CORD", "STRING_PIECE"])),
    (2, "packed", Kind::Flag),
    (3, "deprecated", Kind::Flag),
    (5, "lazy", Kind::Flag),
    (6, "jstype", Kind::Word(&["JS_NORMAL", "JS_STRING", "JS_NUMBER"])),
    (10, "weak", Kind::Flag),
];
const ENUM_OPTIONS: &[Known] = &[(2, "allow_alias", Kind::Flag), (3, "deprecated", Kind::Flag)];
const METHOD_OPTIONS: &[Known] = &[
    (33, "deprecated", Kind::Flag),
    (34, "idempotency_level", Kind::Word(&["IDEMPOTENCY_UNKNOWN", "NO_SIDE_EFFECTS", "IDEMPOTENT"])),
];

/// The options that are known. The others are left out.
fn options(bytes: &[u8], known: &[Known]) -> Result<Vec<Setting>, String> {
    let mut found: Vec<Setting> = Vec::new();
    let mut all = fields(bytes);
    while let Some((number, wire)) = all.next()? {
        let Some((_, name, kind)) = known.iter().find(|(of, ..)| *of == number) else { continue };
        let value = match kind {
            Kind::Flag => Term::Word((wire.number()? != 0).to_string()),
            Kind::Text => Term::String(wire.text()?),
            Kind::Word(words) => {
                let place = usize::try_from(wire.number()?).ok();
                let word = place.and_then(|place| words.get(place)).filter(|word| !word.is_empty());
                let Some(word) = word else { continue };
                Term::Word((*word).to_owned())
            }
        };
        // Of an option that comes twice the last one counts.
        found.retain(|option| option.name != *name);
        found.push(Setting { name: (*name).to_owned(), parenthesized: false, value });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compat::{Format, Schema};

    /// What protoc makes of `FILE`, in base64.
    const DESCRIPTOR: &str = include_str!("../../../tests/compat/descriptor.base64");
    const FILE: &str = include_str!("../../../tests/compat/descriptor.proto");

    #[test]
    fn a_descriptor_is_the_file_that_it_was_made_of() {
        let import = crate::compat::Reference {
            name: "shop/money.proto".into(),
            schema: "syntax = \"proto3\"; package shop; message Money { int64 n = 1; }".into(),
        };
        let read = |text: &str| {
            Schema::parse(Format::Protobuf, text, std::slice::from_ref(&import)).expect("a schema")
        };
        let (of_text, of_descriptor) = (read(FILE), read(DESCRIPTOR));
        assert_eq!(of_descriptor.normalized(), of_text.normalized());
        assert!(crate::compat::diff(&of_text, &read(&of_text.canonical())).is_empty());
        // And an import may be one.
        let money = STANDARD.encode(
            b"\x0a\x01m\x12\x04shop\x22\x10\x0a\x05Money\x12\x07\x0a\x01n\x18\x01\x28\x03b\x06proto3",
        );
        let import = crate::compat::Reference { name: "shop/money.proto".into(), schema: money };
        let found = Schema::parse(Format::Protobuf, DESCRIPTOR, &[import]).expect("a schema");
        assert_eq!(found.canonical(), of_descriptor.canonical());
    }

    #[test]
    fn what_is_no_descriptor_is_refused() {
        let message = |inner: &[u8]| [&[0x22, u8::try_from(inner.len()).expect("short")][..], inner].concat();
        for (bytes, says) in [
            (&[0x0a, 0x7f][..], CUT),
            (&[0xff; 11], "too long"),
            (&[0x0f], "no known form"),
            (&[0x22, 0x00], "a name that is none"),
            (&message(b"\x0a\x04A {}"), "a name that is none"),
            (&message(b"\x0a\x01A\x12\x05\x0a\x01n\x18\x01"), "has no type"),
            (&message(b"\x0a\x01A\x12\x07\x0a\x01n\x18\x01\x28\x0a"), "is a group"),
            (b"\x1a\x03a\"b", "whose path is none"),
            (b"b\x06proto4", "neither proto2 nor proto3"),
            (b"\x70\x01", "edition"),
            (b"\x50\x05", "an import public"),
            (b"\x08\x01\x20\x01", FORM),
        ] {
            let error = text(&STANDARD.encode(bytes)).expect_err("is refused");
            assert!(error.contains(says), "{error}");
        }
        assert!(text("message").expect_err("is refused").contains("base64"));
        let nested = (0..60).fold(b"\x0a\x01A".to_vec(), |inner, _| {
            let length = inner.len();
            let length = [(length % 128) as u8 | 0x80, (length / 128) as u8];
            [&b"\x0a\x01A\x1a"[..], &length, &inner].concat()
        });
        let length = [(nested.len() % 128) as u8 | 0x80, (nested.len() / 128) as u8];
        let nested = [&b"\x22"[..], &length, &nested].concat();
        assert!(text(&STANDARD.encode(nested)).expect_err("is refused").contains("nested"));
        let many = message(b"\x0a\x01A").repeat(ELEMENTS_MAX + 1);
        assert!(text(&STANDARD.encode(many)).expect_err("is refused").contains("elements"));
    }
}
