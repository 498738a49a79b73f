//! Our tables of API keys and error codes beside Kafka's.

use milena_messages::{ApiKey, ErrorCode};

/// The words behind `kind` of each line that starts with it.
fn lines(kind: &str) -> impl Iterator<Item = Vec<&'static str>> {
    let facts = include_str!("facts.txt").lines().map(|line| line.split(' ').collect::<Vec<_>>());
    facts.filter(move |words| words[0] == kind).map(|words| words[1..].to_vec())
}

fn number(word: &str) -> i16 {
    word.parse().expect("a number")
}

#[test]
fn api_keys_have_kafkas_names_and_versions() {
    let mut keys = Vec::new();
    for words in lines("api") {
        let key = ApiKey::from_i16(number(words[0])).expect("we know every key");
        assert_eq!((key.as_i16(), key.name()), (number(words[0]), words[1]));
        match words[2..] {
            [] => assert!(key.versions().is_empty(), "{key} is retired"),
            [low, high, ..] => assert_eq!(key.versions(), number(low)..=number(high), "{key}"),
            [_] => panic!("{words:?}"),
        }
        for versions in words.iter().skip(4) {
            let [version, request, response] = versions.split(':').map(number).collect::<Vec<_>>()[..] else {
                panic!("{versions}")
            };
            assert_eq!(key.request_header_version(version), request, "{key} {version}");
            assert_eq!(key.response_header_version(version), response, "{key} {version}");
        }
        keys.push(key);
    }
    keys.sort_unstable();
    assert_eq!(keys, ApiKey::ALL);
}

#[test]
fn error_codes_have_kafkas_names_and_retriability() {
    let mut codes = Vec::new();
    for words in lines("error") {
        let code = ErrorCode::from_i16(number(words[0]));
        assert_eq!(code.name(), words[1]);
        assert_eq!(code.is_retriable(), words[2] == "retriable", "{code}");
        codes.push(code);
    }
    codes.sort_unstable();
    assert_eq!(codes, ErrorCode::ALL);
}

/// KIP-896 made what brokers of 2.1 speak the baseline of Kafka 4, and so of these schemas: older schemas are not needed.
///
/// `kafka-2.1.txt` is what `ApiKeys` of Kafka 2.1.0's client says: key, name, latest version (the oldest is 0).
#[test]
fn a_broker_of_2_1_shares_a_version_of_every_api() {
    for line in include_str!("kafka-2.1.txt").lines() {
        let [key, name, latest] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let key = ApiKey::from_i16(number(key)).expect("keys are never removed");
        assert_eq!(key.name(), name);
        let is_retired = key.versions().is_empty();
        // Coordinators send WriteTxnMarkers to brokers; clients never do.
        if !is_retired && key != ApiKey::WriteTxnMarkers {
            assert!(key.versions().start() <= &number(latest), "{key}");
        }
    }
}
