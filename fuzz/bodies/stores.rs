//! Any bytes as a store of certificates and keys: PEM, DER, PKCS#12 or JKS, whichever they look like.

use milena::Tls;

const PASSWORD: &str = "changeit";

/// Nothing panics. The bits of the first byte choose whether the store is one of roots or of the client's certificate and key, whether
/// a password is given, and whether the certificate and the key are in one store or apart.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, store)) = data.split_first() else { return };
    let has = |bit: u8| choice & bit != 0;
    let tls = Tls::roots_from_pem(if has(1) { b"" } else { store });
    let tls = match (has(1), has(4)) {
        (false, _) => tls,
        (true, false) => tls.client_certificate(store, store.to_vec()).danger_without_certificate_check(),
        (true, true) => {
            let password = has(2).then(|| PASSWORD.into());
            tls.client_store_from_bytes(store.to_vec(), password).danger_without_certificate_check()
        }
    };
    let tls = if has(2) { tls.roots_password(PASSWORD).key_password(PASSWORD) } else { tls };
    let first = tls.check().map_err(|error| error.to_string());
    assert_eq!(tls.check().map_err(|error| error.to_string()), first, "it is read the same way again");
}
