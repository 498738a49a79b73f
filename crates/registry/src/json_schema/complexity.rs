//! How much work a JSON Schema may be, found before it is compiled: validators follow `$ref`, `allOf` and the like by recursion, and
//! each of them may name what it needs twice.
//!
//! What counts is the work at one value: keywords that apply another schema to the same value ("in place"). Schemas of parts of the
//! value end with the value. It knows nothing of validation, and takes more for a schema than a validator would: each object of a
//! document counts as one.

use std::collections::HashMap;

use serde_json::Value;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Complexity {
    /// Schemas that are nested in each other at one value, at most.
    pub(super) depth: usize,
    /// Patterns of texts and names.
    pub(super) patterns: usize,
}

/// Schemas that are tried for one value. Each level that names the next one twice doubles it.
const WORK_MAX: usize = 10_000;
/// Schemas that are nested in each other at one value. Those that people write have ten or twenty.
const DEPTH_MAX: usize = 100;
const PATTERNS_MAX: usize = 2_000;
/// Objects of all documents. Each becomes a validator, which takes much more than its text.
const OBJECTS_MAX: usize = 100_000;

/// Looks at a schema and those that it may refer to, which have names.
///
/// # Errors
/// When it is too much, with the reason.
pub(super) fn of(root: &Value, others: &[(Box<str>, Value)]) -> Result<Complexity, String> {
    let mut documents = Documents::default();
    documents.add("", root);
    for (name, other) in others {
        documents.add(name, other);
    }
    if documents.objects.len() > OBJECTS_MAX {
        return Err(format!("it has more than {OBJECTS_MAX} parts"));
    }
    let patterns = documents.objects.iter().map(Object::patterns).sum();
    if patterns > PATTERNS_MAX {
        return Err(format!("it has more than {PATTERNS_MAX} patterns"));
    }
    let depth = documents.depth()?;
    Ok(Complexity { depth, patterns })
}

/// All objects of all documents.
#[derive(Default)]
struct Documents<'a> {
    objects: Vec<Object<'a>>,
    /// By address.
    indexes: HashMap<usize, usize>,
    /// Resources by the last part of their address, and schemas by their anchors.
    resources: HashMap<&'a str, Vec<usize>>,
    anchors: HashMap<&'a str, Vec<usize>>,
}

struct Object<'a> {
    value: &'a Value,
    /// The resource that it is in: the document, or the object around it that has an `$id`.
    base: &'a Value,
}

impl Object<'_> {
    fn patterns(&self) -> usize {
        let names =
            self.value.get("patternProperties").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        names + usize::from(self.value.get("pattern").is_some_and(Value::is_string))
    }
}

impl<'a> Documents<'a> {
    fn add(&mut self, name: &'a str, document: &'a Value) {
        let mut left = vec![(document, document)];
        while let Some((value, mut base)) = left.pop().filter(|_| self.objects.len() <= OBJECTS_MAX) {
            if let Value::Object(members) = value {
                let index = self.objects.len();
                for id in ["$id", "id"].iter().filter_map(|key| members.get(*key)?.as_str()) {
                    match id.strip_prefix('#') {
                        Some(anchor) => self.anchors.entry(anchor).or_default().push(index),
                        None => {
                            base = value;
                            self.resources.entry(last_part(id)).or_default().push(index);
                        }
                    }
                }
                for anchor in
                    ["$anchor", "$dynamicAnchor"].iter().filter_map(|key| members.get(*key)?.as_str())
                {
                    self.anchors.entry(anchor).or_default().push(index);
                }
                if std::ptr::eq(value, document) && !name.is_empty() {
                    self.resources.entry(last_part(name)).or_default().push(index);
                }
                self.indexes.insert(address(value), index);
                self.objects.push(Object { value, base });
                left.extend(members.values().map(|member| (member, base)));
            } else if let Value::Array(items) = value {
                left.extend(items.iter().map(|item| (item, base)));
            }
        }
    }

    /// How deep objects are nested in place, at most. Without recursion, because that is what it bounds.
    fn depth(&self) -> Result<usize, String> {
        #[derive(Clone, Copy)]
        enum State {
            New,
            Open,
            Done { depth: usize, work: usize },
        }
        let mut states = vec![State::New; self.objects.len()];
        let mut deepest = 0;
        for start in 0..self.objects.len() {
            if !matches!(states[start], State::New) {
                continue;
            }
            states[start] = State::Open;
            let mut open = vec![(start, self.in_place(start), 0usize, 1usize)];
            while let Some((index, children, depth, work)) = open.last_mut() {
                let Some(child) = children.pop() else {
                    let (index, depth, work) = (*index, *depth + 1, *work);
                    if depth > DEPTH_MAX || work > WORK_MAX {
                        return Err(format!(
                            "more than {DEPTH_MAX} schemas are nested in each other at one value, or more than {WORK_MAX} have to be tried for it"
                        ));
                    }
                    states[index] = State::Done { depth, work };
                    deepest = deepest.max(depth);
                    open.pop();
                    if let Some((_, _, outer, sum)) = open.last_mut() {
                        (*outer, *sum) = ((*outer).max(depth), sum.saturating_add(work));
                    }
                    continue;
                };
                match states[child] {
                    State::Done { depth: inner, work: of_child } => {
                        (*depth, *work) = ((*depth).max(inner), work.saturating_add(of_child));
                    }
                    State::Open => {
                        return Err("a schema needs itself for the same value, without end".to_owned());
                    }
                    State::New => {
                        states[child] = State::Open;
                        let children = self.in_place(child);
                        open.push((child, children, 0, 1));
                    }
                }
            }
        }
        Ok(deepest)
    }

