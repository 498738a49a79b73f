//! Avro schemas: what a text says, with its names resolved.
//!
//! All types lie in one arena and refer to each other by index, because Avro's named types may be recursive.

mod canonical;
mod check;
mod default;
mod outline;

use std::collections::{HashMap, HashSet};

pub(super) use self::check::check;
pub(super) use self::outline::outline;
use super::value::{self, Object, Value};

/// The place of a type in [`Avro::types`].
type Id = usize;

/// A schema and the types of its references.
#[derive(Debug)]
pub(super) struct Avro {
    types: Vec<Type>,
    root: Id,
    /// The full names of the references' outermost types. Canonical forms refer to them and do not repeat them.
    referenced: HashSet<String>,
}

#[derive(Debug)]
struct Type {
    shape: Shape,
    /// What a text says besides what Avro knows, `logicalType` included.
    props: Object,
}

#[derive(Debug)]
enum Shape {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(Id),
    Map(Id),
    Union(Vec<Id>),
    Fixed {
        name: Named,
        size: i64,
    },
    Enum {
        name: Named,
        symbols: Vec<String>,
        default: Option<String>,
    },
    Record {
        name: Named,
        fields: Vec<Field>,
        error: bool,
    },
    /// A name that was used before its type. None is left after parsing.
    Pending {
        full: String,
        bare: String,
    },
}

/// What records, enums and fixed types have in common.
#[derive(Debug)]
struct Named {
    name: String,
    namespace: Option<String>,
    doc: Option<String>,
    /// Full names.
    aliases: Vec<String>,
}

impl Named {
    fn full(&self) -> String {
        full_name(self.namespace.as_deref(), &self.name)
    }
}

fn full_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}.{name}"),
        None => name.to_owned(),
    }
}

#[derive(Debug)]
struct Field {
    name: String,
    r#type: Id,
    doc: Option<String>,
    default: Option<Value>,
    /// Absent for `ascending`, which is the default and is not written.
    order: Option<String>,
    aliases: Vec<String>,
    props: Object,
}

impl Avro {
    /// Reads a schema. References come first, in the order in which they are needed.
    pub(super) fn parse(text: &str, references: &[&str]) -> Result<Avro, String> {
        let mut parser = Parser { types: Vec::new(), names: HashMap::new(), doubled: Vec::new() };
        let mut referenced = HashSet::new();
        for reference in references {
            let root = parser.read(reference)?;
            if let Some(name) = parser.types[root].shape.named() {
                referenced.insert(name.full());
            }
        }
        let root = parser.read(text)?;
        let avro = Avro { types: parser.types, root, referenced };
        for (first, second) in parser.doubled {
            // Two references may each bring one type along.
            if avro.definition(first) != avro.definition(second) {
                let full = avro.types[first].shape.named().map(Named::full).unwrap_or_default();
                return Err(format!("'{full}' is defined twice, and differently"));
            }
        }
        avro.check_unions()?;
        avro.check_defaults()?;
        Ok(avro)
    }

