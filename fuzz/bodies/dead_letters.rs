//! Any headers as those of a dead letter, in all dialects, and as those of a letter that is replayed.

use milena::Header;
use milena_pipeline::dead_letters::{Dialect, Letter, ReplayMarks};

/// Bytes of a text that are read, each of which may become a replacement character of three bytes.
const TEXT_BYTES_MAX: usize = 3 * 16 * 1024;

/// A line is a header, and its value is what follows the first `=`; without one it is null. Nothing panics, what is read is bounded, and
/// a replayed letter has lost the headers of its dialect, and counts its replays.
pub(crate) fn run(data: &[u8]) {
    let headers: Vec<Header<'_>> = data
        .split(|byte| *byte == b'\n')
        .map(|line| match line.iter().position(|byte| *byte == b'=') {
            Some(at) => Header { key: &line[..at], value: Some(&line[at + 1..]) },
            None => Header { key: line, value: None },
        })
        .collect();
    let own = || headers.iter().copied();
    let found = Letter::read(own());
    if let Some(letter) = &found {
        assert_eq!(Letter::read_as(letter.dialect, own()).as_ref(), Some(letter));
    }
    for dialect in Dialect::ALL {
        assert_eq!(dialect.name().parse::<Dialect>().ok(), Some(dialect));
        let letter = Letter::read_as(dialect, own());
        if let Some(letter) = &letter {
            check(letter, dialect);
        }
        let before = letter.as_ref().and_then(|letter| letter.replays).unwrap_or_default();
        let after = before.saturating_add(1).min(i64::MAX.unsigned_abs());
        let marks = ReplayMarks::new("orders.dlq", 3, 42, before);
        let replayed = marks.headers(own(), Some(dialect));
        let ours = Letter::read_as(Dialect::Milena, replayed.iter().copied()).filter(|_| headers.len() < 900);
        assert!(headers.len() >= 900 || ours.is_some_and(|ours| ours.replays == Some(after)));
        if dialect != Dialect::Milena {
            assert!(Letter::read_as(dialect, replayed.iter().copied()).is_none());
        }
        // Replayed again, it does not grow.
        let again = ReplayMarks::new("orders.dlq", 3, 43, before);
        assert_eq!(again.headers(replayed.iter().copied(), Some(dialect)).len(), replayed.len());
    }
}

fn check(letter: &Letter<'_>, dialect: Dialect) {
    assert_eq!(letter.dialect, dialect);
    assert!(letter.partition.is_none_or(|partition| partition >= 0));
    let times = [letter.offset, letter.timestamp_ms, letter.first_ms, letter.last_ms];
    assert!(times.into_iter().flatten().all(|number| number >= 0));
    let texts =
        [&letter.topic, &letter.reason, &letter.class, &letter.stack, &letter.group].into_iter().flatten();
    assert!(texts.chain(&letter.causes).all(|text| text.len() <= TEXT_BYTES_MAX));
    // The parts of Connect's handler make one text.
    assert!(letter.handler.as_ref().is_none_or(|text| text.len() <= 2 * TEXT_BYTES_MAX + 1));
    assert!(letter.causes.len() <= 16);
    assert!(letter.topic.as_ref().is_none_or(|topic| !topic.is_empty()));
}
