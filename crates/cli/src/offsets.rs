//! Where to start and where to stop: parses `--offset` and `--until` into [`Offsets`], and resolves them within a
//! partition.
//!
//! It is pure: the time is an argument, and the caller looks up the offsets of times.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// The grammar, for `consume --help`.
pub(crate) const HELP: &str = "\
Offsets:
  beginning, end       the first record, or after the last record
  1000                 this offset
  -10                  10 offsets before the end of each partition
  @1700000000000       the first record with this timestamp (ms) or a later one
  @2023-11-14T22:13Z   the same with a date; @-1h and @-30m are relative to now, @now is now
  -1h, now, 2023-...   times that cannot be numbers need no @
  s@TIME, e@TIME       as in kcat: start at this time, and stop before it (the same as --until @TIME)
  0=100,1=-5,end       one for each partition; the one without a partition is for all remaining partitions";

/// A place in a partition, before it is resolved to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Beginning,
    End,
    At(i64),
    /// N offsets before the end.
    BeforeEnd(i64),
    /// The first record with this timestamp (milliseconds since the epoch) or a later one.
    Time(i64),
}

/// A [`Point`] for every partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offsets {
    of_others: Point,
    by_partition: BTreeMap<i32, Point>,
}

impl Offsets {
    pub(crate) fn everywhere(point: Point) -> Self {
        Self { of_others: point, by_partition: BTreeMap::new() }
    }

    /// Parses one or several comma-separated points; `default` is for the partitions that none of them names.
    pub(crate) fn parse(text: &str, default: Point, now: Timestamp) -> Result<Self, String> {
        let mut offsets = Self::everywhere(default);
        let mut others_given = false;
        for part in text.split(',').map(str::trim) {
            match part.split_once('=') {
                Some((partition, point)) => {
                    let partition = parse_partition(partition)?;
                    if offsets.by_partition.insert(partition, Point::parse(point, now)?).is_some() {
                        return Err(format!("partition {partition} is named twice"));
                    }
                }
                None if others_given => {
                    return Err(format!(
                        "{part:?} is a second offset for all partitions; write 0={part} for partition 0"
                    ));
                }
                None => {
                    others_given = true;
                    offsets.of_others = Point::parse(part, now)?;
                }
            }
        }
        Ok(offsets)
    }

    pub(crate) fn of(&self, partition: i32) -> Point {
        self.by_partition.get(&partition).copied().unwrap_or(self.of_others)
    }

    /// The point of all partitions, if none has one of its own.
    pub(crate) fn everywhere_alike(&self) -> Option<Point> {
        self.by_partition.is_empty().then_some(self.of_others)
    }

    /// Whether any point is a time after `now`.
    pub(crate) fn is_after(&self, now: Timestamp) -> bool {
        let later = |point: &Point| matches!(point, Point::Time(ms) if *ms > now.as_millisecond());
        later(&self.of_others) || self.by_partition.values().any(later)
    }

    /// The partitions that are named.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.by_partition.keys().copied()
    }
}

/// Splits the values of `-o` into where to start and where to stop. As in kcat, `s@TIME` is a start and `e@TIME` a stop;
/// any other value is a start.
pub(crate) fn split_stop<'a>(
    texts: impl IntoIterator<Item = &'a String>,
) -> Result<(Option<String>, Option<String>), String> {
    let (mut start, mut stop) = (None, None);
    for text in texts {
        let (to, what, text) = match (text.strip_prefix("s@"), text.strip_prefix("e@")) {
            (Some(time), _) => (&mut start, "start", format!("@{time}")),
            (_, Some(time)) => (&mut stop, "stop", format!("@{time}")),
            _ => (&mut start, "start", text.clone()),
        };
        if to.replace(text).is_some() {
            return Err(format!(
                "-o sets twice where to {what}; for several partitions write -o 0=100,1=200"
            ));
        }
    }
    Ok((start, stop))
}

