//! What options, properties and a profile say together of a schema registry. Pure: no secret is read here, and no error repeats a
//! value that may be one.

use std::fmt;
use std::path::PathBuf;

use milena::http::Url;

use super::RegistryOptions;
use crate::cluster::Resolved;
use crate::config::{By, Chosen};
use crate::profiles::registry::{is_secret, own_name};

/// How a registry is reached.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) urls: Vec<String>,
    /// The hosts to which requests go without TLS.
    pub(super) plain_hosts: Vec<String>,
    pub(super) login: Login,
    pub(super) roots: Roots,
    pub(super) own: Own,
    pub(super) skips_host_name: bool,
}

#[derive(Debug)]
pub(super) enum Login {
    None,
    Basic {
        user: String,
        password: Text,
    },
    /// `USER:PASSWORD`.
    UserInfo(Text),
    Token(Text),
    OAuth {
        endpoint: String,
        id: String,
        secret: Text,
        scope: Option<String>,
        /// What Confluent Cloud wants with each request.
        headers: Vec<(&'static str, String)>,
    },
}

/// Whom to trust.
#[derive(Debug)]
pub(super) enum Roots {
    System,
    File(PathBuf, Option<Text>),
    Pem(String),
}

/// Which certificate to show.
#[derive(Debug)]
pub(super) enum Own {
    None,
    Store { path: PathBuf, password: Option<Text>, key_password: Option<Text> },
    Files { chain: PathBuf, key: PathBuf, key_password: Option<Text> },
}

/// A secret, or where it is, and the option or property that says so.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) name: String,
    pub(super) value: String,
    /// Options are shown by every list of processes, so they must say where the secret is.
    pub(super) is_option: bool,
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Plan {
    /// What is to be done; none if nothing names a registry. `variable` is what the environment says.
    pub(super) fn of(
        options: &RegistryOptions,
        resolved: &Resolved,
        variable: Option<&str>,
    ) -> Result<Option<Self>, String> {
        let given = Properties::of(resolved.given.iter())?;
        let profile = match &resolved.chosen {
            Some(Chosen { profile, .. }) => {
                let pairs = profile.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
                Properties::of(pairs).map_err(|why| format!("the profile {}: {why}", profile.name))?
            }
            None => Properties::default(),
        };
        let by = resolved.chosen.as_ref().map(|chosen| chosen.by);
        let of_profile = profile.value("url");
        let named_profile = of_profile.filter(|_| by == Some(By::Flag));
        let (urls, is_profiles, may_log_in) = if !options.urls.is_empty() {
            (options.urls.join(","), false, false)
        } else if let Some(url) = given.value("url") {
            (url.to_owned(), false, true)
        } else if let Some(url) = named_profile.or(variable).or(of_profile) {
            (url.to_owned(), named_profile.or(variable.is_none().then_some(url)).is_some(), true)
        } else if options.says_anything() || !given.0.is_empty() {
            return Err(
                "options or properties are for a schema registry, and none is named; add --registry URL"
                    .into(),
            );
        } else {
            return Ok(None);
        };
        let mut properties = Properties::default();
        // The credentials of the current profile go to its own registry only.
        if is_profiles || matches!(by, Some(By::Flag | By::Variable)) {
            properties = profile;
        }
        properties.0.extend(given.0);
        let addresses = Addresses::read(&urls, may_log_in)?;
        let login = login(options, &properties, &addresses, resolved)?;
        let (roots, own) = (roots(options, &properties)?, own(options, &properties)?);
        let skips_host_name = properties.skips_host_name()?;
        if !addresses.any_tls && (!matches!((&roots, &own), (Roots::System, Own::None)) || skips_host_name) {
            return Err(
                "certificates are given for the schema registry, and its address is not https://".into()
            );
        }
        let is_plain = options.registry_plaintext || properties.is_true("plaintext")?;
        if let (false, Some(host)) = (is_plain, addresses.plain_hosts.first()) {
            return Err(format!(
                "the schema registry at http://{host} is on another machine and without TLS: everyone on the way reads what is \
                 sent, passwords too. If that is meant, add --registry-plaintext, or schema.registry.plaintext=true to the profile"
            ));
        }
        let Addresses { urls, plain_hosts, .. } = addresses;
        Ok(Some(Self { urls, plain_hosts, login, roots, own, skips_host_name }))
    }
}

impl RegistryOptions {
    fn says_anything(&self) -> bool {
        self.login_options() > 0
            || self.registry_plaintext
            || [&self.registry_ca, &self.registry_certificate].iter().any(|option| option.is_some())
    }

