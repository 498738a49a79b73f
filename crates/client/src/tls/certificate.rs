//! Reads of a certificate what errors and reports name: how long it is valid, whose it is, and who signed it. Whether to trust
//! it is decided elsewhere.

use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::der::{Der, GENERALIZED_TIME, INTEGER, Malformed, OID, SEQUENCE, SET, UTC_TIME, context};

/// The time within which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validity {
    /// The first moment.
    pub not_before: SystemTime,
    /// The last moment. Connections that are open then stay open; new ones fail.
    pub not_after: SystemTime,
}

/// What is read of a certificate.
pub(super) struct Certificate<'a> {
    pub(super) validity: Validity,
    issuer: &'a [u8],
    subject: &'a [u8],
}

impl<'a> Certificate<'a> {
    pub(super) fn read(der: &'a [u8]) -> Result<Self, Malformed> {
        let mut signed = Der::new(der).within(SEQUENCE)?.within(SEQUENCE)?;
        signed.optional(context(0))?;
        signed.content(INTEGER)?;
        signed.content(SEQUENCE)?;
        let issuer = signed.content(SEQUENCE)?;
        let mut validity = signed.within(SEQUENCE)?;
        let validity = Validity { not_before: time(&mut validity)?, not_after: time(&mut validity)? };
        let subject = signed.content(SEQUENCE)?;
        Ok(Self { validity, issuer, subject })
    }

    /// Whether `other` may have signed it, as far as their names tell.
    pub(super) fn is_issued_by(&self, other: &Self) -> bool {
        self.issuer == other.subject
    }

    pub(super) fn is_self_issued(&self) -> bool {
        self.issuer == self.subject
    }

    pub(super) fn issuer(&self) -> String {
        name(self.issuer)
    }
}

/// A time, such as `261129013219Z` or `20261129013219Z`.
fn time(der: &mut Der<'_>) -> Result<SystemTime, Malformed> {
    let value = der.any()?;
    let text = value.content.strip_suffix(b"Z").ok_or(Malformed)?;
    let digits = |range: std::ops::Range<usize>| {
        let digits = text.get(range).ok_or(Malformed)?;
        digits.iter().try_fold(0u64, |number, digit| match digit {
            b'0'..=b'9' => Ok(number * 10 + u64::from(digit - b'0')),
            _ => Err(Malformed),
        })
    };
    let (year, at) = match (value.tag, text.len()) {
        // RFC 5280: two digits from 50 on are of the last century.
        (UTC_TIME, 12) => (digits(0..2).map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, 2),
        (GENERALIZED_TIME, 14) => (digits(0..4)?, 4),
        _ => return Err(Malformed),
    };
    let field = |index: usize| digits(at + 2 * index..at + 2 * index + 2);
    let (month, day) = (field(0)?, field(1)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        // A certificate from before 1970 is valid from then on as well as from 1970 on.
        return if year < 1970 { Ok(UNIX_EPOCH) } else { Err(Malformed) };
    }
    let seconds = days(year, month, day) * 86_400 + field(2)? * 3600 + field(3)? * 60 + field(4)?;
    Ok(UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The days from 1970 on to a day of the Gregorian calendar. Years are taken to begin in March, so that the leap day is the
/// last one.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

/// A time as people read it, in UTC.
pub(super) struct Utc(pub(super) SystemTime);

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let (day, within) = (seconds / 86_400 + 719_468, seconds % 86_400);
        let (era, day) = (day / 146_097, day % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = era * 400 + year + u64::from(month <= 2);
        let (hour, minute) = (within / 3600, within / 60 % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
    }
}

/// The short names of what names consist of, by the last byte of 2.5.4.
const ATTRIBUTES: [(u8, &str); 6] = [(3, "CN"), (6, "C"), (7, "L"), (8, "ST"), (10, "O"), (11, "OU")];

/// A name as `CN=kafka, O=Example`. It comes from the peer, so control characters are left out and it is cut to a length.
fn name(rdns: &[u8]) -> String {
    let mut text = String::new();
    let mut rdns = Der::new(rdns);
    let mut part = || -> Result<Option<(&'static str, String)>, Malformed> {
        if rdns.is_empty() {
            return Ok(None);
        }
        let mut attribute = rdns.within(SET)?.within(SEQUENCE)?;
        let oid = attribute.content(OID)?;
        let value = String::from_utf8_lossy(attribute.any()?.content);
        let known = ATTRIBUTES.iter().find(|(last, _)| oid == [0x55, 0x04, *last]);
        let value = value.chars().filter(|char| !char.is_control()).take(64).collect();
        Ok(Some((known.map_or("", |(_, short)| short), value)))
    };
    while let Ok(Some((short, value))) = part() {
        if short.is_empty() || text.len() > 256 {
            continue;
        }
        let separator = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{separator}{short}={value}");
    }
    if text.is_empty() { "a name of unknown form".into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written_over_leap_years() {
        let check = |tag: u8, text: &str, seconds: u64, written: &str| {
            let der = [&[tag, text.len() as u8], text.as_bytes()].concat();
            let read = time(&mut Der::new(&der)).expect(text);
            assert_eq!(read, UNIX_EPOCH + Duration::from_secs(seconds), "{text}");
            assert_eq!(Utc(read).to_string(), written);
        };
        check(UTC_TIME, "700101000000Z", 0, "1970-01-01 00:00 UTC");
        check(UTC_TIME, "000229235959Z", 951_868_799, "2000-02-29 23:59 UTC");
        check(UTC_TIME, "491231235959Z", 2_524_607_999, "2049-12-31 23:59 UTC");
        check(GENERALIZED_TIME, "20261129013219Z", 1_795_915_939, "2026-11-29 01:32 UTC");
        check(GENERALIZED_TIME, "99991231235959Z", 253_402_300_799, "9999-12-31 23:59 UTC");
        check(GENERALIZED_TIME, "21000301000000Z", 4_107_542_400, "2100-03-01 00:00 UTC");
        check(UTC_TIME, "500101000000Z", 0, "1970-01-01 00:00 UTC");
        for text in ["701301000000Z", "700100000000Z", "700101000000", "7001010000000Z", "70010100000xZ"] {
            let der = [&[UTC_TIME, text.len() as u8], text.as_bytes()].concat();
            assert!(time(&mut Der::new(&der)).is_err(), "{text}");
        }
    }
}
