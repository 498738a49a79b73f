//! Settings from properties, under the names that Java, librdkafka or Milena have for them. An unknown name is an error: a
//! setting that is silently ignored is worse than none.

#![allow(unexpected_cfgs, reason = "cargo-fuzz sets `fuzzing`")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use super::foreign::{Foreign, Otherwise};
use super::oauth::{ASSERTION_FILE, KEY_FILE, Surroundings, TEMPLATE, URL};
use super::sasl::SaslProperties;
use super::table::{SETTINGS, SettingDoc};
use super::tls::TlsProperties;
use super::{Settings, jaas, syntax};
use crate::Error;
use zeroize::Zeroizing;

/// Properties under the names of Java, librdkafka or this crate ([`SETTINGS`]), each with the place it came from. If a name
/// occurs twice, the last value counts, and the ones before it are not looked at.
///
/// ```
/// let mut properties = milena::Properties::parse("linger.ms = 5\ncompression.type: lz4\n")?;
/// properties.set("linger.ms", "10");
/// let builder = properties.client()?;
/// # drop(builder);
///
/// let error = milena::Properties::parse("\nlinger.mss=5")?.client().err().unwrap();
/// assert!(error.to_string().contains("line 2"), "{error}");
/// assert!(error.to_string().contains("did you mean \"linger.ms\""), "{error}");
/// # Ok::<(), milena::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Properties {
    entries: Vec<Property>,
    /// None allows all.
    token_endpoints: Option<Vec<String>>,
}

#[derive(Clone)]
struct Property {
    name: String,
    value: Zeroizing<String>,
    /// Such as `client.properties, line 3: `; empty for a property from [`Properties::set`].
    place: Arc<str>,
}

