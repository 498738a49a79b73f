//! What a registry answers, over a format that is simpler than the real ones.

use serde_json::{Value, json};

use super::State;
use crate::server::answer::{Answer, Identity, answer};
use crate::server::fault::Fault;
use crate::server::formats::{Formats, Level, Parsed, Source};
use crate::server::record::Record;
use crate::server::request::{Method, Request};

/// JSON with a number `v`: a schema may follow one with a smaller number, and white space does not count. With `"x": 1` or without,
/// it means the same.
pub(in crate::server) struct Plain;

impl Formats for Plain {
    fn kinds(&self) -> Vec<&'static str> {
        vec!["JSON", "PROTOBUF", "AVRO"]
    }

    fn serialized(&self, _: &Source) -> Option<String> {
        None
    }

    fn parse(&self, source: &Source) -> Result<Parsed, String> {
        let value: Value = serde_json::from_str(&source.text).map_err(|error| error.to_string())?;
        let canonical = value.to_string();
        let mut normalized = value;
        if let Some(fields) = normalized.as_object_mut() {
            fields.remove("x");
        }
        Ok(Parsed { canonical, normalized: normalized.to_string() })
    }

    fn incompatibilities(&self, level: Level, new: &Source, older: &[Source]) -> Vec<String> {
        let number =
            |source: &Source| serde_json::from_str::<Value>(&source.text).map(|value| value["v"].as_i64());
        let may_follow = |old: &Source| match level {
            Level::None => true,
            Level::Backward | Level::BackwardTransitive => number(new).ok() >= number(old).ok(),
            Level::Forward | Level::ForwardTransitive => number(new).ok() <= number(old).ok(),
            Level::Full | Level::FullTransitive => number(new).ok() == number(old).ok(),
        };
        let is_transitive = level.name().ends_with("TRANSITIVE");
        let skipped = if is_transitive { 0 } else { older.len().saturating_sub(1) };
        older
            .iter()
            .skip(skipped)
            .filter(|old| !may_follow(old))
            .map(|old| format!("v after {}", old.text))
            .collect()
    }
}

/// A registry whose topic is a list.
#[derive(Default)]
pub(in crate::server) struct Registry {
    pub(in crate::server) state: State,
    pub(in crate::server) log: Vec<Record>,
}

impl Registry {
    pub(in crate::server) fn ask(
        &mut self,
        method: Method,
        target: &str,
        body: &str,
    ) -> Result<Answer, Fault> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let request = Request::new(method, path, query, body.as_bytes().to_vec())?;
        let answer = answer(&self.state, &Plain, &Identity::default(), &request)?;
        for record in &answer.records {
            self.state.apply(record, Some(self.log.len() as i64)).expect("our own record");
            self.log.push(record.clone());
        }
        Ok(answer)
    }

    /// The answer's JSON, or the code of the refusal.
    #[track_caller]
    fn json(&mut self, method: Method, target: &str, body: &Value) -> Result<Value, u32> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.ask(method, target, &body).map_err(|fault| fault.code)?;
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&answer.body).expect("JSON"))
    }

    #[track_caller]
    fn get(&mut self, target: &str) -> Result<Value, u32> {
        self.json(Method::Get, target, &Value::Null)
    }

    #[track_caller]
    fn delete(&mut self, target: &str) -> Result<Value, u32> {
        self.json(Method::Delete, target, &Value::Null)
    }

    #[track_caller]
    fn put(&mut self, target: &str, body: &Value) -> Result<Value, u32> {
        self.json(Method::Put, target, body)
    }

    #[track_caller]
    fn post(&mut self, target: &str, body: &Value) -> Result<Value, u32> {
        self.json(Method::Post, target, body)
    }

    /// Registers a schema, and says its id.
    #[track_caller]
    fn register(&mut self, subject: &str, v: i64) -> Result<i64, u32> {
        let answer = self.post(&format!("/subjects/{subject}/versions"), &schema(v))?;
        Ok(answer["id"].as_i64().expect("an id"))
    }

    /// The state that a registry has which reads the log.
    pub(in crate::server) fn restarted(&self) -> State {
        let mut state = State::default();
        for (at, record) in self.log.iter().enumerate() {
            state.apply(record, Some(at as i64)).expect("our own record");
        }
        state
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.restarted(), self.state, "a registry that reads its log has another state");
        }
    }
}

fn schema(v: i64) -> Value {
    json!({ "schema": json!({ "v": v }).to_string() })
}

