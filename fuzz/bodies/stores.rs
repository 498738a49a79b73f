//! Any bytes as a store of certificates and keys: PEM, DER, PKCS#12 or JKS, whichever they look like.

use milena::Tls;

/// Nothing panics. The first byte chooses whether a password is given, and where the store's content is looked for.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, store)) = data.split_first() else { return };
    let tls = if choice & 1 == 0 {
        Tls::roots_from_pem(store)
    } else {
        Tls::roots_from_pem(store)
            .client_certificate(store, store.to_vec())
            .danger_without_certificate_check()
    };
    let tls = if choice & 2 == 0 { tls } else { tls.roots_password("changeit").key_password("changeit") };
    let first = tls.check().map_err(|error| error.to_string());
    assert_eq!(tls.check().map_err(|error| error.to_string()), first, "it is read the same way again");
}
