//! An authority that signs certificates, and a TLS server before an embedded broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use milena::{Address, Client, ClientBuilder, Connect, Connecting, Error, Tls, Transport};
use milena_broker::{Broker, Cluster};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Signs certificates.
pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    pub(crate) der: Vec<u8>,
}

/// A certificate with its key.
pub(crate) struct Signed {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
    der: Vec<u8>,
    key: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        Self { pem: certificate.pem(), der: certificate.der().to_vec(), issuer: Issuer::new(params, key) }
    }

    pub(crate) fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let (pem, der) = (certificate.pem(), certificate.der().to_vec());
        Signed { pem, der, key_pem: key.serialize_pem(), key: key.serialize_der() }
    }
}

/// What a server asks of clients.
pub(crate) enum Clients<'a> {
    Anonymous,
    SignedBy(&'a Authority),
}

/// Plain text to the broker, TLS to the client.
pub(crate) struct Server {
    pub(crate) cluster: Cluster,
    pub(crate) at: SocketAddr,
    /// Connections that were accepted.
    pub(crate) accepted: Arc<AtomicUsize>,
    /// Handshakes that continued an earlier session.
    pub(crate) resumed: Arc<AtomicUsize>,
}

pub(crate) fn server_config(
    signed: &Signed,
    clients: &Clients<'_>,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let provider = Arc::new(rustls_graviola::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(versions).expect("versions");
    let builder = match clients {
        Clients::Anonymous => builder.with_no_client_auth(),
        Clients::SignedBy(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der.clone().into()).expect("a root");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let key = signed.key.clone().try_into().expect("a key");
    builder.with_single_cert(vec![signed.der.clone().into()], key).expect("a certificate")
}

impl Server {
    pub(crate) async fn start(config: ServerConfig) -> Self {
        let cluster = Broker::builder().start().await.expect("started");
        let broker: SocketAddr = cluster.bootstrap().parse().expect("an address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let at = listener.local_addr().expect("bound");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (accepted, resumed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let counts = (Arc::clone(&accepted), Arc::clone(&resumed));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counts.0.fetch_add(1, Ordering::Relaxed);
                let (acceptor, resumed) = (acceptor.clone(), Arc::clone(&counts.1));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                        resumed.fetch_add(1, Ordering::Relaxed);
                    }
                    let mut broker = TcpStream::connect(broker).await.expect("connected");
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut broker).await;
                });
            }
        });
        Self { cluster, at, accepted, resumed }
    }

    /// A client whose connections all go to this server, whatever the broker advertises.
    pub(crate) fn client(&self) -> ClientBuilder {
        client(self.at)
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

pub(crate) fn client(at: SocketAddr) -> ClientBuilder {
    Client::builder().bootstrap(&format!("localhost:{}", at.port())).connector(To(at))
}

/// The error of a client that cannot connect.
pub(crate) async fn refused(builder: ClientBuilder, tls: Option<Tls>) -> Error {
    let builder = match tls {
        Some(tls) => builder.tls(tls),
        None => builder,
    };
    builder.connect().await.expect_err("refused")
}

/// Connects to one address whatever it is asked for.
struct To(SocketAddr);

impl Connect for To {
    fn connect(&self, _: &Address, _: Option<SocketAddr>) -> Connecting {
        let at = self.0;
        Box::pin(async move { Ok(Box::new(TcpStream::connect(at).await?) as Box<dyn Transport>) })
    }
}