#[test]
fn a_schema_is_registered_once_and_found_everywhere() {
    let mut registry = Registry::default();
    assert_eq!(registry.register("a", 1), Ok(1));
    assert_eq!(registry.register("a", 1), Ok(1));
    assert_eq!(
        registry.post("/subjects/a/versions", &json!({ "schema": " {\"v\" : 1} " })).unwrap()["id"],
        1
    );
    assert_eq!(registry.log.len(), 1);
    // The same schema has the same id under every subject.
    assert_eq!(
        (registry.register("b", 1), registry.register("a", 2), registry.register("c", 3)),
        (Ok(1), Ok(2), Ok(3))
    );
    assert_eq!(registry.get("/subjects"), Ok(json!(["a", "b", "c"])));
    assert_eq!(registry.get("/subjects/a/versions"), Ok(json!([1, 2])));
    let latest = registry.get("/subjects/a/versions/latest").unwrap();
    assert_eq!(
        (&latest["version"], &latest["id"], &latest["schemaType"]),
        (&json!(2), &json!(2), &json!("AVRO"))
    );
    let by_id = registry.get("/schemas/ids/1").unwrap();
    assert_eq!((&by_id["schema"], by_id.get("subject")), (&json!("{\"v\":1}"), None));
    let guid = by_id["guid"].as_str().unwrap().to_owned();
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}")).unwrap()["schema"], "{\"v\":1}");
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}/ids")), Ok(json!([{ "context": ".", "id": 1 }])));
    assert_eq!(registry.get("/schemas/ids/1/subjects"), Ok(json!(["a", "b"])));
    let versions = json!([{ "subject": "a", "version": 1 }, { "subject": "b", "version": 1 }]);
    assert_eq!(registry.get("/schemas/ids/1/versions"), Ok(versions));
    let raw = registry.ask(Method::Get, "/schemas/ids/1/schema", "").unwrap();
    assert_eq!(raw.body, b"{\"v\":1}");
    assert_eq!(registry.post("/subjects/a", &schema(2)).unwrap()["version"], 2);
    assert_eq!(registry.post("/subjects/a", &schema(9)), Err(40403));
    assert_eq!(registry.post("/subjects/nobody", &schema(9)), Err(40401));
}

#[test]
fn refusals_have_their_codes() {
    let mut registry = Registry::default();
    registry.register("a", 2).unwrap();
    for (target, code) in [
        ("/subjects/b/versions", 40401),
        ("/subjects/b/versions/1", 40401),
        ("/subjects/a/versions/7", 40402),
        ("/subjects/a/versions/0", 42202),
        ("/subjects/a/versions/x", 42202),
        ("/schemas/ids/7", 40403),
        ("/schemas/ids/7/subjects", 40403),
        ("/schemas/ids/x", 404),
        ("/schemas/guids/x", 40403),
        ("/config/a", 40408),
        ("/mode/a", 40409),
        ("/nowhere", 404),
        ("/subjects/a/nowhere", 404),
        ("/compatibility/subjects/a/versions", 405),
    ] {
        assert_eq!(registry.get(target), Err(code), "{target}");
    }
    for (target, body, code) in [
        ("/subjects/a/versions", json!({ "schema": "{" }), 42201),
        ("/subjects/a/versions", json!({ "schema": "1", "schemaType": "XML" }), 42201),
        ("/subjects/b/versions", json!({}), 42201),
        ("/subjects/a/versions", json!([]), 400),
        ("/subjects/a/versions", Value::Null, 422),
        ("/subjects/a/versions", schema(1), 40901),
        ("/subjects/a%07/versions", schema(1), 42208),
        ("/subjects/__GLOBAL/versions", schema(1), 42208),
        ("/subjects/a/versions", json!({ "schema": "{\"v\":2}", "id": 7 }), 42205),
        ("/subjects/a/versions", json!({ "schema": "{\"v\":3}", "version": 7 }), 42201),
        ("/subjects/a/versions", json!({ "schema": "{\"v\":3}", "ruleSet": { "domainRules": [{}] } }), 42210),
        (
            "/subjects/a/versions",
            json!({ "schema": "{\"v\":3}", "rule_set": { "domainRules": [{}] } }),
            42210,
        ),
        ("/subjects/a/versions", json!({ "schema": "{\"v\":3}", "ruleSet": { "domain_rules": [] } }), 42210),
        (
            "/subjects/a/versions",
            json!({ "schema": "1", "references": [{ "name": "x", "subject": "x", "version": 1 }] }),
            42201,
        ),
        ("/compatibility/subjects/a/versions/9", schema(1), 40402),
        ("/compatibility/subjects/a/versions/y", schema(1), 42202),
    ] {
        assert_eq!(registry.post(target, &body), Err(code), "{target} {body}");
    }
    assert_eq!(registry.put("/config", &json!({ "compatibility": "SOME" })), Err(42203));
    assert_eq!(registry.put("/mode", &json!({ "mode": "SOME" })), Err(42204));
    assert_eq!(registry.put("/mode", &json!({ "mode": "FORWARD" })), Err(42204));
    assert_eq!(registry.delete("/subjects/b"), Err(40401));
    assert_eq!(registry.delete("/config/a"), Err(40401));
    assert_eq!(registry.delete("/mode/a"), Err(40401));
    assert_eq!(registry.delete("/schemas"), Err(405));
}

