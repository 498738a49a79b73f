//! From the text of a JSON Schema to shapes, with all references followed.

use std::collections::{HashMap, VecDeque};

use super::{Array, Criterion, Id, JsonSchema, More, Node, Number, Object, Shape, Text, uri};
use crate::compat::value::{self, Object as Members, Value};

/// The versions of the language, as far as they differ here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Draft {
    Four,
    Six,
    Seven,
    /// 2019-09 and 2020-12.
    Modern,
}

impl Draft {
    fn of(schema: &Value) -> Draft {
        let url = schema.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let url = url.trim_end_matches('#').split_once("://").map_or("", |(_, rest)| rest);
        match url {
            "json-schema.org/draft-04/schema" => Draft::Four,
            "json-schema.org/draft-06/schema" => Draft::Six,
            "json-schema.org/draft/2019-09/schema" | "json-schema.org/draft/2020-12/schema" => Draft::Modern,
            _ => Draft::Seven,
        }
    }

    fn id(self) -> &'static str {
        if self == Draft::Four { "id" } else { "$id" }
    }
}

pub(super) fn load(text: &str, references: &[(&str, &str)]) -> Result<JsonSchema, String> {
    let root = super::canonical(Value::parse(text)?);
    if !matches!(root, Value::Object(_) | Value::Bool(_)) {
        return Err("a schema is an object, true or false".to_owned());
    }
    let mut documents = Vec::with_capacity(references.len());
    for (name, text) in references {
        let document = Value::parse(text).map_err(|error| format!("the reference \"{name}\": {error}"))?;
        documents.push((*name, document));
    }
    let draft = Draft::of(&root);
    let base = root.get(draft.id()).and_then(Value::as_str).unwrap_or_default();
    let mut loader = Loader {
        draft,
        places: HashMap::new(),
        nodes: Vec::new(),
        known: HashMap::new(),
        waiting: VecDeque::new(),
    };
    loader.index(&root, "");
    for (name, document) in &documents {
        loader.place(&uri::resolve(base, name), document);
        loader.place(name, document);
        loader.index(document, &uri::resolve(base, name));
    }
    loader.place("", &root);
    let first = loader.node(&root, base)?;
    while let Some((id, reference, base)) = loader.waiting.pop_front() {
        let to = loader.target(&reference, &base)?;
        loader.nodes[id].shape = Shape::Reference(to);
    }
    let nodes = loader.nodes;
    if let Shape::Object(object) = &nodes[first].shape
        && let Some((name, _)) = object.properties.iter().find(|(name, _)| name.starts_with("$$"))
    {
        return Err(format!(
            "the property '{name}' starts with $$, which Confluent's registry keeps for itself"
        ));
    }
    Ok(JsonSchema { text: root, nodes, root: first })
}

struct Loader<'a> {
    draft: Draft,
    /// Documents and parts of them by their URIs, with the base of the references in them.
    places: HashMap<String, (&'a Value, String)>,
    nodes: Vec<Node>,
    /// Nodes by the addresses of their values, which do not move while loading.
    known: HashMap<usize, Id>,
    /// References that are still to be followed.
    waiting: VecDeque<(Id, String, String)>,
}

impl<'a> Loader<'a> {
    fn place(&mut self, uri: &str, value: &'a Value) {
        let uri = uri.trim_end_matches('#');
        if !self.places.contains_key(uri) {
            let base = self.own(value, uri).unwrap_or_else(|| uri.to_owned());
            self.places.insert(uri.to_owned(), (value, base));
        }
    }

    /// The URI that a schema gives itself.
    fn own(&self, value: &Value, base: &str) -> Option<String> {
        let id = value.get(self.draft.id()).and_then(Value::as_str).filter(|id| id.len() <= URI_BYTES_MAX)?;
        Some(uri::resolve(base, id)).filter(|own| own.len() <= URI_BYTES_MAX)
    }

