//! Defaults of fields: whether they are values of their types, and how Java writes their numbers.

use super::{Avro, Id, Shape};
use crate::compat::value::{DEPTH_MAX, Value};

impl Avro {
    /// Whether a default fits, as `Schema.isValidDefault` of Avro 1.12 tells: in a union, any branch will do.
    pub(super) fn is_default(&self, id: Id, default: &Value, depth: usize) -> bool {
        // A record whose absent fields have defaults of its own type would never end.
        if depth > DEPTH_MAX {
            return false;
        }
        match self.shape(id) {
            Shape::Null => matches!(default, Value::Null),
            Shape::Boolean => matches!(default, Value::Bool(_)),
            Shape::Int => default.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
            Shape::Long => default.as_i64().is_some(),
            // JSON has no number for some of them.
            Shape::Float | Shape::Double => match default {
                Value::String(word) => number(word).is_some_and(|number| !number.is_finite()),
                other => matches!(other, Value::Number(_)),
            },
            Shape::Bytes | Shape::String | Shape::Fixed { .. } | Shape::Enum { .. } => {
                matches!(default, Value::String(_))
            }
            Shape::Array(items) => match default {
                Value::Array(values) => values.iter().all(|value| self.is_default(*items, value, depth + 1)),
                _ => false,
            },
            Shape::Map(values) => match default {
                Value::Object(members) => {
                    members.iter().all(|(_, value)| self.is_default(*values, value, depth + 1))
                }
                _ => false,
            },
            Shape::Union(branches) => {
                branches.iter().any(|branch| self.is_default(*branch, default, depth + 1))
            }
            Shape::Record { fields, .. } => {
                let Value::Object(_) = default else { return false };
                fields.iter().all(|field| {
                    let value = default.get(&field.name).or(field.default.as_ref());
                    value.is_some_and(|value| self.is_default(field.r#type, value, depth + 1))
                })
            }
            Shape::Pending { .. } => false,
        }
    }

    /// A default as Java writes it after reading it as a value of its type: `1` of a double is `1.0`.
    pub(super) fn typed_default(&self, id: Id, default: &Value) -> Option<Value> {
        Some(match (self.shape(id), default) {
            (Shape::Union(branches), _) => return self.typed_default(*branches.first()?, default),
            (Shape::Float, Value::Number(_)) => Value::Number(java_float(default.as_f64()?)),
            (Shape::Double, Value::Number(_)) => Value::Number(java_double(default.as_f64()?)),
            (Shape::Int | Shape::Long, Value::Number(_)) if !default.is_integer() => return None,
            (Shape::Array(items), Value::Array(values)) => {
                Value::Array(values.iter().filter_map(|value| self.typed_default(*items, value)).collect())
            }
            (Shape::Map(inner), Value::Object(members)) => {
                let member = |(name, value): &(String, Value)| {
                    Some((name.clone(), self.typed_default(*inner, value)?))
                };
                Value::Object(members.iter().filter_map(member).collect()).sorted()
            }
            (Shape::Record { fields, .. }, Value::Object(members)) => {
                let member = |(name, value): &(String, Value)| {
                    let field = fields.iter().find(|field| field.name == *name)?;
                    Some((name.clone(), self.typed_default(field.r#type, value)?))
                };
                Value::Object(members.iter().filter_map(member).collect()).sorted()
            }
            _ => default.clone(),
        })
    }
}

/// A number as `Double.valueOf` reads it.
pub(super) fn number(word: &str) -> Option<f64> {
    match word.trim().trim_start_matches(['+', '-']) {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        digits if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => word.trim().parse().ok(),
        _ => None,
    }
}

/// A number as `Double.toString` writes it.
pub(super) fn java_double(number: f64) -> String {
    java(number, &format!("{number:e}"))
}

fn java_float(number: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "the value of a float field is a float")]
    let number = number as f32;
    java(f64::from(number), &format!("{number:e}"))
}

/// Java's form of a number whose shortest digits are given in scientific notation: plain from 0.001 to below 10,000,000.
fn java(number: f64, scientific: &str) -> String {
    if !number.is_finite() {
        let word = if number.is_nan() { "NaN" } else { "Infinity" };
        return format!("{}{word}", if number < 0.0 { "-" } else { "" });
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number == 0.0 || (-3..7).contains(&exponent) {
        let plain =
            if scientific.len() < 24 { format!("{}", Plain(digits, exponent)) } else { number.to_string() };
        return plain;
    }
    let point = if digits.contains('.') { "" } else { ".0" };
    format!("{digits}{point}E{exponent}")
}

/// Digits with one place before the point, and how far the point moves to the right.
struct Plain<'a>(&'a str, i32);

impl std::fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, digits) = self.0.strip_prefix('-').map_or(("", self.0), |digits| ("-", digits));
        let digits: String = digits.chars().filter(|c| *c != '.').collect();
        let whole = self.1 + 1;
        if whole <= 0 {
            let zeros = "0".repeat(whole.unsigned_abs() as usize);
            return write!(f, "{sign}0.{zeros}{digits}");
        }
        let whole = whole.unsigned_abs() as usize;
        if digits.len() <= whole {
            return write!(f, "{sign}{digits}{}.0", "0".repeat(whole - digits.len()));
        }
        write!(f, "{sign}{}.{}", &digits[..whole], &digits[whole..])
    }
}
