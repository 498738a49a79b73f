//! Which codec to take for which goal, and why, from measured figures.

use crate::tune::candidate::Candidate;
use crate::tune::figures::{Basis, Figures};
use crate::units::{Count, Micros, Scaled};

/// What somebody wants of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// The fewest bytes on disks and on the network.
    Size,
    /// The most records per second from one core.
    Throughput,
    /// The least time that a batch takes from the producer to the consumer.
    Latency,
}

/// The codec for a goal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Advice {
    pub(crate) goal: Goal,
    pub(crate) candidate: Candidate,
    /// One sentence.
    pub(crate) reason: String,
}

/// Less is not worth a codec.
const RATIO_MIN: f64 = 1.1;
/// Figures closer than this are equal: of them the one counts that is better by the other measure.
const EQUAL: f64 = 0.02;

impl Goal {
    pub(crate) const ALL: [Self; 3] = [Self::Size, Self::Throughput, Self::Latency];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Throughput => "throughput",
            Self::Latency => "latency",
        }
    }
}

/// One codec for each goal. Empty if nothing was measured.
pub(crate) fn advise(basis: &Basis, all: &[Figures]) -> Vec<Advice> {
    let Some(best) = all.iter().min_by(|a, b| a.record_bytes.total_cmp(&b.record_bytes)) else {
        return Vec::new();
    };
    let none = all.iter().find(|one| one.candidate == Candidate::NONE);
    if best.ratio < RATIO_MIN
        && let Some(none) = none
    {
        let few = basis.batch_records < 2.0;
        let why = if few { ": batches of one record have little to compress" } else { "" };
        let reason =
            format!("no codec makes batches {RATIO_MIN} times smaller (the best is {}){why}", ratio(best));
        return Goal::ALL
            .map(|goal| Advice { goal, candidate: none.candidate, reason: reason.clone() })
            .to_vec();
    }
    Goal::ALL
        .map(|goal| match goal {
            Goal::Size => size(all, best),
            Goal::Throughput => throughput(all, none, best),
            Goal::Latency => latency(basis, all, none, best),
        })
        .to_vec()
}

fn size(all: &[Figures], best: &Figures) -> Advice {
    // Of those that are as small, the one that costs least.
    let near =
        |margin: f64| all.iter().filter(move |one| one.record_bytes <= best.record_bytes * (1.0 + margin));
    let chosen = least(near(EQUAL), |one| one.compress_ns).unwrap_or(best);
    let mut reason = format!(
        "{} times smaller, {} per record, at {} of compression per record",
        ratio(chosen),
        bytes(chosen.record_bytes),
        time(chosen.compress_ns)
    );
    let cheaper = least(near(0.15), |one| one.compress_ns);
    if let Some(cheaper) = cheaper.filter(|cheaper| cheaper.compress_ns * 2.0 <= chosen.compress_ns) {
        let more = (cheaper.record_bytes / chosen.record_bytes - 1.0) * 100.0;
        reason += &format!(
            "; {} takes {more:.0} % more bytes and {:.0} % of that time",
            cheaper.candidate,
            cheaper.compress_ns / chosen.compress_ns * 100.0
        );
    }
    Advice { goal: Goal::Size, candidate: chosen.candidate, reason }
}

fn throughput(all: &[Figures], none: Option<&Figures>, best: &Figures) -> Advice {
    let top = all.iter().map(Figures::rate).fold(0.0, f64::max);
    let near = all.iter().filter(|one| one.rate() >= top * (1.0 - EQUAL));
    let chosen = least(near, |one| one.record_bytes).unwrap_or(best);
    let of = |one: &Figures| match one.network_rate < one.core_rate {
        true => format!("the network ends at {} records/s", rate(one.network_rate)),
        false => format!("one core sends {} records/s", rate(one.core_rate)),
    };
    let mut reason = of(chosen);
    match none {
        Some(none) if chosen.candidate != none.candidate => {
            reason += &format!("; without compression {}", of(none));
        }
        _ => {
            let second = all.iter().filter(|one| one.candidate != chosen.candidate);
            if let Some(second) = second.max_by(|a, b| a.rate().total_cmp(&b.rate())) {
                reason += &format!("; with {} {}", second.candidate, of(second));
            }
        }
    }
    Advice { goal: Goal::Throughput, candidate: chosen.candidate, reason }
}

