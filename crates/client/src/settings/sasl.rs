//! The properties of SASL, as Java and librdkafka name them, and what they say together.

use std::time::Duration;

use milena_core::sasl::Mechanism;

use super::jaas::{self, Entry};
use super::oauth::{OauthProperties, Surroundings};
use super::secret::secret;
use crate::sasl::Unsecured;
use crate::{Login, Sasl, Secret};

/// What the properties of SASL say. Each of them is set on its own, in any order.
#[derive(Debug, Clone, Default)]
pub(super) struct SaslProperties {
    mechanism: Option<String>,
    user: Option<String>,
    password: Option<Secret>,
    jaas: Option<Entry>,
    /// librdkafka's `enable.sasl.oauthbearer.unsecure.jwt`.
    pub(super) is_unsecured: bool,
    /// librdkafka's `sasl.oauthbearer.config`: `NAME=VALUE`, separated by spaces.
    unsecured: Option<Vec<(String, String)>>,
    /// Where tokens are fetched.
    pub(super) oauth: OauthProperties,
}

const MECHANISMS: &str = "PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER or AWS_MSK_IAM";

impl SaslProperties {
    /// `sasl.mechanism`, or `sasl.mechanisms` of librdkafka, which takes one as well.
    pub(super) fn set_mechanism(&mut self, text: &str) -> Result<(), String> {
        let name = text.to_ascii_uppercase();
        let is_known = Mechanism::ALL.iter().any(|known| known.name() == name);
        if !is_known {
            return Err(format!("{text:?} is not supported; choose {MECHANISMS}"));
        }
        self.mechanism = Some(name);
        Ok(())
    }

    pub(super) fn set_user(&mut self, text: &str) -> Result<(), String> {
        self.user = Some(text.to_owned());
        Ok(())
    }

    pub(super) fn set_password(&mut self, text: &str) -> Result<(), String> {
        self.password = Some(secret(text)?);
        Ok(())
    }

    pub(super) fn set_jaas(&mut self, text: &str) -> Result<(), String> {
        // A class's name has no colon, so that a text which begins with a source is none of JAAS.
        let text = secret(text)?;
        let text = std::str::from_utf8(text.expose()).map_err(|_| "what was read is not UTF-8")?;
        self.jaas = Some(jaas::parse(text)?);
        Ok(())
    }

    pub(super) fn set_unsecured(&mut self, text: &str) -> Result<(), String> {
        let option = |word: &str| {
            let (name, value) = word.split_once('=').ok_or("it is not NAME=VALUE, separated by spaces")?;
            Ok((name.to_owned(), value.to_owned()))
        };
        self.unsecured = Some(text.split_whitespace().map(option).collect::<Result<_, String>>()?);
        Ok(())
    }

    /// All that they say, together.
    ///
    /// # Errors
    /// When something is missing, or two of them contradict each other. The reason has no secret.
    pub(super) fn sasl(mut self, surroundings: &Surroundings<'_>) -> Result<Sasl, String> {
        let Some(mechanism) = self.mechanism.take() else {
            return Err(format!(
                "sasl.mechanism is not given, and its default, GSSAPI, is not supported; choose {MECHANISMS}"
            ));
        };
        let asks_issuer = self.oauth.ask(self.jaas.as_ref().filter(|_| mechanism == "OAUTHBEARER"));
        if mechanism == "OAUTHBEARER" && asks_issuer {
            if self.is_unsecured {
                return Err(
                    "an issuer is named, and enable.sasl.oauthbearer.unsecure.jwt asks for tokens without one".into()
                );
            }
            return self.oauth.sasl(self.jaas.as_ref(), surroundings);
        }
        if asks_issuer {
            return Err(format!("sasl.oauthbearer.* is for OAUTHBEARER, and {mechanism} is chosen"));
        }
        if mechanism == "OAUTHBEARER" {
            return self.unsecured_tokens().map(Sasl::oauth_bearer);
        }
        if self.is_unsecured {
            return Err(format!(
                "enable.sasl.oauthbearer.unsecure.jwt is for OAUTHBEARER, and {mechanism} is chosen"
            ));
        }
        if mechanism == "AWS_MSK_IAM" {
            if self.user.is_some() || self.password.is_some() {
                return Err(
                    "sasl.username and sasl.password are not for AWS_MSK_IAM, whose credentials are AWS's"
                        .into(),
                );
            }
            return super::aws::sasl(self.jaas.as_ref());
        }
        let login = self.login(&mechanism)?;
        Ok(match &*mechanism {
            "PLAIN" => Sasl::plain_from(login),
            "SCRAM-SHA-256" => Sasl::scram_sha_256_from(login),
            _ => Sasl::scram_sha_512_from(login),
        })
    }

