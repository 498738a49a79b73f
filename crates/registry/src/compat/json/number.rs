//! Decimal numbers, as exact as Java's `BigDecimal`.

use std::cmp::Ordering;

use crate::compat::value::{Object, Value};

/// A text with each number as `BigDecimal` writes it.
pub(in crate::compat) fn canonical(value: Value) -> Value {
    match value {
        Value::Number(digits) => Value::Number(java(&digits)),
        Value::Array(items) => Value::Array(items.into_iter().map(canonical).collect()),
        Value::Object(members) => {
            let members: Object = members.into_iter().map(|(name, value)| (name, canonical(value))).collect();
            Value::Object(members)
        }
        other => other,
    }
}

fn java(digits: &str) -> String {
    if !digits.contains(['.', 'e', 'E']) {
        return if digits == "-0" { "0".to_owned() } else { digits.to_owned() };
    }
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let Ok(exponent) = exponent.parse::<i64>() else { return digits.to_owned() };
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let unscaled = all.trim_start_matches('0');
    let (sign, unscaled) = if unscaled.is_empty() { ("", "0") } else { (sign, unscaled) };
    let length = i64::try_from(unscaled.len()).unwrap_or(i64::MAX);
    let scale = i64::try_from(fraction.len()).unwrap_or(i64::MAX).saturating_sub(exponent);
    let adjusted = (length - 1).saturating_sub(scale);
    if scale >= 0 && adjusted >= -6 {
        if scale == 0 {
            return format!("{sign}{unscaled}");
        }
        let scale = usize::try_from(scale).unwrap_or(usize::MAX);
        return match unscaled.len().checked_sub(scale).filter(|whole| *whole > 0) {
            Some(whole) => format!("{sign}{}.{}", &unscaled[..whole], &unscaled[whole..]),
            None => format!("{sign}0.{}{unscaled}", "0".repeat(scale - unscaled.len())),
        };
    }
    let point = if unscaled.len() > 1 {
        format!("{}.{}", &unscaled[..1], &unscaled[1..])
    } else {
        unscaled.to_owned()
    };
    let plus = if adjusted > 0 { "+" } else { "" };
    match adjusted {
        0 => format!("{sign}{point}"),
        _ => format!("{sign}{point}E{plus}{adjusted}"),
    }
}

/// How one number divides another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Divides {
    Equal,
    /// The second is a multiple of the first.
    Second,
    /// The first is a multiple of the second.
    First,
    Neither,
}

/// Compares two numbers by division.
pub(super) fn divides(first: &str, second: &str) -> Divides {
    let (Some(a), Some(b)) = (exact(first), exact(second)) else { return inexact(first, second) };
    // Bring both to one scale.
    let scale = a.1.max(b.1);
    let grow = |(digits, own): (i128, u32)| {
        10_i128.checked_pow(scale - own).and_then(|factor| digits.checked_mul(factor))
    };
    let (Some(a), Some(b)) = (grow(a), grow(b)) else { return inexact(first, second) };
    match (a, b) {
        _ if a == b => Divides::Equal,
        _ if a != 0 && b % a == 0 => Divides::Second,
        _ if b != 0 && a % b == 0 => Divides::First,
        _ => Divides::Neither,
    }
}

fn inexact(first: &str, second: &str) -> Divides {
    let (a, b): (f64, f64) = (first.parse().unwrap_or(0.0), second.parse().unwrap_or(0.0));
    match a.partial_cmp(&b) {
        Some(Ordering::Equal) => Divides::Equal,
        _ if a != 0.0 && b % a == 0.0 => Divides::Second,
        _ if b != 0.0 && a % b == 0.0 => Divides::First,
        _ => Divides::Neither,
    }
}

/// All digits as a whole number, and how many are after the point.
fn exact(digits: &str) -> Option<(i128, u32)> {
    let (mantissa, exponent) = digits.split_once(['e', 'E']).unwrap_or((digits, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = i64::try_from(fraction.len()).ok()?.checked_sub(exponent.parse().ok()?)?;
    match u32::try_from(scale) {
        Ok(scale) => Some((number, scale)),
        Err(_) => {
            Some((number.checked_mul(10_i128.checked_pow(u32::try_from(scale.checked_neg()?).ok()?)?)?, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_java_does() {
        for (digits, expect) in [
            ("1", "1"),
            ("-0", "0"),
            ("1.50", "1.50"),
            ("1e2", "1E+2"),
            ("1.0e2", "1.0E+2"),
            ("100e-2", "1.00"),
            ("1e-6", "0.000001"),
            ("1e-7", "1E-7"),
            ("12e-9", "1.2E-8"),
            ("-0.0", "0.0"),
            ("0e5", "0E+5"),
            ("123456789012345678901234567890.5", "123456789012345678901234567890.5"),
        ] {
            assert_eq!(java(digits), expect, "{digits}");
        }
    }

    #[test]
    fn multiples_are_exact() {
        for (first, second, expect) in [
            ("0.5", "0.50", Divides::Equal),
            ("0.1", "0.3", Divides::Second),
            ("10", "2", Divides::First),
            ("1e1", "20", Divides::Second),
            ("2", "3", Divides::Neither),
            ("0", "3", Divides::First),
            ("1e300", "2e300", Divides::Second),
        ] {
            assert_eq!(divides(first, second), expect, "{first} {second}");
        }
    }
}