fn latency(basis: &Basis, all: &[Figures], none: Option<&Figures>, best: &Figures) -> Advice {
    let least_us = all.iter().map(|one| one.batch_us).fold(f64::INFINITY, f64::min);
    let near = all.iter().filter(|one| one.batch_us <= least_us * (1.0 + EQUAL));
    let chosen = least(near, |one| one.compress_ns + one.decompress_ns).unwrap_or(best);
    let mut reason = format!(
        "a batch of {} takes {} to compress, send and decompress",
        plural(basis.batch_records),
        micros(chosen.batch_us)
    );
    match none {
        Some(none) if chosen.candidate != none.candidate => {
            reason += &format!(", and {} without compression", micros(none.batch_us));
        }
        _ => {
            let second = all.iter().filter(|one| one.candidate != chosen.candidate);
            if let Some(second) = least(second, |one| one.batch_us) {
                reason += &format!(", and {} with {}", micros(second.batch_us), second.candidate);
            }
        }
    }
    Advice { goal: Goal::Latency, candidate: chosen.candidate, reason }
}

fn least<'a>(among: impl Iterator<Item = &'a Figures>, by: impl Fn(&Figures) -> f64) -> Option<&'a Figures> {
    among.min_by(|a, b| by(a).total_cmp(&by(b)))
}

/// What the topic would save with other batches than it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Saving {
    /// Bytes per record as the topic's batches have them.
    pub(crate) now: f64,
    /// Bytes per record with the candidate.
    pub(crate) then: f64,
}

impl Saving {
    /// The part of the bytes that is saved: negative if it is more than now.
    pub(crate) fn part(self) -> f64 {
        1.0 - self.then / self.now.max(1e-9)
    }
}

pub(crate) fn ratio(figures: &Figures) -> String {
    format!("{:.1$}", figures.ratio, if figures.ratio < 10.0 { 2 } else { 1 })
}

/// Bytes of a record, which may be less than ten.
pub(crate) fn bytes(bytes: f64) -> String {
    match bytes {
        few if few < 99.95 => format!("{few:.1} B"),
        many if many < 9_999.5 => format!("{} B", Count(many.round() as u64)),
        many => format!("{}B", Scaled(many)),
    }
}

/// A time per record, from nanoseconds on.
pub(crate) fn time(ns: f64) -> String {
    if ns < 9_999.5 { format!("{ns:.0} ns") } else { micros(ns / 1e3) }
}

pub(crate) fn micros(us: f64) -> String {
    if us < 9.95 { format!("{us:.1} µs") } else { Micros(us.round() as u64).to_string() }
}

pub(crate) fn rate(rate: f64) -> String {
    Scaled(rate).to_string().trim_end().to_owned()
}

fn plural(records: f64) -> String {
    match records.round() as u64 {
        1 => "1 record".to_owned(),
        count => format!("{} records", Count(count)),
    }
}

#[cfg(test)]
mod tests {
    use milena::Compression;

    use super::*;

    const BASIS: Basis =
        Basis { encode_ns: 20.0, record_bytes: 1000.0, batch_records: 100.0, batch_bytes: 1e5 };

    /// Figures of records of 1000 bytes on a network of this many bits a second.
    fn one(codec: Compression, level: Option<i32>, ratio: f64, ns: (f64, f64), network: f64) -> Figures {
        let network_rate = network / 8.0 / (1000.0 / ratio);
        Figures {
            candidate: Candidate { codec, level },
            turn_count: 10,
            seen: 1.0,
            ratio,
            record_bytes: 1000.0 / ratio,
            compress_ns: ns.0,
            decompress_ns: ns.1,
            compress_mb_s: 1e6 / ns.0,
            decompress_mb_s: 1e6 / ns.1,
            core_rate: 1e9 / (60.0 + ns.0),
            network_rate,
            batch_us: 100.0 * (ns.0 + ns.1 + 1e9 / network_rate) / 1e3,
        }
    }

