//! Scripts as users who log in: to real Kafka with its `StandardAuthorizer` and delegation tokens, and to the embedded broker
//! with the same.

use std::fmt::Debug;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use milena_broker::{Authorizer, Broker, Builder, Listener};
use milena_interop::embedded::Embedded;
use milena_interop::real;
use xtask::kafka::{Cluster, NEWEST};

use super::{Asker, differences};

/// All of them have the password `pencil`, by PLAIN. `admin` is a super user.
const USERS: [&str; 5] = ["admin", "alice", "bob", "carol", "dave"];
const PASSWORD: &str = "pencil";
const TOKEN_KEY: &str = "a key of tokens";
const PATIENCE: Duration = Duration::from_secs(20);

/// One broker of the newest Kafka.
pub(super) fn kafka() -> Option<&'static Cluster> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    let start = || {
        if let Some(program) = xtask::kafka::missing_program() {
            real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
            return None;
        }
        let users: String = USERS.iter().map(|user| format!(" user_{user}=\"{PASSWORD}\"")).collect();
        let settings = [
            format!(
                "listener.name.sasl.plain.sasl.jaas.config=\
                 org.apache.kafka.common.security.plain.PlainLoginModule required{users};"
            ),
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            "super.users=User:ANONYMOUS;User:admin".to_owned(),
            format!("delegation.token.secret.key={TOKEN_KEY}"),
        ];
        Some(Cluster::start_with(1, NEWEST, &settings).expect("Kafka starts"))
    };
    CLUSTER.get_or_init(start).as_ref()
}

/// The embedded broker with the same settings.
pub(super) fn embedded() -> Embedded {
    let authorizer = Authorizer::new().super_user("User:ANONYMOUS").super_user("User:admin");
    let builder: Builder = Broker::builder().listener(Listener::sasl_plaintext());
    let builder = USERS.iter().fold(builder, |builder, user| builder.user(*user, PASSWORD));
    let builder = builder.auto_create_topics(false).authorizer(authorizer);
    Embedded::build(builder.delegation_token_key(TOKEN_KEY))
}

/// Runs `script` against both, as `admin` at first.
pub(super) fn compare(script: fn(&mut Asker)) {
    compare_as(Some("admin"), script);
}

/// The same without logging in.
pub(super) fn compare_strangers(script: fn(&mut Asker)) {
    compare_as(None, script);
}

fn compare_as(user: Option<&'static str>, script: fn(&mut Asker)) {
    // The scripts count what the clusters have, so that they take turns.
    static TURN: Mutex<()> = Mutex::new(());
    let Some(kafka) = kafka() else { return };
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let embedded = embedded();
    let run = |bootstrap: &str| {
        let mut asker = match user {
            Some(user) => Asker::login(bootstrap, user),
            None => Asker::new(bootstrap),
        };
        script(&mut asker);
        asker.said
    };
    let (real, ours) = (run(&kafka.sasl_bootstrap()), run(embedded.bootstrap()));
    differences(&real, &ours);
}

/// Asks again until the answer is as expected: real Kafka's brokers learn of a change a moment after its controller has
/// answered.
pub(super) fn until<T: Debug>(mut ask: impl FnMut() -> T, is_it: impl Fn(&T) -> bool) -> T {
    let started = Instant::now();
    loop {
        let answer = ask();
        if is_it(&answer) {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "it does not come: {answer:?}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The error codes and the authorized operations in an answer, in their order.
pub(super) fn codes(answer: &impl Debug) -> Vec<String> {
    let text = format!("{answer:?}");
    let mut found = Vec::new();
    for field in ["error_code: ", "authorized_operations: "] {
        for (at, _) in text.match_indices(field) {
            let value = &text[at + field.len()..];
            let end = value.find([',', ' ', '}']).unwrap_or(value.len());
            found.push((at, value[..end].to_owned()));
        }
    }
    found.sort();
    found.into_iter().map(|(_, value)| value).collect()
}
