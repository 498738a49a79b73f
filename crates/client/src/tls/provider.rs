//! Chooses who does the cryptography.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// The provider that the process has installed, or else the one that this crate was built with. If it was built with several,
/// one that was asked for by name goes before the default one.
pub(super) fn provider() -> Result<Arc<CryptoProvider>, String> {
    match CryptoProvider::get_default() {
        Some(installed) => Ok(Arc::clone(installed)),
        None => built_in().map(Arc::new),
    }
}

#[cfg(feature = "aws-lc-rs")]
fn built_in() -> Result<CryptoProvider, String> {
    Ok(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
fn built_in() -> Result<CryptoProvider, String> {
    Ok(rustls::crypto::ring::default_provider())
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
fn built_in() -> Result<CryptoProvider, String> {
    graviola::provider()
}

const OTHERS: &str = "build with the feature \"ring\" or \"aws-lc-rs\", or install another provider of rustls with \
                      CryptoProvider::install_default";

#[cfg(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[cfg_attr(any(feature = "ring", feature = "aws-lc-rs"), allow(dead_code, reason = "the other one is used"))]
mod graviola {
    use rustls::crypto::CryptoProvider;

    use super::OTHERS;

    pub(super) fn provider() -> Result<CryptoProvider, String> {
        // graviola panics where it misses one of them.
        let needed = needed().into_iter();
        let missing: Vec<_> = needed.filter(|(_, is_there)| !is_there).map(|(name, _)| name).collect();
        usable(&missing)?;
        Ok(rustls_graviola::default_provider())
    }

    /// Says which features the processor misses.
    pub(super) fn usable(missing: &[&str]) -> Result<(), String> {
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(", ");
        Err(format!("this processor has no {missing}, which TLS by graviola needs; {OTHERS}"))
    }

    /// What graviola needs, and whether the processor has it.
    #[cfg(target_arch = "x86_64")]
    fn needed() -> [(&'static str, bool); 6] {
        use std::arch::is_x86_feature_detected as has;
        [
            ("AES", has!("aes")),
            ("PCLMULQDQ", has!("pclmulqdq")),
            ("BMI1", has!("bmi1")),
            ("ADX", has!("adx")),
            ("AVX", has!("avx")),
            ("AVX2", has!("avx2")),
        ]
    }

    #[cfg(target_arch = "aarch64")]
    fn needed() -> [(&'static str, bool); 4] {
        use std::arch::is_aarch64_feature_detected as has;
        [("NEON", has!("neon")), ("AES", has!("aes")), ("PMULL", has!("pmull")), ("SHA2", has!("sha2"))]
    }
}

#[cfg(not(all(feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[cfg_attr(any(feature = "ring", feature = "aws-lc-rs"), allow(dead_code, reason = "the other one is used"))]
mod graviola {
    use rustls::crypto::CryptoProvider;

    pub(super) fn provider() -> Result<CryptoProvider, String> {
        Err(format!("TLS has no cryptography in this build; {}", super::OTHERS))
    }
}

#[cfg(all(test, feature = "graviola", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    #[test]
    fn a_processor_that_misses_something_is_told_what_and_what_to_do() {
        use super::graviola::usable;

        assert_eq!(usable(&[]), Ok(()));
        assert_eq!(
            usable(&["ADX", "AVX2"]).expect_err("missing"),
            "this processor has no ADX, AVX2, which TLS by graviola needs; build with the feature \"ring\" or \
             \"aws-lc-rs\", or install another provider of rustls with CryptoProvider::install_default"
        );
    }
}
