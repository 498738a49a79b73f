//! The kinds of values: how each is written in properties, and its bounds.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use milena_core::group::assignors::{self, Assignor};

use super::{Reset, Unit};
use crate::producer::NAMED;
use crate::{Address, Partitioner, Proxy};

/// Reads, checks and writes the values of a setting of type `T`.
pub(super) trait Kind<T> {
    /// Parses `text`, which has no space around it.
    fn read(&self, text: &str) -> Result<T, String>;

    /// Moves a value into the bounds, or says why it is refused.
    fn fit(&self, value: T) -> Result<T, String>;

    /// Writes a value so that [`read`](Self::read) gives it back.
    fn write(&self, value: &T) -> String;

    fn unit(&self) -> Unit;

    /// The bounds, in words; empty if there are none.
    fn bounds(&self) -> String {
        String::new()
    }
}

/// The duration that means "no limit": longer than any program runs.
pub(super) const NO_LIMIT: Duration = Duration::from_secs(100 * 365 * 86_400);

/// A duration, written in milliseconds.
#[derive(Clone, Copy)]
pub(super) struct Time {
    /// Less than this is refused.
    pub(super) least: Duration,
    /// Less than this, if it is not refused, is taken as this, because less would make a storm of requests.
    pub(super) floor: Duration,
    /// More than this is taken as this.
    pub(super) ceiling: Duration,
    /// The texts that mean no limit. The first one is written.
    pub(super) no_limit: &'static [&'static str],
}

/// Any duration, zero included.
pub(super) const TIME: Time =
    Time { least: Duration::ZERO, floor: Duration::ZERO, ceiling: NO_LIMIT, no_limit: &[] };
/// A duration that must not be zero, because no operation could end in time.
pub(super) const SOME_TIME: Time = Time { least: Duration::from_millis(1), ..TIME };

impl Kind<Duration> for Time {
    fn read(&self, text: &str) -> Result<Duration, String> {
        if self.no_limit.contains(&text) {
            return Ok(NO_LIMIT);
        }
        // librdkafka accepts fractions of a millisecond for its linger.
        let millis: f64 = parse(text, "a number of milliseconds")?;
        if millis < 0.0 {
            return Err(format!("{text} ms is less than the least, {} ms", millis_of(self.least)));
        }
        Duration::try_from_secs_f64(millis / 1000.0)
            .map_err(|_| format!("{text:?} is not a number of milliseconds"))
    }

    fn fit(&self, value: Duration) -> Result<Duration, String> {
        if value < self.least {
            let (value, least) = (millis_of(value), millis_of(self.least));
            return Err(format!("{value} ms is less than the least, {least} ms"));
        }
        Ok(value.max(self.floor).min(self.ceiling))
    }

    fn write(&self, value: &Duration) -> String {
        match self.no_limit.first() {
            Some(word) if *value >= NO_LIMIT => (*word).into(),
            _ => millis_of(*value).to_string(),
        }
    }

    fn unit(&self) -> Unit {
        Unit::Milliseconds
    }

    fn bounds(&self) -> String {
        let mut bounds = Vec::new();
        if self.least > Duration::ZERO {
            bounds.push(format!("from {} ms", millis_of(self.least)));
        }
        if self.floor > Duration::ZERO {
            bounds.push(format!("less than {0} ms is taken as {0} ms", millis_of(self.floor)));
        }
        if !self.no_limit.is_empty() {
            bounds.push(format!("{} means no limit", self.no_limit.join(" or ")));
        }
        bounds.join("; ")
    }
}

