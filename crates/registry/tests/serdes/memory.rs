//! A registry in memory, behind the fake server.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::fake::{Asked, Fake, Reply};

#[derive(Default)]
struct State {
    /// Subject and body, in the order of their ids, which begin with 1.
    schemas: Vec<(String, Value)>,
    is_down: bool,
}

pub(crate) struct Registry {
    pub(crate) fake: Fake,
    state: Arc<Mutex<State>>,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let seen = Arc::clone(&state);
        let fake = Fake::start(move |asked| answer(&mut seen.lock().expect("no panic"), asked)).await;
        Self { fake, state }
    }

    /// Puts a schema there, and answers with its id.
    pub(crate) fn put(&self, subject: &str, body: Value) -> u32 {
        let mut state = self.state.lock().expect("no panic");
        state.schemas.push((subject.to_owned(), body));
        u32::try_from(state.schemas.len()).expect("few")
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.lock().expect("no panic").is_down = is_down;
    }
}

/// The GUID that the schema was given, or one that follows from the id.
fn guid_of(body: &Value, id: usize) -> String {
    let given = body["guid"].as_str().map(str::to_owned);
    given.unwrap_or_else(|| format!("00000000-0000-0000-0000-{id:012}"))
}

fn answer(state: &mut State, asked: &Asked) -> Reply {
    if state.is_down {
        return Reply::Json(503, String::new());
    }
    let absent = || Reply::Json(404, json!({"error_code": 40401, "message": "absent"}).to_string());
    let path = asked.path.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    let registered = |state: &State, id: usize| {
        let (subject, body) = &state.schemas[id - 1];
        let mut answer = body.clone();
        answer["id"] = json!(id);
        answer["guid"] = json!(guid_of(body, id));
        answer["subject"] = json!(subject);
        answer["version"] = json!(state.schemas[..id].iter().filter(|(other, _)| other == subject).count());
        Reply::Json(200, answer.to_string())
    };
    let of = |state: &State, subject: &str| -> Vec<usize> {
        (1..=state.schemas.len()).filter(|id| state.schemas[id - 1].0 == subject).collect()
    };
    match (asked.method.as_str(), parts.as_slice()) {
        ("GET", ["schemas", "ids", id]) => match id.parse::<usize>() {
            Ok(id) if (1..=state.schemas.len()).contains(&id) => registered(state, id),
            _ => absent(),
        },
        ("GET", ["schemas", "guids", wanted]) => {
            match (1..=state.schemas.len()).find(|id| guid_of(&state.schemas[id - 1].1, *id) == *wanted) {
                Some(id) => registered(state, id),
                None => absent(),
            }
        }
        ("GET", ["subjects", subject, "versions", "latest"]) => match of(state, subject).last() {
            Some(id) => registered(state, *id),
            None => absent(),
        },
        ("GET", ["subjects", subject, "versions", version]) => {
            let version: usize = version.parse().expect("a number");
            match of(state, subject).get(version - 1) {
                Some(id) => registered(state, *id),
                None => absent(),
            }
        }
        ("POST", ["subjects", subject, rest @ ..]) => {
            let body: Value = serde_json::from_str(&asked.body).expect("JSON");
            let found = of(state, subject).into_iter().find(|id| state.schemas[id - 1].1 == body);
            match (found, rest) {
                (Some(id), _) => registered(state, id),
                (None, ["versions"]) => {
                    state.schemas.push(((*subject).to_owned(), body));
                    registered(state, state.schemas.len())
                }
                (None, _) => absent(),
            }
        }
        ("GET", ["associations", "resources", "-", topic]) => {
            let answer = if *topic == "associated" { json!([{"subject": "shared"}]) } else { json!([]) };
            Reply::Json(200, answer.to_string())
        }
        _ => absent(),
    }
}
