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
        assert_eq!(format!("{}/s", per_second(371_000, Duration::from_secs(1))), "371 k/s");
        assert_eq!(format!("{:>9}|{:>9}", Count(1000), Micros(7)), "    1 000|     7 µs");
    }
}
