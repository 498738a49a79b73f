//! ACLs, users of SCRAM, quotas and delegation tokens on real Kafka, new and old: what Milena's admin calls make is what Kafka's own
//! tools show, and the reverse; and refusals name the right that is missing.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use milena::{
    Acl, AclFilter, AclOperation, AclResource, Admin, Client, Error, ErrorCode, ErrorKind,
    NewDelegationToken, NewTopic, OffsetAt, PatternFilter, Position, QuotaChange, QuotaEntity, QuotaFilter,
    Record, Sasl, ScramChange, ScramCredential, ScramMechanism,
};
use milena_interop::real;
use tokio::time::timeout;
use xtask::kafka::{Cluster, NEWEST, Tool};

const PATIENCE: Duration = Duration::from_secs(60);

/// An authorizer to which only clients in plain text are super users, and a key for delegation tokens.
const SETTINGS: [&str; 4] = [
    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users=User:ANONYMOUS",
    "delegation.token.secret.key=a-secret-of-the-test",
    "delegation.token.expiry.check.interval.ms=100",
];

/// What one of Kafka's tools says.
fn says(kafka: &Cluster, tool: Tool, args: &str) -> String {
    let words: Vec<&str> = args.split_whitespace().collect();
    let output = kafka.tool(tool, &words, None).unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool:?} {args}: {text}");
    text.into_owned()
}

/// Asks until the answer is as expected: brokers learn of a change one after another.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn log_in(kafka: &Cluster, sasl: Sasl) -> Result<Client, Error> {
    Client::builder().bootstrap(&kafka.sasl_bootstrap()).sasl(sasl).connect().await
}

async fn acls(kafka: &Cluster, admin: &Admin) {
    let ours = [
        Acl::allow("User:alice", AclOperation::Read, AclResource::topic("orders")),
        Acl::deny("User:bob", AclOperation::AlterConfigs, AclResource::topic("ord").prefixed())
            .host("10.0.0.7"),
        Acl::allow("User:alice", AclOperation::Describe, AclResource::cluster()),
        Acl::allow("User:alice", AclOperation::Write, AclResource::transactional_id("t")),
        Acl::allow("User:alice", AclOperation::Describe, AclResource::delegation_token("x")),
        Acl::allow("User:alice", AclOperation::CreateTokens, AclResource::user("User:bob")),
    ];
    for (_, created) in admin.create_acls(ours.clone()).await.unwrap() {
        created.unwrap();
    }
    let theirs = says(kafka, Tool::Acls, "--list");
    for expected in [
        "resourceType=TOPIC, name=orders, patternType=LITERAL",
        "(principal=User:alice, host=*, operation=READ, permissionType=ALLOW)",
        "resourceType=TOPIC, name=ord, patternType=PREFIXED",
        "(principal=User:bob, host=10.0.0.7, operation=ALTER_CONFIGS, permissionType=DENY)",
        "resourceType=CLUSTER, name=kafka-cluster, patternType=LITERAL",
        "resourceType=TRANSACTIONAL_ID, name=t, patternType=LITERAL",
        "resourceType=DELEGATION_TOKEN, name=x, patternType=LITERAL",
        "resourceType=USER, name=User:bob, patternType=LITERAL",
        "operation=CREATE_TOKENS",
    ] {
        assert!(theirs.contains(expected), "{expected} is not in\n{theirs}");
    }
    says(kafka, Tool::Acls, "--add --allow-principal User:carol --consumer --topic shop --group shop");
    let carols = AclFilter::all().principal("User:carol");
    let found = until("carol's ACLs", async || {
        let found = admin.describe_acls(&carols).await.unwrap();
        Some(found).filter(|found| found.len() == 3)
    });
    let found: Vec<String> = found.await.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "allow User:carol from * Read on topic \"shop\"",
            "allow User:carol from * Describe on topic \"shop\"",
            "allow User:carol from * Read on group \"shop\"",
        ]
    );
    let of_orders = AclFilter::all().name("orders").pattern(PatternFilter::Match);
    assert_eq!(admin.describe_acls(&of_orders).await.unwrap().len(), 2, "by name and by prefix");
    let wrong = Acl::allow("alice", AclOperation::Read, AclResource::topic("orders"));
    let results = admin.create_acls([ours[0].clone(), wrong]).await.unwrap();
    assert!(results[0].1.is_ok(), "{results:?}");
    assert_eq!(results[1].1.as_ref().unwrap_err().code(), Some(ErrorCode::INVALID_REQUEST));

    let filters = [carols, AclFilter::one(&ours[1]), AclFilter::all().principal("User:nobody")];
    let deleted = admin.delete_acls(filters).await.unwrap();
    let counts: Vec<_> = deleted.iter().map(|of_filter| of_filter.as_ref().unwrap().len()).collect();
    assert_eq!(counts, [3, 1, 0]);
    assert!(!says(kafka, Tool::Acls, "--list").contains("User:carol"));
    for deleted in admin.delete_acls([AclFilter::all()]).await.unwrap() {
        assert_eq!(deleted.unwrap().len(), ours.len() - 1);
    }
    until("no ACLs", async || admin.describe_acls(&AclFilter::all()).await.unwrap().is_empty().then_some(()))
        .await;
}

