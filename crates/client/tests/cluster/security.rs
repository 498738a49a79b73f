//! Admin calls about who may do what: ACLs and users of SCRAM. Each result is its own, and secrets are shown nowhere.

use milena::{
    Acl, AclFilter, AclOperation, AclPermission, AclResource, Client, ErrorCode, NewDelegationToken,
    PatternFilter, PatternType, QuotaChange, QuotaEntity, QuotaFilter, ResourceType, Sasl, ScramChange,
    ScramCredential, ScramMechanism, Secret,
};
use milena_broker::{Authorizer, Broker, Cluster, Listener};

use super::*;

/// A cluster with an authorizer, on which only `admin` may do anything yet.
pub(crate) async fn guarded() -> Cluster {
    let broker = Broker::builder().nodes(2).listener(Listener::sasl_plaintext());
    let broker = broker.user("admin", "secret").user("alice", "pencil");
    let authorizer = Authorizer::new().super_user("User:admin");
    broker.authorizer(authorizer).start().await.expect("started")
}

pub(crate) async fn log_in(cluster: &Cluster, user: &str, password: &str) -> Result<Client, Error> {
    let sasl = Sasl::scram_sha_256(user, password);
    Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect().await
}

#[tokio::test]
async fn acls_are_created_described_and_deleted_each_with_its_own_result() {
    let cluster = guarded().await;
    let admin = log_in(&cluster, "admin", "secret").await.expect("connected").admin();
    let orders = AclResource::topic("orders");
    let wanted = [
        Acl::allow("User:alice", AclOperation::Read, orders.clone()),
        Acl::allow("alice", AclOperation::Read, orders.clone()),
        Acl::deny("User:*", AclOperation::Write, AclResource::topic("ord").prefixed()).host("10.0.0.7"),
        Acl::allow("User:alice", AclOperation::Describe, AclResource::cluster()),
        Acl::allow("User:alice", AclOperation::Read, AclResource::group("*")),
    ];
    let created = admin.create_acls(wanted.clone()).await.expect("asked");
    assert!(created.iter().map(|(acl, _)| acl).eq(&wanted), "in the order given");
    let errors: Vec<_> = created.iter().filter_map(|(_, created)| created.as_ref().err()).collect();
    let [error] = errors[..] else { panic!("{errors:?}") };
    assert_eq!(error.code(), Some(ErrorCode::INVALID_REQUEST));
    assert!(error.to_string().starts_with("creating the ACL allow alice from * Read on topic \"orders\": "));

    let listed = async |filter: AclFilter| admin.describe_acls(&filter).await.expect("listed");
    let mut expected = wanted.to_vec();
    expected.remove(1);
    expected.sort();
    assert_eq!(listed(AclFilter::all()).await, expected);
    let count = async |filter: AclFilter| listed(filter).await.len();
    let all = AclFilter::all;
    assert_eq!(count(all().name("orders")).await, 1);
    let of_orders = all().name("orders").pattern(PatternFilter::Match);
    assert_eq!(count(of_orders.clone()).await, 3, "and its prefix, and every group");
    assert_eq!(count(of_orders.resource_type(ResourceType::Topic)).await, 2);
    assert_eq!(count(all().pattern(PatternFilter::Prefixed)).await, 1);
    assert_eq!(count(all().name("ord").pattern(PatternFilter::Literal)).await, 0);
    assert_eq!(count(all().name("billing").pattern(PatternFilter::Match)).await, 1, "the group *");
    assert_eq!(count(all().resource_type(ResourceType::Cluster)).await, 1);
    assert_eq!(count(all().principal("User:alice")).await, 3);
    assert_eq!(count(all().host("10.0.0.7")).await, 1);
    assert_eq!(count(all().operation(AclOperation::Read)).await, 2);
    assert_eq!(count(all().permission(AclPermission::Deny)).await, 1);
    assert_eq!(listed(AclFilter::one(&wanted[2])).await, [wanted[2].clone()]);
    assert_eq!(wanted[2].resource.pattern, PatternType::Prefixed);

    let filters =
        [all().principal("User:bob"), all().permission(AclPermission::Deny), AclFilter::one(&wanted[0])];
    let deleted = admin.delete_acls(filters).await.expect("asked");
    let deleted = deleted.into_iter().map(|of_filter| {
        let of_filter = of_filter.expect("a filter that is right").into_iter();
        of_filter.map(|(acl, deleted)| deleted.map(|()| acl).expect("deleted")).collect::<Vec<_>>()
    });
    let deleted: Vec<_> = deleted.collect();
    assert_eq!(deleted, [vec![], vec![wanted[2].clone()], vec![wanted[0].clone()]]);
    assert_eq!(count(all()).await, 2);
    assert!(admin.create_acls([]).await.expect("nothing").is_empty());
    assert!(admin.delete_acls([]).await.expect("nothing").is_empty());
}

