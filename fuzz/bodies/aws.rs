//! Any bytes as what AWS's services answer, and as the files of profiles that AWS's tools share.

use super::fuzzing::{Credentials, json, profile, reasons, role, secrets, signed, xml};

const NOW: i64 = 1_700_000_000;
/// The corpus has it in secrets. Other texts may have it too.
const CANARY: &str = "hunter2";

/// The lowest bit of the first byte chooses between an answer and files; of the files there are three parts, which zero bytes
/// divide: the name of a profile, the file of credentials, and the file of configuration. Nothing panics, no secret is shown,
/// errors are short and of one line, and whatever keys come out can be signed with.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    if choice & 1 == 0 {
        for outcome in [json(rest, NOW), xml(rest, NOW)] {
            match outcome {
                Ok(keys) => {
                    let key = keys.access_key();
                    assert!(key.chars().count() <= 129 && !key.contains(char::is_control), "{key:?}");
                    check(keys);
                }
                Err(why) => check_text(&why),
            }
        }
        reasons(rest).iter().for_each(|reason| check_text(reason));
        if let Some(role) = role(rest) {
            assert!(!role.is_empty() && !role.contains(['/', '?', '#', '%', ' ']), "{role:?}");
        }
        return;
    }
    let texts = rest.splitn(3, |byte| *byte == 0).map(String::from_utf8_lossy);
    let [name, credentials, config] = &texts.collect::<Vec<_>>()[..] else { return };
    match profile(credentials, config, name) {
        Some(Ok(keys)) => check(keys),
        Some(Err(why)) => assert!(name.contains(CANARY) || !why.contains(CANARY), "{why}"),
        None => {}
    }
}

fn check(keys: Credentials) {
    let has_canary = |text: &[u8]| text.windows(CANARY.len()).any(|window| window == CANARY.as_bytes());
    let shown = format!("{keys:?}");
    let is_secret = secrets(&keys).iter().any(|secret| has_canary(secret));
    assert!(!is_secret || keys.access_key().contains(CANARY) || !shown.contains(CANARY), "{shown}");
    match signed(keys, "eu-west-1", NOW) {
        Ok(token) => {
            let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
            assert!(token.iter().all(is_fine), "{}", token.escape_ascii());
        }
        Err(why) => assert!(why.ends_with("have ended already"), "{why}"),
    }
}

fn check_text(text: &str) {
    assert!(text.chars().count() < 512 && !text.contains(char::is_control), "{text:?}");
}