async fn users(kafka: &Cluster, admin: &Admin) {
    let set = [
        ScramChange::set("bob", ScramMechanism::Sha256, "hunter2").iterations(4096),
        ScramChange::set("bob", ScramMechanism::Sha512, "hunter3"),
        ScramChange::delete("nobody", ScramMechanism::Sha256),
    ];
    let results = admin.alter_scram_users(set).await;
    assert!(results[0].1.is_ok() && results[1].1.is_ok(), "{results:?}");
    assert_eq!(results[2].1.as_ref().unwrap_err().code(), Some(ErrorCode::RESOURCE_NOT_FOUND));
    until("bob's passwords", async || {
        let one = log_in(kafka, Sasl::scram_sha_256("bob", "hunter2")).await;
        let other = log_in(kafka, Sasl::scram_sha_512("bob", "hunter3")).await;
        one.and(other).ok()
    })
    .await;
    let theirs = says(kafka, Tool::Configs, "--describe --entity-type users --entity-name bob");
    assert!(
        theirs.contains("SCRAM-SHA-256=iterations=4096") && theirs.contains("SCRAM-SHA-512=iterations=16384"),
        "{theirs}"
    );
    let config = "--alter --entity-type users --entity-name dave --add-config SCRAM-SHA-256=[iterations=8192,password=hunter4]";
    says(kafka, Tool::Configs, config);
    until("dave", async || log_in(kafka, Sasl::scram_sha_256("dave", "hunter4")).await.ok()).await;
    let of_dave = [ScramCredential { mechanism: ScramMechanism::Sha256, iterations: 8192 }];
    let mut described = admin.describe_scram_users(["dave", "nobody"]).await;
    assert_eq!(described.pop().unwrap().1.unwrap_err().code(), Some(ErrorCode::RESOURCE_NOT_FOUND));
    assert_eq!(described.pop().unwrap().1.unwrap(), of_dave);
    let gone = admin.alter_scram_users([ScramChange::delete("dave", ScramMechanism::Sha256)]).await;
    gone.into_iter().for_each(|(_, gone)| gone.unwrap());
    until("dave is gone", async || {
        let names = admin.list_scram_users().await.unwrap().into_iter().map(|(user, _)| user);
        names.eq(["alice", "bob"]).then_some(())
    })
    .await;
}

