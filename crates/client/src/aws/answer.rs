//! What AWS's services answer, read within bounds: credentials in JSON or in XML, and the reasons of refusals.

use std::time::Duration;

use milena_core::Secret;
use serde_json::{Map, Value};

use super::Credentials;
use crate::http::cleaned;

/// Of a refusal's text an error repeats as much as says why.
const REASON_CHARACTERS_MAX: usize = 300;

/// The credentials in an answer of a container's or an instance's metadata service, which came at `now`, in seconds since 1970.
pub(super) fn json(body: &[u8], now: i64) -> Result<Credentials, String> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
        return Err("its answer is no object of JSON".into());
    };
    // An instance's service says why there are none in an answer that is no error.
    let code = text(&mut members, "Code").filter(|code| !code.eq_ignore_ascii_case("Success"));
    if let Some(code) = code {
        let message = text(&mut members, "Message").unwrap_or_default();
        return Err(reason(&code, &message));
    }
    let mut member = |name: &str| text(&mut members, name).filter(|value| !value.is_empty());
    let missing = |name: &str| format!("its answer has no {name}");
    let access_key = member("AccessKeyId").ok_or_else(|| missing("AccessKeyId"))?;
    let secret = member("SecretAccessKey").map(Secret::from).ok_or_else(|| missing("SecretAccessKey"))?;
    let (token, expiration) = (member("Token").map(Secret::from), member("Expiration"));
    credentials(&access_key, secret, token, expiration, now)
}

/// The reason in a container service's refusal, which is an object with `code` and `message`.
pub(super) fn json_reason(body: &[u8]) -> Option<String> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else { return None };
    let mut member = |names: [&str; 2]| names.into_iter().find_map(|name| text(&mut members, name));
    let (code, message) = (member(["code", "Code"]), member(["message", "Message"]));
    Some(reason(&code?, &message.unwrap_or_default()))
}

/// The role that an instance has, as the first line of its metadata service's answer names it. It becomes part of an address.
pub(super) fn role(body: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(body).ok()?.lines().next()?.trim();
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    (!name.is_empty() && name.bytes().all(is_of_name)).then_some(name)
}

/// The credentials in an answer of the token service's.
pub(super) fn xml(body: &[u8], now: i64) -> Result<Credentials, String> {
    let text = std::str::from_utf8(body).map_err(|_| "its answer is not UTF-8")?;
    let text = element(text, "Credentials").ok_or("its answer has no Credentials")?;
    let member = |name: &str| element(text, name).map(unescaped).filter(|value| !value.is_empty());
    let missing = |name: &str| format!("its answer has no {name}");
    let access_key = member("AccessKeyId").ok_or_else(|| missing("AccessKeyId"))?;
    let secret = member("SecretAccessKey").map(Secret::from).ok_or_else(|| missing("SecretAccessKey"))?;
    let token = member("SessionToken").map(Secret::from).ok_or_else(|| missing("SessionToken"))?;
    credentials(&access_key, secret, Some(token), member("Expiration"), now)
}

/// The code and the reason of a refusal of the token service's.
pub(super) fn xml_reason(body: &[u8]) -> Option<(String, String)> {
    let text = element(std::str::from_utf8(body).ok()?, "Error")?;
    let code = cleaned(&unescaped(element(text, "Code")?), REASON_CHARACTERS_MAX);
    let message = element(text, "Message").map(unescaped).unwrap_or_default();
    let reason = reason(&code, &message);
    Some((code, reason))
}

fn credentials(
    access_key: &str,
    secret: Secret,
    token: Option<Secret>,
    expiration: Option<String>,
    now: i64,
) -> Result<Credentials, String> {
    let access_key = cleaned(access_key, 128);
    let mut credentials = Credentials::new(access_key, secret);
    credentials.session_token = token;
    if let Some(text) = expiration {
        let until = seconds(&text).ok_or("its answer has an Expiration that is no date")?;
        // Credentials that have ended already are refused by who uses them.
        credentials.lifetime = Some(Duration::from_secs(u64::try_from(until - now).unwrap_or(0)));
    }
    Ok(credentials)
}