impl fmt::Debug for Property {
    /// Values are not printed: many are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A longer file is hardly a properties file; it is refused.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Properties {
    /// No properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the text of a Java `.properties` file or of a kcat configuration file.
    ///
    /// # Errors
    /// When a line has no name, or a wrong `\u` escape. [`client`](Self::client) checks names and values.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Self::parse_from("", text)
    }

    /// Reads the file at `path` and parses it like [`parse`](Self::parse). A file that is not UTF-8 is read as ISO 8859-1,
    /// as Java does. The call blocks the thread while it reads.
    ///
    /// # Errors
    /// When the file cannot be read or is larger than 1 MiB, and as [`parse`](Self::parse). The error names the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, Error> {
        let origin = path.as_ref().display().to_string();
        let wrong = |why: String| Error::caller(format!("reading the properties file {origin}"), why);
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
        let read = read.map_err(|error| wrong(error.to_string()))? as u64;
        if read > FILE_BYTES_MAX {
            return Err(wrong(format!("it is longer than {FILE_BYTES_MAX} bytes")));
        }
        Self::parse_from(&format!("{origin}, "), &syntax::decode(&bytes))
    }

    fn parse_from(origin: &str, text: &str) -> Result<Self, Error> {
        let entries = syntax::parse(text)
            .map_err(|(line, why)| Error::caller(format!("{origin}line {line}: reading a property"), why))?;
        let property = |entry: syntax::Entry| {
            let syntax::Entry { line, name, value } = entry;
            Property { name, value: value.into(), place: format!("{origin}line {line}: ").into() }
        };
        Ok(Self { entries: entries.into_iter().map(property).collect(), token_endpoints: None })
    }

    /// Sets one property, and removes earlier ones of the same name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), Zeroizing::new(value.into()));
        self.entries.retain(|property| property.name != name);
        self.entries.push(Property { name, value, place: Arc::from("") });
    }

    /// Adds the properties of `other`, and removes earlier ones of the same names.
    pub fn extend(&mut self, other: Self) {
        self.entries.retain(|property| other.entries.iter().all(|new| new.name != property.name));
        self.entries.extend(other.entries);
        if other.token_endpoints.is_some() {
            self.token_endpoints = other.token_endpoints;
        }
    }

    /// Allows properties to name these token endpoints of OAuth 2 only (`sasl.oauthbearer.token.endpoint.url`), for programs
    /// whose properties come from somebody else. An empty list allows none. Default: every endpoint that the properties name.
    /// (Java: `org.apache.kafka.sasl.oauthbearer.allowed.urls`.)
    ///
    /// With a list, properties are also refused with which they could send what is on this machine elsewhere, or run a program:
    /// values that begin with `env:`, `file:` or `command:`, also within `sasl.jaas.config`; the files
    /// `sasl.oauthbearer.assertion.file`, `sasl.oauthbearer.assertion.private.key.file` and
    /// `sasl.oauthbearer.assertion.template.file`; and `https.ca.*` and `proxy`. They are refused before anything is read or run.
    ///
    /// What the list does not restrict: the brokers (`bootstrap.servers`), to which credentials are sent; the files of TLS that
    /// `ssl.*` names, which are opened here and not sent; and AWS_MSK_IAM, which uses AWS's credentials of this machine.
    ///
    /// ```
    /// use milena::Properties;
    ///
    /// let text = "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
    ///             sasl.oauthbearer.token.endpoint.url=file:///etc/passwd\n";
    /// let mut properties = Properties::parse(text)?;
    /// properties.allow_token_endpoints(["https://issuer.example/oauth2/token"]);
    /// let error = properties.client().err().unwrap();
    /// # let is_built = cfg!(feature = "oauth");
    /// # if is_built {
    /// assert!(error.to_string().contains("is none that the program allows"), "{error}");
    /// # }
    /// # Ok::<(), milena::Error>(())
    /// ```
    pub fn allow_token_endpoints<T: Into<String>>(&mut self, endpoints: impl IntoIterator<Item = T>) {
        self.token_endpoints = Some(endpoints.into_iter().map(Into::into).collect());
    }

    /// Whether a property sets `setting`, which is [our name](SettingDoc::name) of a setting.
    pub fn names(&self, setting: &str) -> bool {
        self.entries.iter().any(|property| find(&property.name).is_some_and(|found| found.name == setting))
    }

    /// The names and values, in the order in which they were given. Values may be secrets: do not print them.
    ///
    /// ```
    /// let properties = milena::Properties::parse("acks = all\nlinger.ms = 5")?;
    /// assert_eq!(properties.iter().collect::<Vec<_>>(), [("acks", "all"), ("linger.ms", "5")]);
    /// # Ok::<(), milena::Error>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|property| (&*property.name, property.value.as_str()))
    }

    /// Replaces `sasl.jaas.config` by `sasl.username` and `sasl.password`, if that says the same, so that the password can be
    /// given from [elsewhere](crate::Sasl). It stays as it is if its login module is not that of PLAIN or SCRAM, or has other
    /// options, and if it names where the text is (`file:PATH`, for example). Returns whether it was replaced.
    ///
    /// ```
    /// let jaas = r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="alice" password="pencil";"#;
    /// let mut properties = milena::Properties::from_iter([("sasl.jaas.config", jaas)]);
    /// assert!(properties.unfold_jaas()?);
    /// assert_eq!(properties.iter().collect::<Vec<_>>(), [("sasl.username", "alice"), ("sasl.password", "pencil")]);
    /// # Ok::<(), milena::Error>(())
    /// ```
    ///
    /// # Errors
    /// When the text is not in Java's form. The error has no part of a value.
    pub fn unfold_jaas(&mut self) -> Result<bool, Error> {
        const NAME: &str = "sasl.jaas.config";
        let Some(property) = self.entries.iter().rfind(|property| property.name == NAME) else {
            return Ok(false);
        };
        // The text is elsewhere, and is read when the client is set up.
        if source(&property.value).is_some() {
            return Ok(false);
        }
        let wrong = |why| Error::caller(format!("{}reading the property {NAME:?}", property.place), why);
        let entry = jaas::parse(&property.value).map_err(wrong)?;
        let is_known =
            ["PlainLoginModule", "ScramLoginModule"].iter().any(|known| entry.is_of(known, "").is_ok());
        let options: Vec<_> = entry.options().collect();
        let ([("username", user), ("password", password)] | [("password", password), ("username", user)]) =
            options[..]
        else {
            return Ok(false);
        };
        if is_known {
            self.set("sasl.username", user);
            self.set("sasl.password", password);
            self.entries.retain(|property| property.name != NAME);
        }
        Ok(is_known)
    }

    /// The last property of each name, in their order.
    fn last_entries(&self) -> Vec<&Property> {
        let mut seen = BTreeSet::new();
        let last = self.entries.iter().rev().filter(|property| seen.insert(&*property.name));
        let mut entries: Vec<_> = last.collect();
        entries.reverse();
        entries
    }

    pub(crate) fn settings(&self) -> Result<Settings, Error> {
        let mut settings = Settings::default();
        let protocol = self.entries.iter().rfind(|property| property.name == "security.protocol");
        let protocol = protocol.map(|property| property.value.trim()).filter(|value| !value.is_empty());
        let is_one_of = |expected: [&str; 2]| {
            protocol.is_some_and(|protocol| expected.iter().any(|known| known.eq_ignore_ascii_case(protocol)))
        };
        let (mut tls, mut sasl) = (TlsProperties::default(), SaslProperties::default());
        let entries = self.last_entries();
        let wrong = |property: &Property, why: String| {
            Error::caller(format!("{}setting the property {:?}", property.place, property.name), why)
        };
        if self.token_endpoints.is_some() {
            // All of them before the first is applied, which may run a program.
            for property in &entries {
                property.check_confined().map_err(|why| wrong(property, why))?;
            }
        }
        for property in entries {
            let applied = property.apply(&mut settings, &mut tls, &mut sasl, protocol);
            applied.map_err(|why| wrong(property, why))?;
        }
        if is_one_of(["SASL_PLAINTEXT", "SASL_SSL"]) {
            let surroundings = Surroundings {
                allows_plaintext: settings.client.allow_plaintext_credentials,
                proxy: settings.client.proxy.as_ref(),
                endpoints: self.token_endpoints.as_deref(),
            };
            let built = sasl.sasl(&surroundings);
            let built = built.map_err(|why| Error::caller("setting up SASL from properties", why))?;
            settings.sasl = Some(built);
        }
        if is_one_of(["SSL", "SASL_SSL"]) {
            #[cfg(feature = "tls")]
            {
                let built = tls.tls().map_err(|why| Error::caller("setting up TLS from properties", why))?;
                settings.tls = Some(built);
            }
            #[cfg(not(feature = "tls"))]
            {
                let why = "this build has no TLS; build with the feature \"tls\"";
                return Err(Error::caller("setting the property \"security.protocol\"", why));
            }
        }
        settings.settle();
        if settings.idempotence_asked() && settings.producer.acks != super::Acks::All {
            let why = "it needs acks=all: a leader that fails could lose records that it acknowledged";
            return Err(Error::caller("setting the property \"enable.idempotence\"", why));
        }
        settings.check_protocol()?;
        settings.fit()?;
        Ok(settings)
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Properties {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(properties: I) -> Self {
        let mut all = Self::new();
        for (name, value) in properties {
            all.set(name.as_ref(), value.as_ref());
        }
        all
    }
}

impl Property {
    /// Refuses what could send something of this machine elsewhere, or run a program, past the list of token endpoints.
    fn check_confined(&self) -> Result<(), String> {
        const WHY: &str =
            "is not allowed together with a list of token endpoints (Properties::allow_token_endpoints)";
        const REFUSED: [&str; 5] = [ASSERTION_FILE, KEY_FILE, TEMPLATE, "https.ca.location", "https.ca.pem"];
        let text = self.value.trim();
        if text.is_empty() {
            return Ok(());
        }
        let foreign = find_with(&self.name, Foreign::find);
        let is = |name: &str| foreign.is_some_and(|foreign| foreign.names.contains(&name));
        if REFUSED.into_iter().any(is) || find(&self.name).is_some_and(|setting| setting.name == "proxy") {
            return Err(format!("it {WHY}"));
        }
        // The list itself says whether a file may give tokens.
        if let Some(source) = source(text).filter(|_| !is(URL)) {
            return Err(format!("a value from {source:?} {WHY}"));
        }
        if is("sasl.jaas.config") {
            // What cannot be parsed is refused when it is applied.
            let entry = jaas::parse(text).ok();
            let mut options = entry.iter().flat_map(jaas::Entry::options);
            if let Some((name, source)) = options.find_map(|(name, value)| Some((name, source(value)?))) {
                return Err(format!("the option {name:?} from {source:?} {WHY}"));
            }
        }
        Ok(())
    }

    /// Sets what it says. `protocol` is the value of `security.protocol`, if that is given.
    fn apply(
        &self,
        settings: &mut Settings,
        tls: &mut TlsProperties,
        sasl: &mut SaslProperties,
        protocol: Option<&str>,
    ) -> Result<(), String> {
        let text = self.value.trim();
        let is = |expected: &str| protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(expected));
        let (has_tls, has_sasl) = (is("SSL") || is("SASL_SSL"), is("SASL_PLAINTEXT") || is("SASL_SSL"));
        if let Some(setting) = find(&self.name) {
            // In librdkafka a topic inherits the client's codec. Here all topics have the producer's.
            if setting.name == "compression" && text.eq_ignore_ascii_case("inherit") {
                return Ok(());
            }
            settings.named.insert(setting.name);
            let bare = (setting.name == "bootstrap").then(|| without_protocol(text, protocol));
            let text = bare.as_deref().unwrap_or(text);
            return (setting.read)(settings, text).map_err(|why| explained(text, why));
        }
        let Some(foreign) = find_with(&self.name, Foreign::find) else { return Err(unknown(&self.name)) };
        // For TLS an empty value may ask for something.
        if let (Otherwise::SetsTls(set), true) = (foreign.otherwise, has_tls) {
            return set(tls, text).map_err(|why| explained(text, why));
        }
        if let (Otherwise::SetsSasl(set), true, false) = (foreign.otherwise, has_sasl, text.is_empty()) {
            return set(sasl, text).map_err(|why| explained(text, why));
        }
        if foreign.says_what_happens_anyway(text) {
            return Ok(());
        }
        let reason = match foreign.otherwise {
            Otherwise::Sets(set) => {
                return set(settings, text).map_err(|why| explained(text, why));
            }
            Otherwise::Refused(reason) => return Err(reason.into()),
            Otherwise::NeedsSasl(reason) if has_sasl => return Err(reason.into()),
            // In Java, too, settings of TLS and SASL have no effect if security.protocol says that there is none. Going on in
            // plain text without it would surprise whoever named certificates and passwords.
            Otherwise::SetsTls(_) if protocol.is_none() => {
                return Err(
                    "it needs security.protocol=SSL or SASL_SSL; with PLAINTEXT it has no effect".into()
                );
            }
            Otherwise::SetsSasl(_) | Otherwise::NeedsSasl(_) if protocol.is_none() => {
                return Err("it needs security.protocol=SASL_SSL or SASL_PLAINTEXT; with another one it has no effect".into());
            }
            Otherwise::SetsTls(_) => "the connection is plain text",
            Otherwise::SetsSasl(_) | Otherwise::NeedsSasl(_) => "the security protocol has no SASL",
            Otherwise::Ignored(reason) => reason,
        };
        settings.ignored.insert(self.name.clone(), reason);
        Ok(())
    }
}

