//! Properties of both dialects that name an issuer.

use milena::Properties;
use milena_broker::JwtKey;

use super::*;

const HEAD: &str = "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n";
const URL: &str = "sasl.oauthbearer.token.endpoint.url";

/// A client with these properties, besides those that say how its world is reached.
async fn connect(world: &World, ca: &str, text: &str) -> Result<Client, Error> {
    let bootstrap = world.cluster.bootstrap();
    let text =
        format!("{HEAD}bootstrap.servers={bootstrap}\nssl.ca.location={ca}\nhttps.ca.location={ca}\n{text}");
    Properties::parse(&text)?.client()?.connect().await
}

#[tokio::test]
async fn java_and_librdkafka_name_the_same_grants() {
    let key = JwtKey::es256().expect("a key");
    let world = World::start(Issuer::builder().client_keys("ec", &key.jwks()).expect("keys")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let ca = at("ca.pem", &world.authority.certificate_pem());
    let (pem, secret) = (at("key.pem", &key.private_pem()), at("secret", &format!("{SECRET}\n")));
    let token = at("token", &world.issuer.token(ID));
    let url = world.issuer.token_url();
    let package = "org.apache.kafka.common.security.oauthbearer";
    let check = async |text: &str, told: &[(&str, &str)]| {
        let client = connect(&world, &ca, text).await.unwrap_or_else(|error| panic!("{error} with {text}"));
        ask(&client).await.expect("answered");
        for (name, value) in told {
            assert_eq!(world.told(name).as_deref(), Some(*value), "{name} with {text}");
        }
    };
    let of_java = format!(
        "{URL}={url}\nsasl.login.callback.handler.class={package}.OAuthBearerLoginCallbackHandler\nsasl.jaas.config=\
         {package}.OAuthBearerLoginModule required clientId=\"{ID}\" clientSecret=\"file:{secret}\" scope=\"a b\" \
         extension_traceId=\"x\";\nsasl.login.connect.timeout.ms=5000\nsasl.login.retry.backoff.ms=50"
    );
    check(&of_java, &[("grant_type", "client_credentials"), ("scope", "a b")]).await;
    let of_java_4 = format!(
        "{URL}={url}\nsasl.oauthbearer.jwt.retriever.class={package}.ClientCredentialsJwtRetriever\n\
         sasl.oauthbearer.client.credentials.client.id={ID}\nsasl.oauthbearer.client.credentials.client.secret={SECRET}\n\
         sasl.oauthbearer.header.urlencode=true\nsasl.oauthbearer.scope=c"
    );
    check(&of_java_4, &[("grant_type", "client_credentials"), ("scope", "c")]).await;
    let of_librdkafka = format!(
        "{URL}={url}\nsasl.oauthbearer.method=oidc\nsasl.oauthbearer.client.id={ID}\nsasl.oauthbearer.client.secret={SECRET}\n\
         sasl.oauthbearer.extensions=traceId=x,supportFeature=y"
    );
    check(&of_librdkafka, &[("grant_type", "client_credentials")]).await;
    let assertion = format!(
        "sasl.oauthbearer.assertion.algorithm=ES256\nsasl.oauthbearer.assertion.claim.iss=ec\n\
         sasl.oauthbearer.assertion.claim.sub=ec\nsasl.oauthbearer.assertion.claim.aud={url}\n\
         sasl.oauthbearer.assertion.claim.jti.include=true\nsasl.oauthbearer.assertion.private.key.file={pem}\n"
    );
    let bearer = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    check(
        &format!(
            "{URL}={url}\nsasl.oauthbearer.jwt.retriever.class={package}.JwtBearerJwtRetriever\n{assertion}"
        ),
        &[("grant_type", bearer)],
    )
    .await;
    check(
        &format!(
            "{URL}={url}\nsasl.oauthbearer.method=oidc\nsasl.oauthbearer.grant.type={bearer}\n{assertion}"
        ),
        &[("grant_type", bearer)],
    )
    .await;
    // KIP-1258: an assertion goes before a secret.
    check(
        &format!("{URL}={url}\nsasl.oauthbearer.client.credentials.client.secret=wrong\n{assertion}"),
        &[("grant_type", "client_credentials")],
    )
    .await;
    let before = world.issuer.requests();
    check(&format!("{URL}=file://{token}"), &[]).await;
    check(
        &format!("{URL}=file:{token}\nsasl.oauthbearer.jwt.retriever.class={package}.FileJwtRetriever"),
        &[],
    )
    .await;
    assert_eq!(world.issuer.requests(), before, "a token from a file needs no issuer");
}

#[test]
fn what_is_missing_or_has_no_effect_is_named() {
    let check = |text: &str, expected: &str| {
        let error = Properties::parse(&format!("{HEAD}{text}")).and_then(|properties| properties.client());
        let text = error.map(drop).expect_err(text).to_string();
        assert!(text.contains(expected) && !text.contains("hunter2"), "{text}");
    };
    let url = format!("{URL}=https://issuer.test/token\n");
    let id = "sasl.oauthbearer.client.id=me\n";
    let secret = "sasl.oauthbearer.client.secret=hunter2\n";
    let key = "sasl.oauthbearer.assertion.private.key.file=/key.pem\n";
    check("", "name an issuer (sasl.oauthbearer.token.endpoint.url)");
    check("sasl.oauthbearer.method=oidc\n", "sasl.oauthbearer.token.endpoint.url is missing");
    check(id, "sasl.oauthbearer.token.endpoint.url is missing");
    check(&url, "sasl.oauthbearer.client.credentials.client.id is missing, or clientId in sasl.jaas.config");
    check(&format!("{url}{id}"), "sasl.oauthbearer.client.credentials.client.secret is missing");
    check(&format!("{URL}=http://issuer.test/token\n{id}{secret}"), "use https");
    check(&format!("{URL}=http://localhost:1/token\n{id}{secret}"), "http to this machine must be allowed");
    check(&format!("{URL}=token\n{id}{secret}"), "it is no URL: write https://HOST/PATH");
    check(&format!("{URL}=file:token\n"), "is not file:///PATH with an absolute path");
    check(
        &format!("{URL}=file:///token\n{secret}"),
        "sasl.oauthbearer.client.credentials.client.secret has no effect with tokens from a file",
    );
    check(
        &format!("{url}{id}{secret}sasl.oauthbearer.assertion.claim.iss=me\n"),
        "sasl.oauthbearer.assertion.claim.iss has no effect with the grant client_credentials",
    );
    let bearer = "sasl.oauthbearer.jwt.retriever.class=a.JwtBearerJwtRetriever\n";
    check(&format!("{url}{bearer}"), "the grant JWT bearer needs sasl.oauthbearer.assertion.file or");
    check(
        &format!("{url}{bearer}{key}{secret}"),
        "sasl.oauthbearer.client.credentials.client.secret has no effect with the grant JWT bearer",
    );
    check(
        &format!("{url}{bearer}{key}sasl.oauthbearer.grant.type=client_credentials\n"),
        "sasl.oauthbearer.jwt.retriever.class and sasl.oauthbearer.grant.type contradict each other",
    );
    check(
        &format!("{url}{id}{secret}sasl.oauthbearer.jwt.retriever.class=my.Retriever\n"),
        "names a Java class, which Milena cannot run",
    );
    check(
        &format!("{url}{key}sasl.oauthbearer.assertion.algorithm=PS256\n"),
        "\"PS256\" is not one of RS256, ES256",
    );
    check(
        &format!("{url}{key}sasl.oauthbearer.assertion.claim.exp.seconds=soon\n"),
        "is not a number from 0 on",
    );
    check(
        &format!("{url}{id}{secret}enable.sasl.oauthbearer.unsecure.jwt=true\n"),
        "an issuer is named, and",
    );
    check(&format!("{url}{id}{secret}sasl.oauthbearer.jwks.endpoint.url=https://x\n"), "it is for brokers");
    check(
        &format!("{url}{id}{secret}sasl.jaas.config=OAuthBearerLoginModule required clientId=\"a\";\n"),
        "sasl.oauthbearer.client.credentials.client.id is given, and so is clientId in sasl.jaas.config",
    );
    let text = format!("security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\n{url}");
    let error =
        Properties::parse(&text).and_then(|properties| properties.client()).map(drop).expect_err("refused");
    assert!(
        error.to_string().contains("sasl.oauthbearer.* is for OAUTHBEARER, and PLAIN is chosen"),
        "{error}"
    );
}

#[test]
fn the_last_value_of_a_name_counts() {
    let text = format!(
        "{HEAD}{URL}=file:relative\n{URL}=https://issuer.test/token\nsasl.oauthbearer.client.id=me\n\
         sasl.oauthbearer.client.secret=command:/no/such/program\nsasl.oauthbearer.client.secret=x\n"
    );
    Properties::parse(&text).and_then(|properties| properties.client()).map(drop).expect("built");
}

#[test]
fn a_program_can_say_which_endpoints_properties_may_name() {
    let check = |url: &str, allowed: &[&str], expected: bool| {
        let text =
            format!("{HEAD}{URL}={url}\nsasl.oauthbearer.client.id=me\nsasl.oauthbearer.client.secret=x\n");
        let mut properties = Properties::parse(&text).expect("read");
        properties.allow_token_endpoints(allowed.iter().copied());
        let built = properties.client().map(drop);
        assert_eq!(built.is_ok(), expected, "{url} of {allowed:?}: {built:?}");
        if let Err(error) = built {
            assert!(error.to_string().contains("Properties::allow_token_endpoints"), "{error}");
        }
    };
    check("https://issuer.test/token", &["https://a/", "HTTPS://issuer.test:443/token"], true);
    check("https://issuer.test/token", &["https://issuer.test/"], false);
    check("https://issuer.test/token", &[], false);
    check("file:///etc/passwd", &["https://issuer.test/token"], false);
}
