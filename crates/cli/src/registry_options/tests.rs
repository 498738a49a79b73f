//! What the options, the properties, the environment and a profile say together.

use clap::Parser as _;

use super::*;
use crate::config::{By, Chosen};
use crate::profiles::Profile;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: RegistryOptions,
}

fn options(args: &[&str]) -> RegistryOptions {
    let line = Line::try_parse_from([&["milena"], args].concat());
    line.unwrap_or_else(|error| panic!("{args:?}: {error}")).options
}

/// The settings of a command line, and of a profile that was chosen.
fn resolved(given: &[(&str, &str)], profile: Option<(By, &[(&str, &str)])>) -> Resolved {
    let given: milena::Properties = given.iter().copied().collect();
    let chosen = profile.map(|(by, properties)| {
        let properties = properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Chosen { profile: Profile { name: "prod".into(), is_protected: false, properties }, by }
    });
    let mut properties = milena::Properties::new();
    for (name, value) in chosen.iter().flat_map(|chosen| &chosen.profile.properties) {
        properties.set(name, value);
    }
    properties.extend(given.clone());
    Resolved { properties, given, bootstrap: None, chosen }
}

/// What the plan is, as text: addresses and how it logs in.
fn plan(args: &[&str], resolved: &Resolved, variable: Option<&str>) -> Result<String, String> {
    let plan = Plan::of(&options(args), resolved, variable)?;
    Ok(plan.map_or_else(|| "nothing".into(), |plan| format!("{} {:?}", plan.urls.join(","), plan.login)))
}

#[test]
fn the_command_line_goes_before_the_environment_and_that_before_the_current_profile() {
    let own: &[_] = &[("schema.registry.url", "https://own"), ("bearer.auth.token", "hunter2")];
    let logs_in = "Token(bearer.auth.token)";
    let current = || resolved(&[], Some((By::Current, own)));
    let check = |args: &[&str], resolved: &Resolved, variable: Option<&str>, expected: &str| {
        assert_eq!(plan(args, resolved, variable).as_deref(), Ok(expected), "{args:?}");
    };
    check(&[], &resolved(&[], None), None, "nothing");
    check(
        &["--registry", "http://localhost:1, https://b"],
        &resolved(&[], None),
        None,
        "http://localhost:1,https://b None",
    );
    check(&[], &current(), None, &format!("https://own {logs_in}"));
    // Its token goes nowhere else.
    check(&[], &current(), Some("https://of.env"), "https://of.env None");
    check(&["--registry", "https://x"], &current(), None, "https://x None");
    let given = resolved(&[("schema.registry.url", "https://given")], Some((By::Current, own)));
    check(&[], &given, Some("https://of.env"), "https://given None");
    // Unless the profile was asked for.
    let asked = resolved(&[], Some((By::Flag, own)));
    check(&[], &asked, Some("https://of.env"), &format!("https://own {logs_in}"));
    check(&["--registry", "https://x"], &asked, None, &format!("https://x {logs_in}"));
}

#[test]
fn logins_are_javas() {
    let check = |properties: &[(&str, &str)], expected: Result<&str, &str>| {
        let url = [("schema.registry.url", "https://r")];
        let found = plan(&[], &resolved(&[&url, properties].concat(), None), None);
        match expected {
            Ok(expected) => assert_eq!(found, Ok(format!("https://r {expected}")), "{properties:?}"),
            Err(says) => {
                let error = found.expect_err("is refused");
                assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
            }
        }
    };
    let source = "basic.auth.credentials.source";
    check(&[("basic.auth.user.info", "a:hunter2")], Ok("UserInfo(basic.auth.user.info)"));
    let long = "schema.registry.basic.auth.user.info";
    check(&[(source, "USER_INFO"), (long, "a:hunter2")], Ok(&format!("UserInfo({long})")));
    check(
        &[("schema.registry.url", "https://a:hunter2@r")],
        Ok("UserInfo(the user in the registry's address)"),
    );
    let jaas = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"a\" password=\"hunter2\";";
    let inherited = "Basic { user: \"a\", password: sasl.password }";
    check(&[(source, "SASL_INHERIT"), ("sasl.jaas.config", jaas)], Ok(inherited));
    check(&[("bearer.auth.token", "hunter2")], Ok("Token(bearer.auth.token)"));
    check(&[(source, "SASL_INHERIT")], Err("sasl.username"));
    check(&[(source, "USER_INFO")], Err("is not given"));
    check(&[(source, "URL"), ("basic.auth.user.info", "a:hunter2")], Err("has no effect"));
    check(&[(source, "hunter2")], Err("is not one of"));
    check(&[("basic.auth.user.info", "a:b"), ("bearer.auth.token", "hunter2")], Err("both given"));
    check(
        &[("bearer.auth.token", "hunter2"), ("bearer.auth.scope", "x")],
        Err("bearer.auth.scope has no effect"),
    );
    check(&[("schema.registry.nonsense", "hunter2")], Err("nonsense"));
    check(
        &[
            ("bearer.auth.credentials.source", "OAUTHBEARER"),
            ("bearer.auth.issuer.endpoint.url", "https://issuer/token"),
            ("bearer.auth.client.id", "me"),
            ("bearer.auth.client.secret", "hunter2"),
            ("bearer.auth.logical.cluster", "lsrc-1"),
        ],
        Ok(
            "OAuth { endpoint: \"https://issuer/token\", id: \"me\", secret: bearer.auth.client.secret, scope: None, headers: \
            [(\"target-sr-cluster\", \"lsrc-1\")] }",
        ),
    );
}

