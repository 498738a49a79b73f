//! Random requests: what must be true whatever is asked.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use serde_json::Value;

use super::tests::Registry;
use crate::server::record::Record;
use crate::server::request::Method;

#[derive(Clone, Debug)]
enum Step {
    Register { subject: usize, v: u8, reference: Option<usize> },
    Look { subject: usize, v: u8 },
    DeleteVersion { subject: usize, version: u8, permanent: bool },
    DeleteSubject { subject: usize, permanent: bool },
    Level { subject: usize, none: bool },
    Mode { subject: usize, mode: usize },
    Restart,
    Compact,
}

const SUBJECTS: [&str; 4] = ["a", "b", ":.eu:a", ":.eu:c"];
const MODES: [&str; 4] = ["READWRITE", "READWRITE", "READONLY", "IMPORT"];

fn step() -> impl Strategy<Value = Step> {
    let (subject, v) = (0..SUBJECTS.len(), 0..6u8);
    prop_oneof![
        6 => (subject.clone(), v.clone(), proptest::option::weighted(0.2, subject.clone()))
            .prop_map(|(subject, v, reference)| Step::Register { subject, v, reference }),
        2 => (subject.clone(), v).prop_map(|(subject, v)| Step::Look { subject, v }),
        3 => (subject.clone(), 1..5u8, any::<bool>())
            .prop_map(|(subject, version, permanent)| Step::DeleteVersion { subject, version, permanent }),
        2 => (subject.clone(), any::<bool>()).prop_map(|(subject, permanent)| Step::DeleteSubject { subject, permanent }),
        2 => (subject.clone(), any::<bool>()).prop_map(|(subject, none)| Step::Level { subject, none }),
        1 => (subject, 0..MODES.len()).prop_map(|(subject, mode)| Step::Mode { subject, mode }),
        1 => Just(Step::Restart),
        1 => Just(Step::Compact),
    ]
}

/// What was seen of ids: the schema of each, by context.
#[derive(Default)]
struct Seen {
    texts: BTreeMap<(String, i64), String>,
    /// The greatest version that each subject has, with the hidden ones.
    versions: BTreeMap<usize, i64>,
}

fn context(subject: usize) -> String {
    if SUBJECTS[subject].starts_with(':') { ".eu".into() } else { ".".into() }
}

fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut registry = Registry::default();
    let mut seen = Seen::default();
    for step in steps {
        match step {
            Step::Register { subject, v, reference } => {
                register(&mut registry, &mut seen, *subject, *v, *reference)?;
            }
            Step::Look { subject, v } => {
                let target = format!("/subjects/{}", SUBJECTS[*subject]);
                let before = registry.state.clone();
                let _ = registry.ask(Method::Post, &target, &body(*v, None));
                prop_assert!(before == registry.state, "a question changed the state");
            }
            Step::DeleteVersion { subject, version, permanent } => {
                let target =
                    format!("/subjects/{}/versions/{version}?permanent={permanent}", SUBJECTS[*subject]);
                let _ = registry.ask(Method::Delete, &target, "");
            }
            Step::DeleteSubject { subject, permanent } => {
                let target = format!("/subjects/{}?permanent={permanent}", SUBJECTS[*subject]);
                let _ = registry.ask(Method::Delete, &target, "");
            }
            Step::Level { subject, none } => {
                let level = if *none { "NONE" } else { "BACKWARD" };
                let body = format!("{{\"compatibility\":\"{level}\"}}");
                let _ = registry.ask(Method::Put, &format!("/config/{}", SUBJECTS[*subject]), &body);
            }
            Step::Mode { subject, mode } => {
                let body = format!("{{\"mode\":\"{}\"}}", MODES[*mode]);
                let _ = registry.ask(Method::Put, &format!("/mode/{}", SUBJECTS[*subject]), &body);
            }
            Step::Restart => {
                prop_assert!(registry.restarted() == registry.state, "a restart changed the state");
            }
            Step::Compact => compact(&mut registry),
        }
        check(&mut registry, &mut seen)?;
    }
    prop_assert!(registry.restarted() == registry.state, "a restart changed the state");
    Ok(())
}

