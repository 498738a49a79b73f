//! A client that logs in by each way it is told, and does all that clients do. `way PROVIDER` reads properties from its standard
//! input, a blank line after each way; it answers each with a line: `ok`, or what failed.

use std::io::Read as _;

use anyhow::{Context as _, bail};
use milena_interop::ways;
use rustls::crypto::{CryptoProvider, aws_lc_rs, ring};

fn main() -> anyhow::Result<()> {
    let provider = std::env::args().nth(1).context("which provider of cryptography?")?;
    install(&provider)?;
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for (index, properties) in text.split("\n\n").filter(|part| !part.trim().is_empty()).enumerate() {
        let topic = format!("way-{provider}-{index}");
        match runtime.block_on(ways::work(properties, &topic)) {
            Ok(()) => println!("ok"),
            Err(error) => println!("{error:#}"),
        }
    }
    Ok(())
}

/// Lets this process do its cryptography by that provider, which the client prefers to the one that it was built with.
fn install(name: &str) -> anyhow::Result<()> {
    let provider: CryptoProvider = match name {
        "graviola" => rustls_graviola::default_provider(),
        "ring" => ring::default_provider(),
        "aws-lc-rs" => aws_lc_rs::default_provider(),
        other => bail!("there is no provider {other:?}"),
    };
    provider.install_default().map_err(|_| anyhow::anyhow!("a provider is installed already"))
}
