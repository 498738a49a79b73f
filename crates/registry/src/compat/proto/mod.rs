//! Protobuf schemas: what a `.proto` text says, element by element.
//!
//! Registries keep and compare texts, not descriptors, and a descriptor has lost what their canonical form keeps: types as
//! they were written, options and their order, groups beside fields. So this is the text's own tree.

mod canonical;
mod check;
mod descriptor;
mod known;
mod names;
mod normal;
mod outline;
mod parse;
mod reader;

pub(super) use self::check::check;
use self::names::Names;
pub(super) use self::outline::outline;

/// A schema and the files that it imports.
#[derive(Debug)]
pub(super) struct Proto {
    file: File,
    names: Names,
}

impl Proto {
    /// Reads a schema. References are `(path of the import, text)`.
    pub(super) fn parse(text: &str, references: &[(&str, &str)]) -> Result<Proto, String> {
        let file = File::read(text)?;
        let mut imports = Vec::with_capacity(references.len());
        for (path, text) in references {
            let import = File::read(text).map_err(|error| format!("the import \"{path}\": {error}"))?;
            imports.push(import);
        }
        let names = Names::collect(&file, &imports);
        let proto = Proto { file, names };
        proto.check_types()?;
        Ok(proto)
    }
}

/// A `.proto` file.
#[derive(Debug, Default)]
struct File {
    /// `proto2` or `proto3`, when it is written.
    syntax: Option<&'static str>,
    package: Option<String>,
    imports: Vec<String>,
    public_imports: Vec<String>,
    options: Vec<Setting>,
    types: Vec<Type>,
    extends: Vec<Extend>,
    services: Vec<Service>,
}

impl File {
    /// Reads a text, or a descriptor in base64.
    fn read(text: &str) -> Result<File, String> {
        match descriptor::is_descriptor(text) {
            true => parse::parse(&descriptor::text(text)?),
            false => parse::parse(text),
        }
    }
}

#[derive(Clone, Debug)]
enum Type {
    Message(Message),
    Enum(Enum),
}

#[derive(Clone, Debug, Default)]
struct Message {
    name: String,
    reserved: Vec<Ranges>,
    options: Vec<Setting>,
    fields: Vec<Field>,
    oneofs: Vec<OneOf>,
    /// A blank line is written in the place of oneofs.
    gap: bool,
    groups: Vec<Group>,
    extensions: Vec<Ranges>,
    extends: Vec<Extend>,
    types: Vec<Type>,
}

impl Message {
    /// The types of a map's entries, when the message is what a compiler makes of a map.
    fn map_entry(&self) -> Option<(&Field, &Field)> {
        let marked = |option: &Setting| {
            option.name == "map_entry" && matches!(&option.value, Term::Word(word) if word == "true")
        };
        if !self.options.iter().any(marked) {
            return None;
        }
        let field = |name: &str| self.fields.iter().find(|field| field.name == name);
        Some((field("key")?, field("value")?))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Optional,
    Required,
    Repeated,
}

impl Label {
    fn word(self) -> &'static str {
        match self {
            Label::Optional => "optional",
            Label::Required => "required",
            Label::Repeated => "repeated",
        }
    }
}

#[derive(Clone, Debug)]
struct Field {
    label: Option<Label>,
    r#type: FieldType,
    name: String,
    number: i64,
    options: Vec<Setting>,
    default: Option<Term>,
    json_name: Option<String>,
}

/// The type of a field as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
enum FieldType {
    Name(String),
    Map(String, String),
}

impl std::fmt::Display for FieldType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FieldType::Name(name) => f.write_str(name),
            FieldType::Map(key, value) => write!(f, "map<{key}, {value}>"),
        }
    }
}

#[derive(Clone, Debug)]
struct OneOf {
    name: String,
    options: Vec<Setting>,
    fields: Vec<Field>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug)]
struct Group {
    label: Option<Label>,
    name: String,
    number: i64,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
struct Enum {
    name: String,
    reserved: Vec<Ranges>,
    options: Vec<Setting>,
    constants: Vec<Constant>,
}

#[derive(Clone, Debug)]
struct Constant {
    name: String,
    number: i64,
    options: Vec<Setting>,
}

#[derive(Clone, Debug)]
struct Extend {
    name: String,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
struct Service {
    name: String,
    options: Vec<Setting>,
    calls: Vec<Call>,
}

#[derive(Clone, Debug)]
struct Call {
    name: String,
    request: (bool, String),
    response: (bool, String),
    options: Vec<Setting>,
}

/// A `reserved` or `extensions` statement.
#[derive(Clone, Debug)]
struct Ranges {
    ranges: Vec<Range>,
    options: Vec<Setting>,
}

#[derive(Clone, Debug)]
enum Range {
    Name(String),
    Number(i64),
    Numbers(i64, i64),
}

/// An option: `name = value`, or `(name).inner = value`, where the value is the inner option.
#[derive(Clone, Debug, PartialEq)]
struct Setting {
    name: String,
    parenthesized: bool,
    value: Term,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq)]
enum Term {
    String(String),
    /// `true`, `false`, or an enum's constant.
    Word(String),
    Number(String),
    Map(Vec<(String, Term)>),
    List(Vec<Term>),
    Inner(Box<Setting>),
}

/// The types that are no names.
const SCALARS: [&str; 15] = [
    "bool", "bytes", "double", "fixed32", "fixed64", "float", "int32", "int64", "sfixed32", "sfixed64",
    "sint32", "sint64", "string", "uint32", "uint64",
];

fn is_scalar(name: &str) -> bool {
    SCALARS.contains(&name)
}
