//! JSON Schema, draft-04 to 2020-12: what a text says, in the shapes that Confluent's registry compares.
//!
//! One object of a text may say several things: that a value is a string, that it is one of a list, and that it matches
//! another schema. Each of them is a [`Shape`]; more than one are an `allOf`. A keyword says nothing about values of types
//! that it does not concern.

mod check;
mod load;
mod number;
mod outline;
mod uri;

pub(super) use self::check::check;
pub(super) use self::number::canonical;
pub(super) use self::outline::diff;
use super::value::Value;

/// The place of a schema in [`JsonSchema::nodes`].
type Id = usize;

/// A schema and the schemas that it refers to.
#[derive(Debug)]
pub(super) struct JsonSchema {
    text: Value,
    nodes: Vec<Node>,
    root: Id,
}

impl JsonSchema {
    /// Reads a schema. References are `(URI, text)`.
    pub(super) fn parse(text: &str, references: &[(&str, &str)]) -> Result<JsonSchema, String> {
        load::load(text, references)
    }

    /// The text without spaces.
    pub(super) fn canonical(&self) -> String {
        let mut out = String::new();
        self.text.write(&mut out);
        out
    }

    /// The text without spaces, the members of each object in the order of their names.
    pub(super) fn normalized(&self) -> String {
        let mut out = String::new();
        self.text.sorted().write(&mut out);
        out
    }

    /// A schema, through all references.
    fn node(&self, id: Id) -> (Id, &Node) {
        let mut id = id;
        // References that only refer to each other say nothing, wherever one stops.
        for _ in 0..self.nodes.len() {
            match &self.nodes[id].shape {
                Shape::Reference(to) => id = *to,
                _ => break,
            }
        }
        (id, &self.nodes[id])
    }
}

#[derive(Debug)]
struct Node {
    shape: Shape,
    /// Whether the object has a default.
    default: bool,
    /// `connect.type` of Kafka Connect, whose decimals have changed their type once.
    connect_bytes: bool,
    /// What it says, to tell doubles in a list. Empty where nobody asks.
    text: String,
}

#[derive(Debug)]
enum Shape {
    /// Every value.
    Any,
    /// `true`, which is every value too, and another shape in Confluent's eyes.
    True,
    /// No value.
    False,
    Null,
    Boolean,
    String(Text),
    Number(Number),
    Object(Box<Object>),
    Array(Box<Array>),
    Enum(Vec<Value>),
    Const(Value),
    Combined(Criterion, Vec<Id>),
    Not(Id),
    /// `if`, `then` and `else`, which are not compared.
    Conditional,
    Reference(Id),
}

impl Shape {
    /// Every value, in either spelling.
    fn is_any(&self) -> bool {
        matches!(self, Shape::Any | Shape::True)
    }

    fn name(&self) -> &'static str {
        match self {
            Shape::Any | Shape::True => "anything",
            Shape::False => "nothing",
            Shape::Null => "null",
            Shape::Boolean => "boolean",
            Shape::String(_) => "string",
            Shape::Number(number) if number.integer => "integer",
            Shape::Number(_) => "number",
            Shape::Object(_) => "object",
            Shape::Array(_) => "array",
            Shape::Enum(_) => "enum",
            Shape::Const(_) => "const",
            Shape::Combined(criterion, _) => criterion.keyword(),
            Shape::Not(_) => "not",
            Shape::Conditional => "if",
            Shape::Reference(_) => "$ref",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Criterion {
    All,
    Any,
    One,
}

impl Criterion {
    fn keyword(self) -> &'static str {
        match self {
            Criterion::All => "allOf",
            Criterion::Any => "anyOf",
            Criterion::One => "oneOf",
        }
    }
}

#[derive(Debug, Default)]
struct Text {
    min: Option<i64>,
    max: Option<i64>,
    pattern: Option<String>,
}

#[derive(Debug, Default)]
struct Number {
    integer: bool,
    min: Option<f64>,
    max: Option<f64>,
    above: Option<f64>,
    below: Option<f64>,
    /// The digits, because a fraction is compared exactly.
    multiple_of: Option<String>,
}

/// What is allowed beyond the properties or items that are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum More {
    #[default]
    Open,
    Closed,
    Schema(Id),
}

#[derive(Debug, Default)]
struct Object {
    properties: Vec<(String, Id)>,
    required: Vec<String>,
    patterns: Vec<(String, Id)>,
    additional: More,
    unevaluated: Option<Id>,
    min: Option<i64>,
    max: Option<i64>,
    needs: Vec<(String, Vec<String>)>,
    dependent: Vec<(String, Id)>,
}

#[derive(Debug, Default)]
struct Array {
    all: Option<Id>,
    items: Vec<Id>,
    additional: More,
    unevaluated: Option<Id>,
    min: Option<i64>,
    max: Option<i64>,
    unique: bool,
    min_contains: Option<i64>,
    max_contains: Option<i64>,
}
