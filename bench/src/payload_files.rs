//! Writes the files of values and keys for the drivers, which are the same in every run and on every machine.
//!
//! `values-BYTES.txt` has 1024 different lines of JSON of that length. `flights.txt` and `tail-numbers.txt` have the real flights
//! of `data/` as JSON, and their aircraft. `keys.txt` has 4093 different keys, `many-keys.txt` 100 003, and `zipf-keys.txt` has a
//! million draws of 100 000 keys, of which the `i`th is drawn in proportion to `1 / i`: few keys are in most records.

use std::fs;
use std::path::Path;

use crate::codecs::flights;

const VALUES: usize = 1024;

/// The number of keys is a prime, so that each key gets all values in turn.
const KEYS: usize = 4093;

const BYTES: [usize; 4] = [10, 100, 1024, 10_240];

/// A prime too.
const MANY_KEYS: usize = 100_003;

const ZIPF_KEYS: usize = 100_000;
const ZIPF_DRAWS: usize = 1_000_000;

/// Draws from Zipf's distribution with the exponent 1.
fn zipf_keys() -> String {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=ZIPF_KEYS)
        .map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        })
        .collect();
    let mut state = 1_u64;
    let mut text = String::new();
    for _ in 0..ZIPF_DRAWS {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = (state >> 11) as f64 / (1_u64 << 53) as f64 * sum;
        let rank = sums.partition_point(|until| *until < drawn);
        text += &format!("customer-{rank:06}\n");
    }
    text
}

/// Writes all files.
pub(crate) fn write(dir: &Path) -> Result<(), String> {
    fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for bytes in BYTES {
        let lines: String = (0..VALUES).map(|index| value(index, bytes) + "\n").collect();
        put(dir, &format!("values-{bytes}.txt"), &lines)?;
    }
    put(dir, "keys.txt", &(0..KEYS).map(|index| format!("customer-{index:05}\n")).collect::<String>())?;
    put(
        dir,
        "many-keys.txt",
        &(0..MANY_KEYS).map(|index| format!("customer-{index:06}\n")).collect::<String>(),
    )?;
    put(dir, "zipf-keys.txt", &zipf_keys())?;
    let (mut keys, mut values) = (String::new(), String::new());
    for (key, value) in flights::lines() {
        keys += &format!("{}\n", if key.is_empty() { "none" } else { &key });
        values += &format!("{value}\n");
    }
    put(dir, "tail-numbers.txt", &keys)?;
    put(dir, "flights.txt", &values)
}

fn put(dir: &Path, name: &str, text: &str) -> Result<(), String> {
    fs::write(dir.join(name), text).map_err(|error| format!("{name}: {error}"))
}

/// A line of JSON: an order with a note that fills the rest, or only a number if the line is too short for an order.
fn value(index: usize, bytes: usize) -> String {
    if bytes < 40 {
        return format!("{{\"i\":{index:0width$}}}", width = bytes - 6);
    }
    let mut text = format!("{{\"id\":{index:08},\"state\":\"created\",\"note\":\"");
    let mut state = index as u32;
    while text.len() < bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += WORDS[(state >> 16) as usize % WORDS.len()];
        text += match state >> 30 {
            0 => " 17 ",
            1 => ", ",
            _ => " ",
        };
    }
    text.truncate(bytes - 2);
    text + "\"}"
}

const WORDS: [&str; 32] = [
    "order",
    "payment",
    "berlin",
    "shipped",
    "amount",
    "returned",
    "express",
    "customer",
    "praha",
    "invoice",
    "window",
    "letter",
    "parcel",
    "late",
    "morning",
    "refund",
    "warehouse",
    "north",
    "gate",
    "vienna",
    "signed",
    "fragile",
    "second",
    "attempt",
    "neighbour",
    "closed",
    "blue",
    "weight",
    "grams",
    "stamp",
    "delivered",
    "road",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_long_as_they_should_be_and_all_different() {
        for bytes in BYTES {
            let mut values: Vec<String> = (0..VALUES).map(|index| value(index, bytes)).collect();
            assert!(values.iter().all(|value| value.len() == bytes && value.ends_with('}')), "{bytes}");
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len(), VALUES);
        }
    }
}