    /// The schemas that one applies to the same value.
    fn in_place(&self, index: usize) -> Vec<usize> {
        let mut found = Vec::new();
        let Value::Object(members) = self.objects[index].value else { return found };
        let mut push = |value: &Value| found.extend(self.indexes.get(&address(value)));
        for key in ["allOf", "anyOf", "oneOf"] {
            members.get(key).and_then(Value::as_array).into_iter().flatten().for_each(&mut push);
        }
        for key in ["not", "if", "then", "else"] {
            members.get(key).into_iter().for_each(&mut push);
        }
        for key in ["dependentSchemas", "dependencies"] {
            members
                .get(key)
                .and_then(Value::as_object)
                .into_iter()
                .flat_map(|map| map.values())
                .for_each(&mut push);
        }
        for key in ["$ref", "$dynamicRef", "$recursiveRef"] {
            if let Some(reference) = members.get(key).and_then(Value::as_str) {
                self.resolve(index, reference, &mut found);
            }
        }
        found
    }

    /// What a reference may stand for. One that stands for nothing fails when the schema is compiled.
    fn resolve(&self, index: usize, reference: &str, into: &mut Vec<usize>) {
        let (resource, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = self.objects[index].base;
        let bases: Vec<&Value> = match resource {
            "" => vec![base],
            resource => {
                let named = self.resources.get(last_part(resource)).into_iter().flatten();
                named.map(|index| self.objects[*index].value).collect()
            }
        };
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return into.extend(self.anchors.get(fragment).into_iter().flatten());
        }
        let pointer = decoded(fragment);
        for base in bases {
            let target = base.pointer(&pointer);
            into.extend(target.and_then(|target| self.indexes.get(&address(target))));
        }
    }
}

fn address(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}

/// Addresses are resolved against others, which changes all but their last part.
fn last_part(address: &str) -> &str {
    let address = address.split(['#', '?']).next().unwrap_or_default();
    address.rsplit(['/', ':']).next().unwrap_or_default()
}

/// A fragment without `%` and two digits for a byte.
fn decoded(fragment: &str) -> String {
    let (mut decoded, mut left) = (Vec::new(), fragment.as_bytes());
    while let Some((&byte, rest)) = left.split_first() {
        let digits =
            rest.get(..2).filter(|_| byte == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                left = &rest[2..];
            }
            None => {
                decoded.push(byte);
                left = rest;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn depth(schema: &Value) -> Result<usize, String> {
        of(schema, &[]).map(|complexity| complexity.depth)
    }

    /// Each schema names the next one `times` times.
    fn chain(count: usize, times: usize) -> Value {
        let mut defs = serde_json::Map::new();
        for level in 0..count {
            let next = json!({"$ref": format!("#/$defs/a{}", level + 1)});
            defs.insert(format!("a{level}"), json!({"anyOf": vec![next; times]}));
        }
        defs.insert(format!("a{count}"), json!({"type": "string"}));
        json!({"$ref": "#/$defs/a0", "$defs": defs})
    }

    #[test]
    fn work_at_one_value_is_counted() {
        assert_eq!(depth(&json!({})), Ok(1));
        assert_eq!(depth(&json!({"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"not": {}}}})), Ok(4));
        assert_eq!(depth(&chain(10, 2)), Ok(22));
        assert!(depth(&chain(20, 2)).is_err_and(|why| why.contains("10000")));
        assert!(depth(&chain(60, 1)).is_err_and(|why| why.contains("100")));
        assert!(depth(&chain(20_000, 1)).is_err());
        // Parts of a value end with it.
        assert_eq!(depth(&json!({"properties": {"next": {"$ref": "#"}}, "items": {"$ref": "#"}})), Ok(2));
    }

    #[test]
    fn references_are_followed_by_pointers_anchors_and_names() {
        let refused =
            |schema: Value| assert!(depth(&schema).is_err_and(|why| why.contains("itself")), "{schema}");
        refused(json!({"$ref": "#"}));
        refused(json!({"allOf": [{"if": {"$ref": "#"}}]}));
        refused(json!({"$defs": {"a/b": {"$ref": "#/$defs/a~1b"}}}));
        refused(json!({"$defs": {"a b": {"$ref": "#/%24defs/a%20b"}}}));
        refused(json!({"$defs": {"a": {"$anchor": "x", "not": {"$ref": "#x"}}}}));
        refused(json!({"$defs": {"a": {"$id": "http://h/x", "$defs": {"b": {"$ref": "x#/$defs/b"}}}}}));
        refused(json!({"$defs": {"a": {"$id": "http://h/x", "$defs": {"b": {"$ref": "#/$defs/b"}}}}}));
        refused(json!({"$dynamicAnchor": "x", "allOf": [{"$dynamicRef": "#x"}]}));
        let others = [("http://h/other.json".into(), json!({"$ref": "root.json"}))];
        let root = json!({"$id": "http://h/root.json", "$ref": "other.json"});
        assert!(of(&root, &others).is_err());
        assert!(
            of(&json!({"$ref": "other.json"}), &[("other.json".into(), json!({"type": "null"}))]).is_ok()
        );
    }

    #[test]
    fn patterns_are_counted() {
        let schema = json!({"pattern": "a", "patternProperties": {"b": {"pattern": "c"}}});
        assert_eq!(of(&schema, &[]).map(|complexity| complexity.patterns), Ok(3));
        assert!(
            of(&json!({"enum": vec![json!({}); OBJECTS_MAX]}), &[]).is_err_and(|why| why.contains("parts"))
        );
    }
}