#[tokio::test]
async fn acls_without_an_authorizer_are_refused_with_advice() {
    let (_cluster, client) = start(1, &[]).await;
    let error = client.admin().describe_acls(&AclFilter::all()).await.expect_err("refused");
    assert_eq!(
        error.to_string(),
        "listing ACLs: SECURITY_DISABLED: No Authorizer is configured; ACLs need an authorizer: set authorizer.class.name \
         on the brokers and controllers"
    );
    let acl = Acl::allow("User:a", AclOperation::Read, AclResource::topic("t"));
    let (_, created) = client.admin().create_acls([acl]).await.expect("asked").remove(0);
    assert_eq!(created.expect_err("refused").code(), Some(ErrorCode::SECURITY_DISABLED));
    let deleted = client.admin().delete_acls([AclFilter::all()]).await.expect("asked").remove(0);
    assert_eq!(deleted.expect_err("refused").code(), Some(ErrorCode::SECURITY_DISABLED));
}

#[tokio::test]
async fn users_are_created_changed_and_deleted_each_with_its_own_result() {
    let cluster = guarded().await;
    let admin = log_in(&cluster, "admin", "secret").await.expect("connected").admin();
    let changes = [
        ScramChange::set("bob", ScramMechanism::Sha256, "hunter2").iterations(4096),
        ScramChange::set("bob", ScramMechanism::Sha512, "hunter3"),
        ScramChange::set("carol", ScramMechanism::Sha256, "hunter4").iterations(5),
        ScramChange::delete("nobody", ScramMechanism::Sha256),
        ScramChange::set("dave", ScramMechanism::Sha256, ""),
        ScramChange::set("erin", ScramMechanism::Sha256, "hunter5").iterations(2_000_000),
    ];
    let altered = admin.alter_scram_users(changes).await;
    let told: Vec<_> = altered
        .iter()
        .map(|(user, altered)| match altered {
            Ok(()) => format!("{user}: done"),
            Err(error) => format!("{user}: {error}"),
        })
        .collect();
    let expected = [
        "bob: done",
        "bob: done",
        "carol: setting the password of user \"carol\" for SCRAM-SHA-256: UNACCEPTABLE_CREDENTIAL: Too few iterations",
        "nobody: deleting the password of user \"nobody\" for SCRAM-SHA-256: RESOURCE_NOT_FOUND: Attempt to delete a user \
         credential that does not exist",
        "dave: setting the password of user \"dave\" for SCRAM-SHA-256: the password of user \"dave\" is empty",
        "erin: setting the password of user \"erin\" for SCRAM-SHA-256: the iterations are not 1 to 1000000; Kafka accepts \
         4096 to 16384",
    ];
    assert_eq!(told, expected);
    log_in(&cluster, "bob", "hunter2").await.expect("the password is right");
    let other = Sasl::scram_sha_512("bob", "hunter3");
    let builder = Client::builder().bootstrap(cluster.bootstrap());
    builder.sasl(other).connect().await.expect("the other mechanism has a password of its own");

    let described = admin.describe_scram_users(["bob", "mallory", "bob"]).await;
    let of_bob = [
        ScramCredential { mechanism: ScramMechanism::Sha256, iterations: 4096 },
        ScramCredential { mechanism: ScramMechanism::Sha512, iterations: 16_384 },
    ];
    assert_eq!(described[0].1.as_ref().expect("there"), &of_bob);
    assert_eq!(described[1].1.as_ref().expect_err("unknown").code(), Some(ErrorCode::RESOURCE_NOT_FOUND));
    assert_eq!(described[2].1.as_ref().expect("there"), &of_bob);
    assert!(admin.describe_scram_users([""; 0]).await.is_empty(), "not all users");
    let names = async || {
        let listed = admin.list_scram_users().await.expect("listed");
        listed.into_iter().map(|(user, _)| user).collect::<Vec<_>>()
    };
    assert_eq!(names().await, ["admin", "alice", "bob"]);
    let both = [ScramMechanism::Sha256, ScramMechanism::Sha512].map(|of| ScramChange::delete("bob", of));
    for (_, deleted) in admin.alter_scram_users(both).await {
        deleted.expect("deleted");
    }
    assert_eq!(names().await, ["admin", "alice"]);
    assert!(log_in(&cluster, "bob", "hunter2").await.expect_err("gone").is_authentication());
}