fn millis_of(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A number of bytes or of things, such as requests.
#[derive(Clone, Copy)]
pub(super) struct Number<T> {
    pub(super) unit: Unit,
    /// Less than this is refused.
    pub(super) least: T,
    /// More than this is refused.
    pub(super) most: T,
    /// Less than this, if it is not refused, is taken as this.
    pub(super) floor: T,
    /// More than this, if it is not refused, is taken as this.
    pub(super) ceiling: T,
}

impl<T: Copy + Ord + fmt::Display + std::str::FromStr> Kind<T> for Number<T> {
    fn read(&self, text: &str) -> Result<T, String> {
        match text.parse::<T>() {
            Ok(value) => Ok(value),
            // A number that does not fit the type is still a number: the error is its bound, not its form.
            Err(_) if text.parse::<i128>().is_ok_and(|number| number < 0) => Err(self.too_little(text)),
            Err(_) if text.parse::<u128>().is_ok() => Err(self.too_much(text)),
            Err(_) => parse(text, "a whole number"),
        }
    }

    fn fit(&self, value: T) -> Result<T, String> {
        match value {
            value if value < self.least => Err(self.too_little(value)),
            value if value > self.most => Err(self.too_much(value)),
            value => Ok(value.max(self.floor).min(self.ceiling)),
        }
    }

    fn write(&self, value: &T) -> String {
        value.to_string()
    }

    fn unit(&self) -> Unit {
        self.unit
    }

    fn bounds(&self) -> String {
        let mut bounds = format!("{} to {}", self.least, self.most);
        if self.floor > self.least {
            bounds += &format!("; less than {0} is taken as {0}", self.floor);
        }
        if self.ceiling < self.most {
            bounds += &format!("; more than {0} is taken as {0}", self.ceiling);
        }
        bounds
    }
}

impl<T: fmt::Display> Number<T> {
    fn too_little(&self, value: impl fmt::Display) -> String {
        format!("{value} is less than the least, {}", self.least)
    }

    fn too_much(&self, value: impl fmt::Display) -> String {
        format!("{value} is more than the most, {}", self.most)
    }
}

/// A value that may be left unset.
pub(super) struct Optional<K>(pub(super) K);

impl<T, K: Kind<T>> Kind<Option<T>> for Optional<K> {
    fn read(&self, text: &str) -> Result<Option<T>, String> {
        self.0.read(text).map(Some)
    }

    fn fit(&self, value: Option<T>) -> Result<Option<T>, String> {
        value.map(|value| self.0.fit(value)).transpose()
    }

    fn write(&self, value: &Option<T>) -> String {
        value.as_ref().map_or_else(String::new, |value| self.0.write(value))
    }

    fn unit(&self) -> Unit {
        self.0.unit()
    }

    fn bounds(&self) -> String {
        self.0.bounds()
    }
}

/// `true` or `false`.
pub(super) struct Flag;

impl Kind<bool> for Flag {
    fn read(&self, text: &str) -> Result<bool, String> {
        // librdkafka accepts the short forms too.
        match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "1" => Ok(true),
            "false" | "f" | "0" => Ok(false),
            _ => Err(format!("{text:?} is neither true nor false")),
        }
    }

    fn fit(&self, value: bool) -> Result<bool, String> {
        Ok(value)
    }

    fn write(&self, value: &bool) -> String {
        value.to_string()
    }

    fn unit(&self) -> Unit {
        Unit::Flag
    }
}

/// One of several words. If several words mean the same, the first one is written.
pub(super) struct Choice<T: 'static>(pub(super) &'static str, pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq> Kind<T> for Choice<T> {
    fn read(&self, text: &str) -> Result<T, String> {
        let found = self.1.iter().find(|(word, _)| word.eq_ignore_ascii_case(text));
        let words = || self.1.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        found.map(|(_, value)| *value).ok_or_else(|| format!("{text:?} is not one of {}", words()))
    }

    fn fit(&self, value: T) -> Result<T, String> {
        Ok(value)
    }

    fn write(&self, value: &T) -> String {
        let word = self.1.iter().find(|(_, known)| known == value);
        word.map_or_else(String::new, |(word, _)| (*word).into())
    }

    fn unit(&self) -> Unit {
        Unit::Text(self.0)
    }
}

/// A consumer's reset policy: a word, or `by_duration:` and a duration.
pub(super) struct Resets(pub(super) Choice<Reset>);

const BY_DURATION: &str = "by_duration:";

impl Kind<Reset> for Resets {
    fn read(&self, text: &str) -> Result<Reset, String> {
        match text.strip_prefix(BY_DURATION) {
            Some(duration) => iso_duration(duration).map(Reset::ByDuration).ok_or_else(|| {
                format!("{duration:?} is not a duration in the form of ISO 8601, such as PT1H30M or P2D")
            }),
            None => self.0.read(text),
        }
    }