impl Settings {
    /// Adjusts settings that properties left out to those that they named.
    fn settle(&mut self) {
        let named = &self.named;
        // A property that asks for a longer delay than the longest raises the longest.
        if !named.contains("retry_backoff_max") {
            self.client.retry_backoff_max = self.client.retry_backoff_max.max(self.client.retry_backoff);
        }
        if !named.contains("reconnect_backoff_max") {
            self.client.reconnect_backoff_max =
                self.client.reconnect_backoff_max.max(self.client.reconnect_backoff);
        }
        // A response has two limits. If only one was named, it moves the other, as in librdkafka.
        let (response, fetch) = (&mut self.client.response_bytes_max, &mut self.consumer.fetch_bytes_max);
        match (named.contains("response_bytes_max"), named.contains("fetch_bytes_max")) {
            // Building a consumer fails if they contradict each other.
            (true, true) => {}
            (true, false) => *fetch = (*fetch).min(response.saturating_sub(AROUND_RECORDS)).max(1),
            (false, _) => {
                *fetch = (*fetch).min(i32::MAX as usize - AROUND_RECORDS);
                *response = (*response).max(*fetch + AROUND_RECORDS);
            }
        }
        // With idempotence a broker remembers five batches. A higher limit, such as librdkafka's default of a million, allows
        // five as well.
        const WITH_IDEMPOTENCE_MAX: usize = 5;
        if self.producer.idempotence && !named.contains("idempotence") {
            self.producer.in_flight_max = self.producer.in_flight_max.min(WITH_IDEMPOTENCE_MAX);
        }
    }
}