    fn login_options(&self) -> usize {
        [&self.registry_user, &self.registry_token].iter().filter(|option| option.is_some()).count()
    }
}

/// The properties of a registry, by their names without the prefix. A name that comes twice has its last value.
#[derive(Default)]
struct Properties(Vec<(String, Text)>);

impl Properties {
    /// Takes those that are the registry's. One that would have no effect is refused.
    fn of<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let mut own = Self::default();
        for (name, value) in all {
            let Some(short) = own_name(name) else { continue };
            if is_secret(name).is_none() {
                return Err(format!("there is no setting {name:?} of schema registries"));
            }
            let text = Text { name: name.into(), value: value.into(), is_option: false };
            own.0.push((short.to_owned(), text));
        }
        Ok(own)
    }

    fn text(&self, name: &str) -> Option<&Text> {
        let found = self.0.iter().rfind(|(known, _)| known == name).map(|(_, text)| text);
        found.filter(|text| !text.value.trim().is_empty())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.text(name).map(|text| text.value.trim())
    }

    fn is_true(&self, name: &str) -> Result<bool, String> {
        match self.value(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(format!("schema.registry.{name} is not true or false")),
        }
    }

    /// In Java an empty value turns the check off.
    fn skips_host_name(&self) -> Result<bool, String> {
        let found = self.0.iter().rfind(|(known, _)| known == HOST_NAME).map(|(_, text)| text.value.trim());
        match found {
            None => Ok(false),
            Some(value) if value.eq_ignore_ascii_case("https") => Ok(false),
            Some("" | "none") => Ok(true),
            Some(_) => Err(format!(
                "schema.registry.{HOST_NAME} is not https, and not none or empty, which turn the check of the host name off"
            )),
        }
    }

    /// The first property whose name begins so and is none of these.
    fn other(&self, beginning: &str, than: &[&str]) -> Option<&Text> {
        let is_other = |name: &str| name.starts_with(beginning) && !than.contains(&name);
        let found = self.0.iter().find(|(name, text)| is_other(name) && !text.value.trim().is_empty());
        found.map(|(_, text)| text)
    }
}

const HOST_NAME: &str = "ssl.endpoint.identification.algorithm";

/// The addresses of a registry.
struct Addresses {
    /// Without users.
    urls: Vec<String>,
    /// `USER:PASSWORD`, if the addresses have one.
    user_info: Option<Text>,
    plain_hosts: Vec<String>,
    any_tls: bool,
}

impl Addresses {
    fn read(list: &str, may_log_in: bool) -> Result<Self, String> {
        let mut read = Self { urls: Vec::new(), user_info: None, plain_hosts: Vec::new(), any_tls: false };
        for url in list.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let (url, user_info) = without_user(url)?;
            if user_info.is_some() && !may_log_in {
                return Err("--registry has a user in it; every list of processes shows arguments, so give --registry-user and \
                            --registry-password"
                    .into());
            }
            if let Some(info) = user_info {
                let text =
                    Text { name: "the user in the registry's address".into(), value: info, is_option: false };
                if read.user_info.as_ref().is_some_and(|known| known.value != text.value) {
                    return Err("the registry's addresses have different users in them".into());
                }
                read.user_info = Some(text);
            }
            // The error does not repeat the text, which may have a secret in it.
            let parsed: Url =
                url.parse().map_err(|why| format!("the address of the schema registry: {why}"))?;
            let is_encrypted = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
            read.any_tls |= is_encrypted;
            if !is_encrypted && !is_here(parsed.host()) {
                read.plain_hosts.push(parsed.host().to_owned());
            }
            read.urls.push(url);
        }
        if read.urls.is_empty() {
            return Err("the address of the schema registry is empty".into());
        }
        Ok(read)
    }
}

/// Whether the host is this machine.
fn is_here(host: &str) -> bool {
    host.trim_end_matches('.').eq_ignore_ascii_case("localhost")
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// The address without its user and password, and these.
fn without_user(url: &str) -> Result<(String, Option<String>), String> {
    let Some((scheme, rest)) = url.split_once("://") else { return Ok((url.to_owned(), None)) };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let Some((info, _)) = authority.rsplit_once('@') else { return Ok((url.to_owned(), None)) };
    let decoded =
        decoded(info).ok_or("the user in the registry's address has a % without two hexadecimal digits")?;
    Ok((format!("{scheme}://{}", &rest[info.len() + 1..]), Some(decoded)))
}

fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok())?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).ok()
}