    /// Finds what has a URI of its own: `$id`, `id` and `$anchor`.
    fn index(&mut self, value: &'a Value, base: &str) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.index(item, base)),
            Value::Object(members) => {
                let own = self.own(value, base);
                if let Some(own) = &own {
                    self.place(own, value);
                }
                let base = own.as_deref().filter(|own| !own.contains('#')).unwrap_or(base);
                if let Some(anchor) = value
                    .get("$anchor")
                    .and_then(Value::as_str)
                    .filter(|anchor| anchor.len() <= URI_BYTES_MAX)
                {
                    let base = base.to_owned();
                    self.place(&format!("{base}#{anchor}"), value);
                }
                for (name, inner) in members {
                    // What these hold are values, not schemas.
                    if !matches!(name.as_str(), "enum" | "const" | "default" | "examples") {
                        self.index(inner, base);
                    }
                }
            }
            _ => {}
        }
    }

    /// The node that a reference means.
    fn target(&mut self, reference: &str, base: &str) -> Result<Id, String> {
        let missing = || {
            format!(
                "the reference \"{reference}\" leads nowhere; define it or give the schema that does as a reference"
            )
        };
        let full = uri::resolve(base, reference);
        let (document, fragment) = full.split_once('#').unwrap_or((full.as_str(), ""));
        // An anchor, or an `$id` that is one.
        let anchored = [full.as_str(), reference]
            .into_iter()
            .find_map(|uri| self.places.get(uri))
            .filter(|_| !fragment.is_empty());
        if let Some((value, base)) = anchored.cloned() {
            return self.node(value, &base);
        }
        let given = reference.split('#').next().unwrap_or_default();
        let found = [document, given].into_iter().find_map(|uri| self.places.get(uri));
        let Some((mut value, base)) = found.cloned() else {
            // The language's own schemas are not compared.
            if document.contains("://json-schema.org/draft") {
                return Ok(self.add(Shape::Any, None, String::new()));
            }
            return Err(missing());
        };
        let mut base = base;
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return Err(missing());
        }
        for part in uri::pointer(fragment) {
            let inner = match value {
                Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
                // Confluent's registry finds what is in either of them.
                _ if part == "$defs" => value.get("$defs").or_else(|| value.get("definitions")),
                _ => value.get(&part),
            };
            value = inner.ok_or_else(missing)?;
            base = self.own(value, &base).unwrap_or(base);
        }
        self.node(value, &base)
    }

    fn add(&mut self, shape: Shape, members: Option<&Members>, text: String) -> Id {
        let get = |name: &str| members.and_then(|members| value::get(members, name));
        self.nodes.push(Node {
            shape,
            // Confluent's registry takes null for a default before 2019-09 only.
            default: get("default")
                .is_some_and(|default| self.draft < Draft::Modern || *default != Value::Null),
            connect_bytes: get("connect.type").and_then(Value::as_str) == Some("bytes"),
            text,
        });
        self.nodes.len() - 1
    }

    fn node(&mut self, value: &'a Value, base: &str) -> Result<Id, String> {
        let address = std::ptr::from_ref(value).addr();
        if let Some(id) = self.known.get(&address) {
            return Ok(*id);
        }
        let members = match value {
            Value::Bool(true) => return Ok(self.add(Shape::True, None, "true".to_owned())),
            Value::Bool(false) => return Ok(self.add(Shape::False, None, "false".to_owned())),
            Value::Object(members) => members,
            _ => return Err("a schema is neither an object nor true or false".to_owned()),
        };
        let id = self.add(Shape::Any, Some(members), String::new());
        self.known.insert(address, id);
        let base = self.own(value, base).unwrap_or_else(|| base.to_owned());
        let shapes = self.shapes(id, members, &base)?;
        self.nodes[id].shape = self.all(shapes);
        Ok(id)
    }

    /// Several shapes of one object are an `allOf`.
    fn all(&mut self, mut shapes: Vec<Shape>) -> Shape {
        if shapes.len() > 1 {
            let parts = shapes.into_iter().map(|shape| self.add(shape, None, String::new())).collect();
            return Shape::Combined(Criterion::All, parts);
        }
        shapes.pop().unwrap_or(Shape::Any)
    }

    fn shapes(&mut self, id: Id, members: &'a Members, base: &str) -> Result<Vec<Shape>, String> {
        let mut shapes = Vec::new();
        let dynamic = ["$dynamicRef", "$recursiveRef"].into_iter().filter(|_| self.draft == Draft::Modern);
        let word = std::iter::once("$ref").chain(dynamic).find(|word| value::get(members, word).is_some());
        if let Some(reference) = keyword(members, word.unwrap_or("$ref"), Value::as_str, "a string")? {
            if reference.len() > URI_BYTES_MAX {
                return Err(format!("a reference has more than {URI_BYTES_MAX} bytes"));
            }
            // Before 2019-09, everything beside a reference is ignored.
            if self.draft < Draft::Modern {
                self.waiting.push_back((id, reference.to_owned(), base.to_owned()));
                return Ok(shapes);
            }
            let only = members
                .iter()
                .all(|(name, _)| Some(name.as_str()) == word || ANNOTATIONS.contains(&name.as_str()));
            let place = if only { id } else { self.add(Shape::Any, None, String::new()) };
            self.waiting.push_back((place, reference.to_owned(), base.to_owned()));
            if only {
                return Ok(shapes);
            }
            shapes.push(Shape::Reference(place));
        }
        if let Some(values) = keyword(members, "enum", Value::as_array, "a list")? {
            shapes.push(Shape::Enum(values.to_vec()));
        }
        for criterion in [Criterion::All, Criterion::Any, Criterion::One] {
            if let Some(schemas) = keyword(members, criterion.keyword(), Value::as_array, "a list")? {
                let parts = schemas.iter().map(|schema| self.part(schema, base)).collect::<Result<_, _>>()?;
                shapes.push(Shape::Combined(criterion, parts));
            }
        }
        if let Some(schema) = value::get(members, "not") {
            shapes.push(Shape::Not(self.node(schema, base)?));
        }
        if let Some(value) = value::get(members, "const").filter(|_| self.draft > Draft::Four) {
            shapes.push(Shape::Const(value.clone()));
        }
        let types = self.types(members, base)?;
        // A keyword without its type holds for values of its type, and for no others.
        let named = |name: &str| types.iter().any(|(known, _)| known == name);
        let numeric = named("number") || named("integer");
        let has = |keywords: &[&str]| members.iter().any(|(name, _)| keywords.contains(&name.as_str()));
        let mut sniffed = Vec::new();
        let (arrays, objects) = self.keywords();
        if !named("array") && has(arrays) {
            sniffed.push(self.array(members, base)?);
        }
        if !named("object") && has(objects) {
            sniffed.push(self.object(members, base)?);
        }
        if !numeric && has(&["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]) {
            sniffed.push(self.number(members, false)?);
        }
        if !named("string")
            && (has(&["minLength", "maxLength", "pattern"]) || self.draft < Draft::Modern && has(&["format"]))
        {
            sniffed.push(string(members)?);
        }
        if self.draft >= Draft::Seven && has(&["if", "then", "else"]) {
            for name in ["if", "then", "else"] {
                if let Some(schema) = value::get(members, name) {
                    self.node(schema, base)?;
                }
            }
            sniffed.push(Shape::Conditional);
        }
        match value::get(members, "type") {
            Some(Value::Array(_)) => {
                let parts = types.into_iter().map(|(name, shape)| self.add(shape, None, name)).collect();
                shapes.push(Shape::Combined(Criterion::Any, parts));
            }
            _ => shapes.extend(types.into_iter().map(|(_, shape)| shape)),
        }
        shapes.extend(sniffed);
        Ok(shapes)
    }

    /// A part of a combination, with its text, because a schema that comes twice counts once.
    fn part(&mut self, schema: &'a Value, base: &str) -> Result<Id, String> {
        let id = self.node(schema, base)?;
        let mut text = String::new();
        schema.sorted().write(&mut text);
        self.nodes[id].text = text;
        Ok(id)
    }

    /// Keywords that concern arrays, and objects.
    fn keywords(&self) -> (&'static [&'static str], &'static [&'static str]) {
        match self.draft {
            Draft::Four => (&ARRAY[..5], &OBJECT[..7]),
            Draft::Six | Draft::Seven => (&ARRAY[..6], &OBJECT[..8]),
            Draft::Modern => (ARRAY_MODERN, OBJECT_MODERN),
        }
    }

    fn types(&mut self, members: &'a Members, base: &str) -> Result<Vec<(String, Shape)>, String> {
        let names: Vec<&str> = match value::get(members, "type") {
            None => Vec::new(),
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => {
                let names = names.iter().map(|name| name.as_str().ok_or("a type is no string"));
                names.collect::<Result<_, _>>()?
            }
            Some(_) => return Err("\"type\" is neither a string nor a list of strings".to_owned()),
        };
        let mut shapes: Vec<(String, Shape)> = Vec::with_capacity(names.len());
        for name in names {
            if shapes.iter().any(|(known, _)| known == name) {
                continue;
            }
            let shape = match name {
                "string" => string(members)?,
                "integer" => self.number(members, true)?,
                "number" => self.number(members, false)?,
                "boolean" => Shape::Boolean,
                "null" => Shape::Null,
                "array" => self.array(members, base)?,
                "object" => self.object(members, base)?,
                other => return Err(format!("there is no type \"{other}\"")),
            };
            shapes.push((name.to_owned(), shape));
        }
        Ok(shapes)
    }

    fn number(&self, members: &Members, integer: bool) -> Result<Shape, String> {
        let number = |name: &str| keyword(members, name, Value::as_f64, "a number");
        let mut found =
            Number { integer, min: number("minimum")?, max: number("maximum")?, ..Number::default() };
        // In draft-04 they are true or false, and Confluent's registry does not compare them.
        if self.draft > Draft::Four {
            found.above = number("exclusiveMinimum")?;
            found.below = number("exclusiveMaximum")?;
        }
        number("multipleOf")?;
        if let Some(Value::Number(digits)) = value::get(members, "multipleOf") {
            found.multiple_of = Some(digits.clone());
        }
        Ok(Shape::Number(found))
    }

    fn object(&mut self, members: &'a Members, base: &str) -> Result<Shape, String> {
        let mut object = Object {
            min: whole(members, "minProperties")?,
            max: whole(members, "maxProperties")?,
            ..Object::default()
        };
        for (name, schema) in
            keyword(members, "properties", Value::as_object, "an object")?.into_iter().flatten()
        {
            object.properties.push((name.clone(), self.node(schema, base)?));
        }
        if self.draft != Draft::Four || !matches!(value::get(members, "required"), Some(Value::Bool(_))) {
            object.required = names(members, "required")?;
        }
        for (name, schema) in
            keyword(members, "patternProperties", Value::as_object, "an object")?.into_iter().flatten()
        {
            object.patterns.push((name.clone(), self.node(schema, base)?));
        }
        if let Some(more) = value::get(members, "additionalProperties") {
            object.additional = self.more(more, base)?;
        }
        if let Some(schema) = value::get(members, "propertyNames") {
            self.node(schema, base)?;
        }
        if self.draft == Draft::Modern {
            if let Some(schema) = value::get(members, "unevaluatedProperties") {
                object.unevaluated = Some(self.node(schema, base)?);
            }
            for (name, list) in
                keyword(members, "dependentRequired", Value::as_object, "an object")?.into_iter().flatten()
            {
                object.needs.push((name.clone(), strings(list, "dependentRequired")?));
            }
            for (name, schema) in
                keyword(members, "dependentSchemas", Value::as_object, "an object")?.into_iter().flatten()
            {
                object.dependent.push((name.clone(), self.node(schema, base)?));
            }
        } else {
            for (name, what) in
                keyword(members, "dependencies", Value::as_object, "an object")?.into_iter().flatten()
            {
                match what {
                    Value::Array(_) => object.needs.push((name.clone(), strings(what, "dependencies")?)),
                    schema => object.dependent.push((name.clone(), self.node(schema, base)?)),
                }
            }
        }
        Ok(Shape::Object(Box::new(object)))
    }

    fn array(&mut self, members: &'a Members, base: &str) -> Result<Shape, String> {
        let mut array = Array {
            min: whole(members, "minItems")?,
            max: whole(members, "maxItems")?,
            unique: keyword(members, "uniqueItems", as_bool, "true or false")?.unwrap_or(false),
            ..Array::default()
        };
        if self.draft == Draft::Modern {
            for schema in keyword(members, "prefixItems", Value::as_array, "a list")?.into_iter().flatten() {
                array.items.push(self.node(schema, base)?);
            }
            match value::get(members, "items") {
                Some(Value::Array(_)) => {
                    return Err("\"items\" is a list, which 2020-12 calls \"prefixItems\"".to_owned());
                }
                Some(items) => match self.more(items, base)? {
                    More::Schema(all) if array.items.is_empty() => array.all = Some(all),
                    more => array.additional = more,
                },
                None => {}
            }
            if let Some(schema) = value::get(members, "unevaluatedItems") {
                array.unevaluated = Some(self.node(schema, base)?);
            }
        } else {
            match value::get(members, "items") {
                Some(Value::Array(schemas)) => {
                    array.items =
                        schemas.iter().map(|schema| self.node(schema, base)).collect::<Result<_, _>>()?;
                }
                Some(schema) => array.all = Some(self.node(schema, base)?),
                None => {}
            }
            if let Some(more) = value::get(members, "additionalItems") {
                array.additional = self.more(more, base)?;
            }
        }
        if let Some(schema) = value::get(members, "contains").filter(|_| self.draft > Draft::Four) {
            self.node(schema, base)?;
            if self.draft == Draft::Modern {
                array.min_contains = Some(whole(members, "minContains")?.unwrap_or(1));
                array.max_contains = whole(members, "maxContains")?;
            }
        }
        Ok(Shape::Array(Box::new(array)))
    }

    fn more(&mut self, schema: &'a Value, base: &str) -> Result<More, String> {
        Ok(match schema {
            Value::Bool(true) => More::Open,
            Value::Bool(false) => More::Closed,
            schema => More::Schema(self.node(schema, base)?),
        })
    }
}