impl Point {
    fn parse(text: &str, now: Timestamp) -> Result<Self, String> {
        match text {
            "beginning" | "earliest" => return Ok(Self::Beginning),
            "end" | "latest" => return Ok(Self::End),
            _ => {}
        }
        if let Some(time) = text.strip_prefix('@') {
            return parse_time_near(time, now).map(Self::Time);
        }
        if text.starts_with("s@") || text.starts_with("e@") {
            return Err(format!(
                "{text:?} cannot be set for one partition: write -o s@TIME to start and -o e@TIME to stop"
            ));
        }
        match (text.strip_prefix('-').map(str::parse::<i64>), text.parse::<i64>()) {
            (Some(Ok(before)), _) if before >= 0 => Ok(Self::BeforeEnd(before)),
            (None, Ok(offset)) => Ok(Self::At(offset)),
            // A number is an offset. Other times are told from offsets by their form.
            _ if text == "now" || text.starts_with('-') || text.contains('T') => {
                parse_time_near(text, now).map(Self::Time)
            }
            _ => Err(format!(
                "{text:?} is not an offset: write beginning, end, N, -N (N before the end) or a time (as in -1h)"
            )),
        }
    }

    /// The offset in a partition with the offsets `beginning..end`. For a time, `at_time` is the offset that was looked up.
    ///
    /// `Err` is the requested offset, if it is not in the partition.
    pub(crate) fn resolve(self, beginning: i64, end: i64, at_time: Option<i64>) -> Result<i64, i64> {
        match self {
            Self::Beginning => Ok(beginning),
            Self::End => Ok(end),
            Self::At(offset) if (beginning..=end).contains(&offset) => Ok(offset),
            Self::At(offset) => Err(offset),
            Self::BeforeEnd(count) => Ok(end.saturating_sub(count).max(beginning)),
            // No record has this time or a later one, so start at the next record to come.
            Self::Time(_) => Ok(at_time.unwrap_or(end)),
        }
    }
}

/// Parses a list of partitions: `0,2,5-7`.
pub(crate) fn parse_partitions(text: &str) -> Result<Vec<i32>, String> {
    let mut partitions = Vec::new();
    for part in text.split(',').map(str::trim) {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (parse_partition(first)?, parse_partition(last)?),
            None => (parse_partition(part)?, parse_partition(part)?),
        };
        if last < first || last - first >= PARTITIONS_MAX {
            return Err(format!("{part:?} is not a range of partitions"));
        }
        partitions.extend(first..=last);
    }
    partitions.sort_unstable();
    partitions.dedup();
    Ok(partitions)
}

/// More than any broker serves for one topic; a range beyond it is a typing error.
const PARTITIONS_MAX: i32 = 1_000_000;

fn parse_partition(text: &str) -> Result<i32, String> {
    text.parse()
        .ok()
        .filter(|p| *p >= 0)
        .ok_or_else(|| format!("{text:?} is not a partition: partitions are numbers from 0"))
}

/// Parses a time: milliseconds since the epoch, or a date in RFC 3339's form, of which the seconds may be left out.
pub(crate) fn parse_time(text: &str) -> Result<i64, String> {
    if let Ok(millis) = text.parse() {
        return Ok(millis);
    }
    match text.parse::<Timestamp>() {
        Ok(timestamp) => Ok(timestamp.as_millisecond()),
        Err(_) => {
            Err(format!("{text:?} is not a time: write milliseconds since the epoch or 2023-11-14T22:13:20Z"))
        }
    }
}

/// The time that was a duration before `now`: `1h30m`, or `PT1H30M` as Java's tools have it.
pub(crate) fn ago(text: &str, now: Timestamp) -> Result<i64, String> {
    let wrong = || format!("{text:?} is not a duration: write 90s, 5m or 1h30m, and 48h for two days");
    let duration = text.parse::<SignedDuration>().map_err(|_| wrong())?;
    if duration.is_negative() {
        return Err(wrong());
    }
    let at = now.checked_sub(duration).map_err(|_| format!("{text:?} is too long ago"))?;
    Ok(at.as_millisecond())
}

