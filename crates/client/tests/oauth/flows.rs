//! Each way to a token, with the issuer and the broker over TLS.

use milena::oauth::{Assertion, JwtBearer, RefreshToken, SigningAlgorithm, TokenFile};
use milena::{Obstacle, Secret};
use milena_broker::JwtKey;

use super::*;

#[tokio::test]
async fn client_credentials_log_in_and_say_what_was_asked() {
    let world = World::start(Issuer::builder()).await;
    let tokens =
        world.credentials().scope("read write").parameter("resource", "kafka").extension("traceId", "x");
    let client = world.connect(tokens).await.expect("connected");
    ask(&client).await.expect("answered");
    assert_eq!(world.told("grant_type").as_deref(), Some("client_credentials"));
    assert_eq!(world.told("scope").as_deref(), Some("read write"));
    assert_eq!(world.told("resource").as_deref(), Some("kafka"));
    assert_eq!(world.told("client_secret"), None, "the secret is in the header only");
}

#[tokio::test]
async fn ids_and_secrets_with_any_character_are_understood_if_they_are_encoded() {
    let (id, secret) = ("a:b c%é", "p&=+%41:\u{1f512}");
    let world = World::start(Issuer::builder().client(id, secret)).await;
    let tokens = ClientCredentials::new(world.endpoint(), id, secret);
    world.connect(tokens.clone().header_urlencode(true)).await.expect("connected");
    let error = fails(&tokens).await;
    assert_eq!(
        error.to_string(),
        "the client id has a colon, which needs sasl.oauthbearer.header.urlencode=true"
    );
}

#[tokio::test]
async fn however_many_connections_there_are_one_token_is_fetched() {
    let world = World::start(Issuer::builder()).await;
    world.cluster.create_topic("orders", 12).expect("created");
    let client = world.connect(world.credentials()).await.expect("connected");
    let producer = client.producer().build().await.expect("a producer");
    let mut callers = tokio::task::JoinSet::new();
    for number in 0..50 {
        let (client, producer) = (client.clone(), producer.clone());
        callers.spawn(async move {
            let key = format!("{number}");
            producer.send(milena::Record::to("orders").key(&key).value("x")).await.expect("sent");
            ask(&client).await.expect("answered");
        });
    }
    callers.join_all().await;
    assert_eq!((world.issuer.requests(), world.issuer.issued()), (1, 1));
}

#[tokio::test]
async fn assertions_take_the_place_of_secrets() {
    let (ec, rsa) = (JwtKey::es256().expect("a key"), JwtKey::rs256().expect("a key"));
    let builder = Issuer::builder().client_keys("ec", &ec.jwks()).expect("keys");
    let world = World::start(builder.client_keys("rsa", &rsa.jwks()).expect("keys")).await;
    let signed = |id: &str, key: &JwtKey, algorithm| {
        let assertion = Assertion::signed(key.private_pem()).algorithm(algorithm).issuer(id).subject(id);
        assertion.audience(world.issuer.token_url()).with_jwt_id()
    };
    for (id, key, algorithm) in [("ec", &ec, SigningAlgorithm::Es256), ("rsa", &rsa, SigningAlgorithm::Rs256)]
    {
        let assertion = signed(id, key, algorithm);
        let tokens = ClientCredentials::with_assertion(world.endpoint(), assertion.clone()).client_id(id);
        let client = world.connect(tokens).await.expect("connected");
        ask(&client).await.expect("answered");
        assert_eq!(world.told("client_id").as_deref(), Some(id));
        // The same settings for the other grant, in which each assertion is a new one, too.
        let tokens = JwtBearer::new(world.endpoint(), assertion).scope("kafka");
        world.connect(tokens).await.expect("connected");
        assert_eq!(world.told("grant_type").as_deref(), Some("urn:ietf:params:oauth:grant-type:jwt-bearer"));
    }
    // A key that the issuer does not know, and one that does not suit the algorithm.
    let wrong =
        ClientCredentials::with_assertion(world.endpoint(), signed("ec", &rsa, SigningAlgorithm::Rs256));
    let error = fails(&wrong).await;
    assert_eq!(error.obstacle(), Obstacle::Credentials);
    assert!(error.to_string().contains("the issuer refuses with invalid_client"), "{error}");
    let error = fails(&JwtBearer::new(world.endpoint(), signed("ec", &ec, SigningAlgorithm::Rs256))).await;
    assert_eq!(error.obstacle(), Obstacle::Configuration);
    assert!(error.to_string().ends_with("RS256 needs an RSA key, and the key is another one"), "{error}");
}

