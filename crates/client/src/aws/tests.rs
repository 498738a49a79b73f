//! The chain against services of AWS's that are faked on loopback. No test reads or sets this process's environment.

use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use super::environment::Environment;
use super::*;

const CANARY: &str = "k4nari3nv0gel";

/// A service that answers by the path, and remembers what it was asked.
struct Fake {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// `answer` gets the request's line, headers and body, and gives the status and the body.
    async fn start(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let (mut request, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    let read = stream.read_line(&mut line).await.unwrap_or(0);
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().expect("a length");
                    }
                    request += &line;
                    if read == 0 || line == "\r\n" {
                        break;
                    }
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.expect("a body");
                request += std::str::from_utf8(&body).expect("text");
                let (status, body) = answer(&request);
                seen.lock().expect("whole").push(request);
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("whole"))
    }
}

/// A port that nothing listens on.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    format!("http://{}", listener.local_addr().expect("bound"))
}

fn json(rest: &str) -> String {
    format!(
        r#"{{"Code":"Success","AccessKeyId":"ASIA","SecretAccessKey":"{CANARY}","Token":"{CANARY}t"{rest}}}"#
    )
}

/// The key, or the error's obstacle and text.
async fn found(chain: Chain, variables: &[(&'static str, &str)]) -> Result<Credentials, (Obstacle, String)> {
    let found = chain.found(Environment::of(variables)).await;
    let shown = format!("{found:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    found.map_err(|error| (error.obstacle(), error.to_string()))
}

fn key(found: Result<Credentials, (Obstacle, String)>) -> Result<String, String> {
    found.map(|keys| keys.access_key().to_owned()).map_err(|(_, why)| why)
}

/// A directory with files of profiles.
fn home(credentials: &str, config: &str) -> TempDir {
    let home = tempfile::tempdir().expect("made");
    std::fs::create_dir(home.path().join(".aws")).expect("made");
    std::fs::write(home.path().join(".aws/credentials"), credentials).expect("written");
    std::fs::write(home.path().join(".aws/config"), config).expect("written");
    home
}

#[tokio::test]
async fn the_environment_goes_before_profiles_and_gives_the_region() {
    let home = home(
        &format!(
            "[default]\naws_access_key_id=PROFILE\naws_secret_access_key={CANARY}\n[half]\naws_access_key_id=HALF\n[keyless]\nregion=x"
        ),
        "[default]\nregion=eu-north-1\n[profile other]\nrole_arn=r\nsource_profile=default\n[profile sso]\nsso_session=s\n\
         [profile program]\ncredential_process=p\n[profile bare]\nrole_arn=r\n",
    );
    let path = home.path().to_str().expect("text").to_owned();
    let of = [("HOME", &*path), ("AWS_EC2_METADATA_DISABLED", "true")];
    let with = |more: &[(&'static str, &'static str)]| [&of[..], more].concat();
    let keys = [("AWS_ACCESS_KEY_ID", "ENV"), ("AWS_SECRET_ACCESS_KEY", CANARY), ("AWS_REGION", "eu-west-1")];
    let environment = found(Chain::default(), &with(&keys)).await.expect("found");
    assert_eq!((environment.access_key(), environment.region_default.as_deref()), ("ENV", Some("eu-west-1")));
    let profile = found(Chain::default(), &of).await.expect("found");
    assert_eq!((profile.access_key(), profile.region_default.as_deref()), ("PROFILE", Some("eu-north-1")));
    assert_eq!(profile.lifetime(), None);
    // A profile that is asked for by name goes before the environment, but not one that the environment names.
    assert_eq!(key(found(Chain::profile("default"), &with(&keys)).await), Ok("PROFILE".into()));
    let both = [&keys[..], &[("AWS_PROFILE", "default")]].concat();
    assert_eq!(key(found(Chain::default(), &with(&both)).await), Ok("ENV".into()));

    let check = async |more: &[(&'static str, &'static str)], says: &str| {
        let (obstacle, why) = found(Chain::default(), &with(more)).await.expect_err("refused");
        assert_eq!((obstacle, why), (Obstacle::Configuration, says.replace("HOME", &path)));
    };
    check(&[("AWS_ACCESS_KEY_ID", "ENV")], "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not").await;
    check(
        &[("AWS_PROFILE", "prod")],
        "there is no AWS profile \"prod\" in HOME/.aws/credentials and HOME/.aws/config",
    )
    .await;
    check(&[("AWS_PROFILE", "half")], "the AWS profile \"half\" has no aws_secret_access_key").await;
    let export = "which this client does not; give it keys, for example those of `aws configure export-credentials --profile";
    let other =
        "the AWS profile \"other\" assumes a role with the credentials of another profile (source_profile),";
    check(&[("AWS_PROFILE", "other")], &format!("{other} {export} other --format env`")).await;
    let sso = "the AWS profile \"sso\" logs in by SSO (sso_session),";
    check(&[("AWS_PROFILE", "sso")], &format!("{sso} {export} sso --format env`")).await;
    let program = "the AWS profile \"program\" runs a program (credential_process),";
    check(&[("AWS_PROFILE", "program")], &format!("{program} {export} program --format env`")).await;
    check(
        &[("AWS_PROFILE", "bare")],
        "the AWS profile \"bare\" has a role_arn, and no web_identity_token_file to get it with",
    )
    .await;
    let why = key(found(Chain::profile("keyless"), &of).await).expect_err("none");
    assert_eq!(why, "the AWS profile \"keyless\" has no aws_access_key_id and aws_secret_access_key");
    check(
        &[("AWS_PROFILE", "keyless")],
        "there are no AWS credentials: AWS_ACCESS_KEY_ID is not set; AWS_WEB_IDENTITY_TOKEN_FILE is not set; the profile \"keyless\" \
         has none in HOME/.aws/credentials and HOME/.aws/config; no AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI is set; \
         AWS_EC2_METADATA_DISABLED says not to ask an instance's metadata service",
    )
    .await;
}

#[tokio::test]
async fn a_web_identity_is_given_to_the_token_service() {
    let home = home(
        "",
        "[profile eks]\nrole_arn = arn:aws:iam::1:role/profile\nweb_identity_token_file = FILE\nrole_session_name = me\n",
    );
    let file = home.path().join("token");
    std::fs::write(&file, format!("{CANARY}/+\n")).expect("written");
    let file = file.to_str().expect("text").to_owned();
    let fake = Fake::start(|request| match request {
        _ if request.contains("role%2Fexpired") => (
            400,
            format!("<ErrorResponse><Error><Code>ExpiredTokenException</Code><Message>Token expired.\nIt was {}</Message></Error></ErrorResponse>", "x".repeat(1000)),
        ),
        _ if request.contains("role%2Fbusy") => (503, "busy".into()),
        _ if request.contains("role%2Fgarbled") => (200, "<html>".into()),
        _ => (
            200,
            format!(
                "<R><Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>{CANARY}</SecretAccessKey>\
                 <SessionToken>{CANARY}</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></R>"
            ),
        ),
    })
    .await;
    let of = |role: &str| {
        [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file.clone()),
            ("AWS_ROLE_ARN", format!("arn:aws:iam::1:role/{role}")),
            ("AWS_ROLE_SESSION_NAME", "pod 1".into()),
            ("AWS_ENDPOINT_URL_STS", fake.url.clone()),
        ]
    };
    let found_with = async |variables: &[(&'static str, String)]| {
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, &**value)).collect();
        found(Chain::default(), &variables).await
    };
    let keys = found_with(&of("reader")).await.expect("found");
    assert!(
        keys.access_key() == "ASIA"
            && keys.session_token.is_some()
            && keys.lifetime() > Some(Duration::from_secs(86_400))
    );
    let asked = fake.asked();
    assert!(asked[0].starts_with("POST / HTTP/1.1"), "{}", asked[0]);
    let form = "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Freader\
                &RoleSessionName=pod%201&WebIdentityToken=k4nari3nv0gel%2F%2B";
    assert!(asked[0].ends_with(form), "{}", asked[0]);

    // The same from a profile.
    std::fs::write(
        home.path().join(".aws/config"),
        std::fs::read_to_string(home.path().join(".aws/config")).expect("read").replace("FILE", &file),
    )
    .expect("written");
    let profile = [
        ("HOME", home.path().to_str().expect("text").to_owned()),
        ("AWS_PROFILE", "eks".into()),
        ("AWS_ENDPOINT_URL_STS", fake.url.clone()),
    ];
    assert_eq!(key(found_with(&profile).await), Ok("ASIA".into()));
    assert!(fake.asked()[0].contains("role%2Fprofile&RoleSessionName=me&"));

    let what = |role: &str| {
        format!("AWS's token service did not give credentials for the role \"arn:aws:iam::1:role/{role}\"")
    };
    let (obstacle, why) = found_with(&of("expired")).await.expect_err("refused");
    assert_eq!(obstacle, Obstacle::Credentials);
    assert!(
        why.starts_with(&format!("{}: ExpiredTokenException: Token expired. It was xxx", what("expired"))),
        "{why}"
    );
    assert!(why.ends_with("\u{2026} (status 400)") && why.len() < 600, "{why}");
    let busy = found_with(&of("busy")).await.expect_err("refused");
    assert_eq!(busy, (Obstacle::Network, format!("{}: it answers with status 503", what("busy"))));
    let garbled = found_with(&of("garbled")).await.expect_err("refused");
    assert_eq!(
        garbled,
        (Obstacle::Credentials, format!("{}: its answer has no Credentials", what("garbled")))
    );
    let mut missing = of("reader");
    missing[0].1 = "/no/such/file".into();
    let why = key(found_with(&missing).await).expect_err("no token");
    assert_eq!(why, "the file \"/no/such/file\" of the web identity does not exist");
    let why = key(found_with(&of("reader")[..1]).await).expect_err("no role");
    assert_eq!(why, "AWS_WEB_IDENTITY_TOKEN_FILE is set and AWS_ROLE_ARN is not");
    let (obstacle, _) =
        found_with(&[&of("reader")[..3], &[("AWS_ENDPOINT_URL_STS", closed().await)]].concat())
            .await
            .expect_err("down");
    assert_eq!(obstacle, Obstacle::Network);
}

#[tokio::test]
async fn a_containers_service_is_asked_with_its_token_at_allowed_addresses_only() {
    let fake = Fake::start(|request| match request.split(' ').nth(1) {
        Some("/creds?id=1") => (200, json(r#","Expiration":"2999-01-01T00:00:00Z""#)),
        Some("/ended") => (200, json(r#","Expiration":"2000-01-01T00:00:00Z""#)),
        Some("/long") => (200, "x".repeat(100_000)),
        _ => (403, r#"{"code":"AccessDenied","message":"no role for this task"}"#.into()),
    })
    .await;
    let home = home("", "");
    let home = home.path().to_str().expect("text").to_owned();
    let at = async |url: &str, more: &[(&'static str, &str)]| {
        let variables = [&[("HOME", &*home), ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url)], more].concat();
        found(Chain::default(), &variables).await
    };
    let url = |path: &str| format!("{}{path}", fake.url);
    let token = [("AWS_CONTAINER_AUTHORIZATION_TOKEN", CANARY)];
    assert_eq!(key(at(&url("/creds?id=1"), &token).await), Ok("ASIA".into()));
    assert!(fake.asked()[0].contains(&format!("authorization: {CANARY}\r\n")));
    // The file goes before the variable.
    let file = tempfile::NamedTempFile::new().expect("made");
    std::fs::write(&file, "from-file\n").expect("written");
    let path = file.path().to_str().expect("text");
    let with_file = [token[0], ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path)];
    assert_eq!(key(at(&url("/creds?id=1"), &with_file).await), Ok("ASIA".into()));
    assert!(fake.asked()[0].contains("authorization: from-file\r\n"));

    let what = "the container's service did not give AWS credentials";
    let refused = at(&url("/other"), &[]).await.expect_err("refused");
    let why = format!("{what}: AccessDenied: no role for this task (status 403)");
    assert_eq!(refused, (Obstacle::Credentials, why));
    let ended = at(&url("/ended"), &[]).await.expect("an answer");
    let ended = ended.into_keys(Instant::ORIGIN).expect_err("they have ended");
    assert_eq!(ended.to_string(), "the AWS credentials of the access key \"ASIA\" have ended already");
    let (_, why) = at(&url("/long"), &[]).await.expect_err("too long");
    assert!(why.starts_with(what) && why.ends_with("the answer has more than 65536 bytes"), "{why}");
    // In plain text they go nowhere but to this host. This address is for documentation, and nothing is sent.
    let (obstacle, why) = at("http://192.0.2.1/creds", &token).await.expect_err("refused");
    assert!(
        obstacle == Obstacle::Configuration && why.contains("http is allowed to a loopback address only"),
        "{why}"
    );
    let why = key(at("ftp://x", &[]).await).expect_err("refused");
    assert_eq!(why, "AWS_CONTAINER_CREDENTIALS_FULL_URI: the URL does not begin with https:// or http://");
    let relative = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "no-slash")];
    let why = key(at("http://127.0.0.1:1", &relative).await).expect_err("refused");
    assert_eq!(why, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI does not begin with a slash");
}

#[tokio::test]
async fn an_instances_metadata_service_is_asked_with_a_session_token() {
    let role = Arc::new(Mutex::new("reader"));
    let named = Arc::clone(&role);
    let fake = Fake::start(move |request| {
        let role = *named.lock().expect("whole");
        let has_token = request.contains("x-aws-ec2-metadata-token: session\r\n");
        match request.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["PUT", "/latest/api/token"]
                if request.contains("x-aws-ec2-metadata-token-ttl-seconds: 60\r\n") =>
            {
                (200, "session".into())
            }
            ["GET", _] if !has_token => (401, String::new()),
            ["GET", "/latest/meta-data/iam/security-credentials/"] if role == "none" => (404, String::new()),
            ["GET", "/latest/meta-data/iam/security-credentials/"] => (200, format!("{role}\n")),
            ["GET", "/latest/meta-data/iam/security-credentials/reader"] => {
                (200, json(r#","Expiration":"2999-01-01T00:00:00Z""#))
            }
            ["GET", "/latest/meta-data/iam/security-credentials/denied"] => (
                200,
                r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role"}"#.into(),
            ),
            _ => (500, String::new()),
        }
    })
    .await;
    let home = home("", "");
    let home = home.path().to_str().expect("text").to_owned();
    let at = async |url: &str| {
        found(Chain::default(), &[("HOME", &home), ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)]).await
    };
    let keys = at(&format!("{}/", fake.url)).await.expect("found");
    assert!(keys.access_key() == "ASIA" && keys.session_token.is_some() && keys.lifetime().is_some());
    assert_eq!(fake.asked().len(), 3);
    let what = "the instance's metadata service did not give AWS credentials";
    for (name, obstacle, why) in [
        ("none", Obstacle::Configuration, "the instance has no role; attach an instance profile to it"),
        ("denied", Obstacle::Credentials, "AssumeRoleUnauthorizedAccess: EC2 cannot assume the role"),
        ("../../x", Obstacle::Credentials, "its answer has no name of a role"),
        ("broken", Obstacle::Network, "no instance's metadata service answers"),
    ] {
        *role.lock().expect("whole") = name;
        let (is, told) = at(&fake.url).await.expect_err("refused");
        if obstacle == Obstacle::Network {
            // It answers, and has a fault: that passes.
            assert!(told.contains("it answers with status 500"), "{told}");
            continue;
        }
        assert_eq!((is, told), (obstacle, format!("{what}: {why}")), "{name}");
    }
    let (obstacle, why) = at(&closed().await).await.expect_err("nothing answers");
    assert_eq!(obstacle, Obstacle::Configuration);
    assert!(
        why.starts_with("there are no AWS credentials: AWS_ACCESS_KEY_ID is not set; ")
            && why.contains("no instance's metadata service answers ("),
        "{why}"
    );
}

#[tokio::test]
async fn a_token_for_msk_lives_no_longer_than_its_credentials() {
    let keys = Credentials::new("AKID", CANARY).with_region("eu-west-1");
    let token = Tokens::new(keys.clone()).token().await.expect("made");
    assert!(!format!("{token:?}").contains("aHR0cHM6"), "{token:?}");
    let lifetime = async |keys: Credentials| {
        // A token tells its lifetime to the client alone, and shows it.
        let token = Tokens::new(keys).token().await.expect("made");
        format!("{token:?}")
            .split("lifetime: ")
            .nth(1)
            .expect("a lifetime")
            .split(',')
            .next()
            .expect("one")
            .to_owned()
    };
    assert_eq!(lifetime(keys.clone()).await, "900s");
    assert_eq!(lifetime(keys.with_lifetime(Duration::from_secs(60))).await, "60s");
    let error = Tokens::new(Credentials::new("AKID", CANARY)).token().await.expect_err("no region");
    assert_eq!(
        error.to_string(),
        "a token for MSK is for one AWS region, and none is given: set AWS_REGION, or with_region"
    );
}

/// The body of the fuzz target, which calls what only tests and cargo-fuzz see.
#[path = "../../../../fuzz/bodies/aws.rs"]
mod body;

#[test]
fn every_fuzz_input_is_survived() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/aws");
    let inputs = std::fs::read_dir(folder).expect("a folder").map(|entry| {
        let path = entry.expect("a file").path();
        // Printed when the body panics.
        println!("{}", path.display());
        body::run(&std::fs::read(path).expect("read"));
    });
    assert!(inputs.count() > 0);
}