#[tokio::test]
async fn quotas_are_set_described_and_taken_away_each_with_its_own_result() {
    let (_cluster, client) = start(2, &[]).await;
    let admin = client.admin();
    let entity = QuotaEntity::new;
    let (bob, pair) = (entity().user("bob"), entity().user("bob").default_client_id());
    let changes = [
        (
            bob.clone(),
            vec![QuotaChange::set("producer_byte_rate", 1e6), QuotaChange::set("consumer_byte_rate", 2e6)],
        ),
        (pair.clone(), vec![QuotaChange::set("request_percentage", 12.5)]),
        (entity().default_ip(), vec![QuotaChange::set("connection_creation_rate", 1000.0)]),
        (entity().user("carol"), vec![QuotaChange::set("no_such_quota", 1.0)]),
        (entity(), vec![QuotaChange::set("producer_byte_rate", 1.0)]),
    ];
    let wanted: Vec<_> = changes.iter().map(|(entity, _)| entity.clone()).collect();
    let asked = admin.validate_quotas(changes.clone()).await;
    let altered = admin.alter_quotas(changes).await;
    for results in [asked, altered] {
        assert!(results.iter().map(|(entity, _)| entity).eq(&wanted), "in the order given");
        let codes: Vec<_> =
            results.iter().map(|(_, done)| done.as_ref().err().and_then(Error::code)).collect();
        let invalid = Some(ErrorCode::INVALID_REQUEST);
        assert_eq!(codes, [None, None, None, invalid, invalid], "{results:?}");
        let text = results[3].1.as_ref().expect_err("no such quota").to_string();
        assert!(text.starts_with("changing the quotas of user \"carol\": INVALID_REQUEST: "), "{text}");
    }
    let entities = async |filter: QuotaFilter| {
        let described = admin.describe_quotas(&filter).await.expect("described");
        described.into_iter().map(|of| of.entity).collect::<Vec<_>>()
    };
    let all = QuotaFilter::all;
    assert_eq!(entities(all()).await.len(), 3);
    assert_eq!(entities(all().user("bob")).await.len(), 2);
    assert_eq!(entities(all().user("bob").strict()).await, std::slice::from_ref(&bob));
    assert_eq!(entities(all().any_user().default_client_id()).await, [pair]);
    assert_eq!(entities(all().any_ip()).await, [entity().default_ip()]);
    assert_eq!(entities(all().default_user()).await, []);
    for (_, altered) in admin.alter_quotas([(bob, [QuotaChange::remove("producer_byte_rate")])]).await {
        altered.expect("taken away");
    }
    let left = admin.describe_quotas(&all().user("bob").strict()).await.expect("described").remove(0);
    assert_eq!(left.quotas, BTreeMap::from([("consumer_byte_rate".to_owned(), 2e6)]), "the other one stays");
    let wrong = admin.describe_quotas(&all().user("bob").any_ip()).await;
    assert_eq!(wrong.expect_err("they do not mix").code(), Some(ErrorCode::INVALID_REQUEST));
}

#[tokio::test]
async fn a_delegation_token_logs_in_until_it_is_ended() {
    let broker = Broker::builder().listener(Listener::sasl_plaintext()).user("alice", "pencil");
    let cluster = broker.delegation_token_key("a key").start().await.expect("started");
    let client = log_in(&cluster, "alice", "pencil").await.expect("connected");
    let admin = client.admin();
    let wanted = NewDelegationToken::new().renewer("User:bob").max_lifetime(Duration::from_secs(3600));
    let token = admin.create_delegation_token(wanted).await.expect("created");
    assert_eq!((token.owner.as_str(), token.max_ms - token.issued_ms), ("User:alice", 3_600_000));
    assert_eq!(token.renewers, ["User:bob"]);
    let log_in_with = async || {
        let sasl = Sasl::scram_sha_512_from(token.login());
        Client::builder().bootstrap(cluster.bootstrap()).sasl(sasl).connect().await
    };
    let by_token = log_in_with().await.expect("the token is right").admin();
    let again = by_token.create_delegation_token(NewDelegationToken::new()).await.expect_err("refused");
    assert!(
        again.to_string().ends_with(
            "; tokens are given only to who logged in by SASL or a client certificate, and not by a token"
        ),
        "{again}"
    );
    let listed = admin.describe_delegation_tokens(["User:alice"]).await.expect("listed");
    assert_eq!(listed, std::slice::from_ref(&token), "what is listed is what was created");
    let of = async |owner: &str| admin.describe_delegation_tokens([owner]).await.expect("listed").len();
    assert_eq!((of("User:bob").await, of("User:carol").await), (1, 0), "bob may renew it");
    let ends =
        admin.renew_delegation_token(&token.hmac, Some(Duration::from_secs(60))).await.expect("renewed");
    assert!(ends < token.expires_ms, "{ends}");
    let unknown =
        admin.renew_delegation_token(&Secret::from("no hmac"), None).await.expect_err("no such token");
    assert_eq!(unknown.code(), Some(ErrorCode::DELEGATION_TOKEN_NOT_FOUND));
    for wrong in [NewDelegationToken::new().owner("alice"), NewDelegationToken::new().renewer(":x")] {
        let error = admin.create_delegation_token(wrong).await.expect_err("no principal");
        assert!(error.to_string().contains("as in User:alice") && !error.maybe_written(), "{error}");
    }
    admin.expire_delegation_token(&token.hmac, None).await.expect("ended");
    assert_eq!(admin.describe_delegation_tokens([""; 0]).await.expect("listed"), []);
    let error = log_in_with().await.expect_err("it has ended");
    assert!(error.is_authentication(), "{error}");
    assert!(error.to_string().contains(&format!("the delegation token {:?}", token.token_id)), "{error}");

    let (_keyless, client) = start(1, &[]).await;
    let error = client.admin().describe_delegation_tokens([""; 0]).await.expect_err("no key").to_string();
    assert!(error.contains("DELEGATION_TOKEN_"), "{error}");
}
