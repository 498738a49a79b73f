//! Any bytes as a broker's messages in a SASL exchange.

use std::sync::Arc;

use milena_core::sasl::{AwsKeys, Credentials, Exchange, Fresh, Hash, Password, Token, Turn, Work};
use milena_core::{Instant, Secret};

/// A key that takes longer to derive is not derived here: it would be the fuzzer's whole time.
const ITERATIONS_MAX: u32 = 4096;
const SECRET: &str = "hunter2hunter2";

/// The first byte chooses a mechanism, and the rest is the broker's messages, which zero bytes divide. A message that begins
/// with `@` is put after the client's nonce, so that the exchange gets on. Nothing panics, an exchange ends, and no reason
/// has the secret, even if the broker repeats it.
pub(crate) fn run(data: &[u8]) {
    let Some((choice, messages)) = data.split_first() else { return };
    let secret = || Secret::from(SECRET);
    let password = |scram| {
        let (user, password) = ("a=l,ice".into(), secret());
        Credentials::Password(Password { scram, user, password, is_delegation_token: choice & 4 != 0 })
    };
    let credentials = match choice & 3 {
        _ if choice & 8 != 0 => Credentials::Aws(AwsKeys {
            access_key: "AKIDEXAMPLE".into(),
            secret: secret(),
            session_token: Some(secret()),
            region: None,
            region_default: None,
            user_agent: "fuzz".into(),
            until: None,
        }),
        0 => password(None),
        1 => password(Some(Hash::Sha256)),
        2 => password(Some(Hash::Sha512)),
        _ => Credentials::Token(Token {
            value: secret(),
            extensions: Vec::new(),
            principal: None,
            since: Instant::ORIGIN,
            until: Instant::NEVER,
        }),
    };
    let mut exchange =
        Exchange::new(Arc::new(credentials), &"b".into(), &Fresh { nonce: [b'n'; 24], unix_seconds: 0 });
    let Turn::Send(first) = exchange.first() else { panic!("no work is needed for it") };
    let nonce = first.rsplit(|byte| *byte == b'=').next().unwrap_or_default().to_vec();
    for message in messages.split(|byte| *byte == 0) {
        let message = match message.strip_prefix(b"@") {
            Some(rest) => [b"r=".as_slice(), &nonce, rest].concat(),
            None => message.to_vec(),
        };
        match exchange.handle(&message) {
            Ok(Turn::Send(answer)) => assert_eq!(answer, [1].as_slice()),
            Ok(Turn::Work(Work::Derive(work))) if work.iterations() <= ITERATIONS_MAX => {
                assert!(exchange.handle_worked(Work::Derive(work).run()).expect("a key").is_some());
            }
            Ok(Turn::Work(Work::Derive(work))) => assert!(work.iterations() <= 1_000_000),
            Ok(Turn::Work(Work::Step(_))) => panic!("no mechanism was brought along"),
            Ok(Turn::Done) => return,
            Err(refusal) => {
                assert!(!refusal.reason.contains(SECRET), "{}", refusal.reason);
                assert!(refusal.reason.len() < 2048 && !refusal.reason.contains('\n'), "{}", refusal.reason);
                return;
            }
        }
        assert!(!format!("{exchange:?}").contains(SECRET));
    }
}