fn body(v: u8, reference: Option<usize>) -> String {
    let references = reference
        .map(|subject| serde_json::json!([{ "name": "r", "subject": SUBJECTS[subject], "version": -1 }]));
    serde_json::json!({ "schema": format!("{{\"v\":{v}}}"), "references": references }).to_string()
}

fn register(
    registry: &mut Registry,
    seen: &mut Seen,
    subject: usize,
    v: u8,
    reference: Option<usize>,
) -> Result<(), TestCaseError> {
    let target = format!("/subjects/{}/versions", SUBJECTS[subject]);
    let Ok(first) = registry.ask(Method::Post, &target, &body(v, reference)) else { return Ok(()) };
    let read = |answer: &[u8]| serde_json::from_slice::<Value>(answer).expect("JSON");
    let first_answer = read(&first.body);
    if first
        .records
        .iter()
        .any(|record| record.key.starts_with(b"{\"keytype\":\"SCHEMA\"") && record.value.is_some())
    {
        let version = first_answer["version"].as_i64().expect("a version");
        let last = seen.versions.insert(subject, version);
        prop_assert!(last.is_none_or(|last| last < version), "version {version} came after {last:?}");
    }
    // A schema that needs the latest version of its own subject needs another one now.
    let name = |subject: usize| SUBJECTS[subject].rsplit(':').next();
    if reference.is_some_and(|reference| name(reference) == name(subject)) {
        return Ok(());
    }
    let again = registry.ask(Method::Post, &target, &body(v, reference));
    let again = again.map_err(|fault| TestCaseError::fail(format!("registered again: {fault}")))?;
    prop_assert!(again.records.is_empty(), "registering again writes");
    prop_assert_eq!(&read(&again.body)["id"], &first_answer["id"]);
    Ok(())
}

/// No id means two schemas, ever.
fn check(registry: &mut Registry, seen: &mut Seen) -> Result<(), TestCaseError> {
    for (subject, name) in SUBJECTS.into_iter().enumerate() {
        let all = registry.ask(Method::Get, &format!("/subjects/{name}/versions?deleted=true"), "");
        let all = all.ok().and_then(|answer| serde_json::from_slice::<Vec<i64>>(&answer.body).ok());
        match all.and_then(|all| all.last().copied()) {
            Some(last) => seen.versions.insert(subject, last),
            None => seen.versions.remove(&subject),
        };
        for id in 1..40 {
            let prefix = if name.starts_with(':') { ":.eu:" } else { "" };
            let Ok(answer) = registry.ask(Method::Get, &format!("/schemas/ids/{id}?subject={prefix}"), "")
            else {
                continue;
            };
            let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
            let text = format!("{} {}", answer["schema"], answer["references"]);
            let known = seen.texts.entry((context(subject), id)).or_insert_with(|| text.clone());
            prop_assert_eq!(&*known, &text, "id {} has come to mean another schema", id);
        }
    }
    Ok(())
}

/// What compaction leaves: the last record of each key, and no tombstone.
fn compact(registry: &mut Registry) {
    let mut last = BTreeMap::new();
    for (at, record) in registry.log.iter().enumerate() {
        last.insert(record.key.clone(), at);
    }
    // What stands in an empty place says nothing, and keeps the offsets, which are the timestamps here.
    let nothing = Record {
        key: br#"{"keytype":"CONTEXT","tenant":"default","context":".none"}"#.to_vec(),
        value: None,
    };
    for (at, record) in registry.log.iter_mut().enumerate() {
        if last.get(&record.key) != Some(&at) || record.value.is_none() {
            *record = nothing.clone();
        }
    }
    let restarted = registry.restarted();
    registry.state = restarted;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn ids_never_change_their_schema_and_a_restart_changes_nothing(steps in proptest::collection::vec(step(), 1..40)) {
        run(&steps)?;
    }
}