#[tokio::test]
async fn an_assertion_may_come_from_a_file_and_from_a_template() {
    let key = JwtKey::es256().expect("a key");
    let world = World::start(Issuer::builder().client_keys("ec", &key.jwks()).expect("keys")).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, pem, template) =
        (folder.path().join("assertion"), folder.path().join("key.pem"), folder.path().join("template.json"));
    std::fs::write(&pem, key.private_pem()).expect("written");
    let claims = serde_json::json!({"iss": "other", "sub": "ec", "aud": ["x", world.issuer.url()], "iat": 0, "tenant": 7});
    let text = serde_json::json!({"header": {"x5t": "thumb"}, "payload": claims}).to_string();
    std::fs::write(&template, text).expect("written");
    let assertion =
        Assertion::signed_by_file(&pem).algorithm(SigningAlgorithm::Es256).template_file(&template);
    let tokens = JwtBearer::new(world.endpoint(), assertion.issuer("ec"));
    world.connect(tokens).await.expect("connected");
    let made = world.told("assertion").expect("told");
    let parts: Vec<_> = made.split('.').map(decoded).collect();
    assert!(parts[0].contains("\"x5t\":\"thumb\"") && parts[0].contains("\"alg\":\"ES256\""), "{}", parts[0]);
    assert!(parts[1].contains("\"tenant\":7") && parts[1].contains("\"iss\":\"ec\""), "{}", parts[1]);
    assert!(!parts[1].contains("\"iat\":0,"), "the times are those of now: {}", parts[1]);

    // The file is read again each time.
    let tokens = ClientCredentials::with_assertion(world.endpoint(), Assertion::from_file(&file));
    let error = fails(&tokens).await;
    assert!(error.to_string().starts_with("reading the assertion from "), "{error}");
    let seconds =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later").as_secs();
    let claims =
        serde_json::json!({"iss": "ec", "sub": "ec", "aud": world.issuer.url(), "exp": seconds + 60});
    std::fs::write(&file, key.sign(&serde_json::json!({}), &claims) + "\n").expect("written");
    world.connect(tokens).await.expect("connected");

    for (text, expected) in [
        ("[]", "it is not an object of JSON"),
        ("{\"header\": 1}", "its header and payload must be objects of JSON"),
        ("{\"claims\": {}}", "it has other members than header and payload"),
    ] {
        std::fs::write(&template, text).expect("written");
        let assertion =
            Assertion::signed_by_file(&pem).algorithm(SigningAlgorithm::Es256).template_file(&template);
        let error = assertion.check().expect_err("refused");
        assert_eq!(error.to_string(), format!("the template {}: {expected}", template.display()));
    }
}

