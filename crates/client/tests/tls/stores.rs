//! Certificates and keys in every form that Java and OpenSSL write; `stores/make` makes them.

use std::path::PathBuf;

use milena::{Secret, Tls};
use rustls::ALL_VERSIONS;

use crate::certificates::Dir;
use crate::server::{Authority, Clients, Server, server_config};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls/stores").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(path(name)).expect("there")
}

fn password(text: &str) -> Option<Secret> {
    Some(Secret::from(text))
}

/// Whether it can be read, or what is wrong with it.
fn outcome(tls: &Tls) -> String {
    tls.check().map_or_else(|error| error.to_string(), |()| "read".into())
}

#[test]
fn trust_stores_of_java_and_openssl_are_read() {
    let check = |name: &str, password: Option<&str>, expected: &str| {
        let tls = Tls::roots_from_file(path(name));
        let tls = match password {
            Some(password) => tls.roots_password(password),
            None => tls,
        };
        let outcome = outcome(&tls);
        assert!(outcome.ends_with(expected), "{name} with {password:?}: {outcome}");
        assert!(expected == "read" || outcome.contains(name), "{outcome}");
        assert!(!outcome.contains("changeIt"), "{outcome}");
    };
    for name in ["java-trust.p12", "java-8-trust.p12", "java-trust.jks"] {
        check(name, Some("changeit"), "read");
        check(name, Some("changeIt"), "the password is wrong, or the store is damaged");
    }
    // Java reads JKS without a password, too.
    check("java-trust.jks", None, "read");
    check("java-trust.p12", None, "it needs a password");
    check("ca.pem", None, "read");
    check("key.pem", None, "it has no certificates");
    check("java-jceks.jks", Some("changeit"), "convert it with `keytool -importkeystore`");
    check("make", None, "it is neither PEM nor PKCS#12 nor JKS");
    check("nothing.pem", None, "No such file or directory (os error 2)");
}

#[test]
fn a_directory_of_roots_is_read_and_other_files_in_it_are_passed_over() {
    let dir = Dir::new("roots");
    dir.write("readme", "no certificate");
    let tls = Tls::roots_from_file(dir.path());
    assert!(outcome(&tls).ends_with("it has no certificates"), "{}", outcome(&tls));
    dir.write("ca.pem", text("ca.pem"));
    assert_eq!(outcome(&tls), "read");
}

#[test]
fn key_stores_of_java_and_openssl_are_read() {
    let check = |name: &str, store: &str, key: Option<&str>, expected: &str| {
        let tls = Tls::roots_from_file(path("ca.pem")).client_store(path(name), password(store));
        let tls = match key {
            Some(key) => tls.key_password(key),
            None => tls,
        };
        let outcome = outcome(&tls);
        assert!(outcome.ends_with(expected), "{name}: {outcome}");
    };
    for name in
        ["openssl.p12", "openssl-legacy.p12", "openssl-sha512.p12", "java.p12", "java-8.p12", "java.jks"]
    {
        check(name, "changeit", None, "read");
        check(name, "changeIt", None, "the password is wrong, or the store is damaged");
    }
    check("openssl-empty-password.p12", "", None, "read");
    check("java-key-password.jks", "changeit", Some("another"), "read");
    check("java-key-password.jks", "changeit", None, "the password of the key is wrong");
    check("java-trust.p12", "changeit", None, "it has no private key that can be read");
}

#[test]
fn private_keys_of_every_form_are_read() {
    let check = |name: &str, key: Option<&str>, expected: &str| {
        for from_file in [true, false] {
            let tls = Tls::roots_from_file(path("ca.pem"));
            let tls = if from_file {
                tls.client_certificate_files(path("own.pem"), path(name))
            } else {
                tls.client_certificate(text("own.pem"), text(name))
            };
            let tls = match key {
                Some(key) => tls.key_password(key),
                None => tls,
            };
            let outcome = outcome(&tls);
            assert!(outcome.ends_with(expected), "{name}: {outcome}");
        }
    };
    check("key.pem", None, "read");
    check("key-pkcs1.pem", None, "read");
    for name in ["key-pbkdf2.pem", "key-scrypt.pem", "key-3des.pem", "key-pkcs12-3des.pem"] {
        check(name, Some("changeit"), "read");
        check(name, Some("changeIt"), "the private key: the password is wrong");
        check(name, None, "the private key is encrypted, and no password is given for it");
    }
    check("key-old-encrypted.pem", Some("changeit"), "`openssl pkcs8 -topk8`");
    check("ca.pem", None, "it has no private key");
}

#[test]
fn damaged_stores_are_refused_wherever_they_are_damaged() {
    let dir = Dir::new("damaged");
    let is_read = |name: &str, bytes: &[u8]| {
        let store = dir.write(name, bytes);
        Tls::roots_from_file(path("ca.pem")).client_store(store, password("changeit")).check().is_ok()
    };
    for name in ["openssl.p12", "openssl-legacy.p12", "java.p12", "java-8.p12", "java.jks"] {
        let whole = std::fs::read(path(name)).expect("there");
        assert!(is_read(name, &whole), "{name}");
        let mut unnoticed = 0;
        for at in (0..whole.len()).step_by(89) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            // Few bytes are neither read nor protected, such as the parameters of a hash, which has none.
            unnoticed += usize::from(is_read(name, &bytes));
            assert!(!is_read(name, &whole[..at]), "{name}, cut at {at}");
        }
        assert!(unnoticed <= 1, "{name}: {unnoticed}");
    }
}

#[tokio::test]
async fn a_certificate_from_a_store_is_shown_to_the_broker() {
    let authority = Authority::new("Server");
    let signed = authority.sign(&["localhost"], |_| {});
    // The store's authority is not the one that the server trusts, so the server's answer shows that it got a certificate.
    let server = Server::start(server_config(&signed, &Clients::SignedBy(&authority), ALL_VERSIONS)).await;
    let tls = Tls::roots_from_pem(authority.pem.clone()).client_store(path("java.p12"), password("changeit"));
    let error = server.client().tls(tls).connect().await.expect_err("refused").to_string();
    assert!(error.contains("the broker does not trust the authority that signed it"), "{error}");
}
