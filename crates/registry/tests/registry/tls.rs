//! A registry that wants certificates.

use std::sync::Arc;

use milena::Tls;
use milena_broker::{Authority, Identity};
use milena_registry::framing::SchemaId;
use milena_registry::{RegistryErrorKind, SchemaRegistry};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A registry at `localhost` that answers whoever shows a certificate of this authority.
async fn registry(own: &Identity, clients: &Authority) -> String {
    let provider = Arc::new(rustls_graviola::default_provider());
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(clients.certificate_pem().as_bytes()).expect("PEM");
    roots.add(root).expect("a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = CertificateDer::from_pem_slice(own.certificate_pem().as_bytes()).expect("PEM");
    let key = PrivateKeyDer::from_pem_slice(own.key_pem().as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_client_cert_verifier(verifier.build().expect("a verifier"));
    let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![chain], key).expect("a key")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let _ = stream.read(&mut [0; 4096]).await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 23\r\n\r\n{\"schema\":\"\\\"string\\\"\"}";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn a_certificate_is_shown_to_the_registry_and_one_of_another_authority_is_refused() {
    let (authority, other) = (Authority::new().expect("one"), Authority::new().expect("another"));
    let url = registry(&authority.server(["localhost"]).expect("a certificate"), &authority).await;
    let ask = async |tls: Tls| {
        let client = SchemaRegistry::builder([url.clone()]).tls(tls).retries(0).build().expect("an address");
        client.schema(SchemaId::Id(7)).await
    };
    let roots = || Tls::roots_from_pem(authority.certificate_pem());
    let shown = |by: &Authority| {
        let own = by.client("CN=billing").expect("a certificate");
        roots().client_certificate(own.certificate_pem(), own.key_pem())
    };
    assert_eq!(ask(shown(&authority)).await.expect("a schema").text(), "\"string\"");
    // Neither without one nor with one of another authority; and the registry must have one of ours.
    for tls in [roots(), shown(&other), Tls::roots_from_pem(other.certificate_pem())] {
        let error = ask(tls).await.expect_err("it is refused");
        assert!(!error.is_retriable() && error.kind() != RegistryErrorKind::NotFound, "{error:?}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}