/// A part of a token as text. The order of its members is that of their names.
fn decoded(part: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = part.bytes().map(|byte| ALPHABET.iter().position(|known| *known == byte).unwrap_or(0));
    let mut bytes = Vec::new();
    let (mut gathered, mut count) = (0usize, 0);
    for six in bits.by_ref() {
        (gathered, count) = (gathered << 6 | six, count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((gathered >> count) as u8);
            gathered &= (1 << count) - 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn private_keys_are_read_in_every_form() {
    let at = |name: &str| format!("{}/tests/tls/stores/{name}", env!("CARGO_MANIFEST_DIR"));
    for name in
        ["key.pem", "key-pkcs1.pem", "key-pbkdf2.pem", "key-scrypt.pem", "key-3des.pem", "openssl.p12"]
    {
        let assertion = Assertion::signed_by_file(at(name)).passphrase("changeit");
        let checked = assertion.check().or_else(|_| assertion.algorithm(SigningAlgorithm::Es256).check());
        checked.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let encrypted = Assertion::signed_by_file(at("key-pbkdf2.pem"));
    let error = encrypted.check().expect_err("encrypted").to_string();
    assert!(
        error.ends_with("key-pbkdf2.pem: the private key is encrypted, and no password is given for it"),
        "{error}"
    );
    let error = encrypted.passphrase("wrong").check().expect_err("encrypted").to_string();
    assert!(error.ends_with("the password is wrong"), "{error}");
    let error = Assertion::signed_by_file(at("ca.pem")).check().expect_err("no key").to_string();
    assert!(error.ends_with("it has no private key that can be read"), "{error}");
}

#[tokio::test]
async fn refresh_tokens_are_used_once_and_followed_by_the_next() {
    let world = World::start(Issuer::builder()).await;
    let first = Secret::from(world.issuer.refresh_token(ID));
    let tokens = RefreshToken::new(world.endpoint(), first.clone()).client(ID, SECRET);
    world.connect(tokens.clone()).await.expect("connected");
    let second = tokens.current();
    assert!(second != first);
    world.connect(tokens.clone()).await.expect("connected");
    assert!(tokens.current() != second);
    // One that was used up is refused.
    let error = fails(&RefreshToken::new(world.endpoint(), first).client(ID, SECRET)).await;
    assert_eq!(error.obstacle(), Obstacle::Credentials);
    let expected = "the issuer refuses with invalid_grant: \"the refresh token is not valid\" (status 400)";
    assert!(error.to_string().ends_with(expected), "{error}");
    // A client that has no secret says its id.
    let public = RefreshToken::new(world.endpoint(), world.issuer.refresh_token("cli")).client_id("cli");
    world.connect(public).await.expect("connected");

    let world = World::start(Issuer::builder().keep_refresh_tokens()).await;
    let kept = RefreshToken::new(world.endpoint(), world.issuer.refresh_token(ID)).client(ID, SECRET);
    for _ in 0..2 {
        world.connect(kept.clone()).await.expect("connected");
    }
}

/// The issuer has given the next refresh token, and whoever asked for it is gone.
#[tokio::test]
async fn a_refresh_token_outlives_who_asked_for_it() {
    let world = World::start(Issuer::builder()).await;
    let tokens = RefreshToken::new(world.endpoint(), world.issuer.refresh_token(ID)).client(ID, SECRET);
    let first = tokens.current();
    world.issuer.fail(milena_broker::IssuerFault::Slow(Duration::from_millis(200)), 1);
    {
        let mut asking = tokens.token();
        while world.issuer.requests() == 0 {
            tokio::select! {
                biased;
                _ = &mut asking => panic!("an answer that is late"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let stored = async {
        while tokens.current() == first {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, stored).await.expect("it is kept");
    tokens.token().await.expect("a token for the next one");
}

#[tokio::test]
async fn clones_do_not_use_the_same_refresh_token_twice() {
    let world = World::start(Issuer::builder()).await;
    let tokens = RefreshToken::new(world.endpoint(), world.issuer.refresh_token(ID)).client(ID, SECRET);
    // One that is dropped while it asks does not keep the others from asking.
    tokio::select! {
        biased;
        _ = tokens.token() => panic!("an answer without waiting for one"),
        () = std::future::ready(()) => {}
    }
    let clones = [tokens.clone(), tokens.clone(), tokens];
    let all = async { tokio::join!(clones[0].token(), clones[1].token(), clones[2].token()) };
    let (first, second, third) = tokio::time::timeout(PATIENCE, all).await.expect("an end");
    for token in [first, second, third] {
        token.expect("a token");
    }
    assert_eq!(world.issuer.issued(), 3);
}

#[tokio::test]
async fn a_token_file_is_read_again_when_it_has_changed() {
    let world = World::start(Issuer::builder()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let tokens = TokenFile::new(&path);
    let error = fails(&tokens).await;
    assert_eq!(error.obstacle(), Obstacle::Network, "whoever writes it may be about to");
    std::fs::write(&path, format!(" {}\n", world.issuer.token("billing"))).expect("written");
    assert!(!tokens.has_changed(), "it was never read");
    let client = world.connect(tokens.clone()).await.expect("connected");
    ask(&client).await.expect("answered");
    assert!(!tokens.has_changed());
    std::fs::write(&path, world.issuer.token("a-longer-name")).expect("written");
    assert!(tokens.has_changed());
    assert_eq!(
        tokens.token().await.expect("a token").lifetime().as_secs() / 10,
        29,
        "5 minutes, hardly less"
    );
    assert!(!tokens.has_changed());
    // What is no token does not replace the one that is in use, also for connections that are new.
    std::fs::write(&path, "no token").expect("written");
    assert!(tokens.has_changed());
    world.cluster.create_topic("orders", 3).expect("created");
    let producer = client.producer().build().await.expect("a producer");
    for partition in 0..3 {
        producer.send(milena::Record::to("orders").partition(partition).value("x")).await.expect("sent");
    }
    let error = fails(&tokens).await;
    assert_eq!(error.to_string(), format!("the token in {}: the token is no JSON Web Token", path.display()));
}