    fn usual(network: f64) -> Vec<Figures> {
        vec![
            one(Compression::None, None, 1.0, (50.0, 50.0), network),
            one(Compression::Lz4, None, 4.0, (1500.0, 400.0), network),
            one(Compression::Gzip, Some(6), 6.0, (20_000.0, 3000.0), network),
            one(Compression::Zstd, Some(3), 7.0, (3000.0, 800.0), network),
            one(Compression::Zstd, Some(9), 7.9, (15_000.0, 800.0), network),
            one(Compression::Zstd, Some(19), 8.0, (200_000.0, 800.0), network),
        ]
    }

    fn chosen(all: &[Figures]) -> Vec<(String, String)> {
        advise(&BASIS, all).into_iter().map(|one| (one.candidate.to_string(), one.reason)).collect()
    }

    #[test]
    fn each_goal_has_its_codec_and_a_reason() {
        let all = chosen(&usual(1e9));
        let expect = [
            // Level 19 is one per cent smaller for thirteen times the work.
            (
                "zstd 9",
                "7.90 times smaller, 127 B per record, at 15 µs of compression per record; zstd 3 takes 13 % more \
             bytes and 20 % of that time",
            ),
            (
                "lz4",
                "the network ends at 500 k records/s; without compression the network ends at 125 k records/s",
            ),
            (
                "lz4",
                "a batch of 100 records takes 390 µs to compress, send and decompress, and 810 µs without compression",
            ),
        ];
        let all: Vec<_> = all.iter().map(|(codec, reason)| (codec.as_str(), reason.as_str())).collect();
        assert_eq!(all, expect);
    }

    #[test]
    fn a_fast_network_needs_no_codec_and_a_slow_one_a_strong_one() {
        let fast = chosen(&usual(1e11));
        assert_eq!((fast[1].0.as_str(), fast[2].0.as_str()), ("none", "none"));
        assert_eq!(fast[1].1, "one core sends 9.09 M records/s; with lz4 one core sends 641 k records/s");
        assert_eq!(
            fast[2].1,
            "a batch of 100 records takes 18 µs to compress, send and decompress, and 192 µs with lz4"
        );
        let slow = chosen(&usual(1e7));
        assert_eq!((slow[1].0.as_str(), slow[2].0.as_str()), ("zstd 9", "zstd 3"));
    }

    #[test]
    fn records_that_do_not_compress_stay_as_they_are() {
        let all = vec![
            one(Compression::None, None, 1.0, (50.0, 50.0), 1e9),
            one(Compression::Zstd, Some(3), 1.08, (3000.0, 100.0), 1e9),
        ];
        for (codec, reason) in chosen(&all) {
            assert_eq!(codec, "none");
            assert_eq!(reason, "no codec makes batches 1.1 times smaller (the best is 1.08)");
        }
        let lone = Basis { batch_records: 1.0, ..BASIS };
        assert!(advise(&lone, &all)[0].reason.ends_with("batches of one record have little to compress"));
        assert_eq!(advise(&BASIS, &[]), []);
    }

    #[test]
    fn savings_may_be_negative() {
        assert!((Saving { now: 100.0, then: 75.0 }.part() - 0.25).abs() < 1e-9);
        assert!((Saving { now: 100.0, then: 150.0 }.part() + 0.5).abs() < 1e-9);
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!(
            (bytes(7.26), bytes(1234.0), bytes(123_456.0)),
            ("7.3 B".into(), "1 234 B".into(), "123 kB".into())
        );
        assert_eq!((time(12.4), time(123_456.0)), ("12 ns".into(), "123 µs".into()));
        assert_eq!((micros(1.26), micros(1260.0)), ("1.3 µs".into(), "1.26 ms".into()));
    }
}