async fn quotas(kafka: &Cluster, admin: &Admin) {
    let bob = QuotaEntity::new().user("bob");
    let pair = QuotaEntity::new().user("bob").default_client_id();
    let changes = [
        (bob.clone(), vec![QuotaChange::set("producer_byte_rate", 1_048_576.0)]),
        (pair.clone(), vec![QuotaChange::set("request_percentage", 12.5)]),
        (QuotaEntity::new().default_ip(), vec![QuotaChange::set("connection_creation_rate", 1000.0)]),
        (QuotaEntity::new().user("carol"), vec![QuotaChange::set("no_such_quota", 1.0)]),
    ];
    let results = admin.alter_quotas(changes.clone()).await;
    let codes: Vec<_> =
        results.iter().map(|(_, altered)| altered.as_ref().err().and_then(Error::code)).collect();
    assert_eq!(codes, [None, None, None, Some(ErrorCode::INVALID_REQUEST)], "{results:?}");
    let asked = admin
        .validate_quotas([(QuotaEntity::new().user("x"), [QuotaChange::set("consumer_byte_rate", 1.0)])])
        .await;
    asked.into_iter().for_each(|(_, good)| good.unwrap());

    let theirs = says(kafka, Tool::Configs, "--describe --entity-type users --entity-name bob");
    assert!(theirs.contains("producer_byte_rate=1048576.0"), "{theirs}");
    let theirs = says(
        kafka,
        Tool::Configs,
        "--describe --entity-type users --entity-name bob --entity-type clients --entity-default",
    );
    assert!(theirs.contains("request_percentage=12.5"), "{theirs}");

    says(
        kafka,
        Tool::Configs,
        "--alter --entity-type clients --entity-name shop --add-config consumer_byte_rate=2048",
    );
    let listed = async |filter: QuotaFilter| {
        let quotas = admin.describe_quotas(&filter).await.unwrap();
        quotas.into_iter().map(|of| (of.entity, of.quotas)).collect::<BTreeMap<_, _>>()
    };
    let quota = |name: &str, value| BTreeMap::from([(name.to_owned(), value)]);
    let shop = QuotaEntity::new().client_id("shop");
    until("shop's quota", async || listed(QuotaFilter::all()).await.contains_key(&shop).then_some(())).await;
    let all = listed(QuotaFilter::all()).await;
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!(all[&shop], quota("consumer_byte_rate", 2048.0));
    assert_eq!(listed(QuotaFilter::all().user("bob")).await.len(), 2, "alone and with a client id");
    let strict = listed(QuotaFilter::all().user("bob").strict()).await;
    assert_eq!(strict, BTreeMap::from([(bob.clone(), quota("producer_byte_rate", 1_048_576.0))]));
    let both = QuotaFilter::all().any_user().default_client_id();
    assert_eq!(listed(both).await, BTreeMap::from([(pair, quota("request_percentage", 12.5))]));
    assert_eq!(listed(QuotaFilter::all().default_ip()).await.len(), 1);
    assert_eq!(listed(QuotaFilter::all().default_user()).await.len(), 0);
    for (_, altered) in admin.alter_quotas([(bob, [QuotaChange::remove("producer_byte_rate")])]).await {
        altered.unwrap();
    }
    until("bob's quota is gone", async || {
        listed(QuotaFilter::all().user("bob").strict()).await.is_empty().then_some(())
    })
    .await;
}

async fn tokens(kafka: &Cluster, plain: &Admin) {
    let refused = plain.create_delegation_token(NewDelegationToken::new()).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED));
    let client = log_in(kafka, Sasl::scram_sha_256("alice", "pencil")).await.unwrap();
    let admin = client.admin();
    let wanted = NewDelegationToken::new().renewer("User:scheduler").max_lifetime(Duration::from_secs(3600));
    let token = admin.create_delegation_token(wanted).await.unwrap();
    assert_eq!((token.owner.as_str(), token.requester.as_deref()), ("User:alice", Some("User:alice")));
    assert_eq!(token.max_ms - token.issued_ms, 3_600_000);
    let session = until("a login with the token", async || {
        let old = log_in(kafka, Sasl::scram_sha_256_from(token.login())).await;
        old.and(log_in(kafka, Sasl::scram_sha_512_from(token.login())).await).ok()
    })
    .await;
    let refused = session.admin().create_delegation_token(NewDelegationToken::new()).await.unwrap_err();
    assert_eq!(
        refused.code(),
        Some(ErrorCode::DELEGATION_TOKEN_REQUEST_NOT_ALLOWED),
        "a token begets no token"
    );

    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(
        file,
        "security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-256\nsasl.jaas.config=\
         org.apache.kafka.common.security.scram.ScramLoginModule required username=\"alice\" password=\"pencil\";"
    )
    .unwrap();
    let args = format!("--describe --owner-principal User:alice --command-config {}", file.path().display());
    let words: Vec<&str> = args.split_whitespace().collect();
    let output = Tool::DelegationTokens.run(kafka.version(), &kafka.sasl_bootstrap(), &words, None).unwrap();
    let theirs = String::from_utf8_lossy(&output.stdout);
    let hmac = String::from_utf8(token.password().expose().to_vec()).unwrap();
    assert!(theirs.contains(&token.token_id) && theirs.contains(&hmac), "{theirs}");
    assert!(theirs.contains("User:scheduler"), "{theirs}");

    let listed =
        until("the token", async || admin.describe_delegation_tokens(["User:alice"]).await.unwrap().pop())
            .await;
    assert_eq!(listed, token, "what is listed is what was created");
    assert_eq!(admin.describe_delegation_tokens(["User:bob"]).await.unwrap(), []);
    let ends = admin.renew_delegation_token(&token.hmac, Some(Duration::from_secs(60))).await.unwrap();
    assert!(ends < token.expires_ms, "{ends}");
    let other = milena::Secret::from("no hmac");
    let unknown = admin.renew_delegation_token(&other, None).await.unwrap_err();
    assert_eq!(unknown.code(), Some(ErrorCode::DELEGATION_TOKEN_NOT_FOUND));
    admin.expire_delegation_token(&token.hmac, None).await.unwrap();
    until("the token is gone", async || {
        admin.describe_delegation_tokens([""; 0]).await.unwrap().is_empty().then_some(())
    })
    .await;
    let ended = until("nobody logs in with it", async || {
        log_in(kafka, Sasl::scram_sha_256_from(token.login())).await.err()
    });
    assert!(ended.await.to_string().contains(&format!("the delegation token {:?}", token.token_id)));
}