/// The bytes of a fetch response that are not records.
const AROUND_RECORDS: usize = 512;

/// A list of addresses without the security protocol in front, as librdkafka's users write it, if it is the one that is set.
fn without_protocol(list: &str, protocol: Option<&str>) -> String {
    let bare = |address: &str| match (address.trim().split_once("://"), protocol) {
        (Some((scheme, rest)), Some(protocol)) if scheme.eq_ignore_ascii_case(protocol) => rest.to_owned(),
        _ => address.to_owned(),
    };
    list.split(',').map(bare).collect::<Vec<_>>().join(",")
}

pub(super) fn find(name: &str) -> Option<&'static SettingDoc> {
    find_with(name, |name| SETTINGS.iter().find(|setting| setting.names().any(|known| known == name)))
}

/// Finds a name with or without the prefix `topic.`, which kcat puts before librdkafka's settings of topics.
pub(super) fn find_with<T>(name: &str, find: impl Fn(&str) -> Option<T>) -> Option<T> {
    find(name).or_else(|| find(name.strip_prefix("topic.")?))
}

/// The reason, with advice for the usual mistakes of Java's and librdkafka's users.
fn explained(text: &str, why: String) -> String {
    let is_quoted = |quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    if is_quoted('"') || is_quoted('\'') {
        return format!("{why}; write the value without quotes");
    }
    why
}