#[test]
fn versions_are_hidden_first_and_deleted_then() {
    let mut registry = Registry::default();
    for v in 1..=3 {
        registry.register("a", v).unwrap();
    }
    assert_eq!(registry.delete("/subjects/a/versions/2?permanent=true"), Err(40407));
    assert_eq!(registry.delete("/subjects/a/versions/2"), Ok(json!(2)));
    assert_eq!(registry.delete("/subjects/a/versions/2"), Err(40406));
    assert_eq!(registry.get("/subjects/a/versions"), Ok(json!([1, 3])));
    assert_eq!(registry.get("/subjects/a/versions?deleted=true"), Ok(json!([1, 2, 3])));
    assert_eq!(registry.get("/subjects/a/versions?deletedOnly=true"), Ok(json!([2])));
    assert_eq!(registry.get("/subjects/a/versions?deletedAsNegative=true"), Ok(json!([1, -2, 3])));
    assert_eq!(registry.get("/subjects/a/versions/2"), Err(40402));
    assert_eq!(registry.get("/subjects/a/versions/2?deleted=true").unwrap()["deleted"], true);
    // Records with its id can still be decoded.
    assert_eq!(registry.get("/schemas/ids/2").unwrap()["schema"], "{\"v\":2}");
    assert_eq!(registry.get("/schemas/ids/2/subjects"), Ok(json!([])));
    assert_eq!(registry.get("/schemas/ids/2/subjects?deleted=true"), Ok(json!(["a"])));
    assert_eq!(registry.delete("/subjects/a/versions/2?permanent=true"), Ok(json!(2)));
    assert_eq!(registry.get("/schemas/ids/2"), Err(40403));
    assert_eq!(registry.delete("/subjects/a/versions/latest"), Ok(json!(3)));
    assert_eq!(registry.get("/subjects/a/versions/latest").unwrap()["version"], 1);
}

#[test]
fn a_subject_is_hidden_first_and_deleted_then() {
    let mut registry = Registry::default();
    registry.register("a", 1).unwrap();
    registry.register("a", 2).unwrap();
    registry.put("/config/a", &json!({ "compatibility": "NONE" })).unwrap();
    assert_eq!(registry.delete("/subjects/a?permanent=true"), Err(40405));
    assert_eq!(registry.delete("/subjects/a"), Ok(json!([1, 2])));
    assert_eq!(registry.delete("/subjects/a"), Err(40404));
    assert_eq!(registry.get("/subjects"), Ok(json!([])));
    assert_eq!(registry.get("/subjects?deleted=true"), Ok(json!(["a"])));
    assert_eq!(registry.get("/subjects?deletedOnly=true"), Ok(json!(["a"])));
    // Registered again, the schema has its id and a new version, which takes the place of the hidden one.
    assert_eq!(registry.register("a", 2), Ok(2));
    assert_eq!(registry.get("/subjects/a/versions?deleted=true"), Ok(json!([1, 3])));
    assert_eq!(registry.delete("/subjects/a"), Ok(json!([3])));
    assert_eq!(registry.delete("/subjects/a?permanent=true"), Ok(json!([1, 3])));
    assert_eq!(registry.get("/config/a"), Err(40408));
    assert_eq!(registry.get("/subjects?deleted=true"), Ok(json!([])));
    // An id that is gone does not come again.
    assert_eq!(registry.register("a", 9), Ok(3));
    assert_eq!(registry.get("/subjects/a/versions"), Ok(json!([1])));
}

