//! The properties of TLS, as Java and librdkafka name them, and what they say together.

use crate::Secret;
#[cfg(feature = "tls")]
use crate::tls::{Form, Tls, TlsVersion};

/// What the properties of TLS say. Each of them is set on its own, in any order.
#[derive(Debug, Clone, Default)]
pub(super) struct TlsProperties {
    pub(super) roots: StoreProperties,
    pub(super) own: StoreProperties,
    /// The client's certificates, in PEM or in a file.
    pub(super) chain_pem: Option<String>,
    pub(super) chain_location: Option<String>,
    /// Its private key, in PEM or in a file.
    pub(super) key_pem: Option<Secret>,
    pub(super) key_location: Option<String>,
    pub(super) key_password: Option<Secret>,
    pub(super) revocation_list: Option<String>,
    pub(super) skips_host_name: bool,
    pub(super) skips_certificate: bool,
    /// TLS 1.2 and 1.3, as the list of the enabled protocols has them.
    pub(super) enabled: Option<[bool; 2]>,
    pub(super) is_at_most_12: bool,
}

/// A store of certificates and keys.
#[derive(Debug, Clone, Default)]
pub(super) struct StoreProperties {
    pub(super) location: Option<String>,
    pub(super) pem: Option<String>,
    pub(super) password: Option<Secret>,
    pub(super) form: Option<StoreForm>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreForm {
    Jks,
    Pkcs12,
    Pem,
}

/// `ssl.truststore.type` and `ssl.keystore.type`.
pub(super) fn form(text: &str) -> Result<Option<StoreForm>, String> {
    match text.to_ascii_uppercase().as_str() {
        "" => Ok(None),
        "JKS" => Ok(Some(StoreForm::Jks)),
        "PKCS12" => Ok(Some(StoreForm::Pkcs12)),
        "PEM" => Ok(Some(StoreForm::Pem)),
        _ => Err(format!("{text:?} is not one of JKS, PKCS12, PEM")),
    }
}

/// `ssl.endpoint.identification.algorithm`. In Java an empty value turns the check off, and in librdkafka `none` does.
pub(super) fn skips_host_name(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "https" => Ok(false),
        "" | "none" => Ok(true),
        _ => Err(format!(
            "{text:?} is not https, and not none or empty, which turn the check of the host name off"
        )),
    }
}

/// `ssl.enabled.protocols`: older versions are passed over if a newer one is there, because only newer ones are left.
pub(super) fn enabled(text: &str) -> Result<[bool; 2], String> {
    let mut enabled = [false; 2];
    for word in text.split(',').map(str::trim) {
        match word {
            "TLSv1.2" => enabled[0] = true,
            "TLSv1.3" => enabled[1] = true,
            "TLSv1.1" | "TLSv1" | "SSLv3" | "SSLv2Hello" | "" => {}
            _ => return Err(format!("{word:?} is no version of TLS; TLSv1.2 and TLSv1.3 are")),
        }
    }
    match enabled {
        [false, false] => Err("of these versions of TLS none is safe; TLSv1.2 and TLSv1.3 are".into()),
        _ => Ok(enabled),
    }
}

/// `ssl.protocol`: the newest version. Whether it means that only.
pub(super) fn is_at_most_12(text: &str) -> Result<bool, String> {
    match text {
        "" | "TLS" | "TLSv1.3" => Ok(false),
        "TLSv1.2" => Ok(true),
        _ => Err(format!("{text:?} is not one of TLSv1.3, TLSv1.2, TLS")),
    }
}

#[cfg(feature = "tls")]
impl TlsProperties {
    /// What they say together.
    pub(super) fn tls(&self) -> Result<Tls, String> {
        let StoreProperties { location, pem, password, form } = &self.roots;
        let tls = match (location.as_deref(), pem) {
            (Some(_), Some(_)) => {
                return Err("roots are given both in a file and in PEM (ssl.truststore.location, ssl.truststore.certificates, \
                            ssl.ca.location, ssl.ca.pem)"
                    .into());
            }
            (Some("probe"), None) => Tls::system_roots(),
            (Some(path), None) => Tls::roots_from_file(path),
            (None, Some(pem)) => Tls::roots_from_pem(pem.as_str()),
            (None, None) if password.is_some() => {
                return Err("ssl.truststore.password is given and ssl.truststore.location is not".into());
            }
            (None, None) => Tls::system_roots(),
        };
        let tls = tls.with_roots_form(form.map(StoreForm::of_tls));
        let tls = match password {
            Some(password) => tls.roots_password(password.clone()),
            None => tls,
        };
        let mut tls = self.with_own(tls)?;
        if let Some(password) = &self.key_password {
            tls = tls.key_password(password.clone());
        }
        if let Some(path) = &self.revocation_list {
            tls = tls.revocation_lists(path);
        }
        let [has_12, has_13] = self.enabled.unwrap_or([true, true]);
        if !has_12 {
            tls = tls.min_version(TlsVersion::Tls13);
        }
        if !has_13 || self.is_at_most_12 {
            tls = tls.max_version(TlsVersion::Tls12);
        }
        if self.skips_host_name {
            tls = tls.danger_without_host_name_check();
        }
        if self.skips_certificate {
            tls = tls.danger_without_certificate_check();
        }
        Ok(tls)
    }

    fn with_own(&self, tls: Tls) -> Result<Tls, String> {
        let Self { own, chain_pem, chain_location, key_pem, key_location, .. } = self;
        if let Some(path) = &own.location {
            if [chain_pem, chain_location, key_location].iter().any(|given| given.is_some())
                || key_pem.is_some()
            {
                return Err(
                    "ssl.keystore.location is given, and so are a certificate or a key outside of it".into(),
                );
            }
            return Ok(tls
                .client_store(path, own.password.clone())
                .with_own_form(own.form.map(StoreForm::of_tls)));
        }
        if own.password.is_some() {
            return Err("ssl.keystore.password is given and ssl.keystore.location is not".into());
        }
        Ok(match (chain_pem, chain_location, key_pem, key_location) {
            (None, None, None, None) if self.key_password.is_some() => {
                return Err("ssl.key.password is given and no key is".into());
            }
            (None, None, None, None) => tls,
            (Some(chain), None, Some(key), None) => tls.client_certificate(chain.as_str(), key.clone()),
            (None, Some(chain), None, Some(key)) => tls.client_certificate_files(chain, key),
            (None, None, _, _) => return Err("a private key is given and no certificate for it".into()),
            (_, _, None, None) => {
                return Err("a client certificate is given and no private key for it".into());
            }
            _ => return Err("certificate and key must both be in files, or both in PEM".into()),
        })
    }
}

#[cfg(feature = "tls")]
impl StoreForm {
    fn of_tls(self) -> Form {
        match self {
            Self::Jks => Form::Jks,
            Self::Pkcs12 => Form::Pkcs12,
            Self::Pem => Form::Pem,
        }
    }
}