    /// The user and the password for `mechanism`.
    fn login(self, mechanism: &str) -> Result<Login, String> {
        let Some(entry) = self.jaas else {
            let user = self.user.ok_or("sasl.username is missing, or sasl.jaas.config")?;
            let password = self.password.ok_or("sasl.password is missing")?;
            return Ok(Login::new(user, password));
        };
        if self.user.is_some() || self.password.is_some() {
            return Err("the credentials are given twice: by sasl.jaas.config, and by sasl.username and sasl.password".into());
        }
        let module = if mechanism == "PLAIN" { "PlainLoginModule" } else { "ScramLoginModule" };
        entry.is_of(module, mechanism)?;
        let (mut user, mut password, mut is_token) = (None, None, false);
        for (name, value) in entry.options() {
            match name {
                "username" => user = Some(value.to_owned()),
                "password" => password = Some(secret(value)?),
                "tokenauth" if module == "ScramLoginModule" => is_token = value.eq_ignore_ascii_case("true"),
                _ => return Err(entry.unknown(name)),
            }
        }
        let user = user.ok_or("sasl.jaas.config has no username")?;
        let password = password.ok_or("sasl.jaas.config has no password")?;
        Ok(if is_token { Login::delegation_token(user, password) } else { Login::new(user, password) })
    }

    /// Tokens without a signature, which are for tests (KIP-255).
    fn unsecured_tokens(self) -> Result<Unsecured, String> {
        let mut tokens = Unsecured::default();
        match (&self.jaas, self.is_unsecured) {
            (Some(entry), false) => {
                entry.is_of("OAuthBearerLoginModule", "OAUTHBEARER")?;
                for (name, value) in entry.options() {
                    let claim = |prefix: &str| name.strip_prefix(prefix);
                    if let Some(claim) = claim("unsecuredLoginStringClaim_") {
                        tokens.set_claim(claim, value);
                    } else if let Some(extension) = claim("unsecuredLoginExtension_") {
                        tokens.set_extension(extension, value);
                    } else if name == "unsecuredLoginLifetimeSeconds" {
                        tokens.lifetime = seconds(value)?;
                    } else {
                        return Err(entry.unknown(name));
                    }
                }
            }
            (None, true) => {
                for (name, value) in self.unsecured.iter().flatten() {
                    match (&**name, name.strip_prefix("extension_")) {
                        ("principal", _) => tokens.set_claim("sub", value),
                        ("scope", _) => tokens.set_claim("scope", value),
                        ("lifeSeconds", _) => tokens.lifetime = seconds(value)?,
                        (_, Some(extension)) => tokens.set_extension(extension, value),
                        _ => {
                            return Err(format!(
                                "sasl.oauthbearer.config has the option {name:?}, which is not supported"
                            ));
                        }
                    }
                }
            }
            (Some(_), true) => {
                return Err(
                    "sasl.jaas.config and enable.sasl.oauthbearer.unsecure.jwt contradict each other".into(),
                );
            }
            (None, false) => {
                return Err(
                    "there is nothing that gives tokens: name an issuer (sasl.oauthbearer.token.endpoint.url), set \
                     Sasl::oauth_bearer in code, or ask for unsecured tokens for tests \
                     (enable.sasl.oauthbearer.unsecure.jwt=true)"
                        .into(),
                );
            }
        }
        if !tokens.has_subject() {
            return Err("an unsecured token needs a subject: unsecuredLoginStringClaim_sub in sasl.jaas.config, or principal \
                        in sasl.oauthbearer.config"
                .into());
        }
        Ok(tokens)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=86_400 * 365).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "the lifetime is not a number of seconds from 1 on".into())
}