#[test]
fn ids_do_not_come_again_after_compaction() {
    let mut registry = Registry::default();
    registry.register("a", 1).unwrap();
    registry.register("b", 2).unwrap();
    registry.delete("/subjects/b").unwrap();
    registry.delete("/subjects/b?permanent=true").unwrap();
    // Only the last record of a key is left, and no tombstone.
    let is_last = |at: usize| !registry.log[at + 1..].iter().any(|later| later.key == registry.log[at].key);
    let kept: Vec<_> = (0..registry.log.len())
        .filter(|at| is_last(*at) && registry.log[*at].value.is_some())
        .map(|at| registry.log[at].clone())
        .collect();
    let mut compacted = Registry::default();
    for record in kept {
        compacted.state.apply(&record, Some(compacted.log.len() as i64)).unwrap();
        compacted.log.push(record);
    }
    assert_eq!(compacted.register("c", 3), Ok(3));
}

#[test]
fn levels_are_inherited_and_checked() {
    let mut registry = Registry::default();
    assert_eq!(registry.get("/config"), Ok(json!({ "compatibilityLevel": "BACKWARD" })));
    assert_eq!(
        registry.put("/config/a", &json!({ "compatibility": "forward" })),
        Ok(json!({ "compatibility": "FORWARD" }))
    );
    assert_eq!(registry.get("/config/a"), Ok(json!({ "compatibilityLevel": "FORWARD" })));
    assert_eq!(
        registry.get("/config/b?defaultToGlobal=true"),
        Ok(json!({ "compatibilityLevel": "BACKWARD" }))
    );
    registry.register("a", 3).unwrap();
    assert_eq!((registry.register("a", 4), registry.register("a", 2)), (Err(40901), Ok(2)));
    let check = |registry: &mut Registry, v: i64, query: &str| {
        registry.post(&format!("/compatibility/subjects/a/versions{query}"), &schema(v)).unwrap()
    };
    assert_eq!(check(&mut registry, 3, ""), json!({ "is_compatible": false }));
    assert_eq!(check(&mut registry, 3, "/1"), json!({ "is_compatible": true }));
    let verbose = check(&mut registry, 3, "/latest?verbose=true");
    assert_eq!(verbose["messages"][1], "{validateFields: 'false', compatibility: 'FORWARD'}");
    assert_eq!(
        registry.post("/compatibility/subjects/new/versions/latest", &schema(1)),
        Ok(json!({ "is_compatible": true }))
    );
    // A group is compatible in itself only.
    registry.put("/config/a", &json!({ "compatibilityGroup": "major" })).unwrap();
    let major = json!({ "schema": "{\"v\":9}", "metadata": { "properties": { "major": "2" } } });
    assert_eq!(
        registry.post("/subjects/a/versions", &major).map(|answer| answer["version"].clone()),
        Ok(json!(3))
    );
    assert_eq!(registry.delete("/config/a").unwrap()["compatibilityLevel"], "FORWARD");
    registry.put("/config", &json!({ "compatibility": "NONE" })).unwrap();
    assert_eq!(registry.register("a", 1), Ok(4));
    registry.put("/config", &json!({ "compatibility": null })).unwrap();
    assert_eq!(registry.get("/config"), Ok(json!({ "compatibilityLevel": "BACKWARD" })));
}

#[test]
fn normalised_schemas_are_one() {
    let mut registry = Registry::default();
    let spelled = json!({ "schema": "{\"v\":1,\"x\":1}" });
    assert_eq!(registry.register("a", 1), Ok(1));
    assert_eq!(registry.post("/subjects/a", &spelled), Err(40403));
    assert_eq!(registry.post("/subjects/a?normalize=true", &spelled).unwrap()["version"], 1);
    assert_eq!(registry.post("/subjects/a/versions?normalize=true", &spelled).unwrap()["id"], 1);
    registry.put("/config/a", &json!({ "normalize": true })).unwrap();
    assert_eq!(registry.post("/subjects/a/versions", &spelled).unwrap()["id"], 1);
    assert_eq!(registry.post("/subjects/b/versions", &spelled).unwrap()["id"], 2);
}

#[test]
fn modes_say_what_may_be_done() {
    let mut registry = Registry::default();
    registry.register("a", 1).unwrap();
    assert_eq!(registry.get("/mode"), Ok(json!({ "mode": "READWRITE" })));
    assert_eq!(registry.put("/mode/a", &json!({ "mode": "READONLY" })), Ok(json!({ "mode": "READONLY" })));
    assert_eq!((registry.register("a", 1), registry.register("a", 2)), (Ok(1), Err(42205)));
    assert_eq!(registry.delete("/subjects/a"), Err(42205));
    assert_eq!(registry.put("/config/a", &json!({ "compatibility": "NONE" })), Err(42205));
    assert_eq!(registry.delete("/mode/a"), Ok(json!({ "mode": "READONLY" })));
    assert_eq!(registry.put("/mode/a", &json!({ "mode": "IMPORT" })), Err(42205));
    registry.put("/mode", &json!({ "mode": "READONLY" })).unwrap();
    assert_eq!(registry.register("b", 2), Err(42205));
    assert_eq!(registry.get("/mode/b?defaultToGlobal=true"), Ok(json!({ "mode": "READONLY" })));
}

