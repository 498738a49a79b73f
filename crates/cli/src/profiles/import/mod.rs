//! The clusters that the configuration files of other programs name, as profiles. Each format has a file; all of them end in
//! the same names of properties, those of Java's client.
//!
//! What cannot be taken is told, not dropped in silence. Errors and notes have no values.

mod kaf;
mod kcl;
mod properties;
mod rpk;

use super::{NAME_BYTES_MAX, TEXT_BYTES_MAX, secrets, yaml};

/// A program whose files can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Java's `.properties`, librdkafka's properties and kcat's configuration.
    Properties,
    Kcl,
    Rpk,
    Kaf,
}

/// What a file has.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    pub(crate) clusters: Vec<Imports>,
    /// The name of the one that the other program uses.
    pub(crate) current: Option<String>,
    /// What of the file as a whole was not taken.
    pub(crate) notes: Vec<String>,
}

/// One cluster of a file.
#[derive(Clone, Default)]
pub(crate) struct Imports {
    /// Empty in formats without names.
    pub(crate) name: String,
    pub(crate) properties: Vec<(String, String)>,
    /// What was not taken, and what to do.
    pub(crate) notes: Vec<String>,
}

/// Values are not printed: some are secrets.
impl std::fmt::Debug for Imports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.properties.iter().map(|(name, _)| name).collect();
        f.debug_struct("Imports")
            .field("name", &self.name)
            .field("properties", &names)
            .finish_non_exhaustive()
    }
}

/// More clusters than this are hardly one user's.
const CLUSTERS_MAX: usize = 1000;

/// The format of a file, by its beginning words. Its name does not tell: kaf's has no ending, and rpk's is YAML as well.
pub(crate) fn detect(text: &str) -> Format {
    let begins = |line: &str, words: &[&str]| {
        words.iter().any(|word| {
            let rest = line.strip_prefix(word).map(str::trim_start);
            rest.is_some_and(|rest| rest.starts_with([':', '=']))
        })
    };
    for line in text.lines() {
        if begins(line, &["clusters", "current-cluster", "clusteroverride"]) {
            return Format::Kaf;
        }
        let is_yaml = line.split_once(':').is_some_and(|(key, _)| !key.contains(['=', '[', '.']));
        if is_yaml
            && begins(
                line,
                &["profiles", "current_profile", "rpk", "cloud_auth", "current_cloud_auth_org_id"],
            )
        {
            return Format::Rpk;
        }
        if line.starts_with("[profiles.")
            || begins(line, &["seed_brokers", "current_profile", "broker_timeout"])
        {
            return Format::Kcl;
        }
    }
    Format::Properties
}

/// Reads a file of another program.
pub(crate) fn read(format: Format, text: &str) -> Result<Imported, String> {
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(format!("it is longer than {TEXT_BYTES_MAX} bytes"));
    }
    let imported = match format {
        Format::Properties => properties::read(text),
        Format::Kcl => kcl::read(&super::toml(text)?),
        Format::Rpk => rpk::read(&yaml::parse(text)?),
        Format::Kaf => kaf::read(&yaml::parse(text)?),
    }?;
    match imported.clusters.len() {
        0 => Err("it names no cluster".into()),
        count if count > CLUSTERS_MAX => Err(format!("it names more than {CLUSTERS_MAX} clusters")),
        _ => Ok(imported),
    }
}

/// A name for a profile, from any text.
pub(crate) fn name_of(text: &str) -> String {
    let letter = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = text.trim().chars().map(letter).take(NAME_BYTES_MAX).collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "imported".into() } else { name.into() }
}

impl Imports {
    fn new(name: &str) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.properties.retain(|(known, _)| known != name);
        self.properties.push((name.into(), value.into()));
    }

    /// Sets a property that the file has a value for.
    fn set_some<V: Into<String>>(&mut self, name: &str, value: Option<V>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Tells that a field of the file was not taken.
    fn pass_over(&mut self, field: &str, why: &str) {
        self.note(format!("{field} was not taken: {why}"));
    }

    fn protocol(&mut self, has_tls: bool, has_sasl: bool) {
        let name = match (has_tls, has_sasl) {
            (false, false) => return,
            (true, false) => "SSL",
            (false, true) => "SASL_PLAINTEXT",
            (true, true) => "SASL_SSL",
        };
        self.set("security.protocol", name);
    }

    fn skips_certificates(&mut self) {
        self.set("enable.ssl.certificate.verification", "false");
        self.note("certificates are not checked, as in the file: whoever is on the way to a broker can read everything");
    }

    /// Writes other sources in place of those in the file. No other program runs a value, or reads what it names, so whoever
    /// wrote the file would have a command of theirs run here, or a file of this machine sent to a broker of theirs.
    pub(crate) fn leave_out_sources(&mut self, profile: &str) {
        let Self { properties, notes, .. } = self;
        properties.retain_mut(|(name, value)| {
            if !secrets::is_read_elsewhere(name, value) {
                return true;
            }
            let would = match secrets::is_command(value) {
                true => "it would run a command of the file",
                false => "it would run a command, or read a variable or a file, that the file names",
            };
            let has_source = secrets::is_secret(name) || secrets::may_have_password(name);
            if has_source {
                let source = secrets::placeholder(profile, name);
                notes.push(format!("{name} was not copied: {would}; it is read from {source} now"));
                *value = source;
            } else {
                notes.push(format!("{name} was not copied: {would}"));
            }
            has_source
        });
    }

    /// Writes sources in place of the secrets in the file, and says so.
    pub(crate) fn leave_out_secrets(&mut self, profile: &str) {
        for (name, value) in &mut self.properties {
            if secrets::is_inline(name, value) {
                let source = secrets::placeholder(profile, name);
                self.notes.push(format!(
                    "{name} was not copied: it is read from {source} now; set that variable, or name another source as in \
                     \"command:pass show kafka/{profile}\""
                ));
                *value = source;
            }
        }
    }
}

/// The mechanism as Kafka writes it, from `SCRAM-SHA-256`, `scram_sha_256` or `plain`.
fn mechanism(text: &str) -> Option<&'static str> {
    let letters: String = text.chars().filter(|c| !"-_ ".contains(*c)).collect();
    match letters.to_ascii_uppercase().as_str() {
        "PLAIN" | "PLAINTEXT" => Some("PLAIN"),
        "SCRAMSHA256" => Some("SCRAM-SHA-256"),
        "SCRAMSHA512" => Some("SCRAM-SHA-512"),
        "OAUTHBEARER" => Some("OAUTHBEARER"),
        "AWSMSKIAM" => Some("AWS_MSK_IAM"),
        _ => None,
    }
}