    /// A union holds no union, and no type twice. This can be told only when all names are resolved.
    fn check_unions(&self) -> Result<(), String> {
        for r#type in &self.types {
            let Shape::Union(branches) = &r#type.shape else { continue };
            let mut seen = HashSet::new();
            for branch in branches {
                let shape = &self.types[*branch].shape;
                if matches!(shape, Shape::Union(_)) {
                    return Err("a union holds a union directly; write their branches into one".to_owned());
                }
                let name = shape.named().map_or_else(|| shape.kind().to_owned(), Named::full);
                if !seen.insert(name.clone()) {
                    return Err(format!(
                        "a union holds '{name}' twice; only named types may come more than once"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_defaults(&self) -> Result<(), String> {
        for r#type in &self.types {
            let Shape::Record { name, fields, .. } = &r#type.shape else { continue };
            for field in fields {
                let Some(default) = &field.default else { continue };
                if !self.is_default(field.r#type, default, 0) {
                    let kind = self.types[field.r#type].shape.kind();
                    let mut text = String::new();
                    default.write(&mut text);
                    let (record, field) = (name.full(), &field.name);
                    return Err(format!(
                        "the default {text} of field '{field}' of '{record}' is no value of its type ({kind})"
                    ));
                }
            }
        }
        Ok(())
    }

    fn shape(&self, id: Id) -> &Shape {
        &self.types[id].shape
    }
}

impl Shape {
    fn named(&self) -> Option<&Named> {
        match self {
            Shape::Fixed { name, .. } | Shape::Enum { name, .. } | Shape::Record { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Avro's word for the type.
    fn kind(&self) -> &'static str {
        match self {
            Shape::Null => "null",
            Shape::Boolean => "boolean",
            Shape::Int => "int",
            Shape::Long => "long",
            Shape::Float => "float",
            Shape::Double => "double",
            Shape::Bytes => "bytes",
            Shape::String => "string",
            Shape::Array(_) => "array",
            Shape::Map(_) => "map",
            Shape::Union(_) => "union",
            Shape::Fixed { .. } => "fixed",
            Shape::Enum { .. } => "enum",
            Shape::Record { error: true, .. } => "error",
            Shape::Record { .. } => "record",
            Shape::Pending { .. } => "name",
        }
    }

    fn primitive(name: &str) -> Option<Shape> {
        Some(match name {
            "null" => Shape::Null,
            "boolean" => Shape::Boolean,
            "int" => Shape::Int,
            "long" => Shape::Long,
            "float" => Shape::Float,
            "double" => Shape::Double,
            "bytes" => Shape::Bytes,
            "string" => Shape::String,
            _ => return None,
        })
    }
}

struct Parser {
    types: Vec<Type>,
    names: HashMap<String, Id>,
    /// Types that are defined again.
    doubled: Vec<(Id, Id)>,
}

impl Parser {
    fn read(&mut self, text: &str) -> Result<Id, String> {
        let first = self.types.len();
        let value = Value::parse_with_comments(text)?;
        let root = self.schema(&value, None)?;
        self.resolve(first)?;
        // The root itself may be a name.
        Ok(self.forward(root))
    }

    /// Puts types in the places of the names that were used before their definition.
    fn resolve(&mut self, first: Id) -> Result<(), String> {
        let mut forwards = HashMap::new();
        for id in first..self.types.len() {
            if let Shape::Pending { full, bare } = &self.types[id].shape {
                let found = self.names.get(full).or_else(|| self.names.get(bare));
                let found = found.ok_or_else(|| {
                    format!("the type '{full}' is not defined; define it or give the schema that does as a reference")
                })?;
                forwards.insert(id, *found);
            }
        }
        let forward = |id: &mut Id| *id = forwards.get(id).copied().unwrap_or(*id);
        for r#type in &mut self.types[first..] {
            match &mut r#type.shape {
                Shape::Array(inner) | Shape::Map(inner) => forward(inner),
                Shape::Union(branches) => branches.iter_mut().for_each(forward),
                Shape::Record { fields, .. } => {
                    fields.iter_mut().for_each(|field| forward(&mut field.r#type));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn forward(&self, id: Id) -> Id {
        match &self.types[id].shape {
            Shape::Pending { full, bare } => {
                self.names.get(full).or_else(|| self.names.get(bare)).copied().unwrap_or(id)
            }
            _ => id,
        }
    }

    fn add(&mut self, shape: Shape, props: Object) -> Id {
        self.types.push(Type { shape, props });
        self.types.len() - 1
    }

    fn schema(&mut self, value: &Value, namespace: Option<&str>) -> Result<Id, String> {
        match value {
            Value::String(name) => Ok(self.name(name, namespace)),
            Value::Array(branches) => {
                let branches =
                    branches.iter().map(|branch| self.schema(branch, namespace)).collect::<Result<_, _>>()?;
                Ok(self.add(Shape::Union(branches), Vec::new()))
            }
            Value::Object(members) => self.object(members, namespace),
            _ => Err("a schema is a name, a list of branches or an object".to_owned()),
        }
    }

    fn name(&mut self, name: &str, namespace: Option<&str>) -> Id {
        if let Some(shape) = Shape::primitive(name) {
            return self.add(shape, Vec::new());
        }
        match self.find(name, namespace) {
            Some(id) => id,
            None => {
                let (namespace, last) = split(name, namespace);
                // A name without a namespace is looked for in the enclosing one, and then without any.
                let bare = if name.contains('.') { String::new() } else { last.to_owned() };
                self.add(Shape::Pending { full: full_name(namespace, last), bare }, Vec::new())
            }
        }
    }

    fn find(&self, name: &str, namespace: Option<&str>) -> Option<Id> {
        let (namespace, bare) = split(name, namespace);
        let found = self.names.get(&full_name(namespace, bare));
        found.or_else(|| if name.contains('.') { None } else { self.names.get(bare) }).copied()
    }

    fn object(&mut self, members: &Object, namespace: Option<&str>) -> Result<Id, String> {
        let kind = text(members, "type")?.ok_or("an object without a \"type\" that is a string")?;
        if let Some(shape) = Shape::primitive(kind) {
            return Ok(self.add(shape, props(members, RESERVED)));
        }
        match kind {
            "array" | "map" => {
                let inner = if kind == "array" { "items" } else { "values" };
                let inner =
                    value::get(members, inner).ok_or_else(|| format!("type {kind} has no \"{inner}\""))?;
                let inner = self.schema(inner, namespace)?;
                let shape = if kind == "array" { Shape::Array(inner) } else { Shape::Map(inner) };
                Ok(self.add(shape, props(members, RESERVED)))
            }
            "fixed" => {
                let name = named(members, namespace)?;
                let size = value::get(members, "size")
                    .and_then(Value::as_i64)
                    .filter(|size| i32::try_from(*size).is_ok_and(|size| size >= 0));
                let size = size.ok_or_else(|| {
                    format!("the fixed type '{}' has no \"size\" that is a number of bytes", name.full())
                })?;
                self.define(members, Shape::Fixed { name, size })
            }
            "enum" => {
                let shape = enumeration(members, named(members, namespace)?)?;
                self.define(members, shape)
            }
            "record" | "error" => self.record(members, kind == "error", namespace),
            // A named type may be referred to by an object with nothing but its name.
            name => self.find(name, namespace).ok_or_else(|| format!("no type is called '{name}'")),
        }
    }

    fn define(&mut self, members: &Object, shape: Shape) -> Result<Id, String> {
        let full = shape.named().map(Named::full).unwrap_or_default();
        let reserved = if matches!(shape, Shape::Enum { .. }) { ENUM_RESERVED } else { RESERVED };
        let id = self.add(shape, props(members, reserved));
        if Shape::primitive(&full).is_some() {
            return Err(format!(
                "a type is called '{full}', as a primitive one is; give it a namespace or another name"
            ));
        }
        if let Some(first) = self.names.insert(full, id) {
            self.doubled.push((first, id));
        }
        Ok(id)
    }

    fn record(&mut self, members: &Object, error: bool, namespace: Option<&str>) -> Result<Id, String> {
        let name = named(members, namespace)?;
        let (space, full) = (name.namespace.clone(), name.full());
        // The name is known before its fields are read, for records that hold themselves.
        let id = self.define(members, Shape::Record { name, fields: Vec::new(), error })?;
        let list = value::get(members, "fields").and_then(Value::as_array);
        let list = list.ok_or_else(|| format!("the record '{full}' has no list of \"fields\""))?;
        let mut found = Vec::with_capacity(list.len());
        let mut seen = HashSet::new();
        for field in list {
            let members = field.as_object().ok_or_else(|| format!("a field of '{full}' is no object"))?;
            let field = self.field(members, &full, space.as_deref())?;
            if !seen.insert(field.name.clone()) {
                return Err(format!("the record '{full}' has two fields called '{}'", field.name));
            }
            found.push(field);
        }
        if let Shape::Record { fields, .. } = &mut self.types[id].shape {
            *fields = found;
        }
        Ok(id)
    }

    fn field(&mut self, members: &Object, record: &str, namespace: Option<&str>) -> Result<Field, String> {
        let name = text(members, "name")?.ok_or_else(|| format!("a field of '{record}' has no \"name\""))?;
        check_name(name)?;
        let r#type = value::get(members, "type")
            .ok_or_else(|| format!("field '{name}' of '{record}' has no \"type\""))?;
        let r#type = self.schema(r#type, namespace)?;
        let mut default = value::get(members, "default").cloned();
        // Java reads numbers in quotes too.
        if let (Some(Value::String(word)), Shape::Float | Shape::Double) =
            (&default, &self.types[r#type].shape)
            && let Some(number) = default::number(word).filter(|number| number.is_finite())
        {
            default = Some(Value::Number(default::java_double(number)));
        }
        let order = match text(members, "order")?.map(str::to_ascii_lowercase) {
            None => None,
            Some(order) if order == "ascending" => None,
            Some(order) if order == "descending" || order == "ignore" => Some(order),
            Some(order) => {
                return Err(format!(
                    "field '{name}' has order '{order}'; use ascending, descending or ignore"
                ));
            }
        };
        Ok(Field {
            name: name.to_owned(),
            r#type,
            doc: text(members, "doc")?.map(str::to_owned),
            default,
            order,
            aliases: aliases(members)?,
            props: props(members, FIELD_RESERVED),
        })
    }
}

fn enumeration(members: &Object, name: Named) -> Result<Shape, String> {
    let full = name.full();
    let list = value::get(members, "symbols").and_then(Value::as_array);
    let list = list.ok_or_else(|| format!("the enum '{full}' has no list of \"symbols\""))?;
    let mut symbols = Vec::with_capacity(list.len());
    let mut seen = HashSet::new();
    for symbol in list {
        let symbol = symbol.as_str().ok_or_else(|| format!("a symbol of '{full}' is no string"))?;
        check_name(symbol)?;
        if !seen.insert(symbol) {
            return Err(format!("the enum '{full}' has the symbol '{symbol}' twice"));
        }
        symbols.push(symbol.to_owned());
    }
    let default = text(members, "default")?.map(str::to_owned);
    if let Some(default) = default.as_ref().filter(|default| !seen.contains(default.as_str())) {
        return Err(format!("the default '{default}' of the enum '{full}' is none of its symbols"));
    }
    Ok(Shape::Enum { name, symbols, default })
}

fn named(members: &Object, enclosing: Option<&str>) -> Result<Named, String> {
    let name = text(members, "name")?.ok_or("a named type without a \"name\"")?;
    let given = text(members, "namespace")?;
    let (namespace, bare) = split(name, given.or(enclosing));
    check_name(bare)?;
    if bare.len() + namespace.map_or(0, str::len) > NAME_BYTES_MAX {
        return Err(format!("a full name has more than {NAME_BYTES_MAX} bytes"));
    }
    namespace.into_iter().flat_map(|namespace| namespace.split('.')).try_for_each(check_name)?;
    let aliases = aliases(members)?;
    let aliases = aliases.iter().map(|alias| {
        let (space, bare) = split(alias, namespace);
        full_name(space, bare)
    });
    let mut unique: Vec<String> = Vec::new();
    for alias in aliases {
        if !unique.contains(&alias) {
            unique.push(alias);
        }
    }
    Ok(Named {
        name: bare.to_owned(),
        namespace: namespace.map(str::to_owned),
        doc: text(members, "doc")?.map(str::to_owned),
        aliases: unique,
    })
}

/// The namespace and the last part of a name. An empty namespace is none.
fn split<'a>(name: &'a str, namespace: Option<&'a str>) -> (Option<&'a str>, &'a str) {
    let (namespace, bare) = match name.rsplit_once('.') {
        Some((namespace, bare)) => (Some(namespace), bare),
        None => (namespace, name),
    };
    (namespace.filter(|namespace| !namespace.is_empty()), bare)
}

fn check_name(name: &str) -> Result<(), String> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err(format!("'{name}' is no name; names have letters, digits and '_', and start with no digit"))
}

fn text<'a>(members: &'a Object, name: &str) -> Result<Option<&'a str>, String> {
    Ok(value::get(members, name).and_then(Value::as_str))
}

fn aliases(members: &Object) -> Result<Vec<String>, String> {
    let Some(list) = value::get(members, "aliases") else { return Ok(Vec::new()) };
    let list = list.as_array().ok_or("\"aliases\" is no list")?;
    let alias =
        |alias: &Value| alias.as_str().map(str::to_owned).ok_or_else(|| "an alias is no string".to_owned());
    list.iter().map(alias).collect()
}

fn props(members: &Object, reserved: &[&str]) -> Object {
    members.iter().filter(|(name, _)| !reserved.contains(&name.as_str())).cloned().collect()
}

/// Bytes of a full name. Each type in a namespace has it in its name, so that a longer one would need far more memory than
/// its text.
const NAME_BYTES_MAX: usize = 512;

const RESERVED: &[&str] =
    &["doc", "fields", "items", "name", "namespace", "size", "symbols", "values", "type", "aliases"];
const ENUM_RESERVED: &[&str] = &[
    "default",
    "doc",
    "fields",
    "items",
    "name",
    "namespace",
    "size",
    "symbols",
    "values",
    "type",
    "aliases",
];
const FIELD_RESERVED: &[&str] = &["default", "doc", "name", "order", "type", "aliases"];