/// Names further apart than this are not misspellings of each other.
const DISTANCE_MAX: usize = 4;

/// Where a value says that it is, if it does.
fn source(value: &str) -> Option<&'static str> {
    ["env:", "file:", "command:"].into_iter().find(|source| value.trim_start().starts_with(source))
}

fn unknown(name: &str) -> String {
    let names = SETTINGS.iter().flat_map(SettingDoc::names).chain(Foreign::names());
    // To compare with all names would take nine tenths of a fuzzer's time.
    let is_likely = |known: &&str| !cfg!(fuzzing) || known.bytes().next() == name.bytes().next();
    let nearest = names.filter(is_likely).filter_map(|known| Some((distance(name, known)?, known))).min();
    match nearest.filter(|(distance, known)| *distance <= known.len() / 2) {
        Some((_, known)) => format!("there is no such setting; did you mean {known:?}?"),
        None => String::from("there is no such setting"),
    }
}

/// Levenshtein's distance, with one row. None if it is more than [`DISTANCE_MAX`]: the row says so early, and a name may be as long
/// as its file.
fn distance(left: &str, right: &str) -> Option<usize> {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, byte) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, other) in right.bytes().enumerate() {
            let cost = diagonal + usize::from(byte != other);
            diagonal = row[column + 1];
            row[column + 1] = cost.min(diagonal + 1).min(row[column] + 1);
        }
        // No row after this one has less than its least.
        if row.iter().all(|distance| *distance > DISTANCE_MAX) {
            return None;
        }
    }
    Some(row[right.len()]).filter(|distance| *distance <= DISTANCE_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::settings::{Acks, Compression};

    #[test]
    fn both_dialects_set_the_same() {
        for names in [
            ["bootstrap.servers", "linger.ms", "compression.type", "acks"],
            ["metadata.broker.list", "queue.buffering.max.ms", "compression.codec", "request.required.acks"],
        ] {
            let values = [" a:1 , [::1]:2", "0.5 ", " ZSTD", "1"];
            let settings = names.into_iter().zip(values).collect::<Properties>().settings().expect("set");
            assert_eq!(settings.client.bootstrap.len(), 2);
            assert_eq!(settings.producer.linger, Duration::from_micros(500));
            assert_eq!(settings.producer.compression, Compression::Zstd);
            assert_eq!(settings.producer.acks, Acks::Leader);
        }
    }

    #[test]
    fn a_text_of_jaas_that_is_elsewhere_is_not_unfolded() {
        for value in ["file:/run/jaas.conf", " env:JAAS", "command:pass show jaas"] {
            let mut properties = Properties::from_iter([("sasl.jaas.config", value)]);
            assert!(!properties.unfold_jaas().expect("it is no text of JAAS"), "{value}");
            assert_eq!(properties.iter().collect::<Vec<_>>(), [("sasl.jaas.config", value)]);
        }
        assert!(Properties::from_iter([("sasl.jaas.config", "nonsense")]).unfold_jaas().is_err());
    }

    #[test]
    fn a_mistake_is_told_with_what_was_probably_meant() {
        let check = |name: &str, text: &str, expected: &str| {
            let error = Properties::from_iter([(name, text)]).settings().expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("linger.mss", "5", "did you mean \"linger.ms\"?");
        check("bootstrap.server", "a:1", "did you mean \"bootstrap.servers\"?");
        check("frobnicate", "5", "there is no such setting");
        check("inger.ms", "5", "did you mean \"linger.ms\"?");
        check(&"linger.ms".repeat(100_000), "5", "there is no such setting");
        check("acks", "two", "\"two\" is not one of all, -1, 1, 0");
        check("linger.ms", "-1", "-1 ms is less than the least, 0 ms");
        check("fetch.max.bytes", "many", "\"many\" is not a whole number");
    }

    #[test]
    fn the_last_value_of_a_name_counts_and_those_before_are_not_looked_at() {
        let text = "linger.ms=many\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=a\n\
                    sasl.password=command:/no/such/program\nsasl.oauthbearer.scope=a\nsasl.oauthbearer.scope=\n\
                    linger.ms=7\nsasl.password=hunter2\n";
        let settings = Properties::parse(text).expect("read").settings().expect("set");
        assert_eq!(settings.producer.linger, Duration::from_millis(7));
    }

    #[test]
    fn a_list_of_token_endpoints_keeps_properties_from_files_programs_and_other_ways() {
        let refused = |line: &str| {
            let text =
                format!("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.username=a\n{line}\n");
            let mut properties = Properties::parse(&text).expect("read");
            properties.allow_token_endpoints(["https://issuer.test/token"]);
            properties.settings().expect_err(line).to_string()
        };
        let marker = std::env::temp_dir().join(format!("milena-confined-{}", std::process::id()));
        let command = format!("command:touch {}", marker.display());
        for (name, value) in [
            ("sasl.password", &*command),
            ("topic.sasl.password", &*command),
            ("sasl.password", "env:PATH"),
            ("sasl.password", " file:/etc/passwd"),
            ("ssl.key.password", &*command),
            ("sasl.oauthbearer.client.secret", "file:/etc/passwd"),
            (ASSERTION_FILE, "/etc/passwd"),
            (KEY_FILE, "/etc/passwd"),
            (TEMPLATE, "/etc/passwd"),
            ("sasl.oauthbearer.assertion.jwt.template.file", "/etc/passwd"),
            ("https.ca.location", "/etc/passwd"),
            ("https.ca.pem", "x"),
            ("proxy", "socks5://elsewhere.test:1"),
            ("sasl.jaas.config", &*format!("PlainLoginModule required username=a password=\"{command}\";")),
        ] {
            // Nothing of the ones before it is read or run either.
            let error = refused(&format!("sasl.password=hunter2\n{name}={value}"));
            assert!(error.contains(&format!("setting the property {name:?}")), "{error}");
            assert!(error.contains("Properties::allow_token_endpoints"), "{error}");
            assert!(!error.contains("passwd"), "{error}");
        }
        let error = refused(&format!("ssl.key.password=x\nsasl.password={command}\nproxy=env"));
        assert!(error.contains("allow_token_endpoints") && !marker.exists(), "{error}");
    }

    #[test]
    fn no_name_means_two_settings() {
        let mut names: Vec<_> = SETTINGS.iter().flat_map(SettingDoc::names).chain(Foreign::names()).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        // `acks` is our name and Java's.
        assert_eq!(names.len(), count - 1);
    }

    #[test]
    fn documented_defaults_are_the_defaults() {
        for setting in SETTINGS {
            let mut settings = Settings::default();
            let before = format!("{settings:?}");
            let default = setting.default();
            if !default.is_empty() {
                (setting.read)(&mut settings, &default).expect(setting.name);
            }
            assert_eq!(format!("{settings:?}"), before, "{}", setting.name);
        }
    }

    #[test]
    fn the_defaults_are_within_their_bounds() {
        let mut settings = Settings::default();
        settings.fit().expect("the defaults");
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
    }
}
