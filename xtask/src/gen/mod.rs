//! `cargo xtask gen`: Rust messages out of Kafka's schemas.

/// Writes the generated files, or with `--check` compares them with what is committed.
///
/// # Errors
/// When the schemas cannot be read, or with `--check` when a file differs.
pub fn run(mut args: lexopt::Parser) -> anyhow::Result<()> {
    match args.next()? {
        None => anyhow::bail!("nothing to generate yet"),
        Some(other) => Err(other.unexpected().into()),
    }
}