    fn fit(&self, value: Reset) -> Result<Reset, String> {
        Ok(value)
    }

    fn write(&self, value: &Reset) -> String {
        match value {
            Reset::ByDuration(time) => format!("{BY_DURATION}PT{}S", time.as_secs_f64()),
            word => self.0.write(word),
        }
    }

    fn unit(&self) -> Unit {
        self.0.unit()
    }
}

/// A duration as Java's `Duration.parse` reads it, such as `P1DT2H3M4.5S`, but not a negative one.
fn iso_duration(text: &str) -> Option<Duration> {
    let text = text.to_ascii_uppercase();
    let rest = text.strip_prefix('P')?;
    let (days, clock) = rest.split_once('T').map_or((rest, None), |(days, clock)| (days, Some(clock)));
    // `PT` without anything after it is no duration.
    if rest.is_empty() || clock == Some("") {
        return None;
    }
    let mut seconds = 0.0;
    for (text, units) in
        [(days, &[('D', 86_400.0)][..]), (clock.unwrap_or(""), &[('H', 3600.0), ('M', 60.0), ('S', 1.0)])]
    {
        let mut left = text;
        for (unit, length) in units {
            if let Some((number, after)) = left.split_once(*unit) {
                let is_number =
                    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
                // Only seconds have fractions.
                if !is_number || (*unit != 'S' && number.contains('.')) {
                    return None;
                }
                seconds += number.parse::<f64>().ok()? * length;
                left = after;
            }
        }
        if !left.is_empty() {
            return None;
        }
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// A name that is sent in requests.
pub(super) struct Name;

impl Kind<Arc<str>> for Name {
    fn read(&self, text: &str) -> Result<Arc<str>, String> {
        Ok(text.into())
    }

    fn fit(&self, value: Arc<str>) -> Result<Arc<str>, String> {
        // Kafka writes the length of a string as an i16.
        const BYTES_MAX: usize = i16::MAX as usize;
        if value.len() > BYTES_MAX {
            return Err(format!("it has {} bytes, and {BYTES_MAX} is the most", value.len()));
        }
        Ok(value)
    }

    fn write(&self, value: &Arc<str>) -> String {
        value.to_string()
    }

    fn unit(&self) -> Unit {
        Unit::Text("name")
    }
}

/// Assignors by their names. Assignors of other programs' own are set in code.
pub(super) struct Assignors;

type MakeAssignor = fn() -> Arc<dyn Assignor>;

/// The assignors that have a name in properties, with the class that Java's client has for each.
const ASSIGNORS: [(&str, MakeAssignor); 4] = [
    ("RangeAssignor", || Arc::new(assignors::Range)),
    ("RoundRobinAssignor", || Arc::new(assignors::RoundRobin)),
    ("StickyAssignor", || Arc::new(assignors::Sticky)),
    ("CooperativeStickyAssignor", || Arc::new(assignors::CooperativeSticky)),
];
/// Where Java's client has them.
const JAVA_PACKAGE: &str = "org.apache.kafka.clients.consumer.";

impl Kind<Vec<Arc<dyn Assignor>>> for Assignors {
    fn read(&self, text: &str) -> Result<Vec<Arc<dyn Assignor>>, String> {
        let one = |name: &str| {
            let made = ASSIGNORS.iter().map(|(class, make)| (class, make()));
            let is_it = |class: &str, known: &str| {
                name.eq_ignore_ascii_case(known) || name.strip_prefix(JAVA_PACKAGE) == Some(class)
            };
            let mut found = made.filter(|(class, assignor)| is_it(class, assignor.name()));
            let words = || ASSIGNORS.map(|(_, make)| make().name().to_owned()).join(", ");
            found
                .next()
                .map(|(_, assignor)| assignor)
                .ok_or_else(|| format!("{name:?} is not one of {}", words()))
        };
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(one).collect()
    }

    fn fit(&self, value: Vec<Arc<dyn Assignor>>) -> Result<Vec<Arc<dyn Assignor>>, String> {
        if value.is_empty() {
            return Err("the list is empty; it needs at least one assignor".into());
        }
        if assignors::protocol_of(&value).is_none() {
            return Err("these assignors have no rebalance protocol in common".into());
        }
        Ok(value)
    }

    fn write(&self, value: &Vec<Arc<dyn Assignor>>) -> String {
        value.iter().map(|assignor| assignor.name().to_owned()).collect::<Vec<_>>().join(",")
    }

    fn unit(&self) -> Unit {
        Unit::Text("range, roundrobin, sticky or cooperative-sticky, separated by commas")
    }
}

/// Partitioners by their names: librdkafka's words, or the classes that Java's client has. Those of programs' own are set in
/// code.
pub(super) struct Partitioners;

impl Kind<Partitioner> for Partitioners {
    fn read(&self, text: &str) -> Result<Partitioner, String> {
        // Such as org.apache.kafka.clients.producer.RoundRobinPartitioner.
        let class = text.rsplit_once('.').map_or(text, |(_, class)| class);
        let is_it =
            |word: &str, classes: &[&str]| word.eq_ignore_ascii_case(text) || classes.contains(&class);
        let found = NAMED.iter().find(|(word, _, classes)| is_it(word, classes));
        let words = || NAMED.iter().map(|(word, ..)| *word).collect::<Vec<_>>().join(", ");
        found.map(|(_, partitioner, _)| partitioner.clone()).ok_or_else(|| {
            format!("{text:?} is neither one of {} nor a partitioner of Java's client", words())
        })
    }

    fn fit(&self, value: Partitioner) -> Result<Partitioner, String> {
        Ok(value)
    }

    fn write(&self, value: &Partitioner) -> String {
        let is_it = |known: &Partitioner| std::mem::discriminant(known) == std::mem::discriminant(value);
        let word = NAMED.iter().find(|(_, known, _)| is_it(known));
        word.map_or_else(String::new, |(word, ..)| (*word).to_owned())
    }

    fn unit(&self) -> Unit {
        Unit::Text("a name, such as murmur2_random")
    }
}

/// The addresses of brokers.
pub(super) struct Addresses;

impl Kind<Vec<Address>> for Addresses {
    fn read(&self, text: &str) -> Result<Vec<Address>, String> {
        Address::parse_list(text).map_err(|error| error.to_string())
    }

    fn fit(&self, value: Vec<Address>) -> Result<Vec<Address>, String> {
        if value.is_empty() {
            return Err("the list is empty; it needs at least one HOST:PORT".into());
        }
        Ok(value)
    }

    fn write(&self, value: &Vec<Address>) -> String {
        value.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    fn unit(&self) -> Unit {
        Unit::Text("host:port,host:port")
    }
}

/// A proxy.
pub(super) struct Proxies;

impl Kind<Option<Proxy>> for Proxies {
    fn read(&self, text: &str) -> Result<Option<Proxy>, String> {
        // The address may have a password in it.
        let is_elsewhere = ["env:", "file:", "command:"].iter().any(|source| text.starts_with(source));
        let read = if is_elsewhere { Some(super::secret::secret(text)?) } else { None };
        let text = match &read {
            Some(read) => {
                std::str::from_utf8(read.expose()).map_err(|_| "what was read is not UTF-8")?.trim()
            }
            None => text,
        };
        let read = match text {
            "" => Ok(None),
            "env" => Proxy::from_env(),
            url => Proxy::parse(url).map(Some),
        };
        read.map_err(|error| error.to_string())
    }

    fn fit(&self, value: Option<Proxy>) -> Result<Option<Proxy>, String> {
        Ok(value)
    }

    fn write(&self, value: &Option<Proxy>) -> String {
        value.as_ref().map_or_else(String::new, |proxy| format!("{proxy:?}"))
    }

    fn unit(&self) -> Unit {
        Unit::Text(
            "socks5://host:port, http://host:port, env, or where it is: env:NAME, file:PATH, command:PROGRAM ARGS",
        )
    }
}

fn parse<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.parse().map_err(|_| match text {
        "" => format!("the value is empty; it must be {what}"),
        _ => format!("{text:?} is not {what}"),
    })
}