fn reason(code: &str, message: &str) -> String {
    let (code, message) = (cleaned(code, 100), cleaned(message, REASON_CHARACTERS_MAX));
    let message = message.trim_end_matches('.');
    if message.is_empty() { code } else { format!("{code}: {message}") }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    match members.remove(name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// What is between the first `<NAME>` and the `</NAME>` after it. The elements that are read have no attributes, and none is within
/// another one of its name.
fn element<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let after = &text[text.find(&format!("<{name}>"))? + name.len() + 2..];
    Some(after[..after.find(&format!("</{name}>"))?].trim())
}

fn unescaped(text: &str) -> String {
    let entities =
        [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#xD;", ""), ("&amp;", "&")];
    entities.into_iter().fold(text.to_owned(), |text, (entity, character)| text.replace(entity, character))
}

/// A time as `2026-11-29T05:00:00Z`, with or without parts of a second, in seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"))?;
    let text = text.split_once('.').map_or(text, |(whole, _)| whole);
    let bytes = text.as_bytes();
    let is_of_form = bytes.len() == 19
        && bytes.iter().zip(b"0000-00-00T00:00:00").all(|(byte, form)| match form {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        });
    if !is_of_form {
        return None;
    }
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Howard Hinnant's `days_from_civil`.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let days =
        era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_aws_writes_them() {
        for (text, expected) in [
            ("2015-08-30T12:36:00Z", Some(1_440_938_160)),
            ("1970-01-01T00:00:00+00:00", Some(0)),
            ("2024-02-28T23:59:59.123Z", Some(1_709_164_799)),
            ("2100-03-01T00:00:00Z", Some(4_107_542_400)),
            ("2015-08-30T12:36:00", None),
            ("2015-13-30T12:36:00Z", None),
            ("2015-08-30 12:36:00Z", None),
            ("+015-08-30T12:36:00Z", None),
            ("\u{e4}015-08-30T12:36:00Z", None),
            ("Z", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn credentials_are_read_and_what_is_missing_is_named() {
        let check = |body: &str, expected: Result<(&str, Option<u64>), &str>| {
            let parsed = if body.starts_with('<') {
                xml(body.as_bytes(), 1_440_938_160)
            } else {
                json(body.as_bytes(), 1_440_938_160)
            };
            let parsed =
                parsed.map(|found| (found.access_key.to_string(), found.lifetime.map(|life| life.as_secs())));
            assert_eq!(
                parsed,
                expected.map(|(key, life)| (key.to_owned(), life)).map_err(str::to_owned),
                "{body}"
            );
        };
        let json = |rest: &str| {
            format!(r#"{{"Code":"Success","AccessKeyId":"AKID","SecretAccessKey":"s","Token":"t"{rest}}}"#)
        };
        check(&json(r#","Expiration":"2015-08-30T13:36:00Z","Type":"AWS-HMAC""#), Ok(("AKID", Some(3600))));
        check(&json(""), Ok(("AKID", None)));
        check(&json(r#","Expiration":"2015-08-30T12:35:59Z""#), Ok(("AKID", Some(0))));
        check(&json(r#","Expiration":"soon""#), Err("its answer has an Expiration that is no date"));
        check("[]", Err("its answer is no object of JSON"));
        check("{}", Err("its answer has no AccessKeyId"));
        check(r#"{"AccessKeyId":"AKID","SecretAccessKey":7}"#, Err("its answer has no SecretAccessKey"));
        check(
            r#"{"Code":"AssumeRoleUnauthorizedAccess","Message":"EC2 cannot assume the role.\n"}"#,
            Err("AssumeRoleUnauthorizedAccess: EC2 cannot assume the role"),
        );
        let xml = |token: &str| {
            format!(
                "<AssumeRoleWithWebIdentityResponse xmlns=\"x\"><AssumeRoleWithWebIdentityResult><Credentials>\
                 <AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>a&amp;b</SecretAccessKey>{token}\
                 <Expiration>2015-08-30T12:37:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
            )
        };
        check(&xml("<SessionToken>t</SessionToken>"), Ok(("ASIA", Some(60))));
        check(&xml(""), Err("its answer has no SessionToken"));
        check("<html></html>", Err("its answer has no Credentials"));
        let error = "<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredTokenException</Code><Message>Token &lt;x&gt; has expired.</Message></Error></ErrorResponse>";
        let told = xml_reason(error.as_bytes()).expect("told");
        assert_eq!(told.1, "ExpiredTokenException: Token <x> has expired");
        assert_eq!(
            json_reason(br#"{"code":"NoIamRoleArn","message":"no role"}"#).as_deref(),
            Some("NoIamRoleArn: no role")
        );
        assert_eq!(json_reason(b"oops"), None);
    }
}
