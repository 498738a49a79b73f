//! AWS_MSK_IAM: a broker that checks the signature, by what AWS documents of it and not by the client's code.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hmac::{Hmac, KeyInit as _, Mac as _};
use milena::{ConnectError, ErrorKind, Obstacle, aws};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::time::sleep;

use super::everything::Everything;
use super::*;

const SECRET: &str = "k4nari3nv0gel";

fn keys(secret: &str) -> aws::Credentials {
    aws::Credentials::new("AKIDEXAMPLE", secret).with_region("eu-west-1")
}

/// The broker's answer to a message, as MSK gives it.
pub(crate) const ANSWER: &str = r#"{"version":"2020_10_22","request-id":"8c2e"}"#;

/// Whether `said` is a request that was signed with one of the secrets, for the host that it names.
pub(crate) fn is_signed(said: &str, secrets: &[String]) -> bool {
    let said: Map<String, Value> = serde_json::from_str(said).expect("JSON");
    let member = |name: &str| said.get(name).map(|value| value.as_str().expect("a text"));
    assert_eq!((member("version"), member("action")), (Some("2020_10_22"), Some("kafka-cluster:Connect")));
    assert!(member("user-agent").is_some_and(|agent| agent.starts_with("milena/")));
    let of = |name: &str| member(name).unwrap_or_else(|| panic!("no {name}"));
    let (date, scope) = (of("x-amz-date"), of("x-amz-credential").split_once('/').expect("a scope").1);
    let (day, rest) = scope.split_once('/').expect("a day");
    assert_eq!((day, rest), (&date[..8], "eu-west-1/kafka-cluster/aws4_request"));
    // The query is what was said, but for the names' case and what is no part of it.
    let names = [
        "Action",
        "X-Amz-Algorithm",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-SignedHeaders",
    ];
    let escaped = |text: &str| {
        let escape = |byte: u8| match byte {
            b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(escape).collect::<String>()
    };
    let query =
        names.iter().filter_map(|name| Some(format!("{name}={}", escaped(member(&name.to_lowercase())?))));
    let query = query.collect::<Vec<_>>().join("&");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let body = hex(&Sha256::digest(""));
    let request = format!("GET\n/\n{query}\nhost:{}\n\nhost\n{body}", of("host"));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(request)));
    let signed = |secret: &String| {
        let parts = [day, "eu-west-1", "kafka-cluster", "aws4_request", &*to_sign];
        let signature = parts.into_iter().fold(format!("AWS4{secret}").into_bytes(), |key, part| {
            Hmac::<Sha256>::new_from_slice(&key)
                .expect("any key")
                .chain_update(part)
                .finalize()
                .into_bytes()
                .to_vec()
        });
        hex(&signature) == of("x-amz-signature")
    };
    secrets.iter().any(signed)
}

