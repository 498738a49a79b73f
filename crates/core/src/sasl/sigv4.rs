//! AWS's signatures, version 4: what a request says, hashed and signed with a key of the day, the region and the service.
//!
//! ```text
//!  request ─▶ canonical text ─ SHA-256 ─▶ text to sign ─┐
//!  secret ─ HMAC day ─ HMAC region ─ HMAC service ──────┴─ HMAC ─▶ signature
//! ```
//!
//! It must not know what a request is for; [`msk`](super::msk) does.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::Secret;

/// Whose signature it is, and for which service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) access_key: &'a str,
    pub(super) secret: &'a Secret,
    pub(super) session_token: Option<&'a Secret>,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// When it is signed, in seconds since 1970.
    pub(super) unix_seconds: i64,
}

/// The name and the value of a parameter, which may be a secret.
pub(super) type Parameter = (&'static str, Zeroizing<String>);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

impl Signer<'_> {
    /// The parameters that sign `GET https://host/?Action=action` for so many seconds from now on. The signature is the last.
    pub(super) fn presigned(&self, host: &str, action: &str, valid_seconds: u32) -> Vec<Parameter> {
        let value = |text: String| Zeroizing::new(text);
        let mut parameters = vec![
            ("Action", value(action.into())),
            ("X-Amz-Algorithm", value(ALGORITHM.into())),
            ("X-Amz-Credential", value(format!("{}/{}", self.access_key, self.scope()))),
            ("X-Amz-Date", value(timestamp(self.unix_seconds))),
            ("X-Amz-Expires", value(valid_seconds.to_string())),
        ];
        // The names are in the order in which they are signed.
        if let Some(token) = self.session_token {
            parameters
                .push(("X-Amz-Security-Token", value(String::from_utf8_lossy(token.expose()).into_owned())));
        }
        parameters.push(("X-Amz-SignedHeaders", value("host".into())));
        let signature = self.signature("GET", &query(&parameters), &[("host", host)]);
        parameters.push(("X-Amz-Signature", value(signature)));
        parameters
    }

    /// The signature of a request for `/` without a body, whose query is encoded and sorted, as its headers are.
    fn signature(&self, method: &str, query: &str, headers: &[(&str, &str)]) -> String {
        let mut canonical = Zeroizing::new(String::with_capacity(query.len() + 512));
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        // Writing to a String does not fail.
        let _ = write!(canonical, "{method}\n/\n{query}\n");
        for (name, value) in headers {
            let _ = writeln!(canonical, "{name}:{value}");
        }
        let _ = write!(canonical, "\n{}\n{}", names.join(";"), hex(&Sha256::digest(b"")));
        let hash = hex(&Sha256::digest(canonical.as_bytes()));
        let signed = format!("{ALGORITHM}\n{}\n{}\n{hash}", timestamp(self.unix_seconds), self.scope());
        hex(&hmac(&*self.key(), signed.as_bytes()))
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/aws4_request", &timestamp(self.unix_seconds)[..8], self.region, self.service)
    }

    /// The key of this day, region and service.
    fn key(&self) -> Zeroizing<[u8; 32]> {
        let secret = self.secret.expose();
        let mut key = Zeroizing::new(Vec::with_capacity(4 + secret.len()));
        key.extend_from_slice(b"AWS4");
        key.extend_from_slice(secret);
        let day = timestamp(self.unix_seconds);
        let mut key = Zeroizing::new(hmac(&key, &day.as_bytes()[..8]));
        for part in [self.region, self.service, "aws4_request"] {
            key = Zeroizing::new(hmac(&*key, part.as_bytes()));
        }
        key
    }
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The parameters as a URL's query.
pub(super) fn query(parameters: &[Parameter]) -> Zeroizing<String> {
    let bytes: usize = parameters.iter().map(|(name, value)| name.len() + 3 * value.len() + 2).sum();
    let mut query = Zeroizing::new(String::with_capacity(bytes));
    for (name, value) in parameters {
        if !query.is_empty() {
            query.push('&');
        }
        query.push_str(name);
        query.push('=');
        percent_encode(&mut query, value);
    }
    query
}

/// Adds `text` to a part of a URL: everything but RFC 3986's unreserved characters is encoded.
pub fn percent_encode(to: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => to.push(char::from(byte)),
            _ => {
                let _ = write!(to, "%{byte:02X}");
            }
        }
    }
}

/// `20150830T123600Z`. Times before 1970 and after 9999 are moved to these.
fn timestamp(unix_seconds: i64) -> String {
    const LAST: i64 = 253_402_300_799;
    let seconds = unix_seconds.clamp(0, LAST);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    // Howard Hinnant's `civil_from_days`: years begin in March, so that a leap day is a year's last.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What botocore signs, among it Amazon's published test suite: `interop/python/sigv4_golden.py`.
    const GOLDEN: &str = include_str!("golden/sigv4.tsv");

    fn rows(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
        let cells = GOLDEN.lines().map(|line| line.split('\t').collect::<Vec<_>>());
        cells.filter(move |cells| cells[0] == kind)
    }

    fn secret() -> Secret {
        Secret::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    }

    fn signer<'a>(secret: &'a Secret, region: &'a str, service: &'a str, unix_seconds: i64) -> Signer<'a> {
        Signer { access_key: "AKIDEXAMPLE", secret, session_token: None, region, service, unix_seconds }
    }

    #[test]
    fn the_key_is_the_published_one() {
        // "Deriving a signing key" of Amazon's documentation.
        let secret = secret();
        let key = signer(&secret, "us-east-1", "iam", 1_440_938_160).key();
        assert_eq!(hex(&*key), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn requests_of_amazons_test_suite_have_their_signatures() {
        let secret = secret();
        let signer = signer(&secret, "us-east-1", "service", 1_440_938_160);
        let mut count = 0;
        for row in rows("signed") {
            let mut parts: Vec<_> = row[3].split('&').collect();
            parts.sort_unstable();
            let headers = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
            assert_eq!(signer.signature(row[1], &parts.join("&"), &headers), row[4], "{row:?}");
            count += 1;
        }
        assert_eq!(count, 5);
    }

    #[test]
    fn presigned_requests_are_those_of_amazons_own_implementation() {
        let secret = secret();
        let mut count = 0;
        for row in rows("presigned") {
            let (host, region, time) = (row[1], row[2], row[3].parse().expect("a time"));
            let token = Some(row[4]).filter(|token| !token.is_empty()).map(Secret::from);
            let signer =
                Signer { session_token: token.as_ref(), ..signer(&secret, region, "kafka-cluster", time) };
            let parameters =
                signer.presigned(host, "kafka-cluster:Connect", row[5].parse().expect("seconds"));
            // botocore adds the session token after the signed headers. What is signed is sorted.
            let expected = row[6].split_once("/?").expect("a query").1;
            let sorted = |query: &str| {
                let mut parts: Vec<_> = query.split('&').map(str::to_owned).collect();
                parts.sort_unstable();
                parts
            };
            assert_eq!(sorted(&query(&parameters)), sorted(expected), "{row:?}");
            count += 1;
        }
        assert_eq!(count, 6);
    }

    #[test]
    fn times_are_dates_of_the_gregorian_calendar() {
        for (seconds, expected) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_164_799, "20240228T235959Z"),
            (4_107_542_400, "21000301T000000Z"),
            (1_440_938_160, "20150830T123600Z"),
            (i64::MIN, "19700101T000000Z"),
            (i64::MAX, "99991231T235959Z"),
        ] {
            assert_eq!(timestamp(seconds), expected);
        }
    }
}
