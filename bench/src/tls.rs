//! What the cryptography of TLS costs with each provider of rustls: records of 16 KiB, and full handshakes.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite,
    version,
};

/// As much is encrypted and decrypted for each number.
const BYTES: usize = 128 << 20;
const RECORD_BYTES: usize = 16 << 10;
const HANDSHAKES: u32 = 300;
/// The best of as many runs.
const RUNS: usize = 5;

/// Prints a table with a line for each provider and cipher suite.
///
/// # Errors
/// When a provider refuses something, which it does not.
pub fn run() -> Result<(), String> {
    println!("| provider | cipher suite | encrypt, MB/s | decrypt, MB/s | handshakes/s, client | server |");
    println!("|---|---|---|---|---|---|");
    for (name, provider) in [
        ("graviola", rustls_graviola::default_provider()),
        ("ring", ring::default_provider()),
        ("aws-lc-rs", aws_lc_rs::default_provider()),
    ] {
        for suite in provider.cipher_suites.clone() {
            if !matches!(suite, SupportedCipherSuite::Tls13(_)) {
                continue;
            }
            let peers = Peers::new(&provider, suite).map_err(|error| error.to_string())?;
            let [mut encrypt, mut decrypt, mut client, mut server] = [Duration::MAX; 4];
            for _ in 0..RUNS {
                let [encrypted, decrypted] = peers.transfer().map_err(|error| error.to_string())?;
                (encrypt, decrypt) = (encrypt.min(encrypted), decrypt.min(decrypted));
                let [ours, theirs] = peers.handshakes().map_err(|error| error.to_string())?;
                (client, server) = (client.min(ours), server.min(theirs));
            }
            let rate = |time: Duration| BYTES as f64 / 1e6 / time.as_secs_f64();
            let count = |time: Duration| f64::from(HANDSHAKES) / time.as_secs_f64();
            println!(
                "| {name} | {:?} | {:.0} | {:.0} | {:.0} | {:.0} |",
                suite.suite(),
                rate(encrypt),
                rate(decrypt),
                count(client),
                count(server)
            );
        }
    }
    Ok(())
}

struct Peers {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Peers {
    fn new(
        provider: &CryptoProvider,
        suite: SupportedCipherSuite,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let provider = Arc::new(CryptoProvider { cipher_suites: vec![suite], ..provider.clone() });
        let key = rcgen::KeyPair::generate()?;
        let certificate: CertificateDer<'static> =
            rcgen::CertificateParams::new(vec!["localhost".to_owned()])?.self_signed(&key)?.into();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone())?;
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::try_from(key.serialize_der())?)?;
        server.send_tls13_tickets = 0;
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// Connects, and measures both sides.
    fn connect(
        &self,
        spent: &mut [Duration; 2],
    ) -> Result<(ClientConnection, ServerConnection), Box<dyn std::error::Error>> {
        let mut wire = Vec::new();
        let since = Instant::now();
        let mut client = ClientConnection::new(Arc::clone(&self.client), ServerName::try_from("localhost")?)?;
        spent[0] += since.elapsed();
        let mut server = ServerConnection::new(Arc::clone(&self.server))?;
        while client.is_handshaking() || server.is_handshaking() {
            let since = Instant::now();
            while client.wants_write() {
                client.write_tls(&mut wire)?;
            }
            spent[0] += since.elapsed();
            let since = Instant::now();
            let mut rest = &wire[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest)?;
                server.process_new_packets()?;
            }
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire)?;
            }
            spent[1] += since.elapsed();
            let since = Instant::now();
            let mut rest = &wire[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest)?;
                client.process_new_packets()?;
            }
            wire.clear();
            spent[0] += since.elapsed();
        }
        Ok((client, server))
    }

    fn handshakes(&self) -> Result<[Duration; 2], Box<dyn std::error::Error>> {
        let mut spent = [Duration::ZERO; 2];
        for _ in 0..HANDSHAKES {
            self.connect(&mut spent)?;
        }
        Ok(spent)
    }

    fn transfer(&self) -> Result<[Duration; 2], Box<dyn std::error::Error>> {
        let (mut client, mut server) = self.connect(&mut [Duration::ZERO; 2])?;
        let plain = vec![7; RECORD_BYTES];
        let mut wire = Vec::with_capacity(2 * RECORD_BYTES);
        let mut read = vec![0; RECORD_BYTES];
        let mut spent = [Duration::ZERO; 2];
        for _ in 0..BYTES / RECORD_BYTES {
            let since = Instant::now();
            client.writer().write_all(&plain)?;
            while client.wants_write() {
                client.write_tls(&mut wire)?;
            }
            spent[0] += since.elapsed();
            let since = Instant::now();
            let mut rest = &wire[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest)?;
                server.process_new_packets()?;
            }
            server.reader().read_exact(&mut read)?;
            spent[1] += since.elapsed();
            wire.clear();
        }
        Ok(spent)
    }
}
