#![allow(clippy::single_range_in_vec_init, reason = "one run is meant")]

use std::ops::Range;

use super::*;
use crate::Rng;

fn decoded(base: i64, text: &str) -> Vec<Range<i64>> {
    match decode(base, text) {
        Decoded::Finished(runs) => runs,
        other => panic!("{text:?} at {base}: {other:?}"),
    }
}

fn refused(base: i64, text: &str) -> String {
    match decode(base, text) {
        Decoded::Refused(refusal) => refusal.to_string(),
        other => panic!("{text:?} at {base}: {other:?}"),
    }
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

fn offsets(runs: &[Range<i64>]) -> i64 {
    runs.iter().map(|run| run.end - run.start).sum()
}

/// Each offset from `base + 1` on is finished with this chance in 1 000.
fn random(rng: &mut Rng, base: i64, span: i64, chance: u32) -> Vec<Range<i64>> {
    let mut runs = Runs::new(usize::MAX);
    for at in base + 1..base + span {
        if rng.below(1_000) < chance {
            runs.push(at..at + 1);
        }
    }
    runs.runs
}

#[test]
fn nothing_finished_is_no_text() {
    for packing in [Packing::Wide, Packing::Narrow] {
        assert_eq!(encode(7, [].into_iter(), packing, CHARS_MAX), None);
        assert_eq!(encode(7, [3..7, 9..9].into_iter(), packing, CHARS_MAX), None);
        assert_eq!(
            encode(7, std::iter::once(8..9), packing, 2),
            None,
            "a text of two characters has no room"
        );
    }
}

#[test]
fn the_text_is_of_this_form() {
    // A change of these texts is a change of what other versions read.
    let text =
        |base, runs: &[Range<i64>], packing| encode(base, runs.iter().cloned(), packing, 100).unwrap().text;
    assert_eq!(text(100, &[103..110, 112..113], Packing::Wide), "ᛗ⧏僗柰材");
    assert_eq!(text(100, &[103..110, 112..113], Packing::Narrow), "~El6kXgGD+Q");
    assert_eq!(text(0, &[1..1_000_000], Packing::Narrow), "~HojZeDSA/0I+");
}

#[test]
fn what_is_read_is_what_was_written() {
    for seed in 0..300 {
        let mut rng = Rng::seeded(seed);
        let base = [0, 1, 1 << 40, i64::MAX - 100_000][rng.below(4) as usize] + i64::from(rng.below(1_000));
        let (span, chance) = (1 + i64::from(rng.below(4_000)), rng.below(1_001));
        let mut runs = random(&mut rng, base, span, chance);
        if rng.below(3) == 0 {
            // The base itself may be finished, if nothing was delivered yet.
            runs.insert(0, base..base + 1);
            let mut joined = Runs::new(usize::MAX);
            runs.into_iter().for_each(|run| assert!(joined.push(run)));
            runs = joined.runs;
        }
        for packing in [Packing::Wide, Packing::Narrow] {
            let Some(Encoded { text, is_whole }) = encode(base, runs.iter().cloned(), packing, CHARS_MAX)
            else {
                assert!(runs.is_empty(), "seed {seed}");
                continue;
            };
            assert!(is_whole && units(&text) <= CHARS_MAX, "seed {seed}");
            assert_eq!(decoded(base, &text), runs, "seed {seed}, {packing:?}");
            assert!(!refused(base + 1, &text).is_empty(), "seed {seed}: at another base it means nothing");
        }
    }
}

#[test]
fn what_does_not_fit_is_cut_off_at_its_end() {
    for seed in 0..300 {
        let mut rng = Rng::seeded(seed);
        let (span, chance) = (1 + i64::from(rng.below(3_000)), 1 + rng.below(1_000));
        let runs = random(&mut rng, 50, span, chance);
        let chars_max = 4 + rng.below(150) as usize;
        for packing in [Packing::Wide, Packing::Narrow] {
            let Some(Encoded { text, is_whole }) = encode(50, runs.iter().cloned(), packing, chars_max)
            else {
                assert!(runs.is_empty() || chars_max < 10, "seed {seed}");
                continue;
            };
            assert!(units(&text) <= chars_max, "seed {seed}: {} of {chars_max}", units(&text));
            let read = decoded(50, &text);
            let end = read.last().unwrap().end;
            let prefix: Vec<_> =
                runs.iter().map(|run| run.start..run.end.min(end)).filter(|run| !run.is_empty()).collect();
            assert_eq!(read, prefix, "seed {seed}");
            assert_eq!(is_whole, read == runs, "seed {seed}");
        }
    }
}

#[test]
fn the_random_half_of_sixty_thousand_offsets_fits() {
    for seed in 0..20 {
        let runs = random(&mut Rng::seeded(seed), 1 << 33, 60_000, 500);
        let wide = encode(1 << 33, runs.iter().cloned(), Packing::Wide, CHARS_MAX).unwrap();
        assert!(wide.is_whole && units(&wide.text) <= 4_010, "{}", units(&wide.text));
        assert_eq!(decoded(1 << 33, &wide.text), runs);
        let narrow = encode(1 << 33, runs.iter().cloned(), Packing::Narrow, CHARS_MAX).unwrap();
        assert!(!narrow.is_whole && narrow.text.len() <= CHARS_MAX);
        assert!(offsets(&decoded(1 << 33, &narrow.text)) > 12_000);
    }
}

#[test]
fn single_gaps_take_a_few_bits_each() {
    // 6 000 unfinished records among 600 000. Parallel Consumer has room for 1 535 runs of 16 bits.
    let runs = random(&mut Rng::seeded(1), 0, 600_000, 990);
    assert!(runs.len() > 5_800);
    let encoded = encode(0, runs.iter().cloned(), Packing::Wide, CHARS_MAX).unwrap();
    assert!(encoded.is_whole, "{} runs", runs.len());
    assert_eq!(decoded(0, &encoded.text), runs);
}

#[test]
fn the_estimate_is_never_too_low() {
    for seed in 0..400 {
        let mut rng = Rng::seeded(seed);
        let (span, chance) = (1 + i64::from(rng.below(20_000)), rng.below(1_001));
        let mut runs = random(&mut rng, 10, span, chance);
        if rng.below(2) == 0 {
            // Lengths far from their mean.
            runs.push(1 << 30..1 << (31 + rng.below(20)));
        }
        let Some(last) = runs.last() else { continue };
        let estimate = bits_at_most(10, last.end, runs.len(), offsets(&runs));
        let encoded = encode(10, runs.iter().cloned(), Packing::Wide, usize::MAX / 64).unwrap();
        let bits = 15 * (units(&encoded.text) as u64 - 1);
        assert!(bits <= estimate + 14, "seed {seed}: {bits} bits, estimated {estimate}");
        assert!(estimate <= 3 * bits + 60, "seed {seed}: {bits} bits, estimated {estimate}");
    }
}

#[test]
fn wide_characters_are_two_to_the_fifteen_single_units() {
    let bytes: Vec<u8> = (0..1_u32 << 15).flat_map(|index| (index as u16).to_be_bytes()).collect();
    let text = Packing::Wide.pack(&bytes, bytes.len() as u64 * 8);
    assert_eq!(units(&text), text.chars().count());
    let rest = text.strip_prefix('ᛗ').unwrap();
    assert_eq!(Packing::Wide.unpack(rest).unwrap()[..bytes.len()], bytes);
    assert!(rest.chars().all(|char| char.len_utf8() == 3 && !char.is_whitespace() && !char.is_control()));
    assert_eq!(Packing::Wide.unpack("a"), None);
    assert_eq!(Packing::Wide.unpack("é"), None);
    assert_eq!(Packing::Wide.unpack("𝄞"), None);
}

#[test]
fn every_encoding_of_parallel_consumer_is_read() {
    let mut encodings = std::collections::BTreeSet::new();
    for line in include_str!("tests/parallel_consumer.txt").lines() {
        let [name, encoding, base, last, unfinished, text] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let (base, last): (i64, i64) = (base.parse().unwrap(), last.parse().unwrap());
        let unfinished: Vec<i64> = unfinished.split(',').map(|at| at.parse().unwrap()).collect();
        let mut runs = Runs::new(usize::MAX);
        for at in (0..=last).filter(|at| !unfinished.contains(at)) {
            runs.push(base + at..base + at + 1);
        }
        assert_eq!(decoded(base, text), runs.runs, "{name} {encoding}");
        encodings.insert(encoding);
    }
    assert_eq!(encodings.len(), 10, "{encodings:?}");
}

#[test]
fn other_texts_are_left_alone() {
    for text in [
        "",
        "host-17",
        "committed by the nightly job, 2026-11-29",
        "~",
        "~ about 40 % done",
        "ᛗ",
        "ᛗilena",
        // Kafka Streams (`TopicPartitionMetadata`): version 1 or 2, a timestamp, and what follows.
        "AQAAAZNmCQJk",
        "AgAAAZNmCQJkAAAAAA==",
        "bw",
    ] {
        let is_empty_mark = matches!(text, "~" | "ᛗ");
        match decode(100, text) {
            Decoded::NotAMap => {}
            Decoded::Refused(_) if is_empty_mark => {}
            other => panic!("{text:?}: {other:?}"),
        }
    }
    assert_eq!(decode(0, &"A".repeat(TEXT_BYTES_MAX + 4)), Decoded::NotAMap);
}

#[test]
fn damaged_texts_are_refused() {
    let runs = random(&mut Rng::seeded(3), 100, 500, 900);
    for packing in [Packing::Wide, Packing::Narrow] {
        let text = encode(100, runs.iter().cloned(), packing, CHARS_MAX).unwrap().text;
        let chars: Vec<char> = text.chars().collect();
        for at in 1..chars.len() {
            let cut: String = chars[..at].iter().collect();
            assert!(!matches!(decode(100, &cut), Decoded::Finished(_)), "cut off at {at}");
            let mut swapped = chars.clone();
            swapped[at] = if swapped[at] == chars[1] { chars[2] } else { chars[1] };
            if swapped != chars {
                let swapped: String = swapped.into_iter().collect();
                assert!(!matches!(decode(100, &swapped), Decoded::Finished(_)), "changed at {at}");
            }
        }
    }
    assert!(refused(100, "~IAAAAAAA").contains("version"));
}

fn of_parallel_consumer(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(bytes)
}

#[test]
fn hostile_maps_of_parallel_consumer() {
    let refused = |bytes: &[u8]| refused(1 << 62, &of_parallel_consumer(bytes));
    assert!(refused(b"n\x00").contains("cut off"));
    assert!(refused(b"n\x80\x00\x00\x01").contains("negative"));
    assert!(refused(b"o\xff\xff\xff\xff").contains("negative"));
    assert!(refused(b"o\x00\x00").contains("cut off"));
    assert!(refused(b"L\x01\x02").contains("0 and 1"));
    assert!(refused(b"p\x01\x02\x03").contains("decompressed"));
    // Two billion offsets are one run; whether the log has them is for others to say.
    let text = of_parallel_consumer(b"e\x00\x00\x00\x01\x7f\xff\xff\xff");
    assert_eq!(decoded(5, &text), [6..6 + 0x7fff_ffff]);
    let past_the_end = decode(i64::MAX - 5, &text);
    assert!(matches!(past_the_end, Decoded::Refused(TOO_LARGE)), "{past_the_end:?}");
    // A set of two billion bits, of which 8 are there.
    assert_eq!(decoded(5, &of_parallel_consumer(b"o\x7f\xff\xff\xff\x06")), [6..8]);
    let many = [b"L".to_vec(), [0, 1].repeat(RUNS_MAX + 10)].concat();
    let runs = decoded(5, &of_parallel_consumer(&many));
    assert_eq!((runs.len(), runs.last().unwrap().end), (RUNS_MAX, 5 + 2 * RUNS_MAX as i64));
}
