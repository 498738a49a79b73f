//! Passwords, keys and tokens: what must not be printed, and must not stay in memory.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A password, a private key or a token.
///
/// It is not printed: its `Debug` shows `***`, and it has no `Display`. Its memory is overwritten when the last clone is
/// dropped; clones share it. Give a `String` or a `Vec` away to it, so that there is no other copy.
///
/// ```
/// use milena_core::Secret;
///
/// let secret = Secret::from("hunter2");
/// assert_eq!(format!("{secret:?}"), "***");
/// assert_eq!(secret.expose(), b"hunter2");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// The bytes. Whoever calls this must neither print nor keep them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// `text` with each occurrence of the secret replaced, for texts that come from a peer. A secret of less than four bytes
    /// is left: it would occur by accident, and then show what it is.
    pub fn hide_in(&self, text: &str) -> String {
        const BYTES_MIN: usize = 4;
        match std::str::from_utf8(&self.0) {
            Ok(secret) if secret.len() >= BYTES_MIN => text.replace(secret, "***"),
            _ => text.to_owned(),
        }
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::from(text.into_bytes())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes().to_vec())
    }
}

impl PartialEq for Secret {
    /// Takes as long wherever the first difference is.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_alone_or_inside_of_something() {
        let secrets = [
            Secret::from("hunter2"),
            Secret::from(String::from("hunter2")),
            Secret::from(b"hunter2".to_vec()),
        ];
        for secret in &secrets {
            assert_eq!(secret.expose(), b"hunter2");
        }
        assert_eq!(format!("{:?}", Some(&secrets)), "Some([***, ***, ***])");
        assert_eq!(format!("{:#?}", secrets[0].clone()), "***");
    }
}
