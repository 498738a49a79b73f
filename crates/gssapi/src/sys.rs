//! MIT's GSSAPI (RFC 2744, `gssapi.h`, `gssapi_ext.h`), as much as an initiator needs, and values that free what they own.
//!
//! This is the only place with `unsafe`. Each call gets pointers to values that live as long as the call, which the library does
//! not keep, and lengths that are those of the memory they are for.

use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::slice;

/// `gss_buffer_desc`.
#[repr(C)]
struct Buffer {
    length: usize,
    value: *mut c_void,
}

/// `gss_OID_desc`.
#[repr(C)]
struct Oid {
    length: u32,
    elements: *const u8,
}

/// `gss_OID_set_desc`.
#[repr(C)]
struct OidSet {
    count: usize,
    elements: *const Oid,
}

/// `gss_key_value_element_desc`.
#[repr(C)]
struct KeyValue {
    key: *const c_char,
    value: *const c_char,
}

/// `gss_key_value_set_desc`.
#[repr(C)]
struct KeyValues {
    count: u32,
    elements: *const KeyValue,
}

#[link(name = "gssapi_krb5")]
unsafe extern "C" {
    fn gss_import_name(minor: *mut u32, name: *const Buffer, kind: *const Oid, out: *mut *mut c_void) -> u32;
    fn gss_release_name(minor: *mut u32, name: *mut *mut c_void) -> u32;
    fn gss_acquire_cred_from(
        minor: *mut u32,
        name: *mut c_void,
        time: u32,
        mechanisms: *const OidSet,
        usage: c_int,
        store: *const KeyValues,
        out: *mut *mut c_void,
        actual: *mut *mut c_void,
        time_left: *mut u32,
    ) -> u32;
    fn gss_release_cred(minor: *mut u32, credentials: *mut *mut c_void) -> u32;
    fn gss_init_sec_context(
        minor: *mut u32,
        credentials: *mut c_void,
        context: *mut *mut c_void,
        target: *mut c_void,
        mechanism: *const Oid,
        flags: u32,
        time: u32,
        bindings: *const c_void,
        input: *const Buffer,
        actual: *mut *const Oid,
        output: *mut Buffer,
        flags_out: *mut u32,
        time_left: *mut u32,
    ) -> u32;
    fn gss_delete_sec_context(minor: *mut u32, context: *mut *mut c_void, token: *mut Buffer) -> u32;
    fn gss_unwrap(
        minor: *mut u32,
        context: *mut c_void,
        input: *const Buffer,
        output: *mut Buffer,
        is_confidential: *mut c_int,
        quality: *mut u32,
    ) -> u32;
    fn gss_wrap(
        minor: *mut u32,
        context: *mut c_void,
        confidential: c_int,
        quality: u32,
        input: *const Buffer,
        is_confidential: *mut c_int,
        output: *mut Buffer,
    ) -> u32;
    fn gss_release_buffer(minor: *mut u32, buffer: *mut Buffer) -> u32;
    fn gss_display_status(
        minor: *mut u32,
        status: u32,
        kind: c_int,
        mechanism: *const Oid,
        more: *mut u32,
        text: *mut Buffer,
    ) -> u32;
}

/// `GSS_C_NT_HOSTBASED_SERVICE`, 1.2.840.113554.1.2.1.4.
const HOST_BASED_SERVICE: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x04";
/// `GSS_C_NT_USER_NAME`, 1.2.840.113554.1.2.1.1.
const USER_NAME: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x01\x01";
/// Kerberos 5, 1.2.840.113554.1.2.2.
const KERBEROS: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
const MUTUAL: u32 = 2;
const INTEGRITY: u32 = 32;
const CONTINUE_NEEDED: u32 = 1;
/// The part of a status that has errors.
const ERRORS: u32 = 0xffff_0000;
const INITIATE: c_int = 1;

/// The kinds of a principal's name.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// `kafka@host`.
    Service,
    /// `alice@REALM`.
    User,
}

/// A failure, in the library's own words.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) String);

/// `gss_name_t`.
pub(crate) struct Name(*mut c_void);

/// `gss_cred_id_t`.
pub(crate) struct Credentials(*mut c_void);

/// `gss_ctx_id_t`, of an initiator.
pub(crate) struct Context {
    context: *mut c_void,
    credentials: Option<Credentials>,
    target: Name,
}

// SAFETY: the library's objects may be used by one thread after another; none of them is shared, and none is bound to a thread.
unsafe impl Send for Name {}
// SAFETY: as above.
unsafe impl Send for Credentials {}
// SAFETY: as above.
unsafe impl Send for Context {}

fn oid(bytes: &'static [u8]) -> Oid {
    Oid { length: bytes.len() as u32, elements: bytes.as_ptr() }
}

fn borrowed(bytes: &[u8]) -> Buffer {
    Buffer { length: bytes.len(), value: bytes.as_ptr().cast_mut().cast() }
}

fn empty() -> Buffer {
    Buffer { length: 0, value: null_mut() }
}

/// A copy of what the library allocated, which it frees.
fn taken(mut buffer: Buffer) -> Vec<u8> {
    let bytes = if buffer.value.is_null() {
        Vec::new()
    } else {
        // SAFETY: the library has filled in the address and the length of memory that is its own until it is released below.
        unsafe { slice::from_raw_parts(buffer.value.cast::<u8>(), buffer.length) }.to_vec()
    };
    let mut minor = 0;
    // SAFETY: the buffer is the library's, and is not used afterwards.
    unsafe { gss_release_buffer(&mut minor, &mut buffer) };
    bytes
}