#[test]
fn an_import_gives_ids_and_versions() {
    let mut registry = Registry::default();
    registry.put("/mode/a", &json!({ "mode": "IMPORT" })).unwrap();
    let import = |v: i64, id: i32, version: i32| json!({ "schema": json!({ "v": v }).to_string(), "id": id, "version": version });
    assert_eq!(registry.register("a", 1), Err(42205));
    assert_eq!(registry.post("/subjects/a/versions", &import(5, 40, 7)).unwrap()["id"], 40);
    // Not checked, and in any order.
    assert_eq!(registry.post("/subjects/a/versions", &import(1, 41, 3)).unwrap()["version"], 3);
    assert_eq!(registry.get("/subjects/a/versions"), Ok(json!([3, 7])));
    assert_eq!(registry.post("/subjects/a/versions", &import(5, 40, 7)).unwrap()["version"], 7);
    assert_eq!(registry.post("/subjects/a/versions", &import(6, 40, 8)), Err(42205));
    // The next id follows what was imported.
    assert_eq!(registry.register("b", 2), Ok(42));
    assert_eq!(registry.register("c", 5), Ok(40));
}

#[test]
fn an_import_starts_from_nothing() {
    let mut registry = Registry::default();
    registry.register("a", 1).unwrap();
    registry.delete("/subjects/a").unwrap();
    registry.put("/mode", &json!({ "mode": "IMPORT" })).unwrap();
    assert_eq!(registry.get("/subjects?deleted=true"), Ok(json!([])));
    registry.put("/mode", &json!({ "mode": "READWRITE" })).unwrap();
    assert_eq!(registry.register("b", 1), Ok(2));
    assert_eq!(registry.put("/mode", &json!({ "mode": "IMPORT" })), Err(42205));
    registry.put("/mode?force=true", &json!({ "mode": "IMPORT" })).unwrap();
    assert_eq!(registry.get("/subjects"), Ok(json!(["b"])));
}

#[test]
fn contexts_have_ids_of_their_own() {
    let mut registry = Registry::default();
    registry.register("a", 1).unwrap();
    assert_eq!(registry.register(":.eu:a", 2), Ok(1));
    assert_eq!(registry.register(":.eu:b", 1), Ok(2));
    assert_eq!(registry.get("/contexts"), Ok(json!([".", ".eu"])));
    assert_eq!(registry.get("/subjects"), Ok(json!(["a"])));
    assert_eq!(registry.get("/subjects?subjectPrefix=:*:"), Ok(json!([":.eu:a", ":.eu:b", "a"])));
    assert_eq!(registry.get("/subjects?subjectPrefix=:.eu:b"), Ok(json!([":.eu:b"])));
    assert_eq!(registry.get("/contexts/.eu/subjects"), Ok(json!([":.eu:a", ":.eu:b"])));
    assert_eq!(registry.get("/contexts/.eu/subjects/a/versions/1").unwrap()["schema"], "{\"v\":2}");
    assert_eq!(registry.get("/schemas/ids/1").unwrap()["schema"], "{\"v\":1}");
    assert_eq!(registry.get("/schemas/ids/1?subject=:.eu:").unwrap()["schema"], "{\"v\":2}");
    assert_eq!(registry.get("/contexts/.eu/schemas/ids/1").unwrap()["schema"], "{\"v\":2}");
    assert_eq!(registry.get("/schemas/ids/2"), Err(40403));
    // One that is not in the default context is looked for in the others.
    assert_eq!(registry.get("/schemas/ids/2?subject=b").unwrap()["subject"], ":.eu:b");
    assert_eq!(registry.get("/subjects/b/versions/1").unwrap()["subject"], ":.eu:b");
    assert_eq!(registry.post("/subjects/b", &schema(1)).unwrap()["subject"], ":.eu:b");
    let guid = registry.get("/schemas/ids/1").unwrap()["guid"].as_str().unwrap().to_owned();
    let ids = json!([{ "context": ".", "id": 1 }, { "context": ".eu", "id": 2 }]);
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}/ids")), Ok(ids));
    // A context has settings for its subjects.
    registry.put("/contexts/.eu/config", &json!({ "compatibility": "NONE" })).unwrap();
    assert_eq!(registry.get("/config/:.eu:"), Ok(json!({ "compatibilityLevel": "NONE" })));
    assert_eq!(registry.register(":.eu:a", 1), Ok(2));
    assert_eq!(
        registry.get("/config/:.eu:a?defaultToGlobal=true"),
        Ok(json!({ "compatibilityLevel": "NONE" }))
    );
    assert_eq!(
        registry.get("/config/a?defaultToGlobal=true"),
        Ok(json!({ "compatibilityLevel": "BACKWARD" }))
    );
    assert_eq!(registry.delete("/contexts/.eu"), Err(42211));
    for subject in ["a", "b"] {
        registry.delete(&format!("/subjects/:.eu:{subject}")).unwrap();
        registry.delete(&format!("/subjects/:.eu:{subject}?permanent=true")).unwrap();
    }
    assert_eq!(registry.delete("/contexts/.eu"), Ok(Value::Null));
    assert_eq!(registry.get("/contexts"), Ok(json!(["."])));
}

