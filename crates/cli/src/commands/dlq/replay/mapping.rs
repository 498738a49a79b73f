//! `--map`: a jq program that changes letters before they are written.
//!
//! Pure. The program gets `{"key", "value", "headers"}` and returns objects of the same form, each of which is written; none drops
//! the letter. A value that is a JSON object or array is one for the program too; any other is a text, and one that is not UTF-8
//! is in `value_base64`. What the program leaves as it was is written byte for byte as it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, load, unwrap_valr};
use jaq_json::{Map, Val, read};
use milena::Header;

use crate::json::Line;

pub(super) const HELP: &str = "\
jq programs (--map):
  .value.amount = 0                                changes a field of a value that is JSON
  select(.value.currency == \"CZK\")                 drops the others, which count as replayed
  .headers |= map(select(.key != \"trace\"))         headers are a list of {\"key\", \"value\"}
  The input is {\"key\", \"value\", \"headers\"}. A value that is no JSON object or array is a text.
  Bytes that are not UTF-8 are in key_base64 or value_base64. Each output is written, to its
  \"partition\" if it has one.";

/// A compiled program.
pub(super) struct Mapping {
    filter: jaq_core::compile::Filter<jaq_core::Native<data::JustLut<Val>>>,
}

/// A record that the program returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub(super) partition: Option<i32>,
    pub(super) timestamp_ms: Option<i64>,
}

/// Records that may come of one letter.
const OUTPUTS_MAX: usize = 1_000;

impl Mapping {
    pub(super) fn compile(program: &str) -> Result<Self, String> {
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let arena = Arena::default();
        let loaded = Loader::new(defs).load(&arena, File { code: program, path: () });
        let modules = loaded.map_err(|errors| wrong(program, &errors))?;
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let filter = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let names = errors
                .iter()
                .flat_map(|(_, errors)| errors)
                .map(|(name, of)| format!("{} {name:?}", of.as_str()));
            format!("--map: there is no {}", names.collect::<Vec<_>>().join(", no "))
        })?;
        Ok(Self { filter })
    }

    /// What the program makes of a letter.
    pub(super) fn apply(
        &self,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<Vec<Mapped>, String> {
        let mut input = Map::default();
        put(&mut input, "key", key, false);
        put(&mut input, "value", value, true);
        let header = |header: &Header<'_>| {
            let mut map = Map::default();
            put(&mut map, "key", Some(header.key), false);
            put(&mut map, "value", header.value, false);
            Val::obj(map)
        };
        input.insert(text("headers"), headers.iter().map(header).collect());
        let ctx = Ctx::<data::JustLut<Val>>::new(&self.filter.lut, Vars::new([]));
        let outputs = self.filter.id.run((ctx, Val::obj(input.clone()))).map(unwrap_valr);
        let mut mapped = Vec::new();
        for output in outputs {
            if mapped.len() == OUTPUTS_MAX {
                return Err(format!(
                    "--map: the program returns more than {OUTPUTS_MAX} records for one letter"
                ));
            }
            let output = output.map_err(|error| format!("--map: {}", clipped(&error.to_string())))?;
            mapped.push(self::mapped(&output, &input, key, value)?);
        }
        Ok(mapped)
    }
}

fn mapped(output: &Val, input: &Map, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Mapped, String> {
    let Val::Obj(fields) = output else {
        return Err(format!(
            "--map: the program returned {}, which is no object",
            clipped(&output.to_string())
        ));
    };
    // JSON that was read and written again has other spaces: what was not changed is written as it was.
    let is_kept = |name: &str| {
        let base64 = text(&format!("{name}_base64"));
        let name = text(name);
        fields.get(&name) == input.get(&name) && fields.get(&base64) == input.get(&base64)
    };
    let (keeps_key, keeps_value) = (is_kept("key"), is_kept("value"));
    let line = output.to_string();
    let line =
        Line::parse(line.as_bytes()).map_err(|error| format!("--map: what the program returned: {error}"))?;
    if line.key_half.schema.is_some() || line.value_half.schema.is_some() {
        return Err("--map: key_schema and value_schema are for `milena produce --json`".into());
    }
    let owned = |bytes: Option<std::borrow::Cow<'_, [u8]>>| bytes.map(std::borrow::Cow::into_owned);
    Ok(Mapped {
        key: if keeps_key { key.map(<[u8]>::to_vec) } else { owned(line.key) },
        value: if keeps_value { value.map(<[u8]>::to_vec) } else { owned(line.value) },
        headers: line.headers.into_iter().map(|(key, value)| (key.into_owned(), owned(value))).collect(),
        partition: line.partition,
        timestamp_ms: line.timestamp,
    })
}

fn put(map: &mut Map, name: &str, bytes: Option<&[u8]>, may_be_json: bool) {
    let (name, value) = match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => (text(name), Val::Null),
        Some((bytes, Ok(utf8))) => {
            (text(name), json(bytes).filter(|_| may_be_json).unwrap_or_else(|| text(utf8)))
        }
        Some((bytes, Err(_))) => (text(&format!("{name}_base64")), text(&BASE64.encode(bytes))),
    };
    map.insert(name, value);
}

/// The value as JSON, if it is an object or an array. serde_json looks first, because it refuses what is nested too deeply, which
/// the other parser would follow to the end of the stack.
fn json(bytes: &[u8]) -> Option<Val> {
    let parsed: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let is_compound = parsed.is_object() || parsed.is_array();
    is_compound.then(|| read::parse_single(bytes).ok()).flatten()
}

fn text(text: &str) -> Val {
    Val::from(text.to_owned())
}

/// What a program says may be as long as a value.
fn clipped(text: &str) -> String {
    const BYTES_MAX: usize = 200;
    let end = text.floor_char_boundary(BYTES_MAX);
    if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
}

/// Where the program is wrong.
fn wrong(program: &str, errors: &load::Errors<&str, ()>) -> String {
    let mut places = Vec::new();
    for (_, error) in errors {
        match error {
            load::Error::Io(errors) => places.extend(errors.iter().map(|(_, why)| why.clone())),
            load::Error::Lex(errors) => {
                places.extend(errors.iter().map(|(expect, at)| expected(program, expect.as_str(), at)));
            }
            load::Error::Parse(errors) => {
                places.extend(errors.iter().map(|(expect, at)| expected(program, expect.as_str(), at)));
            }
        }
    }
    format!("--map is no jq program: {}", places.join("; "))
}

fn expected(program: &str, expect: &str, at: &str) -> String {
    let rest = program.len().saturating_sub(at.as_ptr().addr().wrapping_sub(program.as_ptr().addr()));
    if at.is_empty() || rest > program.len() {
        return format!("{expect} is missing at the end");
    }
    format!("{expect} is missing before {:?}", clipped(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: [Header<'static>; 2] =
        [Header { key: b"trace", value: Some(b"7f") }, Header { key: b"null", value: None }];

    fn apply(program: &str, value: &[u8]) -> Result<Vec<String>, String> {
        let mapped = Mapping::compile(program)?.apply(Some(b"42"), Some(value), &HEADERS)?;
        let show =
            |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or("null".into(), |b| b.escape_ascii().to_string());
        Ok(mapped
            .iter()
            .map(|of| {
                let headers: Vec<_> =
                    of.headers.iter().map(|(k, v)| format!("{}={}", k.escape_ascii(), show(v))).collect();
                format!("{} {} {}", show(&of.key), show(&of.value), headers.join(","))
            })
            .collect())
    }

    #[track_caller]
    fn check(program: &str, value: &str, expect: &[&str]) {
        assert_eq!(apply(program, value.as_bytes()).unwrap(), expect, "{program}");
    }

    #[test]
    fn letters_are_changed_dropped_and_multiplied() {
        let value = r#"{"id": 12345678901234567890, "amount": 1.50}"#;
        check(".", value, &[r#"42 {\"id\": 12345678901234567890, \"amount\": 1.50} trace=7f,null=null"#]);
        check(
            ".value.amount = 0",
            value,
            &[r#"42 {\"id\":12345678901234567890,\"amount\":0} trace=7f,null=null"#],
        );
        check("select(.value.amount > 2)", value, &[]);
        check(
            ".key = null, .",
            "created",
            &["null created trace=7f,null=null", "42 created trace=7f,null=null"],
        );
        check(".value = null | del(.headers)", "created", &["42 null "]);
        check(".headers |= map(select(.key != \"trace\"))", "created", &["42 created null=null"]);
        check(
            ".headers += [{key: \"x\", value: (.headers | from_entries.trace)}]",
            "v",
            &["42 v trace=7f,null=null,x=7f"],
        );
        // A number is a text, so that nothing changes it by accident.
        check(".value += \"0\"", "1.50", &["42 1.500 trace=7f,null=null"]);
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        assert_eq!(apply(".key = \"k\"", b"\xff\x00").unwrap(), [r"k \xff\x00 trace=7f,null=null"]);
        assert_eq!(apply(".value_base64 = \"AA==\"", b"\xff").unwrap(), [r"42 \x00 trace=7f,null=null"]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (program, says) in [
            ("", "missing at the end"),
            (".value | (", "--map is no jq program"),
            (".value ]", "before \"]\""),
            ("nosuchfilter", "nosuchfilter"),
            ("error(\"no\")", "--map: \"no\""),
            (".value.id", "--map: "),
            ("1", "no object"),
            ("{}", "value is missing"),
            (". + {kee: 1}", "unknown field"),
            ("repeat(.)", "more than 1000"),
        ] {
            let error = apply(program, b"created").unwrap_err();
            assert!(error.contains(says), "{program}: {error}");
        }
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_a_text() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert_eq!(apply(".value | type | {value: .}", deep.as_bytes()).unwrap(), ["null string "]);
    }
}