fn string(members: &Members) -> Result<Shape, String> {
    let pattern = keyword(members, "pattern", Value::as_str, "a string")?.map(str::to_owned);
    Ok(Shape::String(Text { min: whole(members, "minLength")?, max: whole(members, "maxLength")?, pattern }))
}

/// The value of a keyword, or an error that says what it has to be.
fn keyword<'a, T>(
    members: &'a Members,
    name: &str,
    read: impl Fn(&'a Value) -> Option<T>,
    what: &str,
) -> Result<Option<T>, String> {
    let Some(value) = value::get(members, name) else { return Ok(None) };
    read(value).map(Some).ok_or_else(|| format!("\"{name}\" is not {what}"))
}

fn whole(members: &Members, name: &str) -> Result<Option<i64>, String> {
    keyword(members, name, Value::as_i64, "a whole number")
}

fn as_bool(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        _ => None,
    }
}

fn names(members: &Members, name: &str) -> Result<Vec<String>, String> {
    value::get(members, name).map_or_else(|| Ok(Vec::new()), |list| strings(list, name))
}

fn strings(list: &Value, name: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("\"{name}\" is no list of strings");
    let list = list.as_array().ok_or_else(wrong)?;
    list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

/// Bytes of a URI. Each reference in a document is joined with the document's own, so that longer ones would need far more
/// memory than their text.
const URI_BYTES_MAX: usize = 512;

/// The last is known from draft-06 on.
const ARRAY: &[&str] = &["items", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains"];
const ARRAY_MODERN: &[&str] =
    &["items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains", "unevaluatedItems"];

/// The last is known from draft-06 on.
const OBJECT: &[&str] = &[
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "dependencies",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
];
const OBJECT_MODERN: &[&str] = &[
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedProperties",
];

/// Keywords that say nothing about values.
const ANNOTATIONS: &[&str] = &[
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "format",
];