fn login(
    options: &RegistryOptions,
    properties: &Properties,
    addresses: &Addresses,
    resolved: &Resolved,
) -> Result<Login, String> {
    let option = |name: &str, value: &Option<String>| {
        let value = value.clone().unwrap_or_default();
        Text { name: name.into(), value, is_option: true }
    };
    if let Some(user) = &options.registry_user {
        let password = option("--registry-password", &options.registry_password);
        return Ok(Login::Basic { user: user.clone(), password });
    }
    if options.registry_token.is_some() {
        return Ok(Login::Token(option("--registry-token", &options.registry_token)));
    }
    let basic = basic(properties, addresses, resolved)?;
    let bearer = bearer(properties)?;
    match (basic, bearer) {
        (Some(_), Some(_)) => {
            Err("basic.auth.* and bearer.auth.* are both given; the schema registry is told one of them"
                .into())
        }
        (Some(login), None) | (None, Some(login)) => Ok(login),
        (None, None) => Ok(Login::None),
    }
}

/// `basic.auth.*`, as Java reads it, but that the user's info needs no source.
fn basic(
    properties: &Properties,
    addresses: &Addresses,
    resolved: &Resolved,
) -> Result<Option<Login>, String> {
    const INFO: &str = "basic.auth.user.info";
    let info = properties.text(INFO);
    let of_url = addresses.user_info.as_ref();
    let source = properties.value("basic.auth.credentials.source");
    let useless = |source: &str| {
        format!("{INFO} has no effect with basic.auth.credentials.source={source}; remove one of the two")
    };
    match (source, info) {
        (None, None) => Ok(of_url.cloned().map(Login::UserInfo)),
        (None | Some("USER_INFO"), Some(_)) if of_url.is_some() => {
            Err(format!("the registry's address has a user in it, and {INFO} has one; remove one of the two"))
        }
        (None | Some("USER_INFO"), Some(info)) => Ok(Some(Login::UserInfo(info.clone()))),
        (Some("USER_INFO"), None) => {
            Err(format!("basic.auth.credentials.source is USER_INFO, and {INFO} is not given"))
        }
        (Some(source @ ("URL" | "SASL_INHERIT")), Some(_)) => Err(useless(source)),
        (Some("URL"), None) => of_url.cloned().map(Login::UserInfo).map(Some).ok_or_else(|| {
            "basic.auth.credentials.source is URL, and schema.registry.url has no USER:PASSWORD@ in it".into()
        }),
        (Some("SASL_INHERIT"), None) => inherited(resolved).map(Some),
        (Some(_), _) => {
            Err("basic.auth.credentials.source is not one of USER_INFO, URL, SASL_INHERIT".into())
        }
    }
}

/// The user with which the cluster is logged in to.
fn inherited(resolved: &Resolved) -> Result<Login, String> {
    let mut all = resolved.properties.clone();
    all.unfold_jaas().map_err(|error| error.to_string())?;
    let value =
        |name: &str| all.iter().filter(|(known, _)| *known == name).last().map(|(_, value)| value.to_owned());
    match (value("sasl.username"), value("sasl.password")) {
        (Some(user), Some(value)) => {
            let password = Text { name: "sasl.password".into(), value, is_option: false };
            Ok(Login::Basic { user, password })
        }
        _ => Err("basic.auth.credentials.source is SASL_INHERIT, and neither sasl.username and sasl.password nor a \
                  sasl.jaas.config with them is given"
            .into()),
    }
}

fn bearer(properties: &Properties) -> Result<Option<Login>, String> {
    const SOURCE: &str = "bearer.auth.credentials.source";
    const TOKEN: &str = "bearer.auth.token";
    let source = properties.value(SOURCE);
    let token = properties.text(TOKEN);
    let missing = |source: &str, name: &str| format!("{SOURCE} is {source}, and {name} is not given");
    let of_others = |source: &str, own: &[&str]| match properties.other("bearer.auth.", own) {
        Some(other) => Err(format!("{} has no effect with {SOURCE}={source}; remove it", other.name)),
        None => Ok(()),
    };
    match source {
        // In Java a token alone is STATIC_TOKEN too.
        None | Some("STATIC_TOKEN") => {
            of_others("STATIC_TOKEN", &[SOURCE, TOKEN])?;
            match (source, token) {
                (None, None) => Ok(None),
                (Some(source), None) => Err(missing(source, TOKEN)),
                (_, Some(token)) => Ok(Some(Login::Token(token.clone()))),
            }
        }
        Some(source @ "OAUTHBEARER") => {
            const ENDPOINT: &str = "bearer.auth.issuer.endpoint.url";
            const ID: &str = "bearer.auth.client.id";
            const SECRET: &str = "bearer.auth.client.secret";
            const SCOPE: &str = "bearer.auth.scope";
            const CLUSTER: &str = "bearer.auth.logical.cluster";
            const POOL: &str = "bearer.auth.identity.pool.id";
            of_others(source, &[SOURCE, ENDPOINT, ID, SECRET, SCOPE, CLUSTER, POOL])?;
            let needed = |name: &str| properties.text(name).ok_or_else(|| missing(source, name));
            let headers = [("target-sr-cluster", CLUSTER), ("confluent-identity-pool-id", POOL)];
            let headers = headers
                .iter()
                .filter_map(|(header, name)| Some((*header, properties.value(name)?.to_owned())));
            Ok(Some(Login::OAuth {
                endpoint: needed(ENDPOINT)?.value.trim().to_owned(),
                id: needed(ID)?.value.trim().to_owned(),
                secret: needed(SECRET)?.clone(),
                scope: properties.value(SCOPE).map(str::to_owned),
                headers: headers.collect(),
            }))
        }
        Some(_) => {
            Err(format!("{SOURCE} is not one of STATIC_TOKEN, OAUTHBEARER, which are those that Milena has"))
        }
    }
}

