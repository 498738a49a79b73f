//! Text that is nowhere shown: passwords, tokens, keys.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// A password, a token or a key. Its text is in no `Debug`, it has no `Display`, and its memory is overwritten when the last
/// clone is dropped. Clones share the text.
///
/// ```
/// use milena_core::Secret;
///
/// let secret = Secret::from("pencil");
/// assert_eq!(secret.reveal(), "pencil");
/// assert_eq!(format!("{secret:?}"), "Secret");
/// ```
///
/// The memory that a text had before it became a secret is its owner's. Give a `String` away, so that there is no other copy.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// `text` with each occurrence of the secret replaced, for texts that come from a peer. A secret of less than four bytes
    /// is left: it would occur by accident, and then show what it is.
    pub(crate) fn hide_in(&self, text: &str) -> String {
        const BYTES_MIN: usize = 4;
        if self.0.len() < BYTES_MIN { text.to_owned() } else { text.replace(&**self.0, "[hidden]") }
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl PartialEq for Secret {
    /// Takes as long wherever the first difference is.
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