#[test]
fn what_is_referred_to_stays() {
    let mut registry = Registry::default();
    registry.register("money", 1).unwrap();
    let order = |version: i32| json!({ "schema": "{\"v\":7}", "references": [{ "name": "Money", "subject": "money", "version": version }] });
    assert_eq!(registry.post("/subjects/order/versions", &order(2)), Err(42201));
    // The latest is written down as the number that it is now.
    let answer = registry.post("/subjects/order/versions", &order(-1)).unwrap();
    assert_eq!(answer["references"][0]["version"], 1);
    assert_eq!(registry.post("/subjects/order/versions", &order(1)).unwrap()["id"], 2);
    assert_eq!(registry.get("/subjects/money/versions/1/referencedby"), Ok(json!([2])));
    assert_eq!(registry.delete("/subjects/money/versions/1"), Err(42206));
    assert_eq!(registry.delete("/subjects/money"), Err(42206));
    registry.delete("/subjects/order").unwrap();
    assert_eq!(registry.get("/subjects/money/versions/1/referencedby"), Ok(json!([])));
    assert_eq!(registry.get("/subjects/money/versions/1/referencedby?deleted=true"), Ok(json!([2])));
    registry.delete("/subjects/money").unwrap();
    assert_eq!(registry.delete("/subjects/money?permanent=true"), Err(42206));
    registry.delete("/subjects/order?permanent=true").unwrap();
    assert_eq!(registry.delete("/subjects/money?permanent=true"), Ok(json!([1])));
}

#[test]
fn references_that_go_in_circles_or_far_are_refused() {
    let mut registry = Registry::default();
    registry.put("/config", &json!({ "compatibility": "NONE" })).unwrap();
    for at in 0..70 {
        let references = match at {
            0 => json!([]),
            _ => json!([{ "name": format!("s{}", at - 1), "subject": format!("s{}", at - 1), "version": 1 }]),
        };
        let body = json!({ "schema": json!({ "v": at }).to_string(), "references": references });
        let answer = registry.post(&format!("/subjects/s{at}/versions"), &body);
        assert_eq!(answer.is_ok(), at <= 64, "{at}: {answer:?}");
    }
}

#[test]
fn metadata_and_rules_are_kept_and_completed() {
    let mut registry = Registry::default();
    let rules = json!({ "domainRules": [{ "name": "r", "kind": "CONDITION", "mode": "WRITE", "type": "CEL", "expr": "true", "disabled": false }] });
    registry
        .put(
            "/config/a",
            &json!({ "defaultMetadata": { "properties": { "team": "x" } }, "overrideRuleSet": rules }),
        )
        .unwrap();
    let body = json!({ "schema": "{\"v\":1}", "metadata": { "properties": { "owner": "y" }, "tags": { "f": ["PII"] } } });
    registry.post("/subjects/a/versions", &body).unwrap();
    let stored = registry.get("/subjects/a/versions/1").unwrap();
    assert_eq!(stored["metadata"]["properties"], json!({ "owner": "y", "team": "x" }));
    assert_eq!(stored["ruleSet"], rules);
    // The next version has what the one before had. And whoever looks it up need not say it.
    registry.register("a", 2).unwrap();
    assert_eq!(registry.get("/subjects/a/versions/2").unwrap()["metadata"]["tags"], json!({ "f": ["PII"] }));
    assert_eq!(registry.post("/subjects/a", &schema(2)).unwrap()["version"], 2);
    assert_eq!(registry.get("/subjects/a/metadata?key=owner&value=y").unwrap()["version"], 2);
    assert_eq!(registry.get("/subjects/a/metadata?key=owner&value=z"), Err(40403));
    assert_eq!(registry.get("/subjects/b/metadata?key=owner&value=z"), Err(40401));
    assert_eq!(registry.get("/schemas?ruleType=CEL").unwrap().as_array().unwrap().len(), 2);
    assert_eq!(registry.get("/schemas?ruleType=ENCRYPT"), Ok(json!([])));
    // Asked for by -1, the version is noted in the metadata.
    let noted = json!({ "schema": "{\"v\":3}", "version": -1 });
    let answer = registry.post("/subjects/a/versions", &noted).unwrap();
    assert_eq!(answer["metadata"]["properties"]["confluent:version"], "3");
}

