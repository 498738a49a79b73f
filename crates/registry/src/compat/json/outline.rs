//! What differs between two texts, member by member.

use super::JsonSchema;
use crate::compat::diff::Change;
use crate::compat::value::{Object, Value, get};

/// What was removed or changed, then what was added, of each object.
pub(in crate::compat) fn diff(before: &JsonSchema, after: &JsonSchema) -> Vec<Change> {
    let mut changes = Vec::new();
    compare("#", &before.text, &after.text, &mut changes);
    changes
}

/// The texts nest to a limited depth.
fn compare(path: &str, before: &Value, after: &Value, changes: &mut Vec<Change>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            members(path, before, after, changes);
        }
        // A list of schemas, such as that of `anyOf`. Lists of names and values are told as a whole.
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() && of_objects(before) => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{path}/{index}"), before, after, changes);
            }
        }
        _ if before == after => {}
        _ => changes.push(Change::new(path.to_owned(), Some(text(before)), Some(text(after)))),
    }
}

fn of_objects(values: &[Value]) -> bool {
    values.iter().any(|value| value.as_object().is_some())
}

fn members(path: &str, before: &Object, after: &Object, changes: &mut Vec<Change>) {
    // As a pointer (RFC 6901) has it.
    let at = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
    for (name, old) in before {
        match get(after, name) {
            Some(new) => compare(&at(name), old, new, changes),
            None => changes.push(Change::new(at(name), Some(text(old)), None)),
        }
    }
    for (name, new) in after.iter().filter(|(name, _)| get(before, name).is_none()) {
        changes.push(Change::new(at(name), None, Some(text(new))));
    }
}

fn text(value: &Value) -> String {
    let mut text = String::new();
    value.write(&mut text);
    text
}