/// What a principal is told that may do nothing.
async fn refusals(kafka: &Cluster, admin: &Admin) {
    admin.create_topic(NewTopic::new("locked").partitions(1)).await.unwrap();
    let seen = Acl::allow("User:alice", AclOperation::Describe, AclResource::topic("locked"));
    admin.create_acls([seen]).await.unwrap().remove(0).1.unwrap();
    let client = log_in(kafka, Sasl::scram_sha_256("alice", "pencil")).await.unwrap();
    until("the topic", async || {
        let offsets = client.admin().list_offsets([("locked", 0)], OffsetAt::Latest).await;
        offsets.ok().filter(|offsets| offsets[0].1.is_ok()).map(drop)
    })
    .await;
    let check = |error: Error, needs: &str| {
        assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
        assert!(!error.is_retriable(), "{error}");
        let expected = format!("; an administrator must grant User:alice {needs}");
        assert!(error.to_string().ends_with(&expected), "{error}");
    };
    let soon = Duration::from_secs(10);
    let send = async || {
        let producer = client.producer().build().await?;
        producer.send(Record::to("locked").value("x")).await
    };
    let sent = timeout(soon, send()).await.expect("soon");
    check(sent.unwrap_err(), "Write on a topic, or IdempotentWrite on the cluster before Kafka 2.8");
    let elsewhere = Acl::allow("User:alice", AclOperation::Write, AclResource::topic("elsewhere"));
    admin.create_acls([elsewhere]).await.unwrap().remove(0).1.unwrap();
    let error = until("the right to write elsewhere", async || {
        let error = timeout(soon, send()).await.expect("soon").unwrap_err();
        Some(error).filter(|error| error.code() == Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED))
    });
    check(error.await, "Write on topic \"locked\"");
    let mut reader =
        client.consumer_direct().assign([("locked", 0)], Position::Earliest).build().await.unwrap();
    check(timeout(soon, reader.next()).await.expect("soon").unwrap_err(), "Read on topic \"locked\"");
    let mut member = client.consumer("billing").subscribe(["locked"]).build().await.unwrap();
    check(timeout(soon, member.next()).await.expect("soon").unwrap_err(), "Read on group \"billing\"");
    let made = client.admin().create_topic(NewTopic::new("other")).await;
    check(made.unwrap_err(), "Create on the topic");
    check(client.admin().describe_acls(&AclFilter::all()).await.unwrap_err(), "Describe on the cluster");
    let deleted = client.admin().delete_topics(["locked"]).await.unwrap().remove(0).1;
    check(deleted.unwrap_err(), "Delete on the topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_admin_calls_make_is_what_kafkas_tools_show() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
    }
    for version in [NEWEST, real::OLD] {
        let kafka = Cluster::start_with(1, version, &SETTINGS.map(str::to_owned)).expect("started");
        let client = Client::connect(&kafka.bootstrap()).await.unwrap();
        let admin = client.admin();
        Box::pin(acls(&kafka, &admin)).await;
        Box::pin(users(&kafka, &admin)).await;
        Box::pin(quotas(&kafka, &admin)).await;
        Box::pin(tokens(&kafka, &admin)).await;
        Box::pin(refusals(&kafka, &admin)).await;
    }
}