#[tokio::test(start_paused = true)]
async fn a_client_logs_in_to_msk_with_a_signed_request() {
    let peer = Peer::new(&["s3cr3t/+", "with a token"]);
    let client = connect(&peer, Sasl::aws_msk_iam(keys("s3cr3t/+"))).await.expect("connected");
    ask(&client).await.expect("answered");
    // Of a broker's own name the region is read, and nothing has to be given.
    let bootstrap = "b-1.demo.abc123.c2.kafka.eu-west-1.amazonaws.com:9098";
    let keys = aws::Credentials::new("ASIA", "with a token").with_session_token("IQoJb3J/+==");
    let builder = Client::builder().bootstrap(bootstrap).connector(peer.clone()).seed(7);
    let error = builder.sasl(Sasl::aws_msk_iam(keys)).connect().await.expect_err("a blank in the secret");
    assert!(
        error
            .to_string()
            .contains("the secret of the AWS access key \"ASIA\" is empty or has other characters"),
        "{error}"
    );
    let keys = aws::Credentials::new("ASIA", "s3cr3t/+").with_session_token("IQoJb3J/+==");
    let builder = Client::builder().bootstrap(bootstrap).connector(peer.clone()).seed(7);
    builder.sasl(Sasl::aws_msk_iam(keys)).connect().await.expect("connected");
    let state = peer.state();
    assert_eq!((state.refused, state.unwelcome), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_final_and_names_its_cause() {
    let check = async |sasl: Sasl, connections: usize, kind: ErrorKind, expected: &str| {
        let peer = Peer::new(&["right"]);
        let error = connect(&peer, sasl).await.expect_err("refused");
        assert_eq!(
            error.to_string(),
            format!("connecting to a:1: cannot authenticate with AWS_MSK_IAM to a:1: {expected}")
        );
        assert_eq!((error.kind(), peer.state().connections), (kind, connections), "{error}");
        assert!(!error.is_retriable(), "{error}");
    };
    let refused = "the broker refused the AWS access key \"AKIDEXAMPLE\": it is wrong";
    check(Sasl::aws_msk_iam(keys("another")), 1, ErrorKind::Authentication, refused).await;
    let ended = keys("right").with_lifetime(Duration::ZERO);
    let why = "the AWS credentials of the access key \"AKIDEXAMPLE\" have ended already";
    check(Sasl::aws_msk_iam(ended), 0, ErrorKind::Authentication, why).await;
    let why = "the AWS region of the broker is not known: its host name \"a\" does not have it; set AWS_REGION, or with_region of the \
               credentials";
    check(
        Sasl::aws_msk_iam(aws::Credentials::new("AKIDEXAMPLE", "right")),
        0,
        ErrorKind::Authentication,
        why,
    )
    .await;
    let own = || async {
        Err::<aws::Credentials, _>(ConnectError::new(Obstacle::Credentials, "the vault is shut"))
    };
    check(Sasl::aws_msk_iam(own), 0, ErrorKind::Authentication, "the vault is shut").await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_has_too_much_to_do_is_asked_again() {
    let peer = Peer::new(&["right"]);
    peer.state().is_busy = true;
    let sasl = Sasl::aws_msk_iam(keys("right"));
    let error = connect(&peer, sasl.clone()).await.expect_err("busy");
    assert!(error.is_retriable() && error.to_string().contains("Too many connects"), "{error}");
    peer.state().is_busy = false;
    let client = connect(&peer, sasl).await.expect("connected");
    ask(&client).await.expect("answered");
}

#[tokio::test(start_paused = true)]
async fn sessions_are_renewed_with_newer_keys_that_are_fetched_once() {
    let peer = Peer::new(&[]);
    peer.state().lifetime = Duration::from_secs(60);
    let fetched = Arc::new(AtomicUsize::new(0));
    let sasl = Sasl::aws_msk_iam({
        let (peer, fetched) = (peer.clone(), Arc::clone(&fetched));
        move || {
            let number = fetched.fetch_add(1, Ordering::Relaxed);
            let (secret, peer) = (format!("secret-{number}"), peer.clone());
            async move {
                peer.state().accepts.push(secret.clone());
                let keys = aws::Credentials::new(format!("ASIA{number}"), secret);
                Ok::<_, ConnectError>(keys.with_region("eu-west-1").with_lifetime(Duration::from_secs(100)))
            }
        }
    });
    let client = connect(&peer, sasl).await.expect("connected");
    for _ in 0..300 {
        ask(&client).await.expect("answered");
        sleep(Duration::from_secs(1)).await;
    }
    let state = peer.state();
    assert!(
        (4..=5).contains(&fetched.load(Ordering::Relaxed)),
        "100 s, of which 75 to 80 % pass: {fetched:?}"
    );
    assert_eq!((state.refused, state.unwelcome), (0, 0));
    let first = state.accepted.first().copied().expect("one");
    let renewed = state.accepted.iter().filter(|connection| **connection == first).count();
    assert!(renewed >= 2 && state.connections <= 3, "{:?}", state.accepted);
}

#[tokio::test]
async fn nothing_of_the_keys_is_printed() {
    let everything = Everything::default();
    let _guard = tracing::subscriber::set_default(everything.clone());
    let with_token = |secret: &str| keys(secret).with_session_token(format!("{SECRET}token"));
    everything.say(with_token(SECRET));
    everything.say(aws::Tokens::new(with_token(SECRET)));
    for secret in [SECRET, "wrong", "k4nari3nv0gel\n"] {
        let peer = Peer::new(&[SECRET]);
        let sasl = Sasl::aws_msk_iam(with_token(secret));
        everything.say(&sasl);
        match connect(&peer, sasl).await {
            Ok(client) => everything.say(client),
            Err(error) => everything.say(error),
        }
    }
    let plain = Client::builder().bootstrap("127.0.0.1:1").sasl(Sasl::aws_msk_iam(with_token(SECRET)));
    let error = plain.connect().await.expect_err("not encrypted");
    assert_eq!(
        error.to_string(),
        "connecting: AWS_MSK_IAM would send the signed request, which is as good as a password for 15 minutes, over a connection \
         that is not encrypted: use TLS (security.protocol=SASL_SSL) or SCRAM, or allow it with \
         allow_plaintext_credentials=true (Sasl::allow_plaintext)"
    );
    let printed = everything.0.lock().expect("whole").clone();
    assert!(printed.len() > 500 && !printed.contains(SECRET), "{printed}");
}
