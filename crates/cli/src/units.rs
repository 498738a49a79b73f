//! Numbers in a form that people read: counts, bytes, rates and durations.

use std::fmt;
use std::time::Duration;

/// A count with a space between thousands: `336 776`.
pub(crate) struct Count(pub(crate) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (i, digit) in digits.chars().enumerate() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                text.push(' ');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// A number with three significant digits and a decimal prefix: `118 M`, `4.20 k`, `17`.
pub(crate) struct Scaled(pub(crate) f64);

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, prefix) = match self.0 {
            n if n >= 999.5e6 => (n / 1e9, "G"),
            n if n >= 999.5e3 => (n / 1e6, "M"),
            n if n >= 999.5 => (n / 1e3, "k"),
            n => (n, ""),
        };
        let decimals = match number {
            n if prefix.is_empty() || n >= 99.95 => 0,
            n if n >= 9.995 => 1,
            _ => 2,
        };
        f.pad(&format!("{number:.decimals$} {prefix}"))
    }
}

/// Bytes: `118 MB`.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}B", Scaled(self.0 as f64)))
    }
}

/// An amount per second, as in `371 k`; the caller writes the unit after it (`/s`, `B/s`).
pub(crate) fn per_second(amount: u64, time: Duration) -> Scaled {
    Scaled(amount as f64 / time.as_secs_f64().max(1e-9))
}

/// A latency given in microseconds: `870 µs`, `3.14 ms`, `1.20 s`.
pub(crate) struct Micros(pub(crate) u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            us if us < 1_000 => format!("{us} µs"),
            us if us < 10_000 => format!("{:.2} ms", us as f64 / 1e3),
            us if us < 100_000 => format!("{:.1} ms", us as f64 / 1e3),
            us if us < 1_000_000 => format!("{:.0} ms", us as f64 / 1e3),
            us => format!("{:.2} s", us as f64 / 1e6),
        };
        f.pad(&text)
    }
}

/// A time of seconds or more: `17 s`, `4 min`, `2 h`, `3 d`.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, unit) = match self.0.as_secs_f64().ceil() as u64 {
            s if s < 120 => (s, "s"),
            s if s < 7200 => (s.div_ceil(60), "min"),
            s if s < 48 * 3600 => (s.div_ceil(3600), "h"),
            s => (s.div_ceil(24 * 3600), "d"),
        };
        f.pad(&format!("{number} {unit}"))
    }
}

/// Ascending numbers: `0-2,5`.
pub(crate) struct Ranges<'a>(pub(crate) &'a [i32]);

impl fmt::Display for Ranges<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, run) in self.0.chunk_by(|a, b| a.checked_add(1) == Some(*b)).enumerate() {
            let comma = if index > 0 { "," } else { "" };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                one => one.iter().try_for_each(|number| write!(f, "{comma}{number}"))?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, expect) in
            [(0, "0"), (999, "999"), (1000, "1 000"), (336_776, "336 776"), (12_345_678, "12 345 678")]
        {
            assert_eq!(Count(number).to_string(), expect);
        }
        for (number, expect) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (31_050_000, "31.1 MB"), (118_200_000, "118 MB")]
        {
            assert_eq!(Bytes(number).to_string(), expect);
        }
        for (us, expect) in
            [(7, "7 µs"), (3140, "3.14 ms"), (31_400, "31.4 ms"), (314_000, "314 ms"), (3_140_000, "3.14 s")]
        {
            assert_eq!(Micros(us).to_string(), expect);
        }
        for (seconds, expect) in [
            (0.2, "1 s"),
            (119.0, "119 s"),
            (121.0, "3 min"),
            (7200.0, "2 h"),
            (172_800.0, "2 d"),
            (1e6, "12 d"),
        ] {
            assert_eq!(Span(Duration::from_secs_f64(seconds)).to_string(), expect);
        }
        for (numbers, expect) in
            [(&[][..], ""), (&[3], "3"), (&[0, 1, 2, 5, 7, 8], "0-2,5,7-8"), (&[i32::MAX, 0], "2147483647,0")]
        {
            assert_eq!(Ranges(numbers).to_string(), expect);
        }
        assert_eq!(format!("{}/s", per_second(371_000, Duration::from_secs(1))), "371 k/s");
        assert_eq!(format!("{:>9}|{:>9}", Count(1000), Micros(7)), "    1 000|     7 µs");
    }
}
