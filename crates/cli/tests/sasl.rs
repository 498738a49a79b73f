//! The binary authenticates by properties, and shows no password.

mod harness;

use harness::{Process, Run};
use milena_broker::{Broker, Cluster, Issuer, IssuerFault, Listener};

/// A cluster that demands SASL, and the runtime that it lives on.
fn guarded() -> (tokio::runtime::Runtime, Cluster) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "hunter2");
    let cluster = runtime.block_on(broker.start()).expect("started");
    cluster.create_topic("orders", 1).expect("made");
    (runtime, cluster)
}

/// Lists the topics with these properties besides; `MILENA_TEST_PASSWORD` is the password.
fn list(cluster: &Cluster, properties: &[&str]) -> Run {
    let mut args = vec!["topics", "list", "--bootstrap", cluster.bootstrap()];
    properties.iter().for_each(|property| args.extend(["-X", property]));
    let run =
        Process::spawn_with(&args, &[("MILENA_TEST_PASSWORD", "hunter2"), ("MILENA_LOG", "trace")]).wait();
    let shown = [&*String::from_utf8_lossy(&run.stdout), &*run.stderr].concat();
    assert!(!shown.contains("hunter2"), "{shown}");
    run
}

#[test]
fn a_password_comes_from_the_environment_a_file_or_a_command_and_not_from_the_arguments() {
    let (_runtime, cluster) = guarded();
    let file = tempfile::NamedTempFile::new().expect("made");
    std::fs::write(&file, "hunter2\n").expect("written");
    let from_file = format!("sasl.password=file:{}", file.path().display());
    let from_command = format!("sasl.password=command:cat '{}'", file.path().display());
    for password in ["sasl.password=env:MILENA_TEST_PASSWORD", &from_file, &from_command] {
        let run = list(
            &cluster,
            &[
                "security.protocol=SASL_PLAINTEXT",
                "sasl.mechanism=SCRAM-SHA-256",
                "sasl.username=alice",
                password,
            ],
        );
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert!(String::from_utf8_lossy(&run.stdout).contains("orders"));
    }
}

#[test]
fn a_refusal_has_its_exit_code_and_names_its_cause() {
    const AUTH: i32 = 5;
    let (_runtime, cluster) = guarded();
    let sasl = ["security.protocol=SASL_PLAINTEXT", "sasl.mechanism=SCRAM-SHA-256", "sasl.username=mallory"];
    let run = list(&cluster, &[&sasl[..], &["sasl.password=env:MILENA_TEST_PASSWORD"]].concat());
    assert_eq!(run.code, Some(AUTH), "{}", run.stderr);
    assert!(run.stderr.contains("the broker refused the credentials of user \"mallory\""), "{}", run.stderr);
    let run = list(&cluster, &["sasl.password=hunter2"]);
    assert!(
        run.code != Some(0) && run.stderr.contains("it needs security.protocol=SASL_SSL"),
        "{}",
        run.stderr
    );
}

#[test]
fn a_broker_takes_the_tokens_of_an_issuer_and_the_binary_fetches_them() {
    const AUTH: i32 = 5;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let issuer = Issuer::builder().client("billing", "hunter2").audience("kafka");
    let issuer = runtime.block_on(issuer.start()).expect("started");
    let file = tempfile::NamedTempFile::new().expect("made");
    std::fs::write(&file, issuer.jwks()).expect("written");
    let (file, url) = (file.path().display().to_string(), issuer.jwks_url());
    for keys in [&*file, &*url] {
        let broker = harness::Cluster::start(&[
            "--oauth-jwks",
            keys,
            "--oauth-issuer",
            issuer.url(),
            "--oauth-audience",
            "kafka",
            "--topic",
            "orders",
        ]);
        let endpoint = format!("sasl.oauthbearer.token.endpoint.url={}", issuer.token_url());
        let run = |secret: &str| {
            let properties = [
                "security.protocol=SASL_PLAINTEXT",
                "allow_plaintext_credentials=true",
                "sasl.mechanism=OAUTHBEARER",
                "sasl.oauthbearer.client.id=billing",
                secret,
                &endpoint,
            ];
            let mut args = vec!["topics", "list", "--bootstrap", &broker.bootstrap];
            properties.iter().for_each(|property| args.extend(["-X", property]));
            let vars = [("MILENA_TEST_PASSWORD", "hunter2"), ("MILENA_LOG", "trace")];
            let run = Process::spawn_with(&args, &vars).wait();
            let shown = [&*String::from_utf8_lossy(&run.stdout), &*run.stderr].concat();
            assert!(!shown.contains("hunter2"), "{shown}");
            run
        };
        let listed = run("sasl.oauthbearer.client.secret=env:MILENA_TEST_PASSWORD");
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        assert!(String::from_utf8_lossy(&listed.stdout).contains("orders"));
        let refused = run("sasl.oauthbearer.client.secret=wrong");
        assert_eq!(refused.code, Some(AUTH), "{}", refused.stderr);
        assert!(refused.stderr.contains("the issuer refuses with invalid_client"), "{}", refused.stderr);
        issuer.fail(IssuerFault::Redirect("https://elsewhere/"), 9);
        let redirected = run("sasl.oauthbearer.client.secret=env:MILENA_TEST_PASSWORD");
        issuer.recover();
        assert!(redirected.stderr.contains("redirects are not followed"), "{}", redirected.stderr);
        broker.kill();
    }
}
