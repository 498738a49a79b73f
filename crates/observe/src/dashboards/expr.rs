//! Expressions of PromQL over the families of metrics.

use milena::metrics::{Family, Kind};

/// Which series an expression takes, and over how long it looks back.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    filter: &'static str,
    window: &'static str,
}

impl Scope {
    /// The instances that are chosen on top of a board, over the time that its panels choose.
    pub const BOARD: Self =
        Self { filter: r#"job=~"$job",instance=~"$instance""#, window: "$__rate_interval" };
    /// All series, over five minutes: for alert rules.
    pub const RULE: Self = Self { filter: "", window: "5m" };

    /// The same series over another time, such as `10m`.
    pub const fn over(self, window: &'static str) -> Self {
        Self { window, ..self }
    }

    /// The series as they stand, for gauges.
    ///
    /// # Panics
    /// When the family is not a gauge: a counter as it stands says nothing.
    pub fn gauge(self, family: &Family) -> String {
        assert_eq!(family.kind, Kind::Gauge, "{} does not stand for itself", family.name);
        self.series(family.name)
    }

    /// The gauges of the same values of `by` added.
    pub fn sum(self, family: &Family, by: &[&str]) -> String {
        format!("sum{} ({})", clause(family, by), self.gauge(family))
    }

    /// The largest gauge of each values of `by`.
    pub fn most(self, family: &Family, by: &[&str]) -> String {
        format!("max{} ({})", clause(family, by), self.gauge(family))
    }

    /// The smallest gauge of each values of `by`.
    pub fn least(self, family: &Family, by: &[&str]) -> String {
        format!("min{} ({})", clause(family, by), self.gauge(family))
    }

    /// What counters of the same values of `by` have counted since their programs began. It says something only beside another one.
    ///
    /// # Panics
    /// When the family is not a counter.
    pub fn total(self, family: &Family, by: &[&str]) -> String {
        assert_eq!(family.kind, Kind::Counter, "{} has no total", family.name);
        format!("sum{} ({})", clause(family, by), self.series(family.name))
    }

    /// How much a counter grows a second, or how many values a histogram records a second.
    pub fn rate(self, family: &Family, by: &[&str]) -> String {
        self.grown("rate", family, by)
    }

    /// How much a counter has grown in the time.
    pub fn increase(self, family: &Family, by: &[&str]) -> String {
        self.grown("increase", family, by)
    }

    /// The same, also of series that were not there at the beginning of the time. An error makes its series when it happens first, with
    /// the value 1, and `increase` takes that for what had been counted before: a fault that happens once would not be seen. A
    /// program that Prometheus asks for the first time is taken for one that has just begun.
    pub fn growth(self, family: &Family, by: &[&str]) -> String {
        assert_eq!(family.kind, Kind::Counter, "{} is no counter", family.name);
        let (series, window) = (self.series(family.name), self.window);
        let added = clause(family, by);
        format!("sum{added} (({series} unless {series} offset {window}) or increase({series}[{window}]))")
    }

    /// How much the values of a histogram together grow a second.
    pub fn rate_of_sum(self, family: &Family, by: &[&str]) -> String {
        let series = self.of_histogram(family, "_sum");
        format!("sum{} (rate({series}[{}]))", clause(family, by), self.window)
    }

    /// The mean value that a histogram has recorded.
    pub fn mean(self, family: &Family, by: &[&str]) -> String {
        format!("{} / {}", self.rate_of_sum(family, by), self.rate(family, by))
    }

    /// The value that a share `q` of the values which a histogram has recorded does not exceed.
    pub fn quantile(self, q: f64, family: &Family, by: &[&str]) -> String {
        let series = self.of_histogram(family, "_bucket");
        let labels: Vec<&str> = std::iter::once("le").chain(by.iter().copied()).collect();
        check(family, by);
        format!("histogram_quantile({q}, sum by ({}) (rate({series}[{}])))", labels.join(", "), self.window)
    }

    fn grown(self, function: &str, family: &Family, by: &[&str]) -> String {
        let series = match family.kind {
            Kind::Counter => self.series(family.name),
            Kind::Histogram => self.of_histogram(family, "_count"),
            Kind::Gauge => panic!("{} may go down", family.name),
        };
        format!("sum{} ({function}({series}[{}]))", clause(family, by), self.window)
    }

    fn of_histogram(self, family: &Family, suffix: &str) -> String {
        assert_eq!(family.kind, Kind::Histogram, "{} has no {suffix}", family.name);
        self.series(&format!("{}{suffix}", family.name))
    }

    fn series(self, name: &str) -> String {
        match self.filter {
            "" => name.to_owned(),
            filter => format!("{name}{{{filter}}}"),
        }
    }
}

/// By what is grouped; nothing if all series become one.
fn clause(family: &Family, by: &[&str]) -> String {
    check(family, by);
    if by.is_empty() { String::new() } else { format!(" by ({})", by.join(", ")) }
}

fn check(family: &Family, by: &[&str]) {
    for label in by {
        let is_known = ["job", "instance"].contains(label) || family.labels.contains(label);
        assert!(is_known, "{} has no label {label}", family.name);
    }
}

#[cfg(test)]
mod tests {
    use milena::metrics::families;

    use super::*;

    #[test]
    fn a_family_gives_the_names_of_its_series() {
        let rule = Scope::RULE.over("10m");
        assert_eq!(
            rule.rate(&families::PRODUCER_RECORD_ERRORS, &["job", "error"]),
            "sum by (job, error) (rate(milena_producer_record_errors_total[10m]))"
        );
        assert_eq!(
            rule.quantile(0.99, &families::PRODUCER_PHASE_SECONDS, &["phase"]),
            "histogram_quantile(0.99, sum by (le, phase) (rate(milena_producer_phase_seconds_bucket[10m])))"
        );
        assert_eq!(
            Scope::RULE.growth(&families::PRODUCER_RECORD_ERRORS, &["error"]),
            "sum by (error) ((milena_producer_record_errors_total unless milena_producer_record_errors_total offset 5m) or \
             increase(milena_producer_record_errors_total[5m]))"
        );
        assert_eq!(
            Scope::BOARD.most(&families::CONSUMER_LAG_SECONDS, &[]),
            r#"max (milena_consumer_lag_seconds{job=~"$job",instance=~"$instance"})"#
        );
    }

    #[test]
    #[should_panic(expected = "has no label topic")]
    fn a_label_that_a_family_does_not_have_is_found() {
        Scope::RULE.rate(&families::REQUEST_SECONDS, &["topic"]);
    }
}