#[test]
fn an_alias_stands_for_its_subject() {
    let mut registry = Registry::default();
    registry.register("orders-v1-value", 1).unwrap();
    registry.put("/config/orders-value", &json!({ "alias": "orders-v1-value" })).unwrap();
    assert_eq!(registry.get("/subjects/orders-value/versions/1").unwrap()["subject"], "orders-v1-value");
    assert_eq!(registry.register("orders-value", 2), Ok(2));
    assert_eq!(registry.get("/subjects"), Ok(json!(["orders-v1-value"])));
    assert_eq!(registry.get("/config/orders-value").unwrap()["alias"], "orders-v1-value");
    let schemas = registry.get("/schemas?aliases=true&latestOnly=true").unwrap();
    assert_eq!(schemas[0]["aliases"], json!(["orders-value"]));
    assert_eq!(schemas.as_array().unwrap().len(), 1);
}

#[test]
fn lists_are_given_in_parts() {
    let mut registry = Registry::default();
    for (at, subject) in ["a", "b", "c", "d"].into_iter().enumerate() {
        registry.register(subject, at as i64).unwrap();
    }
    assert_eq!(registry.get("/subjects?offset=1&limit=2"), Ok(json!(["b", "c"])));
    assert_eq!(registry.get("/subjects?offset=9"), Ok(json!([])));
    assert_eq!(registry.get("/subjects?limit=-1").unwrap().as_array().unwrap().len(), 4);
    assert_eq!(registry.get("/schemas?offset=3").unwrap()[0]["subject"], "d");
}

#[test]
fn topics_own_and_use_subjects() {
    let mut registry = Registry::default();
    let request = |associations: Value| json!({ "resourceName": "orders", "resourceNamespace": "lkc1", "resourceId": "id1", "associations": associations });
    let strong = request(
        json!([{ "associationType": "value", "schema": schema(1) }, { "associationType": "key", "schema": schema(5) }]),
    );
    let made = registry.post("/associations", &strong).unwrap();
    let value = &made["associations"][0];
    assert_eq!((&value["subject"], &value["frozen"]), (&json!(":.lkc1:orders-value"), &json!(true)));
    assert_eq!((&value["schema"]["id"], &made["associations"][1]["schema"]["id"]), (&json!(1), &json!(2)));
    // Again, it changes nothing.
    assert_eq!(registry.post("/associations", &strong).unwrap()["associations"], json!([]));
    let found = registry.get("/associations/resources/lkc1/orders?associationType=value").unwrap();
    assert_eq!(
        (&found[0]["subject"], &found[0]["lifecycle"]),
        (&json!(":.lkc1:orders-value"), &json!("STRONG"))
    );
    assert_eq!(registry.get("/associations/resources/-/orders").unwrap().as_array().unwrap().len(), 2);
    assert_eq!(
        registry.get("/associations/subjects/:.lkc1:orders-key").unwrap()[0]["associationType"],
        "key"
    );
    assert_eq!(registry.get("/associations/resources/id1?lifecycle=WEAK"), Ok(json!([])));
    assert_eq!(registry.delete("/subjects/:.lkc1:orders-value"), Err(40904));
    assert_eq!(registry.delete("/subjects/:.lkc1:orders-value/versions/1"), Err(40907));
    assert_eq!(registry.delete("/associations/resources/id1"), Err(40908));
    assert_eq!(registry.delete("/associations/resources/id2"), Err(40410));
    // A topic that is there may use a subject, if it has a schema.
    let weak = json!({ "resourceName": "other", "resourceNamespace": "lkc1", "associations": [{ "subject": "shared" }] });
    assert_eq!(registry.put("/associations/resources/id3", &weak), Err(40907));
    registry.register("shared", 1).unwrap();
    assert_eq!(
        registry.put("/associations/resources/id3", &weak).unwrap()["associations"][0]["lifecycle"],
        "WEAK"
    );
    let owned = json!({ "resourceName": "x", "resourceNamespace": "y", "resourceId": "z", "associations": [{ "lifecycle": "WEAK", "subject": ":.lkc1:orders-value" }] });
    assert_eq!(registry.post("/associations", &owned), Err(40905));
    for wrong in [
        json!({ "resourceName": "x", "resourceNamespace": "y", "associations": [{}] }),
        json!({ "resourceName": "x", "resourceNamespace": "y", "resourceId": "z", "associations": [] }),
        json!({ "resourceName": "x", "resourceNamespace": "y", "resourceId": "z", "associations": [{ "lifecycle": "LONG", "subject": "a" }] }),
        json!({ "resourceName": "x", "resourceNamespace": "y", "resourceId": "z", "associations": [{ "lifecycle": "WEAK" }] }),
        json!({ "resourceName": "x", "resourceNamespace": "y", "resourceId": "z", "associations": [{ "frozen": true, "subject": "shared" }] }),
    ] {
        assert_eq!(registry.post("/associations", &wrong), Err(42212), "{wrong}");
    }
    assert_eq!(registry.delete("/associations/resources/id1?cascadeLifecycle=true"), Ok(Value::Null));
    assert_eq!(registry.get("/subjects?subjectPrefix=:.lkc1:&deleted=true"), Ok(json!([])));
}

