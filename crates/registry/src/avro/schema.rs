//! Avro's schemas, from JSON.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::{Map, Value};

use super::reader::{DEPTH_MAX, write_bytes, write_count, write_long};
use super::wrong;
use crate::{Reference, Schema, SchemaType, SerdeError};

/// A schema of Avro's, ready to read and write with.
pub struct AvroSchema {
    nodes: Vec<Node>,
    root: NodeId,
}

/// A place in the schema's nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NodeId(usize);

#[derive(Debug)]
pub(super) enum Node {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record { name: Box<str>, fields: Vec<Field> },
    Enum { name: Box<str>, symbols: Vec<Box<str>> },
    Fixed { name: Box<str>, size: usize },
}

#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: Box<str>,
    pub(super) node: NodeId,
    /// The default, encoded.
    pub(super) default: Option<Vec<u8>>,
}

/// A schema has at most this many types and fields, with those that it refers to.
const NODES_MAX: usize = 1 << 16;
const FIXED_BYTES_MAX: usize = 1 << 24;
/// Names of types, fields and symbols have at most this many bytes: they are in values that are read, and in errors of each level.
const NAME_BYTES_MAX: usize = 512;

impl AvroSchema {
    /// Parses a schema that refers to no other one.
    ///
    /// # Errors
    /// When it is no schema, with the reason.
    pub fn parse(json: &str) -> Result<Self, SerdeError> {
        Self::parse_with(json, &[])
    }

    /// Parses a schema whose names may be those of other schemas, each before those that use it.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_with(json: &str, others: &[&str]) -> Result<Self, SerdeError> {
        let mut parser = Parser::default();
        for other in others {
            parser.parse(other)?;
        }
        let root = parser.parse(json)?;
        parser.encode_defaults()?;
        Ok(Self { nodes: parser.nodes, root })
    }

    pub(crate) fn compile(schema: &Schema, others: &[(Reference, Schema)]) -> Result<Self, SerdeError> {
        for kind in std::iter::once(schema.kind()).chain(others.iter().map(|(_, schema)| schema.kind())) {
            if *kind != SchemaType::Avro {
                return Err(SerdeError::schema(format!("the schema is {kind}, and Avro is expected")));
            }
        }
        let others: Vec<_> = others.iter().map(|(_, schema)| schema.text()).collect();
        Self::parse_with(schema.text(), &others)
    }

    /// The full name, if the schema is a record, an enum or fixed.
    pub fn name(&self) -> Option<&str> {
        self.name_of(self.root)
    }

    pub(super) fn root(&self) -> NodeId {
        self.root
    }

    #[inline]
    pub(super) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    fn name_of(&self, id: NodeId) -> Option<&str> {
        match self.node(id) {
            Node::Record { name, .. } | Node::Enum { name, .. } | Node::Fixed { name, .. } => Some(name),
            _ => None,
        }
    }

    /// The name of a branch of a union: the full name, or that of the type.
    pub(super) fn branch_name(&self, id: NodeId) -> &str {
        self.name_of(id).unwrap_or(match self.node(id) {
            Node::Null => "null",
            Node::Boolean => "boolean",
            Node::Int => "int",
            Node::Long => "long",
            Node::Float => "float",
            Node::Double => "double",
            Node::Bytes => "bytes",
            Node::String => "string",
            Node::Array(_) => "array",
            Node::Map(_) => "map",
            _ => "union",
        })
    }

    /// What a type is called in errors.
    pub(super) fn expected(&self, id: NodeId) -> String {
        match self.node(id) {
            Node::Union(branches) => {
                let names: Vec<_> = branches.iter().map(|branch| self.branch_name(*branch)).collect();
                format!("a union of {}", names.join(", "))
            }
            _ => self.branch_name(id).to_owned(),
        }
    }

    /// Whether a branch is called `name`, in full, without its namespace, or as Rust writes it (`String` for `string`).
    pub(super) fn is_branch(&self, id: NodeId, name: &str) -> bool {
        let full = self.branch_name(id);
        full == name || full.rsplit('.').next() == Some(name) || full.eq_ignore_ascii_case(name)
    }

    /// The branch of a union that a predicate finds first, or the node itself if it is no union.
    pub(super) fn branch(
        &self,
        id: NodeId,
        is_it: impl Fn(&Node, NodeId) -> bool,
    ) -> Option<(Option<usize>, NodeId)> {
        match self.node(id) {
            Node::Union(branches) => branches
                .iter()
                .enumerate()
                .find(|(_, branch)| is_it(self.node(**branch), **branch))
                .map(|(index, branch)| (Some(index), *branch)),
            node => is_it(node, id).then_some((None, id)),
        }
    }
}