/// [`parse_time`], or `now`, or a duration relative to it: `-1h`, `-1h30m`.
pub(crate) fn parse_time_near(text: &str, now: Timestamp) -> Result<i64, String> {
    if text == "now" {
        return Ok(now.as_millisecond());
    }
    if let Ok(millis) = text.parse::<i64>() {
        return plausible(millis);
    }
    let relative = text.starts_with('-') && text.ends_with(|c: char| c.is_ascii_alphabetic());
    if !relative {
        return parse_time(text).map_err(|e| format!("{e} or -1h"));
    }
    match text.parse::<SignedDuration>() {
        Ok(duration) => now
            .checked_add(duration)
            .map(Timestamp::as_millisecond)
            .map_err(|_| format!("{text:?} is too long ago")),
        Err(_) => {
            Err(format!("{text:?} is not a duration: write -90s, -5m or -1h30m, and -48h for two days"))
        }
    }
}

/// Checks that a time given as a number is plausible in milliseconds. Seconds and microseconds are common mistakes, which
/// would silently mean 1970 and the far future. Negative times have a special meaning for brokers.
fn plausible(millis: i64) -> Result<i64, String> {
    let date = |millis: Option<i64>| {
        millis
            .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            .map_or_else(|| "not a date".into(), |t| t.to_string())
    };
    match millis {
        ..0 => Err(format!(
            "{millis} is not a time: times are milliseconds since 1970; write -1h for an hour ago"
        )),
        0 | MILLIS_MIN..=MILLIS_MAX => Ok(millis),
        1..MILLIS_MIN => Err(format!(
            "{millis} in milliseconds is {}, in seconds it is {}: write @{millis}000 for seconds, or a date",
            date(Some(millis)),
            date(millis.checked_mul(1000)),
        )),
        _ => Err(format!(
            "{millis} in milliseconds is after the year 9999; in microseconds it is {}",
            date(Some(millis / 1000))
        )),
    }
}