#[test]
fn a_topic_that_confluents_registry_wrote_is_read() {
    let mut state = State::default();
    let record = |key: &str, value: &str| Record {
        key: key.as_bytes().to_vec(),
        value: (!value.is_empty()).then(|| value.as_bytes().to_vec()),
    };
    for (key, value, is_read) in [
        (r#"{"keytype":"NOOP","magic":0}"#, "", true),
        (r#"{"keytype":"CONFIG","magic":0}"#, r#"{"compatibilityLevel":"FULL"}"#, true),
        (
            r#"{"keytype":"SCHEMA","subject":"a","version":1,"magic":1}"#,
            r#"{"subject":"a","version":1,"id":1,"schema":"{\"v\":1}","deleted":false}"#,
            true,
        ),
        (
            r#"{"keytype":"SCHEMA","subject":"a","version":2,"magic":1}"#,
            r#"{"subject":"a","version":2,"id":2,"md5":"QbmjGi19SmduqE6MO6bnsg==","schemaType":"JSON","references":null,"schema":"{\"v\":2}","deleted":false,"newField":{"a":1}}"#,
            true,
        ),
        // An id that was given twice stays with the first schema.
        (
            r#"{"keytype":"SCHEMA","subject":"b","version":1,"magic":1}"#,
            r#"{"subject":"b","version":1,"id":2,"schema":"{\"v\":3}","deleted":false}"#,
            false,
        ),
        (r#"{"keytype":"DEK","subject":"a","magic":0}"#, "{}", false),
        (r#"{"keytype":"SCHEMA","subject":"c","version":1,"magic":1}"#, "{", false),
        (
            r#"{"keytype":"SCHEMA","subject":"c","version":-1,"magic":1}"#,
            r#"{"subject":"c","version":-1,"id":9,"schema":"1"}"#,
            false,
        ),
        ("garbage", "", false),
        (r#"{"keytype":"MODE","subject":"a","magic":0}"#, r#"{"subject":"a","mode":"READONLY"}"#, true),
        (
            r#"{"keytype":"DELETE_SUBJECT","subject":"a","magic":0}"#,
            r#"{"subject":"a","version":2147483647}"#,
            true,
        ),
    ] {
        assert_eq!(state.apply(&record(key, value), Some(5)).is_ok(), is_read, "{key} {value}");
    }
    let mut registry = Registry { state: state.clone(), log: Vec::new() };
    assert_eq!(registry.get("/config"), Ok(json!({ "compatibilityLevel": "FULL" })));
    assert_eq!(registry.get("/mode/a"), Ok(json!({ "mode": "READONLY" })));
    let stored = registry.get("/subjects/a/versions/2?deleted=true").unwrap();
    assert_eq!(
        (&stored["guid"], &stored["ts"], &stored["deleted"]),
        (&json!("41b9a31a-2d7d-4a67-6ea8-4e8c3ba6e7b2"), &json!(5), &json!(true))
    );
    registry.state = State::default();
}