fn roots(options: &RegistryOptions, properties: &Properties) -> Result<Roots, String> {
    if let Some(path) = &options.registry_ca {
        return Ok(Roots::File(path.clone(), None));
    }
    let file = "ssl.truststore.location";
    check_form(properties, "ssl.truststore.type", properties.value(file).is_some())?;
    let found = [properties.value(file), properties.value("ssl.ca.location")];
    let pem = properties.value("ssl.truststore.certificates");
    let password = properties.text("ssl.truststore.password");
    match (found, pem, password) {
        ([None, None], None, None) => Ok(Roots::System),
        ([Some(path), None], None, password) => Ok(Roots::File(path.into(), password.cloned())),
        ([None, Some(path)], None, None) => Ok(Roots::File(path.into(), None)),
        ([None, None], Some(pem), None) => Ok(Roots::Pem(pem.to_owned())),
        ([None, _], _, Some(_)) => {
            Err("schema.registry.ssl.truststore.password is given and schema.registry.ssl.truststore.location is not".into())
        }
        _ => Err("the authorities to trust for the schema registry are given in more than one way \
                  (schema.registry.ssl.truststore.location, .ssl.truststore.certificates, .ssl.ca.location)"
            .into()),
    }
}

fn own(options: &RegistryOptions, properties: &Properties) -> Result<Own, String> {
    let option_password = options.registry_key_password.as_ref().map(|value| Text {
        name: "--registry-key-password".into(),
        value: value.clone(),
        is_option: true,
    });
    match (&options.registry_certificate, &options.registry_key) {
        (Some(chain), Some(key)) => {
            return Ok(Own::Files { chain: chain.clone(), key: key.clone(), key_password: option_password });
        }
        (Some(path), None) => {
            return Ok(Own::Store { path: path.clone(), password: option_password, key_password: None });
        }
        (None, _) => {}
    }
    let store = properties.value("ssl.keystore.location");
    check_form(properties, "ssl.keystore.type", store.is_some())?;
    let password = properties.text("ssl.keystore.password").cloned();
    let key_password = properties.text("ssl.key.password").cloned();
    let (chain, key) = (properties.value("ssl.certificate.location"), properties.value("ssl.key.location"));
    match (store, chain, key) {
        (Some(path), None, None) => Ok(Own::Store { path: path.into(), password, key_password }),
        (None, Some(chain), Some(key)) if password.is_none() => {
            Ok(Own::Files { chain: chain.into(), key: key.into(), key_password })
        }
        (None, None, None) if password.is_none() && key_password.is_none() => Ok(Own::None),
        (Some(_), _, _) => Err(
            "schema.registry.ssl.keystore.location is given, and so are a certificate or a key outside of it"
                .into(),
        ),
        (None, None, None) => Err(
            "a password is given for the key of a client certificate, and no key for the schema registry \
                                   (schema.registry.ssl.keystore.location)"
                .into(),
        ),
        (None, _, _) => {
            Err("of schema.registry.ssl.certificate.location and schema.registry.ssl.key.location both are \
                             needed, and no ssl.keystore.password"
                .into())
        }
    }
}

/// The form of a store is seen in the file, so its name must only be one that can be read.
fn check_form(properties: &Properties, name: &str, has_store: bool) -> Result<(), String> {
    match properties.value(name).map(str::to_ascii_uppercase).as_deref() {
        None => Ok(()),
        Some(_) if !has_store => Err(format!("schema.registry.{name} is given and its store is not")),
        Some("JKS" | "PKCS12" | "PEM") => Ok(()),
        Some(_) => Err(format!("schema.registry.{name} is not one of JKS, PKCS12, PEM")),
    }
}