impl fmt::Debug for AvroSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AvroSchema").field("name", &self.name()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Parser {
    nodes: Vec<Node>,
    names: HashMap<String, NodeId>,
    /// Fields of all records: those of a known type add no node.
    fields: usize,
    /// Fields with a default: a name can be that of a type that is complete later only.
    defaults: Vec<(NodeId, usize, Value)>,
    /// Steps that encoding defaults has taken: trying the branches of unions in each other would take no end of them.
    steps: Cell<usize>,
}

impl Parser {
    fn parse(&mut self, json: &str) -> Result<NodeId, SerdeError> {
        // A schema may be the bare name of a type, without quotation marks, in some registries.
        let parsed =
            serde_json::from_str(json).map_err(|error| invalid(format_args!("it is no JSON: {error}")))?;
        self.schema(&parsed, "")
    }

    fn add(&mut self, node: Node) -> Result<NodeId, SerdeError> {
        if self.nodes.len() >= NODES_MAX {
            return Err(invalid(format_args!("it has more than {NODES_MAX} types")));
        }
        self.nodes.push(node);
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// The depth of JSON is bounded by its parser.
    fn schema(&mut self, json: &Value, namespace: &str) -> Result<NodeId, SerdeError> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.schema(branch, namespace));
                let branches = branches.collect::<Result<Vec<_>, _>>()?;
                self.union(branches)
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.complex(kind, object, namespace),
                // {"type": {"type": "string"}} and {"type": ["null", "string"]}.
                Some(inner) => self.schema(inner, namespace),
                None => Err(invalid("a type has no \"type\"")),
            },
            _ => Err(invalid("a type is neither a text nor an array nor an object")),
        }
    }

    fn union(&mut self, branches: Vec<NodeId>) -> Result<NodeId, SerdeError> {
        let (mut named, mut kinds) = (HashSet::new(), HashSet::new());
        for branch in &branches {
            let node = &self.nodes[branch.0];
            if matches!(node, Node::Union(_)) {
                return Err(invalid("a union has a union as a branch"));
            }
            let is_new = match node {
                Node::Record { .. } | Node::Enum { .. } | Node::Fixed { .. } => named.insert(branch.0),
                _ => kinds.insert(std::mem::discriminant(node)),
            };
            if !is_new {
                return Err(invalid("a union has two branches of one type"));
            }
        }
        self.add(Node::Union(branches))
    }

    fn named(&mut self, name: &str, namespace: &str) -> Result<NodeId, SerdeError> {
        let primitive = match name {
            "null" => Node::Null,
            "boolean" => Node::Boolean,
            "int" => Node::Int,
            "long" => Node::Long,
            "float" => Node::Float,
            "double" => Node::Double,
            "bytes" => Node::Bytes,
            "string" => Node::String,
            name => {
                let full = full_name(name, namespace);
                let known = self.names.get(&full).or_else(|| self.names.get(name));
                return known.copied().ok_or_else(|| invalid(format_args!("there is no type {full:?}")));
            }
        };
        self.add(primitive)
    }

    fn complex(
        &mut self,
        kind: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<NodeId, SerdeError> {
        let part =
            |name: &str| object.get(name).ok_or_else(|| invalid(format_args!("{kind} has no {name:?}")));
        match kind {
            "array" => {
                let items = self.schema(part("items")?, namespace)?;
                self.add(Node::Array(items))
            }
            "map" => {
                let values = self.schema(part("values")?, namespace)?;
                self.add(Node::Map(values))
            }
            "record" | "error" => {
                let (id, name) =
                    self.define(object, namespace, |name| Node::Record { name, fields: Vec::new() })?;
                let namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                let Value::Array(fields) = part("fields")? else {
                    return Err(invalid(format_args!("the fields of {name:?} are no array")));
                };
                self.fields = self.fields.saturating_add(fields.len());
                if self.fields > NODES_MAX {
                    return Err(invalid(format_args!("it has more than {NODES_MAX} fields")));
                }
                let (mut parsed, mut names) = (Vec::new(), HashSet::new());
                for (index, field) in fields.iter().enumerate() {
                    let text = field.get("name").and_then(Value::as_str);
                    let text =
                        text.ok_or_else(|| invalid(format_args!("a field of {name:?} has no name")))?;
                    check_length(text)?;
                    if !names.insert(text) {
                        return Err(invalid(format_args!("{name:?} has two fields {text:?}")));
                    }
                    let kind = field.get("type");
                    let kind =
                        kind.ok_or_else(|| invalid(format_args!("field {text:?} of {name:?} has no type")))?;
                    let node = self.schema(kind, namespace)?;
                    if let Some(default) = field.get("default") {
                        self.defaults.push((id, index, default.clone()));
                    }
                    parsed.push(Field { name: text.into(), node, default: None });
                }
                self.nodes[id.0] = Node::Record { name: name.into(), fields: parsed };
                Ok(id)
            }
            "enum" => {
                let symbols = part("symbols")?.as_array().into_iter().flatten();
                let symbols = symbols.map(|symbol| {
                    let symbol = symbol.as_str().ok_or_else(|| invalid("a symbol of an enum is no text"))?;
                    check_length(symbol).map(|()| symbol.into())
                });
                let symbols = symbols.collect::<Result<Vec<Box<str>>, _>>()?;
                Ok(self.define(object, namespace, |name| Node::Enum { name, symbols })?.0)
            }
            "fixed" => {
                let size = part("size")?.as_u64().and_then(|size| usize::try_from(size).ok());
                let size = size.filter(|size| *size <= FIXED_BYTES_MAX);
                let size = size.ok_or_else(|| {
                    invalid(format_args!("the size of a fixed is not from 0 to {FIXED_BYTES_MAX}"))
                })?;
                Ok(self.define(object, namespace, |name| Node::Fixed { name, size })?.0)
            }
            name => self.named(name, namespace),
        }
    }

    fn define(
        &mut self,
        object: &Map<String, Value>,
        namespace: &str,
        node: impl FnOnce(Box<str>) -> Node,
    ) -> Result<(NodeId, String), SerdeError> {
        let name = object.get("name").and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| invalid("a record, an enum or a fixed has no name"))?;
        let namespace = object.get("namespace").and_then(Value::as_str).unwrap_or(namespace);
        let name = full_name(name, namespace);
        check_length(&name)?;
        let id = self.add(node(name.as_str().into()))?;
        if self.names.insert(name.clone(), id).is_some() {
            return Err(invalid(format_args!("{name:?} is defined twice")));
        }
        Ok((id, name))
    }

    fn encode_defaults(&mut self) -> Result<(), SerdeError> {
        let mut total = 0usize;
        for (record, index, json) in std::mem::take(&mut self.defaults) {
            let Node::Record { name, fields } = &self.nodes[record.0] else { continue };
            let (name, field) = (name.clone(), &fields[index]);
            let mut bytes = Vec::new();
            // Defaults that do not fit are told when they are needed: Java's parser takes schemas that have some.
            // Each can have another one in it, and that one twice, so all of them together are bounded.
            let is_encoded = self.encode_default(field.node, &json, 0, &mut bytes).is_ok()
                && bytes.len() <= DEFAULT_BYTES_MAX - total;
            total += if is_encoded { bytes.len() } else { 0 };
            tracing::trace!(target: "milena", "default of field {:?} of {name:?}: {is_encoded}", field.name);
            if let Node::Record { fields, .. } = &mut self.nodes[record.0] {
                fields[index].default = is_encoded.then_some(bytes);
            }
        }
        Ok(())
    }

    fn encode_default(
        &self,
        node: NodeId,
        json: &Value,
        depth: u32,
        into: &mut Vec<u8>,
    ) -> Result<(), SerdeError> {
        let unfit = || invalid("a default does not fit its type");
        self.step(1)?;
        if depth > DEPTH_MAX || into.len() > DEFAULT_BYTES_MAX {
            return Err(unfit());
        }
        // A text stands for bytes, a character for each.
        let latin = |json: &Value| -> Option<Vec<u8>> {
            json.as_str()?.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
        };
        let float = |json: &Value| match json.as_str() {
            Some("NaN") => Some(f64::NAN),
            Some("Infinity") => Some(f64::INFINITY),
            Some("-Infinity") => Some(f64::NEG_INFINITY),
            _ => json.as_f64(),
        };
        match &self.nodes[node.0] {
            Node::Null => json.as_null().ok_or_else(unfit)?,
            Node::Boolean => into.push(json.as_bool().ok_or_else(unfit)?.into()),
            Node::Int => {
                let int = json.as_i64().filter(|int| i32::try_from(*int).is_ok());
                write_long(int.ok_or_else(unfit)?, into);
            }
            Node::Long => write_long(json.as_i64().ok_or_else(unfit)?, into),
            #[expect(clippy::cast_possible_truncation, reason = "a default of a float is rounded to one")]
            Node::Float => into.extend_from_slice(&(float(json).ok_or_else(unfit)? as f32).to_le_bytes()),
            Node::Double => into.extend_from_slice(&float(json).ok_or_else(unfit)?.to_le_bytes()),
            Node::String => write_bytes(json.as_str().ok_or_else(unfit)?.as_bytes(), into),
            Node::Bytes => write_bytes(&latin(json).ok_or_else(unfit)?, into),
            Node::Fixed { size, .. } => {
                let bytes = latin(json).filter(|bytes| bytes.len() == *size);
                into.extend_from_slice(&bytes.ok_or_else(unfit)?);
            }
            Node::Enum { symbols, .. } => {
                let symbol = symbols.iter().position(|symbol| json.as_str() == Some(symbol));
                write_count(symbol.ok_or_else(unfit)?, into);
            }
            Node::Array(items) => {
                let array = json.as_array().ok_or_else(unfit)?;
                if !array.is_empty() {
                    write_count(array.len(), into);
                }
                for item in array {
                    self.encode_default(*items, item, depth + 1, into)?;
                }
                into.push(0);
            }
            Node::Map(values) => {
                let object = json.as_object().ok_or_else(unfit)?;
                if !object.is_empty() {
                    write_count(object.len(), into);
                }
                for (key, value) in object {
                    write_bytes(key.as_bytes(), into);
                    self.encode_default(*values, value, depth + 1, into)?;
                }
                into.push(0);
            }
            // The first branch, as the specification says, or another one that fits, as Java allows.
            Node::Union(branches) => {
                let begin = into.len();
                for (index, branch) in branches.iter().enumerate() {
                    write_count(index, into);
                    if self.encode_default(*branch, json, depth + 1, into).is_ok() {
                        return Ok(());
                    }
                    into.truncate(begin);
                }
                return Err(unfit());
            }
            Node::Record { fields, .. } => {
                for field in fields {
                    match (json.get(&*field.name), &field.default) {
                        (Some(json), _) => self.encode_default(field.node, json, depth + 1, into)?,
                        (None, Some(default)) if into.len() <= DEFAULT_BYTES_MAX => {
                            self.step(default.len() / BYTES_PER_STEP)?;
                            into.extend_from_slice(default);
                        }
                        _ => return Err(unfit()),
                    }
                }
            }
        }
        Ok(())
    }

    fn step(&self, count: usize) -> Result<(), SerdeError> {
        self.steps.set(self.steps.get().saturating_add(count));
        if self.steps.get() > DEFAULT_STEPS_MAX {
            return Err(invalid("its defaults are too complex"));
        }
        Ok(())
    }
}

/// All defaults of a schema, encoded, have at most this many bytes together.
const DEFAULT_BYTES_MAX: usize = 1 << 20;
const DEFAULT_STEPS_MAX: usize = 1 << 20;
/// Copying takes less time than looking at a value.
const BYTES_PER_STEP: usize = 64;

fn check_length(name: &str) -> Result<(), SerdeError> {
    if name.len() > NAME_BYTES_MAX {
        let cut: String = name.chars().take(40).collect();
        return Err(invalid(format_args!("the name {cut:?}… has more than {NAME_BYTES_MAX} bytes")));
    }
    Ok(())
}

fn full_name(name: &str, namespace: &str) -> String {
    match name {
        name if name.contains('.') || namespace.is_empty() => name.trim_start_matches('.').to_owned(),
        name => format!("{namespace}.{name}"),
    }
}

fn invalid(why: impl fmt::Display) -> SerdeError {
    SerdeError::schema(format!("the Avro schema cannot be used: {why}"))
}

/// An error that names the field of a record.
pub(super) fn in_field(record: &str, field: &str, error: &SerdeError) -> SerdeError {
    wrong(format_args!("field {field:?} of {record:?}: {error}"))
}