/// In milliseconds this is March 1973, in seconds the year 5138.
const MILLIS_MIN: i64 = 100_000_000_000;
/// The last millisecond of the year 9999.
const MILLIS_MAX: i64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millisecond(1_700_000_000_000).unwrap()
    }

    fn parse(text: &str) -> Result<Offsets, String> {
        Offsets::parse(text, Point::Beginning, now())
    }

    #[test]
    fn points_are_read() {
        for (text, expect) in [
            ("beginning", Point::Beginning),
            ("earliest", Point::Beginning),
            ("end", Point::End),
            ("0", Point::At(0)),
            ("1000", Point::At(1000)),
            ("-10", Point::BeforeEnd(10)),
            ("-0", Point::BeforeEnd(0)),
            ("@1699999999999", Point::Time(1_699_999_999_999)),
            ("@0", Point::Time(0)),
            ("@now", Point::Time(1_700_000_000_000)),
            ("@-1h", Point::Time(1_700_000_000_000 - 3_600_000)),
            ("@-1h30m", Point::Time(1_700_000_000_000 - 5_400_000)),
            ("@-90s", Point::Time(1_700_000_000_000 - 90_000)),
            ("@-250ms", Point::Time(1_700_000_000_000 - 250)),
            ("@2023-11-14T22:13:20Z", Point::Time(1_700_000_000_000)),
            ("-1h", Point::Time(1_700_000_000_000 - 3_600_000)),
            ("now", Point::Time(1_700_000_000_000)),
            ("2023-11-14T22:13:20Z", Point::Time(1_700_000_000_000)),
            ("@2023-11-14T22:13Z", Point::Time(1_700_000_000_000 - 20_000)),
            ("@2023-11-15T00:13:20.5+02:00", Point::Time(1_700_000_000_500)),
        ] {
            assert_eq!(parse(text), Ok(Offsets::everywhere(expect)), "{text}");
        }
    }

    #[test]
    fn partitions_have_their_own() {
        let offsets = parse("0=100, 3=@-1h,end").unwrap();
        assert_eq!(offsets.of(0), Point::At(100));
        assert_eq!(offsets.of(3), Point::Time(1_700_000_000_000 - 3_600_000));
        assert_eq!(offsets.of(7), Point::End);
        assert_eq!(offsets.partitions().collect::<Vec<_>>(), [0, 3]);
        assert_eq!(parse("1=-5").unwrap().of(0), Point::Beginning);
    }

    #[test]
    fn what_is_no_offset_is_named() {
        for text in [
            "",
            "middle",
            "1.5",
            "--5",
            "@",
            "@yesterday",
            "@-1",
            "@-xh",
            "x=5",
            "-1=5",
            "0=1,0=2",
            "1,2",
            "@-1parsec",
            "-1parsec",
            "s@1700000000000",
            "0=e@1700000000000",
            "stored",
        ] {
            let result = parse(text);
            assert!(result.is_err(), "{text}: {result:?}");
        }
    }

    #[test]
    fn a_time_that_is_probably_not_in_milliseconds_is_named_with_both_readings() {
        for (text, says) in [
            ("@1700000000", ["1970-01-20T16:13:20Z", "2023-11-14T22:13:20Z"]),
            ("@1", ["1970-01-01T00:00:00.001Z", "1970-01-01T00:00:01Z"]),
            ("@1700000000000000", ["after the year 9999", "2023-11-14T22:13:20Z"]),
            ("@9223372036854775807", ["after the year 9999", "not a date"]),
        ] {
            let error = parse(text).unwrap_err();
            assert!(says.iter().all(|says| error.contains(says)), "{text}: {error}");
        }
    }

    #[test]
    fn durations_go_back_from_now() {
        for (text, ms) in [("1h", 3_600_000), ("1h30m", 5_400_000), ("PT1H30M", 5_400_000), ("0s", 0)] {
            assert_eq!(ago(text, now()), Ok(1_700_000_000_000 - ms), "{text}");
        }
        for text in ["", "-1h", "1", "yesterday", "P1D"] {
            assert!(ago(text, now()).is_err(), "{text}");
        }
    }

    #[test]
    fn kcats_times_to_start_and_to_stop_are_two() {
        let split = |texts: &[&str]| split_stop(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(split(&[]), Ok((None, None)));
        assert_eq!(split(&["-10"]), Ok((some("-10"), None)));
        assert_eq!(split(&["s@1"]), Ok((some("@1"), None)));
        assert_eq!(split(&["e@2", "s@1"]), Ok((some("@1"), some("@2"))));
        assert_eq!(split(&["0=5,1=6", "e@2"]), Ok((some("0=5,1=6"), some("@2"))));
        assert!(split(&["s@1", "5"]).is_err());
        assert!(split(&["e@1", "e@2"]).is_err());
    }

    #[test]
    fn points_resolve_within_the_partition() {
        for (point, at_time, expect) in [
            (Point::Beginning, None, Ok(10)),
            (Point::End, None, Ok(50)),
            (Point::At(10), None, Ok(10)),
            (Point::At(50), None, Ok(50)),
            (Point::At(9), None, Err(9)),
            (Point::At(51), None, Err(51)),
            (Point::BeforeEnd(0), None, Ok(50)),
            (Point::BeforeEnd(5), None, Ok(45)),
            (Point::BeforeEnd(41), None, Ok(10)),
            (Point::BeforeEnd(i64::MAX), None, Ok(10)),
            (Point::Time(1), Some(17), Ok(17)),
            (Point::Time(1), None, Ok(50)),
        ] {
            assert_eq!(point.resolve(10, 50, at_time), expect, "{point:?}");
        }
    }

    #[test]
    fn partition_lists_are_read() {
        assert_eq!(parse_partitions("0"), Ok(vec![0]));
        assert_eq!(parse_partitions("5-7, 0,6"), Ok(vec![0, 5, 6, 7]));
        for text in ["", "a", "-1", "3-1", "0-2000000", "1,,2"] {
            assert!(parse_partitions(text).is_err(), "{text}");
        }
    }
}