fn checked(what: &str, major: u32, minor: u32) -> Result<(), Failure> {
    if major & ERRORS == 0 {
        return Ok(());
    }
    // GSS_C_GSS_CODE says which call failed; GSS_C_MECH_CODE says why, and is Kerberos' own text.
    let of_mechanism = if minor == 0 { String::new() } else { text(minor, 2) };
    let why = if of_mechanism.is_empty() { text(major, 1) } else { of_mechanism };
    Err(Failure(format!("{what}: {why}")))
}

fn text(status: u32, kind: c_int) -> String {
    let (mut minor, mut more, mut buffer, kerberos) = (0, 0, empty(), oid(KERBEROS));
    // SAFETY: all pointers are to values of this function. The text is taken and released.
    unsafe { gss_display_status(&mut minor, status, kind, &kerberos, &mut more, &mut buffer) };
    String::from_utf8_lossy(&taken(buffer)).into_owned()
}

impl Name {
    pub(crate) fn new(text: &str, kind: Kind) -> Result<Self, Failure> {
        let (mut minor, mut name) = (0, null_mut());
        let kind = oid(match kind {
            Kind::Service => HOST_BASED_SERVICE,
            Kind::User => USER_NAME,
        });
        let input = borrowed(text.as_bytes());
        // SAFETY: all pointers are to values of this function.
        let major = unsafe { gss_import_name(&mut minor, &input, &kind, &mut name) };
        let name = Self(name);
        checked("the principal's name is wrong", major, minor).map(|()| name)
    }
}

impl Credentials {
    /// Credentials of `name`, or of the default principal, from a store: `client_keytab`, `ccache`.
    pub(crate) fn acquire(name: Option<&Name>, store: &[(&str, &str)]) -> Result<Self, Failure> {
        let texts =
            store.iter().map(|(key, value)| Some([CString::new(*key).ok()?, CString::new(*value).ok()?]));
        let texts =
            texts.collect::<Option<Vec<_>>>().ok_or_else(|| Failure("a path has a zero byte".into()))?;
        let elements: Vec<_> =
            texts.iter().map(|[key, value]| KeyValue { key: key.as_ptr(), value: value.as_ptr() }).collect();
        let values = KeyValues { count: elements.len() as u32, elements: elements.as_ptr() };
        let (kerberos, mut minor, mut credentials) = (oid(KERBEROS), 0, null_mut());
        let mechanisms = OidSet { count: 1, elements: &kerberos };
        let name = name.map_or(null_mut(), |name| name.0);
        // SAFETY: all pointers are to values of this function, or null where the library allows it.
        let major = unsafe {
            let (actual, time_left) = (null_mut(), null_mut());
            gss_acquire_cred_from(
                &mut minor,
                name,
                0,
                &mechanisms,
                INITIATE,
                &values,
                &mut credentials,
                actual,
                time_left,
            )
        };
        let credentials = Self(credentials);
        checked("there are no Kerberos credentials", major, minor).map(|()| credentials)
    }
}

impl Context {
    pub(crate) fn new(credentials: Option<Credentials>, target: Name) -> Self {
        Self { context: null_mut(), credentials, target }
    }

    /// The next token, and whether the context is established.
    pub(crate) fn step(&mut self, token: &[u8]) -> Result<(Vec<u8>, bool), Failure> {
        let (kerberos, mut minor, mut output) = (oid(KERBEROS), 0, empty());
        let input = borrowed(token);
        let credentials = self.credentials.as_ref().map_or(null_mut(), |credentials| credentials.0);
        // SAFETY: all pointers are to values of this function or of `self`, or null where the library allows it. The context is
        // null at first, and the library's from then on.
        let major = unsafe {
            let (bindings, actual, flags, time_left) = (null(), null_mut(), null_mut(), null_mut());
            gss_init_sec_context(
                &mut minor,
                credentials,
                &mut self.context,
                self.target.0,
                &kerberos,
                MUTUAL | INTEGRITY,
                0,
                bindings,
                &input,
                actual,
                &mut output,
                flags,
                time_left,
            )
        };
        let output = taken(output);
        checked("Kerberos", major, minor)?;
        Ok((output, major & CONTINUE_NEEDED == 0))
    }

    /// What the peer wrapped, if it is the peer's and unchanged.
    pub(crate) fn unwrap(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let (mut minor, mut output, mut is_confidential) = (0, empty(), 0);
        let input = borrowed(message);
        // SAFETY: all pointers are to values of this function, and the context is established.
        let major = unsafe {
            gss_unwrap(&mut minor, self.context, &input, &mut output, &mut is_confidential, null_mut())
        };
        let output = taken(output);
        checked("the broker's message is not its own", major, minor).map(|()| output)
    }

    /// `message` with proof of whose it is.
    pub(crate) fn wrap(&mut self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let (mut minor, mut output, mut is_confidential) = (0, empty(), 0);
        let input = borrowed(message);
        // SAFETY: all pointers are to values of this function, and the context is established.
        let major =
            unsafe { gss_wrap(&mut minor, self.context, 0, 0, &input, &mut is_confidential, &mut output) };
        let output = taken(output);
        checked("a message cannot be wrapped", major, minor).map(|()| output)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // SAFETY: the name is the library's, or null, and is not used afterwards.
        unsafe { gss_release_name(&mut 0, &mut self.0) };
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        // SAFETY: the credentials are the library's, or null, and are not used afterwards.
        unsafe { gss_release_cred(&mut 0, &mut self.0) };
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is the library's, or null, and is not used afterwards.
        unsafe { gss_delete_sec_context(&mut 0, &mut self.context, null_mut()) };
    }
}