#[test]
fn what_would_have_no_effect_or_show_a_secret_is_refused() {
    let none = resolved(&[], None);
    let check = |args: &[&str], says: &str| {
        let error = plan(args, &none, None).expect_err("is refused");
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    };
    check(&["--registry-ca", "ca.pem"], "none is named");
    check(&["--registry", "http://localhost:1", "--registry-ca", "ca.pem"], "is not https://");
    check(&["--registry", "https://a:hunter2@r"], "--registry-user");
    check(&["--registry", "hunter2"], "it is no URL");
    check(&["--registry", "http://elsewhere:8081"], "--registry-plaintext");
    let plain = plan(&["--registry", "http://elsewhere:8081", "--registry-plaintext"], &none, None);
    assert_eq!(plain.as_deref(), Ok("http://elsewhere:8081 None"));
    let alone = resolved(&[("basic.auth.user.info", "a:hunter2")], None);
    assert!(plan(&[], &alone, None).expect_err("is refused").contains("none is named"));

    let args = ["--registry", "https://r", "--registry-token", "hunter2"];
    let failure = options(&args).client(&none).expect_err("is refused").to_string();
    assert!(failure.contains("--registry-token is env:NAME") && !failure.contains("hunter2"), "{failure}");
    let missing = options(&["--registry", "https://r", "--registry-ca", "/no/such/file"]).client(&none);
    assert!(missing.expect_err("is refused").to_string().contains("/no/such/file"));
    let failure = options(&[]).required(&none).expect_err("is refused").to_string();
    assert!(failure.contains("--registry http://127.0.0.1:8081"), "{failure}");
}

#[test]
fn client_certificates_are_stores_or_two_files() {
    let own = |properties: &[(&str, &str)]| {
        let url = [("schema.registry.url", "https://r")];
        let plan = Plan::of(&options(&[]), &resolved(&[&url, properties].concat(), None), None);
        plan.map(|plan| plan.map(|plan| format!("{:?} {:?}", plan.roots, plan.own)))
    };
    let name = |name: &str| format!("schema.registry.ssl.{name}");
    let (store, password, form) =
        (name("keystore.location"), name("keystore.password"), name("keystore.type"));
    let found = own(&[(&store, "me.p12"), (&password, "hunter2"), (&form, "PKCS12")]).expect("is right");
    assert_eq!(
        found.as_deref(),
        Some(&*format!(
            "System Store {{ path: \"me.p12\", password: Some({password}), key_password: None }}"
        ))
    );
    let (chain, key) = (name("certificate.location"), name("key.location"));
    let found =
        own(&[(&chain, "me.pem"), (&key, "me.key"), (&name("ca.location"), "ca.pem")]).expect("is right");
    assert_eq!(
        found.as_deref(),
        Some("File(\"ca.pem\", None) Files { chain: \"me.pem\", key: \"me.key\", key_password: None }")
    );
    for wrong in [
        &[(&*chain, "me.pem")][..],
        &[(&*password, "hunter2")],
        &[(&*form, "PKCS12")],
        &[(&*store, "me.p12"), (&*form, "BCFKS")],
        &[(&*store, "me.p12"), (&*chain, "me.pem")],
    ] {
        let error = own(wrong).expect_err("is refused");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
